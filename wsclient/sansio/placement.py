"""Where each channel belongs: in which slot, and to which of its connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wsclient.sansio.asked import Asked
from wsclient.sansio.connection import Connection
from wsclient.sansio.fleet import Fleet
from wsclient.sansio.plan import place
from wsclient.sansio.slots import Slot, SlotKey
from wsclient.sansio.wantedtable import WantedChannel

__all__ = ["Placement"]


class Placement:
    """Places the wanted channels of one client in the slots of its fleet.

    Implements :class:`~wsclient.sansio.upkeep.Places`. ``rooms`` returns how many channels a
    connection of a route carries, and ``most`` is how many connections the venue allows at a time;
    both are None for no limit.
    """

    __slots__ = ("_by_wire", "_connections", "_fleet", "_full", "_most", "_rooms", "_unplaced")

    def __init__(self, fleet: Fleet, rooms: Callable[[str], int | None], most: int | None) -> None:
        self._fleet = fleet
        self._connections = fleet.connections
        self._rooms = rooms
        self._most = most
        #: New channels, which belong to no slot yet.
        self._unplaced: list[str] = []
        #: The placed channels, by route and wire name.
        self._by_wire: dict[tuple[str, str], str] = {}
        #: How many channels a connection of each route carries, as a refusal has shown.
        self._full: dict[str, int] = {}

    @property
    def has_new(self) -> bool:
        """Whether there are channels for :meth:`place_new`."""
        return bool(self._unplaced)

    def add(self, channels: Iterable[str]) -> None:
        """Note new channels, which :meth:`place_new` places."""
        self._unplaced += channels

    def place_new(self, now: float) -> dict[str, str]:
        """Place the new channels; subscribe to those whose connection is open.

        Returns the channels for which there is no room, and why.
        """
        if not self._unplaced:
            return {}
        refused: dict[str, str] = {}
        entries = []
        for entry in self._fleet.wanted.among(self._unplaced):
            if entry.slot is None:
                other = self._by_wire.setdefault((entry.route, entry.wire), entry.channel)
                if other == entry.channel:
                    entries.append(entry)
                else:
                    refused[entry.channel] = f"it is the same channel as {other!r}"
        self._unplaced = []
        used = {key: len(slot.channels) for key, slot in self._fleet.slots.items()}
        limits = {entry.route: self._room(entry.route) for entry in entries}
        found, left = place(((e.channel, e.route) for e in entries), used, limits, self._most)
        for key, names in found.items():
            self._place(self._fleet.slot(key, now), self._fleet.wanted.among(names))
        return refused | dict.fromkeys(
            left, f"the venue allows {self._most} connections, and all are full"
        )

    def _room(self, route: str) -> int | None:
        """Return how many channels a connection of a route carries, None for no limit."""
        known = self._rooms(route), self._full.get(route)
        return min(filter(None, known), default=None)

    def _place(self, slot: Slot, entries: list[WantedChannel]) -> None:
        """Note that channels belong to ``slot``; subscribe to them if a connection is open.

        The newest one: an older one is about to be replaced.
        """
        for entry in entries:
            entry.slot = slot.key
            slot.channels[entry.channel] = None
            if not entry.was_active:
                self._fleet.channels.overlaps.drop(entry.channel)
        connection = self._connections.newest(slot.key)
        if connection is not None:
            connection.subscribe(entries)

    def unsubscribe(self, entries: Iterable[WantedChannel]) -> None:
        """Unsubscribe from channels, on all open connections of their slots."""
        by_slot: dict[SlotKey | None, list[WantedChannel]] = {}
        for entry in entries:
            by_slot.setdefault(entry.slot, []).append(entry)
        for slot, leaving in by_slot.items():
            connections = [c for c in self._connections.of(slot) if c.has_opened]
            for entry in leaving:
                entry.leaving = tuple(connection.id for connection in connections)
                if not connections:
                    self._fleet.wanted.left(entry)
            for connection in connections:
                connection.asked.unsubscribe(leaving)

    def forget(self, entry: WantedChannel) -> None:
        for connection in self._connections.of(entry.slot):
            connection.asked.forget(entry.channel)

    def freed(self, entry: WantedChannel) -> None:
        if entry.slot in self._fleet.slots:
            self._fleet.slots[entry.slot].channels.pop(entry.channel, None)
        key = entry.route, entry.wire
        if self._by_wire.get(key) == entry.channel:
            del self._by_wire[key]

    def crowded(self, entry: WantedChannel, connection_id: int, asked: int) -> bool:
        connection = self._connections.get(connection_id)
        if connection is None or entry.slot != connection.slot.key:
            return False
        if any(other > connection_id for other in entry.carriers):
            return False  # its successor has room
        others = self._fleet.wanted.among(connection.slot.channels)
        carried = sum(connection_id in other.carriers for other in others)
        # A message that is refused as a whole may have named too many: the next ones name half.
        room = carried or asked // 2
        if not room:
            return False  # it has room for nothing: another one would have none either
        self._full[entry.route] = min(room, self._full.get(entry.route, room))
        connection.asked.forget(entry.channel)
        del connection.slot.channels[entry.channel]
        entry.slot = None
        self._unplaced.append(entry.channel)
        return True

    def asked_of_newest(self, channel: str) -> Asked | None:
        entry = self._fleet.wanted.get(channel)
        newest = None if entry is None else self._connections.newest(entry.slot)
        return None if newest is None else newest.asked

    def asking(self, entry: WantedChannel) -> dict[int, bool]:
        connections = self._connections.of(entry.slot)
        if len(connections) < 2:  # nearly always
            return {}
        name = entry.channel
        asking = (c for c in connections if c.asked.requests.is_asked_for(name))
        return {c.id: c.asked.settling.of(name).was_confirmed for c in asking}

    def beside(self, connection_id: int) -> list[int]:
        connection = self._connections.get(connection_id)
        slot = None if connection is None else connection.slot.key
        others = (c for c in self._connections.of(slot) if c.id != connection_id)
        return [other.id for other in others if other.has_opened]

    def renewed(self, entry: WantedChannel) -> None:
        newest = self._connections.newest(entry.slot)
        if newest is not None:
            newest.subscribe([entry])

    def asked_of(self, channel: str) -> Asked | None:
        connection = self.serving(channel)
        return None if connection is None else connection.asked

    def serving(self, channel: str) -> Connection | None:
        """Return the open connection that takes requests for a channel. Needs no lock."""
        entry = self._fleet.wanted.get(channel)
        return None if entry is None else self._connections.serving(entry.slot, entry.carriers)
