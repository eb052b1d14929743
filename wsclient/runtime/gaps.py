"""The gaps of messages that a queue has dropped, until the channel's next message carries them."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable
from copy import copy
from typing import Any

from wsclient.messages import GAP_REASONS, Gap, Message

__all__ = ["Gaps"]

#: The most memory (bytes) for the gaps of channels that no caller requested.
SIZE = 4 * 1024 * 1024
#: The charge (bytes) of one channel's gap, in addition to the size of its name.
OVERHEAD = 320


class _Run:
    """The messages of one channel that were dropped in a row. Adding one must be cheap."""

    __slots__ = ("cost", "dropped", "gap", "reason", "since", "until")

    def __init__(self, reason: str, since: int | None, cost: int) -> None:
        self.reason = reason
        self.since = since
        #: When the last dropped message was received (ns since the epoch).
        self.until = 0
        self.cost = cost
        self.dropped = 0
        self.gap: Gap | None = None

    def add(self, message: Message) -> None:
        """Count a dropped message, and include the gap that it carries itself."""
        self.dropped += 1
        self.until = message.arrival.received_at
        if message.gap is not None:
            self.dropped -= message.gap.reason == "duplicate"  # it has come before
            self.gap = message.gap if self.gap is None else self.gap.merge(message.gap)

    def merged(self, later: Gap | None) -> Gap:
        """Return the gap of this run, merged with ``later``."""
        return Gap(self.reason, self.dropped, self.since).merge(self.gap).merge(later)


class Gaps:
    """The gaps of one queue, by channel. Gaps of ``wanted`` channels are never forgotten.

    A venue may send an endless number of other channel names, so their oldest gaps are forgotten.
    From then on each message that may be the first after a forgotten gap is marked with
    ``missed=None``.

    Not thread-safe. An interrupt within :meth:`mark` leaves a gap either here or on the message,
    and one within :meth:`drop_misfit` leaves the message either in its store or counted here.
    """

    __slots__ = (
        "_forgotten_until",
        "_room",
        "_runs",
        "_size",
        "_wanted",
        "are_possible",
        "misfits",
        "newest_misfit",
        "reported",
    )

    def __init__(self, wanted: Container[str]) -> None:
        self._wanted = wanted
        self._runs: dict[str, _Run] = {}
        #: The charge of all gaps, and the charge at which some are forgotten (bytes).
        self._size = 0
        self._room = SIZE
        #: When the last message of a forgotten gap came (ns since the epoch).
        self._forgotten_until = -1
        #: False while no message needs a mark, which is nearly always the case.
        self.are_possible = False
        #: How many messages did not fit their declared type, and the channel and ``kind`` of the
        #: newest of them.
        self.misfits = 0
        self.newest_misfit: tuple[str, Any] | None = None
        #: How many of them are reported. Set by whoever reports them.
        self.reported = 0

    def add(self, message: Message, reason: str) -> None:
        """Count ``message`` as dropped for ``reason``."""
        run = self._runs.get(message.channel)
        if run is None:
            run = self._new_run(message, reason)
            self._runs[message.channel] = run
            self._size += run.cost
            self.are_possible = True
        elif reason == "overflow":
            run.reason = reason
        run.add(message)

    def drop_misfit(self, message: Message, store: Any, key: Any) -> None:
        """Count ``message`` as invalid, and delete it from ``store``, where it is at ``key``."""
        channel, size = message.channel, self._size
        misfit = channel, message.kind
        known = self._runs.get(channel)
        if known is None:
            run = self._new_run(message, "invalid")
            size = self._size + run.cost
        else:
            run = copy(known)
            run.reason = min(run.reason, "invalid", key=GAP_REASONS.index)
        run.add(message)
        # No call between these assignments, and so no interrupt.
        self._runs[channel] = run
        self._size = size
        self.are_possible = True
        self.misfits += 1
        self.newest_misfit = misfit
        del store[key]

    def _new_run(self, message: Message, reason: str) -> _Run:
        """Return a run that begins with ``message``, which is not counted yet."""
        self.mark((message,))  # the gap before it may be one of the forgotten
        if self._size >= self._room:
            self._forget()
        since = message.previous_at if message.gap is None else message.gap.since
        return _Run(reason, since, OVERHEAD + sys.getsizeof(message.channel))

    def mark(self, messages: Iterable[Message]) -> None:
        """Set the ``gap`` of each message that has one before it."""
        for message in messages:
            channel, previous_at = message.channel, message.previous_at
            run = self._runs.get(channel)
            if run is not None:
                gap = run.merged(message.gap)
                size = self._size - run.cost
                # No call between these assignments, and so no interrupt.
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
        """Return the gap that the channel's next message will carry."""
        run = self._runs.get(channel)
        return None if run is None else run.merged(None)

    def _forget(self) -> None:
        """Forget the older half of the gaps of channels that no caller requested."""
        unrequested = [channel for channel in self._runs if channel not in self._wanted]
        for channel in unrequested[: (len(unrequested) + 1) // 2]:
            run = self._runs[channel]
            until = max(self._forgotten_until, run.until)
            # No call between these assignments, and so no interrupt.
            self._forgotten_until = until
            self._size -= run.cost
            del self._runs[channel]
        self._room = max(SIZE, self._size + SIZE // 2)
