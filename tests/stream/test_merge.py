"""The change from one connection of a channel to another."""

from __future__ import annotations

import pytest

from support.overlap import LATER, NEW, OLD, THIRD, Overlap, met
from wsclient.messages import Arrival, Gap, Message
from wsclient.stream.matching import LAG
from wsclient.stream.merge import SILENCE

# --- numbers: the change of the leader -----------------------------------------------------------


def test_with_numbers_the_successor_is_proven_when_the_numbers_meet() -> None:
    run = Overlap(1, is_confirmed=False)
    assert run.merge.proven_at(0.0) == float("inf")
    run.merge.confirmed(NEW, 1.0)
    assert run.merge.proven_at(1.0) == 1.0 + LAG
    run.count(OLD, 2)
    run.count(NEW, 2)
    assert run.merge.is_proven(1.0)


def test_a_switch_of_a_channel_with_numbers_leaves_no_trace() -> None:
    run = met()
    run.switch()
    assert run.merge.leader == NEW
    run.count(OLD, 4)
    run.leave(OLD)
    assert run.channel.pending is None
    assert not run.merge.is_over
    run.count(NEW, 4, 5)
    assert (run.delivered, run.marks) == ([4, 5], [])
    assert run.merge.is_over
    assert run.channel.expected == 6


def test_what_was_lost_at_the_end_of_the_leader_is_counted() -> None:
    run = met()
    run.leave(OLD)
    run.count(NEW, 6)
    assert run.marks == [Gap("reconnect", 2, 1)]


def test_without_a_confirmed_successor_messages_may_have_been_missed() -> None:
    run = Overlap(1, is_confirmed=False)
    run.leave(OLD)
    assert run.channel.pending == Gap("reconnect", None, 1)
    run.count(NEW, 2)
    assert run.marks == []


def test_when_all_have_left_messages_may_have_been_missed() -> None:
    run = met()
    run.leave(OLD)
    run.leave(NEW, "rejected")
    assert run.merge.is_over
    assert run.channel.pending == Gap("rejected", None, 1)


def test_a_merge_is_over_when_the_other_connection_has_left() -> None:
    run = met()
    run.count(NEW, 4)
    run.leave(NEW)
    assert not run.merge.is_over  # the leader has still to bring 4
    run.channel.accept(Message("a", sequence=5, arrival=Arrival(1, OLD, None)))
    assert run.merge.is_over


def test_a_merge_is_not_over_while_two_carry_the_channel() -> None:
    run = Overlap(1)
    run.count(OLD, 2)
    run.count(NEW, 2)
    assert not run.merge.is_over
    run.leave(OLD)
    assert run.merge.is_over


def test_a_second_confirmation_changes_nothing() -> None:
    run = Overlap(None)
    run.merge.confirmed(NEW, SILENCE - 1.0)
    run.merge.confirmed(THIRD, 0.0)  # it does not carry the channel
    assert run.merge.is_proven(SILENCE)


def test_what_a_connection_that_left_still_brings_is_ignored() -> None:
    run = met()
    run.leave(OLD)
    run.leave(OLD)
    run.count(OLD, 4)
    run.merge.suspect(OLD, "invalid", 0.0)
    run.merge.asked(OLD)
    assert run.channel.pending is None
    assert run.delivered == []


def test_messages_without_a_number_on_a_channel_with_numbers_come_from_the_leader() -> None:
    run = met()
    run.show(OLD, 100)
    run.show(NEW, 100)
    assert run.delivered == [100]
    run.leave(OLD)
    run.count(NEW, 4)
    assert run.marks == [Gap("reconnect", None, 1)]  # one may have been on its way


def test_a_channel_may_begin_to_count_while_two_carry_it() -> None:
    run = Overlap()
    run.count(NEW, 4, 5, 6)
    assert not run.merge.is_numbered
    assert run.delivered == []
    run.count(OLD, 3)
    assert run.merge.is_numbered
    assert (run.delivered, run.marks) == ([3, 4, 5, 6], [])


def test_a_channel_may_begin_to_count_when_its_leader_leaves() -> None:
    run = Overlap()
    run.count(NEW, 4, 5)
    run.leave(OLD)
    run.count(NEW, 6)
    assert (run.delivered, run.marks) == ([4, 5, 6], [Gap("reconnect", None, None)])
    assert run.merge.is_over


# --- three connections ---------------------------------------------------------------------------


def test_a_third_connection_takes_over_without_a_mark() -> None:
    run = Overlap(None)
    run.merge.join(THIRD, 0.0)
    run.merge.confirmed(THIRD, 0.0)
    run.now = LATER
    for connection_id in (OLD, NEW, THIRD):
        run.show(connection_id, 1, 2, 3)
    run.show(NEW, 4, 5)
    run.show(THIRD, 4)
    run.leave(OLD)
    run.leave(NEW)
    run.show(THIRD, 5, 6)
    assert (run.delivered, run.marks) == ([1, 2, 3, 4, 5, 6], [])


def test_a_connection_that_led_has_still_to_bring_what_others_delivered() -> None:
    run = Overlap(None)
    run.merge.join(THIRD, 0.0)
    run.merge.confirmed(THIRD, 0.0)
    run.now = LATER
    for connection_id in (OLD, NEW, THIRD):
        run.show(connection_id, 1, 2, 3)
    run.show(OLD, 4)
    run.leave(OLD)
    run.show({NEW: THIRD, THIRD: NEW}[run.merge.leader or 0], 4)
    run.switch()
    led = {NEW: THIRD, THIRD: NEW}[run.merge.leader or 0]
    run.show(led, 4)
    run.leave(run.merge.leader or 0)
    run.show(led, 5)
    assert (run.delivered, run.marks) == ([1, 2, 3, 4, 5], [])


@pytest.mark.parametrize("is_numbered", [True, False])
def test_a_successor_is_a_confirmed_connection(is_numbered: bool) -> None:
    run = Overlap(1 if is_numbered else None, is_confirmed=False)
    run.merge.join(THIRD, 0.0)
    run.merge.confirmed(THIRD, 0.0)
    run.switch()
    assert run.merge.leader == THIRD
    assert list(run.merge.connections) == [OLD, NEW, THIRD]


def test_a_lone_connection_has_no_successor() -> None:
    run = Overlap(None)
    run.leave(NEW)
    assert run.merge.is_over
    assert run.merge.proven_at(LATER) == float("inf")
    run.switch()
    run.show(OLD, 1)
    assert (run.delivered, run.marks) == ([1], [])


# --- numbers that two connections do not share ---------------------------------------------------


def bring(run: Overlap, connection_id: int, *numbers: int, shift: int = 0) -> None:
    """Bring messages, each identified by its number; ``shift`` is added to the numbers."""
    for number in numbers:
        run.bring(connection_id, Message("a", sequence=number + shift), number + shift)


def test_equal_messages_prove_a_switch_though_numbers_are_not_shared() -> None:
    run = Overlap(1, shares_numbers=False)
    run.now = LATER
    for number in range(2, 8):
        bring(run, OLD, number)
        bring(run, NEW, number)
    assert run.merge.is_proven(run.now)
    run.switch()
    run.leave(OLD)
    bring(run, NEW, 8, 9)
    assert (run.delivered, run.marks) == ([2, 3, 4, 5, 6, 7, 8, 9], [])


@pytest.mark.parametrize("shift", [-1, 100])
def test_numbers_that_are_not_shared_begin_again_with_one_mark(shift: int) -> None:
    run = Overlap(1, shares_numbers=False)
    for number in range(2, 8):
        bring(run, OLD, number)
        bring(run, NEW, number, shift=shift)
    assert not run.merge.is_proven(run.now)
    run.leave(OLD)
    bring(run, NEW, 8, 9, shift=shift)
    assert run.delivered[:6] == [2, 3, 4, 5, 6, 7]
    assert run.delivered[-2:] == [8 + shift, 9 + shift]
    assert [(gap.reason, gap.missed) for gap in run.marks if gap] == [("reconnect", None)]
