"""The venue's names for channels, which are valid on one connection only.

They are the wire names of channels whose names begin with a route, and the aliases that the venue
has itself chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wsclient.messages import Message
from wsclient.stream.incoming import Incoming, Invalid
from wsclient.stream.items import Ack, Ended, Rejection

__all__ = ["Names"]

#: How many aliases of channels that no caller requested are remembered.
STRANGERS = 10_000


class Names:
    """The aliases of one connection.

    ``is_wanted`` returns whether a caller wants a channel; the newest alias of a wanted channel is
    never forgotten.
    """

    __slots__ = ("_is_wanted", "_newest", "_room", "_wire", "channels")

    def __init__(self, is_wanted: Callable[[str], bool]) -> None:
        self._is_wanted = is_wanted
        #: Alias -> channel, newest last. Empty at most venues; looked at for each message.
        self.channels: dict[str, str] = {}
        #: Channel -> its newest alias.
        self._newest: dict[str, str] = {}
        #: Channel -> its wire name, where that is another.
        self._wire: dict[str, str] = {}
        self._room = STRANGERS

    def add_wire(self, wire: str, channel: str) -> None:
        """Note the wire name of a channel that is about to be subscribed to."""
        if wire != channel:
            self.add(wire, channel)
            self._wire[channel] = wire

    def add(self, alias: str, channel: str) -> None:
        """Note that the venue calls ``channel`` ``alias`` from now on."""
        before = self.channels.pop(alias, None)
        if before is not None and self._newest.get(before) == alias:
            del self._newest[before]
        if len(self.channels) >= self._room:
            self._newest = {c: a for c, a in self._newest.items() if self._is_wanted(c)}
            self._wire = {c: w for c, w in self._wire.items() if self._is_wanted(c)}
            kept = {*self._newest.values(), *self._wire.values()}
            self.channels = {a: c for a, c in self.channels.items() if a in kept}
            self._room = max(STRANGERS, len(self.channels) + STRANGERS // 2)
        self.channels[alias] = channel
        self._newest[channel] = alias

    def resolve(self, entry: Incoming) -> None:
        """Replace an alias in the entry by the channel's own name."""
        named = entry.message if isinstance(entry, Invalid) else entry
        if isinstance(named, (Message, Ack, Rejection, Ended)) and named.channel is not None:
            named.channel = self.channels.get(named.channel, named.channel)

    def wire(self, channels: Iterable[str]) -> tuple[str, ...]:
        """Return the wire name of each of ``channels``."""
        return tuple(self._wire.get(channel, channel) for channel in channels)

    def of(self, channels: Iterable[str]) -> tuple[str, ...]:
        """Return the newest alias of each of ``channels``, or its own name without an alias."""
        return tuple(self._newest.get(channel, channel) for channel in channels)
