"""Order books of a client: updated on their own thread, and never older than they claim."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

import wsclient
from support.depth import Binance, rig_of
from support.helpers import Call, until
from support.inside import feeds_of, kept_of
from support.making import with_book
from wsclient import Message, OrderBookOutOfSync
from wsclient.books import feeds, watched
from wsclient.dialect.books import BookUpdate, Snapshot
from wsclient.dialects.binance import BinanceBook
from wsclient.dialects.kraken import KrakenBook
from wsclient.errors import ReentrantCall, ThreadStartError, WSClientError
from wsclient.runtime.fifo import FifoQueue
from wsclient.testing import FakeVenue, KrakenProtocol

BOOK, OTHER = "book:BTC/USD", "book:ETH/USD"


def frame(kind: str, price: Any, size: Any, symbol: str = "BTC/USD") -> str:
    row = {"symbol": symbol, "bids": [{"price": price, "qty": size}], "asks": []}
    return json.dumps({"channel": "book", "type": kind, "data": [row]})


class HeldBook(KrakenBook):
    def __init__(self, channel: str, pause: float) -> None:
        self._channel, self._pause = channel, pause
        self.go, self.is_there = threading.Event(), threading.Event()
        self.go.set()

    def update(self, message: Message) -> BookUpdate | None:
        if message.channel == self._channel:
            if not self.go.is_set():
                self.is_there.set()
                assert self.go.wait(10)
            threading.Event().wait(self._pause)
        return super().update(message)


class Held(wsclient.Kraken):
    """A user's dialect that can block at, or be slow with, the messages of one book."""

    def __init__(self, channel: str = BOOK, pause: float = 0.0) -> None:
        super().__init__()
        self.book = HeldBook(channel, pause)
        self.go, self.is_there = self.book.go, self.book.is_there


def binance(kind: type[BinanceBook]) -> type[wsclient.Binance]:
    """Return Binance's dialect with another format of order books."""

    class Changed(wsclient.Binance):
        def __init__(self, rest: str = "") -> None:
            super().__init__(rest=rest)
            self.book = kind(rest)

    return Changed


@pytest.fixture
def protocol() -> KrakenProtocol:
    protocol = KrakenProtocol()
    protocol.snapshots[BOOK] = frame("snapshot", 9, 1)
    protocol.snapshots[OTHER] = frame("snapshot", 5, 1, "ETH/USD")
    return protocol


@pytest.fixture
def venue(protocol: KrakenProtocol) -> Iterator[FakeVenue]:
    with FakeVenue(protocol) as venue:
        yield venue


def connected(venue: FakeVenue, dialect: Any = "kraken", **options: Any) -> Any:
    return wsclient.connect(venue.url, dialect=dialect, retry_delay=0.01, **options)


def push(venue: FakeVenue, size: int, symbol: str = "BTC/USD", price: int = 9) -> None:
    venue.broadcast(frame("update", price, size, symbol), f"book:{symbol}")


def has_come(client: wsclient.WebSocketClient, size: int, channel: str = BOOK) -> bool:
    latest = client.latest(channel)
    return latest is not None and f'"qty": {size}}}'.encode() in latest.raw


def subscribes(venue: FakeVenue) -> int:
    return sum('"subscribe"' in text for peer in venue.peers for text in peer.received)


# --- age -----------------------------------------------------------------------------------------


def test_a_slow_on_function_does_not_delay_a_book(venue: FakeVenue) -> None:
    go, is_there = threading.Event(), threading.Event()

    def wait(_: Message) -> None:
        is_there.set()
        go.wait(10)

    with connected(venue) as client:
        client.on("trade:BTC/USD", wait)
        book = client.order_book("BTC/USD", timeout=5)
        trade = {"channel": "trade", "type": "update", "data": [{"symbol": "BTC/USD"}]}
        venue.broadcast(json.dumps(trade), "trade:BTC/USD")
        assert is_there.wait(5)
        push(venue, 7)
        until(lambda: has_come(client, 7))
        assert book.best_bid == (9, 7)
        assert client.order_book("ETH/USD", timeout=5).is_synced
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("wsclient-books") == 1
        go.set()


@pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "with a reader"])
def test_a_read_sees_what_had_come_when_it_began(
    venue: FakeVenue, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The books thread needs some time for each message."""
    monkeypatch.setattr(watched, "CATCH_UP", 5.0)
    with connected(venue, Held(pause=0.02)) as client:
        if is_shared:
            client.subscribe(BOOK)
        book = client.order_book("BTC/USD", timeout=5)
        for size in range(2, 12):
            push(venue, size)
            until(lambda size=size: has_come(client, size))  # type: ignore[misc]
            assert book.best_bid == (9, size)


def test_a_book_is_out_of_sync_while_its_messages_wait_for_too_long(
    venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "LATE", 0.5)
    monkeypatch.setattr(feeds, "LATE", 0.5)
    dialect = Held()
    with connected(venue, dialect) as client:
        book = client.order_book("BTC/USD", timeout=5)
        other = client.order_book("ETH/USD", timeout=5)
        dialect.go.clear()
        push(venue, 7)
        assert dialect.is_there.wait(5)
        push(venue, 8)
        assert book.best_bid == (9, 1), "the message is not late yet"
        until(lambda: not book.is_synced)
        assert other.is_synced, "none of its own messages is waiting"
        with pytest.raises(
            OrderBookOutOfSync, match=r"messages are waiting .* oldest for 0\.[5-9]"
        ):
            book.bids()
        assert "messages are waiting" in repr(book)
        assert book.bids(stale_ok=True) == [(9, 1)]
        with pytest.raises(TimeoutError, match="messages are waiting"):
            book.wait_synced(0.01)
        wait = Call(book.wait_synced, 5)
        until(lambda: kept_of(book).waiting)
        dialect.go.set()
        wait.result()
        assert book.best_bid == (9, 8)


def test_a_book_is_out_of_sync_while_a_slow_function_holds_up_what_was_read(
    venue: FakeVenue,
) -> None:
    go, is_there = threading.Event(), threading.Event()

    def validate(message: Message) -> None:
        if message.channel != BOOK:
            is_there.set()
            assert go.wait(10)

    with connected(venue, validate=validate) as client:
        client.subscribe("trade:BTC/USD")
        book = client.order_book("BTC/USD", timeout=5)
        trade = {"channel": "trade", "type": "update", "data": [{"symbol": "BTC/USD"}]}
        venue.broadcast(json.dumps(trade), "trade:BTC/USD")
        assert is_there.wait(5)
        until(lambda: not book.is_synced)
        with pytest.raises(OrderBookOutOfSync, match=r"waited for delivery for \d"):
            book.bids()
        wait = Call(book.wait_synced, 5)
        until(lambda: kept_of(book).waiting)
        begun = time.monotonic()
        go.set()
        wait.result()
        assert time.monotonic() - begun < 1
        assert book.best_bid == (9, 1)


def test_a_read_waits_only_briefly(venue: FakeVenue) -> None:
    dialect = Held()
    with connected(venue, dialect) as client:
        book = client.order_book("BTC/USD", timeout=5)
        dialect.go.clear()
        push(venue, 7)
        until(lambda: has_come(client, 7))
        assert dialect.is_there.wait(5)
        begun = time.monotonic()
        book.bids(stale_ok=True)
        assert 0.009 < time.monotonic() - begun < 0.25
        dialect.go.set()


def test_messages_from_before_the_book_are_not_waited_for(venue: FakeVenue) -> None:
    with connected(venue) as client:
        client.subscribe(BOOK)
        until(lambda: client.latest(BOOK))
        book = client.order_book("BTC/USD", timeout=5)
        begun = time.monotonic()
        for _ in range(100):
            assert book.best_bid == (9, 1)
        assert time.monotonic() - begun < 0.5


# --- a channel that is subscribed already --------------------------------------------------------


def test_a_book_takes_a_snapshot_that_came_before_it(venue: FakeVenue) -> None:
    with connected(venue) as client:
        client.subscribe(BOOK)
        until(lambda: client.latest(BOOK))
        book = client.order_book("BTC/USD", timeout=5)
        assert book.best_bid == (9, 1)
        push(venue, 2)
        until(lambda: book.best_bid == (9, 2))
        got = [client.recv(timeout=5) for _ in range(2)]
        assert [message.gap for message in got] == [None, None]
    assert subscribes(venue) == 1


def test_a_book_takes_a_snapshot_that_is_still_to_come(
    venue: FakeVenue, protocol: KrakenProtocol, caplog: pytest.LogCaptureFixture
) -> None:
    protocol.snapshots.clear()
    with connected(venue) as client:
        client.subscribe(BOOK)
        call = Call(client.order_book, "BTC/USD", timeout=4)
        until(lambda: BOOK in feeds_of(client) and feeds_of(client)[BOOK].book.waiting)
        venue.broadcast(frame("snapshot", 9, 3), BOOK)
        assert call.result().best_bid == (9, 3)
        assert client.recv(timeout=5).gap is None
    assert subscribes(venue) == 1
    assert not [r for r in caplog.records if "out of sync" in r.getMessage()]


def test_a_book_whose_channel_has_had_its_snapshot_gets_another_at_once(venue: FakeVenue) -> None:
    with connected(venue) as client:
        client.subscribe(BOOK)
        push(venue, 2)
        until(lambda: has_come(client, 2))
        assert client.order_book("BTC/USD", timeout=4).best_bid == (9, 1)
    assert subscribes(venue) == 2


def test_subscribe_and_order_book_at_once_lose_nothing(
    venue: FakeVenue, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        with connected(venue) as client:
            client.subscribe(BOOK)
            book = client.order_book("BTC/USD", timeout=4)
            assert book.best_bid == (9, 1)
            assert client.recv(timeout=5).gap is None
    assert subscribes(venue) == 20
    assert not [r for r in caplog.records if "out of sync" in r.getMessage()]


# --- threads -------------------------------------------------------------------------------------


def refuse_once(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Make the system refuse one start of this thread."""
    refused: list[str] = []
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == name and not refused:
            refused.append(name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    return refused


def test_a_thread_for_books_that_cannot_be_started_is_the_callers_error(
    venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(venue) as client:
        refused = refuse_once(monkeypatch, "wsclient-books")
        with pytest.raises(ThreadStartError, match="wsclient-books cannot be started"):
            client.order_book("BTC/USD", timeout=5)
        assert refused
        assert not client.subscriptions
        assert not feeds_of(client)
        assert client.order_book("BTC/USD", timeout=5).is_synced


def test_a_thread_for_snapshots_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again although no message comes that would cause it."""
    monkeypatch.setattr(feeds, "THREAD_AGAIN", 0.05)
    with rig_of(Binance()) as rig:
        refused = refuse_once(monkeypatch, "wsclient-snapshot")
        book = rig.book()
        assert refused
        assert rig.truth.is_told_by(book)
        assert any(
            "wsclient-snapshot cannot be started" in record.getMessage()
            for record in caplog.records
        )
    assert len(rig.truth.asked) == 1


def test_when_the_thread_of_the_books_dies_they_are_out_of_sync_and_calls_raise(
    venue: FakeVenue,
    protocol: KrakenProtocol,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with connected(venue) as client:
        book = client.order_book("BTC/USD", timeout=5)
        protocol.snapshots.clear()
        other = Call(client.order_book, "ETH/USD", timeout=30)
        until(lambda: OTHER in feeds_of(client) and feeds_of(client)[OTHER].book.waiting)
        queue = feeds_of(client)[BOOK].queue

        fill = FifoQueue.fill

        def die(self: FifoQueue, *args: Any) -> bool:
            if self is queue:
                raise MemoryError
            return fill(self, *args)

        monkeypatch.setattr(FifoQueue, "fill", die)
        push(venue, 7)
        until(lambda: not book.is_synced)
        with pytest.raises(OrderBookOutOfSync, match="thread that updates order books has ended"):
            book.bids()
        for call in (other.result, lambda: book.wait_synced(5), lambda: client.recv(timeout=5)):
            with pytest.raises(WSClientError, match="internal error"):
                call()
        until(lambda: any(r.exc_info for r in caplog.records))


@pytest.mark.parametrize("error", [SystemExit, ValueError, KeyError])
def test_an_exception_in_a_hook_ends_no_thread(
    venue: FakeVenue, error: type[BaseException]
) -> None:
    class Raising(KrakenBook):
        def update(self, message: Message) -> BookUpdate | None:
            if message.type == "update" and b"777" in message.raw:
                raise error("on purpose")
            return super().update(message)

    with connected(venue, with_book(Raising(), wsclient.Kraken())) as client:
        book = client.order_book("BTC/USD", timeout=5)
        push(venue, 777)
        until(lambda: subscribes(venue) == 2)
        book.wait_synced(5)
        push(venue, 3)
        until(lambda: book.best_bid == (9, 3))


def test_an_exception_in_a_snapshot_hook_ends_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised: list[BaseException] = []

    class Raising(BinanceBook):
        def snapshot(self, channel: str, answer: Any) -> Snapshot:
            if not raised:
                raised.append(SystemExit("on purpose"))
                raise raised[0]
            return super().snapshot(channel, answer)

    truth = Binance()
    monkeypatch.setattr(type(truth), "dialect", binance(Raising))
    with rig_of(truth) as rig:
        assert rig.truth.is_told_by(rig.book())
    assert len(rig.truth.asked) == 2


# --- bugs of dialects ----------------------------------------------------------------------------


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.ERROR]


class TextByRest(BinanceBook):
    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        return Snapshot(answer["lastUpdateId"], answer["bids"], answer["asks"])  # as received


class OddByRest(BinanceBook):
    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        return answer.nothing  # type: ignore[no-any-return]


def test_a_snapshot_of_text_is_logged_at_once_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    truth = Binance()
    monkeypatch.setattr(type(truth), "dialect", binance(TextByRest))
    with rig_of(truth) as rig:
        with pytest.raises(OrderBookOutOfSync, match=r"a bug in its dialect: .*Decimals, not"):
            rig.book(timeout=15)
        (record,) = errors(caplog)
        assert record.exc_info
        assert len(rig.truth.asked) == 1


SNAPSHOTS: dict[str, Any] = {
    "a number of text": lambda it: it._replace(sequence=str(it.sequence)),
    "no number": lambda it: it._replace(sequence=None),
    "nothing": lambda it: None,
    "a plain tuple": tuple,
    "rows of three": lambda it: it._replace(bids=[(*row, 1) for row in it.bids]),
    "prices alone": lambda it: it._replace(bids=[price for price, _ in it.bids]),
}


@pytest.mark.parametrize("kind", SNAPSHOTS)
def test_a_snapshot_of_a_wrong_type_is_logged_at_once_with_its_traceback(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(BinanceBook):
        def snapshot(self, channel: str, answer: Any) -> Snapshot:
            snapshot: Snapshot = SNAPSHOTS[kind](super().snapshot(channel, answer))
            return snapshot

    truth = Binance()
    monkeypatch.setattr(type(truth), "dialect", binance(Odd))
    with rig_of(truth) as rig:
        with pytest.raises(OrderBookOutOfSync, match="a bug in its dialect: "):
            rig.book(timeout=15)
        until(lambda: errors(caplog))
        (record,) = errors(caplog)
        assert record.exc_info


def test_a_snapshot_whose_rows_make_no_sense_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This also holds if the dialect reads the rows lazily, one by one."""
    fetched: list[None] = []

    class Lazy(BinanceBook):
        def snapshot(self, channel: str, answer: Any) -> Snapshot:
            fetched.append(None)
            rows = [["x"]] if len(fetched) == 1 else answer["bids"]
            bids = ((Decimal(price), Decimal(size)) for price, size in rows)
            return super().snapshot(channel, answer)._replace(bids=bids)

    truth = Binance()
    monkeypatch.setattr(type(truth), "dialect", binance(Lazy))
    with rig_of(truth) as rig:
        assert rig.truth.is_told_by(rig.book())
    assert len(fetched) == 2


def test_a_hook_that_fails_on_an_update_of_a_book_by_rest_is_logged_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(BinanceBook):
        def update(self, message: Message) -> BookUpdate | None:
            return message.nothing  # type: ignore[attr-defined, no-any-return]

    truth = Binance()
    monkeypatch.setattr(type(truth), "dialect", binance(Odd))
    with rig_of(truth) as rig:
        rig.book()
        rig.push((9, 2))
        until(lambda: errors(caplog))
        assert errors(caplog)[0].exc_info
        assert "a bug in its dialect" in errors(caplog)[0].getMessage()


def test_a_hook_that_fails_on_each_message_is_logged_once_until_the_next_snapshot(
    venue: FakeVenue, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(KrakenBook):
        def update(self, message: Message) -> BookUpdate | None:
            if message.type == "update":
                return message.nothing  # type: ignore[attr-defined, no-any-return]
            return super().update(message)

    with connected(venue, with_book(Odd(), wsclient.Kraken())) as client:
        client.order_book("BTC/USD", timeout=5)
        with venue.batch():  # before the client's unsubscribe can come between
            for size in range(2, 22):
                push(venue, size)
        until(lambda: client.stats().messages > 20)  # the first snapshot, and all changes
        until(lambda: errors(caplog))
        assert all(record.exc_info for record in errors(caplog))
        assert len(errors(caplog)) <= subscribes(venue)


def test_a_hook_that_fails_on_a_snapshot_is_logged_with_its_traceback_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    truth = Binance()
    monkeypatch.setattr(type(truth), "dialect", binance(OddByRest))
    with rig_of(truth) as rig:
        with pytest.raises(TimeoutError):
            rig.book(timeout=0.3)
        said = [r for r in caplog.records if "no snapshot of" in r.getMessage()]
        assert len(said) > 1
        assert all(record.exc_info for record in said)


def test_a_message_of_text_is_logged_at_once_with_its_traceback(
    venue: FakeVenue, caplog: pytest.LogCaptureFixture
) -> None:
    class Text(KrakenBook):
        def update(self, message: Message) -> BookUpdate | None:
            return BookUpdate(True, [("9", "1")], [])  # type: ignore[list-item]

    with connected(venue, with_book(Text(), wsclient.Kraken())) as client:
        with pytest.raises(OrderBookOutOfSync, match="a bug in its dialect"):
            client.order_book("BTC/USD", timeout=15)
        until(lambda: errors(caplog))
        (record,) = errors(caplog)
        assert record.exc_info


# --- close() -------------------------------------------------------------------------------------


def test_close_on_a_thread_within_a_locked_section_unsubscribes_later(venue: FakeVenue) -> None:
    with connected(venue) as client:
        book = client.order_book("BTC/USD", timeout=5)
        with kept_of(book).lock:
            book.close()
            with pytest.raises(ReentrantCall):
                book.bids()
        assert not book.is_synced
        until(lambda: not client.subscriptions)


def test_the_queue_returns_since_when_a_channels_messages_wait() -> None:
    queue = FifoQueue(None, None, "drop_oldest")
    arrivals = {name: wsclient.messages.Arrival(at, 1, None) for name, at in [("a", 10), ("b", 20)]}
    assert queue.waits_since("b", 100) is None
    queue.put([Message(name, raw=b"{}", arrival=arrivals[name]) for name in ("a", "b", "b")])
    assert queue.waits_since("a", 100) == 10
    assert queue.waits_since("b", 100) == 20
    assert queue.waits_since("b", 20) is None
    assert queue.waits_since("c", 100) is None


def test_a_call_that_gives_up_leaves_the_book_to_another_that_waits_for_it(
    venue: FakeVenue, protocol: KrakenProtocol
) -> None:
    with connected(venue) as client:
        protocol.snapshots.clear()
        patient = Call(client.order_book, "BTC/USD", timeout=30)
        until(lambda: BOOK in feeds_of(client) and feeds_of(client)[BOOK].book.waiting)
        with pytest.raises(TimeoutError):
            client.order_book("BTC/USD", timeout=0.05)
        assert client.subscriptions[BOOK]
        venue.broadcast(frame("snapshot", 9, 7, "BTC/USD"), BOOK)
        assert patient.result().is_synced


def test_a_call_that_gives_up_leaves_nothing(venue: FakeVenue, protocol: KrakenProtocol) -> None:
    with connected(venue) as client:
        protocol.snapshots.clear()
        with pytest.raises(TimeoutError):
            client.order_book("BTC/USD", timeout=0.05)
        until(lambda: not client.subscriptions)
        assert not feeds_of(client)
