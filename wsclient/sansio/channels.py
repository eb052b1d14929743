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
        #: The newest name of each channel.
        self._newest: dict[str, str] = {}
        self._room_for_aliases = STRANGERS
        #: Those that have been looked up since all were last suspected, for each reason: all
        #: others still are, and a venue that gives reasons without end costs nothing.
        self._unsuspected: dict[str, set[str]] = {}

    def tracker(self, channel: str) -> ChannelTracker:
        """The channel's account, which begins now if there is none."""
        tracker = self.trackers.get(channel)
        if tracker is None:
            if len(self.trackers) >= self._room:
                self._make_room()
            tracker = self.trackers[channel] = ChannelTracker(channel)
            if self._has_forgotten and not self._is_wanted(channel):
                tracker.suspect("sequence")  # it may be one of those
        for unsuspected in self._unsuspected.values():
            unsuspected.add(channel)
        return tracker

    def forget(self, channel: str) -> None:
        """The channel is wanted no longer, and its account is void."""
        self.trackers.pop(channel, None)
        for unsuspected in self._unsuspected.values():
            unsuspected.discard(channel)

    def suspect_all(self, reason: str) -> None:
        """Something may have been missed, and it cannot be known of which channel."""
        unsuspected = self._unsuspected.get(reason)
        for channel in self.trackers if unsuspected is None else unsuspected:
            self.trackers[channel].suspect(reason)
        self._unsuspected[reason] = set()

    def name(self, alias: str, channel: str) -> None:
        """The venue calls it so from now on."""
        before = self.aliases.pop(alias, None)
        if before is not None and self._newest.get(before) == alias:
            del self._newest[before]
        if len(self.aliases) >= self._room_for_aliases:
            self._newest = {c: a for c, a in self._newest.items() if self._is_wanted(c)}
            kept = set(self._newest.values())
            self.aliases = {a: c for a, c in self.aliases.items() if a in kept}
            self._room_for_aliases = max(STRANGERS, len(self.aliases) + STRANGERS // 2)
        self.aliases[alias] = channel
        self._newest[channel] = alias

    def forget_names(self) -> None:
        """The connection is another: it has names of its own."""
        self.aliases.clear()
        self._newest.clear()

    def named(self, channels: Iterable[str]) -> tuple[str, ...]:
        """The venue's newest names for ``channels``; their own, where it gave none."""
        return tuple(self._newest.get(channel, channel) for channel in channels)

    def _make_room(self) -> None:
        """Forget the older half of the channels that nobody has asked for."""
        strangers = [channel for channel in self.trackers if not self._is_wanted(channel)]
        for channel in strangers[: -STRANGERS // 2]:
            self.forget(channel)
            self._has_forgotten = True
        self._room = len(self.trackers) + STRANGERS // 2
