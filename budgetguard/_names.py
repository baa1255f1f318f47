"""Names that nobody can guess and no two processes share."""

from __future__ import annotations

import os
import secrets

__all__ = ["new_name"]

_LENGTH = 12
"""Bytes of a name: 96 bits."""
_AHEAD = 256
"""Names whose randomness is drawn at once: asking the system costs more than all else together."""


class _Names:
    """Cuts names from randomness drawn ahead. Safe to share between threads: a list's ``pop`` is one step."""

    def __init__(self) -> None:
        self._ready: list[str] = []

    def draw(self) -> str:
        try:
            return self._ready.pop()
        except IndexError:
            text = secrets.token_bytes(_LENGTH * _AHEAD).hex()
            names = [text[at : at + 2 * _LENGTH] for at in range(0, len(text), 2 * _LENGTH)]
            name = names.pop()
            self._ready.extend(names)
            return name

    def forget(self) -> None:
        """Draw anew: after a fork the parent would give out the same names."""
        self._ready = []


_names = _Names()
new_name = _names.draw
"""Draw a name: 24 hexadecimal digits."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_names.forget)
