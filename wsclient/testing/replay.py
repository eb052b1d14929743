"""Recorded venue traffic: reading it, and playing it to whoever is subscribed."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, Literal

from wsclient.messages import Message
from wsclient.sansio.book import Book
from wsclient.sansio.dialect import Dialect

from .exchanges import PROTOCOLS
from .market import Depth
from .peer import Peer
from .protocols import MarketProtocol, Payload, ScriptedProtocol
from .venue import FakeVenue

Direction = Literal["received", "sent", "connected", "http"]


@dataclass(frozen=True)
class Recorded:
    """One line of a recording, as its client saw it.

    `http` is the reply to a GET of `uri`; `uri` is known of all but received messages. `time` is in
    nanoseconds: since the epoch, or of the recorder's own clock in a capture; None where the
    recording has none.
    """

    direction: Direction
    time: int | None
    payload: bytes
    uri: str | None = None


def read_recording(source: str | os.PathLike[str] | Iterable[str]) -> list[Recorded]:
    """All items of a recording: a file's path, or the lines of one. Three forms are known:

    - one received JSON payload a line;
    - a capture, `<time> <number of bytes>` and then the payload, below a line `CBCAP1 ...`;
    - cryptofeed's, where each line says what it is; binary payloads are Python bytes literals.

    ValueError, with the line, for anything else.
    """
    if isinstance(source, str | os.PathLike):
        content = Path(source).read_bytes()
    else:
        content = "\n".join(line.rstrip("\n") for line in source).encode()
    if content.startswith(b"CBCAP1 "):
        return list(_capture(content))
    lines = [line for line in content.split(b"\n") if line]
    if content[:1] in (b"{", b"["):
        return [Recorded("received", None, line) for line in lines]
    return [_cryptofeed(line) for line in lines]


def _capture(content: bytes) -> Iterator[Recorded]:
    position = content.index(b"\n") + 1
    while position < len(content):
        head, _, _ = content[position:].partition(b"\n")
        try:
            time, size = map(int, head.split())
        except ValueError:
            raise ValueError(f"not the head of a captured message: {head[:100]!r}") from None
        start = position + len(head) + 1
        yield Recorded("received", time, content[start : start + size])
        position = start + size + 1


_CRYPTOFEED = re.compile(rb"(?:(\S+) (<-|<->|->) )?(\d+(?:\.\d+)?)(?:: (.*))?", re.DOTALL)
_DIRECTIONS: dict[bytes, Direction] = {
    b"": "received",
    b"<-": "sent",
    b"<->": "connected",
    b"->": "http",
}


#: The program's decimal context may have fewer digits.
_CONTEXT = Context(prec=50, traps=[])


def _cryptofeed(line: bytes) -> Recorded:
    match = _CRYPTOFEED.fullmatch(line)
    if match is None:
        raise ValueError(f"not a line of a recording: {line[:100]!r}")
    uri, arrow, time, payload = match.groups(default=b"")
    if payload[:2] in (b"b'", b'b"'):
        payload = ast.literal_eval(payload.decode())
    nanoseconds = int(_CONTEXT.scaleb(Decimal(time.decode()), 9))
    return Recorded(_DIRECTIONS[arrow], nanoseconds, payload, uri.decode() or None)


class Replay(ScriptedProtocol):
    """A protocol that plays a recording, for `FakeVenue(protocol=Replay(path))`.

    `protocol` is what the recording speaks: a name, or a `MarketProtocol`; requests are answered by
    it, live. The recorded data and heartbeats are `lines`, of these `channels`. There is one
    `cursor` for all connections, as time goes on for a venue also while nobody listens: a line that
    no peer is subscribed to is skipped and counted in `missed`, unless `hold`: then `play` waits
    for a subscriber. Who subscribes to a book midway gets a snapshot of it after the ack, where the
    venue's books begin with a message.

    `faults` maps the index of a line to what is sent instead, None for nothing. The snapshots stay
    true to the recording.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Iterable[str],
        protocol: str | MarketProtocol = "kraken",
        *,
        hold: bool = False,
    ) -> None:
        made = PROTOCOLS[protocol]() if isinstance(protocol, str) else protocol
        if not isinstance(made, MarketProtocol):
            raise TypeError(f"no recording can be played with {made!r}")
        self.hold = hold
        self.faults: dict[int, str | None] = {}
        self.cursor = 0
        self.missed = 0
        self.lines: list[str] = []
        self._protocol = made
        self._times: list[int | None] = []
        #: What a client makes of each line; nothing of a heartbeat.
        self._messages: list[list[Message]] = []
        self._books: dict[str, Book] = {}
        for item in read_recording(source):
            messages = _messages(made.dialect, item.payload) if item.direction == "received" else []
            if messages or item.payload == made.heartbeat_payload:
                self.lines.append(item.payload.decode())
                self._times.append(item.time)
                self._messages.append(messages)
        self.channels = list(dict.fromkeys(m.channel for ms in self._messages for m in ms))

    def greeting(self, peer: Peer) -> Iterable[Payload]:
        return self._protocol.greeting(peer)

    def received(self, peer: Peer, payload: Payload) -> Iterable[Payload]:
        return self._protocol.received(peer, payload)

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        return self._protocol.data(channel, sequence, fields)

    @property
    def has_times(self) -> bool:
        """Whether the recording tells when each line came."""
        return None not in self._times

    def rewind(self) -> None:
        """Begin again with the first line."""
        self.cursor = 0
        self._books.clear()
        self._protocol.snapshots.clear()

    def play(
        self,
        venue: FakeVenue,
        count: int | None = None,
        *,
        pace: float = 0.0,
        speed: float | None = None,
        timeout: float = 5.0,
    ) -> int:
        """Send the next `count` lines, or all that are left; returns how many these were.

        `pace` is the time in seconds between two lines, or `speed` how many times as fast as they
        were recorded; closing the venue ends the play. One thread at a time may play. TimeoutError
        when a held line finds no subscriber in `timeout` seconds, ValueError for a `speed` without
        times.
        """
        if speed is not None and not self.has_times:
            raise ValueError("the recording does not tell when its lines came")
        first = self.cursor
        end = len(self.lines) if count is None else min(first + count, len(self.lines))
        start = time.monotonic()
        while self.cursor < end and not venue.closing.is_set():
            channels = {message.channel for message in self._messages[self.cursor]}
            if self.hold and channels:
                _wait_for_subscriber(venue, channels, timeout)
            self._send(venue, channels)
            if self.cursor < end:
                due = start + (self.cursor - first) * pace
                if speed is not None:
                    due = start + self._seconds(first, self.cursor) / speed
                if due > start:
                    venue.closing.wait(due - time.monotonic())
        return self.cursor - first

    def _seconds(self, start: int, end: int) -> float:
        """From one line to another, as recorded."""
        before, after = self._times[start], self._times[end]
        assert before is not None
        assert after is not None
        return (after - before) / 1e9

    def _send(self, venue: FakeVenue, channels: Collection[str]) -> None:
        # Under the lock, so that a subscriber gets each line once: in its snapshot or after it.
        with venue.lock:
            line = self.faults.get(self.cursor, self.lines[self.cursor])
            messages = self._messages[self.cursor]
            self.cursor += 1
            if channels and not any(map(venue.subscribers, channels)):
                self.missed += 1
            elif line is not None:
                venue.broadcast(line, *channels)
            for message in messages:
                self._follow(message)

    def _follow(self, message: Message) -> None:
        listed = self._protocol.listing(message.channel)
        if listed is None or listed[1] is not Depth:
            return
        update = self._protocol.dialect.book_update(message)
        if update is None:
            return
        channel = message.channel
        if update.is_snapshot:
            # Of some, no removal is told for a level that falls out of the subscribed depth, which
            # a snapshot shows.
            is_cut = self._protocol.dialect.book_depth({}) is not None
            depth = max(len(list(side)) for side in (update.bids, update.asks))
            self._books[channel] = Book(depth if is_cut else None)
        book = self._books.get(channel)
        if book is not None:
            book.apply(update)
            self._protocol.snapshots[channel] = functools.partial(
                self._snapshot, channel, message.sequence or 0, book
            )

    def _snapshot(self, channel: str, sequence: int, book: Book) -> Payload:
        sides = list(book.bids), list(book.asks)
        fields = self._protocol.fields(channel, Depth(*sides, sides), is_snapshot=True)
        return self._protocol.data(channel, sequence, fields)


def _messages(dialect: Dialect, payload: bytes) -> list[Message]:
    """The market data in a payload. ValueError for what the dialect cannot read."""
    peek = dialect.peek
    try:
        found = dialect.read(json.loads(payload)) if peek is None else peek(payload)
    except Exception as error:
        raise ValueError(f"not a message of {dialect.name}: {payload[:100]!r}") from error
    items = found if isinstance(found, list | tuple) else (found,)
    messages = [item for item in items if isinstance(item, Message)]
    for message in messages:
        message.raw = payload
    return messages


def _wait_for_subscriber(venue: FakeVenue, channels: Collection[str], timeout: float) -> None:
    venue.wait_for(
        lambda venue: any(map(venue.subscribers, channels)) or venue.closing.is_set(), timeout
    )
