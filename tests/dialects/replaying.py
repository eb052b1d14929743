"""Recorded streams through what a client makes of them, line by line or over a socket."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from making import entries_of

import wsclient
from wsclient.messages import Message
from wsclient.sansio.dialect import BookUpdate, Dialect
from wsclient.sansio.inbound import Inbound
from wsclient.sansio.recovery import ChannelTracker
from wsclient.testing import FakeVenue
from wsclient.testing.protocols import Payload, ScriptedProtocol
from wsclient.testing.replay import read_recording
from wsclient.testing.venue import Peer

RECORDED = Path(__file__).parents[2] / ".." / "shared" / "recorded"


def recorded(name: str) -> list[bytes]:
    """The payloads that a recording's client received."""
    path = RECORDED / name
    if not path.exists():
        pytest.skip("the recorded traffic is not here (../shared/recorded, beside the project)")
    return [item.payload for item in read_recording(path) if item.direction == "received"]


def tracked(dialect: Dialect, lines: Sequence[bytes]) -> list[Message]:
    """The messages of these lines, their gaps marked."""
    trackers: dict[str, ChannelTracker] = {}
    messages = [m for m in entries_of(Inbound(dialect), *lines) if isinstance(m, Message)]
    for message in messages:
        trackers.setdefault(message.channel, ChannelTracker(message.channel)).accept(message)
    return messages


def marks(dialect: Dialect, lines: Sequence[bytes]) -> list[tuple[int, str]]:
    """(number of the line, reason) of each line that bears a mark; every line is one message."""
    messages = tracked(dialect, lines)
    assert len(messages) == len(lines)
    return [(i, m.gap.reason) for i, m in enumerate(messages) if m.gap is not None]


def deleted(lines: Sequence[bytes], i: int) -> list[bytes]:
    return [*lines[:i], *lines[i + 1 :]]


def doubled(lines: Sequence[bytes], i: int) -> list[bytes]:
    return [*lines[: i + 1], *lines[i:]]


def swapped(lines: Sequence[bytes], i: int) -> list[bytes]:
    return [*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]]


def replaced(lines: Sequence[bytes], i: int, line: bytes) -> list[bytes]:
    return [*lines[:i], line, *lines[i + 1 :]]


class Script(ScriptedProtocol):
    """Sends all its lines when the client has made so many requests."""

    def __init__(self, lines: Sequence[bytes], after: int) -> None:
        self._lines = lines
        self._awaited = after

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        self._awaited -= 1
        if self._awaited == 0:
            yield from (line.decode() for line in self._lines)


def over_a_socket(
    dialect: Dialect, channels: Sequence[str], lines: Sequence[bytes], count: int
) -> tuple[list[Message], wsclient.Stats]:
    """What a client delivers of these lines: ``count`` messages."""
    requests = len(list(dialect.batches(channels)))
    delivered: list[Message] = []
    with (
        FakeVenue(Script(lines, requests)) as venue,
        wsclient.connect(venue.url, dialect=dialect) as client,
    ):
        client.subscribe(*channels, timeout=10)
        while len(delivered) < count:
            delivered += client.recv_batch(timeout=10)
        return delivered, client.stats()


def refused(dialect: Dialect, channels: Sequence[str], *answers: Any) -> dict[str, str]:
    """The reasons that ``subscribe`` gives when one request is answered so; the rest is active."""
    script = Script([msgspec.json.encode(answer) for answer in answers], 1)
    with FakeVenue(script) as venue, wsclient.connect(venue.url, dialect=dialect) as client:
        with pytest.raises(wsclient.SubscriptionRejected) as caught:
            client.subscribe(*channels, timeout=10)
        assert set(client.subscriptions) == set(channels) - set(caught.value.failed)
        return dict(caught.value.failed)


class Book:
    """The simplest book there is, to check what a dialect says of one."""

    def __init__(self) -> None:
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}

    def apply(self, update: BookUpdate) -> None:
        for side, levels in ((self._bids, update.bids), (self._asks, update.asks)):
            if update.is_snapshot:
                side.clear()
            for price, size in levels:
                side.pop(price, None)  # so that the price's digits are the last ones sent
                if size:
                    side[price] = size

    @property
    def bids(self) -> list[tuple[Decimal, Decimal]]:
        return sorted(self._bids.items(), reverse=True)

    @property
    def asks(self) -> list[tuple[Decimal, Decimal]]:
        return sorted(self._asks.items())

    @property
    def is_crossed(self) -> bool:
        return self.bids[0][0] >= self.asks[0][0]

    def after(self, update: BookUpdate) -> Book:
        book = copy.deepcopy(self)
        book.apply(update)
        return book


def updates_of(dialect: Dialect, messages: Sequence[Message]) -> list[BookUpdate]:
    updates = [dialect.book_update(message) for message in messages]
    return [update for update in updates if update is not None]
