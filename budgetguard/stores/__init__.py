"""Where the counters live: what guards of one account share.

| store | shared by | survives |
|---|---|---|
| `MemoryStore` | threads and tasks of one process | nothing |
| `SQLiteStore` | processes of one machine | the end of any process, loss of power |
| `RedisStore` | machines | loss of any client; a restart of the server as that is configured |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from budgetguard._hidden import hide_address
from budgetguard._settings import given_address
from budgetguard.errors import SettingError
from budgetguard.ports import AsyncStore
from budgetguard.stores.memory import MemoryStore

if TYPE_CHECKING:
    from budgetguard.stores.redis import RedisStore as RedisStore
    from budgetguard.stores.sqlite import SQLiteStore as SQLiteStore

__all__ = ["MemoryStore", "RedisStore", "SQLiteStore", "open_store"]


def open_store(url: str) -> AsyncStore:
    """Make the store an address names. Since 0.1.

    Args:
        url: ``memory:``, ``sqlite:///accounts.db`` (see `SQLiteStore.from_url`), ``sqlite:`` for the usual file of this
            user, at which ``budgetguard status`` looks too, or one of ``redis://``, ``rediss://``, ``unix://``,
            ``valkey://``, ``valkeys://`` (see `RedisStore`; needs the extra ``[redis]``).

    Raises:
        SettingError: If it names none. The message does not show the address, which may hold a password.
    """
    url = hide_address(url)
    scheme = url.partition(":")[0].lower() if isinstance(url, str) else ""
    if scheme == "memory" and url[len("memory:") :].strip("/") == "":
        return MemoryStore()
    if scheme == "sqlite":
        from budgetguard.stores.sqlite import SQLiteStore  # noqa: PLC0415 - loaded by those who use it

        return SQLiteStore.from_url(url)
    if scheme in {"redis", "rediss", "unix", "valkey", "valkeys"}:
        from budgetguard.stores.redis import RedisStore  # noqa: PLC0415 - needs an extra

        return RedisStore(url)
    known = "give sqlite:///path, redis://host, rediss://host, unix:///socket, valkey://host or memory:"
    raise SettingError("store", given_address(url), known)


def __getattr__(name: str) -> Any:
    if name == "SQLiteStore":
        from budgetguard.stores.sqlite import SQLiteStore  # noqa: PLC0415 - as above

        return SQLiteStore
    if name == "RedisStore":
        from budgetguard.stores.redis import RedisStore  # noqa: PLC0415 - as above

        return RedisStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
