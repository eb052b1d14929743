"""Rows as frames of pandas and polars and as tables of Arrow, each made without the other two.

The columns are those of the tables of an export. Each column has the same type in every frame,
whatever its values are. Prices and sizes are floats, or exact decimal numbers; times are
nanoseconds in UTC; integers have 64 bits and may be missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from wsclient.errors import ConfigurationError
from wsclient.messages import Message
from wsclient.recording.arrowtables import (
    PRECISION,
    SCALE,
    Advice,
    arrow_schema,
    arrow_table,
    fitting,
)
from wsclient.recording.columns import TABLES, ExportColumn, ExportRow, TableName
from wsclient.stream.exact import Exact
from wsclient.stream.inbound import Inbound

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

__all__ = ["arrow_frame", "check_kind", "data_of", "pandas_frame", "polars_frame", "venue_of"]

#: How to install each package.
_INSTALLS = {
    "pandas": "pip install 'wsclient-market[notebook]'",
    "polars": "pip install polars",
    "pyarrow": "pip install pyarrow",
}
_INTEGERS = "take the number from the message itself"
_NUMBERS = "to_pandas(decimal=True) has any number of digits"
PANDAS = Advice("pandas", _NUMBERS, _INTEGERS)
POLARS = Advice("polars", _NUMBERS, _INTEGERS)
ARROW = Advice("Arrow", _NUMBERS, _INTEGERS)

Values: TypeAlias = Sequence[Any]


def check_kind(kind: object) -> None:
    """Raise ConfigurationError unless ``kind`` is the name of a table."""
    if kind not in get_args(TableName):
        raise ConfigurationError(f"kind must be one of {', '.join(TABLES)}, not {kind!r}")


def venue_of(message: Message, default: str | None) -> str | None:
    """Return the name of the dialect that read a message; ``default`` if none has."""
    decoder = message.arrival.decoder
    return default if decoder is None else decoder.venue


def data_of(message: Message) -> bytes | None:
    """Return the JSON text of a message that shares its frame; None if there is none."""
    decoder = message.arrival.decoder
    if message.item is None or not isinstance(decoder, Inbound):
        return None
    try:
        return Exact(decoder.dialect)(message)
    except Exception:  # noqa: BLE001 - the dialect does not read JSON
        return None


def _module(name: str, call: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigurationError(f"{call} needs {name}: {_INSTALLS[name]}") from error


def _values(kind: TableName, rows: Sequence[ExportRow]) -> list[tuple[ExportColumn, Values]]:
    """Return each column with its values."""
    columns = TABLES[kind].columns
    values: Sequence[Values] = list(zip(*rows, strict=True)) or [()] * len(columns)
    return list(zip(columns, values, strict=True))


def _floats(values: Values, missing: float | None) -> list[float | None]:
    return [missing if value is None else float(value) for value in values]


# pandas.

NAN = float("nan")
#: How numpy stores a time that is missing.
_NO_TIME = -(1 << 63)


def pandas_frame(
    kind: TableName, rows: Sequence[ExportRow], *, decimal: bool = False
) -> pandas.DataFrame:
    """Return rows as a DataFrame. Raises ConfigurationError without pandas."""
    pd, np = _module("pandas", "to_pandas()"), _module("numpy", "to_pandas()")
    text = pd.Series(["a"]).dtype  # what this pandas, with its options, makes of text

    def masked(column: ExportColumn, values: Values, dtype: Any, empty: Any) -> tuple[Any, Any]:
        mask = np.fromiter((value is None for value in values), bool, len(values))
        filled = [empty if value is None else value for value in values]
        try:
            return np.array(filled, dtype), mask
        except OverflowError:
            return np.array(fitting(column, filled, rows, PANDAS), dtype), mask

    def array(column: ExportColumn, values: Values) -> Any:
        match column.kind:
            case "text":
                return pd.Series(values, dtype=text)
            case "integer":
                return pd.arrays.IntegerArray(*masked(column, values, np.int64, 0))
            case "boolean":
                return pd.arrays.BooleanArray(*masked(column, values, bool, False))
            case "time":
                ns, _ = masked(column, values, np.int64, _NO_TIME)
                return pd.DatetimeIndex(ns.view("datetime64[ns]"), tz="UTC")
            case "number" if not decimal:
                return np.array(_floats(values, NAN), np.float64)
        return pd.Series(values, dtype=object)

    frame: pandas.DataFrame = pd.DataFrame(
        {column.name: array(column, values) for column, values in _values(kind, rows)}
    )
    return frame


# polars.


def polars_frame(
    kind: TableName, rows: Sequence[ExportRow], *, decimal: bool = False
) -> polars.DataFrame:
    """Return rows as a DataFrame of polars.

    Raises ConfigurationError without polars, and for a number that has more digits than a decimal
    number of polars.
    """
    pl = _module("polars", "to_polars()")
    types: dict[str, Any] = {
        "text": pl.String,
        "integer": pl.Int64,
        "number": pl.Decimal(PRECISION, SCALE) if decimal else pl.Float64,
        "time": pl.Int64,
        "boolean": pl.Boolean,
        "bytes": pl.Binary,
    }

    def series(column: ExportColumn, values: Values) -> Any:
        kind = types[column.kind]
        if column.kind == "number":
            values = fitting(column, values, rows, POLARS) if decimal else _floats(values, None)
        try:
            found = pl.Series(column.name, values, kind)
        except (OverflowError, TypeError):
            found = pl.Series(column.name, fitting(column, values, rows, POLARS), kind)
        return found.cast(pl.Datetime("ns", "UTC")) if column.kind == "time" else found

    frame: polars.DataFrame = pl.DataFrame(
        [series(column, values) for column, values in _values(kind, rows)]
    )
    return frame


# Arrow.


def arrow_frame(
    kind: TableName, rows: Sequence[ExportRow], *, decimal: bool = False
) -> pyarrow.Table:
    """Return rows as a table of Arrow.

    Raises ConfigurationError without pyarrow, and for a number that has more digits than a
    decimal128.
    """
    pa = _module("pyarrow", "to_arrow()")
    columns = TABLES[kind].columns
    numbers: Any = "decimal" if decimal else "float"
    schema = arrow_schema(pa, columns, numbers)
    table: pyarrow.Table = arrow_table(pa, schema, columns, rows, numbers, ARROW)
    return table
