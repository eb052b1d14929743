"""Trades, quotes and book updates of each venue in plain fields, checked by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

import wsclient
from support.views import CASES, READ_AT, Case, messages
from support.views.bitfinex import BITFINEX
from support.views.bybit import BYBIT
from support.views.coinbase import COINBASE
from support.views.kraken import KRAKEN
from support.views.kucoin import KUCOIN
from support.views.okx import OKX
from wsclient import dialects
from wsclient.dialect import Dialect
from wsclient.messages import Arrival, Message


def received(view: Any, venue: str) -> Any:
    """Return a view as the client gives it: with the venue, and the time of receipt."""
    return msgspec.structs.replace(view, venue=venue, received_at=READ_AT)


def digits(view: Any) -> str:
    """Return a text that shows the digits of all numbers: 1.0 and 1.00 are equal, but not here."""
    return repr(view)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_views_of_a_frame(case: Case) -> None:
    found = messages(case.dialect, case.frame, case.channel)
    trades = [m.trades() for m in found]
    expected = (
        None if case.trades is None else [received(t, case.dialect.name) for t in case.trades]
    )
    given = None if trades == [None] else [trade for of_one in trades for trade in of_one or ()]
    assert digits(given) == digits(expected)
    for method, view in (("quote", case.quote), ("book_update", case.update)):
        seen = {digits(getattr(message, method)()) for message in found}
        assert seen == {digits(view if view is None else received(view, case.dialect.name))}


def test_each_dialect_has_a_case_of_each_of_its_views() -> None:
    assert {case.dialect.name for case in CASES.values()} == set(dialects.NAMES)
    for kind in ("trades", "quote", "update"):
        shown = {case.dialect.name for case in CASES.values() if getattr(case, kind) is not None}
        assert shown == set(dialects.NAMES) - {"generic", "binance_ws_api"}


MALFORMED = {
    "a number that is none": (
        "trades",
        OKX,
        '{"arg":{"channel":"trades","instId":"A"},"data":[{"instId":"A","tradeId":"1",'
        '"px":"NaN","sz":"1","side":"buy","ts":"1652459227219"}]}',
    ),
    "an infinite size": (
        "quote",
        OKX,
        '{"arg":{"channel":"tickers","instId":"A"},"data":[{"instId":"A","bidPx":"1",'
        '"bidSz":"Infinity","askPx":"2","askSz":"1"}]}',
    ),
    "a text for a number": (
        "trades",
        COINBASE,
        '{"type":"match","trade_id":1,"side":"buy","size":"much","price":"1","product_id":"A",'
        '"time":"2021-04-17T16:43:37.270697Z"}',
    ),
    "an unknown side": (
        "trades",
        KRAKEN,
        '{"channel":"trade","type":"update","data":[{"symbol":"A","side":"both","qty":1,'
        '"price":1,"trade_id":1,"timestamp":"2023-09-25T07:49:37.708706Z"}]}',
    ),
    "a missing field": (
        "quote",
        KUCOIN,
        '{"type":"message","topic":"/market/ticker:A","subject":"trade.ticker","data":{}}',
    ),
    "a time that is none": (
        "trades",
        COINBASE,
        '{"type":"match","trade_id":1,"side":"buy","size":"1","price":"1","product_id":"A",'
        '"time":"yesterday"}',
    ),
    "a book of orders": ("book_update", BITFINEX, "[9,[[96124382782,31534,0.0285]]]"),
    "a book of another form": (
        "book_update",
        BYBIT,
        '{"topic":"orderbook.50.A","type":"delta","data":{"u":1}}',
    ),
    "a level that is no number": (
        "book_update",
        BYBIT,
        '{"topic":"orderbook.50.A","type":"delta","data":{"u":1,"b":[["1","-sNaN"]],"a":[]}}',
    ),
}


@pytest.mark.parametrize(("view", "dialect", "frame"), MALFORMED.values(), ids=MALFORMED)
def test_a_payload_that_makes_no_sense_raises(view: str, dialect: Dialect, frame: str) -> None:
    channel = "book:tBTCUSD" if dialect is BITFINEX else None
    (message,) = messages(dialect, frame, channel)
    name = view.replace("_", " ")
    with pytest.raises(wsclient.InvalidMessage, match=f"^the {dialect.name} dialect .* {name} "):
        getattr(message, view)()
    assert message.data is not None


def test_a_view_is_frozen() -> None:
    case = CASES["okx trade (w)"]
    ((trade,),) = [message.trades() or () for message in messages(case.dialect, case.frame)]
    with pytest.raises(AttributeError):
        trade.price = Decimal(1)  # type: ignore[misc]


def test_a_message_without_a_dialect_has_no_views() -> None:
    lost = Message("trades:BTC-USDT", "lost", arrival=Arrival(1, 1, None))
    assert (lost.trades(), lost.quote(), lost.book_update()) == (None, None, None)
