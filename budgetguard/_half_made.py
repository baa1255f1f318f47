"""The texts of objects that may not be whole."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

__all__ = ["even_half_made"]

T = TypeVar("T")


def even_half_made(show: Callable[[T], str]) -> Callable[[T], str]:
    """Let a ``__repr__`` work for an object whose ``__init__`` failed: tracebacks with local names show those too."""

    @functools.wraps(show)
    def shown(self: T) -> str:
        try:
            return show(self)
        except AttributeError:
            return f"{type(self).__name__}()"

    return shown
