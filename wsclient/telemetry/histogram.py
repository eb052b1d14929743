"""Distributions of times, cheap to record."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from contextlib import AbstractContextManager
from itertools import accumulate, islice
from math import ceil
from typing import Any

__all__ = ["Histogram", "Lags"]

#: The finest bucket is 2 ** 10 ns wide (1.024 us).
UNIT_BITS = 10
#: All times from 2 ** 42 ns (73 minutes) share one bucket.
LONGEST_BITS = 42
#: Each power of two has 2 ** precision buckets: for a whole client, and for one channel.
CLIENT_PRECISION = 5
CHANNEL_PRECISION = 3
#: How many channels have their own distribution; a further channel replaces the oldest.
CHANNELS = 10_000
#: With this many channels recorded, the times of a further channel that no caller requested count
#: in the total only: a venue may invent names without end.
STRANGERS = 1_000
#: How many distributions of channels are copied per acquisition of the lock.
AT_A_TIME = 100


class Histogram:
    """A distribution of times (ns) in fixed memory, with log-linear buckets like HdrHistogram.

    A quantile is the middle of its bucket. Its error is at most 1 part in ``2 ** (precision + 1)``,
    or half a unit (0.512 us) if that is more. For times beyond the longest only ``max`` is known.
    Negative times have their own buckets of the same kind. For each sign there are ``buckets``
    counters of 4 bytes, created with the first time of that sign.
    """

    __slots__ = ("_precision", "max", "min", "negative", "positive", "total")

    def __init__(self, precision: int) -> None:
        self._precision = precision
        self.positive: array[int] | None = None
        self.negative: array[int] | None = None
        self.total = 0
        #: Without any times: min is greater than max.
        self.min: float = float("inf")
        self.max: float = float("-inf")

    @property
    def buckets(self) -> int:
        """The number of buckets for one sign."""
        return self._index((1 << LONGEST_BITS) - 1) + 1

    @property
    def count(self) -> int:
        """The number of times recorded."""
        return sum(self.positive or ()) + sum(self.negative or ())

    def record(self, ns: int) -> None:
        """Record a time (ns)."""
        self.total += ns
        if ns > self.max:
            self.max = ns
        if ns < self.min:
            self.min = ns
        if ns < 0:
            counts = self.negative = self.negative or self._zeros()
        else:
            counts = self.positive = self.positive or self._zeros()
        index = min(self._index(abs(ns)), len(counts) - 1)
        try:
            counts[index] += 1
        except OverflowError:  # more than 2 ** 32 - 1 times
            counts = array("Q", counts)
            counts[index] += 1
            if ns < 0:
                self.negative = counts
            else:
                self.positive = counts

    def add(self, other: Histogram) -> None:
        """Add all times of another histogram of the same precision."""
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)
        self.total += other.total
        self.positive = _sum(self.positive, other.positive)
        self.negative = _sum(self.negative, other.negative)

    def copy(self) -> Histogram:
        """Return a histogram with the same times."""
        twin = Histogram(self._precision)
        twin.total, twin.min, twin.max = self.total, self.min, self.max
        twin.positive = None if self.positive is None else self.positive[:]
        twin.negative = None if self.negative is None else self.negative[:]
        return twin

    def quantile(self, share: float) -> float | None:
        """Return the time (ns) that ``share`` (0 to 1) of all do not exceed; None without times."""
        below = self.negative or ()
        running = list(accumulate([*reversed(below), *(self.positive or ())]))
        if not running:
            return None
        index = bisect_left(running, max(1, ceil(share * running[-1]))) - len(below)
        return self._clipped(self._middle(index) if index >= 0 else -self._middle(~index))

    def below(self, ns: int) -> int:
        """Return how many times are less than ``ns``.

        ``ns`` must be 0 or the start of a bucket, such as any power of two from 2 ** 10.
        """
        above = self.positive[: self._index(ns)] if self.positive is not None and ns else ()
        return sum(above) + sum(self.negative or ())

    def _index(self, ns: int) -> int:
        units = ns >> UNIT_BITS
        shift = units.bit_length() - self._precision - 1
        return units if shift <= 0 else (shift << self._precision) + (units >> shift)

    def _middle(self, index: int) -> float:
        shift = max(0, (index >> self._precision) - 1)
        units = index - (shift << self._precision)
        return (units + 0.5) * (1 << shift + UNIT_BITS)

    def _clipped(self, ns: float) -> float:
        if abs(ns) >= 1 << LONGEST_BITS:
            return self.max if ns > 0 else self.min
        return min(max(ns, self.min), self.max)

    def _zeros(self) -> array[int]:
        return array("I", bytes(4 * (self.buckets + 1)))


def _sum(one: array[int] | None, other: array[int] | None) -> array[int] | None:
    if one is None or other is None:
        found = one or other
        return None if found is None else found[:]
    return array("Q", map(int.__add__, one, other))


class Lags:
    """The times that messages took: of all channels together, and of each channel."""

    __slots__ = ("by_channel", "total")

    def __init__(self) -> None:
        self.total = Histogram(CLIENT_PRECISION)
        self.by_channel: dict[str, Histogram] = {}

    def record(self, channel: str, ns: int, *, is_wanted: bool = True) -> None:
        """Record a time (ns) of a message; ``is_wanted``: a caller requested the channel."""
        self.total.record(ns)
        if is_wanted or channel in self.by_channel or len(self.by_channel) < STRANGERS:
            self._of(channel).record(ns)

    def absorb(self, other: Lags) -> None:
        """Add all times of another object, which must not record any more.

        The two may share distributions afterwards; those are not changed.
        """
        self.total.add(other.total)
        for channel, histogram in other.by_channel.items():
            if channel in self.by_channel:
                histogram = histogram.copy()
                histogram.add(self.by_channel[channel])
            self.by_channel[channel] = histogram

    def copy(self, lock: AbstractContextManager[Any]) -> Lags:
        """Return a copy, made with ``lock`` held.

        The lock is released every AT_A_TIME channels: with thousands of channels, recording threads
        would otherwise wait too long.
        """
        twin = Lags()
        with lock:
            twin.total = self.total.copy()
            channels = iter(tuple(self.by_channel))
        while some := tuple(islice(channels, AT_A_TIME)):
            with lock:
                found = [(channel, self.by_channel.get(channel)) for channel in some]
                twin.by_channel.update((c, one.copy()) for c, one in found if one is not None)
        return twin

    def forget(self, channel: str) -> None:
        """Remove the distribution of ``channel``."""
        self.by_channel.pop(channel, None)

    def _of(self, channel: str) -> Histogram:
        found = self.by_channel.get(channel)
        if found is None:
            if len(self.by_channel) >= CHANNELS:
                del self.by_channel[next(iter(self.by_channel))]
            found = self.by_channel[channel] = Histogram(CHANNEL_PRECISION)
        return found
