"""The type of decoded JSON, from examples: what a user would declare for a venue's messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


def type_of(examples: Sequence[Any], name: str = "Message") -> Any:
    """Return a type to which msgspec decodes all ``examples``: objects become Structs."""
    kinds = {type(example) for example in examples}
    if kinds == {dict}:
        return _struct(examples, name)
    if kinds == {list}:
        return _array(examples, name)
    if kinds == {int, float}:
        return float
    return kinds.pop() if len(kinds) == 1 else Any


def _struct(examples: Sequence[dict[str, Any]], name: str) -> Any:
    fields: list[Any] = []
    optional: list[Any] = []
    for key in dict.fromkeys(key for example in examples for key in example):
        found = [example[key] for example in examples if key in example]
        kind = type_of(found, f"{name}_{key}")
        if len(found) == len(examples):
            fields.append((key, kind))
        else:
            optional.append((key, kind | None, None))
    return msgspec.defstruct(name, fields + optional)


def _array(examples: Sequence[list[Any]], name: str) -> Any:
    items = [item for example in examples for item in example]
    kinds, lengths = {type(item) for item in items}, {len(example) for example in examples}
    if kinds in ({dict}, {list}):
        return list[type_of(items, name)]  # type: ignore[misc]
    if len(lengths) == 1:
        columns = zip(*examples, strict=True)
        return tuple[tuple(type_of(column, name) for column in columns)]  # type: ignore[misc]
    return list[Any]
