"""Logins over a socket: nothing is requested before the venue has accepted them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

import wsclient
from support.helpers import Call
from support.venues import VENUES
from wsclient import Bitfinex, Dialect, WebSocketClient
from wsclient.testing import FakeVenue

GIVEN = {
    "api_key": "K",
    "secret": "5ecret",
    "passphrase": "P",
    "client_id": "K",
    "client_secret": "5ecret",
}
LOGINS = {
    name: (venue.private, venue.private.login)
    for name, venue in VENUES.items()
    if venue.private is not None and venue.private.login is not None
}


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    with FakeVenue(None) as venue:
        yield venue


def client_of(venue: FakeVenue, dialect: Dialect) -> closing[WebSocketClient]:
    return closing(WebSocketClient(venue.url, dialect=dialect, credentials=GIVEN))


@pytest.mark.loopback
@pytest.mark.parametrize("name", LOGINS)
def test_a_subscribe_waits_until_the_login_is_accepted(name: str, venue: FakeVenue) -> None:
    dialect, (private, login) = VENUES[name].dialect, LOGINS[name]
    with client_of(venue, dialect) as client:
        connecting = Call(client.connect)
        peer = venue.accept()
        for _ in [*dialect.opening, "login"]:
            said = peer.expect()
        assert "K" in str(said)
        assert "5ecret" not in str(said) or name == "deribit"
        subscribing = Call(client.subscribe, private.channel)
        peer.ping()
        peer.expect_pong()
        assert len(peer.received) == len(dialect.opening) + 1
        assert client.state is wsclient.State.AUTHENTICATING
        peer.send_json(login.accepted)
        connecting.result()
        request = peer.expect_json()
        assert private.channel.rpartition(":")[2] in str(request)
        ours = {"id": request["id"]} if "id" in login.acknowledged else {}
        peer.send_json({**login.acknowledged, **ours})
        subscribing.result()
        assert client.stats().unhandled == client.stats().invalid == 0


@pytest.mark.parametrize("name", VENUES)
def test_the_login_of_each_venue_is_tested(name: str) -> None:
    dialect = VENUES[name].dialect
    assert (name in LOGINS) == (type(dialect).login is not Dialect.login)
    assert (VENUES[name].private is not None) == dialect.takes_credentials


@pytest.mark.parametrize("dialect", ["generic", "binance", wsclient.Binance()])
def test_credentials_are_refused_for_a_dialect_without_a_login(dialect: str | Dialect) -> None:
    with pytest.raises(wsclient.ConfigurationError, match="no login") as caught:
        WebSocketClient("wss://x/", dialect=dialect, credentials=GIVEN)
    assert "5ecret" not in str(caught.value)
    with pytest.raises(wsclient.ConfigurationError, match="no login"):
        WebSocketClient("wss://x/", dialect=dialect, credentials=lambda: GIVEN)
    WebSocketClient("wss://x/", dialect=dialect).close()


def test_a_custom_dialect_can_have_a_login() -> None:
    class LoggedIn(wsclient.Generic):
        def login(self, credentials: Any) -> Any:
            return {"type": "login"}

    class Addressed(wsclient.Generic):
        def url(self, url: str, credentials: Any) -> str:
            return url

    for dialect in (LoggedIn(), Addressed(), wsclient.Kraken(), wsclient.CoinbaseExchange()):
        WebSocketClient("wss://x/", dialect=dialect, credentials=GIVEN).close()


@pytest.mark.loopback
def test_bitfinex_sends_the_account_without_a_subscription(venue: FakeVenue) -> None:
    with client_of(venue, Bitfinex()) as client:
        connecting = Call(client.connect)
        peer = venue.accept()
        peer.send_json(LOGINS["bitfinex"][1].accepted)
        connecting.result()
        for frame in ('[0,"ps",[],1,1]', '[0,"hb",2]', '[0,"wu",["exchange","BTC",1,0,1],3,2]'):
            peer.send(frame)
        messages = [client.recv(timeout=5) for _ in range(2)]
    assert [(m.channel, m.type, m.gap) for m in messages] == [
        ("account", "ps", None),
        ("account", "wu", None),
    ]
    assert messages[1].data[2] == ["exchange", "BTC", 1, 0, 1]
