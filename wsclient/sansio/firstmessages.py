"""Detection of channels that the venue has confirmed but never sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wsclient.sansio.timers import Timers

__all__ = ["FirstMessages"]

#: Differs from every count of messages.
_HEARD = -1


class FirstMessages:
    """Finds channels that are confirmed but stay without a message.

    No work is done per message: when a channel's time is up, its message count is compared with its
    count when the subscribe was sent. ``count`` returns that number; ``excuse`` returns how long
    (s) this process has been stopped since a given time (monotonic s); ``is_active`` returns
    whether a channel is still confirmed.
    """

    __slots__ = (
        "_confirmed",
        "_count",
        "_counts",
        "_excuse",
        "_is_active",
        "_overdue",
        "_timers",
        "_within",
    )

    def __init__(
        self,
        count: Callable[[str], int],
        excuse: Callable[[float], float],
        is_active: Callable[[str], bool],
    ) -> None:
        self._count = count
        self._excuse = excuse
        self._is_active = is_active
        #: The time (s) within which the first message is expected; other channels are not checked.
        self._within: dict[str, float] = {}
        #: The message count when the subscribe was sent, or _HEARD after an unreadable message.
        self._counts: dict[str, int] = {}
        #: When the channel was confirmed (monotonic s).
        self._confirmed: dict[str, float] = {}
        self._timers = Timers(self._due)
        #: Channels that have exceeded their time, and their message counts at that time.
        self._overdue: dict[str, int] = {}

    def expect(self, within: Mapping[str, float | None]) -> None:
        """Note how long (s) each channel may take from its confirmation to its first message.

        None for a channel that may be silent.
        """
        for channel, seconds in within.items():
            if seconds is None:
                self._within.pop(channel, None)
                self._confirmed.pop(channel, None)
            else:
                self._within[channel] = seconds

    def asked(self, channel: str) -> None:
        """Note that a subscribe for ``channel`` is being sent."""
        self._confirmed.pop(channel, None)
        self._counts[channel] = self._count(channel)

    def confirmed(self, channel: str, now: float) -> None:
        """Start the time of ``channel``: the venue has confirmed it.

        An overdue channel is not watched again until one of its messages has arrived.
        """
        if channel in self._within and not self._is_overdue(channel):
            self._overdue.pop(channel, None)
            self._confirmed[channel] = now
            self._timers.add(channel)

    def kept(self, channel: str) -> None:
        """Note that ``channel`` is active again: the venue has refused to unsubscribe it."""
        self._timers.add(channel)

    def heard(self, channel: str) -> None:
        """Note a message of ``channel`` that is not counted, as it could not be read."""
        if channel in self._counts:
            self._counts[channel] = _HEARD
        self._overdue.pop(channel, None)

    def lost(self, channel: str) -> None:
        """Forget the confirmation of ``channel``: no connection carries it."""
        self._confirmed.pop(channel, None)

    def forget(self, channel: str) -> None:
        """Forget ``channel``: it is no longer wanted."""
        for known in (self._within, self._counts, self._confirmed, self._overdue):
            known.pop(channel, None)

    def take(self, now: float) -> list[tuple[str, float]]:
        """Return the channels whose time is up, each once, with their times (s)."""
        taken = []
        for channel in self._timers.take(now):
            del self._confirmed[channel]
            count = self._count(channel)
            if count == self._counts.get(channel):
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
