"""The table of all channels of a client."""

from __future__ import annotations

from collections.abc import Callable

from wsclient.stream.channel import Channel
from wsclient.stream.overlaps import Overlaps

__all__ = ["Channels"]

#: How many channels that no caller requested are remembered: a venue may invent names without end.
STRANGERS = 10_000


class Channels:
    """The channels of one client, by name.

    ``is_wanted`` returns whether a caller wants a channel; wanted channels are never forgotten.
    ``shares_numbers``: see :class:`Overlaps`.
    """

    __slots__ = ("_has_forgotten", "_is_wanted", "_room", "_unsuspected", "by_name", "overlaps")

    def __init__(self, is_wanted: Callable[[str], bool], *, shares_numbers: bool = True) -> None:
        self._is_wanted = is_wanted
        self.by_name: dict[str, Channel] = {}
        #: Those that several connections carry.
        self.overlaps = Overlaps(self.of, shares_numbers=shares_numbers)
        #: The number of channels at which unrequested ones are forgotten, and whether any has been
        #: forgotten.
        self._room = STRANGERS
        self._has_forgotten = False
        #: For each connection and reason, the channels looked up since its channels were last
        #: suspected. The others are still suspected and need no change, so suspecting all again and
        #: again is cheap.
        self._unsuspected: dict[tuple[int, str], set[str]] = {}

    def get(self, name: str) -> Channel | None:
        """Return the channel, or None. Needs no lock."""
        return self.by_name.get(name)

    def of(self, name: str) -> Channel:
        """Return the channel; make it if there is none."""
        channel = self.by_name.get(name)
        if channel is None:
            if len(self.by_name) >= self._room:
                self._make_room()
            channel = self.by_name[name] = Channel(name)
            if self._has_forgotten and not self._is_wanted(name):
                channel.suspect("sequence")  # it may be a forgotten one
        for unsuspected in self._unsuspected.values():
            unsuspected.add(name)
        return channel

    def forget(self, name: str) -> None:
        """Forget a channel: it is no longer wanted."""
        self.by_name.pop(name, None)
        self.overlaps.forget(name)
        for unsuspected in self._unsuspected.values():
            unsuspected.discard(name)

    def suspect_all(self, reason: str, connection_id: int, is_of: Callable[[str], bool]) -> None:
        """Note that messages of a connection may have been missed, of an unknown channel.

        All of its channels are suspected: wanted ones for which ``is_of`` is true, and unrequested
        ones whose newest message it has brought.
        """
        key = connection_id, reason
        unsuspected = self._unsuspected.get(key)
        for name in self.by_name if unsuspected is None else unsuspected:
            is_wanted = self._is_wanted(name)
            if is_of(name) if is_wanted else self._is_brought_by(connection_id, name):
                self.overlaps.suspect(name, reason, connection_id)
        self._unsuspected[key] = set()

    def unrequested_of(self, connection_id: int) -> list[str]:
        """Return the unrequested channels whose newest message a connection has brought."""
        brought = (name for name in self.by_name if self._is_brought_by(connection_id, name))
        return [name for name in brought if not self._is_wanted(name)]

    def connection_lost(self, connection_id: int) -> None:
        """Note that a connection has ended."""
        for key in [key for key in self._unsuspected if key[0] == connection_id]:
            del self._unsuspected[key]

    def _is_brought_by(self, connection_id: int, name: str) -> bool:
        latest = self.by_name[name].latest
        return latest is None or latest.arrival.connection_id == connection_id

    def _make_room(self) -> None:
        """Forget the oldest unrequested channels; keep the newest STRANGERS // 2."""
        unrequested = [name for name in self.by_name if not self._is_wanted(name)]
        for name in unrequested[: -STRANGERS // 2]:
            self.forget(name)
            self._has_forgotten = True
        self._room = len(self.by_name) + STRANGERS // 2
