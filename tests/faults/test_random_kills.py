"""Row 1: connections cut at random, against an independent server."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import wsclient
from support.journal import Journal, ServedConnection
from support.matrix import each_size
from support.oracle import check_numbered_gaps, check_prefixes, cut, is_market_data

CHANNELS = ["a", "b", "c", "d"]
UNLIMITED = wsclient.Generic(limits=wsclient.Limits(connects=None))


@pytest.mark.parametrize("seed", [11, 12])
@each_size("kills", short=[50], full=[500], timeout=300)
def test_nothing_is_lost_doubled_or_reordered_silently(
    promise: Callable[..., None], kills: int, seed: int
) -> None:
    rng = random.Random(seed)
    delivered: list[wsclient.Message] = []
    ends: dict[int, str] = {}

    def publish(server: Journal, most: int) -> None:
        for _ in range(rng.randint(0, most)):
            server.publish(rng.choice(CHANNELS), pad="x" * rng.choice([0, 100, 5000]))

    def publish_and_cut(server: Journal, connection: ServedConnection) -> None:
        publish(server, 12)
        ends[connection.id] = cut(connection, rng)  # type: ignore[arg-type]
        publish(server, 5)

    with (
        Journal() as server,
        wsclient.connect(server.url, dialect=UNLIMITED, retry_delay=0.01) as client,
    ):
        client.subscribe(*CHANNELS)
        for _ in range(kills):
            connection = restored(server)
            publish(server, 12)
            if rng.random() < 0.5 and connection.journal[len(CHANNELS) :]:
                # Half of the time the data is read first, and the connection has proved itself.
                delivered += client.recv_batch(timeout=5)
            if rng.random() < 0.5:
                server.run(
                    lambda connection=connection: publish_and_cut(server, connection)
                )  # in one go
            else:
                publish_and_cut(server, connection)
        restored(server)
        final = {channel: server.publish(channel) for channel in CHANNELS}
        last: dict[str, int | None] = {}
        while any(last.get(channel) != number for channel, number in final.items()):
            batch = client.recv_batch(timeout=5)
            delivered += batch
            last.update((message.channel, message.sequence) for message in batch)
        stats = client.stats()
        connections = list(server.connections)

    check_prefixes(delivered, connections, is_market_data, ends)  # type: ignore[arg-type]
    missed = check_numbered_gaps(delivered)
    sent = sum(final.values())
    unheard = 0  # before the first message of a channel, whose gap cannot know how many
    for message in {m.channel: m for m in reversed(delivered)}.values():
        assert message.sequence is not None
        unheard += message.sequence - 1
        assert (message.gap is not None) == (message.sequence > 1)
    assert stats.connects == stats.dials == len(connections) == kills + 1
    promise(
        1,
        f"{kills} random kills (seed {seed})",
        "each gap marked once, at its place, with its size; prefixes, whole on FIN",
        f"{sent} sent, {len(delivered)} delivered, {missed} missed and marked",
        sent == len(delivered) + missed + unheard and stats.missed == missed,
    )


def restored(server: Journal) -> ServedConnection:
    """Return the one live connection when it is subscribed to all channels."""

    def ready(server: Journal) -> ServedConnection | None:
        assert len(server.live) <= 1, "more than one connection"
        return next((x for x in server.live if x.subscriptions == set(CHANNELS)), None)

    connection = server.wait_for(ready)
    assert connection is not None
    return connection
