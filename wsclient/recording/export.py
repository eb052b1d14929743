"""Export of recordings to tables: Parquet for duckdb, polars and pandas, CSV, and JSON lines.

The files are ``<table>/venue=<venue>/date=<date>/channel=<channel>/<recording>-0001.<format>``. The
date is that of ``received_at``, in UTC. In these names, characters that not every system allows are
written as ``%`` and two digits, which the readers of such folders undo.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import get_args

from wsclient.dialect.base import Dialect
from wsclient.errors import ConfigurationError
from wsclient.messages import Message
from wsclient.recording.columns import TABLES, ExportRow, TableName
from wsclient.recording.folder import FileDamage, Recording, recordings_of
from wsclient.recording.restoring import Restorer
from wsclient.recording.sorting import TableSorter
from wsclient.recording.tablefiles import FileFormat, RowFile, file_of, safe_name, sync
from wsclient.stream.envelope import Envelope
from wsclient.stream.exact import Exact

__all__ = ["Exported", "export"]

#: A group of rows of a file has at most this weight; and all rows that wait, together.
GROUP = 50_000
WAITING = 200_000
#: A row weighs 1, and 1 more for each of these bytes of payload.
HEAVY = 512
#: How many records are read between two calls of ``progress``.
OFTEN = 2000
DAY = 86_400 * 10**9


@dataclass(frozen=True)
class Exported:
    """What :func:`export` has written: the files, the rows of each table, the number of messages.

    ``unreadable`` is the number of messages whose payload the dialect cannot read: they are in the
    table ``raw``, or, if that is not written, nowhere. ``reasons`` says why, with how many messages
    each. ``damage`` is what could not be read of the recordings.
    """

    files: list[Path]
    rows: dict[str, int]
    messages: int
    unreadable: int
    reasons: dict[str, int]
    damage: list[FileDamage]


def export(
    *paths: str | os.PathLike[str],
    to: str | os.PathLike[str],
    form: FileFormat = "parquet",
    kind: TableName | None = None,
    channels: Collection[str] | None = None,
    start: int | None = None,
    end: int | None = None,
    dialect: str | Dialect | None = None,
    text: bool = False,
    force: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Exported:
    """Export the messages of all recordings in files, folders and glob patterns to a folder.

    ``form`` is that of the files. Of Parquet and CSV there are four tables: ``trades``, ``quotes``
    and ``books`` have the plain views of the messages, and ``raw`` all messages that have none;
    with ``kind``, only this one, and ``raw`` has all messages. JSON lines are
    :meth:`wsclient.Envelope.to_json` of all messages.

    The columns ``gap_reason``, ``gap_missed`` and ``gap_since`` are the gap before a message, on
    its first row. Every gap of a channel is in every table that has the channel: if need be, on a
    row of its own, whose other columns are empty.

    ``start`` and ``end`` limit the time (ns since the epoch): from ``start`` to before ``end``.
    Prices and sizes in Parquet are decimal numbers with 18 digits behind the point, or text with
    the venue's digits if ``text`` is set. Nothing is overwritten without ``force``. Files appear
    when everything is written; if anything fails, none does.

    Raises ConfigurationError for no recording, an option that cannot work, a missing package or a
    number that has more digits; FileExistsError for files that exist.
    """
    if form not in get_args(FileFormat):
        raise ConfigurationError(f"form must be parquet, csv or jsonl, not {form!r}")
    if kind is not None and kind not in TABLES:
        raise ConfigurationError(f"kind must be one of {', '.join(TABLES)}, not {kind!r}")
    if form == "jsonl" and kind not in (None, "raw"):
        raise ConfigurationError(f"JSON lines hold whole messages: they have no table {kind!r}")
    recordings, bad = recordings_of(*paths)
    files = _TableFiles(Path(to), form, is_text=text, is_forced=force)
    exporting = _Exporting(files, kind if form != "jsonl" else "raw", form)
    try:
        for number, recording in enumerate(recordings):
            restorer = Restorer(recording, dialect)
            exporting.begin(recording, restorer.dialect)
            for part, messages in _read(recording, restorer, start, end, channels):
                for message in messages:
                    exporting.add(message)
                if part is not None and progress is not None:
                    progress((number + part) / len(recordings))
        written = files.finish()
    except BaseException:
        files.discard()
        raise
    damage = [found for recording in recordings for found in recording.damage]
    return Exported(
        written,
        exporting.rows,
        exporting.messages,
        exporting.sorter.unreadable,
        dict(exporting.sorter.reasons),
        [*bad, *damage],
    )


def _read(
    recording: Recording,
    restorer: Restorer,
    start: int | None,
    end: int | None,
    channels: Collection[str] | None,
) -> Iterator[tuple[float | None, list[Message]]]:
    """Yield the messages of each record, and now and then the share (0 to 1) that is read."""
    begin, until = start or recording.start or 0, end or recording.end or 0
    for number, (entry, messages) in enumerate(restorer.read(start, end, channels)):
        part = None
        if not number % OFTEN and until > begin:
            part = min(1.0, max(0.0, (entry.log_time - begin) / (until - begin)))
        yield part, messages


class _Exporting:
    """Writes the rows of messages to the files of their tables."""

    def __init__(self, files: _TableFiles, kind: TableName | None, form: FileFormat) -> None:
        self._files = files
        self._is_lines = form == "jsonl"
        self.sorter = TableSorter(self._data, kind)
        self.rows: dict[str, int] = {}
        self.messages = 0
        self._venue = ""
        self._exact: Exact | None = None

    def begin(self, recording: Recording, dialect: Dialect) -> None:
        """Begin the next recording."""
        self._venue = recording.venue
        self._exact = Exact(dialect)
        self.sorter.begin()
        self._files.begin(recording)

    def add(self, message: Message) -> None:
        """Add the next message of the recording."""
        self.messages += 1
        if self._is_lines:
            self._write("raw", message, [(self._line(message),)], len(message.raw))
            return
        for name, rows in self.sorter.add(self._venue, message):
            self._write(name, message, rows, len(message.raw) if name == "raw" else 0)

    def _line(self, message: Message) -> str:
        return Envelope.of(message, self._data(message)).to_json()

    def _data(self, message: Message) -> bytes | None:
        """Return the JSON text of a message that shares its frame; None if there is none."""
        if message.item is None or self._exact is None:
            return None
        try:
            return self._exact(message)
        except Exception:  # noqa: BLE001 - the dialect does not read JSON
            return None

    def _write(
        self, name: TableName, message: Message, rows: list[ExportRow], size: int = 0
    ) -> None:
        self.rows[name] = self.rows.get(name, 0) + len(rows)
        weight = len(rows) + size // HEAVY
        self._files.write(name, message.channel, message.received_at // DAY, rows, weight)


class _HeldRows:
    """The rows of one file that wait to be written."""

    __slots__ = ("day", "file", "name", "rows", "weight")

    def __init__(self, name: TableName, day: int) -> None:
        self.name = name
        self.day = day
        self.rows: list[ExportRow] = []
        self.weight = 0
        self.file: RowFile | None = None


class _TableFiles:
    """The files of an export, under other names until all are complete."""

    def __init__(self, folder: Path, form: FileFormat, *, is_text: bool, is_forced: bool) -> None:
        self._folder = folder
        self._form: FileFormat = form
        self._is_text = is_text
        self._is_forced = is_forced
        #: No other export has the same.
        self._token = secrets.token_hex(4)
        self._session = self._venue = ""
        self._open: dict[tuple[TableName, str, int], _HeldRows] = {}
        self._waiting = 0
        self._last_day = 0
        #: The parts of names of the channels, and which channel each belongs to, in lower case.
        self._safe: dict[str, str] = {}
        self._taken: dict[str, str] = {}
        #: Final name -> name until then.
        self._parts: dict[Path, Path] = {}
        self._made: list[Path] = []
        #: The files that are there already and will be replaced.
        self._replaced: set[Path] = set()

    def begin(self, recording: Recording) -> None:
        """Begin the files of the next recording."""
        self._close()
        self._session = safe_name(recording.id or recording.files[0].path.name)
        self._venue = safe_name(recording.venue)
        self._last_day = 0

    def write(
        self, name: TableName, channel: str, day: int, rows: list[ExportRow], weight: int
    ) -> None:
        """Write rows, at some time."""
        key = name, channel, day
        found = self._open.get(key)
        if found is None:
            if day > self._last_day:
                self._last_day = day
                self._close(before=day - 1)
            found = self._open[key] = _HeldRows(name, day)
        if found.file is None:
            found.file = self._new(name, channel, day)
        found.rows += rows
        found.weight += weight
        self._waiting += weight
        if found.weight >= GROUP:
            self._flush(found)
        elif self._waiting >= WAITING:
            self._flush(max(self._open.values(), key=lambda rows: rows.weight))

    def _flush(self, found: _HeldRows) -> None:
        if found.rows and found.file is not None:
            found.file.write(found.rows)
        self._waiting -= found.weight
        found.rows, found.weight = [], 0

    def _close(self, before: int | None = None) -> None:
        for key, rows in list(self._open.items()):
            if before is None or rows.day < before:
                self._flush(rows)
                if rows.file is not None:
                    rows.file.close()
                del self._open[key]

    def _new(self, name: TableName, channel: str, day: int) -> RowFile:
        date = datetime.fromtimestamp(day * 86_400, timezone.utc)
        place = self._folder / ("messages" if self._form == "jsonl" else name)
        place = place / f"venue={self._venue}" / f"date={date:%Y-%m-%d}"
        place = place / f"channel={self._name_of(channel)}"
        self._make(place)
        number = 1
        while (path := place / f"{self._session}-{number:04}.{self._form}") in self._parts:
            number += 1
        before = {
            p for p in place.glob(f"*.{self._form}") if p.name.startswith(f"{self._session}-")
        }
        before -= self._parts.keys()
        if before and not self._is_forced:
            raise FileExistsError(f"{min(before)} exists already")
        self._replaced |= before
        part = self._parts[path] = path.with_name(f"{path.name}.{self._token}.part")
        return file_of(self._form, part, TABLES[name].columns, is_text=self._is_text)

    def _name_of(self, channel: str) -> str:
        found = self._safe.get(channel)
        if found is None:
            found = safe_name(channel)
            if self._taken.setdefault(found.casefold(), channel) != channel:
                # Another one differs only in its case, which some systems ignore.
                found = safe_name(channel, is_plain=False)
            self._safe[channel] = found
        return found

    def _make(self, place: Path) -> None:
        missing = [place]
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        for path in reversed(missing):
            if not path.exists():
                path.mkdir()
                self._made.append(path)

    def finish(self) -> list[Path]:
        """Give all files their names, and return them."""
        self._close()
        for part in self._parts.values():
            sync(part)
        for path in self._parts if not self._is_forced else ():
            if path.exists():  # another export was faster
                raise FileExistsError(f"{path} exists already")
        for path in self._replaced - self._parts.keys():
            path.unlink(missing_ok=True)
        for path, part in self._parts.items():
            part.replace(path)
        return list(self._parts)

    def discard(self) -> None:
        """Remove everything that was written."""
        for rows in self._open.values():
            if rows.file is not None:
                rows.file.discard()
        for part in self._parts.values():
            part.unlink(missing_ok=True)
        for place in reversed(self._made):
            try:
                place.rmdir()
            except OSError:
                return  # another export uses it
