"""Every exception that wsclient raises, in one tree.

::

    WSClientError
     ├── ConfigurationError      (also ValueError)       an option or argument cannot work
     ├── NotSupported            (also NotImplementedError)  the dialect cannot do that
     ├── ConnectError            (also ConnectionError)  all attempts of connect() have failed
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
     ├── InvalidMessage          (also ValueError)       a payload or a record makes no sense
     ├── QueueOverflow                                   overflow="error" and a queue is full
     ├── OrderBookOutOfSync                              the order book may be wrong
     ├── ReentrantCall           (also RuntimeError)     called by a handler that interrupted us
     ├── ThreadStartError        (also RuntimeError)     the system cannot start a thread
     ├── ClientForked                                    the client belongs to the parent process
     └── ClientClosed                                    close() was called
          └── RecordingEnded                             the last message of a recording was read

A failure in the background is raised by the caller's next blocking call, as a new exception
chained (``__cause__``) to the original. The texts of these exceptions and the variables in their
tracebacks hold no header, no credential, no query of a URL and no part of a venue's error page.
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
    "InvalidMessage",
    "NotConnected",
    "NotSupported",
    "OrderBookOutOfSync",
    "OutcomeUnknown",
    "QueueOverflow",
    "ReconnectError",
    "RecordingEnded",
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
        """Return a copy to raise in another thread.

        Otherwise tracebacks would accumulate on the shared instance. The exceptions to which the
        copy is chained keep no local variables.
        """
        forget_locals(self)
        copy = type(self).__new__(type(self))
        copy.args = self.args
        copy.__dict__.update(self.__dict__)
        copy.__cause__ = self.__cause__ or self
        return copy


class ConfigurationError(WSClientError, ValueError):
    """An option or an argument cannot work; the text says which one, and what would work."""


class NotSupported(WSClientError, NotImplementedError):
    """The dialect does not support the call, such as ``request()`` without matched replies."""


class ConnectError(WSClientError, ConnectionError):
    """All attempts of ``connect()`` have failed; ``__cause__`` is the failure of the last one.

    ``attempts`` is the number of attempts made.
    """

    def __init__(self, message: str, attempts: int = 0) -> None:
        super().__init__(message)
        self.attempts = attempts


class ConnectTimeout(ConnectError, TimeoutError):
    """``connect(timeout=...)``, or one attempt, did not succeed in time."""


class HandshakeRejected(WSClientError, ConnectionError):
    """The venue refused the upgrade request (not 101) or a REST request (not 2xx).

    ``status`` is the HTTP status (0 if the answer was not HTTP). ``retry_after`` is the time (s)
    that the answer's ``Retry-After`` asks for, or None. ``excerpt`` is at most 512 bytes of the
    body, or of an answer that was not HTTP: it is foreign material, and so not in the text.
    """

    def __init__(
        self, message: str, status: int = 0, retry_after: float | None = None, excerpt: bytes = b""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.excerpt = excerpt


class ConnectionLost(WSClientError, ConnectionError):
    """A connection ended.

    ``code`` is the close code received or sent, 1006 if there was none. ``reason`` is one word for
    the cause, as in :class:`wsclient.events.Disconnected`.
    """

    def __init__(self, message: str, code: int = 1006, reason: str = "ended") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class AuthenticationError(WSClientError):
    """The venue refused the login. Another attempt with the same credentials would not help."""


class ReconnectError(WSClientError, ConnectionError):
    """``max_reconnects`` attempts in a row have failed; the client has given up."""


class NotConnected(WSClientError, ConnectionError):
    """The connection is not open, and nothing was sent."""


class OutcomeUnknown(WSClientError):
    """The connection ended after bytes were sent and before the answer came.

    The venue may have acted on the message.
    """


class WaitTimeout(WSClientError, TimeoutError):
    """Nothing arrived within the timeout."""


class SubscriptionError(WSClientError):
    """Some channels failed. ``failed`` maps each to the reason; the call succeeded for the rest."""

    def __init__(self, message: str, failed: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.failed: dict[str, str] = dict(failed or {})


class SubscriptionRejected(SubscriptionError):
    """The venue refused at least one channel."""


class SubscriptionTimeout(SubscriptionError, TimeoutError):
    """The venue did not answer in time for at least one channel, and refused none."""


class RequestRejected(WSClientError):
    """The venue answered a ``request()`` with an error. ``reply`` is its decoded answer."""

    def __init__(self, message: str, reply: object = None) -> None:
        super().__init__(message)
        self.reply = reply


class InvalidMessage(WSClientError, ValueError):
    """The payload of a message is not what its dialect knows; or a record of one is not valid."""


class QueueOverflow(WSClientError):
    """A queue with ``overflow="error"`` is full: the consumer is too slow for the feed."""


class OrderBookOutOfSync(WSClientError):
    """An order book may differ from the venue's; the text says why, and what to do."""


class ReentrantCall(WSClientError, RuntimeError):
    """A signal handler or a finalizer made a call that would wait for what it has interrupted.

    It interrupted wsclient itself on this thread. Only ``close()`` works there.
    """


class ThreadStartError(WSClientError, RuntimeError):
    """A thread could not be started: the process or the system has reached its limit.

    End some threads, or raise the limit, and call again.
    """


class ClientForked(WSClientError):
    """The client belongs to the parent of this forked process. Make a new one in the child."""


class ClientClosed(WSClientError):
    """The client was closed. Make a new one."""


class RecordingEnded(ClientClosed):
    """The recording has no further message. Open it again to read it from its beginning."""
