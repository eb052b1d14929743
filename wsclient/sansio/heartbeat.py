"""The heartbeat: when to ping, and when a connection is half-open, stalled, deaf or silent.

The watchdog passes in what it can see of the connection (:class:`ConnectionView`), and gets back
what to do. Each verdict has one deadline; :meth:`HeartbeatMonitor.deadline` is the earliest.

When the watchdog itself was stopped (by SIGSTOP, or a thread that held the interpreter's lock), a
verdict is delayed once until the reader had time to read, and a stop is excluded once from the
length of a silence. While more stops are expected, pings are sent earlier by the length of one
stop: so a half-open connection is detected within interval, timeout and one stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wsclient.errors import ConnectionLost
from wsclient.sansio.stops import Stops

__all__ = ["ConnectionView", "HeartbeatMonitor"]

#: How long (s) our own threads may take after a stop to read and write what is waiting.
GRACE = 0.2
#: How long (s) after a stop another one is expected.
EXPECTED = 60.0
#: A ping is sent after this fraction of the interval at the earliest, even if stops are long.
EARLIEST_PING = 0.25


class ConnectionView(NamedTuple):
    """The observable state of a connection; all times are monotonic seconds.

    ``last_byte_at``: when bytes last arrived; the current time if bytes wait to be read.
    ``in_frame``: a frame has begun and is not complete.
    ``unsent_since``: since when bytes wait to be sent without any progress; None if none wait.
    """

    last_byte_at: float
    in_frame: bool = False
    unsent_since: float | None = None


class HeartbeatMonitor:
    """The checks of one connection. All durations are in seconds; None disables a check."""

    __slots__ = (
        "_expected_until",
        "_frame_at",
        "_keepalive_at",
        "_keepalive_interval",
        "_opened_at",
        "_ping_interval",
        "_ping_timeout",
        "_ping_unanswered",
        "_pinged_at",
        "_send_timeout",
        "_silence_timeout",
        "_stall_timeout",
        "_stop",
        "_stops",
    )

    def __init__(
        self,
        now: float,
        *,
        ping_interval: float | None,
        ping_timeout: float | None,
        silence_timeout: float | None,
        stall_timeout: float | None,
        send_timeout: float | None,
        keepalive_interval: float | None = None,
        stops: Stops | None = None,
    ) -> None:
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._silence_timeout = silence_timeout
        self._stall_timeout = stall_timeout
        self._send_timeout = send_timeout
        self._keepalive_interval = keepalive_interval
        self._pinged_at = now
        self._ping_unanswered = False
        self._keepalive_at = now
        self._frame_at = now
        self._opened_at = now
        self._stops = stops or Stops()
        #: The length (s) of the longest recent stop, and until when another one is expected.
        self._stop = 0.0
        self._expected_until = now

    def frame_received(self, now: float) -> None:
        """Note any frame but a pong: the peer is not silent."""
        self._frame_at = now

    def pong_received(self) -> None:
        """Note a pong: the ping is answered."""
        self._ping_unanswered = False

    def stopped(self, now: float, length: float) -> None:
        """Note the end of a stop of ``length`` (s), which is already among the stops."""
        if length >= self._stop or now >= self._expected_until:
            self._stop, self._expected_until = length, now + EXPECTED

    def ping_due(self, now: float) -> bool:
        """Return whether a ping is due; if so, it counts as sent."""
        if now >= self._expected_until:
            self._stop = 0.0
        if self._ping_interval is None or self._ping_unanswered or now < self._next_ping_at():
            return False
        self._pinged_at = now
        self._ping_unanswered = self._ping_timeout is not None
        return True

    def _next_ping_at(self) -> float:
        interval = self._ping_interval or 0.0
        return self._pinged_at + max(interval - self._stop, EARLIEST_PING * interval)

    def keepalive_due(self, now: float) -> bool:
        """Return whether the venue's own ping is due; if so, it counts as sent."""
        if self._keepalive_interval is None or now < self._keepalive_at + self._keepalive_interval:
            return False
        self._keepalive_at = now
        return True

    def failure(self, now: float, view: ConnectionView) -> ConnectionLost | None:
        """Return why this connection is dead, or None."""
        for deadline, reason, why in self._deadlines(view):
            if now >= deadline:
                return ConnectionLost(why, reason=reason)
        return None

    def deadline(self, view: ConnectionView) -> float:
        """Return when to check again at the latest (monotonic s, ``inf`` for never)."""
        times = [deadline for deadline, _, _ in self._deadlines(view)]
        if self._ping_interval is not None and not self._ping_unanswered:
            times.append(self._next_ping_at())
        if self._keepalive_interval is not None:
            times.append(self._keepalive_at + self._keepalive_interval)
        return min(times, default=float("inf"))

    def _deadlines(self, view: ConnectionView) -> Iterator[tuple[float, str, str]]:
        heard_at = max(view.last_byte_at, self._opened_at)
        if self._ping_unanswered and self._ping_timeout is not None:
            # A large frame may delay the pong: any byte that arrives extends the deadline.
            yield (
                self._excused(heard_at, max(self._pinged_at, heard_at) + self._ping_timeout),
                "half-open",
                f"no pong and no byte for {self._ping_timeout:g} s (half-open connection)",
            )
        if view.in_frame and self._stall_timeout is not None:
            yield (
                self._excused(heard_at, heard_at + self._stall_timeout),
                "stalled",
                f"a frame stopped half way: no byte for {self._stall_timeout:g} s",
            )
        if view.unsent_since is not None and self._send_timeout is not None:
            yield (
                self._excused(view.unsent_since, view.unsent_since + self._send_timeout),
                "deaf",
                f"the peer did not read for {self._send_timeout:g} s",
            )
        if self._silence_timeout is not None:
            yield (
                self._frame_at + self._silence_timeout + self._stops.excuse(self._frame_at),
                "silent",
                f"no frame but pongs for {self._silence_timeout:g} s",
            )

    def _excused(self, since: float, deadline: float) -> float:
        """Return the deadline, or a short time after a stop if that is later.

        The operating system reads and writes during a stop: only our threads are behind.
        """
        stop = self._stops.first_after(since)
        return deadline if stop is None else max(deadline, stop.ended_at + GRACE)
