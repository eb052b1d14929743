"""The routes of the venues: which one carries a channel, and where it is."""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any

import pytest

from support.venues import VENUES
from wsclient import Credentials, Dialect, WebSocketClient
from wsclient.dialects import OKX, BinanceFutures, Bybit, Generic, Kraken, Kucoin
from wsclient.errors import ConfigurationError
from wsclient.testing import FakeVenue

BYBIT, OKX_AT, KRAKEN = "wss://stream.bybit.com/v5", "wss://ws.okx.com:8443/ws/v5", "kraken.com/v2"
FSTREAM = "wss://fstream.binance.com"
LOCAL = "ws://127.0.0.1:8765"
KEY = "k" * 64
FEEDS = Generic(routes=["spot", "perp"])

#: A dialect, an address, and its route.
DEFAULTS: list[tuple[Dialect, str, str]] = [
    *[
        (Bybit(), f"{BYBIT}/public/{name}", name)
        for name in ("spot", "linear", "inverse", "option", "spread", "rfq")
    ],
    (Bybit(), f"{BYBIT}/public/misc/status", "status"),
    (Bybit(), f"{BYBIT}/private?max_active_time=30s", "private"),
    (Bybit(), f"{BYBIT}/trade", "trade"),
    (Bybit(), f"{LOCAL}/v5/public/linear", "linear"),
    (Bybit(), "wss://proxy.example/bybit/v5/public/linear/", "linear"),
    (Bybit(), f"{BYBIT}/public/", ""),
    (Bybit(), LOCAL, ""),
    (OKX(), f"{OKX_AT}/public", "public"),
    (OKX(), f"{OKX_AT}/private", "private"),
    (OKX(), f"{OKX_AT}/business", "business"),
    (OKX(), "wss://wspap.okx.com:8443/ws/v5/business?brokerId=9999", "business"),
    (OKX(), f"{LOCAL}/ws/v5/private", "private"),
    (OKX(), f"{LOCAL}/public", ""),
    (Kraken(), f"wss://ws.{KRAKEN}", "public"),
    (Kraken(), f"wss://ws-auth.{KRAKEN}", "auth"),
    (Kraken(), f"wss://ws-l3.{KRAKEN}", "l3"),
    (Kraken(), f"wss://beta-ws-auth.{KRAKEN}", "auth"),
    (Kraken(), f"{LOCAL}/ws/v2", "public"),
    (Kraken(), f"{LOCAL}/a/ws-auth/v2", "auth"),
    (Kraken(), f"{LOCAL}/v2", ""),
    (Kraken(), f"{LOCAL}/ws", ""),
    (Kraken(), "wss://uws.kraken.com/v2/public", ""),
    (Kraken(), "wss://ws.notkraken.com/v2", ""),
    (BinanceFutures(), FSTREAM, "public"),
    (BinanceFutures(), f"{FSTREAM}/market/ws", "market"),
    (BinanceFutures(), f"{FSTREAM}/ws/btcusdt@aggTrade", "market"),
    (BinanceFutures(), f"{FSTREAM}/private/stream?listenKey=k", "private"),
    (BinanceFutures(), f"{LOCAL}/", "public"),
    (BinanceFutures(), "wss://dstream.binance.com/ws", ""),
    (BinanceFutures(), f"{FSTREAM}/pm/ws/{KEY}", ""),
    (FEEDS, f"{LOCAL}/feed/perp", "perp"),
    (FEEDS, f"{LOCAL}/feed", ""),
    (Generic(), f"{LOCAL}/spot", ""),
    (Kucoin(), "wss://ws-api-spot.kucoin.com/", ""),
]

#: A dialect, a channel, and the route that carries it, at any address that shows a route.
ROUTES: list[tuple[Dialect, str, str]] = [
    (Bybit(), "linear:publicTrade.BTCUSDT", "linear"),
    (Bybit(), "inverse:orderbook.50.BTCUSD", "inverse"),
    (Bybit(), "option:publicTrade.BTC", "option"),
    (Bybit(), "spot:tickers.BTCUSDT", "spot"),
    (Bybit(), "spread:orderbook.25.SOLUSDT_SOL/USDT", "spread"),
    (Bybit(), "order", "private"),
    (Bybit(), "order.linear", "private"),
    (Bybit(), "execution.fast.spot", "private"),
    (Bybit(), "private:wallet", "private"),
    (Bybit(), "dcp.future", "private"),
    (Bybit(), "spread.order", "private"),
    (Bybit(), "rfq.open.quotes", "private"),
    (Bybit(), "rfq.open.public.trades", "rfq"),
    (Bybit(), "system.status", "status"),
    (OKX(), "tickers:BTC-USDT", "public"),
    (OKX(), "books:BTC-USDT", "public"),
    (OKX(), "mark-price:BTC-USDT", "public"),
    (OKX(), "liquidation-orders", "public"),
    (OKX(), "books-l2-tbt:BTC-USDT", "public_login"),
    (OKX(), "orders:BTC-USD", "private"),
    (OKX(), "account", "private"),
    (OKX(), "liquidation-warning", "private"),
    (OKX(), "orders-algo", "business"),
    (OKX(), "algo-advance", "business"),
    (OKX(), "candle1m:BTC-USDT", "business"),
    (OKX(), "mark-price-candle1D:BTC-USD-SWAP", "business"),
    (OKX(), "index-candle30m:BTC-USD", "business"),
    (OKX(), "sprd-candle1D:BTC-USDT_BTC-USDT-SWAP", "business"),
    (OKX(), "sprd-orders", "business"),
    (OKX(), "trades-all:BTC-USDT", "business"),
    (OKX(), "grid-orders-spot", "business"),
    (OKX(), "deposit-info", "business"),
    (Kraken(), "ticker:BTC/USD", "public"),
    (Kraken(), "instrument", "public"),
    (Kraken(), "executions", "auth"),
    (Kraken(), "balances", "auth"),
    (Kraken(), "level3:BTC/USD", "l3"),
    (BinanceFutures(), "btcusdt@depth@100ms", "public"),
    (BinanceFutures(), "btcusdt@aggTrade", "market"),
    (BinanceFutures(), "!markPrice@arr@1s", "market"),
    (BinanceFutures(), KEY, "private"),
    (FEEDS, "perp:ticker:BTC", "perp"),
    (FEEDS, "spot:A", "spot"),
]

#: A dialect, an address, a channel without a route in its name, and the route that carries it.
UNNAMED: list[tuple[Dialect, str, str, str]] = [
    (Bybit(), f"{BYBIT}/public/linear", "publicTrade.BTCUSDT", "linear"),
    (Bybit(), f"{BYBIT}/public/spot", "kline.1.BTCUSDT", "spot"),
    (Bybit(), f"{BYBIT}/public/option", "new.thing", "option"),
    (Bybit(), f"{BYBIT}/private", "new.thing", "private"),
    (Bybit(), LOCAL, "order", ""),
    (Bybit(), LOCAL, "publicTrade.BTCUSDT", ""),
    (Bybit(), LOCAL, "system.status", ""),
    (OKX(), f"{OKX_AT}/business", "new-channel:BTC-USDT", "business"),
    (OKX(), f"{OKX_AT}/public", "candles", "business"),
    (OKX(), LOCAL, "orders", ""),
    (Kraken(), f"{LOCAL}/v2", "executions", ""),
    (BinanceFutures(), "wss://dstream.binance.com", "btcusd_perp@aggTrade", ""),
    (FEEDS, f"{LOCAL}/spot", "ticker:A", "spot"),
    (FEEDS, f"{LOCAL}/perp", "market:A", "perp"),
    (FEEDS, LOCAL, "ticker:A", ""),
    (Generic(), f"{LOCAL}/spot", "perp:A", ""),
    (Kucoin(), "wss://ws-api-spot.kucoin.com/", "/spotMarket/tradeOrders", ""),
]

#: A dialect, the client's address, a route, and its address.
ADDRESSES: list[tuple[Dialect, str, str, str]] = [
    (Bybit(), f"{BYBIT}/public/spot", "linear", f"{BYBIT}/public/linear"),
    (Bybit(), f"{BYBIT}/private", "status", f"{BYBIT}/public/misc/status"),
    (Bybit(), f"{BYBIT}/public/misc/status", "trade", f"{BYBIT}/trade"),
    (Bybit(), f"{LOCAL}/x/v5/public/spot?a=b", "private", f"{LOCAL}/x/v5/private?a=b"),
    (OKX(), f"{OKX_AT}/public", "business", f"{OKX_AT}/business"),
    (OKX(), f"{OKX_AT}/public", "public_login", f"{OKX_AT}/public"),
    (
        OKX(),
        "wss://wspap.okx.com:8443/ws/v5/public?brokerId=9999",
        "private",
        "wss://wspap.okx.com:8443/ws/v5/private?brokerId=9999",
    ),
    (Kraken(), f"wss://ws.{KRAKEN}", "auth", f"wss://ws-auth.{KRAKEN}"),
    (Kraken(), f"wss://ws-auth.{KRAKEN}", "l3", f"wss://ws-l3.{KRAKEN}"),
    (Kraken(), f"wss://ws-l3.{KRAKEN}", "public", f"wss://ws.{KRAKEN}"),
    (Kraken(), f"wss://beta-ws.{KRAKEN}", "auth", f"wss://beta-ws-auth.{KRAKEN}"),
    (Kraken(), f"{LOCAL}/ws/v2", "l3", f"{LOCAL}/ws-l3/v2"),
    (BinanceFutures(), FSTREAM, "market", f"{FSTREAM}/market/stream"),
    (BinanceFutures(), f"{FSTREAM}/public/ws", "market", f"{FSTREAM}/market/stream"),
    (BinanceFutures(), f"{LOCAL}/p/market", "private", f"{LOCAL}/p/private/stream"),
    (
        BinanceFutures(),
        f"{FSTREAM}/stream?streams=a@depth&timeUnit=MICROSECOND",
        "market",
        f"{FSTREAM}/market/stream?timeUnit=MICROSECOND",
    ),
    (
        BinanceFutures(),
        f"{FSTREAM}/private/ws?listenKey={KEY}&events=A/B",
        "public",
        f"{FSTREAM}/public/stream",
    ),
    (FEEDS, f"{LOCAL}/feed/spot?a=b", "perp", f"{LOCAL}/feed/perp?a=b"),
]

#: A dialect, an address, a channel that it cannot have, and words of the reason.
REFUSED: list[tuple[Dialect, str, str, str]] = [
    (Bybit(), f"{BYBIT}/private", "publicTrade.BTCUSDT", "several routes.*'linear:publicTrade"),
    (Bybit(), f"{BYBIT}/trade", "orderbook.50.BTCUSDT", "several routes"),
    (Bybit(), f"{BYBIT}/public/spot", "liner:publicTrade.BTCUSDT", "no route 'liner'"),
    (Bybit(), LOCAL, "linear:publicTrade.BTCUSDT", "does not show where the route 'linear'"),
    (Bybit(), "wss://stream-demo.bybit.com/v5/private", "spot:tickers.A", "private channels only"),
    (Bybit(), "wss://stream-demo.bybit.com/v5/public/spot", "tickers.A", "private channels only"),
    (Kraken(), f"wss://beta-ws.{KRAKEN}", "level3:BTC/USD", "no beta address"),
    (FEEDS, LOCAL, "spot:A", "does not show where the route 'spot'"),
]

#: A dialect, an address, what is sent, and the route to which it goes.
SENT: list[tuple[Dialect, str, Any, str]] = [
    (Bybit(), f"{BYBIT}/public/spot", {"op": "order.create", "args": []}, "trade"),
    (Bybit(), f"{BYBIT}/public/spot", {"op": "ping"}, "spot"),
    (Bybit(), LOCAL, {"op": "order.create"}, ""),
    (OKX(), f"{OKX_AT}/public", {"op": "batch-orders", "args": []}, "private"),
    (OKX(), f"{OKX_AT}/public", {"op": "sprd-order", "args": []}, "business"),
    (OKX(), f"{OKX_AT}/business", {"op": "subscribe"}, "business"),
    (OKX(), LOCAL, {"op": "order"}, ""),
    (Kraken(), f"wss://ws.{KRAKEN}", {"method": "add_order", "params": {}}, "auth"),
    (Kraken(), f"wss://ws.{KRAKEN}", {"method": "ping"}, "public"),
    (Kraken(), f"{LOCAL}/v2", {"method": "add_order"}, ""),
    (BinanceFutures(), FSTREAM, {"method": "SUBSCRIBE", "params": ["a@aggTrade"]}, "market"),
    (BinanceFutures(), FSTREAM, {"method": "SUBSCRIBE", "params": ["a@aggTrade", KEY]}, "public"),
    (BinanceFutures(), FSTREAM, {"method": "LIST_SUBSCRIPTIONS"}, "public"),
    (BinanceFutures(), "wss://dstream.binance.com", {"params": ["a@aggTrade"]}, ""),
    (FEEDS, f"{LOCAL}/spot", {"type": "ping"}, "spot"),
]


def ids(rows: list[Any]) -> list[str]:
    return [" ".join(str(part) for part in (row[0].name, *row[1:])) for row in rows]


@pytest.mark.parametrize(("dialect", "url", "route"), DEFAULTS, ids=ids(DEFAULTS))
def test_the_route_of_an_address_that_was_given(dialect: Dialect, url: str, route: str) -> None:
    assert dialect.default_route(url) == route
    assert dialect.address(url, route) == url


@pytest.mark.parametrize(("dialect", "channel", "route"), ROUTES, ids=ids(ROUTES))
def test_a_channel_says_which_route_carries_it(dialect: Dialect, channel: str, route: str) -> None:
    """It is the same at each address that shows a route."""
    urls = [url for other, url, default in DEFAULTS if other.name == dialect.name and default]
    urls = [url for url in urls if not (route == "l3" and "beta" in url)]
    if dialect is FEEDS:
        urls = [f"{LOCAL}/feed/perp", f"{LOCAL}/spot"]
    assert {dialect.route(channel, url) for url in urls} == {route}
    for url in urls:
        address = dialect.address(url, route)
        assert dialect.default_route(address) == route.removesuffix("_login")


@pytest.mark.parametrize(("dialect", "url", "channel", "route"), UNNAMED, ids=ids(UNNAMED))
def test_any_other_channel_is_of_the_address_that_was_given(
    dialect: Dialect, url: str, channel: str, route: str
) -> None:
    assert dialect.route(channel, url) == route
    assert dialect.wire_name(channel) == channel


@pytest.mark.parametrize(("dialect", "url", "route", "address"), ADDRESSES, ids=ids(ADDRESSES))
def test_the_address_of_another_route(dialect: Dialect, url: str, route: str, address: str) -> None:
    assert dialect.address(url, route) == address


@pytest.mark.parametrize(("dialect", "url", "channel", "words"), REFUSED, ids=ids(REFUSED))
def test_a_channel_that_has_no_route_is_refused(
    dialect: Dialect, url: str, channel: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        dialect.route(channel, url)


@pytest.mark.parametrize(("dialect", "url", "payload", "route"), SENT, ids=ids(SENT))
def test_a_request_goes_to_the_route_that_takes_it(
    dialect: Dialect, url: str, payload: Any, route: str
) -> None:
    assert dialect.request_route(payload, url) == route


@pytest.mark.parametrize("payload", ["text", b"bytes", 5, None, [], {"op": 5, "method": ["a"]}])
@pytest.mark.parametrize("name", VENUES)
def test_what_is_not_understood_goes_to_the_default_route(name: str, payload: Any) -> None:
    dialect = VENUES[name].dialect
    assert dialect.request_route(payload, LOCAL) == dialect.default_route(LOCAL)


@pytest.mark.parametrize(
    ("dialect", "channel", "name"),
    [
        (Bybit(), "linear:publicTrade.BTCUSDT", "publicTrade.BTCUSDT"),
        (Bybit(), "publicTrade.BTCUSDT", "publicTrade.BTCUSDT"),
        (Bybit(), "liner:publicTrade.BTCUSDT", "liner:publicTrade.BTCUSDT"),
        (OKX(), "tickers:BTC-USDT", "tickers:BTC-USDT"),
        (Kraken(), "level3:BTC/USD", "level3:BTC/USD"),
        (FEEDS, "spot:ticker:A", "ticker:A"),
        (FEEDS, "spot", "spot"),
        (Generic(), "spot:A", "spot:A"),
    ],
)
def test_the_venue_knows_a_channel_without_its_route(
    dialect: Dialect, channel: str, name: str
) -> None:
    assert dialect.wire_name(channel) == name


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a?b"])
def test_a_route_of_the_generic_protocol_can_stand_in_an_address(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"called {re.escape(repr(name))}"):
        Generic(routes=["spot", name])


@pytest.mark.parametrize("routes", ["spot", [5]])
def test_the_routes_of_the_generic_protocol_are_a_collection_of_text(routes: Any) -> None:
    with pytest.raises(ConfigurationError, match="routes must be a collection of text"):
        Generic(routes=routes)


def test_the_order_book_of_a_symbol_of_another_route() -> None:
    book = Bybit().book
    assert book.channel("linear:BTCUSDT", {"depth": 200}) == "linear:orderbook.200.BTCUSDT"
    assert book.channel("BTCUSDT", {}) == "orderbook.50.BTCUSDT"


@pytest.mark.parametrize(
    ("dialect", "with_login", "without"),
    [
        (Bybit(), ["", "private", "trade"], ["spot", "linear", "option", "status", "rfq"]),
        (OKX(), ["", "private", "business", "public_login"], ["public"]),
        (Kucoin(), [""], []),
    ],
)
def test_only_routes_with_private_channels_log_in(
    dialect: Dialect, with_login: list[str], without: list[str]
) -> None:
    assert [route for route in [*with_login, *without] if dialect.logs_in(route)] == with_login


@pytest.mark.parametrize("name", VENUES)
def test_private_channels_need_credentials_and_public_ones_do_not(name: str) -> None:
    venue = VENUES[name]
    public = [channel for channel in venue.others if not channel.startswith("level3")]
    assert [channel for channel in public if venue.dialect.needs_credentials(channel, {})] == []
    if venue.private is not None and name not in ("bitfinex", "coinbase_exchange"):
        assert venue.dialect.needs_credentials(venue.private.channel, {})


@pytest.mark.parametrize(
    ("dialect", "channel"),
    [
        (OKX(), "sprd-orders"),
        (OKX(), "economic-calendar"),
        (OKX(), "books50-l2-tbt:BTC-USDT"),
        (Bybit(), "strategy"),
        (Bybit(), "rfq.open.rfqs"),
        (Kraken(), "level3:BTC/USD"),
        (Kucoin(), "/account/balance"),
    ],
)
def test_a_channel_of_the_account_needs_credentials(dialect: Dialect, channel: str) -> None:
    assert dialect.needs_credentials(channel, {})


@pytest.mark.parametrize(
    ("dialect", "channel"),
    [
        (OKX(), "sprd-tickers:BTC-USDT_BTC-USDT-SWAP"),
        (OKX(), "candle1m:BTC-USDT"),
        (OKX(), "books:BTC-USDT"),
        (OKX(), "block-tickers:BTC-USDT"),
        (OKX(), "new-channel"),
        (Bybit(), "rfq.open.public.trades"),
        (Bybit(), "orderbook.50.BTCUSDT"),
        (Kraken(), "instrument"),
        (Kucoin(), "/market/ticker:all"),
    ],
)
def test_a_channel_of_all_needs_no_credentials(dialect: Dialect, channel: str) -> None:
    assert not dialect.needs_credentials(channel, {})


def test_a_channel_of_kraken_needs_no_credentials_with_a_token() -> None:
    assert not Kraken().needs_credentials("executions", {"token": "T"})


def test_kraken_gets_a_token_only_for_routes_that_need_one() -> None:
    credentials = Credentials({"api_key": "K", "secret": "c2VjcmV0"}, lambda: 1e9)
    asked = [
        url
        for _, url, _ in DEFAULTS
        if "kraken" in url and Kraken().url_request(url, credentials) is not None
    ]
    assert f"wss://ws-auth.{KRAKEN}" in asked
    assert f"wss://ws-l3.{KRAKEN}" in asked
    assert f"wss://ws.{KRAKEN}" not in asked
    assert Kraken().url_request(LOCAL, credentials) is not None


def test_a_connection_has_the_room_that_its_route_has() -> None:
    rooms = {route: Kraken().room(route) for route in ("", "public", "auth", "l3")}
    assert rooms == {"": None, "public": None, "auth": None, "l3": 200}
    assert Bybit().room("linear") == Bybit().limits.channels_per_connection


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("name", "path", "channel"),
    [
        ("bybit", "/v5/public/linear", "publicTrade.BTCUSDT"),
        ("okx", "/ws/v5/public", "tickers:BTC-USDT"),
        ("kraken", "/ws/v2", "ticker:BTC/USD"),
        ("binance_futures", "/market", "btcusdt@aggTrade"),
    ],
)
def test_a_test_venue_has_the_paths_of_the_venue(name: str, path: str, channel: str) -> None:
    with FakeVenue(name) as venue:
        url = venue.url.rstrip("/") + path
        with closing(WebSocketClient(url, dialect=name)) as client:
            client.connect()
            client.subscribe(channel)
            venue.publish(channel)
            assert client.recv(timeout=5).channel == channel
