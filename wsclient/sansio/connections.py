"""The table of a client's connections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from wsclient.sansio.connection import Connection, Stage
from wsclient.sansio.slots import Place, Slot, SlotKey

__all__ = ["Connections"]


class Connections:
    """The connections that have not ended, oldest first. Needs no lock for reading."""

    __slots__ = ("by_id",)

    def __init__(self) -> None:
        #: By id, those that have not ended; replaced as a whole, never changed.
        self.by_id: Mapping[int, Connection] = {}

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

    def of(self, slot: SlotKey | None) -> Connection | None:
        """Return the connection of a slot; None without one, or for a channel without a slot."""
        for connection in self.by_id.values():
            if connection.slot.key == slot:
                return connection
        return None

    def furthest(self) -> Stage | None:
        """Return the furthest stage that one of them has reached; None without any."""
        found: Stage | None = None
        for connection in self.by_id.values():
            if connection.has_opened:
                return Stage.OPEN
            if found is not Stage.AUTHENTICATING:
                found = connection.reached
        return found

    def open_one(self) -> Connection | None:
        """Return an open connection; None if there is none."""
        for connection in self.by_id.values():
            if connection.has_opened:
                return connection
        return None

    def places(self, slots: Iterable[Slot]) -> list[Place]:
        """Return ``slots`` with their connections, as :func:`~.slots.plan` sees them."""
        found = []
        for slot in slots:
            connection = self.of(slot.key)
            if connection is not None:
                found.append(connection.place())
            else:
                found.append(Place(slot.key, slot.due_at, None, None))
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
        self.by_id = {i: other for i, other in self.by_id.items() if other is not connection}
