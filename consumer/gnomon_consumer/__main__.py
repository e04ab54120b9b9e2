"""The entry point of the `gnomon` command, which works even in a light install without click."""

import sys


def main() -> None:
    """Run the command line. If its packages are missing, name the extra to install and exit with 2."""
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
