"""The table of a client's connections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wsclient.sansio.connection import Connection, Stage
from wsclient.sansio.slots import SlotKey

__all__ = ["Connections"]


class Connections:
    """The connections that have not ended, oldest first. Needs no lock for reading."""

    def __init__(self) -> None:
        #: By id; replaced as a whole, never changed.
        self._by_id: Mapping[int, Connection] = {}

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, connection_id: int) -> Connection | None:
        """Return the connection of that id; None if it has ended."""
        return self._by_id.get(connection_id)

    def add(self, connection: Connection) -> None:
        self._by_id = {**self._by_id, connection.id: connection}

    def remove(self, connection: Connection) -> None:
        self._by_id = {i: other for i, other in self._by_id.items() if other is not connection}

    def of(self, slot: SlotKey | None) -> Connection | None:
        """Return the connection of that slot; None if it has none."""
        return next((c for c in self._by_id.values() if c.slot.key == slot), None)

    def furthest(self) -> Stage | None:
        """Return the furthest stage that one of them has reached; None without any."""
        reached = [connection.reached for connection in self._by_id.values()]
        return next((s for s in (Stage.OPEN, Stage.AUTHENTICATING, *reached) if s in reached), None)

    def open_one(self) -> Connection | None:
        """Return an open connection; None if there is none."""
        return next((c for c in self._by_id.values() if c.has_opened), None)
