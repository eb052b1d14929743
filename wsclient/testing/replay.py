"""Recorded venue traffic: read it, and replay it to all subscribers."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from wsclient.books.book import Book
from wsclient.dialect.base import Dialect
from wsclient.messages import Message
from wsclient.recording.lines import Recorded as Recorded
from wsclient.recording.lines import read_recording as read_recording
from wsclient.testing import venues
from wsclient.testing.market import Depth
from wsclient.testing.peer import Peer
from wsclient.testing.protocols import MarketProtocol, Payload, ScriptedProtocol
from wsclient.testing.venue import FakeVenue


class Replay(ScriptedProtocol):
    """A protocol that replays a recording, for `FakeVenue(protocol=Replay(path))`.

    `protocol`, a name or a `MarketProtocol`, is the protocol of the recording; it answers requests
    live. `lines` are the recorded data and heartbeats, `channels` the channels of them. All
    connections share one `cursor`, because the time of a venue goes on while nobody is subscribed.
    So a line that no peer is subscribed to is skipped and counted in `missed`; with `hold`, `play`
    waits for a subscriber instead. A peer that subscribes to a book midway gets a snapshot of it
    after the ack, if the venue's books begin with a message.

    `faults` maps the index of a line to what is sent instead, None for nothing. Snapshots are
    those of the recording, without these faults.

    Raises ValueError for a recording that cannot be read or replayed, TypeError for a protocol that
    cannot replay one.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Iterable[str],
        protocol: str | MarketProtocol = "kraken",
        *,
        hold: bool = False,
    ) -> None:
        made = venues.find(protocol)() if isinstance(protocol, str) else protocol
        if not isinstance(made, MarketProtocol):
            raise TypeError(f"cannot replay a recording with {made!r}: it is no MarketProtocol")
        if not made.has_recordings:
            name = made.dialect.name
            raise ValueError(f"cannot replay {name}: it numbers channels anew on each connection")
        self.hold = hold
        self.faults: dict[int, str | None] = {}
        self.cursor = 0
        self.missed = 0
        self.lines: list[str] = []
        self._protocol = made
        self.routes = made.routes
        self.default_route = made.default_route
        self.end = made.end
        self.too_fast = made.too_fast
        self.gateway_time = made.gateway_time
        self.answers_whole = made.answers_whole
        #: The messages that a client reads from each line; none from a heartbeat.
        self._messages: list[list[Message]] = []
        self._books: dict[str, Book] = {}
        times = []
        for item in read_recording(source):
            messages = _messages(made.dialect, item.payload) if item.direction == "received" else []
            if messages or item.payload == made.heartbeat_payload:
                self.lines.append(item.payload.decode())
                self._messages.append(messages)
                if item.time is not None:
                    times.append(item.time)
        self._times = times if len(times) == len(self.lines) else None
        self.channels = list(dict.fromkeys(m.channel for ms in self._messages for m in ms))

    def greeting(self, peer: Peer) -> Iterable[Payload]:
        return self._protocol.greeting(peer)

    def received(self, peer: Peer, payload: Payload) -> Iterable[Payload]:
        return self._protocol.received(peer, payload)

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        return self._protocol.data(channel, sequence, fields)

    def shutdown_notice(self, peer: Peer) -> Payload | None:
        return self._protocol.shutdown_notice(peer)

    @property
    def has_times(self) -> bool:
        """Whether the recording has the time of each line."""
        return self._times is not None

    def rewind(self) -> None:
        """Go back to the first line."""
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
        """Send the next `count` lines, or all that are left, and return their number.

        `pace` is the time (s) between two lines; `speed` instead plays them this many times as fast
        as they were recorded. Closing the venue ends the replay. One thread at a time may play.

        Raises TimeoutError if a held line finds no subscriber within `timeout` (s), ValueError for
        a `speed` if the recording has no times.
        """
        times = self._times
        if speed is not None and times is None:
            raise ValueError("speed cannot be set: the recording has no times of its lines")
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
                if speed is not None and times is not None:
                    due = start + (times[self.cursor] - times[first]) / 1e9 / speed
                if due > start:
                    venue.closing.wait(due - time.monotonic())
        return self.cursor - first

    def _send(self, venue: FakeVenue, channels: Collection[str]) -> None:
        # Under the lock, so a subscriber gets each line once: in its snapshot or after it.
        with venue.lock:
            line = self.faults.get(self.cursor, self.lines[self.cursor])
            messages = self._messages[self.cursor]
            self.cursor += 1
            if channels and not any(map(venue.subscribers, channels)):
                self.missed += 1
            elif line is not None:
                venue.broadcast(line, *channels)
            for message in messages:
                try:
                    self._follow(message)
                except Exception:  # noqa: BLE001 - a dialect may raise anything
                    # The client gets the line as recorded. The book is unknown until its next
                    # snapshot.
                    self._books.pop(message.channel, None)
                    self._protocol.snapshots.pop(message.channel, None)

    def _follow(self, message: Message) -> None:
        """Keep the book up to date from which a later subscriber gets its snapshot."""
        listed = self._protocol.listing(message.channel)
        if listed is None or listed[1] is not Depth:
            return
        form = self._protocol.dialect.book
        update = None if form is None else form.update(message)
        if form is None or update is None:
            return
        channel = message.channel
        if update.is_snapshot:
            # Some venues send no removal for a level that falls out of the subscribed depth. The
            # size of the snapshot shows this depth.
            is_cut = form.depth({}) is not None
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
    """Return the market data in a payload. Raises ValueError if the dialect cannot read it."""
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
