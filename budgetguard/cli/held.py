"""What the guards that share a store hold of an account, for `budgetguard status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from budgetguard.cli.complaint import USAGE, complain
from budgetguard.errors import SettingError, StoreError
from budgetguard.guard import Guard
from budgetguard.model import State
from budgetguard.ports import Provider, Store
from budgetguard.stores import open_store
from budgetguard.stores._sqlite_place import default_path, path_of_url

__all__ = ["Held", "look", "opened"]

_PATIENCE = 1.0
"""Seconds to wait for others who keep the file."""


class Held:
    """How an account stands in a store."""

    def __init__(self, where: str, state: State) -> None:
        self.where = where
        self.state = state

    @property
    def known(self) -> bool:
        """Whether any guard has told the store of the account."""
        state = self.state
        return state.age is not None or bool(state.pools) or bool(state.credits_held)

    def document(self) -> dict[str, Any]:
        """Build the part of the JSON answer."""
        state = self.state
        pools = state.pools.values()
        limits = [pool.limit for pool in pools]
        frees = [pool.free for pool in pools]
        return {
            "where": self.where,
            "account": state.account,
            "credits_free": state.credits_free,
            "credits_held": state.credits_held,
            "slots_open": sum(pool.open for pool in pools),
            "slots_running": sum(pool.running for pool in pools),
            "slots_free": None if None in frees else sum(free or 0 for free in frees),
            "slots_limit": None if None in limits else sum(limit or 0 for limit in limits),
            "age": None if state.age is None else round(state.age, 3),
            "paused": round(state.paused, 3),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Say it to people: a word and a sentence for each row."""
        if not self.known:
            return [("guards", "[dim]none has used this account there[/dim]")]
        facts = self.document()
        age = "none yet" if facts["age"] is None else f"{_time(facts['age'])} old"
        free = "any number" if facts["slots_free"] is None else f"{facts['slots_free']:,}"
        rows = [
            ("guards", f"{facts['credits_held']:,} credits held, [bold]{facts['credits_free']:,}[/bold] free"),
            ("", f"{facts['slots_open']:,} slots of open calls, {facts['slots_running']:,} of tasks, {free} free"),
            ("", f"shared reading: {age}"),
        ]
        if facts["paused"]:
            rows.append(("", f"[yellow]paused for {_time(facts['paused'])}[/yellow]"))
        return rows


def opened(url: str | None) -> Store | None:
    """Open the store that is meant; ``None`` where nobody has made the file yet. Nothing is made in order to look.

    A wrong address ends the command.
    """
    try:
        if url is not None and not url.startswith("sqlite:"):
            return open_store(url)
        path = default_path() if url is None else path_of_url(url)
        if not _is_there(path):
            if url is not None:
                typer.echo(f"{path} does not exist, or is empty; no guard has used it.", err=True)
            return None
        from budgetguard.stores import SQLiteStore

        return SQLiteStore(path, busy_timeout=_PATIENCE)
    except SettingError as error:
        complain(str(error), USAGE)
    except StoreError as error:
        _tell(error)
        return None


def look(store: Store, provider: Provider, key: str, account: str | None, fingerprint_key: bytes | None) -> Held | None:
    """Look at the account of a key; where the store cannot be used, say so and go on without."""
    accounts = {} if account is None else {account: [key]}
    try:
        with Guard(provider, store=store, accounts=accounts, fingerprint_key=fingerprint_key) as guard:
            return Held(repr(store), guard.state(key))
    except SettingError as error:
        complain(str(error).replace(key, "***"), USAGE)
    except StoreError as error:
        _tell(error)
        return None
    finally:
        store.close()


def _is_there(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return False
        raise StoreError(f"{path} cannot be looked at ({error.strerror}).") from error


def _tell(error: StoreError) -> None:
    typer.echo(" ".join(f"What guards hold is not shown. {error}".split()), err=True)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
