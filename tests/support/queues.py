"""Helpers for tests of queues: numbered messages, a consumer, and an account of its messages."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Container, Iterable
from itertools import islice
from types import SimpleNamespace
from typing import Any

from support.making import message as make
from wsclient import Gap, Message, State
from wsclient.reader import _Receiver
from wsclient.runtime.conflating import ConflatingQueue
from wsclient.runtime.fifo import FifoQueue
from wsclient.runtime.queues import MessageQueue
from wsclient.threads.waiting import Deadline

POLICIES = ("drop_oldest", "drop_newest", "conflate", "error")


class Feed:
    """Source of numbered messages, marked as a channel would mark them."""

    def __init__(self) -> None:
        self.put: Counter[str] = Counter()
        self._last: dict[str, int] = {}
        self._clock = 0

    def message(self, channel: str = "a", size: int = 0, skip: int = 0) -> Message:
        """Return the channel's next message; ``skip`` of its numbers were missed just before it."""
        previous = self._last.get(channel)
        gap = Gap("sequence", skip, previous) if skip else None
        self.put[channel] += skip + 1
        self._clock += 1
        self._last[channel] = self._clock
        number = self.put[channel]
        raw = b"x" * size
        message = make(channel, "update", number, raw, self._clock, 1, gap)
        message.previous_at = previous
        return message

    def previous(self, channel: str) -> int | None:
        """Return when the channel's last message came."""
        return self._last.get(channel)

    def messages(self, channels: Iterable[str]) -> list[Message]:
        return [self.message(channel) for channel in channels]


def message_queue(
    overflow: str = "drop_oldest",
    messages: int | None = None,
    size: int | None = None,
    batch: int = 1,
    wanted: Container[str] = (),
    **others: Any,
) -> MessageQueue:
    others.update(batch_size=batch, wanted=wanted)
    if overflow == "conflate":
        return ConflatingQueue(messages, size, **others)
    return FifoQueue(messages, size, overflow, **others)


def take(box: MessageQueue, maximum: int | None = None, timeout: float | None = 0) -> list[Message]:
    """Return up to ``maximum`` messages, or all; none when the queue is closed."""
    taken: list[Message] = []
    deadline = Deadline(timeout)
    while not taken and box.fill(maximum, deadline):
        with contextlib.suppress(IndexError):
            taken.extend(islice(box.handed_out, maximum))
    return taken


def names(messages: list[Message]) -> list[str]:
    return [f"{m.channel}{m.sequence}" for m in messages]


class Account:
    """Compares every delivered message with the one delivered before it in its channel."""

    def __init__(self) -> None:
        self.accounted: Counter[str] = Counter()
        self._received_at: dict[str, int] = {}

    def deliver(self, messages: list[Message]) -> None:
        for message in messages:
            channel, number = message.channel, message.sequence
            assert number is not None
            missed = number - self.accounted[channel] - 1
            assert missed >= 0, f"{message} is doubled or out of order"
            assert (message.gap is not None) == (missed > 0), message
            if message.gap is not None:
                assert message.gap.missed == missed, message
                assert message.gap.since == self._received_at.get(channel), message
            self.accounted[channel] = number
            self._received_at[channel] = message.received_at


class Receiver(_Receiver):
    """The receiving half of a client, without its connection."""

    def __init__(self, box: MessageQueue) -> None:
        self._core: Any = SimpleNamespace(supervisor=SimpleNamespace(state=State.OPEN))
        self._queue = box
