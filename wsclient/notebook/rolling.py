"""RollingFrame: the newest rows of a channel, as a frame whenever it is asked for."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from wsclient.checks import check_whole
from wsclient.messages import Message
from wsclient.notebook.collected import warn_of_unreadable
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
from wsclient.runtime.core import Core
from wsclient.text import printable
from wsclient.threads.logs import ClientLog

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

__all__ = ["RollingFrame"]

T = TypeVar("T")


class _NewestRows:
    """The newest rows of each table, at most ``maxlen`` of each.

    ``add`` is called on one thread, the rest on any. A change of the rows and a copy of them are
    single calls that are written in C, so no lock is needed.
    """

    def __init__(self, maxlen: int, log: ClientLog) -> None:
        self.rows: dict[TableName, deque[ExportRow]] = {n: deque(maxlen=maxlen) for n in TABLES}
        #: How many rows each table has had.
        self.totals: dict[TableName, int] = dict.fromkeys(TABLES, 0)
        self.sorter = TableSorter(data_of)
        self.is_closed = False
        self._log = log

    def add(self, message: Message) -> None:
        """Add the rows of the next message."""
        if self.is_closed:
            return
        before = self.sorter.unreadable
        for name, rows in self.sorter.add(venue_of(message, self._log.venue), message):
            self.rows[name].extend(rows)
            self.totals[name] += len(rows)
        if self.sorter.unreadable > before == 0:
            bad = f"a message of {message.channel!r} cannot be read, and is"
            warn_of_unreadable(self._log, bad, self.sorter)


class RollingFrame:
    """The newest rows of a channel, which go on changing. Made by ``client.frame()``.

    It keeps ``maxlen`` rows per kind: ``trades``, ``quotes``, ``books``, and ``raw`` for messages
    of another kind. The columns are those of :class:`wsclient.Collected`, and so are the options.

    It ends when it is closed, when nothing refers to it any more, and with the client, which it
    does not keep alive. After that it still has its rows. It is a context manager.
    """

    def __init__(self, core: Core, channel: str, maxlen: int) -> None:
        check_whole("maxlen", maxlen, 1)
        self.channel = channel
        self.maxlen = maxlen
        self._newest = _NewestRows(maxlen, core.log)
        self._core = core
        #: The function of ``on()``: one object, by which it is found again.
        self.feed: Callable[[Message], None] = self._newest.add
        #: The channels for which ``on()`` has been called.
        self.added: list[str] = []
        self._finalizer = weakref.finalize(self, core.calls.off, self.feed, self.added)
        self._finalizer.atexit = False

    @property
    def kind(self) -> TableName:
        """The kind of the rows: the first of trades, quotes and books that has any, else raw."""
        return next((name for name, total in self._newest.totals.items() if total), "raw")

    @property
    def dropped(self) -> int:
        """How many rows of its kind have made room for newer ones."""
        kind = self.kind
        return max(0, self._newest.totals[kind] - len(self._newest.rows[kind]))

    @property
    def unreadable(self) -> int:
        """The number of messages whose payload the dialect cannot read. They are in ``raw``."""
        return self._newest.sorter.unreadable

    def __len__(self) -> int:
        return len(self._newest.rows[self.kind])

    def to_pandas(
        self, kind: TableName | None = None, *, decimal: bool = False
    ) -> pandas.DataFrame:
        """Return the rows of now as a DataFrame, by default those of :attr:`kind`.

        Raises as ``to_pandas()`` of :class:`wsclient.Collected`.
        """
        return self._frame(pandas_frame, kind, decimal)

    def to_polars(
        self, kind: TableName | None = None, *, decimal: bool = False
    ) -> polars.DataFrame:
        """Return the rows of now as a DataFrame of polars. Else as :meth:`to_pandas`."""
        return self._frame(polars_frame, kind, decimal)

    def to_arrow(self, kind: TableName | None = None, *, decimal: bool = False) -> pyarrow.Table:
        """Return the rows of now as a table of Arrow. Else as :meth:`to_pandas`."""
        return self._frame(arrow_frame, kind, decimal)

    def _frame(self, make: Callable[..., T], kind: TableName | None, decimal: bool) -> T:
        if kind is None:
            kind = self.kind
        check_kind(kind)
        return make(kind, list(self._newest.rows[kind]), decimal=decimal)

    def close(self) -> None:
        """End it. The rows stay. Returns at once; the unsubscribe follows in the background."""
        self._newest.is_closed = True
        self._core.calls.off(self.feed, self.added)
        self._finalizer.detach()  # only now: if close() is interrupted, the finalizer finishes it

    def __enter__(self) -> RollingFrame:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        kind, dropped = self.kind, self.dropped
        rows = f"{len(self):,} {kind} row{'s'[: len(self) != 1]}" if len(self) else "no rows yet"
        parts = [rows, f"{dropped:,} dropped"] if dropped else [rows]
        if self._newest.is_closed or self._core.supervisor.life.is_over:
            parts.append("closed")
        return f"<RollingFrame of {printable(self.channel)}: {', '.join(parts)}>"
