"""When to connect again: delays between attempts, and rate limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from wsclient.verdicts import Verdict

__all__ = ["Backoff", "Budget", "Connects"]


@dataclass(slots=True)
class Backoff:
    """Exponential delays (s) with full jitter; ``random`` returns floats in [0, 1).

    Without jitter, ``random`` returns 1.
    """

    base: float
    cap: float
    random: Callable[[], float]
    failures: int = 0

    def reset(self) -> None:
        """Begin with the shortest delay again."""
        self.failures = 0

    def next(self, verdict: Verdict = Verdict.RETRY) -> float:
        """Count a failure and return the delay (s) before the next attempt.

        Jitter spreads many clients over the whole interval. A rate-limited client waits the full
        interval: a venue that counts attempts must not be asked early.
        """
        interval = min(self.cap, self.base * 2.0 ** min(self.failures, 64))
        self.failures += 1
        return interval if verdict is Verdict.RATE_LIMITED else interval * self.random()


class Connects(Protocol):
    """A rate limit of the attempts at one address: a :class:`Budget`, or one that is shared."""

    def ready_at(self, now: float) -> float:
        """Return the earliest time of the next attempt; ``now`` if it may begin now."""

    def spend(self, now: float) -> None:
        """Count an attempt."""


class Budget:
    """A rate limit: at most ``count`` events in any ``per`` seconds (a sliding window)."""

    __slots__ = ("_count", "_per", "_times")

    def __init__(self, count: int, per: float) -> None:
        self._count = count
        self._per = per
        #: When the last ones happened, at most ``count``. A deque takes 700 bytes more.
        self._times: list[float] = []

    def ready_at(self, now: float) -> float:
        """Return the earliest time of the next event; ``now`` if it may happen now."""
        if len(self._times) < self._count:
            return now
        return max(now, self._times[0] + self._per)

    def room(self, now: float) -> int:
        """Return how many events may happen now."""
        used = sum(now < time + self._per for time in self._times)
        return self._count - used

    def spend(self, now: float) -> None:
        """Count an event."""
        self._times.append(now)
        del self._times[: -self._count]
