"""The `gnomon` command's front door: it must answer even in a light install that has no click."""

import sys


def main() -> None:
    """Run the command line, or say which extra to install when its packages are absent; exits with 2 then."""
    try:
        from gnomon_consumer.cli import main as cli_main
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0].startswith("gnomon"):
            raise
        sys.stderr.write(
            f"gnomon: the command line needs '{missing.name}': pip install 'gnomon[report]' to read reports,"
            " 'gnomon[consumer]' to run services ('gnomon[quickstart]' for `gnomon demo`)\n"
        )
        sys.exit(2)
    cli_main()


if __name__ == "__main__":
    main()
