"""When we could not look: the excuse that a peer has, once.

A process that is stopped, or whose interpreter's lock another thread holds, sees no answer, however
punctual the peer. A stop excuses each silence of the peer once: the next one, of the same silence,
does not, or a thread that stops us again and again would postpone every deadline for ever.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

__all__ = ["Stop", "Stops"]

#: Only the newest are remembered: older ones matter to no clock that still runs.
REMEMBERED = 1000


class Stop(NamedTuple):
    """From ``began_at``, at the earliest, until ``ended_at`` (monotonic s) nobody looked."""

    began_at: float
    ended_at: float

    @property
    def length(self) -> float:
        return self.ended_at - self.began_at


class Stops:
    """The stops of one client, oldest first."""

    def __init__(self) -> None:
        self._stops: list[Stop] = []

    def add(self, began_at: float, ended_at: float) -> None:
        """Put down a stop that has just ended."""
        if len(self._stops) >= 2 * REMEMBERED:
            del self._stops[:-REMEMBERED]
        self._stops.append(Stop(began_at, ended_at))

    def first_after(self, since: float) -> Stop | None:
        """The only stop that excuses a clock which has run from ``since`` on, or None."""
        index = bisect_right(self._stops, since, key=lambda stop: stop.ended_at)
        return self._stops[index] if index < len(self._stops) else None

    def excuse(self, since: float) -> float:
        """By how much (s) a deadline of a clock that runs from ``since`` on moves."""
        stop = self.first_after(since)
        return 0.0 if stop is None else stop.ended_at - max(stop.began_at, since)
