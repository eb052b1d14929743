"""The report of ``wsclient check`` on a terminal, drawn with rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_report"]

#: The columns that are left out on a narrow terminal, the first first.
_SPARE = ("twice", "late", "silences", "longest silence", "coverage", "book")


def print_report(
    recordings: Sequence[tuple[str, Sequence[tuple[Sequence[str], bool]], Sequence[str]]],
    damage: Sequence[str],
    verdict: tuple[str, bool],
    head: Sequence[str],
    console: Console | None = None,
) -> None:
    """Print for each recording its title, its rows and its remarks, then the verdict."""
    console = Console(highlight=False) if console is None else console
    for title, rows, remarks in recordings:
        console.print(Text(title, "bold"))
        if rows:
            console.print(_table(rows, head, console.width))
        for remark in remarks:
            console.print(Text(f"  {remark}", "yellow"))
        console.print()
    for line in damage:
        console.print(Text(line, "bold red"))
    text, is_whole = verdict
    console.print(Text(text, "bold green" if is_whole else "bold red"))


def _table(rows: Sequence[tuple[Sequence[str], bool]], head: Sequence[str], width: int) -> Table:
    widths = {
        name: max(len(name), *(len(cells[number]) for cells, _ in rows))
        for number, name in enumerate(head)
    }
    widths[head[0]] = min(widths[head[0]], max(len(head[0]), width // 4))  # a longer name is folded
    shown = list(head)
    for name in _SPARE:
        if sum(widths[n] + 3 for n in shown) + 1 > width:
            shown.remove(name)
    table = Table(box=HORIZONTALS, border_style="dim", header_style="dim")
    for name in shown:
        is_name = name == head[0]
        table.add_column(
            name,
            justify="left" if is_name else "right",
            no_wrap=not is_name,
            overflow="fold",
        )
    for row, is_whole in rows:
        cells = dict(zip(head, row, strict=True))
        table.add_row(*(_cell(name, cells[name], is_whole) for name in shown))
    return table


def _cell(name: str, text: str, is_whole: bool) -> Text:
    if name == "channel":
        return Text(text, "bold" if is_whole else "bold red")
    if text == "-":
        return Text(text, "dim")
    is_bad = (name == "missed") or (name == "book" and text.endswith("wrong"))
    return Text(text, "bold red" if is_bad and not is_whole else "")
