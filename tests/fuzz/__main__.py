"""`python -m tests.fuzz TARGET`: fuzz one target with atheris for some time, starting from the stored corpus."""

import argparse
import os
import sys

from tests.fuzz.targets import CORPUS, TARGETS


def main() -> int:
    """Return 2 if atheris is missing; atheris itself ends the process with the input that failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="how long; default 60")
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        print("atheris is not installed here: pip install atheris (Python 3.11 to 3.13, Linux)", file=sys.stderr)
        return 2
    atheris.instrument_all()
    found = os.environ.get("GNOMON_FUZZ_FOUND", "")
    folders = [found] if found else []
    arguments = [f"-max_total_time={options.seconds}", "-max_len=65536", *folders, str(CORPUS / options.target)]
    atheris.Setup([sys.argv[0], *arguments], TARGETS[options.target])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
