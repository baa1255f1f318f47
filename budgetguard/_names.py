"""Names that nobody can guess and no two processes share."""

from __future__ import annotations

import os
import secrets

from budgetguard._core.records import PORTABLE

__all__ = ["new_name", "new_portable_name"]

_LENGTH = 12
"""Bytes of a name: 96 bits."""
_AHEAD = 256
"""Names whose randomness is drawn at once: asking the system costs more than all else together."""


class _Names:
    """Cuts names from randomness drawn ahead. Safe to share between threads: a list's ``pop`` is one step."""

    def __init__(self, sign: str = "") -> None:
        self._sign = sign
        self._ready: list[str] = []

    def draw(self) -> str:
        try:
            return self._ready.pop()
        except IndexError:
            text = secrets.token_bytes(_LENGTH * _AHEAD).hex(",", _LENGTH)
            names = (self._sign + text.replace(",", f",{self._sign}")).split(",")
            name = names.pop()
            self._ready.extend(names)
            return name

    def forget(self) -> None:
        """Draw anew: after a fork the parent would give out the same names."""
        self._ready = []


_names, _portable_names = _Names(), _Names(PORTABLE)
new_name = _names.draw
"""Draw a name: 24 hexadecimal digits."""
new_portable_name = _portable_names.draw
"""Draw one that can be kept in a token."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_names.forget)
    os.register_at_fork(after_in_child=_portable_names.forget)
