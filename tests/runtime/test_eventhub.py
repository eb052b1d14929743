"""Events are numbered and go to every stream in order; a full stream drops the oldest one."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable

import pytest

from support.helpers import Call, until
from support.inside import waiting_in
from support.interrupting import points
from wsclient.errors import ClientClosed, ClientForked, WSClientError
from wsclient.events import (
    Closed,
    Connected,
    Disconnected,
    Event,
    GapMarked,
    Subscribed,
    ThreadStuck,
)
from wsclient.messages import Gap
from wsclient.runtime import eventstream
from wsclient.runtime.eventhub import EventHub
from wsclient.runtime.eventstream import EventStream
from wsclient.sansio.actions import Notify
from wsclient.threads import waitlist


def emit(event_hub: EventHub, *events: Event) -> None:
    """Emit events like these."""
    for event in events:
        what = tuple(vars(event)[field] for field in type(event).__match_args__)
        event_hub.notify(Notify(type(event), what, event.connection_id))


@pytest.fixture
def event_hub() -> EventHub:
    return EventHub()


@pytest.fixture
def stream(event_hub: EventHub) -> EventStream:
    stream = EventStream()
    event_hub.add(stream)
    return stream


def receive(stream: EventStream, got: list[Event]) -> None:
    with contextlib.suppress(ClientClosed):
        while True:
            got.append(stream.recv(timeout=5))


def call_next(stream: EventStream, got: list[Event]) -> None:
    with contextlib.suppress(StopIteration):
        while True:
            got.append(next(stream))


def loop(stream: EventStream, got: list[Event]) -> None:
    for event in stream:
        got.append(event)


class TestStream:
    def test_gives_events_in_order_numbered_from_1(
        self, event_hub: EventHub, stream: EventStream
    ) -> None:
        before = time.time_ns()
        emit(event_hub, Connected(1, connection_id=1), Subscribed(("a",), connection_id=1))
        first, second = stream.recv(), stream.recv()
        assert isinstance(first, Connected)
        assert isinstance(second, Subscribed)
        assert [first.number, second.number] == [1, 2]
        assert before <= first.at <= second.at <= time.time_ns()
        assert first.connection_id == 1

    def test_begins_when_it_is_made_and_the_number_says_so(self, event_hub: EventHub) -> None:
        emit(event_hub, Connected(1))
        stream = EventStream()
        event_hub.add(stream)
        emit(event_hub, Connected(2))
        assert stream.recv().number == 2

    def test_every_stream_gets_every_event(self, event_hub: EventHub, stream: EventStream) -> None:
        other = EventStream()
        event_hub.add(other)
        emit(event_hub, Connected(1))
        assert stream.recv() == other.recv()

    def test_iteration_ends_after_closed(self, event_hub: EventHub, stream: EventStream) -> None:
        emit(event_hub, Connected(1), Closed(None))
        assert [type(event) for event in stream] == [Connected, Closed]

    def test_no_event_comes_after_closed(self, event_hub: EventHub, stream: EventStream) -> None:
        emit(event_hub, Closed(WSClientError("first")), Connected(1), Closed(None))
        assert [str(event.error) for event in stream if isinstance(event, Closed)] == ["first"]

    def test_one_made_after_the_end_ends_at_once(self, event_hub: EventHub) -> None:
        emit(event_hub, Closed(None))
        late = EventStream()
        event_hub.add(late)
        assert list(late) == []

    def test_recv_after_the_end_says_so_every_time(
        self, event_hub: EventHub, stream: EventStream
    ) -> None:
        emit(event_hub, Closed(None))
        stream.recv()
        for _ in range(2):
            with pytest.raises(ClientClosed, match="no more events"):
                stream.recv(timeout=5)

    def test_the_end_wakes_every_thread_that_waits(
        self, event_hub: EventHub, stream: EventStream
    ) -> None:
        calls = [Call(list, stream) for _ in range(3)]
        emit(event_hub, Connected(1), Closed(None))
        events = [event for call in calls for event in call.result()]
        assert sorted(event.number for event in events) == [1, 2]

    def test_one_wake_up_at_the_end_is_enough_for_all_waiting_threads(
        self, stream: EventStream
    ) -> None:
        calls = [Call(list, stream) for _ in range(4)]
        for call in calls:
            until(lambda call=call: call.is_in("_wait"))
        stream.end()
        assert [call.result() for call in calls] == [[]] * 4

    @pytest.mark.parametrize("timeout", [0, 0.01])
    def test_recv_ends_at_its_timeout(self, stream: EventStream, timeout: float) -> None:
        with pytest.raises(TimeoutError, match="no event"):
            stream.recv(timeout=timeout)

    def test_waits_are_cut_into_slices_where_they_must_be(
        self, stream: EventStream, event_hub: EventHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waitlist, "SLICE", 0.001)
        call = Call(stream.recv, timeout=10)
        threading.Event().wait(0.01)
        emit(event_hub, Connected(1))
        assert call.result().number == 1
        with pytest.raises(TimeoutError):
            stream.recv(timeout=0.005)

    def test_the_oldest_make_room_and_the_numbers_jump(
        self, event_hub: EventHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(eventstream, "MAX_EVENTS", 3)
        stream = EventStream()
        event_hub.add(stream)
        emit(event_hub, *(Connected(n) for n in range(1, 6)), Closed(None))
        assert [event.number for event in stream] == [4, 5, 6]

    def test_a_stream_without_references_is_collected(self, event_hub: EventHub) -> None:
        assert not event_hub.wants(GapMarked)
        stream = EventStream()
        event_hub.add(stream)
        assert event_hub.wants(GapMarked)
        del stream
        gc.collect()
        assert not event_hub.wants(GapMarked)

    def test_its_repr_says_how_many_wait(self, event_hub: EventHub, stream: EventStream) -> None:
        emit(event_hub, Connected(1))
        assert repr(stream) == "<EventStream: 1 waiting>"

    def test_in_a_forked_child_it_says_so_whatever_waited_in_it(
        self, event_hub: EventHub, stream: EventStream
    ) -> None:
        emit(event_hub, Connected(1))
        stream.forked()
        for _ in range(2):
            with pytest.raises(ClientForked):
                stream.recv(timeout=5)

    def test_a_fork_ends_the_wait_in_which_it_came(self, stream: EventStream) -> None:
        call = Call(stream.recv, timeout=10)
        until(lambda: call.is_in("_wait"))
        stream.forked()
        with pytest.raises(ClientForked):
            call.result(5)

    @pytest.mark.parametrize("way", [receive, call_next, loop])
    def test_an_interrupt_at_any_point_loses_neither_an_event_nor_the_end(
        self, way: Callable[[EventStream, list[Event]], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waitlist, "SLICE", 60.0)  # only a wake-up ends a wait
        for point in points():
            event_hub, stream = EventHub(), EventStream()
            event_hub.add(stream)
            other = Call(list, stream)
            until(lambda call=other: call.is_in("_wait"))
            emit(event_hub, Connected(1), Connected(2), Closed(None))
            mine: list[Event] = []
            point(way, stream, mine)
            numbers = [event.number for event in mine + other.result(5)]
            assert sorted(numbers) == [1, 2, 3], str(point)
            assert list(stream) == []

    @pytest.mark.parametrize("way", [receive, call_next, loop])
    def test_an_interrupt_before_another_has_it_leaves_it_to_the_next_call(
        self, way: Callable[[EventStream, list[Event]], None]
    ) -> None:
        for point in points():
            stream = EventStream()
            for number in range(3):
                stream.put(Connected(1, number=number))
            stream.end()
            mine: list[Event] = []
            point(way, stream, mine)
            assert [event.number for event in [*mine, *stream]] == [0, 1, 2], str(point)

    def test_an_interrupted_wait_passes_its_wake_up_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waitlist, "SLICE", 60.0)

        def poll(stream: EventStream) -> None:
            with contextlib.suppress(TimeoutError):
                stream.recv(timeout=0.001)

        for point in points():
            stream = EventStream()
            waiting = Call(stream.recv)
            until(lambda call=waiting: call.is_in("_wait"))
            point(poll, stream)
            stream.put(Connected(1))
            assert waiting.result(5) == Connected(1), str(point)

    def test_repeated_calls_after_the_end_leave_nothing_behind(self, stream: EventStream) -> None:
        stream.end()
        before = waiting_in(stream)
        for _ in range(10):
            with pytest.raises(ClientClosed):
                stream.recv()
        assert waiting_in(stream) == before

    def test_wake_ups_without_a_waiting_thread_are_bounded(
        self, event_hub: EventHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(eventstream, "MAX_EVENTS", 3)
        stream = EventStream()
        event_hub.add(stream)
        emit(event_hub, *[Connected(1)] * 100)
        assert waiting_in(stream) == 3


class TestTypes:
    def test_a_stream_gets_only_its_types_and_the_numbers_count_all(
        self, event_hub: EventHub
    ) -> None:
        stream = EventStream(types=(Subscribed, Disconnected))
        event_hub.add(stream)
        emit(event_hub, Connected(1), Subscribed(("a",)), Connected(2), Closed(None))
        assert [(type(event), event.number) for event in stream] == [(Subscribed, 2)]

    def test_a_subclass_belongs_to_its_type(self, event_hub: EventHub) -> None:
        class Own(Connected):
            pass

        stream = EventStream(types=(Connected,))
        event_hub.add(stream)
        emit(event_hub, Own(1))
        assert type(stream.recv(timeout=0)) is Own

    def test_a_type_is_wanted_while_a_stream_takes_it(
        self, event_hub: EventHub, stream: EventStream
    ) -> None:
        other = EventStream(types=(Connected,))
        event_hub.add(other)
        assert event_hub.wants(GapMarked)
        stream.types = (Subscribed,)
        assert not event_hub.wants(GapMarked)
        assert event_hub.wants(Connected)

    def test_a_full_stream_counts_what_it_drops(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(eventstream, "MAX_EVENTS", 3)
        event_hub, stream = EventHub(), EventStream(types=(Connected,))
        event_hub.add(stream)
        emit(event_hub, *[Connected(n) for n in range(5)], Subscribed(("a",)), Closed(None))
        assert stream.dropped == 2
        assert [event.attempt for event in stream if isinstance(event, Connected)] == [2, 3, 4]

    def test_omitted_events_use_their_numbers(
        self, event_hub: EventHub, stream: EventStream
    ) -> None:
        emit(event_hub, Connected(1))
        event_hub.notify(Notify(GapMarked, ("a", Gap("sequence")), 1, 7))
        assert [stream.recv(timeout=0).number for _ in range(2)] == [1, 9]


class TestEmit:
    """Events that come from any thread."""

    def test_are_put_into_the_streams_by_the_thread_of_the_posts(self) -> None:
        posts: list[Callable[[], None]] = []
        event_hub, stream = EventHub(None, posts.append, None, lambda: 7), EventStream()
        event_hub.add(stream)
        before = time.time_ns()
        event_hub.emit(ThreadStuck, "x")
        after = time.time_ns()
        assert repr(stream) == "<EventStream: 0 waiting>"
        for post in posts:
            post()
        event = stream.recv(timeout=0)
        assert event == ThreadStuck("x", connection_id=7, number=1, at=event.at)
        assert before <= event.at <= after

    @pytest.mark.parametrize("is_last", [False, True])
    def test_come_before_what_is_emitted_after_them(
        self, event_hub: EventHub, stream: EventStream, is_last: bool
    ) -> None:
        event_hub.emit(ThreadStuck, "x", connection_id=1)
        if is_last:
            event_hub.end(None, 1)
        else:
            emit(event_hub, Closed(None))
        assert [(type(e), e.number) for e in stream] == [(ThreadStuck, 1), (Closed, 2)]

    def test_do_not_wait_for_a_lock(
        self, event_hub: EventHub, stream: EventStream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a signal handler does that interrupts a thread within the locked section."""
        entered, leave = threading.Event(), threading.Event()

        def put(_: Event) -> None:
            entered.set()
            leave.wait(20)

        stream.put = put  # type: ignore[method-assign]
        call = Call(emit, event_hub, Connected(1))
        assert entered.wait(5)
        began = time.monotonic()
        event_hub.emit(ThreadStuck, "x")
        assert time.monotonic() - began < 5
        leave.set()
        call.result()

    def test_are_posted_only_while_something_may_take_them(self) -> None:
        posts: list[Callable[[], None]] = []
        event_hub = EventHub(None, posts.append)
        event_hub.emit(ThreadStuck, "x")
        stream = EventStream()
        event_hub.add(stream)
        event_hub.end(None, 1)
        event_hub.emit(ThreadStuck, "x")
        assert posts == []


class TestEnd:
    def test_the_end_is_emitted_if_nothing_else_has_emitted_it(
        self, event_hub: EventHub, stream: EventStream
    ) -> None:
        emit(event_hub, Connected(1))
        error = WSClientError("broken")
        event_hub.end(error, 7)
        *_, last = stream
        assert isinstance(last, Closed)
        assert (last.error, last.connection_id, last.number) == (error, 7, 2)

    def test_the_end_is_emitted_once(self, event_hub: EventHub, stream: EventStream) -> None:
        emit(event_hub, Closed(None))
        event_hub.end(WSClientError("late"), 1)
        assert [type(event) for event in stream] == [Closed]


def test_each_put_and_the_end_call_on_event() -> None:
    calls: list[int] = []
    stream = EventStream(lambda: calls.append(1))
    stream.put(Connected(1))
    stream.end()
    assert len(calls) == 2
