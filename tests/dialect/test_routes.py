"""Routes that differ in one part of their addresses."""

from __future__ import annotations

import pytest

from wsclient.dialect import ConfigurationError, RouteAddresses

ROUTES = RouteAddresses({"spot": "public/spot", "spot_x": "public/spot-x", "me": "private"}, "/v5/")


@pytest.mark.parametrize(
    ("url", "route"),
    [
        ("wss://acme.example/v5/public/spot", "spot"),
        ("wss://acme.example/v5/public/spot/", "spot"),
        ("wss://acme.example/v5/private?key=/v5/public/spot", "me"),
        ("ws://127.0.0.1:8765/a/proxy/v5/public/spot-x", "spot_x"),
        ("WSS://Acme.Example/v5/private", "me"),
        ("wss://acme.example/", ""),
        ("wss://acme.example", ""),
        ("wss://acme.example/v5/public", ""),
        ("wss://acme.example/v5/public/spots", ""),
        ("wss://acme.example/v4/public/spot", ""),
        ("wss://acme.example/?to=/v5/private", ""),
        ("wss:///v5/private", ""),
        ("", ""),
    ],
)
def test_the_route_of_an_address(url: str, route: str) -> None:
    assert ROUTES.of(url) == route
    assert ROUTES.address(url, route) == url


@pytest.mark.parametrize(
    ("url", "route", "address"),
    [
        ("wss://a.example:9/v5/public/spot", "me", "wss://a.example:9/v5/private"),
        ("ws://a.example/p/v5/private?k=1", "spot_x", "ws://a.example/p/v5/public/spot-x?k=1"),
        ("wss://a.example/v5/v5/private/", "spot", "wss://a.example/v5/v5/public/spot/"),
    ],
)
def test_another_route_is_at_the_same_host(url: str, route: str, address: str) -> None:
    assert ROUTES.address(url, route) == address
    assert ROUTES.address(address, ROUTES.of(url)) == url


@pytest.mark.parametrize(
    ("url", "route"),
    [("wss://a.example/", "me"), ("wss://a.example/v5/private", "x"), ("wss://a/v5/private", "")],
)
def test_an_address_without_routes_has_no_other_ones(url: str, route: str) -> None:
    with pytest.raises(ConfigurationError, match=f"route {route!r}.* spot, spot_x, me$"):
        ROUTES.address(url, route)


def test_a_route_that_does_not_exist_is_not_blamed_on_the_address() -> None:
    with pytest.raises(ConfigurationError, match=r"^there is no route 'x'"):
        ROUTES.address("wss://a.example/v5/private", "x")


def test_an_error_does_not_quote_the_address() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ROUTES.address("wss://a.example/5ecret?key=5ecret", "me")
    assert "5ecret" not in str(caught.value)


def test_routes_are_known_by_their_names() -> None:
    assert "me" in ROUTES
    assert "private" not in ROUTES


def test_two_routes_may_have_one_address() -> None:
    routes = RouteAddresses({"all": "feed", "mine": "feed"})
    assert routes.of("wss://a.example/feed") == "all"
    assert routes.address("wss://a.example/feed", "mine") == "wss://a.example/feed"


def test_routes_may_differ_in_their_hosts() -> None:
    routes = RouteAddresses(
        {"a": "ws", "b": "ws-b"}, before="wss://", behind=r"\.acme\.example(?:/.*)?"
    )
    assert routes.address("wss://ws.acme.example/v2", "b") == "wss://ws-b.acme.example/v2"
    assert routes.of("wss://ws-b.acme.example/v2") == "b"
    assert routes.of("wss://ws-b.other.example/v2") == ""
