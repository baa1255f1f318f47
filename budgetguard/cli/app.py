"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from budgetguard._version import __version__
from budgetguard.cli import fake, plan, price, status
from budgetguard.cli.demo import command

__all__ = ["app"]

app = typer.Typer(
    help="Look at prepaid accounts of generation APIs, price calls, and try the guard without spending anything.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(status.app, name="status")
app.add_typer(price.app, name="price")
app.command(epilog=plan.EPILOG)(plan.plan)
app.add_typer(fake.app, name="fake")
app.command(epilog=command.EPILOG)(command.demo)


def _version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(f"budgetguard {__version__}")
        raise typer.Exit


@app.callback(epilog="Try it: [bold]budgetguard demo[/bold]")
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass
