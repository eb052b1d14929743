"""Snapshots by REST: what comes of each answer, and an end to the thread, whatever it waits for."""

from __future__ import annotations

import json
import logging
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import Call, Server, expect_end, receive_head, until

import wsclient
from wsclient.runtime import snapshots
from wsclient.testing import FakeVenue
from wsclient.testing.protocols import Payload, ScriptedProtocol
from wsclient.testing.venue import Peer

CHANNEL = "btcusdt@depth@100ms"
Levels = dict[str, str]


class Truth(ScriptedProtocol):
    """The venue's one book, its stream of changes, and what it answers by REST."""

    def __init__(self) -> None:
        self.number = 100
        self.bids: Levels = {"9": "1"}
        self.asks: Levels = {"11": "1"}
        #: What the next requests are answered: bytes as they are, or a function to be called with
        #: the socket; then the book as it is.
        self.script: deque[bytes | Callable[[socket.socket], None]] = deque()
        self.asked = 0
        self.lock = threading.Lock()
        self.refuses = False

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = json.loads(payload)
        for channel in request["params"]:
            if request["method"] == "SUBSCRIBE":
                peer.subscribe(channel)
            else:
                peer.unsubscribe(channel)
        outcome = {"code": 2, "msg": "no"} if self.refuses else {"result": None}
        yield json.dumps({**outcome, "id": request["id"]})

    def change(self, price: str, size: str, *, numbers: int = 1) -> str:
        with self.lock:
            first, self.number = self.number + 1, self.number + numbers
            side = self.bids if int(price) <= 10 else self.asks
            if size == "0":
                side.pop(price, None)
            else:
                side[price] = size
            name = "b" if side is self.bids else "a"
            data: dict[str, Any] = {"e": "depthUpdate", "U": first, "u": self.number}
            data |= {"b": [], "a": [], name: [[price, size]]}
            return json.dumps({"stream": CHANNEL, "data": data})

    def snapshot(self, number: int | None = None) -> bytes:
        with self.lock:
            rows = {"bids": list(self.bids.items()), "asks": list(self.asks.items())}
            return json.dumps({"lastUpdateId": number or self.number, **rows}).encode()

    def answer(self, sock: socket.socket) -> None:
        assert b"symbol=BTCUSDT" in receive_head(sock)
        self.asked += 1
        step = self.script.popleft() if self.script else None
        if callable(step):
            step(sock)
            return
        sock.sendall(ok(self.snapshot()) if step is None else step)
        expect_end(sock)

    def is_told_by(self, book: wsclient.OrderBook) -> bool:
        """Exactly: number and both sides."""
        with self.lock:
            return (book.bids(stale_ok=True), book.asks(stale_ok=True)) == (
                sorted(levels(self.bids), reverse=True),
                sorted(levels(self.asks)),
            )


def levels(side: Levels) -> list[tuple[int, int]]:
    return [(int(price), int(size)) for price, size in side.items()]


def ok(body: bytes) -> bytes:
    return answer(b"200 OK", body)


def answer(status: bytes, body: bytes = b"", *lines: bytes) -> bytes:
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines, b"", b""]
    return b"\r\n".join(head) + body


class Rig:
    def __init__(self, truth: Truth, venue: FakeVenue, client: wsclient.WebSocketClient) -> None:
        self.truth, self.venue, self.client = truth, venue, client

    def book(self, timeout: float = 5.0) -> wsclient.OrderBook:
        return self.client.order_book("BTCUSDT", timeout=timeout)

    def push(self, price: str, size: str) -> None:
        self.venue.broadcast(self.truth.change(price, size), CHANNEL)

    def thread(self) -> threading.Thread | None:
        return self.client._core.snapshots.thread


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(snapshots, "PATIENCE", 0.01)
    monkeypatch.setattr(snapshots, "MAX_PATIENCE", 0.05)
    monkeypatch.setattr(snapshots, "LOOK", 0.005)
    monkeypatch.setattr("wsclient.sansio.resync.BUDGET", (1000, 1.0))
    truth = Truth()

    class Unlimited(wsclient.Binance):
        limits = wsclient.Limits(connects=None)

    with Server(truth.answer) as rest, FakeVenue(truth) as venue:
        dialect = Unlimited(rest=rest.url.replace("ws:", "http:") + "depth")
        with wsclient.connect(
            venue.url, dialect=dialect, retry_delay=0.01, connect_timeout=5
        ) as client:
            yield Rig(truth, venue, client)


def warnings(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= level]


def test_a_book_is_fetched_and_follows_the_stream(rig: Rig) -> None:
    assert rig.thread() is None, "no thread before the first book"
    book = rig.book()
    assert (book.best_bid, book.best_ask, book.sequence) == ((9, 1), (11, 1), 100)
    rig.push("10", "3")
    until(lambda: book.best_bid == (10, 3))
    assert book.sequence == 101
    assert rig.book() is book
    assert rig.truth.asked == 1


def test_changes_that_come_before_a_late_snapshot_wait_for_it(rig: Rig) -> None:
    asked, go = threading.Event(), threading.Event()
    old = rig.truth.snapshot()

    def late(sock: socket.socket) -> None:
        asked.set()
        assert go.wait(5)
        sock.sendall(ok(old))

    rig.truth.script.append(late)
    call = Call(rig.book)
    assert asked.wait(5)
    rig.push("8", "5")
    rig.push("9", "0")
    waiting = rig.client._books[CHANNEL][0]._joiner._waiting  # type: ignore[union-attr]
    until(lambda: len(waiting) == 2)
    go.set()
    book = call.result()
    assert book.bids() == [(8, 5)]
    assert book.sequence == 102


@pytest.mark.parametrize(
    "bad",
    [
        answer(b"500 Oops"),
        ok(b"{"),
        ok(b"[]"),
        ok(b"{}"),
        ok(b""),
        ok(b'{"lastUpdateId": "x", "bids": [], "asks": []}'),
        ok(b'{"lastUpdateId": 100, "bids": [["9", "-1"]], "asks": []}'),
        ok(b'{"lastUpdateId": 100, "bids": [["9", "1"]], "asks": [["8", "1"]]}'),
        b"",
    ],
    ids=["500", "no JSON", "a list", "an object", "empty", "number", "size", "crossed", "cut"],
)
def test_a_bad_answer_is_told_and_the_next_good_one_taken(
    rig: Rig, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def say(sock: socket.socket) -> None:
        sock.sendall(bad)

    rig.truth.script += [say, say]
    assert rig.book().bids() == [(9, 1)]
    assert rig.truth.asked == 3
    said = [text for text in warnings(caplog) if "no snapshot of" in text]
    assert len(said) == 2
    assert "symbol=" not in "".join(said)


@pytest.mark.parametrize("status", [b"429 Slow down", b"418 Teapot", b"503 Later"])
def test_retry_after_is_honoured(rig: Rig, status: bytes) -> None:
    rig.truth.script.append(answer(status, b"", b"Retry-After: 1"))
    begun = time.monotonic()
    rig.book()
    assert time.monotonic() - begun >= 1
    assert rig.truth.asked == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_for_good_is_told_once_and_not_tried_again(
    rig: Rig, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    book = rig.book()
    rig.truth.script.append(answer(b"%d No" % status))
    rig.push("8", "1")
    rig.truth.change("8", "2")  # never sent
    rig.push("8", "3")
    until(lambda: book.is_lost)
    with pytest.raises(wsclient.OrderBookOutOfSync, match=f"refused.*HTTP {status}"):
        book.wait_synced(5)
    for size in "456":
        rig.push("8", size)
    rig.client.subscribe("btcusdt@trade")  # what came before it has been seen
    assert not book.is_synced
    assert len(warnings(caplog, logging.ERROR)) == 1
    assert rig.truth.asked == 2
    assert rig.book() is not book, "who asks anew is given another try"


def test_a_snapshot_older_than_the_first_change_is_fetched_again(rig: Rig) -> None:
    asked, go = threading.Event(), threading.Event()
    stale = rig.truth.snapshot(number=50)

    def late(sock: socket.socket) -> None:
        asked.set()
        assert go.wait(5)
        sock.sendall(ok(stale))

    rig.truth.script.append(late)
    call = Call(rig.book)
    assert asked.wait(5)
    rig.push("8", "5")
    waiting = rig.client._books[CHANNEL][0]._joiner._waiting  # type: ignore[union-attr]
    until(lambda: waiting)
    go.set()
    book = call.result()
    assert rig.truth.asked == 2
    assert rig.truth.is_told_by(book)


def test_after_a_gap_there_is_a_new_snapshot(rig: Rig) -> None:
    book = rig.book()
    rig.truth.change("8", "1")  # never sent
    rig.push("7", "1")
    until(lambda: rig.truth.asked == 2 and book.is_synced)
    assert rig.truth.is_told_by(book)


def test_after_a_reconnect_there_is_a_new_snapshot_without_any_message(rig: Rig) -> None:
    book = rig.book()
    rig.venue.live[0].rst()
    rig.truth.change("8", "1")  # to nobody
    until(lambda: rig.truth.asked == 2 and book.is_synced)
    assert rig.truth.is_told_by(book)
    rig.push("7", "1")  # whose mark for the reconnect tells of nothing new
    until(lambda: book.sequence == rig.truth.number)
    assert rig.truth.is_told_by(book)
    assert rig.truth.asked == 2


def test_a_snapshot_of_the_link_before_is_not_taken(rig: Rig) -> None:
    book = rig.book()
    asked, go = threading.Event(), threading.Event()

    def late(sock: socket.socket) -> None:
        asked.set()
        assert go.wait(5)
        sock.sendall(ok(rig.truth.snapshot(number=10_000)))  # numbers of before

    rig.truth.script.append(late)
    rig.truth.change("8", "1")  # never sent
    rig.push("7", "1")
    assert asked.wait(5)
    connects = rig.client.stats().connects
    rig.venue.live[0].rst()
    until(lambda: rig.client.stats().connects > connects and rig.venue.subscribers(CHANNEL))
    rig.truth.number = 3
    rig.push("6", "1")
    until(lambda: book._connection_id == 2)
    go.set()
    until(lambda: book.is_synced)
    assert book.sequence == rig.truth.number
    assert rig.truth.is_told_by(book)


def test_a_book_whose_channel_is_lost_is_asked_for_no_longer(rig: Rig) -> None:
    book = rig.book()
    rig.truth.refuses = True
    rig.venue.live[0].rst()
    until(lambda: book.is_lost)
    resyncs = rig.client._core.snapshots._resyncs
    until(lambda: resyncs.deadline(0.0) == float("inf"))
    assert rig.truth.asked == 1


def test_a_book_that_is_given_up_is_asked_for_no_longer(rig: Rig) -> None:
    rig.truth.script += [answer(b"500 Oops")] * 1000
    with pytest.raises(TimeoutError):
        rig.book(timeout=0.2)
    core = rig.client._core
    assert not core.snapshots._books
    until(lambda: not rig.client.subscriptions)
    rig.truth.script.clear()
    assert rig.book().is_synced


def test_numbers_that_begin_anew_on_a_link_put_it_out_of_sync(rig: Rig) -> None:
    book = rig.book()
    rig.push("8", "1")
    until(lambda: book.sequence == 101)
    rig.truth.number = 5
    rig.push("8", "2")
    rig.push("8", "3")
    until(lambda: book.is_synced and book.sequence == 7)
    assert rig.truth.is_told_by(book)


def test_what_waits_is_bounded() -> None:
    book = wsclient.OrderBook("binance", CHANNEL)
    assert book._joiner is not None
    assert book._joiner._waiting.maxlen == 10_000


@pytest.mark.parametrize("where", ["head", "body"])
def test_close_ends_a_fetch_at_once(rig: Rig, where: str) -> None:
    asked = threading.Event()

    def stall(sock: socket.socket) -> None:
        sock.sendall(b"" if where == "head" else b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        asked.set()
        expect_end(sock)

    rig.truth.script.append(stall)
    call = Call(rig.book, 30)
    assert asked.wait(5)
    thread = rig.thread()
    begun = time.monotonic()
    rig.client.close(timeout=3)
    assert time.monotonic() - begun < 2.5
    assert thread is not None
    assert thread.name == "wsclient-snapshot"
    assert not thread.is_alive()
    with pytest.raises(wsclient.ClientClosed):
        call.result()


def test_close_ends_a_wait_for_the_next_attempt(rig: Rig) -> None:
    rig.truth.script.append(answer(b"429 Slow down", b"", b"Retry-After: 3600"))
    call = Call(rig.book, 30)
    until(lambda: rig.client._core.snapshots._not_before)
    rig.client.close(timeout=3)
    thread = rig.thread()
    assert thread is not None
    assert not thread.is_alive()
    with pytest.raises(wsclient.ClientClosed):
        call.result()


def test_a_fetch_has_a_deadline(rig: Rig) -> None:
    object.__setattr__(rig.client._core.snapshots._options, "connect_timeout", 0.1)
    rig.truth.script.append(expect_end)
    assert rig.book().is_synced
    assert rig.truth.asked == 2


def test_a_book_that_falls_out_of_sync_as_it_is_joined_is_fetched_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says then is no news yet, and must not be forgotten."""
    book = rig.book()
    take = book.take_snapshot
    spoilt: list[bool] = []

    def spoil(answer: Any, connection_id: int, age: int) -> bool:
        is_joined = take(answer, connection_id, age)
        if not spoilt:
            spoilt.append(is_joined)
            rig.truth.change("6", "1")  # never sent
            rig.push("5", "1")
            until(lambda: not book.is_synced)
        return is_joined

    monkeypatch.setattr(book, "take_snapshot", spoil)
    rig.truth.change("8", "1")  # never sent
    rig.push("7", "1")
    until(lambda: rig.truth.asked == 3 and book.is_synced)
    assert spoilt == [True]
    assert rig.truth.is_told_by(book)


def test_no_lock_is_held_while_a_snapshot_is_fetched(rig: Rig) -> None:
    book = rig.book()
    asked, go = threading.Event(), threading.Event()

    def late(sock: socket.socket) -> None:
        asked.set()
        assert go.wait(5)
        sock.sendall(ok(rig.truth.snapshot()))

    rig.truth.script.append(late)
    rig.truth.change("8", "1")  # never sent
    rig.push("7", "1")
    assert asked.wait(5)
    core = rig.client._core
    assert not book._lock.locked()
    assert not core.snapshots._lock.locked()
    assert book.bids(stale_ok=True) == [(9, 1)]
    rig.client.subscribe("btcusdt@trade", timeout=5)
    go.set()
    book.wait_synced(5)


@pytest.mark.parametrize("seed", [1])
def test_through_thirty_kills_a_book_is_the_venues_or_not_in_sync(rig: Rig, seed: int) -> None:
    """Each state of the venue's book is kept by its number: a book in sync is one of them."""
    rng = random.Random(seed)
    truth, kills, checked = rig.truth, 0, 0
    states: dict[int, tuple[Any, Any]] = {}

    def put_down() -> None:
        bids, asks = sorted(levels(truth.bids), reverse=True), sorted(levels(truth.asks))
        states[truth.number] = bids, asks

    def check() -> bool:
        with book._lock:
            if book._trouble() is not None:
                return False
            number = book._sequence
            found = (
                [(int(p), int(s)) for p, s in book._book.bids],
                [(int(p), int(s)) for p, s in book._book.asks],
            )
        assert number is not None
        assert found == states[number]
        return True

    put_down()
    book = rig.book()
    while kills < 30:
        event = rng.choice(["push"] * 6 + ["miss", "bad", "stale", "kill"])
        if event in ("push", "miss"):
            price = str(rng.choice([*range(1, 10), *range(11, 20)]))
            frame = truth.change(price, str(rng.randint(0, 5)), numbers=rng.randint(1, 3))
            put_down()
            if event == "push":
                rig.venue.broadcast(frame, CHANNEL)
        elif event == "bad":
            truth.script.append(rng.choice([answer(b"500 Oops"), ok(b"{"), ok(b"{}")]))
        elif event == "stale":
            truth.script.append(ok(truth.snapshot()))
        elif rig.venue.live:
            connects = rig.client.stats().connects
            rng.choice([Peer.rst, Peer.fin])(rig.venue.live[0])
            kills += 1
            if rng.random() < 0.7:
                until(lambda: rig.client.stats().connects > connects)  # noqa: B023
            if rng.random() < 0.5:
                until(lambda: rig.venue.subscribers(CHANNEL) and book.is_synced)
        checked += check()
    until(lambda: rig.venue.subscribers(CHANNEL) and rig.client.is_connected)
    truth.script.clear()
    rig.venue.broadcast(truth.change("5", "5"), CHANNEL)
    put_down()
    until(lambda: check() and book.sequence == truth.number)
    assert checked > 30
    assert truth.asked >= 15
