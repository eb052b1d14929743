"""The trackers of all channels, and the venue's aliases (its own names) for channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wsclient.sansio.recovery import ChannelTracker

__all__ = ["Channels"]

#: How many channels that no caller requested are remembered: a venue may invent names without end.
STRANGERS = 10_000


class Channels:
    """The trackers and aliases of the channels of one client.

    ``is_wanted`` returns whether a caller wants a channel; wanted channels are never forgotten.
    """

    def __init__(self, is_wanted: Callable[[str], bool]) -> None:
        self._is_wanted = is_wanted
        self.trackers: dict[str, ChannelTracker] = {}
        #: The number of trackers at which unrequested channels are forgotten, and whether any has
        #: been forgotten.
        self._room = STRANGERS
        self._has_forgotten = False
        #: Alias -> channel on this connection, newest last.
        self.aliases: dict[str, str] = {}
        #: Channel -> its newest alias.
        self._newest: dict[str, str] = {}
        self._room_for_aliases = STRANGERS
        #: For each reason, the channels looked up since all were last suspected. The others are
        #: still suspected and need no change, so suspecting all again and again is cheap.
        self._unsuspected: dict[str, set[str]] = {}

    def tracker(self, channel: str) -> ChannelTracker:
        """Return the channel's tracker; make it if there is none."""
        tracker = self.trackers.get(channel)
        if tracker is None:
            if len(self.trackers) >= self._room:
                self._make_room()
            tracker = self.trackers[channel] = ChannelTracker(channel)
            if self._has_forgotten and not self._is_wanted(channel):
                tracker.suspect("sequence")  # it may be a forgotten one
        for unsuspected in self._unsuspected.values():
            unsuspected.add(channel)
        return tracker

    def forget(self, channel: str) -> None:
        """Forget the channel's tracker: the channel is no longer wanted."""
        self.trackers.pop(channel, None)
        for unsuspected in self._unsuspected.values():
            unsuspected.discard(channel)

    def suspect_all(self, reason: str) -> None:
        """Note that messages may have been missed, of an unknown channel: suspect all."""
        unsuspected = self._unsuspected.get(reason)
        for channel in self.trackers if unsuspected is None else unsuspected:
            self.trackers[channel].suspect(reason)
        self._unsuspected[reason] = set()

    def name(self, alias: str, channel: str) -> None:
        """Note that the venue calls ``channel`` ``alias`` from now on."""
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
        """Forget all aliases: they are valid on one connection only."""
        self.aliases.clear()
        self._newest.clear()

    def named(self, channels: Iterable[str]) -> tuple[str, ...]:
        """Return the newest alias of each of ``channels``, or its own name without an alias."""
        return tuple(self._newest.get(channel, channel) for channel in channels)

    def _make_room(self) -> None:
        """Forget the oldest unrequested channels; keep the newest STRANGERS // 2."""
        unrequested = [channel for channel in self.trackers if not self._is_wanted(channel)]
        for channel in unrequested[: -STRANGERS // 2]:
            self.forget(channel)
            self._has_forgotten = True
        self._room = len(self.trackers) + STRANGERS // 2
