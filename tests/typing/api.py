"""The types that users see: every public call, as a type checker understands it.

``mypy`` checks this file, which setup.cfg names; nothing runs it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
import polars
from typing_extensions import assert_type

import wsclient
from wsclient import events
from wsclient.dialect import Ack, Dialect, Item, Limits, Message
from wsclient.dialects.bybit import Bybit
from wsclient.metrics import PrometheusCollector
from wsclient.testing import FakeVenue


class Trade(msgspec.Struct):
    price: float


def opened(context: ssl.SSLContext) -> None:
    client = wsclient.connect("wss://venue.example/", dialect="kraken", ssl_context=context)
    assert_type(client, wsclient.WebSocketClient)
    assert_type(wsclient.connect(lambda: "wss://venue.example/"), wsclient.WebSocketClient)
    with wsclient.WebSocketClient("wss://venue.example/", dialect=wsclient.Kraken()) as entered:
        assert_type(entered, wsclient.WebSocketClient)
        entered.connect(timeout=5)
    wsclient.connect("wss://venue.example/", dialekt="kraken")  # type: ignore[arg-type]
    wsclient.WebSocketClient("wss://venue.example/", dialekt="kraken")  # type: ignore[arg-type]
    wsclient.connect("wss://venue.example/", overflow="drop")  # type: ignore[arg-type]
    client.reader("a", overflow="drop")  # type: ignore[arg-type]
    options: dict[str, Any] = {"dialect": "kraken"}
    assert_type(wsclient.connect("wss://venue.example/", **options), wsclient.WebSocketClient)
    client.close()
    client.close(1.0)
    client.close(1.0, drain=True)
    client.wait()
    client.wait(1.0)
    client.rotate()
    client.rotate(timeout=5.0)
    client.show()
    client.show("ticker:BTC/USD", limit=5, interval=1)
    client.show(["ticker:BTC/USD"])  # type: ignore[arg-type]
    assert_type(wsclient.clients(), list[wsclient.WebSocketClient])
    wsclient.close_all()
    wsclient.close_all(timeout=1)
    recorder = client.record("folder", sync_seconds=None, file_bytes=1_000_000)
    assert_type(recorder, wsclient.Recorder)
    assert_type(recorder.stats(), wsclient.RecorderStats)
    assert_type(client.stats().recorder, wsclient.RecorderStats | None)
    assert_type(recorder.is_closed, bool)
    recorder.close(timeout=1)
    assert_type(client.state, wsclient.State)
    assert_type(client.is_connected, bool)
    assert_type(client.connections, list[wsclient.ConnectionInfo])
    assert_type(client.connections[0].id, int)
    assert_type(client.connections[0].state, str)
    assert_type(client.connections[0].age, float | None)
    assert_type(client.connections[0].channels, tuple[str, ...])
    assert_type(client.connections[0].rate, wsclient.Rate)
    assert_type(client.connections[0].route, str)
    assert_type(client.connections[0].replaces, int | None)
    assert_type(client.stats().connections, tuple[wsclient.ConnectionInfo, ...])
    assert_type(wsclient.classify(OSError()), wsclient.Verdict)
    assert_type(wsclient.__version__, str)


def channels(client: wsclient.WebSocketClient) -> None:
    assert_type(client.subscribe("a", "b", depth=10, timeout=5), wsclient.Subscriptions)
    client.unsubscribe("a", timeout=None)
    assert_type(client.subscriptions, dict[str, wsclient.Subscription])
    subscription = client.subscriptions["a"]
    assert_type(subscription.channel, str)
    assert_type(subscription.state, wsclient.SubscriptionState)
    assert_type(subscription.is_active, bool)
    assert_type(subscription.gap, wsclient.Gap | None)
    assert_type(client.latest("a"), wsclient.Message | None)
    assert_type(client.age("a"), float | None)
    assert_type(client.on("a", print, timeout=1), wsclient.Subscription)
    assert_type(client.on(["a", "b"], print), list[wsclient.Subscription])
    assert_type(client.on({"a"}, print, depth=5), list[wsclient.Subscription])
    client.on_event(print)
    client.on_event(outage, events.Disconnected)
    client.on_event(history, events.Disconnected, events.Recovered)
    client.on_event(outage, events.Recovered)  # type: ignore[arg-type]
    client.on_event(outage)  # type: ignore[arg-type]


def outage(event: events.Disconnected) -> None:
    assert_type(event.data_age, float | None)


def history(event: events.Disconnected | events.Recovered) -> None:
    assert_type(event.number, int)


def messages(client: wsclient.WebSocketClient) -> None:
    assert_type(client.recv(), wsclient.Message)
    assert_type(client.recv(timeout=0.5), wsclient.Message)
    assert_type(client.recv_batch(10, timeout=1), list[wsclient.Message])
    assert_type(iter(client), Iterator[wsclient.Message])
    for message in client:
        assert_type(message, wsclient.Message)
        assert_type(message.channel, str)
        assert_type(message.type, str)
        assert_type(message.sequence, int | None)
        assert_type(message.raw, bytes)
        assert_type(message.data, Any)
        assert_type(message.decode(Trade), Any)
        assert_type(message.trades(), list[wsclient.Trade] | None)
        assert_type(message.quote(), wsclient.Quote | None)
        assert_type(message.book_update(), wsclient.PlainBookUpdate | None)
        for trade in message.trades() or ():
            assert_type(trade.price, Decimal)
            assert_type(trade.side, Literal["buy", "sell"] | None)
        envelope = wsclient.Envelope.of(message)
        assert_type(envelope, wsclient.Envelope)
        assert_type(envelope.to_json(), str)
        assert_type(envelope.to_msgpack(), bytes)
        assert_type(wsclient.Envelope.from_json("{}").message(wsclient.Kraken()), wsclient.Message)
        assert_type(message.time, int | None)
        assert_type(message.time_utc, datetime | None)
        assert_type(message.received_at, int)
        assert_type(message.received_at_utc, datetime)
        assert_type(message.connection_id, int)
        assert_type(message.copy(), wsclient.Message)
        if message.gap is not None:
            assert_type(message.gap, wsclient.Gap)
            assert_type(message.gap.reason, str)
            assert_type(message.gap.missed, int | None)
            assert_type(message.gap.since, int | None)
    client.reader("a", decode=Trade)
    client.reader("a", decode={"a": Trade, "b": None})
    client.reader("a", decode=lambda channel: Trade)
    with client.reader("a", queue_size=7, overflow="conflate", timeout=1) as reader:
        assert_type(reader, wsclient.Reader)
        assert_type(reader.recv(), wsclient.Message)
        assert_type(reader.recv_batch(), list[wsclient.Message])
        assert_type(next(iter(reader)), wsclient.Message)
        assert_type(reader.collect(seconds=1), wsclient.Collected)
        reader.close(timeout=1)


def to_the_venue(client: wsclient.WebSocketClient) -> None:
    client.send("text")
    client.send(b"bytes")
    client.send({"op": "ping"})
    assert_type(client.request({"op": "time"}, timeout=5), Any)


def books(client: wsclient.WebSocketClient) -> None:
    book = client.order_book("BTC/USD", verify_checksum=False, timeout=5, depth=25)
    book.show()
    book.show(depth=3, interval=0.5)
    assert_type(book, wsclient.OrderBook)
    assert_type(book.channel, str)
    assert_type(book.best_bid, wsclient.Level | None)
    assert_type(book.best(max_age=2.0), tuple[wsclient.Level | None, wsclient.Level | None])
    assert_type(book.best_ask, wsclient.Level | None)
    assert_type(book.mid, Decimal | None)
    assert_type(book.spread, Decimal | None)
    assert_type(book.bids(), list[wsclient.Level])
    assert_type(book.asks(10, stale_ok=True), list[wsclient.Level])
    assert_type(book.is_synced, bool)
    assert_type(book.is_lost, bool)
    assert_type(book.sequence, int | None)
    assert_type(book.received_at, int | None)
    book.wait_synced(timeout=1)
    book.close()
    own = wsclient.OrderBook("kraken", "book:BTC/USD", depth=10)
    assert_type(own.apply(client.recv()), bool)
    assert_type(own.take_snapshot({}), bool)
    price, quantity = own.bids()[0]
    assert_type(price, Decimal)
    assert_type(quantity, Decimal)


def what_happens(client: wsclient.WebSocketClient) -> None:
    assert_type(client.events(events.Disconnected, events.Recovered), wsclient.EventStream)
    stream = client.events()
    assert_type(stream, wsclient.EventStream)
    assert_type(stream.dropped, int)
    assert_type(stream.recv(timeout=1), events.Event)
    for event in stream:
        assert_type(event, events.Event)
        assert_type(event.connection_id, int)
        if isinstance(event, events.Disconnected):
            assert_type(event.reason, str)
        if isinstance(event, events.Rejected):
            assert_type(event.channel, str)


def figures(client: wsclient.WebSocketClient) -> None:
    stats = client.stats()
    assert_type(stats, wsclient.Stats)
    assert_type(stats.name, str)
    assert_type(stats.state, str)
    assert_type(stats.messages, int)
    assert_type(stats.queues, Mapping[str, wsclient.QueueStats])
    assert_type(stats.channels, Mapping[str, wsclient.ChannelStats])
    collector = PrometheusCollector(client)
    collector.add(client)
    collector.remove(client)


def examined() -> None:
    found = wsclient.diagnose("wss://venue.example/", dialect="kraken", subscribe="a", timeout=5)
    assert_type(found, wsclient.Diagnosis)
    assert_type(found.is_healthy, bool)
    assert_type(found.checks, tuple[wsclient.Check, ...])
    assert_type(found.client, str)
    assert_type(found.table(), str)
    assert_type(found.routes, tuple[wsclient.RouteDiagnosis, ...])
    assert_type(found.routes[0].name, str)
    assert_type(found.routes[0].checks, tuple[wsclient.Check, ...])


def errors(error: wsclient.WSClientError) -> None:
    assert_type(error.fresh(), wsclient.WSClientError)
    if isinstance(error, wsclient.SubscriptionRejected):
        assert_type(error.failed, dict[str, str])
    if isinstance(error, wsclient.HandshakeRejected):
        assert_type(error.status, int)
        assert_type(error.retry_after, float | None)
        assert_type(error.excerpt, bytes)
    if isinstance(error, wsclient.ConnectionLost):
        assert_type(error.code, int)
        assert_type(error.reason, str)
    if isinstance(error, wsclient.ConnectError):
        assert_type(error.attempts, int)
    if isinstance(error, wsclient.RequestRejected):
        assert_type(error.reply, object)


class Acme(Dialect):
    """A dialect as users write them."""

    name = "acme"
    limits = Limits(connects=(10, 60.0))

    def read(self, message: Any) -> Item | Sequence[Item]:
        if message["type"] == "subscribed":
            return Ack(channel=message["channel"])
        return Message(message["channel"], "update", message.get("sequence"))


def found() -> None:
    assert_type(wsclient.dialects.find("kraken"), Dialect)
    assert_type(wsclient.dialects.NAMES, tuple[str, ...])
    assert_type(wsclient.dialects.Bybit(), Bybit)
    wsclient.dialects.Bibyt()  # type: ignore[attr-defined]
    assert_type(Bybit(sequenced=True), Bybit)


def outside_of_all(error: wsclient.errors.ClientClosed) -> None:
    """Use names that are not in ``__all__``, and modules that nothing here imports."""
    assert_type(wsclient.Ack(), Ack)
    assert_type(wsclient.Bybit(), Bybit)
    assert_type(wsclient.Rate(1.0, 2.0, 3.0), wsclient.stats.Rate)
    assert_type(wsclient.Options(), wsclient.options.Options)
    assert_type(error, wsclient.ClientClosed)
    wsclient.conect()  # type: ignore[attr-defined]


def framed(client: wsclient.WebSocketClient) -> None:
    collected = client.collect(seconds=1.5, count=10)
    assert_type(collected, wsclient.Collected)
    assert_type(collected[0], wsclient.Message)
    assert_type(collected[1:], wsclient.Collected)
    assert_type(collected.to_polars(), dict[str, polars.DataFrame])
    assert_type(collected.to_polars("trades", decimal=True), polars.DataFrame)
    collected.to_pandas("trade")  # type: ignore[call-overload]
    with client.frame("a", maxlen=10, timeout=1, depth=5) as frame:
        assert_type(frame, wsclient.RollingFrame)
        assert_type(frame.to_polars(), polars.DataFrame)
        assert_type(frame.to_polars("quotes"), polars.DataFrame)
        frame.to_pandas("quote")  # type: ignore[arg-type]


class Handler(wsclient.WebSocketHandler):
    """A handler as users write them."""

    def process_market_data(self, data: Any) -> None:
        assert_type(self.is_connected, bool)
        assert_type(self.subscriptions, dict[str, wsclient.Subscription])
        assert_type(self.subscribe("a"), dict[str, str])

    def process_gap(self, channel: str, gap: wsclient.Gap) -> None:
        assert_type(gap.missed, int | None)


def handled() -> None:
    handler = Handler({"websocket_uri": "wss://venue.example/"})
    handler.connect()
    handler.run()
    handler.close()


def tested() -> None:
    with FakeVenue("kraken") as venue:
        assert_type(venue, FakeVenue)
        assert_type(venue.url, str)
        assert_type(venue.publish("ticker:BTC/USD", bid=1), int)
