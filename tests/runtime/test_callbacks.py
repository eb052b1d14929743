"""``on()`` functions run on one thread, in order, whatever they raise."""

from __future__ import annotations

import functools
import logging
import queue
import sys
import threading
import time
from typing import Any

import pytest

import wsclient
from support.helpers import until
from support.logrig import logging_hub
from support.making import message as make
from wsclient import Message
from wsclient.events import Connected, Event
from wsclient.runtime.callbacks import EVENTS_AT_ONCE, Callbacks
from wsclient.runtime.fifo import FifoQueue
from wsclient.runtime.queues import MessageQueue
from wsclient.testing import FakeVenue


def message(channel: str, number: int) -> Message:
    return make(channel, sequence=number, received_at=number)


@pytest.fixture
def message_queue() -> MessageQueue:
    return FifoQueue(None, None, "drop_oldest")


@pytest.fixture
def callbacks(message_queue: MessageQueue) -> Any:
    callbacks = Callbacks(lambda: message_queue, lambda _: None, logging_hub().emit)
    yield callbacks
    message_queue.close()
    if callbacks.thread is not None:
        callbacks.thread.join(5)


class TestCalls:
    def test_the_thread_starts_with_the_first_function(self, callbacks: Callbacks) -> None:
        assert callbacks.thread is None
        callbacks.add(["a"], print)
        first = callbacks.thread
        callbacks.add(["a"], print)
        assert callbacks.thread is first is not None
        assert first.name == "wsclient-callbacks"
        assert first.daemon

    def test_each_function_gets_each_message_of_its_channel_in_order(
        self, callbacks: Callbacks, message_queue: MessageQueue
    ) -> None:
        got: queue.Queue[tuple[str, str, int | None]] = queue.Queue()
        callbacks.add(["a"], lambda m: got.put(("first", m.channel, m.sequence)))
        callbacks.add(["a"], lambda m: got.put(("second", m.channel, m.sequence)))
        callbacks.add(["b"], lambda m: got.put(("third", m.channel, m.sequence)))
        message_queue.put([message("a", 1), message("b", 1), message("a", 2)])
        assert [got.get(timeout=5) for _ in range(5)] == [
            ("first", "a", 1),
            ("second", "a", 1),
            ("third", "b", 1),
            ("first", "a", 2),
            ("second", "a", 2),
        ]

    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
    def test_an_exception_in_a_function_is_logged_and_counted_and_stops_nothing(
        self,
        callbacks: Callbacks,
        message_queue: MessageQueue,
        error: type[BaseException],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        got: queue.Queue[int | None] = queue.Queue()

        def fail(_: Message) -> None:
            raise error("on purpose")

        callbacks.add(["a"], fail)
        callbacks.add(["a"], lambda m: got.put(m.sequence))
        message_queue.put([message("a", 1), message("a", 2)])
        assert [got.get(timeout=5) for _ in range(2)] == [1, 2]
        assert callbacks.errors == 2
        records = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert len(records) == 2
        assert "on('a') raised" in records[0].getMessage()
        assert vars(records[0])["channel"] == "a"
        assert vars(records[0])["connection_id"] == message("a", 1).connection_id
        assert "on purpose" in str(records[0].exc_info)

    def test_a_removed_function_is_not_called_again(
        self, callbacks: Callbacks, message_queue: MessageQueue
    ) -> None:
        got: queue.Queue[str] = queue.Queue()

        def twice(m: Message) -> None:
            got.put("twice")

        callbacks.add(["a"], twice)
        callbacks.add(["a"], twice)
        callbacks.add(["a"], lambda m: got.put("other"))
        callbacks.remove(["a"], twice)
        callbacks.remove(["a"], print)
        callbacks.remove(["b"], print)
        message_queue.put([message("a", 1)])
        assert [got.get(timeout=5) for _ in range(2)] == ["twice", "other"]


class TestSeveralChannels:
    def test_one_call_and_one_request_subscribe_to_all(self) -> None:
        got: queue.Queue[str] = queue.Queue()
        with FakeVenue("okx") as venue, wsclient.connect(venue.url, dialect="okx") as client:
            names = ["trades:BTC-USDT", "trades:ETH-USDT"]
            found = client.on(names, lambda m: got.put(m.channel))
            assert [subscription.channel for subscription in found] == names
            assert all(subscription.is_active for subscription in found)
            asked = [text for text in venue.live[0].received if "subscribe" in str(text)]
            assert len(asked) == 1
            for name in names:
                venue.publish(name)
            assert [got.get(timeout=5) for _ in names] == names

    @pytest.mark.parametrize("kind", [list, tuple, set, frozenset, iter])
    def test_any_collection_of_names_will_do(self, venue: FakeVenue, kind: Any) -> None:
        with wsclient.connect(venue.url) as client:
            found = client.on(kind(["a", "b"]), print)
            assert {subscription.channel for subscription in found} == {"a", "b"}

    def test_a_name_that_is_given_twice_counts_once(self, venue: FakeVenue) -> None:
        got: queue.Queue[int | None] = queue.Queue()
        with wsclient.connect(venue.url) as client:
            assert len(client.on(["a", "a"], lambda m: got.put(m.sequence))) == 1
            venue.publish("a")
            venue.publish("a")
            assert [got.get(timeout=5) for _ in range(2)] == [1, 2]

    def test_one_refused_channel_undoes_the_call(self, venue: FakeVenue) -> None:
        venue.refuse_channel("bad", "no such market")
        got: queue.Queue[str] = queue.Queue()
        with wsclient.connect(venue.url) as client:
            client.on("kept", lambda m: got.put("kept"))
            with pytest.raises(wsclient.SubscriptionRejected, match="no such market") as raised:
                client.on(["a", "bad", "kept"], lambda m: got.put("undone"))
            assert list(raised.value.failed) == ["bad"]
            until(lambda: list(client.subscriptions) == ["kept"])
            venue.publish("kept")
            venue.publish("kept")
            assert [got.get(timeout=5) for _ in range(2)] == ["kept", "kept"]

    @pytest.mark.parametrize("channels", [[], (), ["a", 5], 5, b"a", [b"a"], ["a", []]])
    def test_names_that_are_none_are_refused(self, venue: FakeVenue, channels: Any) -> None:
        with wsclient.connect(venue.url) as client:
            with pytest.raises(wsclient.ConfigurationError):
                client.on(channels, print)
            assert not client.subscriptions


class Handlers:
    """Functions of a user's, which raise."""

    def hear(self, _: Message) -> None:
        raise ValueError

    def __call__(self, _: Message) -> None:
        raise ValueError


class TestNames:
    @pytest.mark.parametrize(
        ("function", "name"),
        [
            (Handlers().hear, "Handlers.hear"),
            (functools.partial(Handlers.hear, None), "Handlers.hear"),
            (Handlers(), "Handlers"),
            (int, "int"),
        ],
    )
    def test_the_log_names_the_function_and_the_channel(
        self,
        callbacks: Callbacks,
        message_queue: MessageQueue,
        caplog: pytest.LogCaptureFixture,
        function: Any,
        name: str,
    ) -> None:
        callbacks.add(["a"], function)
        message_queue.put([message("a", 1)])
        until(lambda: callbacks.errors)
        until(lambda: caplog.messages)
        assert f"the function {name} of on('a') raised" in caplog.messages[0]


class TestEvents:
    def test_many_events_do_not_keep_messages_waiting(
        self, callbacks: Callbacks, message_queue: MessageQueue
    ) -> None:
        got = threading.Event()

        def listen(event: Event) -> None:
            if not got.is_set():
                callbacks.events.put(event)  # there is always another event
                message_queue.put([message("a", 1)])

        callbacks.add(["a"], lambda _: got.set())
        callbacks.listen(listen)
        callbacks.events.put(Connected(1))
        assert got.wait(5)
        callbacks.events.end()

    def test_all_waiting_events_are_delivered_without_a_message(self, callbacks: Callbacks) -> None:
        got: queue.Queue[int] = queue.Queue()
        total, begin = 2 * EVENTS_AT_ONCE + 1, threading.Event()

        def listen(event: Event) -> None:
            begin.wait(5)
            got.put(event.number)

        callbacks.listen(listen)
        for number in range(total):
            callbacks.events.put(Connected(1, number=number))
        begin.set()
        assert [got.get(timeout=5) for _ in range(total)] == list(range(total))
        callbacks.events.end()


class TestEnd:
    def test_the_thread_ends_when_the_queue_is_closed(
        self, callbacks: Callbacks, message_queue: MessageQueue
    ) -> None:
        callbacks.add(["a"], print)
        message_queue.close()
        assert callbacks.thread is not None
        callbacks.thread.join(1)
        assert not callbacks.thread.is_alive()

    def test_the_thread_ends_after_the_queued_ones_when_the_client_failed(
        self, callbacks: Callbacks, message_queue: MessageQueue
    ) -> None:
        got: list[int | None] = []
        message_queue.put([message("a", 1)])
        message_queue.fail(wsclient.WSClientError("over"))
        callbacks.add(["a"], lambda m: got.append(m.sequence))
        assert callbacks.thread is not None
        callbacks.thread.join(1)
        assert not callbacks.thread.is_alive()
        assert got == [1]

    def test_no_function_is_called_after_a_close_during_another(
        self, callbacks: Callbacks, message_queue: MessageQueue
    ) -> None:
        entered, leave = threading.Event(), threading.Event()
        late: list[Message] = []

        def slow(_: Message) -> None:
            entered.set()
            leave.wait(5)

        callbacks.add(["a"], slow)
        callbacks.add(["a"], late.append)
        message_queue.put([message("a", 1), message("a", 2)])
        assert entered.wait(5)
        message_queue.close()
        leave.set()
        assert callbacks.thread is not None
        callbacks.thread.join(5)
        assert late == []


class TestThroughTheClient:
    def test_a_slow_function_delays_neither_the_reader_nor_recv(self, venue: FakeVenue) -> None:
        leave = threading.Event()
        with wsclient.connect(venue.url) as client:
            client.on("slow", lambda _: leave.wait(10))
            client.subscribe("a")
            venue.publish("slow", price=1)
            started = time.monotonic()
            for n in range(50):
                venue.publish("a", price=n)
                assert client.recv(5).data["price"] == n
            assert time.monotonic() - started < 5
            leave.set()

    def test_a_function_may_call_the_client(self, venue: FakeVenue) -> None:
        got: queue.Queue[Any] = queue.Queue()
        with wsclient.connect(venue.url) as client:

            def subscribe(m: Message) -> None:
                got.put(client.subscribe("b")[0].is_active)

            client.on("a", subscribe)
            venue.publish("a", price=1)
            assert got.get(timeout=5) is True

    def test_a_function_may_close_the_client(self, venue: FakeVenue) -> None:
        client = wsclient.connect(venue.url)
        started = threading.Event()

        def close(_: Message) -> None:
            client.close()
            started.set()

        client.on("a", close)
        venue.publish("a", price=1)
        assert started.wait(5)
        until(lambda: client.state is wsclient.State.CLOSED)

    def test_errors_are_in_the_stats(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url) as client:
            client.on("a", lambda m: sys.exit("on purpose"))
            venue.publish("a", price=1)
            venue.publish("a", price=2)
            until(lambda: client.stats().callback_errors == 2)
