"""What a venue allows each connection, and all of them together."""

import functools
import json
import socket

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wsclient.testing import FakeVenue, VenueLimits
from wsclient.testing.limits import Pace


@pytest.fixture
def limited(request):
    with FakeVenue(limits=request.param) as venue:
        yield venue


limits = functools.partial(pytest.mark.parametrize, "limited", indirect=True)


def ask(client, **request):
    client.send(json.dumps(request))
    return json.loads(client.recv(timeout=5))


def subscribe(client, channel):
    return ask(client, type="subscribe", channel=channel)


def closed(client):
    """Return code and reason of the close frame that ends the connection."""
    try:
        while True:
            client.recv(timeout=5)
    except ConnectionClosed as end:
        return end.rcvd.code, end.rcvd.reason


# Channels


@limits([VenueLimits(channels=2)])
def test_a_channel_too_many_is_refused_until_another_is_given_back(limited, dial):
    client, other = dial(limited), dial(limited)
    assert [subscribe(client, name)["status"] for name in "aba"] == ["success"] * 3
    refused = subscribe(client, "c")
    assert refused["code"] == "limit"
    assert refused["error"] == "a connection has at most 2 channels"
    assert subscribe(other, "c")["status"] == "success"
    ask(client, type="unsubscribe", channel="a")
    assert subscribe(client, "c")["status"] == "success"


def test_limits_can_change(venue, dial):
    client = dial(venue)
    subscribe(client, "a")
    venue.limits = VenueLimits(channels=1)
    assert subscribe(client, "b")["status"] == "error"


def test_a_request_of_several_channels_is_refused_as_a_whole(dial):
    with FakeVenue("bybit", limits=VenueLimits(channels=2)) as venue:
        client = dial(venue)
        assert not ask(client, op="subscribe", args=["tickers.A", "tickers.B", "tickers.C"])[
            "success"
        ]
        assert venue.accept().subscriptions == set()
        assert ask(client, op="subscribe", args=["tickers.A", "tickers.B"])["success"]


def test_bitfinex_says_limit(dial):
    with FakeVenue("bitfinex", limits=VenueLimits(channels=1)) as venue:
        client = dial(venue)
        client.recv(timeout=5)
        request = {"event": "subscribe", "channel": "trades"}
        assert ask(client, **request, symbol="tA", subId="1")["event"] == "subscribed"
        answer = ask(client, **request, symbol="tB", subId="2")
        assert (answer["event"], answer["code"], answer["subId"]) == ("error", 10305, "2")


def test_okx_closes_with_4009(dial):
    with FakeVenue("okx", limits=VenueLimits(channels=1)) as venue:
        client = dial(venue)
        for name in "AB":
            arg = {"channel": "tickers", "instId": name}
            client.send(json.dumps({"op": "subscribe", "args": [arg]}))
        assert closed(client)[0] == 4009


# Messages


@limits([VenueLimits(messages=(2, 60.0))])
def test_a_message_too_many_closes_the_connection(limited, dial):
    client = dial(limited)
    for name in "abc":
        client.send(json.dumps({"type": "subscribe", "channel": name}))
    assert closed(client) == (1008, "Too many requests")
    assert limited.accept().subscriptions == {"a", "b"}


@limits([VenueLimits(messages=(1, 60.0), excess="refuse")])
def test_a_message_too_many_is_refused(limited, dial):
    client, other = dial(limited), dial(limited)
    assert subscribe(client, "a")["status"] == "success"
    refused = subscribe(client, "b")
    assert (refused["code"], refused["error"]) == ("rate", "too many messages")
    assert subscribe(other, "b")["status"] == "success"


def test_okx_says_too_frequent(dial):
    with FakeVenue("okx", limits=VenueLimits(messages=(1, 60.0), excess="refuse")) as venue:
        client = dial(venue)
        client.send("ping")
        client.recv(timeout=5)
        args = [{"channel": "tickers", "instId": "A"}]
        assert ask(client, op="subscribe", args=args)["code"] == "60014"


def test_deribit_says_too_many_requests(dial):
    with FakeVenue("deribit", limits=VenueLimits(messages=(1, 60.0), excess="refuse")) as venue:
        client = dial(venue)
        params = {"channels": ["ticker.A.raw"]}
        assert ask(client, id=1, method="public/test")["result"]
        assert ask(client, id=2, method="public/subscribe", params=params)["error"]["code"] == 10028
        assert venue.accept().subscriptions == set()


@limits([VenueLimits(messages=(1, 60.0), counts_control_frames=True)])
def test_pings_may_count(limited, dial):
    client = dial(limited)
    client.ping()
    client.ping()
    assert closed(client)[0] == 1008


@limits([VenueLimits(messages=(1, 60.0))])
def test_pings_do_not_count_otherwise(limited, dial):
    client = dial(limited)
    for _ in range(3):
        assert client.ping().wait(5)
    assert subscribe(client, "a")["status"] == "success"


def test_a_pace_counts_what_is_within_its_seconds():
    pace = Pace()
    waits = [pace.exceeds((2, 10.0), now) for now in (0.0, 1.0, 4.0, 10.5, 14.0)]
    assert waits == [0.0, 0.0, 7.0, 3.5, 0.0]


# Age


@limits([VenueLimits(max_age=0.05)])
def test_the_venue_closes_a_connection_at_its_age(limited, dial):
    clients = [dial(limited), dial(limited)]
    assert [closed(client) for client in clients] == [(1001, "")] * 2
    assert [peer.ended_by for peer in limited.peers] == ["close 1001"] * 2


@limits([VenueLimits(max_age=0.05)])
def test_a_connection_that_has_ended_gets_no_older(limited, dial):
    client = dial(limited)
    peer = limited.accept()
    client.close()
    peer.wait_closed()
    assert peer.ended_by == "client close 1000"


# Connections


@limits([VenueLimits(connections=1)])
def test_a_connection_too_many_is_refused_until_another_ends(limited, dial):
    client = dial(limited)
    with pytest.raises(InvalidStatus) as caught:
        dial(limited)
    assert caught.value.response.status_code == 429
    client.close()
    limited.wait_for(lambda v: not v.live)
    assert subscribe(dial(limited), "a")["status"] == "success"


@limits([VenueLimits(connections=1, refusal=503)])
def test_the_status_of_a_refusal(limited, dial):
    dial(limited)
    with pytest.raises(InvalidStatus) as caught:
        dial(limited)
    assert caught.value.response.status_code == 503


@limits([VenueLimits(connections=1, refusal=code) for code in (1000, 4008)])
def test_a_connection_too_many_may_be_closed(limited, dial):
    dial(limited)
    assert closed(dial(limited)) == (limited.limits.refusal, "too many connections")
    assert len(limited.peers) == 1


@limits([VenueLimits(connections_per_key=1)])
def test_a_limit_of_connections_per_key(limited, dial, dial_at):
    dial(limited)
    dial(limited)
    dial(limited, additional_headers={"X-API-Key": "one"})
    dial(limited, additional_headers={"X-API-Key": "two"})
    assert [peer.key for peer in limited.peers] == [None, None, "one", "two"]
    with pytest.raises(InvalidStatus):
        dial(limited, additional_headers={"X-API-Key": "one"})
    with pytest.raises(InvalidStatus):
        dial_at(limited.url + "?X-API-Key=two")


@limits([VenueLimits(connects=(2, 3600.0))])
def test_connects_are_limited_per_address(limited, dial):
    dial(limited).close()
    dial(limited).close()
    with pytest.raises(InvalidStatus) as caught:
        dial(limited)
    assert caught.value.response.status_code == 429
    assert 3590 <= int(caught.value.response.headers["Retry-After"]) <= 3600
    other = socket.create_connection(
        (limited.host, limited.port), timeout=5, source_address=("127.0.0.2", 0)
    )
    assert subscribe(dial(limited, sock=other), "a")["status"] == "success"
