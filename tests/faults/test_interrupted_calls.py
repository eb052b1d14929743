"""Row 20: a KeyboardInterrupt at each point of each public call where CPython can deliver one.

No lock stays held, no message is lost or doubled, the client works on, and ``close()`` ends in
time. The calls run on a thread of their own, so that a deadlock is a failure and not the end of the
run. ``-m soak`` takes all points, the suite a seeded sample of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from support.interrupting import Point
from support.matrix import each_size
from support.talk import (
    BOOK_CHANNEL,
    FEED,
    PATIENCE,
    SYMBOL,
    Subject,
    Talker,
    end_in_time,
    options,
    settle,
    threads_of_ours,
)
from wsclient.testing import FakeVenue
from wsclient.threads.locks import Locks

#: The number of random points of a call, besides those at powers of two.
SAMPLE = 30
#: How long (s) the remains of an interrupted call may go on in the background.
SOON = 5.0
OTHER = "other channel"

#: All points, or a sample.
every = each_size("is_full", short=[False], full=[True], timeout=1800)


class Trial:
    """One client that makes one call after the other, each interrupted at a later point."""

    def __init__(self, venue: FakeVenue, locks: list[Any], seed: int, is_full: bool) -> None:
        self.venue = venue
        self.locks = locks
        self.rng = random.Random(seed)
        self.is_full = is_full
        self.subject = Subject(venue.url)
        self.client = self.subject.client
        self.struck = 0
        #: The interrupts, with their frames: a notebook keeps the last.
        self.kept: list[Point] = []

    def points(self) -> Iterator[Point]:
        """Yield the points at which the loop's body is to interrupt its call.

        These are all points; or those at powers of two, until the call has no such point, and some
        random ones below that.
        """
        numbers = count(1) if self.is_full else (2**n for n in count())
        for number in numbers:
            point = Point(number)
            yield point
            if not self._note(point):
                break
        if not self.is_full:
            for chosen in self.rng.sample(range(1, number + 1), min(SAMPLE, number)):
                point = Point(chosen)
                yield point
                self._note(point)
        assert self.struck > 2, "the call has no points"

    def _note(self, point: Point) -> bool:
        if point.where is None:
            return False
        self.struck += 1
        self.kept = [*self.kept[-5:], point]
        return True

    def look(self, point: Point) -> None:
        """Check after a point that no lock is held and the client works on."""
        where = str(point)
        call = Call(self._look)
        call.join(SOON)
        assert not call.is_alive(), f"{where}: another thread is blocked\n{_where(call)}"
        assert call.error is None, f"{where}: {call.error!r}"
        self.venue.publish(FEED)
        self.client.subscribe("probe", timeout=SOON)
        number = self.venue.publish("probe")
        while (message := self.client.recv(timeout=SOON)).channel != "probe":
            self.subject.note(message)
        assert message.sequence == number, where
        self.client.unsubscribe("probe", timeout=SOON)

    def _look(self) -> None:
        for lock in self.locks:
            assert lock.acquire(timeout=SOON), "a lock is held"
            lock.release()
        self.client.stats()
        repr(self.client)
        assert FEED in self.client.subscriptions
        assert self.subject.book.is_synced

    def end(self) -> str:
        self.venue.publish(FEED)
        settle(self.subject, self.venue)
        self.kept.clear()
        return f"{self.struck} points"


def _where(call: Call) -> str:
    assert call.ident is not None
    frame = sys._current_frames().get(call.ident)
    return "".join(traceback.format_stack(frame))


# The calls. Each case interrupts its call at each point that it is given, and undoes its effects.


def _simple(call: Callable[[Subject], Any]) -> Callable[[Trial], None]:
    """Return a case whose call leaves nothing to be undone."""

    def case(trial: Trial) -> None:
        for point in trial.points():
            point(call, trial.subject)
            trial.look(point)

    return case


def _taking(call: Callable[[Subject], list[wsclient.Message]]) -> Callable[[Trial], None]:
    """Return a case whose call takes messages: they are with the caller, or in the queue."""

    def case(trial: Trial) -> None:
        for point in trial.points():
            for _ in range(3):
                trial.venue.publish(FEED)
            until(lambda: trial.client.stats().queued)
            trial.subject.note(*(point(call, trial.subject) or ()))
            trial.look(point)

    return case


def _waiting(call: Callable[[Subject], list[wsclient.Message]]) -> Callable[[Trial], None]:
    """Return a case whose call waits for its message."""

    def case(trial: Trial) -> None:
        for point in trial.points():
            while trial.client.stats().queues["client"].messages:
                trial.subject.note(trial.client.recv(timeout=SOON))
            timer = threading.Timer(0.005, trial.venue.publish, (FEED,))
            timer.start()
            trial.subject.note(*(point(call, trial.subject) or ()))
            timer.join()
            trial.look(point)

    return case


def _iterate(subject: Subject) -> list[wsclient.Message]:
    for message in subject.client:
        return [message]
    return []


def _subscribe(trial: Trial) -> None:
    for point in trial.points():
        point(trial.client.subscribe, OTHER)
        trial.look(point)
        trial.client.subscribe(OTHER, timeout=SOON)
        number = trial.venue.publish(OTHER)
        while (message := trial.client.recv(timeout=SOON)).channel != OTHER:
            trial.subject.note(message)
        assert message.sequence == number, str(point)
        trial.client.unsubscribe(OTHER, timeout=SOON)


def _unsubscribe(trial: Trial) -> None:
    for point in trial.points():
        trial.client.subscribe(OTHER, timeout=SOON)
        point(trial.client.unsubscribe, OTHER)
        trial.look(point)
        trial.client.unsubscribe(OTHER, timeout=SOON)
        assert OTHER not in trial.client.subscriptions, str(point)


def _readers(trial: Trial) -> set[str]:
    names = trial.client.stats().queues
    return {name for name in names if name.startswith("reader-")}


def _reader(trial: Trial) -> None:
    before = _readers(trial)
    for point in trial.points():
        reader = point(trial.client.reader, OTHER)
        trial.look(point)
        if reader is not None:
            trial.venue.publish(OTHER)
            assert reader.recv(SOON).channel == OTHER
            reader.close(SOON)
        until(lambda: _readers(trial) == before, SOON)
        until(lambda: OTHER not in trial.client.subscriptions, SOON)


def _close_reader(trial: Trial) -> None:
    before = _readers(trial)
    for point in trial.points():
        reader = trial.client.reader(OTHER, timeout=SOON)
        point(reader.close)
        trial.look(point)
        reader.close(SOON)
        assert _readers(trial) == before, str(point)
        until(lambda: OTHER not in trial.client.subscriptions, SOON)


def _frame(trial: Trial) -> None:
    for point in trial.points():
        frame = point(trial.client.frame, OTHER)
        trial.look(point)
        if frame is not None:
            trial.venue.publish(OTHER)
            until(lambda found=frame: len(found), SOON)
            frame.close()
        del frame
        until(lambda: OTHER not in trial.client.subscriptions, SOON)


def _close_frame(trial: Trial) -> None:
    for point in trial.points():
        frame = trial.client.frame(OTHER, timeout=SOON)
        point(frame.close)
        trial.look(point)
        frame.close()
        until(lambda: OTHER not in trial.client.subscriptions, SOON)


def _on(trial: Trial) -> None:
    """Interrupt on(), then repeat the call: the function is added once."""
    called: list[int | None] = []

    def function(message: wsclient.Message) -> None:
        called.append(message.sequence)

    for point in trial.points():
        channel = f"on {trial.struck} {trial.rng.random()}"
        point(trial.client.on, channel, function)
        trial.look(point)
        if point.error is not None:
            trial.client.on(channel, function, timeout=SOON)
        trial.venue.publish(channel)
        trial.venue.publish(channel)
        until(lambda: 2 in called, SOON)
        assert called.count(1) == 1, str(point)
        called.clear()


def _on_several(trial: Trial) -> None:
    """Interrupt on() of two channels, then repeat the call: the function is added once to each."""
    called: list[str] = []

    def function(message: wsclient.Message) -> None:
        called.append(message.channel)

    for point in trial.points():
        channels = [f"several {n} {trial.struck} {trial.rng.random()}" for n in range(2)]
        point(trial.client.on, channels, function)
        trial.look(point)
        if point.error is not None:
            trial.client.on(channels, function, timeout=SOON)
        for channel in channels:
            trial.venue.publish(channel)
            trial.venue.publish(channel)
        until(lambda: len(called) == 4, SOON)
        assert called == [channels[0]] * 2 + [channels[1]] * 2, str(point)
        called.clear()


def _wait(trial: Trial) -> None:
    for point in trial.points():
        with contextlib.suppress(wsclient.WaitTimeout):
            point(trial.client.wait, 0.005)
        trial.look(point)


def _on_event(trial: Trial) -> None:
    for point in trial.points():
        point(trial.client.on_event, lambda event: None)
        trial.look(point)


def _receive_event(trial: Trial) -> None:
    """Interrupt a call that takes events: each look at the client causes one or two."""
    stream, numbers = trial.client.events(), list[int]()
    trial.client.subscribe(OTHER, timeout=SOON)
    for point in trial.points():
        if (event := point(stream.recv, SOON)) is not None:
            numbers.append(event.number)
        trial.look(point)
    trial.client.close()
    numbers += [event.number for event in stream]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    trial.subject = Subject(trial.venue.url)


def _new_book(trial: Trial) -> None:
    for point in trial.points():
        book = point(trial.client.order_book, "NEW")
        trial.look(point)
        book = trial.client.order_book("NEW", timeout=SOON)
        assert book.is_synced
        book.close()
        until(lambda: "book:NEW" not in trial.client.subscriptions, SOON)


def _close_book(trial: Trial) -> None:
    for point in trial.points():
        book = trial.client.order_book("NEW", timeout=SOON)
        point(book.close)
        trial.look(point)
        book.close()
        assert not book.is_synced
        until(lambda: "book:NEW" not in trial.client.subscriptions, SOON)


def _is_closed(trial: Trial) -> bool:
    recorder = trial.client.stats().recorder
    return recorder is None or recorder.is_closed


def _record(trial: Trial) -> None:
    """Interrupt record(): it leaves a recorder, or neither a recorder nor a file."""
    for point in trial.points():
        with tempfile.TemporaryDirectory() as folder:
            recorder = point(trial.client.record, folder)
            trial.look(point)
            if recorder is not None:
                recorder.close(SOON)
            until(lambda: _is_closed(trial), SOON)
            names = os.listdir(folder)
            assert len(names) == (recorder is not None), (str(point), names)
            trial.client.record(folder).close(SOON)
            assert all(name.endswith(".mcap") for name in os.listdir(folder)), str(point)


def _close_recorder(trial: Trial) -> None:
    for point in trial.points():
        with tempfile.TemporaryDirectory() as folder:
            recorder = trial.client.record(folder)
            point(recorder.close)
            trial.look(point)
            recorder.close(SOON)
            assert recorder.is_closed, str(point)
            (name,) = os.listdir(folder)
            assert name.endswith(".mcap"), str(point)
            before = recorder.stats()
            trial.client.send("{}")
            assert recorder.stats() == before, str(point)


def _book_reads(subject: Subject) -> list[object]:
    book = subject.book
    return [book.best_bid, book.best_ask, book.mid, book.bids(3), book.is_synced, repr(book)]


CASES: dict[str, Callable[[Trial], None]] = {
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "reader": _reader,
    "reader.close": _close_reader,
    "frame": _frame,
    "frame.close": _close_frame,
    "on": _on,
    "on, several": _on_several,
    "wait": _wait,
    "on_event": _on_event,
    "events": _simple(lambda subject: subject.client.events()),
    "events.recv": _receive_event,
    "order_book": _simple(lambda subject: subject.client.order_book(SYMBOL)),
    "new order_book": _new_book,
    "book.close": _close_book,
    "record": _record,
    "recorder.close": _close_recorder,
    "book reads": _simple(_book_reads),
    "wait_synced": _simple(lambda subject: subject.book.wait_synced(SOON)),
    "latest": _simple(lambda subject: subject.client.latest(FEED)),
    "subscriptions": _simple(lambda subject: subject.client.subscriptions),
    "stats": _simple(lambda subject: subject.client.stats()),
    "send": _simple(lambda subject: subject.client.send("{}")),
    "request": _simple(lambda subject: subject.client.request({}, timeout=SOON)),
    "connect, connected": _simple(lambda subject: subject.client.connect(SOON)),
    "repr": _simple(lambda subject: (repr(subject.client), repr(subject.reader))),
    "recv": _taking(lambda subject: [subject.client.recv(SOON)]),
    "recv, waiting": _waiting(lambda subject: [subject.client.recv(SOON)]),
    "recv_batch": _taking(lambda subject: subject.client.recv_batch(2, SOON)),
    "recv_batch, waiting": _waiting(lambda subject: subject.client.recv_batch(2, SOON)),
    "collect": _taking(lambda subject: subject.client.collect(SOON, 2)),
    "collect, waiting": _waiting(lambda subject: subject.client.collect(SOON, 1)),
    "collect, polling": _taking(lambda subject: subject.client.collect(0)),
    "next": _taking(lambda subject: [next(subject.client)]),  # type: ignore[call-overload]
    "for": _taking(_iterate),
    "for, waiting": _waiting(_iterate),
}


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1, 1_000_000)
    print(f"SEED={seed}")
    return seed


@pytest.fixture
def talker() -> Iterator[FakeVenue]:
    with FakeVenue(Talker()) as venue:
        venue.publish(BOOK_CHANNEL)
        yield venue


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return all locks that were made in the test."""
    made: list[Any] = []
    new = Locks.new
    monkeypatch.setattr(Locks, "new", lambda group, what: made.append(new(group, what)) or made[-1])
    return made


def finish(call: Call, is_full: bool) -> Any:
    """Return the call's result; fail with its place in the code if it is blocked."""
    call.join(1700 if is_full else 40)
    assert not call.is_alive(), f"blocked:\n{_where(call)}"
    return call.result()


@every
@pytest.mark.parametrize("name", CASES)
def test_a_call_that_is_interrupted_at_any_point_harms_nothing(
    promise: Callable[..., None],
    talker: FakeVenue,
    locks: list[Any],
    name: str,
    seed: int,
    is_full: bool,
) -> None:
    def run() -> str:
        trial = Trial(talker, locks, seed, is_full)
        try:
            CASES[name](trial)
            return trial.end()
        except BaseException:
            Call(trial.client.close, 0.5).join(2)  # if it can
            raise

    said = finish(Call(run), is_full)
    promise(20, f"KeyboardInterrupt in {name}", "no harm at any point", said, True)


# Calls that begin and end a client: each point has one of its own.


def _connect(url: str, point: Point) -> None:
    client = point(wsclient.connect, url, **options())
    if client is not None:
        client.close()


def _first_connect(url: str, point: Point) -> None:
    client = wsclient.WebSocketClient(url, **options())
    point(client.connect)
    client.connect(SOON)
    client.subscribe(FEED, timeout=SOON)
    end_in_time(client)


def _close(url: str, point: Point) -> None:
    client = wsclient.connect(url, **options())
    reader = client.reader(FEED, timeout=SOON)
    waiting = Call(list, reader)
    point(client.close)
    end_in_time(client)
    assert waiting.result(SOON) == []


def _drain(url: str, point: Point) -> None:
    """Interrupt a close() that drains: it is done, or goes on, and is completed by another."""
    client = wsclient.connect(url, **options())
    got: list[int | None] = []
    client.on(FEED, lambda message: got.append(message.sequence), timeout=SOON)
    reading = Call(list, client.reader(FEED, timeout=SOON))
    point(client.close, SOON, drain=True)
    if client.state not in (wsclient.State.CLOSING, wsclient.State.CLOSED):
        client.close(SOON, drain=True)  # the interrupt came before it had begun
    client.wait(SOON)
    assert client.state is wsclient.State.CLOSED
    reading.result(SOON)


def _end_wait(url: str, point: Point) -> None:
    client = wsclient.connect(url, **options())
    threading.Timer(0.005, client.close).start()
    point(client.wait, SOON)
    client.wait(SOON)


def _with(url: str, point: Point) -> None:
    client = wsclient.WebSocketClient(url, **options())

    def block() -> None:
        with client:
            pass

    point(block)
    end_in_time(client)


def _on_event_first(url: str, point: Point) -> None:
    client = wsclient.WebSocketClient(url, **options())
    heard = threading.Event()
    point(client.on_event, lambda event: None)
    client.on_event(lambda event: heard.set())
    client.connect(SOON)
    assert heard.wait(SOON)
    end_in_time(client)


LIVES: dict[str, Callable[[str, Point], None]] = {
    "wsclient.connect": _connect,
    "the first connect": _first_connect,
    "close": _close,
    "close, draining": _drain,
    "wait": _end_wait,
    "with": _with,
    "the first on_event": _on_event_first,
}


@every
@pytest.mark.parametrize("name", LIVES)
def test_a_client_whose_begin_or_end_is_interrupted_at_any_point_ends_in_time(
    promise: Callable[..., None],
    talker: FakeVenue,
    locks: list[Any],
    name: str,
    seed: int,
    is_full: bool,
) -> None:
    def run() -> str:
        rng, kept, struck = random.Random(seed), list[Any](), 0
        numbers = count(1) if is_full else (2**n for n in count())
        number = 0
        for number in numbers:
            point = Point(number)
            LIVES[name](talker.url, point)
            kept = [*kept[-3:], point]
            if point.where is None:
                break
            struck += 1
        for _ in range(0 if is_full else SAMPLE):
            point = Point(rng.randint(1, number))
            LIVES[name](talker.url, point)
            kept = [*kept[-3:], point]
            struck += point.where is not None
        until(lambda: not threads_of_ours(), PATIENCE)
        assert struck > 2
        return f"{struck} points"

    said = finish(Call(run), is_full)
    promise(20, f"KeyboardInterrupt in {name}", "it ends in time", said, True)
