"""How long the channels of a recording were silent, and when they could be heard at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["ChannelPresence", "Presence"]


class ChannelPresence:
    """When one channel was heard. All times are monotonic (ns).

    Time counts while a connection that carries the channel is open and the recorder runs.
    """

    __slots__ = ("carrier", "covered", "first", "last", "longest", "silences", "since", "waiting")

    def __init__(self) -> None:
        #: The connection that carries it; None if none does.
        self.carrier: int | None = None
        #: Since when time counts: the last message or what came after it; None while none counts.
        self.since: int | None = None
        self.first: int | None = None
        self.last: int | None = None
        #: What counts of the time between the first and the last message, and after the last.
        self.covered = self.waiting = 0
        self.longest = 0
        self.silences = 0

    @property
    def coverage(self) -> float | None:
        """The share of the time from the first to the last message in which it could be heard.

        None without a message.
        """
        if self.first is None or self.last is None:
            return None
        return self.covered / (self.last - self.first) if self.last > self.first else 1.0


class Presence:
    """When the channels of one recording were heard.

    ``silence`` (ns): from when on a time without a message is counted as a silence. All times are
    monotonic (ns) and never step back.
    """

    def __init__(self, silence: int) -> None:
        self._silence = silence
        self._channels: dict[str, ChannelPresence] = {}
        self._open: set[int] = set()

    def of(self, channel: str) -> ChannelPresence:
        """Return a channel; make it if there is none."""
        found = self._channels.get(channel)
        if found is None:
            found = self._channels[channel] = ChannelPresence()
        return found

    def __contains__(self, channel: str) -> bool:
        return channel in self._channels

    def __iter__(self) -> Iterator[str]:
        return iter(self._channels)

    def message(self, channel: str, connection_id: int, now: int) -> None:
        """Note messages of a channel."""
        found = self.of(channel)
        self._pass(found, now)
        found.covered += found.waiting if found.last is not None else 0
        found.waiting = 0
        found.first = now if found.first is None else found.first
        found.last = found.since = now
        found.carrier = connection_id

    def connected(self, connection_id: int) -> None:
        """Note that a connection is open."""
        self._open.add(connection_id)

    def subscribed(self, channels: Iterable[str], connection_id: int, now: int) -> None:
        """Note that a connection carries channels; 0 if it is not known which one."""
        on = connection_id or max(self._open, default=0)
        for channel in channels:
            found = self.of(channel)
            if found.since is None:
                found.since = now
            found.carrier = on

    def unsubscribed(self, channel: str, now: int) -> None:
        """Note that nothing carries a channel."""
        found = self.of(channel)
        self._pass(found, now)
        found.carrier = found.since = None

    def disconnected(self, connection_id: int, now: int) -> None:
        """Note that a connection has ended."""
        self._open.discard(connection_id)
        for found in self._channels.values():
            if found.carrier == connection_id:
                self._pass(found, now)
                found.carrier = found.since = None

    def interrupted(self, begin: int, end: int) -> None:
        """Note that the recorder has lost everything from ``begin`` to ``end``."""
        for found in self._channels.values():
            if found.since is not None:
                self._pass(found, begin)
                found.since = end

    def ended(self, now: int) -> None:
        """Note the end of the recording."""
        for found in self._channels.values():
            self._pass(found, now)

    def _pass(self, found: ChannelPresence, now: int) -> None:
        if found.since is None:
            return
        time = now - found.since
        found.waiting += time
        found.longest = max(found.longest, time)
        found.silences += time > self._silence
        found.since = now
