"""Stops: while a thread holds the interpreter's lock again and again, no live connection is cut.

A dead connection is still detected in time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.examples import examples
from support.rig import LOGIN, Rig
from wsclient.sansio.actions import Cut, Ping
from wsclient.sansio.heartbeat import GRACE, ConnectionView
from wsclient.sansio.life import State
from wsclient.sansio.stops import REMEMBERED, Stop, Stops
from wsclient.sansio.supervisor import LATE_TICK

INF = float("inf")


def test_a_timeout_is_excused_by_the_first_stop_that_ends_after_its_start() -> None:
    stops = Stops()
    for end in (10.0, 20.0, 30.0):
        stops.add(end - 4.0, end)
    assert stops.first_after(9.0) == Stop(6.0, 10.0)
    assert stops.first_after(10.0) == Stop(16.0, 20.0)
    assert stops.first_after(30.0) is None


def test_a_stop_excuses_for_its_length_after_the_start_of_the_timeout() -> None:
    stops = Stops()
    stops.add(6.0, 10.0)
    assert [stops.excuse(since) for since in (0.0, 6.0, 7.5, 10.0)] == [4.0, 4.0, 2.5, 0.0]


def test_only_the_newest_stops_are_remembered() -> None:
    stops = Stops()
    for end in range(10 * REMEMBERED):
        stops.add(end - 0.5, end)
    assert stops.first_after(9 * REMEMBERED) == Stop(9 * REMEMBERED + 0.5, 9 * REMEMBERED + 1)
    oldest = stops.first_after(-1.0)
    assert oldest is not None
    assert oldest.ended_at >= 8 * REMEMBERED


class Held:
    """A client with an idle peer, and a thread that stops us.

    The pattern contains in turn the times (s) when that thread does not hold the interpreter's lock
    and when it does. The peer answers each ping after ``answer`` seconds, until it falls silent at
    ``dead_at``. Bytes that arrive during a hold are read right after it; with ``is_late`` the
    readers run after the watchdog, which then sees unread bytes.
    """

    def __init__(
        self, holds: Iterator[tuple[float, float]], interval: float, timeout: float, answer: float
    ) -> None:
        self.rig = Rig(ping_interval=interval, ping_timeout=timeout).open()
        self.start = self.rig.now
        self.holds = holds
        self.answer = answer
        self.hold_at, self.hold_until = self.start, self.start
        self.heard_at = self.start
        self.is_late = True

    def free_at(self, at: float) -> float:
        """Return the first time from ``at`` on when our threads run."""
        while self.hold_until <= at:
            free, held = next(self.holds, (INF, 0.0))
            self.hold_at = self.hold_until + free
            self.hold_until = self.hold_at + held
        return at if at < self.hold_at else self.hold_until

    def run(self, until: float, dead_at: float = INF) -> float | None:
        """Return when the connection was cut, or None."""
        rig, supervisor = self.rig, self.rig.supervisor
        pings: list[float] = []  # the arrival times of their pongs
        seen = len(rig.done(Ping))
        while rig.now < until:
            now = rig.now
            arrived = [at for at in pings if at <= now]
            pings = [at for at in pings if at > now]
            late = bool(arrived) and arrived[-1] < now
            heard = now if arrived else self.heard_at
            if arrived and not (late and self.is_late):
                rig.pong(rig.cid)
            supervisor.tick(now, {rig.cid: ConnectionView(heard)})
            if arrived:
                self.heard_at = now
                rig.pong(rig.cid)
            rig.collect()
            rig.consult()
            if rig.done(Cut):
                return now
            for _ in rig.done(Ping)[seen:]:
                if now + self.answer < dead_at:
                    pings.append(now + self.answer)
            seen = len(rig.done(Ping))
            due = supervisor.next_deadline(now, {rig.cid: ConnectionView(self.heard_at)})
            rig.now = self.free_at(max(now + 1e-6, min(due, *pings, until)))
        return None


#: (free, held) times (s), repeated.
PATTERNS = [
    [(0.001, 2.0)],
    [(0.3, 2.0)],
    [(1.0, 2.0)],
    [(0.05, 0.26)],
    [(0.7, 1.3), (0.01, 0.25)],
    [(2.9, 2.0), (0.1, 0.5)],
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("interval", "timeout"), [(3.0, 1.0), (4.0, 4.0), (20.0, 10.0)])
def test_a_half_open_connection_is_detected_within_interval_timeout_and_one_hold(
    pattern: list[tuple[float, float]], interval: float, timeout: float
) -> None:
    """The peer may fall silent anywhere in the pattern, after the first hold."""
    hold = max(held for _, held in pattern)
    period = sum(map(sum, pattern))
    for step in range(40):
        bench = Held(iter(pattern * 2000), interval, timeout, 0.01)
        assert bench.run(bench.start + 60.0) is None
        dead_at = bench.rig.now + step * period / 40
        cut_at = bench.run(dead_at + 100.0, dead_at)
        assert cut_at is not None
        assert cut_at - max(dead_at, bench.heard_at) <= interval + timeout + hold + LATE_TICK


holds = st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 2.0)), min_size=1, max_size=40)


@examples(300)
@given(holds, st.floats(0.5, 10.0), st.floats(0.5, 10.0), st.floats(0.0, 30.0))
@example([(0.001, 2.0)], 1.0, 1.0, 0.0)
@example([(0.99, 2.0), (0.01, 2.0)], 1.0, 1.0, 0.0)
def test_holds_postpone_the_verdict_by_two_of_them_at_most(
    pattern: list[tuple[float, float]], interval: float, timeout: float, dead_after: float
) -> None:
    """One hold may delay the ping and one the check for its answer, however many there are."""
    bench = Held(iter(pattern * 300), interval, timeout, 0.01)
    dead_at = bench.start + dead_after
    hold = max(held for _, held in pattern)
    bench.run(dead_at)
    cut_at = bench.run(dead_at + 100.0, dead_at)
    assert cut_at is not None
    limit = max(interval, hold) + timeout + 2 * hold + GRACE + 0.05
    assert cut_at - max(dead_at, bench.heard_at) <= limit


@examples(300)
@given(holds, st.floats(0.5, 10.0), st.floats(0.5, 10.0), st.floats(0.01, 0.99), st.booleans())
def test_no_live_connection_is_cut(
    pattern: list[tuple[float, float]],
    interval: float,
    timeout: float,
    share: float,
    is_late: bool,
) -> None:
    """The peer answers in time; after a hold the reader or the watchdog may run first."""
    bench = Held(iter(pattern * 300), interval, timeout, share * timeout)
    bench.is_late = is_late
    assert bench.run(bench.start + 200.0) is None


def test_a_connection_survives_a_stop_of_30_seconds_at_any_time() -> None:
    for begin in range(0, 350, 3):
        bench = Held(iter([(begin / 10, 30.0)]), 20.0, 10.0, 0.05)
        assert bench.run(bench.start + 120.0) is None


@pytest.mark.parametrize(("free", "held"), [(0.001, 0.3), (0.001, 2.0), (0.2, 0.3), (0.2, 2.0)])
def test_other_deadlines_are_postponed_once(free: float, held: float) -> None:
    """One stop, not all, postpones an attempt, its login, a subscribe and a silence."""
    period = free + held

    def after(rig: Rig, kind: type = Cut) -> float:
        begin = rig.now
        while not rig.done(kind):
            rig.deadline()
            rig.sleep(period)
            assert rig.now < begin + 1000.0
        return rig.now - begin

    rig = Rig(connect_timeout=5.0)
    rig.connect()
    assert after(rig) <= 5.0 + 2 * period
    rig = Rig(connect_timeout=5.0)
    rig.connect()
    rig.opened(LOGIN)
    assert after(rig) <= 5.0 + 2 * period
    rig = Rig(silence_timeout=5.0).open()
    assert after(rig) <= 5.0 + 2 * period
    rig = Rig(stale_after=5.0, ack_timeout=1000.0).active("a")
    begin = rig.now
    while len(rig.asked()) < 3:
        rig.sleep(period)
    assert rig.now - begin <= 5.0 + 2 * period
    rig = Rig(ack_timeout=5.0).open()
    token, begin = rig.subscribe("a"), rig.now
    while rig.outcome(token) == "waiting":
        rig.sleep(period)
    assert rig.now - begin <= 5.0 + 2 * period
    assert rig.state is State.OPEN
