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
     ├── OutcomeUnknown                                  sent, but the answer is missing
     │    └── RequestTimeout     (also WaitTimeout)      no answer within the timeout
     ├── WaitTimeout             (also TimeoutError)     nothing arrived within the timeout
     ├── SubscriptionError                               .failed: channel -> reason
     │    ├── SubscriptionRejected
     │    └── SubscriptionTimeout  (also TimeoutError)
     ├── RequestRejected                                 .failed: the items refused, with reasons
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
    "RequestTimeout",
    "SubscriptionError",
    "SubscriptionRejected",
    "SubscriptionTimeout",
    "ThreadStartError",
    "WSClientError",
    "WaitTimeout",
]


#: How many client order ids the text of an exception shows.
_SHOWN_IDS = 5


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
    """A message was sent, and nobody knows whether the venue has acted on it.

    The connection ended before the answer came, or the venue says itself that it does not know.
    Do not simply send an order again: ask the venue for it first, by its client order id.

    ``request_id`` is the id that the client gave the request, None for a message of ``send()``.
    ``sent_at`` is when the message was handed to the connection (ns since the epoch).
    ``client_order_ids`` are the caller's own ids of the orders in the message, of which
    ``client_order_id`` is the only one, None if there is none or more than one. ``reply`` is what
    the venue has answered so far, if anything.
    """

    def __init__(self, message: str, reply: object = None) -> None:
        super().__init__(message)
        self.reply = reply
        self.request_id: int | None = None
        self.sent_at: int | None = None
        self.client_order_ids: tuple[str | int, ...] = ()

    @property
    def client_order_id(self) -> str | int | None:
        """The client order id of the only order in the message, else None."""
        return self.client_order_ids[0] if len(self.client_order_ids) == 1 else None

    def __str__(self) -> str:
        text = super().__str__()
        if not self.client_order_ids:
            return text
        ids = ", ".join(repr(id) for id in self.client_order_ids[:_SHOWN_IDS])
        more = len(self.client_order_ids) - _SHOWN_IDS
        ids += f" and {more} more" if more > 0 else ""
        return f"{text}; before you send it again, ask the venue for the client order id {ids}"


class WaitTimeout(WSClientError, TimeoutError):
    """Nothing arrived within the timeout."""


class RequestTimeout(OutcomeUnknown, WaitTimeout):
    """A request was not answered within its timeout; the venue may still act on it."""


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
    """The venue answered a ``request()`` with an error, for all or for some of its items.

    ``reply`` is its decoded answer; a list of answers if each item has one of its own. ``failed``
    maps each item that was refused, by its index in the request or in this list, to the reason; the
    other items have succeeded. ``failed`` is empty if the venue refused the request as a whole.
    """

    def __init__(
        self, message: str, reply: object = None, failed: Mapping[int, str] | None = None
    ) -> None:
        super().__init__(message)
        self.reply = reply
        self.failed: dict[int, str] = dict(failed or {})


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
