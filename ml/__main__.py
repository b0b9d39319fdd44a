"""`python -m ml`: the models' commands without the web application."""

import sys

from ml.commands.main import app
from ml.errors import XrayError


def main() -> None:
    """Run the command line; a mistake of the user is one line, not a traceback."""
    try:
        app()
    except XrayError as mistake:
        sys.exit(f"xray: {mistake}")


if __name__ == "__main__":
    main()
