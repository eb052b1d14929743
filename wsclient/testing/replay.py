"""Recorded venue traffic: read it, and replay it to all subscribers."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from wsclient.books.book import Book
from wsclient.messages import Message
from wsclient.recording.lines import Recorded as Recorded
from wsclient.testing import venues
from wsclient.testing.accounts import Account, OrderChange
from wsclient.testing.market import Depth
from wsclient.testing.peer import Peer
from wsclient.testing.protocols import MarketProtocol, Payload, ScriptedProtocol
from wsclient.testing.recordings import (
    ItemReader,
    RecordedBook,
    RecordedCut,
    RecordedLine,
    Source,
    Step,
    is_recording,
    steps_of,
)
from wsclient.testing.recordings import read_recording as read_recording
from wsclient.testing.restcalls import RestCall
from wsclient.testing.venue import FakeVenue

#: How long (s) a replay waits for the clients that it has disconnected.
RETURN_WITHIN = 10.0
#: How long (s) a client may take to read what was sent before its connection ends.
READ_WITHIN = 60.0


class Replay(ScriptedProtocol):
    """A protocol that replays a recording, for `FakeVenue(protocol=Replay(path))`.

    `protocol`, a name or a `MarketProtocol`, is the protocol of the recording; it answers requests
    live. `lines` are the recorded data and heartbeats, `channels` the channels of them. All
    connections share one `cursor`, because the time of a venue goes on while nobody is subscribed.
    So a line that no peer is subscribed to is skipped and counted in `missed`; with `hold`, `play`
    waits for a subscriber instead. A peer that subscribes to a book midway gets a snapshot of it
    after the ack, if the venue's books begin with a message.

    A recording of `client.record()` has all that was delivered, once. Where it says that a
    connection has ended, the connections of its channels are closed, with the recorded code if
    there was a close frame; `play` then waits for these clients. The same goes for what the
    recorder has lost. A connection that another had replaced before it ended is none of these.

    `faults` maps the index of a line to what is sent instead, None for nothing. Snapshots are
    those of the recording, without these faults.

    Raises ValueError for a recording that cannot be read or replayed, TypeError for a protocol that
    cannot replay one.
    """

    def __init__(
        self,
        source: Source,
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
        self.faults: dict[int, Payload | None] = {}
        self.cursor = 0
        self.missed = 0
        self.lines: list[Payload] = []
        self._protocol = made
        self.routes = made.routes
        self.default_route = made.default_route
        self.end = made.end
        self.too_fast = made.too_fast
        self.gateway_time = made.gateway_time
        self.answers_whole = made.answers_whole
        self.credential_fields = made.credential_fields
        #: The messages that a client reads from each line; none from a heartbeat.
        self._messages: list[list[Message]] = []
        self._books: dict[str, Book] = {}
        #: What happens before each line, by its index.
        self._before: dict[int, list[RecordedCut | RecordedBook]] = {}
        #: The first line before which it has not happened yet.
        self._ahead = 0
        times = []
        for step in self._steps(source):
            if not isinstance(step, RecordedLine):
                self._before.setdefault(len(self.lines), []).append(step)
                continue
            self.lines.append(step.payload)
            self._messages.append(step.messages)
            if step.time is not None:
                times.append(step.time)
        self._times = times if len(times) == len(self.lines) else None
        self.channels = list(dict.fromkeys(m.channel for ms in self._messages for m in ms))

    def _steps(self, source: Source) -> Iterable[Step]:
        made = self._protocol
        if is_recording(source):
            yield from steps_of(source, made.dialect, made.heartbeat_payload)
            return
        reader = ItemReader(made.dialect)
        for item in read_recording(source):
            found = reader.messages(item)
            if found or item.payload == made.heartbeat_payload:
                yield RecordedLine(item.time, item.payload.decode(), found)

    def greeting(self, peer: Peer) -> Iterable[Payload]:
        return self._protocol.greeting(peer)

    def received(self, peer: Peer, payload: Payload) -> Iterable[Payload]:
        return self._protocol.received(peer, payload)

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        return self._protocol.data(channel, sequence, fields)

    def shutdown_notice(self, peer: Peer) -> Payload | None:
        return self._protocol.shutdown_notice(peer)

    def rest(self, call: RestCall, accounts: Sequence[Account]) -> bytes | None:
        return self._protocol.rest(call, accounts)

    def is_private(self, channel: str) -> bool:
        return self._protocol.is_private(channel)

    def news(
        self, account: Account, change: OrderChange
    ) -> Iterable[tuple[str, Payload | Mapping[str, Any]]]:
        return self._protocol.news(account, change)

    def pair(self, symbol: str) -> tuple[str, str] | None:
        return self._protocol.pair(symbol)

    @property
    def has_times(self) -> bool:
        """Whether the recording has the time of each line."""
        return self._times is not None

    def rewind(self) -> None:
        """Go back to the first line."""
        self.cursor = self._ahead = 0
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

        def due(at: int | None, number: int) -> float:
            """Return when something recorded `at` happens, or else the line after `number`."""
            if speed is not None and times is not None and at is not None:
                return start + (at - times[first]) / 1e9 / speed
            return start + number * pace

        while not venue.closing.is_set():
            if self.cursor >= end and end < len(self.lines):
                break
            if self.cursor >= self._ahead:
                self._ahead = self.cursor + 1
                for step in self._before.get(self.cursor, ()):
                    if isinstance(step, RecordedBook):
                        self._take(venue, step)
                    else:
                        _wait_until(venue, due(step.time, self.cursor - first))
                        start += self._cut(venue, step)
            if self.cursor >= end:
                break
            at = None if times is None else times[self.cursor]
            _wait_until(venue, due(at, self.cursor - first))
            if venue.closing.is_set():
                break
            channels = {message.channel for message in self._messages[self.cursor]}
            if self.hold and channels:
                _wait_for_subscriber(venue, channels, timeout)
            self._send(venue, channels)
        return self.cursor - first

    def _take(self, venue: FakeVenue, found: RecordedBook) -> None:
        """Take a recorded book, unless the replay has had its snapshot."""
        with venue.lock:
            if found.channel not in self._books:
                self._books[found.channel] = found.book
                self._offer(found.channel, found.sequence, found.book)

    def _cut(self, venue: FakeVenue, cut: RecordedCut) -> float:
        """End the connections of some channels, and wait until they are back.

        Return how long (s) it took.
        """
        start = time.monotonic()
        peers = venue.subscribers(*cut.channels)
        for peer in peers:
            drain(venue, [peer])
            with contextlib.suppress(ConnectionError):
                if cut.code is None:
                    peer.fin()
                else:
                    peer.close(cut.code, cut.reason)
        if peers:
            with contextlib.suppress(TimeoutError):
                _wait_for_subscriber(venue, cut.channels, RETURN_WITHIN)
        return time.monotonic() - start

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
        channel = message.channel
        listed = self._protocol.listing(self._name(channel))
        if listed is None or listed[1] is not Depth:
            return
        form = self._protocol.dialect.book
        update = None if form is None else form.update(message)
        if form is None or update is None:
            return
        if update.is_snapshot:
            # Some venues send no removal for a level that falls out of the subscribed depth. The
            # size of the snapshot shows this depth.
            is_cut = form.depth({}) is not None
            depth = max(len(list(side)) for side in (update.bids, update.asks))
            self._books[channel] = Book(depth if is_cut else None)
        book = self._books.get(channel)
        if book is not None:
            book.apply(update)
            self._offer(channel, message.sequence or 0, book)

    def _offer(self, channel: str, sequence: int, book: Book) -> None:
        self._protocol.snapshots[channel] = functools.partial(
            self._snapshot, self._name(channel), sequence, book
        )

    def _name(self, channel: str) -> str:
        """Return the name of a channel without its route."""
        route, _, name = channel.partition(":")
        return name if route in self.routes and name else channel

    def _snapshot(self, channel: str, sequence: int, book: Book) -> Payload:
        sides = list(book.bids), list(book.asks)
        fields = self._protocol.fields(channel, Depth(*sides, sides), is_snapshot=True)
        return self._protocol.data(channel, sequence, fields)


def _wait_for_subscriber(venue: FakeVenue, channels: Collection[str], timeout: float) -> None:
    venue.wait_for(
        lambda venue: any(map(venue.subscribers, channels)) or venue.closing.is_set(), timeout
    )


def _wait_until(venue: FakeVenue, due: float) -> None:
    left = due - time.monotonic()
    if left > 0:
        venue.closing.wait(left)


def drain(venue: FakeVenue, peers: Iterable[Peer]) -> None:
    """Wait until these clients have read what was sent to them."""
    deadline = time.monotonic() + READ_WITHIN
    for peer in peers:
        while peer.live and peer.backlog and time.monotonic() < deadline:
            if venue.closing.wait(0.01):
                return
