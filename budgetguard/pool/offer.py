"""What a guard offers to run many jobs with, in both colours."""

from __future__ import annotations

from budgetguard._desk import AsyncHolding, Holding
from budgetguard._reserving import Tags
from budgetguard.pool.pools import AsyncPool, Pool
from budgetguard.pool.progress import Progress
from budgetguard.pool.terms import OnInsufficient, Price, Terms

__all__ = ["AsyncPools", "Pools"]


class Pools:
    """What a `Guard` offers to run many jobs with."""

    def pool(
        self: Holding,
        *,
        credits: Price = None,
        slots: int = 1,
        pool: str = "",
        max_workers: int | None = None,
        on_insufficient: OnInsufficient = "stop",
        deadline: float | None = None,
        priority: int = 0,
        tags: Tags | None = None,
        progress: Progress = None,
    ) -> Pool:
        """Make a pool of workers that is as large as the provider's limit lets it be, from moment to moment.

        Used as ``with guard.pool() as pool``. A function that is a job of this guard (`Guard.job`) knows its price.
        What others do through guarded clients is priced call by call and draws on the job's slots; where they use
        clients that are not guarded, say *credits*. Since 0.1.

        Args:
            credits: What one job costs at most: a number, a `Quote`, or a callable of the job's arguments that gives
                one; ``None`` leaves it to the function.
            slots: Slots it takes.
            pool: The limit they count against; ``""`` where the account has only one.
            max_workers: Most jobs at once; ``None`` leaves it to the account.
            on_insufficient: What a job that the balance does not cover does to those behind it in its iterable:
                ``"stop"`` takes up nothing more, ``"skip"`` leaves it out and goes on with cheaper ones. The pool's
                `report <Pool.report>` lists which did not run.
            deadline: Seconds within which a job must be admitted; ``None`` leaves it to ``Policy.max_wait``.
            priority: A higher one goes before a lower one in the line.
            tags: Words that go with each job into events: a list, or a mapping of names to words.
            progress: ``True`` shows a bar (needs ``budgetguard-py[progress]``); a bar like tqdm's is moved on with
                ``update(1)``; any other callable is called with a `PoolProgress` whenever a job begins or is over.

        Raises:
            SettingError: If one of these cannot work, or the guard has no key.
        """
        terms = Terms(credits, slots, pool, max_workers, on_insufficient, tags, deadline, priority)
        return Pool(self, terms, progress)


class AsyncPools:
    """What an `AsyncGuard` offers to run many jobs with."""

    def pool(
        self: AsyncHolding,
        *,
        credits: Price = None,
        slots: int = 1,
        pool: str = "",
        max_workers: int | None = None,
        on_insufficient: OnInsufficient = "stop",
        deadline: float | None = None,
        priority: int = 0,
        tags: Tags | None = None,
        progress: Progress = None,
    ) -> AsyncPool:
        """Make a pool of tasks that is as large as the provider's limit lets it be. See `Guard.pool`. Since 0.1."""
        terms = Terms(credits, slots, pool, max_workers, on_insufficient, tags, deadline, priority)
        return AsyncPool(self, terms, progress)
