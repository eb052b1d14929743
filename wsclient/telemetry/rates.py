"""Counters, and the rates that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Counters", "Mark", "Rates", "Window"]

#: Rates cover the last WINDOW to WINDOW + STEP seconds.
WINDOW = 10.0
STEP = 5.0


class Mark(NamedTuple):
    """The counters from ``since`` to ``at`` (monotonic s); ``channels``: messages per channel."""

    since: float
    at: float
    messages: int
    bytes: int
    channels: Mapping[str, int]


class Window(NamedTuple):
    """A time window: its length in ``seconds``, and the counters at its start."""

    seconds: float
    start: Mark

    def rate(self, now: int, then: int) -> float:
        """Return the rate (per second) of a counter that rose from ``then`` to ``now``."""
        return max(0, now - then) / self.seconds if self.seconds > 0 else 0.0

    def channel_rate(self, channel: str, now: int) -> float:
        """Return the rate (per second) of a channel whose message count is ``now``."""
        return self.rate(now, self.start.channels.get(channel, 0))


class Counters:
    """The counters since the start of the client; read by ``client.stats()``."""

    __slots__ = (
        "books_out_of_sync",
        "books_refreshed",
        "books_refused",
        "bytes",
        "channels_ended",
        "channels_lost",
        "channels_refused",
        "connects",
        "dials",
        "disconnects",
        "frames",
        "gaps",
        "invalid",
        "messages",
        "missed",
        "reconnects",
        "rotations",
        "unhandled",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    books_out_of_sync: int
    books_refreshed: int
    books_refused: int
    bytes: int
    channels_ended: int
    channels_lost: int
    channels_refused: int
    connects: int
    dials: int
    disconnects: int
    frames: int
    gaps: int
    invalid: int
    messages: int
    missed: int
    reconnects: int
    rotations: int
    unhandled: int


class Rates:
    """The counters at earlier times, stored in marks as messages arrive, to compute rates from."""

    __slots__ = ("_began", "_marks", "_opening", "counted_at", "due")

    def __init__(self) -> None:
        #: When the next mark is due (monotonic s).
        self.due = float("-inf")
        #: When anything was last counted (monotonic s).
        self.counted_at = float("-inf")
        #: Newest last; enough of them to reach back to the start of a window.
        self._marks: tuple[Mark, ...] = ()
        #: When the first connection opened, and the counters when the last one opened.
        self._began: float | None = None
        self._opening: Mark | None = None

    def mark(self, now: float, messages: int, size: int, channels: Mapping[str, int]) -> None:
        """Store the counters, just before something is counted."""
        self.due = now + STEP
        mark = Mark(self.counted_at, now, messages, size, channels)
        self._marks = (*self._marks[-int(WINDOW / STEP) :], mark)

    def opened(self, now: float, messages: int, size: int, channels: Mapping[str, int]) -> None:
        """Store the counters at the opening of a connection."""
        self._opening = Mark(self.counted_at, now, messages, size, channels)
        if self._began is None:
            self._began = now

    def recent(self, now: float) -> Window | None:
        """Return the last WINDOW to WINDOW + STEP seconds, fewer while the client is younger.

        None if nothing was counted in the last WINDOW seconds, or there was no connection yet.
        """
        if self._began is None:
            return None
        begin = max(now - WINDOW, self._began)
        if self.counted_at <= begin:
            return None
        for mark in reversed(self._marks):
            if mark.since <= begin:
                return Window(now - min(begin, mark.at), mark)
        return None

    def connection(self, now: float) -> Window | None:
        """Return the window from the opening of the last connection; None before the first."""
        if self._opening is None:
            return None
        return Window(max(0.0, now - self._opening.at), self._opening)
