"""Two connections carry a channel without numbers: what is delivered, and what is marked."""

from __future__ import annotations

import pytest

from support.overlap import LATER, NEW, OLD, Overlap
from wsclient.messages import Gap, Message
from wsclient.stream.matching import LAG, RUN
from wsclient.stream.merge import SILENCE

# --- without numbers: alignment ------------------------------------------------------------------


def test_only_the_leader_delivers_messages_without_numbers() -> None:
    run = Overlap(None)
    run.show(NEW, 1, 2)
    run.show(OLD, 1, 2)
    run.show(NEW, 3)
    assert (run.delivered, run.marks) == ([1, 2], [])


def test_a_common_run_proves_the_successor() -> None:
    run = Overlap(None)
    run.now = LATER
    run.show(OLD, *range(1, RUN))
    run.show(NEW, *range(1, RUN))
    assert not run.merge.is_proven(LATER)
    run.show(OLD, RUN)
    run.show(NEW, RUN)
    assert run.merge.is_proven(LATER)
    assert run.merge.copies == {OLD: 0, NEW: RUN}


def test_after_a_run_the_successor_goes_on_where_the_leader_stopped() -> None:
    run = Overlap(None)
    run.align()
    run.show(NEW, 1, 2, 3)
    run.show(OLD, 1)
    run.leave(OLD)
    assert (run.delivered, run.marks) == ([1, 2, 3], [])
    run.show(NEW, 4)
    assert run.delivered == [1, 2, 3, 4]
    assert run.merge.is_over


def test_after_a_run_the_successor_brings_copies_of_what_was_delivered() -> None:
    run = Overlap(None)
    run.align()
    run.show(OLD, 1, 2, 3)
    run.show(NEW, 1)
    run.leave(OLD)
    assert not run.merge.is_over
    run.show(NEW, 2, 3, 4)
    assert (run.delivered, run.marks) == ([1, 2, 3, 4], [])
    assert run.merge.copies == {NEW: RUN + 3}
    assert run.merge.is_over


def test_a_successor_that_does_not_bring_the_copies_is_marked() -> None:
    run = Overlap(None)
    run.align()
    run.show(OLD, 1, 2)
    run.leave(OLD)
    run.show(NEW, 7, 8)
    assert (run.delivered, run.marks) == ([1, 2, 7, 8], [Gap("sequence", None, 1)])


def test_what_the_old_leader_brings_after_a_switch_is_used_if_the_new_one_ends() -> None:
    run = Overlap(None)
    run.align()
    run.show(NEW, 1)
    run.switch()
    run.show(OLD, 1, 2, 3)
    run.show(NEW, 2)
    run.leave(NEW)
    assert (run.delivered, run.marks) == ([1, 2, 3], [])


def test_a_run_that_came_twice_proves_nothing() -> None:
    run = Overlap(None)
    run.now = LATER
    for connection_id in (OLD, NEW):
        run.show(connection_id, *[1, 2] * 10)
    assert not run.merge.is_proven(LATER)
    run.show(OLD, 3)
    run.show(NEW, 3)
    assert run.merge.is_proven(LATER)


def test_a_run_from_the_beginning_of_the_overlap_proves_nothing() -> None:
    """The leader may have brought it before the successor began, and again later."""
    run = Overlap(None)
    run.now = LAG * 0.99
    run.show(OLD, 1, 2, 3)
    run.show(NEW, 1, 2, 3)
    assert not run.merge.is_proven(run.now)
    run.now = LAG
    run.show(OLD, 4, 5, 6)
    run.show(NEW, 4, 5, 6)
    assert run.merge.is_proven(run.now)


def test_a_run_that_begins_before_the_connections_settle_proves_nothing() -> None:
    run = Overlap(None)
    run.now = LAG * 0.99
    run.show(OLD, 1)
    run.show(NEW, 1)
    run.now = LAG
    run.show(OLD, 2, 3)
    run.show(NEW, 2, 3)
    assert not run.merge.is_proven(run.now)
    run.show(OLD, 4)
    run.show(NEW, 4)
    assert run.merge.is_proven(run.now)


def test_a_connection_behind_goes_on_after_what_it_missed() -> None:
    run = Overlap(None)
    run.align()
    run.show(OLD, 1, 2, 3, 4, 5, 6)
    run.show(NEW, 1, 2, 4, 5, 6)
    assert run.merge.is_proven(LATER)
    run.show(OLD, 7)
    run.leave(OLD)
    run.show(NEW, 7, 8)
    assert (run.delivered, run.marks) == ([1, 2, 3, 4, 5, 6, 7, 8], [])


def test_a_connection_ahead_shows_what_the_leader_missed() -> None:
    run = Overlap(None)
    run.align()
    run.show(NEW, 1, 2, 3, 4, 5, 6, 7)
    run.show(OLD, 1, 2, 4, 5, 6)
    assert run.merge.is_proven(LATER)
    run.leave(OLD)
    assert (run.delivered, run.marks) == ([1, 2, 4, 5, 6, 7], [Gap("sequence", 1, 1)])


def test_of_a_run_that_came_twice_only_what_is_not_matched_counts() -> None:
    run = Overlap(None)
    run.align()
    run.show(OLD, 1, 2, 3, 9, 1, 2, 3, 5)
    run.show(NEW, 1, 2, 3, 9)
    run.show(NEW, 8, 1, 2)
    assert not run.merge.is_proven(LATER)
    run.show(NEW, 3)
    assert run.merge.is_proven(LATER)
    run.leave(OLD)
    run.show(NEW, 5, 6)
    assert run.delivered == [1, 2, 3, 9, 1, 2, 3, 5, 6]


def test_what_is_matched_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsclient.stream.matching.RING_BYTES", 10_000)
    run = Overlap(None)
    run.align()
    for identity in range(100):
        run.show(OLD, identity)
        run.show(NEW, identity)
    run.show(NEW, *range(100, 105))
    run.leave(OLD)
    assert (run.delivered, run.marks) == ([*range(105)], [])


def test_an_unknown_identity_equals_nothing() -> None:
    run = Overlap(None)
    run.now = LATER
    for connection_id in (OLD, NEW):
        for _ in range(10):
            run.bring(connection_id, Message("a", raw=b"1"), None)
    assert not run.merge.is_proven(LATER)
    run.leave(OLD)
    assert [gap is None for gap in (m.gap for m in run.messages[10:])] == [False, *[True] * 9]


def test_a_difference_after_the_run_ends_the_proof_until_the_next_run() -> None:
    run = Overlap(None)
    run.align()
    run.show(OLD, 1)
    run.show(NEW, 2)
    assert not run.merge.is_proven(LATER)
    run.show(OLD, 3, 4, 5)
    run.show(NEW, 3, 4, 5)
    assert run.merge.is_proven(LATER)


@pytest.mark.parametrize("is_ahead", [False, True])
def test_what_the_leader_missed_is_marked_with_its_number(is_ahead: bool) -> None:
    run = Overlap(None)
    run.align()
    if is_ahead:
        run.show(NEW, 1, 2, 3, 4, 5)
    run.show(OLD, 3, 4, 5)
    if not is_ahead:
        run.show(NEW, 1, 2, 3, 4, 5)
    run.show(OLD, 6)
    assert (run.delivered, run.marks) == ([3, 4, 5, 6], [Gap("sequence", 2, 1)])


def test_what_the_other_connection_missed_is_no_gap() -> None:
    run = Overlap(None)
    run.align()
    run.show(OLD, 1, 2, 3, 4, 5)
    run.show(NEW, 3, 4, 5)
    run.switch()
    run.show(NEW, 6)
    assert (run.delivered, run.marks) == ([1, 2, 3, 4, 5, 6], [])


def test_what_came_before_the_first_run_is_no_gap() -> None:
    run = Overlap(None)
    run.now = LATER
    run.snapshot(NEW, 50)
    run.show(NEW, 1, 2, 3)
    run.show(OLD, 7, 1, 2, 3, 4)
    assert (run.delivered, run.marks) == ([7, 1, 2, 3, 4], [])


# --- without numbers: no proof -------------------------------------------------------------------


def test_without_proof_all_that_the_successor_has_is_delivered_with_one_mark() -> None:
    run = Overlap(None)
    run.snapshot(NEW, 50)
    run.show(NEW, 1, 2)
    run.show(OLD, 1)
    run.leave(OLD)
    assert (run.delivered, run.marks) == ([1, 50, 1, 2], [Gap("reconnect", None, 1)])


def test_without_proof_what_both_have_is_delivered_once() -> None:
    run = Overlap(None)
    run.show(NEW, 1, 2)
    run.show(OLD, 0, 1)
    run.leave(OLD)
    assert (run.delivered, run.marks) == ([0, 1, 2], [Gap("reconnect", None, 1)])


def test_without_proof_the_successor_may_still_bring_what_is_delivered() -> None:
    run = Overlap(None)
    run.show(NEW, 1)
    run.show(OLD, 0, 1, 2, 3)
    run.leave(OLD)
    run.show(NEW, 2, 3, 4)
    assert (run.delivered, run.marks) == ([0, 1, 2, 3, 4], [Gap("reconnect", None, 1)])


def test_without_proof_what_is_alike_by_chance_is_delivered_rather_than_lost() -> None:
    run = Overlap(None)
    run.show(NEW, 1, 1, 1)
    run.show(OLD, 1)
    run.leave(OLD)
    assert (run.delivered, run.marks) == ([1, 1, 1], [Gap("reconnect", None, 1)])


def test_without_proof_and_without_messages_the_next_one_is_marked() -> None:
    run = Overlap(None)
    run.show(OLD, 1)
    run.leave(OLD)
    assert run.channel.pending == Gap("reconnect", None, 1)
    run.show(NEW, 2, 3)
    assert (run.delivered, run.marks) == ([1, 2, 3], [Gap("reconnect", None, 1)])


def test_the_mark_of_a_planned_switch_has_its_reason() -> None:
    run = Overlap(None)
    run.messages += run.merge.switch(0.0, "rejected")
    run.show(NEW, 1)
    assert run.marks == [Gap("rejected", None, 1)]


def test_after_a_switch_without_proof_the_old_leader_must_be_proven_too() -> None:
    run = Overlap(None)
    run.now = LATER
    run.show(OLD, 1)
    run.switch()
    run.show(NEW, 2, 3, 4)
    run.show(OLD, 2, 3, 4)
    assert not run.merge.is_proven(run.now)
    run.now += LAG
    run.show(NEW, 5, 6, 7)
    run.show(OLD, 5, 6, 7)
    assert run.merge.is_proven(run.now)


def test_copies_are_counted_across_a_switch() -> None:
    run = Overlap(None)
    run.align()
    run.merge.suspect(OLD, "invalid", LATER)
    run.switch()
    run.show(NEW, 1, 2)
    run.switch()
    assert run.merge.copies == {OLD: 0, NEW: RUN}


def test_silence_of_both_proves_the_successor() -> None:
    run = Overlap(None, is_confirmed=False)
    run.merge.confirmed(NEW, 1.0)
    assert run.merge.proven_at(1.0) == 1.0 + SILENCE
    assert not run.merge.is_proven(1.0 + SILENCE * 0.99)
    run.now = 1.0 + SILENCE
    run.leave(OLD)
    run.show(NEW, 1)
    assert (run.delivered, run.marks) == ([1], [])


def test_the_snapshot_of_a_new_connection_does_not_break_the_silence() -> None:
    run = Overlap(None)
    run.now = 1.0
    run.snapshot(NEW, 50)
    run.now = SILENCE
    assert run.merge.is_proven(run.now)
    run.switch()
    run.show(NEW, 1)
    assert (run.delivered, run.marks) == ([1], [])


def test_the_first_snapshot_of_a_channel_is_delivered() -> None:
    run = Overlap()
    run.now = 1.0
    run.snapshot(NEW, 50)
    run.now = 1.0 + SILENCE
    assert not run.merge.is_proven(run.now)
    run.switch()
    assert run.delivered == [50]


def test_a_channel_that_never_sent_is_proven_by_silence() -> None:
    run = Overlap()
    run.now = SILENCE
    assert run.merge.is_proven(run.now)


def test_a_slow_channel_is_proven_by_silence_after_a_common_message() -> None:
    run = Overlap(None)
    run.now = 1.0
    run.show(OLD, 1)
    run.show(NEW, 1)
    assert run.merge.proven_at(1.0) == 1.0 + SILENCE
    run.now = 1.0 + SILENCE
    run.switch()
    run.show(NEW, 2)
    assert (run.delivered, run.marks) == ([1, 2], [])


@pytest.mark.parametrize(("first", "last"), [(OLD, NEW), (NEW, OLD)])
def test_the_silence_begins_with_the_last_message(first: int, last: int) -> None:
    run = Overlap(None)
    run.now = 1.0
    run.show(first, 1)
    run.now = 2.0
    run.show(last, 1)
    assert run.merge.proven_at(2.0) == 2.0 + SILENCE


@pytest.mark.parametrize("identity", [2, None])
def test_different_messages_before_a_silence_prove_nothing(identity: int | None) -> None:
    run = Overlap(None)
    run.now = 1.0
    run.bring(OLD, Message("a", raw=b"1"), identity and 1)
    run.bring(NEW, Message("a", raw=b"2"), identity)
    assert run.merge.proven_at(1.0 + SILENCE) == float("inf")


@pytest.mark.parametrize("connection_id", [OLD, NEW])
def test_a_message_of_only_one_connection_is_no_silence(connection_id: int) -> None:
    run = Overlap(None)
    run.now = 1.0
    run.show(connection_id, 1)
    assert run.merge.proven_at(1.0 + SILENCE) == float("inf")
    run.now = 1.0 + SILENCE
    run.switch()
    run.show(NEW, 2)
    assert len(run.marks) == 1


def test_a_suspicion_of_the_leader_is_marked_at_once() -> None:
    run = Overlap(None)
    run.align()
    run.merge.suspect(OLD, "invalid", LATER)
    run.show(OLD, 1, 2)
    assert run.marks == [Gap("invalid", None, 1)]


@pytest.mark.parametrize("connection_id", [OLD, NEW])
def test_a_suspicion_ends_the_proof_until_a_later_run(connection_id: int) -> None:
    run = Overlap(None)
    run.align()
    run.merge.suspect(connection_id, "invalid", run.now)
    assert not run.merge.is_proven(run.now)
    run.align(range(RUN))
    assert not run.merge.is_proven(run.now)
    run.now += LAG
    run.align(range(10, 10 + RUN))
    assert run.merge.is_proven(run.now)


def test_a_suspicion_of_the_successor_is_marked_where_it_belongs() -> None:
    run = Overlap(None)
    run.show(NEW, 1)
    run.merge.suspect(NEW, "invalid", 0.0)
    run.show(NEW, 2, 3)
    run.leave(OLD)
    assert [(m.gap and m.gap.reason) for m in run.messages] == ["reconnect", "invalid", None]


def test_a_suspicion_of_the_successor_outlasts_the_switch() -> None:
    run = Overlap(None)
    run.show(NEW, 1)
    run.merge.suspect(NEW, "invalid", 0.0)
    run.leave(OLD)
    run.show(NEW, 2)
    assert [(m.gap and m.gap.reason) for m in run.messages] == ["reconnect", "invalid"]


def test_a_refused_message_of_the_leader_is_a_gap_and_its_copy_is_not() -> None:
    run = Overlap(None)
    run.align()
    for connection_id in (OLD, NEW):
        run.bring(connection_id, Message("a", raw=b"1"), 1, is_refused=True)
    assert run.merge.is_proven(LATER)
    run.leave(OLD)
    run.show(NEW, 2)
    assert run.marks == [Gap("invalid", 1, 1)]


def test_a_snapshot_asked_for_on_the_leader_is_delivered() -> None:
    run = Overlap(None)
    run.align()
    run.merge.asked(OLD)
    run.show(NEW, 1, 2)  # the leader misses them while it is resubscribed
    run.snapshot(OLD, 50)
    run.show(OLD, 3, 4, 5)
    run.show(NEW, 3, 4, 5)
    assert (run.delivered, run.marks) == ([50, 3, 4, 5], [])


def test_a_connection_asked_for_a_snapshot_leads_from_there() -> None:
    run = Overlap(None)
    run.align()
    run.merge.asked(NEW)
    run.snapshot(NEW, 50)
    run.show(OLD, 1)
    run.show(NEW, 2)
    assert (run.delivered, run.marks) == ([50, 2], [Gap("sequence", None, 1)])
    assert run.merge.leader == NEW


def test_a_snapshot_asked_for_ends_what_was_to_come() -> None:
    run = Overlap(None)
    run.align()
    run.show(OLD, 1, 2)
    run.merge.asked(NEW)
    run.snapshot(NEW, 50)
    run.show(NEW, 3)
    assert (run.delivered, run.marks) == ([1, 2, 50, 3], [Gap("sequence", None, 1)])


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsclient.stream.matching.RING_BYTES", 10_000)
    run = Overlap(None)
    for i in range(100):
        run.bring(NEW, Message("a", raw=b"%1000d" % i), i)
    run.leave(OLD)
    assert run.delivered[-1] == 99
    assert len(run.delivered) < 10
    assert len(run.marks) == 1


@pytest.mark.parametrize("connection_id", [OLD, NEW])
def test_a_connection_that_is_too_far_behind_is_not_proven(
    monkeypatch: pytest.MonkeyPatch, connection_id: int
) -> None:
    monkeypatch.setattr("wsclient.stream.matching.RING_BYTES", 10_000)
    run = Overlap(None)
    run.align()
    for i in range(100):
        run.bring(connection_id, Message("a", raw=b"%1000d" % i), i)
    assert not run.merge.is_proven(LATER)
    run.leave(OLD)
    run.show(NEW, 1000)
    assert len(run.marks) == 1
