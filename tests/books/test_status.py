"""The state of an order book: its table, and what an OrderBook shows of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

import wsclient
from support.depth import Binance, rig_of
from support.helpers import until
from wsclient import BookState, events
from wsclient.books.status import STATES, BookStatus
from wsclient.testing import FakeVenue, KrakenProtocol

BOOK = "book:BTC/USD"


def frame(kind: str, price: int, size: int, **more: Any) -> str:
    row = {"symbol": "BTC/USD", "bids": [{"price": price, "qty": size}], "asks": [], **more}
    return json.dumps({"channel": "book", "type": kind, "data": [row]})


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    protocol = KrakenProtocol()
    protocol.snapshots[BOOK] = frame("snapshot", 9, 1)
    with FakeVenue(protocol) as venue:
        yield venue


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[wsclient.WebSocketClient]:
    with wsclient.connect(venue.url, dialect="kraken", retry_delay=0.01) as client:
        yield client


# --- the table -----------------------------------------------------------------------------------

STORED = (BookState.EMPTY, BookState.SYNCED, BookState.STALE, BookState.LOST)


def test_every_stored_state_knows_what_follows_each_change() -> None:
    changes = ("snapshot", "fault", "lose", "close")
    assert {pair for pair in STATES if pair[1] in changes} == set(product(STORED, changes))


def test_only_a_snapshot_puts_a_book_in_sync() -> None:
    into = {step for (_, step), state in STATES.items() if state is BookState.SYNCED}
    assert into == {"snapshot"}


def test_only_a_book_in_sync_can_be_suspect() -> None:
    assert [state for state, step in STATES if step == "suspect"] == [BookState.SYNCED]


@pytest.mark.parametrize("step", ["snapshot", "fault", "lose", "suspect", "close"])
def test_nothing_follows_the_end_of_a_book(step: str) -> None:
    with pytest.raises(RuntimeError, match="cannot happen in CLOSED"):
        BookStatus(BookState.CLOSED, "it was closed").after(step)


# --- by hand -------------------------------------------------------------------------------------


def fed(*frames: str) -> wsclient.OrderBook:
    book = wsclient.OrderBook("kraken", BOOK)
    for text in frames:
        message = wsclient.Message(BOOK, json.loads(text)["type"], None, 0, raw=text.encode())
        book.apply(message)
    return book


def test_a_new_book_is_empty_and_says_so() -> None:
    book = fed()
    assert (book.state, book.reason) == (BookState.EMPTY, "it has had no snapshot yet")


def test_a_book_in_sync_has_no_reason() -> None:
    book = fed(frame("snapshot", 9, 1))
    assert (book.state, book.reason) == (BookState.SYNCED, "")


def test_a_book_without_a_snapshot_stays_empty_through_a_fault() -> None:
    book = fed(json.dumps({"channel": "book", "type": "nonsense", "data": [{}]}))
    assert book.state is BookState.EMPTY
    assert "does not fit it" in book.reason


def test_a_fault_makes_a_book_stale_until_the_next_snapshot() -> None:
    wrong = frame("update", 9, 2, checksum=1)
    assert fed(frame("snapshot", 9, 1), wrong).state is BookState.STALE
    assert fed(frame("snapshot", 9, 1), wrong, frame("snapshot", 9, 1)).state is BookState.SYNCED


def test_the_reason_is_that_of_the_error() -> None:
    book = fed(frame("snapshot", 9, 1), frame("update", 9, 2, checksum=1))
    with pytest.raises(wsclient.OrderBookOutOfSync) as error:
        _ = book.best_bid
    assert book.reason in str(error.value)


def test_the_end_of_its_subscription_loses_a_book_until_the_next_snapshot() -> None:
    book = fed(frame("snapshot", 9, 1))
    book.apply(wsclient.Message(BOOK, "lost"))
    assert (book.state, book.reason) == (BookState.LOST, "the venue has ended its subscription")
    book.apply(wsclient.Message(BOOK, "snapshot", None, 0, raw=frame("snapshot", 9, 1).encode()))
    assert book.state is BookState.SYNCED


def test_a_closed_book_is_closed_from_any_state() -> None:
    for book in (fed(), fed(frame("snapshot", 9, 1))):
        book.close()
        assert (book.state, book.reason) == (BookState.CLOSED, "it was closed")


# --- of a client ---------------------------------------------------------------------------------


def test_a_book_is_stale_while_its_connection_is_down(
    venue: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    book = client.order_book("BTC/USD", timeout=5)
    venue.close()
    until(lambda: book.state is BookState.STALE)
    assert "the connection is down" in book.reason


def kinds_of(happened: list[Any]) -> list[str]:
    names = ("BookOutOfSync", "BookRefreshed", "SnapshotFailed")
    return [type(event).__name__ for event in happened if type(event).__name__ in names]


def test_a_wrong_checksum_and_the_snapshot_after_it_are_events_and_are_counted(
    venue: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    happened: list[Any] = []
    client.on_event(happened.append)
    client.order_book("BTC/USD", timeout=5)
    venue.broadcast(frame("update", 9, 2, checksum=1), BOOK)
    until(lambda: "BookRefreshed" in kinds_of(happened))
    assert kinds_of(happened) == ["BookOutOfSync", "BookRefreshed"]
    first = next(e for e in happened if isinstance(e, events.BookOutOfSync))
    assert first.channel == BOOK
    assert "checksum" in first.why
    stats = client.stats()
    assert (stats.books_out_of_sync, stats.books_refreshed, stats.books_refused) == (1, 1, 0)


def test_the_end_of_its_connection_puts_a_book_out_of_sync_once(
    venue: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    happened: list[Any] = []
    client.on_event(happened.append)
    client.order_book("BTC/USD", timeout=5)
    venue.live[0].rst()
    until(lambda: "BookRefreshed" in kinds_of(happened))
    assert kinds_of(happened) == ["BookOutOfSync", "BookRefreshed"]
    names = [type(event).__name__ for event in happened]
    assert names.index("Disconnected") < names.index("BookOutOfSync") < names.index("Connected")


def test_the_snapshots_of_a_book_in_sync_are_no_event(
    venue: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    happened: list[Any] = []
    client.on_event(happened.append)
    book = client.order_book("BTC/USD", timeout=5)
    venue.broadcast(frame("snapshot", 9, 3), BOOK)
    until(lambda: book.best_bid == (9, 3))
    assert kinds_of(happened) == []


def test_a_snapshot_refused_for_good_is_counted() -> None:
    truth = Binance()
    truth.script.append(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    with rig_of(truth) as rig:
        with pytest.raises(wsclient.OrderBookOutOfSync, match="refused"):
            rig.book()
        assert rig.client.stats().books_refused == 1
