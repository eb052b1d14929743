"""One client has channels of all routes of a venue."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from support.resting import rest
from wsclient import WebSocketClient
from wsclient.events import Recovered, RouteFailed
from wsclient.testing import FakeVenue, Feed, Peer, Route, venues
from wsclient.testing.market import Depth
from wsclient.testing.protocols import Payload, as_object, encode

GIVEN = {"api_key": "a", "secret": "c2VjcmV0", "passphrase": "p"}
LISTEN_KEY = "k" * 64
#: Two routes of the generic protocol.
TWO = {"spot": Route("/v1/spot"), "perp": Route("/v1/perp")}


class FeedsDialect(wsclient.Generic):
    """The generic protocol, whose requests named ``order`` belong to ``perp``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(routes=["spot", "perp"], limits=wsclient.Limits(connects=None), **options)

    def request_route(self, payload: Any, url: str) -> str:
        is_order = isinstance(payload, dict) and payload.get("type") == "order"
        return (
            "perp" if is_order and self.default_route(url) else super().request_route(payload, url)
        )


def routes_of(venue: FakeVenue) -> list[str]:
    """Return the route of each live connection, in alphabetical order."""
    return sorted(str(peer.route) for peer in venue.live)


def at(venue: FakeVenue, route: str) -> Peer:
    """Return the only live connection of a route."""
    (peer,) = (peer for peer in venue.live if peer.route == route)
    return peer


def logins(peer: Peer) -> int:
    return sum(as_object(r).get("op") in ("login", "auth") for r in peer.received)


@pytest.fixture
def two() -> Iterator[FakeVenue]:
    with FakeVenue(routes=TWO) as venue:
        yield venue


def client_at(venue: FakeVenue, route: str = "spot", **options: Any) -> WebSocketClient:
    given = {"dialect": FeedsDialect(), "retry_delay": 0.01, "max_retry_delay": 0.05, **options}
    return wsclient.connect(venue.route_url(route), **given)


# The venues


def test_binance_futures_of_all_routes() -> None:
    with (
        FakeVenue("binance_futures") as venue,
        wsclient.connect(venue.url, dialect="binance_futures") as client,
    ):
        streams = ["btcusdt@depth@100ms", "btcusdt@aggTrade", LISTEN_KEY]
        client.subscribe(*streams)
        assert routes_of(venue) == ["market", "private", "public"]
        assert [venue.subscribers(name)[0].route for name in streams] == [
            "public",
            "market",
            "private",
        ]
        for name in streams[1:]:
            venue.publish(name, e="aggTrade", a=1)
        assert {client.recv(timeout=5).channel for _ in "ab"} == set(streams[1:])
        assert {info.route for info in client.connections} == {"public", "market", "private"}


def test_bybit_of_all_routes() -> None:
    names = ["spot", "linear", "inverse", "option"]
    channels = [f"{name}:publicTrade.BTCUSDT" for name in names]
    with FakeVenue("bybit") as venue:
        address = venue.route_url("spot")
        with wsclient.connect(address, dialect="bybit", credentials=venue.credentials) as client:
            client.subscribe(*channels, "order")
            assert routes_of(venue) == sorted([*names, "private"])
            assert [logins(peer) for peer in venue.live if peer.route != "private"] == [0] * 4
            assert logins(at(venue, "private")) == 1
            for channel in channels:
                venue.publish(channel, data=[{"of": channel}])
            found = {m.channel: m.data["data"][0]["of"] for m in client_messages(client, 4)}
            assert found == {channel: channel for channel in channels}


def client_messages(client: WebSocketClient, count: int) -> list[wsclient.Message]:
    return [client.recv(timeout=10) for _ in range(count)]


def test_okx_logs_in_where_that_is_needed() -> None:
    with FakeVenue("okx") as venue:
        address = venue.route_url("public")
        with wsclient.connect(address, dialect="okx", credentials=venue.credentials) as client:
            client.subscribe("tickers:BTC-USDT", "candle1m:BTC-USDT", "orders:BTC-USDT")
            assert routes_of(venue) == ["business", "private", "public"]
            found = {str(peer.route): logins(peer) for peer in venue.live}
            assert found == {"public": 0, "private": 1, "business": 1}


def test_okx_without_credentials_has_the_public_channels_of_two_routes() -> None:
    with (
        FakeVenue("okx") as venue,
        wsclient.connect(venue.route_url("public"), dialect="okx") as client,
    ):
        client.subscribe("tickers:BTC-USDT", "candle1m:BTC-USDT")
        with pytest.raises(wsclient.SubscriptionRejected, match="needs credentials"):
            client.subscribe("orders:BTC-USDT")
        assert routes_of(venue) == ["business", "public"]


def test_kraken_of_all_routes() -> None:
    with (
        rest(lambda _: {"error": [], "result": {"token": "t"}}) as server,
        FakeVenue("kraken") as venue,
    ):
        dialect = wsclient.Kraken(rest=server.url)
        given = {"api_key": "a", "secret": "c2VjcmV0"}
        address = venue.route_url("public")
        with wsclient.connect(address, dialect=dialect, credentials=given) as client:
            client.subscribe("trade:BTC/USD", "executions", "level3:BTC/USD")
            assert routes_of(venue) == ["auth", "l3", "public"]
            venue.publish("level3:BTC/USD", bids=[])
            assert client.recv(timeout=5).channel == "level3:BTC/USD"


# Addresses given by hand


def test_an_address_without_a_route_has_one_connection(two: FakeVenue) -> None:
    dialect = FeedsDialect()
    with wsclient.connect(two.url + "elsewhere", dialect=dialect) as client:
        client.subscribe("a", "b")
        assert len(two.live) == 1
        with pytest.raises(wsclient.SubscriptionRejected, match="does not show where the route"):
            client.subscribe("perp:a")
        two.publish("a")
        assert client.recv(timeout=5).channel == "a"


def test_the_route_of_the_address_carries_what_names_no_route(two: FakeVenue) -> None:
    with client_at(two, "perp") as client:
        client.subscribe("a")
        assert routes_of(two) == ["perp"]
        assert two.attempts == 1


def test_an_address_from_a_function_is_one_route(two: FakeVenue) -> None:
    with wsclient.connect(lambda: two.route_url("spot"), dialect=FeedsDialect()) as client:
        client.subscribe("a", "perp:b")
        assert [peer.subscriptions for peer in two.live] == [{"a", "b"}]


# The default route


def test_connect_opens_the_default_route(two: FakeVenue) -> None:
    with client_at(two):
        assert routes_of(two) == ["spot"]


def test_a_default_route_without_channels_is_closed_once_another_is_open(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("perp:a")
        two.wait_for(lambda venue: routes_of(venue) == ["perp"])
        until(lambda: [info.route for info in client.connections] == ["perp"])
        client.subscribe("b")
        assert routes_of(two) == ["perp", "spot"]


def test_the_last_connection_stays_open_without_channels(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("a", "perp:b")
        client.unsubscribe("a", "perp:b")
        until(lambda: len(client.connections) == 1)
        assert client.is_connected
        client.send({"type": "ping"})


# What cannot be routed


@pytest.mark.parametrize("how", ["subscribe", "reader", "on", "order_book"])
def test_what_no_route_carries_is_refused_with_the_reason(how: str) -> None:
    with (
        FakeVenue("bybit") as venue,
        wsclient.connect(venue.route_url("private"), dialect="bybit") as client,
    ):
        calls: dict[str, Callable[[], object]] = {
            "subscribe": lambda: client.subscribe("publicTrade.BTCUSDT"),
            "reader": lambda: client.reader("publicTrade.BTCUSDT"),
            "on": lambda: client.on("publicTrade.BTCUSDT", print),
            "order_book": lambda: client.order_book("BTCUSDT"),
        }
        with pytest.raises(wsclient.SubscriptionRejected, match="several routes of Bybit"):
            calls[how]()
        assert client.subscriptions == {}


# send() and request()


def test_a_message_goes_to_the_route_that_takes_it(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("a")
        client.send({"type": "order"})
        until(lambda: routes_of(two) == ["perp", "spot"])
        assert at(two, "perp").expect_json() == {"type": "order"}
        client.subscribe("perp:b")
        client.unsubscribe("perp:b")
        client.send({"type": "order"})
        assert routes_of(two) == ["perp", "spot"], "what was opened for messages stays open"


def test_a_request_opens_the_route_that_takes_it() -> None:
    class Kraken(wsclient.Kraken):
        def url_request(self, url: str, credentials: Any) -> None:
            return None

    class Answering(type(venues.find("kraken")())):  # type: ignore[misc]
        def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
            request = as_object(payload)
            if request.get("method") == "add_order":
                yield encode({**request, "success": True, "result": {"route": peer.route}})
            yield from super().received(peer, payload)

    with (
        FakeVenue(Answering()) as venue,
        wsclient.connect(venue.route_url("public"), dialect=Kraken()) as client,
    ):
        answer = client.request({"method": "add_order", "params": {}})
        assert answer["result"] == {"route": "auth"}


def test_a_message_for_a_route_that_does_not_open_ends_with_connect_timeout(
    two: FakeVenue,
) -> None:
    with client_at(two, connect_timeout=0.5) as client:
        client.subscribe("a")
        two.fail_handshake("deaf")
        with pytest.raises(wsclient.ConnectTimeout, match="route 'perp'"):
            client.send({"type": "order"})
        client.send({"type": "ping"})


def test_a_message_for_a_route_that_is_down_is_not_sent_elsewhere(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("a", "perp:b")
        two.refuse(503, route="perp", times=1000)
        at(two, "perp").rst()
        until(
            lambda: [info.route for info in client.connections if info.state == "open"] == ["spot"]
        )
        with pytest.raises(wsclient.NotConnected, match="the route 'perp' has no open connection"):
            client.send({"type": "order"})
        client.send({"type": "ping"})
        assert client.is_connected


# A route that fails


def test_a_refused_login_ends_the_private_route_alone() -> None:
    given = dict(GIVEN)
    with FakeVenue("okx") as venue:
        address = venue.route_url("public")
        with wsclient.connect(address, dialect="okx", credentials=lambda: given) as client:
            events = client.events(RouteFailed)
            client.subscribe("tickers:BTC-USDT")
            with pytest.raises(wsclient.SubscriptionRejected, match="refused the login"):
                client.subscribe("orders:BTC-USDT")
            failed = next(events)
            assert isinstance(failed, RouteFailed)
            assert failed.route == "private"
            assert list(client.subscriptions) == ["tickers:BTC-USDT"]
            venue.publish("tickers:BTC-USDT", last="1")
            message = client.recv(timeout=5)
            assert (message.channel, message.gap) == ("tickers:BTC-USDT", None)
            given |= venue.credentials or {}
            client.subscribe("orders:BTC-USDT")
            assert routes_of(venue) == ["private", "public"]


def test_a_401_ends_the_route_alone(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("a")
        two.refuse(401, route="perp")
        with pytest.raises(wsclient.SubscriptionRejected, match="401"):
            client.subscribe("perp:b")
        two.refuse(401, route="perp")
        with pytest.raises(wsclient.ConnectError, match="401"):
            client.send({"type": "order"})
        client.subscribe("perp:b")
        assert routes_of(two) == ["perp", "spot"]


def test_channels_of_a_route_that_fails_later_are_lost(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("a", "perp:b")
        two.publish("perp:b")
        assert client.recv(timeout=5).channel == "perp:b"
        two.refuse(403, route="perp")
        at(two, "perp").rst()
        lost = client.recv(timeout=5)
        assert (lost.channel, lost.type) == ("perp:b", "lost")
        assert lost.gap is not None
        assert list(client.subscriptions) == ["a"]
        client.subscribe("perp:b")
        two.publish("perp:b")
        assert client.recv(timeout=5).channel == "perp:b"


def test_the_client_fails_with_its_last_route(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("a", "perp:b")
        for route in ("perp", "spot"):
            two.refuse(403, route=route)
        at(two, "perp").rst()
        until(lambda: list(client.subscriptions) == ["a"])
        at(two, "spot").rst()
        with pytest.raises(wsclient.ConnectError, match="403"):
            list(client)


def test_a_route_that_is_down_delays_no_other(two: FakeVenue) -> None:
    with client_at(two, retry_delay=1000.0, max_retry_delay=1000.0) as client:
        two.refuse(503, route="perp", times=1000)
        call = Call(client.subscribe, "perp:b", timeout=60.0)
        two.wait_for(lambda venue: venue.attempts == 2)
        for _ in range(3):
            client.subscribe("a", timeout=10.0)
            two.publish("a")
            assert client.recv(timeout=5).channel == "a"
            at(two, "spot").rst()
            until(lambda: routes_of(two) == ["spot"] and bool(two.subscribers("a")))
        assert call.is_alive()
        client.close()
        with pytest.raises(wsclient.ClientClosed):
            call.result()


# Reconnects, order books, unsubscribes


def test_others_stream_without_marks_while_one_route_reconnects(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("a", "perp:b")
        events = client.events(Recovered)
        for kill in range(3):
            for channel in ("spot:a", "perp:b"):
                two.publish(channel)
            at(two, "perp").rst()
            two.publish("spot:a")
            two.publish("perp:b")
            next(events)
            assert two.publish("spot:a") == 3 * kill + 3
            two.publish("perp:b")
        found = client_messages(client, 15)
        of_spot = [m for m in found if m.channel == "a"]
        assert [m.sequence for m in of_spot] == list(range(1, 10))
        assert [m.gap for m in of_spot] == [None] * 9
        assert [m.gap.missed for m in found if m.gap] == [1, 1, 1]


def test_a_channel_of_another_route_comes_back(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("a", "perp:b")
        for _ in range(3):
            client.unsubscribe("perp:b")
            two.wait_for(lambda venue: routes_of(venue) == ["spot"])
            client.subscribe("perp:b")
            two.publish("perp:b")
            message = client.recv(timeout=5)
            assert (message.channel, message.gap) == ("perp:b", None)


def test_the_same_name_on_two_routes_are_two_channels(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("a", "perp:a")
        two.publish("perp:a", of="perp")
        two.publish("spot:a", of="spot")
        found = {m.channel: m.data["of"] for m in client_messages(client, 2)}
        assert found == {"a": "spot", "perp:a": "perp"}


def test_two_names_of_one_channel_are_refused(two: FakeVenue) -> None:
    with client_at(two) as client:
        client.subscribe("a")
        with pytest.raises(wsclient.SubscriptionRejected, match="the same channel as 'a'"):
            client.subscribe("spot:a")


def test_order_books_of_several_routes() -> None:
    symbols = ["BTCUSDT", "linear:BTCUSDT", "inverse:ETHUSDT"]
    with FakeVenue("bybit") as venue:
        feeds = {
            f"{s if ':' in s else 'spot:' + s}".replace(":", ":orderbook.50."): 200.0
            for s in symbols
        }
        with (
            Feed(venue, feeds) as feed,
            wsclient.connect(
                venue.route_url("spot"), dialect=wsclient.Bybit(sequenced=True)
            ) as client,
        ):
            books = [client.order_book(symbol) for symbol in symbols]
            assert routes_of(venue) == ["inverse", "linear", "spot"]
            feed.wait(200)
            feed.stop()
            for book, channel in zip(books, feeds, strict=True):
                last = venue.sequence(channel)
                until(functools.partial(_has, book, last))
                assert book.is_synced
                event = feed.listings[channel].snapshot()
                assert isinstance(event, Depth)
                assert [tuple(level) for level in book.bids()] == list(event.bids)


def _has(book: wsclient.OrderBook, number: int) -> bool:
    return book.sequence == number
