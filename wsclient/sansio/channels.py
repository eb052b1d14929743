"""What is known of each channel: its account, and the names that the venue gives to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wsclient.sansio.recovery import ChannelTracker

__all__ = ["Channels"]

#: Names that nobody has asked for, and venues may invent without end: so many are remembered.
STRANGERS = 10_000


class Channels:
    """``is_wanted`` tells whether somebody has asked for a channel: those are never forgotten."""

    def __init__(self, is_wanted: Callable[[str], bool]) -> None:
        self._is_wanted = is_wanted
        self.trackers: dict[str, ChannelTracker] = {}
        #: How many of them there may be before some are forgotten, and whether any has been.
        self._room = STRANGERS
        self._has_forgotten = False
        #: The venue's names of channels on this connection, the newest of each last.
        self.aliases: dict[str, str] = {}

    def tracker(self, channel: str) -> ChannelTracker:
        """The channel's account, which begins now if there is none."""
        tracker = self.trackers.get(channel)
        if tracker is None:
            if len(self.trackers) >= self._room:
                self._make_room()
            tracker = self.trackers[channel] = ChannelTracker(channel)
            if self._has_forgotten and not self._is_wanted(channel):
                tracker.suspect("sequence")  # it may be one of those
        return tracker

    def suspect_all(self, reason: str) -> None:
        """Something may have been missed, and it cannot be known of which channel."""
        for tracker in self.trackers.values():
            tracker.suspect(reason)

    def name(self, alias: str, channel: str) -> None:
        """The venue calls it so from now on."""
        self.aliases.pop(alias, None)
        if len(self.aliases) >= STRANGERS:
            newest = {channel: alias for alias, channel in self.aliases.items()}
            self.aliases = {a: c for c, a in newest.items() if self._is_wanted(c)}
        self.aliases[alias] = channel

    def named(self, channels: Iterable[str]) -> tuple[str, ...]:
        """The venue's newest names for ``channels``; their own, where it gave none."""
        newest = {channel: alias for alias, channel in self.aliases.items()}
        return tuple(newest.get(channel, channel) for channel in channels)

    def _make_room(self) -> None:
        """Forget the older half of the channels that nobody has asked for."""
        strangers = [channel for channel in self.trackers if not self._is_wanted(channel)]
        for channel in strangers[: -STRANGERS // 2]:
            del self.trackers[channel]
            self._has_forgotten = True
        self._room = len(self.trackers) + STRANGERS // 2
