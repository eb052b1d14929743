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


def invent(queue: MessageQueue, names: Iterable[str]) -> None:
    """Put one message of each channel in ``names``."""
    for name in names:
        queue.put([make(name)])


@pytest.mark.parametrize("overflow", POLICIES)
@pytest.mark.parametrize(("count", "length"), [(20_000, 0), (500, 10_000)])
def test_memory_is_bounded(overflow: str, count: int, length: int, room: int) -> None:
    queue = message_queue(overflow, 10)
    gc.collect()
    tracemalloc.start()
    try:
        invent(queue, (f"{n}".zfill(length) for n in range(count)))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The messages, and one more gap than there is room for.
    assert held < room + 12 * (length + 1000) + 50_000


def lose(queue: MessageQueue, feed: Feed, channel: str) -> int | None:
    """Put a message of the channel into a queue of one. Return when the one before it came."""
    before = feed.previous(channel)
    both = [channel, "other"]
    take(queue) if queue else None
    queue.put(feed.messages(both if queue.overflow != "drop_newest" else reversed(both)))
    assert [message.channel for message in take(queue)] == ["other"]
    return before


def next_of(queue: MessageQueue, feed: Feed, channel: str) -> Message:
    """Return the channel's next message as a consumer takes it."""
    take(queue) if queue else None
    queue.put(feed.messages([channel]))
    (message,) = take(queue)
    return message


INVENTED = [f"new-{n}" for n in range(1000)]


@pytest.mark.parametrize("overflow", LOSSY)
class TestForgottenGaps:
    def test_the_next_message_says_that_it_cannot_be_known(self, overflow: str) -> None:
        queue, feed = message_queue(overflow, 1), Feed()
        lose(queue, feed, "quiet")
        invent(queue, INVENTED)
        assert next_of(queue, feed, "quiet").gap == Gap("overflow")
        assert next_of(queue, feed, "quiet").gap is None

    def test_a_wanted_channel_keeps_its_own(self, overflow: str) -> None:
        queue, feed = message_queue(overflow, 1, wanted={"wanted"}), Feed()
        since = lose(queue, feed, "wanted")
        invent(queue, INVENTED)
        assert queue.pending_gap("wanted") == Gap("overflow", 1, since)
        assert next_of(queue, feed, "wanted").gap == Gap("overflow", 1, since)

    def test_the_newest_are_kept(self, overflow: str) -> None:
        queue, feed = message_queue(overflow, 1), Feed()
        invent(queue, INVENTED)
        since = lose(queue, feed, "late")
        assert next_of(queue, feed, "late").gap == Gap("overflow", 1, since)

    def test_a_channel_that_begins_is_not_marked(self, overflow: str) -> None:
        queue, feed = message_queue(overflow, 1), Feed()
        invent(queue, INVENTED)
        assert next_of(queue, feed, "begins").gap is None
        assert next_of(queue, feed, "begins").gap is None

    def test_a_wanted_channel_that_lost_nothing_is_not_marked(self, overflow: str) -> None:
        queue, feed = message_queue(overflow, 1, wanted={"wanted"}), Feed()
        queue.put([feed.message("wanted")])
        take(queue)
        invent(queue, INVENTED)
        assert next_of(queue, feed, "wanted").gap is None

    def test_one_that_is_lost_in_its_turn_hands_it_on(self, overflow: str) -> None:
        queue, feed = message_queue(overflow, 1), Feed()
        lose(queue, feed, "quiet")
        invent(queue, INVENTED)
        lose(queue, feed, "quiet")
        gap = next_of(queue, feed, "quiet").gap
        assert gap is not None
        assert (gap.reason, gap.missed) == ("overflow", None)

    def test_the_room_is_for_those_of_many_wanted_channels_too(self, overflow: str) -> None:
        wanted = [f"wanted-{n}" for n in range(1000)]
        queue, feed = message_queue(overflow, 1, wanted=set(wanted)), Feed()
        for channel in wanted:
            lose(queue, feed, channel)
        invent(queue, INVENTED)
        for channel in wanted:
            gap = next_of(queue, feed, channel).gap
            assert gap is not None
            assert gap.missed == 1

    @pytest.mark.parametrize("seed", range(5))
    def test_nothing_is_lost_without_a_mark(self, overflow: str, seed: int) -> None:
        rng = random.Random(seed)
        wanted = {f"c{n}" for n in range(20)}
        queue, feed = message_queue(overflow, 40, batch=5, wanted=wanted), Feed()
        got: Counter[str] = Counter()
        unknown = 0
        for _ in range(400):
            numbers = [rng.choice((rng.randrange(20), rng.randrange(2000))) for _ in range(30)]
            queue.put(feed.messages(f"c{n}" for n in numbers))
            for message in take(queue, rng.randrange(1, 20)):
                channel = message.channel
                assert message.sequence is not None
                missed = message.sequence - got[channel] - 1
                got[channel] = message.sequence
                told = 0 if message.gap is None else message.gap.missed
                unknown += told is None
                assert told == missed or (told is None and channel not in wanted), message
        assert unknown
