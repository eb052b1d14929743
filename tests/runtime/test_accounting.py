"""``client.stats()`` and ``client.connections``: rates, queues and lags of a client at work."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from support.inside import core_of
from support.making import message as make
from support.queues import message_queue
from wsclient import ClientClosed, Dialect, Generic, Limits, Message, WebSocketClient
from wsclient.events import Recovered
from wsclient.runtime import queues as message_queues
from wsclient.runtime import reception
from wsclient.runtime.queues import BATCH, MessageQueue
from wsclient.telemetry.histogram import Lags
from wsclient.testing import FakeVenue
from wsclient.threads.waiting import Deadline

NOW = 1_700_000_000 * 10**9
POLICIES = ("drop_oldest", "drop_newest", "conflate", "error")


def taken(message_queue: MessageQueue, count: int | None = 1) -> list[Message]:
    assert message_queue.fill(count, Deadline(5))
    found: list[Message] = []
    with contextlib.suppress(IndexError):
        found.extend(islice(message_queue.handed_out, count))
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A wall clock for queues, set by a test."""

    class Clock:
        now = NOW

        def time_ns(self) -> int:
            return self.now

    clock = Clock()
    monkeypatch.setattr(message_queues, "time", clock)
    return clock


class TestQueues:
    @pytest.mark.parametrize("policy", POLICIES)
    def test_queue_stats_give_the_number_and_the_age_of_waiting_messages(self, policy: str) -> None:
        queue = message_queue(policy, 10, batch=BATCH)
        queue.put([make("a", received_at=NOW - 5 * 10**9), make("b", received_at=NOW - 10**9)])
        stats, _ = queue.stats(NOW)
        assert (stats.messages, stats.oldest, stats.dropped) == (2, 5.0, 0)
        assert stats.bytes == queue.queued_bytes
        taken(queue)
        assert queue.stats(NOW)[0].oldest == 1.0
        taken(queue)
        assert (queue.stats(NOW)[0].messages, queue.stats(NOW)[0].oldest) == (0, None)

    def test_messages_left_in_a_consumers_batch_count_as_waiting(self) -> None:
        queue = message_queue("drop_oldest", batch=BATCH)
        queue.put([make(received_at=NOW - n * 10**9) for n in (5, 4, 3)])
        taken(queue)
        queue.put([make(received_at=NOW)])
        stats, _ = queue.stats(NOW)
        assert (stats.messages, stats.oldest) == (3, 4.0)

    def test_the_age_of_a_conflated_queue_is_that_of_its_oldest_message(self) -> None:
        queue = message_queue("conflate", batch=BATCH)
        for channel, age in (("a", 9), ("b", 5), ("a", 2)):
            queue.put([make(channel, received_at=NOW - age * 10**9)])
        assert queue.stats(NOW)[0].oldest == 5.0

    def test_a_message_that_came_in_no_frame_has_no_age(self) -> None:
        queue = message_queue("drop_oldest", batch=BATCH)
        queue.put([Message("a", "lost")])
        assert queue.stats(NOW)[0].oldest is None
        queue.put([make(received_at=NOW - 10**9)])
        assert queue.stats(NOW)[0].oldest == 1.0

    def test_a_clock_that_was_set_back_gives_a_negative_age(self) -> None:
        queue = message_queue("drop_oldest", batch=BATCH)
        queue.put([make(received_at=NOW + 10**9)])
        assert queue.stats(NOW)[0].oldest == -1.0

    @pytest.mark.parametrize("policy", POLICIES)
    def test_the_first_of_a_batch_is_measured_when_it_is_handed_out(
        self, policy: str, clock: Any
    ) -> None:
        queue = message_queue(policy, batch=BATCH)
        queue.put([make("ab"[n], received_at=NOW - (n + 1) * 10**9) for n in range(2)])
        taken(queue, None)
        stats, lags = queue.stats(NOW)
        assert (stats.consumer_lag.count, stats.consumer_lag.max) == (1, 1.0)
        assert {c: h.total for c, h in lags.by_channel.items()} == {"a": 10**9}

    @pytest.mark.parametrize("policy", POLICIES)
    def test_at_most_one_message_is_measured_per_ten_milliseconds(
        self, policy: str, clock: Any
    ) -> None:
        queue = message_queue(policy, batch=BATCH)
        for at in (0, 9_999_999, 10_000_000, 15_000_000, 20_000_000):
            clock.now = NOW + at
            queue.put([make(received_at=NOW)])
            taken(queue)
        assert queue.stats(NOW)[0].consumer_lag.count == 3

    def test_measuring_goes_on_after_the_clock_was_set_back(self, clock: Any) -> None:
        queue = message_queue("drop_oldest", batch=BATCH)
        for at in (0, -3600 * 10**9):
            clock.now = NOW + at
            queue.put([make(received_at=NOW)])
            taken(queue)
        assert queue.stats(NOW)[0].consumer_lag.min == -3600.0

    def test_a_message_that_came_in_no_frame_is_not_measured(self, clock: Any) -> None:
        queue = message_queue("drop_oldest", batch=BATCH)
        queue.put([Message("a", "lost")])
        taken(queue)
        queue.put([make(received_at=NOW)])
        taken(queue)
        assert queue.stats(NOW)[0].consumer_lag.count == 1

    def test_measuring_a_forgotten_channel_begins_again(self, clock: Any) -> None:
        queue = message_queue("drop_oldest", batch=BATCH)
        queue.put([make(received_at=NOW)])
        taken(queue)
        queue.forget("a")
        assert queue.stats(NOW)[1].by_channel == {}


class Timed(Generic):
    """A dialect whose time of a message is what the test returns."""

    def __init__(self, tell: Any) -> None:
        super().__init__()
        self._tell = tell

    def timestamp(self, message: Message) -> int | None:
        return self._tell(message)  # type: ignore[no-any-return]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure every read and every batch."""
    monkeypatch.setattr(reception, "SAMPLE_EVERY", 0.0)
    monkeypatch.setattr(message_queues, "SAMPLE_EVERY", 0)


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[WebSocketClient]:
    with wsclient.connect(venue.url, dialect=Generic(timestamp_field="sent")) as client:
        yield client


def publish(
    venue: FakeVenue, client: WebSocketClient, channel: str = "a", **fields: Any
) -> Message:
    """Pass one message from the venue to the caller."""
    venue.publish(channel, **fields)
    return client.recv(timeout=5)


class TestVenueLag:
    def test_it_is_from_the_venues_time_to_the_receipt(
        self, client: WebSocketClient, venue: FakeVenue, often: None
    ) -> None:
        client.subscribe("a", "b")
        sent_at = time.time_ns() - 3 * 10**9
        message = publish(venue, client, sent=sent_at)
        stats = client.stats()
        lag = stats.venue_lag
        assert (lag.count, lag.max) == (1, (message.received_at - sent_at) / 1e9)
        assert stats.channels["a"].venue_lag.max == lag.max
        assert stats.channels["b"].venue_lag.count == 0

    def test_it_is_below_zero_where_the_clocks_disagree(
        self, client: WebSocketClient, venue: FakeVenue, often: None
    ) -> None:
        client.subscribe("a")
        publish(venue, client, sent=time.time_ns() + 60 * 10**9)
        lag = client.stats().venue_lag
        assert lag.min is not None
        assert -60 < lag.min < -50
        assert lag.p50 == pytest.approx(lag.min, rel=0.016)
        assert lag.below(0) == 1

    def test_a_message_without_a_time_has_no_venue_lag(
        self, client: WebSocketClient, venue: FakeVenue, often: None
    ) -> None:
        client.subscribe("a")
        publish(venue, client, price=1)
        publish(venue, client, sent="nonsense")
        assert client.stats().venue_lag.count == 0
        assert client.stats().messages == 2

    def test_the_hook_of_a_dialect_without_times_is_never_called(self, venue: FakeVenue) -> None:
        assert not reception._has_times(Generic())
        assert not reception._has_times(Dialect())
        assert reception._has_times(Generic(timestamp_field="ts"))
        assert reception._has_times(Timed(None))

    def test_a_dialect_may_find_the_time_in_its_own_way_and_may_raise(
        self, venue: FakeVenue, often: None
    ) -> None:
        asked = []

        def tell(message: Message) -> int | None:
            asked.append(message.sequence)
            if len(asked) == 1:
                raise RuntimeError("no time")
            return message.received_at - 7

        with wsclient.connect(venue.url, dialect=Timed(tell)) as client:
            client.subscribe("a")
            for _ in range(2):
                publish(venue, client)
            stats = client.stats()
        assert asked == [1, 2]
        assert (stats.venue_lag.count, stats.venue_lag.total) == (1, 7e-9)

    def test_the_dialect_is_called_without_a_lock(self, venue: FakeVenue, often: None) -> None:
        """A hook of a dialect may call the client without a deadlock."""
        done = threading.Event()

        def tell(message: Message) -> int | None:
            if client.stats().messages:
                done.set()
            return None

        with wsclient.connect(venue.url, dialect=Timed(tell)) as client:
            client.subscribe("a")
            publish(venue, client)
            assert done.wait(5)

    def test_messages_of_the_slow_path_are_measured_too(self, venue: FakeVenue) -> None:
        """Kraken's frames never take the fast path."""
        with FakeVenue("kraken") as venue, wsclient.connect(venue.url, dialect="kraken") as client:
            client.subscribe("trade:BTC/USD")
            publish(venue, client, "trade:BTC/USD", timestamp="2023-11-14T22:13:20.123Z")
            lag = client.stats().venue_lag
        assert lag.count == 1
        assert lag.min is not None
        assert lag.min > 1e6

    def test_at_most_one_message_is_measured_per_ten_milliseconds(
        self, client: WebSocketClient, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reception, "SAMPLE_EVERY", 3600.0)
        client.subscribe("a")
        for _ in range(3):
            publish(venue, client, sent=time.time_ns())
        assert client.stats().venue_lag.count == 1


class TestConsumerLag:
    def test_it_is_of_every_way_to_consume(
        self, client: WebSocketClient, venue: FakeVenue, often: None
    ) -> None:
        called = threading.Event()
        client.on("c", lambda message: called.set())
        with client.reader("b") as reader:
            client.subscribe("a")
            publish(venue, client)
            venue.publish("a")
            next(iter(client))
            venue.publish("b")
            reader.recv_batch(timeout=5)
            venue.publish("c")
            assert called.wait(5)
            stats = client.stats()
        counts = {name: queue.consumer_lag.count for name, queue in stats.queues.items()}
        assert counts == {"client": 2, "callbacks": 1, "reader-1": 1}
        assert stats.consumer_lag.count == 4
        by_channel = {name: c.consumer_lag.count for name, c in stats.channels.items()}
        assert by_channel == {"a": 2, "b": 1, "c": 1}
        assert stats.consumer_lag.max is not None
        assert 0 <= stats.consumer_lag.max < 5

    def test_that_of_a_closed_reader_is_not_lost(
        self, client: WebSocketClient, venue: FakeVenue, often: None
    ) -> None:
        with client.reader("b", queue_size=1) as reader:
            venue.publish("b")
            reader.recv(timeout=5)
            for n in range(2, 5):
                venue.publish("b")
                until(lambda n=n: client.stats().messages == n)
            assert client.stats().dropped == 2
            reader.close()
        stats = client.stats()
        assert list(stats.queues) == ["client"]
        assert (stats.dropped, stats.consumer_lag.count) == (2, 1)

    def test_that_of_a_reader_closed_meanwhile_is_counted_once(
        self,
        client: WebSocketClient,
        venue: FakeVenue,
        often: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        copy = Lags.copy
        for channel in "bcb":
            with client.reader(channel) as reader:
                venue.publish(channel)
                reader.recv(timeout=5)

                def close_first(lags: Lags, lock: Any, reader: wsclient.Reader = reader) -> Lags:
                    reader.close()
                    return copy(lags, lock)

                before = client.stats().consumer_lag.count
                with monkeypatch.context() as patch:
                    patch.setattr(Lags, "copy", close_first)
                    assert client.stats().consumer_lag.count == before
                assert client.stats().consumer_lag.count == before
        assert before == 3

    def test_measuring_an_unsubscribed_channel_begins_again(
        self, client: WebSocketClient, venue: FakeVenue, often: None
    ) -> None:
        client.subscribe("a")
        publish(venue, client, sent=time.time_ns())
        client.unsubscribe("a")
        until(lambda: "a" not in client.stats().channels)
        client.subscribe("a")
        stats = client.stats()
        assert stats.channels["a"].venue_lag.count == 0
        assert stats.channels["a"].consumer_lag.count == 0
        assert stats.venue_lag.count == stats.consumer_lag.count == 1


class TestRates:
    def test_they_are_of_all_and_of_each_channel(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a", "b")
        for channel in "aab":
            publish(venue, client, channel)
        stats = client.stats()
        for rate in (stats.rate, stats.connection_rate):
            assert 0 < rate.seconds <= 15
            assert rate.messages * rate.seconds == pytest.approx(3)
            assert rate.bytes * rate.seconds == pytest.approx(stats.bytes)
        for name, count in (("a", 2), ("b", 1)):
            channel = stats.channels[name]
            assert channel.rate * stats.rate.seconds == pytest.approx(count)
            assert channel.connection_rate * stats.connection_rate.seconds == pytest.approx(count)

    def test_there_are_none_before_the_first_connection(self, venue: FakeVenue) -> None:
        client = WebSocketClient(venue.url)
        stats = client.stats()
        assert stats.rate == stats.connection_rate == wsclient.Rate(0.0, 0.0, 0.0)
        client.close()

    def test_the_connection_rate_begins_again_with_each_connection(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        for _ in range(5):
            publish(venue, client)
        venue.live[0].rst()
        until(lambda: client.stats().connects == 2 and venue.subscribers("a"))
        publish(venue, client)
        stats = client.stats()
        assert stats.connection_rate.messages * stats.connection_rate.seconds == pytest.approx(1)
        assert stats.rate.messages * stats.rate.seconds == pytest.approx(6)

    def test_the_connection_rate_stops_when_the_connection_ends(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url) as client:
            client.subscribe("a")
            publish(venue, client)
        assert client.stats().connection_rate == client.stats().connection_rate
        assert client.stats().connection_rate.messages > 0


def test_stats_do_not_wake_the_watchdog(client: WebSocketClient, venue: FakeVenue) -> None:
    core = core_of(client)
    until(core.posts.are_done)
    wake, woken = core.wake, []
    core.wake = lambda: woken.append(1) or wake()  # type: ignore[func-returns-value,method-assign]
    client.stats()
    assert not woken


def test_stats_give_the_clients_name_and_whether_messages_wait(
    client: WebSocketClient, venue: FakeVenue
) -> None:
    client.subscribe("a")
    venue.publish("a")
    until(lambda: client.stats().queued == 1)
    stats = client.stats()
    assert stats.name == core_of(client).log.name
    assert stats.queued_bytes == stats.queues["client"].bytes > 0
    assert stats.oldest == stats.queues["client"].oldest
    assert stats.oldest is not None
    client.recv(timeout=5)
    assert client.stats().oldest is None


def test_stats_of_thousands_of_channels_work_while_messages_come(
    client: WebSocketClient, venue: FakeVenue, often: None
) -> None:
    names = [f"c{n}" for n in range(2000)]
    upkeep = core_of(client).supervisor.upkeep
    for name in names:
        upkeep.channels.of(name)
        upkeep.venue_lags.record(name, 5)
        core_of(client).default.lags.record(name, 7)
    stats = client.stats()
    assert len(stats.channels) == 2000
    assert all(stats.channels[name].venue_lag.total == 5e-9 for name in names)
    assert all(stats.channels[name].consumer_lag.total == 7e-9 for name in names)


class TestConnections:
    def test_one_that_is_open_with_its_age_channels_and_rate(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a", "b")
        venue.publish("a", n=1)
        client.recv(timeout=5)
        (one,) = client.connections
        assert (one.id, one.state, one.channels) == (1, "open", ("a", "b"))
        assert one.age is not None
        assert one.age > 0
        assert one.rate.messages == pytest.approx(1 / one.age)
        assert one.rate.seconds == one.age
        assert one.rate.bytes > one.rate.messages

    def test_another_id_and_a_rate_of_its_own_after_a_reconnect(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        events = client.events(Recovered)
        venue.live[-1].rst()
        events.recv(timeout=5)
        (one,) = client.connections
        assert (one.id, one.state, one.channels) == (2, "open", ("a",))
        assert one.rate.messages == 0.0

    def test_none_before_connect_and_after_close(self) -> None:
        client = WebSocketClient("ws://127.0.0.1:1")
        assert client.connections == []
        client.close()
        assert client.connections == []

    def test_without_an_age_while_it_connects(self) -> None:
        with FakeVenue() as venue:
            venue.fail_handshake("deaf")
            client = WebSocketClient(venue.url)
            call = Call(client.connect)
            until(lambda: client.connections)
            (one,) = client.connections
            assert (one.id, one.state, one.age, one.channels) == (1, "connecting", None, ())
            assert one.rate.seconds == 0.0
            client.close()
            with pytest.raises(ClientClosed):
                call.result()


class TestSeveralConnections:
    @pytest.fixture
    def venue(self) -> Iterator[FakeVenue]:
        with FakeVenue("generic") as venue:
            yield venue

    @pytest.fixture
    def client(self, venue: FakeVenue) -> Iterator[WebSocketClient]:
        dialect = Generic(limits=Limits(channels_per_connection=2))
        with wsclient.connect(venue.url, dialect=dialect, retry_delay=30, jitter=False) as client:
            client.subscribe("a", "b", "c")
            yield client

    def test_each_has_its_shard_and_channels(self, client: WebSocketClient) -> None:
        shards = [(found.shard, found.channels) for found in client.connections]
        assert shards == [(0, ("a", "b")), (1, ("c",))]
        assert client.stats().connections[1].shard == 1

    def test_one_that_waits_for_its_next_attempt_is_in_the_statistics(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        venue.publish("c")
        client.recv(timeout=5)
        venue.refuse(503, times=1)
        venue.subscribers("c")[0].rst()
        until(lambda: client.stats().attempt_failures)
        assert [found.shard for found in client.connections] == [0]
        lost = client.stats().connections[-1]
        assert (lost.id, lost.state, lost.age, lost.shard) == (0, "backing off", None, 1)
        assert (lost.messages, lost.messages_before) == (0, 1)
        assert client.state is wsclient.State.OPEN

    def test_none_are_listed_of_a_closed_client(self, client: WebSocketClient) -> None:
        client.close()
        assert client.stats().connections == ()

    def test_a_successor_says_which_one_it_replaces(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.unsubscribe("c")
        until(lambda: len(client.connections) == 1)
        venue.fail_handshake("deaf")
        call = Call(client.rotate)
        until(lambda: len(client.connections) == 2)
        old, new = client.connections
        assert (old.replaces, new.replaces, new.state) == (None, old.id, "connecting")
        client.close()
        with pytest.raises(ClientClosed):
            call.result()

    def test_reconnects_and_rotations_are_counted_apart(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        events = client.events(Recovered)
        venue.publish("c")
        client.recv(timeout=5)  # the connection is healthy: the next attempt follows at once
        venue.subscribers("c")[0].rst()
        events.recv(timeout=5)
        assert (client.stats().reconnects, client.stats().rotations) == (1, 0)
        venue.publish("a")
        venue.publish("b")
        client.recv(timeout=5)
        client.rotate(timeout=20)
        stats = client.stats()
        assert (stats.reconnects, stats.rotations, stats.disconnects) == (1, 2, 1)
