"""Rows as tables of Arrow, for Parquet files and for frames; and what their numbers can hold."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple, TypeAlias

from wsclient.errors import ConfigurationError
from wsclient.recording.columns import ColumnKind, ExportColumn, ExportRow

__all__ = ["PRECISION", "SCALE", "Advice", "NumberForm", "arrow_schema", "arrow_table", "fitting"]

#: Prices and sizes: decimal128 with up to 20 digits before the point, 18 behind it.
PRECISION, SCALE = 38, 18
#: How prices and sizes are given.
NumberForm: TypeAlias = Literal["decimal", "text", "float"]


class Advice(NamedTuple):
    """What an error says: where a number does not fit, and what works for it."""

    where: str
    numbers: str
    integers: str


def arrow_schema(pa: Any, columns: Sequence[ExportColumn], numbers: NumberForm) -> Any:
    """Return the schema of a table. ``pa`` is the module ``pyarrow``."""
    number = {
        "decimal": pa.decimal128(PRECISION, SCALE),
        "text": pa.string(),
        "float": pa.float64(),
    }[numbers]
    types: dict[ColumnKind, Any] = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": number,
        "time": pa.timestamp("ns", "UTC"),
        "boolean": pa.bool_(),
        "bytes": pa.binary(),
    }
    return pa.schema([(column.name, types[column.kind]) for column in columns])


def arrow_table(
    pa: Any,
    schema: Any,
    columns: Sequence[ExportColumn],
    rows: Sequence[ExportRow],
    numbers: NumberForm,
    advice: Advice,
) -> Any:
    """Return a table of this schema. Raises ConfigurationError for a number that does not fit."""
    arrays = []
    values_of = zip(*rows, strict=True) if rows else iter([()] * len(columns))
    for column, kind, values in zip(columns, schema.types, values_of, strict=True):
        if column.kind == "number" and numbers != "decimal":
            form = float if numbers == "float" else "{:f}".format
            values = tuple(None if v is None else form(v) for v in values)
        try:
            arrays.append(pa.array(values, kind))
        except (pa.ArrowInvalid, OverflowError):
            arrays.append(pa.array(fitting(column, values, rows, advice), kind))
    return pa.Table.from_arrays(arrays, schema=schema)


#: Reads any price: the program's context may have fewer digits.
_CONTEXT = Context(prec=PRECISION, traps=[InvalidOperation])
_UNIT = Decimal(1).scaleb(-SCALE)


def fitting(
    column: ExportColumn, values: Sequence[Any], rows: Sequence[ExportRow], advice: Advice
) -> list[Any]:
    """Return the values in the digits of the column. Raises ConfigurationError if one has more."""
    found = []
    for value, row in zip(values, rows, strict=True):
        fitting = value
        if isinstance(value, Decimal):
            try:
                fitting = value.quantize(_UNIT, context=_CONTEXT)
            except InvalidOperation:
                fitting = None
            if fitting != value:
                raise ConfigurationError(
                    f"{column.name} {value} of {row[1]!r} does not fit into the decimal numbers of "
                    f"{advice.where} ({PRECISION - SCALE} digits before the point, {SCALE} behind "
                    f"it): {advice.numbers}"
                )
        elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise ConfigurationError(
                f"{column.name} {value} of {row[1]!r} does not fit into 64 bits: {advice.integers}"
            )
        found.append(fitting)
    return found
