"""Keys in hand: usable as ever, and shown to nobody who prints the local names of a frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex, overload

from budgetguard.errors import SettingError

__all__ = ["Given", "Hidden", "hide", "hide_address", "hide_all"]


class Hidden(str):
    """A key whose ``repr`` does not show it.

    Error reporters print the local names of every frame a traceback passes, by their ``repr``, and cut off what is
    long.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "(hidden)"

    def __getitem__(self, part: SupportsIndex | slice) -> Hidden:
        return Hidden(super().__getitem__(part))


@overload
def hide(key: str, *, needed: bool = ...) -> Hidden: ...
@overload
def hide(key: str | None) -> Hidden | None: ...
def hide(key: Any, *, needed: bool = False) -> Hidden | None:
    """Hide a key that came as an argument; to be bound to the same name before anything may fail.

    Raises:
        SettingError: If it is no text, or is *needed* and not there.
    """
    if key is None and not needed:
        return None
    if not isinstance(key, str):
        raise SettingError("key", None if key is None else type(key).__name__, "give the API key as text")
    return Hidden(key)


def hide_all(keys: Any) -> Any:
    """Hide a key, or those in a list; anything else stays as it is."""
    if isinstance(keys, str):
        return Hidden(keys)
    return tuple(map(hide_all, keys)) if isinstance(keys, Iterable) and not isinstance(keys, bytes) else keys


def hide_address(address: Any) -> Any:
    """Hide an address that may hold a password; anything else stays as it is."""
    return Hidden(address) if isinstance(address, str) and "@" in address else address


class Given:
    """What a guard is given that is nobody else's business. Shows none of it."""

    __slots__ = ("accounts", "api_key", "fingerprint_key")

    def __init__(self, accounts: Any, fingerprint_key: Any, api_key: Any) -> None:
        self.accounts = {} if accounts is None else accounts
        self.fingerprint_key = fingerprint_key
        self.api_key = Hidden(api_key) if isinstance(api_key, str) else api_key
