"""The tables of exports and frames: the columns of each, and the rows that a message becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from wsclient.messages import Gap, LinkedMessage, Message

__all__ = ["TABLES", "ExportColumn", "ExportRow", "ExportTable", "TableName"]

#: The names of the tables.
TableName: TypeAlias = Literal["trades", "quotes", "books", "raw"]
ExportRow: TypeAlias = tuple[Any, ...]
#: ``number`` is an exact decimal number, ``time`` is in ns since the epoch.
ColumnKind: TypeAlias = Literal["text", "integer", "number", "time", "boolean", "bytes"]


class ExportColumn(NamedTuple):
    """A column: its name, and the kind of its values. Any value may be missing."""

    name: str
    kind: ColumnKind


#: Returns the JSON text of a message that shares its frame with others, else None.
DataOf: TypeAlias = Callable[[Message], bytes | None]


class ExportTable(NamedTuple):
    """A table: its columns, and the function that makes the rows of a message.

    ``rows`` returns None for a message of another kind. Rows lack the columns that are the same for
    all tables: ``HEAD`` before them, and ``GAP`` after them.
    """

    columns: tuple[ExportColumn, ...]
    rows: Callable[[Message, DataOf], list[ExportRow] | None]


def _columns(text: str) -> tuple[ExportColumn, ...]:
    kinds: Mapping[str, ColumnKind] = {
        "s": "text", "i": "integer", "n": "number", "t": "time", "b": "boolean", "x": "bytes",
    }  # fmt: skip
    pairs = (word.split(":") for word in text.split())
    return tuple(ExportColumn(name, kinds[kind]) for name, kind in pairs)


HEAD = _columns("venue:s channel:s message:i sequence:i connection_id:i received_at:t time:t")
GAP = _columns("gap_reason:s gap_missed:i gap_since:t")


def _trades(message: Message, _data: DataOf) -> list[ExportRow] | None:
    trades = message.trades()
    if trades is None:
        return None
    return [
        (t.time, t.symbol, t.id, t.side, t.price, t.size, t.is_snapshot)
        for t in trades
    ]  # fmt: skip


def _quotes(message: Message, _data: DataOf) -> list[ExportRow] | None:
    q = message.quote()
    if q is None:
        return None
    return [(q.time, q.symbol, q.bid_price, q.bid_size, q.ask_price, q.ask_size)]


def _books(message: Message, _data: DataOf) -> list[ExportRow] | None:
    update = message.book_update()
    if update is None:
        return None
    head = update.time, update.symbol, update.is_snapshot, update.checksum
    rows: list[ExportRow] = [(*head, "bid", price, size) for price, size in update.bids]
    rows += [(*head, "ask", price, size) for price, size in update.asks]
    return rows or [(*head, None, None, None)]  # its number and its checksum count


def _raw(message: Message, data_of: DataOf) -> list[ExportRow] | None:
    follows = is_counted = None
    if isinstance(message, LinkedMessage):
        follows, is_counted = message.follows, message.is_counted
    data = data_of(message)
    text = None if data is None else data.decode()
    return [(message.time, message.type, follows, is_counted, message.item, text, message.raw)]


#: The tables by name. In ``books`` a row is a level; an update without levels is a row without
#: side, price and size.
TABLES: Mapping[TableName, ExportTable] = {
    "trades": ExportTable(
        (*HEAD, *_columns("symbol:s id:s side:s price:n size:n is_snapshot:b"), *GAP), _trades
    ),
    "quotes": ExportTable(
        (*HEAD, *_columns("symbol:s bid_price:n bid_size:n ask_price:n ask_size:n"), *GAP), _quotes
    ),
    "books": ExportTable(
        (*HEAD, *_columns("symbol:s is_snapshot:b checksum:i side:s price:n size:n"), *GAP),
        _books,
    ),
    "raw": ExportTable(
        (*HEAD, *_columns("type:s follows:i is_counted:b item:i data:s raw:x"), *GAP), _raw
    ),
}

_NO_GAP: ExportRow = (None, None, None)


def rows_of(
    name: TableName,
    venue: str | None,
    message: Message,
    number: int,
    gap: Gap | None,
    data_of: DataOf,
) -> list[ExportRow] | None:
    """Return the rows of a message, complete; None if it is of another kind.

    ``number`` is that of the message in its channel. The first row has ``gap``. A message that has
    a gap but no rows is a row of nothing else.
    """
    table = TABLES[name]
    found = table.rows(message, data_of)
    if found is None:
        return None
    if not found and gap is not None:
        return [row_of_gap(name, venue, message, number, gap)]
    head = (
        venue, message.channel, number, message.sequence, message.connection_id,
        message.received_at,
    )  # fmt: skip
    rows = [(*head, *row, *_NO_GAP) for row in found]
    if gap is not None and rows:
        rows[0] = (*rows[0][:-3], *gap)
    return rows


def row_of_gap(
    name: TableName, venue: str | None, message: Message, number: int, gap: Gap
) -> ExportRow:
    """Return a row that has nothing but the gap before a message."""
    nothing = [None] * (len(TABLES[name].columns) - len(HEAD) - len(GAP))
    return (
        venue, message.channel, number, message.sequence, message.connection_id,
        message.received_at, message.time, *nothing, *gap,
    )  # fmt: skip
