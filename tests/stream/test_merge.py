"""Two connections carry one channel: what is delivered, what is dropped, and what is marked."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import pytest

from wsclient.messages import Arrival, Gap, LinkedMessage, Message
from wsclient.stream.channel import Channel
from wsclient.stream.line import SILENCE
from wsclient.stream.matching import LAG, RUN
from wsclient.stream.merge import Merge
from wsclient.stream.numbered import MEET_WAIT, MERGE_WAIT

OLD, NEW, THIRD = 1, 2, 3
#: After this time (s) each connection brings what the other brings.
LATER = 10.0


class Overlap:
    """A channel that connection 1 carries, and connection 2 too, from time 0 on.

    ``marks`` and ``delivered`` are those of all messages so far; ``delivered`` holds the number of
    each message, or its identity.
    """

    def __init__(
        self, *before: int | None, is_confirmed: bool = True, read_at: float | None = None
    ) -> None:
        self.channel = Channel("a")
        self.now = 0.0
        self.messages: list[Message] = []
        for number in before:
            arrival = Arrival(1, OLD, None, read_at)
            self.channel.accept(Message("a", sequence=number, arrival=arrival))
        self.merge = Merge(self.channel, OLD)
        self.merge.join(NEW, 0.0)
        if is_confirmed:
            self.merge.confirmed(NEW, 0.0)

    @property
    def delivered(self) -> list[Any]:
        return [
            int(message.raw) if message.sequence is None else message.sequence
            for message in self.messages
        ]

    @property
    def marks(self) -> list[Gap | None]:
        return [message.gap for message in self.messages if message.gap is not None]

    def bring(
        self,
        connection_id: int,
        message: Message,
        identity: Hashable = None,
        is_refused: bool = False,
    ) -> list[Message]:
        message.arrival = Arrival(1, connection_id, None, self.now)
        found = self.merge.take(connection_id, message, identity, self.now, is_refused)
        self.messages += found
        return found

    def count(self, connection_id: int, *numbers: int) -> None:
        """Bring messages that are counted."""
        for number in numbers:
            self.bring(connection_id, Message("a", sequence=number))

    def link(self, connection_id: int, *links: tuple[int | None, int], ranges: bool = True) -> None:
        """Bring messages with these (number that it follows, own number)."""
        for follows, number in links:
            self.bring(
                connection_id,
                LinkedMessage("a", "update", number, follows=follows, is_counted=ranges),
            )

    def show(self, connection_id: int, *identities: int) -> None:
        """Bring messages without numbers, with these identities."""
        for identity in identities:
            self.bring(connection_id, Message("a", raw=b"%d" % identity), identity)

    def snapshot(self, connection_id: int, identity: int) -> None:
        self.bring(connection_id, Message("a", "snapshot", raw=b"%d" % identity), identity)

    def align(self, identities: Iterable[int] = range(100, 100 + RUN)) -> None:
        """Let both connections carry a run."""
        self.now = max(self.now, LATER)
        identities = list(identities)
        self.show(OLD, *identities)
        self.show(NEW, *identities)
        self.messages.clear()

    def tick(self, now: float) -> None:
        self.now = now
        self.messages += self.merge.tick(now)

    def switch(self) -> None:
        self.messages += self.merge.switch(self.now)

    def leave(self, connection_id: int, reason: str = "reconnect") -> None:
        self.messages += self.merge.leave(connection_id, reason, self.now)


# --- numbers: copies -----------------------------------------------------------------------------


def test_a_number_is_delivered_once_whoever_brings_it() -> None:
    run = Overlap(1)
    run.count(OLD, 2, 3)
    run.count(NEW, 2, 3, 4)
    run.count(OLD, 4, 5)
    run.count(NEW, 5)
    assert (run.delivered, run.marks) == ([2, 3, 4, 5], [])


def test_copies_are_counted_for_the_connection_and_not_as_duplicates() -> None:
    run = Overlap(1)
    run.count(OLD, 2, 3)
    run.count(NEW, 2, 3, 4)
    run.count(OLD, 4)
    assert run.merge.copies == {OLD: 1, NEW: 2}
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


def met() -> Overlap:
    """Return an overlap whose connections have both brought numbers up to 3."""
    run = Overlap(1)
    run.count(OLD, 2, 3)
    run.count(NEW, 2, 3)
    run.messages.clear()
    return run


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


def test_a_restart_on_the_leader_is_marked_as_on_a_lone_connection() -> None:
    run = met()
    run.count(OLD, *range(4, 101))
    run.messages.clear()
    run.count(OLD, 1, 2, 3)
    assert [gap and gap.reason for gap in run.marks] == ["duplicate", "sequence"]
    assert run.delivered == [1, 2, 3]


@pytest.mark.parametrize("moment", [0.0, SILENCE])
def test_numbers_of_a_connection_of_its_own_are_no_copies_for_ever(moment: float) -> None:
    run = Overlap(*range(1, 50), read_at=-SILENCE)
    run.now = moment
    run.count(NEW, 1, 2)
    run.count(OLD, 50)
    assert not run.merge.is_proven(SILENCE)
    run.leave(OLD)
    run.count(NEW, 3, 4)
    assert (run.delivered, run.marks) == ([50, 3, 4], [Gap("reconnect", None, 1)])


def test_numbers_that_were_passed_just_now_are_copies() -> None:
    run = Overlap(1)
    run.count(OLD, 2, 3, 4)
    run.leave(OLD)
    run.now = SILENCE / 2
    run.count(NEW, 2, 3, 4, 5)
    assert (run.delivered, run.marks) == ([2, 3, 4, 5], [])


def test_a_lone_connection_whose_numbers_stay_behind_is_marked() -> None:
    run = Overlap(1)
    run.count(OLD, *range(2, 100))
    run.leave(OLD)
    run.count(NEW, 1, 2)
    run.now = SILENCE
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


def test_what_a_connection_that_left_still_brings_is_ignored() -> None:
    run = met()
    run.leave(OLD)
    run.count(OLD, 4)
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
    assert run.merge.connections == [OLD, NEW, THIRD]


def test_a_lone_connection_has_no_successor() -> None:
    run = Overlap(None)
    run.leave(NEW)
    assert run.merge.is_over
    assert run.merge.proven_at(LATER) == float("inf")
    run.switch()
    run.show(OLD, 1)
    assert (run.delivered, run.marks) == ([1], [])
