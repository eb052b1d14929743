"""Row 27: connections replaced under full load, on each kind of channel, for each cause."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

import pytest

import wsclient
from support.helpers import until
from support.matrix import each_size
from support.rotating import PATIENCE, PROVABLE, Rig, Watch, dialect_of, rig_of
from wsclient.sansio import lifetime
from wsclient.testing import KINDS, FakeVenue, Peer, VenueLimits

SEED = random.randrange(10**6)
#: Events per second: what a busy machine keeps up with, and what takes all of one core. With one
#: message for each level, Bitfinex has some seven messages per event.
BUSY, FULL = 300.0, 1000.0
FULL_OF_LEVELS = 150.0
#: The time (s) that a rotation may take. Without a proof it would take more than five seconds.
QUICK = 4.0

Promise = Callable[..., None]


def check(promise: Promise, rig: Rig, watch: Watch, cause: str, seconds: float) -> None:
    """Compare a run with the venue's journal, and enter it in the table."""
    compared = rig.finish()
    stats = rig.client.stats()
    marks = len(compared.of("mark"))
    most = 0 if rig.kind in PROVABLE else stats.rotations
    print(f"seed {SEED}, {watch.reads} reads, {compared.differences[:5]}, {watch.faults[:5]}")
    promise(
        27,
        f"{stats.rotations} rotations by {cause}, {rig.kind}",
        f"nothing lost, doubled or late; marks <= {most}; the book in sync; < {QUICK:g} s each",
        f"{len(rig.delivered)} delivered, {marks} marks, {watch.compared} looks at the book, "
        f"{seconds / stats.rotations:.2f} s each",
        len(compared.differences) == marks <= most
        and not watch.faults
        and stats.books_out_of_sync == 0
        and stats.disconnects == stats.reconnects == 0
        and seconds / stats.rotations < QUICK,
    )


@pytest.mark.parametrize("kind", KINDS)
@each_size("rotations", short=[5], full=[100], timeout=600)
def test_rotate_loses_nothing(promise: Promise, kind: str, rotations: int) -> None:
    full = FULL_OF_LEVELS if kind == "connection" else FULL
    with rig_of(kind, BUSY if rotations == 5 else full, SEED) as rig, Watch(rig) as watch:
        begin = time.monotonic()
        for _ in range(rotations):
            rig.rotate()
        check(promise, rig, watch, "rotate()", time.monotonic() - begin)


@pytest.mark.parametrize("kind", KINDS)
@each_size("rotations", short=[1], full=[100], timeout=900)
def test_a_connection_is_replaced_before_its_maximum_age(
    promise: Promise, kind: str, rotations: int
) -> None:
    age = 3.0
    with (
        rig_of(kind, BUSY, SEED, limits=VenueLimits(max_age=age), max_age=age) as rig,
        Watch(rig) as watch,
    ):
        begin = time.monotonic()
        rig.wait_rotations(rotations)
        check(promise, rig, watch, "age", time.monotonic() - begin)


@pytest.mark.parametrize("kind", ["counted", "range", "pointer", "connection"])
@each_size("rotations", short=[2], full=[100], timeout=600)
def test_a_connection_is_replaced_before_its_announced_end(
    monkeypatch: pytest.MonkeyPatch, promise: Promise, kind: str, rotations: int
) -> None:
    monkeypatch.setattr(lifetime, "MAX_JITTER", 0.01)
    with rig_of(kind, BUSY, SEED) as rig, Watch(rig) as watch:
        begin = time.monotonic()
        for count in range(rotations):
            rig.venue.announce_shutdown(close_after=PATIENCE)
            rig.wait_rotations(count + 1)
        check(promise, rig, watch, "notice", time.monotonic() - begin)


def test_many_clients_of_a_process_do_not_rotate_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have connected together, and their connections have the same maximum age."""
    monkeypatch.setattr(lifetime, "JITTER", 0.25)
    at: list[float] = []
    count = 10

    def note(_: Peer, text: str) -> None:
        if text == "connected":
            at.append(time.monotonic())

    dialect = dialect_of("counted", max_age=4.0)
    with FakeVenue(log=note) as venue, contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(wsclient.connect(venue.url, dialect=dialect))
        until(lambda: len(at) == 2 * count, PATIENCE)
    first, second = at[:count], at[count:]
    assert max(second) - min(second) > max(first) - min(first) + 0.1
