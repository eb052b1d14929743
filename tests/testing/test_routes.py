"""Routes: paths of one venue, each with its own channels."""

import json

import pytest
from websockets.exceptions import InvalidStatus

from wsclient.testing import FakeVenue, Route, venues

TWO = {
    "prices": Route("/v1/prices", without=("orders",)),
    "account": Route("/account", ("orders",)),
}
#: For each venue: a route, a channel that it carries, and one that it does not.
ROUTED = [
    ("binance_futures", "public", "btcusdt@depth@100ms", "btcusdt@aggTrade"),
    ("binance_futures", "public", "!bookTicker", "!ticker@arr"),
    ("binance_futures", "market", "btcusdt@markPrice@1s", "btcusdt@trade"),
    ("binance_futures", "market", "tradingSession", "!bookTicker"),
    ("binance_futures", "private", "a" * 64, "btcusdt@aggTrade"),
    ("bybit", "linear", "orderbook.50.BTCUSDT", "order"),
    ("bybit", "private", "order.linear", "publicTrade.BTCUSDT"),
    ("okx", "public", "books:BTC-USDT", "candle1m:BTC-USDT"),
    ("okx", "business", "trades-all:BTC-USDT", "trades:BTC-USDT"),
    ("okx", "private", "orders:BTC-USDT", "orders-algo:BTC-USDT"),
    ("kraken", "public", "book:BTC/USD", "executions"),
    ("kraken", "auth", "balances", "book:BTC/USD"),
    ("kraken", "l3", "level3:BTC/USD", "book:BTC/USD"),
]


@pytest.fixture
def two():
    with FakeVenue(routes=TWO) as venue:
        yield venue


def ask(client, **request):
    client.send(json.dumps(request))
    return json.loads(client.recv(timeout=5))


def subscribe(client, channel):
    return ask(client, type="subscribe", channel=channel)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("v1/prices", "prices"),
        ("v1/prices/stream?streams=account", "prices"),
        ("account", "account"),
        ("", None),
        ("accounts", None),
    ],
)
def test_the_path_of_a_connection_says_its_route(two, dial_at, path, route):
    dial_at(two.url + path)
    assert two.accept().route == route


def test_a_route_refuses_the_channels_of_others(two, dial_at):
    client = dial_at(two.route_url("account"))
    assert subscribe(client, "orders")["status"] == "success"
    refused = subscribe(client, "a")
    assert refused["code"] == "route"
    assert refused["error"] == "the route account does not carry a: connect to prices"
    assert two.accept().subscriptions == {"orders"}


def test_a_connection_without_a_route_has_all_channels(two, dial_at):
    client = dial_at(two.url)
    for channel in ("orders", "a"):
        assert subscribe(client, channel)["status"] == "success"


def test_the_address_of_a_route(two):
    assert two.route_url("prices") == two.url + "v1/prices"
    with pytest.raises(ValueError, match="no route 'x'; its routes: prices, account"):
        two.route_url("x")


def test_a_channel_of_two_routes_is_published_for_one_of_them_or_for_both(dial_at):
    with FakeVenue("bybit") as venue:
        routes = ("spot", "linear")
        clients = [dial_at(venue.route_url(route)) for route in routes]
        for client in clients:
            assert ask(client, op="subscribe", args=["tickers.A"])["success"]
        assert venue.publish("linear:tickers.A", data="of linear") == 1
        assert venue.publish("tickers.A", data="of both") == 1
        assert [json.loads(clients[1].recv(5))["data"] for _ in "ab"] == ["of linear", "of both"]
        assert json.loads(clients[0].recv(5))["data"] == "of both"
        assert [peer.route for peer in venue.subscribers("linear:tickers.A")] == ["linear"]


def test_a_channel_may_be_called_as_a_route(dial_at):
    with FakeVenue(routes=TWO) as venue:
        subscribe(dial_at(venue.route_url("prices")), "account")
        venue.publish("account")
        assert venue.journal.published[0].route is None
        assert venue.journal.published[0].connections == (1,)


def test_the_journal_has_route_and_connections(dial_at):
    with FakeVenue("bybit") as venue:
        for route in ("spot", "linear", "linear"):
            ask(dial_at(venue.route_url(route)), op="subscribe", args=["tickers.A"])
        venue.publish("linear:tickers.A", data=1)
        venue.publish("tickers.A", data=1)
        linear, both = venue.journal.published
        assert (linear.channel, linear.route, linear.sequence) == ("linear:tickers.A", "linear", 1)
        assert linear.connections == (2, 3)
        assert (both.route, both.connections) == (None, (1, 2, 3))


def test_a_snapshot_of_one_route(dial_at):
    protocol = venues.find("bybit")()
    protocol.snapshots = {"tickers.A": "of others", "linear:tickers.A": "of linear"}
    with FakeVenue(protocol) as venue:
        for route, snapshot in (("linear", "of linear"), ("spot", "of others")):
            client = dial_at(venue.route_url(route))
            ask(client, op="subscribe", args=["tickers.A"])
            assert client.recv(timeout=5) == snapshot


def test_a_channel_can_be_refused_on_one_route(dial_at):
    with FakeVenue("bybit") as venue:
        venue.refuse_channel("linear:tickers.A", "closed")
        for route, is_accepted in (("linear", False), ("spot", True)):
            client = dial_at(venue.route_url(route))
            assert ask(client, op="subscribe", args=["tickers.A"])["success"] is is_accepted


def test_the_channels_of_a_venue_may_name_routes(dial_at):
    with FakeVenue("bybit", channels=["linear:tickers.A"]) as venue:
        for route, is_accepted in (("linear", True), ("spot", False)):
            client = dial_at(venue.route_url(route))
            assert ask(client, op="subscribe", args=["tickers.A"])["success"] is is_accepted


def test_handshakes_of_one_route_can_be_refused(two, dial_at):
    two.refuse(401, route="account", times=2)
    dial_at(two.route_url("prices"))
    for _ in range(2):
        with pytest.raises(InvalidStatus) as caught:
            dial_at(two.route_url("account"))
        assert caught.value.response.status_code == 401
    dial_at(two.route_url("account"))
    assert [peer.route for peer in two.live] == ["prices", "account"]


@pytest.mark.parametrize(("name", "route", "carried", "other"), ROUTED)
def test_the_routes_of_a_venue(name, route, carried, other):
    routes = venues.find(name).routes
    assert routes[route].carries(carried)
    assert not routes[route].carries(other)
    assert any(each.carries(other) for each in routes.values())


# How each venue refuses a channel of another route


def test_binance_acknowledges_a_stream_of_another_route_and_never_sends_it(dial_at):
    with FakeVenue("binance_futures") as venue:
        client = dial_at(venue.url + "market/stream")
        streams = ["btcusdt@aggTrade", "btcusdt@depth"]
        assert ask(client, method="SUBSCRIBE", params=streams, id=1) == {"result": None, "id": 1}
        assert venue.accept().subscriptions == {"btcusdt@aggTrade"}


def test_an_address_of_binance_futures_without_a_route_is_public(dial_at):
    with FakeVenue("binance_futures") as venue:
        dial_at(venue.url + "stream")
        assert venue.accept().route == "public"


def test_bybit_has_no_handler_for_a_channel_of_another_route(dial_at):
    with FakeVenue("bybit") as venue:
        client = dial_at(venue.route_url("linear"))
        answer = ask(client, op="subscribe", args=["tickers.A", "order"], req_id="7")
        assert answer["success"] is False
        assert answer["ret_msg"] == "error:handler not found,topic:order"
        assert answer["req_id"] == "7"


def test_okx_names_url_and_channel(dial_at):
    with FakeVenue("okx") as venue:
        client = dial_at(venue.route_url("public"))
        answer = ask(client, op="subscribe", args=[{"channel": "candle1m", "instId": "A"}])
        assert answer["code"] == "60018"
        assert answer["msg"].startswith("Wrong URL or channel:candle1m,instId:A doesn't exist")


@pytest.mark.parametrize(
    ("route", "params", "reason"),
    [
        ("public", {"channel": "executions"}, "Private data and trading are unavailable"),
        ("auth", {"channel": "book", "symbol": ["A"]}, "Public channels not available"),
    ],
)
def test_kraken_names_the_other_endpoint(dial_at, route, params, reason):
    with FakeVenue("kraken") as venue:
        client = dial_at(venue.route_url(route))
        client.recv(timeout=5)  # the greeting
        answer = ask(client, method="subscribe", params=params, req_id=7)
        assert answer["success"] is False
        assert answer["error"].startswith(reason)
