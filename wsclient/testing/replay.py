"""Recorded venue traffic: reading it, and playing it to whoever is subscribed."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec

from .peer import Peer
from .protocols import KrakenProtocol, Payload, encode
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


def _cryptofeed(line: bytes) -> Recorded:
    match = _CRYPTOFEED.fullmatch(line)
    if match is None:
        raise ValueError(f"not a line of a recording: {line[:100]!r}")
    uri, arrow, time, payload = match.groups(default=b"")
    if payload[:2] in (b"b'", b'b"'):
        payload = ast.literal_eval(payload.decode())
    nanoseconds = int(Decimal(time.decode()) * 10**9)
    return Recorded(_DIRECTIONS[arrow], nanoseconds, payload, uri.decode() or None)


class Replay:
    """A protocol that plays a Kraken v2 recording, for `FakeVenue(protocol=Replay(path))`.

    The recorded data and heartbeats are `lines`; requests are answered live. There is one `cursor`
    for all connections, as time goes on for a venue also while nobody listens: a line that no peer
    is subscribed to is skipped and counted in `missed`, unless `hold`: then `play` waits for a
    subscriber. Who subscribes to a book midway gets a snapshot of it after the ack.

    `faults` maps the index of a line to what is sent instead, None for nothing. The snapshots stay
    true to the recording.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Iterable[str],
        *,
        hold: bool = False,
        heartbeat: float | None = None,
    ) -> None:
        self.hold = hold
        self.faults: dict[int, str | None] = {}
        self.cursor = 0
        self.missed = 0
        self._kraken = KrakenProtocol(heartbeat=heartbeat)
        self._books: dict[str, _Book] = {}
        self.lines: list[str] = [
            item.payload.decode()
            for item in read_recording(source)
            if item.direction == "received"
            and self._kraken.channel_of(json.loads(item.payload)) not in (None, "status")
        ]

    def greeting(self, peer: Peer) -> Iterable[Payload]:
        return self._kraken.greeting(peer)

    def received(self, peer: Peer, payload: Payload) -> Iterable[Payload]:
        return self._kraken.received(peer, payload)

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        return self._kraken.data(channel, sequence, fields)

    def play(
        self,
        venue: FakeVenue,
        count: int | None = None,
        *,
        pace: float = 0.0,
        timeout: float = 5.0,
    ) -> int:
        """Send the next `count` lines, or all that are left; returns how many these were.

        `pace` is the time in seconds between two lines; closing the venue ends the play. One
        thread at a time may play. TimeoutError when a held line finds no subscriber in `timeout`
        seconds.
        """
        start = self.cursor
        end = len(self.lines) if count is None else min(start + count, len(self.lines))
        while self.cursor < end and not venue.closing.is_set():
            message = json.loads(self.lines[self.cursor], parse_float=str, parse_int=str)
            channel = self._kraken.channel_of(message)
            if channel == "heartbeat":
                channel = None  # goes to whoever is subscribed to anything
            elif self.hold:
                _wait_for_subscriber(venue, channel, timeout)
            self._send(venue, channel, message)
            if pace and self.cursor < end:
                venue.closing.wait(pace)
        return self.cursor - start

    def _send(self, venue: FakeVenue, channel: str | None, message: dict[str, Any]) -> None:
        # Under the lock, so that a subscriber gets each line once: in its snapshot or after it.
        with venue.lock:
            line = self.faults.get(self.cursor, self.lines[self.cursor])
            self.cursor += 1
            if channel is not None and not venue.subscribers(channel):
                self.missed += 1
            elif line is not None:
                venue.broadcast(line, channel)
            if channel is not None and message["channel"] == "book":
                self._follow(channel, message)

    def _follow(self, channel: str, message: dict[str, Any]) -> None:
        if message["type"] == "snapshot":
            self._books[channel] = _Book()
        if channel in self._books:
            book = self._books[channel]
            book.apply(message["data"][0])
            self._kraken.snapshots[channel] = book.snapshot()


def _wait_for_subscriber(venue: FakeVenue, channel: str | None, timeout: float) -> None:
    venue.wait_for(lambda venue: venue.subscribers(channel) or venue.closing.is_set(), timeout)


class _Book:
    """The state of a recorded book, its numbers in the wire's own text."""

    def __init__(self) -> None:
        self._sides: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}
        self._last: dict[str, Any] = {}
        self._depth = 0  # that of the subscription recorded, shown by the snapshot

    def apply(self, item: dict[str, Any]) -> None:
        self._last = item
        self._depth = self._depth or max(len(item["bids"]), len(item["asks"]))
        for name, side in self._sides.items():
            for level in item[name]:
                if Decimal(level["qty"]):
                    side[level["price"]] = level["qty"]
                else:
                    side.pop(level["price"], None)
            # Kraken does not tell when a level falls out of the subscribed depth.
            best = sorted(side, key=Decimal, reverse=name == "bids")[: self._depth]
            self._sides[name] = {price: side[price] for price in best}

    def snapshot(self) -> str:
        levels = {
            name: [{"price": _number(price), "qty": _number(qty)} for price, qty in side.items()]
            for name, side in self._sides.items()
        }
        item = {**self._last, **levels, "checksum": _number(self._last["checksum"])}
        return encode({"channel": "book", "type": "snapshot", "data": [item]})


def _number(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())
