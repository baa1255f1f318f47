"""Fingerprints: what an API key is called where it may be read, and seals on what is said of its account.

Whoever holds a store's content must not learn a key from it, not even by trying guesses. Keys that providers give out
cannot be guessed; one that somebody chose himself may be. So guesses are made dear: a fingerprint is made by scrypt,
which takes 16 MiB and tens of milliseconds for each. It takes no secret, so that guards with the same API key meet on
a store without being told anything. A secret of the user's own makes guessing from the store alone hopeless, and then
a keyed hash is enough.

A key's fingerprint is worked out once in a process and remembered under a keyed hash of the key, whose secret never
leaves the process. The key itself is remembered nowhere.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Iterable, Mapping
from typing import Any, overload

from budgetguard._hidden import Hidden, hide
from budgetguard.errors import SettingError

__all__ = ["Fingerprints"]

_SIZE = 8
"""Bytes of a fingerprint: two of a million accounts share one with a chance of 1 in 37 million."""
_SECRET_MIN = 16
"""Bytes from which a secret of the user's own counts as one that cannot be guessed."""
_COST = {"n": 2**14, "r": 8, "p": 1, "maxmem": 2**25}
_KNOWN_MAX = 4096

_MINE = secrets.token_bytes(32)
_known: dict[bytes, str] = {}
_lock = threading.Lock()


class Fingerprints:
    """The fingerprints of one provider's keys, under one secret. Safe to share between threads.

    Args:
        provider: The provider's name. The same key has another fingerprint at another provider.
        secret: The user's own; ``None`` if he gave none.
    """

    __slots__ = ("_marks", "_provider", "_salt", "_slow")

    def __init__(self, provider: str, secret: bytes | None) -> None:
        given = b"budgetguard account names" if secret is None else secret
        self._provider = provider
        self._salt = hashlib.blake2b(provider.encode(), key=given, digest_size=32, person=b"budgetguard salt").digest()
        self._slow = secret is None or len(secret) < _SECRET_MIN
        self._marks = hashlib.blake2b(self._salt, key=_MINE, digest_size=32).digest()

    @overload
    def of(self, key: str) -> str: ...
    @overload
    def of(self, key: None) -> None: ...
    @overload
    def of(self, key: str | None) -> str | None: ...
    def of(self, key: str | None) -> str | None:
        """Give a key's fingerprint, 16 hexadecimal digits; ``None`` for none."""
        if key is None:
            return None
        mark = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16, key=self._marks).digest()
        found = _known.get(mark)
        if found is None:
            key = hide(key)
            found = self._learn(key, mark)
        return found

    def _learn(self, key: Hidden, mark: bytes) -> str:
        # One at a time: a hundred threads that begin with the same key would need as many times the memory.
        with _lock:
            found = _known.get(mark)
            if found is None:
                found = self._make(key).hex()
                while len(_known) >= _KNOWN_MAX:
                    del _known[next(iter(_known))]
                _known[mark] = found
        return found

    def _make(self, key: Hidden) -> bytes:
        if self._slow:
            return hashlib.scrypt(key.encode("utf-8", "surrogatepass"), salt=self._salt, dklen=_SIZE, **_COST)
        return hashlib.blake2b(
            key.encode("utf-8", "surrogatepass"), digest_size=_SIZE, key=self._salt, person=b"budgetguard"
        ).digest()

    def named(self, accounts: Any) -> dict[str, str]:
        """Give each fingerprint of these accounts' keys the account's own name.

        Raises:
            SettingError: If it is no mapping of names to lists of keys. What was given may be keys, so none is shown.
        """
        hidden, right = "(hidden)", "give a mapping of account names to lists of API keys, each key under one name"
        names: dict[str, str] = {}
        name: Any = None
        keys: Any = ()
        key: Any = None
        found: str | None
        try:
            if not isinstance(accounts, Mapping):
                raise SettingError("accounts", hidden, right)
            for name, keys in accounts.items():
                if not isinstance(name, str) or not name or isinstance(keys, str) or not isinstance(keys, Iterable):
                    raise SettingError("accounts", hidden, right)
                for key in keys:
                    found = self.of(key) if isinstance(key, str) and key else None
                    if found is None or found in names:
                        right = f"{right}; a list has something else, or a key named before"
                        raise SettingError("accounts", hidden, right)
                    names[found] = f"{self._provider}:{name}"
            return names
        finally:
            del accounts, name, keys, key  # a traceback may show what this frame names

    def seal(self, account: str, body: bytes) -> bytes:
        """Seal what is said of an account: 12 bytes that fit no other account, nothing else, and no other secret."""
        key = hashlib.blake2b(account.encode(), digest_size=32, key=self._salt, person=b"budgetguard seal").digest()
        return hashlib.blake2b(body, digest_size=12, key=key, person=b"budgetguard seal").digest()

    def __repr__(self) -> str:
        return "Fingerprints()"


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - a thread that is not here any more may have held it
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
