"""Gaps that a queue makes by dropping messages, until the channel's next message carries them."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable

from wsclient.messages import Gap, Message

__all__ = ["Gaps"]

#: The most that is remembered (bytes) of channels that nobody has asked for ...
SIZE = 4 * 1024 * 1024
#: ... each charged its name and this (bytes).
OVERHEAD = 320


class _Run:
    """Messages of one channel dropped in a row, counted as cheaply as they may come."""

    __slots__ = ("cost", "dropped", "gap", "reason", "since", "until")

    def __init__(self, reason: str, since: int | None, cost: int) -> None:
        self.reason = reason
        self.since = since
        #: When the last of them came.
        self.until = 0
        self.cost = cost
        self.dropped = 0
        self.gap: Gap | None = None

    def add(self, message: Message) -> None:
        """Count one more dropped message, with the gap that it carries itself."""
        self.dropped += 1
        self.until = message.arrival.received_at
        if message.gap is not None:
            self.dropped -= message.gap.reason == "duplicate"  # it has come before
            self.gap = message.gap if self.gap is None else self.gap.merge(message.gap)

    def merged(self, later: Gap | None) -> Gap:
        return Gap(self.reason, self.dropped, self.since).merge(self.gap).merge(later)


class Gaps:
    """The gaps of one queue, by channel. Those of ``wanted`` channels are never forgotten.

    A venue may invent names of other channels without end, so the oldest gaps of these are
    forgotten. From then on each message that may be the next after a forgotten gap is marked with
    ``missed=None``.

    Not thread-safe. An interrupt within :meth:`mark` leaves a gap either here or on the message.
    """

    __slots__ = ("_forgotten_until", "_room", "_runs", "_size", "_wanted", "are_possible")

    def __init__(self, wanted: Container[str]) -> None:
        self._wanted = wanted
        self._runs: dict[str, _Run] = {}
        #: What all gaps are charged, and the size at which some are forgotten (bytes).
        self._size = 0
        self._room = SIZE
        #: When the last message of a forgotten gap came (ns since the epoch).
        self._forgotten_until = -1
        #: False while no message needs a mark, which is nearly always.
        self.are_possible = False

    def add(self, message: Message, reason: str) -> None:
        """Count ``message`` as dropped for ``reason``."""
        channel = message.channel
        run = self._runs.get(channel)
        if run is None:
            self.mark((message,))  # the gap before it may be forgotten
            if self._size >= self._room:
                self._forget()
            since = message.previous_at if message.gap is None else message.gap.since
            run = _Run(reason, since, OVERHEAD + sys.getsizeof(channel))
            self._runs[channel] = run
            self._size += run.cost
            self.are_possible = True
        elif reason == "overflow":
            run.reason = reason
        run.add(message)

    def mark(self, messages: Iterable[Message]) -> None:
        """Have each message carry the gap before it, if there is one."""
        for message in messages:
            channel, previous_at = message.channel, message.previous_at
            run = self._runs.get(channel)
            if run is not None:
                gap = run.merged(message.gap)
                size = self._size - run.cost
                # No call, and so no interrupt, between these.
                message.gap = gap
                del self._runs[channel]
                self._size = size
            elif (
                previous_at is not None
                and previous_at <= self._forgotten_until
                and channel not in self._wanted
            ):
                message.gap = Gap("overflow").merge(message.gap)
        self.are_possible = bool(self._runs) or self._forgotten_until >= 0

    def pending(self, channel: str) -> Gap | None:
        run = self._runs.get(channel)
        return None if run is None else run.merged(None)

    def _forget(self) -> None:
        """Forget the older half of those of channels that nobody has asked for."""
        strangers = [channel for channel in self._runs if channel not in self._wanted]
        for channel in strangers[: (len(strangers) + 1) // 2]:
            run = self._runs.pop(channel)
            self._size -= run.cost
            self._forgotten_until = max(self._forgotten_until, run.until)
        self._room = max(SIZE, self._size + SIZE // 2)
