"""The connections of one client: slots, where each channel belongs, and the plan that is followed.

The pure plan is in ``plan.py``. Here it is asked for what is due, and followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from wsclient.dialect.base import Dialect
from wsclient.options import Options
from wsclient.sansio.asked import Asked
from wsclient.sansio.backoff import Backoff, Connects
from wsclient.sansio.connection import Connection, Stage
from wsclient.sansio.connections import Connections
from wsclient.sansio.outages import Outage
from wsclient.sansio.output import Output
from wsclient.sansio.plan import Place, Plan, place, plan
from wsclient.sansio.slots import Slot, SlotKey
from wsclient.sansio.stops import Stops
from wsclient.sansio.wanted import Wanted
from wsclient.sansio.wantedtable import WantedChannel
from wsclient.stream.channels import Channels
from wsclient.telemetry.rates import Counters

__all__ = ["Fleet"]

INF = float("inf")
#: How often (s) to look whether a connection can take over from another one.
LOOK = 0.5
#: While two connections carry the same channels, the plan is due this often (s).
LOOK_AGAIN = 0.1
#: How many connections are remembered that have taken over from another one.
ROOTS = 1000


class Fleet:
    """The slots and the connections of one client.

    Implements :class:`~wsclient.sansio.upkeep.Places`. ``where`` returns the name of a route's
    address for errors, ``connects`` its rate limit of attempts, ``rooms`` how many channels a
    connection of it carries, both None for no limit. ``make`` makes a
    connection in a slot; it is set before the first one.
    """

    __slots__ = (
        "_by_wire",
        "_connects",
        "_counters",
        "_dialect",
        "_full",
        "_options",
        "_output",
        "_random",
        "_rooms",
        "_roots",
        "_stops",
        "_unplaced",
        "_where",
        "channels",
        "connections",
        "is_awaited",
        "make",
        "slots",
        "wanted",
    )

    def __init__(
        self,
        dialect: Dialect,
        options: Options,
        random: Callable[[], float],
        output: Output,
        stops: Stops,
        counters: Counters,
        where: Callable[[str], str],
        connects: Callable[[str], Connects | None],
        rooms: Callable[[str], int | None],
    ) -> None:
        self._dialect = dialect
        self._options = options
        self._random = random
        self._output = output
        self._stops = stops
        self._counters = counters
        self._where = where
        self._connects = connects
        self._rooms = rooms
        self.connections = Connections()
        self.slots: dict[SlotKey, Slot] = {}
        #: The first connection of the stream that each successor goes on with.
        self._roots: dict[int, int] = {}
        self.make: Callable[[Slot, float], Connection]
        self.wanted: Wanted
        self.channels: Channels
        #: Returns whether a caller waits for a connection in a slot. Set before the first one.
        self.is_awaited: Callable[[SlotKey], bool]
        #: New channels, which belong to no slot yet.
        self._unplaced: list[str] = []
        #: The placed channels, by route and wire name.
        self._by_wire: dict[tuple[str, str], str] = {}
        #: How many channels a connection of each route carries, as a refusal has shown.
        self._full: dict[str, int] = {}

    # Slots.

    def slot(self, key: SlotKey, now: float) -> Slot:
        """Return the slot; make it if there is none. A new one is due at once."""
        slot = self.slots.get(key)
        if slot is None:
            backoff = Backoff(
                self._options.retry_delay, self._options.max_retry_delay, self._random
            )
            route = key.route
            outage = Outage(self._output, self._stops)
            connects, where = self._connects(route), self._where(route)
            slot = Slot(key, self._options, backoff, connects, outage, where)
            slot.is_first = not any(other.is_established for other in self.slots.values())
            slot.begin(now)
            self.slots = {**self.slots, key: slot}
        return slot

    def remove(self, key: SlotKey) -> None:
        """Remove a slot that has no connection and needs none."""
        self.slots = {other: slot for other, slot in self.slots.items() if other != key}

    # Connections.

    def opened(self, connection: Connection, now: float) -> bool:
        """Note that a connection is open. Return whether it is the only one in its slot.

        If another one is open, its channels will overlap: it goes on with the stream of the other.
        """
        others = [c for c in self.connections.of(connection.slot.key) if c is not connection]
        for other in others:
            if other.has_opened:
                other.lifetime.overlaps(now)
                for name in self.channels.unrequested_of(other.id):
                    self.channels.overlaps.join(name, connection.id, [other.id])
                    self.channels.overlaps.confirmed(name, connection.id)
                self._roots[connection.id] = self.root(other.id)
                for old in list(self._roots)[:-ROOTS]:
                    del self._roots[old]
        return not others

    def root(self, connection_id: int) -> int:
        """Return the connection with which a stream began. Needs no lock.

        ``connection_id`` goes on with that stream, as it has taken over from one connection after
        the other.
        """
        return self._roots.get(connection_id, connection_id)

    def goes_on(self, root: int) -> bool:
        """Return whether an open connection goes on with a stream. Needs no lock."""
        return any(self.root(c.id) == root for c in self.connections if c.has_opened)

    def is_up(self, channel: str) -> bool:
        """Return whether a connection is open where a channel belongs. Needs no lock."""
        entry = self.wanted.get(channel)
        return entry is None or any(c.has_opened for c in self.connections.of(entry.slot))

    def ids(self, channel: str) -> list[int]:
        """Return the connections that a channel may come from. Needs no lock."""
        entry = self.wanted.get(channel)
        return [] if entry is None else [c.id for c in self.connections.of(entry.slot)]

    # Channels.

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
        for entry in self.wanted.among(self._unplaced):
            if entry.slot is None:
                other = self._by_wire.setdefault((entry.route, entry.wire), entry.channel)
                if other == entry.channel:
                    entries.append(entry)
                else:
                    refused[entry.channel] = f"it is the same channel as {other!r}"
        self._unplaced = []
        used = {key: len(slot.channels) for key, slot in self.slots.items()}
        most = self._dialect.limits.connections
        limits = {entry.route: self._room(entry.route) for entry in entries}
        found, left = place(((e.channel, e.route) for e in entries), used, limits, most)
        for key, names in found.items():
            self._place(self.slot(key, now), self.wanted.among(names))
        return refused | dict.fromkeys(left, f"the venue allows {most} connections, which are full")

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
                self.channels.overlaps.drop(entry.channel)
        connection = self.connections.newest(slot.key)
        if connection is not None:
            connection.subscribe(entries)

    def unsubscribe(self, entries: Iterable[WantedChannel]) -> None:
        """Unsubscribe from channels, on all open connections of their slots."""
        by_slot: dict[SlotKey | None, list[WantedChannel]] = {}
        for entry in entries:
            by_slot.setdefault(entry.slot, []).append(entry)
        for slot, leaving in by_slot.items():
            connections = [c for c in self.connections.of(slot) if c.has_opened]
            for entry in leaving:
                entry.leaving = tuple(connection.id for connection in connections)
                if not connections:
                    self.wanted.left(entry)
            for connection in connections:
                connection.asked.unsubscribe(leaving)

    def forget(self, entry: WantedChannel) -> None:
        for connection in self.connections.of(entry.slot):
            connection.asked.forget(entry.channel)

    def freed(self, entry: WantedChannel) -> None:
        slot = self.slots.get(entry.slot) if entry.slot is not None else None
        if slot is not None:
            slot.channels.pop(entry.channel, None)
        key = entry.route, entry.wire
        if self._by_wire.get(key) == entry.channel:
            del self._by_wire[key]

    def crowded(self, entry: WantedChannel, connection_id: int) -> bool:
        connection = self.connections.get(connection_id)
        if connection is None or entry.slot != connection.slot.key:
            return False
        if any(other > connection_id for other in entry.carriers):
            return False  # its successor has room
        key = connection.slot.key
        carried = sum(
            connection_id in e.carriers for e in self.wanted.among(connection.slot.channels)
        )
        if not carried:
            return False  # it has room for nothing: another one would have none either
        known = self._full.get(key.route)
        self._full[key.route] = carried if known is None else min(known, carried)
        connection.asked.forget(entry.channel)
        del connection.slot.channels[entry.channel]
        entry.slot = None
        self._unplaced.append(entry.channel)
        return True

    def newest_of(self, channel: str) -> tuple[int, Asked] | None:
        entry = self.wanted.get(channel)
        newest = None if entry is None else self.connections.newest(entry.slot)
        return None if newest is None else (newest.id, newest.asked)

    def asking(self, entry: WantedChannel) -> dict[int, bool]:
        connections = self.connections.of(entry.slot)
        if len(connections) < 2:  # nearly always
            return {}
        name = entry.channel
        asking = (c for c in connections if c.asked.requests.is_asked_for(name))
        return {c.id: c.asked.settling.of(name).was_confirmed for c in asking}

    def beside(self, connection_id: int) -> list[int]:
        connection = self.connections.get(connection_id)
        slot = None if connection is None else connection.slot.key
        others = (c for c in self.connections.of(slot) if c.id != connection_id)
        return [other.id for other in others if other.has_opened]

    def renewed(self, entry: WantedChannel) -> None:
        newest = self.connections.newest(entry.slot)
        if newest is not None:
            newest.subscribe([entry])

    def asked_of(self, channel: str) -> tuple[int, Asked] | None:
        connection = self.carrier(channel)
        return None if connection is None else (connection.id, connection.asked)

    def carrier(self, channel: str) -> Connection | None:
        """Return the open connection that takes requests for a channel. Needs no lock."""
        entry = self.wanted.get(channel)
        return None if entry is None else self.connections.serving(entry.slot, entry.carriers)

    # The plan.

    def _plan(self, now: float) -> Plan:
        needed = self._needed()
        places = []
        for key, slot in self.slots.items():
            connections = [c for c in self.connections.of(key) if c.retired_at is None]
            standing = tuple(connection.standing() for connection in connections)
            ready_at = self._ready_at(connections, now)
            places.append(Place(key, slot.due_at, standing, ready_at, key in needed))
        most = self._dialect.limits.connections
        if most is not None:  # what drains still counts at the venue
            most -= sum(connection.retired_at is not None for connection in self.connections)
        return plan(now, places, most)

    def _needed(self) -> set[SlotKey]:
        """Return the slots that channels or callers need. Without any, one is kept."""
        needed = {
            key
            for key, slot in self.slots.items()
            if slot.is_pinned or slot.channels or self.is_awaited(key)
        }
        if not needed and self.slots:
            needed = {min(self.slots, key=lambda key: self.connections.serving(key) is None)}
        return needed

    def _ready_at(self, connections: list[Connection], now: float) -> float:
        """Return when the newest of two connections can take over (monotonic s)."""
        if not _overlap(connections):
            return INF
        old, new = connections[0], connections[-1]
        if new.asked.requests.are_open or old.replies.are_open:
            return INF
        for entry in self.wanted.among(old.slot.channels):
            if new.id not in entry.carriers and (
                old.id in entry.carriers or old.asked.requests.is_asked_for(entry.channel)
            ):
                return INF
        return self.channels.overlaps.proven_at(old.id, now)

    def next_at(self, now: float) -> float:
        """Return when the plan is due next (monotonic s, ``inf`` for never)."""
        if self._unplaced:
            return now
        slots = map(self.connections.of, self.slots)
        # What a connection brings may prove that it can take over, and makes no other work.
        look_at = now + LOOK if any(map(_overlap, slots)) else INF
        return min(self._plan(now).next_at, look_at)

    def follow(self, now: float) -> None:
        """Open and end connections as the plan says."""
        found = self._plan(now)
        by_id: Mapping[int, Connection] = self.connections.by_id
        for connection_id in found.replace:
            by_id[connection_id].replace()
        for connection_id in found.retire:
            if by_id[connection_id].has_opened:
                self.channels.overlaps.switch(connection_id)
                by_id[connection_id].retire(now)
            else:
                self.connections.abort(by_id[connection_id])
        for key in found.remove:
            if not self.connections.of(key):  # else its last one still drains
                self.remove(key)
        for key in found.open:
            slot = self.slots[key]
            if slot.may_dial(now):
                self._counters.dials += 1
                slot.dialed(now)
                connection = self.make(slot, now)
                self.connections.add(connection)
                connection.begin()


def _overlap(connections: Sequence[Connection]) -> bool:
    """Return whether the newest of the connections of a slot may take over from the oldest."""
    return (
        len(connections) > 1
        and connections[0].retired_at is None
        and connections[-1].stage is Stage.OPEN
    )
