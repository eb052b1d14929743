"""Slots: places where a connection should exist.

A slot has one connection, two while one replaces the other, and none between two attempts.
"""

from __future__ import annotations

from typing import NamedTuple

from wsclient.errors import (
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    ReconnectError,
    WSClientError,
)
from wsclient.options import Options
from wsclient.sansio.backoff import Backoff, Connects
from wsclient.sansio.outages import Outage
from wsclient.verdicts import Verdict

__all__ = ["MAIN", "Slot", "SlotKey"]

INF = float("inf")


class SlotKey(NamedTuple):
    """The name of a slot: the address, the share of its channels, and the redundant line."""

    route: str = ""
    shard: int = 0
    line: int = 0

    def __str__(self) -> str:
        if not self.route:
            return f"shard {self.shard}"
        return f"{self.route}/{self.shard}" if self.shard else self.route


#: The only slot of a client with one address.
MAIN = SlotKey()


class Slot:
    """A place where a connection should exist, and the attempts to connect there.

    ``connects`` is the budget of attempts at its address, None for no limit. ``outage`` is its time
    without a connection that works. ``where`` is the address that errors name.
    """

    __slots__ = (
        "_backoff",
        "_connects",
        "_last_error",
        "_not_before",
        "_options",
        "attempts",
        "channels",
        "due_at",
        "is_established",
        "is_first",
        "is_pinned",
        "key",
        "last_reason",
        "messages",
        "outage",
        "was_lost",
        "where",
    )

    def __init__(
        self,
        key: SlotKey,
        options: Options,
        backoff: Backoff,
        connects: Connects | None,
        outage: Outage,
        where: str = "the venue",
    ) -> None:
        self.key = key
        self.where = where
        self.outage = outage
        #: The channels that belong here, in the order of their subscribes.
        self.channels: dict[str, None] = {}
        #: How many messages the connections have delivered that have ended.
        self.messages = 0
        #: A caller has asked for a connection here, whether it has channels or not.
        self.is_pinned = False
        self._options = options
        self._backoff = backoff
        self._connects = connects
        #: When the next attempt may begin (monotonic s).
        self.due_at = INF
        #: No attempt before this, by the venue's ``Retry-After`` (monotonic s).
        self._not_before = -INF
        #: Attempts since a connection was last healthy.
        self.attempts = 0
        #: No slot had a connection before: its attempts are limited.
        self.is_first = True
        #: A connection has been open here.
        self.is_established = False
        #: The last connection was lost, and no other one has opened since.
        self.was_lost = False
        #: The error with which the last attempt or connection ended, and its text.
        self._last_error: BaseException | None = None
        self.last_reason = ""

    def begin(self, now: float) -> None:
        """Begin with the first attempt: a caller connects. The venue's limits are kept."""
        self._last_error = None
        self.prove_healthy()
        self.due_at = self._earliest(now)

    def may_dial(self, now: float) -> bool:
        """Return whether the venue's limits allow an attempt now. If not, it is due later."""
        self.due_at = max(self.due_at, self._earliest(now))
        return self.due_at <= now

    def dialed(self, now: float) -> None:
        """Note that an attempt begins."""
        self.attempts += 1
        if self._connects is not None:
            self._connects.spend(now)

    def opened(self) -> None:
        """Note that a connection is open; the attempts of the first connect are over."""
        if not self.is_established:
            self.is_established = True
            self.attempts = 0

    def prove_healthy(self) -> None:
        """Note that the connection works: the next outage begins with the shortest delay."""
        self.attempts = 0
        self._backoff.reset()

    def ended(
        self, error: BaseException, verdict: Verdict, now: float, *, was_healthy: bool
    ) -> WSClientError | None:
        """Note that the connection has ended, or its attempt has failed.

        ``was_healthy``: it was open and healthy. Returns None if another attempt follows, else the
        error for callers. If no connection was ever open and the verdict is not FATAL, that is a
        ConnectError, after which ``connect()`` may be called again.
        """
        self._last_error = error
        self._not_before = now + (getattr(error, "retry_after", None) or 0.0)
        limit = self._options.max_reconnects
        if verdict is Verdict.FATAL:
            return self._fatal(error)
        is_starting = self.is_first and not self.is_established
        if is_starting and self.attempts >= self._options.max_retries:
            text = (
                f"no connection to {self.where} after {self.attempts} attempt(s): "
                f"{self.last_reason}"
            )
            return _chain(ConnectError(text, self.attempts), error)
        if not is_starting and limit is not None and self.attempts >= limit:
            text = (
                f"no connection to {self.where} after {self.attempts} reconnects in a row: "
                f"{self.last_reason}"
            )
            return _chain(ReconnectError(text), error)
        self._wait(verdict, now, is_at_once=was_healthy and verdict is Verdict.RETRY)
        return None

    def successor_failed(self, error: BaseException, verdict: Verdict, now: float) -> None:
        """Note that the attempt to replace a connection, which still works, has failed."""
        self._not_before = now + (getattr(error, "retry_after", None) or 0.0)
        self.attempts = 0
        # What is fatal for an attempt may pass until the connection ends; it is tried seldom.
        self._wait(Verdict.RATE_LIMITED if verdict is Verdict.FATAL else verdict, now)

    def _wait(self, verdict: Verdict, now: float, *, is_at_once: bool = False) -> None:
        delay = 0.0 if is_at_once else self._backoff.next(verdict)
        self.due_at = max(now + delay, self._earliest(now))

    def timeout(self) -> ConnectTimeout:
        """Return the error of a ``connect()`` whose time is over."""
        last = self._last_error
        detail = "" if last is None else f"; the last attempt failed: {self.last_reason}"
        text = f"not connected to {self.where} within the timeout{detail}"
        error = ConnectTimeout(text, self.attempts)
        error.__cause__ = last
        return error

    def _earliest(self, now: float) -> float:
        """Return when the venue's ``Retry-After`` and ``Limits.connects`` allow an attempt."""
        ready = now if self._connects is None else self._connects.ready_at(now)
        return max(ready, self._not_before)

    def _fatal(self, error: BaseException) -> WSClientError:
        if isinstance(error, WSClientError) and not isinstance(
            error, (HandshakeRejected, ConnectionLost)
        ):
            return error
        text = f"no connection to {self.where}: {self.last_reason}; not retried"
        return _chain(ConnectError(text, self.attempts), error)


def _chain(error: WSClientError, cause: BaseException) -> WSClientError:
    error.__cause__ = cause
    return error
