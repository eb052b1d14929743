"""Recorded venue traffic: read it as items or as messages, and what of it a replay sends."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

from wsclient import dialects
from wsclient.books.book import Book
from wsclient.dialect.base import Dialect
from wsclient.dialect.books import BookUpdate
from wsclient.errors import ConfigurationError
from wsclient.messages import Message
from wsclient.recording import lines
from wsclient.recording.lines import Recorded
from wsclient.recording.lines import is_tail as is_tail
from wsclient.sansio.names import Names
from wsclient.stream.inbound import Inbound
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import Ack
from wsclient.testing.frames import Payload, close_reason, is_close_code

__all__ = [
    "ItemReader",
    "RecordedBook",
    "RecordedCut",
    "RecordedLine",
    "Source",
    "Step",
    "is_recording",
    "messages_of",
    "read_recording",
    "steps_of",
    "venues_of",
]

#: A path of a file or a folder, a glob pattern, or the lines of a file.
Source: TypeAlias = str | os.PathLike[str] | Iterable[str]


def is_recording(source: Source) -> bool:
    """Return whether a source is a recording of wsclient: a folder, a file of it, or a glob."""
    if not isinstance(source, str | os.PathLike):
        return False
    path = Path(source)
    is_named = path.name.endswith((".mcap", ".mcap.part"))
    return path.is_dir() or is_named or (glob.has_magic(str(source)) and not path.is_file())


def read_recording(source: Source) -> list[Recorded]:
    """Return all items of a recording, in order.

    A recording of `client.record()` is given by its folder, by one of its files (`.mcap`,
    `.mcap.part`) or by a glob pattern. It has each frame once, also those that were not delivered.
    Of several recorders, the items are merged by their times. What is damaged is left out:
    `wsclient check` says what.

    Three other formats are known, given by the path of a file or by its lines:

    - one received JSON payload per line;
    - a capture: a line `CBCAP1 ...`, then `<time> <number of bytes>` before each payload;
    - that of cryptofeed, where each line says what it is and binary payloads are bytes literals.

    Raises ValueError, with the line, for anything else, and ConfigurationError (a ValueError too)
    if there is no recording.
    """
    if is_recording(source):
        return list(_items(source))
    return lines.read_recording(source)


def _items(source: Any) -> Iterator[Recorded]:
    # Imported lazily: they need the packages of the extra `record`.
    from wsclient.recording.folder import merged, recordings_of
    from wsclient.recording.records import Answer, Frame, Happened, SentFrame

    recordings, _ = recordings_of(source)
    for entry in merged(recordings):
        record, time, uri = entry.record, entry.time, entry.recording.url
        match record:
            case Frame(is_repeated=False, raw=raw) if raw:
                yield Recorded(
                    "received", time, raw, None, record.connection_id, record.is_binary
                )  # fmt: skip
            case SentFrame():
                on, payload = record.connection_id, record.payload
                yield Recorded("sent", time, payload, uri, on, record.is_binary)
            case Answer():
                yield Recorded("http", time, record.body, record.channel, record.connection_id)
            case Happened(name="Connected"):
                yield Recorded("connected", time, b"", uri, record.connection_id)
            case Happened(name="Disconnected"):
                why = str(record.fields.get("why", ""))
                yield Recorded("disconnected", time, why.encode(), uri, record.connection_id)


def messages_of(
    items: Iterable[Recorded], dialect: str | Dialect, *, decimal: bool = False
) -> list[Message]:
    """Return the messages in the received items of a recording.

    Each has its time as `received_at`, 0 without times, its `connection_id`, and the channel's own
    name where the venue uses an alias. There are no gaps, and the copies that another connection
    has brought are not left out: `wsclient.open_recording` gives what a client delivers.

    Raises ValueError for a frame that the dialect cannot read.
    """
    reader = ItemReader(dialects.find(dialect), decimal=decimal)
    return [message for item in items for message in reader.messages(item)]


class ItemReader:
    """Makes messages of the items of a recording, in order: see :func:`messages_of`."""

    def __init__(self, dialect: Dialect, *, decimal: bool = False) -> None:
        self._dialect = dialect
        self._inbound = Inbound(dialect, decimal=decimal)
        self._inbound.ahead = False
        self._names: dict[int, Names] = {}

    def messages(self, item: Recorded) -> list[Message]:
        """Return the messages of the next item; none if it was not received."""
        on = item.connection_id
        if item.direction == "connected":
            self._names.pop(on, None)
        if item.direction != "received":
            return []
        batch = self._inbound.batch([item.payload], item.is_binary, item.time or 0, on)
        messages = []
        for entry in self._inbound.entries(batch):
            names = self._names.get(on)
            if names is not None:
                names.resolve(entry)
            if isinstance(entry, Message):
                messages.append(entry)
            elif isinstance(entry, Invalid):
                raise ValueError(f"not a message of {self._dialect.name}: {item.payload[:100]!r}")
            elif isinstance(entry, Ack) and entry.alias is not None and entry.channel is not None:
                self._names.setdefault(on, Names(_is_wanted)).add(entry.alias, entry.channel)
        return messages


def _is_wanted(_channel: str) -> bool:
    return True


# What a replay sends.


@dataclass(frozen=True)
class RecordedLine:
    """A frame to be sent, with the messages of it that were delivered."""

    time: int | None
    payload: Payload
    messages: list[Message]


@dataclass(frozen=True)
class RecordedCut:
    """The end of a connection that carried these channels. `code` is None without a close frame."""

    time: int
    channels: list[str]
    code: int | None
    reason: str


@dataclass(frozen=True)
class RecordedBook:
    """The book of a channel as it was after its message number `sequence`."""

    channel: str
    sequence: int
    book: Book


Step: TypeAlias = RecordedLine | RecordedCut | RecordedBook

#: How many frames are remembered that may come again.
MAX_SENT = 10_000


def venues_of(source: Any) -> list[str]:
    """Return the dialects of the recordings in a source, by name."""
    from wsclient.recording.folder import recordings_of

    return list(dict.fromkeys(recording.venue for recording in recordings_of(source)[0]))


def steps_of(source: Any, dialect: Dialect, heartbeat: bytes | None) -> Iterator[Step]:
    """Yield what the venue did in the recordings of this dialect.

    Frames are those that were delivered, once each, and heartbeats. Raises ConfigurationError if
    no recording is of this dialect.
    """
    from wsclient.recording.folder import merged, recordings_of

    every = recordings_of(source)[0]
    recordings = [recording for recording in every if recording.venue == dialect.name]
    if every and not recordings:
        names = ", ".join(sorted({recording.venue for recording in every}))
        raise ConfigurationError(f"it is a recording of {names}")
    players = {id(recording): _Player(recording, dialect, heartbeat) for recording in recordings}
    for entry in merged(recordings):
        yield from players[id(entry.recording)].steps(entry)


class _Player:
    """Makes the steps of one recording."""

    def __init__(self, recording: Any, dialect: Dialect, heartbeat: bytes | None) -> None:
        from wsclient.recording.restoring import Restorer

        self._dialect = dialect
        self._heartbeat = heartbeat
        self._restorer = Restorer(recording, dialect)
        #: The connection that brought the last message of each channel.
        self._carriers: dict[str, int] = {}
        #: The last frames that may come again, as another part of them was delivered later.
        self._sent: dict[tuple[int, int, bytes], None] = {}
        #: The messages of each channel since the last state record, to bring books up to date.
        self._recent: dict[str, list[Message]] = {}

    def steps(self, entry: Any) -> Iterator[Step]:
        from wsclient.recording.records import BookSnapshot, ClientState, Frame, Happened, Lost

        record, messages = entry.record, self._restorer.messages(entry)
        match record:
            case Frame():
                yield from self._frame(entry, record, messages)
            case Happened(name="Disconnected"):
                yield from self._disconnected(entry.time, record.connection_id, record.fields)
            case Lost():
                channels = list(self._carriers if record.is_unknown else record.channels)
                if channels:
                    why = f"the recording misses messages here: {record.why}"
                    yield RecordedCut(entry.time, channels, 1012, close_reason(why))
            case ClientState():
                self._recent.clear()
            case BookSnapshot():
                yield from self._book(record)

    def _frame(self, entry: Any, frame: Any, messages: list[Message]) -> Iterator[Step]:
        for message in messages:
            self._carriers[message.channel] = frame.connection_id
            self._recent.setdefault(message.channel, []).append(message)
        if not frame.raw or not (messages or frame.raw == self._heartbeat):
            return
        if frame.is_repeated or (entry.kind == "frames" and messages):
            key = frame.connection_id, entry.time, frame.raw
            if key in self._sent:
                return
            self._sent[key] = None
            if len(self._sent) > MAX_SENT:
                del self._sent[next(iter(self._sent))]
        payload: Payload = frame.raw if frame.is_binary else frame.raw.decode(errors="replace")
        yield RecordedLine(entry.time, payload, messages)

    def _disconnected(self, time: int, on: int, fields: dict[str, Any]) -> Iterator[Step]:
        channels = [name for name, carrier in self._carriers.items() if carrier == on]
        if fields.get("reason") == "rotated" or not channels:
            return
        code = fields.get("code")
        why = close_reason(str(fields.get("why", "")))
        yield RecordedCut(time, channels, code if is_close_code(code) else None, why)

    def _book(self, record: Any) -> Iterator[Step]:
        form = self._dialect.book
        if form is None or record.sequence is None:
            return
        book = Book(form.depth(record.options))
        book.apply(BookUpdate(True, _levels(record.bids), _levels(record.asks)))
        sequence = record.sequence
        try:
            for message in self._recent.get(record.channel, ()):
                if message.received_at > (record.received_at or 0):
                    update = form.update(message)
                    if update is not None:
                        book.apply(update)
                        sequence = message.sequence or sequence
        except Exception:  # noqa: BLE001 - a dialect may raise anything; the stream has a snapshot
            return
        yield RecordedBook(record.channel, sequence, book)


def _levels(side: Iterable[tuple[str, str]]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(price), Decimal(size)) for price, size in side]
