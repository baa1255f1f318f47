"""What both pools know of their jobs: the terms, the count, and who is told."""

from __future__ import annotations

from typing import Any

from budgetguard._core.account import Account
from budgetguard.errors import Refused, SettingError
from budgetguard.pool.batch import BOUND, Batch, Job
from budgetguard.pool.progress import Meter, PoolProgress
from budgetguard.pool.report import JobResult, PoolReport, Tally
from budgetguard.pool.terms import Terms

__all__ = ["CANCELLED", "LEFT", "Ledger", "bounded"]

CANCELLED = "cancelled"
LEFT = "The pool was left before all jobs were taken up."


class Ledger:
    """Writes down what becomes of each job. Safe to share between threads, but for what it does to batches.

    Args:
        guard: Whose account it is.
        terms: What the pool was made with.
        account: The account.
        meter: Tells whoever wants to know.
    """

    def __init__(self, guard: Any, terms: Terms, account: Account, meter: Meter | None) -> None:
        self._engine = guard.engine
        self.terms = terms
        self.account = account
        self._meter = meter
        self.tally = Tally()

    def begun(self) -> None:
        """A job runs from here on."""
        self.tally.begun()
        self._tell()

    def over(self, spent: int) -> None:
        """It runs no more."""
        self.tally.over(spent)

    def ended(self, job: Job, value: Any, error: BaseException | None) -> JobResult[Any]:
        """Something came of it."""
        result = job.ended(value, error)
        self.tally.result(result)
        self._tell()
        return result

    def not_run(self, job: Job, why: BaseException | str) -> None:
        """Nothing came of it."""
        self.tally.not_run(job.not_run(why))
        self._tell()

    def came(self, job: Job, value: Any, error: BaseException | None) -> bool:
        """Write down what came of a job that ran, or of the wish to run it; tells whether others may follow.

        What was refused is not run, even where the refusal came from inside: nothing was sent then.
        """
        blame = "job" if error is None else self.terms.blame(error, self.account.name)
        if error is None or blame == "job":
            self.ended(job, value, error)
            return True
        self.not_run(job, error)
        return blame == "credits" and self.terms.on_insufficient == "skip"

    def halt(self, batch: Batch, error: BaseException, *, refused: bool = False) -> None:
        """Take up nothing more of a batch."""
        if not batch.over:
            self.tally.left(*batch.rest())
        batch.stop(error, refused=refused)

    def farewell(self, batch: Batch) -> BaseException | None:
        """Give what is to be raised when everything of a batch has been given out."""
        refused, error = batch.refused, batch.raised()
        if refused and error is not None:
            report = self.report
            if isinstance(error, Refused):
                error.report = report
            error.add_note(f"{report}\nNothing more was taken up.")
        return error

    def size(self, count: int | None) -> None:
        """More jobs are to be done."""
        self.tally.expect(count)

    @property
    def report(self) -> PoolReport:
        """How all jobs stand."""
        return self.tally.report()

    def close(self) -> None:
        """Nobody needs to be told any more."""
        if self._meter is not None:
            self._meter.close()

    def _tell(self) -> None:
        if self._meter is not None:
            self._meter.tell(self._look)

    def _look(self) -> PoolProgress:
        state = self._engine.state(self.account, self.account.view)
        pool = state.pools.get(self.terms.pool)
        limit = None if pool is None else pool.limit
        return self.tally.progress(limit, max(0, state.credits_free))


def bounded(buffersize: int | None) -> int:
    """Check a bound.

    Raises:
        SettingError: If it is none.
    """
    if buffersize is None:
        return BOUND
    if isinstance(buffersize, bool) or not isinstance(buffersize, int) or buffersize < 1:
        raise SettingError("buffersize", buffersize, f"give a whole number above 0, or None for {BOUND}")
    return buffersize
