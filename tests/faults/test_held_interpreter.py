"""Row 25: another thread holds the interpreter's lock for long (a big sort, pandas).

It moves no deadline by more than one such hold, and raises no false alarm.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from support.helpers import until
from support.matrix import each_size
from support.network import SLACK, dial
from support.program import Program
from wsclient.events import Disconnected
from wsclient.runtime.eventstream import EventStream
from wsclient.testing import FakeVenue, Fault, FaultProxy

INTERVAL, TIMEOUT = 0.5, 0.5
#: In the short run a loaded machine is no defect of the client.
BUSY = 4 * SLACK


class Holder:
    """Thread that holds the interpreter's lock again and again, for as long as the block lasts.

    It holds the lock for about ``hold`` seconds at a time, by a sort of many numbers, and leaves it
    to the others for ``pause`` seconds in between.
    """

    def __init__(self, hold: float, pause: float) -> None:
        self._pause = pause
        self._numbers = [random.random() for _ in range(50_000)]
        self._hold = hold
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holder", daemon=True)
        #: How long the longest hold was (s).
        self.longest = 0.0

    def _tune(self) -> None:
        """Keep as many numbers as one sort in C sorts in ``hold`` seconds of a core's time."""
        began = time.thread_time()
        sorted(self._numbers)
        took = time.thread_time() - began
        self._numbers *= max(1, round(1.5 * self._hold / took))
        began = time.thread_time()
        sorted(self._numbers)
        took = time.thread_time() - began
        del self._numbers[int(len(self._numbers) * min(1.0, self._hold / took)) :]

    def __enter__(self) -> Holder:
        self._tune()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            began = time.perf_counter()
            sorted(self._numbers)
            self.longest = max(self.longest, time.perf_counter() - began)


class Hold(NamedTuple):
    hold: float
    pause: float
    trials: int


def disconnected(events: EventStream) -> Disconnected:
    """Return the next disconnect."""
    while not isinstance(event := events.recv(20), Disconnected):
        pass
    return event


@each_size(
    "held",
    short=[Hold(0.4, 0.02, 1)],
    full=[Hold(0.25, 0.005, 20), Hold(0.5, 0.01, 20), Hold(1, 0.05, 10), Hold(2, 0.05, 10)],
    timeout=600,
)
def test_a_half_open_connection_is_noticed_in_time_beside_a_thread_that_hogs_the_interpreter(
    promise: Callable[..., None], held: Hold
) -> None:
    delays: list[float] = []
    options = {"ping_interval": INTERVAL, "ping_timeout": TIMEOUT, "connect_timeout": 20}
    with (
        FakeVenue() as venue,
        FaultProxy(venue.url) as proxy,
        dial(proxy.url, **options) as client,
        Holder(held.hold, held.pause) as holder,
    ):
        events = client.events()
        for _ in range(held.trials):
            client.connect(timeout=30)
            until(lambda: holder.longest, 30)
            at = time.time_ns()
            proxy.set(Fault("deaf"), on="present")
            event = disconnected(events)
            assert "half-open" in event.reason
            delays.append((event.at - at) / 1e9)
        longest = holder.longest
    slack = SLACK if held.trials > 1 else BUSY
    promise(
        25,
        f"half-open, the interpreter held {held.hold:g} s at a time",
        f"noticed within {INTERVAL:g} + {TIMEOUT:g} + one hold + {slack:g} s",
        f"{len(delays)} trials, worst {max(delays):.2f} s, longest hold {longest:.2f} s",
        max(delays) <= INTERVAL + TIMEOUT + longest + slack,
    )


@each_size(
    "held",
    short=[Hold(1.2, 0.05, 2)],
    full=[Hold(0.25, 0.005, 60), Hold(0.5, 0.01, 60), Hold(1, 0.05, 60), Hold(2, 0.05, 120)],
    timeout=600,
)
def test_a_live_connection_is_not_taken_for_dead_beside_a_thread_that_hogs_the_interpreter(
    promise: Callable[..., None], held: Hold
) -> None:
    """The holds are longer than the ping's timeout; ``trials`` are seconds here.

    The venue answers from another process, as a real one does.
    """
    options = {"ping_interval": INTERVAL, "ping_timeout": TIMEOUT}
    with Program(VENUE, patience=500) as program, dial(program.line(), **options) as client:
        client.subscribe("a", timeout=20)
        with Holder(held.hold, held.pause) as holder:
            threading.Event().wait(held.trials)
        stats, longest = client.stats(), holder.longest
    promise(
        25,
        f"a live connection, the interpreter held {held.hold:g} s at a time",
        f"no false alarm in {held.trials} s",
        f"{stats.disconnects} alarms, longest hold {longest:.2f} s",
        stats.disconnects == 0 and stats.dials == 1 and longest > 0.5 * held.hold,
    )


VENUE = """
import threading
from wsclient.testing import FakeVenue
with FakeVenue() as venue:
    print(venue.url, flush=True)
    threading.Event().wait()
"""
