"""Which messages the queues of a client get, and what is reported when they drop some."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

import wsclient
from support.helpers import Call, until
from support.making import with_book
from wsclient import Generic, Message, SubscriptionState, WebSocketClient
from wsclient.dialects.kraken import KrakenBook
from wsclient.events import SlowConsumer
from wsclient.testing import FakeVenue

QUICK: dict[str, Any] = {"retry_delay": 0.01, "max_retry_delay": 0.05, "jitter": False}


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[WebSocketClient]:
    with wsclient.connect(venue.url, **QUICK) as client:
        yield client


def send_late(venue: FakeVenue, channel: str) -> None:
    """Send a message of a channel to whoever is connected, subscribed or not."""
    venue.live[-1].send_json({"type": "market_data", "channel": channel})


def own(client: WebSocketClient, venue: FakeVenue) -> list[str]:
    """Return the channels of the messages that the client's own queue holds by now."""
    send_late(venue, "the end")
    got: list[str] = []
    while "the end" not in got:
        got += [message.channel for message in client.recv_batch(timeout=5)]
    return got[:-1]


def ignore(_: Message) -> None:
    pass


class TestLateMessages:
    """Messages that only someone who has gone asked for do not reach the client's own queue."""

    def test_of_a_closed_reader(self, client: WebSocketClient, venue: FakeVenue) -> None:
        client.reader("a").close()
        send_late(venue, "a")
        assert own(client, venue) == []

    def test_of_a_closed_reader_whose_unsubscribe_is_not_answered(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        reader = client.reader("a")
        venue.mute_acks()
        with pytest.raises(wsclient.SubscriptionTimeout):
            reader.close(timeout=0.01)
        send_late(venue, "a")
        assert own(client, venue) == []

    def test_while_the_unsubscribe_is_not_answered(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        reader = client.reader("a")
        venue.mute_acks()
        del reader
        until(lambda: client.subscriptions["a"].state is SubscriptionState.UNSUBSCRIBING)
        send_late(venue, "a")
        assert own(client, venue) == []

    def test_at_a_venue_that_does_not_acknowledge(self, venue: FakeVenue) -> None:
        class Silent(Generic):
            acknowledges = False

        def publish() -> None:
            """Send data of the channel, which confirms it, as soon as it is subscribed to."""
            venue.wait_for(lambda venue: venue.subscribers("a"))
            venue.publish("a")

        with wsclient.connect(venue.url, dialect=Silent(), **QUICK) as client:
            confirmed = Call(publish)
            with client.reader("a"):
                confirmed.result()
            send_late(venue, "a")
            assert own(client, venue) == []

    @pytest.mark.parametrize("how", ["reader", "on", "subscribe"])
    def test_of_a_call_that_had_no_answer(
        self, client: WebSocketClient, venue: FakeVenue, how: str
    ) -> None:
        venue.mute_acks()
        calls: dict[str, Callable[[], object]] = {
            "reader": lambda: client.reader("a", timeout=0.01),
            "on": lambda: client.on("a", ignore, timeout=0.01),
            "subscribe": lambda: client.subscribe("a", timeout=0.01),
        }
        with pytest.raises(wsclient.SubscriptionTimeout):
            calls[how]()
        until(lambda: "a" not in client.subscriptions)
        send_late(venue, "a")
        assert own(client, venue) == []

    def test_of_a_closed_order_book(self) -> None:
        with FakeVenue("kraken") as venue:
            channel = "book:BTC/USD"
            levels = {"bids": [{"price": 1, "qty": 1}], "asks": [{"price": 2, "qty": 1}]}
            venue.protocol.set_snapshot(channel, **levels)  # type: ignore[attr-defined]
            with wsclient.connect(venue.url, dialect="kraken", **QUICK) as client:
                client.subscribe("ticker:BTC/USD")
                client.order_book("BTC/USD", timeout=5).close()
                until(lambda: channel not in client.subscriptions)
                venue.live[0].send(venue.protocol.data(channel, 9, {"type": "update", **levels}))
                venue.publish("ticker:BTC/USD")
                assert client.recv(timeout=5).channel == "ticker:BTC/USD"

    def test_of_an_unsubscribed_channel(self, client: WebSocketClient, venue: FakeVenue) -> None:
        client.subscribe("a")
        client.unsubscribe("a")
        send_late(venue, "a")
        assert own(client, venue) == []

    def test_of_a_subscribe_that_failed_while_a_reader_has_the_channel(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        reader = client.reader("a")
        venue.mute_acks()
        venue.live[0].rst()
        until(lambda: client.stats().connects == 2)
        until(lambda: client.subscriptions["a"].state is SubscriptionState.PENDING)
        with pytest.raises(wsclient.SubscriptionTimeout):
            client.subscribe("a", timeout=0.01)
        send_late(venue, "a")
        assert own(client, venue) == []
        assert reader.recv(timeout=5).channel == "a"

    def test_the_last_message_of_a_lost_channel_goes_to_its_reader_only(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        reader = client.reader("a")
        venue.refuse_channel("a", "delisted")
        venue.live[0].rst()
        assert reader.recv(timeout=5).type == "lost"
        assert own(client, venue) == []


class TestOwnQueue:
    """What the client's own queue gets."""

    def test_what_is_unsolicited(self, client: WebSocketClient, venue: FakeVenue) -> None:
        client.reader("a").close()
        send_late(venue, "b")
        assert own(client, venue) == ["b"]
        client.unsubscribe("b")  # it was not subscribed to
        send_late(venue, "b")
        assert own(client, venue) == ["b"]

    def test_a_channel_that_the_venue_refuses_and_sends_all_the_same(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        """As Bitfinex does with the account of the login."""
        venue.refuse_channel("account", "no such channel")
        for call in (client.subscribe, client.reader):
            with pytest.raises(wsclient.SubscriptionRejected):
                call("account")
        with pytest.raises(wsclient.SubscriptionRejected):
            client.on("account", ignore)
        send_late(venue, "account")
        assert own(client, venue) == ["account"]

    def test_a_channel_that_a_reader_had_on_an_earlier_connection(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.reader("a").close()
        venue.live[0].rst()
        until(lambda: client.stats().connects == 2)
        send_late(venue, "a")
        assert own(client, venue) == ["a"]

    def test_a_channel_that_a_closed_reader_had_before(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.reader("a").close()
        client.subscribe("a")
        venue.publish("a")
        assert own(client, venue) == ["a"]

    def test_a_channel_that_is_subscribed_again_before_its_end_is_answered(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        venue.ack_delay = 0.05
        client.subscribe("a")
        call = Call(client.unsubscribe, "a")
        until(lambda: client.subscriptions["a"].state is SubscriptionState.UNSUBSCRIBING)
        client.subscribe("a")
        call.result()
        venue.publish("a")
        assert own(client, venue) == ["a"]

    def test_not_a_channel_that_a_reader_takes_over_before_its_end_is_answered(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        venue.ack_delay = 0.05
        client.subscribe("a")
        call = Call(client.unsubscribe, "a")
        until(lambda: client.subscriptions["a"].state is SubscriptionState.UNSUBSCRIBING)
        reader = client.reader("a")
        call.result()
        venue.publish("a")
        assert reader.recv(timeout=5).channel == "a"
        assert own(client, venue) == []


class TestReaders:
    """A reader, an on() function and a book are served as the client's own queue is."""

    def test_their_messages_are_decoded_ahead(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("full")
        for _ in range(300):
            venue.publish("full")
        until(lambda: client.stats().queues["client"].messages == 300)
        got: list[Message] = []
        client.on("b", got.append)
        with client.reader("a") as reader:
            for _ in range(2):  # the first one comes after a message of the full queue
                venue.publish("a")
                message = reader.recv(timeout=5)
                is_ahead = isinstance(message.decoded, dict)
                assert message.data  # else the reader would soon decode none ahead
            assert is_ahead
            for count in (1, 2):
                venue.publish("b")
                until(lambda count=count: len(got) == count)
            assert isinstance(got[1].decoded, dict)

    def test_each_consumer_decodes_data_of_its_own(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        with client.reader("a") as reader:
            venue.publish("a")
            mine, theirs = client.recv(timeout=5), reader.recv(timeout=5)
            mine.data["changed"] = True
            assert "changed" not in theirs.data

    def test_what_they_leave_lying_holds_no_objects(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        with client.reader("slow") as reader:
            with venue.batch():
                for _ in range(600):
                    venue.publish("slow")
            until(lambda: client.stats().queues["reader-1"].messages == 600)
            for _ in range(20):
                venue.publish("a")
                client.recv(timeout=5)
                venue.publish("slow")
            until(lambda: client.stats().queues["reader-1"].messages == 620)
            *_, last = reader.recv_batch()
            assert last.decoded is msgspec.UNSET


class Alarms:
    """The SlowConsumer events of a client."""

    def __init__(self, client: WebSocketClient) -> None:
        self._events = client.events()
        self._client = client

    def names(self) -> list[str]:
        """Return the queues reported so far, of all messages that have come."""
        self._client.unsubscribe("nothing")  # the watchdog has looked
        found = []
        with suppress(TimeoutError):
            while True:
                event = self._events.recv(timeout=0)
                found += [event.queue] if isinstance(event, SlowConsumer) else []
        return found


class TestAlarms:
    def publish(self, client: WebSocketClient, venue: FakeVenue, count: int) -> None:
        before = client.stats().messages
        with venue.batch():
            for _ in range(count):
                venue.publish("a")
        until(lambda: client.stats().messages == before + count)

    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
    @pytest.mark.parametrize("kind", ["client", "reader-1", "callbacks"])
    def test_each_kind_of_queue_says_that_it_drops(
        self, venue: FakeVenue, overflow: str, kind: str
    ) -> None:
        leave = threading.Event()
        with wsclient.connect(venue.url, queue_size=5, overflow=overflow, **QUICK) as client:
            alarms = Alarms(client)
            held = {
                "client": lambda: client.subscribe("a"),
                "reader-1": lambda: client.reader("a"),
                "callbacks": lambda: client.on("a", lambda _: leave.wait(10)),
            }[kind]()
            found: list[str] = []
            try:
                self.publish(client, venue, 20)
                until(lambda: found.extend(alarms.names()) or found)
            finally:
                leave.set()
            assert found == [kind]
            assert client.stats().queues[kind].dropped
            del held

    def test_that_of_books_too(self) -> None:
        leave = threading.Event()
        channel, levels = "book:BTC/USD", {"bids": [{"price": 1, "qty": 1}], "asks": []}

        class Stuck(KrakenBook):
            def update(self, message: Message) -> Any:
                if message.type == "update":
                    leave.wait(10)
                return super().update(message)

        stuck = with_book(Stuck(), wsclient.Kraken())
        with FakeVenue("kraken") as venue:
            venue.protocol.set_snapshot(channel, **levels)  # type: ignore[attr-defined]
            with wsclient.connect(venue.url, dialect=stuck, queue_size=5, **QUICK) as client:
                alarms = Alarms(client)
                client.order_book("BTC/USD", timeout=5, verify_checksum=False)
                found: list[str] = []
                try:
                    for _ in range(20):
                        venue.publish(channel, type="update", **levels)
                    until(lambda: found.extend(alarms.names()) or found)
                finally:
                    leave.set()
                assert found == ["books"]

    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "error"])
    def test_an_unused_queue_of_the_client_says_nothing(
        self, venue: FakeVenue, overflow: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with wsclient.connect(venue.url, queue_size=50, overflow=overflow, **QUICK) as client:
            alarms, got = Alarms(client), threading.Semaphore(0)
            client.subscribe("a")
            client.on("a", lambda _: got.release())
            for _ in range(10):
                self.publish(client, venue, 10)
                for _ in range(10):
                    assert got.acquire(timeout=5)
            assert client.stats().queues["client"].dropped == 50
            assert alarms.names() == []
            assert "drops messages" not in caplog.text
            client.recv(timeout=5)
            if overflow == "error":
                with venue.batch():
                    for _ in range(100):
                        venue.publish("a")
                until(lambda: client.state is wsclient.State.FAILED)
                return
            found: list[str] = []
            for _ in range(2):
                self.publish(client, venue, 45)
            until(lambda: found.extend(alarms.names()) or found)
            assert "client" in found
