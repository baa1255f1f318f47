"""The command line. `main` is what the ``budgetguard`` command runs; what it needs comes with the extra ``cli``."""

from __future__ import annotations

import sys

__all__ = ["main"]

_BROUGHT = frozenset({"typer", "rich", "click"})


def main() -> None:
    """Run the command line."""
    try:
        from budgetguard.cli.app import app
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _BROUGHT:
            raise
        print(
            f"The budgetguard command needs its extra ({missing.name} is missing): pip install 'budgetguard-py[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    app(prog_name="budgetguard")
