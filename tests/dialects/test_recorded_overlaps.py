"""Recorded traffic through two connections, with losses, delays and cuts of each."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

import pytest

import wsclient
from dialects.test_recorded import NUMBERED, STREAMS, Stream, check_books
from support.making import entries_of
from support.recordings import Book, follows, payloads, updates_of
from wsclient.dialect.base import Dialect
from wsclient.messages import Message
from wsclient.stream.channels import Channels
from wsclient.stream.inbound import Inbound
from wsclient.testing.frames import encode

#: The time (s) between two frames, and how late a connection brings one at most.
STEP, DELAY = 0.001, 0.02
#: A pause (s) in which all arrives, and both connections are silent for long.
PAUSE = 6.0
#: How many messages of each channel are not lost: they show that it has numbers.
BEGIN = 3
SEEDS = [1, 2]
MANY = range(3, 23)


def seeds(which: Sequence[int]) -> list[object]:
    return [*SEEDS, *(pytest.param(seed, marks=pytest.mark.soak) for seed in which)]


class Arriving(NamedTuple):
    """A frame on its way, ordered by its arrival."""

    at: float
    order: int
    connection: int
    line: bytes


class Ways:
    """The connections of one client, which bring what a venue sends, each in its own time."""

    def __init__(self, dialect: Dialect, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.delivered: list[Message] = []
        self.connections: list[int] = []
        self._dialect = dialect
        self.channels = Channels(lambda _: True, shares_numbers=dialect.numbers_are_shared)
        self._inbounds: dict[int, Inbound] = {}
        self._names: list[str] = []
        self._arriving: list[Arriving] = []
        self._last_at: dict[int, float] = {}
        self._order = itertools.count()

    def add(self, names: Sequence[str]) -> None:
        """Open one more connection, which subscribes to all channels."""
        new = next(self._order) + 1
        for name in names:
            channel = self.channels.of(name)
            carriers = list(self.connections)
            self.channels.overlaps.at(self.now)
            self.channels.overlaps.join(name, new, carriers)
            self.channels.overlaps.confirmed(name, new)
            assert bool(carriers) == channel.is_merged
        self.connections.append(new)
        self._names = list(names)
        self._inbounds[new] = Inbound(self._dialect)
        self._last_at[new] = self.now

    def send(self, line: bytes, lost_on: Sequence[int] = (), only: int | None = None) -> None:
        """Send a frame on each connection, or on one of them."""
        for connection in self.connections if only is None else [only]:
            if connection not in lost_on:
                at = max(self._last_at[connection], self.now + DELAY * self.random.random())
                self._last_at[connection] = at
                heappush(self._arriving, Arriving(at, next(self._order), connection, line))

    def go_on(self, until: float) -> None:
        """Bring all that arrives until then."""
        overlaps = self.channels.overlaps
        while True:
            due = self._arriving[0].at if self._arriving else float("inf")
            tick = max(self.now, overlaps.deadline())
            if min(due, tick) > until:
                break
            self.now = min(due, tick)
            if tick <= due:
                overlaps.tick(self.now)
                self.delivered += overlaps.take_released()
                continue
            arrived = heappop(self._arriving)
            if arrived.connection in self.connections:
                self._bring(arrived.connection, arrived.line)
        self.now = until

    def _bring(self, connection: int, line: bytes) -> None:
        overlaps = self.channels.overlaps
        overlaps.at(self.now)
        inbound = self._inbounds[connection]
        for message in inbound.entries(inbound.batch([line], False, 1, connection, self.now)):
            if not isinstance(message, Message):
                continue
            merge = overlaps.get(message.channel)
            if merge is None:
                self.channels.of(message.channel).accept(message)
                self.delivered.append(message)
            else:
                identity = self._dialect.identity(message)
                self.delivered += overlaps.take(merge, connection, message, identity)
            self.delivered += overlaps.take_released()

    def cut(self) -> None:
        """Cut the older connection; the other one goes on."""
        old = self.connections.pop(0)
        self.channels.overlaps.at(self.now)
        for name in self._names:
            self.channels.overlaps.leave(name, "reconnect", old)
        self.delivered += self.channels.overlaps.take_released()

    @property
    def is_proven(self) -> bool:
        """Whether the older connection can be cut without a mark."""
        old = self.connections[0]
        return self.channels.overlaps.proven_at(old, self.now) <= self.now


def by_channel(messages: Sequence[Message]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    for message in messages:
        found[message.channel].append(message.raw)
    return found


def of_one(dialect: Dialect, lines: Sequence[bytes]) -> list[Message]:
    """Return what one connection brings of them."""
    return [m for m in entries_of(Inbound(dialect), *lines) if isinstance(m, Message)]


class Line(NamedTuple):
    """A frame with numbered messages only; ``may_be_lost`` unless a channel begins with it."""

    data: bytes
    messages: list[Message]
    may_be_lost: bool


def numbered_lines(stream: Stream) -> list[Line]:
    seen: dict[str, int] = defaultdict(int)
    found = []
    for data in stream.rewritten(payloads(stream.file)):
        messages = of_one(stream.dialect, [data])
        if messages and all(message.sequence is not None for message in messages):
            for message in messages:
                seen[message.channel] += 1
            may_be_lost = min(seen[message.channel] for message in messages) > BEGIN
            found.append(Line(data, messages, may_be_lost))
    return found


SHARED = [stream for stream in NUMBERED if stream.dialect.numbers_are_shared]


def play_numbered(stream: Stream, seed: int, lost: Callable[[Random], Sequence[int]]) -> None:
    """Play a recording, of which each connection loses frames; check what is delivered."""
    lines = numbered_lines(stream)
    names = sorted({message.channel for line in lines for message in line.messages})
    ways = Ways(stream.dialect, seed)
    ways.add(names)
    ways.add(names)
    brought: list[Message] = []
    for line in lines:
        missing = [ways.connections[n] for n in lost(ways.random)] if line.may_be_lost else []
        if len(missing) < 2:
            brought += line.messages
        ways.send(line.data, missing)
        ways.go_on(ways.now + STEP)
    ways.go_on(ways.now + 60.0)
    assert by_channel(ways.delivered) == by_channel(brought)
    last: dict[str, int] = {}
    for message in ways.delivered:
        assert message.sequence is not None
        before = follows(message)
        is_hole = before is not None and before > last.get(message.channel, before)
        assert (message.gap is not None) == is_hole, message
        last[message.channel] = message.sequence


@pytest.mark.parametrize("seed", seeds(MANY))
@pytest.mark.parametrize("stream", SHARED, ids=lambda stream: stream.file)
def test_what_one_of_two_connections_brings_is_not_missed(stream: Stream, seed: int) -> None:
    play_numbered(stream, seed, lambda random: random.choice([(0,), (1,), (), (), ()]))


@pytest.mark.parametrize("seed", seeds(MANY))
@pytest.mark.parametrize("stream", SHARED, ids=lambda stream: stream.file)
def test_what_neither_connection_brings_is_marked(stream: Stream, seed: int) -> None:
    play_numbered(stream, seed, lambda random: [n for n in (0, 1) if random.random() < 0.3])


def kraken_snapshot(name: str, book: Book) -> bytes:
    """Return what Kraken sends to a new subscriber of a book."""
    sides = {
        side: [{"price": price, "qty": size} for price, size in levels]
        for side, levels in (("bids", book.bids), ("asks", book.asks))
    }
    checksum = wsclient.Kraken.book.checksum(book.bids, book.asks)
    row = {"symbol": name.partition(":")[2], **sides, "checksum": checksum}
    return encode({"channel": "book", "type": "snapshot", "data": [row]}).encode()


def rotate(stream: Stream, name: str, lines: Sequence[bytes], seed: int) -> tuple[int, Ways]:
    """Play the frames of one channel, and rotate whenever that is proven; return how often."""
    ways = Ways(stream.dialect, seed)
    ways.add([name])
    is_kraken = isinstance(stream.dialect, wsclient.Kraken)
    book = Book(stream.dialect.book.depth({})) if is_kraken else None
    rotations = 0
    for n, line in enumerate(lines):
        if len(ways.connections) == 1 and ways.random.random() < 0.3:
            ways.add([name])
            if book is not None and n:
                ways.send(kraken_snapshot(name, book), only=ways.connections[-1])
        ways.send(line)
        if book is not None:
            for update in updates_of(stream.dialect, of_one(stream.dialect, [line])):
                book.apply(update)
        ways.go_on(ways.now + (STEP if ways.random.random() < 0.9 else PAUSE))
        if len(ways.connections) > 1 and ways.is_proven and ways.random.random() < 0.5:
            ways.cut()
            rotations += 1
    ways.go_on(ways.now + PAUSE)
    return rotations, ways


@pytest.mark.parametrize("seed", seeds(MANY))
@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.file)
def test_rotations_of_a_recording_lose_nothing(stream: Stream, seed: int) -> None:
    """The older connection is cut, with what it has on its way, whenever that is proven to be safe.

    All checksums hold, and the books are those of one connection.
    """
    lines: dict[str, list[bytes]] = defaultdict(list)
    expected: list[Message] = []
    for line in payloads(stream.file):
        messages = of_one(stream.dialect, [line])
        if len({message.channel for message in messages}) == 1:
            lines[messages[0].channel].append(line)
            expected += messages
    delivered: list[Message] = []
    rotations = 0
    for name, of_channel in lines.items():
        count, ways = rotate(stream, name, of_channel, seed)
        rotations += count
        delivered += ways.delivered
    assert [message for message in delivered if message.gap] == []
    assert by_channel(delivered) == by_channel(expected)
    if stream.checksums:
        found = check_books(stream, delivered)
        assert found == (stream.books, stream.checksums, stream.removals)
    assert rotations > 10 or len(expected) < 250, "it was hardly ever proven"
