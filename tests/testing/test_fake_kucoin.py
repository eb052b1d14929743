"""KuCoin as a fake venue: the token and the address by REST, and ranges of numbers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from decimal import Decimal
from typing import Any

import pytest

import wsclient
from wsclient.testing import Delivery, FakeVenue, Feed, VenueLimits
from wsclient.testing.market import Depth
from wsclient.testing.venues.kucoin import KucoinProtocol

BOOK = "/market/level2:BTC-USDT"


def rest_of(venue: FakeVenue) -> str:
    return venue.url.replace("ws:", "http:").rstrip("/")


def post(venue: FakeVenue, path: str) -> Any:
    request = urllib.request.Request(rest_of(venue) + path, b"", method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def answer(client: Any) -> Any:
    return json.loads(client.recv(timeout=5))


@pytest.fixture
def venue() -> Any:
    with FakeVenue("kucoin") as venue:
        yield venue


def test_a_public_token_leads_to_a_welcome_with_the_connections_id(
    venue: FakeVenue, dial_at: Any
) -> None:
    data = post(venue, "/api/v1/bullet-public")["data"]
    (server,) = data["instanceServers"]
    assert (server["endpoint"], server["pingInterval"]) == (venue.url, 18000)
    client = dial_at(f"{server['endpoint']}?token={data['token']}&connectId=c7")
    assert answer(client) == {"id": "c7", "type": "welcome"}
    client.send('{"id":"p","type":"ping"}')
    assert answer(client) == {"id": "p", "type": "pong"}
    assert venue.accept().account is None
    assert [call.path for call in venue.calls] == ["/api/v1/bullet-public"]


def test_a_wrong_token_is_refused(venue: FakeVenue, dial_at: Any) -> None:
    client = dial_at(f"{venue.url}?token=wrong&connectId=c7")
    refused = answer(client)
    assert (refused["id"], refused["type"]) == ("c7", "error")
    assert venue.accept().ended_by == "close 1000"


def test_a_private_token_needs_a_signature(venue: FakeVenue) -> None:
    assert post(venue, "/api/v1/bullet-private")["code"] == "400003"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        post(venue, "/api/v1/orders")


def test_several_symbols_are_one_topic_and_the_id_comes_back_as_text(
    venue: FakeVenue, dial: Any
) -> None:
    client = dial(venue)
    answer(client)
    request = {"id": 5, "type": "subscribe", "topic": "/market/ticker:A-B,C-D", "response": True}
    client.send(json.dumps(request))
    assert answer(client) == {"id": "5", "type": "ack"}
    peer = venue.accept()
    assert peer.subscriptions == {"/market/ticker:A-B", "/market/ticker:C-D"}
    client.send(json.dumps({**request, "type": "unsubscribe", "topic": "/market/ticker:A-B"}))
    assert answer(client) == {"id": "5", "type": "ack"}
    assert peer.subscriptions == {"/market/ticker:C-D"}
    client.send(json.dumps({"id": 6, "type": "subscribe", "topic": "/market/ticker:E-F"}))
    client.send('{"id":"p","type":"ping"}')
    assert answer(client)["type"] == "pong", "an answer comes only on request"


def test_limits_in_the_venues_words(dial: Any) -> None:
    with FakeVenue("kucoin") as venue:
        venue.limits = VenueLimits(channels=1)
        client = dial(venue)
        answer(client)
        topic = "/market/ticker:A-B,C-D"
        client.send(json.dumps({"id": 5, "type": "subscribe", "topic": topic, "response": True}))
        refused = answer(client)
        assert (refused["id"], refused["code"]) == ("5", 509)
        assert "per session" in refused["data"]


def test_updates_that_are_joined_have_a_range_of_numbers() -> None:
    with FakeVenue("kucoin") as venue:
        dialect = wsclient.Kucoin(rest=rest_of(venue))
        with wsclient.connect(venue.url, dialect=dialect) as client:
            client.subscribe(BOOK)
            venue.deliver(Delivery(cut=3))
            with Feed(venue, {BOOK: 1000.0}) as feed:
                feed.wait(9)
            data = [client.recv(timeout=5).data["data"]]
            while data[-1]["sequenceEnd"] < venue.sequence(BOOK):
                message = client.recv(timeout=5)
                assert message.gap is None
                data.append(message.data["data"])
    spans = [(row["sequenceStart"], row["sequenceEnd"]) for row in data]
    assert spans[0][0] == 1
    assert [first for first, _ in spans[1:]] == [last + 1 for _, last in spans[:-1]]
    assert max(last - first for first, last in spans) > 0
    for row, (first, last) in zip(data, spans, strict=True):
        numbers = {int(n) for side in row["changes"].values() for *_, n in side}
        assert numbers <= {*range(first, last + 1)}


def test_the_snapshot_of_a_book_comes_by_rest() -> None:
    protocol = KucoinProtocol()
    bids, asks = [(Decimal(9), Decimal(2))], [(Decimal(10), Decimal(3))]
    fields = protocol.fields(BOOK, Depth(bids, asks, (bids, asks)), is_snapshot=True)
    protocol.snapshots[BOOK] = protocol.data(BOOK, 7, fields)
    found = protocol.http("/api/v3/market/orderbook/level2?symbol=BTC-USDT")
    assert found is not None
    data = json.loads(found)["data"]
    assert (data["sequence"], data["bids"], data["asks"]) == ("7", [["9", "2"]], [["10", "3"]])
    assert protocol.http("/api/v3/market/orderbook/level2?symbol=A-B") is None
    assert protocol.http("/other?symbol=BTC-USDT") is None
