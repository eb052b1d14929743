"""The demo on a terminal, drawn with rich."""

from __future__ import annotations

from rich.box import HORIZONTALS
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wsclient.cli.board import Board, BoardEvent, BoardRow, Summary, View
from wsclient.cli.plain import summary_lines, verdict
from wsclient.text import fitting, printable

__all__ = ["ScreenView"]

_EVENTS = {"good": "green", "bad": "bold red", "gap": "yellow", "note": "dim"}
_MOVES = {1: "green", 0: "default", -1: "red"}
#: The columns of the table: the width of each, and the order in which they are left out on a
#: narrow terminal (0: never).
_COLUMNS = {
    "channel": (14, 0),
    "last": (9, 0),
    "change": (6, 3),
    "msgs": (5, 4),
    "rate": (4, 1),
    "sequence": (8, 2),
    "last gap": (10, 0),
}


class ScreenView(View):
    """A screen, redrawn several times per second. Its last state stays on the terminal."""

    interval = 0.125

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, board: Board) -> None:
        self._live.update(self._screen(board), refresh=True)

    def event(self, event: BoardEvent) -> None:
        pass  # it is on the board, and the next update shows it

    def finish(self, board: Board, summary: Summary) -> None:
        table, account = self._table(board), _account(summary)
        used = sum(len(self._console.render_lines(part)) for part in (table, account))
        events = _events(board.events, self._console.height - used - 1)
        self._console.print(Group(table, events, account))

    def _screen(self, board: Board) -> RenderableType:
        table = self._table(board)
        return Group(
            _head(board, self._console.measure(table).maximum),
            table,
            _totals(board),
            Text(),
            _events(board.events, self._console.height - len(board.rows) - 8),
        )

    def _table(self, board: Board) -> Table:
        shown = fitting(_COLUMNS, self._console.width)
        table = Table(box=HORIZONTALS, border_style="dim", header_style="dim")
        for name in shown:
            justify: JustifyMethod = "left" if name == "channel" else "right"
            table.add_column(name, justify=justify, width=_COLUMNS[name][0], no_wrap=True)
        for row in board.rows.values():
            cells = _cells(row, board.elapsed)
            table.add_row(*(cells[name] for name in shown))
        return table


def _cells(row: BoardRow, now: float) -> dict[str, Text]:
    change = row.change
    if row.is_missing:
        gap = Text("missing", "bold red")
    elif row.gap is None:
        gap = Text("-", "dim")
    else:
        missed = "?" if row.gap.missed is None else f"{row.gap.missed:,}"
        gap = Text(f"{missed} missed", "yellow")
    return {
        "channel": Text(row.channel, "bold"),
        "last": Text("-" if row.price is None else f"{row.price:,}", _MOVES[row.direction]),
        "change": Text(f"{change:+.2f}%", _MOVES[(change > 0) - (change < 0)]),
        "msgs": Text(f"{row.messages:,}"),
        "rate": Text(f"{row.rate(now):.0f}/s", "dim"),
        "sequence": Text("-" if row.last is None else f"{row.last:,}", "dim"),
        "last gap": gap,
    }


def _head(board: Board, width: int) -> Table:
    line = Table.grid(expand=True)
    line.width = width
    line.add_column(no_wrap=True, ratio=1)
    line.add_column(no_wrap=True, justify="right")
    colour = "bold green" if board.is_open else "bold red"
    line.add_row(
        Text.assemble((" wsclient demo", "bold"), "   ", (board.state, colour)),
        Text(f"{board.elapsed:.1f} of {board.seconds:g} s ", "dim"),
    )
    return line


def _totals(board: Board) -> Text:
    parts = (
        (f" {board.messages:,} messages", "bold"),
        (f"   {board.reconnects} reconnect{'s'[: board.reconnects != 1]}", ""),
        (f"   {board.gaps} gaps", "yellow" if board.gaps else ""),
        (f"   {board.missed:,} missed" if board.missed else "", "yellow"),
    )
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _events(events: list[BoardEvent], room: int) -> RenderableType:
    """Draw the last events, at most ``room``, one line each."""
    return Group(
        *(
            Text.assemble(
                (f"{event.at:5.1f} s  ", "dim"),
                (printable(event.text), _EVENTS[event.kind]),
                no_wrap=True,
                overflow="ellipsis",
            )
            for event in events[-room:]
            if room > 0
        )
    )


def _account(summary: Summary) -> RenderableType:
    grid = Table(box=None, show_header=False)
    grid.add_column()
    grid.add_column(justify="right")
    grid.add_column(style="dim", overflow="fold")
    for name, value, remark in summary_lines(summary):
        grid.add_row(name, Text(value, "bold"), remark)
    style = "bold red" if summary.unaccounted else "bold green"
    return Group(Text(), grid, Text(), Text(f" {verdict(summary)}", style))
