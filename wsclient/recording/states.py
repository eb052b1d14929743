"""State records: what a client is at one position of a recording, and the copies of its books."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from wsclient.books.feeds import BookFeed
from wsclient.books.keeper import BookCopy, LiveBook
from wsclient.books.service import BookService
from wsclient.messages import Gap, SubscriptionState
from wsclient.recording.records import (
    BookSnapshot,
    ChannelState,
    ClientState,
    ConnectionState,
    MissedPart,
)
from wsclient.recording.tap import ENTRY, Moment
from wsclient.runtime.core import Core
from wsclient.transport.masking import is_secret

__all__ = [
    "CopiedBook",
    "StateRows",
    "book_record",
    "books_of",
    "copy_state",
    "is_current",
    "plain",
    "state_record",
]


class StateRows(msgspec.Struct, gc=False):
    """A copy of a client's state."""

    charge: int
    moment: Moment
    state: str
    #: (name, messages, last, last_received_at, gap)
    channels: list[tuple[str, int, int | None, int | None, Gap | None]]
    #: (name, is_confirmed, options)
    wanted: list[tuple[str, bool, Mapping[str, Any]]]
    #: (id, route, address, origin, aliases)
    connections: list[tuple[int, str, str, int, dict[str, str]]]


class CopiedBook(msgspec.Struct, gc=False):
    """A copy of a book. No message stands between those that it contains and this entry."""

    charge: int
    moment: Moment
    channel: str
    options: Mapping[str, Any]
    copy: BookCopy


def copy_state(core: Core, moment: Moment) -> StateRows:
    """Copy the state of ``core``. Call it with the lock: it only copies."""
    supervisor = core.supervisor
    channels = [
        (name, c.messages, c.last, c.last_received_at, c.pending)
        for name, c in supervisor.upkeep.channels.by_name.items()
    ]
    wanted = [
        (e.channel, e.state is SubscriptionState.ACTIVE, e.options) for e in supervisor.wanted
    ]
    root = supervisor.fleet.root
    connections = [
        (c.id, c.slot.key.route, c.address, root(c.id), dict(c.names.channels))
        for c in supervisor.connections
        if c.has_opened
    ]
    state = supervisor.state.value
    return StateRows(ENTRY, moment, state, channels, wanted, connections)


def state_record(rows: StateRows, mask: Callable[[str], str]) -> ClientState:
    """Return the record of a state."""
    channels = {name: ChannelState(name=name) for name, _, _ in rows.wanted}
    for name, is_confirmed, options in rows.wanted:
        channels[name].is_confirmed = is_confirmed
        channels[name].options = plain(options, mask)
    for name, messages, last, last_received_at, gap in rows.channels:
        channel = channels.setdefault(name, ChannelState(name=name))
        channel.messages, channel.last, channel.last_received_at = messages, last, last_received_at
        channel.gap = None if gap is None else MissedPart(*gap)
    return ClientState(
        at=rows.moment.at,
        state=rows.state,
        channels=list(channels.values()),
        connections=[
            ConnectionState(id=id, route=route, address=mask(address), origin=root, aliases=names)
            for id, route, address, root, names in rows.connections
        ],
    )


def plain(value: Any, mask: Callable[[str], str]) -> Any:
    """Return an option's value in plain types, without secrets."""
    if isinstance(value, Mapping):
        return {
            str(name): "***" if is_secret(str(name)) else plain(found, mask)
            for name, found in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(found, mask) for found in value]
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return value
    return mask(str(value))


def books_of(core: Core) -> list[LiveBook]:
    """Return the order books that a client keeps."""
    service = core.follower
    if not isinstance(service, BookService):
        return []
    return [fed.book for fed in service.feeder.all() if isinstance(fed, BookFeed)]


def is_current(core: Core, channel: str, copy: BookCopy) -> bool:
    """Return whether a copy of a book contains all messages of its channel so far.

    Call it with the lock, and put the copy into the buffer under it. False while a read is being
    processed: other messages of the same time may follow.
    """
    found = core.supervisor.upkeep.channels.get(channel)
    newest, seen = None if found is None else found.latest, copy.seen
    if newest is not seen and (
        newest is None
        or seen is None
        or newest.raw is not seen.raw  # another reader of the channel has the original message
        or newest.item != seen.item
    ):
        return False
    return not core.reception.is_busy(core.supervisor.fleet.ids(channel))


def book_record(entry: CopiedBook, mask: Callable[[str], str]) -> BookSnapshot:
    """Return the record of a copied book."""
    copy = entry.copy
    return BookSnapshot(
        at=entry.moment.at,
        channel=entry.channel,
        bids=[(format(price, "f"), format(size, "f")) for price, size in copy.book.bids],
        asks=[(format(price, "f"), format(size, "f")) for price, size in copy.book.asks],
        origin=copy.origin,
        sequence=copy.sequence,
        received_at=copy.received_at,
        options=plain(entry.options, mask),
    )
