"""When to try again: delays, budgets, and what is worth another attempt at all."""

from __future__ import annotations

import enum
from collections import deque
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
    """What :func:`classify` says: try again, try again later and in full, or never."""

    RETRY = "retry"
    RATE_LIMITED = "rate limited"
    FATAL = "fatal"


#: 418 is Binance's answer to a client that went on after a 429.
_RATE_LIMITED = frozenset({418, 429})
_FATAL = frozenset({401, 403})


def classify(error: BaseException) -> Verdict:
    """Is a failed attempt or a lost connection worth another attempt?

    The one place that decides it; ``WebSocketClient(classify=...)`` puts another in its place.
    A ``Retry-After`` is honoured whatever the verdict, unless it is FATAL.
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
    """A word for why a connection or an attempt ended, to count it under."""
    if isinstance(error, ConnectionLost):
        return error.reason
    if isinstance(error, HandshakeRejected):
        return f"http {error.status}"
    if isinstance(error, ConnectTimeout):
        return "timeout"
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "reset"
    return type(error).__name__


@dataclass
class Backoff:
    """Exponential delays with full jitter, in seconds; ``random`` gives floats in [0, 1)."""

    base: float
    cap: float
    random: Callable[[], float]
    jitter: bool = True
    failures: int = 0

    def reset(self) -> None:
        self.failures = 0

    def next(self, verdict: Verdict = Verdict.RETRY) -> float:
        """The delay after one more failure.

        Jitter spreads a crowd of clients over the whole interval. A rate-limited client waits the
        interval in full: a venue that counts must not be asked early.
        """
        interval = min(self.cap, self.base * 2.0 ** min(self.failures, 64))
        self.failures += 1
        if self.jitter and verdict is not Verdict.RATE_LIMITED:
            return interval * self.random()
        return interval


class Budget:
    """At most ``count`` events in any ``per`` seconds (a sliding window)."""

    def __init__(self, count: int, per: float) -> None:
        self._per = per
        self._times: deque[float] = deque(maxlen=count)

    def ready_at(self, now: float) -> float:
        """The earliest time for the next event; ``now`` when it may happen at once."""
        if len(self._times) < (self._times.maxlen or 0):
            return now
        return max(now, self._times[0] + self._per)

    def room(self, now: float) -> int:
        """How many events may happen at once."""
        used = sum(now < time + self._per for time in self._times)
        return (self._times.maxlen or 0) - used

    def spend(self, now: float) -> None:
        self._times.append(now)
