"""A channel compared with an oracle that knows what was done to the stream.

A stream is a list of steps. Each message has a fate (delivered, deleted, duplicated, delayed), and
something may happen before it (an unreadable frame, a reconnect, a restart of the numbers, a
snapshot). The channel sees only numbers; the oracle sees only the places in the stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from support.examples import examples
from support.making import message as make
from wsclient.messages import Arrival, Gap, LinkedMessage, Message
from wsclient.stream.channel import LATE_OR_DUPLICATE, MAX_OPEN_GAPS, RECENT, Channel

Numbering = Literal["plain", "ranged", "pointer"]
Before = Literal["", "invalid", "reconnect", "restart", "snapshot"]
#: What starts a new sequence: nothing from before is counted after it.
BEGINNINGS = ("restart", "snapshot")


@dataclass(frozen=True)
class Step:
    #: How many numbers the message stands for, or by how much a pointer moves.
    width: int
    #: How often it is delivered, and by how many places too late.
    copies: int
    delay: int
    before: Before


@dataclass(frozen=True)
class Sent:
    """A message as the venue made it."""

    place: int
    width: int
    sequence: int
    follows: int | None
    before: Before

    def message(self, numbering: Numbering, received_at: int) -> Message:
        if numbering == "plain":
            return make("a", sequence=self.sequence, received_at=received_at)
        return LinkedMessage(
            "a",
            sequence=self.sequence,
            arrival=Arrival(received_at, 1, None),
            follows=self.follows,
            is_counted=numbering == "ranged",
        )


def steps(numbering: Numbering) -> st.SearchStrategy[list[Step]]:
    before: list[Before] = ["", "", "", "invalid", "reconnect", "restart"]
    if numbering != "plain":
        before.append("snapshot")
    fates = st.sampled_from(
        [(1, 0), (1, 0), (1, 0), (0, 0), (2, 0), (1, 1), (1, 2), (1, 5), (2, 3)]
    )
    width = st.just(1) if numbering == "plain" else st.integers(1, 4)
    step = st.builds(
        lambda width, fate, before: Step(width, *fate, before),
        width,
        fates,
        st.sampled_from(before),
    )
    return st.lists(step, min_size=1, max_size=MAX_OPEN_GAPS) | st.lists(
        step, min_size=20, max_size=MAX_OPEN_GAPS
    )


def sent(steps: list[Step]) -> list[Sent]:
    """Return the stream before anything happened to it."""
    stream = []
    # Each restart begins below all earlier numbers.
    start = number = 1000 * (1 + sum(step.before == "restart" for step in steps))
    for place, step in enumerate(steps):
        if step.before == "restart":
            start -= 1000
            number = start
        follows = None if step.before == "snapshot" else number
        number += step.width
        stream.append(Sent(place, step.width, number, follows, step.before))
    return stream


def arriving(steps: list[Step]) -> list[int | Before]:
    """Return what the channel sees, in order: places in the stream, and events between them.

    A message that is delayed past the end of a connection or past a new sequence is lost. The
    first message of a new sequence arrives once and in time.
    """
    events: list[tuple[float, int | Before]] = []
    barriers = [i for i, step in enumerate(steps) if step.before in (*BEGINNINGS, "reconnect")]
    # Two rising duplicates look like a restart of the numbers: avoid two such.
    late_twice = [i for i, step in enumerate(steps) if step.copies == 2 and step.delay][:1]
    for place, step in enumerate(steps):
        if step.before in ("reconnect", "restart"):
            events.append((place - 0.3, "reconnect"))
        elif step.before == "invalid":
            events.append((place - 0.3, "invalid"))
        if place == 0 or step.before in BEGINNINGS:
            events.append((place, place))
        elif not any(place < barrier <= place + step.delay for barrier in barriers):
            at = place + step.delay + 0.5 if step.delay else place
            # A second copy may come after the event before the next message.
            again = 0.9 if place + 1 not in barriers and not step.delay else 0
            copies = step.copies if late_twice in ([], [place]) else min(step.copies, 1)
            events += [(at, place), (at + again, place)][:copies]
    return [event for _, event in sorted(events, key=lambda event: event[0])]


@dataclass
class Oracle:
    """Computes the mark that each message must carry from the places delivered so far."""

    stream: list[Sent]
    is_counted: bool
    suspected: Gap | None = None
    #: Places delivered since the sequence began.
    seen: set[int] = field(default_factory=set)
    last_received_at: int | None = None

    def suspects(self, reason: str) -> None:
        """Add a suspicion: the stronger of two names the gap, the first one dates it."""
        gap, before = Gap(reason, None, self.last_received_at), self.suspected
        if before is not None:
            gap = before if before.reason == "reconnect" else before._replace(reason=reason)
        self.suspected = gap

    def expects(self, place: int) -> Gap | None:
        one = self.stream[place]
        suspected, since = self.suspected, self.last_received_at
        if place in self.seen:
            return Gap("duplicate", 0, since)
        highest = max(self.seen, default=place)
        if place < highest:
            return Gap("late", -one.width if self.is_counted else None, since)
        self.suspected = None
        if since is None:
            return suspected
        if one.before in BEGINNINGS:
            return suspected or Gap("sequence", None, since)
        missing = [self.stream[i].width for i in range(highest + 1, place)]
        if not missing:
            return None
        reason = "sequence" if suspected is None else suspected.reason
        return Gap(reason, sum(missing) if self.is_counted else None, since)

    def delivered(self, place: int, received_at: int) -> None:
        if self.stream[place].before in BEGINNINGS and place not in self.seen:
            self.seen.clear()
        self.seen.add(place)
        self.last_received_at = received_at


def check(numbering: Numbering, steps: list[Step]) -> None:
    stream = sent(steps)
    is_counted = numbering != "pointer"
    channel = Channel("a")
    oracle = Oracle(stream, is_counted)
    delivered: list[tuple[int, Message]] = []
    for received_at, event in enumerate(arriving(steps), 1):
        if isinstance(event, str):
            channel.suspect(event)
            oracle.suspects(event)
            continue
        message = stream[event].message(numbering, received_at)
        expected = oracle.expects(event)
        channel.accept(message)
        assert message.gap == expected, (event, stream[event])
        oracle.delivered(event, received_at)
        delivered.append((event, message))
    check_losses(stream, delivered)
    if is_counted:
        check_sums(stream, delivered)
    marks = [message.gap for _, message in delivered if message.gap is not None]
    assert channel.messages == len(delivered)
    assert channel.gaps == sum(gap.reason not in LATE_OR_DUPLICATE for gap in marks)
    assert channel.late_or_duplicate == sum(gap.reason in LATE_OR_DUPLICATE for gap in marks)
    assert channel.late == sum(gap.reason == "late" for gap in marks)
    assert channel.missed == sum(gap.missed or 0 for gap in marks)


def check_losses(stream: list[Sent], delivered: list[tuple[int, Message]]) -> None:
    """Check that the first message after a loss marks it."""
    first = delivered[0][0]
    for lost in range(first, len(stream)):
        for place, message in delivered:
            if place == lost:
                break
            if place > lost:
                assert message.gap is not None, f"{lost} was lost, {place} does not mark it"
                assert message.gap.reason not in LATE_OR_DUPLICATE
                break


def check_sums(stream: list[Sent], delivered: list[tuple[int, Message]]) -> None:
    """Check that the marks between two new sequences add up to what is really missing."""
    begins = [place for place, one in enumerate(stream) if one.before in BEGINNINGS]
    for start, end in zip([0, *begins], [*begins, len(stream)], strict=True):
        part = {place: message for place, message in delivered if start <= place < end}
        if not part:
            continue
        missing = sum(stream[i].width for i in range(start, max(part)) if i not in part)
        said = sum(m.gap.missed or 0 for p, m in delivered if p in part and m.gap is not None)
        assert said == missing


@examples(200)
@given(steps("plain"))
def test_plain_numbers(steps: list[Step]) -> None:
    check("plain", steps)


@examples(200)
@given(steps("ranged"))
def test_ranges(steps: list[Step]) -> None:
    check("ranged", steps)


@examples(200)
@given(steps("pointer"))
def test_pointers(steps: list[Step]) -> None:
    check("pointer", steps)


def test_gaps_of_an_earlier_sequence_are_not_filled_by_a_later_one() -> None:
    channel = Channel("a")
    gaps = []
    for received_at, sequence in enumerate([5, 9, None, 6, 7, 6], 1):
        if sequence is None:
            channel.suspect("reconnect")
            continue
        message = make("a", sequence=sequence, received_at=received_at)
        channel.accept(message)
        gaps.append(message.gap)
    assert gaps == [
        None,
        Gap("sequence", 3, 1),
        Gap("reconnect", None, 2),
        None,
        Gap("duplicate", 0, 5),
    ]


@examples(200)
@given(
    is_counted=st.booleans(),
    fates=st.lists(st.sampled_from(["", "", "", "lost", "doubled", "wrong"]), max_size=RECENT // 2),
    far=st.integers(-100, 1_000_000),
)
def test_a_message_received_once_is_never_a_duplicate(
    is_counted: bool, fates: list[str], far: int
) -> None:
    """Nor after a wrong number: a consumer that drops duplicates drops nothing new."""
    channel = Channel("a")
    for place, fate in enumerate(fates):
        number = 10 * place
        sequence = number + far * 10 + 7 if fate == "wrong" else number
        for copy in range({"lost": 0, "doubled": 2}.get(fate, 1)):
            message = LinkedMessage(
                "a", sequence=sequence, follows=number - 10, is_counted=is_counted
            )
            channel.accept(message)
            is_doubled = message.gap is not None and message.gap.reason == "duplicate"
            assert is_doubled == (copy == 1)
