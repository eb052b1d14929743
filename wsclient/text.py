"""Texts for logs, errors and tables: bounded, on one line, printable."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeVar

__all__ = [
    "EXCERPT",
    "Grid",
    "aligned",
    "excerpt",
    "fitting",
    "number_text",
    "one_line",
    "printable",
    "size_text",
    "text_of",
    "time_text",
    "why",
]

_Key = TypeVar("_Key", bound=Hashable)

#: How many bytes of a frame go into a log line or an exception's text at most.
EXCERPT = 120


class Grid(NamedTuple):
    """A table of texts. ``more`` says below it what is not shown."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    more: str = ""


def aligned(grid: Grid) -> Iterator[str]:
    """Yield the lines of a table: the first column flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(grid.header, *grid.rows, strict=True)]
    for first, *others in (grid.header, *grid.rows):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells])
    if grid.more:
        yield grid.more


def fitting(columns: Mapping[_Key, tuple[int, int]], width: int) -> list[_Key]:
    """Return the columns that fit on a terminal of ``width`` characters.

    Each has a width, and its place in the order in which columns are left out (0: never).
    """
    shown = list(columns)
    for name in sorted(shown, key=lambda name: columns[name][1]):
        if columns[name][1] and sum(columns[n][0] + 3 for n in shown) + 1 > width:
            shown.remove(name)
    return shown


def excerpt(raw: bytes) -> str:
    """Return a printable excerpt of a payload, of at most EXCERPT bytes."""
    text = repr(raw[:EXCERPT])
    return text if len(raw) <= EXCERPT else f"{text}... ({len(raw)} bytes)"


def one_line(text: str) -> str:
    """Return a venue's text for a log: at most 200 characters, without line breaks."""
    if len(text) > 200:
        text = f"{text[:197]}..."
    return "".join(c if c.isprintable() else " " for c in text)


def printable(text: str) -> str:
    """Return ``text`` on one line, with control characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def time_text(seconds: float | None) -> str:
    """Return a duration with its unit, such as ``1.5 ms``; ``-`` for None."""
    if seconds is None:
        return "-"
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if abs(seconds) >= unit:
            return f"{seconds / unit:.3g} {name}" if abs(seconds) < 1000 else f"{seconds:,.0f} s"
    return f"{seconds * 1e6:.3g} us"


def size_text(count: float) -> str:
    """Return a number of bytes with its unit, such as ``1.5 MB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} B"


def number_text(number: Decimal) -> str:
    """Return a number with its own digits: without an exponent, unless it is huge or tiny."""
    return f"{number:f}" if -30 < number.adjusted() < 30 else str(number)


def text_of(error: BaseException) -> str:
    """Return the text of a user's error; the name of its class if it has none, or if it raises."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        text = ""
    return text or type(error).__name__


def why(error: BaseException) -> str:
    """Return the class and the text of a user's error, of at most EXCERPT characters."""
    return f"{type(error).__name__}: {text_of(error)[:EXCERPT]}"
