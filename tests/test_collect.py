"""``collect()`` takes messages as ``recv()`` does, and loses none, whatever ends it."""

from __future__ import annotations

import ctypes
import gc
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from support.interrupting import points
from support.madefiles import BEGIN, MadeRecording
from wsclient import Collected, Gap
from wsclient.errors import (
    ClientClosed,
    ConfigurationError,
    NotConnected,
    QueueOverflow,
    RecordingEnded,
)
from wsclient.testing import FakeVenue

QUICK = {"retry_delay": 0.01, "max_retry_delay": 0.05}


@pytest.fixture
def client(venue: FakeVenue) -> Any:
    with wsclient.connect(venue.url, **QUICK) as client:
        client.subscribe("a")
        yield client


def publish(venue: FakeVenue, client: Any, count: int, channel: str = "a") -> None:
    """Publish messages, and wait until they are queued."""
    before = client.stats().messages
    for _ in range(count):
        venue.publish(channel)
    until(lambda: client.stats().messages == before + count)


def numbers(collected: Collected) -> list[int | None]:
    return [message.sequence for message in collected]


def test_it_takes_a_number_of_messages_and_leaves_the_others(venue: FakeVenue, client: Any) -> None:
    publish(venue, client, 5)
    collected = client.collect(count=3)
    assert isinstance(collected, Collected)
    assert numbers(collected) == [1, 2, 3]
    assert numbers(client.recv_batch()) == [4, 5]


def test_it_waits_until_there_are_as_many(venue: FakeVenue, client: Any) -> None:
    publish(venue, client, 1)
    call = Call(client.collect, count=3)
    until(lambda: call.is_in("fill"))
    publish(venue, client, 2)
    assert numbers(call.result()) == [1, 2, 3]


def test_it_ends_when_the_time_has_passed(venue: FakeVenue, client: Any) -> None:
    publish(venue, client, 2)
    began = time.monotonic()
    collected = client.collect(seconds=0.05, count=3)
    assert time.monotonic() - began >= 0.05
    assert numbers(collected) == [1, 2]
    assert numbers(client.collect(seconds=0.01)) == []


def test_the_time_ends_it_however_many_messages_come(client: Any, venue: FakeVenue) -> None:
    call = Call(client.collect, seconds=0.1)
    while call.is_alive():
        venue.publish("a")
    assert len(call.result()) > 1


@pytest.mark.parametrize("seconds", [0, -1])
def test_without_time_it_takes_what_is_waiting(
    venue: FakeVenue, client: Any, seconds: float
) -> None:
    publish(venue, client, 3)
    assert numbers(client.collect(seconds)) == [1, 2, 3]
    assert numbers(client.collect(seconds)) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "seconds, count, or both"),
        ({"count": 0}, "count must be a whole number from 1 up"),
        ({"seconds": "1"}, "seconds must be a number of seconds"),
    ],
)
def test_arguments_that_cannot_work_are_refused(
    client: Any, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigurationError, match=text):
        client.collect(**arguments)


def test_it_needs_a_connection(venue: FakeVenue) -> None:
    with pytest.raises(NotConnected):
        wsclient.WebSocketClient(venue.url).collect(count=1)


def test_a_reader_collects_its_own_messages(venue: FakeVenue, client: Any) -> None:
    with client.reader("b") as reader:
        publish(venue, client, 2, "b")
        assert numbers(reader.collect(seconds=0)) == [1, 2]
        assert numbers(client.collect(seconds=0)) == []


def test_gaps_are_those_of_the_queue(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url, queue_size=2, **QUICK) as client:
        client.subscribe("a")
        publish(venue, client, 5)
        collected = client.collect(seconds=0)
    assert numbers(collected) == [4, 5]
    assert collected[0].gap is not None
    assert collected[0].gap[:2] == ("overflow", 3)


# Ends.


def test_a_close_ends_it_with_what_it_has(venue: FakeVenue, client: Any) -> None:
    publish(venue, client, 2)
    call = Call(client.collect, count=10)
    until(lambda: not client.stats().queued)
    client.close()
    assert numbers(call.result()) == [1, 2]
    with pytest.raises(ClientClosed):
        client.collect(count=1)


def test_a_close_while_it_has_nothing_raises(client: Any) -> None:
    call = Call(client.collect, seconds=10)
    until(lambda: call.is_in("fill"))
    client.close()
    with pytest.raises(ClientClosed):
        call.result()


def test_a_failure_is_raised_by_the_next_call(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url, queue_size=3, overflow="error") as client:
        client.subscribe("a")
        publish(venue, client, 3)
        venue.publish("a")
        until(lambda: client.state is wsclient.State.FAILED)
        assert numbers(client.collect(seconds=10, count=10)) == [1, 2, 3]
        with pytest.raises(QueueOverflow):
            client.collect(seconds=10)


def test_an_interrupt_takes_nothing(venue: FakeVenue, client: Any) -> None:
    """At any point, with messages that were handed out and others that were not."""
    sent = 0
    for point in points():
        publish(venue, client, 3)
        sent += 3
        got = point(client.collect, 0, 2)
        first = [] if got is None else numbers(got)
        assert len(first) in (0, 2), str(point)
        assert first + numbers(client.collect(seconds=0)) == [sent - 2, sent - 1, sent], str(point)


def test_after_an_interrupt_the_messages_are_there_at_once(venue: FakeVenue, client: Any) -> None:
    """Also those that it has taken long before."""
    call = Call(client.collect, count=9)
    for _ in range(3):
        publish(venue, client, 1)
        until(lambda: not client.stats().queued)
    raise_in(call, KeyboardInterrupt)
    publish(venue, client, 1)  # it is raised when the thread runs Python code again
    with pytest.raises(KeyboardInterrupt):
        call.result()
    assert client.stats().queued == 4
    assert numbers(client.collect(seconds=0)) == [1, 2, 3, 4]


def raise_in(call: Call, kind: type[BaseException]) -> None:
    """Raise an exception in the thread of a call, as the stop button of a notebook does."""
    ident = ctypes.c_ulong(call.ident or 0)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(kind)) == 1


def test_another_thread_gets_what_an_interrupted_one_gives_back(
    venue: FakeVenue, client: Any
) -> None:
    call = Call(client.collect, count=9)
    publish(venue, client, 1)
    until(lambda: not client.stats().queued)
    other = Call(client.recv)
    until(lambda: other.is_in("fill"))
    raise_in(call, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        call.result()
    assert other.result().sequence == 1


def test_a_kept_traceback_does_not_keep_the_client(venue: FakeVenue) -> None:
    client = wsclient.connect(venue.url, **QUICK)
    peer, reference = venue.accept(), weakref.ref(client)
    with pytest.raises(ConfigurationError) as caught:
        client.collect()
    del client
    until(lambda: gc.collect() or reference() is None)
    assert caught.value
    assert peer.expect_close() == 1000


# Recordings.


def data(sequence: int) -> dict[str, Any]:
    return {"channel": "a", "type": "market_data", "sequence": sequence}


def recorded(folder: Path) -> wsclient.RecordedClient:
    """Return a recording of a message per second: numbers 1 to 5."""
    with MadeRecording(folder, step=10**9) as made:
        for number in range(1, 6):
            made.frame(data(number), gap=Gap("sequence", 1, BEGIN) if number == 2 else None)
    return wsclient.open_recording(folder)


def test_a_recording_counts_recorded_time(tmp_path: Path) -> None:
    with recorded(tmp_path) as client:
        collected = client.collect(seconds=2.5)
        assert numbers(collected) == [1, 2, 3]
        assert collected[1].gap == Gap("sequence", 1, BEGIN)
        assert numbers(client.collect(count=1)) == [4]


def test_the_end_of_a_recording_ends_it(tmp_path: Path) -> None:
    with recorded(tmp_path) as client:
        assert numbers(client.collect(count=100)) == [1, 2, 3, 4, 5]
        with pytest.raises(RecordingEnded):
            client.collect(count=1)


def test_the_frames_of_a_recording_name_its_venue(tmp_path: Path) -> None:
    with recorded(tmp_path) as client:
        frame = client.collect(seconds=100).to_pandas("raw")
    assert set(frame["venue"]) == {"generic"}
    assert frame["gap_missed"].dropna().tolist() == [1]
