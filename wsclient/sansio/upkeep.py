"""The upkeep of channels: what follows from an answer for a channel, and what is due for it later.

Due later are: another subscribe to channels that the venue has ended, a new snapshot of an order
book that is out of sync, a resubscription of a silent channel, and a report of a channel that is
confirmed but never sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from wsclient.errors import ConnectionLost, SubscriptionError
from wsclient.events import NoData, Rejected, Resubscribing, Subscribed, Unsubscribed
from wsclient.messages import Arrival, Gap, Message
from wsclient.sansio.actions import Forget
from wsclient.sansio.asked import Asked
from wsclient.sansio.firstmessages import FirstMessages
from wsclient.sansio.output import Output
from wsclient.sansio.refreshes import Refreshes
from wsclient.sansio.reports import Reports
from wsclient.sansio.stops import Stops
from wsclient.sansio.timers import Timers
from wsclient.sansio.wanted import Wanted
from wsclient.sansio.wantedtable import WantedChannel
from wsclient.stream.channels import Channels
from wsclient.telemetry.histogram import Lags
from wsclient.telemetry.rates import Counters
from wsclient.text import one_line

__all__ = ["Places", "Upkeep"]


class Places(Protocol):
    """Where channels belong: what the upkeep needs of the connections of its client."""

    def forget(self, entry: WantedChannel) -> None:
        """Forget what was asked for a channel: the state of its stream is void."""

    def freed(self, entry: WantedChannel) -> None:
        """Note that a channel is no longer wanted, and needs no room."""

    def crowded(self, entry: WantedChannel, connection_id: int) -> bool:
        """Note that a connection is full. Returns whether the channel moves to another one."""

    def newest_of(self, channel: str) -> tuple[int, Asked] | None:
        """Return the newest open connection to which a channel belongs: its id, and the requests.

        None without one.
        """

    def asking(self, entry: WantedChannel) -> Mapping[int, bool]:
        """Return the ids of the connections on which a channel is asked for, if there are several.

        With each id, whether that connection has carried the channel before.
        """

    def beside(self, connection_id: int) -> Sequence[int]:
        """Return the ids of the other connections in the slot of a connection."""

    def renewed(self, entry: WantedChannel) -> None:
        """Subscribe to a channel that was unsubscribed, as a caller wants it again."""

    def asked_of(self, channel: str) -> tuple[int, Asked] | None:
        """Return the open connection that takes requests for a channel: its id, and the requests.

        None without one.
        """


class Upkeep:
    """The channels of one client, and what is due for them.

    Implements :class:`~wsclient.sansio.wanted.Outcomes`. ``stale_after`` (s) is the option of that
    name. ``shares_numbers`` is the dialect's ``numbers_are_shared``.
    """

    __slots__ = (
        "_counters",
        "_ended",
        "_output",
        "_places",
        "_reports",
        "_stale_after",
        "_stopped",
        "_stops",
        "_watched",
        "channels",
        "first_messages",
        "has_changed",
        "refreshes",
        "venue_lags",
        "wanted",
    )

    def __init__(
        self,
        output: Output,
        counters: Counters,
        reports: Reports,
        stops: Stops,
        stale_after: float | None,
        places: Places,
        *,
        shares_numbers: bool,
    ) -> None:
        self._output = output
        self._counters = counters
        self._reports = reports
        self._stops = stops
        self._stale_after = stale_after
        self._places = places
        self.wanted = Wanted(self)
        self.channels = Channels(self.wanted.__contains__, shares_numbers=shares_numbers)
        #: The times from the venue's send time of a message to its receipt.
        self.venue_lags = Lags()
        #: Finds confirmed channels that stay without a message.
        self.first_messages = FirstMessages(self._messages_of, stops.excuse, self.wanted.is_active)
        #: Channels whose order books are out of sync.
        self.refreshes = Refreshes()
        #: Channels that the venue has ended without an unsubscribe.
        self._ended = Refreshes(budget=self.refreshes.budget)
        #: Those of them that have ended since the last tick, each with a text for the event.
        self._stopped: dict[str, str] = {}
        #: Active channels whose silence is watched.
        self._watched = Timers(self._silent_at)
        #: Something may be due before anything else that was known.
        self.has_changed = False

    # The outcomes: what follows at once.

    def settled(self, token: Any, error: SubscriptionError | None) -> None:
        self._output.settle(token, error)

    def confirmed(self, channels: Sequence[str], now: float) -> None:
        for channel in channels:
            self.channels.of(channel).data_at = now
            entry = self.wanted.get(channel)
            if entry is not None:
                self._meet(entry)
            self._watched.add(channel)
            self.first_messages.confirmed(channel, now)
        self.has_changed = True
        self._output.notify(Subscribed, tuple(channels))

    def joined(self, channel: str, connection_id: int) -> None:
        self.channels.of(channel)
        self.channels.overlaps.join(channel, connection_id, self.wanted.carriers(channel))
        self.channels.overlaps.confirmed(channel, connection_id)
        self.has_changed = True

    def lost(self, channel: str, reason: str) -> None:
        self._counters.channels_lost += 1
        self._output.notify(Rejected, channel, one_line(reason), True)
        self._output.deliver(self._lost_message(channel))

    def refused(self, channel: str, reason: str) -> None:
        self._counters.channels_refused += 1
        self._output.notify(Rejected, channel, one_line(reason), False)

    def left(self, channel: str, reason: str) -> None:
        self._output.notify_if_room(Unsubscribed, channel, reason)

    def missing(self, channel: str, connection_id: int) -> None:
        self.channels.of(channel)
        self.channels.overlaps.suspect(channel, "reconnect", connection_id)

    def stopped(self, channel: str, reason: str, connection_id: int) -> None:
        self.channels.of(channel)
        self.channels.overlaps.leave(channel, "reconnect", connection_id)
        self._counters.channels_ended += 1
        why = f"{channel!r} was ended by the venue: {reason}"
        self._stopped[channel] = why
        self.has_changed = True
        self._output.notify_if_room(Resubscribing, channel, "ended", why)

    def again(self, entry: WantedChannel, connection_id: int) -> None:
        if entry.carriers:
            self.channels.overlaps.join(entry.channel, connection_id, entry.carriers)

    def is_asked_beside(self, entry: WantedChannel, connection_id: int) -> bool:
        return any(other != connection_id for other in self._places.asking(entry))

    def declined(self, channel: str, connection_id: int) -> None:
        if self.channels.overlaps.get(channel) is not None:
            self.channels.overlaps.leave(channel, "reconnect", connection_id)

    def renewed(self, entry: WantedChannel) -> None:
        self._places.renewed(entry)

    def kept(self, channel: str) -> None:
        self._watched.add(channel)
        self.first_messages.kept(channel)
        self.has_changed = True

    def removed(self, entry: WantedChannel) -> None:
        channel = entry.channel
        self._places.forget(entry)
        self.channels.forget(channel)
        self.first_messages.forget(channel)
        self.refreshes.forget(channel)
        self._ended.forget(channel)
        self.venue_lags.forget(channel)
        self._output.do(Forget(channel))

    def crowded(self, entry: WantedChannel, connection_id: int) -> bool:
        has_moved = self._places.crowded(entry, connection_id)
        if has_moved:
            self.declined(entry.channel, connection_id)
            self.has_changed = True
        return has_moved

    def freed(self, entry: WantedChannel) -> None:
        self._places.freed(entry)

    # Connections.

    def opened(self, channels: Iterable[str], now: float) -> None:
        """Note that a connection is open: it brings snapshots of its channels by itself."""
        self.refreshes.postpone(channels, now)

    def connection_lost(self, entries: Sequence[WantedChannel], connection_id: int) -> None:
        """Note that a connection has ended, to which ``entries`` belonged."""
        self.channels.connection_lost(connection_id)
        for entry in entries:
            if self._places.newest_of(entry.channel) is None:
                # The next connection begins with all that is wanted.
                self._stopped.pop(entry.channel, None)
                self._ended.done(entry.channel)
        self.wanted.connection_lost(entries, connection_id)
        for entry in entries:
            if not entry.carriers:
                self.first_messages.lost(entry.channel)

    def appeared(self, name: str, connection_id: int) -> None:
        """Note that a connection is about to bring the first message of a channel.

        Others may bring it too, requested or not.
        """
        entry, overlaps = self.wanted.get(name), self.channels.overlaps
        if entry is not None:
            others: Iterable[int] = self._places.asking(entry)
        else:
            others = self._places.beside(connection_id)
        for other in others:
            overlaps.join(name, other, [connection_id])
            if entry is None:
                overlaps.confirmed(name, other)

    def suspect(self, connection_id: int, channels: Iterable[str], now: float) -> None:
        """Note that a connection has ended, to which ``channels`` belonged.

        Their messages may have been missed, and those of channels that it brought unrequested.
        """
        overlaps = self.channels.overlaps
        merged, unrequested = (
            overlaps.of(connection_id),
            self.channels.unrequested_of(connection_id),
        )
        for name in dict.fromkeys([*channels, *unrequested, *merged]):
            channel = self.channels.get(name)
            carriers = self.wanted.carriers(name)
            is_of_other = bool(carriers) and connection_id not in carriers
            if channel is not None and (overlaps.get(name) is not None or not is_of_other):
                overlaps.leave(name, "reconnect", connection_id)
                channel.refreshed = False

    # Time.

    def tick(self, at_once: int, now: float) -> list[tuple[int, ConnectionLost]]:
        """Do everything that is due on open connections.

        ``at_once`` is the number of channels in one message. Returns the ids of the connections
        that must be replaced, and why.
        """
        lost = self._tick_silent(now)
        for channel, why in self._stopped.items():
            if channel in self.wanted:
                self._ended.want(channel, now)
            self._reports.ended(channel, why, now)
        self._stopped.clear()
        again: dict[int, tuple[Asked, list[str]]] = {}
        for channel in self._ended.take(now, self._reachable, at_once=at_once):
            self._ended.done(channel)
            if (found := self._places.newest_of(channel)) is not None:
                again.setdefault(found[0], (found[1], []))[1].append(channel)
        for asked, channels in again.values():
            asked.ask_again(channels)
        for channel in self.refreshes.take(now, self._reachable):
            found = self._places.asked_of(channel)
            if found is not None and self.wanted.is_active(channel):
                why = f"the order book {channel!r} needs a new snapshot"
                self._output.notify(Resubscribing, channel, "out of sync", why)
                self.channels.overlaps.asked(channel, found[0])
                found[1].refresh(channel)
        for channel, seconds in self.first_messages.take(now):
            self._output.notify_if_room(NoData, channel, seconds)
            self._reports.no_data(channel, seconds, now)
        return lost

    def _tick_silent(self, now: float) -> list[tuple[int, ConnectionLost]]:
        lost: dict[int, ConnectionLost] = {}
        for name in self._watched.take(now):
            found = self._places.asked_of(name)
            if found is None or found[0] in lost:
                continue
            connection_id, asked = found
            channel = self.channels.of(name)
            self.channels.overlaps.suspect(name, "reconnect", connection_id)
            if channel.refreshed:
                why = f"{name!r} is still silent after a resubscription"
                lost[connection_id] = ConnectionLost(why, reason="silent")
                continue
            why = f"{name!r} has been silent for {self._stale_after:g} s"
            self._output.notify(Resubscribing, name, "silent", why)
            channel.refreshed = True
            asked.refresh(name)
        return list(lost.items())

    def deadline(self, now: float) -> float:
        """Return when to call :meth:`tick` at the latest (monotonic s, ``inf`` for never)."""
        return min(
            self.refreshes.deadline(now, self._reachable),
            self._ended.deadline(now, self._reachable),
            self._watched.deadline(),
            self.first_messages.deadline(),
        )

    # Inside.

    def _meet(self, entry: WantedChannel) -> None:
        """Let a connection that has made a channel active meet those that are asked for it.

        One of these may still bring what it has carried before, and leads then.
        """
        name, overlaps = entry.channel, self.channels.overlaps
        if asking := self._places.asking(entry):
            before = [connection_id for connection_id in asking if asking[connection_id]]
            for connection_id in (*asking, *entry.carriers):
                overlaps.join(name, connection_id, before or entry.carriers)
        for connection_id in entry.carriers:
            overlaps.confirmed(name, connection_id)

    def _reachable(self, channel: str) -> bool:
        """Return whether an open connection takes requests for a channel."""
        return self._places.asked_of(channel) is not None

    def _silent_at(self, name: str) -> float | None:
        channel, stale_after = self.channels.get(name), self._stale_after
        if channel is None or stale_after is None or not self.wanted.is_active(name):
            return None
        return channel.data_at + stale_after + self._stops.excuse(channel.data_at)

    def _messages_of(self, name: str) -> int:
        channel = self.channels.get(name)
        return 0 if channel is None else channel.messages

    def _lost_message(self, name: str) -> Message:
        channel = self.channels.get(name)
        pending = channel.pending if channel else None
        since = channel.last_received_at if channel else None
        gap = Gap("rejected", None, since)
        gap = gap if pending is None else pending.merge(gap)
        self._counters.gaps += 1
        arrival = Arrival(since or 0, self._output.newest_id, None)
        return Message(name, "lost", gap=gap, arrival=arrival)
