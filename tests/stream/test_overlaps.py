"""The overlaps of a client: which channels two connections carry, and what they release."""

from __future__ import annotations

from typing import Any

import pytest

from wsclient.messages import Arrival, Gap, Message
from wsclient.stream.channels import Channels
from wsclient.stream.merge import SILENCE

OLD, NEW = 1, 2


class Bench:
    """The channels of a client, which connection 1 has carried so far."""

    def __init__(self, *names: str) -> None:
        self.channels = Channels(lambda _: True)
        self.overlaps = self.channels.overlaps
        self.overlaps.at(0.0)
        for name in names:
            self.channels.of(name).accept(message(name, 1))

    def join(self, name: str) -> None:
        self.overlaps.join(name, NEW, (OLD,))
        self.overlaps.confirmed(name, NEW)

    def take(self, connection_id: int, name: str, number: int) -> list[Any]:
        merge = self.overlaps.get(name)
        assert merge is not None
        found = self.overlaps.take(merge, connection_id, message(name, number, connection_id), None)
        return [delivered.sequence for delivered in found]


def message(name: str, number: int, connection_id: int = OLD) -> Message:
    return Message(name, sequence=number, arrival=Arrival(1, connection_id, None, 0.0))


def test_a_channel_that_no_other_connection_carries_does_not_overlap() -> None:
    bench = Bench("a")
    bench.overlaps.join("a", NEW, ())
    bench.overlaps.join("a", OLD, (OLD,))
    assert bench.overlaps.get("a") is None
    assert not bench.overlaps.has(OLD)


def test_two_connections_deliver_each_message_once() -> None:
    bench = Bench("a")
    bench.join("a")
    assert bench.overlaps.has(OLD)
    assert bench.overlaps.has(NEW)
    assert bench.take(OLD, "a", 2) == [2]
    assert bench.take(NEW, "a", 2) == []
    assert bench.take(NEW, "a", 3) == [3]
    assert bench.take(OLD, "a", 3) == []


def test_a_channel_leaves_the_fast_path_until_its_overlap_is_over() -> None:
    bench = Bench("a")
    channel = bench.channels.of("a")
    assert channel.expected == 2
    bench.join("a")
    assert channel.expected not in (2, None)
    bench.take(OLD, "a", 2)
    bench.take(NEW, "a", 2)
    assert channel.expected not in (3, None)
    bench.overlaps.leave("a", "reconnect", OLD)
    assert bench.overlaps.get("a") is None
    assert not bench.overlaps.has(NEW)
    channel.accept(message("a", 3, NEW))
    assert channel.expected == 4


def test_without_an_overlap_the_end_of_a_connection_makes_its_channels_suspect() -> None:
    bench = Bench("a")
    bench.overlaps.leave("a", "reconnect", OLD)
    assert bench.channels.of("a").pending == Gap("reconnect", None, 1)


def test_a_doubt_about_one_of_two_connections_is_no_doubt_about_the_channel() -> None:
    bench = Bench("a", "b")
    bench.join("a")
    for name in "ab":
        bench.overlaps.suspect(name, "invalid", NEW)
    assert bench.channels.of("a").pending is None
    assert bench.channels.of("b").pending == Gap("invalid", None, 1)


def test_what_a_hold_releases_waits_to_be_taken() -> None:
    bench = Bench("a")
    bench.join("a")
    bench.take(OLD, "a", 2)
    bench.take(NEW, "a", 2)
    assert bench.take(NEW, "a", 4) == []  # 3 may come on the other
    at = bench.overlaps.deadline()
    assert 0.0 < at < 1.0
    bench.overlaps.tick(at)
    (released,) = bench.overlaps.take_released()
    assert (released.sequence, released.gap) == (4, Gap("sequence", 1, 1))
    assert bench.overlaps.take_released() == []


def test_the_successor_leads_all_channels_of_a_connection_after_a_switch() -> None:
    bench = Bench("a", "b")
    bench.join("a")
    bench.join("b")
    assert bench.overlaps.of(OLD) == ["a", "b"]
    assert bench.overlaps.proven_at(OLD, 0.0) == pytest.approx(0.25)
    bench.overlaps.switch(OLD)
    assert {bench.overlaps.get(name).leader for name in "ab"} == {NEW}  # type: ignore[union-attr]


def test_a_connection_that_leads_nothing_may_end_at_once() -> None:
    bench = Bench("a")
    bench.join("a")
    assert bench.overlaps.proven_at(NEW, 3.0) == 3.0


def test_a_silent_channel_without_numbers_is_proven_by_silence() -> None:
    bench = Bench()
    bench.channels.of("a")
    bench.join("a")
    assert bench.overlaps.proven_at(OLD, 0.0) == SILENCE


def test_a_forgotten_channel_overlaps_no_longer() -> None:
    bench = Bench("a")
    bench.join("a")
    bench.channels.forget("a")
    assert bench.overlaps.get("a") is None
    assert not bench.overlaps.has(OLD)
    assert not bench.overlaps.has(NEW)


def test_a_connection_that_the_merge_does_not_know_changes_nothing() -> None:
    bench = Bench("a")
    bench.join("a")
    bench.overlaps.leave("a", "reconnect", 3)
    assert bench.overlaps.of(OLD) == ["a"]
    assert bench.channels.of("a").pending is None
