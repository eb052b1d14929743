"""A live table in the cell of a notebook: a thread that updates what the cell has shown.

An update names the cell's output by a ``display_id``. It goes through the publisher of the cell
that has called, as an answer to the request that ran that cell: the thread may run while another
cell does, and must not write there. It never prints.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from typing import Any

from wsclient.notebook.shell import cell_of, running_cell
from wsclient.notebook.watches import Watch
from wsclient.picture import Picture
from wsclient.threads.waiting import Deadline, Waiter
from wsclient.threads.weak import WeakGroup
from wsclient.threads.workers import WorkerThread, launch

__all__ = ["show_live"]

#: The words for what ends a table.
RERUN, INTERRUPT, END = "rerun", "interrupt", "end"


class LiveTable:
    """A table in a cell, and the thread that updates it."""

    def __init__(self, shell: Any, watch: Watch, first: Picture) -> None:
        self.cell = running_cell(shell)
        self._watch = watch
        self._publisher = shell.display_pub
        #: The request that ran the cell, as its messages name it.
        self._request = dict(getattr(self._publisher, "parent_header", None) or {})
        self._id = token_hex(16)
        self._shown = first
        #: Settled, with one of the words above, when the table is to end.
        self.over = Waiter()

    def begin(self) -> None:
        """Show the table; start the thread, unless the output is captured or already complete."""
        self._publish(self._shown)
        if hasattr(self._publisher, "register_hook") and not self._watch.is_over:
            tables.add(self)
            launch(WorkerThread("wsclient-show", self._run))

    def stop(self, word: str) -> None:
        """End the table. Does not wait for its thread."""
        self.over.settle(None, word)

    def _publish(self, picture: Picture, *, is_update: bool = False) -> None:
        self._publisher.publish(
            {"text/html": picture.as_html(), "text/plain": "\n".join(picture.as_lines())},
            transient={"display_id": self._id},
            update=is_update,
        )

    def _run(self) -> None:
        with suppress(Exception):  # a kernel that shuts down; threading would print it
            # For this thread alone: both ipykernel 6 and 7 would name the cell that runs now.
            self._publisher.register_hook(self._answers)
            with self._watch.waking(lambda: self.stop(END)):
                word = None
                while word is None:
                    word = self._next()
            if word != RERUN:  # the cell's output is gone
                self._draw(self._last(word))

    def _answers(self, message: dict[str, Any]) -> dict[str, Any]:
        return {**message, "parent_header": self._request}

    def _next(self) -> str | None:
        """Wait for the next update, and draw it. Return a word when the table has ended."""
        try:
            word: str = self.over.wait(Deadline(self._watch.pause))
            return word
        except TimeoutError:
            pass
        picture = self._watch.look()
        if picture is None or self._watch.is_over:
            return END
        self._draw(picture)
        return None

    def _draw(self, picture: Picture) -> None:
        is_new = picture.as_html() != self._shown.as_html()
        self._shown = picture
        if is_new:
            self._publish(picture, is_update=True)

    def _last(self, word: str) -> Picture:
        if word == INTERRUPT:
            return self._shown.noting("stopped by the interrupt; call show() again to go on")
        return self._watch.last(self._shown)


#: The tables that are being updated.
tables: WeakGroup[LiveTable] = WeakGroup()


def show_live(shell: Any, watch: Watch, first: Picture) -> None:
    """Show a table in the cell that runs, and update it in the background."""
    table = LiveTable(shell, watch, first)
    for event, function in (("pre_run_cell", _before_cell), ("post_run_cell", _after_cell)):
        shell.events.register(event, function)  # IPython ignores all but the first call
    table.begin()


def _before_cell(info: Any) -> None:
    _stop_all(RERUN, lambda table: table.cell == cell_of(info))


def _after_cell(result: Any) -> None:
    error = getattr(result, "error_in_exec", None)
    # A cell that awaits is cancelled by the interrupt.
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "CancelledError":
        _stop_all(INTERRUPT, lambda _: True)


def _stop_all(word: str, ends: Callable[[LiveTable], bool]) -> None:
    with suppress(Exception):  # IPython would print it into the cell
        for table in tables.all():
            if ends(table):
                table.stop(word)
