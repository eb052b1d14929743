"""``close(drain=True)`` ends the connection, then hands out what is queued."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from support.inside import core_of
from support.talk import BOOK_CHANNEL, SYMBOL, Talk, TalkBook, Talker
from wsclient import ClientClosed, State, WebSocketClient
from wsclient.events import Closed, UnreadDiscarded
from wsclient.testing import FakeVenue

#: A timeout (s) that no test uses up, and the time (s) in which a close() returns that has nothing
#: to wait for.
LONG, SHORT = 60.0, 5.0
COUNT = 20
NUMBERS = list(range(1, COUNT + 1))


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[WebSocketClient]:
    with wsclient.connect(venue.url) as client:
        yield client


def publish(venue: FakeVenue, client: WebSocketClient) -> None:
    """Publish COUNT messages, and wait until the client has queued them."""
    for _ in NUMBERS:
        venue.publish("a")
    until(lambda: client.stats().messages == COUNT)


class Slow:
    """A function of on() that does not return before :meth:`go_on`."""

    def __init__(self) -> None:
        self.numbers: list[int | None] = []
        self.entered, self._leave = threading.Event(), threading.Event()

    def __call__(self, message: wsclient.Message) -> None:
        self.entered.set()
        self._leave.wait(30)
        self.numbers.append(message.sequence)

    def go_on(self) -> None:
        self._leave.set()


def keep_busy(slow: Slow, venue: FakeVenue, client: WebSocketClient) -> None:
    """Call ``slow`` with the first of COUNT messages; the others are queued then."""
    client.on("a", slow)
    publish(venue, client)
    assert slow.entered.wait(SHORT)


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.go_on()


def closing(client: WebSocketClient, timeout: float = LONG) -> Call:
    """Begin a close(drain=True) on another thread, and return it once it waits."""
    call = Call(client.close, timeout, drain=True)
    until(lambda: client.state is State.CLOSING)
    return call


class TestOtherThreads:
    def test_functions_get_all_that_is_queued_before_close_returns(
        self, client: WebSocketClient, venue: FakeVenue, slow: Slow
    ) -> None:
        keep_busy(slow, venue, client)
        call = closing(client)
        slow.go_on()
        call.result(SHORT)
        assert slow.numbers == NUMBERS
        assert client.state is State.CLOSED

    def test_close_waits_for_a_function_that_has_taken_the_last_message(
        self, client: WebSocketClient, venue: FakeVenue, slow: Slow
    ) -> None:
        client.on("a", slow)
        venue.publish("a")
        assert slow.entered.wait(SHORT)
        call = closing(client)
        assert call.is_alive()
        slow.go_on()
        call.result(SHORT)
        assert slow.numbers == [1]

    def test_the_connection_ends_before_the_drain_does(
        self, client: WebSocketClient, venue: FakeVenue, slow: Slow
    ) -> None:
        client.on("a", slow)
        peer = venue.live[0]
        publish(venue, client)
        call = closing(client)
        assert peer.expect_close() == 1000
        venue.wait_for(lambda venue: not venue.live)
        assert client.state is State.CLOSING
        with pytest.raises(ClientClosed):
            client.subscribe("b")
        slow.go_on()
        call.result(SHORT)

    def test_nothing_more_is_taken_in(
        self, client: WebSocketClient, venue: FakeVenue, slow: Slow
    ) -> None:
        keep_busy(slow, venue, client)
        venue.live[0].stop_reading()  # so it does not answer our close frame
        call = closing(client, timeout=1)
        venue.publish("a")
        slow.go_on()
        call.result(SHORT)
        assert slow.numbers == NUMBERS

    def test_a_loop_of_another_thread_gets_all_and_ends(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        reader, begin = client.reader("a"), threading.Event()

        def read() -> list[int | None]:
            numbers = [reader.recv(SHORT).sequence]
            begin.wait(30)
            return numbers + [message.sequence for message in reader]

        reading = Call(read)
        publish(venue, client)
        call = closing(client)
        begin.set()
        call.result(SHORT)
        assert reading.result() == NUMBERS

    def test_a_thread_that_takes_the_last_message_need_not_call_again(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        begin, leave = threading.Event(), threading.Event()

        def read() -> list[int | None]:
            numbers = [client.recv(SHORT).sequence]
            begin.wait(30)
            numbers += [client.recv(SHORT).sequence for _ in NUMBERS[1:]]
            leave.wait(30)
            return numbers

        reading = Call(read)
        publish(venue, client)
        call = closing(client)
        begin.set()
        call.result(SHORT)
        leave.set()
        assert reading.result() == NUMBERS

    def test_a_blocked_call_ends(self, client: WebSocketClient) -> None:
        calls = [Call(client.recv), Call(list, client.reader("a"))]
        until(lambda: all(call.is_in("fill") for call in calls))
        client.close(LONG, drain=True)
        with pytest.raises(ClientClosed):
            calls[0].result(SHORT)
        assert calls[1].result(SHORT) == []

    @pytest.mark.parametrize("options", [{"overflow": "conflate"}, {"decode": {"a": dict}}])
    def test_the_other_kinds_of_queues(
        self, venue: FakeVenue, slow: Slow, options: dict[str, Any]
    ) -> None:
        with wsclient.connect(venue.url, **options) as client:
            client.on(["a", "b", "c"], slow)
            venue.publish("a")
            assert slow.entered.wait(SHORT)
            for channel in ("b", "c"):
                venue.publish(channel)
            until(lambda: client.stats().queues["callbacks"].messages == 2)
            call = closing(client)
            slow.go_on()
            call.result(SHORT)
            assert slow.numbers == [1, 1, 1]

    def test_a_book_gets_all_its_messages(self) -> None:
        entered, leave = threading.Event(), threading.Event()

        class SlowBook(TalkBook):
            def update(self, message: wsclient.Message) -> wsclient.BookUpdate:
                if message.sequence == 2:
                    entered.set()
                    leave.wait(30)
                return super().update(message)

        class SlowTalk(Talk):
            book = SlowBook()

        with (
            FakeVenue(Talker()) as venue,
            wsclient.connect(venue.url, dialect=SlowTalk()) as client,
        ):
            book = client.order_book(SYMBOL)
            venue.publish(BOOK_CHANNEL)
            venue.publish(BOOK_CHANNEL)
            assert entered.wait(SHORT)
            for _ in NUMBERS:
                venue.publish(BOOK_CHANNEL)
            until(lambda: client.stats().queues["books"].messages >= COUNT)
            call = closing(client)
            assert not book.is_synced
            leave.set()
            call.result(SHORT)
            assert book.bids(stale_ok=True)[0].price == Decimal(COUNT + 2)

    def test_while_there_is_no_connection(self, venue: FakeVenue, slow: Slow) -> None:
        with wsclient.connect(venue.url, retry_delay=60, jitter=False) as client:
            keep_busy(slow, venue, client)
            peer = venue.live[0]
            venue.down()
            peer.rst()
            until(lambda: client.state is State.BACKING_OFF)
            call = closing(client)
            slow.go_on()
            call.result(SHORT)
        assert slow.numbers == NUMBERS

    def test_after_a_failure(self, venue: FakeVenue, slow: Slow) -> None:
        with wsclient.connect(venue.url, max_reconnects=0) as client:
            keep_busy(slow, venue, client)
            venue.live[0].rst()
            until(lambda: client.state is State.FAILED)
            call = closing(client)
            slow.go_on()
            call.result(SHORT)
        assert slow.numbers == NUMBERS

    def test_listeners_hear_of_errors_during_the_drain_and_of_the_end_last(
        self, client: WebSocketClient, venue: FakeVenue, slow: Slow
    ) -> None:
        heard: list[str] = []
        client.on_event(lambda event: heard.append(type(event).__name__))
        client.on("a", slow)
        client.on("a", lambda message: 1 // 0)
        publish(venue, client)
        call = closing(client)
        slow.go_on()
        call.result(SHORT)
        assert heard.count("CallbackFailed") == COUNT
        assert heard[-1] == "Closed"


class TestTheCallersOwn:
    def test_a_loop_that_closes_goes_on_to_its_last_message(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        publish(venue, client)
        numbers, began = list[int | None](), time.monotonic()
        for message in client:
            if not numbers:
                client.close(LONG, drain=True)
            numbers.append(message.sequence)
        assert numbers == NUMBERS
        assert time.monotonic() - began < SHORT

    def test_recv_gives_the_rest_then_raises(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        publish(venue, client)
        assert client.recv(SHORT).sequence == 1
        client.close(LONG, drain=True)
        rest = [client.recv(timeout=0).sequence]
        rest += [message.sequence for message in client.recv_batch()]
        assert rest == NUMBERS[1:]
        with pytest.raises(ClientClosed):
            client.recv(SHORT)
        assert list(client) == []

    def test_what_nobody_has_read_stays_readable(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        reader = client.reader("a")
        publish(venue, client)
        client.close(LONG, drain=True)
        assert [message.sequence for message in reader] == NUMBERS

    def test_the_queue_of_a_thread_that_has_ended_stays_readable(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        publish(venue, client)
        assert Call(client.recv).result().sequence == 1
        client.close(LONG, drain=True)
        assert [message.sequence for message in client] == NUMBERS[1:]

    def test_a_later_close_discards_it(self, client: WebSocketClient, venue: FakeVenue) -> None:
        client.subscribe("a")
        publish(venue, client)
        client.close(LONG, drain=True)
        client.close()
        with pytest.raises(ClientClosed):
            client.recv(SHORT)

    def test_a_function_that_closes_gets_the_rest(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        begin, numbers = threading.Event(), list[int | None]()

        def function(message: wsclient.Message) -> None:
            begin.wait(30)
            numbers.append(message.sequence)
            if len(numbers) == 1:
                client.close(LONG, drain=True)

        client.on("a", function)
        publish(venue, client)
        begin.set()
        client.wait(SHORT)
        assert numbers == NUMBERS


class TestTheEndOfADrain:
    def test_what_is_left_at_the_timeout_is_discarded_and_reported(
        self, client: WebSocketClient, venue: FakeVenue, slow: Slow
    ) -> None:
        events = client.events(UnreadDiscarded, Closed)
        keep_busy(slow, venue, client)
        began = time.monotonic()
        client.close(timeout=0.3, drain=True)
        assert time.monotonic() - began < SHORT
        discarded, closed = events
        assert isinstance(discarded, UnreadDiscarded)
        assert discarded.messages == COUNT - 1
        assert isinstance(closed, Closed)
        slow.go_on()
        until(lambda: slow.numbers)
        assert slow.numbers == [1]

    def test_another_close_discards_the_rest(
        self, client: WebSocketClient, venue: FakeVenue, slow: Slow
    ) -> None:
        keep_busy(slow, venue, client)
        call = closing(client)
        client.close(timeout=0.1)
        slow.go_on()
        call.result(SHORT)
        assert slow.numbers == [1]

    def test_of_two_drains_the_earlier_end_counts(
        self, client: WebSocketClient, venue: FakeVenue, slow: Slow
    ) -> None:
        keep_busy(slow, venue, client)
        call = closing(client)
        client.close(timeout=0.1, drain=True)
        slow.go_on()
        call.result(SHORT)
        assert slow.numbers == [1]

    def test_the_end_of_a_with_block_does_not_end_the_drain_of_another_thread(
        self, venue: FakeVenue, slow: Slow
    ) -> None:
        with wsclient.connect(venue.url, close_timeout=LONG) as client:
            keep_busy(slow, venue, client)
            call = closing(client)
            leaving = Call(client.__exit__, None, None, None)
            until(lambda: leaving.is_in("join"))
            slow.go_on()
            leaving.result(SHORT)
            call.result(SHORT)
            assert slow.numbers == NUMBERS

    def test_an_exception_in_the_with_block_ends_it(self, venue: FakeVenue, slow: Slow) -> None:
        client = wsclient.connect(venue.url, close_timeout=0.1)
        keep_busy(slow, venue, client)
        calls: list[Call] = []

        def body() -> None:
            with client:
                calls.append(closing(client))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            body()
        slow.go_on()
        calls[0].result(SHORT)
        assert slow.numbers == [1]

    def test_it_can_be_interrupted_and_goes_on(
        self, client: WebSocketClient, venue: FakeVenue, slow: Slow
    ) -> None:
        keep_busy(slow, venue, client)
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            until(lambda: client.state is State.CLOSING)
            signal.pthread_kill(main, signal.SIGINT)

        call = Call(interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.close(LONG, drain=True)
        call.result()
        slow.go_on()
        client.wait(SHORT)
        assert slow.numbers == NUMBERS
        assert client.state is State.CLOSED  # Thread.join() would take the watchdog for ended

    @pytest.mark.parametrize("is_connected", [False, True])
    def test_without_anything_to_drain_it_is_a_close(
        self, venue: FakeVenue, is_connected: bool
    ) -> None:
        client = WebSocketClient(venue.url)
        if is_connected:
            client.connect()
        began = time.monotonic()
        client.close(LONG, drain=True)
        client.close(LONG, drain=True)
        assert client.state is State.CLOSED
        assert time.monotonic() - began < SHORT

    def test_a_hook_that_does_not_return_holds_up_no_drain(
        self, venue: FakeVenue, slow: Slow
    ) -> None:
        entered, leave = threading.Event(), threading.Event()

        class Stuck(wsclient.Generic):
            def subscribe(self, channels: Any, options: Any, request_id: int) -> Any:
                if "stuck" in channels:
                    entered.set()
                    leave.wait(30)
                return super().subscribe(channels, options, request_id)

        with wsclient.connect(venue.url, dialect=Stuck()) as client:
            keep_busy(slow, venue, client)
            stuck = Call(client.subscribe, "stuck")
            assert entered.wait(SHORT)
            call = Call(client.close, LONG, drain=True)
            with pytest.raises(ClientClosed):
                stuck.result(SHORT)
            slow.go_on()
            until(lambda: slow.numbers == NUMBERS)
            leave.set()
            call.result(SHORT)


class TestSignals:
    def test_a_handler_in_the_loop_loses_nothing(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        publish(venue, client)
        numbers = []
        before = signal.signal(signal.SIGTERM, lambda *_: client.close(LONG, drain=True))
        try:
            for message in client:
                if not numbers:
                    signal.raise_signal(signal.SIGTERM)
                numbers.append(message.sequence)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert numbers == NUMBERS

    def test_a_handler_that_has_interrupted_wsclient_returns_at_once(
        self, client: WebSocketClient, venue: FakeVenue, slow: Slow
    ) -> None:
        keep_busy(slow, venue, client)
        with core_of(client).lock:
            client.close(LONG, drain=True)
        until(lambda: client.state is State.CLOSING)
        slow.go_on()
        client.wait(SHORT)
        assert slow.numbers == NUMBERS
