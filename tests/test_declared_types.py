"""Declared types, against a venue on loopback: who gets which data, and what becomes of misfits."""

from __future__ import annotations

import copy
import logging
import pickle
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import msgspec
import pytest

import wsclient
from support.helpers import until
from support.inside import core_of
from support.queues import take
from wsclient import ConfigurationError, Generic, Message, WebSocketClient
from wsclient.events import DecodeError
from wsclient.testing import FakeVenue

QUICK: dict[str, Any] = {"retry_delay": 0.01, "max_retry_delay": 0.05}


class Tick(msgspec.Struct):
    type: str
    channel: str
    sequence: int
    price: float


class Price(msgspec.Struct):
    price: float


@contextmanager
def connected(venue: FakeVenue, decode: Any = Tick, **options: Any) -> Iterator[WebSocketClient]:
    with wsclient.connect(venue.url, decode=decode, **{**QUICK, **options}) as client:
        yield client


def price_of(message: Message) -> float:
    assert type(message.data) is Tick
    return message.data.price


class TestClient:
    @pytest.mark.parametrize("take", ["recv", "recv_batch", "for"])
    def test_data_have_the_declared_type(self, venue: FakeVenue, take: str) -> None:
        with connected(venue) as client:
            client.subscribe("a")
            for n in range(5):  # also when the reader knows that the consumer keeps up
                venue.publish("a", price=n)
                message = {
                    "recv": lambda: client.recv(timeout=5),
                    "recv_batch": lambda: client.recv_batch(timeout=5)[0],
                    "for": lambda: next(iter(client)),
                }[take]()
                assert price_of(message) == n
                assert message.decode(Tick) is message.data
                assert message.decode(Price) == Price(n)
                assert message.decode(dict)["price"] == n
            assert client.stats().invalid == 0

    def test_all_of_a_long_queue_have_it(self, venue: FakeVenue) -> None:
        with connected(venue) as client:
            client.subscribe("a")
            with venue.batch():
                for n in range(2000):
                    venue.publish("a", price=n)
            until(lambda: client.stats().messages == 2000)
            messages = [client.recv(timeout=5) for _ in range(1000)]
            messages += client.recv_batch(timeout=5)
            assert [price_of(message) for message in messages] == list(range(2000))

    def test_what_does_not_fit_is_skipped_counted_and_marked(self, venue: FakeVenue) -> None:
        with connected(venue) as client:
            client.subscribe("a", "b")
            for channel, price in [("a", 1), ("a", "high"), ("b", 2), ("a", None), ("a", 3)]:
                venue.publish(channel, price=price)
            messages = [client.recv(timeout=5) for _ in range(3)]
            assert [(m.channel, price_of(m)) for m in messages] == [("a", 1), ("b", 2), ("a", 3)]
            first, _, last = messages
            assert last.gap == wsclient.Gap("invalid", 2, first.received_at)
            assert client.stats().invalid == 2
            assert client.stats().messages == 5

    def test_misfits_are_reported_without_secrets(
        self, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        headers = {"X-Key": "hunter2hunter2"}
        with (
            caplog.at_level(logging.WARNING),
            connected(venue, headers=headers) as client,
        ):
            events = client.events(DecodeError)
            client.subscribe("a")
            for _ in range(3):
                venue.publish("a", price="hunter2hunter2")
            venue.publish("a", price=1)
            client.recv(timeout=5)
            event = events.recv(timeout=5)
            assert event.channel == "a"
            assert "does not fit its declared type (ValidationError: Expected `float`" in event.why
            assert 1 <= event.count <= 3
            assert "hunter2" not in event.why
        assert "does not fit its declared type" in caplog.text
        assert "hunter2" not in caplog.text

    def test_a_timeout_says_how_many_did_not_fit(self, venue: FakeVenue) -> None:
        with connected(venue, decode=Price) as client:
            client.subscribe("a")
            with venue.batch():
                for _ in range(3):
                    venue.publish("a", price="high")
            with pytest.raises(TimeoutError, match=r"; 3 did not fit the declared type$"):
                client.recv(timeout=0.5)
            with pytest.raises(TimeoutError, match=r"^no message within the timeout$"):
                client.recv(timeout=0)

    def test_a_type_that_raises_only_sometimes_does_not_end_on(self, venue: FakeVenue) -> None:
        numbers = count()

        class Moody(Tick):
            def __post_init__(self) -> None:
                if next(numbers) == 0:
                    raise LookupError("not loaded yet")

        got: queue.Queue[Message] = queue.Queue()
        with connected(venue, Moody) as client:
            client.on("a", got.put)
            venue.publish("a", price=1)
            venue.publish("a", price=2)
            assert got.get(timeout=5).gap == wsclient.Gap("invalid", 1)

    def test_a_flood_of_misfits_is_one_event_per_second(self, venue: FakeVenue) -> None:
        with connected(venue, decode=Price) as client:
            events = client.events(DecodeError)
            client.subscribe("a")
            with venue.batch():
                for _ in range(500):
                    venue.publish("a", price="high")
            with pytest.raises(TimeoutError):
                client.recv(timeout=0.2)
            until(lambda: client.stats().invalid == 500)
            counts = [events.recv(timeout=5).count]
            while sum(counts) < 500:
                counts.append(events.recv(timeout=5).count)
            assert sum(counts) == 500
            assert len(counts) <= 2

    def test_counters_keep_the_misfits_of_closed_readers(self, venue: FakeVenue) -> None:
        with connected(venue, decode=None) as client:
            with client.reader("a", decode=Tick) as reader:
                venue.publish("a", price="high")
                venue.publish("a", price=1)
                assert reader.recv(timeout=5).gap == wsclient.Gap("invalid", 1)
                assert client.stats().invalid == 1
            assert client.stats().invalid == 1

    def test_a_mapping_leaves_other_channels_plain(self, venue: FakeVenue) -> None:
        with connected(venue, decode={"a": Tick, "b": Price}) as client:
            client.subscribe("a", "b", "c")
            for channel in "abc":
                venue.publish(channel, price=1)
            a, b, c = (client.recv(timeout=5).data for _ in range(3))
            assert (type(a), b, c["price"]) == (Tick, Price(1), 1)

    def test_a_function_may_raise_and_ends_nothing(self, venue: FakeVenue) -> None:
        def choose(channel: str) -> Any:
            assert not core_of(client).locks.is_held
            if channel == "bad":
                raise SystemExit("no")
            return Tick

        with connected(venue, decode=choose) as client:
            client.subscribe("a", "bad")
            venue.publish("bad", price=1)
            venue.publish("a", price=1)
            assert price_of(client.recv(timeout=5)) == 1
            assert client.stats().invalid == 1

    def test_types_with_code_are_decoded_on_the_consumers_thread(self, venue: FakeVenue) -> None:
        threads: set[str] = set()

        class Hooked(Tick):
            def __post_init__(self) -> None:
                threads.add(threading.current_thread().name)

        with connected(venue, decode=Hooked) as client:
            client.subscribe("a")
            for _ in range(5):
                venue.publish("a", price=1)
                client.recv(timeout=5)
        assert threads == {threading.current_thread().name}

    def test_validate_sees_plain_data_first(self, venue: FakeVenue) -> None:
        seen: list[Any] = []

        def validate(message: Message) -> None:
            seen.append(message.data["price"])

        with connected(venue, validate=validate) as client:
            client.subscribe("a")
            venue.publish("a", price="high")
            venue.publish("a", price=2)
            assert price_of(client.recv(timeout=5)) == 2
        assert seen == ["high", 2]

    def test_latest_has_the_type_of_the_client(self, venue: FakeVenue) -> None:
        with connected(venue) as client:
            client.subscribe("a")
            with client.reader("a", decode=Price) as reader:
                venue.publish("a", price=1)
                message = reader.recv(timeout=5)
                latest = client.latest("a")
                assert message.data == Price(1)
                assert latest is not None
                assert price_of(latest) == price_of(client.recv(timeout=5)) == 1
            venue.publish("a", price="high")
            until(lambda: client.stats().messages == 2)
            latest = client.latest("a")
            assert latest is not None
            with pytest.raises(msgspec.ValidationError):
                _ = latest.data

    def test_the_last_message_of_a_lost_channel_comes(self, venue: FakeVenue) -> None:
        with connected(venue) as client:
            client.subscribe("a")
            venue.refuse_channel("a", "delisted")
            venue.live[0].rst()
            assert client.recv(timeout=5).type == "lost"
            assert client.stats().invalid == 0


class TestOthers:
    def test_functions_get_the_type_of_the_client(self, venue: FakeVenue) -> None:
        got: list[Message] = []
        with connected(venue) as client:
            client.on("a", got.append)
            for price in (1, "high", 2):
                venue.publish("a", price=price)
            until(lambda: len(got) == 2)
            assert [price_of(message) for message in got] == [1, 2]
            assert got[1].gap is not None
            assert got[1].gap.reason == "invalid"

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_a_type_that_raises_does_not_end_the_callbacks_thread(
        self, venue: FakeVenue, error: type[BaseException]
    ) -> None:
        class Leaving(Price):
            def __post_init__(self) -> None:
                if self.price == 1:
                    raise error

        got: list[Any] = []
        with connected(venue, decode=Leaving) as client:
            client.on("a", lambda message: got.append(message.data.price))
            for price in (0, 1, 2):
                venue.publish("a", price=price)
            until(lambda: got == [0, 2])
            assert client.stats().invalid == 1

    def test_a_reader_has_the_type_of_the_client_or_its_own(self, venue: FakeVenue) -> None:
        with (
            connected(venue) as client,
            client.reader("a") as same,
            client.reader("a", decode=Price) as own,
            client.reader("a", decode=lambda channel: dict) as asked,
            client.reader("a", decode=Any) as plain,
        ):
            for n in range(3):
                venue.publish("a", price=n)
                found = [reader.recv(timeout=5).data for reader in (same, own, asked, plain)]
                assert found[:2] == [Tick("market_data", "a", n + 1, n), Price(n)]
                assert found[2] == found[3]
                assert found[2]["price"] == n

    def test_a_misfit_of_one_reader_fits_another(self, venue: FakeVenue) -> None:
        with (
            connected(venue, decode=None) as client,
            client.reader("a", decode=Tick) as strict,
            client.reader("a") as plain,
        ):
            for price in ("high", 2):
                venue.publish("a", price=price)
            first, second = plain.recv(timeout=5), plain.recv(timeout=5)
            assert (first.data["price"], second.gap) == ("high", None)
            assert strict.recv(timeout=5).gap == wsclient.Gap("invalid", 1)
            assert client.stats().invalid == 1

    def test_a_plain_reader_that_comes_later_gets_plain_data(self, venue: FakeVenue) -> None:
        with connected(venue) as client:
            client.subscribe("a")
            venue.publish("a", price=0)
            assert price_of(client.recv(timeout=5)) == 0
            with client.reader("a", decode=Any) as reader:
                for n in (1, 2):
                    venue.publish("a", price=n)
                    assert price_of(client.recv(timeout=5)) == n
                    assert reader.recv(timeout=5).data["price"] == n
            venue.publish("a", price=3)
            assert price_of(client.recv(timeout=5)) == 3

    def test_a_plain_queue_that_comes_while_a_read_is_decoded_gets_plain_data(
        self, venue: FakeVenue
    ) -> None:
        with connected(venue) as client:
            client.subscribe("a")
            venue.publish("a", price=0)
            price_of(client.recv(timeout=5))
            core = core_of(client)
            plain, lock = core.new_queue("plain"), core.lock

            class Adding:
                """The core's lock: the reader adds a queue when it has decoded."""

                def __enter__(self) -> None:
                    lock.__enter__()
                    if threading.current_thread().name.startswith("wsclient-reader"):
                        core.router.route(["a"], plain)

                def __exit__(self, *error: Any) -> None:
                    lock.__exit__(*error)

            core.lock = Adding()
            venue.publish("a", price=1)
            assert price_of(client.recv(timeout=5)) == 1
            (message,) = take(plain, 1, timeout=5)
            assert message.data["price"] == 1

    def test_order_books_are_never_decoded(self) -> None:
        with FakeVenue("kraken") as venue:
            channel = "book:BTC/USD"
            levels = {"bids": [{"price": 1, "qty": 1}], "asks": [{"price": 2, "qty": 1}]}
            venue.protocol.set_snapshot(channel, **levels)  # type: ignore[attr-defined]
            with wsclient.connect(venue.url, dialect="kraken", decode=Price, **QUICK) as client:
                book = client.order_book("BTC/USD", timeout=5)
                assert book.is_synced
                assert client.stats().invalid == 0

    @pytest.mark.parametrize("bad", [5, "Tick", object, {"a": 1}])
    def test_what_is_no_type_is_refused_at_once(self, venue: FakeVenue, bad: Any) -> None:
        with pytest.raises(ConfigurationError):
            WebSocketClient(venue.url, decode=bad)
        with connected(venue) as client:
            with pytest.raises(ConfigurationError):
                client.reader("a", decode=bad)
            assert "a" not in client.subscriptions


class Row(msgspec.Struct):
    symbol: str
    price: float


def rows(*prices: Any) -> str:
    data = [{"symbol": "BTC/USD", "price": price} for price in prices]
    frame = {"channel": "trade", "type": "update", "data": data}
    return msgspec.json.encode(frame).decode()


@pytest.mark.parametrize("decimal", [False, True])
def test_items_of_a_frame_have_their_type(decimal: bool) -> None:
    options = {"dialect": "kraken", "decimal": decimal, "decode": {"trade:BTC/USD": Row}}
    with FakeVenue("kraken") as venue, wsclient.connect(venue.url, **options, **QUICK) as client:
        client.subscribe("trade:BTC/USD")
        venue.accept().send(rows(1.5))
        venue.live[0].send(rows(2.5, "high", 3.5))
        found = [client.recv(timeout=5) for _ in range(3)]
        assert [m.data for m in found] == [Row("BTC/USD", p) for p in (1.5, 2.5, 3.5)]
        assert [m.gap and m.gap.missed for m in found] == [None, None, 1]
        assert found[1].decode(dict)["price"] == 2.5


class Packed(Generic):
    """A dialect with binary frames of its own format."""

    def __init__(self) -> None:
        super().__init__()
        self.data_fields = None

    def decoder(self, decimal: bool) -> Callable[[bytes], Any]:
        return lambda raw: (
            msgspec.msgpack.decode(raw) if raw[:1] != b"{" else msgspec.json.decode(raw)
        )


def test_binary_messages_have_their_type(venue: FakeVenue) -> None:
    with connected(venue, dialect=Packed()) as client:
        client.subscribe("a")
        peer = venue.accept()
        for n, price in enumerate((1.5, "high", 2.5), 1):
            fields = {"type": "market_data", "channel": "a", "sequence": n, "price": price}
            peer.send(msgspec.msgpack.encode(fields))
        first, second = client.recv(timeout=5), client.recv(timeout=5)
        assert (price_of(first), price_of(second)) == (1.5, 2.5)
        assert second.gap == wsclient.Gap("invalid", 1, first.received_at)
        assert pickle.loads(pickle.dumps(second)).data == second.data


@pytest.mark.parametrize(
    "twin",
    [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy, Message.copy],
    ids=["pickle", "deepcopy", "copy", "Message.copy"],
)
@pytest.mark.parametrize("declared", [Tick, {"a": Tick}], ids=["ahead", "by the consumer"])
def test_a_copy_has_data_of_the_type(
    venue: FakeVenue, twin: Callable[[Message], Message], declared: Any
) -> None:
    with connected(venue, decode=declared) as client:
        client.subscribe("a", "b")
        for channel in "ab" * 2:
            venue.publish(channel, price=1)
            message = client.recv(timeout=5)
            again = twin(message)
            assert again.data == message.data
            assert type(again.data) is type(message.data)
            assert again.kind is message.kind
            assert again.decode(Price) == Price(1)
