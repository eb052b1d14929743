"""The plan: which connections to open and to end, and where each channel belongs.

Everything about the number of connections follows from :func:`plan` and :func:`place`, which are
pure. A reconnect is a slot without a connection. A connection that must end gets a successor in its
slot, which takes over its channels. Channels without room get another slot.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from wsclient.sansio.slots import SlotKey

__all__ = ["Plan", "SlotView", "Standing", "place", "plan"]

INF = float("inf")


class Standing(NamedTuple):
    """A connection as :func:`plan` sees it; all times are monotonic seconds.

    From ``rotate_at`` on a successor is due. At ``ends_at`` it ends, whether it has one or not.
    """

    id: int
    is_open: bool
    rotate_at: float = INF
    ends_at: float = INF


class SlotView(NamedTuple):
    """A slot as :func:`plan` sees it; all times are monotonic seconds.

    The next attempt may begin at ``due_at``. ``connections`` are those that are not ending, oldest
    first. The newest can take over at ``ready_at``, if there are two. ``is_needed``: a channel
    belongs here, or a caller has asked for the connection.
    """

    key: SlotKey
    due_at: float
    connections: tuple[Standing, ...] = ()
    ready_at: float = INF
    is_needed: bool = True


class Plan(NamedTuple):
    """What to do now: slots to open a connection in, connections to end, slots to remove.

    Another connection carries the channels of those to ``retire``, or they have none. Those to
    ``cut`` must end soon, and the venue allows no second connection. ``next_at`` is when a new plan
    is due at the latest (monotonic s).
    """

    open: tuple[SlotKey, ...] = ()
    retire: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()
    remove: tuple[SlotKey, ...] = ()
    next_at: float = INF


def plan(now: float, slots: Sequence[SlotView], most: int | None = None) -> Plan:
    """Return what to do now about the connections of one client. Changes nothing.

    ``most`` is how many connections the venue allows at a time, None for no limit.
    """
    opening: list[SlotKey] = []
    retired: list[int] = []
    cut: list[int] = []
    removed: list[SlotKey] = []
    times = [INF]
    count = sum(len(slot.connections) for slot in slots)
    for slot in slots:
        connections = slot.connections
        if not slot.is_needed:
            retired += [standing.id for standing in connections]
            if not connections:
                removed.append(slot.key)
        elif not connections:
            times.append(slot.due_at)
            if now >= slot.due_at:
                opening.append(slot.key)
        elif len(connections) > 1:
            oldest, newest = connections[0], connections[-1]
            if oldest.is_open and newest.is_open:
                at = min(slot.ready_at, oldest.ends_at)
                times.append(at)
                if now >= at:
                    retired.append(oldest.id)
        elif (standing := connections[0]).is_open:
            may_overlap = most is None or count + len(opening) < most
            at = max(standing.rotate_at, slot.due_at) if may_overlap else standing.ends_at
            times.append(at)
            if now < at:
                pass
            elif may_overlap:
                opening.append(slot.key)
            else:
                cut.append(standing.id)
    return Plan(tuple(opening), tuple(retired), tuple(cut), tuple(removed), min(times))


def place(
    channels: Iterable[tuple[str, str]],
    used: Mapping[SlotKey, int],
    limits: Mapping[str, int | None],
    most: int | None = None,
) -> tuple[dict[SlotKey, list[str]], list[str]]:
    """Return the slot of each new channel, and the channels for which there is no room.

    ``channels`` are pairs of channel and route. ``used`` is how many channels each slot has.
    ``limits`` is how many channels one connection of a route carries, None or missing for no limit.
    ``most`` is how many connections the venue allows at a time, None for no limit. A channel gets
    the first slot of its route with room, else a new one.
    """
    used = dict(used)
    found: dict[SlotKey, list[str]] = {}
    left: list[str] = []
    #: By route: the slots that may have room, the first one last.
    rooms: dict[str, list[SlotKey]] = {}
    for channel, route in channels:
        limit = limits.get(route)
        slots = rooms.get(route)
        if slots is None:
            slots = rooms[route] = sorted(key for key in used if key.route == route)[::-1]
        while slots and limit is not None and used[slots[-1]] >= limit:
            slots.pop()
        if not slots:
            if most is not None and len(used) >= most:
                left.append(channel)
                continue
            shard = next(n for n in itertools.count() if SlotKey(route, n) not in used)
            slots.append(SlotKey(route, shard))
            used[slots[-1]] = 0
        used[slots[-1]] += 1
        found.setdefault(slots[-1], []).append(channel)
    return found, left
