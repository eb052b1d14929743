"""How published messages reach one connection: later, cut differently, or not at all.

This is pure but for the functions that an `Outlet` is given.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from wsclient.testing.frames import Payload

__all__ = ["AT_ONCE", "Delivery", "Outlet", "Update"]


@dataclass(frozen=True)
class Delivery:
    """How published messages reach a connection; `Delivery()` is at once and complete.

    Each message is late by `delay` (s) and up to `jitter` (s) more; their order is kept. Each is
    lost with the probability `loss`; so are those whose number on the connection, from 1, is in
    `lost`. Up to `cut` updates of a book go into one message, where the venue's messages can hold
    several: the rest waits for the next ones, or for `flush`. `clock` (s) is the error of the
    gateway's clock, where the venue's messages have its time. What is random depends only on the
    venue's `seed`, the number of the connection and what is published.

    Raises ValueError for a value that cannot work.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    lost: Collection[int] = ()
    cut: int = 1
    clock: float = 0.0

    def __post_init__(self) -> None:
        if min(self.delay, self.jitter) < 0:
            raise ValueError(f"delay and jitter must not be negative: {self}")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"loss must be a probability, not {self.loss!r}")
        if self.cut < 1:
            raise ValueError(f"cut must be at least 1, not {self.cut!r}")


#: The delivery of a connection that is given none.
AT_ONCE = Delivery()


class Update(NamedTuple):
    """One published message of a channel, with what it is written from."""

    sequence: int
    fields: Mapping[str, Any]
    payload: Payload


class Outlet:
    """The way of published messages to one connection.

    `write(payload)` sends one, `call_at(due, function)` calls a function at a time, and `now()` is
    the time (both monotonic s).
    """

    def __init__(
        self,
        seed: str,
        write: Callable[[Payload], object],
        call_at: Callable[[float, Callable[[], None]], None],
        now: Callable[[], float],
    ) -> None:
        self.delivery = AT_ONCE
        #: Number of messages for this connection so far, lost ones included.
        self.count = 0
        self.lost: list[Payload] = []
        self._random = Random(seed)
        self._write = write
        self._call_at = call_at
        self._now = now
        self._to_lose = 0
        self._due = 0.0
        self._delayed: deque[Payload] = deque()
        self._is_stalled = False
        self._held: deque[Payload] = deque()
        #: The updates that wait for more by channel, and how many of them make a message.
        self._batches: dict[str, tuple[int, list[Update]]] = {}

    def lose(self, count: int) -> None:
        """Lose the next `count` messages."""
        self._to_lose += count

    def stall(self, on: bool) -> None:
        """Hold all messages from now on, or send them, in order."""
        self._is_stalled = on
        while self._held and not on:
            self._write(self._held.popleft())

    def gather(self, channel: str, update: Update) -> list[Update]:
        """Return the updates that go out now as one message: none, or those since the last."""
        if self.delivery.cut == 1 and channel not in self._batches:
            return [update]
        size, batch = self._batches.pop(channel, (self._random.randint(1, self.delivery.cut), []))
        batch.append(update)
        if len(batch) >= size or self.delivery.cut == 1:
            return batch
        self._batches[channel] = size, batch
        return []

    def take(self, channel: str | None = None) -> list[tuple[str, list[Update]]]:
        """Return what waits for more updates, of one channel or of all, and forget it."""
        channels = list(self._batches) if channel is None else [channel]
        return [(name, self._batches.pop(name)[1]) for name in channels if name in self._batches]

    def stamp(self, payload: Payload, time: re.Pattern[str] | None) -> Payload:
        """Return the message with the time (ms) that `time` finds in it by the gateway's clock."""
        shift = round(self.delivery.clock * 1000)
        if not shift or time is None or isinstance(payload, bytes):
            return payload
        return time.sub(lambda match: f"{match[1]}{int(match[2]) + shift}", payload, count=1)

    def put(self, payload: Payload) -> None:
        """Send a message as the delivery says."""
        self.count += 1
        delivery = self.delivery
        if delivery is AT_ONCE and not (self._to_lose or self._delayed):
            self._send(payload)
            return
        is_lost = self._to_lose > 0 or self.count in delivery.lost
        self._to_lose -= self._to_lose > 0
        if (delivery.loss and self._random.random() < delivery.loss) or is_lost:
            self.lost.append(payload)
            return
        if not (delivery.delay or delivery.jitter or self._delayed):
            self._send(payload)
            return
        jitter = delivery.jitter and self._random.random() * delivery.jitter
        # A message never overtakes an earlier one, even if the delay has become shorter.
        self._due = max(self._due, self._now() + delivery.delay + jitter)
        self._delayed.append(payload)
        self._call_at(self._due, self._send_delayed)

    def _send_delayed(self) -> None:
        self._send(self._delayed.popleft())

    def _send(self, payload: Payload) -> None:
        if self._is_stalled:
            self._held.append(payload)
        else:
            self._write(payload)
