"""Order book levels as most venues write them: arrays of a price, a size and maybe more."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

__all__ = ["Row", "levels"]


class Row(msgspec.Struct, array_like=True, gc=False):
    """A price and a size. Further fields are ignored, because venues add them without notice."""

    price: Decimal
    size: Decimal


def levels(rows: Iterable[Row]) -> list[tuple[Decimal, Decimal]]:
    """Return the rows as pairs of price and size."""
    return [(row.price, row.size) for row in rows]
