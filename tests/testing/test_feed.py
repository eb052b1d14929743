"""The made-up market as a venue publishes it."""

import json
import threading

import pytest

from wsclient.testing import FakeVenue, Feed, ScriptedProtocol

CHANNELS = {"BTC-USD": 900.0, "ticker:ETH-USD": 100.0}


def published(seed, count=200, channels=CHANNELS):
    venue = FakeVenue()
    feed = Feed(venue, channels, seed=seed)
    for _ in range(count):
        feed.publish()
    return [(each.channel, each.payload) for each in venue.journal.published]


def test_the_same_seed_publishes_the_same():
    assert published(1) == published(1)
    assert published(1) != published(2)


def test_each_channel_has_its_share():
    channels = [channel for channel, _ in published(1, count=1000)]
    assert 850 < channels.count("BTC-USD") < 950


def test_it_publishes_until_it_is_stopped_and_reports_each_number():
    numbers = []
    enough = threading.Event()

    def count(channel, number):
        assert channel == "BTC-USD"
        numbers.append(number)
        if number == 50:
            enough.set()

    venue = FakeVenue()
    with Feed(venue, {"BTC-USD": 5000.0}, seed=1, published=count) as feed:
        assert enough.wait(5)
    last = venue.sequence("BTC-USD")
    assert numbers == [*range(1, last + 1)]
    assert feed.count == last
    assert len(venue.journal.published) == last


def test_waiting_for_a_number_of_messages():
    with Feed(FakeVenue(), {"A": 5000.0}) as feed:
        feed.wait(20)
        assert feed.count >= 20
        with pytest.raises(TimeoutError):
            feed.wait(10**9, timeout=0.01)


def test_message_1_of_a_book_is_a_snapshot():
    venue = FakeVenue("bybit")
    with Feed(venue, {"orderbook.50.A": 0.001}, seed=1):
        first = venue.journal.published[0]
    assert first.channel == "orderbook.50.A"
    assert '"type":"snapshot"' in first.payload
    assert '"u":1,' in first.payload


def test_a_channel_may_name_a_route(dial_at):
    channel = "linear:orderbook.50.A"
    with FakeVenue("bybit") as venue:
        feed = Feed(venue, {channel: 1.0})
        feed.publish()
        client = dial_at(venue.route_url("linear"))
        client.send('{"op": "subscribe", "args": ["orderbook.50.A"]}')
        client.recv(timeout=5)
        feed.publish()
        snapshot, update = (json.loads(client.recv(timeout=5)) for _ in range(2))
    assert snapshot["topic"] == update["topic"] == "orderbook.50.A"
    assert (snapshot["type"], snapshot["data"]["u"]) == ("snapshot", 1)
    assert (update["type"], update["data"]["u"]) == ("delta", 2)
    assert [each.route for each in venue.journal.of(channel)] == ["linear"] * 2


def test_a_rate_that_is_too_high_is_detected():
    late = threading.Event()
    feed = Feed(FakeVenue(), {"A": 1e7}, published=lambda *_: feed.is_late and late.set())
    with feed:
        assert late.wait(10)


def test_a_channel_that_the_protocol_does_not_list():
    with pytest.raises(ValueError, match="no channel 'x'"):
        Feed(FakeVenue("bybit"), {"x": 1.0})


def test_a_protocol_that_cannot_write_market_data():
    with pytest.raises(TypeError, match="no MarketProtocol"):
        Feed(FakeVenue(ScriptedProtocol()), {"x": 1.0})
