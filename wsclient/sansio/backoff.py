"""When to connect again: verdicts on errors, delays between attempts, and rate limits."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from wsclient.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotSupported,
)

__all__ = ["Backoff", "Budget", "Verdict", "classify", "reason_of"]


class Verdict(enum.Enum):
    """The result of :func:`classify`: whether another attempt makes sense.

    RETRY: after a delay with jitter. RATE_LIMITED: after the full delay. FATAL: never.
    """

    RETRY = "retry"
    RATE_LIMITED = "rate limited"
    FATAL = "fatal"


#: 418 is Binance's answer to a client that did not stop after a 429.
_RATE_LIMITED = frozenset({418, 429})
_FATAL = frozenset({401, 403})


def classify(error: BaseException) -> Verdict:
    """Return whether to connect again after a failed attempt or a lost connection.

    Only this function decides it; ``WebSocketClient(classify=...)`` replaces it. A ``Retry-After``
    is respected unless the verdict is FATAL.
    """
    if isinstance(error, HandshakeRejected):
        if error.status in _FATAL:
            return Verdict.FATAL
        if error.status in _RATE_LIMITED:
            return Verdict.RATE_LIMITED
    if isinstance(error, (AuthenticationError, ConfigurationError, NotSupported)):
        return Verdict.FATAL
    return Verdict.RETRY


def reason_of(error: BaseException) -> str:
    """Return a short reason why a connection or an attempt ended, for counting."""
    if isinstance(error, ConnectionLost):
        return error.reason
    if isinstance(error, HandshakeRejected):
        return f"http {error.status}"
    if isinstance(error, ConnectTimeout):
        return "timeout"
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "reset"
    return type(error).__name__


@dataclass(slots=True)
class Backoff:
    """Exponential delays (s) with full jitter; ``random`` returns floats in [0, 1)."""

    base: float
    cap: float
    random: Callable[[], float]
    jitter: bool = True
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
        if self.jitter and verdict is not Verdict.RATE_LIMITED:
            return interval * self.random()
        return interval


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
