import pytest

from budgetguard.errors import SettingError
from budgetguard.testing import ManualClock, SystemClock


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(start=10.0)
    assert clock.monotonic() == clock() == 10.0
    assert clock.advance(2.5) == 12.5
    assert clock() == 12.5


def test_a_manual_clock_shows_dates_that_move_with_it() -> None:
    clock = ManualClock(start=3.0, epoch=1000.0)
    assert clock.time() == 1000.0
    clock.advance(60)
    assert clock.time() == 1060.0


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_manual_clock_refuses_to_go_back_or_to_the_end_of_time(seconds: float) -> None:
    clock = ManualClock()
    with pytest.raises(SettingError, match="seconds="):
        clock.advance(seconds)
    assert clock() == 0.0


def test_subscribers_of_a_manual_clock_are_told_of_every_move_until_they_end_it() -> None:
    clock = ManualClock()
    seen: list[float] = []
    end = clock.subscribe(lambda: seen.append(clock()))
    clock.advance(1)
    clock.advance(2)
    end()
    end()
    clock.advance(4)
    assert seen == [1.0, 3.0]


def test_a_manual_clock_cannot_say_how_long_a_wait_is_in_real_time() -> None:
    clock = ManualClock()
    assert clock.wall(1.0) is None
    assert clock.wall(0.0) == 0.0


def test_a_system_clock_runs_as_many_times_faster_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    real = 50.0
    monkeypatch.setattr("time.monotonic", lambda: real)
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    clock = SystemClock(speed=60)
    real += 2.0
    assert clock.monotonic() == clock() == 120.0
    assert clock.time() == 1_000_120.0
    assert clock.wall(120.0) == 2.0


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf")])
def test_a_system_clock_refuses_to_stand_still(speed: float) -> None:
    with pytest.raises(SettingError, match="speed="):
        SystemClock(speed=speed)


def test_clocks_say_the_time_in_their_repr() -> None:
    assert repr(ManualClock(1.5)) == "<ManualClock at 1.5 s>"
    assert "speed 2" in repr(SystemClock(speed=2))
