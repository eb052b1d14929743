"""Recorded traffic, by line or over a socket, and what the client makes of it and of edits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

import wsclient
from support.making import entries_of
from support.rig import Rig
from wsclient.dialect.base import Dialect
from wsclient.dialect.books import BookUpdate
from wsclient.messages import LinkedMessage, Message
from wsclient.stream.inbound import Inbound
from wsclient.testing import FakeVenue
from wsclient.testing.protocols import Payload, ScriptedProtocol
from wsclient.testing.replay import Recorded, read_recording
from wsclient.testing.venue import Peer

RECORDED = Path(__file__).parents[3] / "shared" / "recorded"


def there(name: str) -> Path:
    """Return the file of this name; skip the test if the recordings are missing."""
    path = RECORDED / name
    if not path.exists():
        pytest.skip("the recorded traffic is not here (../shared/recorded, beside the project)")
    return path


def recording(name: str) -> list[Recorded]:
    return read_recording(there(name))


def payloads(name: str, direction: str = "received") -> list[bytes]:
    """Return what a recording's client received, or sent."""
    return [item.payload for item in recording(name) if item.direction == direction]


def messages_of(dialect: Dialect, lines: Sequence[bytes]) -> list[Message]:
    return [e for e in entries_of(Inbound(dialect), *lines) if isinstance(e, Message)]


def named_messages(dialect: Dialect, file: str) -> Iterator[Message]:
    """Yield the messages of a recording; Bitfinex's get the names of their channels."""
    inbound, names = Inbound(dialect), dict[str, str]()
    for line in payloads(file):
        if b'"event":"subscribed"' in line and b"chanId" in line:
            ack = msgspec.json.decode(line)
            names[f"#{ack['chanId']}"] = f"{ack['channel']}:{ack['symbol']}"
        for message in entries_of(inbound, line):
            if isinstance(message, Message):
                message.channel = names.get(message.channel, message.channel)
                yield message


class Bench:
    """An open connection with a dialect, fed with frames."""

    def __init__(self, dialect: Dialect) -> None:
        self._inbound = Inbound(dialect)
        self.rig = Rig(dialect).open()

    def feed(self, *frames: bytes) -> list[Message]:
        return self.rig.receive(*entries_of(self._inbound, *frames))

    def marks(self, frames: Iterable[bytes]) -> list[tuple[int, str]]:
        """Return the index of each frame that brought a marked message, and the mark's reason."""
        return [
            (index, message.gap.reason)
            for index, frame in enumerate(frames)
            for message in self.feed(frame)
            if message.gap is not None
        ]


def marks(dialect: Dialect, frames: Iterable[bytes]) -> list[tuple[int, str]]:
    return Bench(dialect).marks(frames)


def follows(message: Message) -> int | None:
    """Return the number that the message before must have.

    None where the count restarts, or where there are no numbers.
    """
    if isinstance(message, LinkedMessage):
        return message.follows
    return None if message.sequence is None else message.sequence - 1


def count_links(messages: Iterable[Message]) -> int:
    """Count the messages that follow the one before them on their channel by number.

    No other message may claim to.
    """
    last: dict[str, int] = {}
    count = 0
    for message in messages:
        before = follows(message)
        if before is not None and message.channel in last:
            number = last[message.channel]
            # A counted range may begin before the end of the one before it.
            may_overlap = isinstance(message, LinkedMessage) and message.is_counted
            assert before <= number if may_overlap else before == number, message
            count += 1
        if message.sequence is not None:
            last[message.channel] = message.sequence
    return count


class Script(ScriptedProtocol):
    """Protocol that sends all its lines at the client's ``requests``-th request."""

    def __init__(self, lines: Sequence[bytes], requests: int) -> None:
        self._lines = lines
        self._awaited = requests

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        self._awaited -= 1
        if self._awaited == 0:
            yield from (line.decode() for line in self._lines)


def refused(dialect: Dialect, channels: Sequence[str], *answers: Any) -> dict[str, str]:
    """Return the reasons that ``subscribe`` gives when one request gets these answers.

    All other channels are active.
    """
    script = Script([msgspec.json.encode(answer) for answer in answers], 1)
    with FakeVenue(script) as venue, wsclient.connect(venue.url, dialect=dialect) as client:
        with pytest.raises(wsclient.SubscriptionRejected) as caught:
            client.subscribe(*channels, timeout=10)
        assert set(client.subscriptions) == set(channels) - set(caught.value.failed)
        return dict(caught.value.failed)


class Book:
    """The simplest book, to check a dialect's updates."""

    def __init__(self, depth: int | None = None) -> None:
        self._depth = depth
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}
        #: Removals of a level that was there, and of one that was missing.
        self.removed = 0
        self.absent = 0

    def apply(self, update: BookUpdate) -> None:
        for side, levels in ((self._bids, update.bids), (self._asks, update.asks)):
            if update.is_snapshot:
                side.clear()
            for price, size in levels:
                found = side.pop(price, None)  # so that the price's digits are the last ones sent
                if size:
                    side[price] = size
                elif found is None:
                    self.absent += 1
                else:
                    self.removed += 1
        if self._depth is not None:
            self._bids, self._asks = dict(self.bids), dict(self.asks)

    @property
    def bids(self) -> list[tuple[Decimal, Decimal]]:
        return sorted(self._bids.items(), reverse=True)[: self._depth]

    @property
    def asks(self) -> list[tuple[Decimal, Decimal]]:
        return sorted(self._asks.items())[: self._depth]

    @property
    def is_crossed(self) -> bool:
        return bool(self._bids and self._asks) and max(self._bids) >= min(self._asks)


def updates_of(dialect: Dialect, messages: Iterable[Message]) -> list[BookUpdate]:
    updates = [dialect.book.update(message) for message in messages]
    return [update for update in updates if update is not None]
