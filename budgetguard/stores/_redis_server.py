"""Where the server is and how connections to it are made, without ever telling its password."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import redis.asyncio.connection
import redis.connection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - as the client names it
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - as the client names it
    TryAgainError,
)
from redis.retry import Retry

from budgetguard._half_made import even_half_made
from budgetguard._hidden import Hidden, hide_address
from budgetguard._settings import given_address
from budgetguard.errors import SettingError, StoreError
from budgetguard.stores._redis_wire import SCRIPT, Args, Call, Page

__all__ = ["Conversation", "NotConnected", "Server"]

_SCHEMES = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}
_FORGOTTEN = ("max_connections", "connection_class")
_PAUSE = 0.02
_parse: Any = redis.connection.parse_url  # untyped there
_PAUSE_MAX = 0.5
_AT_ONCE = 5
"""Tries that follow each other without a pause, while each makes up for what the one before it lacked."""
_COMMANDS = (
    "EVALSHA, SCRIPT LOAD, HGET, HSET, HSETNX, HEXISTS, HDEL, HSCAN, ZADD, ZREM, ZRANGEBYSCORE, TIME, GET, SET, "
    "PUBLISH, PEXPIREAT, SUBSCRIBE, UNSUBSCRIBE, and SELECT where the address names a database"
)
"""What the script does needs the right of whoever calls it."""

_NO_ANSWER: Exception = ConnectionError("no answer")

Conversation = Generator[list[Args] | float, list[Any], None]
"""What to send next, or how many seconds to wait before; takes the replies. A connection is dropped before a pause."""


class NotConnected(RedisError):
    """No connection could be opened, so nothing was sent; the reason is its cause."""


class Server:
    """A server's address and settings. Immutable; safe to share between threads."""

    def __init__(self, url: str, timeout: float, options: Mapping[str, Any]) -> None:
        url = hide_address(url)
        scheme = url.partition("://")[0].lower() if isinstance(url, str) and "://" in url else ""
        if scheme not in _SCHEMES:
            # The address may hold a password wherever it is wrong, so it is not shown.
            right = f"give an address that begins with one of {', '.join(f'{name}://' for name in _SCHEMES)}"
            raise SettingError("url", given_address(url), right)
        plain = Hidden(f"{_SCHEMES[scheme]}{url[len(scheme) :]}")
        _check(scheme, plain)
        self.timeout = timeout
        try:
            self._blocking = self._settings(_parse(plain), options)
            self._blocking["retry"] = Retry(NoBackoff(), 0)
            self._blocking["socket_timeout"] = self._blocking["socket_connect_timeout"] = timeout / 2
            self._class = self._blocking.pop("class", redis.connection.Connection)
            self._async = self._settings(dict(redis.asyncio.connection.parse_url(plain)), options)
            self._async["retry"] = AsyncRetry(NoBackoff(), 0)
            self._async["socket_timeout"] = self._async["socket_connect_timeout"] = None
            self._async_class = self._async.pop("class", redis.asyncio.connection.Connection)
            self.connection()
        except (ValueError, TypeError, RedisError) as error:
            wrong = type(error).__name__
        else:
            wrong = ""
        if wrong:
            # Not from in there: an error reporter would show what redis-py names in its frames, the password too.
            raise SettingError(
                "url",
                f"{scheme}://...",
                f"the address or a setting in it is not understood ({wrong}); give for instance "
                "redis://user:password@host:6379/0, with % signs for special characters of the password",
            )
        self.where = self._where(scheme, urlsplit(plain).hostname)
        self._secret = str(self._blocking.get("password") or "")

    def _settings(self, parsed: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        settings = {**parsed, **options}
        if "connection_class" in settings:
            settings["class"] = settings["connection_class"]
        for name in _FORGOTTEN:
            settings.pop(name, None)
        settings |= {"decode_responses": False, "encoding": "utf-8", "protocol": 2, "health_check_interval": 0}
        settings |= {"retry_on_timeout": False}
        return settings

    def _where(self, scheme: str, host: str | None) -> str:
        settings = self._blocking
        if scheme == "unix":
            return f"unix://{settings.get('path', '')}"
        return f"{scheme}://{host or 'localhost'}:{settings.get('port', 6379)}/{settings.get('db', 0)}"

    def connection(self) -> Any:
        """Make a connection that is not open yet."""
        return self._class(**self._blocking)

    def async_connection(self) -> Any:
        """Make a connection that is not open yet, for the running event loop."""
        return self._async_class(**self._async)

    def settle(self, calls: Sequence[Call | Page], outcome: list[Any] | Exception) -> list[Any] | Exception | None:
        """Hand out what came back, if nothing is amiss: that is all then, and it gives ``None``.

        Else it gives what a conversation has to begin with: what is amiss, or nothing where a call is to be sent anew.
        """
        if isinstance(outcome, Exception):
            return outcome
        for reply in outcome:
            if isinstance(reply, Exception):
                return outcome
        return [] if self._take(calls, outcome)[2] else None

    def converse(
        self, calls: Sequence[Call | Page], deadline: float, clock: Any, first: list[Any] | Exception
    ) -> Conversation:
        """Get every call answered, in spite of what may happen on the way, or failed with a `StoreError`.

        A call whose answer was lost is sent again: the server does it once. *first* is what `settle` gave.
        """
        tries, in_doubt = 0, False
        pending = [call for call in calls if not call.done]
        load = False
        given = first or None
        while pending:
            tries += 1
            commands = [call.command for call in pending]
            if load:
                commands.insert(0, ["SCRIPT", "LOAD", SCRIPT])
            try:
                before, given = given, None
                replies = (yield commands) if before is None else _given(before)
            except (NotConnected, ConnectionError, TimeoutError, OSError) as error:
                in_doubt = in_doubt or (not isinstance(error, NotConnected) and any(call.writes for call in pending))
                trouble: Exception = _root(error)
                if isinstance(trouble, AuthenticationError | AuthorizationError | NoPermissionError):
                    return self._fail(pending, self._denied(trouble), trouble)
            except Exception as error:  # noqa: BLE001 - whatever it is, no caller is left without an answer
                return self._fail(pending, self._unasked(error), error)
            else:
                if load and isinstance(refusal := replies.pop(0), Exception):
                    return self._fail(pending, self._explain(refusal), refusal)
                trouble, load, learnt = self._take(pending, replies)
                pending = [call for call in pending if not call.done]
                if (load or learnt) and tries < _AT_ONCE:
                    continue
            if not pending:
                return None
            pause = 0.0 if tries == 1 else min(_PAUSE_MAX, _PAUSE * 2**tries) * (0.5 + random.random())  # noqa: S311
            if clock() + pause >= deadline:
                why = self._unreachable(trouble, tries, in_doubt=in_doubt)
                return self._fail(pending, why, trouble, unreachable=True)
            yield pause
        return None

    def _take(self, pending: Sequence[Call | Page], replies: Sequence[Any]) -> tuple[Exception, bool, bool]:
        """Hand out the replies; gives what may pass if one waits, and whether the script or names were missing."""
        trouble = _NO_ANSWER
        missing = learnt = False
        for call, reply in zip(pending, replies, strict=True):
            if not isinstance(reply, Exception):
                try:
                    call.answer(reply)
                    learnt = learnt or not call.done
                except (ValueError, TypeError) as error:
                    self._fail([call], self._unasked(error), error)
            elif isinstance(reply, NoScriptError):
                trouble, missing = reply, True
            elif isinstance(reply, ReadOnlyError | ClusterDownError | TryAgainError) or _is(reply, "BUSY"):
                trouble = reply
            else:
                self._fail([call], self._explain(reply), reply)
        return trouble, missing, learnt

    def _fail(self, calls: Sequence[Call | Page], message: str, cause: Exception, *, unreachable: bool = False) -> None:
        for call in calls:
            failure = StoreError(message, unreachable=unreachable)
            failure.__cause__ = cause
            call.fail(failure)

    def _said(self, error: Exception) -> str:
        text = str(error).strip().rstrip(".")[:200]
        if self._secret:
            text = text.replace(self._secret, "***")
        return f"{type(error).__name__}: {text}" if text else type(error).__name__

    def _unreachable(self, error: Exception, tries: int, *, in_doubt: bool) -> str:
        doubt = " It may have been applied." if in_doubt else ""
        return (
            f"The store at {self.where} gave no answer in {self.timeout:g} s, at the {_ordinal(tries)} try "
            f"({self._said(error)}).{doubt} Check that the server runs and can be reached from here. Without it no "
            "paid call is let through, but for the time of Policy(store_grace=...)."
        )

    def _unasked(self, error: Exception) -> str:
        return (
            f"The store at {self.where} could not be asked ({self._said(error)}). Check that a Redis or Valkey "
            "server answers at this address, and that nothing else writes under the prefix."
        )

    def _denied(self, error: Exception) -> str:
        return (
            f"The store at {self.where} does not let us in ({self._said(error)}). Check the user and the password in "
            "the address, with % signs for special characters."
        )

    def _explain(self, error: Exception) -> str:
        said = self._said(error)
        if isinstance(error, NoPermissionError):
            remedy = f"Allow this user the commands {_COMMANDS}, and the keys and the channels of the prefix"
        elif isinstance(error, OutOfMemoryError) or _is(error, "OOM"):
            remedy = "Nothing was changed. Give the server more memory, or another server to the other users of it"
        elif isinstance(error, MovedError):
            remedy = "It is a node of a cluster; give the address of a server, or of a proxy in front of the cluster"
        elif _is(error, "LAYOUT"):
            remedy = "Another version of this library wrote there; use the same version, or another prefix"
        elif _is(error, "WRONGTYPE"):
            remedy = "Something else wrote there; choose another prefix"
        elif _is(error, "MISCONF") or _is(error, "NOREPLICAS"):
            remedy = "Mend the server's persistence or replication, which it was told to insist on"
        else:
            remedy = "This is not expected of Redis 7.0 or Valkey 7.2 and later; look at the server's log"
        return f"The store at {self.where} refused the call ({said}). {remedy}."

    @even_half_made
    def __repr__(self) -> str:
        return f"Server({self.where!r})"


def _check(scheme: str, plain: str) -> None:
    # What redis-py would overlook. The parts may be those of a password, so they are not shown.
    try:
        path = Hidden(unquote(urlsplit(plain).path).strip("/"))
    except ValueError:
        return  # told with the rest
    if scheme == "unix":
        if not path:
            raise SettingError(
                "url", "unix://...", "give the whole path of the socket, with three slashes: unix:///run/valkey.sock"
            )
    elif path and not (path.isascii() and path.isdigit()):
        raise SettingError(
            "url",
            f"{scheme}://...",
            "what follows the port is the number of a database; give for instance redis://user:password@host:6379/0, "
            "with % signs for special characters of the password",
        )


def _given(outcome: list[Any] | Exception) -> list[Any]:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _root(error: BaseException) -> Exception:
    """Find what a server or a socket said: the client wraps a refusal of the password into a lost connection."""
    found = error
    while isinstance(found.__cause__, RedisError | OSError) and not isinstance(found, AuthenticationError):
        found = found.__cause__
    return found if isinstance(found, Exception) else ConnectionError()


def _is(error: Exception, kind: str) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith(kind)


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
