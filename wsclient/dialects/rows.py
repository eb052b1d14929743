"""Levels of books as most venues write them: arrays of a price, a size, and maybe more."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

__all__ = ["Row", "levels"]


class Row(msgspec.Struct, array_like=True, gc=False):
    """A price and a size. Further fields are skipped: venues add them without notice."""

    price: Decimal
    size: Decimal


def levels(rows: Iterable[Row]) -> list[tuple[Decimal, Decimal]]:
    return [(row.price, row.size) for row in rows]
