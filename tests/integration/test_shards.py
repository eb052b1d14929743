"""Channels beyond the room of one connection get further ones."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from wsclient import WebSocketClient
from wsclient.events import Reconnecting, Recovered
from wsclient.testing import FakeVenue, Feed, VenueLimits

ROOM = 3


def dialect(room: int | None = ROOM, **limits: Any) -> wsclient.Generic:
    given = {"channels_per_connection": room, "connects": None, **limits}
    return wsclient.Generic(limits=wsclient.Limits(**given))


def client_of(
    venue: FakeVenue,
    room: int | None = ROOM,
    *,
    limits: dict[str, Any] | None = None,
    **options: Any,
) -> WebSocketClient:
    given = {"retry_delay": 0.01, "max_retry_delay": 0.05, **options}
    return wsclient.connect(venue.url, dialect=dialect(room, **(limits or {})), **given)


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def sizes(venue: FakeVenue) -> list[int]:
    """Return how many channels each live connection has, the largest number first.

    Those of one call open at the same time, in any order.
    """
    return sorted((len(peer.subscriptions) for peer in venue.live), reverse=True)


def subscribed(venue: FakeVenue) -> Counter[str]:
    """Return how many connections carry each channel."""
    return Counter(channel for peer in venue.live for channel in peer.subscriptions)


def publish_all(venue: FakeVenue, channels: list[str]) -> None:
    for channel in channels:
        venue.publish(channel)


def receive(client: WebSocketClient, count: int) -> list[wsclient.Message]:
    return [client.recv(timeout=10) for _ in range(count)]


@pytest.fixture
def limited() -> Iterator[FakeVenue]:
    with FakeVenue(limits=VenueLimits(channels=ROOM)) as venue:
        yield venue


# Room


def test_channels_beyond_the_room_open_further_connections(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(7))
        assert sizes(limited) == [3, 3, 1]
        assert set(subscribed(limited).values()) == {1}
        assert [(i.shard, len(i.channels)) for i in client.connections] == [(0, 3), (1, 3), (2, 1)]
        publish_all(limited, names(7))
        found = receive(client, 7)
        assert sorted(message.channel for message in found) == names(7)
        assert [message.gap for message in found] == [None] * 7
        assert len({message.connection_id for message in found}) == 3


def test_one_by_one_they_fill_one_connection_after_the_other(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        for channel in names(7):
            client.subscribe(channel)
        assert sizes(limited) == [3, 3, 1]


def test_unsubscribing_gives_room_back(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(6))
        client.unsubscribe("c0", "c4")
        client.subscribe("x", "y")
        assert sizes(limited) == [3, 3]
        assert limited.attempts == 2


def test_a_further_connection_without_channels_is_closed(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(7))
        client.unsubscribe("c6")
        limited.wait_for(lambda venue: sizes(venue) == [3, 3])
        until(lambda: len(client.connections) == 2)
        client.subscribe("x")
        assert sizes(limited) == [3, 3, 1]
        assert client.stats().disconnects == 0, "it was closed as planned"


def test_the_first_connection_is_closed_when_only_a_further_one_has_channels(
    limited: FakeVenue,
) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(4))
        client.unsubscribe(*names(3))
        limited.wait_for(lambda venue: sizes(venue) == [1])
        limited.publish("c3")
        assert client.recv(timeout=5).gap is None
        client.subscribe(*names(3))
        assert sorted(sizes(limited)) == [1, 3]


def test_one_connection_stays_when_no_channel_is_left(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(7))
        client.unsubscribe(*names(7))
        until(lambda: len(client.connections) == 1)
        assert client.is_connected
        client.subscribe("x")
        assert sizes(limited) == [1]


def test_channels_that_come_and_go_leave_no_connection_behind(limited: FakeVenue) -> None:
    """Of four threads."""

    def churn(which: int, client: WebSocketClient) -> None:
        mine = [f"{which}-{number}" for number in range(5)]
        for _ in range(10):
            client.subscribe(*mine)
            client.unsubscribe(*mine)
        client.subscribe(mine[0])

    with client_of(limited) as client:
        calls = [Call(churn, which, client) for which in range(4)]
        for call in calls:
            call.result(30.0)
        until(lambda: sum(sizes(limited)) == 4 and 0 not in sizes(limited))
        assert len(client.subscriptions) == 4
        assert max(sizes(limited)) <= ROOM


# What the venue allows


def test_a_refusal_for_lack_of_room_teaches_the_limit(limited: FakeVenue) -> None:
    with client_of(limited, room=5) as client:
        client.subscribe(*names(8))
        assert sum(sizes(limited)) == 8
        assert max(sizes(limited)) == ROOM
        assert client.stats().channels_refused == 0
        received = sum(len(peer.received) for peer in limited.live)
        client.subscribe("x")
        assert sum(len(peer.received) for peer in limited.live) == received + 1, "it was not tried"
        assert set(subscribed(limited).values()) == {1}


def test_a_dialect_without_a_limit_learns_it(limited: FakeVenue) -> None:
    with client_of(limited, room=None) as client:
        client.subscribe(*names(10))
        assert sum(sizes(limited)) == 10
        assert max(sizes(limited)) == ROOM


def test_a_lower_limit_is_kept_after_a_reconnect(limited: FakeVenue) -> None:
    with client_of(limited, room=6) as client:
        client.subscribe(*names(6))
        for peer in limited.live:
            peer.rst()
        limited.wait_for(lambda venue: sum(sizes(venue)) == 6)
        assert sizes(limited) == [3, 3]
        assert client.stats().channels_lost == 0


def test_a_limit_that_falls_moves_what_was_active(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(3))
        limited.limits = VenueLimits(channels=2)
        limited.live[0].rst()
        limited.wait_for(lambda venue: sorted(sizes(venue)) == [1, 2])
        publish_all(limited, names(3))
        found = receive(client, 3)
        assert sorted(message.channel for message in found) == names(3)
        assert client.stats().channels_lost == 0


def test_a_connection_that_takes_no_channel_at_all_is_refused() -> None:
    with (
        FakeVenue(limits=VenueLimits(channels=0)) as venue,
        client_of(venue) as client,
    ):
        with pytest.raises(wsclient.SubscriptionRejected, match="at most 0 channels"):
            client.subscribe("a")
        assert venue.attempts == 1


def test_the_venue_s_number_of_connections_refuses_the_rest(limited: FakeVenue) -> None:
    limited.limits = VenueLimits(channels=ROOM, connections=2)
    with client_of(limited, limits={"connections": 2}) as client:
        with pytest.raises(wsclient.SubscriptionRejected, match="2 connections") as refused:
            client.subscribe(*names(8))
        assert set(refused.value.failed) == {"c6", "c7"}
        assert sizes(limited) == [3, 3]
        client.unsubscribe("c1")
        client.subscribe("c7")
        assert sizes(limited) == [3, 3]


def test_messages_are_limited_per_connection() -> None:
    """Each connection may send one: a limit of all together would take hours."""
    limits = VenueLimits(channels=1, messages=(1, 3600.0))
    with (
        FakeVenue(limits=limits) as venue,
        client_of(venue, room=1, limits={"messages_per_second": 1 / 3600}) as client,
    ):
        client.subscribe(*names(4), timeout=60.0)
        assert sizes(venue) == [1, 1, 1, 1]
        assert client.stats().disconnects == 0


def test_connects_are_limited_for_all_connections_together() -> None:
    limits = VenueLimits(channels=1, connects=(2, 0.5))
    with (
        FakeVenue(limits=limits) as venue,
        client_of(venue, room=1, limits={"connects": (2, 0.6)}) as client,
    ):
        client.subscribe(*names(5), timeout=60.0)
        assert sizes(venue) == [1] * 5
        assert client.stats().attempt_failures == {}


def test_a_429_delays_one_connection_alone(limited: FakeVenue) -> None:
    """For as long as its Retry-After says."""
    with client_of(limited) as client:
        client.subscribe(*names(6))
        events = client.events(Reconnecting)
        limited.refuse(429, retry_after=600)
        limited.live[0].rst()
        waits = [next(events), next(events)]
        assert isinstance(waits[1], Reconnecting)
        assert waits[1].delay >= 599.0
        publish_all(limited, names(6))
        assert {m.channel for m in receive(client, 3)} == {"c3", "c4", "c5"}
        limited.live[0].rst()
        limited.wait_for(lambda venue: sizes(venue) == [3])
        client.subscribe("x")
        assert sizes(limited) == [3, 1]


# A cut


def test_a_cut_marks_only_the_channels_that_it_concerns(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(9))
        publish_all(limited, names(9))
        receive(client, 9)
        events = client.events(Recovered)
        cut = limited.live[1]
        concerned = cut.subscriptions
        cut.rst()
        publish_all(limited, names(9))
        next(events)
        publish_all(limited, names(9))
        found = receive(client, 15)
        marked = {m.channel: m.gap.missed for m in found if m.gap is not None}
        assert marked == dict.fromkeys(concerned, 1)
        assert limited.journal.compare(found, dict.fromkeys(names(9), 1)).unmarked == []
        assert client.stats().disconnects == client.stats().reconnects == 1


def test_the_client_is_open_while_one_connection_is(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(6))
        limited.refuse(503, times=1000)
        limited.live[0].rst()
        until(lambda: len([i for i in client.connections if i.state == "open"]) == 1)
        assert client.is_connected
        client.send({"type": "ping"})


def test_all_are_cut_at_once(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(9))
        events = client.events(Recovered)
        for peer in limited.live:
            peer.rst()
        next(events)
        assert sizes(limited) == [3, 3, 3]
        publish_all(limited, names(9))
        assert all(m.gap is not None for m in receive(client, 9))


def test_close_ends_all_connections(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(9))
    limited.wait_for(lambda venue: not venue.live)
    assert [peer.ended_by for peer in limited.peers] == ["client close 1000"] * 3


def test_a_rotation_keeps_the_shards(limited: FakeVenue) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(8))
        publish_all(limited, names(8))
        client.rotate(timeout=30.0)
        publish_all(limited, names(8))
        assert sorted(sizes(limited)) == [2, 3, 3]
        assert limited.attempts == 6
        found = receive(client, 16)
        assert limited.journal.compare(found).is_exact


# What happens meanwhile


def test_a_caller_that_gives_up_gives_up_the_connection_too(limited: FakeVenue) -> None:
    with client_of(limited, connect_timeout=60.0) as client:
        client.subscribe(*names(3))
        limited.fail_handshake("deaf")
        with pytest.raises(wsclient.SubscriptionTimeout):
            client.subscribe("x", timeout=0.2)
        until(lambda: len(client.connections) == 1, timeout=3.0)
        assert client.stats().attempt_failures == {}
        client.subscribe("x")
        assert sizes(limited) == [3, 1]


def test_an_unsubscribe_while_its_connection_opens(limited: FakeVenue) -> None:
    with client_of(limited, connect_timeout=60.0) as client:
        client.subscribe(*names(3))
        limited.fail_handshake("deaf")
        call = Call(client.subscribe, "x")
        limited.wait_for(lambda venue: venue.attempts == 2)
        client.unsubscribe("x")
        with pytest.raises(wsclient.SubscriptionRejected, match="unsubscribed"):
            call.result()
        until(lambda: len(client.connections) == 1, timeout=3.0)
        assert client.is_connected


def test_a_connection_that_is_refused_for_good_loses_its_channels_alone(
    limited: FakeVenue,
) -> None:
    with client_of(limited) as client:
        client.subscribe(*names(6))
        limited.refuse(403)
        limited.live[1].rst()
        lost = receive(client, 3)
        assert [(m.channel, m.type) for m in lost] == [(name, "lost") for name in names(6)[3:]]
        assert set(client.subscriptions) == set(names(3))
        client.subscribe("c3")
        assert sizes(limited) == [3, 1]


def test_a_reader_and_a_callback_of_several_connections(limited: FakeVenue) -> None:
    seen: list[str] = []
    with client_of(limited) as client:
        client.on(names(5), lambda message: seen.append(message.channel))
        with client.reader(*names(7)) as reader:
            publish_all(limited, names(7))
            assert sorted(reader.recv(timeout=10).channel for _ in names(7)) == names(7)
        until(lambda: len(seen) == 5)
        limited.wait_for(lambda venue: sizes(venue) == [3, 2])


def test_order_books_of_several_connections_stay_in_sync() -> None:
    """One of them is cut again and again."""
    symbols = ["BTC-USDT", "ETH-USDT", "SOL-USDT"]
    channels = [f"books:{symbol}" for symbol in symbols]
    okx = wsclient.OKX()
    okx.limits = wsclient.Limits(channels_per_connection=1, connects=None)
    with (
        FakeVenue("okx") as venue,
        Feed(venue, dict.fromkeys(channels, 300.0)) as feed,
        wsclient.connect(venue.route_url("public"), dialect=okx, retry_delay=0.01) as client,
    ):
        books = [client.order_book(symbol) for symbol in symbols]
        assert sizes(venue) == [1, 1, 1]
        events = client.events(Recovered)
        for _ in range(5):
            venue.subscribers(channels[1])[0].rst()
            next(events)
            feed.wait(30)
            assert books[0].is_synced
            assert books[2].is_synced
        feed.stop()
        for book, channel in zip(books, channels, strict=True):
            until(functools.partial(_has, book, venue.sequence(channel)))
            assert book.is_synced


def _has(book: wsclient.OrderBook, number: int) -> bool:
    return book.sequence == number
