"""A live table in a terminal, drawn with rich."""

from __future__ import annotations

from rich.box import HORIZONTALS
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wsclient.notebook.watches import Watch
from wsclient.picture import DepthBar, Picture, PictureCell, text_of_cell
from wsclient.text import fitting, printable
from wsclient.threads.waiting import Deadline, Waiter

__all__ = ["render", "show_screen"]

_STYLES = {"good": "bold green", "bad": "bold red", "warning": "yellow", "quiet": "dim"}


def show_screen(watch: Watch, interval: float, first: Picture) -> None:
    """Draw the table until Ctrl-C, or until what it shows has ended. The last state stays."""
    console = Console(highlight=False)
    over = Waiter()
    shown = first
    try:
        with (
            Live(
                console=console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            ) as live,
            watch.waking(over.settle),
        ):
            live.update(render(first, console), refresh=True)
            while not over.settled:
                try:
                    over.wait(Deadline(interval))
                except TimeoutError:
                    pass
                picture = watch.look()
                if picture is None or watch.is_over:
                    break
                is_new = list(picture.as_lines()) != list(shown.as_lines())
                shown = picture
                if is_new:
                    live.update(render(picture, console), refresh=True)
            live.update(render(watch.last(shown), console), refresh=True)
    except KeyboardInterrupt:
        return


def render(picture: Picture, console: Console) -> RenderableType:
    """Draw a picture within the size of the terminal."""
    title = Text.assemble(
        (printable(picture.title), "bold"), "  ", (picture.state, _STYLES[picture.mood])
    )
    facts = Table.grid(padding=(0, 2))
    for name, cell in picture.facts:
        facts.add_row(Text(name, "dim"), _drawn(cell))
    parts: list[RenderableType] = [_one_line(title), facts]
    room = console.height - len(picture.facts) - len(picture.notes) - 6
    if picture.rows and room > 0:
        parts.append(_table(picture, console.width, room))
    parts += [_one_line(Text(printable(note), "dim")) for note in picture.notes]
    return Group(*parts)


def _table(picture: Picture, width: int, room: int) -> RenderableType:
    columns = list(zip(picture.header, *picture.rows, strict=True))
    widths = [max(len(text_of_cell(cell)) for cell in column) for column in columns]
    ranks = {place: rank for rank, place in enumerate(picture.drops, 1)}
    shown = fitting({n: (wide, ranks.get(n, 0)) for n, wide in enumerate(widths)}, width)
    table = Table(box=HORIZONTALS, border_style="dim", header_style="dim")
    for place in shown:
        justify: JustifyMethod = "left" if place in picture.left else "right"
        table.add_column(picture.header[place], justify=justify, no_wrap=True, overflow="ellipsis")
    for row in picture.rows[:room]:
        table.add_row(*(_drawn(row[place]) for place in shown))
    hidden = len(picture.rows) - room
    more = picture.more if hidden <= 0 else "more rows than lines"
    return Group(table, Text(f" {more}", "dim")) if more else table


def _drawn(cell: PictureCell) -> Text:
    style = ("green" if cell.is_bid else "red") if isinstance(cell, DepthBar) else ""
    return Text(text_of_cell(cell), style, no_wrap=True)


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
