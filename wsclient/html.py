"""Small pieces of HTML for notebooks: escaped, cut, and readable on a light or dark page.

Everything is styled where it stands. There is no script, no style sheet and no file, so nothing
reaches the rest of the page. Text has the colour of the page; the few colours of our own have a
contrast of at least 3.8 to 1 on white and on the dark pages of notebooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from wsclient.text import Grid

__all__ = [
    "Html",
    "Mood",
    "badge",
    "bar",
    "cut",
    "facts",
    "faint",
    "grid",
    "lines",
    "page",
    "sparkline",
]

Mood = Literal["good", "bad", "warning", "quiet"]

#: A longer text is cut off here (characters).
LONGEST = 120
COLOURS = {"good": "#1a8c48", "bad": "#d9443f", "warning": "#b0740a", "quiet": "currentColor"}
#: The size of a sparkline (px).
WIDTH, HEIGHT = 96, 16
#: Python's own module ``html`` is slow to import.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_CELL = "padding:1px 10px 1px 0;border:none;vertical-align:top;background:none;"


class Html(str):
    """A text that is HTML already, which is not escaped again."""

    __slots__ = ()


def cut(text: object, longest: int = LONGEST) -> Html:
    """Return a text for a page: escaped, on one line, of at most ``longest`` characters."""
    if isinstance(text, Html):
        return text
    shown = str(text)
    if len(shown) > longest:
        shown = f"{shown[: longest - 3]}..."
    return Html("".join(c if c.isprintable() else " " for c in shown).translate(_ESCAPES))


def page(*parts: str) -> str:
    """Return the parts below each other."""
    found = "".join(parts)
    return f'<div style="font-size:13px;line-height:1.45;color:inherit">{found}</div>'


def lines(texts: Iterable[object]) -> Html:
    """Return texts, one per line."""
    return Html("".join(f"<div>{cut(text, 400)}</div>" for text in texts))


def badge(text: object, mood: Mood) -> Html:
    """Return a short text in a frame, in the colour of ``mood``."""
    colour = COLOURS[mood]
    return Html(
        f'<span style="border:1px solid {colour};border-radius:8px;padding:0 7px;color:{colour}">'
        f"{cut(text, 200)}</span>"
    )


def faint(text: object) -> Html:
    """Return a text that stands back."""
    return Html(f'<span style="opacity:.65">{cut(text, 400)}</span>')


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Return a table of names and values."""
    rows = (
        f'<tr style="background:none"><td style="{_CELL}text-align:left">{faint(name)}</td>'
        f'<td style="{_CELL}text-align:left;overflow-wrap:anywhere">{cut(value, 600)}</td></tr>'
        for name, value in pairs
    )
    return _table("".join(rows))


def grid(shown: Grid, left: Sequence[int] = (0,)) -> Html:
    """Return a table. The columns of these numbers are flush left, the others flush right."""
    sides = ["left" if place in left else "right" for place in range(len(shown.header))]
    head = "".join(
        f'<th style="{_CELL}text-align:{side};font-weight:normal;opacity:.65">{cut(text)}</th>'
        for text, side in zip(shown.header, sides, strict=True)
    )
    rows = "".join(
        '<tr style="background:none">'
        + "".join(
            f'<td style="{_CELL}text-align:{side};white-space:nowrap;'
            f'font-variant-numeric:tabular-nums">{cut(text, 80)}</td>'
            for text, side in zip(row, sides, strict=True)
        )
        + "</tr>"
        for row in shown.rows
    )
    more = f"<div>{faint(shown.more)}</div>" if shown.more else ""
    return Html(_table(f'<tr style="background:none">{head}</tr>{rows}') + more)


def _table(rows: str) -> Html:
    style = "border-collapse:collapse;border:none;margin:4px 0;font-size:inherit;color:inherit"
    return Html(f'<table style="{style}">{rows}</table>')


def bar(share: float, mood: Mood, side: Literal["left", "right"] = "left") -> Html:
    """Return a bar, ``share`` (0 to 1) of the full width long, that begins at ``side``."""
    width = round(WIDTH * min(max(share, 0.0), 1.0))
    return Html(
        f'<div style="width:{WIDTH}px"><div style="float:{side};height:1em;width:{width}px;'
        f'opacity:.55;background:{COLOURS[mood]}"></div></div>'
    )


def sparkline(values: Sequence[float]) -> Html:
    """Return a line through ``values``, from left to right; nothing for fewer than two."""
    if len(values) < 2:
        return Html("")
    low, high = min(values), max(values)
    if high == low:
        values = values[:2]  # however many: so the line does not change
    room, step = HEIGHT - 4, (WIDTH - 2) / (len(values) - 1)
    heights = [room / 2 if high == low else room * (high - v) / (high - low) for v in values]
    points = " ".join(f"{1 + n * step:.1f},{2 + y:.1f}" for n, y in enumerate(heights))
    return Html(
        f'<svg width="{WIDTH}" height="{HEIGHT}" style="vertical-align:middle;overflow:visible">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.2" '
        'opacity=".8"/></svg>'
    )
