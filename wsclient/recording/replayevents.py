"""The recorded events, made again, and the connections that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from wsclient import events
from wsclient.errors import WSClientError
from wsclient.events import Event
from wsclient.messages import Gap
from wsclient.recording.records import ClientState, Happened
from wsclient.sansio.actions import Notify
from wsclient.sansio.life import State
from wsclient.telemetry.stats import ConnectionInfo, Rate

__all__ = ["ReplayedConnections", "notice_of"]

#: Events of consumers, of order books, and of the end. The client that plays has its own.
OWN = frozenset({
    "BookOutOfSync", "BookRefreshed", "CallbackFailed", "Closed", "DialectFailed", "GapMarked",
    "GapUnhandled", "InsecureTLS", "SlowConsumer", "SnapshotFailed", "SnapshotTooOld",
    "SnapshotsFailed", "SubscribeFailed", "ThreadDied", "ThreadStuck", "UnreadDiscarded",
})  # fmt: skip
#: The states in which no connection is open. A client that plays is neither idle nor closed,
#: whatever became of the recorded one.
DOWN = {
    State.IDLE: State.CONNECTING,
    State.FAILED: State.BACKING_OFF,
    State.CLOSING: State.BACKING_OFF,
    State.CLOSED: State.BACKING_OFF,
}


def notice_of(happened: Happened) -> Notify | None:
    """Return what emits a recorded event again.

    None for an event that this version does not know, or that the client which plays emits itself.
    """
    kind = getattr(events, happened.name, None)
    if happened.name in OWN or not isinstance(kind, type) or not issubclass(kind, Event):
        return None
    own = [f for f in fields(kind) if not f.kw_only]
    try:
        what = tuple(_value(str(f.type), happened.fields[f.name]) for f in own)
    except (LookupError, TypeError, ValueError):
        return None
    return Notify(kind, what, happened.connection_id)


def _value(kind: str, value: Any) -> Any:
    """Return the value of a field, given the text of its type."""
    if value is None:
        return None
    if kind.startswith("tuple"):
        return tuple(value)
    if kind.startswith("Gap"):
        return Gap(**value) if isinstance(value, dict) else Gap(*value)
    if "Exception" in kind or "Error" in kind:
        return WSClientError(str(value))
    return value


@dataclass
class _Replayed:
    id: int
    origin: int
    route: str = ""
    opened_at: float = 0.0
    messages: int = 0
    bytes: int = 0
    channels: dict[str, None] = field(default_factory=dict)


class ReplayedConnections:
    """The open connections of one recording, and its client's state, as of the last record.

    Times are by the clock of the playback (monotonic s).
    """

    def __init__(self) -> None:
        self.state = State.OPEN
        #: True once the open connections are known.
        self._is_known = False
        self.opened: dict[int, _Replayed] = {}
        #: The origin of each connection's stream, of connections that have ended, too.
        self.origins: dict[int, int] = {}

    def restart(self, record: ClientState, now: float) -> None:
        """Take over a state record."""
        self._set_state(record.state)
        known, self.opened, self._is_known = self.opened, {}, True
        for found in record.connections:
            self.origins[found.id] = found.origin or found.id
            connection = known.get(found.id) or _Replayed(
                found.id, self.origins[found.id], found.route, now
            )
            self.opened[found.id] = connection
        if len(self.opened) == 1:
            (only,) = self.opened.values()
            only.channels.update((c.name, None) for c in record.channels if c.is_confirmed)

    def happened(self, record: Happened, now: float) -> None:
        """Note an event."""
        id, what = record.connection_id, record.fields
        if record.name == "StateChanged":
            self._set_state(what.get("state"))
        elif record.name == "Connected":
            origin = self.origins[id] = record.origin or id
            self.opened[id] = _Replayed(id, origin, str(what.get("route", "")), now)
            self._is_known = self._is_known or id == 1  # others may have been open before
        elif record.name == "Disconnected":
            self.opened.pop(id, None)
        elif record.name == "Subscribed" and id in self.opened:
            self.opened[id].channels.update(dict.fromkeys(what.get("channels", ())))
        elif record.name == "Unsubscribed":
            for connection in self.opened.values():
                connection.channels.pop(what.get("channel", ""), None)

    def _set_state(self, value: object) -> None:
        try:
            state = State(value)
        except ValueError:
            return  # of a later version
        self.state = DOWN.get(state, state)

    def end(self) -> None:
        """Note that the recording has ended, and another of the same client has begun."""
        self.opened.clear()
        self._is_known = True

    def count(self, connection_id: int, messages: int, size: int) -> None:
        """Count messages and their bytes."""
        connection = self.opened.get(connection_id)
        if connection is not None:
            connection.messages += messages
            connection.bytes += size

    @property
    def is_up(self) -> bool:
        """Whether a connection is open, as far as is known."""
        return bool(self.opened) or not self._is_known

    def goes_on(self, origin: int) -> bool:
        """Return whether a connection is open whose stream began with the connection ``origin``.

        True as long as nothing is known of the connections.
        """
        return not self._is_known or any(c.origin == origin for c in self.opened.values())

    def infos(self, now: float) -> Iterator[ConnectionInfo]:
        """Yield the open connections."""
        for c in self.opened.values():
            age = max(0.0, now - c.opened_at)
            rate = Rate(c.messages / age, c.bytes / age, age) if age else Rate(0.0, 0.0, 0.0)
            yield ConnectionInfo(
                c.id, State.OPEN.value, age, tuple(c.channels), rate, c.route, messages=c.messages
            )
