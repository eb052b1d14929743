"""Snapshots by REST: the result of each answer, and the end of the thread in any wait."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

import wsclient
from support.depth import Binance, BinanceFutures, Kucoin, Late, Rig, Truth, answer, ok, rig_of
from support.helpers import Call, Server, dead_address, expect_end, linux_only, until
from support.inside import feeds_of, kept_of, lock_of, refreshes_of, service_of, set_budget
from support.making import message
from wsclient import OrderBookOutOfSync
from wsclient.sansio.backoff import Budget
from wsclient.stream.items import Ended
from wsclient.testing import FakeVenue, Peer

CHANNEL = Binance.channel()


@pytest.fixture
def rig() -> Iterator[Rig]:
    with rig_of(Binance()) as rig:
        yield rig


def warnings(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= level]


def test_a_book_is_fetched_and_follows_the_stream(rig: Rig) -> None:
    assert rig.thread() is None, "no thread before the first book"
    book = rig.book()
    assert (book.best_bid, book.best_ask, book.sequence) == ((9, 1), (11, 1), 100)
    rig.push((10, 3))
    until(lambda: book.best_bid == (10, 3))
    assert book.sequence == 101
    assert rig.book() is book
    assert len(rig.truth.asked) == 1


@pytest.mark.parametrize("truth", [Binance, BinanceFutures, Kucoin])
def test_a_book_of_each_venue_follows_by_its_own_numbers_and_comes_back(truth: type[Truth]) -> None:
    with rig_of(truth()) as rig:
        book = rig.book()
        rig.push((10, 3), (9, 0), (12, 1))
        rig.push((10, 0))
        until(lambda: rig.truth.is_told_by(book))
        assert (book.bids(), book.asks()) == ([], [(11, 1), (12, 1)])
        rig.truth.step(8, 1)  # never sent
        rig.push((7, 1))
        until(lambda: len(rig.truth.asked) == 2 and rig.truth.is_told_by(book))
        rig.venue.live[0].rst()
        rig.truth.step(6, 1)  # to nobody
        until(lambda: len(rig.truth.asked) == 3 and rig.truth.is_told_by(book))
        rig.push((5, 1))
        until(lambda: rig.truth.is_told_by(book))
        paths = [request.path for request in rig.venue.requests]
    assert rig.truth.asked == [rig.truth.symbol] * 3
    if truth is Kucoin:
        assert [re.findall("token=(T.)", path) for path in paths] == [["T1"], ["T2"]]


def test_a_refusal_with_http_200_is_logged_and_the_next_good_answer_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with rig_of(Kucoin()) as rig:
        rig.truth.script.append(ok(b'{"code": "429000", "msg": "too many"}'))
        assert rig.book().is_synced
    assert [text for text in warnings(caplog) if "code 429000" in text]


def test_updates_that_come_before_a_late_snapshot_wait_for_it(rig: Rig) -> None:
    late = Late(rig.truth, rig.truth.snapshot())
    call = Call(rig.book)
    assert late.asked.wait(5)
    rig.push((8, 5))
    rig.push((9, 0))
    waiting = feeds_of(rig.client)[CHANNEL].book.joiner.waiting  # type: ignore[union-attr]
    until(lambda: len(waiting) == 2)
    late.go.set()
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
def test_a_bad_answer_is_logged_and_the_next_good_one_taken(
    rig: Rig, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def say(sock: socket.socket) -> None:
        sock.sendall(bad)

    rig.truth.script += [say, say]
    assert rig.book().bids() == [(9, 1)]
    assert len(rig.truth.asked) == 3
    said = [text for text in warnings(caplog) if "no snapshot of" in text]
    assert len(said) == 2
    assert "symbol=" not in "".join(said)


@pytest.mark.parametrize("status", [b"429 Slow down", b"418 Teapot", b"503 Later"])
def test_retry_after_is_honoured(rig: Rig, status: bytes) -> None:
    rig.truth.script.append(answer(status, b"", b"Retry-After: 1"))
    begun = time.monotonic()
    rig.book()
    assert time.monotonic() - begun >= 1
    assert len(rig.truth.asked) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_for_good_is_logged_once_and_not_tried_again(
    rig: Rig, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    book = rig.book()
    rig.truth.script.append(answer(b"%d No" % status))
    rig.push((8, 1))
    rig.truth.step(8, 2)  # never sent
    rig.push((8, 3))
    until(lambda: book.is_lost)
    with pytest.raises(wsclient.OrderBookOutOfSync, match=f"refused.*HTTP {status}"):
        book.wait_synced(5)
    for size in (4, 5, 6):
        rig.push((8, size))
    rig.client.subscribe("btcusdt@trade")  # by then the messages before it have been handled
    assert not book.is_synced
    assert len(warnings(caplog, logging.ERROR)) == 1
    assert len(rig.truth.asked) == 2
    assert rig.book() is not book, "another call gets another try"


def test_a_snapshot_older_than_the_first_update_is_fetched_again(rig: Rig) -> None:
    late = Late(rig.truth, rig.truth.snapshot(number=50))
    call = Call(rig.book)
    assert late.asked.wait(5)
    rig.push((8, 5))
    waiting = feeds_of(rig.client)[CHANNEL].book.joiner.waiting  # type: ignore[union-attr]
    until(lambda: waiting)
    late.go.set()
    book = call.result()
    assert len(rig.truth.asked) == 2
    assert rig.truth.is_told_by(book)


def test_after_a_gap_there_is_a_new_snapshot(rig: Rig) -> None:
    book = rig.book()
    rig.truth.step(8, 1)  # never sent
    rig.push((7, 1))
    until(lambda: len(rig.truth.asked) == 2 and book.is_synced)
    assert rig.truth.is_told_by(book)


def test_a_duplicate_update_is_ignored_and_a_swapped_pair_needs_a_new_snapshot(rig: Rig) -> None:
    book = rig.book()
    first, second = rig.truth.change((8, 1)), rig.truth.change((7, 2))
    for frame in (first, first, second, second, first):
        rig.venue.broadcast(frame, CHANNEL)
    rig.push((6, 3))
    until(lambda: book.sequence == rig.truth.number)
    assert rig.truth.is_told_by(book)
    assert len(rig.truth.asked) == 1
    first, second = rig.truth.change((8, 0)), rig.truth.change((7, 0))
    for frame in (second, first):
        rig.venue.broadcast(frame, CHANNEL)
    until(lambda: len(rig.truth.asked) >= 2 and rig.truth.is_told_by(book))


def test_fifty_books_keep_within_the_budget_and_all_come_back() -> None:
    symbols = [f"S{n}" for n in range(50)]
    count, per = 10, 0.25
    times: list[float] = []

    class Timed(Budget):
        def spend(self, now: float) -> None:
            super().spend(now)
            times.append(now)

    with rig_of(Binance()) as rig:
        set_budget(rig.client, Timed(count, per))
        calls = [Call(rig.client.order_book, symbol, timeout=30) for symbol in symbols]
        books = [call.result(30) for call in calls]
        for _ in range(2):
            rig.venue.live[0].rst()
            rig.truth.step(8, 5)  # to nobody
            until(lambda: all(rig.truth.is_told_by(book) for book in books), timeout=30)
        rig.venue.broadcast(rig.truth.change((8, 6), channel=books[0].channel), books[0].channel)
        until(lambda: books[0].sequence == 103)
        assert books[1].sequence == 102, "each has its own stream"
    assert set(rig.truth.asked) == set(symbols)
    assert len(times) == len(rig.truth.asked) >= 150
    for first, last in zip(times, times[count:], strict=False):
        assert last - first >= per - 1e-9


def test_after_a_reconnect_there_is_a_new_snapshot_without_any_message(rig: Rig) -> None:
    book = rig.book()
    rig.venue.live[0].rst()
    rig.truth.step(8, 1)  # to nobody
    until(lambda: len(rig.truth.asked) == 2 and book.is_synced)
    assert rig.truth.is_told_by(book)
    rig.push((7, 1))  # its gap for the reconnect says nothing new
    until(lambda: book.sequence == rig.truth.number)
    assert rig.truth.is_told_by(book)
    assert len(rig.truth.asked) == 2


class Ending(Binance):
    """May end a stream without an unsubscribe."""

    class dialect(wsclient.Binance):
        def peek(self, frame: bytes) -> Any:
            ended = json.loads(frame).get("ended")
            return Ended("gone", channel=ended) if ended else super().peek(frame)

    def end(self, venue: FakeVenue) -> None:
        (peer,) = venue.live
        peer.unsubscribe(self.channel())
        peer.send(json.dumps({"ended": self.channel()}))


def test_a_book_whose_channel_the_venue_has_ended_gets_a_new_snapshot() -> None:
    with rig_of(Ending()) as rig:
        book = rig.book()
        for count in (2, 3):
            with Late(rig.truth) as late:
                with rig.venue.lock:  # before the client can subscribe again
                    rig.truth.end(rig.venue)
                    rig.truth.step(8, count)  # to nobody
                assert late.asked.wait(15)  # the second end in a row waits for 5 s
                with pytest.raises(OrderBookOutOfSync, match="subscribed to again"):
                    book.bids()
            until(lambda: book.is_synced)
            assert rig.truth.is_told_by(book)
            assert len(rig.truth.asked) == count
        rig.push((7, 1))
        until(lambda: book.sequence == rig.truth.number)
        assert rig.truth.is_told_by(book)
        assert len(rig.truth.asked) == 3


def test_a_book_whose_channel_has_ended_is_out_of_sync_until_the_venue_has_confirmed_it() -> None:
    with rig_of(Ending()) as rig:
        book = rig.book()

        def ignore(peer: Peer) -> None:  # this request, and those that follow
            rig.truth.instead = ignore

        ignore(rig.venue.live[0])
        rig.truth.end(rig.venue)
        until(lambda: not book.is_synced)
        with pytest.raises(OrderBookOutOfSync, match="not confirmed"):
            book.bids()


def test_a_snapshot_of_an_earlier_connection_is_not_taken(rig: Rig) -> None:
    book = rig.book()
    late = Late(rig.truth, rig.truth.snapshot(number=10_000))
    rig.truth.step(8, 1)  # never sent
    rig.push((7, 1))
    assert late.asked.wait(5)
    connects = rig.client.stats().connects
    rig.venue.live[0].rst()
    until(lambda: rig.client.stats().connects > connects and rig.venue.subscribers(CHANNEL))
    rig.truth.number = 3
    rig.push((6, 1))
    until(lambda: kept_of(book).connection_id == 2)
    late.go.set()
    until(lambda: book.is_synced)
    assert book.sequence == rig.truth.number
    assert rig.truth.is_told_by(book)


def test_no_snapshot_is_fetched_for_a_book_whose_channel_is_lost(rig: Rig) -> None:
    book = rig.book()
    rig.truth.refuses = True
    rig.venue.live[0].rst()
    until(lambda: book.is_lost)
    refreshes = refreshes_of(rig.client)
    until(lambda: refreshes.deadline(0.0) == float("inf"))
    assert len(rig.truth.asked) == 1


def test_no_snapshot_is_fetched_for_a_book_that_was_given_up(rig: Rig) -> None:
    rig.truth.script += [answer(b"500 Oops")] * 1000
    with pytest.raises(TimeoutError, match="no snapshot yet"):
        rig.book(timeout=0.2)
    service = service_of(rig.client)
    until(lambda: not service.snapshots.books)
    until(lambda: not rig.client.subscriptions)
    rig.truth.script.clear()
    assert rig.book().is_synced


def test_no_snapshot_is_fetched_for_a_closed_book(rig: Rig) -> None:
    book = rig.book()
    with Late(rig.truth) as late:
        rig.truth.step(8, 1)  # never sent
        rig.push((7, 1))
        assert late.asked.wait(5)
        book.close()
    service = service_of(rig.client)
    until(lambda: not service.snapshots.books)
    until(lambda: not rig.client.subscriptions)
    assert not book.is_synced
    assert rig.book().is_synced
    assert len(rig.truth.asked) == 3


def test_the_answer_for_a_book_that_was_closed_does_not_end_its_successors_wait(rig: Rig) -> None:
    book = rig.book()
    with Late(rig.truth) as late:
        rig.truth.step(8, 1)  # never sent
        rig.push((7, 1))
        assert late.asked.wait(5)
        book.close()
        until(lambda: not rig.client.subscriptions)
        successor = Call(rig.book)
        until(lambda: service_of(rig.client).snapshots.books)
    assert successor.result().is_synced


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (lambda rig: answer(b"500 Oops"), ".* answered .* HTTP 500"),
        (lambda rig: rig.truth.snapshot(100), "it is too old for the updates"),
    ],
    ids=["refused", "stale"],
)
def test_a_timeout_says_why_the_last_fetch_failed(
    rig: Rig, answers: Callable[[Rig], bytes], why: str
) -> None:
    book = rig.book()
    rig.truth.script += [answers(rig)] * 1000
    rig.truth.step(8, 1)  # never sent
    rig.push((7, 1))
    until(lambda: len(rig.truth.asked) > 3)
    why = rf"missed \(sequence\) \(the last attempt to fetch a snapshot: {why}\)"
    with pytest.raises(TimeoutError, match=why):
        book.wait_synced(0.01)
    rig.truth.script.clear()
    book.wait_synced(5)
    with Late(rig.truth) as late:
        rig.venue.live[0].rst()
        assert late.asked.wait(5)
        assert "out of sync" in repr(book)
        assert "fetched" not in repr(book), "that was another fetch"


def test_a_late_confirmation_wakes_the_thread(rig: Rig) -> None:
    """The confirmation wakes the thread, not the clock."""
    book = rig.book()
    rig.truth.instead = lambda peer: rig.venue.lock.notify_all()
    rig.venue.live[0].rst()
    rig.venue.wait_for(lambda venue: venue.live and venue.live[0].received)
    snapshots = service_of(rig.client).snapshots
    until(lambda: snapshots.is_listening and not book.is_synced)
    (peer,) = rig.venue.live
    peer.send_json({"result": None, "id": json.loads(peer.received[0])["id"]})
    book.wait_synced(5)
    until(lambda: not snapshots.is_listening)
    assert rig.truth.is_told_by(book)


def test_numbers_that_begin_again_on_a_connection_put_it_out_of_sync(rig: Rig) -> None:
    book = rig.book()
    rig.push((8, 1))
    until(lambda: book.sequence == 101)
    rig.truth.number = 5
    rig.push((8, 2))
    rig.push((8, 3))
    until(lambda: book.is_synced and book.sequence == 7)
    assert rig.truth.is_told_by(book)


@pytest.mark.parametrize(("number", "is_joined"), [(2, True), (1, False)])
def test_what_waits_is_bounded(number: int, is_joined: bool) -> None:
    """With two updates too many the oldest two are dropped; those after the snapshot remain."""
    book = wsclient.OrderBook("binance", CHANNEL)
    for n in range(1, 10_003):
        raw = b'{"data":{"e":"depthUpdate","U":%d,"u":%d,"b":[],"a":[]}}' % (n, n)
        book.apply(message(CHANNEL, "depthUpdate", n, raw))
    book.take_snapshot({"lastUpdateId": number, "bids": [["8", "1"]], "asks": [["9", "1"]]})
    assert book.is_synced is is_joined


# --- close(), in each phase of a fetch -----------------------------------------------------------


def stall(*parts: bytes) -> Callable[[socket.socket], None]:
    """Return a handler that sends these parts, one every 10 ms, and then nothing."""

    def say(sock: socket.socket) -> None:
        gone = Call(expect_end, sock)
        for part in parts:
            sock.sendall(part)
            gone.join(0.01)
        gone.result()

    return say


@contextlib.contextmanager
def mute_tls() -> Iterator[str]:
    with Server(expect_end) as server:
        yield f"https://127.0.0.1:{server.port}"


@contextlib.contextmanager
def dead_venue() -> Iterator[str]:
    with dead_address() as (host, port):
        yield f"http://{host}:{port}"


def is_asked(rig: Rig) -> bool:
    return len(rig.truth.asked) == 1


def is_dialling(rig: Rig) -> bool:
    thread = rig.thread()
    return thread is not None and Call.is_in(thread, "open_socket")  # type: ignore[arg-type]


def is_put_off(rig: Rig) -> bool:
    snapshots = service_of(rig.client).snapshots
    now = time.monotonic()
    return max(snapshots.not_before, snapshots._refreshes.deadline(now)) > now + 100


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"
#: The answer, the condition that the fetch has come so far, and who answers for the venue.
PHASES: dict[str, tuple[Any, Callable[[Rig], bool], Any]] = {
    "connection": (None, is_dialling, dead_venue),
    "TLS handshake": (None, is_dialling, mute_tls),
    "head": (stall(), is_asked, nullcontext),
    "body": (stall(HEAD), is_asked, nullcontext),
    "slow body": (stall(HEAD, *[b" "] * 900), is_asked, nullcontext),
    "Retry-After": (answer(b"429 No", b"", b"Retry-After: 3600"), is_put_off, nullcontext),
    "budget": (answer(b"500 Oops"), is_put_off, nullcontext),
}


@linux_only
@pytest.mark.parametrize("phase", PHASES)
def test_close_ends_a_fetch_that_waits_for_its(
    phase: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another book is waiting for its turn meanwhile."""
    step, is_reached, venue = PHASES[phase]
    with venue() as at, rig_of(Binance(), at) as rig:
        if phase == "budget":
            set_budget(rig.client, Budget(1, 3600.0))
        rig.truth.script.append(step)
        calls = [Call(rig.client.order_book, symbol, timeout=30) for symbol in ("A", "B")]
        until(lambda: len(service_of(rig.client).snapshots.books) == 2 and is_reached(rig))
        thread = rig.thread()
        begun = time.monotonic()
        rig.client.close(timeout=3)
        assert time.monotonic() - begun < 2.5
        assert thread is not None
        assert thread.name == "wsclient-snapshot"
        assert not thread.is_alive()
        for call in calls:
            with pytest.raises(wsclient.ClientClosed):
                call.result()
    assert len(rig.truth.asked) <= 1
    assert not warnings(caplog, logging.ERROR)


def test_close_does_not_wait_for_the_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can end the resolver's call. Its result is ignored."""
    answer, real = threading.Event(), socket.getaddrinfo
    asked: list[str] = []

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "venue.example":
            return real(host, *args, **kwargs)
        asked.append(host)
        assert answer.wait(10)
        return real("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with (
        Server(expect_end) as server,
        rig_of(Binance(), f"https://venue.example:{server.port}") as rig,
    ):
        call = Call(rig.book, 30)
        until(lambda: asked)
        begun = time.monotonic()
        rig.client.close(timeout=0.2)
        assert time.monotonic() - begun < 1.0
        with pytest.raises(wsclient.ClientClosed):
            call.result()
        answer.set()
        thread = rig.thread()
        assert thread is not None
        thread.join(5)
        assert not thread.is_alive()
        assert server.connections == 0


# --- the rest ------------------------------------------------------------------------------------


def test_a_fetch_has_a_deadline(rig: Rig) -> None:
    object.__setattr__(service_of(rig.client).snapshots.options, "connect_timeout", 0.1)
    rig.truth.script.append(expect_end)
    assert rig.book().is_synced
    assert len(rig.truth.asked) == 2


def test_a_book_that_falls_out_of_sync_as_it_is_joined_is_fetched_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request at that time has no effect, and must not be lost."""
    book = rig.book()
    take = kept_of(book).take_snapshot
    spoilt: list[bool] = []

    def spoil(answer: Any, connection_id: int, age: int) -> bool:
        is_joined = take(answer, connection_id, age)
        if not spoilt:
            spoilt.append(is_joined)
            rig.truth.step(6, 1)  # never sent
            rig.push((5, 1))
            until(lambda: not book.is_synced)
        return is_joined

    monkeypatch.setattr(kept_of(book), "take_snapshot", spoil)
    rig.truth.step(8, 1)  # never sent
    rig.push((7, 1))
    until(lambda: len(rig.truth.asked) == 3 and book.is_synced)
    assert spoilt == [True]
    assert rig.truth.is_told_by(book)


def test_no_lock_is_held_while_a_snapshot_is_fetched(rig: Rig) -> None:
    book = rig.book()
    late = Late(rig.truth)
    rig.truth.step(8, 1)  # never sent
    rig.push((7, 1))
    assert late.asked.wait(5)
    service = service_of(rig.client)
    for lock in (kept_of(book).lock, lock_of(service.snapshots)):
        assert lock.acquire(blocking=False)
        lock.release()
    assert book.bids(stale_ok=True) == [(9, 1)]
    rig.client.subscribe("btcusdt@trade", timeout=5)
    late.go.set()
    book.wait_synced(5)
