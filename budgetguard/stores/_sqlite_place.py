"""Where the file is: a path, an address, or the usual place."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import unquote

from budgetguard._settings import given_address, seconds
from budgetguard.errors import SettingError

__all__ = ["default_path", "path_of", "path_of_url"]

_RIGHT = (
    "give sqlite:///accounts.db for a file below this folder, sqlite:////var/lib/accounts.db for an absolute path, "
    "or sqlite: for the usual place"
)


def default_path() -> Path:
    """Say where the command line keeps accounts: in the platform's folder for the state of programs. Since 0.1.

    That is ``$XDG_STATE_HOME/budgetguard/accounts.db`` (``~/.local/state`` where that is not set),
    ``~/Library/Application Support`` on macOS, and ``%LOCALAPPDATA%`` on Windows.
    """
    home = Path.home()
    if sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        named = os.environ.get("XDG_STATE_HOME", "")
        folder = Path(named) if Path(named).is_absolute() else home / ".local" / "state"
    return folder / "budgetguard" / "accounts.db"


def path_of(path: str | os.PathLike[str], *, busy_timeout: float) -> Path:
    """Check where a file shall be, and how long to wait for it.

    Raises:
        SettingError: If either cannot work.
    """
    seconds("busy_timeout", busy_timeout, zero=True)
    if not isinstance(path, (str, os.PathLike)):
        raise SettingError("path", path, "give the path of a file")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise SettingError("path", path, "give the path of a file")
    if text.lower().startswith(("sqlite:", "file:")):
        raise SettingError("path", given_address(text), "give a path, or use SQLiteStore.from_url()")
    if text == ":memory:":
        raise SettingError("path", path, "give the path of a file; MemoryStore keeps accounts in memory")
    # Absolute, so that a later change of the working folder does not lead to another file.
    return _expanded("path", text).absolute()


def path_of_url(url: str) -> Path:
    """Read the path out of an address.

    Raises:
        SettingError: If it is no such address.
    """
    if not isinstance(url, str) or not url.lower().startswith("sqlite:"):
        raise SettingError("url", given_address(url), _RIGHT)
    rest = url[len("sqlite:") :]
    if not rest:
        return default_path()
    path = unquote(rest.removeprefix("///"))
    if not rest.startswith("///") or not path or "?" in rest or "#" in rest or path == ":memory:":
        raise SettingError("url", given_address(url) if "@" in url else url, _RIGHT)
    found = _expanded("url", path)
    if not found.is_absolute() and not found.parent.is_dir():
        # Most likely an absolute path with a slash too few; a new folder here would split the account in two.
        raise SettingError("url", url, f"the folder {found.parent} does not exist below this one; {_RIGHT}")
    return found.absolute()


def _expanded(name: str, text: str) -> Path:
    """Find the home of whoever a path begins with, and see that the system can name the file."""
    try:
        found = Path(text).expanduser()
        os.fsencode(found)
    except (RuntimeError, ValueError) as error:
        raise SettingError(name, text, f"give a path that can be found ({error})".rstrip(".")) from None
    return found
