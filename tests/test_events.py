"""Events of a client, over real sockets."""

from __future__ import annotations

import dataclasses
import gc
import logging
import queue
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from support.inside import core_of
from wsclient import Gap, WebSocketClient, events
from wsclient.testing import FakeVenue
from wsclient.transport.transport import Transport

QUICK = {"retry_delay": 0.01, "max_retry_delay": 0.05}
#: The types that tell the history of a client, without those that only give details.
STEPS = (
    events.Connected,
    events.Disconnected,
    events.Reconnecting,
    events.Subscribed,
    events.Rejected,
    events.Resubscribing,
    events.NoData,
    events.GapMarked,
    events.Recovered,
    events.SlowConsumer,
    events.DecodeError,
    events.Closed,
)


class Ear:
    """A reader of a stream's events, each within seconds."""

    def __init__(self, client: WebSocketClient) -> None:
        self.stream = client.events()
        self.heard: list[events.Event] = []

    def until(self, kind: type[events.Event]) -> Any:
        while True:
            event = self.stream.recv(timeout=5)
            self.heard.append(event)
            if type(event) is kind:
                return event

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.heard if isinstance(event, STEPS)]


@pytest.fixture
def client(venue: FakeVenue) -> Any:
    client = WebSocketClient(venue.url, **QUICK)
    yield client
    client.close()


@pytest.fixture
def ear(client: WebSocketClient) -> Ear:
    return Ear(client)


def peer_of(venue: FakeVenue, channel: str = "a") -> Any:
    return venue.wait_for(lambda v: next(iter(v.subscribers(channel)), None))


class TestText:
    """An event as text for people."""

    EVENT = events.Recovered(2.5, 3, connection_id=4, number=7, at=1_700_000_000_012_345_678)

    def test_begins_with_when_and_where_it_was(self) -> None:
        assert str(self.EVENT) == (
            "2023-11-14 22:13:20.012Z #7 connection 4: Recovered(seconds=2.5, channels=3)"
        )

    def test_its_repr_is_what_happened(self) -> None:
        assert repr(self.EVENT) == "Recovered(seconds=2.5, channels=3)"

    def test_does_not_make_two_the_same(self) -> None:
        assert dataclasses.replace(self.EVENT, number=8) != self.EVENT


class TestHistory:
    def test_a_run_with_three_kinds_of_cut(
        self, client: WebSocketClient, ear: Ear, venue: FakeVenue
    ) -> None:
        client.connect()
        client.subscribe("a", "b")
        venue.publish("a")
        client.recv(timeout=5)

        peer_of(venue).close(1012, "restart")
        ear.until(events.Recovered)
        venue.publish("a")
        client.recv(timeout=5)

        with venue.lock:
            peer_of(venue).rst()
            venue.publish("a")
        ear.until(events.Recovered)
        venue.publish("a")
        assert client.recv(timeout=5).gap is not None

        with venue.lock:
            venue.refuse(503, times=1)
            peer_of(venue).fin()
        ear.until(events.Recovered)
        client.close()
        ear.until(events.Closed)

        back = ["Connected", "Subscribed", "Subscribed", "Recovered"]
        assert ear.names == [
            *["Connected", "Subscribed", "Subscribed"],
            *["Disconnected", "Reconnecting", *back],
            *["Disconnected", "Reconnecting", *back, "GapMarked"],
            *["Disconnected", "Reconnecting", "Reconnecting", *back],
            "Closed",
        ]
        assert [event.number for event in ear.heard] == list(range(1, len(ear.heard) + 1))
        cuts = [event for event in ear.heard if isinstance(event, events.Disconnected)]
        assert [cut.reason for cut in cuts] == ["closed", "reset", "ended"]
        assert [cut.code for cut in cuts] == [1012, 1006, 1006]
        assert [cut.connection_id for cut in cuts] == [1, 2, 3]
        assert all(cut.data_age is not None for cut in cuts[:2])
        assert "1012: restart" in cuts[0].why
        stats = client.stats()
        assert stats.disconnect_reasons == {"closed": 1, "reset": 1, "ended": 1}
        assert stats.attempt_failures == {"http 503": 1}
        assert sum(stats.disconnect_reasons.values()) == stats.disconnects


class TestEach:
    def test_connected_has_the_number_of_attempts(
        self, client: WebSocketClient, ear: Ear, venue: FakeVenue
    ) -> None:
        venue.refuse(503, times=1)
        client.connect()
        reconnecting = ear.until(events.Reconnecting)
        assert reconnecting.attempt == 2
        assert 0.0 <= reconnecting.delay <= 0.01
        assert "503" in reconnecting.why
        assert ear.until(events.Connected).attempt == 2

    def test_disconnected_has_the_age_of_the_last_data(
        self, client: WebSocketClient, ear: Ear, venue: FakeVenue
    ) -> None:
        client.connect()
        client.subscribe("a")
        peer_of(venue).fin()
        assert ear.until(events.Disconnected).data_age is None
        ear.until(events.Recovered)
        peer = peer_of(venue)
        venue.publish("a")
        client.recv(timeout=5)
        peer.fin()
        assert 0.0 <= ear.until(events.Disconnected).data_age < 5.0

    def test_subscribed_names_the_channels_of_one_answer(
        self, client: WebSocketClient, ear: Ear
    ) -> None:
        client.connect()
        client.subscribe("a")
        assert ear.until(events.Subscribed).channels == ("a",)

    def test_rejected_gives_the_venues_reason(
        self, client: WebSocketClient, ear: Ear, venue: FakeVenue
    ) -> None:
        venue.refuse_channel("a", "no such market")
        client.connect()
        with pytest.raises(wsclient.SubscriptionRejected):
            client.subscribe("a")
        rejected = ear.until(events.Rejected)
        assert (rejected.channel, rejected.why) == ("a", "no such market")
        assert not rejected.is_lost

    def test_rejected_reports_an_answer_that_never_came(self, venue: FakeVenue) -> None:
        venue.mute_acks()
        with wsclient.connect(venue.url, ack_timeout=0.05) as client:
            ear = Ear(client)
            with pytest.raises(wsclient.SubscriptionTimeout):
                client.subscribe("a")
            assert "no answer" in ear.until(events.Rejected).why

    def test_a_lost_channel_is_rejected_and_the_others_recover(
        self, client: WebSocketClient, ear: Ear, venue: FakeVenue
    ) -> None:
        client.connect()
        client.subscribe("a", "b")
        venue.refuse_channel("a", "delisted")
        peer_of(venue).rst()
        assert ear.until(events.Rejected).is_lost
        assert ear.until(events.Recovered).channels == 1

    def test_gap_marked_has_the_gap_of_the_message(
        self, client: WebSocketClient, ear: Ear, venue: FakeVenue
    ) -> None:
        client.connect()
        client.subscribe("a")
        venue.publish("a", sequence=1)
        peer_of(venue).send_json({"type": "market_data", "channel": "a", "sequence": 9})
        marked = ear.until(events.GapMarked)
        client.recv(timeout=5)
        message = client.recv(timeout=5)
        assert (marked.channel, marked.gap) == ("a", message.gap)
        assert isinstance(message.gap, Gap)

    def test_resubscribing_names_a_channel_that_the_venue_has_ended(
        self, client: WebSocketClient, ear: Ear, venue: FakeVenue
    ) -> None:
        client.connect()
        client.subscribe("a")
        ear.until(events.Subscribed)
        venue.publish("a")
        peer = peer_of(venue)
        with venue.lock:
            peer.unsubscribe("a")
            venue.publish("a")
            answer = {"type": "subscription", "channel": "a", "status": "unsubscribed"}
            peer.send_json(answer)
        event = ear.until(events.Resubscribing)
        assert (event.channel, event.reason) == ("a", "ended")
        assert ear.until(events.Subscribed).channels == ("a",)
        venue.publish("a")
        gaps = [client.recv(timeout=5).gap for _ in range(2)]
        assert [gap and gap.missed for gap in gaps] == [None, 1]

    def test_no_data_names_a_channel_that_was_confirmed_and_stays_silent(
        self, venue: FakeVenue
    ) -> None:
        class Impatient(wsclient.Generic):
            def first_message_within(self, channel: str) -> float | None:
                return 0.05

        with wsclient.connect(venue.url, dialect=Impatient()) as client:
            ear = Ear(client)
            client.subscribe("a")
            assert ear.until(events.NoData).channel == "a"
            assert client.stats().no_data == ("a",)
            assert "confirmed, but without data: a" in repr(client.stats())
            venue.publish("a")
            client.recv(timeout=5)
            assert client.stats().no_data == ()

    def test_slow_consumer_is_emitted_once_per_episode(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, queue_size=2) as client:
            client.subscribe("a")
            ear = Ear(client)
            for _ in range(20):
                venue.publish("a")
            first = ear.until(events.SlowConsumer)
            assert first.queue == "client"
            assert 1 <= first.dropped <= 18
            venue.publish("a")
            client.close()
            ear.until(events.Closed)
            assert ear.names.count("SlowConsumer") == 1

    def test_slow_consumer_names_the_reader(
        self, client: WebSocketClient, ear: Ear, venue: FakeVenue
    ) -> None:
        client.connect()
        with client.reader("b"), client.reader("a", queue_size=1):
            for _ in range(5):
                venue.publish("a")
            assert ear.until(events.SlowConsumer).queue == "reader-2"

    def test_slow_consumer_names_the_callbacks(self, venue: FakeVenue) -> None:
        leave = threading.Event()
        with wsclient.connect(venue.url, queue_size=1) as client:
            ear = Ear(client)
            client.on("a", lambda _: leave.wait(5))
            for _ in range(5):
                venue.publish("a")
            assert ear.until(events.SlowConsumer).queue == "callbacks"
            leave.set()

    def test_decode_error_has_a_bounded_excerpt(
        self, client: WebSocketClient, ear: Ear, venue: FakeVenue
    ) -> None:
        client.connect()
        venue.live[0].send("{" + "x" * 10_000)
        error = ear.until(events.DecodeError)
        assert error.count == 1
        assert "{xxx" in error.why
        assert len(error.why) < 400

    def test_closed_has_the_error_of_a_failed_client(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, max_reconnects=0) as client:
            ear = Ear(client)
            venue.live[0].rst()
            closed = ear.until(events.Closed)
            assert isinstance(closed.error, wsclient.ReconnectError)
            assert list(ear.stream) == []

    def test_closed_comes_though_it_was_never_connected(
        self, client: WebSocketClient, ear: Ear
    ) -> None:
        client.close()
        assert ear.until(events.Closed).error is None

    @pytest.mark.parametrize("is_connected", [True, False])
    def test_closed_comes_when_nobody_holds_the_client_any_more(
        self, venue: FakeVenue, is_connected: bool
    ) -> None:
        client = WebSocketClient(venue.url)
        if is_connected:
            client.connect()
        ear = Ear(client)
        gone = weakref.ref(client)
        del client
        gc.collect()
        assert gone() is None, "its events keep it"
        ear.until(events.Closed)


class TestEnd:
    """Events end with the client, however it ends."""

    def test_an_error_of_ours_as_the_client_is_closed(
        self, client: WebSocketClient, ear: Ear, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_: Transport) -> None:
            raise ZeroDivisionError

        client.connect()
        monkeypatch.setattr(Transport, "hang_up", broken)
        client.close(timeout=5)
        ear.until(events.Closed)
        assert list(ear.stream) == []

    def test_a_watchdog_that_is_held_up_by_a_function_of_the_users(self, venue: FakeVenue) -> None:
        entered, leave = threading.Event(), threading.Event()

        def classify(_: BaseException) -> wsclient.Verdict:
            entered.set()
            leave.wait(20)
            return wsclient.Verdict.RETRY

        with wsclient.connect(venue.url, classify=classify, stall_timeout=0.05) as client:
            ear = Ear(client)
            venue.live[0].send_raw(b"\x81\x05ab")
            assert entered.wait(5)
            client.close(timeout=0.05)
            ear.until(events.Closed)
            assert list(ear.stream) == []
            leave.set()

    def test_a_closed_client_has_none(self, client: WebSocketClient) -> None:
        client.connect()
        client.close()
        assert list(client.events()) == []

    def test_close_ends_the_iteration_of_another_thread(
        self, client: WebSocketClient, ear: Ear
    ) -> None:
        client.connect()
        thread = threading.Thread(target=lambda: ear.heard.extend(ear.stream))
        thread.start()
        client.close()
        thread.join(5)
        assert ear.names == ["Connected", "Closed"]

    def test_gap_events_end_when_nobody_holds_the_iterator(self, client: WebSocketClient) -> None:
        stream = client.events()
        assert core_of(client).event_hub.wants(events.GapMarked)
        del stream
        gc.collect()
        assert not core_of(client).event_hub.wants(events.GapMarked)

    def test_a_channel_asked_for_before_connect_leaves_no_thread_behind(
        self, venue: FakeVenue
    ) -> None:
        client = WebSocketClient(venue.url)
        with pytest.raises(wsclient.NotConnected):
            client.on("a", print)
        assert core_of(client).callbacks.thread is None


class TestFunctions:
    def test_run_on_the_callbacks_thread_up_to_the_last_event(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        heard: list[tuple[str, str]] = []
        client.on_event(
            lambda event: heard.append((type(event).__name__, threading.current_thread().name)),
            *STEPS,
        )
        client.connect()
        client.close(timeout=5)
        assert heard == [("Connected", "wsclient-callbacks"), ("Closed", "wsclient-callbacks")]

    def test_every_function_is_called_and_one_that_raises_harms_nothing(
        self, client: WebSocketClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        heard: list[events.Event] = []

        def bad(event: events.Event) -> None:
            raise ZeroDivisionError

        client.on_event(bad, *STEPS)
        client.on_event(heard.append, *STEPS)
        client.connect()
        client.subscribe("a")
        client.close(timeout=5)
        assert [type(event).__name__ for event in heard] == ["Connected", "Subscribed", "Closed"]
        assert client.stats().callback_errors == 3
        assert "on_event() raised" in caplog.text

    def test_events_come_between_messages_to_functions_of_both(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        heard: queue.Queue[str] = queue.Queue()
        client.on_event(lambda event: heard.put(type(event).__name__), *STEPS)
        client.connect()
        client.on("a", lambda message: heard.put(f"a {message.sequence}"))
        venue.publish("a")
        assert [heard.get(timeout=5) for _ in range(3)] == ["Connected", "Subscribed", "a 1"]
        peer_of(venue).rst()
        assert [heard.get(timeout=5) for _ in range(2)] == ["Disconnected", "Reconnecting"]

    def test_a_function_may_call_the_client(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        done = threading.Event()

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.Connected):
                client.subscribe("a")
                done.set()

        client.on_event(on_event)
        client.connect()
        assert done.wait(5)
        assert "a" in client.subscriptions

    def test_a_function_may_close_the_client_and_hears_of_it(self, client: WebSocketClient) -> None:
        heard: queue.Queue[str] = queue.Queue()

        def on_event(event: events.Event) -> None:
            heard.put(type(event).__name__)
            client.close()

        client.on_event(on_event, *STEPS)
        client.connect()
        assert [heard.get(timeout=5) for _ in range(2)] == ["Connected", "Closed"]

    def test_none_is_called_after_close_has_returned(self, client: WebSocketClient) -> None:
        entered, leave = threading.Event(), threading.Event()
        heard: list[str] = []

        def slow(event: events.Event) -> None:
            heard.append(type(event).__name__)
            entered.set()
            leave.wait(5)

        client.on_event(slow, *STEPS)
        client.connect()
        assert entered.wait(5)
        client.close(timeout=0.05)
        thread = core_of(client).callbacks.thread
        leave.set()
        assert thread is not None
        thread.join(5)
        assert heard == ["Connected"]

    def test_close_waits_until_the_last_event_is_handled(self, client: WebSocketClient) -> None:
        heard: list[str] = []

        def slow(event: events.Event) -> None:
            threading.Event().wait(0.05)
            heard.append(type(event).__name__)

        client.connect()
        client.on_event(slow, *STEPS)
        client.close(timeout=5)
        assert heard == ["Closed"]

    def test_a_function_that_never_returns_holds_up_close_no_longer_than_its_timeout(
        self, client: WebSocketClient
    ) -> None:
        entered, leave = threading.Event(), threading.Event()

        def stuck(_: events.Event) -> None:
            entered.set()
            leave.wait(20)

        client.on_event(stuck)
        client.connect()
        assert entered.wait(5)
        began = time.monotonic()
        client.close(timeout=0.1)
        assert time.monotonic() - began < 5
        leave.set()

    def test_a_closed_client_takes_none(self, client: WebSocketClient) -> None:
        client.close()
        with pytest.raises(wsclient.ClientClosed):
            client.on_event(print)

    def test_a_failed_client_takes_none_and_says_why(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, max_reconnects=0) as client:
            ear = Ear(client)
            venue.live[0].rst()
            ear.until(events.Closed)
            with pytest.raises(wsclient.ReconnectError):
                client.on_event(print)

    def test_a_handler_has_events_too(self, venue: FakeVenue) -> None:
        heard: list[str] = []
        with wsclient.WebSocketHandler({"websocket_uri": venue.url}) as handler:
            handler.client.on_event(lambda event: heard.append(type(event).__name__), *STEPS)
            handler.connect()
            handler.subscribe("a")
        assert heard == ["Connected", "Subscribed", "Closed"]

    def test_each_gets_only_the_types_that_it_takes(self, client: WebSocketClient) -> None:
        states: list[str] = []
        heard: list[str] = []
        client.on_event(lambda event: states.append(event.state), events.StateChanged)
        client.on_event(
            lambda event: heard.append(type(event).__name__), events.Connected, events.Closed
        )
        client.connect()
        client.subscribe("a")
        client.close(timeout=5)
        assert states == ["connecting", "open", "closing", "closed"]
        assert heard == ["Connected", "Closed"]

    def test_an_error_of_an_on_function_is_an_event(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        def bad(_: wsclient.Message) -> None:
            raise ZeroDivisionError

        failed: queue.Queue[events.CallbackFailed] = queue.Queue()
        client.on_event(failed.put, events.CallbackFailed)
        client.connect()
        client.on("a", bad)
        venue.publish("a")
        event = failed.get(timeout=5)
        assert (event.function, event.channel) == (bad.__qualname__, "a")
        assert event.connection_id == 1
        assert isinstance(event.error, ZeroDivisionError)
        frames = traceback.extract_tb(event.error.__traceback__)
        assert (frames[-1].name, frames[-1].line) == ("bad", "raise ZeroDivisionError")

    def test_an_error_of_a_listener_is_no_event_for_listeners(
        self, client: WebSocketClient, ear: Ear
    ) -> None:
        """Else one that raises for each event would be called for ever."""
        heard: list[events.Event] = []

        def bad(event: events.Event) -> None:
            heard.append(event)
            raise ZeroDivisionError

        client.on_event(bad, events.Connected, events.CallbackFailed)
        client.connect()
        failed = ear.until(events.CallbackFailed)
        client.close(timeout=5)
        assert (failed.function, failed.channel) == (bad.__qualname__, None)
        assert [type(event) for event in heard] == [events.Connected]

    @pytest.mark.parametrize("kind", [int, "Connected", events.Connected(1), None])
    @pytest.mark.parametrize("call", ["on_event", "events"])
    def test_what_is_no_type_of_events_is_refused(
        self, client: WebSocketClient, call: str, kind: Any
    ) -> None:
        function = [print] if call == "on_event" else []
        with pytest.raises(wsclient.ConfigurationError, match=f"{call}.*takes types"):
            getattr(client, call)(*function, kind)

    def test_what_is_no_function_is_refused(self, client: WebSocketClient) -> None:
        with pytest.raises(wsclient.ConfigurationError, match="function"):
            client.on_event("print")  # type: ignore[arg-type]


class TestOfTheRuntime:
    """What only the log had before is an event too."""

    def test_close_reports_what_it_discards_before_the_last_event(
        self, client: WebSocketClient, ear: Ear, venue: FakeVenue
    ) -> None:
        client.connect()
        client.subscribe("a")
        for _ in range(3):
            venue.publish("a")
        until(lambda: client.stats().messages == 3)
        client.close()
        ear.until(events.Closed)
        (event,) = (e for e in ear.heard if isinstance(e, events.UnreadDiscarded))
        assert (event.messages, event.connection_id) == (3, 1)
        assert [e.number for e in ear.heard] == list(range(1, len(ear.heard) + 1))

    def test_a_classify_that_raises_is_reported(self, venue: FakeVenue) -> None:
        error = ZeroDivisionError()

        def classify(_: BaseException) -> Any:
            raise error

        client = WebSocketClient(venue.url, classify=classify, **QUICK)
        ear = Ear(client)
        client.connect()
        venue.live[0].rst()
        assert ear.until(events.ClassifyFailed).error is error
        client.close()

    def test_a_handlers_gap_is_reported(self, venue: FakeVenue) -> None:
        handler = wsclient.WebSocketHandler({"websocket_uri": venue.url})
        with handler:
            handler.connect()
            stream = handler.client.events(events.GapUnhandled)
            handler.process_gap("a", Gap("sequence", 2))
            event = stream.recv(timeout=5)
        assert event == events.GapUnhandled(
            "a", Gap("sequence", 2), connection_id=1, number=event.number, at=event.at
        )


class TestLogRecords:
    def test_bear_client_venue_connection_and_channel_as_fields(
        self, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        venue.refuse_channel("a", "no such market")
        with (
            caplog.at_level(logging.DEBUG, "wsclient"),
            wsclient.connect(venue.url, name="feed", **QUICK) as client,
            pytest.raises(wsclient.SubscriptionRejected),
        ):
            client.subscribe("a")
        records: list[Any] = [r for r in caplog.records if r.name.startswith("wsclient")]
        assert {r.client for r in records} == {"feed"}
        assert {r.venue for r in records} == {venue.url.rstrip("/")}
        assert [r.connection_id for r in records if "open: " in r.getMessage()] == [1]
        assert [r.channel for r in records if "refused" in r.getMessage()] == ["a"]
        assert {r.channel for r in records} == {"a", None}

    def test_name_the_line_that_wrote_them(
        self, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "wsclient"), wsclient.connect(venue.url):
            pass
        assert {record.filename for record in caplog.records} == {"watchdog.py"}


class TestSeveralConnections:
    """A client whose channels are on two connections."""

    @pytest.fixture
    def client(self, venue: FakeVenue) -> Iterator[WebSocketClient]:
        dialect = wsclient.Generic(limits=wsclient.Limits(channels_per_connection=1))
        with wsclient.connect(venue.url, dialect=dialect, name="feed", **QUICK) as client:
            client.subscribe("a", "b")
            yield client

    def test_one_that_is_lost_is_named(
        self, client: WebSocketClient, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        ear = Ear(client)
        with caplog.at_level(logging.INFO, "wsclient"):
            venue.subscribers("b")[0].rst()
            lost = ear.until(events.Reconnecting)
            recovered = ear.until(events.Recovered)
            until(lambda: len(caplog.records) == 3)
        assert (lost.route, lost.connection_id) == ("shard 1", 2)
        assert recovered.channels == 2
        assert not [event for event in ear.heard if isinstance(event, events.StateChanged)]
        lines = [(record.levelname, record.getMessage()) for record in caplog.records]
        assert [level for level, _ in lines] == ["WARNING", "INFO", "INFO"]
        assert lines[0][1].startswith("feed: disconnected: shard 1: ")
        assert lines[1][1] == "feed: open: shard 1"

    def test_the_last_one_changes_the_state(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, **QUICK) as client:
            ear = Ear(client)
            venue.live[0].rst()
            assert ear.until(events.StateChanged).state == "backing off"
            assert ear.until(events.Reconnecting).route == ""

    def test_a_rotation_is_no_disconnect_in_the_log(
        self, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        with wsclient.connect(venue.url, name="feed", **QUICK) as client:
            client.subscribe("a")
            venue.publish("a")
            client.recv(timeout=5)  # it has numbers: they prove the overlap at once
            ear = Ear(client)
            with caplog.at_level(logging.INFO, "wsclient"):
                client.rotate(timeout=10)
                rotated = ear.until(events.Rotated)
        steps = [event for event in ear.heard if isinstance(event, (*STEPS, events.Rotated))]
        assert [(type(step).__name__, step.connection_id) for step in steps] == [
            ("Connected", 2),
            ("Disconnected", 1),
            ("Rotated", 2),
        ]
        assert steps[1].reason == "rotated"
        assert (rotated.replaced, rotated.seconds > 0) == (1, True)
        lines = [record.getMessage() for record in caplog.records]
        assert lines[0] == "feed: open: shard 0"
        assert lines[1].startswith("feed: connection 2 has replaced connection 1 after ")

    def test_one_that_is_lost_while_its_successor_is_being_opened_is_named(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        ear = Ear(client)
        for _ in client.connections:
            venue.fail_handshake("deaf")
        rotating = Call(client.rotate)
        until(lambda: len(client.connections) == 4)
        venue.subscribers("b")[0].rst()
        lost = ear.until(events.Reconnecting)
        assert (lost.delay, lost.route) == (0.0, "shard 1")
        client.close()
        with pytest.raises(wsclient.ClientClosed):
            rotating.result()

    def test_a_rotation_that_fails_is_reported_and_tried_again(
        self, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        with wsclient.connect(venue.url, **QUICK) as client:
            client.subscribe("a")
            venue.publish("a")
            client.recv(timeout=5)
            ear = Ear(client)
            venue.refuse(503, times=1)
            client.rotate(timeout=10)
            failed = ear.until(events.RotationFailed)
            assert ear.until(events.Rotated).replaced == failed.connection_id == 1
        assert "503" in failed.why
        assert "connection 1 is not replaced yet: " in caplog.text
