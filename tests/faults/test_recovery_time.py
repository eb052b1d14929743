"""Row 4: the time from a drop until the stream has gone on, with every snapshot."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

import wsclient
from support.matrix import each_size, percentile
from support.network import dial
from support.oracle import cut, wait_for_channels
from wsclient.testing import FakeVenue, KrakenProtocol


class Size(NamedTuple):
    """Size of a run: the number of drops, and the bounds of the delays after them (s)."""

    drops: int
    p50: float
    p99: float


#: The full run holds the figures of the matrix: a loaded machine is no defect.
SHORT = Size(20, 0.25, 1.25)
FULL = Size(1000, 0.05, 0.25)


class Patient(wsclient.Kraken):
    """Dialect of a venue that does not count connects."""

    limits = wsclient.Limits(channels_per_message=100, connects=None)


@pytest.mark.parametrize("channels", [1, 50])
@each_size("size", short=[SHORT], full=[FULL], timeout=300)
def test_from_a_drop_to_the_last_snapshot(
    promise: Callable[..., None], size: Size, channels: int
) -> None:
    seed = 4
    rng = random.Random(seed)
    protocol = KrakenProtocol()
    wanted = {f"book:S{n}" for n in range(channels)}
    for channel in wanted:
        protocol.set_snapshot(channel, bids=[], asks=[])

    delays = []
    with FakeVenue(protocol) as venue, dial(venue.url, dialect=Patient()) as client:

        def snapshots(connection: int) -> None:
            missing = set(wanted)
            while missing:
                for message in client.recv_batch(timeout=5):
                    assert message.type == "snapshot"
                    assert message.connection_id == connection
                    assert (message.gap is not None) == (connection > 1), f"seed {seed}"
                    missing.remove(message.channel)

        client.subscribe(*sorted(wanted))
        snapshots(connection=1)
        for n in range(size.drops):
            peer = wait_for_channels(venue, wanted)
            at = time.monotonic()
            cut(peer, rng)
            snapshots(connection=n + 2)
            delays.append(time.monotonic() - at)
        assert client.stats().connects == size.drops + 1
    p50, p99 = percentile(delays, 50), percentile(delays, 99)
    promise(
        4,
        f"drop, {channels} channel{'s'[: channels > 1]}",
        f"live again, with snapshots: p50 <= {size.p50 * 1e3:g} ms, p99 <= {size.p99 * 1e3:g} ms",
        f"{size.drops} drops: p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms",
        p50 <= size.p50 and p99 <= size.p99,
    )
