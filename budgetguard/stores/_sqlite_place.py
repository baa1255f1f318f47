"""Where the file is: a path, an address, or the usual place."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from urllib.parse import unquote

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
    if not isinstance(busy_timeout, (int, float)) or not math.isfinite(busy_timeout) or busy_timeout < 0:
        raise SettingError("busy_timeout", busy_timeout, "give seconds, 0 or more")
    if not isinstance(path, (str, os.PathLike)):
        raise SettingError("path", path, "give the path of a file")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise SettingError("path", path, "give the path of a file")
    if text.lower().startswith(("sqlite:", "file:")):
        raise SettingError("path", path, "give a path, or use SQLiteStore.from_url()")
    if text == ":memory:":
        raise SettingError("path", path, "give the path of a file; MemoryStore keeps accounts in memory")
    # Absolute, so that a later change of the working folder does not lead to another file.
    return Path(text).expanduser().absolute()


def path_of_url(url: str) -> Path:
    """Read the path out of an address.

    Raises:
        SettingError: If it is no such address.
    """
    if not isinstance(url, str) or not url.lower().startswith("sqlite:"):
        raise SettingError("url", url, _RIGHT)
    rest = url[len("sqlite:") :]
    if not rest:
        return default_path()
    path = unquote(rest.removeprefix("///"))
    if not rest.startswith("///") or not path or "?" in rest or "#" in rest or path == ":memory:":
        raise SettingError("url", url, _RIGHT)
    found = Path(path).expanduser()
    if not found.is_absolute() and not found.parent.is_dir():
        # Most likely an absolute path with a slash too few; a new folder here would split the account in two.
        raise SettingError("url", url, f"the folder {found.parent} does not exist below this one; {_RIGHT}")
    return found.absolute()
