"""Notices that a venue will close connections."""

import json

import pytest
from websockets.exceptions import ConnectionClosed

from wsclient.dialect import Ending
from wsclient.testing import FakeVenue, ScriptedProtocol, venues


def test_the_notice_goes_to_all_or_to_one(venue, dial):
    clients = [dial(venue), dial(venue)]
    notice = '{"type":"ending","reason":"shutdown"}'
    assert venue.announce_shutdown() == venue.peers
    assert [client.recv(timeout=5) for client in clients] == [notice] * 2
    assert venue.announce_shutdown(venue.peers[1]) == [venue.peers[1]]
    assert clients[1].recv(timeout=5) == notice
    with pytest.raises(TimeoutError):
        clients[0].recv(timeout=0.05)
    assert all(peer.live for peer in venue.peers)


def test_the_connections_are_closed_after_the_notice(venue, dial):
    client, other = dial(venue), dial(venue)
    venue.announce_shutdown(venue.peers[0], close_after=0.02)
    client.recv(timeout=5)
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(timeout=5)
    assert caught.value.rcvd.code == 1001
    other.send('{"type": "subscribe", "channel": "a"}')
    assert other.recv(timeout=5)


def test_a_peer_that_has_ended_gets_none(venue, dial):
    client = dial(venue)
    client.close()
    venue.wait_for(lambda v: not v.live)
    assert venue.announce_shutdown(*venue.peers) == []


@pytest.mark.parametrize("name", ["binance", "binance_futures", "bitfinex", "okx"])
def test_dialects_read_the_notice_of_their_venue(name, dial):
    with FakeVenue(name) as venue:
        client = dial(venue)
        venue.announce_shutdown()
        frames = [client.recv(timeout=5).encode() for _ in range(1 + (name == "bitfinex"))]
        found = venues.find(name).dialect.peek(frames[-1])
        assert isinstance(found, Ending)


def test_the_notices_are_those_of_the_venues(dial):
    with FakeVenue("okx") as okx, FakeVenue("binance") as binance, FakeVenue("bitfinex") as third:
        clients = [dial(venue) for venue in (okx, binance, third)]
        clients[2].recv(timeout=5)
        for venue in (okx, binance, third):
            venue.announce_shutdown()
        notices = [json.loads(client.recv(timeout=5)) for client in clients]
    assert (notices[0]["event"], notices[0]["code"]) == ("notice", "64008")
    assert (notices[1]["stream"], notices[1]["data"]["e"]) == ("!serverShutdown", "serverShutdown")
    assert (notices[2]["event"], notices[2]["code"]) == ("info", 20051)


@pytest.mark.parametrize("protocol", ["kraken", ScriptedProtocol()])
def test_a_venue_without_a_notice(dial, protocol):
    with FakeVenue(protocol) as venue:
        dial(venue)
        with pytest.raises(ValueError, match="no notice of a shutdown"):
            venue.announce_shutdown()


@pytest.mark.parametrize(("end", "cause"), [(None, "fin"), ((4000, "bye"), "close 4000")])
def test_a_venue_ends_a_connection_in_its_own_way(dial, end, cause):
    class Own(ScriptedProtocol):
        def __init__(self):
            self.end = end

    with FakeVenue(Own()) as venue:
        dial(venue)
        peer = venue.accept()
        peer.expire()
        assert peer.ended_by == cause
        peer.expire()  # it has ended: this does nothing
