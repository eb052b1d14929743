"""Reads of an order book take no lock while nothing is applied: these tests hold the locks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsclient
from support.helpers import Call
from support.inside import core_of, kept_of
from wsclient import OrderBook
from wsclient.testing import FakeVenue, KrakenProtocol

BOOK = "book:BTC/USD"
ROW = {
    "symbol": "BTC/USD",
    "bids": [{"price": 9, "qty": 1}, {"price": 8, "qty": 2}],
    "asks": [{"price": 10, "qty": 3}],
}
READS: dict[str, Callable[[OrderBook], Any]] = {
    "best_bid": lambda book: book.best_bid,
    "best_ask": lambda book: book.best_ask,
    "mid": lambda book: book.mid,
    "spread": lambda book: book.spread,
    "bids": lambda book: book.bids(5),
    "asks": lambda book: book.asks(5),
}


@pytest.fixture
def client() -> Iterator[wsclient.WebSocketClient]:
    protocol = KrakenProtocol()
    protocol.snapshots[BOOK] = json.dumps({"channel": "book", "type": "snapshot", "data": [ROW]})
    with FakeVenue(protocol) as venue, wsclient.connect(venue.url, dialect="kraken") as client:
        yield client


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_read_needs_neither_the_cores_lock_nor_the_books(
    client: wsclient.WebSocketClient, read: Callable[[OrderBook], Any]
) -> None:
    book = client.order_book("BTC/USD", timeout=5)
    expected = read(book)
    with core_of(client).lock:
        assert Call(read, book).result() == expected
    with kept_of(book).lock:
        assert Call(read, book).result() == expected


def test_the_state_is_read_without_the_cores_lock(client: wsclient.WebSocketClient) -> None:
    book = client.order_book("BTC/USD", timeout=5)
    with core_of(client).lock:
        assert Call(lambda: book.state).result() is wsclient.BookState.SYNCED
