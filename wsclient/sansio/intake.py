"""The intake of what connections bring: messages are checked and counted, answers are settled."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType

from wsclient.events import GapMarked
from wsclient.messages import Gap, Message
from wsclient.sansio.connection import Connection, Shared, Stage
from wsclient.sansio.reports import Reports
from wsclient.stream.channel import LATE_OR_DUPLICATE, Batch, accept_ordinary
from wsclient.stream.incoming import Incoming, Invalid
from wsclient.stream.items import (
    Ack,
    Counted,
    Ended,
    Ending,
    Expired,
    Heartbeat,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Respond,
    SubscribedChannels,
    Unhandled,
)
from wsclient.stream.merge import Merge
from wsclient.telemetry.rates import Counters, Rates

__all__ = ["Intake"]


class Intake:
    """Processes what the connections of one client bring.

    ``opened`` is called, with the connection and the time (monotonic s), when the venue has
    accepted its login.
    """

    __slots__ = (
        "_acknowledges",
        "_channels",
        "_counters",
        "_is_watched",
        "_mask",
        "_opened",
        "_output",
        "_overlaps",
        "_reports",
        "_upkeep",
        "_wanted",
        "rates",
    )

    def __init__(
        self,
        shared: Shared,
        counters: Counters,
        reports: Reports,
        opened: Callable[[Connection, float], None],
    ) -> None:
        self._counters = counters
        self._reports = reports
        self._opened = opened
        self._mask = shared.mask
        self._output = shared.output
        self._upkeep = shared.upkeep
        self._channels = shared.upkeep.channels
        self._overlaps = shared.upkeep.channels.overlaps
        self._wanted = shared.upkeep.wanted
        self._acknowledges = shared.dialect.acknowledges
        self._is_watched = shared.options.stale_after is not None
        self.rates = Rates()

    def count(self, connection: Connection | None, frames: int, size: int, now: float) -> None:
        """Add ``frames`` and their total ``size`` (bytes) to the counters."""
        rates, counters = self.rates, self._counters
        if now >= rates.due:
            rates.mark(now, *self.totals())
        rates.counted_at = now
        counters.frames += frames
        counters.bytes += size
        if connection is not None:
            connection.bytes += size

    def totals(self) -> tuple[int, int, dict[str, int]]:
        """Return the number of messages, of bytes, and of messages per channel so far."""
        channels = {name: channel.messages for name, channel in self._channels.by_name.items()}
        return self._counters.messages, self._counters.bytes, channels

    def ordinary(self, connection: Connection, batch: Batch, now: float) -> list[Message]:
        """Return the messages to deliver of a read: the fast path of :meth:`received`.

        They are those of the next payloads of the batch, up to the first that is not ordinary. The
        caller passes that one to :meth:`received`, and calls again for the rest.
        """
        if not connection.has_opened:
            return []
        if not (self._acknowledges or self._wanted.all_confirmed):
            return []
        connection.frame_received(now)
        messages, connection.count = accept_ordinary(
            self._channels.by_name, batch, connection.names.channels, connection.count
        )
        if messages:
            self._delivered(connection, len(messages))
            connection.data_at = now
            if self._is_watched:
                for name in {message.channel for message in messages}:
                    channel = self._channels.by_name[name]
                    channel.data_at = now
                    channel.refreshed = False
        return messages

    def received(
        self,
        connection: Connection,
        entries: Sequence[Incoming],
        now: float,
        identities: Mapping[int, Hashable] = MappingProxyType({}),
    ) -> list[Message]:
        """Process the entries of one read; return the messages to deliver, with gap marks.

        ``identities`` are those of messages, by the indexes of the entries, as far as they are
        known: while several connections carry their channels.
        """
        connection.frame_received(now)
        self._overlaps.at(now)
        delivered = self._output.begin_read()
        first_data, names = not self._acknowledges, connection.names
        try:
            for index, entry in enumerate(entries):
                try:
                    if names.channels:
                        names.resolve(entry)
                    if not isinstance(entry, Message):
                        self._control(connection, entry, now)
                        continue
                    name = entry.channel
                    if first_data:
                        connection.asked.data(name, now)
                    channel = self._channels.of(name)
                    if channel.latest is None:
                        self._upkeep.appeared(name, connection.id)
                    if self._is_watched:
                        channel.data_at = now
                    connection.data_at = now
                    merge = self._overlaps.get(name) if channel.is_merged else None
                    if merge is not None:
                        identity = identities.get(index)
                        delivered += self._merged(merge, connection, entry, identity)
                        continue
                    channel.accept(entry)
                    if entry.gap is not None:
                        self._on_gap(name, entry.gap)
                    delivered.append(entry)
                except Exception as error:  # noqa: BLE001 - deliver the batch's other messages
                    text = f"a frame that cannot be processed ({type(error).__name__})"
                    self._on_invalid(connection, Invalid(text), now)
            delivered += self._take_released()
        finally:
            self._output.end_read()  # else messages without a frame would be lost
        if delivered:
            self._delivered(connection, len(delivered))
        return delivered

    def _merged(
        self, merge: Merge, connection: Connection, message: Message, identity: Hashable
    ) -> list[Message]:
        """Return what is to be delivered of a channel that several connections carry."""
        name = message.channel
        if connection.id not in merge.connections:  # it was left out, and brings it all the same
            self._overlaps.join(name, connection.id, merge.connections)
        messages = self._overlaps.take(merge, connection.id, message, identity)
        for delivered in messages:
            if delivered.gap is not None:
                self._on_gap(name, delivered.gap)
        return messages

    def released(self) -> list[Message]:
        """Return the messages that overlaps have released since the last read."""
        messages = self._take_released()
        self._counters.messages += len(messages)
        return messages

    def _take_released(self) -> list[Message]:
        messages = self._overlaps.take_released()
        for message in messages:
            if message.gap is not None:
                self._on_gap(message.channel, message.gap)
        return messages

    def misfits(self, channel: str, text: str, count: int, now: float) -> None:
        """Report messages that did not fit their declared type. Their queue has counted them."""
        self._reports.invalid(text, now, channel, count)

    def _delivered(self, connection: Connection, count: int) -> None:
        self._counters.messages += count
        connection.messages += count
        if not connection.is_healthy:
            connection.brought_messages()

    def _control(self, connection: Connection, entry: Incoming, now: float) -> None:
        if isinstance(entry, Heartbeat):
            pass
        elif isinstance(entry, Ack):
            if entry.alias is not None and entry.channel is not None:
                connection.names.add(entry.alias, entry.channel)
            connection.asked.acknowledged(entry, now)
        elif isinstance(entry, SubscribedChannels):
            connection.asked.subscribed(entry.channels, now)
        elif isinstance(entry, Rejection):
            entry.reason = self._mask(entry.reason)
            if not connection.asked.rejected(entry, now) and not entry.is_rest:
                self._reports.refused(entry.reason, now)
        elif isinstance(entry, Ended):
            entry.reason = self._mask(entry.reason)
            if not connection.asked.ended(entry):
                self._reports.said(entry.reason, now)
        elif isinstance(entry, Reply):
            self._on_reply(connection, entry, now)
        elif isinstance(entry, Respond):
            if not connection.sending.answer(entry.payload, now):
                self._reports.unanswered(now)
        elif isinstance(entry, Ending):
            connection.lifetime.announced(entry.within, now)
            self._upkeep.has_changed = True
            self._reports.said(f"this connection will end soon: {entry.reason}", now)
        elif isinstance(entry, Expired):
            connection.expire(entry.reason)
        elif isinstance(entry, Notice):
            self._reports.said(entry.text, now)
        elif isinstance(entry, Unhandled):
            self._counters.unhandled += 1
            self._reports.unhandled(entry.type, now)
        elif isinstance(entry, Invalid):
            self._on_invalid(connection, entry, now)
        elif isinstance(entry, Counted):
            self._on_counted(connection, entry.sequence, now)
        elif isinstance(entry, LoginAccepted):
            if connection.stage is Stage.AUTHENTICATING:
                connection.open()
                self._opened(connection, now)
        elif isinstance(entry, LoginRefused):
            connection.refuse_login(entry.reason)

    def _on_reply(self, connection: Connection, reply: Reply, now: float) -> None:
        """Settle a request. One without an id is the oldest of a caller's and a subscribe."""
        oldest = connection.replies.oldest
        if reply.request_id is not None or reply.error is None:
            connection.replies.received(reply)
            return
        asked = connection.asked.requests.oldest
        if oldest is not None and (asked is None or oldest < asked):
            reply.request_id = oldest
            connection.replies.received(reply)
            return
        reason = self._mask(reply.error)
        if not connection.asked.rejected(Rejection(reason), now):
            self._reports.refused(reason, now)

    def _on_gap(self, channel: str, gap: Gap) -> None:
        self._counters.missed += gap.missed or 0
        if gap.reason in LATE_OR_DUPLICATE:
            return
        self._counters.gaps += 1
        if self._output.wants(GapMarked):  # gaps are frequent
            self._output.notify_if_room(GapMarked, channel, gap)

    def _on_counted(self, connection: Connection, number: int, now: float) -> None:
        """Check the number of a frame; after a jump, suspect every channel of the connection.

        It is unknown which channel's frames are missing.
        """
        last = connection.counted(number)
        if last is not None:
            self._suspect_all(connection, "sequence")
            self._reports.jumped(last, number, now)

    def _suspect_all(self, connection: Connection, reason: str) -> None:
        """Note that messages of a connection may have been missed, of unknown channels."""
        members, id, carriers = connection.slot.channels, connection.id, self._wanted.carriers

        def may_carry(name: str) -> bool:
            return name in members and (id in (found := carriers(name)) or not found)

        self._channels.suspect_all(reason, id, may_carry)

    def _on_invalid(self, connection: Connection, entry: Invalid, now: float) -> None:
        self._counters.invalid += 1
        channel = None if entry.message is None else entry.message.channel
        if entry.message is not None:
            refused = entry.message
            merge = self._overlaps.get(refused.channel)
            if merge is None:
                self._channels.of(refused.channel).refused(refused)
            else:
                self._overlaps.released += self._overlaps.take(
                    merge, connection.id, refused, None, is_refused=True
                )
            self._upkeep.first_messages.heard(entry.message.channel)
        else:
            self._suspect_all(connection, "invalid")
        self._reports.invalid(entry.text, now, channel)
