"""What both permits know and decide, until they differ in how they wait."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from budgetguard._checks import check_charge, check_task_id
from budgetguard._core.account import Hold
from budgetguard._core.endings import finish
from budgetguard._core.permits import give_back
from budgetguard._core.quick import QuickAccount
from budgetguard._core.records import Stage
from budgetguard._core.serving import Place
from budgetguard._core.settlement import settle
from budgetguard._core.steps import Flow
from budgetguard._core.till import Draft
from budgetguard._half_made import even_half_made
from budgetguard._names import new_portable_name
from budgetguard._scope import Scope, around, inside
from budgetguard._settings import CREDITS_MAX
from budgetguard.errors import PermitError
from budgetguard.model import Outcome, Quote, TaskSeen, TaskState, Verdict

__all__ = ["Handle"]

_making = [threading.Lock()]
"""Held while a permit is made whole; another one in a child of a fork."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _making.__setitem__(0, threading.Lock()))


class Handle(Scope):
    """What both permits know and decide. Safe to share between threads.

    A permit that was had on the quick path is a `Draft` and little else, and may end as one. Whatever asks for more
    makes it whole first: its *hold* is what the long way goes by.
    """

    _account: QuickAccount
    _draft: Draft | None = None
    """What it is on the quick path, once it was had there."""
    _made: Hold | None = None
    """What it is on the long way."""
    _asked: tuple[int, int] = (0, 0)
    """Credits and slots it is for, until it is one of these."""
    _task_id = ""
    _had = False
    _alone = False
    """Whether its holder said that something leaves that is no call of a guarded client."""
    _bare = False
    """Whether its block is open only now and then: a generator's, whose taker is not inside."""
    _inside = False
    _word = ""
    """What was said of its end."""
    _charge: int | None = None
    _task = ""
    _busy = _done = False
    """Whether somebody is at what was said, and whether it is done."""

    def __init__(self, guard: Any, account: QuickAccount, hold: Hold, task_id: str | None) -> None:
        self._guard = guard
        self._account = account
        self._made = hold
        if inside() is not None:
            hold.outer = around(account)
        if task_id is not None:
            check_task_id(task_id)
            self._task_id = task_id
        self._lock = threading.Lock()

    def _have_quickly(self, credits: int, slots: int) -> bool:
        """Have it on the quick path; ``False`` if that is not to be had.

        Raises:
            InsufficientCredits: If it cannot be had in any way.
        """
        account, name = self._account, new_portable_name()
        try:
            self._draft = account.take(weakref.ref(self), name, credits, slots)
        except BaseException:
            account.withdraw(name)
            raise
        if self._draft is not None:
            return True
        refused = account.refusal(credits)
        if refused is not None:
            raise refused
        return False

    def _called(self, place: Place) -> bool:
        """After the wait in line: whether it has its slots; if not, it goes on the long way from where it stands."""
        self._made = self._account.go_on(place)
        if self._made is None:
            self._draft = place.draft
            return True
        self._lock = threading.Lock()
        return False

    @property
    def _hold(self) -> Hold:
        made = self._made
        return self._whole() if made is None else made

    def _whole(self) -> Hold:
        """Leave the quick path, or never enter it."""
        with _making[0]:
            if self._made is not None:
                return self._made
            self._lock = threading.Lock()
            draft = self._draft
            if draft is None:
                hold: Hold = self._guard.engine.permit(Quote(*self._asked), 0, None, ())
                self._made = hold
                return hold
            hold = Hold(draft.id, Quote(draft.credits, draft.slots))
            hold.record, hold.mark, hold.sent = self._account.hand_over(draft), draft.mark, self._alone
            if draft.word:
                self._word, self._charge, self._done, hold.closed = draft.word, draft.charge, True, True
            self._had, self._made, self._draft = True, hold, None
        if hold.record is not None:
            self._guard.heartbeat.watch(self._account, hold)
        return hold

    @property
    def account(self) -> str:
        """The name of the account it is held on."""
        return self._account.name

    @property
    def credits(self) -> int:
        """Credits it was had for."""
        draft = self._draft
        return self._hold.quote.credits if draft is None else draft.credits

    @property
    def slots(self) -> int:
        """Slots it was had for."""
        draft = self._draft
        return self._hold.quote.slots if draft is None else draft.slots

    @property
    def pool(self) -> str:
        """The limit its slots count against; ``""`` where an account has only one."""
        return self._hold.quote.pool

    @property
    def tags(self) -> tuple[str, ...]:
        """The caller's own words for it, each a ``word`` or ``name=value``."""
        return self._hold.tags

    @property
    def id(self) -> str:
        """The name it goes by in events, as their ``reservation``."""
        draft = self._draft
        return self._hold.id if draft is None else draft.id

    @property
    def state(self) -> str:
        """``waiting`` (not had yet), ``held``, ``sent``, ``settled``, ``released`` or ``unknown``."""
        draft = self._draft
        word = self._word if draft is None else draft.word
        return word or ("sent" if self._alone or self._hold.sent else "held" if self._is_had else "waiting")

    @property
    def token(self) -> str:
        """What ends it in any other process or machine: ``guard.finished(permit.token)``.

        Fit for a database or an address. It holds no secret and names no key; whoever has it can end the permit and
        nothing else.

        Raises:
            PermitError: If the permit was not had yet.
        """
        self._must_be_had()
        return self._guard.engine.token(self._account, self._hold.id, self._task)  # type: ignore[no-any-return]

    def sent(self) -> None:
        """Note that the call may leave from here on: what ends without a word is then not given back unasked.

        Not needed for calls of a guarded client: they join the permit, and each knows by itself how it ended.

        Raises:
            PermitError: If it was released already.
        """
        self._must_be_had()
        draft = self._draft
        if draft is not None and not draft.word:
            self._alone = True
            if self._made is None:
                return
        hold = self._hold
        with self._lock:
            if self._word == "released":
                raise self._contradiction("sent")
            hold.sent = self._alone = True

    @property
    def _is_had(self) -> bool:
        return self._had or self._draft is not None

    def _must_be_had(self) -> None:
        if not self._is_had:
            raise PermitError("This permit was not had yet: enter its block with 'async with', or await it first.")

    def _contradiction(self, word: str) -> PermitError:
        said = self._word + (f" with charge={self._charge}, task_id={self._task!r}" if self._word == "settled" else "")
        return PermitError(
            f"This permit was {said}, and a permit ends once: it cannot be {word} now. "
            "Say how a call ended in one place, and leave the rest to the end of the block."
        )

    def _say(self, word: str, charge: int | None = None, task_id: str | None = None) -> bool:
        """Note what is said of its end; ``False`` if that is done, or being done, already."""
        self._must_be_had()
        check_charge(charge)
        check_task_id(task_id)
        task = self._task_id if task_id is None else task_id
        hold = self._hold
        with self._lock:
            if not self._word:
                self._word, self._charge, self._task = word, charge, task
                hold.closed = True
            elif (
                word != self._word
                or (charge is not None and charge != (self.credits if self._charge is None else self._charge))
                or (task and task != self._task)
            ):
                raise self._contradiction(word)
            elif self._done or self._busy:
                return False
            self._busy = True
            return True

    def _said(self, *, done: bool) -> None:
        with self._lock:
            self._busy, self._done = False, done

    def _unsaid(self, *, failed: bool) -> str:
        """Tell what is left to be done when the block is left: by what was said, or else by what was sent."""
        hold = self._hold
        if self._word:
            return "" if self._done else self._word
        if not hold.sent or (hold.joins and not self._alone):
            return "released"
        return "unknown" if failed else "settled"

    def _enter(self) -> None:
        draft = self._draft
        if self._inside or self._word or (draft is not None and draft.word):
            raise PermitError("A permit's block is entered once: reserve anew for another call.")
        self._inside = True
        if not self._bare:
            self._open()

    def _settle_quickly(self, charge: int | None) -> bool:
        """Settle it on the quick path, if it started no task; ``False`` if that is not to be had."""
        draft = self._draft
        if draft is None or not (charge is None or (type(charge) is int and 0 <= charge <= CREDITS_MAX)):
            return False
        booked = draft.credits if charge is None else charge
        return self._account.accept(draft, booked) if self._inside else self._account.settle(draft, booked)

    def _release_quickly(self) -> bool:
        """Release it on the quick path; ``False`` if that is not to be had."""
        draft = self._draft
        return draft is not None and self._account.release(draft)

    def _leave_quickly(self, *, failed: bool) -> bool:
        """Leave the block on the quick path; ``False`` if that is not to be had."""
        draft = self._draft
        if draft is None:
            return False
        self._close()
        if draft.word == "settled":
            return draft.shelf is None or self._account.end(draft)
        if draft.word or not self._alone:
            return bool(draft.word) or self._account.release(draft)
        return not failed and self._account.settle(draft, draft.credits)

    def _end(self, word: str, charge: int | None = None, task_id: str | None = None) -> Flow[None]:
        """End it as said."""
        return self._perform() if self._say(word, charge, task_id) else _nothing()

    def _leave(self, *, failed: bool) -> Flow[None]:
        """End what is left when the block is left."""
        self._inside = False
        self._close()
        word = self._unsaid(failed=failed)
        try:
            return self._end(word) if word else self._free()
        except PermitError:
            return self._free()  # somebody else was quicker to say something

    def _perform(self) -> Flow[None]:
        """Do what was said."""
        account, hold, word = self._account, self._hold, self._word
        done = False
        try:
            if word == "released":
                yield from give_back(account, hold)
            elif word == "settled":
                verdict = self._rest()
                yield from give_back(account, hold) if verdict is None else settle(account, hold, verdict)
            else:
                self._guard.heartbeat.forget(hold)
                yield from settle(account, hold, Verdict(Outcome.UNKNOWN))
            done = True
        finally:
            self._said(done=done or word == "unknown")
        yield from self._free()

    def _rest(self) -> Verdict | None:
        """Tell what is left to book when it is settled; ``None`` for nothing: the calls that joined it did it all."""
        hold = self._hold
        charge = self._charge if self._charge is None else max(0, self._charge - hold.spent)
        known = not self._task or self._task in hold.tasks
        if hold.joins and known and not charge and (charge is not None or not self._alone):
            return None
        return Verdict(Outcome.ACCEPTED, charge, None if known and hold.joins else self._task or None)

    def _free(self) -> Flow[None]:
        """Once nothing is sent any more: give the slots back that do not stay with a task."""
        record = self._hold.record
        booked = record is not None and record.stage is Stage.ACCEPTED and not record.task_id
        if booked and self._inside:
            return  # the block holds them
        self._guard.heartbeat.forget(self._hold)
        if booked:
            yield from finish(self._account, TaskSeen(self._hold.id, TaskState.SUCCEEDED))
            self._hold.record = None

    def _check(self) -> None:
        """Complain if it was released here, and ended as taken by its token elsewhere."""
        if self._word == "released" and self._hold.elsewhere:
            raise PermitError(
                "This permit was ended by its token, as a call the provider took: there is nothing to release. "
                "If the provider did not take it, do not tell guard.finished() that it did."
            )

    @even_half_made
    def __repr__(self) -> str:
        tags = f", tags={list(self.tags)}" if self.tags else ""
        return f"{type(self).__name__}({self.id}, {self.state}, {self.credits} credits, {self.slots} slots{tags})"


def _nothing() -> Flow[None]:
    yield from ()
