"""Checks of the settings that adapters share. Each raises `SettingError`, and none shows a secret in it."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from budgetguard._settings import SLOTS_MAX, given_address, seconds, whole
from budgetguard.errors import SettingError

__all__ = ["api_key", "header_text", "lease", "limit", "origin", "slots"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST_MAX = 253
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def origin(name: str, value: Any, *, path: str = "") -> str:
    """Check an address and give its origin: lower-case, without the scheme's own port.

    Args:
        name: The setting, for the message.
        value: What the user gave.
        path: A path that may follow; it is dropped.
    """
    right = "give an http(s) origin such as 'https://api.example.com', without user, query or fragment"
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise SettingError(name, given_address(value), right)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise SettingError(name, given_address(value), right) from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc or "\\" in value:
        raise SettingError(name, given_address(value), right)
    if "?" in value or "#" in value:
        raise SettingError(name, given_address(value), right)
    if parts.path.rstrip("/") not in ("", path):
        raise SettingError(
            name, given_address(value), f"{right}; of paths only {path!r} may follow" if path else f"{right} or path"
        )
    host = _host(parts.hostname, parts.netloc)
    if host is None or port == 0:
        raise SettingError(name, given_address(value), right)
    shown = "" if port is None or port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{host}{shown}"


def _host(host: str, netloc: str) -> str | None:
    """Give a host as everybody reads it; ``None`` for one that some read in another way than others."""
    if netloc.startswith("["):
        return f"[{host}]" if _is_address(host, 6) else None
    number = host.rpartition(".")[2]
    if number[:1].isdigit() and not number.isalpha():
        # 127.1, 0x7f000001 and 2130706433 are one address to some, and names to others.
        return host if _is_address(host, 4) else None
    return host if len(host) <= _HOST_MAX and _NAME.fullmatch(host) else None


def _is_address(host: str, version: int) -> bool:
    try:
        return "%" not in host and ip_address(host).version == version
    except ValueError:
        return False


def limit(name: str, value: Any) -> int | None:
    """Check a limit on concurrency: ``None``, or a whole number above 0."""
    if value is None:
        return None
    return whole(name, value, 1, SLOTS_MAX)


def slots(name: str, value: Any) -> int:
    """Check a number of slots, 0 or more."""
    return whole(name, value, 0, SLOTS_MAX)


def lease(name: str, value: Any) -> float:
    """Check a duration in seconds, above 0."""
    return seconds(name, value)


def header_text(name: str, value: Any) -> str:
    """Check the value of a header: printable ASCII, not empty, no space at either end."""
    if (
        not isinstance(value, str)
        or not value
        or not value.isascii()
        or not value.isprintable()
        or value.strip() != value
    ):
        raise SettingError(name, value, "give printable ASCII text without line breaks")
    return value


def api_key(value: Any) -> str:
    """Check a key; the message never shows it."""
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
        raise SettingError(
            "api_key", "(hidden)", "give the key as printable ASCII text without spaces or line breaks, and not empty"
        )
    return value
