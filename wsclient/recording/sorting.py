"""Which rows a message has in which table, for the files of an export and for frames."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from wsclient.errors import InvalidMessage
from wsclient.messages import Gap, Message
from wsclient.recording.columns import DataOf, ExportRow, TableName, row_of_gap, rows_of
from wsclient.text import one_line, text_of

__all__ = ["RowsOfTable", "TableSorter"]

#: How many different reasons are counted, and what stands for all others.
REASONS = 10
OTHERS = "other reasons"


class RowsOfTable(NamedTuple):
    """The rows of one message in one table."""

    table: TableName
    rows: list[ExportRow]


class TableSorter:
    """Sorts the messages of a stream into tables.

    ``trades``, ``quotes`` and ``books`` get the plain views of the messages, and ``raw`` all
    messages that have none; with ``kind``, only this table, and ``raw`` all messages. Every gap of
    a channel is in every table that has the channel: if need be, on a row of its own.

    ``data_of`` returns the JSON text of a message that shares its frame with others. ``unreadable``
    counts the messages whose payload the dialect cannot read, and ``reasons`` says why.
    """

    def __init__(self, data_of: DataOf, kind: TableName | None = None) -> None:
        self._data_of = data_of
        self._views: tuple[TableName, ...] = ("trades", "quotes", "books")
        if kind is not None:
            self._views = () if kind == "raw" else (kind,)
        self._has_raw = kind in (None, "raw")
        self.unreadable = 0
        self.reasons: Counter[str] = Counter()
        #: The messages of each channel so far.
        self._numbers: dict[str, int] = {}
        #: The tables in which a channel has rows, and the gaps before its first row in others.
        self._has_rows: set[tuple[TableName, str]] = set()
        self._waiting: dict[tuple[TableName, str], Gap] = {}

    def begin(self) -> None:
        """Begin another stream: its channels have nothing to do with those before."""
        self._numbers.clear()
        self._has_rows.clear()
        self._waiting.clear()

    def add(self, venue: str | None, message: Message) -> list[RowsOfTable]:
        """Return the rows of the next message, without tables in which it has none."""
        channel = message.channel
        number = self._numbers[channel] = self._numbers.get(channel, 0) + 1
        found, has_view, why = [], False, ""
        for name in self._views:
            rows = None
            try:
                gap = self._gap(name, message)
                rows = rows_of(name, venue, message, number, gap, self._data_of)
            except InvalidMessage as error:
                why = why or one_line(text_of(error))
            if rows is None:
                rows = self._rows_of_gap(name, venue, message, number)
            else:
                has_view = True
            if rows:
                self._waiting.pop((name, channel), None)
                self._has_rows.add((name, channel))
                found.append(RowsOfTable(name, rows))
        if why:
            self.unreadable += 1
            self.reasons[why if why in self.reasons or len(self.reasons) < REASONS else OTHERS] += 1
        if self._has_raw and not has_view:
            rows = rows_of("raw", venue, message, number, message.gap, self._data_of)
            found.append(RowsOfTable("raw", rows or []))
        return found

    def _gap(self, name: TableName, message: Message) -> Gap | None:
        """Return the gap of a message, with those of earlier ones that have no row."""
        waiting = self._waiting.get((name, message.channel)) if self._waiting else None
        return message.gap if waiting is None else waiting.merge(message.gap)

    def _rows_of_gap(
        self, name: TableName, venue: str | None, message: Message, number: int
    ) -> list[ExportRow]:
        """Return what a table has of a message of another kind: the gap, if there is one."""
        if message.gap is None:
            return []
        key = name, message.channel
        if key in self._has_rows:
            return [row_of_gap(name, venue, message, number, message.gap)]
        self._waiting[key] = self._gap(name, message) or message.gap
        return []
