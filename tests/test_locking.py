"""The lock checks find each kind of violation, and none in a working client."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsclient
from support.depth import Binance, rig_of
from support.helpers import Call, until
from support.locking import Instrument, Kinds
from wsclient.options import Options
from wsclient.testing import FakeVenue
from wsclient.testing.venues.kraken import KrakenProtocol
from wsclient.threads.locks import Locks


@pytest.fixture
def instrument() -> Iterator[Instrument]:
    with Instrument(Kinds()) as instrument:
        yield instrument


class Bank:
    """An object with two locks."""

    def __init__(self, locks: Locks | None = None) -> None:
        locks = locks or Locks()
        self.accounts = locks.new("the accounts")
        self.journal = locks.new("the journal")


def under(lock: Any, function: Callable[[], object]) -> None:
    with lock:
        function()


def found(instrument: Instrument) -> str:
    (violation,) = instrument.violations
    return violation.what


def test_locks_taken_in_one_order_are_no_violation(instrument: Instrument) -> None:
    for _ in range(2):
        bank = Bank()
        with bank.accounts, bank.journal:
            pass
    instrument.check()
    assert instrument.kinds.pairs == {("the accounts", "the journal")}


def test_an_order_that_closes_a_circle_is_found_by_kind(instrument: Instrument) -> None:
    one, other = Bank(), Bank()
    with one.accounts, one.journal:
        pass
    with other.journal, other.accounts:
        pass
    assert found(instrument) == (
        "locks are taken in a circle: the journal -> the accounts -> the journal"
    )


def test_a_circle_over_three_threads_is_found(instrument: Instrument) -> None:
    locks = Locks()
    a, b, c = locks.new("a"), locks.new("b"), locks.new("c")

    def nest(outer: Any, inner: Any) -> None:
        with outer, inner:
            pass

    for pair in ((a, b), (b, c), (c, a)):
        thread = threading.Thread(target=nest, args=pair)
        thread.start()
        thread.join()
    assert found(instrument) == "locks are taken in a circle: c -> a -> b -> c"


def test_two_locks_of_one_kind_are_a_circle(instrument: Instrument) -> None:
    with Bank().accounts, Bank().accounts:
        pass
    assert "the accounts -> the accounts" in found(instrument)


def test_a_lock_that_is_entered_again_is_found(instrument: Instrument) -> None:
    bank = Bank()
    with bank.accounts, bank.accounts:
        pass
    assert found(instrument) == "the lock of the accounts was taken by its holder"


def _logs() -> None:
    logging.getLogger("wsclient").warning("a word")


def _receives() -> None:
    near, far = socket.socketpair()
    with near, far:
        far.send(b"x")
        near.recv(1)


def _waits() -> None:
    items = queue.SimpleQueue[int]()
    items.put(1)
    items.get()


def _joins() -> None:
    thread = threading.Thread(target=bool)
    thread.start()
    thread.join()


RUN = {
    "logging": _logs,
    "socket.recv": _receives,
    "a wait for a queue": _waits,
    "time.sleep": lambda: time.sleep(0),
    "a thread's join": _joins,
}


@pytest.mark.parametrize("what", RUN)
def test_what_runs_under_a_lock_is_found(instrument: Instrument, what: str) -> None:
    RUN[what]()
    instrument.check()
    under(Bank().journal, RUN[what])
    with pytest.raises(AssertionError, match=f"{what} ran while a lock was held: .*the journal"):
        instrument.check()


@pytest.mark.parametrize("hook", ["read", "batches", "timestamp"])
def test_a_hook_of_a_dialect_under_a_lock_is_found(instrument: Instrument, hook: str) -> None:
    class Own(wsclient.Generic):
        def batches(self, channels: Any) -> Any:
            return super().batches(channels)

    dialect = Own()
    wsclient.WebSocketClient("ws://localhost/", dialect=dialect).close()
    message = wsclient.Message("a", "", 1, b"{}")
    argument = {"read": {"type": "system"}, "batches": ["a"], "timestamp": message}[hook]
    getattr(dialect, hook)(argument)
    instrument.check()
    under(Bank().journal, lambda: getattr(dialect, hook)(argument))
    with pytest.raises(AssertionError, match=rf"the dialect's {hook}\(\) ran while a lock"):
        instrument.check()


def test_a_function_among_the_options_under_a_lock_is_found(instrument: Instrument) -> None:
    options = Options(classify=lambda error: wsclient.Verdict.FATAL)
    under(Bank().journal, lambda: options.classify(OSError()))
    assert found(instrument) == (
        "the option classify ran while a lock was held: that of the journal"
    )


def test_what_another_thread_does_meanwhile_is_no_violation(instrument: Instrument) -> None:
    ended = threading.Event()

    def log() -> None:
        _logs()
        ended.set()

    thread = threading.Thread(target=log)
    with Bank().accounts:
        thread.start()
        assert ended.wait(10)
    thread.join()
    instrument.check()


def test_a_lock_is_given_back_after_an_error(instrument: Instrument) -> None:
    lock = Bank().accounts
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    _logs()
    instrument.check()


def test_a_group_of_locks_knows_its_watched_ones(instrument: Instrument) -> None:
    locks = Locks()
    with Bank(locks).accounts:
        assert locks.is_held
    assert not locks.is_held


# A client at work.


def _check(instrument: Instrument) -> None:
    assert instrument.made, "no lock of a client was watched"
    instrument.check()


def _talk(client: wsclient.WebSocketClient, venue: FakeVenue) -> None:
    client.on_event(lambda event: None)
    client.on("callback", lambda message: client.latest("a"))
    with client.reader("a", "b") as reader:
        client.subscribe("a", "c")
        for _ in range(10):
            venue.publish("a")
            venue.publish("callback")
        assert [client.recv(5).sequence for _ in range(5)] == [1, 2, 3, 4, 5]
        assert reader.recv(5).channel == "a"
        assert "a" in client.subscriptions
        client.stats()
        venue.live[0].rst()
        client.subscribe("d", timeout=10)  # after the reconnect
    client.unsubscribe("c")
    venue.refuse_channel("refused", "no")
    with pytest.raises(wsclient.SubscriptionRejected):
        client.subscribe("refused")


def test_a_client_takes_its_locks_in_order_and_runs_nothing_under_them(
    venue: FakeVenue, instrument: Instrument
) -> None:
    options = {
        "validate": lambda message: None,
        "headers": dict,
        "classify": lambda error: wsclient.classify(error),
    }
    with wsclient.connect(lambda: venue.url, retry_delay=0.01, **options) as client:
        _talk(client, venue)
    _check(instrument)
    assert instrument.kinds.pairs


def test_an_order_book_runs_nothing_under_its_lock(instrument: Instrument) -> None:
    def levels(bid: int, ask: int) -> dict[str, Any]:
        return {"bids": [{"price": bid, "qty": 1}], "asks": [{"price": ask, "qty": 1}]}

    protocol = KrakenProtocol()
    protocol.set_snapshot("book:BTC/USD", **levels(9, 11))
    with (
        FakeVenue(protocol) as venue,
        wsclient.connect(venue.url, dialect="kraken", retry_delay=0.01) as client,
    ):
        book = client.order_book("BTC/USD", timeout=10)
        venue.publish("book:BTC/USD", type="update", **levels(10, 12))
        until(lambda: book.best_bid == (10, 1))
        assert book.bids()[0] == book.best_bid
        venue.live[0].rst()
        until(lambda: client.stats().connects == 2)
        book.wait_synced(10)
        book.close()
    _check(instrument)


def test_a_book_that_begins_by_rest_runs_nothing_under_its_lock(instrument: Instrument) -> None:
    with rig_of(Binance()) as rig:
        book = rig.book(timeout=10)
        rig.push((9, 3))
        until(lambda: rig.truth.is_told_by(book))
        rig.truth.change((9, 4))  # no update reports it
        rig.push((8, 1))
        until(lambda: rig.truth.is_told_by(book))
    _check(instrument)


def test_closing_in_every_way_runs_nothing_under_a_lock(
    venue: FakeVenue, instrument: Instrument
) -> None:
    client = wsclient.connect(venue.url)
    client.subscribe("a")
    venue.publish("a")
    call = Call(list, client.reader("b"))
    venue.live[0].stop_reading()
    client.close()
    assert call.result() == []
    venue.refuse(401)
    with pytest.raises(wsclient.ConnectError):
        wsclient.connect(venue.url)
    _check(instrument)
