"""A picture of a client or of an order book at one moment: drawn as HTML, as text, or by rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from wsclient import html
from wsclient.html import Html, Mood
from wsclient.text import Grid, aligned, printable

__all__ = ["DepthBar", "Picture", "PictureCell", "Trend", "more", "text_of_cell"]

#: The length of a bar or a trend as text (characters).
LENGTH = 20
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Trend:
    """Values over time, drawn as a line."""

    values: tuple[float, ...]

    def as_text(self) -> str:
        """Return a block for each of the last values, whose height is the value; LENGTH long."""
        shown = self.values[-LENGTH:]
        if len(shown) < 2:
            return " " * LENGTH
        low, room = min(shown), max(shown) - min(shown)
        if not room:
            return _BLOCKS[3] * LENGTH
        heights = (round((v - low) / room * (len(_BLOCKS) - 1)) for v in shown)
        return "".join(map(_BLOCKS.__getitem__, heights)).rjust(LENGTH)


@dataclass(frozen=True)
class DepthBar:
    """The size of a level of an order book: its ``share`` (0 to 1) of the largest one shown."""

    share: float
    is_bid: bool

    def as_text(self) -> str:
        bar = "█" * round(LENGTH * min(max(self.share, 0.0), 1.0))
        return bar.rjust(LENGTH) if self.is_bid else bar.ljust(LENGTH)

    def as_html(self) -> Html:
        if self.is_bid:
            return html.bar(self.share, "good", "right")
        return html.bar(self.share, "bad", "left")


def more(hidden: int) -> str:
    """Return the line below a table of which this many rows are not shown."""
    return f"and {hidden:,} more" if hidden else ""


PictureCell: TypeAlias = str | Trend | DepthBar


def text_of_cell(cell: PictureCell) -> str:
    """Return a cell as printable text."""
    return printable(cell) if isinstance(cell, str) else cell.as_text()


def _html_of(cell: PictureCell) -> str:
    if isinstance(cell, str):
        return cell
    return html.sparkline(cell.values) if isinstance(cell, Trend) else cell.as_html()


@dataclass(frozen=True)
class Picture:
    """What is shown: a title with a state, facts, a table, and notes below it.

    ``hidden`` is the number of rows that are not shown. ``left`` are the columns of the table that
    are flush left, ``drops`` those that are left out on a narrow terminal, in this order.
    """

    title: str
    state: str
    mood: Mood
    facts: tuple[tuple[str, PictureCell], ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[PictureCell, ...], ...] = ()
    hidden: int = 0
    notes: tuple[str, ...] = ()
    left: tuple[int, ...] = (0,)
    drops: tuple[int, ...] = ()

    def noting(self, *notes: str) -> Picture:
        """Return the picture with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    def as_html(self) -> str:
        """Return the picture as a piece of HTML."""
        title = html.cut(self.title)
        parts = [f"<div><b>{title}</b> {html.badge(self.state, self.mood)}</div>"]
        parts.append(html.facts((name, _html_of(cell)) for name, cell in self.facts))
        if self.rows:
            rows = [[_html_of(cell) for cell in row] for row in self.rows]
            parts.append(html.grid(Grid(self.header, rows, more(self.hidden)), self.left))
        parts += [f"<div>{html.faint(note)}</div>" for note in self.notes]
        return html.page(*parts)

    def as_lines(self) -> Iterator[str]:
        """Yield the picture as lines of text."""
        yield printable(f"{self.title}: {self.state}")
        facts = [(name, text_of_cell(cell)) for name, cell in self.facts]
        width = max((len(name) for name, _ in facts), default=0)
        yield from (f"{name:<{width}}  {text}" for name, text in facts)
        if self.rows:
            yield ""
            rows: Sequence[Sequence[str]] = [list(map(text_of_cell, row)) for row in self.rows]
            yield from (
                line.rstrip() for line in aligned(Grid(self.header, rows, more(self.hidden)))
            )
        yield from map(printable, self.notes)
