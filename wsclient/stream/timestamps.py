"""The venue's send time of a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import msgspec

__all__ = ["Path", "find_timestamp", "nanoseconds"]

#: Names of fields from the outside in, and 0 for the first element of an array.
Path = Sequence[str | int]

#: The valid times (ns since the epoch): 1973 to 5138. For a time in this range, the size of the
#: number shows whether it counts ns, us, ms or s.
_RANGE = range(10**17, 10**20)
_UNITS = (1, 10**3, 10**6, 10**9)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def find_timestamp(raw: bytes, paths: Sequence[Path], item: int | None = None) -> int | None:
    """Return the time (ns since the epoch) at the first path that leads to one, or None.

    ``raw`` is a JSON payload; nothing but the values at the paths is decoded. ``item`` replaces the
    0 in a path: the position of a message in a frame that holds several.
    """
    for path in paths:
        try:
            found = nanoseconds(_finder(tuple(path))(raw, item or 0))
        except (msgspec.DecodeError, AttributeError, IndexError, ValueError, OverflowError):
            continue
        if found is not None:
            return found
    return None


def nanoseconds(value: Any) -> int | None:
    """Convert ``value`` to ns since the epoch; None if it is not a time from 1973 on.

    ``value`` is a number or its digits, in s, ms, us or ns since the epoch, or an ISO 8601 date, in
    UTC unless it has another zone. Raises ValueError or OverflowError for some values that are not
    times at all.
    """
    if isinstance(value, str):
        if not value.replace(".", "", 1).isdigit():
            moment = msgspec.convert(value, datetime)
            past = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)) - _EPOCH
            value = (past.days * 86400 + past.seconds) * 10**6 + past.microseconds
            return value * 1000 if value * 1000 in _RANGE else None
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return next((n for n in (int(value * unit) for unit in _UNITS) if n in _RANGE), None)


@lru_cache
def _finder(path: tuple[str | int, ...]) -> Callable[[bytes, int], Any]:
    """Return a function that decodes the value at the path, by a type with only that field.

    Its second argument replaces the index 0.
    """
    kind: Any = Any
    for part in reversed(path):
        if isinstance(part, int):
            kind = list[kind]
        else:
            field = ("value", kind)
            kind = msgspec.defstruct("Place", [field], rename={"value": part}, gc=False)
    decode = msgspec.json.Decoder(kind).decode

    def find(raw: bytes, index: int) -> Any:
        found = decode(raw)
        for part in path:
            found = found[part or index] if isinstance(part, int) else found.value
        return found

    return find
