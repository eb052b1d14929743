"""The queue that keeps the newest message of each channel."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from wsclient.messages import Message
from wsclient.runtime.queues import MessageQueue, charge, cost_of, is_last
from wsclient.threads.pops import pops

__all__ = ["ConflatingQueue"]

# Written in C, so that no interrupt comes within a step.
_message = itemgetter(1)


class ConflatingQueue(MessageQueue):
    """A queue in which at most one message per channel waits: the newest.

    It waits in the place of the one that it replaces. A message that was handed out and not yet
    taken is replaced as well: :meth:`put` takes the batch back. When more channels wait than the
    queue may hold, the oldest message of another channel is dropped.
    """

    __slots__ = ("_latest",)

    overflow = "conflate"
    is_in_order = False

    def __init__(self, max_messages: int | None, max_bytes: int | None, **others: Any) -> None:
        #: The waiting messages by channel, in the order in which they leave.
        self._latest: OrderedDict[str, Message] = OrderedDict()
        super().__init__(
            self._latest,
            self._latest.values(),
            map(_message, pops(self._latest.popitem, False)),
            max_messages,
            max_bytes,
            **{**others, "batch_size": 1},  # what is handed out early may be replaced meanwhile
        )

    def _add(self, messages: Sequence[Message], cost: int) -> None:
        if self._batch:
            self._take_back()
        for message in messages:
            self._conflate(message)

    def _conflate(self, message: Message) -> None:
        latest = self._latest
        cost = cost_of(message)
        older = latest.get(message.channel)
        if older is not None:
            self._bytes -= cost_of(older)
            self.dropped += 1
            self._gaps.add(older, "conflate")
        latest[message.channel] = message
        while self._is_full(0, cost):
            others = (m for m in latest.values() if m is not message and not is_last(m))
            oldest = next(others, None)
            if oldest is None:
                break
            del latest[oldest.channel]
            self._bytes -= cost_of(oldest)
            self._drop(oldest)
        self._bytes += cost

    def _take_back(self) -> None:
        """Put messages that were handed out and not taken back at the front of the queue."""
        left: list[Message] = []
        try:
            left.extend(pops(self._batch.pop))
        except IndexError:
            pass  # the batch is empty
        self._bytes += charge(left)
        for message in left:
            self._latest[message.channel] = message
            self._latest.move_to_end(message.channel, last=False)

    def _key(self, message: Message) -> str:
        return message.channel
