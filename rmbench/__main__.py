"""The `rmbench` command; also `python -m rmbench`."""

import sys

from rmbench.cli import main


def run() -> None:
    """Entry point of the installed command."""
    sys.exit(main())


if __name__ == "__main__":
    run()
