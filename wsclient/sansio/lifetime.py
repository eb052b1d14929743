"""How long a connection may live: when it ends, and when to begin to replace it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Lifetime"]

INF = float("inf")
#: The replacement of a connection begins this time (s) before its end, or after three quarters of
#: its life if that is later.
LEAD = 120.0
#: The replacements of connections of the same age are spread over this part of it.
JITTER = 0.02
#: When (s) a venue ends a connection that it wants to end soon, if it does not say when.
ENDING_WITHIN = 60.0
#: The replacements of connections that a venue will end are spread over at most this time (s).
MAX_JITTER = 10.0
#: How long (s) a replacement that the user has asked for may take.
ROTATION_TIME = 60.0
#: How long (s) a connection is kept at least beside its successor, unless all is proven earlier.
OVERLAP_TIME = 30.0
#: The least life (s) of a connection that follows another one, whatever the venue announces. Else a
#: venue that announces the end of each connection would make the client connect at any rate.
LEAST_LIFE = 1.0


class Lifetime:
    """The lifetime of one connection; all times are monotonic seconds.

    ``random`` returns floats in [0, 1): the clients of a process must not all replace their
    connections at the same moment.
    """

    __slots__ = ("_not_before", "_random", "_share", "ends_at", "rotate_at")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        #: No announcement makes it end before this time.
        self._not_before = -INF
        #: Where this one is in the time over which replacements are spread (0 to 1); None before an
        #: announcement.
        self._share: float | None = None
        #: When a successor is due, and when this connection ends; ``inf`` for never.
        self.rotate_at = self.ends_at = INF

    def opened(self, at: float, max_age: float | None, *, is_first: bool = True) -> None:
        """Note that the connection was opened, and the venue's maximum age (s), None for none.

        ``is_first``: no other one was open in its slot before.
        """
        if not is_first:
            self._not_before = at + LEAST_LIFE
        if max_age is not None:
            ends_at = at + max_age
            early = min(LEAD, max_age / 4) + JITTER * max_age * self._random()
            self._end_by(ends_at, ends_at - early)

    def announced(self, within: float | None, now: float) -> None:
        """Note that the venue has announced its end, ``within`` a time (s), None if not stated."""
        left = ENDING_WITHIN if within is None else within
        if self._share is None:  # drawn once: else the lowest of many draws would count
            self._share = self._random()
        begin = max(now, self._not_before)
        self._end_by(
            max(now + left, self._not_before), begin + min(MAX_JITTER, left / 4) * self._share
        )

    def rotate(self, now: float, within: float = ROTATION_TIME) -> None:
        """Note that a successor is due now, and that it ends within a time (s)."""
        self._end_by(now + within, now)

    def overlaps(self, now: float) -> None:
        """Note that a successor is open, and needs some time to prove that it can take over."""
        self._not_before = now + OVERLAP_TIME
        self.ends_at = max(self.ends_at, self._not_before)

    def _end_by(self, ends_at: float, rotate_at: float) -> None:
        self.ends_at = min(self.ends_at, ends_at)
        self.rotate_at = min(self.rotate_at, rotate_at)
