"""Showing how the jobs of a pool get on: with rich, with whatever has ``update``, or with a function of the user's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from budgetguard.engine import Engine
from budgetguard.errors import SettingError

__all__ = ["Meter", "PoolProgress", "Progress", "Updatable", "meter_for"]


@dataclass(frozen=True, slots=True)
class PoolProgress:
    """How the jobs of a pool stand at one moment. Immutable. Since 0.1.

    Attributes:
        done: Jobs whose function returned.
        failed: Jobs whose function raised, or which could not be priced.
        not_run: Jobs that were taken up and not run.
        running: Jobs whose function runs.
        total: Jobs there are in all; ``None`` where an iterable does not tell its length.
        limit: How many the account may run at once; ``None`` where that is not known.
        spent: Credits the ended jobs cost, or may have cost.
        free: Credits that are free for new calls.
    """

    done: int
    failed: int
    not_run: int
    running: int
    total: int | None
    limit: int | None
    spent: int
    free: int

    @property
    def ended(self) -> int:
        """Jobs that are over, in whatever way."""
        return self.done + self.failed + self.not_run


class Updatable(Protocol):
    """What a progress bar like tqdm's offers. Since 0.1."""

    def update(self, n: int) -> Any:
        """Move it on by *n*."""
        ...


Progress: TypeAlias = "bool | Updatable | Callable[[PoolProgress], object] | None"
"""``True`` for a bar by rich, or what is told of each job that begins or ends."""


class Meter:
    """Tells whoever wants to know. Safe to share between threads; one is told at a time.

    Args:
        engine: Is complained to, once, if telling fails. No job suffers from that.
        tell: Is told.
        close: Ends it.
    """

    def __init__(
        self, engine: Engine, tell: Callable[[PoolProgress], object], close: Callable[[], object] | None = None
    ) -> None:
        self._engine = engine
        self._tell = tell
        self._close = close
        self._lock = threading.Lock()

    def tell(self, look: Callable[[], PoolProgress]) -> None:
        """Tell how the jobs stand."""
        with self._lock:
            self._try(lambda: self._tell(look()))

    def close(self) -> None:
        """End it. Twice is harmless."""
        with self._lock:
            close, self._close = self._close, None
            if close is not None:
                self._try(close)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - a bar never stops a job
            self._engine.complain("progress_failed", error=type(error).__name__)


def meter_for(engine: Engine, progress: Progress) -> Meter | None:
    """Make what a pool tells of its jobs; ``None`` if nobody wants to know.

    Raises:
        SettingError: If *progress* is nothing that can be told, or rich is not installed.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        tell, close = _bar(progress)
        return Meter(engine, tell, close)
    update = getattr(progress, "update", None)
    # A dictionary and a set have one too, of another kind.
    if callable(update) and not isinstance(progress, (type, Mapping, AbstractSet)):
        return Meter(engine, _Steps(update))
    if callable(progress):
        return Meter(engine, progress)
    raise SettingError("progress", type(progress).__name__, "give True, a bar with update(n), or a callable")


class _Steps:
    """Moves a bar on by as many jobs as have ended since the last time."""

    def __init__(self, update: Callable[[int], Any]) -> None:
        self._update = update
        self._told = 0

    def __call__(self, look: PoolProgress) -> None:
        news, self._told = look.ended - self._told, look.ended
        if news:
            self._update(news)


def _bar(progress: object) -> tuple[Callable[[PoolProgress], object], Callable[[], object]]:
    try:
        from rich import progress as rich  # noqa: PLC0415 - an extra, and only who asks for a bar pays for it
        from rich.table import Column  # noqa: PLC0415 - as below
    except ImportError:
        raise SettingError(
            "progress", progress, "install rich with 'budgetguard-py[progress]', or give a bar"
        ) from None
    bar = rich.Progress(
        rich.BarColumn(12),
        rich.TextColumn("{task.completed}/{task.fields[of]} done,"),
        rich.TextColumn("{task.fields[running]} of {task.fields[limit]} run,"),
        rich.TextColumn("{task.fields[spent]} spent, {task.fields[free]} left"),
        rich.TimeElapsedColumn(Column(min_width=7)),
        rich.TextColumn("ETA"),
        rich.TimeRemainingColumn(table_column=Column(min_width=7)),
    )
    task = bar.add_task("", total=None, of="?", running=0, limit="?", spent=0, free="?")
    started = False

    def tell(look: PoolProgress) -> None:
        nonlocal started
        if not started:
            started = True
            bar.start()
        limit = "?" if look.limit is None else look.limit
        bar.update(
            task,
            completed=look.ended,
            total=look.total,
            of="?" if look.total is None else look.total,
            running=look.running,
            limit=limit,
            spent=look.spent,
            free=look.free,
        )

    return tell, bar.stop
