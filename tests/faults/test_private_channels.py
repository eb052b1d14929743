"""A venue's keys, signatures and tokens appear in no text, whatever goes wrong."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

import wsclient
from support.canaries import TOKENS, found_in
from support.helpers import Call
from support.inside import core_of
from support.resting import rest
from support.venues import VENUES, Private
from wsclient import (
    OKX,
    CoinbaseExchange,
    Dialect,
    Kraken,
    Kucoin,
    WebSocketClient,
)
from wsclient.testing import FakeVenue

KEY, SECRET, PASSPHRASE, TOKEN = (
    TOKENS[place] for place in ("Credential", "Header", "Cookie", "Login")
)
#: Each field that credentials may have.
FIELDS = {
    "api_key": KEY,
    "secret": SECRET,
    "passphrase": PASSPHRASE,
    "client_id": KEY,
    "client_secret": SECRET,
}


def credentials_of(private: Private) -> dict[str, str]:
    given = {name: FIELDS[name] for name in private.fields}
    if private.is_secret_in_base64:
        given["secret"] = base64.b64encode(SECRET.encode()).decode()
    return given


#: Each venue's credentials, and a channel of it that requires them.
GIVEN: dict[type[Dialect], tuple[dict[str, str], str]] = {
    type(venue.dialect): (credentials_of(venue.private), venue.private.channel)
    for venue in VENUES.values()
    if venue.private is not None
}
#: Each venue's refusal of a login.
REFUSALS: dict[type[Dialect], Any] = {
    type(venue.dialect): venue.private.login.refused
    for venue in VENUES.values()
    if venue.private is not None and venue.private.login is not None
}
#: Answers by REST without a usable token; some quote the secrets of the request.
BAD_ANSWERS: dict[str, Any] = {
    "HTTP 401": 401,
    "HTTP 503": 503,
    "refused": {"error": [f"EAPI:Invalid key {KEY}"], "code": "400003", "msg": KEY},
    "refused in words of its own": {"error": [KEY], "code": f"4{SECRET}", "msg": SECRET},
    "empty": {"error": [], "code": "200000", KEY: TOKEN},
    "half of it": {"error": [], "result": TOKEN, "code": "200000", "data": {"token": TOKEN}},
}


def name_of(value: object) -> str:
    return value.name if isinstance(value, type) and issubclass(value, Dialect) else str(value)


def client_of(venue: FakeVenue, dialect: Dialect, **options: Any) -> closing[WebSocketClient]:
    credentials, _ = GIVEN[type(dialect)]
    defaults = {"max_retries": 1, "retry_delay": 0.01, "credentials": credentials}
    return closing(WebSocketClient(venue.url, dialect=dialect, **{**defaults, **options}))


def dialect_at(kind: Callable[..., Dialect], url: str) -> Dialect:
    return kind(rest=url) if kind in (Kraken, Kucoin) else kind()


def assert_secret(client: WebSocketClient, error: BaseException | None = None) -> None:
    """Assert that nothing that can be learned of the client and of an error contains a secret."""
    core = core_of(client)
    stats = client.stats()
    things = [client, stats, stats.as_dict(), client.subscriptions]
    things += [core.options, core, core.supervisor]
    said = [repr(thing) for thing in things]
    chain = [] if error is None else [error]
    for chained in chain:
        said += traceback.format_exception(chained)
        said += [str(chained), repr(chained), str(getattr(chained, "failed", ""))]
        more = (chained.__cause__, chained.__context__)
        chain += [other for other in more if other is not None and other not in chain]
    assert found_in("\n".join(said)) == []


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    with FakeVenue(None) as venue:
        yield venue


@pytest.mark.parametrize("answer", BAD_ANSWERS)
@pytest.mark.parametrize("kind", [Kraken, Kucoin], ids=name_of)
def test_no_token_is_given(kind: Any, answer: str, venue: FakeVenue) -> None:
    with (
        rest(lambda _: BAD_ANSWERS[answer]) as server,
        client_of(venue, dialect_at(kind, server.url)) as client,
    ):
        with pytest.raises(wsclient.WSClientError) as caught:
            client.connect()
        assert_secret(client, caught.value)
    assert found_in(str(server.asked)), "nothing secret was at stake"


@pytest.mark.parametrize("kind", REFUSALS, ids=name_of)
def test_the_login_is_refused(kind: Any, venue: FakeVenue) -> None:
    with client_of(venue, kind()) as client:
        call = Call(client.connect)
        peer = venue.accept()
        login = peer.expect_json()
        while not found_in(json.dumps(login)):  # the opening frame comes before it
            login = peer.expect_json()
        peer.send_json(REFUSALS[kind])
        with pytest.raises(wsclient.AuthenticationError) as caught:
            call.result()
        assert_secret(client, caught.value)


def _connect_and_subscribe(client: WebSocketClient, channel: str) -> None:
    client.connect()
    client.subscribe(channel)


@pytest.mark.parametrize("lacking", ["api_key", "secret", "client_secret"])
@pytest.mark.parametrize("kind", GIVEN, ids=name_of)
def test_credentials_that_lack_something_are_named(
    kind: Any, lacking: str, venue: FakeVenue
) -> None:
    given, channel = GIVEN[kind]
    if lacking not in given:
        return
    rest_of_it = {name: value for name, value in given.items() if name != lacking}
    with client_of(venue, kind(), credentials=rest_of_it) as client:
        with pytest.raises((wsclient.ConfigurationError, wsclient.SubscriptionRejected)) as caught:
            _connect_and_subscribe(client, channel)
        assert f"must have '{lacking}'" in str(caught.value)
        assert_secret(client, caught.value)


@pytest.mark.parametrize("given", [["a", SECRET], SECRET, 5], ids=["a list", "text", "a number"])
def test_credentials_that_are_no_mapping_are_refused(given: Any, venue: FakeVenue) -> None:
    with pytest.raises(wsclient.ConfigurationError, match="must be a mapping") as refused:
        client_of(venue, OKX(), credentials=given)
    with client_of(venue, OKX(), credentials=lambda: given) as client:
        with pytest.raises(wsclient.ConfigurationError, match="must be a mapping") as caught:
            client.connect()
        for error in (refused.value, caught.value):
            assert_secret(client, error)


@pytest.mark.parametrize("kind", [CoinbaseExchange, Kraken], ids=name_of)
def test_a_subscribe_with_a_secret_is_refused(kind: Any, venue: FakeVenue) -> None:
    refusals = {
        CoinbaseExchange: {"type": "error", "message": "Authentication Failed"},
        Kraken: {"method": "subscribe", "success": False, "error": "ESession:Invalid session"},
    }
    _, channel = GIVEN[kind]
    with (
        rest(lambda _: {"error": [], "result": {"token": TOKEN}}) as server,
        client_of(venue, dialect_at(kind, server.url)) as client,
    ):
        client.connect()
        peer = venue.accept()
        call = Call(client.subscribe, channel)
        assert found_in(json.dumps(peer.expect_json())), "nothing secret was at stake"
        peer.send_json(refusals[kind])
        with pytest.raises(wsclient.SubscriptionRejected) as caught:
            call.result()
        assert_secret(client, caught.value)
