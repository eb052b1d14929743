"""Events: numbered, in order, to every stream; the oldest make room; the last one ends it."""

from __future__ import annotations

import gc
import threading
import time

import pytest
from helpers import Call

from wsclient.errors import ClientClosed, WSClientError
from wsclient.events import Closed, Connected, Event, Subscribed
from wsclient.runtime import telling
from wsclient.runtime.telling import EventStream, Teller


def told(teller: Teller, *events: Event) -> None:
    for event in events:
        teller.tell(event)


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
def stream(teller: Teller) -> EventStream:
    stream = EventStream()
    teller.add(stream)
    return stream


class TestStream:
    def test_gives_what_is_told_in_order_numbered_from_1(
        self, teller: Teller, stream: EventStream
    ) -> None:
        before = time.time_ns()
        told(teller, Connected(1, connection_id=1), Subscribed(("a",), connection_id=1))
        first, second = stream.recv(), stream.recv()
        assert isinstance(first, Connected)
        assert isinstance(second, Subscribed)
        assert [first.number, second.number] == [1, 2]
        assert before <= first.at <= second.at <= time.time_ns()
        assert first.connection_id == 1

    def test_begins_when_it_is_made_and_the_number_says_so(self, teller: Teller) -> None:
        told(teller, Connected(1))
        stream = EventStream()
        teller.add(stream)
        told(teller, Connected(2))
        assert stream.recv().number == 2

    def test_every_stream_gets_every_event(self, teller: Teller, stream: EventStream) -> None:
        other = EventStream()
        teller.add(other)
        told(teller, Connected(1))
        assert stream.recv() == other.recv()

    def test_iteration_ends_after_closed(self, teller: Teller, stream: EventStream) -> None:
        told(teller, Connected(1), Closed(None))
        assert [type(event) for event in stream] == [Connected, Closed]

    def test_nothing_is_told_after_closed(self, teller: Teller, stream: EventStream) -> None:
        told(teller, Closed(WSClientError("first")), Connected(1), Closed(None))
        assert [str(event.error) for event in stream if isinstance(event, Closed)] == ["first"]

    def test_one_made_after_the_end_ends_at_once(self, teller: Teller) -> None:
        told(teller, Closed(None))
        late = EventStream()
        teller.add(late)
        assert list(late) == []

    def test_recv_after_the_end_says_so_every_time(
        self, teller: Teller, stream: EventStream
    ) -> None:
        told(teller, Closed(None))
        stream.recv()
        for _ in range(2):
            with pytest.raises(ClientClosed, match="no more events"):
                stream.recv(timeout=5)

    def test_the_end_wakes_every_thread_that_waits(
        self, teller: Teller, stream: EventStream
    ) -> None:
        calls = [Call(list, stream) for _ in range(3)]
        told(teller, Connected(1), Closed(None))
        events = [event for call in calls for event in call.result()]
        assert sorted(event.number for event in events) == [1, 2]

    @pytest.mark.parametrize("timeout", [0, 0.01])
    def test_recv_ends_at_its_timeout(self, stream: EventStream, timeout: float) -> None:
        with pytest.raises(TimeoutError, match="no event"):
            stream.recv(timeout=timeout)

    def test_waits_are_cut_into_slices_where_they_must_be(
        self, stream: EventStream, teller: Teller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(telling, "SLICE", 0.001)
        call = Call(stream.recv, timeout=10)
        threading.Event().wait(0.01)
        told(teller, Connected(1))
        assert call.result().number == 1
        with pytest.raises(TimeoutError):
            stream.recv(timeout=0.005)

    def test_the_oldest_make_room_and_the_numbers_jump(
        self, teller: Teller, stream: EventStream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(telling, "MAX_EVENTS", 3)
        told(teller, *(Connected(n) for n in range(1, 6)), Closed(None))
        assert [event.number for event in stream] == [4, 5, 6]

    def test_one_that_nobody_holds_is_collected(self, teller: Teller) -> None:
        teller.add(EventStream())
        gc.collect()
        assert not tuple(teller._streams)

    def test_its_repr_says_how_many_wait(self, teller: Teller, stream: EventStream) -> None:
        told(teller, Connected(1))
        assert repr(stream) == "<EventStream: 1 waiting>"

    def test_in_a_forked_child_it_says_so(self, stream: EventStream) -> None:
        stream.forked()
        with pytest.raises(WSClientError, match="parent"):
            stream.recv(timeout=5)


def test_each_put_and_the_end_are_told() -> None:
    calls: list[int] = []
    stream = EventStream(lambda: calls.append(1))
    stream.put(Connected(1))
    stream.end()
    assert len(calls) == 2
