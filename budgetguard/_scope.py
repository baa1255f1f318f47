"""Where a call is made: inside the block of which permit, or inside which job."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

from budgetguard._core.account import Account, Hold

__all__ = ["Scope", "around", "innermost", "inside"]


class Scope:
    """The block of one permit, as a link in the chain of those around a call. The permit is one."""

    _guard: Any
    _account: Any
    _around: Scope | None = None
    _before: Token[Scope | None] | None = None

    @property
    def _hold(self) -> Hold:
        """What the permit holds. Asking for it ends a permit's time on the quick path."""
        raise NotImplementedError

    def _open(self) -> None:
        """Begin: calls made from here on, and in tasks and threads that copy this context, are inside."""
        self._around = _here.get()
        self._before = _here.set(self)

    def _close(self) -> None:
        """End it. Harmless where it did not begin."""
        before = self._before
        if before is not None:
            self._before = None
            try:
                _here.reset(before)
            except ValueError:
                return  # left in another context than entered: that one is gone

    def _open_around(self) -> list[Scope]:
        """List this and the blocks around it, but for those whose permits have ended."""
        found: list[Scope] = []
        scope: Scope | None = self
        while scope is not None:
            if not scope._hold.closed:
                found.append(scope)
            scope = scope._around
        return found

    @staticmethod
    def _of(guard: object) -> Scope | None:
        """Find the innermost open block of a guard around whoever asks."""
        here = _here.get()
        scopes = [] if here is None else here._open_around()
        return next((scope for scope in scopes if scope._guard is guard), None)

    @staticmethod
    def _holding(account: Account) -> Hold | None:
        here = _here.get()
        scopes = [] if here is None else here._open_around()
        return next((scope._hold for scope in scopes if scope._account is account), None)


_here: ContextVar[Scope | None] = ContextVar("budgetguard_scope", default=None)
inside = _here.get
"""Give the innermost block around whoever asks, or ``None``."""


def innermost(guard: object) -> Any:
    """Find the permit of the innermost block of a guard around whoever asks; ``None`` if there is none."""
    return Scope._of(guard)  # pyright: ignore[reportPrivateUsage]


def around(account: Account) -> Hold | None:
    """Find the hold that a call on this account, made here, draws on: the innermost that is open."""
    return Scope._holding(account)  # pyright: ignore[reportPrivateUsage]
