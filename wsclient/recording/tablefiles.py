"""The files of an export: Parquet, CSV and JSON lines. Each appears when it is complete."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from wsclient.errors import ConfigurationError
from wsclient.recording.arrowtables import Advice, NumberForm, arrow_schema, arrow_table
from wsclient.recording.columns import ColumnKind, ExportColumn, ExportRow

__all__ = ["FileFormat", "RowFile", "file_of", "safe_name"]

FileFormat: TypeAlias = Literal["parquet", "csv", "jsonl"]

#: The longest name (bytes) that is not shortened.
LONGEST = 150


class RowFile(Protocol):
    """A file that is written in groups of rows. It is not open in between."""

    def write(self, rows: Sequence[ExportRow]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write the end of the file."""

    def discard(self) -> None:
        """Write nothing more."""


def file_of(
    form: FileFormat, path: Path, columns: Sequence[ExportColumn], *, is_text: bool
) -> RowFile:
    """Return a new file. With ``is_text``, prices and sizes are text in Parquet.

    Raises ConfigurationError if a package is missing.
    """
    if form == "parquet":
        return _ParquetFile(path, columns, is_text)
    return _CsvFile(path, columns) if form == "csv" else _LinesFile(path)


class _Appending(io.RawIOBase):
    """A file that is open only while something is written, so that there may be any number."""

    def __init__(self, path: Path) -> None:
        self._path: Path | None = path
        self._size = 0
        path.open("xb").close()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self._path is None:
            return len(data)
        with self._path.open("ab") as file:
            written = file.write(data)
        self._size += written
        return written

    def tell(self) -> int:
        return self._size

    def discard(self) -> None:
        """Write nothing more: pyarrow does when its writer is collected."""
        self._path = None


class _LinesFile:
    def __init__(self, path: Path) -> None:
        self._file = _Appending(path)

    def write(self, rows: Sequence[ExportRow]) -> None:
        self._file.write("".join(f"{row[0]}\n" for row in rows).encode())

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        self._file.discard()


class _CsvFile:
    def __init__(self, path: Path, columns: Sequence[ExportColumn]) -> None:
        self._file = _Appending(path)
        self._forms = [_FORMS[column.kind] for column in columns]
        self._write([[column.name for column in columns]])

    def write(self, rows: Sequence[ExportRow]) -> None:
        self._write(
            [
                ["" if v is None else form(v) for form, v in zip(self._forms, row, strict=True)]
                for row in rows
            ]
        )

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        self._file.discard()


def _bytes(value: bytes) -> str:
    """Return a payload as text; one that is not UTF-8 in base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(value).decode()}"


def _time(value: int) -> str:
    seconds, rest = divmod(value, 10**9)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


_FORMS: Mapping[ColumnKind, Callable[[Any], str]] = {
    "text": str,
    "integer": str,
    "number": lambda value: f"{value:f}",
    "time": _time,
    "boolean": lambda value: "true" if value else "false",
    "bytes": _bytes,
}


#: What works for a number that does not fit.
ADVICE = Advice("Parquet", "export prices and sizes as text", "export CSV or JSON lines")


class _ParquetFile:
    def __init__(self, path: Path, columns: Sequence[ExportColumn], is_text: bool) -> None:
        self._pa, parquet = _arrow()
        self._columns = columns
        self._numbers: NumberForm = "text" if is_text else "decimal"
        self._schema = arrow_schema(self._pa, columns, self._numbers)
        self._file = _Appending(path)
        self._writer = parquet.ParquetWriter(
            self._pa.PythonFile(self._file, "w"), self._schema, compression="zstd"
        )

    def write(self, rows: Sequence[ExportRow]) -> None:
        table = arrow_table(self._pa, self._schema, self._columns, rows, self._numbers, ADVICE)
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()
        self._file.close()

    def discard(self) -> None:
        self._file.discard()


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # lazily: it is slow to import, and not installed by default
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigurationError(
            "Parquet needs the packages of the extra 'export': "
            "pip install 'wsclient-market[export]'"
        ) from error
    return pyarrow, parquet


_UNSAFE = re.compile(rb"[^A-Za-z0-9_.@-]|\.$")


def safe_name(text: str, *, is_plain: bool = True) -> str:
    """Return a text as a part of a file's name, on any system: with ``%2F`` for a slash.

    A long one is cut and gets a hash. Without ``is_plain`` every byte is written as a number.
    """
    data = text.encode(errors="surrogatepass")
    pattern = _UNSAFE if is_plain else re.compile(b".", re.DOTALL)
    name = pattern.sub(lambda found: b"%%%02X" % found[0][0], data).decode()
    if len(name) <= LONGEST:
        return name
    cut = re.sub("%.?$", "", name[: LONGEST - 20])
    return f"{cut}~{hashlib.sha256(data).hexdigest()[:16]}"


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
