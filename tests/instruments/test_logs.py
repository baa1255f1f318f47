"""Events as log lines."""

from __future__ import annotations

from typing import Any

import structlog

from budgetguard import events
from budgetguard.instruments import LogObserver
from budgetguard.model import Reading, TaskState


def written(event: events.Event) -> dict[str, object]:
    with structlog.testing.capture_logs() as lines:
        LogObserver(structlog.get_logger())(event)
    assert len(lines) == 1
    return dict(lines[0])


def test_a_line_is_named_for_the_event_and_carries_its_fields() -> None:
    line = written(events.TaskEnded("vidu:a", 1.5, "task-1", TaskState.FAILED, 1, freed=True))
    assert line == {
        "event": "task_ended",
        "log_level": "debug",
        "account": "vidu:a",
        "at": 1.5,
        "task_id": "task-1",
        "state": TaskState.FAILED,
        "slots": 1,
        "freed": True,
    }


def test_what_needs_a_person_is_a_warning() -> None:
    assert written(events.Overspent("vidu:a", 1.0, "r1", 35, 40))["log_level"] == "warning"
    assert written(events.LowBalance("vidu:a", 1.0, 100, 90))["log_level"] == "warning"


def test_what_explains_a_wait_is_info() -> None:
    line = written(events.Queued("vidu:a", 1.0, "r1", 35, 1, "", "slots", 2))
    assert line["log_level"] == "info"


def test_a_reading_is_written_as_its_balance_only() -> None:
    line = written(events.Refreshed("vidu:a", 1.0, Reading(500, document={"key": "secret"}), 465, 4, "guard", 0.01))
    assert line["balance"] == 500
    assert "secret" not in str(line)


def test_every_event_can_be_written() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)]
    observer = LogObserver()
    with structlog.testing.capture_logs() as lines:
        for kind in kinds:
            values: dict[str, Any] = {
                name: Reading(1) if name == "reading" else 0 for name in kind.__dataclass_fields__
            }
            observer(kind(**values))
    assert len(lines) == len(kinds)
