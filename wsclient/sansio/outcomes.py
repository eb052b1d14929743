"""What follows at once, for a client, when something is decided about its channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsclient.errors import SubscriptionError
from wsclient.events import Rejected, Resubscribing, Subscribed, Unsubscribed
from wsclient.messages import Arrival, Gap, Message
from wsclient.sansio.actions import Forget
from wsclient.sansio.output import Output
from wsclient.sansio.upkeep import Places, Upkeep
from wsclient.sansio.wantedtable import WantedChannel
from wsclient.stream.overlaps import Overlaps
from wsclient.telemetry.rates import Counters
from wsclient.text import one_line

__all__ = ["ChannelOutcomes"]


class ChannelOutcomes:
    """Reports what is decided, keeps the overlaps up to date, and notes what is due later.

    Implements :class:`~wsclient.sansio.wanted.Outcomes`. ``upkeep`` is set before the first call.
    """

    __slots__ = ("_counters", "_output", "_places", "upkeep")

    def __init__(self, output: Output, counters: Counters, places: Places) -> None:
        self._output = output
        self._counters = counters
        self._places = places
        self.upkeep: Upkeep

    def settled(self, token: Any, error: SubscriptionError | None) -> None:
        self._output.settle(token, error)

    def confirmed(self, channels: Sequence[str], connection_id: int, now: float) -> None:
        upkeep = self.upkeep
        for channel in channels:
            entry = upkeep.wanted.get(channel)
            if entry is not None:
                self._merge(entry)
            upkeep.confirmed(channel, now)
        self._output.notify(Subscribed, tuple(channels), connection_id=connection_id)

    def confirmed_beside(self, channel: str, connection_id: int) -> None:
        self.upkeep.channels.of(channel)
        self._overlaps.join(channel, connection_id, self.upkeep.wanted.carriers(channel))
        self._overlaps.confirmed(channel, connection_id)
        self.upkeep.has_changed = True

    def lost(self, channel: str, reason: str, connection_id: int | None = None) -> None:
        self._counters.channels_lost += 1
        what = (channel, one_line(reason), True)
        self._output.notify(Rejected, *what, connection_id=connection_id)
        self._output.deliver(self._lost_message(channel))

    def refused(self, channel: str, reason: str, connection_id: int | None = None) -> None:
        self._counters.channels_refused += 1
        what = (channel, one_line(reason), False)
        self._output.notify(Rejected, *what, connection_id=connection_id)

    def left(self, channel: str, reason: str) -> None:
        self._output.notify_if_room(Unsubscribed, channel, reason)

    def missing(self, channel: str, connection_id: int) -> None:
        self.upkeep.channels.of(channel)
        self._overlaps.suspect(channel, "reconnect", connection_id)

    def ended(self, channel: str, reason: str, connection_id: int) -> None:
        self.upkeep.channels.of(channel)
        self._overlaps.leave(channel, "reconnect", connection_id)
        self._counters.channels_ended += 1
        why = f"{channel!r} was ended by the venue: {reason}"
        self.upkeep.ended(channel, why)
        self._output.notify_if_room(Resubscribing, channel, "ended", why)

    def again(self, entry: WantedChannel, connection_id: int) -> None:
        if entry.carriers:
            self._overlaps.join(entry.channel, connection_id, entry.carriers)

    def is_asked_beside(self, entry: WantedChannel, connection_id: int) -> bool:
        return any(other != connection_id for other in self._places.asking(entry))

    def declined(self, channel: str, connection_id: int) -> None:
        if self._overlaps.get(channel) is not None:
            self._overlaps.leave(channel, "reconnect", connection_id)

    def renewed(self, entry: WantedChannel) -> None:
        self._places.renewed(entry)

    def kept(self, channel: str) -> None:
        self.upkeep.kept(channel)

    def removed(self, entry: WantedChannel) -> None:
        self._places.forget(entry)
        self.upkeep.forget(entry.channel)
        self._output.do(Forget(entry.channel))

    def crowded(self, entry: WantedChannel, connection_id: int, asked: int) -> bool:
        has_moved = self._places.crowded(entry, connection_id, asked)
        if has_moved:
            self.declined(entry.channel, connection_id)
            self.upkeep.has_changed = True
        return has_moved

    def freed(self, entry: WantedChannel) -> None:
        self._places.freed(entry)

    # Inside.

    @property
    def _overlaps(self) -> Overlaps:
        return self.upkeep.channels.overlaps

    def _merge(self, entry: WantedChannel) -> None:
        """Merge a channel that has become active with the connections on which it is asked for.

        One of these may still bring what it has carried before; then it leads.
        """
        name, overlaps = entry.channel, self._overlaps
        if asking := self._places.asking(entry):
            before = [connection_id for connection_id in asking if asking[connection_id]]
            for connection_id in (*asking, *entry.carriers):
                overlaps.join(name, connection_id, before or entry.carriers)
        for connection_id in entry.carriers:
            overlaps.confirmed(name, connection_id)

    def _lost_message(self, name: str) -> Message:
        channel = self.upkeep.channels.get(name)
        pending = channel.pending if channel else None
        since = channel.last_received_at if channel else None
        gap = Gap("rejected", None, since)
        gap = gap if pending is None else pending.merge(gap)
        self._counters.gaps += 1
        arrival = Arrival(since or 0, self._output.newest_id, None)
        return Message(name, "lost", gap=gap, arrival=arrival)
