"""Plain views of messages: trades, quotes and order book updates with the same fields everywhere.

Prices and sizes are exact: they have the venue's own digits. Their units are the venue's own.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

__all__ = ["PlainBookUpdate", "Quote", "Trade", "TradeSide"]

#: The side of an order.
TradeSide = Literal["buy", "sell"]


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade, as ``message.trades()`` returns it.

    ``symbol`` is the venue's own name of what was traded. ``size`` has the venue's own unit:
    contracts or the base currency. ``side`` is the side of the aggressor, the order that met one in
    the book; None if the venue does not say. ``id`` is the venue's id as text. ``time`` is when the
    trade was made, by the venue's clock, and ``received_at`` when the message was read (both ns
    since the epoch). ``is_snapshot``: the venue has sent it as one of the trades before the
    subscribe. A dialect makes it without ``venue``, the dialect's name, and ``received_at``, which
    are added.
    """

    symbol: str
    price: Decimal
    size: Decimal
    side: TradeSide | None = None
    id: str | None = None
    time: int | None = None
    is_snapshot: bool = False
    venue: str = ""
    received_at: int = 0


class Quote(msgspec.Struct, frozen=True, gc=False):
    """The best bid and the best ask, as ``message.quote()`` returns them.

    A price is None if nobody bids or asks, a size if the venue does not send it. ``time`` is when
    the venue sent the quote, None if it does not say. The other fields are those of :class:`Trade`;
    ``venue``, ``time`` and ``received_at`` are added to what a dialect makes.
    """

    symbol: str
    bid_price: Decimal | None
    bid_size: Decimal | None
    ask_price: Decimal | None
    ask_size: Decimal | None
    time: int | None = None
    venue: str = ""
    received_at: int = 0


class PlainBookUpdate(msgspec.Struct, frozen=True, gc=False):
    """An update of an order book, as ``message.book_update()`` returns it.

    ``bids`` and ``asks`` are rows of (price, size), in the venue's order. Sizes are absolute, and
    size 0 removes the level. ``is_snapshot``: the rows replace the whole book. ``sequence`` is that
    of the message, and ``checksum`` the venue's checksum of the book after the update; None if the
    venue sends none. The other fields are those of :class:`Quote`.
    """

    symbol: str
    is_snapshot: bool
    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]
    sequence: int | None = None
    checksum: int | None = None
    time: int | None = None
    venue: str = ""
    received_at: int = 0
