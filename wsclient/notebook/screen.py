"""A live table in a terminal, drawn with rich."""

from __future__ import annotations

from functools import partial

from rich.box import HORIZONTALS
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wsclient.notebook.watches import Watch
from wsclient.picture import DepthBar, Picture, PictureCell, more, text_of_cell
from wsclient.text import fitting, printable
from wsclient.threads.waiting import Deadline, Waiter
from wsclient.threads.workers import WorkerThread, join, launch

__all__ = ["render", "show_screen"]

#: What ends a table: what it shows has ended, or a Ctrl-C.
END, STOP = "end", "stop"
#: How long (s) Ctrl-C waits until a drawing is complete.
PATIENCE = 1.0
#: The lines that are no rows, facts or notes: the title, the table's frame and head, the number of
#: hidden rows, and a note and the cursor at the end.
TAKEN = 8

_STYLES = {"good": "bold green", "bad": "bold red", "warning": "yellow", "quiet": "dim"}


def show_screen(watch: Watch, first: Picture) -> None:
    """Draw the table until Ctrl-C, or until what it shows has ended. The last state stays.

    A thread draws: a Ctrl-C in the midst of a drawing would leave half of it on the screen.
    """
    over, drawn = Waiter(), Waiter()

    def run() -> None:
        try:
            _draw(watch, first, over)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            drawn.settle(error)
        else:
            drawn.settle()

    thread = WorkerThread("wsclient-show", run)
    launch(thread)
    try:
        drawn.wait()
    except KeyboardInterrupt:
        pass
    finally:
        over.settle(None, STOP)
        join(thread, Deadline(PATIENCE))


def _draw(watch: Watch, shown: Picture, over: Waiter) -> None:
    console = Console(highlight=False)
    live = Live(
        console=console,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
    )
    word = ""
    with live, watch.waking(partial(over.settle, None, END)):
        live.update(render(shown, console), refresh=True)
        while not word:
            try:
                word = over.wait(Deadline(watch.pause))
            except TimeoutError:
                picture = watch.look()
                if picture is None or watch.is_over:
                    word = END
                    break
                is_new = list(picture.as_lines()) != list(shown.as_lines())
                shown = picture
                if is_new:
                    live.update(render(picture, console), refresh=True)
        if word == END:
            live.update(render(watch.last(shown), console), refresh=True)


def render(picture: Picture, console: Console) -> RenderableType:
    """Draw a picture within the size of the terminal."""
    title = Text.assemble(
        (printable(picture.title), "bold"), "  ", (picture.state, _STYLES[picture.mood])
    )
    facts = Table.grid(padding=(0, 2))
    for name, cell in picture.facts:
        facts.add_row(Text(name, "dim"), _drawn(cell))
    parts: list[RenderableType] = [_one_line(title), facts]
    room = console.height - len(picture.facts) - len(picture.notes) - TAKEN
    if picture.rows and room > 0:
        parts.append(_table(picture, console.width, room))
    parts += [_one_line(Text(printable(note), "dim")) for note in picture.notes]
    parts.append(Text())  # for the terminal's ^C: at the end of a full line it would scroll
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
    hidden = picture.hidden + max(0, len(picture.rows) - room)
    return Group(table, Text(f" {more(hidden)}", "dim")) if hidden else table


def _drawn(cell: PictureCell) -> Text:
    style = ("green" if cell.is_bid else "red") if isinstance(cell, DepthBar) else ""
    return Text(text_of_cell(cell), style, no_wrap=True)


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
