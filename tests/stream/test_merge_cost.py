"""The cost of an overlap: each message costs the same, however many there are, and little waits."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from support.counting import steps
from wsclient.messages import Arrival, Message
from wsclient.stream.channel import Channel
from wsclient.stream.merge import Merge

OLD, NEW = 1, 2
#: How many messages the second connection is behind the first, at most.
LAG = 50


def overlap(count: int, bring: Callable[[Merge, int, float], None], is_numbered: bool) -> None:
    """Let two connections carry ``count`` messages each, 1000 of them per second."""
    channel = Channel("a")
    channel.accept(made(OLD, 0 if is_numbered else None))
    merge = Merge(channel, OLD)
    merge.join(NEW, 0.0)
    merge.confirmed(NEW, 0.0)
    for index in range(1, count + 1):
        now = index / 1000
        bring(merge, index, now)
        if merge.deadline() <= now:
            merge.tick(now)
        merge.is_proven(now)


def made(connection_id: int, number: int | None) -> Message:
    return Message("a", sequence=number, raw=bytes(100), arrival=Arrival(1, connection_id, None))


def numbers(merge: Merge, index: int, now: float) -> None:
    merge.take(OLD, made(OLD, index), None, now)
    if index > LAG:
        merge.take(NEW, made(NEW, index - LAG), None, now)


def jumps(merge: Merge, index: int, now: float) -> None:
    """The first connection misses each third message."""
    if index % 3:
        merge.take(OLD, made(OLD, index), None, now)
    if index > LAG:
        merge.take(NEW, made(NEW, index - LAG), None, now)


def matched(merge: Merge, index: int, now: float) -> None:
    merge.take(OLD, made(OLD, None), index, now)
    if index > LAG:
        merge.take(NEW, made(NEW, None), index - LAG, now)


def repeated(merge: Merge, index: int, now: float) -> None:
    """There are two messages, which take turns."""
    merge.take(OLD, made(OLD, None), index % 2, now)
    merge.take(NEW, made(NEW, None), index % 2, now)


def contradictory(merge: Merge, index: int, now: float) -> None:
    """The second connection misses each fifth message."""
    merge.take(OLD, made(OLD, None), index, now)
    behind = index - LAG
    if behind > 0 and behind % 5:
        merge.take(NEW, made(NEW, None), behind, now)


def alone(merge: Merge, index: int, now: float) -> None:
    merge.take(OLD, made(OLD, None), index, now)


def ahead(merge: Merge, index: int, now: float) -> None:
    merge.take(NEW, made(NEW, None), index, now)


KINDS = {
    bring.__name__: (bring, bring in (numbers, jumps))
    for bring in (numbers, jumps, matched, repeated, contradictory, alone, ahead)
}


@pytest.mark.parametrize("kind", KINDS)
def test_twice_as_many_messages_cost_twice_as_much(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsclient.stream.matching.RING_BYTES", 64 * 1024)
    bring, is_numbered = KINDS[kind]
    few = steps(lambda: overlap(300, bring, is_numbered))
    many = steps(lambda: overlap(600, bring, is_numbered))
    assert many < 2.2 * few


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_overlap_holds_is_bounded(kind: str) -> None:
    bring, is_numbered = KINDS[kind]
    tracemalloc.start()
    try:
        overlap(10_000, bring, is_numbered)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
