"""Order books of every venue: unknown messages, rows with further fields, decimal contexts."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import ROUND_UP, Context, Decimal, FloatOperation, Inexact, Rounded, localcontext
from typing import Any, NamedTuple

import pytest

import wsclient
from support.recordings import messages_of
from support.venues import VENUES, BookFrames
from wsclient.dialect.base import Dialect


class Book(NamedTuple):
    """The frames of a venue's book, and one way to make an update of an unknown type."""

    dialect: Dialect
    frames: BookFrames
    unknown: Callable[[Any], Any]


BOOKS = {
    f"{name}-{number}": Book(venue.dialect, venue.book, unknown)
    for name, venue in VENUES.items()
    if venue.book is not None
    for number, unknown in enumerate(venue.book.unknown)
}


@pytest.mark.parametrize("name", VENUES)
def test_the_book_of_each_venue_is_tested(name: str) -> None:
    """That of Bitfinex is tested below: its frames have a number in the place of the channel."""
    has_books = VENUES[name].dialect.book is not None
    assert (VENUES[name].book is not None or name == "bitfinex") == has_books


@pytest.fixture(params=BOOKS)
def venue(request: pytest.FixtureRequest) -> Book:
    return BOOKS[request.param]


def rows(venue: Book, side: str, *levels: tuple[str, str], more: tuple[Any, ...] = ()) -> Any:
    return [venue.frames.row(side, price, size, *more) for price, size in levels]


def begun(venue: Book, more: tuple[Any, ...] = ()) -> wsclient.OrderBook:
    book = wsclient.OrderBook(venue.dialect, venue.frames.channel)
    bids = rows(venue, "buy", ("9.5", "1.25"), ("8.5", "1"), more=more)
    frame = venue.frames.snapshot(bids, rows(venue, "sell", ("11.5", "2"), more=more))
    if venue.frames.by_rest:
        assert book.take_snapshot(frame)
    else:
        assert apply(book, venue, frame)
    return book


def apply(book: wsclient.OrderBook, venue: Book, frame: Any) -> bool:
    (message,) = messages_of(venue.dialect, [json.dumps(frame).encode()])
    assert message.channel == venue.frames.channel
    return book.apply(message)


def test_a_message_of_an_unknown_type_puts_the_book_out_of_sync(venue: Book) -> None:
    book = begun(venue)
    frame = venue.frames.update(rows(venue, "buy", ("9.5", "3")), [])
    assert not apply(book, venue, venue.unknown(frame))
    with pytest.raises(wsclient.OrderBookOutOfSync, match="does not fit"):
        book.bids()


def test_rows_with_further_fields_are_read(venue: Book) -> None:
    """Rows of Bybit's ``orderbook.rpi`` have three: price, size, and the size of RPI orders."""
    book = begun(venue, more=("0.5", 7))
    assert apply(
        book, venue, venue.frames.update(rows(venue, "buy", ("9.5", "3"), more=("0.5", 7)), [])
    )
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
def test_the_programs_decimal_context_changes_no_book(venue: Book, context: Context) -> None:
    def read() -> Any:
        book = begun(venue)
        assert apply(
            book, venue, venue.frames.update(rows(venue, "buy", ("9.123456", "3.4567")), [])
        )
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
