"""Many cut connections in a row: lost messages are marked, wanted channels come back."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

import wsclient
from support.oracle import (
    check_numbered_gaps,
    check_prefixes,
    cut,
    is_market_data,
    wait_for_channels,
)
from wsclient.testing import FakeVenue

CHANNELS = ["a", "b", "c", "d"]
UNLIMITED = wsclient.Generic(limits=wsclient.Limits(connects=None))


def _count_files() -> int:
    fds = Path("/proc/self/fd")
    return len(os.listdir(fds)) if fds.exists() else 0


@pytest.mark.parametrize("seed", [1, 2])
def test_two_hundred_kills_lose_no_subscription_and_no_message_silently(
    venue: FakeVenue, seed: int
) -> None:
    rng = random.Random(seed)
    delivered: list[wsclient.Message] = []
    ends: dict[int, str] = {}
    kills = 100
    with wsclient.connect(venue.url, dialect=UNLIMITED, retry_delay=0.01) as client:
        client.subscribe(*CHANNELS)
        threads, files = threading.active_count(), _count_files()
        for _ in range(kills):
            peer = wait_for_channels(venue, CHANNELS)
            for _ in range(rng.randint(1, 12)):
                venue.publish(rng.choice(CHANNELS), price=rng.random())
            if rng.random() < 0.5:
                # Half of the time the data is read first, and the connection has proved itself.
                delivered += client.recv_batch(timeout=5)
            ends[peer.id] = cut(peer, rng)
            for _ in range(rng.randint(0, 5)):
                venue.publish(rng.choice(CHANNELS), price=rng.random())
        wait_for_channels(venue, CHANNELS)
        final = {channel: venue.publish(channel, last=True) for channel in CHANNELS}
        last: dict[str, int | None] = {}
        while any(last.get(channel) != number for channel, number in final.items()):
            batch = client.recv_batch(timeout=5)
            delivered += batch
            last.update((message.channel, message.sequence) for message in batch)

        check_prefixes(delivered, venue.peers, is_market_data, ends)
        check_numbered_gaps(delivered)
        stats = client.stats()
        assert stats.disconnects == kills
        assert stats.connects == kills + 1 == len(venue.peers)
        assert stats.messages == len(delivered)
        venue.wait_for(lambda venue: all(p.closed for p in venue.peers[:-1]))
        assert threading.active_count() <= threads + 1  # one reader may be about to end
        assert _count_files() <= files + 2


def test_close_ends_within_a_second_after_each_of_many_kills(venue: FakeVenue) -> None:
    rng = random.Random(3)
    for _ in range(40):
        client = wsclient.connect(venue.url, dialect=UNLIMITED)
        client.subscribe("a")
        venue.publish("a")
        cut(venue.live[-1], rng)
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 1.0
        attempts = venue.attempts
        assert client.state is wsclient.State.CLOSED
        with pytest.raises(wsclient.ClientClosed):
            client.connect()
        assert venue.attempts == attempts
