"""The table of a client's connections."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from wsclient.sansio.connection import Connection, Stage
from wsclient.sansio.slots import SlotKey

__all__ = ["Connections"]


class Connections:
    """The connections that have not ended, oldest first. Needs no lock for reading."""

    __slots__ = ("_by_slot", "by_id")

    def __init__(self) -> None:
        #: By id, those that have not ended; replaced as a whole, never changed.
        self.by_id: Mapping[int, Connection] = {}
        #: The same by slot, those of each oldest first.
        self._by_slot: dict[SlotKey | None, tuple[Connection, ...]] = {}

    def __iter__(self) -> Iterator[Connection]:
        return iter(self.by_id.values())

    def __len__(self) -> int:
        return len(self.by_id)

    def get(self, connection_id: int) -> Connection | None:
        """Return the connection of that id; None if it has ended."""
        return self.by_id.get(connection_id)

    def add(self, connection: Connection) -> None:
        """Add a new connection."""
        self.by_id = {**self.by_id, connection.id: connection}
        key = connection.slot.key
        self._by_slot = {**self._by_slot, key: (*self.of(key), connection)}

    def of(self, slot: SlotKey | None) -> tuple[Connection, ...]:
        """Return the connections of a slot, oldest first."""
        return self._by_slot.get(slot, ())

    def serving(self, slot: SlotKey | None, carriers: Container[int] = ()) -> Connection | None:
        """Return the open connection of a slot that takes requests for a channel.

        It is the newest of those that carry the channel (``carriers``), else the oldest. None if
        none is open.
        """
        found: Connection | None = None
        for connection in self.of(slot):
            if connection.stage is Stage.OPEN and (found is None or connection.id in carriers):
                found = connection
        return found

    def newest(self, slot: SlotKey | None) -> Connection | None:
        """Return the newest open connection of a slot; None if none is open."""
        open_ones = [connection for connection in self.of(slot) if connection.stage is Stage.OPEN]
        return open_ones[-1] if open_ones else None

    def furthest(self, but: Connection | None = None) -> Stage | None:
        """Return the furthest stage that one of them, but ``but``, has reached; None without any.

        Needs no lock.
        """
        found: Stage | None = None
        for connection in self.by_id.values():
            if connection is but:
                continue
            if connection.has_opened:
                return Stage.OPEN
            if found is not Stage.AUTHENTICATING:
                found = connection.reached
        return found

    def open_one(self, route: str | None = None) -> Connection | None:
        """Return the newest open connection of a route, by default of any; None without one."""
        found: Connection | None = None
        for connection in self.by_id.values():
            is_meant = route is None or connection.slot.key.route == route
            if is_meant and connection.has_opened and connection.retired_at is None:
                found = connection
        return found

    def end(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        connection.end()
        self._remove(connection)

    def abort(self, connection: Connection) -> None:
        """Cut a connection without a reason, and end it here now."""
        connection.abort()
        self._remove(connection)

    def abort_all(self) -> None:
        """Cut all connections without a reason, and end them here now."""
        for connection in self:
            self.abort(connection)

    def forget(self, channel: str) -> None:
        """Forget what was asked for a channel that is no longer wanted."""
        for connection in self:
            connection.asked.forget(channel)

    def _remove(self, connection: Connection) -> None:
        connection.slot.messages += connection.messages
        self.by_id = {i: other for i, other in self.by_id.items() if other is not connection}
        key = connection.slot.key
        left = tuple(other for other in self.of(key) if other is not connection)
        self._by_slot = {**self._by_slot, key: left}
        if not left:
            del self._by_slot[key]
