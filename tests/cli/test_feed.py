"""The made-up market as a venue publishes it."""

import threading

import pytest

from wsclient.cli.feed import Feed
from wsclient.testing import FakeVenue, GenericProtocol
from wsclient.testing.venues.bybit import BybitProtocol

CHANNELS = {"BTC-USD": 900.0, "ticker:ETH-USD": 100.0}


class Venue(FakeVenue):
    """A venue that records what is published."""

    def __init__(self, protocol):
        super().__init__(protocol)
        self.published = []

    def broadcast(self, payload, *channels):
        self.published.append((*channels, payload))
        return 0


def published(seed, count=200, channels=CHANNELS):
    venue = Venue(GenericProtocol())
    feed = Feed(venue, venue.protocol, channels, seed)
    for _ in range(count):
        feed.publish()
    return venue.published


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

    venue = Venue(GenericProtocol())
    with Feed(venue, venue.protocol, {"BTC-USD": 5000.0}, 1, count):
        assert enough.wait(5)
    last = venue.sequence("BTC-USD")
    assert numbers == [*range(1, last + 1)]
    assert len(venue.published) == last


def test_message_1_of_a_book_is_a_snapshot():
    venue = Venue(BybitProtocol())
    with Feed(venue, venue.protocol, {"orderbook.50.A": 0.001}, 1):
        (channel, payload), *_ = venue.published
    assert channel == "orderbook.50.A"
    assert '"type":"snapshot"' in payload
    assert '"u":1,' in payload


def test_a_rate_that_is_too_high_is_detected():
    venue = Venue(GenericProtocol())
    late = threading.Event()
    feed = Feed(venue, venue.protocol, {"A": 1e7}, 1, lambda *_: feed.is_late and late.set())
    with feed:
        assert late.wait(10)


def test_a_channel_that_the_protocol_does_not_list():
    venue = Venue(BybitProtocol())
    with pytest.raises(ValueError, match="no channel 'x'"):
        Feed(venue, venue.protocol, {"x": 1.0}, 1)
