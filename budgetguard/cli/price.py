"""``budgetguard price``: say what a request would cost, from the price list, without asking anybody."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from budgetguard.cli.complaint import BELOW, USAGE, complain, plain, print_json
from budgetguard.errors import SettingError, UnknownPrice
from budgetguard.model import Quote, Route, RouteKind
from budgetguard.ports import Provider
from budgetguard.providers._price_file import price_list
from budgetguard.providers.udio import UdioPro
from budgetguard.providers.vidu import Vidu

__all__ = ["app"]

_ABOUT = frozenset({"date", "source", "surcharges"})
_UDIO_BY_MODEL = ("generate", "extend", "upload-cover/generate")
_OPTION = "--source-seconds-max"
_EPILOG = """\
[bold]Examples[/bold]

budgetguard price {name} request.json --path {path}

echo '{body}' | budgetguard price {name} - --path {path}

echo '{{"path": "{path}", "body": {body}}}' | budgetguard price {name} - --json

[bold]JSON[/bold]: one object, whose fields stay. [cyan]provider[/cyan], [cyan]path[/cyan], [cyan]unit[/cyan]; \
[cyan]credits[/cyan]: the price, or its upper bound; [cyan]credits_min[/cyan]: the lower bound, the same where the \
price is exact; [cyan]slots[/cyan]: units of concurrency; [cyan]source[/cyan]: the list and its row.

[bold]Exit codes[/bold]: 0 priced · 1 no price is known · 2 no path, or a request that cannot be read."""

app = typer.Typer(
    help="Say what a request would cost, and by which row of the price list.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog="Example: [bold]budgetguard price vidu request.json --path text2video[/bold]",
)

_Request = Annotated[
    str,
    typer.Argument(
        metavar="REQUEST",
        help='A file with the JSON body of the request, or with {"path": ..., "body": ...}; "-" is the standard input.',
    ),
]
_Path = Annotated[str | None, typer.Option(metavar="PATH", help="The endpoint the body is posted to.")]
_Prices = Annotated[str | None, typer.Option(metavar="FILE", help="A TOML file with changes to the price list.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _epilog(name: str, path: str, body: Mapping[str, Any]) -> str:
    return _EPILOG.format(name=name, path=path, body=json.dumps(body))


@app.command(
    epilog=_epilog(
        "vidu", "text2video", {"model": "viduq2", "prompt": "a harbour", "duration": 5, "resolution": "720p"}
    )
)
def vidu(
    *,
    request: _Request,
    path: _Path = None,
    source_seconds_max: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The longest source file your calls name, in seconds.")
    ] = None,
    prices: _Prices = None,
    as_json: _AsJson = False,
) -> None:
    """Price a request to Vidu."""
    provider = _made(lambda: Vidu(prices=prices, source_seconds_max=source_seconds_max))
    _price(provider, _vidu_paths, request, path, as_json=as_json)


@app.command(epilog=_epilog("udio", "generate", {"model": "chirp-v5", "prompt": "a shanty"}))
def udio(*, request: _Request, path: _Path = None, prices: _Prices = None, as_json: _AsJson = False) -> None:
    """Price a request to Udio."""
    _price(_made(lambda: UdioPro(prices=prices)), _udio_paths, request, path, as_json=as_json)


def _made(make: Callable[[], Provider]) -> Provider:
    try:
        return make()
    except SettingError as error:
        complain(str(error), USAGE)


def _vidu_paths() -> list[str]:
    return sorted(price_list("vidu_prices.toml", None)[0].keys() - _ABOUT)


def _udio_paths() -> list[str]:
    return sorted({*_UDIO_BY_MODEL, *price_list("udio_prices.toml", None)[0]["calls"]})


def _price(
    provider: Provider, known: Callable[[], list[str]], request: str, path: str | None, *, as_json: bool
) -> None:
    document = _read(request)
    body: Any = document
    if isinstance(document, dict) and document.keys() == {"path", "body"}:
        body = document["body"]
        if path is not None and path != document["path"]:
            complain(f"--path {path} and the path in {_named(request)} differ; give one.", USAGE)
        path = document["path"]
    if not isinstance(path, str) or not path:
        complain(
            "No path: say where the request is posted, with --path PATH or as "
            f'{{"path": ..., "body": ...}}. Known paths are {", ".join(known())}.',
            USAGE,
        )
    try:
        quote = provider.quote(Route(RouteKind.SUBMIT, path), body)
    except UnknownPrice as unknown:
        complain(
            f"No price is known for {unknown.what}: {unknown.why.replace('source_seconds_max=...', _OPTION)}.", BELOW
        )
    if as_json:
        print_json(_document(provider, path, quote))
    else:
        _show(provider, quote)


def _read(request: str) -> Any:
    try:
        text = sys.stdin.read() if request == "-" else Path(request).read_text("utf-8")
    except (OSError, ValueError) as error:  # a name that no file can have is a value error
        why = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else "it is not UTF-8 text, or no name of a file"
        )
        complain(f"{_named(request)} cannot be read: {why}.", USAGE)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        complain(f"{_named(request)} is not JSON: {error}.", USAGE)


def _named(request: str) -> str:
    return "the standard input" if request == "-" else request


def _document(provider: Provider, path: str, quote: Quote) -> dict[str, Any]:
    return {
        "provider": provider.name,
        "path": path,
        "unit": provider.unit,
        "credits": quote.credits,
        "credits_min": quote.credits if quote.credits_min is None else quote.credits_min,
        "slots": quote.slots,
        "source": quote.source,
    }


def _show(provider: Provider, quote: Quote) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if quote.credits_min is None:
        console.print(f"[bold]{quote.credits:,}[/bold] {provider.unit}")
    else:
        console.print(
            f"[bold]{quote.credits_min:,} to {quote.credits:,}[/bold] {provider.unit} "
            f"[dim](the guard holds {quote.credits:,} until the answer tells)[/dim]"
        )
    console.print(plain(quote.source), style="dim", markup=False)
