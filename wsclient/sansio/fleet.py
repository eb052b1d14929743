"""The slots and the connections of one client, and the plan (``plan.py``) that they follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wsclient.dialect.base import Dialect
from wsclient.options import Options
from wsclient.sansio.backoff import Backoff, Connects
from wsclient.sansio.connection import Connection, Stage
from wsclient.sansio.connections import Connections
from wsclient.sansio.outages import Outage
from wsclient.sansio.output import Output
from wsclient.sansio.plan import Plan, SlotView, plan
from wsclient.sansio.slots import Slot, SlotKey
from wsclient.sansio.stops import Stops
from wsclient.sansio.wanted import Wanted
from wsclient.stream.channels import Channels
from wsclient.telemetry.rates import Counters

__all__ = ["Fleet"]

INF = float("inf")
#: How often (s) to look whether a connection can take over from another one.
LOOK = 0.5
#: How many successors are remembered, each with the first connection of its stream.
ROOTS = 1000


class Fleet:
    """The slots and the connections of one client.

    ``where`` returns the name of a route's address for errors, ``connects`` its rate limit of
    attempts, None for no limit. ``make``, ``wanted``, ``channels`` and ``is_awaited`` are set
    before the first connection. ``make`` makes a connection in a slot; ``is_awaited`` returns
    whether a caller waits for one there.
    """

    __slots__ = (
        "_connects",
        "_counters",
        "_dialect",
        "_options",
        "_output",
        "_random",
        "_roots",
        "_stops",
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
    ) -> None:
        self._dialect = dialect
        self._options = options
        self._random = random
        self._output = output
        self._stops = stops
        self._counters = counters
        self._where = where
        self._connects = connects
        self.connections = Connections()
        self.slots: dict[SlotKey, Slot] = {}
        #: The first connection of the stream that each successor continues.
        self._roots: dict[int, int] = {}
        self.make: Callable[[Slot, float], Connection]
        self.wanted: Wanted
        self.channels: Channels
        self.is_awaited: Callable[[SlotKey], bool]

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

        Beside another open one it is a successor: their channels overlap, and it continues the
        stream of the other.
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
        """Return the first connection of the stream that a connection continues. Needs no lock.

        A stream goes on while one connection takes over from another.
        """
        return self._roots.get(connection_id, connection_id)

    def goes_on(self, root: int) -> bool:
        """Return whether an open connection continues the stream with this root. Needs no lock."""
        return any(self.root(c.id) == root for c in self.connections if c.has_opened)

    def is_up(self, channel: str) -> bool:
        """Return whether a connection is open where a channel belongs. Needs no lock."""
        entry = self.wanted.get(channel)
        return entry is None or any(c.has_opened for c in self.connections.of(entry.slot))

    def ids(self, channel: str) -> list[int]:
        """Return the connections that a channel may come from. Needs no lock."""
        entry = self.wanted.get(channel)
        return [] if entry is None else [c.id for c in self.connections.of(entry.slot)]

    # The plan.

    def _plan(self, now: float) -> Plan:
        needed = self._needed()
        views = []
        for key, slot in self.slots.items():
            connections = self.connections.staying(key)
            standing = tuple(connection.standing() for connection in connections)
            ready_at = self._ready_at(connections, now)
            views.append(SlotView(key, slot.due_at, standing, ready_at, key in needed))
        most = self._dialect.limits.connections
        if most is not None:  # the venue still counts connections that drain
            most -= sum(connection.retired_at is not None for connection in self.connections)
        return plan(now, views, most)

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
        slots = map(self.connections.staying, self.slots)
        # Messages may prove that a connection can take over, and cause no tick by themselves.
        look_at = now + LOOK if any(map(_overlap, slots)) else INF
        return min(self._plan(now).next_at, look_at)

    def follow(self, now: float) -> None:
        """Open and end connections as the plan says."""
        found = self._plan(now)
        by_id: Mapping[int, Connection] = self.connections.by_id
        for connection_id in found.cut:
            by_id[connection_id].cut_early()
        for connection_id in found.retire:
            if by_id[connection_id].has_opened:
                self.channels.overlaps.switch(connection_id)
                by_id[connection_id].retire(now)
            else:
                self.connections.abort(by_id[connection_id])
        for key in found.remove:
            if not self.connections.of(key):  # else its last connection still drains
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
    """Return whether the newest connection of a slot may take over from the oldest."""
    return len(connections) > 1 and connections[-1].stage is Stage.OPEN
