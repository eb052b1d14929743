"""Row 23: threads that cannot be started, and threads that are killed.

A thread that cannot be started is a failed attempt or an error, and leaves nothing behind. A killed
thread of ours makes every call raise, and puts every book out of sync.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsclient
from support.depth import Binance, rig_of
from support.helpers import Call, until
from support.talk import (
    BOOK_CHANNEL,
    FEED,
    PATIENCE,
    SYMBOL,
    Talker,
    end_in_time,
    options,
    threads_of_ours,
    works_on,
)
from wsclient.sansio.supervisor import Supervisor
from wsclient.testing import FakeVenue

#: How long (s) a call that must raise soon may take, on a busy machine.
SOON = 5.0


@pytest.fixture
def talker() -> Iterator[FakeVenue]:
    with FakeVenue(Talker()) as venue:
        venue.publish(BOOK_CHANNEL)
        yield venue


class Refusal:
    """Refuses to start threads whose name begins with ``name``, the next ``times`` times."""

    def __init__(self) -> None:
        self.name = ""
        self.times = 0
        self.refused = 0

    def set(self, name: str, times: int = 1) -> None:
        self.name, self.times, self.refused = name, times, 0


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch) -> Refusal:
    refusal, start = Refusal(), threading.Thread.start

    def start_or_not(thread: threading.Thread) -> None:
        if refusal.times and thread.name.startswith(refusal.name):
            refusal.times -= 1
            refusal.refused += 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    return refusal


@contextlib.contextmanager
def client_of(venue: FakeVenue, **others: Any) -> Iterator[wsclient.WebSocketClient]:
    with wsclient.connect(venue.url, **options(**others)) as client:
        client.subscribe(FEED, timeout=PATIENCE)
        yield client


@pytest.mark.parametrize("thread", ["wsclient-watchdog", "wsclient-reader"])
def test_a_second_connect_works_after_one_that_got_no_thread(
    talker: FakeVenue, refusal: Refusal, thread: str
) -> None:
    client = wsclient.WebSocketClient(talker.url, **options(max_retries=1))
    refusal.set(thread)
    with pytest.raises((wsclient.ThreadStartError, wsclient.ConnectError)):
        Call(client.connect, timeout=3).result(SOON)
    assert refusal.refused == 1
    client.connect(timeout=3)
    works_on(client, talker)
    end_in_time(client)


def test_the_watchdog_that_cannot_start_is_an_error_that_says_so(
    talker: FakeVenue, refusal: Refusal
) -> None:
    refusal.set("wsclient-watchdog")
    with pytest.raises(wsclient.ThreadStartError):
        Call(wsclient.connect, talker.url, **options()).result(SOON)
    assert not threads_of_ours()


def test_a_reader_that_cannot_start_is_a_failed_attempt_that_is_tried_again(
    talker: FakeVenue, refusal: Refusal
) -> None:
    refusal.set("wsclient-reader")
    client = Call(wsclient.connect, talker.url, **options()).result(SOON)
    assert refusal.refused == 1
    works_on(client, talker)
    end_in_time(client)


def test_a_reconnect_goes_on_when_threads_can_start_again(
    talker: FakeVenue, refusal: Refusal
) -> None:
    with client_of(talker) as client:
        refusal.set("wsclient-reader", times=3)
        talker.live[0].rst()
        until(lambda: not refusal.times, PATIENCE)
        client.connect(PATIENCE)
        works_on(client, talker)
        assert client.subscriptions[FEED].is_active


@pytest.mark.parametrize("thread", ["wsclient-watchdog", "wsclient-reader"])
def test_close_works_on_a_client_that_got_no_thread(
    talker: FakeVenue, refusal: Refusal, thread: str
) -> None:
    client = wsclient.WebSocketClient(talker.url, **options(max_retries=1))
    refusal.set(thread, times=100)
    with pytest.raises((wsclient.ThreadStartError, wsclient.ConnectError)):
        Call(client.connect, timeout=3).result(SOON)
    end_in_time(client)
    assert not threads_of_ours()
    with pytest.raises(wsclient.ClientClosed):
        client.recv(timeout=1)


@pytest.mark.parametrize("call", ["on_event", "events"])
def test_a_listener_before_connect_that_gets_no_thread_leaves_nothing(
    talker: FakeVenue, refusal: Refusal, call: str
) -> None:
    heard = threading.Event()
    calls: dict[str, Callable[[], Any]] = {
        "on_event": lambda: client.on_event(lambda event: heard.set()),
        "events": lambda: client.events(),
    }
    client = wsclient.WebSocketClient(talker.url, **options())
    refusal.set("wsclient-")
    with pytest.raises(wsclient.ThreadStartError):
        Call(calls[call]).result(SOON)
    assert refusal.refused == 1
    said = calls[call]()
    client.connect(PATIENCE)
    if said is None:
        assert heard.wait(PATIENCE)
    else:
        assert said.recv(PATIENCE)
    works_on(client, talker)
    end_in_time(client)


def test_on_without_a_thread_raises_and_leaves_nothing(talker: FakeVenue, refusal: Refusal) -> None:
    got: list[int | None] = []
    with client_of(talker) as client:
        refusal.set("wsclient-callbacks")
        with pytest.raises(wsclient.ThreadStartError):
            Call(client.on, "a", lambda message: got.append(message.sequence)).result(SOON)
        assert "a" not in client.subscriptions
        assert client.stats().queues.keys() == {"client"}
        client.on("a", lambda message: got.append(message.sequence), timeout=PATIENCE)
        talker.publish("a")
        talker.publish("a")
        until(lambda: 2 in got, PATIENCE)
        assert got == [1, 2], "the function of the failed on() was called too"


def test_on_event_without_a_thread_raises_and_leaves_nothing(
    talker: FakeVenue, refusal: Refusal
) -> None:
    heard: list[str] = []
    with client_of(talker) as client:
        refusal.set("wsclient-callbacks")
        with pytest.raises(wsclient.ThreadStartError):
            Call(client.on_event, lambda event: heard.append("first")).result(SOON)
        client.on_event(lambda event: heard.append("second"))
        client.subscribe("a", timeout=PATIENCE)
        until(lambda: heard, PATIENCE)
        end_in_time(client)
    assert set(heard) == {"second"}


@pytest.mark.parametrize("thread", ["wsclient-callbacks", "wsclient-books"])
def test_an_order_book_without_a_thread_raises_and_a_later_one_works(
    talker: FakeVenue, refusal: Refusal, thread: str
) -> None:
    with client_of(talker) as client:
        refusal.set(thread)
        try:
            Call(client.order_book, SYMBOL, timeout=3).result(SOON)
        except wsclient.ThreadStartError:
            assert refusal.refused == 1
        else:
            assert refusal.refused == 0, "no book is fed, and no error was raised"
        refusal.times = 0
        book = Call(client.order_book, SYMBOL, timeout=PATIENCE).result()
        assert book.is_synced
        number = talker.publish(BOOK_CHANNEL)
        until(lambda: book.sequence == number, PATIENCE)


def test_a_snapshot_thread_that_cannot_start_is_tried_again_or_an_error(refusal: Refusal) -> None:
    with rig_of(Binance()) as rig:
        refusal.set("wsclient-snapshot")
        with contextlib.suppress(wsclient.ThreadStartError):
            assert Call(rig.book).result().is_synced
        assert refusal.refused == 1
        assert Call(rig.book).result().is_synced


def test_no_log_thread_stops_nothing(talker: FakeVenue, refusal: Refusal) -> None:
    refusal.set("wsclient-log", times=1000)
    with client_of(talker) as client:
        talker.live[0].rst()
        until(lambda: client.stats().disconnects, PATIENCE)
        client.connect(PATIENCE)
        works_on(client, talker)
        end_in_time(client)


# Threads that die.


def _kill(name: str) -> None:
    """Raise SystemExit in the newest thread of that name, wherever it is."""
    *_, thread = (thread for thread in threading.enumerate() if thread.name.startswith(name))
    assert thread.ident is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )


WAITING: dict[str, Callable[[wsclient.WebSocketClient], Any]] = {
    "recv": lambda client: client.recv(),
    "iteration": lambda client: next(client),  # type: ignore[call-overload]
    "subscribe": lambda client: client.subscribe("muted"),
}


def _wait_in_all(client: wsclient.WebSocketClient, talker: FakeVenue) -> dict[str, Call]:
    talker.mute_acks(channel="muted")
    calls = {name: Call(call, client) for name, call in WAITING.items()}
    until(lambda: "muted" in client.subscriptions, PATIENCE)
    return calls


def _all_raise(client: wsclient.WebSocketClient, calls: dict[str, Call]) -> None:
    for name, call in calls.items():
        with pytest.raises((wsclient.WSClientError, StopIteration)):
            call.result(SOON)
        assert not call.is_alive(), name
    for use in (
        lambda: client.subscribe("later", timeout=60),
        lambda: client.recv(timeout=60),
        lambda: client.send("{}"),
        lambda: client.request({}, timeout=60),
        lambda: client.reader("later", timeout=60),
        lambda: client.on("later", len, timeout=60),
        lambda: client.order_book("LATER", timeout=60),
    ):
        with pytest.raises(wsclient.WSClientError):
            Call(use).result(SOON)


@pytest.mark.parametrize("how", ["killed", "by a bug"])
def test_a_watchdog_that_dies_ends_every_call_and_every_book(
    talker: FakeVenue, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    client = wsclient.connect(talker.url, **options())
    client.subscribe(FEED, timeout=PATIENCE)
    book = client.order_book(SYMBOL, timeout=PATIENCE)
    calls = _wait_in_all(client, talker)
    if how == "killed":
        _kill("wsclient-watchdog")
    else:
        monkeypatch.setattr(Supervisor, "tick", _fail)
    calls["another subscribe"] = Call(client.subscribe, "another")  # which wakes it
    _all_raise(client, calls)
    until(lambda: not book.is_synced, SOON)
    with pytest.raises(wsclient.OrderBookOutOfSync):
        book.bids()
    end_in_time(client)
    until(lambda: not threads_of_ours(), PATIENCE)


def _fail(*args: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError("an injected bug")


def test_waiters_are_settled_before_a_death_is_logged(
    talker: FakeVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting calls go on, whatever the log does."""
    freed = threading.Event()

    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                freed.wait(PATIENCE)

    handler, log = Stuck(), logging.getLogger("wsclient")
    log.addHandler(handler)
    try:
        client = wsclient.connect(talker.url, **options())
        calls = _wait_in_all(client, talker)
        monkeypatch.setattr(Supervisor, "tick", _fail)
        calls["another subscribe"] = Call(client.subscribe, "another")  # which wakes it
        for call in calls.values():
            call.join(SOON)
            assert not call.is_alive()
    finally:
        freed.set()
        log.removeHandler(handler)
    end_in_time(client)


def test_a_reader_that_is_killed_is_a_lost_connection(talker: FakeVenue) -> None:
    with client_of(talker) as client:
        _kill("wsclient-reader")
        talker.publish(FEED)
        until(lambda: client.stats().disconnects, PATIENCE)
        client.connect(PATIENCE)
        works_on(client, talker)


@pytest.mark.parametrize("name", ["wsclient-callbacks", "wsclient-books"])
def test_a_callbacks_thread_that_is_killed_leaves_no_book_in_sync_for_ever(
    talker: FakeVenue, name: str
) -> None:
    """Its books go on, or report that they do not; close() works."""
    with client_of(talker) as client:
        book = client.order_book(SYMBOL, timeout=PATIENCE)
        client.on("a", len, timeout=PATIENCE)
        if not any(thread.startswith(name) for thread in threads_of_ours()):
            pytest.skip("there is no such thread")
        _kill(name)
        talker.publish(BOOK_CHANNEL)
        talker.publish("a")
        number = talker.publish(BOOK_CHANNEL)
        until(lambda: not book.is_synced or book.sequence == number, SOON)
        end_in_time(client)
        assert not book.is_synced
