"""How a command fails: with one line on stderr and an exit code, and never with a traceback."""

from __future__ import annotations

from typing import NoReturn

import typer

__all__ = ["BELOW", "UNUSABLE", "USAGE", "complain"]

BELOW = 1
"""The answer is no: credits below a bound, no price known."""
USAGE = 2
"""The command was called in a way that cannot work."""
UNUSABLE = 3
"""The provider could not be asked, or its answer cannot be used."""


def complain(sentence: str, code: int) -> NoReturn:
    """Say what is wrong and end the command."""
    typer.echo(" ".join(sentence.split()), err=True)
    raise typer.Exit(code)
