"""Which routes a diagnosis examines, and what each is needed for."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

import wsclient
from wsclient import Generic, Limits, WebSocketClient
from wsclient.doctor.legs import Leg, legs_of

FUTURES = "wss://fstream.example.com/public/ws"


def legs(url: Any, dialect: Any, *channels: str, **options: Any) -> list[Leg]:
    with closing(WebSocketClient(url, dialect=dialect, **options)) as client:
        return legs_of(client, url, channels)


def test_a_venue_with_one_address_has_one() -> None:
    (leg,) = legs("wss://feed.example.com/", "generic", "a", "b")
    assert (leg.route, leg.url, leg.channels) == ("", "wss://feed.example.com/", ("a", "b"))


def test_without_channels_it_is_that_of_the_url() -> None:
    (leg,) = legs(FUTURES, "binance_futures")
    assert (leg.route, leg.url) == ("public", FUTURES)
    assert leg.carries == "opened first, as the route of the URL"


def test_each_route_has_its_address_and_channels() -> None:
    names = ["btcusdt@bookTicker", *(f"x{n}usdt@aggTrade" for n in range(7))]
    public, market = legs(FUTURES, "binance_futures", *names)
    assert public.channels == ("btcusdt@bookTicker",)
    assert public.carries == ("carries btcusdt@bookTicker; opened first, as the route of the URL")
    assert (market.route, market.url) == ("market", "wss://fstream.example.com/market/stream")
    assert market.channels == tuple(names[1:])
    assert market.carries.startswith("carries x0usdt@aggTrade, x1usdt@aggTrade, ")
    assert market.carries.endswith(" and 2 more")


def test_a_channel_that_no_route_carries_is_with_the_first() -> None:
    (leg,) = legs("wss://feed.example.com/ws/v5/public", "okx", "orders", "tickers:BTC-USDT")
    assert leg.channels == ("tickers:BTC-USDT", "orders")
    assert leg.carries.endswith("; no route carries orders")


def test_the_address_of_a_function_has_one_route() -> None:
    (leg,) = legs(lambda: FUTURES, "binance_futures", "btcusdt@bookTicker", "btcusdt@aggTrade")
    assert leg.channels == ("btcusdt@bookTicker", "btcusdt@aggTrade")
    assert callable(leg.url)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(connects=None), "any number of channels per connection"),
        (
            Limits(channels_per_connection=1024, connects=(300, 300.0), max_age=86_040.0),
            "1,024 channels per connection, further ones get another connection; "
            "300 connects in 300 s; a connection is replaced after 23.9 h",
        ),
        (
            Limits(connections=1, connects=None),
            "any number of channels per connection; 1 connections at a time",
        ),
    ],
)
def test_the_limits_are_those_of_the_dialect(limits: Limits, text: str) -> None:
    (leg,) = legs("wss://feed.example.com/", Generic(limits=limits))
    assert leg.limits == f"Limits: {text}"


def test_a_dialect_that_does_not_know_the_address_is_refused() -> None:
    class Lost(Generic):
        def default_route(self, url: str) -> str:
            raise wsclient.ConfigurationError("no such address")

    with pytest.raises(wsclient.ConfigurationError, match="no such address"):
        legs("wss://feed.example.com/", Lost())
