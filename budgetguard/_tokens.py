"""Tokens: what a permit is called outside its process."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass

from budgetguard.errors import PermitError

__all__ = ["Token", "is_token"]

_VERSION = "bg1."
"""What a token begins with, and no provider's id of a task does."""
_SEAL = 6
"""Bytes that tell one account from another."""
_CHECK = 4
_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says.

    Attributes:
        seal: A keyed hash of the account's name.
        id: The reservation. Its 96 random bits cannot be guessed.
        task_id: The task it became, if that was known when the token was made.
    """

    seal: bytes
    id: str
    task_id: str = ""

    def dumps(self) -> str:
        """Write it down: letters, digits, ``.``, ``-`` and ``_``, fit for an address or a database."""
        body = self.seal + f"{self.id}{_SEPARATOR}{self.task_id}".encode()
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
            whole = zlib.crc32(body).to_bytes(_CHECK, "big") == check
        except (ValueError, binascii.Error):
            name, task_id, body, whole = "", "", b"", False
        if not whole:
            raise PermitError(
                "This token cannot be read: it was cut short or changed. Keep it whole, as permit.token gave it."
            )
        return cls(body[:_SEAL], name, task_id)


def is_token(text: str) -> bool:
    """Tell a token from a provider's id of a task."""
    return text.startswith(_VERSION)
