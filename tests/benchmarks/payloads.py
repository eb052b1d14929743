"""The messages that the feed sends and the clients decode: a ticker and an order book."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

#: Of equal length, so that all frames of a size are of equal length too.
CHANNELS = ("ticker:BTC/USD", "ticker:ETH/USD", "ticker:SOL/USD", "ticker:XRP/USD")
#: The first sequence of each channel; large, so that its width does not change.
FIRST_SEQUENCE = 100_000_001
#: The number of different contents per channel, sent by turns.
VARIANTS = 8


class Ticker(msgspec.Struct):
    """The small message, typed."""

    type: str
    channel: str
    sequence: int
    sent: int
    bid: float
    bid_qty: float
    ask: float
    ask_qty: float
    last: float
    volume: float
    vwap: float
    venue: str


class Book(msgspec.Struct):
    """The big message, typed."""

    type: str
    channel: str
    sequence: int
    sent: int
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]
    venue: str


@dataclass(frozen=True)
class Size:
    """One kind of message: its payload's length (bytes), and how many the feed has of it."""

    name: str
    length: int
    available: int
    typed: type[msgspec.Struct]

    @property
    def frame_length(self) -> int:
        return self.length + 4  # the header of an unmasked frame of 126 bytes to 64 KiB

    @property
    def frames_a_chunk(self) -> int:
        """Return the frames per send of about 256 KiB, in whole rounds of the channels."""
        return 256 * 1024 // self.frame_length // len(CHANNELS) * len(CHANNELS)


SIZES = {
    "small": Size("small", 222, 600_000, Ticker),
    "big": Size("big", 2241, 120_000, Book),
}

Halves = tuple[bytes, bytes, bytes]


def _quantity(dice: random.Random) -> str:
    return f"{dice.uniform(0.1, 9.9):.6f}"


def _ticker_fields(dice: random.Random) -> str:
    bid, ask, last, vwap = (f"{dice.uniform(60_000, 61_000):.1f}" for _ in range(4))
    return (
        f'"bid":{bid},"bid_qty":{_quantity(dice)},"ask":{ask},"ask_qty":{_quantity(dice)},'
        f'"last":{last},"volume":{dice.uniform(1000, 9999):.2f},"vwap":{vwap}'
    )


def _book_fields(dice: random.Random) -> str:
    def side() -> str:
        levels = (f"[{dice.uniform(60_000, 61_000):.1f},{_quantity(dice)}]" for _ in range(53))
        return f"[{','.join(levels)}]"

    return f'"bids":{side()},"asks":{side()}'


def halves(size: Size) -> list[Halves]:
    """Return the parts before the sequence, between it and ``sent``, and after, for each message
    of one full turn of variants and channels."""
    dice = random.Random(size.length)
    fields = _ticker_fields if size.name == "small" else _book_fields
    found = []
    for _ in range(VARIANTS):
        for channel in CHANNELS:
            before = f'{{"type":"market_data","channel":"{channel}","sequence":'
            between = ',"sent":'
            after = f',{fields(dice)},"venue":"'
            numbers = len(str(FIRST_SEQUENCE)) + 19
            padding = size.length - len(before + between + after) - numbers - 2
            if padding < 0:
                raise AssertionError(f"{-padding} bytes too long for {size.name}")
            after += "x" * padding + '"}'
            found.append((before.encode(), between.encode(), after.encode()))
    return found


def frame(payload: bytes) -> bytes:
    """Return an unmasked, final TEXT frame."""
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload


def chunks(size: Size) -> Iterator[bytes]:
    """Return all frames of a size, in order, in pieces of ``frames_a_chunk``."""
    header = struct.pack("!BBH", 0x81, 126, size.length)
    sent = b"1700000000000000000"
    turn = [(header + a, b + sent + c) for a, b, c in halves(size)]
    channels, period = len(CHANNELS), len(turn)
    for start in range(0, size.available, size.frames_a_chunk):
        pieces = []
        for n in range(start, min(start + size.frames_a_chunk, size.available)):
            before, after = turn[n % period]
            pieces.append(b"%b%d%b" % (before, FIRST_SEQUENCE + n // channels, after))
        yield b"".join(pieces)


def last_sequences(count: int) -> dict[str, int]:
    """Return the sequence of each channel's last message, after ``count`` messages in all."""
    turns, rest = divmod(count, len(CHANNELS))
    return {
        channel: FIRST_SEQUENCE + turns - (0 if i < rest else 1)
        for i, channel in enumerate(CHANNELS)
    }
