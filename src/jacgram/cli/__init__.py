"""The command line, ``jacgram``: thin, and an extra. Without the extra it says how to install it."""

from __future__ import annotations

import sys

from jacgram.core.optional import require
from jacgram.errors import JacgramError


def main() -> None:
    """Run the command line; errors of ours are printed as one line, with exit status 1."""
    try:
        require("cli", "typer", "rich")
        from jacgram.cli.app import app

        app()
    except JacgramError as error:
        sys.exit(f"jacgram: {error}")
