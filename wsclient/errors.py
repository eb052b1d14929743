"""Every exception that wsclient raises, in one tree.

::

    WSClientError
     ├── ConfigurationError      (also ValueError)       an option or argument cannot work
     ├── NotSupported            (also NotImplementedError)  the dialect cannot do that
     ├── ConnectError            (also ConnectionError)  connect() is out of attempts
     │    └── ConnectTimeout     (also TimeoutError)     connect(timeout=...) ran out of time
     ├── HandshakeRejected       (also ConnectionError)  the upgrade was refused (HTTP status)
     ├── ConnectionLost          (also ConnectionError)  why a connection ended
     ├── AuthenticationError                             the venue refused the login; never retried
     ├── ReconnectError          (also ConnectionError)  max_reconnects in a row have failed
     ├── NotConnected            (also ConnectionError)  not connected; nothing was sent
     ├── OutcomeUnknown                                  sent, but disconnected before the answer
     ├── WaitTimeout             (also TimeoutError)     nothing arrived within the timeout
     ├── SubscriptionError                               .failed: channel -> reason
     │    ├── SubscriptionRejected
     │    └── SubscriptionTimeout  (also TimeoutError)
     ├── RequestRejected                                 the venue answered a request with an error
     ├── QueueOverflow                                   overflow="error" and a queue is full
     ├── OrderBookOutOfSync                              a book was read that may be wrong
     ├── ReentrantCall           (also RuntimeError)     called within a call that it interrupted
     ├── ThreadStartError        (also RuntimeError)     the system gives us no thread
     ├── ClientForked                                    used in a child of the process it is of
     └── ClientClosed                                    close() was called

A failure in the background reaches the caller at its next blocking call, as a fresh exception
chained (``__cause__``) to the original. No text of these, and no variable in their tracebacks,
holds a header, a credential, a URL's query, or what a venue put into an error page.
"""

from __future__ import annotations

from collections.abc import Mapping

from wsclient.tracebacks import forget_locals

__all__ = [
    "AuthenticationError",
    "ClientClosed",
    "ClientForked",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "HandshakeRejected",
    "NotConnected",
    "NotSupported",
    "OrderBookOutOfSync",
    "OutcomeUnknown",
    "QueueOverflow",
    "ReconnectError",
    "ReentrantCall",
    "RequestRejected",
    "SubscriptionError",
    "SubscriptionRejected",
    "SubscriptionTimeout",
    "ThreadStartError",
    "WSClientError",
    "WaitTimeout",
]


class WSClientError(Exception):
    """Base of all exceptions that wsclient raises."""

    def fresh(self) -> WSClientError:
        """Return a copy to raise in another thread: tracebacks must not pile up on a shared
        instance. What it is chained to keeps no local variables."""
        forget_locals(self)
        copy = type(self).__new__(type(self))
        copy.args = self.args
        copy.__dict__.update(self.__dict__)
        copy.__cause__ = self.__cause__ or self
        return copy


class ConfigurationError(WSClientError, ValueError):
    """An option or an argument cannot work; the text says which and what would."""


class NotSupported(WSClientError, NotImplementedError):
    """The dialect has no such thing (``request()`` on one without correlation, for instance)."""


class ConnectError(WSClientError, ConnectionError):
    """``connect()`` made all its attempts; ``__cause__`` is the last one's failure.

    ``attempts`` is the number of attempts made.
    """

    def __init__(self, message: str, attempts: int = 0) -> None:
        super().__init__(message)
        self.attempts = attempts


class ConnectTimeout(ConnectError, TimeoutError):
    """``connect(timeout=...)`` or one attempt of it ran out of time."""


class HandshakeRejected(WSClientError, ConnectionError):
    """The venue answered the upgrade request with something other than 101, or a REST request with
    something other than 2xx.

    ``status`` is the HTTP status (0 when the answer was no HTTP), ``retry_after`` the seconds that
    its ``Retry-After`` asks for or None, ``excerpt`` at most 512 bytes of the body, or of an answer
    that was no HTTP: material from outside, kept out of the exception's text.
    """

    def __init__(
        self, message: str, status: int = 0, retry_after: float | None = None, excerpt: bytes = b""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.excerpt = excerpt


class ConnectionLost(WSClientError, ConnectionError):
    """A connection ended. ``code`` is the close code seen or sent, 1006 where there was none;
    ``reason`` a word for why, as in :class:`wsclient.events.Disconnected`."""

    def __init__(self, message: str, code: int = 1006, reason: str = "ended") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class AuthenticationError(WSClientError):
    """The venue refused the login. Retrying with the same credentials would not help."""


class ReconnectError(WSClientError, ConnectionError):
    """``max_reconnects`` attempts in a row have failed; the client has given up."""


class NotConnected(WSClientError, ConnectionError):
    """The connection is not open, and nothing was sent."""


class OutcomeUnknown(WSClientError):
    """Bytes went out, and the connection dropped before the answer: the venue may have acted on
    them."""


class WaitTimeout(WSClientError, TimeoutError):
    """Nothing arrived within the timeout."""


class SubscriptionError(WSClientError):
    """Some channels failed. ``failed`` maps each to its reason; the others are as asked for."""

    def __init__(self, message: str, failed: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.failed: dict[str, str] = dict(failed or {})


class SubscriptionRejected(SubscriptionError):
    """The venue refused at least one channel."""


class SubscriptionTimeout(SubscriptionError, TimeoutError):
    """The venue did not answer for at least one channel, and refused none."""


class RequestRejected(WSClientError):
    """The venue answered a ``request()`` with an error. ``reply`` is its decoded answer."""

    def __init__(self, message: str, reply: object = None) -> None:
        super().__init__(message)
        self.reply = reply


class QueueOverflow(WSClientError):
    """A queue with ``overflow="error"`` is full: the consumer is too slow for the feed."""


class OrderBookOutOfSync(WSClientError):
    """An order book may not be what the venue has; the text says why, and what to do."""


class ReentrantCall(WSClientError, RuntimeError):
    """A signal handler or a finalizer interrupted wsclient on this thread, and made a call that
    would wait for what it has interrupted. Only ``close()`` works there."""


class ThreadStartError(WSClientError, RuntimeError):
    """A thread could not be started: the process or the system has reached its limit. End some
    threads, or raise the limit, and call again."""


class ClientForked(WSClientError):
    """The process was forked, and the client is the parent's. Make a new one in the child."""


class ClientClosed(WSClientError):
    """The client was closed. Make a new one."""
