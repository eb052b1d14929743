"""The fault matrix: promises, and what a run has measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["Line", "each_size", "percentile"]


@dataclass(frozen=True)
class Line:
    """One promise of one row, and its result."""

    row: int
    fault: str
    promise: str
    measured: str
    is_held: bool

    @property
    def cells(self) -> tuple[str, ...]:
        held = "held" if self.is_held else "NOT HELD"
        return str(self.row), self.fault, self.promise, self.measured, held


def each_size(name: str, short: Iterable[Any], full: Iterable[Any], timeout: float) -> Any:
    """Parametrise ``name``: the ``short`` values in the suite, the ``full`` ones with ``-m soak``.

    Each of the latter may take ``timeout`` seconds.
    """
    soak = (pytest.mark.soak, pytest.mark.timeout(timeout))
    return pytest.mark.parametrize(name, [*short, *(pytest.param(v, marks=soak) for v in full)])


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that ``percent`` of 100 do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
