"""Collected: the messages that ``client.collect()`` has taken, and their frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from logging import WARNING
from typing import TYPE_CHECKING, Any, TypeVar, overload

from wsclient.messages import Message
from wsclient.notebook.frames import (
    arrow_frame,
    check_kind,
    data_of,
    pandas_frame,
    polars_frame,
    venue_of,
)
from wsclient.recording.columns import TABLES, ExportRow, TableName
from wsclient.recording.sorting import TableSorter
from wsclient.text import printable
from wsclient.threads.logs import ClientLog

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

__all__ = ["Collected", "warn_of_unreadable"]

T = TypeVar("T")
#: How many channels a ``repr`` names.
_NAMED = 3


class Collected(Sequence[Message]):
    """A list of messages that can be made into frames. It does not change.

    Made by ``client.collect()``, or of any messages: ``Collected(messages)``. A slice of it is a
    Collected too.

    There is one frame per kind: ``trades``, ``quotes`` and ``books`` have the plain views of the
    messages, one row per trade, quote or level, and ``raw`` has the messages that have none. With a
    kind, ``to_pandas()`` and its like return this frame, and without, a dict with the frames of all
    four. A frame without rows has the same columns, of the same types. Prices and sizes are floats,
    with ``decimal=True`` exact decimal numbers. The page ``frames`` of the manual has the columns.
    """

    __slots__ = ("_has_warned", "_log", "_messages", "_unreadable")

    def __init__(
        self,
        messages: Iterable[Message] = (),
        log: ClientLog | None = None,
    ) -> None:
        self._messages = list(messages)
        self._log = log
        self._has_warned = False
        self._unreadable: int | None = None

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> Collected: ...

    def __getitem__(self, index: int | slice) -> Message | Collected:
        if isinstance(index, slice):
            return Collected(self._messages[index], self._log)
        return self._messages[index]

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def __reduce__(self) -> tuple[Any, ...]:
        return Collected, (self._messages,)

    @property
    def unreadable(self) -> int:
        """The number of messages whose payload the dialect cannot read. They are in ``raw``."""
        if self._unreadable is None:
            self._rows()
        return self._unreadable or 0

    @overload
    def to_pandas(
        self, kind: None = None, *, decimal: bool = False
    ) -> dict[str, pandas.DataFrame]: ...

    @overload
    def to_pandas(self, kind: TableName, *, decimal: bool = False) -> pandas.DataFrame: ...

    def to_pandas(self, kind: TableName | None = None, *, decimal: bool = False) -> Any:
        """Return the frame of a kind, or a dict of all frames by kind.

        With ``decimal``, prices and sizes are ``Decimal`` objects, with the venue's own digits.
        Raises ConfigurationError without pandas, for an unknown kind, and for an integer of more
        than 64 bits.
        """
        return self._frames(pandas_frame, kind, decimal)

    @overload
    def to_polars(
        self, kind: None = None, *, decimal: bool = False
    ) -> dict[str, polars.DataFrame]: ...

    @overload
    def to_polars(self, kind: TableName, *, decimal: bool = False) -> polars.DataFrame: ...

    def to_polars(self, kind: TableName | None = None, *, decimal: bool = False) -> Any:
        """Return the frame of a kind, or a dict of all frames by kind.

        With ``decimal``, prices and sizes are decimal numbers with 18 digits behind the point.
        Raises as :meth:`to_pandas`, and ConfigurationError for a number that has more digits.
        """
        return self._frames(polars_frame, kind, decimal)

    @overload
    def to_arrow(self, kind: None = None, *, decimal: bool = False) -> dict[str, pyarrow.Table]: ...

    @overload
    def to_arrow(self, kind: TableName, *, decimal: bool = False) -> pyarrow.Table: ...

    def to_arrow(self, kind: TableName | None = None, *, decimal: bool = False) -> Any:
        """Return the table of a kind, or a dict of all tables by kind; as :meth:`to_polars`."""
        return self._frames(arrow_frame, kind, decimal)

    def _frames(self, make: Callable[..., T], kind: TableName | None, decimal: bool) -> Any:
        if kind is not None:
            check_kind(kind)
        found = self._rows()
        if kind is not None:
            return make(kind, found[kind], decimal=decimal)
        return {name: make(name, rows, decimal=decimal) for name, rows in found.items()}

    def _rows(self) -> dict[TableName, list[ExportRow]]:
        """Return the rows of all tables."""
        found: dict[TableName, list[ExportRow]] = {name: [] for name in TABLES}
        default = None if self._log is None else self._log.venue
        sorter = TableSorter(data_of)
        for message in self._messages:
            for name, rows in sorter.add(venue_of(message, default), message):
                found[name] += rows
        self._unreadable = sorter.unreadable
        if sorter.unreadable and not self._has_warned:
            self._has_warned = True
            bad = f"{sorter.unreadable:,} of {len(self):,} messages cannot be read, and are"
            warn_of_unreadable(self._log, bad, sorter)
        return found

    def __repr__(self) -> str:
        count = len(self)
        if not count:
            return "<Collected: no message>"
        channels = list(dict.fromkeys(message.channel for message in self))
        more = len(channels) - _NAMED
        names = ", ".join(map(printable, channels[:_NAMED])) + (
            f" and {more} more" if more > 0 else ""
        )
        times = [message.received_at for message in self if message.received_at]
        parts = [f"{count:,} message{'s'[: count != 1]} of {names}"]
        if times:
            parts.append(f"received {_clock(min(times))} to {_clock(max(times))} UTC")
        if gaps := sum(message.gap is not None for message in self):
            parts.append(f"{gaps:,} gap{'s'[: gaps != 1]}")
        return f"<Collected: {'; '.join(parts)}>"


def _clock(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 10**9, timezone.utc):%Y-%m-%d %H:%M:%S}"


def warn_of_unreadable(log: ClientLog | None, what: str, sorter: TableSorter) -> None:
    """Log that messages, described by ``what``, cannot be read, and why."""
    if log is not None:
        log(WARNING, f"{what} in the frame 'raw': {'; '.join(sorter.reasons)}")
