"""A venue may send an endless number of channels: memory is bounded, and no gap is silent."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterable

import pytest

from support.making import message as make
from support.queues import POLICIES, Feed, message_queue, take
from wsclient import Gap, Message
from wsclient.runtime import gaps
from wsclient.runtime.queues import MessageQueue

LOSSY = POLICIES[:3]


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> int:
    """Allow about 100 gaps to be remembered."""
    size = 100 * (gaps.OVERHEAD + 60)
    monkeypatch.setattr(gaps, "SIZE", size)
    return size


def invent(box: MessageQueue, names: Iterable[str]) -> None:
    """Put one message of each channel in ``names``."""
    for name in names:
        box.put([make(name)])


@pytest.mark.parametrize("overflow", POLICIES)
@pytest.mark.parametrize(("count", "length"), [(4000, 0), (100, 10_000)])
def test_memory_is_bounded(overflow: str, count: int, length: int, room: int) -> None:
    box = message_queue(overflow, 10)
    gc.collect()
    tracemalloc.start()
    try:
        invent(box, (f"{n}".zfill(length) for n in range(count)))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The messages, and one more gap than there is room for.
    assert held < room + 12 * (length + 1000) + 50_000


def lose(box: MessageQueue, feed: Feed, channel: str) -> int | None:
    """Put a message of the channel into a queue of one. Return when the one before it came."""
    before = feed.previous(channel)
    both = [channel, "other"]
    take(box) if box else None
    box.put(feed.messages(both if box.overflow != "drop_newest" else reversed(both)))
    assert [message.channel for message in take(box)] == ["other"]
    return before


def next_of(box: MessageQueue, feed: Feed, channel: str) -> Message:
    """Return the channel's next message as a consumer takes it."""
    take(box) if box else None
    box.put(feed.messages([channel]))
    (message,) = take(box)
    return message


INVENTED = [f"new-{n}" for n in range(1000)]


@pytest.mark.parametrize("overflow", LOSSY)
class TestForgottenGaps:
    def test_the_next_message_says_that_it_cannot_be_known(self, overflow: str) -> None:
        box, feed = message_queue(overflow, 1), Feed()
        lose(box, feed, "quiet")
        invent(box, INVENTED)
        assert next_of(box, feed, "quiet").gap == Gap("overflow")
        assert next_of(box, feed, "quiet").gap is None

    def test_a_wanted_channel_keeps_its_own(self, overflow: str) -> None:
        box, feed = message_queue(overflow, 1, wanted={"wanted"}), Feed()
        since = lose(box, feed, "wanted")
        invent(box, INVENTED)
        assert box.pending_gap("wanted") == Gap("overflow", 1, since)
        assert next_of(box, feed, "wanted").gap == Gap("overflow", 1, since)

    def test_the_newest_are_kept(self, overflow: str) -> None:
        box, feed = message_queue(overflow, 1), Feed()
        invent(box, INVENTED)
        since = lose(box, feed, "late")
        assert next_of(box, feed, "late").gap == Gap("overflow", 1, since)

    def test_a_channel_that_begins_is_not_marked(self, overflow: str) -> None:
        box, feed = message_queue(overflow, 1), Feed()
        invent(box, INVENTED)
        assert next_of(box, feed, "begins").gap is None
        assert next_of(box, feed, "begins").gap is None

    def test_a_wanted_channel_that_lost_nothing_is_not_marked(self, overflow: str) -> None:
        box, feed = message_queue(overflow, 1, wanted={"wanted"}), Feed()
        box.put([feed.message("wanted")])
        take(box)
        invent(box, INVENTED)
        assert next_of(box, feed, "wanted").gap is None

    def test_one_that_is_lost_in_its_turn_hands_it_on(self, overflow: str) -> None:
        box, feed = message_queue(overflow, 1), Feed()
        lose(box, feed, "quiet")
        invent(box, INVENTED)
        lose(box, feed, "quiet")
        gap = next_of(box, feed, "quiet").gap
        assert gap is not None
        assert (gap.reason, gap.missed) == ("overflow", None)

    def test_the_room_is_for_those_of_many_wanted_channels_too(self, overflow: str) -> None:
        wanted = [f"wanted-{n}" for n in range(1000)]
        box, feed = message_queue(overflow, 1, wanted=set(wanted)), Feed()
        for channel in wanted:
            lose(box, feed, channel)
        invent(box, INVENTED)
        for channel in wanted:
            gap = next_of(box, feed, channel).gap
            assert gap is not None
            assert gap.missed == 1

    @pytest.mark.parametrize("seed", range(5))
    def test_nothing_is_lost_without_a_mark(self, overflow: str, seed: int) -> None:
        rng = random.Random(seed)
        wanted = {f"c{n}" for n in range(20)}
        box, feed = message_queue(overflow, 40, batch=5, wanted=wanted), Feed()
        got: Counter[str] = Counter()
        unknown = 0
        for _ in range(400):
            numbers = [rng.choice((rng.randrange(20), rng.randrange(2000))) for _ in range(30)]
            box.put(feed.messages(f"c{n}" for n in numbers))
            for message in take(box, rng.randrange(1, 20)):
                channel = message.channel
                assert message.sequence is not None
                missed = message.sequence - got[channel] - 1
                got[channel] = message.sequence
                told = 0 if message.gap is None else message.gap.missed
                unknown += told is None
                assert told == missed or (told is None and channel not in wanted), message
        assert unknown
