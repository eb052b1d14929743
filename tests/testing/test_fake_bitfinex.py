"""Bitfinex as a fake venue: numbers that each connection has for itself."""

import json
from decimal import Decimal

import pytest

from wsclient.testing import FakeVenue
from wsclient.testing.market import Depth
from wsclient.testing.venues.bitfinex import BitfinexProtocol

SEQUENCES, CHECKSUMS = 65536, 131072


def ask(client, **request):
    client.send(json.dumps(request))
    return json.loads(client.recv(timeout=5))


def subscribe(client, channel="trades", symbol="tA", **options):
    return ask(client, event="subscribe", channel=channel, symbol=symbol, subId="7", **options)


@pytest.fixture
def venue():
    with FakeVenue("bitfinex") as venue:
        yield venue


@pytest.fixture
def client(venue, dial):
    client = dial(venue)
    assert json.loads(client.recv(timeout=5))["event"] == "info"
    return client


def test_the_answer_gives_a_channel_its_number(venue, client):
    answer = subscribe(client, prec="P0")
    number = answer.pop("chanId")
    expected = {"channel": "trades", "symbol": "tA", "subId": "7", "prec": "P0"}
    assert answer == {"event": "subscribed", **expected}
    assert subscribe(client, symbol="tB")["chanId"] != number
    assert venue.accept().subscriptions == {"trades:tA", "trades:tB"}


def test_each_connection_has_its_own_numbers_and_count(venue, dial, client):
    other = dial(venue)
    other.recv(timeout=5)
    ask(client, event="conf", flags=SEQUENCES)
    numbers = [subscribe(each)["chanId"] for each in (client, other)]
    for n in (1, 2):
        venue.publish("trades:tA", kind="te", payload=[n, 0, 1, 2])
    frames = [[json.loads(each.recv(timeout=5)) for _ in "12"] for each in (client, other)]
    assert frames[0] == [[numbers[0], "te", [n, 0, 1, 2], n] for n in (1, 2)]
    assert frames[1] == [[numbers[1], "te", [n, 0, 1, 2]] for n in (1, 2)]
    assert numbers[0] != numbers[1]


def test_the_count_includes_what_is_lost(venue, client):
    ask(client, event="conf", flags=SEQUENCES)
    number = subscribe(client)["chanId"]
    venue.live[0].lose(1)
    for n in (1, 2):
        venue.publish("trades:tA", kind="te", payload=[n])
    assert json.loads(client.recv(timeout=5)) == [number, "te", [2], 2]


def test_a_silent_channel_has_heartbeats_that_count(dial, monkeypatch):
    monkeypatch.setattr(BitfinexProtocol, "HEARTBEAT", 0.01)
    with FakeVenue("bitfinex") as venue:
        client = dial(venue)
        client.recv(timeout=5)
        ask(client, event="conf", flags=SEQUENCES)
        number = subscribe(client)["chanId"]
        beats = [json.loads(client.recv(timeout=5)) for _ in "12"]
        assert beats == [[number, "hb", 1], [number, "hb", 2]]


@pytest.mark.parametrize("flags", [0, CHECKSUMS])
def test_checksums_are_for_those_who_want_them(venue, client, flags):
    ask(client, event="conf", flags=flags)
    subscribe(client, "book")
    venue.publish("book:tA", kind="cs", payload=5)
    venue.publish("book:tA", payload=[1, 1, 2])
    frame = json.loads(client.recv(timeout=5))
    assert frame[1] == ("cs" if flags else [1, 1, 2])


def test_an_unsubscribe_names_the_number(venue, client):
    number = subscribe(client)["chanId"]
    assert ask(client, event="unsubscribe", chanId=5)["code"] == 10400
    answer = ask(client, event="unsubscribe", chanId=number)
    assert answer == {"event": "unsubscribed", "status": "OK", "chanId": number}
    assert venue.accept().subscriptions == set()


def test_refusals(venue, client):
    venue.refuse_channel("trades:tB", "closed")
    assert subscribe(client)["event"] == "subscribed"
    for symbol, code in (("tA", 10301), ("tB", 10300)):
        answer = subscribe(client, symbol=symbol)
        named = ("event", "code", "channel", "symbol", "subId")
        assert [answer[name] for name in named] == ["error", code, "trades", symbol, "7"]


def test_a_pong_has_the_number_of_the_ping(client):
    pong = ask(client, event="ping", cid=5)
    assert (pong["event"], pong["cid"]) == ("pong", 5)


def test_the_rows_of_a_book():
    bids, asks = [(Decimal(9), Decimal(2)), (Decimal(8), Decimal(0))], [(Decimal(10), Decimal(0))]
    messages = list(BitfinexProtocol().messages("book:tA", Depth(bids, asks, (bids[:1], []))))
    assert [each["payload"] for each in messages[:-1]] == [[8, 0, 1], [10, 0, -1], [9, 1, 2]]
    assert messages[-1]["kind"] == "cs"
