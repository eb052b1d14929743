"""The messages of a recording, made of its records as the client delivered them."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator

from wsclient import dialects
from wsclient.dialect.base import Dialect
from wsclient.messages import Arrival, Decoder, Gap, Message
from wsclient.recording.folder import RecordedEntry, Recording
from wsclient.recording.records import Frame, Lost, message_of
from wsclient.stream.inbound import Inbound

__all__ = ["LostGaps", "Restorer"]


class Restorer:
    """Makes the messages of one recording again.

    They have the times, the connection, the gaps, the ``data`` and the plain views that they had in
    the client. What the recorder has lost is a gap with the reason ``recorder`` on the next message
    of each channel concerned, merged with the gap that it had.

    ``dialect`` is a name or an object, None for the dialect of the recording. ``decimal`` is the
    option of a client; ``decoder`` is used instead of one made of the dialect. Raises
    ConfigurationError if the dialect cannot be found. For one pass over the records, in order.
    """

    def __init__(
        self,
        recording: Recording,
        dialect: str | Dialect | None = None,
        *,
        decimal: bool = False,
        decoder: Decoder | None = None,
    ) -> None:
        self.recording = recording
        self.dialect = dialects.find(recording.venue if dialect is None else dialect)
        self.decoder = Inbound(self.dialect, decimal=decimal) if decoder is None else decoder
        self.lost = LostGaps()
        #: When the last message of each channel was received.
        self.received_at: dict[str, int] = {}

    def read(
        self,
        start: int | None = None,
        end: int | None = None,
        channels: Collection[str] | None = None,
    ) -> Iterator[tuple[RecordedEntry, list[Message]]]:
        """Yield the records as :meth:`Recording.read` does, each with its messages.

        With ``channels``, only messages of these.
        """
        for entry in self.recording.read(start, end, channels):
            yield entry, self.messages(entry, channels)

    def messages(
        self, entry: RecordedEntry, channels: Container[str] | None = None
    ) -> list[Message]:
        """Return the messages of the next record; none if it is no frame."""
        record = entry.record
        if not isinstance(record, Frame):
            if isinstance(record, Lost):
                self.lost.add(record)
            return []
        if not record.parts:
            return []
        topic = entry.topic if entry.kind == "channel" else None
        return self.of_frame(record, topic, entry.time, channels)

    def of_frame(
        self,
        frame: Frame,
        topic: str | None,
        time: int,
        channels: Container[str] | None = None,
        read_at: float | None = None,
    ) -> list[Message]:
        """Return the messages of the next frame, received at ``time`` (ns since the epoch).

        ``topic`` is the channel of its topic, ``read_at`` the same moment in monotonic s.
        """
        arrival = Arrival(time, frame.connection_id, self.decoder, read_at)
        if not frame.raw:  # the client has made the message itself
            arrival = Arrival(time, frame.connection_id, None)
        found = []
        for part in frame.parts:
            message = message_of(part, topic, frame.raw)
            name = message.channel
            if channels is not None and name not in channels:
                continue
            lost = self.lost.take(name) if self.lost.is_any else None
            if lost is not None:
                lost = lost._replace(since=self.received_at.get(name, lost.since))
                message.gap = lost.merge(message.gap)
            message.arrival = arrival
            message.previous_at = self.received_at.get(name)
            self.received_at[name] = time
            found.append(message)
        return found


class LostGaps:
    """What the recorder has lost, until the next message of each channel."""

    def __init__(self) -> None:
        self._counted: dict[str, Gap] = {}
        #: The gap of every channel that is not among ``_done``; None if there is none.
        self._unknown: Gap | None = None
        self._done: set[str] = set()

    @property
    def is_any(self) -> bool:
        """Whether any channel may have a gap."""
        return bool(self._counted) or self._unknown is not None

    def add(self, lost: Lost) -> None:
        """Add what a record says."""
        for channel, missed in lost.channels.items():
            self._add(channel, Gap("recorder", missed, lost.since))
        if lost.is_unknown:
            self._unknown = Gap("recorder", None, lost.since)
            self._done.clear()

    def _add(self, channel: str, gap: Gap) -> None:
        before = self._counted.get(channel)
        self._counted[channel] = gap if before is None else before.merge(gap)

    def take(self, channel: str) -> Gap | None:
        """Return the gap before the next message of a channel, and forget it."""
        gap = self._counted.pop(channel, None)
        if self._unknown is not None and channel not in self._done:
            self._done.add(channel)
            gap = self._unknown if gap is None else self._unknown.merge(gap)
        return gap
