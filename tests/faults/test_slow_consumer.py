"""Row 8: a consumer that does not take its messages.

Its queue stays within its bound, drops by its policy and says so once, and the connection does not
suffer.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

import wsclient
from support.helpers import until
from support.inside import core_of
from support.journal import Journal
from support.matrix import each_size
from wsclient import Message
from wsclient.runtime import router

CHANNELS = "abc"
SIZE = 50


def feed(server: Journal, count: int, pad: int = 0) -> list[tuple[str, int]]:
    """Publish ``count`` messages.

    Returns their channels and numbers, in the order of the wire.
    """
    names = [CHANNELS[n * n % 7 % 3] for n in range(count)]
    return server.run(lambda: [(name, server.publish(name, pad="x" * pad)) for name in names])


def names_of(messages: list[Message]) -> list[tuple[str, int | None]]:
    return [(message.channel, message.sequence) for message in messages]


def expected(policy: str, sent: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return what a queue with this policy holds of what was sent."""
    if policy == "conflate":
        last = dict(sent)
        return [(name, last[name]) for name in dict.fromkeys(name for name, _ in sent)]
    return sent[-SIZE:] if policy == "drop_oldest" else sent[:SIZE]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "conflate", "error"])
@each_size("messages", short=[500], full=[50_000], timeout=300)
def test_the_policy_is_exact(promise: Callable[..., None], messages: int, policy: str) -> None:
    with (
        Journal() as server,
        wsclient.connect(server.url, queue_size=SIZE, overflow=policy) as client,
    ):
        client.subscribe(*CHANNELS)
        sent = feed(server, messages)
        if policy == "error":
            until(lambda: client.state is wsclient.State.FAILED)
        else:
            until(lambda: client.stats().messages == messages, timeout=60)
        delivered: list[Message] = []
        error: Exception | None = None
        try:
            while True:
                delivered += client.recv_batch(timeout=0)
        except (TimeoutError, wsclient.QueueOverflow) as raised:
            error = raised
        is_exact = names_of(delivered) == expected(policy, sent)
        assert isinstance(error, wsclient.QueueOverflow) == (policy == "error")
        if policy != "error":
            # The next messages mark the gaps at the end.
            sent += feed(server, len(CHANNELS) * 3)
            last = dict(sent)
            while any(last[name] not in {m.sequence for m in delivered} for name in CHANNELS):
                delivered += client.recv_batch(timeout=5)
            is_exact &= accounted(delivered) == last
    promise(
        8,
        f"slow consumer, {policy}",
        "holds what the policy says; each dropped message is counted by a gap",
        f"{messages} sent to a queue of {SIZE}, {len(delivered)} delivered",
        is_exact,
    )


def accounted(delivered: list[Message]) -> dict[str, int]:
    """Return the number of delivered and missed messages of each channel."""
    counts = dict.fromkeys(CHANNELS, 0)
    for message in delivered:
        counts[message.channel] += 1
        if message.gap is not None:
            assert message.gap.missed is not None
            counts[message.channel] += message.gap.missed
        assert counts[message.channel] == message.sequence, "the mark is not at its place"
    return counts


@pytest.mark.parametrize(
    "pad",
    [
        10_000,
        1000,
        0,
    ],
)
@each_size("bound", short=[2 << 20], full=[32 << 20], timeout=600)
def test_memory_stays_within_the_bound(promise: Callable[..., None], bound: int, pad: int) -> None:
    """Memory that the code of wsclient has allocated and not freed stays within the bound."""
    with (
        Journal() as server,
        wsclient.connect(server.url, queue_size=None, queue_bytes=bound) as client,
    ):
        client.subscribe(*CHANNELS)
        tracemalloc.start(1)
        try:
            sent = 0
            while client.stats().dropped < 500:
                sent += len(feed(server, 500, pad))
                until(lambda sent=sent: client.stats().messages == sent)
            ours = tracemalloc.Filter(True, "*/wsclient/*")
            traces = tracemalloc.take_snapshot().filter_traces([ours])
        finally:
            tracemalloc.stop()
        held = sum(statistic.size for statistic in traces.statistics("filename"))
    promise(
        8,
        f"slow consumer, payloads of {pad + 70}",
        "memory <= the bound + 10 %",
        f"{held / bound:.1%} of {bound >> 20} MB",
        held <= 1.1 * bound,
    )


@each_size("beats", short=[20], full=[1000], timeout=300)
def test_the_heartbeat_is_unaffected(promise: Callable[..., None], beats: int) -> None:
    with (
        Journal() as server,
        wsclient.connect(
            server.url, queue_size=SIZE, ping_interval=0.02, ping_timeout=1.0
        ) as client,
    ):
        client.subscribe(*CHANNELS)
        (connection,) = server.connections
        for _ in range(beats):
            pings, pongs = connection.pings, connection.pongs
            connection.ping()
            feed(server, SIZE)
            # A ping of ours, and our answer to one of theirs, though no consumer takes the
            # messages.
            until(
                lambda pings=pings, pongs=pongs: (
                    connection.pings > pings and connection.pongs > pongs
                )
            )
        promise(
            8,
            "slow consumer, heartbeat",
            "pings go out and are answered, the connection is kept",
            f"{connection.pings} pings out, {connection.pongs} answered, "
            f"{len(server.connections)} connection",
            client.stats().dials == 1 and connection.live and connection.pongs == beats,
        )


def test_one_alarm_per_episode(
    promise: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(router, "LOOK_FOR_DROPS", 0.05)

    def alarms() -> int:
        return sum("drops messages" in record.getMessage() for record in caplog.records)

    with Journal() as server, wsclient.connect(server.url, queue_size=SIZE) as client:
        client.subscribe(*CHANNELS)
        for episode in (1, 2):
            for _ in range(4):  # checks, and drops
                looked_at = core_of(client).router.look_at
                feed(server, 2 * SIZE)
                until(lambda at=looked_at: core_of(client).router.look_at > at)
            until(lambda episode=episode: alarms() == episode)
            client.recv_batch(timeout=5)
            until(lambda: not core_of(client).router.dropping)
    promise(8, "slow consumer, alarm", "one an episode", f"{alarms()} in 2 episodes", alarms() == 2)


def test_conflating_is_no_alarm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(router, "LOOK_FOR_DROPS", 0.01)
    with Journal() as server, wsclient.connect(server.url, overflow="conflate") as client:
        client.subscribe(*CHANNELS)
        feed(server, 100)
        until(lambda: client.stats().dropped == 97)
        client.unsubscribe(CHANNELS[0])  # the watchdog has checked
    assert "drops" not in caplog.text
