"""How a venue's messages and snapshots change an order book."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from wsclient.dialect.values import RestRequest
from wsclient.messages import Message

__all__ = ["BookFormat", "BookUpdate", "Levels", "Row", "Snapshot", "levels", "missing"]

#: (price, size) of each level.
Levels = Iterable[tuple[Decimal, Decimal]]


class BookUpdate(NamedTuple):
    """A change of an order book: sizes are absolute, and size 0 removes the level.

    ``is_snapshot``: the levels replace the whole book. ``checksum``: the venue's checksum of the
    book after the update; None if the venue sends none.
    """

    is_snapshot: bool
    bids: Levels
    asks: Levels
    checksum: int | None = None


class Snapshot(NamedTuple):
    """An order book fetched by REST; ``sequence`` is the number of the last message in it.

    ``has_last``: that message is completely in it. False if the venue's rule is to apply that
    message again.
    """

    sequence: int
    bids: Levels
    asks: Levels
    has_last: bool = True


def missing(what: object, methods: str) -> NotImplementedError:
    return NotImplementedError(f"{type(what).__name__} must define {methods}")


class BookFormat:
    """The base class of a venue's order books: how its messages and snapshots change a book.

    Override :meth:`channel` and :meth:`update`, and :meth:`request` and :meth:`snapshot` if a book
    begins with a snapshot by REST. An object of it is the :attr:`Dialect.book` of the dialect.
    """

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        """Return the channel of an order book, for ``client.order_book(symbol, **options)``."""
        raise missing(self, "channel()")

    def update(self, message: Message) -> BookUpdate | None:
        """Return the update in a message of an order book's channel; None if it has none.

        It must have exactly the venue's digits, so decode ``message.raw``: ``message.data`` may
        hold floats. Raise for an invalid payload: the book is then out of sync.
        """
        raise missing(self, "update()")

    def depth(self, options: Mapping[str, Any]) -> int | None:
        """Return how many levels per side the venue keeps up to date; None for all.

        The venue sends no removal for a level that falls out of this depth.
        """
        return None

    def checksum(self, bids: Levels, asks: Levels) -> int | None:
        """Return the checksum of a book as the venue computes it; None if the venue has none.

        ``bids`` and ``asks`` are best levels first.
        """
        return None

    def request(self, channel: str, options: Mapping[str, Any]) -> RestRequest | None:
        """Return the REST request for an order book's snapshot; None if the stream contains it."""
        return None

    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        """Return the snapshot in the answer to :meth:`request`, decoded with Decimals.

        Raise for an invalid answer.
        """
        raise missing(self, "snapshot()")


class Row(msgspec.Struct, array_like=True, gc=False):
    """A price and a size. Further fields are ignored, because venues add them without notice."""

    price: Decimal
    size: Decimal


def levels(rows: Iterable[Row]) -> list[tuple[Decimal, Decimal]]:
    """Return the rows as pairs of price and size."""
    return [(row.price, row.size) for row in rows]
