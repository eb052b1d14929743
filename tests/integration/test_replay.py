"""Real traffic over a real socket, through cut connections."""

from __future__ import annotations

import json
import random
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
from wsclient.testing import FakeVenue, Peer, Replay

RECORDING = Path(__file__).parents[3] / "shared/recorded/kraken/kraken_btcusd_l2.jsonl"
BOOK = "book:BTC/USD"


def is_book(payload: bytes) -> bool:
    return json.loads(payload).get("channel") == "book"


@pytest.mark.skipif(not RECORDING.exists(), reason="needs the recordings in ../shared/recorded")
@pytest.mark.parametrize("hold", [True, False], ids=["venue waits", "venue goes on"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_recorded_kraken_traffic_survives_cuts_and_says_what_was_missed(
    seed: int, hold: bool
) -> None:
    rng = random.Random(seed)
    replay = Replay(RECORDING, hold=hold)
    delivered: list[wsclient.Message] = []
    ends: dict[int, str] = {}
    with (
        FakeVenue(replay) as venue,
        wsclient.connect(venue.url, dialect="kraken", retry_delay=0.01) as client,
    ):
        client.subscribe(BOOK, depth=10)
        while replay.cursor < len(replay.lines):
            peer = wait_for_channels(venue, [BOOK])
            replay.play(venue, rng.randint(5, 60))
            delivered += _until_a_message_of(client, peer)
            if replay.cursor < len(replay.lines):
                ends[peer.id] = cut(peer, rng)
                replay.play(venue, rng.randint(0, 3) if not hold else 0)
        last = next(s.payload for s in reversed(venue.peers[-1].journal) if is_book(s.payload))
        while not delivered or delivered[-1].raw != last:
            delivered += client.recv_batch(timeout=5)
        stats = client.stats()

    assert len(ends) > 5
    check_prefixes(delivered, venue.peers, is_book, ends)
    assert all(message.channel == BOOK for message in delivered)
    assert all(message.data["symbol"] == "BTC/USD" for message in delivered)
    first_of = {}
    for message in delivered:
        first = first_of.setdefault(message.connection_id, message)
        # Kraken numbers nothing: each connection's first message must mark a possible gap.
        marked = message.gap is not None
        assert marked == (message is first and message is not delivered[0])
        if marked:
            assert message.gap.reason == "reconnect"
            assert message.gap.missed is None
            assert message.gap.since is not None
            assert message.type == "snapshot"
    assert stats.gaps == len(first_of) - 1
    assert stats.invalid == stats.unhandled == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_numbered_channels_survive_cuts_and_every_gap_is_counted(
    venue: FakeVenue, seed: int
) -> None:
    rng = random.Random(seed)
    channels = [f"synthetic-{i}" for i in range(8)]
    delivered: list[wsclient.Message] = []
    ends: dict[int, str] = {}
    with wsclient.connect(venue.url, retry_delay=0.01) as client:
        client.subscribe(*channels)
        for _ in range(20):
            peer = wait_for_channels(venue, channels)
            for _ in range(rng.randint(1, 300)):
                venue.publish(rng.choice(channels), price=rng.random(), size=rng.random())
            ends[peer.id] = cut(peer, rng)
            for _ in range(rng.randint(0, 40)):
                venue.publish(rng.choice(channels), price=0)
        wait_for_channels(venue, channels)
        final = {channel: venue.publish(channel, price=1) for channel in channels}
        reached: dict[str, int | None] = {}
        while reached != final:
            batch = client.recv_batch(timeout=5)
            delivered += batch
            reached.update((m.channel, m.sequence) for m in batch)
        stats = client.stats()

    check_prefixes(delivered, venue.peers, is_market_data, ends)
    missed = check_numbered_gaps(delivered)
    # Everything is accounted for: what was published was delivered, or is named in a gap, except
    # for what was published before a channel's first message.
    first = {m.channel: m.sequence for m in reversed(delivered)}
    published = sum(final[c] - (first[c] or 0) + 1 for c in channels)
    assert published == len(delivered) + missed
    assert stats.missed == missed


def _until_a_message_of(client: wsclient.WebSocketClient, peer: Peer) -> list[wsclient.Message]:
    """Return all that is delivered, up to a batch with a message of this connection."""
    if not any(is_book(sent.payload) for sent in peer.journal):
        return []
    delivered: list[wsclient.Message] = []
    while not delivered or delivered[-1].connection_id != peer.id:
        delivered += client.recv_batch(timeout=5)
    return delivered
