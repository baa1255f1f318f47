"""Where a call is made: inside the block of which permit, or inside which job."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar, Token
from typing import Any

from budgetguard._core.account import Account, Hold

__all__ = ["Scope", "around", "inside_nothing", "scopes"]


class Scope:
    """The block of one permit, as a link in the chain of those around a call."""

    __slots__ = ("_before", "account", "guard", "outer", "permit")

    def __init__(self, permit: Any, guard: Any, account: Account) -> None:
        self.permit = permit
        self.guard = guard
        self.account = account
        self.outer: Scope | None = None
        self._before: Token[Scope | None] | None = None

    @property
    def hold(self) -> Hold:
        """What the permit holds. Asking for it ends the permit's time on the quick path."""
        return self.permit._hold  # type: ignore[no-any-return]  # noqa: SLF001 - a scope is the permit's own

    def enter(self) -> None:
        """Begin: calls made from here on, and in tasks and threads that copy this context, are inside."""
        self.outer = _here.get()
        self._before = _here.set(self)

    def leave(self) -> None:
        """End it."""
        if self._before is not None:
            with contextlib.suppress(ValueError):  # left in another context than entered: that one is gone
                _here.reset(self._before)
            self._before = None


def inside_nothing() -> bool:
    """Tell whether whoever asks is inside no block at all."""
    return _here.get() is None


def scopes() -> list[Scope]:
    """List the blocks around whoever asks, the innermost first, but for those whose permits have ended."""
    found, scope = [], _here.get()
    while scope is not None:
        if not scope.hold.closed:
            found.append(scope)
        scope = scope.outer
    return found


def around(account: Account) -> Hold | None:
    """Find the hold that a call on this account, made here, draws on: the innermost that is open."""
    if _here.get() is None:
        return None
    return next((scope.hold for scope in scopes() if scope.account is account), None)


_here: ContextVar[Scope | None] = ContextVar("budgetguard_scope", default=None)
