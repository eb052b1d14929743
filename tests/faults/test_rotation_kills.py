"""Row 27: either connection of a rotation, or both, cut at each of its steps."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import pytest

from support.helpers import until
from support.matrix import each_size
from support.oracle import CUTS, ORDERLY
from support.rotating import PATIENCE, PROVABLE, Rig, rig_of
from wsclient.events import Disconnected, StateChanged
from wsclient.telemetry.stats import Stats
from wsclient.testing import KINDS, Comparison, Difference, Peer

SEED = random.randrange(10**6)
CHANNELS = 3
#: The kinds whose numbers show that nothing was lost, even after all connections were lost. Others
#: begin with a snapshot.
NUMBERED = ("counted", "range")

Promise = Callable[..., None]
#: A step, and which of the two connections are cut there.
Plan = tuple[str, tuple[str, ...]]


class Run(NamedTuple):
    compared: Comparison
    delivered: int
    stats: Stats


#: The steps of a rotation: what the venue notes on the new connection, or on the old one.
STEPS = {
    "connected": ("new", "connected"),
    "first subscribe": ("new", "subscribed to"),
    "last subscribe": ("new", "subscribed to"),
    "overlap": ("new", "subscribed to"),
    "drain": ("old", "gone: client close"),
}


class Saboteur:
    """Cuts connections at one step of the next rotation. It is a venue's log."""

    def __init__(self, rng: random.Random, how: Collection[str] = CUTS) -> None:
        self._rng = rng
        self._how = how
        self._step = ""
        self._victims: tuple[str, ...] = ()
        self._old: set[int] = set()
        self._count = 0
        self.is_done = True

    def arm(self, rig: Rig, plan: Plan) -> None:
        with rig.venue.lock:
            self._step, self._victims = plan
            # Without an answer, the overlap goes on. Elsewhere it takes time by itself.
            if plan == ("overlap", ("new",)) and rig.kind in PROVABLE:
                rig.venue.mute_acks(channel=rig.channels[-1])
            self._old = {peer.id for peer in rig.venue.peers}
            self._count = rig.count if self._step in ("last subscribe", "overlap") else 1
            self.is_done = False

    def __call__(self, peer: Peer, text: str) -> None:
        if self.is_done:
            return
        whose, what = STEPS[self._step]
        if (peer.id in self._old) is not (whose == "old") or not text.startswith(what):
            return
        self._count -= 1
        if self._count:
            return
        self.is_done = True
        for other in peer.venue.peers[-2:]:
            if ("old" if other.id in self._old else "new") in self._victims:
                delay = self._rng.random() * (0.1 if self._step == "overlap" else 0.002)
                if self._step in ("connected", "first subscribe"):
                    self._cut(other)  # before the answer, which would end the overlap
                else:
                    other.call_later(delay, functools.partial(self._cut, other))

    def _cut(self, peer: Peer) -> None:
        peer.venue.mute_acks(False)
        if peer.live:
            CUTS[self._rng.choice(sorted(self._how))](peer)


def run(kind: str, plans: Sequence[Plan], how: Collection[str] = CUTS) -> Run:
    """Rotate once per plan, and cut as it says; then compare with the venue's journal."""
    rng = random.Random(SEED)
    saboteur = Saboteur(rng, how)
    with rig_of(kind, 300.0, SEED, count=CHANNELS, log=saboteur) as rig:
        for plan in plans:
            saboteur.arm(rig, plan)
            rig.rotate()
            until(lambda: saboteur.is_done, PATIENCE)
            until(lambda: rig.is_whole, PATIENCE)
            rig.feed.wait(30, PATIENCE)
        compared = rig.finish()
        print(f"seed {SEED}, {unexplained(compared, kind)[:9] or compared.differences[:9]}")
        return Run(compared, len(rig.delivered), rig.client.stats())


def unexplained(compared: Comparison, kind: str) -> list[Difference]:
    """Return the differences without a mark, except for what belongs to a marked snapshot.

    The snapshot is older than the last update delivered: those that follow it come again.
    """
    found = compared.unmarked
    if kind in ("connection", "checksum"):
        doubled = compared.of("doubled")
        known = {(each.channel, each.last + 1) for each in doubled}
        found = [each for each in found if (each.channel, each.first) not in known]
    return found


def shuffled(plans: Iterable[Plan], rounds: int) -> list[Plan]:
    found = list(plans) * rounds
    random.Random(SEED).shuffle(found)
    return found


@pytest.mark.parametrize("kind", KINDS)
@each_size("rounds", short=[1], full=[20], timeout=1800)
def test_a_cut_at_any_step_of_a_rotation_loses_nothing_unmarked(
    promise: Promise, kind: str, rounds: int
) -> None:
    victims = [("old",), ("new",), ("old", "new")]
    plans = [plan for plan in itertools.product(STEPS, victims) if plan != ("drain", ("old",))]
    compared, delivered, _ = run(kind, shuffled(plans, rounds))
    lost = sum(found.last - found.first + 1 for found in compared.of("lost"))
    marks = len(compared.of("mark"))
    promise(
        27,
        f"{len(plans) * rounds} cuts in rotations, {kind}",
        "nothing lost, doubled or late unmarked",
        f"{delivered} delivered, {lost} lost and marked, {marks} marks beside that",
        not unexplained(compared, kind)
        and not compared.of("unknown")
        and marks <= (0 if kind in NUMBERED else CHANNELS * len(plans) * rounds),
    )


@pytest.mark.parametrize("kind", KINDS)
@each_size("rounds", short=[1], full=[20], timeout=1800)
def test_a_cut_of_the_successor_costs_nothing(promise: Promise, kind: str, rounds: int) -> None:
    plans = [(step, ("new",)) for step in ("connected", "first subscribe", "overlap")]
    compared, delivered, stats = run(kind, shuffled(plans, rounds))
    promise(
        27,
        f"{len(plans) * rounds} cuts of the successor, {kind}",
        "nothing lost, doubled, late or marked",
        f"{delivered} delivered, {len(compared.differences)} differences",
        compared.is_exact and stats.rotations == len(plans) * rounds,
    )


@pytest.mark.parametrize("kind", PROVABLE)
@each_size("rounds", short=[2], full=[20], timeout=1800)
def test_a_successor_that_has_all_channels_replaces_one_that_is_cut(
    promise: Promise, kind: str, rounds: int
) -> None:
    plans = [(step, ("old",)) for step in ("last subscribe", "overlap")]
    compared, delivered, _ = run(kind, shuffled(plans, rounds), ORDERLY)
    promise(
        27,
        f"{len(plans) * rounds} cuts of the old connection, {kind}",
        "nothing lost, doubled, late or marked",
        f"{delivered} delivered, {len(compared.differences)} differences",
        compared.is_exact,
    )


@pytest.mark.parametrize("fault", ["reset", "eof", "garbage", "deaf", 503, 401])
def test_a_successor_that_cannot_connect_is_tried_again(fault: Any) -> None:
    with rig_of("counted", 300.0, SEED, count=CHANNELS, connect_timeout=0.3) as rig:
        if isinstance(fault, str):
            rig.venue.fail_handshake(fault, times=2)  # type: ignore[arg-type]
        else:
            rig.venue.refuse(fault, times=1)
        rig.rotate()
        assert rig.finish().is_exact
        assert rig.rotations == 1


def test_the_end_of_both_is_told_by_what_ended_the_successor() -> None:
    saboteur = Saboteur(random.Random(SEED), ["close 4000"])
    with rig_of("counted", 300.0, SEED, log=saboteur) as rig:
        events = rig.client.events()
        saboteur.arm(rig, ("drain", ("new",)))
        rig.rotate()
        until(lambda: rig.client.stats().reconnects)
        rig.finish()
    said = [e.why for e in events if isinstance(e, (Disconnected, StateChanged))]
    assert not any("no channel" in why for why in said)
    assert sum("another connection has taken over" in why for why in said) == 1
    assert any("4000" in why for why in said)
