"""A market under load, for each way in which venues number their messages."""

import pytest

import wsclient
from wsclient.testing import KINDS, Delivery, FakeVenue, Feed


def deliver(client, venue, channel):
    """Return all messages of a client until the last one that the venue has published."""
    last = venue.journal.of(channel)[-1].payload
    end = _body(last)
    messages = []
    while not messages or end not in messages[-1].raw:
        messages.append(client.recv(timeout=10))
    return messages


def _body(payload):
    """Return what of a payload is the same on all connections."""
    return payload.encode().removeprefix(b"[0,").removesuffix(b"]")


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_delivers_what_the_journal_has(kind):
    name, channel = KINDS[kind]
    with FakeVenue(name) as venue, wsclient.connect(venue.url, dialect=name) as client:
        client.subscribe(channel)
        with Feed(venue, {channel: 3000.0}, seed=2) as feed:
            feed.wait(500)
        comparison = venue.journal.compare(deliver(client, venue, channel), {channel: 0})
        assert comparison.is_exact, comparison


@pytest.mark.parametrize("kind", ["counted", "range", "pointer", "connection"])
def test_what_a_connection_loses_is_lost_and_marked(kind):
    name, channel = KINDS[kind]
    with FakeVenue(name) as venue, wsclient.connect(venue.url, dialect=name) as client:
        client.subscribe(channel)
        feed = Feed(venue, {channel: 1.0}, seed=2)
        feed.publish()
        venue.live[0].lose(2)
        feed.publish()
        feed.publish()
        feed.publish()
        comparison = venue.journal.compare(deliver(client, venue, channel), {channel: 0})
        assert sum(each.last - each.first + 1 for each in comparison.of("lost")) == 2
        assert comparison.unmarked == []


@pytest.mark.parametrize("kind", ["range", "pointer", "checksum"])
def test_a_client_takes_updates_in_any_cut(kind):
    name, channel = KINDS[kind]
    with FakeVenue(name, seed=1) as venue, wsclient.connect(venue.url, dialect=name) as client:
        venue.deliver(Delivery(cut=4))
        client.subscribe(channel)
        with Feed(venue, {channel: 3000.0}, seed=2) as feed:
            feed.wait(200)
        delivered = []
        while True:
            delivered.append(client.recv(timeout=10))
            comparison = venue.journal.compare(delivered, {channel: 0})
            if not comparison.of("lost"):
                break
        assert comparison.is_exact, comparison
        assert len(delivered) < venue.sequence(channel) / 2
