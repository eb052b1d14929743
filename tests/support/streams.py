"""The recordings of real traffic, and the content of each."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

import wsclient
from support.recordings import Book, recording
from wsclient.dialect.base import Dialect
from wsclient.messages import Message


class Direct(wsclient.Kucoin):
    """KuCoin without a token by REST."""

    def url_request(self, url: str, credentials: Any) -> None:
        return None


class Unrouted(wsclient.BinanceFutures):
    """Binance futures as in 2021, when one address had all streams."""

    def default_route(self, url: str) -> str:
        return ""

    def route(self, channel: str, url: str) -> str:
        return ""

    def refusal(self, channel: str, address: str) -> None:
        return None


class Stream(NamedTuple):
    """A recording, and its content.

    ``frames`` is the number of frames received. ``kinds`` counts the messages of each type in them,
    and items that are no messages (Deribit answers for thirty channels in one frame). ``links`` is
    the number of messages (of Bitfinex: frames) with the number that must follow the one before.
    ``checksums`` is the number of checksums that match. ``books`` is (number of books, messages
    that change them), for channels that begin with ``prefix``. ``removals`` is the number of
    removals of existing levels, and of other ones. ``answer`` answers a request if the recording
    has no answer, or one to another id.
    """

    file: str
    dialect: Dialect
    frames: int
    kinds: dict[str, int]
    prefix: str
    books: tuple[int, int]
    links: int = 0
    checksums: int = 0
    removals: tuple[int, int] = (0, 0)
    suffix: str = ""
    #: The file of the snapshots by REST.
    rest: str | None = None
    answer: Callable[[Any], Any] | None = None
    greeting: tuple[str, ...] = ()
    #: Alters the number of a line, and whether the next line then looks like a duplicate.
    alter: Callable[[bytes], bytes] | None = None
    echoes: bool = False
    #: Changes the recording before the edits.
    rewritten: Callable[[Sequence[bytes]], Sequence[bytes]] = list
    #: Levels per side in the checksum, and the edits of each kind that show at the edited line.
    covered: int = 0
    noticed: Mapping[str, int] = {}


def raised(field: str) -> Callable[[bytes], bytes]:
    """Return a function that raises the number in this field by 1."""

    def alter(line: bytes) -> bytes:
        pattern = rb'("%s":"?)(\d+)' % field.encode()
        altered, count = re.subn(pattern, lambda m: m[1] + b"%d" % (int(m[2]) + 1), line)
        assert count == 1
        return altered

    return alter


def kraken(file: str, noticed: Mapping[str, int] | None = None) -> Stream:
    return Stream(
        file,
        wsclient.Kraken(),
        370,
        {"Heartbeat": 61, "Ack": 8, "snapshot": 5, "update": 296},
        prefix="book:",
        books=(1, 301),
        checksums=301,
        removals=(67, 0),
        covered=10,
        noticed=noticed or {},
    )


STREAMS = [
    Stream(
        "binance/BINANCE.ws.1.0",
        wsclient.Binance(),
        265,
        {"depth": 177, "bookTicker": 84, "aggTrade": 2, "kline_1m": 2},
        prefix="",
        suffix="@depth",
        books=(4, 172),
        links=173,
        rest="binance/BINANCE.http.0.0",
        answer=lambda request: {"result": None, "id": request["id"]},
        alter=raised("U"),
    ),
    Stream(
        "binance_futures/BINANCE_FUTURES.ws.1.0",
        Unrouted(),
        1535,
        {"depth": 764, "bookTicker": 613, "aggTrade": 91, "kline_1m": 67},
        prefix="",
        suffix="@depth",
        books=(4, 752),
        links=760,
        rest="binance_futures/BINANCE_FUTURES.http.0.0",
        answer=lambda request: {"result": None, "id": request["id"]},
        alter=raised("pu"),
    ),
    Stream(
        "bitfinex/BITFINEX.ws.11.0",
        wsclient.Bitfinex(checksums=False),
        1693,
        {"Heartbeat": 44, "Ack": 21, "update": 1614, "snapshot": 14},
        prefix="book:",
        books=(7, 1600),
        removals=(722, 0),
        links=1669,
    ),
    Stream(
        "bybit/2024-12-01_XRPUSDT_ob500.data",
        wsclient.Bybit(sequenced=True),
        50,
        {"snapshot": 1, "delta": 49},
        prefix="orderbook.",
        books=(1, 50),
        removals=(18, 0),
        links=49,
        answer=lambda request: {
            "success": True,
            "ret_msg": "",
            "conn_id": "c",
            "req_id": request["req_id"],
            "op": "subscribe",
        },
        alter=raised("u"),
        echoes=True,
    ),
    Stream(
        "coinbase_exchange/COINBASE.ws.28.0",
        wsclient.CoinbaseExchange(book="level2"),
        9946,
        {
            "SubscribedChannels": 3,
            "snapshot": 10,
            "l2update": 9719,
            "ticker": 107,
            "last_match": 10,
            "match": 97,
        },
        prefix="level2:",
        books=(10, 9729),
        links=97,
        removals=(2634, 0),
        alter=raised("trade_id"),
        echoes=True,
    ),
    Stream(
        "deribit/DERIBIT.ws.1.0",
        wsclient.Deribit(),
        136,
        {"Ack": 30, "Rejection": 1, "snapshot": 10, "change": 36, "update": 89},
        prefix="book.",
        books=(10, 46),
        links=36,
        removals=(19, 0),
        answer=lambda request: {
            "jsonrpc": "2.0",
            "id": request["id"],
            "result": request["params"]["channels"],
        },
        alter=raised("prev_change_id"),
    ),
    kraken("kraken/kraken_btcusd_l2.cbcap"),
    kraken("kraken/kraken_btcusd_l2.jsonl", {"deleted": 229, "swapped": 229, "altered": 299}),
    Stream(
        "kucoin/KUCOIN.ws.1.0",
        Direct(),
        4721,
        {
            "LoginAccepted": 1,
            "Ack": 13,
            "trade.ticker": 830,
            "trade.l2update": 3853,
            "trade.l3match": 18,
            "trade.candles.add": 5,
            "trade.candles.update": 1,
        },
        prefix="/market/level2:",
        books=(9, 3805),
        links=3844,
        rest="kucoin/KUCOIN.http.0.0",
        answer=lambda request: {"id": str(request["id"]), "type": "ack"},
        greeting=('{"id":"x","type":"welcome"}',),
        alter=raised("sequenceStart"),
    ),
    Stream(
        "okx/OKX.ws.1.0",
        wsclient.OKX(),
        410,
        {"Ack": 18, "update": 389, "snapshot": 3},
        prefix="books:",
        books=(3, 290),
        checksums=290,
        removals=(2283, 953),
        covered=25,
        noticed={"deleted": 272, "swapped": 272, "altered": 282},
    ),
]


def with_numbers(lines: Sequence[bytes]) -> list[bytes]:
    """Return the lines with the numbers that OKX has sent in each message of a book since 2022."""
    last: dict[str, int] = {}
    found = []
    for line in lines:
        frame = json.loads(line)
        if "data" in frame and frame["arg"]["channel"] == "books":
            before = last.get(frame["arg"]["instId"], -1)
            number = last[frame["arg"]["instId"]] = max(before, 1000) + 3
            frame["data"][0].update(prevSeqId=before, seqId=number)
        found.append(msgspec.json.encode(frame))
    return found


NUMBERED = [
    *(stream for stream in STREAMS if stream.alter is not None),
    STREAMS[-1]._replace(alter=raised("prevSeqId"), rewritten=with_numbers),
]


def check_books(stream: Stream, messages: Sequence[Message]) -> tuple[Any, ...]:
    """Check that no book is crossed, and count its content as in ``Stream``.

    Return (books, messages that changed them), checksums that match, removals.
    """
    by_channel: dict[str, list[Message]] = defaultdict(list)
    for message in messages:
        if message.channel.startswith(stream.prefix) and stream.suffix in message.channel:
            by_channel[message.channel].append(message)
    changes = checksums = removed = absent = 0
    for channel, of_one in by_channel.items():
        book = wsclient.OrderBook(stream.dialect, channel)
        if stream.rest is not None:
            answer = snapshot_of(stream, channel)
            for message in of_one:
                book.apply(message)
            assert book.take_snapshot(answer)
            snapshot = stream.dialect.book.snapshot(channel, answer)
            start = snapshot.sequence if snapshot.has_last else snapshot.sequence - 1
            changes += sum((message.sequence or 0) > start for message in of_one)
            continue
        plain = Book(stream.dialect.book.depth({}))
        for message in of_one:
            assert book.apply(message)
            update = stream.dialect.book.update(message)
            assert update is not None
            plain.apply(update)
            checksums += update.checksum is not None
        assert not plain.is_crossed
        assert (book.bids(), book.asks()) == (plain.bids, plain.asks)
        changes += len(of_one)
        removed += plain.removed
        absent += plain.absent
    return (len(by_channel), changes), checksums, (removed, absent)


def snapshot_of(stream: Stream, channel: str) -> Any:
    """Return the recorded answer of the venue's REST server for this book."""
    assert stream.rest is not None
    for item in recording(stream.rest):
        symbol = re.findall("symbol=([A-Z0-9-]+)", item.uri or "")[0]
        if stream.dialect.book.channel(symbol, {}) == channel:
            return msgspec.json.decode(item.payload)
    raise AssertionError(f"no snapshot of {channel}")
