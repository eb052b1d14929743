"""A frame, and its views."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from support.making import entries_of
from wsclient import PlainBookUpdate, Quote, Trade
from wsclient.dialect import Dialect
from wsclient.messages import Message
from wsclient.stream.inbound import Inbound

D = Decimal
MS = 1_000_000
READ_AT = 1_700_000_000_000_000_000


class Case(NamedTuple):
    """A frame of a dialect, and the views of its messages; None if it has none of a kind.

    ``channel`` is the client's name of the channel, where the frame has only an alias of it.
    """

    dialect: Dialect
    frame: str
    trades: list[Trade] | None = None
    quote: Quote | None = None
    update: PlainBookUpdate | None = None
    channel: str | None = None


def messages(dialect: Dialect, frame: str, channel: str | None = None) -> list[Message]:
    inbound = Inbound(dialect)
    found = entries_of(inbound, frame.encode(), received_at=READ_AT)
    made = [m for m in found if isinstance(m, Message)]
    for message in made:
        message.channel = channel or message.channel
    return made


def rows(*levels: str) -> tuple[tuple[Decimal, Decimal], ...]:
    """Return levels, each given as ``"price size"``."""
    return tuple((D(price), D(size)) for price, size in map(str.split, levels))
