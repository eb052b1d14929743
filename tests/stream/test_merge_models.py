"""Two model connections carry one channel: what is delivered, whatever each loses, and when."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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


@dataclass
class Step:
    at: float
    what: str
    connection_id: int
    index: int = -1


@st.composite
def journals(draw: st.DrawFn, most: int = 40) -> Journal:
    alphabet = draw(st.sampled_from([1, 2, 3, 10, 1_000_000]))
    sizes = st.sampled_from([0.0, 0.01, 0.1, 0.5, 6.0])
    now = 0.0
    sent = []
    for _ in range(draw(st.integers(0, most))):
        now += draw(sizes)
        sent.append((now, draw(st.integers(1, alphabet))))
    return Journal(sent)


@st.composite
def arrivals(
    draw: st.DrawFn, journal: Journal, connection_id: int, start: float, losses: int
) -> list[Step]:
    """Return when the messages of one connection come; each loss is suspected when it happens."""
    steps = []
    now = 0.0
    lost = draw(st.sets(st.integers(0, max(0, len(journal.sent) - 1)), max_size=losses))
    for index, (at, _) in enumerate(journal.sent):
        if at < start:
            continue
        now = max(now, at + draw(st.sampled_from([0.0, 0.01, 0.1, LAG - 0.01])))
        what = "suspect" if index in lost else "take"
        steps.append(Step(now, what, connection_id, index))
    return steps


def play(journal: Journal, steps: Sequence[Step], snapshot: bool) -> tuple[list[Message], Merge]:
    """Run the steps; return what was delivered. The payload is the index in the journal."""
    channel = Channel("a")
    merge = Merge(channel, OLD)
    delivered: list[Message] = []
    for step in steps:
        if step.what == "join":
            merge.join(NEW, step.at)
            merge.confirmed(NEW, step.at)
            if snapshot:
                before = sum(at < step.at for at, _ in journal.sent) - 1
                message = arrived(Message("a", "snapshot", raw=b"%d" % before), NEW)
                delivered += merge.take(NEW, message, "snapshot", step.at)
        elif step.what == "suspect":
            merge.suspect(step.connection_id, "invalid", step.at)
        elif step.what == "switch":
            delivered += merge.switch(step.at)
        elif step.what == "leave":
            delivered += merge.leave(step.connection_id, "reconnect", step.at)
        else:
            raw = b"%d" % step.index
            message = arrived(Message("a", raw=raw), step.connection_id)
            identity = journal.sent[step.index][1]
            delivered += merge.take(step.connection_id, message, identity, step.at)
    return delivered, merge


def check_against(journal: Journal, delivered: list[Message], merge: Merge) -> list[Message]:
    """Check that each loss and each double is marked; return the messages with marks."""
    last = -1
    for message in delivered:
        index = int(message.raw)
        assert message.gap is not None or index == last + 1, f"{index} after {last}, unmarked"
        last = index
    return [message for message in delivered if message.gap is not None]


@given(data=st.data(), losses=st.sampled_from([0, 0, 2]), snapshot=st.booleans())
@examples(3000)
def test_without_numbers_no_loss_and_no_double_is_unmarked(
    data: st.DataObject, losses: int, snapshot: bool
) -> None:
    journal = data.draw(journals())
    end = journal.sent[-1][0] if journal.sent else 0.0
    moments = [0.0, *(at for at, _ in journal.sent), end + 1.0, end + SILENCE + 1.0]
    joined, left = sorted(data.draw(st.sampled_from(moments)) for _ in range(2))
    switched = data.draw(st.sampled_from([at for at in moments if joined <= at <= left] or [left]))
    old = data.draw(arrivals(journal, OLD, -1.0, losses))
    new = data.draw(arrivals(journal, NEW, joined, losses))
    steps = [Step(joined, "join", NEW), *new, *(step for step in old if step.at < left)]
    if data.draw(st.booleans()):
        steps.append(Step(switched, "switch", OLD))
    steps.append(Step(left, "leave", OLD))
    order = {"join": 0, "take": 1, "suspect": 1, "switch": 2, "leave": 3}
    steps.sort(key=lambda step: (step.at, order[step.what]))
    delivered, merge = play(journal, steps, snapshot)
    marks = check_against(journal, delivered, merge)
    if not losses:
        assert len(marks) <= 1
