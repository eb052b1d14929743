"""A dialect whose frames say prices in plain words, and how the frames of each library are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec

import wsclient
from wsclient.dialect import Views
from wsclient.messages import Message
from wsclient.views import Quote, Trade

__all__ = ["READERS", "Priced", "arrow_rows", "pandas_rows", "polars_rows", "with_types"]


class PricedViews(Views):
    """``price`` is a trade, ``prices`` several, ``bid`` a quote; the other fields are optional."""

    def trades(self, message: Message) -> list[Trade] | None:
        data = msgspec.json.decode(message.raw)
        prices = data.get("prices", [data["price"]] if "price" in data else None)
        size = Decimal(data.get("size", "1"))
        if prices is None:
            return None
        at = data.get("time")
        return [Trade("A/B", Decimal(price), size, time=at) for price in prices]

    def quote(self, message: Message) -> Quote | None:
        data = msgspec.json.decode(message.raw)
        if "bid" not in data:
            return None
        bid = None if data["bid"] is None else Decimal(data["bid"])
        return Quote("A/B", bid, None, None, None)


class Priced(wsclient.Generic):
    """The generic protocol, with plain views."""

    views = PricedViews()


# What a frame holds, as Python's own values: times in ns, None for what is missing.


def pandas_rows(frame: Any) -> list[dict[str, Any]]:
    import pandas

    def plain(value: Any) -> Any:
        if isinstance(value, pandas.Timestamp):
            return value.value
        return None if value is not None and pandas.isna(value) else value

    columns = {name: [plain(value) for value in frame[name].array] for name in frame.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def polars_rows(frame: Any) -> list[dict[str, Any]]:
    import polars

    found: list[dict[str, Any]] = frame.with_columns(
        polars.selectors.datetime().dt.epoch("ns")
    ).to_dicts()
    return found


def arrow_rows(table: Any) -> list[dict[str, Any]]:
    import pyarrow

    for number, field in enumerate(table.schema):
        if pyarrow.types.is_timestamp(field.type):
            ints = table.column(number).cast(pyarrow.int64())
            table = table.set_column(number, field.name, ints)
    found: list[dict[str, Any]] = table.to_pylist()
    return found


#: The name of each call that makes a frame, and how the frame is read.
READERS: dict[str, Callable[[Any], list[dict[str, Any]]]] = {
    "to_pandas": pandas_rows,
    "to_polars": polars_rows,
    "to_arrow": arrow_rows,
}


def with_types(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows with the type of each value, for an exact comparison."""
    return [tuple((type(value).__name__, value) for value in row) for row in rows]
