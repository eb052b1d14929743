"""Counting what one channel misses, and the steps of a recording's clock."""

from __future__ import annotations

from collections import Counter, deque

from wsclient.recording.records import Part
from wsclient.recording.reports import GapCount

__all__ = ["ChannelCounts", "ClockSteps"]

#: How many gaps of a channel late messages may fill.
OPEN_GAPS = 1000
#: A step of the wall clock against the monotonic clock that is reported (ns).
CLOCK_STEP = 30_000_000
#: Two frames that show the same step agree by this (ns).
AGREEMENT = 10_000_000
#: How fast one clock may run against the other, which is no step: as NTP slews it at most.
DRIFT = 0.0005


class _OpenGap:
    """The numbers above ``low`` up to ``high``, of which ``missed`` are still missing."""

    __slots__ = ("high", "low", "missed", "reason")

    def __init__(self, low: int, high: int, missed: int, reason: str) -> None:
        self.low = low
        self.high = high
        self.missed = missed
        self.reason = reason


class ChannelCounts:
    """The messages and gaps of one channel. ``first`` and ``last`` are times (ns since the epoch).

    A late message fills the gap of the recording that has its number. One whose gap lies before the
    recording, or in what could not be read, fills none.
    """

    def __init__(self) -> None:
        self.messages = self.late = self.duplicates = 0
        self._gaps: Counter[str] = Counter()
        self._missed: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._open: deque[_OpenGap] = deque(maxlen=OPEN_GAPS)
        self.first: int | None = None
        self.last: int | None = None

    @property
    def missed(self) -> int:
        """How many messages are known to be missing."""
        return self._missed.total()

    @property
    def unknown(self) -> int:
        """How many gaps there are of which nobody knows how many messages are missing."""
        return self._unknown.total()

    @property
    def gaps(self) -> dict[str, GapCount]:
        """The gaps by their reasons."""
        return {
            reason: GapCount(gaps, self._missed[reason], self._unknown[reason])
            for reason, gaps in sorted(self._gaps.items())
        }

    def message(self, part: Part, time: int) -> None:
        """Count the next message, received at ``time`` (ns since the epoch)."""
        self.messages += 1
        self.first = time if self.first is None else self.first
        self.last = time
        gap = part.gap
        if gap is None:
            return
        if gap.reason == "duplicate":
            self.duplicates += 1
        elif gap.reason == "late":
            self.late += 1
            self._fill(part.sequence, -1 if gap.missed is None else gap.missed)
        else:
            self.gap(gap.reason, gap.missed)
            if gap.missed is None:
                self._open.clear()  # the numbers may have begun again
            elif part.sequence is not None:
                high = part.sequence - 1 if part.follows is None else part.follows
                self._open.append(_OpenGap(high - gap.missed, high, gap.missed, gap.reason))

    def gap(self, reason: str, missed: int | None) -> None:
        """Count a gap; ``missed`` is None if it is not known how many messages are missing."""
        self._gaps[reason] += 1
        self._missed[reason] += missed or 0
        self._unknown[reason] += missed is None

    def _fill(self, sequence: int | None, missed: int) -> None:
        for gap in reversed(self._open):
            if sequence is not None and gap.low < sequence <= gap.high:
                filled = min(gap.missed, -missed)
                gap.missed -= filled
                self._missed[gap.reason] -= filled
                return


class ClockSteps:
    """Finds the steps of the wall clock against the monotonic clock.

    The difference of the two is compared with a baseline, which follows a slow drift. What one
    frame alone shows is no step: the process may have been interrupted between its two times. So
    the baseline begins with the first two that agree.
    """

    def __init__(self) -> None:
        self.count = 0
        #: The largest step (ns, negative backwards).
        self.largest = 0
        self._baseline: int | None = None
        self._at = 0
        #: The difference that one frame alone has shown.
        self._doubtful: int | None = None

    def frame(self, time: int, at: int) -> None:
        """Take in the times of the next frame: since the epoch, and by the monotonic clock (ns)."""
        offset = time - at
        if at != self._at or self._doubtful is self._baseline is None:
            drift = DRIFT * max(0, at - self._at)
            self._at = at
            if self._baseline is None:
                if self._doubtful is None or abs(offset - self._doubtful) > AGREEMENT + drift:
                    self._doubtful = offset
                else:
                    self._baseline, self._doubtful = offset, None
                return
            step = offset - self._baseline
            if abs(step) <= CLOCK_STEP + drift:
                self._baseline += round(max(-2 * drift, min(2 * drift, step)))  # it may lag behind
                self._doubtful = None
            elif self._doubtful is not None and abs(offset - self._doubtful) <= AGREEMENT + drift:
                self.count += 1
                self.largest = max(step, self.largest, key=abs)
                self._baseline, self._doubtful = offset, None
            else:
                self._doubtful = offset
