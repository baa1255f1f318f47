"""How often a process looks for what others changed: by what it does itself, and by how long nothing happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from budgetguard.stores import _sqlite_watch
from budgetguard.stores._sqlite_watch import Watchers


class File:
    """A file in which nothing happens unless it is said."""

    def __init__(self) -> None:
        self.commits = 0
        self.wakes = 0

    def look(self, accounts: Iterable[str], *, always: bool) -> Mapping[str, int]:
        return dict.fromkeys(accounts, self.wakes)


def test_a_wake_up_is_late_by_little_where_somebody_may_wait_and_looks_are_rare_where_nobody_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(_sqlite_watch.time, "monotonic", lambda: now)  # type: ignore[attr-defined]
    monkeypatch.setattr(Watchers, "_start", lambda *_: None)
    file, watchers, called = File(), Watchers(), []
    watchers.add("a", lambda: called.append(now), file)

    def pause(after: float) -> float | None:
        nonlocal now
        now += after
        return watchers.look(file)

    assert pause(0.0) == 0.05, "it has done nothing yet"
    file.commits += 1
    assert pause(1.0) == 0.005, "it has just committed, and may wait for something"
    assert pause(30.0) == 0.005
    assert pause(31.0) == 0.05, "nothing of its own for a minute"
    file.wakes += 1
    assert pause(1.0) == 0.002, "something happens"
    assert called == [now]
    assert pause(0.024) == pytest.approx(0.003), "an eighth of the silence"
    file.commits += 1
    assert pause(10.0) == 0.005
