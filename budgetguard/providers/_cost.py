"""The cost of one call, before it becomes a quote."""

from __future__ import annotations

from dataclasses import dataclass

from budgetguard.model import Quote

__all__ = ["Cost", "half", "started"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Credits from *least* to *most*, and the row they come from."""

    row: str
    most: int
    least: int

    @classmethod
    def exact(cls, row: str, credits: int) -> Cost:
        """State a cost without doubt."""
        return cls(row, credits, credits)

    def quote(self, source: str, *, task_lease: float | None = None) -> Quote:
        """Hold the upper end; tell the lower one where it differs."""
        return Quote(
            credits=self.most,
            credits_min=self.least if self.least < self.most else None,
            task_lease=task_lease,
            source=f"{source}, {self.row}",
        )


def started(amount: int, unit: int) -> int:
    """Count the units that were begun."""
    return -(-amount // unit)


def half(amount: int) -> int:
    """Halve, rounding up."""
    return started(amount, 2)
