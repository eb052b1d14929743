"""Two model connections carry one channel: what is delivered, whatever each loses, and when."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.examples import examples
from wsclient.messages import Arrival, LinkedMessage, Message
from wsclient.stream.channel import Channel
from wsclient.stream.merge import LAG, SILENCE, Merge

OLD, NEW = 1, 2


def arrived(message: Message, connection_id: int) -> Message:
    message.arrival = Arrival(1, connection_id, None)
    return message


# --- channels with numbers -----------------------------------------------------------------------


@dataclass
class Numbers:
    """A channel with numbers, of which connection 1 has delivered number 0.

    Time stands still: nothing that is held expires.
    """

    is_fast: bool = False
    channel: Channel = field(default_factory=lambda: Channel("a"))
    delivered: list[Message] = field(default_factory=list)
    #: All numbers that came on a connection which was there.
    came: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.channel.accept(arrived(Message("a", sequence=0), OLD))
        self.merge = Merge(self.channel, OLD)
        self.merge.join(NEW, 0.0)
        self.merge.confirmed(NEW, 0.0)

    def bring(self, connection_id: int, message: Message) -> None:
        if connection_id not in self.merge.connections:
            return
        arrived(message, connection_id)
        assert message.sequence is not None
        follows = message.sequence - 1
        if isinstance(message, LinkedMessage):
            follows = message.sequence if message.follows is None else message.follows
        self.came.update(range(follows + 1, message.sequence + 1))
        if self.is_fast and connection_id == OLD and self.channel.expected == follows + 1:
            self.channel.accept(message)  # as the fast path does
            self.delivered.append(message)
        else:
            self.delivered += self.merge.take(connection_id, message, None, 0.0)

    def leave(self, connection_id: int) -> None:
        self.delivered += self.merge.leave(connection_id, "reconnect", 0.0)

    def check(self, is_counted: bool = True) -> None:
        """Check what was delivered: all that came, in order, once, with each gap marked."""
        last = 0
        covered = {0}
        for message in self.delivered:
            assert message.sequence is not None
            follows = message.sequence - 1
            if isinstance(message, LinkedMessage):
                follows = message.sequence if message.follows is None else message.follows
            missed = max(0, follows - last)
            if message.gap is None:
                assert not missed, f"an unmarked gap before {message}"
            elif is_counted and (not isinstance(message, LinkedMessage) or message.follows):
                assert message.gap.missed == missed
            assert message.sequence > last, f"{message} after {last}"
            assert missed or message.gap is None, f"a mark without a gap: {message}"
            covered.update(range(follows + 1, message.sequence + 1))
            last = message.sequence
        left = {number for number in self.came if number <= last} - covered
        assert not left, f"{left} came and were not delivered"


def interleavings(first: int, second: int) -> Iterator[tuple[int, ...]]:
    """Return all orders in which two connections bring so many messages each."""
    for places in itertools.combinations(range(first + second), first):
        yield tuple(OLD if i in places else NEW for i in range(first + second))


@pytest.mark.parametrize("is_fast", [False, True])
@pytest.mark.parametrize("start", [1, 2, 3])
def test_each_small_overlap_of_counted_messages(start: int, is_fast: bool) -> None:
    """Each loss on either connection, each order of arrival, and each moment of the end."""
    numbers = (1, 2, 3)
    subsets = [kept for size in range(4) for kept in itertools.combinations(numbers, size)]
    for old, new in itertools.product(subsets, subsets):
        later = [number for number in new if number >= start]
        for order in interleavings(len(old), len(later)):
            for end in range(len(order) + 1):
                run = Numbers(is_fast)
                sources = {OLD: iter(old), NEW: iter(later)}
                for step, source in enumerate(order):
                    if step == end:
                        run.leave(OLD)
                    run.bring(source, Message("a", sequence=next(sources[source])))
                run.leave(OLD)
                run.leave(NEW)
                run.check()


@st.composite
def cuts(draw: st.DrawFn, last: int, style: str, start: int) -> list[Message]:
    """Return the messages of one connection: its own cut of the numbers, with some lost."""
    if style == "counted":
        found: list[Message] = [Message("a", sequence=n) for n in range(start + 1, last + 1)]
    else:
        ends = sorted({*draw(st.sets(st.integers(start + 1, last), max_size=last)), last})
        found = []
        follows = start
        for end in ends:
            if end > follows:
                found.append(
                    LinkedMessage("a", "update", end, follows=follows, is_counted=style == "range")
                )
                follows = end
    lost = draw(st.sets(st.integers(0, max(0, len(found) - 1)), max_size=3))
    kept = [message for i, message in enumerate(found) if i not in lost]
    if start and style != "counted" and draw(st.booleans()):
        kept.insert(0, LinkedMessage("a", "snapshot", start, follows=None))
    return kept


@st.composite
def overlaps(draw: st.DrawFn, style: str) -> tuple[list[Message], list[Message], list[int], int]:
    """Return the messages of both connections, the order of arrival and when the old one ends."""
    last = draw(st.integers(1, 12))
    old = draw(cuts(last, style, 0))
    new = draw(cuts(last, style, draw(st.integers(0, last - 1))))
    order = draw(st.permutations([OLD] * len(old) + [NEW] * len(new)))
    return old, new, list(order), draw(st.integers(0, len(order)))


@pytest.mark.parametrize("is_fast", [False, True])
@pytest.mark.parametrize("style", ["counted", "range", "pointer"])
@given(data=st.data())
@examples(600)
def test_all_that_came_is_delivered_once_and_each_gap_is_marked(
    style: str, is_fast: bool, data: st.DataObject
) -> None:
    old, new, order, end = data.draw(overlaps(style))
    run = Numbers(is_fast)
    sources = {OLD: iter(old), NEW: iter(new)}
    is_planned = data.draw(st.booleans())
    for step, source in enumerate(order):
        if step == end:
            if is_planned:
                run.delivered += run.merge.switch(0.0)
            run.leave(OLD)
        run.bring(source, next(sources[source]))
    run.leave(OLD)
    run.leave(NEW)
    run.check(style != "pointer")


# --- channels without numbers --------------------------------------------------------------------


@dataclass
class Journal:
    """What a venue sends on a channel without numbers: (time, identity) of each message."""

    sent: list[tuple[float, int]]


class Step(NamedTuple):
    at: float
    what: str
    connection_id: int
    index: int = -1


#: What happens first of what happens at the same time.
ORDER = {"join": 0, "take": 1, "lose": 1, "switch": 2, "leave": 3}


@st.composite
def journals(draw: st.DrawFn, most: int = 40) -> Journal:
    """Return a journal. Some channels repeat themselves, some are slow."""
    alphabet = draw(st.sampled_from([1, 2, 3, 10, 1_000_000]))
    pauses = st.sampled_from([0.0, 0.01, 0.1, 0.5, 6.0])
    now = 0.0
    sent = []
    for _ in range(draw(st.integers(0, most))):
        now += draw(pauses)
        sent.append((now, draw(st.integers(1, alphabet))))
    return Journal(sent)


@st.composite
def arrivals(
    draw: st.DrawFn, journal: Journal, connection_id: int, start: float, end: float, losses: int
) -> list[Step]:
    """Return when the messages of one connection come, which may lose some."""
    steps = []
    now = 0.0
    lost = draw(st.sets(st.integers(0, max(0, len(journal.sent) - 1)), max_size=losses))
    delays = Random(draw(st.integers(0, 1000)))
    slowest = draw(st.sampled_from([0.0, 0.01, LAG - 0.01]))
    for index, (at, _) in enumerate(journal.sent):
        now = max(now, at + delays.uniform(0.0, slowest))
        if at >= start and now < end:
            steps.append(Step(now, "lose" if index in lost else "take", connection_id, index))
    return steps


@st.composite
def rotations(draw: st.DrawFn, journal: Journal, losses: int) -> list[Step]:
    """Return the steps of one to three connections, each of which succeeds the one before."""
    end = journal.sent[-1][0] if journal.sent else 0.0
    moments = [0.0, *(at for at, _ in journal.sent), end + 1.0, end + SILENCE + 1.0]
    successors = draw(st.integers(1, 3))
    times = sorted(draw(st.sampled_from(moments)) for _ in range(2 * successors))
    steps: list[Step] = []
    start = -1.0
    for connection_id in range(1, successors + 1):
        joined, left = times[2 * connection_id - 2 : 2 * connection_id]
        steps += draw(arrivals(journal, connection_id, start, left, losses))
        steps.append(Step(joined, "join", connection_id + 1))
        if draw(st.booleans()):
            between = [at for at in moments if joined <= at <= left]
            steps.append(Step(draw(st.sampled_from(between)), "switch", connection_id))
        steps.append(Step(left, "leave", connection_id))
        start = joined
    steps += draw(arrivals(journal, successors + 1, start, float("inf"), losses))
    return sorted(steps, key=lambda step: (step.at, ORDER[step.what]))


def play(journal: Journal, steps: Iterable[Step], has_snapshots: bool) -> tuple[list[Message], int]:
    """Run the steps; return what was delivered, and how many changes were not proven.

    The payload of a message is its place in the journal. A loss is suspected when it happens.
    """
    merge = Merge(Channel("a"), 1)
    delivered: list[Message] = []
    unproven = 0
    for at, what, connection_id, index in steps:
        if what == "join":
            merge.join(connection_id, at)
            merge.confirmed(connection_id, at)
            if has_snapshots:
                before = sum(time < at for time, _ in journal.sent) - 1
                message = Message("a", "snapshot", raw=b"%d" % before)
                delivered += merge.take(connection_id, arrived(message, connection_id), "s", at)
        elif what == "lose":
            merge.suspect(connection_id, "invalid", at)
        elif what == "switch":
            unproven += not merge.is_proven(at)
            delivered += merge.switch(at)
        elif what == "leave":
            unproven += connection_id == merge.leader and not merge.is_proven(at)
            delivered += merge.leave(connection_id, "reconnect", at)
        else:
            message = arrived(Message("a", raw=b"%d" % index), connection_id)
            delivered += merge.take(connection_id, message, journal.sent[index][1], at)
    return delivered, unproven


@given(data=st.data(), losses=st.sampled_from([0, 0, 2]), has_snapshots=st.booleans())
@examples(1500)
def test_without_numbers_no_loss_and_no_double_is_unmarked(
    data: st.DataObject, losses: int, has_snapshots: bool
) -> None:
    """Without a loss there are only the marks of the changes that were not proven."""
    journal = data.draw(journals())
    steps = data.draw(rotations(journal, losses))
    delivered, unproven = play(journal, steps, has_snapshots)
    last = -1
    for message in delivered:
        index = int(message.raw)
        assert message.gap is not None or index == last + 1, f"{index} after {last}, unmarked"
        last = index
    if not losses:
        assert sum(message.gap is not None for message in delivered) <= unproven


@given(data=st.data(), has_snapshots=st.booleans())
@examples(300)
def test_each_rotation_of_a_busy_channel_is_proven(
    data: st.DataObject, has_snapshots: bool
) -> None:
    """Each message is another one, and overlaps are long enough."""
    sent = [(index / 20, index) for index in range(60)]
    times = [0.5, 1.5, 1.6, 2.6]
    steps: list[Step] = []
    start = -1.0
    for connection_id, joined, left in ((1, *times[:2]), (2, *times[2:])):
        steps += data.draw(arrivals(Journal(sent), connection_id, start, left, 0))
        steps.append(Step(joined, "join", connection_id + 1))
        if data.draw(st.booleans()):
            steps.append(Step(left - 0.1, "switch", connection_id))
        steps.append(Step(left, "leave", connection_id))
        start = joined
    steps += data.draw(arrivals(Journal(sent), 3, start, float("inf"), 0))
    steps.sort(key=lambda step: (step.at, ORDER[step.what]))
    delivered, unproven = play(Journal(sent), steps, has_snapshots)
    assert [int(message.raw) for message in delivered] == list(range(60))
    assert unproven == 0
