"""Recordings made of the line forms in which the traffic of venues is recorded elsewhere.

The frames go through the same decoding and the same checks of sequence numbers as in a client, so
the messages of the recording have the gaps that a client would have marked.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from wsclient import dialects
from wsclient.dialect.base import Dialect
from wsclient.errors import ConfigurationError, InvalidMessage
from wsclient.messages import Message
from wsclient.recording.bookcheck import is_book
from wsclient.recording.filewriter import FileWriter
from wsclient.recording.folder import PART, SUFFIX
from wsclient.recording.lines import Recorded, begin_of_capture, is_tail, read_recording
from wsclient.recording.records import (
    Answer,
    ClientRecord,
    ClientState,
    End,
    Frame,
    Happened,
    Kind,
    SentFrame,
    encode,
    part_of,
)
from wsclient.sansio.names import Names
from wsclient.stream.channels import Channels
from wsclient.stream.envelope import Envelope
from wsclient.stream.inbound import Inbound
from wsclient.stream.incoming import Incoming, Invalid
from wsclient.stream.items import Ack, Counted

__all__ = ["Converted", "convert"]

#: The time (ns) between two frames of a file that has no times.
STEP = 1_000_000
#: When such a file begins if the venue's messages have no times either: 2000-01-01.
BEGIN = 946_684_800_000_000_000


@dataclass(frozen=True)
class Converted:
    """What :func:`convert` has written: the file, and its content.

    ``gaps`` is the number of messages with a gap. ``invalid`` is the number of frames that the
    dialect could not read: they are in the recording, without a message. ``skipped`` is the number
    of answers by REST that belong to no order book of the recording.
    """

    path: Path
    frames: int
    messages: int
    gaps: int
    invalid: int
    skipped: int


def convert(
    files: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    dialect: str | Dialect,
    *,
    name: str | None = None,
) -> Converted:
    """Convert files of one session into a recording in ``folder``.

    The forms are those of :func:`wsclient.testing.read_recording`: cryptofeed's lines (with their
    files of answers by REST), captures, and one payload per line; and the lines of ``wsclient tail
    --json``, whose gaps are kept as they are. Several files are merged by their times. A file
    without times gets the times of the venue, as far as its messages have any. ``name`` is that of
    the recording, by default the name of the first file.

    Converting the same files again makes a file of the same name, which raises FileExistsError.
    Raises ValueError for a file in no known form, ConfigurationError for an unknown dialect and
    for no file.
    """
    paths = [Path(file) for file in files]
    if not paths:
        raise ConfigurationError("convert needs at least one file")
    found = dialects.find(dialect)
    digest = hashlib.sha256(found.name.encode())
    sources: list[Iterable[_ConvertedItem]] = []
    for number, path in enumerate(paths):
        content = path.read_bytes()
        digest.update(content)
        try:
            sources.append(list(_steps(content, path, number, found)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    steps = list(heapq.merge(*sources, key=itemgetter(0)))
    begin = steps[0].time if steps else BEGIN
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    session = digest.hexdigest()[:32]
    at = datetime.fromtimestamp(begin // 10**9, timezone.utc)
    stem = f"{found.name}-{at:%Y%m%dT%H%M%SZ}-{session[:8]}-0001"
    done, part = target / f"{stem}{SUFFIX}", target / f"{stem}{PART}"
    if done.exists():
        raise FileExistsError(f"{done} exists already")
    metadata = {
        "version": "1",
        "session": session,
        "number": "1",
        "venue": found.name,
        "name": paths[0].name if name is None else name,
        "url": next((s.uri for s in steps if s.uri and s.kind == "connected"), ""),
        "options": "{}",
        "created": str(begin),
    }
    with part.open("xb") as file:
        try:
            written = _Written(FileWriter(file, metadata), begin)
            playing = _Playing(found, steps, written)
            playing.run()
            written.writer.finish()
        except BaseException:
            part.unlink()
            raise
    part.rename(done)
    return Converted(
        done, written.frames, written.messages, written.gaps, playing.invalid, playing.skipped
    )


class _ConvertedItem(NamedTuple):
    """One item of the files. ``source`` numbers the file, or is a connection of an envelope."""

    time: int
    kind: str
    source: tuple[int, int]
    payload: bytes
    uri: str = ""
    messages: Sequence[Message] = ()


def _steps(content: bytes, path: Path, number: int, dialect: Dialect) -> Iterator[_ConvertedItem]:
    first = content.partition(b"\n")[0]
    if is_tail(first):
        yield from _tail(content, number, dialect)
        return
    items = read_recording(path)
    begin, last = begin_of_capture(content), 0
    offset = begin - (items[0].time or 0) if begin is not None and items else 0
    times: Iterable[int | None] = (item.time for item in items)
    if any(item.time is None for item in items):
        times = _times_of_venue(items, dialect)
    for item, time in zip(items, times, strict=True):
        last = max(last, (time or 0) + offset)
        yield _ConvertedItem(last, item.direction, (number, 0), item.payload, item.uri or "")


def _times_of_venue(items: Sequence[Recorded], dialect: Dialect) -> list[int]:
    """Return a time for each item: that of the venue, or shortly after the item before."""
    inbound = Inbound(dialect)
    known: list[int | None] = []
    for item in items:
        entries = inbound.entries(inbound.batch([item.payload], False, 0, 1))
        sent = (entry.time for entry in entries if isinstance(entry, Message))
        known.append(next((time for time in sent if time is not None), None))
    ahead = next((i for i, time in enumerate(known) if time is not None), None)
    time = BEGIN if ahead is None else (known[ahead] or 0) - (ahead + 1) * STEP
    times = []
    for found in known:
        time = max(time + STEP, found or 0)
        times.append(time)
    return times


def _tail(content: bytes, number: int, dialect: Dialect) -> Iterator[_ConvertedItem]:
    """Yield a frame for each line, or for several that are messages of one frame."""
    messages: list[Message] = []
    for line in filter(None, content.split(b"\n")):
        try:
            message = Envelope.from_json(line).message(dialect)
        except InvalidMessage as error:
            raise ValueError(str(error)) from error
        if messages and not _is_same_frame(messages[-1], message):
            yield _tail_step(number, messages)
            messages = []
        messages.append(message)
    if messages:
        yield _tail_step(number, messages)


def _is_same_frame(last: Message, message: Message) -> bool:
    if last.item is None or message.item is None or message.item <= last.item:
        return False
    arrivals = [(m.connection_id, m.received_at, m.raw) for m in (last, message)]
    return arrivals[0] == arrivals[1]


def _tail_step(number: int, messages: Sequence[Message]) -> _ConvertedItem:
    first = messages[0]
    source = number, first.connection_id
    return _ConvertedItem(first.received_at, "messages", source, first.raw, "", messages)


class _Written:
    """Writes the records, and counts them."""

    def __init__(self, writer: FileWriter, begin: int) -> None:
        self.writer = writer
        self.time = begin
        self._begin = begin
        self.frames = self.messages = self.gaps = 0

    def frame(self, connection_id: int, raw: bytes, messages: Sequence[Message]) -> None:
        channels = {message.channel for message in messages}
        topic = channels.pop() if len(channels) == 1 else None
        self.frames += 1
        self.messages += len(messages)
        self.gaps += sum(message.gap is not None for message in messages)
        parts = [part_of(message, topic) for message in messages]
        record = Frame(connection_id, self.time - self._begin, raw, parts, not _is_text(raw))
        data = encode(record)
        if topic is None:
            self._add("frames", "frames", data)
        else:
            self._add("channel", topic, data)

    def note(self, record: ClientRecord) -> None:
        record.at = self.time - self._begin
        self._add("client", "client", encode(record))

    def event(self, name: str, connection_id: int = 0, **fields: Any) -> None:
        self.note(Happened(at=0, name=name, fields=fields, connection_id=connection_id))

    def _add(self, kind: Kind, topic: str, data: bytes) -> None:
        if self.writer.add(kind, topic, self.time, data):
            self.writer.end_chunk()


class _Playing:
    """Plays the steps as a client would receive them."""

    def __init__(
        self, dialect: Dialect, steps: Sequence[_ConvertedItem], written: _Written
    ) -> None:
        self._dialect = dialect
        self._steps = steps
        self._written = written
        self._inbound = Inbound(dialect)
        self._inbound.ahead = False
        self._channels = Channels(_is_kept)
        #: The present connection of each source, and how many there were.
        self._open: dict[tuple[int, int], int] = {}
        self._connections = 0
        self._names: dict[int, Names] = {}
        self._numbers: dict[int, int] = {}
        self._data_at: dict[int, int] = {}
        self.invalid = 0
        self.skipped = 0

    def run(self) -> None:
        written, begun = self._written, False
        books = self._books() if any(step.kind == "http" for step in self._steps) else {}
        last = {step.source: index for index, step in enumerate(self._steps)}
        written.note(ClientState(at=0, state="connecting"))
        for index, step in enumerate(self._steps):
            written.time = step.time
            if step.kind == "http":
                channels = books.get(step.uri, ())
                self.skipped += not channels
                for channel in channels:
                    latest = self._channels.of(channel).latest
                    on = 0 if latest is None else latest.connection_id
                    written.note(Answer(at=0, channel=channel, connection_id=on, body=step.payload))
                continue
            if step.kind == "connected" or step.source not in self._open:
                self._connect(step.source)
                if not begun:
                    written.event("StateChanged", state="open", why="connection 1")
                    begun = True
            on = self._open[step.source]
            if step.kind == "sent":
                record = SentFrame(at=0, connection_id=on, payload=step.payload)
                record.is_binary = not _is_text(step.payload)
                written.note(record)
            elif step.kind == "received":
                self._receive(on, step.payload)
            elif step.kind == "messages":
                for message in step.messages:
                    self._channels.of(message.channel).latest = message
                written.frame(on, step.payload, step.messages)
            if last[step.source] == index and index + 1 < len(self._steps):
                self._end(step.source)
        written.note(End(at=0))

    # Connections.

    def _connect(self, source: tuple[int, int]) -> None:
        self._end(source)
        self._connections += 1
        on = self._open[source] = self._connections
        self._names[on] = Names(_is_kept)
        self._written.event("Connected", on, attempt=1, route="")

    def _end(self, source: tuple[int, int]) -> None:
        on = self._open.pop(source, None)
        if on is None:
            return
        data_at = self._data_at.get(on)
        age = None if data_at is None else (self._written.time - data_at) / 1e9
        self._written.event(
            "Disconnected", on, why="the recording of it ends", reason="ended", code=1006,
            data_age=age,
        )  # fmt: skip
        self._channels.connection_lost(on)
        for channel in self._channels.by_name.values():
            if channel.latest is not None and channel.latest.connection_id == on:
                channel.suspect("reconnect")

    # Frames.

    def _receive(self, on: int, raw: bytes) -> None:
        time = self._written.time
        entries = self._inbound.entries(self._inbound.batch([raw], not _is_text(raw), time, on))
        messages = [message for entry in entries for message in self._taken(on, entry)]
        if messages:
            self._data_at[on] = time
        self._written.frame(on, raw, messages)
        for entry in entries:
            if isinstance(entry, Ack) and entry.channel is not None:
                is_end = entry.verb == "unsubscribe"
                if is_end:
                    self._written.event("Unsubscribed", on, channel=entry.channel, why="")
                else:
                    self._written.event("Subscribed", on, channels=[entry.channel])

    def _taken(self, on: int, entry: Incoming) -> Iterator[Message]:
        names = self._names[on]
        if names.channels:
            names.resolve(entry)
        if isinstance(entry, Message):
            self._channels.of(entry.channel).accept(entry)
            yield entry
        elif isinstance(entry, Ack):
            if entry.alias is not None and entry.channel is not None:
                names.add(entry.alias, entry.channel)
        elif isinstance(entry, Counted):
            last, self._numbers[on] = self._numbers.get(on), entry.sequence
            if last is not None and entry.sequence != last + 1:
                self._suspect(on, "sequence")
        elif isinstance(entry, Invalid):
            self.invalid += 1
            self._suspect(on, "invalid")

    def _suspect(self, on: int, reason: str) -> None:
        def is_of(name: str) -> bool:
            latest = self._channels.of(name).latest
            return latest is not None and latest.connection_id == on

        self._channels.suspect_all(reason, on, is_of)

    # Snapshots by REST.

    def _books(self) -> dict[str, list[str]]:
        """Return the channels of order books that the answer from each address belongs to."""
        form = self._dialect.book
        channels = self._channels_of_books() if form is not None else []
        found: dict[str, list[str]] = {}
        for uri in {step.uri for step in self._steps if step.kind == "http"}:
            split = urlsplit(uri)
            values = {value for _, value in parse_qsl(split.query)} | set(split.path.split("/"))
            for channel in channels:
                request = None if form is None else form.request(channel, {})
                if request is None:
                    continue
                texts = {*map(str, request.params.values()), *urlsplit(request.url).path.split("/")}
                # Limits, hosts and versions of the interface may differ.
                symbols = {text for text in texts if re.search("[A-Z]", text)}
                if symbols and symbols <= values:
                    found.setdefault(uri, []).append(channel)
        return found

    def _channels_of_books(self) -> list[str]:
        inbound, found = Inbound(self._dialect), dict[str, bool]()
        for step in self._steps:
            messages = step.messages
            if step.kind == "received":
                entries = inbound.entries(inbound.batch([step.payload], False, 0, 1))
                messages = [entry for entry in entries if isinstance(entry, Message)]
            for message in messages:
                if not found.get(message.channel):
                    found[message.channel] = is_book(self._dialect, message)
        return [channel for channel, has_book in found.items() if has_book]


def _is_kept(_channel: str) -> bool:
    """Return True: no channel is forgotten."""
    return True


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
