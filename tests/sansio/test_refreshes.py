"""Refreshes of order books: soon, less often if they do not help, and a few at a time."""

from __future__ import annotations

import itertools

from support.rig import INF, Rig
from wsclient.messages import Gap
from wsclient.sansio.refreshes import BUDGET, MAX_PATIENCE, PATIENCE, Refreshes


def taken(refreshes: Refreshes, until: float, step: float = 1.0) -> list[float]:
    """Return the times when a channel was due whose snapshot never arrives."""
    times, now = [], 0.0
    while now < until:
        times += [now] * len(refreshes.take(now))
        now += step
    return times


def test_a_channel_that_falls_out_of_sync_is_due_at_once_and_only_once() -> None:
    refreshes = Refreshes()
    assert refreshes.deadline(0.0) == INF
    refreshes.want("a", 1.0)
    refreshes.want("a", 1.0)
    assert refreshes.deadline(1.0) == 1.0
    assert refreshes.take(1.0) == ["a"]
    assert refreshes.take(1.0) == []


def test_a_refresh_may_be_delayed() -> None:
    refreshes = Refreshes()
    refreshes.want("a", 1.0, delay=PATIENCE)
    assert refreshes.deadline(1.0) == 1.0 + PATIENCE
    refreshes.done("a")
    assert refreshes.deadline(1.0) == INF
    assert refreshes.take(100.0) == []


def test_a_channel_without_its_snapshot_is_due_less_and_less_often() -> None:
    refreshes = Refreshes()
    refreshes.want("a", 0.0)
    times = taken(refreshes, 2000)
    waits = [b - a for a, b in itertools.pairwise(times)]
    assert waits[:4] == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE, 8 * PATIENCE]
    assert waits[-1] == MAX_PATIENCE


def test_a_channel_that_keeps_falling_out_of_sync_waits_until_it_stayed_in_sync() -> None:
    refreshes = Refreshes()
    refreshes.want("a", 0.0)
    assert refreshes.take(0.0) == ["a"]
    refreshes.done("a")
    refreshes.want("a", 1.0)
    assert refreshes.deadline(1.0) == PATIENCE
    assert refreshes.take(PATIENCE) == ["a"]
    refreshes.done("a")
    later = PATIENCE + 2 * 2 * PATIENCE
    refreshes.want("a", later)
    assert refreshes.take(later) == ["a"]
    assert refreshes.deadline(later) == later + PATIENCE, "its delay starts again"


def test_fifty_books_at_once_do_not_flood_the_venue() -> None:
    refreshes = Refreshes()
    count, per = BUDGET
    for i in range(50):
        refreshes.want(f"book-{i}", 0.0)
    seen: list[str] = []
    now = 0.0
    while len(seen) < 50:
        batch = refreshes.take(now)
        assert len(batch) <= count
        for channel in batch:
            refreshes.done(channel)
        seen += batch
        now = max(now, refreshes.deadline(now)) if len(seen) < 50 else now
    assert sorted(seen) == sorted(f"book-{i}" for i in range(50))
    assert now == (50 / count - 1) * per


def test_a_new_connection_postpones_refreshes() -> None:
    refreshes = Refreshes()
    refreshes.want("a", 0.0)
    refreshes.postpone(["a"], 3.0)
    assert refreshes.take(3.0) == []
    assert refreshes.deadline(3.0) == 3.0 + PATIENCE


def test_a_forgotten_channel_is_not_due() -> None:
    refreshes = Refreshes()
    refreshes.want("a", 0.0)
    refreshes.forget("a")
    refreshes.done("a")
    assert refreshes.take(0.0) == []


# --- in a client ---------------------------------------------------------------------------------


def test_a_client_resubscribes_and_marks_the_gap() -> None:
    rig = Rig().active("a")
    rig.data("a", None)
    rig.supervisor.upkeep.refreshes.want("a", rig.now)
    rig.tick()
    assert rig.asked()[-2:] == [("unsubscribe", ["a"]), ("subscribe", ["a"])]
    assert rig.data("a", None)[0].gap is None, "still of the old subscription"
    rig.ack("a")
    rig.ack("a")
    (first,) = rig.data("a", None)
    assert first.gap is not None
    assert first.gap == Gap("reconnect", None, first.gap.since)
    assert rig.data("a", None)[0].gap is None


def test_a_client_plans_a_tick_for_a_refresh() -> None:
    rig = Rig().active("a")
    rig.supervisor.upkeep.refreshes.want("a", rig.now, PATIENCE)
    rig.tick()
    assert rig.deadline() == rig.now + PATIENCE


def test_a_client_does_not_refresh_an_inactive_channel() -> None:
    rig = Rig().active("a")
    asked = rig.asked()
    rig.unsubscribe("a")
    rig.supervisor.upkeep.refreshes.want("a", rig.now)
    rig.tick()
    assert rig.asked() == [*asked, ("unsubscribe", ["a"])]
    rig.ack("a")
    assert rig.supervisor.upkeep.refreshes.deadline(rig.now) == INF, (
        "and forgets it with the channel"
    )


def test_take_returns_at_most_the_given_number_of_the_given_channels() -> None:
    refreshes = Refreshes()
    for channel in "abc":
        refreshes.want(channel, 0.0)
    assert refreshes.take(0.0, of="bc".__contains__, most=1) == ["b"]
    assert refreshes.take(0.0, of="bc".__contains__) == ["c"]
    assert refreshes.take(0.0, of=lambda _: False) == []
    assert (refreshes.deadline(0.0), refreshes.deadline(0.0, of="bc".__contains__)) == (
        0.0,
        PATIENCE,
    )
    assert refreshes.deadline(0.0, of=lambda _: False) == INF
    assert refreshes.take(0.0) == ["a"]


def test_a_failed_refresh_is_due_after_its_delay() -> None:
    refreshes = Refreshes(1.0, 2.0)
    assert refreshes.want("a", 0.0)
    assert not refreshes.want("a", 0.0), "it was known"
    dues = []
    now = 0.0
    for _ in range(3):
        assert refreshes.take(now) == ["a"]
        now += 10.0
        refreshes.failed("a", now)
        dues.append(refreshes.deadline(now) - now)
        now = refreshes.deadline(now)
    assert dues == [1.0, 2.0, 2.0]
    refreshes.done("a")
    assert refreshes.want("a", now)
    refreshes.failed("b", now)
