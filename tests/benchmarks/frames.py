"""Kinds of messages as the feed sends them: the same bytes for all clients, with true numbers.

A kind is a cycle of frames per channel, made once as templates, of which only the numbers change.
"""

from __future__ import annotations

import itertools
import random
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

#: The first number of each channel; large, so that its width does not change.
FIRST = 1_000_000_001
#: The least size (bytes) of what the feed sends at once.
CHUNK = 256 * 1024

_BASES = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOT")
_MARK = re.compile(rb'"#(\d+)#(t?)"')


def number(offset: int = 0) -> str:
    """Return the place of an integer: the number of the message's frame plus ``offset``."""
    return f"#{offset}#"


def text(offset: int = 0) -> str:
    """Return the place of such a number in quotes."""
    return f"#{offset}#t"


def symbol_base(index: int) -> str:
    return _BASES[index] if index < len(_BASES) else f"{index:03}"


class Place(NamedTuple):
    """A channel, the venue's symbol, the channel's position, and what makes its contents."""

    channel: str
    symbol: str
    position: int
    dice: random.Random

    def price(self) -> str:
        return f"{self.dice.uniform(42_000, 43_000):.2f}"

    def size(self) -> str:
        return f"{self.dice.uniform(0.1, 9.9):.8f}"

    def side(self) -> str:
        return self.dice.choice(("buy", "sell"))


@dataclass(frozen=True)
class Kind:
    """One kind of message of one venue.

    ``channel`` and ``symbol`` are patterns; ``frames`` returns the cycle of a channel, ``opening``
    what the venue sends first, and ``rest`` the venue's snapshot of a book by REST. ``step`` is the
    distance of the numbers of two messages. With ``per_connection`` the frames of all channels are
    counted together. A frame has ``items`` messages.
    """

    dialect: str
    name: str
    what: str
    channel: str
    symbol: str
    frames: Callable[[Place], list[Any]]
    opening: Callable[[Place], list[Any]] | None = None
    rest: Callable[[Place], Any] | None = None
    step: int = 1
    per_connection: bool = False
    items: int = 1
    route: str = ""

    def __str__(self) -> str:
        return f"{self.dialect} {self.name}"

    def place(self, index: int) -> Place:
        symbol = self.symbol.format(symbol_base(index))
        in_channel = symbol.lower() if "@" in self.channel else symbol
        return Place(
            self.channel.format(in_channel), symbol, index, random.Random(f"{self}/{index}")
        )

    def channels(self, count: int) -> list[str]:
        return [self.place(index).channel for index in range(count)]


class Template(NamedTuple):
    """A frame without its numbers: ``frame % tuple(start + offset for offset in offsets)``."""

    frame: bytes
    offsets: tuple[int, ...]

    def fill(self, start: int) -> bytes:
        return self.frame % tuple([start + offset for offset in self.offsets])


def template(content: Any, *, is_framed: bool = True) -> Template:
    """Return a frame, or a payload, with places for its numbers."""
    payload = msgspec.json.encode(content)
    if b"%" in payload:
        raise ValueError("a payload must not contain %")
    offsets = tuple(int(mark[1]) for mark in _MARK.finditer(payload))
    payload = _MARK.sub(lambda mark: b'"%d"' if mark[2] else b"%d", payload)
    found = Template(payload, offsets)
    if not is_framed:
        return found
    head = header(len(found.fill(FIRST))).replace(b"%", b"%%")
    return Template(head + payload, offsets)


def header(length: int) -> bytes:
    """Return the header of an unmasked, final TEXT frame."""
    if length < 126:
        return struct.pack("!BB", 0x81, length)
    if length < 2**16:
        return struct.pack("!BBH", 0x81, 126, length)
    return struct.pack("!BBQ", 0x81, 127, length)


class Stream:
    """The frames of one kind on some channels, which take turns.

    The venue begins with the ``openings``, such as snapshots of books.
    """

    def __init__(self, kind: Kind, channels: int) -> None:
        self.kind = kind
        self._places = [kind.place(index) for index in range(channels)]
        self._cycles = [[template(each) for each in kind.frames(place)] for place in self._places]
        self.openings: list[bytes] = []
        if kind.opening is not None:
            self.openings = [
                template(each).fill(self._start(index - channels))
                for index, place in enumerate(self._places)
                for each in kind.opening(place)
            ]
        #: The chunks made so far, and the number of their frames.
        self._chunks: list[tuple[bytes, list[int]]] = []
        self._made = 0

    @property
    def channels(self) -> list[str]:
        return [place.channel for place in self._places]

    @property
    def length(self) -> float:
        """The mean length (bytes) of a payload."""
        frames = [t.fill(FIRST) for cycle in self._cycles for t in cycle]
        return sum(len(payload_of(frame)) for frame in frames) / len(frames)

    @property
    def cycle(self) -> int:
        """The number of frames after which contents repeat."""
        return len(self._cycles) * len(self._cycles[0])

    def frames_length(self, count: int) -> int:
        """Return the length (bytes) of the openings and of the first ``count`` frames."""
        turns, rest = divmod(count, self.cycle)
        lengths = [len(self._template(n).fill(FIRST)) for n in range(self.cycle)]
        return sum(map(len, self.openings)) + turns * sum(lengths) + sum(lengths[:rest])

    def frame(self, n: int) -> bytes:
        """Return frame number ``n``, from 0, after the openings."""
        return self._template(n).fill(self._start(n))

    def _template(self, n: int) -> Template:
        cycle = self._cycles[n % len(self._cycles)]
        return cycle[n // len(self._cycles) % len(cycle)]

    def payload(self, n: int) -> bytes:
        return payload_of(self.frame(n))

    def _start(self, n: int) -> int:
        """Return the number that the offsets of frame ``n`` are added to."""
        if self.kind.per_connection:
            return FIRST + len(self._places) + n
        return FIRST + self.kind.step * (n // len(self._places))

    def rest(self, symbol: str) -> bytes:
        """Return the venue's answer by REST: the snapshot before the first update."""
        place = next(place for place in self._places if place.symbol == symbol)
        assert self.kind.rest is not None
        return template(self.kind.rest(place), is_framed=False).fill(self._start(-1))

    def prepare(self, count: int) -> None:
        """Make ``count`` frames, which :meth:`chunks` then only has to hand out."""
        if self._made >= count:
            return
        # All frames of a cycle at once: each of its numbers rises by the same from one to the next.
        places = [self._template(n) for n in range(self.cycle)]
        whole = b"".join(place.frame for place in places)
        numbers = [self._start(n) + o for n, place in enumerate(places) for o in place.offsets]
        lengths = [len(place.fill(FIRST)) for place in places]
        ends = list(itertools.accumulate(lengths))
        cycles = CHUNK // ends[-1] + 1
        all_ends = [start * ends[-1] + end for start in range(cycles) for end in ends]
        while self._made < count:
            pieces = []
            for _ in range(cycles):
                rise = self._start(self._made) - self._start(0)
                pieces.append(whole % tuple([number + rise for number in numbers]))
                self._made += self.cycle
            self._chunks.append((b"".join(pieces), all_ends))

    def chunks(self, count: int) -> Iterator[bytes]:
        """Yield ``count`` frames, in order, in pieces of about CHUNK. They are kept for later."""
        self.prepare(count)
        for chunk, ends in self._chunks:
            if count <= len(ends):
                yield chunk[: ends[count - 1]] if count else b""
                return
            yield chunk
            count -= len(ends)


def payload_of(frame: bytes) -> bytes:
    length = frame[1] & 0x7F
    return frame[{126: 4, 127: 10}.get(length, 2) :]
