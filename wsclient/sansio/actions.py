"""Actions: what the pure part asks the runtime to do, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from wsclient.errors import WSClientError
from wsclient.events import Event
from wsclient.messages import Message

__all__ = [
    "Abort",
    "Action",
    "Consult",
    "Cut",
    "Deliver",
    "Dial",
    "Fail",
    "Forget",
    "Hangup",
    "Notify",
    "Ping",
    "Renew",
    "Send",
    "Settle",
]


class Dial(NamedTuple):
    """Open a connection of a route."""

    connection_id: int
    route: str = ""


class Send(NamedTuple):
    """Send a message: text or bytes."""

    connection_id: int
    payload: str | bytes


class Ping(NamedTuple):
    """Send a ping frame."""

    connection_id: int


class Renew(NamedTuple):
    """Renew the token of a connection by REST, then call :meth:`Renewal.finished`."""

    connection_id: int


class Hangup(NamedTuple):
    """Send a close frame; the connection ends when the peer's close frame arrives."""

    connection_id: int


class Abort(NamedTuple):
    """Cut the connection now; its end is already recorded, and is not reported again."""

    connection_id: int


class Cut(NamedTuple):
    """Cut the connection now, classify ``error``, and call :meth:`Supervisor.ended`."""

    connection_id: int
    error: WSClientError


class Consult(NamedTuple):
    """Call ``ask`` without the lock, as it runs a dialect's or a user's code.

    Then call, under the lock, ``then(result)``, or ``failed(error)`` if ``ask`` raised.
    """

    ask: Callable[[], Any]
    then: Callable[[Any], None]
    failed: Callable[[Exception], None]


class Settle(NamedTuple):
    """Wake the caller that waits with ``token``: raise ``error`` there, or return ``result``."""

    token: Any
    error: BaseException | None = None
    result: Any = None


class Deliver(NamedTuple):
    """Deliver a message that no frame carried: the last one of a lost channel."""

    message: Message


class Forget(NamedTuple):
    """Stop delivering a channel: it is no longer wanted, though messages may still arrive."""

    channel: str


class Fail(NamedTuple):
    """End all queues with ``error``, after their messages: the client has failed for good."""

    error: WSClientError


class Notify(NamedTuple):
    """Emit the event that ``kind(*what, ...)`` makes.

    ``omitted`` events before it found no room in the queue of actions. Their numbers are used all
    the same.
    """

    kind: type[Event]
    what: tuple[Any, ...]
    connection_id: int
    omitted: int = 0


Action = (
    Dial
    | Send
    | Ping
    | Renew
    | Hangup
    | Abort
    | Cut
    | Consult
    | Settle
    | Deliver
    | Forget
    | Fail
    | Notify
)
