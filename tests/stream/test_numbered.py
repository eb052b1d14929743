"""Two connections carry a channel with numbers: what is delivered, and what is marked."""

from __future__ import annotations

import pytest

from support.overlap import LATER, NEW, OLD, Overlap, met
from wsclient.messages import Arrival, Gap, LinkedMessage, Message
from wsclient.stream.numbered import MEET_WAIT, MERGE_WAIT, PASSED

# --- numbers: copies -----------------------------------------------------------------------------


def test_a_number_is_delivered_once_whoever_brings_it() -> None:
    run = Overlap(1)
    run.count(OLD, 2, 3)
    run.count(NEW, 2, 3, 4)
    run.count(OLD, 4, 5)
    run.count(NEW, 5)
    assert (run.delivered, run.marks) == ([2, 3, 4, 5], [])


def test_copies_are_not_counted_as_duplicates() -> None:
    run = Overlap(1)
    run.count(OLD, 2, 3)
    run.count(NEW, 2, 3, 4)
    run.count(OLD, 4)
    assert run.channel.late_or_duplicate == 0


def test_the_fast_path_may_deliver_what_the_leader_brings() -> None:
    run = Overlap(1)
    for number in (2, 3):
        run.channel.accept(Message("a", sequence=number, arrival=Arrival(1, OLD, None)))
    run.count(NEW, 2, 3, 4)
    assert (run.delivered, run.channel.expected) == ([4], 5)


@pytest.mark.parametrize("ranges", [True, False])
def test_connections_may_cut_the_same_updates_differently(ranges: bool) -> None:
    run = Overlap()
    run.link(OLD, (90, 100), (100, 104), ranges=ranges)
    run.link(NEW, (98, 102), (102, 110), ranges=ranges)
    run.link(OLD, (104, 108), (108, 120), ranges=ranges)
    assert (run.delivered, run.marks) == ([100, 104, 110, 120], [])
    assert run.channel.expected == 121


def test_a_message_says_what_it_follows_as_the_venue_did() -> None:
    run = Overlap()
    run.link(OLD, (90, 100), ranges=False)
    run.link(NEW, (98, 102), ranges=False)
    message = run.messages[-1]
    assert isinstance(message, LinkedMessage)
    assert message.follows == 98


def test_a_pointer_below_the_last_number_of_its_own_connection_is_a_gap() -> None:
    run = Overlap()
    run.link(OLD, (90, 100), (95, 110), ranges=False)
    assert [gap and gap.reason for gap in run.marks] == ["sequence"]


def test_a_message_without_changes_is_delivered_from_the_leader_only() -> None:
    run = Overlap()
    run.link(OLD, (90, 100), (100, 100), ranges=False)
    run.link(NEW, (90, 100), (100, 100), ranges=False)
    run.link(OLD, (100, 101), ranges=False)
    assert (run.delivered, run.marks) == ([100, 100, 101], [])


def test_what_the_leader_repeats_is_a_duplicate() -> None:
    run = Overlap(1, 2, 3)
    run.count(OLD, 2)
    assert run.marks == [Gap("duplicate", 0, 1)]


def test_a_refused_message_is_missed_once() -> None:
    run = Overlap(1)
    for connection_id in (OLD, NEW):
        run.bring(connection_id, Message("a", sequence=2), is_refused=True)
    run.count(NEW, 3)
    assert (run.delivered, run.marks) == ([3], [Gap("invalid", 1, 1)])


# --- numbers: jumps ------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(OLD, NEW), (NEW, OLD)])
def test_a_jump_is_filled_by_the_other_connection(first: int, second: int) -> None:
    run = met()
    run.count(first, 6, 7)
    assert run.delivered == []
    run.count(second, 4)
    assert run.delivered == [4]
    run.count(second, 5)
    assert (run.delivered, run.marks) == ([4, 5, 6, 7], [])


def test_a_jump_is_held_for_a_short_time() -> None:
    run = met()
    run.count(OLD, 6)
    assert run.merge.deadline() == MERGE_WAIT
    run.tick(MERGE_WAIT * 0.99)
    assert run.delivered == []
    run.tick(MERGE_WAIT)
    assert (run.delivered, run.marks) == ([6], [Gap("sequence", 2, 1)])
    assert run.merge.deadline() == float("inf")


def test_the_deadline_is_that_of_what_is_still_held() -> None:
    run = met()
    run.count(OLD, 6)
    run.now = MERGE_WAIT / 2
    run.count(NEW, 4, 5)
    run.count(OLD, 9)
    assert run.merge.deadline() == run.now + MERGE_WAIT
    run.tick(MERGE_WAIT)
    assert run.delivered == [4, 5, 6]


def test_a_jump_that_the_fast_path_fills_is_due_at_once() -> None:
    run = met()
    run.count(NEW, 5, 6)
    run.channel.accept(Message("a", sequence=4, arrival=Arrival(1, OLD, None)))
    assert run.merge.deadline() <= 0.0
    run.tick(0.0)
    assert (run.delivered, run.marks) == ([5, 6], [])
    assert run.merge.deadline() == float("inf")


def test_what_comes_too_late_is_dropped() -> None:
    run = met()
    run.count(OLD, 6)
    run.tick(MERGE_WAIT)
    run.count(NEW, 4, 5, 6, 7)
    assert (run.delivered, len(run.marks)) == ([6, 7], 1)


def test_a_jump_that_both_have_is_not_held() -> None:
    run = met()
    run.count(OLD, 6)
    run.count(NEW, 6)
    assert (run.delivered, run.marks) == ([6], [Gap("sequence", 2, 1)])


def test_nothing_is_held_for_a_connection_that_is_not_confirmed() -> None:
    run = Overlap(1, is_confirmed=False)
    run.count(OLD, 4)
    assert (run.delivered, run.marks) == ([4], [Gap("sequence", 2, 1)])


def test_a_jump_is_held_for_a_confirmed_connection_that_has_brought_nothing() -> None:
    run = Overlap(1)
    run.count(OLD, 4)
    assert run.delivered == []
    run.count(NEW, 2, 3)
    assert (run.delivered, run.marks) == ([2, 3, 4], [])


def test_a_connection_that_began_later_waits_for_the_one_before() -> None:
    """What it has not brought is on its way on the other connection."""
    run = Overlap(1)
    run.count(NEW, 5, 6)
    run.tick(MERGE_WAIT)
    run.count(OLD, 2, 3, 4, 5, 6)
    assert (run.delivered, run.marks) == ([2, 3, 4, 5, 6], [])


def test_a_connection_that_began_later_does_not_wait_for_ever() -> None:
    run = Overlap(1)
    run.count(NEW, 5, 6)
    assert run.merge.deadline() == MEET_WAIT
    run.tick(MEET_WAIT)
    assert (run.delivered, run.marks) == ([5, 6], [Gap("sequence", 3, 1)])


def test_what_is_held_is_delivered_when_the_other_connection_leaves() -> None:
    run = met()
    run.count(NEW, 6)
    run.leave(OLD)
    assert (run.delivered, run.marks) == ([6], [Gap("reconnect", 2, 1)])


def test_what_is_held_may_be_filled_after_its_connection_has_left() -> None:
    run = met()
    run.count(OLD, 6)
    run.leave(OLD)
    assert not run.merge.is_over
    run.count(NEW, 4, 5)
    assert (run.delivered, run.marks) == ([4, 5, 6], [])
    assert not run.merge.is_over
    run.count(NEW, 6)
    assert run.merge.is_over


def test_a_jump_of_the_leader_is_its_own_when_the_other_connection_leaves() -> None:
    run = met()
    run.count(OLD, 6)
    run.leave(NEW, "rejected")
    assert (run.delivered, run.marks) == ([6], [Gap("sequence", 2, 1)])


def test_a_suspicion_of_one_connection_gives_its_jump_the_reason() -> None:
    run = met()
    run.merge.suspect(OLD, "invalid", 0.0)
    assert run.channel.pending is None
    run.count(OLD, 5)
    run.tick(MERGE_WAIT)
    assert run.marks == [Gap("invalid", 1, 1)]


def test_a_suspicion_is_disproved_by_what_was_delivered() -> None:
    run = met()
    run.merge.suspect(OLD, "invalid", 0.0)
    run.count(NEW, 4)
    run.count(OLD, 4, 5)
    assert (run.delivered, run.marks) == ([4, 5], [])


@pytest.mark.parametrize(("connection_id", "is_suspected"), [(OLD, True), (NEW, False)])
def test_a_suspicion_counts_if_no_other_connection_is_confirmed(
    connection_id: int, is_suspected: bool
) -> None:
    run = Overlap(1, is_confirmed=False)
    run.merge.suspect(connection_id, "invalid", 0.0)
    assert (run.channel.pending is not None) == is_suspected


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsclient.stream.numbered.HELD_BYTES", 10_000)
    run = met()
    for number in range(10, 40):
        run.bring(NEW, Message("a", sequence=number, raw=bytes(1000)))
    assert run.delivered[0] == 10
    assert len(run.delivered) > 20
    assert run.marks == [Gap("sequence", 6, 1)]


# --- numbers: snapshots --------------------------------------------------------------------------


def test_a_snapshot_of_a_new_connection_is_not_delivered() -> None:
    run = Overlap()
    run.link(OLD, (90, 100))
    run.link(NEW, (None, 105), (105, 106))
    run.link(OLD, (100, 103), (103, 105), (105, 106))
    run.link(NEW, (106, 107))
    assert (run.delivered, run.marks) == ([100, 103, 105, 106, 107], [])


def test_a_snapshot_is_delivered_if_the_other_connection_leaves_before_it() -> None:
    run = Overlap()
    run.link(OLD, (90, 100))
    run.link(NEW, (None, 105), (105, 106))
    run.leave(OLD)
    assert (run.delivered, run.marks) == ([100, 105, 106], [Gap("reconnect", None, 1)])


def test_a_snapshot_that_was_asked_for_is_delivered() -> None:
    run = Overlap()
    run.link(OLD, (90, 100))
    run.merge.asked(OLD)
    run.link(OLD, (None, 100), (100, 101))
    run.link(NEW, (None, 101))
    assert (run.delivered, run.marks) == ([100, 100, 101], [])


def test_a_snapshot_that_was_asked_for_may_be_older_than_what_was_delivered() -> None:
    run = Overlap()
    run.link(OLD, (90, 100), (100, 104))
    run.merge.asked(NEW)
    run.link(NEW, (None, 102))
    run.link(OLD, (104, 105))
    run.link(NEW, (102, 104), (104, 105), (105, 106))
    run.link(OLD, (105, 106), (106, 107))
    assert run.delivered == [100, 104, 102, 104, 105, 106, 107]
    assert [message.sequence for message in run.messages if message.gap] == [102]


def test_a_snapshot_of_the_leader_that_others_do_not_reach_is_delivered_soon() -> None:
    run = Overlap()
    run.link(OLD, (90, 100))
    run.link(NEW, (90, 100))
    run.link(OLD, (None, 110))
    run.tick(MERGE_WAIT)
    assert (run.delivered, run.marks) == ([100, 110], [Gap("sequence", None, 1)])


# --- numbers that begin again --------------------------------------------------------------------


def test_the_connection_that_restarts_first_leads() -> None:
    run = Overlap()
    run.link(OLD, (90, 100))
    run.link(NEW, (90, 100), (None, 3), (3, 4))
    run.link(OLD, (100, 101))
    assert run.delivered == [100, 3, 4]
    run.link(OLD, (None, 3), (3, 4), (4, 5))
    assert run.delivered == [100, 3, 4, 5]
    assert run.marks == [Gap("sequence", None, 1)]
    assert run.merge.leader == NEW


def test_numbers_may_fall_where_the_pointer_matches() -> None:
    run = Overlap()
    run.link(OLD, (90, 100), ranges=False)
    run.link(NEW, (90, 100), (100, 3), (3, 5), ranges=False)
    run.link(OLD, (100, 3), (3, 5), (5, 6), ranges=False)
    run.link(NEW, (5, 6), ranges=False)
    assert (run.delivered, run.marks) == ([100, 3, 5, 6], [])


@pytest.mark.parametrize(("first", "delivered"), [(1, 1), (5, 6)])
def test_counted_numbers_that_restart_are_marked_and_go_on(first: int, delivered: int) -> None:
    """A number below the connection's first shows it; otherwise two that rise."""
    run = met()
    run.count(OLD, *range(4, 101))
    run.count(NEW, *range(4, 101))
    run.messages.clear()
    run.count(NEW, first, first + 1, first + 2)
    run.count(OLD, first, first + 1, first + 2, first + 3)
    assert run.delivered == [*range(delivered, first + 4)]
    assert run.marks == [Gap("sequence", None, 1)]


def test_what_another_connection_repeats_is_no_restart() -> None:
    run = met()
    run.count(OLD, *range(4, 10))
    run.count(NEW, *range(4, 10))
    run.messages.clear()
    run.count(NEW, 9, 8, 9, 5, 5, 2)  # its last number, a run up to it, one twice, and its first
    run.count(OLD, 10)
    run.count(NEW, 10, 6)  # it follows 5, but 10 came between
    run.count(OLD, 11)
    assert (run.delivered, run.marks, run.merge.leader) == ([10, 11], [], OLD)


def test_pointers_that_restart_below_and_end_above_are_marked() -> None:
    run = Overlap()
    run.link(OLD, (90, 100), ranges=False)
    run.link(NEW, (10, 20), (20, 100), (5, 30), (30, 130), ranges=False)
    assert (run.delivered, run.marks) == ([100, 130], [Gap("sequence", None, 1)])
    assert run.merge.leader == NEW


def test_a_restart_on_the_leader_is_marked_as_on_a_lone_connection() -> None:
    run = met()
    run.count(OLD, *range(4, 101))
    run.messages.clear()
    run.count(OLD, 1, 2, 3)
    assert [gap and gap.reason for gap in run.marks] == ["duplicate", "sequence"]
    assert run.delivered == [1, 2, 3]


@pytest.mark.parametrize("moment", [0.0, PASSED])
def test_numbers_of_a_connection_of_its_own_are_no_copies_for_ever(moment: float) -> None:
    run = Overlap(*range(1, 50), read_at=-PASSED)
    run.now = moment
    run.count(NEW, 1, 2)
    run.count(OLD, 50)
    assert not run.merge.is_proven(PASSED)
    run.leave(OLD)
    run.count(NEW, 3, 4)
    assert (run.delivered, run.marks) == ([50, 3, 4], [Gap("reconnect", None, 1)])


def test_numbers_that_were_passed_just_now_are_copies() -> None:
    run = Overlap(1)
    run.count(OLD, 2, 3, 4)
    run.leave(OLD)
    run.now = PASSED / 2
    run.count(NEW, 2, 3, 4, 5)
    assert (run.delivered, run.marks) == ([2, 3, 4, 5], [])


def test_a_lone_connection_whose_numbers_stay_behind_is_marked() -> None:
    run = Overlap(1)
    run.count(OLD, *range(2, 100))
    run.leave(OLD)
    run.count(NEW, 1, 2)
    run.now = PASSED
    run.count(NEW, 3, 4)
    assert run.delivered[98:] == [3, 4]
    assert run.marks == [Gap("reconnect", None, 1)]


def test_one_number_of_two_messages_shows_that_numbers_are_not_shared() -> None:
    run = Overlap(1)
    run.bring(OLD, Message("a", sequence=2), "x")
    run.bring(NEW, Message("a", sequence=2), "y")
    assert not run.merge.is_proven(LATER)
    run.leave(OLD)
    run.count(NEW, 3, 4)
    assert (run.delivered, run.marks) == ([2, 3, 4], [Gap("reconnect", None, 1)])
