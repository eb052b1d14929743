"""Turns the entries of a buffer into the records of a recording. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import groupby, repeat
from typing import Any

from msgspec import to_builtins

from wsclient.events import Event
from wsclient.messages import Arrival, Gap
from wsclient.recording.records import Answer, Happened, Kind, Lost, Record, SentFrame
from wsclient.recording.records import encode as encode_fitting
from wsclient.recording.tap import (
    Answered,
    Delivered,
    Happening,
    Missing,
    Opened,
    Ordinary,
    Outgoing,
    Passed,
    Read,
)
from wsclient.text import text_of
from wsclient.transport.masking import FrameMask

__all__ = ["Transcript"]

#: The most binary frames that are remembered while they may have to wait.
MAX_HELD = 1000
_OWN_FIELDS = {"connection_id", "number", "at"}


class _Pending:
    """The read of a connection whose frames are not all written. ``done`` of them are."""

    __slots__ = ("arrival", "at", "binary", "done", "payloads")

    def __init__(self, read: Read) -> None:
        self.arrival = read.arrival
        self.payloads = read.payloads
        self.binary = frozenset(read.binary)
        self.at = _at(read.arrival)
        self.done = 0


class Transcript:
    """Writes records with ``add(kind, topic, time, data)``, in the order of the entries.

    ``mask`` hides the client's secrets in a text. ``begun`` is the time of the first entry
    (monotonic ns). Used by one thread.
    """

    def __init__(
        self,
        add: Callable[[Kind, str, int, bytes], object],
        mask: Callable[[str], str],
        begun: int,
    ) -> None:
        self._add = add
        self._mask = mask
        self._begun = begun
        #: Hide also the login of a connection, by its id.
        self._masks: dict[int, FrameMask] = {}
        self._pending: dict[int, _Pending] = {}
        #: Binary frames of which nothing was delivered on arrival, by their id: the last few.
        self._binary: dict[int, bytes] = {}
        self.frames = self.messages = self.bytes = 0
        #: The time of the last record (ns since the epoch), None if there is none.
        self.last: int | None = None
        self._takers: dict[type, Callable[[Any], None]] = {
            Read: self._read,
            Ordinary: self._ordinary,
            Delivered: self._delivered,
            Passed: self._passed,
            Opened: self._opened,
            Outgoing: self._sent,
            Answered: self._answered,
            Happening: self._happened,
            Missing: self._missing,
        }

    def take(self, entry: Any) -> None:
        """Write the records of an entry."""
        self._takers[type(entry)](entry)

    def note(self, record: Record, time: int) -> None:
        """Write a record of the topic ``client``."""
        self._write("client", "client", time, encode(record))

    def end(self) -> None:
        """Write the frames that are left."""
        for pending in self._pending.values():
            self._pass(pending, len(pending.payloads))
        self._pending.clear()

    def _write(self, kind: Kind, topic: str, time: int, data: bytes) -> None:
        self._add(kind, topic if topic.isascii() else _writable(topic), time, data)
        self.last = time if self.last is None else max(self.last, time)

    # Frames.

    def _read(self, read: Read) -> None:
        connection_id = read.arrival.connection_id
        before = self._pending.get(connection_id)
        if before is not None:
            self._pass(before, len(before.payloads))
        self._pending[connection_id] = _Pending(read)
        self.frames += len(read.payloads)
        self.bytes += sum(map(len, read.payloads))

    def _passed(self, passed: Passed) -> None:
        pending = self._pending.get(passed.connection_id)
        if pending is not None:
            self._pass(pending, passed.done)

    def _pass(self, pending: _Pending, done: int) -> None:
        """Write the frames before ``done`` of which nothing was delivered."""
        connection_id, received_at = pending.arrival.connection_id, pending.arrival.received_at
        for index in range(pending.done, done):
            if index in pending.binary:
                self._keep_binary(pending.payloads[index])
            raw = self._hidden(connection_id, pending.payloads[index])
            data = encode((connection_id, pending.at, raw, (), index in pending.binary, False))
            self._write("frames", "frames", received_at, data)
        pending.done = max(pending.done, done)

    def _keep_binary(self, raw: bytes) -> None:
        """Remember a binary frame, whose messages may be delivered later."""
        self._binary[id(raw)] = raw
        if len(self._binary) > MAX_HELD:
            del self._binary[next(iter(self._binary))]

    def _ordinary(self, entry: Ordinary) -> None:
        arrival, raws, heads = entry.arrival, entry.raws, entry.heads
        connection_id, received_at, at = arrival.connection_id, arrival.received_at, _at(arrival)
        self.messages += len(heads)
        pending = self._pending.get(connection_id)
        is_known = pending is not None and pending.arrival is arrival
        if pending is not None and is_known:
            self._pass(pending, entry.begin)
            pending.done = max(pending.done, entry.done)
        binary = pending.binary if pending is not None and is_known else frozenset()
        links: Any = repeat(None) if entry.links is None else entry.links
        rows = zip(raws, heads, links, strict=False)
        if len(heads) > entry.done - entry.begin:  # a frame has several messages
            for index, group in enumerate(_by_frame(rows), entry.begin):
                parts = [_part(head, link) for _, head, link in group]
                self._frame(arrival, at, group[0][0], parts, is_binary=index in binary)
            return
        for index, (raw, (channel, kind, sequence, item), link) in enumerate(rows, entry.begin):
            part = (None, kind, sequence, item, None, *(link or (None, None)))
            data = encode((connection_id, at, raw, (part,), index in binary, False))
            self._write("channel", channel, received_at, data)

    def _delivered(self, entry: Delivered) -> None:
        self.messages += len(entry.heads)
        links: Any = repeat(None) if entry.links is None else entry.links
        raws = [head[5] for head in entry.heads]
        for group in _by_frame(zip(raws, entry.heads, links, strict=False)):
            raw, (_, kind, _, _, _, _, arrival), _ = group[0]
            parts = [_part(head, link) for _, head, link in group]
            if not raw and kind == "lost":  # the client has made them
                for part in parts:
                    self._frame(arrival, entry.moment.at, raw, [part], time=entry.moment.time)
                continue
            pending = self._pending.get(arrival.connection_id)
            index = None
            if pending is not None and pending.arrival is arrival:
                index = _index(pending.payloads, raw, pending.done)
            if pending is None or index is None:
                # It had to wait, unless it came before the recorder, or found no room.
                is_known = _at(arrival) >= self._begun
                is_binary = self._binary.get(id(raw)) is raw
                self._frame(
                    arrival, _at(arrival), raw, parts, is_binary=is_binary, is_repeated=is_known
                )
                continue
            self._pass(pending, index)
            self._frame(arrival, pending.at, raw, parts, is_binary=index in pending.binary)
            pending.done = index + 1

    def _frame(
        self,
        arrival: Arrival,
        at: int,
        raw: bytes,
        parts: list[tuple[Any, ...]],
        *,
        is_binary: bool = False,
        is_repeated: bool = False,
        time: int | None = None,
    ) -> None:
        channels = {part[0] for part in parts}
        kind: Kind = "frames"
        topic = "frames"
        if len(channels) == 1:
            kind, topic = "channel", channels.pop()
            parts = [(None, *part[1:]) for part in parts]
        data = encode((arrival.connection_id, at, raw, parts, is_binary, is_repeated))
        self._write(kind, topic, arrival.received_at if time is None else time, data)

    def _hidden(self, connection_id: int, raw: bytes) -> bytes:
        """Return a frame without secrets of ours that the venue has repeated."""
        text = raw.decode(errors="surrogateescape")
        hidden = self._mask_of(connection_id).known(text)
        return raw if hidden == text else hidden.encode(errors="surrogateescape")

    def _mask_of(self, connection_id: int) -> FrameMask:
        found = self._masks.get(connection_id)
        if found is None:
            found = self._masks[connection_id] = FrameMask(self._mask)
        return found

    # What else happens.

    def _opened(self, entry: Opened) -> None:
        for old in [key for key in self._masks if key not in self._pending]:
            del self._masks[old]
        self._mask_of(entry.connection_id).hide(entry.login)

    def _sent(self, entry: Outgoing) -> None:
        is_binary = isinstance(entry.payload, bytes)
        payload = entry.payload
        text = payload.decode(errors="surrogateescape") if isinstance(payload, bytes) else payload
        hidden = self._mask_of(entry.connection_id)(text)
        raw = hidden.encode(errors="surrogateescape" if is_binary else "replace")
        record = SentFrame(
            at=entry.moment.at,
            connection_id=entry.connection_id,
            payload=raw,
            is_binary=is_binary,
        )
        self.note(record, entry.moment.time)

    def _answered(self, entry: Answered) -> None:
        record = Answer(
            at=entry.moment.at,
            channel=entry.channel,
            connection_id=entry.connection_id,
            body=entry.body,
        )
        self.note(record, entry.moment.time)

    def _happened(self, entry: Happening) -> None:
        event = entry.event
        record = Happened(
            at=entry.moment.at,
            name=type(event).__name__,
            fields=self._fields(event),
            connection_id=event.connection_id,
            number=event.number,
            origin=entry.origin if entry.origin != event.connection_id else None,
        )
        self.note(record, event.at)

    def _fields(self, event: Event) -> dict[str, Any]:
        names = (f.name for f in fields(event) if f.name not in _OWN_FIELDS)
        return {name: self._plain(getattr(event, name)) for name in names}

    def _plain(self, value: Any) -> Any:
        if isinstance(value, BaseException):
            return f"{type(value).__name__}: {self._mask(text_of(value))}"
        if isinstance(value, Gap):
            return list(value)
        if isinstance(value, (tuple, list)):
            return [self._plain(found) for found in value]
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return self._mask(str(value))

    def _missing(self, entry: Missing) -> None:
        record = Lost(
            at=entry.moment.at,
            why="the disk was too slow",
            since=self.last,
            channels=dict(entry.channels),
            frames=entry.frames,
            is_unknown=entry.is_unknown,
        )
        self.note(record, entry.moment.time)


def encode(record: Any) -> bytes:
    """Return a record in MessagePack.

    It holds no number of more than 64 bits, None stands for one; and no half of a surrogate pair.
    """
    try:
        return encode_fitting(record)
    except (OverflowError, UnicodeEncodeError):
        return encode_fitting(_writable(to_builtins(record, builtin_types=(bytes,))))


def _writable(value: Any) -> Any:
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else None
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_writable(key): _writable(found) for key, found in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(found) for found in value]
    return value


def _at(arrival: Arrival) -> int:
    return 0 if arrival.read_at is None else round(arrival.read_at * 1e9)


def _part(head: Any, link: tuple[int | None, bool] | None) -> tuple[Any, ...]:
    gap = head[4] if len(head) > 4 else None
    return (*head[:4], None if gap is None else tuple(gap), *(link or (None, None)))


def _by_frame(rows: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield the rows in groups with the same payload."""
    for _, group in groupby(rows, lambda row: id(row[0])):
        yield list(group)


def _index(payloads: Sequence[bytes], raw: bytes, start: int) -> int | None:
    """Return where this very object is, from ``start`` on; None if it is not there."""
    for index in range(start, len(payloads)):
        if payloads[index] is raw:
            return index
    return None
