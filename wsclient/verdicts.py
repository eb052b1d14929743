"""Verdicts on errors: whether to connect again."""

from __future__ import annotations

import enum

from wsclient.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotSupported,
)

__all__ = ["Verdict", "classify", "reason_of"]


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
