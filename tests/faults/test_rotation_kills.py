"""Row 27: either connection of a rotation, or both, cut at each of its steps."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

import wsclient
from support.helpers import Call, until
from support.matrix import each_size
from support.oracle import CUTS
from support.rotating import PATIENCE, PROVABLE, Rig, rig_of
from wsclient.testing import KINDS, Peer

SEED = random.randrange(10**6)
CHANNELS = 3

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

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._step = ""
        self._victims: tuple[str, ...] = ()
        self._old: set[int] = set()
        self._count = 0
        self.is_done = True

    def arm(self, rig: Rig, step: str, victims: tuple[str, ...]) -> None:
        with rig.venue.lock:
            self._step, self._victims = step, victims
            self._old = {peer.id for peer in rig.venue.peers}
            self._count = CHANNELS if step in ("last subscribe", "overlap") else 1
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
                delay = self._rng.random() * (0.4 if self._step == "overlap" else 0.002)
                other.call_later(delay, lambda other=other: cut(other, self._rng))


def cut(peer: Peer, rng: random.Random) -> None:
    if peer.live:
        CUTS[rng.choice(sorted(CUTS))](peer)


def whole(rig: Rig) -> bool:
    """Return whether one connection is left, which carries all channels."""
    found = rig.client.subscriptions
    is_active = all(found[channel].is_active for channel in rig.channels)
    return is_active and len(rig.venue.live) == 1 == len(rig.carriers)


PLANS = [
    (step, victims)
    for step, victims in itertools.product(STEPS, [("old",), ("new",), ("old", "new")])
    if not (step == "drain" and "old" in victims)
]


@pytest.mark.parametrize("kind", KINDS)
@each_size("rounds", short=[1], full=[20], timeout=1800)
def test_a_cut_at_any_step_of_a_rotation_loses_nothing_unmarked(
    promise: Callable[..., None], kind: str, rounds: int
) -> None:
    rng = random.Random(SEED)
    saboteur = Saboteur(rng)
    plans = PLANS * rounds
    rng.shuffle(plans)
    with rig_of(kind, 300.0, SEED, count=CHANNELS, log=saboteur) as rig:
        for step, victims in plans:
            saboteur.arm(rig, step, victims)
            rig.rotate()
            until(lambda: saboteur.is_done, PATIENCE)
            until(lambda: whole(rig), PATIENCE)
            rig.feed.wait(30, PATIENCE)
        compared = rig.finish()
        stats = rig.client.stats()
    print(f"seed {SEED}, {compared.differences[:9]}")
    lost = sum(found.last - found.first + 1 for found in compared.of("lost"))
    marks = compared.of("mark")
    promise(
        27,
        f"{len(plans)} cuts in rotations, {kind}",
        "nothing lost, doubled or late unmarked",
        f"{len(rig.delivered)} delivered, {lost} lost and marked, {len(marks)} marks beside that",
        not compared.unmarked
        and not compared.of("unknown")
        and (not marks or kind not in PROVABLE)
        and lost <= stats.missed or kind not in PROVABLE,
    )
