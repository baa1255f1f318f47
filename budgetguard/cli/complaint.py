"""How a command fails: with one line on stderr and an exit code, and never with a traceback.

And how it shows what somebody else wrote, which may hold orders to the terminal, or characters that no encoding has.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import typer
from rich.markup import escape

__all__ = ["BELOW", "UNUSABLE", "USAGE", "complain", "plain", "print_json", "shown"]

BELOW = 1
"""The answer is no: credits below a bound, no price known."""
USAGE = 2
"""The command was called in a way that cannot work."""
UNUSABLE = 3
"""The provider could not be asked, or its answer cannot be used."""


def complain(sentence: str, code: int) -> NoReturn:
    """Say what is wrong and end the command."""
    typer.echo(plain(" ".join(sentence.split())), err=True)
    raise typer.Exit(code)


def plain(text: str) -> str:
    """Write what cannot be printed as an escape."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def shown(text: str) -> str:
    """Make a text fit for a table of rich: nothing in it is markup."""
    return escape(plain(text))


def print_json(value: Any) -> None:
    """Print JSON, for people to read too; half a character is written as JSON escapes it."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode())
