"""State machines driven by tables: a table maps (state, step) to the state that follows."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

__all__ = ["Table", "after"]

S = TypeVar("S", bound=enum.Enum)

#: What may happen in each state, and the state that follows. There is no other way to change it.
Table = Mapping[tuple[S, str], S]


def after(table: Table[S], state: S, step: str) -> S:
    """Return the state that follows ``state`` after ``step``.

    Raises RuntimeError if ``step`` cannot happen in this state: a bug, also under ``python -O``.
    """
    try:
        return table[state, step]
    except KeyError:
        raise RuntimeError(f"internal error: {step!r} cannot happen in {state.name}") from None
