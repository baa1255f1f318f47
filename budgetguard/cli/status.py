"""``budgetguard status``: ask a provider how an account stands, once, and show it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from budgetguard import _bodies, _http
from budgetguard._echoes import Echo, without_echoes
from budgetguard.cli import held
from budgetguard.cli.complaint import BELOW, UNUSABLE, USAGE, complain, print_json, shown
from budgetguard.errors import ReadingError, SettingError
from budgetguard.model import Balance, Capacity, Package, Reading
from budgetguard.ports import Provider
from budgetguard.providers.udio import UdioPro
from budgetguard.providers.vidu import Vidu

__all__ = ["app"]

_TIMEOUT = 10.0
_JSON = """\
[bold]JSON[/bold]: one object, whose fields stay. [cyan]provider[/cyan], [cyan]base_url[/cyan], [cyan]unit[/cyan]; \
[cyan]credits[/cyan]: what can be spent; [cyan]limit[/cyan], [cyan]running[/cyan] (with what waits at the provider), \
[cyan]free[/cyan]: slots, null where nobody says; [cyan]balances[/cyan]: by type of credit, each with type, credits, \
limit, running, queued; [cyan]packages[/cyan]: each with id, name, type, credits, credits_bought, limit, valid_from, \
valid_to (dates as the provider writes them); [cyan]store[/cyan]: what guards hold according to the store they share, \
null where there is none, with where, account, credits_free, credits_held, slots_open (calls being sent), \
slots_running (tasks they started), slots_free, slots_limit, age (of their reading, in seconds), paused (seconds).

[bold]Store[/bold]: --store takes what a guard takes: sqlite: for the usual file, sqlite:///path, redis://host. \
Without it, the usual file is looked at if there is one. Looking never makes one. One that cannot be used is told on \
stderr, and the provider's answer is shown all the same.

[bold]Exit codes[/bold]: 0 fine · 1 fewer than --min-credits · 2 no key, or a wrong setting · 3 the provider could not \
be asked, or its answer cannot be used."""


def _examples(name: str) -> str:
    variable = f"{name.upper()}_API_KEY"
    return f"""\
[bold]Examples[/bold]

{variable}=... budgetguard status {name}

budgetguard status {name} --key-env MY_KEY --json

budgetguard status {name} --min-credits 500 || echo 'time to top up'

{_JSON}"""


app = typer.Typer(
    help="Show the balance, the slots and the packages of an account.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog="Example: [bold]budgetguard status vidu[/bold] (with the key in VIDU_API_KEY)",
)

_BaseUrl = Annotated[str, typer.Option(metavar="URL", help="The provider's address.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_MinCredits = Annotated[int | None, typer.Option(min=0, metavar="N", help="Exit with 1 if there are fewer credits.")]
_Store = Annotated[str | None, typer.Option(metavar="URL", help="The store the guards share.")]
_Account = Annotated[
    str | None, typer.Option(metavar="NAME", help="Its name, if the guards give one: accounts={NAME: ...}.")
]
_FingerprintKeyEnv = Annotated[
    str | None, typer.Option(metavar="NAME", help="The variable with the guards' fingerprint_key, if they have one.")
]
_KeyEnv = Annotated[str, typer.Option(metavar="NAME", help="The environment variable that holds the API key.")]


@app.command(epilog=_examples("vidu"))
def vidu(
    *,
    key_env: _KeyEnv = "VIDU_API_KEY",
    base_url: _BaseUrl = "https://api.vidu.com",
    min_credits: _MinCredits = None,
    store: _Store = None,
    account: _Account = None,
    fingerprint_key_env: _FingerprintKeyEnv = None,
    as_json: _AsJson = False,
) -> None:
    """Show a Vidu account. Accounts of mainland China: --base-url https://api.vidu.cn."""
    shared = _Shared(store, account, fingerprint_key_env)
    _status(_made(lambda: Vidu(base_url=base_url)), key_env, min_credits, shared, as_json=as_json)


@app.command(epilog=_examples("udio"))
def udio(
    *,
    key_env: _KeyEnv = "UDIO_API_KEY",
    base_url: _BaseUrl = "https://udioapi.pro",
    concurrency: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most tasks at once, which Udio does not tell.")
    ] = None,
    min_credits: _MinCredits = None,
    store: _Store = None,
    account: _Account = None,
    fingerprint_key_env: _FingerprintKeyEnv = None,
    as_json: _AsJson = False,
) -> None:
    """Show a Udio account. Udio tells its credits only: neither running tasks nor packages."""
    shared = _Shared(store, account, fingerprint_key_env)
    made = _made(lambda: UdioPro(base_url=base_url, concurrency=concurrency))
    _status(made, key_env, min_credits, shared, as_json=as_json)


def _made(make: Callable[[], Provider]) -> Provider:
    try:
        return make()
    except SettingError as error:
        complain(str(error), USAGE)


def _named(variable: str) -> str:
    """Repeat a variable's name only if it is one: a key may have been given in its place."""
    return variable if variable.isidentifier() and variable.isupper() else "the variable"


class _Shared:
    """Which store to look at, and how the guards name the account there."""

    def __init__(self, url: str | None, account: str | None, fingerprint_key_env: str | None) -> None:
        self._url = url
        self._account = account
        self._fingerprint_key_env = fingerprint_key_env

    def look(self, provider: Provider, key: str) -> held.Held | None:
        variable, fingerprint_key = self._fingerprint_key_env, None
        if variable is not None:
            fingerprint_key = os.environ.get(variable, "").encode()
            if not fingerprint_key:
                complain(f"No fingerprint key: {_named(variable)} is not set.", USAGE)
        store = held.opened(self._url)
        if store is None:
            return None
        found = held.look(store, provider, key, self._account, fingerprint_key)
        return None if found is None or (self._url is None and not found.known) else found


def _status(provider: Provider, key_env: str, min_credits: int | None, shared: _Shared, *, as_json: bool) -> None:
    key = os.environ.get(key_env, "").strip()
    if not key:
        complain(
            f"No key: set {_named(key_env)} to the API key, or name the variable that holds it with --key-env NAME.",
            USAGE,
        )
    found = shared.look(provider, key)
    reading = _read(provider, key)
    if as_json:
        document = {**_document(provider, reading), "store": None if found is None else found.document()}
        print_json(document)
    else:
        _show(provider, reading, found)
    if min_credits is not None and reading.credits < min_credits:
        complain(f"{reading.credits} {provider.unit} are fewer than --min-credits {min_credits}.", BELOW)


def _read(provider: Provider, key: str) -> Reading:
    origin = provider.origins[0]
    try:
        request = _http.question(provider.credits_request(detail=True), provider.authorize(key), _TIMEOUT)
    except SettingError as error:
        complain(str(error), USAGE)
    try:
        # A proxy of the environment sees no key in a tunnel, and all of it in a request that is not encrypted.
        with httpx.Client(follow_redirects=False, trust_env=origin.startswith("https:")) as client:
            response = client.send(request, stream=True)
            try:
                raw = _bodies.read_some(response, _http.CREDITS_MAX, _TIMEOUT)
            finally:
                response.close()
        if response.is_redirect:
            complain(
                f"{origin} answered with a redirect (HTTP {response.status_code}), which is not followed.", UNUSABLE
            )
        return without_echoes(provider.reading(_http.answer_of(response, raw, most=_http.CREDITS_MAX)), Echo(key))
    except ReadingError as error:
        complain(str(error).replace(key, "***"), UNUSABLE)
    except httpx.TimeoutException:
        complain(f"{origin} did not answer within {_TIMEOUT:g} s.", UNUSABLE)
    except (httpx.HTTPError, OSError, ValueError) as error:
        # Its text may hold anything, a proxy's password for instance; its kind is enough.
        complain(f"{origin} cannot be reached ({type(error).__name__}). Check the connection and --base-url.", UNUSABLE)


def _slots(reading: Reading) -> Capacity:
    return reading.pools.get("", Capacity())


def _free(slots: Capacity) -> int | None:
    return None if slots.limit is None or slots.running is None else max(0, slots.limit - slots.running)


def _document(provider: Provider, reading: Reading) -> dict[str, Any]:
    slots = _slots(reading)
    return {
        "provider": provider.name,
        "base_url": provider.origins[0],
        "unit": provider.unit,
        "credits": reading.credits,
        "limit": slots.limit,
        "running": slots.running,
        "free": _free(slots),
        "balances": [
            {
                "type": balance.type,
                "credits": balance.credits,
                "limit": balance.limit,
                "running": balance.running,
                "queued": balance.queued,
            }
            for balance in reading.balances
        ],
        "packages": [
            {
                "id": package.id,
                "name": package.name,
                "type": package.type,
                "credits": package.credits,
                "credits_bought": package.credits_bought,
                "limit": package.limit,
                "valid_from": package.valid_from,
                "valid_to": package.valid_to,
            }
            for package in reading.packages
        ],
    }


# -- for people -----------------------------------------------------------------------------------------------------


def _show(provider: Provider, reading: Reading, found: held.Held | None) -> None:
    console = Console(highlight=False)
    slots = _slots(reading)
    console.print(f"[bold]{provider.name}[/bold] [dim]{provider.origins[0]}[/dim]")
    console.print(f"  credits  [bold]{reading.credits:,}[/bold]")
    console.print(f"  slots    {_said(slots)}")
    for word, sentence in [] if found is None else found.rows():
        console.print(f"  {word:8} {sentence}")
    if found is not None:
        console.print(f"           [dim]{found.where}[/dim]", soft_wrap=True)
    if reading.balances:
        console.print(_balances(reading.balances))
    if reading.packages:
        console.print(_packages(reading.packages))


def _said(slots: Capacity) -> str:
    free = _free(slots)
    if free is None:
        return "[dim]not told[/dim]" if slots.limit is None else f"{slots.limit} at most, [dim]running not told[/dim]"
    colour = "green" if free else "yellow"
    return f"{slots.running} of {slots.limit} taken, [{colour}]{free} free[/{colour}]"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _balances(balances: tuple[Balance, ...]) -> Table:
    table = _table("Credits by type")
    table.add_column("type")
    for name in ("credits", "running", "waiting", "limit"):
        table.add_column(name, justify="right")
    for row in balances:
        table.add_row(shown(row.type), f"{row.credits:,}", *(_number(n) for n in (row.running, row.queued, row.limit)))
    return table


def _packages(packages: tuple[Package, ...]) -> Table:
    table = _table("Packages")
    table.add_column("name", overflow="fold")
    table.add_column("type")
    for name in ("credits", "of", "limit"):
        table.add_column(name, justify="right")
    table.add_column("valid until")
    for row in packages:
        amounts = (f"{row.credits:,}", _number(row.credits_bought), _number(row.limit))
        until = row.valid_to.partition("T")[0] or "-"
        table.add_row(shown(row.name or row.id), shown(row.type), *amounts, shown(until))
    return table


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
