"""Checks of what a client delivered against what the venue sent."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable

from wsclient import Message
from wsclient.testing import FakeVenue, Peer

#: Ways of ending a connection, by name.
CUTS: dict[str, Callable[[Peer], None]] = {
    "fin": lambda peer: peer.fin(),
    "rst": lambda peer: peer.rst(),
    "close 1001": lambda peer: peer.close(1001, "going away"),
    "close 1012": lambda peer: peer.close(1012),
    "close 4000": lambda peer: peer.close(4000, "bye"),
    "half a frame, fin": lambda peer: peer.half_frame('{"type": "market_data"}', then="fin"),
    "half a frame, rst": lambda peer: peer.half_frame('{"type": "market_data"}', then="rst"),
}
#: Ways after which everything sent before must have arrived.
ORDERLY = frozenset({"fin", "close 1001", "close 1012", "close 4000", "half a frame, fin"})


def cut(peer: Peer, rng: random.Random) -> str:
    """End a connection in a random way; return its name."""
    name = rng.choice(sorted(CUTS))
    CUTS[name](peer)
    return name


def wait_for_channels(venue: FakeVenue, wanted: Iterable[str]) -> Peer:
    """Wait until the one live peer is subscribed to just the wanted channels; return it."""
    channels = set(wanted)

    def restored(venue: FakeVenue) -> bool:
        assert len(venue.live) <= 1, "more than one connection"
        return len(venue.live) == 1 and venue.live[0].subscriptions == channels

    venue.wait_for(restored, timeout=10.0)
    return venue.live[0]


def check_prefixes(
    delivered: list[Message],
    peers: list[Peer],
    is_data: Callable[[bytes], bool],
    ends: dict[int, str],
) -> None:
    """Check that each connection delivered a prefix of its journal.

    A connection that ended orderly must have delivered all of it.
    """
    ids = [message.connection_id for message in delivered]
    assert ids == sorted(ids), "messages of an older connection came after a newer one's"
    for peer in peers:
        sent = [item.payload for item in peer.journal if is_data(item.payload)]
        got = [message.raw for message in delivered if message.connection_id == peer.id]
        assert got == sent[: len(got)], f"connection {peer.id}: not a prefix of what was sent"
        if ends.get(peer.id) in ORDERLY:
            assert len(got) == len(sent), (
                f"connection {peer.id} ({ends[peer.id]}): {len(sent) - len(got)} lost"
            )


def check_numbered_gaps(delivered: list[Message]) -> int:
    """Check that each jump of a channel's numbers is marked, with its size, and nothing else is.

    Returns how many messages were missed in all.
    """
    missed = 0
    last: dict[str, int] = {}
    for message in delivered:
        assert message.sequence is not None
        before = last.get(message.channel)
        if before is not None:
            gap = message.sequence - before - 1
            assert gap >= 0, f"doubled or reordered: {message}"
            assert (message.gap.missed if message.gap else 0) == gap, f"{message} after {before}"
            missed += gap
        last[message.channel] = message.sequence
    return missed


def is_market_data(payload: bytes) -> bool:
    return json.loads(payload).get("type") == "market_data"
