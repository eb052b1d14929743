"""Slots, where connections should exist, and the plan of which to open and which to drain.

Everything about the number of connections follows from :func:`plan`, which is pure. A reconnect is
a slot without a connection; a connection that is too old is drained. Today a client has one slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from wsclient.sansio.backoff import Backoff, Budget
from wsclient.verdicts import Verdict

__all__ = ["MAIN", "Place", "Plan", "Slot", "SlotKey", "plan"]

INF = float("inf")


class SlotKey(NamedTuple):
    """The name of a slot: the address, the share of its channels, and the redundant line."""

    route: str = ""
    shard: int = 0
    line: int = 0


#: The only slot of a client with one address.
MAIN = SlotKey()


class Slot:
    """A place where a connection should exist, and the attempts to connect there.

    ``connects`` is the venue's budget of attempts, None for no limit. ``where`` is the address that
    errors name.
    """

    __slots__ = (
        "_backoff",
        "_connects",
        "_last_error",
        "_not_before",
        "_options",
        "attempts",
        "due_at",
        "is_established",
        "key",
        "last_reason",
        "where",
    )

    def __init__(
        self,
        key: SlotKey,
        options: Options,
        backoff: Backoff,
        connects: Budget | None,
        where: str = "the venue",
    ) -> None:
        self.key = key
        self.where = where
        self._options = options
        self._backoff = backoff
        self._connects = connects
        #: When the next attempt is due (monotonic s), while there is no connection.
        self.due_at = INF
        #: No attempt before this, by the venue's ``Retry-After`` (monotonic s).
        self._not_before = -INF
        #: Attempts since a connection was last healthy.
        self.attempts = 0
        #: A connection has been open here.
        self.is_established = False
        #: The error with which the last attempt or connection ended, and its text.
        self._last_error: BaseException | None = None
        self.last_reason = ""

    def begin(self, now: float) -> None:
        """Begin with the first attempt: a caller connects. The venue's limits are kept."""
        self._last_error = None
        self.prove_healthy()
        self.due_at = self._earliest(now)

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
        if not self.is_established and self.attempts >= self._options.max_retries:
            text = (
                f"no connection to {self.where} after {self.attempts} attempt(s): "
                f"{self.last_reason}"
            )
            return _chain(ConnectError(text, self.attempts), error)
        if self.is_established and limit is not None and self.attempts >= limit:
            text = (
                f"no connection to {self.where} after {self.attempts} reconnects in a row: "
                f"{self.last_reason}"
            )
            return _chain(ReconnectError(text), error)
        is_at_once = was_healthy and verdict is Verdict.RETRY
        delay = 0.0 if is_at_once else self._backoff.next(verdict)
        self.due_at = max(now + delay, self._earliest(now))
        return None

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


class Place(NamedTuple):
    """A slot as :func:`plan` sees it; all times are monotonic seconds.

    ``connection_id`` is None without a connection; the next attempt is then due at ``due_at``.
    ``opened_at`` is None until its handshake is complete, and once it drains.
    """

    slot: SlotKey
    due_at: float
    connection_id: int | None
    opened_at: float | None


class Plan(NamedTuple):
    """What to do now: the slots to open a connection in, and the connections to drain.

    ``belongs`` maps a slot to the new channels that belong there. ``next_at`` is when a new plan is
    due at the latest (monotonic s).
    """

    open: tuple[SlotKey, ...]
    drain: tuple[int, ...]
    belongs: dict[SlotKey, list[str]]
    next_at: float


def plan(
    now: float, places: Sequence[Place], max_age: float | None, unplaced: Iterable[str] = ()
) -> Plan:
    """Return which connections to open and to drain, and where each ``unplaced`` channel belongs.

    ``max_age`` is the age (s) at which the venue's limits require another connection, None for no
    limit. Changes nothing: the caller follows the plan.
    """
    opening, draining, times = [], [], [INF]
    for place in places:
        if place.connection_id is None:
            times.append(place.due_at)
            if now >= place.due_at:
                opening.append(place.slot)
        elif place.opened_at is not None and max_age is not None:
            times.append(place.opened_at + max_age)
            if now >= place.opened_at + max_age:
                draining.append(place.connection_id)
    names = list(unplaced)
    belongs = {places[0].slot: names} if places and names else {}
    return Plan(tuple(opening), tuple(draining), belongs, min(times))
