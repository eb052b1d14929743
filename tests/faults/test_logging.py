"""Row 22, logging: a user's handler, filter or record factory affects only the log's thread.

Whatever that code does, the clients go on, and records that were not logged are counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from support.logrig import Blocking, Memory, listening, making, threaded
from support.program import End, Program
from wsclient.testing import FakeVenue
from wsclient.threads.logs import flush

PATIENCE = 10.0
#: How long (s) close(1) may take on a busy machine.
CLOSE = 1.5
#: How long (s) the end of a process may take on a busy machine.
EXIT = 2.0


class Trouble:
    """What the user's code does; ``is_over`` ends it."""

    def __init__(self, error: type[BaseException] | None = None) -> None:
        self.error = error
        self.is_over = False
        self.calls = 0

    def __call__(self, _: object) -> bool:
        self.calls += 1
        if self.error is not None and not self.is_over:
            raise self.error
        return True


def handler_that(act: Any) -> AbstractContextManager[None]:
    return listening(Memory(act))


def filter_that(act: Any) -> AbstractContextManager[None]:
    return listening(filter=act)


@contextlib.contextmanager
def factory_that(act: Any) -> Iterator[None]:
    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        act(None)
        record = logging.LogRecord(*args, **kwargs)
        # As a factory does that names the program's own client in each record.
        vars(record).update(client="theirs", venue=1, channel=2, connection_id=3)
        return record

    with listening(), making(factory):
        yield


PLACES = {"handler": handler_that, "filter": filter_that, "record factory": factory_that}


def use(venue: FakeVenue, client: wsclient.WebSocketClient) -> None:
    """Run through a client's calls: subscribe, receive, reconnect, subscribe to more, close."""
    client.subscribe("a", timeout=PATIENCE)
    venue.publish("a")
    assert client.recv(timeout=PATIENCE).gap is None
    for name in ("b", "c"):
        peer = venue.live[0]
        peer.rst()
        peer.wait_closed()
        venue.wait_for(lambda venue: venue.subscribers("a"), PATIENCE)
        client.subscribe(name, timeout=PATIENCE)
        venue.publish("a")
        assert client.recv(timeout=PATIENCE).channel == "a"


def close(client: wsclient.WebSocketClient) -> float:
    began = time.monotonic()
    Call(client.close, 1).result(PATIENCE)
    return time.monotonic() - began


@pytest.mark.parametrize("error", [ValueError, SystemExit])
@pytest.mark.parametrize("place", PLACES)
def test_user_code_that_raises_ends_nothing(
    promise: Callable[..., None], venue: FakeVenue, place: str, error: type[BaseException]
) -> None:
    trouble = Trouble(error)
    with threaded() as log, PLACES[place](trouble):
        client = wsclient.connect(venue.url, retry_delay=0.01)
        client.on("a", fail)
        use(venue, client)
        took = close(client)
        assert flush(PATIENCE)
        counted = log.not_logged
    assert trouble.calls
    # No record is lost with a factory: a plain one replaces the one that it did not make.
    is_counted = counted > 0 if place != "record factory" else counted == 0
    held = took < CLOSE and is_counted
    what = f"{took:.2f} s, {counted} not logged"
    promise(22, f"{place} raises {error.__name__}", "goes on, close(1) in 1 s", what, held)


def fail(_: object) -> None:
    raise LookupError


@pytest.mark.parametrize("place", PLACES)
def test_user_code_that_blocks_holds_up_only_the_log(
    promise: Callable[..., None], venue: FakeVenue, place: str
) -> None:
    blocking = Blocking()
    with threaded(), PLACES[place](blocking):
        client = wsclient.connect(venue.url, retry_delay=0.01)
        assert blocking.is_in.wait(PATIENCE)
        client.on("a", fail)
        use(venue, client)
        took = close(client)
        assert not blocking.go.is_set()
        blocking.go.set()
        assert flush(PATIENCE)
    promise(22, f"{place} blocks", "goes on, close(1) in 1 s", f"close {took:.2f} s", took < CLOSE)


def test_a_factory_that_sets_our_names_does_not_hide_ours(venue: FakeVenue) -> None:
    memory = Memory()
    with threaded(), factory_that(Trouble()), listening(memory):
        with wsclient.connect(venue.url, name="mine") as client:
            use(venue, client)
        assert flush(PATIENCE)
    assert {vars(record)["client"] for record in memory.records} == {"mine"}


def test_records_come_again_when_the_handler_recovers(venue: FakeVenue) -> None:
    trouble = Trouble(ValueError)
    memory = Memory(trouble)
    with threaded() as log, listening(memory):
        client = wsclient.connect(venue.url, retry_delay=0.01)
        use(venue, client)
        assert flush(PATIENCE)
        missed = log.not_logged
        trouble.is_over = True
        client.on("b", fail)
        venue.publish("b")
        until(lambda: client.stats().callback_errors)
        client.close()
        assert flush(PATIENCE)
    (notice,) = [text for text in memory.texts if "not logged" in text]
    assert f"{missed} records were not logged" in notice
    assert "ValueError" in notice
    (raised,) = [r for r in memory.records if "on('b') raised" in r.getMessage()]
    assert raised.threadName == "wsclient-callbacks"
    assert raised.exc_info is not None
    trace = raised.exc_info[2]
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    assert trace.tb_frame.f_code is fail.__code__


#: Calls that a handler may make to the client whose records it is given.
CALLS: dict[str, Callable[[wsclient.WebSocketClient], object]] = {
    "stats": lambda client: client.stats(),
    "subscribe": lambda client: client.subscribe("from the handler", timeout=PATIENCE),
    "recv": lambda client: client.recv(timeout=PATIENCE),
    "close": lambda client: client.close(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_handler_may_call_the_client(venue: FakeVenue, call: str) -> None:
    answers: list[object] = []

    def act(record: logging.LogRecord) -> None:
        if "disconnected" in record.getMessage() and not answers:
            answers.append("asked")
            CALLS[call](client)
            done.set()

    done = threading.Event()
    with threaded() as log, listening(Memory(act)):
        client = wsclient.connect(venue.url, retry_delay=0.01)
        client.subscribe("a")
        venue.live[0].rst()
        if call == "recv":
            venue.wait_for(lambda venue: venue.attempts == 2 and venue.subscribers("a"), PATIENCE)
            venue.publish("a")
        assert done.wait(PATIENCE)
        assert close(client) < CLOSE
        assert log.not_logged == 0


START = """
import logging, sys, threading
import wsclient
client = wsclient.connect(sys.argv[1], retry_delay=0.001)
client.subscribe("a")
"""


def run(venue: FakeVenue, source: str) -> tuple[End, float]:
    """Run a program; return its end, and the time (s) from the line that it prints to there."""
    with Program(source, venue.url) as program:
        program.line()
        began = time.monotonic()
        end = program.end()
    return end, end.at - began


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX process groups")
class TestExit:
    def test_what_has_been_logged_is_written(self, venue: FakeVenue) -> None:
        source = f"""
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
{START}
pause = threading.Event()
logging.getLogger("wsclient").addFilter(lambda _: not pause.wait(0.001))
for number in range(30):
    client._core.log(logging.INFO, f"record {{number}}")
print("now", flush=True)
"""
        end, took = run(venue, source)
        assert end.code == 0
        written = [line.partition(": ")[2] for line in end.err.splitlines() if "record" in line]
        assert written == [f"record {number}" for number in range(30)]
        assert took < EXIT

    def test_a_filter_that_blocks_delays_it_a_moment_only(self, venue: FakeVenue) -> None:
        source = f"""
import threading
def block(_):
    threading.Event().wait()
import logging
logging.getLogger("wsclient").addFilter(block)
logging.getLogger("wsclient").setLevel("INFO")
{START}
print("now", flush=True)
"""
        end, took = run(venue, source)
        assert (end.code, end.err) == (0, "")
        assert took < EXIT

    def test_threads_that_log_meanwhile_do_not_hold_it_up(self, venue: FakeVenue) -> None:
        source = f"""
import logging
logging.basicConfig(level=logging.INFO)
{START}
def flood():
    while True:
        client._core.log(logging.INFO, "x")
threading.Thread(target=flood, daemon=True).start()
print("now", flush=True)
"""
        end, took = run(venue, source)
        assert end.code == 0
        assert "Fatal" not in end.err
        assert took < EXIT
