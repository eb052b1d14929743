"""Order books, by hand and with a client: reading raises when a book may be wrong."""

from __future__ import annotations

import gc
import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

import wsclient
from support.helpers import Call, until
from support.inside import core_of, drop_book, feeds_of, kept_of
from support.making import with_book
from wsclient import BookState, Gap, Level, Message, NotSupported, OrderBook, OrderBookOutOfSync
from wsclient.books.book import BookError
from wsclient.books.feeds import LiveBook
from wsclient.dialect.books import BookFormat, BookUpdate, Snapshot
from wsclient.dialect.values import RestRequest
from wsclient.dialects.kraken import KrakenBook
from wsclient.messages import Arrival, LinkedMessage
from wsclient.testing import FakeVenue, KrakenProtocol, Replay

RECORDING = Path(__file__).parents[2] / "shared/recorded/kraken/kraken_btcusd_l2.jsonl"
needs_recording = pytest.mark.skipif(
    not RECORDING.exists(), reason="needs the recordings in ../shared/recorded"
)
BOOK = "book:BTC/USD"
NOTHING: dict[str, Any] = {"bids": [], "asks": []}


class Simple(BookFormat):
    """``{"bids": [[price, size], ...], "asks": [...]}``, with a checksum: the number of levels."""

    def update(self, message: Message) -> BookUpdate | None:
        if message.type == "other":
            return None
        data = msgspec.json.decode(message.raw, type=dict[str, list[tuple[Decimal, Decimal]]])
        checksum = len(data["sum"]) if "sum" in data else None
        return BookUpdate(message.type == "snapshot", data["bids"], data["asks"], checksum)

    def checksum(self, bids: Any, asks: Any) -> int | None:
        return len([*bids, *asks])


def message(
    type: str = "update",
    bids: Sequence[tuple[float, float]] = (),
    asks: Sequence[tuple[float, float]] = (),
    *,
    gap: str | None = None,
    sum: int | None = None,
    sequence: int | None = None,
    channel: str = "a",
    raw: bytes | None = None,
) -> Message:
    fields: dict[str, Any] = {"bids": bids, "asks": asks}
    if sum is not None:
        fields["sum"] = [(0, 0)] * sum
    return Message(
        channel,
        type,
        sequence,
        raw=json.dumps(fields).encode() if raw is None else raw,
        gap=None if gap is None else Gap(gap),
        arrival=Arrival(5, 1, None),
    )


SNAPSHOT = message("snapshot", [(9, 1), (8, 2)], [(11, 3)], sequence=7)


def synced() -> OrderBook:
    book = OrderBook(with_book(Simple()), "a")
    assert book.apply(SNAPSHOT)
    return book


# --- by hand -------------------------------------------------------------------------------------


def test_it_reads_as_levels_best_first() -> None:
    book = synced()
    assert book.best_bid == Level(Decimal(9), Decimal(1))
    assert book.best_ask == Level(price=Decimal(11), size=Decimal(3))
    assert (book.mid, book.spread) == (Decimal(10), Decimal(2))
    assert book.bids() == [(9, 1), (8, 2)]
    assert book.bids(1) == [(9, 1)]
    assert book.asks(5)[0].size == 3
    assert (book.sequence, book.received_at) == (7, 5)
    assert repr(book) == "<OrderBook 'a' 2 bids, 1 asks>"


def test_best_is_both_sides_of_one_moment() -> None:
    book = synced()
    assert book.best() == (book.best_bid, book.best_ask)


def test_best_refuses_a_book_without_a_recent_update(monkeypatch: pytest.MonkeyPatch) -> None:
    book = synced()
    best = book.best(max_age=60.0)
    now = time.monotonic()
    monkeypatch.setattr(kept_of(book), "_now", lambda: now + 61.0)
    with pytest.raises(
        OrderBookOutOfSync, match="no update for max_age=60 s: the last one came 61"
    ):
        book.best(max_age=60.0)
    with pytest.raises(OrderBookOutOfSync):
        book.best(max_age=60.0, stale_ok=True)
    assert book.best(max_age=float("inf")) == book.best() == best
    assert book.is_synced


def test_an_update_during_the_call_does_not_make_what_was_read_younger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = synced()
    kept, now = kept_of(book), time.monotonic() + 61.0
    read = kept.read

    def read_just_before_an_update(take: Any, stale_ok: bool) -> Any:
        found = read(take, stale_ok)
        book.apply(message(asks=[[10, 1]]))
        return found

    monkeypatch.setattr(kept, "_now", lambda: now)
    monkeypatch.setattr(kept, "read", read_just_before_an_update)
    with pytest.raises(OrderBookOutOfSync, match="no update for max_age=60 s"):
        book.best(max_age=60.0)


def test_each_update_makes_the_book_younger(monkeypatch: pytest.MonkeyPatch) -> None:
    book = synced()
    now = time.monotonic() + 61.0
    monkeypatch.setattr(kept_of(book), "_now", lambda: now)
    book.apply(message(asks=[[10, 1]]))
    assert book.best(max_age=1.0)


def test_an_update_in_between_makes_no_older_book_young() -> None:
    for step in itertools.count():
        book = OrderBook(with_book(Simple()), "a")
        old = message("snapshot", [(9, 1)], [(11, 3)])
        old.arrival = Arrival(5, 1, None, time.monotonic() - 61.0)
        book.apply(old)
        lines = itertools.count()

        def trace(frame: FrameType, event: str, _: object) -> Any:
            if event == "line" and next(lines) == step:  # noqa: B023 - called in this round only
                sys.settrace(None)
                book.apply(message(bids=[(10, 1)]))  # noqa: B023
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        bid: object = None
        try:
            bid, _ = book.best(max_age=60.0)
        except OrderBookOutOfSync:
            pass  # it was read before the update
        finally:
            sys.settrace(before)
        assert bid in (None, (10, 1))
        if next(lines) <= step:
            break  # the call has no further line


def test_a_snapshot_by_rest_counts_as_an_update() -> None:
    book = OrderBook(with_book(ByRest()), "a")
    book.apply(change(1, 1))
    assert book.take_snapshot(answer(1))
    assert book.best(max_age=60.0)


def test_best_of_a_book_out_of_sync_raises_with_its_reason() -> None:
    book = OrderBook(with_book(Simple()), "a")
    with pytest.raises(OrderBookOutOfSync, match="no snapshot"):
        book.best()
    assert book.best(stale_ok=True) == (None, None)
    with pytest.raises(OrderBookOutOfSync, match="it has had none"):
        book.best(max_age=60.0, stale_ok=True)


def test_the_age_must_be_a_number() -> None:
    with pytest.raises(wsclient.ConfigurationError, match="max_age"):
        synced().best(max_age="5")  # type: ignore[arg-type]


def test_an_empty_side_has_no_best() -> None:
    book = OrderBook(with_book(Simple()), "a")
    book.apply(message("snapshot"))
    assert (book.best_bid, book.best_ask, book.mid, book.spread) == (None, None, None, None)


def test_messages_of_other_channels_are_ignored() -> None:
    book = synced()
    assert book.apply(message("snapshot", channel="b"))
    assert book.bids() == [(9, 1), (8, 2)]


def test_nothing_is_read_before_the_first_snapshot_and_updates_before_it_are_ignored() -> None:
    book = OrderBook(with_book(Simple()), "a")
    assert not book.apply(message(bids=[(1, 1)]))
    assert not book.is_synced
    assert book.bids(stale_ok=True) == []
    with pytest.raises(OrderBookOutOfSync, match="'a' is out of sync: it has had no snapshot yet;"):
        _ = book.best_bid
    assert book.apply(SNAPSHOT)
    assert book.is_synced


READS: dict[str, Any] = {
    "best_bid": lambda book: book.best_bid,
    "best_ask": lambda book: book.best_ask,
    "mid": lambda book: book.mid,
    "spread": lambda book: book.spread,
    "bids": lambda book: book.bids(),
    "asks": lambda book: book.asks(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_stale_book_is_read_only_by_who_says_so(read: Any) -> None:
    book = synced()
    fresh = read(book)
    book.apply(message(gap="sequence"))
    with pytest.raises(OrderBookOutOfSync, match=r"missed \(sequence\).*wait_synced.*stale_ok"):
        read(book)
    book.stale_ok = True
    assert read(book) == fresh
    assert not book.is_synced


def test_stale_ok_may_be_passed() -> None:
    book = synced()
    book.apply(message(gap="sequence"))
    assert book.bids(1, stale_ok=True) == [(9, 1)]
    assert book.asks(stale_ok=True) == [(11, 3)]


DOUBTS = {
    **{
        reason: message(bids=[(9, 5)], gap=reason)
        for reason in (
            "rejected",
            "reconnect",
            "sequence",
            "overflow",
            "invalid",
            "conflate",
            "late",
        )
    },
    "checksum": message(sum=4),
    "crossed": message(bids=[(11, 1)]),
    "nonsense": message(raw=b"{"),
    "a negative size": message(bids=[(9, -1)]),
    "a gap before nothing": message("other", gap="sequence"),
    "lost": message("lost"),
}


@pytest.mark.parametrize("doubt", DOUBTS.values(), ids=DOUBTS)
def test_what_casts_doubt_puts_it_out_of_sync_until_the_next_snapshot(doubt: Message) -> None:
    book = synced()
    assert not book.apply(doubt)
    assert not book.is_synced
    assert not book.apply(message(bids=[(9, 1)]))
    with pytest.raises(OrderBookOutOfSync):
        book.bids()
    assert book.apply(message("snapshot", [(5, 1)], gap="reconnect"))
    assert book.bids() == [(5, 1)]


def test_a_doubled_message_is_ignored() -> None:
    book = synced()
    assert book.apply(message(bids=[(9, 77)], gap="duplicate"))
    assert book.apply(message("snapshot", gap="duplicate"))
    assert book.bids() == [(9, 1), (8, 2)]


def test_a_late_snapshot_is_taken() -> None:
    assert synced().apply(message("snapshot", gap="late"))


def test_a_doubled_snapshot_is_taken_by_a_book_that_needs_one() -> None:
    book = synced()
    book.apply(message(gap="sequence"))
    assert book.apply(message("snapshot", gap="duplicate"))


def test_what_is_no_update_changes_nothing() -> None:
    assert synced().apply(message("other"))


def test_a_checksum_may_go_unverified() -> None:
    book = OrderBook(with_book(Simple()), "a", verify_checksum=False)
    assert book.apply(message("snapshot", sum=4))


def test_a_wrong_snapshot_is_not_taken() -> None:
    book = OrderBook(with_book(Simple()), "a")
    assert not book.apply(message("snapshot", sum=4))


def test_of_a_dialect_without_order_books_there_is_none() -> None:
    with pytest.raises(NotSupported, match="the generic dialect does not support order books"):
        OrderBook("generic", "a")


def test_its_depth_is_that_of_the_options() -> None:
    class Deep(Simple):
        def depth(self, options: Mapping[str, Any]) -> int | None:
            return options.get("depth")

    book = OrderBook(with_book(Deep()), "a", depth=1)
    book.apply(SNAPSHOT)
    assert book.bids() == [(9, 1)]


def test_wait_synced_returns_raises_at_its_time_and_when_it_is_in_vain() -> None:
    book = synced()
    book.wait_synced(0)
    book.apply(message(gap="overflow"))
    with pytest.raises(TimeoutError, match="overflow"):
        book.wait_synced(0.01)
    book.apply(message("lost"))
    assert book.is_lost
    with pytest.raises(OrderBookOutOfSync, match="ended its subscription"):
        book.wait_synced(5)
    book.apply(SNAPSHOT)
    assert not book.is_lost


def test_wait_synced_hears_of_a_snapshot_on_another_thread() -> None:
    book = OrderBook(with_book(Simple()), "a")
    waits = [threading.Thread(target=book.wait_synced, args=(5,)) for _ in range(3)]
    for thread in waits:
        thread.start()
    until(lambda: len(kept_of(book).waiting) == 3)
    book.apply(SNAPSHOT)
    for thread in waits:
        thread.join(5)
        assert not thread.is_alive()


def test_readers_see_the_book_between_two_messages() -> None:
    """Each message changes both sides; no read may see only one of the changes."""
    book = synced()
    stop = threading.Event()
    torn: list[Decimal | None] = []

    def read() -> None:
        while not stop.is_set():
            if book.spread != 2:
                torn.append(book.spread)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(300):
        low = 9 + i % 2
        old = 10 - i % 2
        book.apply(message(bids=[(old, 0), (low, 1)], asks=[(old + 2, 0), (low + 2, 3)]))
    stop.set()
    for thread in threads:
        thread.join(5)
    assert not torn
    assert book.is_synced


# --- by hand, with a snapshot by REST ------------------------------------------------------------


class ByRest(Simple):
    """``{"sequence": 5, "bids": ..., "asks": ...}`` by REST."""

    def request(self, channel: str, options: Mapping[str, Any]) -> RestRequest | None:
        return RestRequest("https://example.com/")

    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        return Snapshot(answer["sequence"], answer["bids"], answer.get("asks", ()))


def change(sequence: int, size: int, *, gap: str | None = None, connection_id: int = 1) -> Message:
    return LinkedMessage(
        "a",
        sequence=sequence,
        follows=sequence - 1,
        raw=json.dumps({"bids": [(9, size)], "asks": []}).encode(),
        gap=None if gap is None else Gap(gap),
        arrival=Arrival(5, connection_id, None),
    )


def answer(sequence: int, size: int = 1) -> dict[str, Any]:
    return {"sequence": sequence, "bids": [(Decimal(9), Decimal(size))]}


def joined() -> OrderBook:
    book = OrderBook(with_book(ByRest()), "a")
    assert not book.apply(change(5, 50))
    assert not book.apply(change(6, 60))
    assert book.take_snapshot(answer(5))
    assert (book.bids(), book.sequence) == ([(9, 60)], 6)
    return book


def test_changes_wait_for_a_snapshot_by_rest_and_follow_on_it() -> None:
    book = joined()
    assert book.apply(change(7, 70))
    assert book.apply(change(6, 60, gap="duplicate"))
    assert book.apply(change(4, 40, gap="late")), "the snapshot has it"
    assert book.take_snapshot(answer(99, 99)), "it needs none"
    assert (book.bids(), book.sequence) == ([(9, 70)], 7)


def test_a_snapshot_too_old_is_not_taken() -> None:
    book = OrderBook(with_book(ByRest()), "a")
    book.apply(change(5, 50))
    assert not book.take_snapshot(answer(3))
    assert not book.is_synced
    assert book.take_snapshot(answer(4))
    assert book.bids() == [(9, 50)]


@pytest.mark.parametrize(
    "doubt",
    [
        change(8, 80),
        change(8, 80, gap="sequence"),
        change(7, 70, gap="overflow"),
        change(7, 70, gap="invalid"),
        change(7, 70, connection_id=2),
        change(7, -1),
    ],
    ids=["a gap", "marked", "overflow", "invalid", "another connection", "nonsense"],
)
def test_what_casts_doubt_needs_another_snapshot_by_rest(doubt: Message) -> None:
    book = joined()
    age = kept_of(book).begin_snapshot()
    assert not book.apply(doubt)
    with pytest.raises(OrderBookOutOfSync):
        book.bids()
    if doubt.gap or doubt.connection_id == 2:
        assert not kept_of(book).take_snapshot(answer(8, 8), age=age), "one on its way is void"
    assert book.take_snapshot(answer(8, 8))
    assert book.bids() == [(9, 8)]


def test_a_wrong_snapshot_by_rest_is_not_taken_and_says_so() -> None:
    book = OrderBook(with_book(ByRest()), "a")
    with pytest.raises(BookError, match="size"):
        book.take_snapshot(answer(5, -1))
    assert not book.is_synced
    assert book.take_snapshot(answer(5))
    with pytest.raises(BookError, match="REST"):
        OrderBook(with_book(Simple()), "a").take_snapshot(answer(5))


def test_an_older_snapshot_after_a_wrong_one_passes_over_no_waiting_change() -> None:
    book = OrderBook(with_book(ByRest()), "a")
    book.apply(change(5, 50))
    with pytest.raises(BookError, match="size"):
        book.take_snapshot(answer(5, -1))
    assert not book.take_snapshot(answer(3))
    assert not book.is_synced
    assert book.take_snapshot(answer(4))
    assert (book.bids(), book.sequence) == ([(9, 50)], 5)


def test_an_older_snapshot_passes_over_no_wrong_change() -> None:
    book = joined()
    assert not book.apply(change(7, -1))
    with pytest.raises(BookError, match="size"):
        book.take_snapshot(answer(6))
    assert not book.is_synced
    assert book.take_snapshot(answer(7, 70))
    assert book.bids() == [(9, 70)]


def test_a_lost_book_takes_no_snapshot_that_was_on_its_way() -> None:
    book = joined()
    age = kept_of(book).begin_snapshot()
    book.apply(message("lost"))
    assert not kept_of(book).take_snapshot(answer(9), age=age)
    assert book.is_lost
    assert not book.is_synced


# --- with a client -------------------------------------------------------------------------------


@pytest.fixture
def protocol() -> KrakenProtocol:
    protocol = KrakenProtocol()
    protocol.snapshots[BOOK] = frame("snapshot", [(9, 1)], [(11, 1)])
    return protocol


@pytest.fixture
def kraken(protocol: KrakenProtocol) -> Iterator[FakeVenue]:
    with FakeVenue(protocol) as venue:
        yield venue


@pytest.fixture
def client(kraken: FakeVenue) -> Iterator[wsclient.WebSocketClient]:
    with wsclient.connect(kraken.url, dialect="kraken", retry_delay=0.01) as client:
        yield client


def frame(type: str, bids: Any = (), asks: Any = (), **fields: Any) -> str:
    row = {
        "symbol": "BTC/USD",
        "bids": [{"price": p, "qty": q} for p, q in bids],
        "asks": [{"price": p, "qty": q} for p, q in asks],
        **fields,
    }
    return json.dumps({"channel": "book", "type": type, "data": [row]})


def book_message(*args: Any) -> Message:
    return Message(BOOK, args[0], item=0, raw=frame(*args).encode(), arrival=Arrival(5, 1, None))


def push(venue: FakeVenue, *args: Any, **fields: Any) -> None:
    venue.broadcast(frame(*args, **fields), BOOK)


def subscribes(venue: FakeVenue) -> int:
    return sum('"subscribe"' in text for peer in venue.peers for text in peer.received)


def test_a_clients_book_is_there_with_its_first_snapshot_and_follows(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    book = client.order_book("BTC/USD", timeout=5)
    assert book.best_bid == (9, 1)
    push(kraken, "update", [(9.5, 2)])
    until(lambda: book.best_bid == (Decimal("9.5"), 2))
    assert client.order_book("BTC/USD", timeout=5) is book
    assert subscribes(kraken) == 1
    with pytest.raises(wsclient.ConfigurationError, match="verify_checksum"):
        client.order_book("BTC/USD", verify_checksum=False)
    with pytest.raises(wsclient.ConfigurationError, match="depth"):
        client.order_book("BTC/USD", depth=100)


def test_a_book_that_falls_out_of_sync_is_resubscribed(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    book = client.order_book("BTC/USD", timeout=5)
    push(kraken, "update", [(9, 5)], checksum=1)
    until(lambda: subscribes(kraken) == 2)
    book.wait_synced(5)
    assert book.bids() == [(9, 1)]
    assert len(kraken.peers) == 1
    refreshes = core_of(client).supervisor.upkeep.refreshes
    until(lambda: refreshes.deadline(0.0) == float("inf"))  # and is not requested again


def test_a_client_that_reads_the_channel_too_gets_the_gap(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    client.subscribe(BOOK)
    book = client.order_book("BTC/USD", timeout=5)
    push(kraken, "update", [(9, 5)], checksum=1)
    until(lambda: subscribes(kraken) == 2)
    book.wait_synced(5)
    got = [client.recv(timeout=5) for _ in range(3)]
    assert [m.type for m in got] == ["snapshot", "update", "snapshot"]
    assert [m.gap and m.gap.reason for m in got] == [None, None, "reconnect"]


def test_a_book_is_out_of_sync_from_a_lost_connection_to_the_next_snapshot(
    kraken: FakeVenue, protocol: KrakenProtocol, client: wsclient.WebSocketClient
) -> None:
    book = client.order_book("BTC/USD", timeout=5)
    protocol.snapshots.clear()
    kraken.live[0].rst()
    until(lambda: not book.is_synced)
    with pytest.raises(OrderBookOutOfSync, match="connection"):
        book.bids()
    until(lambda: client.is_connected and client.subscriptions[BOOK].is_active)
    assert not book.is_synced
    with pytest.raises(OrderBookOutOfSync, match="no snapshot has come yet"):
        book.bids()
    push(kraken, "update", [(8, 1)])
    push(kraken, "snapshot", [(7, 1)], [(12, 1)])
    book.wait_synced(5)
    assert book.bids() == [(7, 1)]
    assert subscribes(kraken) == 2, "the new connection's own, and none besides"


def test_a_book_is_in_doubt_from_the_frame_on_that_cannot_be_read(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    book = client.order_book("BTC/USD", timeout=5)
    kraken.broadcast("rubbish")
    until(lambda: not book.is_synced)
    with pytest.raises(OrderBookOutOfSync, match=r"may have been missed \(invalid\)"):
        book.bids()
    assert book.bids(stale_ok=True) == [(9, 1)]
    assert subscribes(kraken) == 1, "the next message will show it"
    push(kraken, "update", [(9, 5)])
    until(lambda: subscribes(kraken) == 2)
    book.wait_synced(5)
    assert book.bids() == [(9, 1)]


class Slow(KrakenBook):
    """A user's order books, slow with the messages of one symbol."""

    def __init__(self, symbol: str = "BTC/USD") -> None:
        self.slow = f"book:{symbol}"
        self.go = threading.Event()
        self.go.set()
        self.is_held = threading.Event()

    def update(self, message: Message) -> BookUpdate | None:
        if message.channel == self.slow and not self.go.is_set():
            self.is_held.set()
            assert self.go.wait(10)
        return super().update(message)


def test_a_book_is_in_doubt_while_one_of_its_messages_is_dropped(kraken: FakeVenue) -> None:
    slow = Slow()
    with wsclient.connect(
        kraken.url, dialect=with_book(slow, wsclient.Kraken()), queue_size=1, overflow="drop_newest"
    ) as client:
        book = client.order_book("BTC/USD", timeout=5)
        slow.go.clear()
        push(kraken, "update", [(9, 2)])
        assert slow.is_held.wait(5)
        push(kraken, "update", [(9, 3)])
        push(kraken, "update", [(9, 4)])
        until(lambda: not book.is_synced)
        with pytest.raises(OrderBookOutOfSync, match=r"may have been missed \(overflow\)"):
            book.bids()
        assert book.state is BookState.SUSPECT
        slow.go.set()


def test_a_doubt_that_a_number_disproves_wakes_who_waits() -> None:
    class Doubtful:
        gap: str | None = "messages may have been missed (invalid)"

        def origin(self, connection_id: int) -> int:
            return connection_id

        def trouble(self, connection_id: int) -> str | None:
            return None

        def doubt(self) -> str | None:
            return self.gap

        def check(self) -> None:
            pass

        def newest(self) -> Message | None:
            return None

        def now(self) -> float:
            return time.monotonic()

        def lateness(self) -> float:
            return 0.0

        def report(self, error: BaseException) -> None:
            pass

        is_current = False
        is_over = False

    connection = Doubtful()
    kept = LiveBook(with_book(Simple()), "a", True, {}, connection)
    book = OrderBook._of(kept, kept.close)
    assert book.apply(SNAPSHOT), "it is what its messages say"
    assert not book.is_synced
    assert "may have been missed" in repr(book)
    wait = Call(book.wait_synced, 5)
    until(lambda: kept.waiting)
    connection.gap = None
    assert book.apply(message(bids=[(9, 2)]))
    wait.result()
    assert book.is_synced


def test_a_closed_clients_book_is_not_in_sync(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    """The client's state, not a message, says that the connection is gone."""
    book = client.order_book("BTC/USD", timeout=5)
    client.close()
    assert not book.is_synced
    with pytest.raises(OrderBookOutOfSync, match="the client is closed; make a new one; "):
        book.bids()
    assert book.bids(stale_ok=True) == [(9, 1)]
    with pytest.raises(wsclient.ClientClosed):
        book.wait_synced(5)
    with pytest.raises(wsclient.ClientClosed):
        client.order_book("BTC/USD")


def test_a_failed_clients_book_is_not_in_sync(kraken: FakeVenue) -> None:
    with wsclient.connect(
        kraken.url, dialect="kraken", max_reconnects=1, retry_delay=0.01
    ) as client:
        book = client.order_book("BTC/USD", timeout=5)
        kraken.close()
        until(lambda: client.state is wsclient.State.FAILED)
        with pytest.raises(OrderBookOutOfSync, match="the client has failed; make a new one; "):
            book.bids()


def test_close_ends_a_wait_for_a_book(
    kraken: FakeVenue, protocol: KrakenProtocol, client: wsclient.WebSocketClient
) -> None:
    protocol.snapshots.clear()
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            client.order_book("BTC/USD", timeout=30)
        except BaseException as error:  # noqa: BLE001 - looked at below
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: BOOK in feeds_of(client) and feeds_of(client)[BOOK].book.waiting)
    client.close()
    thread.join(5)
    assert isinstance(raised[0], wsclient.ClientClosed)


def test_a_book_whose_snapshot_does_not_come_is_given_up(
    kraken: FakeVenue, protocol: KrakenProtocol, client: wsclient.WebSocketClient
) -> None:
    snapshots = dict(protocol.snapshots)
    protocol.snapshots.clear()
    with pytest.raises(TimeoutError, match="no snapshot yet"):
        client.order_book("BTC/USD", timeout=0.2)
    until(lambda: not client.subscriptions)
    protocol.snapshots.update(snapshots)
    assert client.order_book("BTC/USD", timeout=5).is_synced


def test_a_refused_book_says_why_and_leaves_nothing(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    with pytest.raises(wsclient.SubscriptionRejected, match="depth"):
        client.order_book("BTC/USD", depth=11, timeout=5)
    assert client.order_book("BTC/USD", depth=25, timeout=5).is_synced


def test_a_lost_book_can_be_requested_again(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    book = client.order_book("BTC/USD", timeout=5)
    book.apply(Message(BOOK, "lost"))
    again = client.order_book("BTC/USD", timeout=5)
    assert again is not book
    assert again.is_synced


def test_a_closed_book_says_so_and_its_channel_is_unsubscribed(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    book = client.order_book("BTC/USD", timeout=5)
    book.close()
    until(lambda: not client.subscriptions)
    kraken.wait_for(lambda venue: not venue.subscribers(BOOK))
    with pytest.raises(OrderBookOutOfSync, match="it was closed; make a new one; stale_ok"):
        book.bids()
    with pytest.raises(OrderBookOutOfSync, match="closed"):
        book.wait_synced(5)
    assert book.bids(stale_ok=True) == [(9, 1)]
    again = client.order_book("BTC/USD", timeout=5)
    book.close()
    assert again.is_synced, "the new one is another"
    assert again is not book


def test_a_closed_books_channel_stays_with_who_reads_it_too(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    client.subscribe(BOOK)
    with client.order_book("BTC/USD", timeout=5) as book:
        assert book.is_synced
    assert not book.is_synced
    push(kraken, "update", [(8, 1)])
    while client.recv(timeout=5).type != "update":
        pass
    assert client.subscriptions[BOOK].is_active


def test_a_book_closed_out_of_sync_has_its_channel_no_longer_resubscribed(
    kraken: FakeVenue, protocol: KrakenProtocol, client: wsclient.WebSocketClient
) -> None:
    client.subscribe(BOOK)
    book = client.order_book("BTC/USD", timeout=5)
    push(kraken, "update", [(9, 5)], checksum=1)
    until(lambda: subscribes(kraken) == 2)
    book.wait_synced(5)
    protocol.snapshots.clear()
    push(kraken, "update", [(9, 5)], checksum=1)  # too soon to be requested at once
    refreshes = core_of(client).supervisor.upkeep.refreshes
    until(lambda: refreshes.deadline(0.0) < float("inf"))
    book.close()
    until(lambda: refreshes.deadline(0.0) == float("inf"))
    core_of(client).callbacks.add(BOOK, lambda _: None)  # whoever else is called with it
    push(kraken, "update", [(8, 1)])
    while client.recv(timeout=5).raw.count(b"8") == 0:
        pass
    assert refreshes.deadline(0.0) == float("inf")


def test_close_ends_a_wait_for_the_book_and_may_be_called_by_a_callback(
    kraken: FakeVenue, protocol: KrakenProtocol, client: wsclient.WebSocketClient
) -> None:
    book = client.order_book("BTC/USD", timeout=5)
    client.on("trade:BTC/USD", lambda _: book.close())
    protocol.snapshots.clear()
    push(kraken, "update", [(9, 5)], checksum=1)
    until(lambda: not book.is_synced)
    wait = Call(book.wait_synced, 30)
    until(lambda: kept_of(book).waiting)
    trade = {"channel": "trade", "type": "update", "data": [{"symbol": "BTC/USD"}]}
    kraken.broadcast(json.dumps(trade), "trade:BTC/USD")
    with pytest.raises(OrderBookOutOfSync, match="closed"):
        wait.result()


def test_a_book_by_hand_is_closed_too() -> None:
    book = synced()
    book.close()
    assert not book.apply(SNAPSHOT)
    with pytest.raises(OrderBookOutOfSync, match="closed"):
        book.bids()


def test_a_book_keeps_its_client_and_nothing_else_does(
    kraken: FakeVenue, protocol: KrakenProtocol
) -> None:
    """This holds with the collector switched off and the last error's traceback kept."""
    gc.collect()
    gc.disable()
    try:
        held = [wsclient.connect(kraken.url, dialect="kraken").order_book("BTC/USD", timeout=5)]
        push(kraken, "update", [(9.5, 2)])
        until(lambda: held[0].best_bid == (Decimal("9.5"), 2))
        protocol.snapshots.clear()
        push(kraken, "update", [(9, 5)], checksum=1)
        until(lambda: not held[0].is_synced)
        caught = []
        for name in READS:  # from this frame, which holds no book: others would
            with pytest.raises(OrderBookOutOfSync) as raised:
                _ = getattr(held[0], name)() if name in ("bids", "asks") else getattr(held[0], name)
            caught.append(raised)
        with pytest.raises(TimeoutError) as waited:
            held[0].wait_synced(0)
        assert kraken.live
        held.clear()
        kraken.wait_for(lambda venue: not venue.live)
        assert all(raised.tb for raised in (*caught, waited))
    finally:
        gc.enable()


def test_a_book_that_nobody_holds_is_kept_by_the_client(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    assert client.order_book("BTC/USD", timeout=5).best_bid == (9, 1)
    push(kraken, "update", [(9.5, 2)])
    until(lambda: client.order_book("BTC/USD").best_bid == (Decimal("9.5"), 2))
    assert subscribes(kraken) == 1


def test_a_book_that_another_call_has_given_up_does_not_pass_for_true(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    """Another call waited for it too, got it as the first one gave up, and still has it."""
    book = client.order_book("BTC/USD", timeout=5)
    drop_book(client, BOOK)
    book.apply(book_message("snapshot", [(1, 1)], [(2, 1)]))  # it was on its way
    assert not book.is_synced
    for read in (book.bids, lambda: book.wait_synced(5)):
        with pytest.raises(OrderBookOutOfSync, match="closed"):
            read()
    assert client.order_book("BTC/USD", timeout=5) is not book


def test_a_wait_for_a_book_that_another_call_gives_up_raises(
    kraken: FakeVenue, protocol: KrakenProtocol, client: wsclient.WebSocketClient
) -> None:
    protocol.snapshots.clear()
    first = Call(client.order_book, "BTC/USD", timeout=5)
    until(lambda: BOOK in feeds_of(client) and feeds_of(client)[BOOK].book.waiting)
    second = Call(client.order_book, "BTC/USD", timeout=50)
    until(lambda: len(feeds_of(client)[BOOK].book.waiting) == 2)
    drop_book(client, BOOK)
    for call in (first, second):
        with pytest.raises(OrderBookOutOfSync, match="closed"):
            call.result(5)


def test_a_book_may_be_waited_for_within_a_callback(
    kraken: FakeVenue, client: wsclient.WebSocketClient
) -> None:
    got: list[OrderBook] = []
    kraken.protocol.snapshots["book:ETH/USD"] = json.dumps(  # type: ignore[attr-defined]
        {"channel": "book", "type": "snapshot", "data": [{"symbol": "ETH/USD"} | NOTHING]}
    )
    client.on(BOOK, lambda _: got.append(client.order_book("ETH/USD", timeout=5)))
    until(lambda: got)
    assert got[0].is_synced


def test_a_wait_for_a_book_within_a_hook_of_its_dialect_is_refused(kraken: FakeVenue) -> None:
    """The hook runs on the thread that keeps books."""
    raised: list[BaseException] = []

    class Waiting(KrakenBook):
        def update(self, message: Message) -> BookUpdate | None:
            if message.type == "update":
                with pytest.raises(RuntimeError) as error:
                    client.order_book("ETH/USD")
                raised.append(error.value)
                assert book.best_bid == (9, 1), "a read waits for nothing"
            return super().update(message)

    with wsclient.connect(kraken.url, dialect=with_book(Waiting(), wsclient.Kraken())) as client:
        book = client.order_book("BTC/USD", timeout=5)
        push(kraken, "update", [(9, 2)])
        until(lambda: book.best_bid == (9, 2))
    assert "must not wait for an order book" in str(raised[0])


@pytest.mark.parametrize(("symbol", "options"), [(5, {}), ("BTC/USD", {"verify_checksum": "no"})])
def test_arguments_of_order_book_are_checked_when_given(
    kraken: FakeVenue, symbol: Any, options: Any
) -> None:
    with wsclient.connect(kraken.url, dialect="kraken") as client:
        with pytest.raises(wsclient.ConfigurationError, match="must be text, and verify_checksum"):
            client.order_book(symbol, **options)
        assert not client.subscriptions


def test_what_cannot_have_a_book_is_refused(kraken: FakeVenue, venue: FakeVenue) -> None:
    with (
        wsclient.connect(venue.url) as generic,
        pytest.raises(wsclient.NotSupported, match="generic"),
    ):
        generic.order_book("a")
    with (
        wsclient.connect(kraken.url, dialect="kraken", overflow="conflate") as newest,
        pytest.raises(wsclient.ConfigurationError, match="conflate"),
    ):
        newest.order_book("BTC/USD")


@needs_recording
@pytest.mark.parametrize("kills", [0, 6])
def test_recorded_books_verify_through_a_socket_and_killed_connections(kills: int) -> None:
    """Every message is verified twice: in the client's book, and in one fed by hand from its
    stream."""
    replay = Replay(RECORDING, hold=True)
    by_hand = OrderBook("kraken", BOOK)
    applied = 0
    with (
        FakeVenue(replay) as venue,
        wsclient.connect(venue.url, dialect="kraken", retry_delay=0.01) as client,
    ):
        client.subscribe(BOOK)
        replay.play(venue, 1)
        until(
            lambda: client.stats().messages
        )  # before there is a book, which takes it all the same
        book = client.order_book("BTC/USD", timeout=5)
        for left in range(kills, -1, -1):
            replay.play(venue, 50 if left else None)
            last = next(
                sent.payload
                for sent in reversed(venue.peers[-1].journal)
                if b"book" in sent.payload
            )
            message = None
            while message is None or message.raw != last:
                message = client.recv(timeout=5)
                applied += 1
                assert by_hand.apply(message)
            until(lambda: (book.bids(), book.asks()) == (by_hand.bids(), by_hand.asks()))
            if left:
                connects = client.stats().connects
                venue.live[0].rst()
                until(lambda before=connects: client.stats().connects > before)
                book.wait_synced(5)
        assert client.stats().connects == 1 + kills
        assert subscribes(venue) == 1 + kills, "no checksum was wrong"
    assert applied == 301 + kills
