"""Stops of this process, each of which excuses a silence of the peer once.

While the process is stopped, or another thread holds the interpreter's lock, no answer is seen,
even if the peer is punctual. Only one stop excuses a silence: otherwise a thread that stops us
again and again would postpone every deadline for ever.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

__all__ = ["Stop", "Stops"]

#: How many of the newest stops are remembered; no running timeout depends on older ones.
REMEMBERED = 1000


class Stop(NamedTuple):
    """A time without any check: from ``began_at`` or later until ``ended_at`` (monotonic s)."""

    began_at: float
    ended_at: float

    @property
    def length(self) -> float:
        """The greatest possible length (s)."""
        return self.ended_at - self.began_at


class Stops:
    """The stops of one client, oldest first."""

    __slots__ = ("_stops",)

    def __init__(self) -> None:
        self._stops: list[Stop] = []

    def add(self, began_at: float, ended_at: float) -> None:
        """Record a stop that has just ended."""
        if len(self._stops) >= 2 * REMEMBERED:
            del self._stops[:-REMEMBERED]
        self._stops.append(Stop(began_at, ended_at))

    def first_after(self, since: float) -> Stop | None:
        """Return the only stop that excuses a timeout that began at ``since``, or None."""
        index = bisect_right(self._stops, since, key=lambda stop: stop.ended_at)
        return self._stops[index] if index < len(self._stops) else None

    def excuse(self, since: float) -> float:
        """Return by how much (s) to extend the deadline of a timeout that began at ``since``."""
        stop = self.first_after(since)
        return 0.0 if stop is None else stop.ended_at - max(stop.began_at, since)
