"""``budgetguard fake``: a fake provider in the terminal, to try a guard against without spending anything."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from budgetguard.errors import SettingError
from budgetguard.testing.clock import SystemClock
from budgetguard.testing.fake import FakeProvider
from budgetguard.testing.settings import Settings
from budgetguard.testing.udio import FakeUdio
from budgetguard.testing.vidu import FakeVidu

__all__ = ["app", "fake_command"]

app = typer.Typer(
    name="fake",
    help="Run a fake provider on this machine, to try things against without spending anything.",
    no_args_is_help=True,
)

_ALWAYS = frozenset({"submits", "accepted", "refused_credits", "refused_slots", "charged"})


def _duration(text: str) -> float | tuple[float, float]:
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 <= number < float("inf") for number in numbers):
        raise typer.BadParameter("give seconds, such as 3, or a range of them, such as 2:6")
    return numbers[0] if len(numbers) == 1 else (min(numbers), max(numbers))


Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")]
Credits = Annotated[int, typer.Option(min=0, help="The balance to begin with.")]
Mode = Annotated[str, typer.Option(help="What becomes of work above the limit: queue or reject.")]
Seconds = Annotated[str, typer.Option("--duration", help="Seconds a task takes: 3, or 2:6 for a range.")]
Price = Annotated[int | None, typer.Option(min=0, help="Credits for any call, instead of the price list.")]
Keys = Annotated[list[str] | None, typer.Option("--key", help="A key to accept; repeat for several. Any, if none.")]
Speed = Annotated[float, typer.Option(help="How many times faster than real time tasks run.")]
Latency = Annotated[float, typer.Option(min=0.0, help="Seconds each answer takes.")]
FailRate = Annotated[float, typer.Option(min=0.0, max=1.0, help="The share of tasks that fail.")]
Refund = Annotated[bool, typer.Option("--refund/--no-refund", help="Whether a failed task's credits come back.")]
LagSeconds = Annotated[float, typer.Option(min=0.0, help="Seconds by which the shown balance trails behind.")]
Seed = Annotated[int, typer.Option(help="Where all chance comes from.")]


@app.command()
def vidu(
    *,
    host: Host = "127.0.0.1",
    port: Port = 8900,
    credits: Credits = 500,
    limit: Annotated[int | None, typer.Option(min=0, help="Most tasks running at once.")] = 5,
    mode: Mode = "queue",
    duration: Seconds = "2:6",
    price: Price = None,
    key: Keys = None,
    speed: Speed = 1.0,
    latency: Latency = 0.0,
    fail_rate: FailRate = 0.0,
    refund: Refund = False,
    lag_seconds: LagSeconds = 0.0,
    seed: Seed = 0,
    field: Annotated[str, typer.Option(help="What the credits answer calls its list.")] = "remains",
) -> None:
    """Run a fake Vidu until Ctrl-C, then say what it saw.

    Example: budgetguard fake vidu --port 8900 --credits 500 --limit 5 --mode reject
    """
    try:
        settings = Settings(
            duration=_duration(duration),
            charge=price,
            keys=key or None,
            clock=SystemClock(speed=speed),
            latency=latency,
            fail_rate=fail_rate,
            refund_failed=refund,
            lag_seconds=lag_seconds,
            seed=seed,
        )
        fake = FakeVidu(credits, limit, mode=mode, **settings)  # type: ignore[arg-type]  # checked there
    except SettingError as error:
        raise typer.BadParameter(str(error)) from error
    if field not in ("remains", "remaining_credits"):
        raise typer.BadParameter("give remains or remaining_credits", param_hint="--field")
    fake.field = field
    fake_command(fake, title="Vidu", adapter="Vidu", command="vidu", host=host, port=port)


@app.command()
def udio(
    *,
    host: Host = "127.0.0.1",
    port: Port = 8900,
    credits: Credits = 500,
    limit: Annotated[int | None, typer.Option(min=0, help="A hidden limit; above it the answer is 429.")] = None,
    mode: Mode = "reject",
    duration: Seconds = "2:6",
    price: Price = None,
    key: Keys = None,
    speed: Speed = 1.0,
    latency: Latency = 0.0,
    fail_rate: FailRate = 0.0,
    refund: Refund = False,
    lag_seconds: LagSeconds = 0.0,
    seed: Seed = 0,
    style: Annotated[str, typer.Option(help="Errors as an HTTP status, or as a code in a 200: status or envelope.")] = (
        "status"
    ),
    early_success: Annotated[bool, typer.Option("--early-success", help="Say SUCCESS before songs are done.")] = False,
) -> None:
    """Run a fake Udio API pro until Ctrl-C, then say what it saw.

    Example: budgetguard fake udio --port 8901 --credits 200
    """
    if style not in ("status", "envelope"):
        raise typer.BadParameter("give status or envelope", param_hint="--style")
    try:
        settings = Settings(
            duration=_duration(duration),
            charge=price,
            keys=key or None,
            clock=SystemClock(speed=speed),
            latency=latency,
            fail_rate=fail_rate,
            refund_failed=refund,
            lag_seconds=lag_seconds,
            seed=seed,
        )
        fake = FakeUdio(credits, limit, mode=mode, early_success=early_success, **settings)  # type: ignore[arg-type]  # checked there
    except SettingError as error:
        raise typer.BadParameter(str(error)) from error
    fake.style = style
    fake_command(fake, title="Udio API pro", adapter="UdioPro", command="udio", host=host, port=port)


def fake_command(fake: FakeProvider, *, title: str, adapter: str, command: str, host: str, port: int) -> None:
    """Run *fake* in the foreground: say where it is, and after Ctrl-C what it saw.

    Args:
        fake: The fake to run.
        title: What people call the provider.
        adapter: The class of ``budgetguard.providers`` that speaks to it.
        command: What ``budgetguard status`` calls it.
        host: The address to listen on.
        port: The port; 0 takes a free one.

    Raises:
        typer.Exit: With code 1, if the port is taken or the extra ``testing`` is not installed.

    Since 0.1.
    """
    console = Console(soft_wrap=True)

    def started(url: str) -> None:
        key = "demo" if fake.key_count is None else "YOUR_KEY"
        console.print(Panel(_welcome(fake, adapter, url), title=f"{title}, faked", expand=False))
        # Below the panel, where it can be copied in one piece.
        told = f"{command.upper()}_API_KEY={key} budgetguard status {command} --base-url {url}"
        console.print(told, markup=False, highlight=False)

    try:
        fake.run(host=host, port=port, started=started)
    except (OSError, SettingError) as error:
        said = f"cannot listen on {host}:{port}: {error.strerror}" if isinstance(error, OSError) else str(error)
        Console(stderr=True, soft_wrap=True).print(f"budgetguard fake: {said}", style="red", markup=False)
        raise typer.Exit(1) from error
    console.print(_summary(fake, title))


def _welcome(fake: FakeProvider, adapter: str, url: str) -> Table:
    state, named = fake.state, fake.key_count
    slots = "no limit" if state.limit is None else f"{state.limit} slots"
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_row("address", Text(url, style="bold green"))
    table.add_row("account", Text(f"{state.credits} credits, {slots}, mode {fake.mode}"))
    table.add_row("keys", "any key is accepted" if named is None else f"{named} accepted, all others refused")
    table.add_row("python", Text(f'Guard({adapter}(base_url="{url}"))'))
    table.add_row("stop", "Ctrl-C; then it says what it saw")
    return table


def _summary(fake: FakeProvider, title: str) -> Table:
    table = Table("what", "how much", title=f"What {title} saw", title_justify="left")
    table.columns[1].justify = "right"
    for name, value in {**fake.journal.summary(), "credits_left": fake.credits}.items():
        if value or name in _ALWAYS:
            table.add_row(name.replace("_", " "), f"{value:.1%}" if name == "utilisation" else f"{value:,}")
    return table
