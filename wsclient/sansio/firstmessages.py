"""Confirmed channels of which no message has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wsclient.sansio.timers import Timers

__all__ = ["FirstMessages"]

#: Differs from every count of messages.
_HEARD = -1


class FirstMessages:
    """Finds confirmed channels of which no message comes in time.

    A message costs nothing here: when a channel's time is up, its count of messages is compared
    with the one at the time when it was asked for. ``count`` returns that number; ``excuse``
    returns how long (s) this process has been stopped since a time (monotonic s); ``is_active``
    says whether a channel is still confirmed.
    """

    def __init__(
        self,
        count: Callable[[str], int],
        excuse: Callable[[float], float],
        is_active: Callable[[str], bool],
    ) -> None:
        self._count = count
        self._excuse = excuse
        self._is_active = is_active
        #: The time (s) from the confirmation to the first message. Other channels may be silent.
        self._within: dict[str, float] = {}
        #: The count of messages when the channel was asked for, or _HEARD after a message that
        #: could not be read.
        self._counts: dict[str, int] = {}
        #: When it was confirmed (monotonic s).
        self._confirmed: dict[str, float] = {}
        self._timers = Timers(self._due)
        #: Channels that have exceeded their time, and their counts of messages at that time.
        self._overdue: dict[str, int] = {}

    def expect(self, within: Mapping[str, float | None]) -> None:
        """Note within how many seconds of its confirmation each channel's first message comes; None
        for a channel that may be silent."""
        for channel, seconds in within.items():
            if seconds is None:
                self._within.pop(channel, None)
                self._confirmed.pop(channel, None)
            else:
                self._within[channel] = seconds

    def asked(self, channel: str) -> None:
        """A subscribe of ``channel`` goes out."""
        self._confirmed.pop(channel, None)
        self._counts[channel] = self._count(channel)

    def confirmed(self, channel: str, now: float) -> None:
        """The venue has confirmed ``channel``. Watch it, unless it was reported and no message has
        come since."""
        if channel in self._within and not self._is_overdue(channel):
            self._overdue.pop(channel, None)
            self._confirmed[channel] = now
            self._timers.add(channel)

    def kept(self, channel: str) -> None:
        """``channel`` is active again, since the venue has refused to unsubscribe it."""
        self._timers.add(channel)

    def heard(self, channel: str) -> None:
        """A message of ``channel`` came that is not counted: it could not be read."""
        if channel in self._counts:
            self._counts[channel] = _HEARD
        self._overdue.pop(channel, None)

    def connection_lost(self) -> None:
        """Nothing is confirmed any more."""
        self._confirmed.clear()

    def forget(self, channel: str) -> None:
        """``channel`` is wanted no longer."""
        for known in (self._within, self._counts, self._confirmed, self._overdue):
            known.pop(channel, None)

    def take(self, now: float) -> list[tuple[str, float]]:
        """Return the channels whose time is up, each once, with that time (s)."""
        taken = []
        for channel in self._timers.take(now):
            del self._confirmed[channel]
            count = self._count(channel)
            if count == self._counts.get(channel, 0):
                self._overdue[channel] = count
                taken.append((channel, self._within[channel]))
        return taken

    def deadline(self) -> float:
        """Return when to call :meth:`take` (monotonic s, ``inf`` for never)."""
        return self._timers.deadline()

    def overdue(self) -> tuple[str, ...]:
        """Return the channels that have exceeded their time and are still without a message."""
        return tuple(filter(self._is_overdue, self._overdue))

    def _is_overdue(self, channel: str) -> bool:
        return self._overdue.get(channel) == self._count(channel)

    def _due(self, channel: str) -> float | None:
        since = self._confirmed.get(channel)
        if since is None or not self._is_active(channel):
            return None
        return since + self._within[channel] + self._excuse(since)
