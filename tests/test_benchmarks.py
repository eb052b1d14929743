"""The benchmarks' frames are what each venue sends, and their tables say what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

import wsclient
from support.rig import Rig
from wsclient.dialect.base import Dialect
from wsclient.messages import Message
from wsclient.stream.inbound import Inbound

BENCHMARKS = Path(__file__).parent / "benchmarks"
CHANNELS, COUNT = 3, 240

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(BENCHMARKS)
    from answers import Channel, Conversation
    from frames import CHUNK, Stream, payload_of
    from goals import Verdict
    from kinds import KINDS
    from report import rst_table
    from shapes import type_of

#: Kinds whose messages have numbers that the client checks.
NUMBERED = [
    "generic ticker",
    "generic trade",
    "generic book",
    "binance depth",
    "binance_futures depth",
    "bitfinex ticker",
    "bitfinex trades",
    "bitfinex book",
    "bybit orderbook",
    "coinbase_exchange matches",
    "deribit book",
    "kucoin level2",
    "okx books",
]
BOOKS = [name for name, kind in KINDS.items() if kind.what == "book" and "generic" not in name]


def dialect_of(name: str) -> Dialect:
    if name == "bybit":
        return wsclient.Bybit(sequenced=True)
    return wsclient.dialects.find(name)


class Line:
    """A connection on which all channels of a stream are subscribed, as the feed answers."""

    def __init__(self, stream: Stream) -> None:
        dialect = dialect_of(stream.kind.dialect)
        self._inbound = Inbound(dialect)
        self.rig = Rig(dialect).open()
        self.rig.subscribe(*stream.channels)
        #: The number of messages that took the fast path.
        self.quick = 0
        self.confirmed: list[str] = []
        conversation = Conversation(stream.kind.dialect)
        for request in self.rig.sent():
            for answer in conversation.received(json.dumps(request).encode()):
                if isinstance(answer, Channel):
                    self.confirmed.append(answer)
                else:
                    self.take([answer])

    def take(self, read: list[bytes]) -> list[Message]:
        batch, found = self._inbound.batch(read, False, 1, self.rig.cid), []
        while batch.done < len(read):
            quick = self.rig.ordinary(self.rig.cid, batch, self.rig.now)
            self.quick += len(quick)
            found += quick
            if batch.done < len(read):
                entries = self._inbound.entries(batch, 1)
                found += self.rig.received(self.rig.cid, entries, self.rig.now)
        return found


def reads(stream: Stream, lost: int = -1) -> Iterator[list[bytes]]:
    """Yield the payloads of a stream, a few per read, without the frame number ``lost``."""
    yield list(map(payload_of, stream.openings))
    for start in range(0, COUNT, 20):
        yield [stream.payload(n) for n in range(start, start + 20) if n != lost]


@pytest.mark.parametrize("name", KINDS)
def test_frames_have_true_numbers(name: str) -> None:
    """The client takes them without a gap, nearly all on its fast path."""
    stream = Stream(KINDS[name], CHANNELS)
    line = Line(stream)
    messages = [message for read in reads(stream) for message in line.take(read)]
    assert line.confirmed == stream.channels
    wanted = COUNT * stream.kind.items + len(stream.openings)
    assert [message.gap for message in messages] == [None] * wanted
    assert {message.channel for message in messages} == set(stream.channels)
    assert line.quick > 0.9 * wanted


@pytest.mark.parametrize("name", NUMBERED)
def test_a_lost_frame_would_be_seen(name: str) -> None:
    stream = Stream(KINDS[name], CHANNELS)
    line = Line(stream)
    messages = [message for read in reads(stream, lost=100) for message in line.take(read)]
    assert any(message.gap is not None for message in messages)


@pytest.mark.parametrize("name", BOOKS)
def test_updates_of_a_book_lead_back_to_its_beginning(name: str) -> None:
    """Two cycles keep the book in sync, with its checksums, and end as it began."""
    stream = Stream(KINDS[name], 1)
    dialect = dialect_of(stream.kind.dialect)
    book = wsclient.OrderBook(dialect, stream.channels[0])
    line = Line(stream)
    for message in line.take(list(map(payload_of, stream.openings))):
        assert book.apply(message)
    if stream.kind.rest is not None:
        answer = stream.rest(stream.kind.place(0).symbol)
        assert book.take_snapshot(json.loads(answer, parse_float=Decimal))
    before = book.bids(), book.asks()
    for message in line.take([stream.payload(n) for n in range(2 * stream.cycle)]):
        assert book.apply(message), book.reason
    assert (book.bids(), book.asks()) == before


@pytest.mark.parametrize("name", KINDS)
def test_chunks_are_all_frames_in_order(name: str) -> None:
    stream = Stream(KINDS[name], 2)
    total = CHUNK // len(stream.frame(0)) + 2 * stream.cycle + 1  # more than one chunk
    frames = [stream.frame(n) for n in range(total)]
    for count in (total, 3):
        assert b"".join(stream.chunks(count)) == b"".join(frames[:count])
        assert stream.frames_length(count) == sum(map(len, (*stream.openings, *frames[:count])))


@pytest.mark.parametrize("name", KINDS)
def test_the_declared_type_fits_all_frames(name: str) -> None:
    stream = Stream(KINDS[name], CHANNELS)
    payloads = [stream.payload(n) for n in range(COUNT)]
    decoded = list(map(msgspec.json.decode, payloads))
    kind = type_of(decoded)
    assert kind is not Any
    for payload, data in zip(payloads, decoded, strict=True):
        assert msgspec.convert(data, kind) == msgspec.json.decode(payload, type=kind)


def test_a_table_is_as_wide_as_its_cells() -> None:
    table = rst_table(["frames", "x"], [["okx books", "0.9"], ["a", "10"]])
    assert table.splitlines() == [
        "========= ===",
        "frames    x",
        "========= ===",
        "okx books 0.9",
        "a         10",
        "========= ===",
    ]


@pytest.mark.parametrize(
    ("measured", "at_least", "is_held"),
    [(0.77, True, True), (0.76, True, False), (0.94, False, True), (0.95, False, False)],
)
def test_a_figure_within_a_tenth_of_its_goal_holds(
    measured: float, at_least: bool, is_held: bool
) -> None:
    assert Verdict("x", 0.85, measured, at_least).is_held is is_held


def test_the_accounting_can_be_turned_off_and_on() -> None:
    """Its edits match the code that they change."""
    code = "import unmeasured; switch = unmeasured.Switch(); switch.turn(False); switch.turn(True)"
    subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, check=True)


def test_every_dialect_can_be_measured_over_a_socket() -> None:
    """The feed talks to the client of every dialect, and no gap is seen."""
    code = """
import kinds, processes
firsts = {kind.dialect: str(kind) for kind in reversed(kinds.ALL)}
with processes.Feed(False) as feed, processes.Worker(feed, "venues", "ours") as worker:
    for kind in firsts.values():
        assert worker.run(kind=kind, channels=2, count=100)["rate"] > 0
"""
    subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, check=True, timeout=50)
