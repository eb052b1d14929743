"""The upkeep of channels: what is due for them later.

Due are: another subscribe to channels that the venue has ended, a new snapshot of an order
book that is out of sync, a resubscription of a silent channel, and a report of a channel that is
confirmed but never sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from wsclient.errors import ConnectionLost
from wsclient.events import NoData, Resubscribing
from wsclient.sansio.asked import Asked
from wsclient.sansio.firstmessages import FirstMessages
from wsclient.sansio.output import Output
from wsclient.sansio.refreshes import Refreshes
from wsclient.sansio.reports import Reports
from wsclient.sansio.stops import Stops
from wsclient.sansio.timers import Timers
from wsclient.sansio.wanted import Outcomes, Wanted
from wsclient.sansio.wantedtable import WantedChannel
from wsclient.stream.channels import Channels
from wsclient.telemetry.histogram import Lags

__all__ = ["Places", "Upkeep"]


class Places(Protocol):
    """Where channels belong: what :class:`Upkeep` and its outcomes need of the connections."""

    def forget(self, entry: WantedChannel) -> None:
        """Forget what was asked for a channel: the state of its stream is void."""

    def freed(self, entry: WantedChannel) -> None:
        """Note that a channel is no longer wanted, and needs no room."""

    def crowded(self, entry: WantedChannel, connection_id: int, asked: int) -> bool:
        """Note that a connection has no room for a channel, one of ``asked`` of a message.

        Returns whether the channel is placed again.
        """

    def asking(self, entry: WantedChannel) -> Mapping[int, bool]:
        """Return the ids of the connections on which a channel is asked for, if there are several.

        With each id, whether that connection has carried the channel before.
        """

    def beside(self, connection_id: int) -> Sequence[int]:
        """Return the ids of the other connections in the slot of a connection."""

    def renewed(self, entry: WantedChannel) -> None:
        """Subscribe to a channel that is unsubscribed, and wanted again."""

    def asked_of(self, channel: str) -> Asked | None:
        """Return what was asked on the open connection that takes requests for a channel.

        None without such a connection.
        """

    def asked_of_newest(self, channel: str) -> Asked | None:
        """Return what was asked on the newest open connection to which a channel belongs.

        None without such a connection.
        """


class Upkeep:
    """The channels of one client, and what is due for them.

    ``outcomes`` is called when something is decided. ``stale_after`` (s) is the option of that
    name. ``shares_numbers`` is the dialect's ``numbers_are_shared``.
    """

    __slots__ = (
        "_ended",
        "_just_ended",
        "_output",
        "_places",
        "_reports",
        "_stale_after",
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
        reports: Reports,
        stops: Stops,
        stale_after: float | None,
        places: Places,
        outcomes: Outcomes,
        *,
        shares_numbers: bool,
    ) -> None:
        self._output = output
        self._reports = reports
        self._stops = stops
        self._stale_after = stale_after
        self._places = places
        self.wanted = Wanted(outcomes)
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
        self._just_ended: dict[str, str] = {}
        #: Active channels whose silence is watched.
        self._watched = Timers(self._silent_at)
        #: Something may be due before anything else that was known.
        self.has_changed = False

    # What is noted for later.

    def confirmed(self, channel: str, now: float) -> None:
        """Note that a channel is active: from now on messages are expected."""
        self.channels.of(channel).data_at = now
        self._watched.add(channel)
        self.first_messages.confirmed(channel, now)
        self.has_changed = True

    def kept(self, channel: str) -> None:
        """Note that a channel is active again: the venue has refused to unsubscribe it."""
        self._watched.add(channel)
        self.first_messages.kept(channel)
        self.has_changed = True

    def ended(self, channel: str, why: str) -> None:
        """Note that the venue has ended a channel. It will be subscribed to again."""
        self._just_ended[channel] = why
        self.has_changed = True

    def forget(self, channel: str) -> None:
        """Forget a channel: it is no longer wanted."""
        self.channels.forget(channel)
        self.first_messages.forget(channel)
        self.refreshes.forget(channel)
        self._ended.forget(channel)
        self.venue_lags.forget(channel)

    # Connections.

    def opened(self, channels: Iterable[str], now: float) -> None:
        """Note that a connection is open: it brings snapshots of its channels by itself."""
        self.refreshes.postpone(channels, now)

    def connection_lost(self, entries: Sequence[WantedChannel], connection_id: int) -> None:
        """Note that a connection has ended, to which ``entries`` belonged."""
        self.channels.connection_lost(connection_id)
        for entry in entries:
            if self._places.asked_of_newest(entry.channel) is None:
                # The next connection begins with all that is wanted.
                self._just_ended.pop(entry.channel, None)
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
        unrequested = self.channels.unrequested_of(connection_id)
        for name in dict.fromkeys([*channels, *unrequested, *overlaps.of(connection_id)]):
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
        for channel, why in self._just_ended.items():
            if channel in self.wanted:
                self._ended.want(channel, now)
            self._reports.ended(channel, why, now)
        self._just_ended.clear()
        again: dict[Asked, list[str]] = {}
        for channel in self._ended.take(now, self._reachable, at_once=at_once):
            self._ended.done(channel)
            if (newest := self._places.asked_of_newest(channel)) is not None:
                again.setdefault(newest, []).append(channel)
        for newest, channels in again.items():
            newest.ask_again(channels)
        for channel in self.refreshes.take(now, self._reachable):
            asked = self._places.asked_of(channel)
            if asked is not None and self.wanted.is_active(channel):
                why = f"the order book {channel!r} needs a new snapshot"
                on = asked.connection_id
                self._output.notify(Resubscribing, channel, "out of sync", why, connection_id=on)
                self.channels.overlaps.asked(channel, on)
                asked.refresh(channel)
        for channel, seconds in self.first_messages.take(now):
            self._output.notify_if_room(NoData, channel, seconds)
            self._reports.no_data(channel, seconds, now)
        return lost

    def _tick_silent(self, now: float) -> list[tuple[int, ConnectionLost]]:
        lost: dict[int, ConnectionLost] = {}
        for name in self._watched.take(now):
            asked = self._places.asked_of(name)
            if asked is None or asked.connection_id in lost:
                continue
            channel = self.channels.of(name)
            self.channels.overlaps.suspect(name, "reconnect", asked.connection_id)
            if channel.refreshed:
                why = f"{name!r} is still silent after a resubscription"
                lost[asked.connection_id] = ConnectionLost(why, reason="silent")
                continue
            why = f"{name!r} has been silent for {self._stale_after:g} s"
            on = asked.connection_id
            self._output.notify(Resubscribing, name, "silent", why, connection_id=on)
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
