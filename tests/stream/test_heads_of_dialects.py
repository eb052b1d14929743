"""What the fast path makes of each venue's frames is what the careful path makes of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsclient
from support.examples import examples
from support.recordings import payloads
from support.rig import Rig
from wsclient.dialect.base import Dialect
from wsclient.messages import LinkedMessage, Message
from wsclient.stream.inbound import Inbound


class Unrouted(wsclient.BinanceFutures):
    """Binance futures as in 2021, when one address had all streams."""

    def refusal(self, channel: str, address: str) -> None:
        return None


class Open(wsclient.Kucoin):
    """KuCoin without a token by REST, and without the greeting."""

    greets = False

    def url_request(self, url: str, credentials: Any) -> None:
        return None


#: Each recording with its dialect, and the share of its frames that are data of a known channel.
RECORDINGS = {
    "binance/BINANCE.ws.1.0": (wsclient.Binance(), 0.9),
    "binance_futures/BINANCE_FUTURES.ws.1.0": (Unrouted(), 0.9),
    "bitfinex/BITFINEX.ws.11.0": (wsclient.Bitfinex(checksums=False), 0.9),
    "bybit/2024-12-01_XRPUSDT_ob500.data": (wsclient.Bybit(sequenced=True), 0.9),
    "coinbase_exchange/COINBASE.ws.28.0": (wsclient.CoinbaseExchange(book="level2"), 0.9),
    "deribit/DERIBIT.ws.1.0": (wsclient.Deribit(), 0.5),
    "kraken/kraken_btcusd_l2.jsonl": (wsclient.Kraken(), 0.7),
    "kucoin/KUCOIN.ws.1.0": (Open(), 0.9),
    "okx/OKX.ws.1.0": (wsclient.OKX(), 0.9),
}


class Line:
    """An open connection, which takes payloads by one of the two ways."""

    def __init__(self, dialect: Dialect, *, is_fast: bool) -> None:
        self.inbound = Inbound(dialect)
        self.rig = Rig(dialect).open()
        self._is_fast = is_fast
        self._reads = 0
        #: The number of messages from the fast path.
        self.quick = 0

    def take(self, read: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """Take the payloads of one read; return what a consumer sees of their messages."""
        self._reads += 1
        rig, cid = self.rig, self.rig.cid
        batch = self.inbound.batch(list(read), False, self._reads, cid)
        found: list[Message] = []
        while batch.done < len(read):
            if self._is_fast:
                quick = rig.ordinary(cid, batch, rig.now)
                self.quick += len(quick)
                found += quick
            if batch.done < len(read):
                found += rig.received(cid, self.inbound.entries(batch, 1), rig.now)
        return [visible(message) for message in found]

    def account(self) -> list[Any]:
        counters = self.rig.supervisor.counters
        channels = self.rig.supervisor.upkeep.channels.by_name
        names = ("messages", "gaps", "missed", "invalid", "unhandled")
        return [getattr(counters, name) for name in names] + [
            (name, c.messages, c.gaps, c.missed, c.late_or_duplicate, c.last, c.pending)
            for name, c in sorted(channels.items())
        ]


def visible(message: Message) -> tuple[Any, ...]:
    follows = None
    if isinstance(message, LinkedMessage):
        follows = (message.follows, message.is_counted)
    return (
        message.channel,
        message.type,
        message.sequence,
        follows,
        message.item,
        message.raw,
        message.gap,
        message.previous_at,
        message.data,
    )


def reads(lines: Sequence[bytes], rng: random.Random) -> Iterator[Sequence[bytes]]:
    """Cut the lines into reads of random sizes."""
    start = 0
    while start < len(lines):
        size = rng.choice((1, 2, 5, 20, 60))
        yield lines[start : start + size]
        start += size


def compare(dialect: Dialect, lines: Sequence[bytes], seed: int) -> Line:
    """Check that both ways agree after each read. Return the fast one."""
    fast, careful = (Line(dialect, is_fast=is_fast) for is_fast in (True, False))
    for read in reads(lines, random.Random(seed)):
        assert fast.take(read) == careful.take(read)
        assert fast.account() == careful.account()
    return fast


@pytest.mark.parametrize("file", RECORDINGS)
def test_a_recording_is_read_alike_and_mostly_on_the_fast_path(file: str) -> None:
    dialect, share = RECORDINGS[file]
    lines = payloads(file)
    fast = compare(dialect, lines, 1)
    assert fast.quick >= share * len(lines)


def edited(line: bytes, rng: random.Random) -> list[bytes]:
    """Return a line lost, doubled, cut off, or with one value changed."""
    match rng.randrange(6):
        case 0:
            return []
        case 1:
            return [line, line]
        case 2:
            return [line[: rng.randrange(len(line) + 1)]]
        case 3:
            at = rng.randrange(len(line))
            return [line[:at] + bytes([rng.randrange(32, 127)]) + line[at + 1 :]]
        case _:
            return [msgspec.json.encode(_changed(msgspec.json.decode(line), rng))]


#: Values that a field may have by mistake, some of them equal to right ones.
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    1,
    1.0,
    -1,
    2**70,
    "",
    "1",
    "x",
    [],
    {},
    [1],
    {"a": 1},
    "\ud7ff",
)


def _changed(value: Any, rng: random.Random) -> Any:
    """Return the value with one thing in it replaced, removed or shifted."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return [*value[:at], *value[at + 1 :]]
        return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int) and rng.random() < 0.6:
        return value + rng.choice((-2, -1, 1, 2))
    return rng.choice(ODD)


@pytest.mark.parametrize("file", RECORDINGS)
@given(seed=st.integers(0, 2**32))
@examples(15)
def test_edited_recordings_are_read_alike(file: str, seed: int) -> None:
    dialect, _ = RECORDINGS[file]
    rng = random.Random(seed)
    lines = payloads(file)
    begin = rng.randrange(max(1, len(lines) - 150))
    some = [
        each
        for line in [*lines[:30], *lines[begin : begin + 120]]
        for each in (edited(line, rng) if rng.random() < 0.3 else [line])
    ]
    compare(dialect, some, seed)


def test_a_frame_with_several_rows_is_one_batch() -> None:
    dialect = wsclient.Kraken()
    row = {"side": "buy", "price": 1.5, "qty": 2, "ord_type": "limit", "trade_id": 1}
    rows = [{"symbol": symbol, **row} for symbol in ("BTC/USD", "ETH/USD", "BTC/USD")]
    frame = json.dumps({"channel": "trade", "type": "update", "data": rows}).encode()
    fast = compare(dialect, [frame] * 200, 2)
    assert fast.quick >= 3 * 190


def test_a_frame_with_very_many_rows_is_not_remembered() -> None:
    """A venue could fill the memory with such keys."""
    inbound = Inbound(wsclient.Kraken())
    for count, is_remembered in ((32, True), (33, False)):
        rows = [{"symbol": f"{n}"} for n in range(count)]
        frame = json.dumps({"channel": "trade", "type": "update", "data": rows}).encode()
        inbound.entries(inbound.batch([frame], False, 1, 1))
        batch = inbound.batch([frame], False, 1, 1)
        assert batch.shape is not None
        found = [batch.recipe(batch.shape.key(head)) for head in batch.heads if head is not None]
        assert any(found) is is_remembered


def test_a_frame_that_is_not_ordinary_does_not_end_the_fast_path() -> None:
    dialect = wsclient.Binance()
    data = b'{"stream":"a@aggTrade","data":{"e":"aggTrade","p":"1"}}'
    other = b'{"result":null,"id":7}'
    line = Line(dialect, is_fast=True)
    line.take([data])
    line.take([data, other, data, data])
    assert line.quick == 3


def test_numbers_of_a_range_and_of_a_pointer_are_checked_on_the_fast_path() -> None:
    spot = [
        json.dumps({"stream": "a@depth", "data": {"U": n, "u": n + 2, "b": [], "a": []}}).encode()
        for n in range(1, 300, 3)
    ]
    del spot[50]
    fast = compare(wsclient.Binance(), spot, 3)
    assert fast.quick >= 90
    future = [
        json.dumps({"stream": "a@depth", "data": {"U": n, "u": n + 2, "pu": n - 5}}).encode()
        for n in range(1, 700, 7)
    ]
    del future[50]
    fast = compare(Unrouted(), future, 4)
    assert fast.quick >= 90
