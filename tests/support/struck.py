"""Programs whose main thread is struck by signals in a loop of calls.

One runs in a process of its own: :func:`main`, with the mode, the loops, how much of each, and a
seed. It prints a line before each loop, and its findings after it. It ends with 0 and an empty
stderr; a deadlock ends it with a traceback of every thread.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import wsclient
from support.helpers import until
from support.talk import (
    BOOK_CHANNEL,
    FEED,
    LOOPS,
    PATIENCE,
    Subject,
    Talker,
    end_in_time,
    feeding,
    settle,
    threads_of_ours,
)
from wsclient.testing import FakeVenue

#: How long (s) a program may take, beyond its own run time, before it counts as deadlocked.
DEADLOCK = 20.0
PACKAGE = os.path.dirname(wsclient.__file__)


def is_inside(frame: FrameType | None) -> bool:
    """Return whether the client is being called, or at work."""
    if frame is not None and frame.f_code.co_filename.endswith("_weakrefset.py"):
        return False  # Python ignores what is raised there: ``threading`` has a WeakSet of threads
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


class Striker:
    """Thread that signals the main one at random times between two limits (s)."""

    def __init__(self, number: int, least: float, most: float, rng: random.Random) -> None:
        self._number, self._least, self._most, self._rng = number, least, most, rng
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._strike, name="striker", daemon=True)

    def __enter__(self) -> Striker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _strike(self) -> None:
        while not self._ended.wait(self._rng.uniform(self._least, self._most)):
            signal.pthread_kill(threading.main_thread().ident or 0, self._number)


def interrupts(loop: str, times: float, seed: int) -> str:
    """Strike with SIGINT, 1 to 3 ms apart; return the findings.

    Each KeyboardInterrupt is kept, with its frames, as a notebook keeps the last.
    """
    rng, kept = random.Random(seed), list[BaseException]()
    is_on = True

    def strike(_: int, frame: FrameType | None) -> None:
        # Outside the client an interrupt would only show faults of this program.
        if is_on and is_inside(frame):
            raise KeyboardInterrupt

    # A shell starts background programs with SIGINT ignored.
    signal.signal(signal.SIGINT, strike)
    with FakeVenue(Talker()) as venue:
        with feeding(venue, FEED, BOOK_CHANNEL):
            is_on = False
            subject = Subject(venue.url)
            step, calls, heard = LOOPS[loop], 0, 0
            is_on = True
            with Striker(signal.SIGINT, 0.001, 0.003, rng):
                while heard < times:
                    calls += 1
                    if calls % 100 == 0:
                        faulthandler.dump_traceback_later(DEADLOCK, exit=True)
                    try:
                        step(subject)
                    except KeyboardInterrupt as error:
                        heard += 1
                        kept = [*kept[-20:], error]
                        faulthandler.dump_traceback_later(DEADLOCK, exit=True)
            is_on = False
        # The watchdog still has to drop the reader of the last interrupted call.
        until(lambda: len(_readers(subject)) <= 1 + len(subject.left))
        for left in subject.left:
            left.close()
        settle(subject, venue)
    return f"{heard} interrupts in {calls} calls, {len(kept)} kept"


def _readers(subject: Subject) -> list[str]:
    """Return the names of the readers that the client still has."""
    return [name for name in subject.client.stats().queues if name.startswith("reader-")]


#: Exceptions that may end a call that close() finds under way, besides its result.
ENDED = (wsclient.ClientClosed, StopIteration)
#: Exceptions that the calls that send may also raise, as documented.
UNSENT = (wsclient.NotConnected, wsclient.OutcomeUnknown)


def closes(loop: str, times: float, seed: int) -> str:
    """Call close() of the client, its reader or its book in a SIGTERM handler, once per round."""
    rng, outcomes = random.Random(seed), Counter[str]()
    with FakeVenue(Talker()) as venue, feeding(venue, FEED, BOOK_CHANNEL):
        for number in range(int(times)):
            faulthandler.dump_traceback_later(DEADLOCK, exit=True)
            outcomes[_close_once(venue, loop, ("client", "reader", "book")[number % 3], rng)] += 1
        venue.close()
    return ", ".join(f"{count} x {outcome}" for outcome, count in sorted(outcomes.items()))


def _close_once(venue: FakeVenue, loop: str, what: str, rng: random.Random) -> str:
    subject = Subject(venue.url)
    target: Any = getattr(subject, what)
    came_back = 0

    def close(_: int, frame: FrameType | None) -> None:
        nonlocal came_back
        target.close()
        came_back += 1

    signal.signal(signal.SIGTERM, close)
    step, outcome = LOOPS[loop], "a result"
    expected: tuple[type[BaseException], ...] = ENDED
    if "send" in loop or "request" in loop:
        expected += UNSENT
    if what != "client" or "book" in loop or loop == "wait_synced":
        expected += (wsclient.OrderBookOutOfSync,)
    delay = rng.uniform(0.0001, 0.01)
    timer = threading.Timer(
        delay, signal.pthread_kill, (threading.main_thread().ident, signal.SIGTERM)
    )
    timer.start()
    try:
        while not came_back:
            step(subject)
        step(subject)  # after the close: it works, or raises
    except expected as error:
        outcome = type(error).__name__
    timer.join()
    deadline = time.monotonic() + PATIENCE
    while not came_back:
        assert time.monotonic() < deadline, "the handler did not return"
    client = subject.client
    if what == "client":
        while client.state is not wsclient.State.CLOSED:
            assert time.monotonic() < deadline, f"the client is {client.state} after its close()"
    end_in_time(client)
    while threads_of_ours():
        assert time.monotonic() < deadline, f"left: {threads_of_ours()}"
    return f"{what}: {outcome}"


class Cycle:
    """Garbage that only the collector can free, and that calls the client then."""

    def __init__(self, call: Callable[[], object], outcomes: Counter[str]) -> None:
        self.itself = self
        self._call, self._outcomes = call, outcomes

    def __del__(self) -> None:
        try:
            self._call()
            outcome = "a result"
        except Exception as error:  # noqa: BLE001 - counted, and judged at the end
            # A blocking call on a thread of ours, or any call within a section of ours.
            outcome = type(error).__name__
        self._outcomes[outcome] += 1


#: The calls that a finalizer makes.
CALLS: dict[str, Callable[[Subject], object]] = {
    "latest": LOOPS["latest"],
    "subscriptions": LOOPS["subscriptions"],
    "stats": LOOPS["stats"],
    "subscribe": lambda subject: subject.client.subscribe("finalized", timeout=PATIENCE),
    "book reads": LOOPS["book reads"],
    "reader.close": lambda subject: subject.reader.close(),
    "book.close": lambda subject: subject.book.close(),
    "close": lambda subject: subject.client.close(),
}
ALLOWED = {
    "a result",
    "ReentrantCall",
    "RuntimeError",
    "ClientClosed",
    "OrderBookOutOfSync",
}


def finalizers(call: str, seconds: float, seed: int, url: str) -> str:
    """Run the collector at each allocation, on every thread; its garbage calls the client.

    The venue is another process: its threads must not wait for a client's.
    """
    rng, outcomes = random.Random(seed), Counter[str]()
    faulthandler.dump_traceback_later(DEADLOCK + seconds, exit=True)
    makes = threading.local()

    def litter(*_: object) -> None:
        # Not within a finalizer: a new one for each would never end.
        if subject is not None and not getattr(makes, "is_inside", False):
            makes.is_inside = True
            try:
                Cycle(lambda: CALLS[call](subject), outcomes)
            finally:
                makes.is_inside = False

    subject: Any = None
    subject = Subject(url, validate=litter)
    subject.client.on(FEED, litter, timeout=PATIENCE)
    subject.client.on_event(litter)
    names = ["latest", "subscriptions", "stats", "recv", "book reads"]
    names += ["subscribe and unsubscribe", "request"]
    if call == "book.close":
        names.remove("book reads")
    end = time.monotonic() + seconds
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        while time.monotonic() < end:
            litter()
            LOOPS[rng.choice(names)](subject)
    except (*ENDED, *UNSENT, wsclient.OrderBookOutOfSync):
        if call != "close":
            raise
    finally:
        gc.set_threshold(*before)
    end_in_time(subject.client)
    gc.collect()
    assert outcomes.keys() <= ALLOWED, outcomes
    assert outcomes.total() > (0 if call == "close" else 10), outcomes
    deadline = time.monotonic() + PATIENCE
    while threads_of_ours():
        assert time.monotonic() < deadline, f"left: {threads_of_ours()}"
    return ", ".join(f"{count} x {outcome}" for outcome, count in sorted(outcomes.items()))


def main(mode: str, names: str, amount: str, seed: str, *args: str) -> None:
    """Run a mode; ``names`` are loops, or finalizers' calls, with commas between them."""
    run: Callable[..., str] = {
        "interrupts": interrupts,
        "closes": closes,
        "finalizers": finalizers,
    }[mode]
    for name in names.split(","):
        print(name, end=": ", flush=True)
        faulthandler.dump_traceback_later(DEADLOCK, exit=True)
        print(run(name, float(amount), int(seed), *args), flush=True)
        faulthandler.cancel_dump_traceback_later()
