"""What the session asks of the runtime, which does it in order."""

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
    "Log",
    "Notify",
    "Ping",
    "Send",
    "Settle",
]


class Dial(NamedTuple):
    connection_id: int


class Send(NamedTuple):
    connection_id: int
    payload: str | bytes


class Ping(NamedTuple):
    connection_id: int


class Hangup(NamedTuple):
    """Close politely, by a close frame; the peer's own ends the connection."""

    connection_id: int


class Abort(NamedTuple):
    """Cut the connection now; its end is accounted for already."""

    connection_id: int


class Cut(NamedTuple):
    """Cut the connection now, judge ``error``, and report the end by :meth:`Session.ended`."""

    connection_id: int
    error: WSClientError


class Consult(NamedTuple):
    """Call ``ask``, which is a dialect's or a user's code, without the lock; then tell the session,
    under the lock, by ``then(result)``, or by ``failed(error)`` when it raised."""

    ask: Callable[[], Any]
    then: Callable[[Any], None]
    failed: Callable[[Exception], None]


class Settle(NamedTuple):
    """Wake the caller that waits with ``token``."""

    token: Any
    error: BaseException | None = None
    result: Any = None


class Deliver(NamedTuple):
    """A message that no frame brought: the last one of a lost channel."""

    message: Message


class Forget(NamedTuple):
    """A channel is wanted no longer: nobody is to get what may still come of it."""

    channel: str


class Fail(NamedTuple):
    """The client has failed for good: queues end with this, after what they hold."""

    error: WSClientError


class Log(NamedTuple):
    level: str
    text: str
    connection_id: int
    channel: str | None = None


class Notify(NamedTuple):
    """For whoever listens to events: the ``number``-th, made by ``kind`` of ``what``."""

    kind: Callable[..., Event]
    what: tuple[Any, ...]
    connection_id: int
    number: int


Action = (
    Dial
    | Send
    | Ping
    | Hangup
    | Abort
    | Cut
    | Consult
    | Settle
    | Deliver
    | Forget
    | Fail
    | Log
    | Notify
)
