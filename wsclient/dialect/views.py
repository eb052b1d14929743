"""How the messages of a venue are put into plain fields: trades, quotes, order book updates."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.structs import force_setattr

from wsclient.dialect.books import BookFormat, Row
from wsclient.errors import InvalidMessage
from wsclient.messages import Message, View
from wsclient.text import why
from wsclient.views import PlainBookUpdate, Quote, Trade

__all__ = ["Views", "Wrapped", "amount", "best", "view"]


T = TypeVar("T")


class Wrapped(msgspec.Struct, Generic[T], gc=False):
    """A frame whose payload is in the field ``data``."""

    data: T


class Views:
    """The base class of what a venue's messages say, in plain fields.

    Override what the venue has. Each method decodes ``message.raw``, since ``message.data`` may
    hold floats, and raises any exception for an invalid payload. It returns None for a message of
    another kind, which it recognizes by ``message.channel`` and ``message.type``. An object of it
    is the :attr:`Dialect.views` of the dialect.
    """

    def trades(self, message: Message) -> list[Trade] | None:
        """Return all trades of a message, in the venue's order."""
        return None

    def quote(self, message: Message) -> Quote | None:
        """Return the best bid and ask in a message. One whose price and size are 0 is none."""
        return None

    def book_symbol(self, message: Message) -> str | None:
        """Return the symbol of the order book that a message updates.

        :meth:`BookFormat.update` of the dialect then returns the update.
        """
        return None


def amount(text: str | None) -> Decimal | None:
    """Return a number that a venue leaves empty, or out, if there is none."""
    return Decimal(text) if text else None


def best(rows: Sequence[Row]) -> tuple[Decimal | None, Decimal | None]:
    """Return the price and size of the first row of a side; None for both if it has none."""
    return (rows[0].price, rows[0].size) if rows else (None, None)


def view(
    venue: str, views: Views, book: BookFormat | None, message: Message, kind: View
) -> list[Trade] | Quote | PlainBookUpdate | None:
    """Return the plain view of a message; None if the message is of another kind.

    Raises InvalidMessage for a payload that the dialect cannot read.
    """
    try:
        if kind == "trades":
            trades = views.trades(message)
            for trade in trades or ():
                _finish(trade, venue, message, trade.price, trade.size)
            return trades
        if kind == "quote":
            quote = views.quote(message)
            return None if quote is None else _quote(venue, message, quote)
        return _book_update(venue, views, book, message)
    except Exception as error:
        raise InvalidMessage(
            f"the {venue} dialect cannot read the {kind.replace('_', ' ')} in a message of "
            f"{message.channel!r}: {why(error)}"
        ) from error


def _quote(venue: str, message: Message, quote: Quote) -> Quote:
    numbers = quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size
    _finish(quote, venue, message, *(number for number in numbers if number is not None))
    force_setattr(quote, "time", message.time)
    for price, size in (("bid_price", "bid_size"), ("ask_price", "ask_size")):
        if getattr(quote, price) == 0 == getattr(quote, size):  # how some venues write none
            force_setattr(quote, price, None)
            force_setattr(quote, size, None)
    return quote


def _book_update(
    venue: str, views: Views, book: BookFormat | None, message: Message
) -> PlainBookUpdate | None:
    symbol = None if book is None else views.book_symbol(message)
    update = None if book is None or symbol is None else book.update(message)
    if symbol is None or update is None:
        return None
    bids, asks = tuple(update.bids), tuple(update.asks)
    plain = PlainBookUpdate(
        symbol, update.is_snapshot, bids, asks, message.sequence, update.checksum, message.time
    )
    _finish(plain, venue, message, *(number for row in (*bids, *asks) for number in row))
    return plain


def _finish(plain: Any, venue: str, message: Message, *numbers: Decimal) -> None:
    """Add what every view has. Raise ValueError if a number is none, such as ``NaN``."""
    if not all(map(Decimal.is_finite, numbers)):
        raise ValueError("a price or a size is not a number")
    force_setattr(plain, "venue", venue)
    force_setattr(plain, "received_at", message.received_at)
