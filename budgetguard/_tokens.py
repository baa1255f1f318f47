"""Tokens: what a permit is called outside its process."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from budgetguard.errors import PermitError

__all__ = ["Token", "is_token"]

_VERSION = "bg1."
"""What a token begins with, and no provider's id of a task does."""
_SEAL = 12
_CHECK = 4
"""Bytes that tell a token that was cut or mistyped from one that is somebody else's. The seal is what protects."""
_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says.

    Attributes:
        id: The reservation. Its 96 random bits cannot be guessed.
        task_id: The task it became, if that was known when the token was made.
        seal: A hash of both, keyed for the account: neither can be exchanged, nor used on another account.
    """

    id: str
    task_id: str = ""
    seal: bytes = bytes(_SEAL)

    @property
    def said(self) -> bytes:
        """What the seal is put on."""
        return f"{self.id}{_SEPARATOR}{self.task_id}".encode()

    def sealed(self, seal: Callable[[bytes], bytes]) -> Token:
        """Put the seal on."""
        return replace(self, seal=seal(self.said))

    def dumps(self) -> str:
        """Write it down: letters, digits, ``.``, ``-`` and ``_``, fit for an address or a database."""
        body = self.seal + self.said
        check = zlib.crc32(body).to_bytes(_CHECK, "big")
        return _VERSION + base64.urlsafe_b64encode(check + body).decode().rstrip("=")

    @classmethod
    def loads(cls, text: str) -> Token:
        """Read it back.

        Raises:
            PermitError: If it was cut short or changed.
        """
        try:
            coded = text.removeprefix(_VERSION).encode("ascii")
            raw = base64.b64decode(coded + b"=" * (-len(coded) % 4), altchars=b"-_", validate=True)
            check, body = raw[:_CHECK], raw[_CHECK:]
            name, _, task_id = body[_SEAL:].decode().partition(_SEPARATOR)
            token = cls(name, task_id, body[:_SEAL])
            # Written down again it must be the same: base64 can spell some things in several ways.
            whole = zlib.crc32(body).to_bytes(_CHECK, "big") == check and token.dumps() == text
        except (ValueError, binascii.Error):
            token, whole = cls(""), False
        if not whole:
            raise PermitError(
                "This token cannot be read: it was cut short or changed. Keep it whole, as permit.token gave it."
            )
        return token


def is_token(text: str) -> bool:
    """Tell a token from a provider's id of a task."""
    return text.startswith(_VERSION)
