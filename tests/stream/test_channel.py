"""One channel: sequences, gaps, and which message carries a gap."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import message as make
from wsclient.messages import Gap, LinkedMessage
from wsclient.stream.channel import MAX_OPEN_GAPS, RECENT, Channel


class Stream:
    """A stream of messages of one channel, received at the times 1, 2, 3 ..."""

    def __init__(self) -> None:
        self.channel = Channel("a")
        self.count = 0

    def take(self, sequence: int | None = None) -> Gap | None:
        """Accept a message; return the gap that it carries."""
        self.count += 1
        message = make("a", sequence=sequence, received_at=self.count)
        self.channel.accept(message)
        return message.gap

    def takes(self, *sequences: int | None) -> list[Gap | None]:
        return [self.take(s) for s in sequences]


def counted(last: int) -> Stream:
    """Return a stream that has delivered 1, 2, 3 ... ``last``."""
    stream = Stream()
    assert set(stream.takes(*range(1, last + 1))) == {None}
    return stream


# --- sequences -----------------------------------------------------------------------------------


def test_the_first_sequence_may_be_any() -> None:
    assert Stream().take(1_000_000) is None


def test_a_sequence_that_rises_by_one_has_no_gap() -> None:
    assert Stream().takes(5, 6, 7) == [None, None, None]


def test_a_jump_gives_the_number_missing_and_the_time_since() -> None:
    assert Stream().takes(5, 9) == [None, Gap("sequence", 3, 1)]


def test_a_gap_is_marked_once() -> None:
    assert Stream().takes(5, 9, 10) == [None, Gap("sequence", 3, 1), None]


def test_messages_without_a_sequence_show_no_gap() -> None:
    assert Stream().takes(None, None, None) == [None, None, None]


def test_a_message_without_a_sequence_leaves_the_count_alone() -> None:
    assert Stream().takes(5, None, 6, None, 8) == [None, None, None, None, Gap("sequence", 1, 4)]


def test_a_number_that_was_received_before_is_a_duplicate() -> None:
    stream = Stream()
    assert stream.takes(5, 6, 7, 6, 8) == [None, None, None, Gap("duplicate", 0, 3), None]
    assert (stream.channel.late_or_duplicate, stream.channel.late, stream.channel.gaps) == (1, 0, 0)
    assert stream.channel.last == 8


def test_a_late_message_reduces_the_number_missed() -> None:
    stream = Stream()
    assert stream.takes(5, 8, 7, 9) == [None, Gap("sequence", 2, 1), Gap("late", -1, 2), None]
    assert (stream.channel.late_or_duplicate, stream.channel.late, stream.channel.gaps) == (1, 1, 1)
    assert stream.channel.missed == 1


def test_a_whole_gap_may_arrive_late_in_order() -> None:
    stream = Stream()
    assert [gap and gap.reason for gap in stream.takes(1, 5, 2, 3, 4, 6)] == [
        None, "sequence", "late", "late", "late", None,
    ]  # fmt: skip
    assert stream.channel.missed == 0


def test_late_twice_is_a_duplicate() -> None:
    assert Stream().takes(1, 4, 2, 2)[-1] == Gap("duplicate", 0, 3)


def test_an_old_gap_is_forgotten_if_there_are_many() -> None:
    stream = Stream()
    stream.takes(*range(0, 3 * MAX_OPEN_GAPS + 6, 3))
    assert stream.takes(1, 10) == [
        Gap("duplicate", 0, MAX_OPEN_GAPS + 2),
        Gap("late", -1, MAX_OPEN_GAPS + 3),
    ]


def test_two_rising_duplicates_in_a_row_mean_a_restarted_counter() -> None:
    stream = counted(5)
    marks = stream.takes(1, 2, 3)
    assert marks == [Gap("duplicate", 0, 5), Gap("sequence", None, 6), None]
    assert stream.channel.last == 3


def test_a_number_below_the_first_means_a_restarted_counter() -> None:
    stream = Stream()
    assert stream.takes(100, 99, 100) == [None, Gap("sequence", None, 1), None]
    assert stream.channel.late_or_duplicate == 0
    assert counted(5).take(1) == Gap("duplicate", 0, 5)
    assert counted(5).take(0) == Gap("sequence", None, 5)


def test_a_restarted_counter_may_duplicate_a_message() -> None:
    stream = counted(5)
    stream.takes(1, 2)
    assert stream.takes(2, 3) == [Gap("duplicate", 0, 7), None]


def test_a_repeated_run_up_to_the_last_number_is_duplicates() -> None:
    assert [gap and gap.reason for gap in Stream().takes(99, 100, 99, 100, 101)] == [
        None, None, "duplicate", "duplicate", None,
    ]  # fmt: skip


def test_two_duplicates_that_do_not_rise_are_duplicates() -> None:
    stream = counted(9)
    assert stream.takes(5, 3, 10) == [Gap("duplicate", 0, 9), Gap("duplicate", 0, 10), None]
    assert stream.channel.late_or_duplicate == 2


def test_two_duplicates_with_a_good_message_between_them_are_duplicates() -> None:
    marks = counted(9).takes(5, 10, 6, 11)
    assert [gap and gap.reason for gap in marks] == ["duplicate", None, "duplicate", None]


# --- ranges, pointers and new sequences ----------------------------------------------------------


def linked(*pairs: tuple[int | None, int], is_counted: bool = True) -> list[Gap | None]:
    """Return the marks of messages with these (number that it follows, own number)."""
    stream = Stream()
    marks = []
    for follows, sequence in pairs:
        message = LinkedMessage("a", "update", sequence, follows=follows, is_counted=is_counted)
        stream.channel.accept(message)
        marks.append(message.gap)
    return marks


def test_adjacent_ranges_have_no_gap() -> None:
    assert linked((10, 12), (12, 13), (13, 20)) == [None, None, None]


def test_a_gap_between_ranges_is_counted_in_numbers() -> None:
    assert linked((10, 12), (15, 20))[1] == Gap("sequence", 3, 0)


def test_ranges_may_overlap() -> None:
    assert linked((10, 12), (11, 15), (12, 16)) == [None, None, None]


def test_an_old_range_is_a_duplicate_and_one_from_a_gap_is_late() -> None:
    marks = linked((0, 2), (6, 8), (3, 5), (7, 8))
    assert marks[2:] == [Gap("late", -2, 0), Gap("duplicate", 0, 0)]


def test_matching_pointers_have_no_gap_whatever_their_numbers() -> None:
    assert linked((90, 100), (100, 170), (170, 171), is_counted=False) == [None] * 3


def test_a_pointer_that_does_not_match_is_a_gap_of_unknown_size() -> None:
    assert linked((90, 100), (120, 170), is_counted=False)[1] == Gap("sequence", None, 0)


def test_a_pointer_to_its_own_number_is_no_gap() -> None:
    assert linked((90, 100), (100, 100), (100, 130), is_counted=False) == [None] * 3


def test_numbers_may_fall_if_the_pointer_matches() -> None:
    assert linked((90, 100), (100, 3), (3, 5), is_counted=False) == [None] * 3


def test_a_duplicate_pointer_differs_from_a_late_one() -> None:
    doubled = linked((90, 100), (100, 110), (100, 110), (110, 120), is_counted=False)
    assert doubled == [None, None, Gap("duplicate", 0, 0), None]
    swapped = linked((90, 100), (110, 120), (100, 110), (120, 130), is_counted=False)
    assert swapped == [None, Gap("sequence", None, 0), Gap("late", None, 0), None]


@pytest.mark.parametrize("is_counted", [True, False], ids=["range", "pointer"])
def test_a_wrong_high_number_makes_no_duplicates_of_later_messages(
    is_counted: bool,
) -> None:
    marks = linked((90, 100), (100, 999), (105, 110), (110, 111), is_counted=is_counted)
    assert marks == [None, None, Gap("sequence", None, 0), None]


def test_repeated_pointers_are_duplicates_in_any_order() -> None:
    connections = [(90, 100), (100, 70), (70, 110), (110, 120)]
    assert linked(*connections, *connections[1:], (120, 130), is_counted=False) == [
        *[None] * 4,
        *[Gap("duplicate", 0, 0)] * 3,
        None,
    ]


def test_a_new_sequence_voids_earlier_numbers() -> None:
    marks = linked((90, 100), (None, 200), (95, 100), is_counted=False)
    assert marks[1:] == [Gap("sequence", None, 0)] * 2


def test_only_the_most_recent_numbers_are_remembered() -> None:
    count = RECENT + 1
    connections = [(n, n + 1) for n in range(count)]
    assert linked(*connections, connections[1], is_counted=False)[-1] == Gap("duplicate", 0, 0)
    assert linked(*connections, connections[0], is_counted=False)[-1] == Gap("sequence", None, 0)


def test_a_late_message_that_arrives_again_is_a_duplicate() -> None:
    marks = linked((0, 1), (5, 6), (3, 4), (3, 4), (6, 7), is_counted=False)
    assert [gap and gap.reason for gap in marks] == [
        None, "sequence", "late", "duplicate", None,
    ]  # fmt: skip


def test_a_snapshot_starts_a_new_sequence_and_marks_a_possible_gap() -> None:
    assert linked((None, 7), (7, 8), (None, 3), (3, 4)) == [
        None,
        None,
        Gap("sequence", None, 0),
        None,
    ]


def test_a_snapshot_of_the_last_number_is_no_gap() -> None:
    assert linked((6, 7), (None, 7), (7, 8)) == [None, None, None]


def test_a_snapshot_carries_the_gap_of_a_reconnect() -> None:
    stream = Stream()
    stream.take(5)
    stream.channel.suspect("reconnect")
    message = LinkedMessage("a", "snapshot", 50, follows=None)
    stream.channel.accept(message)
    assert message.gap == Gap("reconnect", None, 1)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60))
def test_delivered_and_missed_make_up_all_numbers(numbers: list[int]) -> None:
    """This holds while no number restarts the sequence and each is received once."""
    numbers = list(dict.fromkeys(numbers))
    marks = [gap for gap in Stream().takes(*numbers) if gap is not None]
    if all(gap.reason == "late" or gap.missed is not None for gap in marks):
        early = [n for n in numbers if n < numbers[0]]
        missed = sum(gap.missed or 0 for gap in marks)
        assert max(numbers) - numbers[0] + 1 == len(numbers) - len(early) + missed


# --- suspected gaps ------------------------------------------------------------------------------


def test_without_a_sequence_a_suspicion_remains() -> None:
    stream = Stream()
    stream.take()
    stream.channel.suspect("reconnect")
    assert stream.takes(None, None) == [Gap("reconnect", None, 1), None]


@pytest.mark.parametrize("reason", ["reconnect", "invalid"])
def test_the_next_sequence_disproves_a_suspicion(reason: str) -> None:
    stream = Stream()
    stream.take(5)
    stream.channel.suspect(reason)
    assert stream.takes(6, None) == [None, None]


@pytest.mark.parametrize("reason", ["reconnect", "invalid"])
def test_a_jump_gives_the_size_of_a_suspected_gap(reason: str) -> None:
    stream = Stream()
    stream.take(5)
    stream.channel.suspect(reason)
    assert stream.take(8) == Gap(reason, 2, 1)


def test_after_a_reconnect_a_lower_number_starts_a_new_sequence() -> None:
    stream = Stream()
    stream.take(100)
    stream.channel.suspect("reconnect")
    assert stream.takes(1, 2, 4) == [Gap("reconnect", None, 1), None, Gap("sequence", 1, 3)]
    assert stream.channel.late_or_duplicate == 0


def test_a_new_sequence_forgets_duplicates_of_the_old_one() -> None:
    stream = counted(9)
    stream.take(3)
    stream.channel.suspect("reconnect")
    assert stream.takes(5, 6, 5, 7) == [
        Gap("reconnect", None, 10),
        None,
        Gap("duplicate", 0, 12),
        None,
    ]


def test_a_duplicate_on_the_same_connection_does_not_resolve_a_suspicion() -> None:
    """After a duplicate and an unreadable frame only the next number shows whether data is lost."""
    stream = Stream()
    stream.take(5)
    stream.channel.suspect("invalid")
    assert stream.takes(5, 7) == [Gap("duplicate", 0, 1), Gap("invalid", 1, 2)]


def test_a_duplicate_alone_causes_no_suspicion() -> None:
    stream = Stream()
    stream.takes(5, 5)
    assert stream.channel.pending is None


def test_a_restarted_counter_resolves_a_suspicion() -> None:
    stream = counted(5)
    stream.channel.suspect("invalid")
    marks = stream.takes(1, 2, 3)
    assert marks == [Gap("duplicate", 0, 5), Gap("sequence", None, 6), None]


def test_the_very_first_message_may_carry_a_gap() -> None:
    stream = Stream()
    stream.channel.suspect("reconnect")
    assert stream.take(5) == Gap("reconnect", None, None)


def test_the_stronger_of_two_suspicions_names_the_gap() -> None:
    stream = Stream()
    stream.take()
    stream.channel.suspect("reconnect")
    stream.channel.suspect("invalid")
    assert stream.take() == Gap("reconnect", None, 1)
    stream.channel.suspect("invalid")
    stream.channel.suspect("reconnect")
    assert stream.take() == Gap("reconnect", None, 2)


# --- certain gaps --------------------------------------------------------------------------------


def test_a_refused_message_is_a_gap_of_one() -> None:
    stream = Stream()
    stream.take()
    stream.channel.refused(make("a", sequence=None))
    assert stream.takes(None, None) == [Gap("invalid", 1, 1), None]


def test_a_refused_message_takes_part_in_the_count() -> None:
    stream = Stream()
    stream.take(5)
    stream.channel.refused(make("a", sequence=6))
    assert stream.takes(7, 8) == [Gap("invalid", 1, 1), None]


def test_several_refused_messages_are_one_gap() -> None:
    stream = Stream()
    stream.take(5)
    for sequence in (6, 7, 8):
        stream.channel.refused(make("a", sequence=sequence))
    assert stream.take(9) == Gap("invalid", 3, 1)


def test_a_refused_message_after_a_jump_adds_to_it() -> None:
    stream = Stream()
    stream.take(5)
    stream.channel.refused(make("a", sequence=8))
    assert stream.take(9) == Gap("sequence", 3, 1)


def test_a_jump_after_a_refused_message_adds_to_it() -> None:
    stream = Stream()
    stream.take(5)
    stream.channel.refused(make("a", sequence=6))
    assert stream.take(9) == Gap("sequence", 3, 1)


@pytest.mark.parametrize(
    ("number", "late_or_duplicate"), [(8, (1, 0)), (6, (1, 1))], ids=["duplicate", "late"]
)
def test_a_refused_message_that_was_counted_before_is_not_counted_again(
    number: int, late_or_duplicate: tuple[int, int]
) -> None:
    stream = Stream()
    assert stream.takes(5, 8) == [None, Gap("sequence", 2, 1)]
    stream.channel.refused(make("a", sequence=number))
    assert stream.channel.pending is None
    assert stream.take(9) is None
    assert (stream.channel.late_or_duplicate, stream.channel.late) == late_or_duplicate


def test_a_sequence_does_not_disprove_a_refused_message() -> None:
    stream = Stream()
    stream.take(5)
    stream.channel.refused(make("a", sequence=6))
    stream.channel.suspect("reconnect")
    assert stream.take(7) == Gap("invalid", 1, 1)


def test_a_refused_message_after_a_reconnect_is_part_of_its_gap() -> None:
    stream = Stream()
    stream.take()
    stream.channel.suspect("reconnect")
    stream.channel.refused(make("a", sequence=None))
    assert stream.take() == Gap("reconnect", None, 1)


# --- waiting gaps --------------------------------------------------------------------------------


def test_a_waiting_gap_is_visible() -> None:
    stream = Stream()
    stream.take()
    assert stream.channel.pending is None
    stream.channel.refused(make("a", sequence=None))
    assert stream.channel.pending == Gap("invalid", 1, 1)
    stream.channel.suspect("reconnect")
    assert stream.channel.pending == Gap("reconnect", None, 1)
    stream.take()
    assert stream.channel.pending is None


# --- counters ------------------------------------------------------------------------------------


def test_messages_gaps_and_missed_numbers_are_counted() -> None:
    stream = Stream()
    stream.takes(1, 3, 4, 8)
    stream.channel.suspect("reconnect")
    stream.take(None)
    tracker = stream.channel
    assert (tracker.messages, tracker.gaps, tracker.missed) == (5, 3, 4)


def test_a_gap_before_a_duplicate_is_counted() -> None:
    stream = counted(5)
    stream.channel.refused(make("a", sequence=6))
    assert stream.take(5) == Gap("invalid", 1, 5)
    assert (stream.channel.gaps, stream.channel.missed, stream.channel.late_or_duplicate) == (
        1,
        1,
        1,
    )


def test_the_newest_message_and_its_time_are_kept() -> None:
    stream = Stream()
    stream.takes(1, 2)
    assert stream.channel.latest is not None
    assert stream.channel.latest.sequence == 2
    assert stream.channel.last_received_at == 2


def test_each_message_has_the_time_of_the_previous_one() -> None:
    stream = Stream()
    stream.take()
    assert stream.channel.latest is not None
    assert stream.channel.latest.previous_at is None
    stream.take()
    assert stream.channel.latest.previous_at == 1


def test_a_refused_message_does_not_date_a_gap() -> None:
    stream = Stream()
    stream.take()
    stream.channel.refused(make("a", sequence=None))
    assert stream.channel.last_received_at == 1


def test_a_message_ends_the_silence_of_a_refreshed_channel() -> None:
    stream = Stream()
    stream.channel.refreshed = True
    stream.take()
    assert not stream.channel.refreshed


# --- at random -----------------------------------------------------------------------------------

sent = st.integers(1, 60)


@given(last=sent, dropped=st.sets(sent), refused=st.sets(sent), start=st.integers(-100, 100))
def test_what_is_missed_is_counted_exactly(
    last: int, dropped: set[int], refused: set[int], start: int
) -> None:
    """Delivered and missed messages add up to the sent ones.

    Any messages between the first and the last may be dropped or refused.
    """
    stream = Stream()
    delivered = missed = 0
    for number in range(last + 1):
        if number in dropped and 0 < number < last:
            continue
        if number in refused and 0 < number < last:
            stream.channel.refused(make("a", sequence=start + number))
            continue
        gap = stream.take(start + number)
        delivered += 1
        if gap is not None:
            assert gap.missed is not None
            missed += gap.missed
    assert delivered + missed == last + 1
    assert stream.channel.missed == missed


@given(
    st.lists(
        st.one_of(st.none(), st.integers(1, 9), st.sampled_from(["reconnect", "invalid"])),
        max_size=30,
    )
)
def test_no_gap_stays_unmarked(steps: Sequence[int | str | None]) -> None:
    """The next message marks a drop of ``n`` messages or a suspicion.

    A suspicion needs no mark if the sequence continues without a gap.
    """
    stream = Stream()
    number = 0
    stream.take(number)
    for step in steps:
        if isinstance(step, str):
            stream.channel.suspect(step)
            continue
        doubt = stream.channel.pending
        number += 1 + (step or 0)
        gap = stream.take(number)
        if step is None:
            assert gap is None
        else:
            reason = "sequence" if doubt is None else doubt.reason
            assert gap == Gap(reason, step, stream.count - 1)
