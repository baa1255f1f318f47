"""The forms a key could be written in, and the search for them in files."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import mmap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

__all__ = ["Found", "Searched", "forms", "search"]

_PIECE, _STEP = 12, 6
"""A key that was cut is found by any 17 characters of it in a row: one piece of 12 begins every 6."""
_HASHES = ("md5", "sha1", "sha256", "sha512", "blake2b")


def forms(key: str) -> dict[str, list[bytes]]:
    """Name the forms a key could be written in, each with the bytes that give it away.

    Hashes without a secret count too: they are fast, and so let anybody try guesses.
    """
    raw = key.encode()
    pieces = [key[at : at + _PIECE] for at in range(0, max(1, len(key) - _PIECE + 1), _STEP)] + [key[-_PIECE:]]
    return {
        "as it is": [form.encode() for piece in pieces for form in (piece, piece.lower(), piece.upper())],
        "backwards": [piece[::-1].encode() for piece in pieces],
        "as UTF-16": [key.encode("utf-16-le"), key.encode("utf-16-be")],
        "for JSON": [json.dumps(key)[1:-1].encode(), json.dumps(json.dumps(key)[1:-1])[1:-1].encode()],
        "for Python": [repr(key)[1:-1].encode(), repr(raw)[2:-1].encode(), repr(repr(key))[1:-1].encode()],
        "for HTML": [html.escape(key).encode()],
        "in an address": [
            *(form.encode() for form in (quote(key), quote(key, safe=""), quote_plus(key))),
            *("".join(f"%{byte:{how}}" for byte in raw).encode() for how in ("02x", "02X")),
        ],
        "in hex": [raw.hex().encode(), raw.hex().upper().encode(), raw.hex(" ").encode()],
        "in base64": _base64(raw),
        "as numbers": [sep.join(map(str, raw)).encode() for sep in (", ", ",", " ")],
        "as a plain hash": [
            form
            for name in _HASHES
            for digest in [hashlib.new(name, raw, usedforsecurity=False).digest()]
            for form in (digest, digest.hex().encode(), digest.hex().upper().encode(), base64.b64encode(digest)[:-3])
        ],
    }


def _base64(raw: bytes) -> list[bytes]:
    """Give the letters that stand for it in any text: what comes before moves them, what follows changes the last."""
    found = []
    for before in range(3):
        text = base64.b64encode(b"\0" * before + raw)
        sure = text[4 * (before > 0) : 4 * ((before + len(raw)) // 3)]
        found += [sure, sure.translate(bytes.maketrans(b"+/", b"-_"))]
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """A key that was found. Says where, in which form and which of the keys; not the key."""

    file: str
    at: int
    form: str
    key: int

    def __str__(self) -> str:
        return f"{self.file}, byte {self.at}: key {self.key}, {self.form}"


@dataclass(slots=True)
class Searched:
    """What a search went through, and what it found: the first place in each file for each key and form."""

    files: int = 0
    bytes: int = 0
    found: list[Found] = field(default_factory=list)

    def __str__(self) -> str:
        return f"keys found: {len(self.found)} in {self.bytes} bytes of {self.files} files"


def search(folder: Path, keys: Iterable[str]) -> Searched:
    """Look for keys in the names and the content of all files in a folder and below."""
    wanted = [
        (number, form, pattern)
        for number, key in enumerate(keys)
        for form, patterns in forms(key).items()
        for pattern in dict.fromkeys(patterns)
    ]
    searched = Searched()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        name = str(path.relative_to(folder))
        searched.files += 1
        searched.bytes += path.stat().st_size
        seen = set[tuple[int, str]]()
        for content in (name.encode(), _content(path)):
            for number, form, pattern in wanted:
                if (number, form) not in seen and (at := content.find(pattern)) >= 0:
                    seen.add((number, form))
                    searched.found.append(Found(name, at, form, number))
    return searched


def _content(path: Path) -> bytes | mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
