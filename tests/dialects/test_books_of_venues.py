"""Order books of every venue: unknown messages, rows with further fields, decimal contexts."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import ROUND_UP, Context, Decimal, FloatOperation, Inexact, Rounded, localcontext
from typing import Any, NamedTuple

import pytest

import wsclient
from support.recordings import messages_of
from wsclient.sansio.dialect import Dialect


class Venue(NamedTuple):
    """The frames of one book: a snapshot and an update, as the venue writes them.

    ``rows`` writes a level in the venue's form, ``unknown`` makes the update a message of an
    unknown type. ``answer`` is the snapshot by REST, which takes the place of the first frame.
    """

    dialect: Dialect
    channel: str
    snapshot: Callable[[list[Any], list[Any]], Any]
    update: Callable[[list[Any], list[Any]], Any]
    row: Callable[..., Any]
    unknown: Callable[[Any], Any]
    by_rest: bool = False


def number(n: str) -> Any:
    """Return a bare JSON number, as Bitfinex, Deribit and Kraken write them."""
    return float(n)


def binance(bids: Any, asks: Any, **fields: Any) -> Any:
    data = {"e": "depthUpdate", "U": 11, "u": 12, "b": bids, "a": asks, **fields}
    return {"stream": "btcusdt@depth@100ms", "data": data}


def by_rest(bids: Any, asks: Any) -> Any:
    return {"lastUpdateId": 10, "bids": bids, "asks": asks}


def bybit(kind: str) -> Any:
    return lambda bids, asks: {
        "topic": "orderbook.50.BTCUSDT",
        "type": kind,
        "ts": 1,
        "data": {"s": "BTCUSDT", "b": bids, "a": asks, "u": 7, "seq": 1},
    }


def okx(kind: str) -> Any:
    return lambda bids, asks: {
        "arg": {"channel": "books", "instId": "BTC-USDT"},
        "action": kind,
        "data": [
            {"bids": bids, "asks": asks, "checksum": 0}
            | {"prevSeqId": -1 if kind == "snapshot" else 10, "seqId": 10 + (kind == "update")}
        ],
    }


def kraken(kind: str) -> Any:
    return lambda bids, asks: {
        "channel": "book",
        "type": kind,
        "data": [{"symbol": "BTC/USD", "bids": bids, "asks": asks, "new": [1]}],
    }


def deribit(kind: str) -> Any:
    return lambda bids, asks: {
        "method": "subscription",
        "params": {
            "channel": "book.BTC-PERPETUAL.100ms",
            "data": {"type": kind, "bids": bids, "asks": asks, "change_id": 2}
            | ({"prev_change_id": 2, "change_id": 3} if kind != "snapshot" else {}),
        },
    }


def kucoin(bids: Any, asks: Any) -> Any:
    return {
        "type": "message",
        "topic": "/market/level2:BTC-USDT",
        "subject": "trade.l2update",
        "data": {
            "sequenceStart": 11,
            "sequenceEnd": 12,
            "changes": {"bids": bids, "asks": asks},
        },
    }


def with_field(*path: Any, value: str = "bogus") -> Callable[[Any], Any]:
    def change(frame: Any) -> Any:
        place = frame
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        return frame

    return change


def coinbase(bids: Any, asks: Any) -> Any:
    return {"type": "l2update", "product_id": "BTC-USD", "changes": [*bids, *asks]}


VENUES = {
    "binance": Venue(
        wsclient.Binance(),
        "btcusdt@depth@100ms",
        by_rest,
        binance,
        lambda side, price, size, *more: [price, size, *more],
        with_field("data", "e"),
        by_rest=True,
    ),
    "binance_futures": Venue(
        wsclient.BinanceFutures(),
        "btcusdt@depth@100ms",
        by_rest,
        lambda bids, asks: binance(bids, asks, pu=10),
        lambda side, price, size, *more: [price, size, *more],
        with_field("data", "e"),
        by_rest=True,
    ),
    "bybit": Venue(
        wsclient.Bybit(),
        "orderbook.50.BTCUSDT",
        bybit("snapshot"),
        bybit("delta"),
        lambda side, price, size, *more: [price, size, *more],
        with_field("type"),
    ),
    "okx": Venue(
        wsclient.OKX(),
        "books:BTC-USDT",
        okx("snapshot"),
        okx("update"),
        lambda side, price, size, *more: [price, size, "0", "4", *more],
        with_field("action"),
    ),
    "kraken": Venue(
        wsclient.Kraken(),
        "book:BTC/USD",
        kraken("snapshot"),
        kraken("update"),
        lambda side, price, size, *more: (
            {"price": number(price), "qty": number(size)}
            | {f"new{n}": field for n, field in enumerate(more)}
        ),
        with_field("type"),
    ),
    "coinbase_exchange": Venue(
        wsclient.CoinbaseExchange(),
        "level2_batch:BTC-USD",
        lambda bids, asks: {
            "type": "snapshot",
            "product_id": "BTC-USD",
            "bids": [row[1:] for row in bids],
            "asks": [row[1:] for row in asks],
        },
        coinbase,
        lambda side, price, size, *more: [side, price, size, *more],
        with_field("changes", 0, 0),
    ),
    "deribit": Venue(
        wsclient.Deribit(),
        "book.BTC-PERPETUAL.100ms",
        deribit("snapshot"),
        deribit("change"),
        lambda side, price, size, *more: ["new", number(price), number(size), *more],
        with_field("params", "data", "type"),
    ),
    "deribit, action": Venue(
        wsclient.Deribit(),
        "book.BTC-PERPETUAL.100ms",
        deribit("snapshot"),
        deribit("change"),
        lambda side, price, size, *more: ["new", number(price), number(size), *more],
        with_field("params", "data", "bids", 0, 0),
    ),
    "kucoin": Venue(
        wsclient.Kucoin(),
        "/market/level2:BTC-USDT",
        lambda bids, asks: {
            "code": "200000",
            "data": {"sequence": "10", "bids": bids, "asks": asks},
        },
        kucoin,
        lambda side, price, size, *more: [price, size, 12, *more],
        with_field("subject"),
        by_rest=True,
    ),
}


@pytest.fixture(params=VENUES)
def venue(request: pytest.FixtureRequest) -> Venue:
    return VENUES[request.param]


def rows(venue: Venue, side: str, *levels: tuple[str, str], more: tuple[Any, ...] = ()) -> Any:
    return [venue.row(side, price, size, *more) for price, size in levels]


def begun(venue: Venue, more: tuple[Any, ...] = ()) -> wsclient.OrderBook:
    book = wsclient.OrderBook(venue.dialect, venue.channel)
    bids = rows(venue, "buy", ("9.5", "1.25"), ("8.5", "1"), more=more)
    frame = venue.snapshot(bids, rows(venue, "sell", ("11.5", "2"), more=more))
    if venue.by_rest:
        assert book.take_snapshot(frame)
    else:
        assert apply(book, venue, frame)
    return book


def apply(book: wsclient.OrderBook, venue: Venue, frame: Any) -> bool:
    (message,) = messages_of(venue.dialect, [json.dumps(frame).encode()])
    assert message.channel == venue.channel
    return book.apply(message)


def test_a_message_of_an_unknown_type_puts_the_book_out_of_sync(venue: Venue) -> None:
    book = begun(venue)
    frame = venue.update(rows(venue, "buy", ("9.5", "3")), [])
    assert not apply(book, venue, venue.unknown(frame))
    with pytest.raises(wsclient.OrderBookOutOfSync, match="does not fit"):
        book.bids()


def test_rows_with_further_fields_are_read(venue: Venue) -> None:
    """Rows of Bybit's ``orderbook.rpi`` have three: price, size, and the size of RPI orders."""
    book = begun(venue, more=("0.5", 7))
    assert apply(book, venue, venue.update(rows(venue, "buy", ("9.5", "3"), more=("0.5", 7)), []))
    assert [tuple(map(str, level)) for level in book.bids(1)] in ([("9.5", "3")], [("9.5", "3.0")])


def test_the_rows_of_a_bitfinex_book_may_have_further_fields() -> None:
    book = wsclient.OrderBook(wsclient.Bitfinex(sequences=False), "#17")
    frames = (b"[17,[[9.5,1,2,0],[11,1,-3,0]]]", b"[17,[9.5,1,5,0]]")
    for message in messages_of(wsclient.Bitfinex(sequences=False), frames):
        assert book.apply(message)
    assert book.bids() == [(Decimal("9.5"), 5)]
    (bogus,) = messages_of(wsclient.Bitfinex(sequences=False), [b'[17,"xx",[9.5,1,2]]'])
    assert not book.apply(bogus)


@pytest.mark.parametrize("channel", ["books", "books-l2-tbt", "books50-l2-tbt"])
def test_an_okx_book_without_an_action_is_no_snapshot(channel: str) -> None:
    frame: Any = {"arg": {"channel": channel, "instId": "A"}}
    frame["data"] = [{"bids": [["9", "1", "0", "1"]], "asks": []}]
    book = wsclient.OrderBook("okx", f"{channel}:A")
    (message,) = messages_of(wsclient.OKX(), [json.dumps(frame).encode()])
    assert not book.apply(message)


CONTEXTS = {
    "1 digit": Context(prec=1, rounding=ROUND_UP),
    "traps": Context(prec=2, traps=[Inexact, Rounded, FloatOperation]),
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_the_programs_decimal_context_changes_no_book(venue: Venue, context: Context) -> None:
    def read() -> Any:
        book = begun(venue)
        assert apply(book, venue, venue.update(rows(venue, "buy", ("9.123456", "3.4567")), []))
        return str(book.bids()), str(book.asks()), str(book.mid), str(book.spread)

    expected = read()
    with localcontext(context):
        assert read() == expected


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.parametrize("dialect", [wsclient.Bitfinex(), wsclient.Kraken(), wsclient.OKX()])
def test_the_programs_decimal_context_changes_no_checksum(
    dialect: Dialect, context: Context
) -> None:
    bids = [(Decimal(f"96123.{n:05d}"), Decimal(f"0.{n:08d}1")) for n in range(30, 0, -1)]
    asks = [(Decimal(f"96124.{n:05d}"), Decimal(f"1.{n:08d}E-3")) for n in range(30)]
    expected = dialect.book.checksum(bids, asks)
    assert expected is not None
    with localcontext(context):
        assert dialect.book.checksum(bids, asks) == expected
