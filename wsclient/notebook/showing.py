"""``client.show()`` and ``book.show()``: where a live table is drawn."""

from __future__ import annotations

import os
import sys

from wsclient.checks import check_number, check_whole
from wsclient.errors import ConfigurationError
from wsclient.notebook.live import show_live
from wsclient.notebook.shell import notebook_shell
from wsclient.notebook.watches import BookWatch, ClientWatch, ShownBook, ShownClient, Watch
from wsclient.runtime.checks import check_channels, forbid_worker_threads
from wsclient.runtime.core import Core

__all__ = ["show_book", "show_client"]

#: The shortest time (s) between two updates.
FASTEST = 0.25


def show_client(
    client: ShownClient, channels: tuple[str, ...], limit: int, interval: float
) -> None:
    """See :meth:`WebSocketClient.show`."""
    if channels:
        check_channels(channels)
    check_whole("limit", limit, 1)
    check_number("interval", interval, FASTEST)
    _show(ClientWatch(client, channels, limit, interval))


def show_book(book: ShownBook, core: Core | None, depth: int, interval: float) -> None:
    """See :meth:`OrderBook.show`."""
    check_whole("depth", depth, 1)
    check_number("interval", interval, FASTEST)
    _show(BookWatch(book, core, depth, interval))


def _show(watch: Watch) -> None:
    shell = notebook_shell()
    first = watch.look()
    if first is None:
        return
    if watch.is_over:
        first = watch.last(first)
    if shell is not None:
        show_live(shell, watch, first)
    elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not watch.is_over:
        forbid_worker_threads()
        try:
            from wsclient.notebook.screen import show_screen
        except ImportError as error:
            raise ConfigurationError(
                "show() in a terminal needs rich: pip install 'wsclient-market[cli]'"
            ) from error
        show_screen(watch, first)
    else:
        print("\n".join(first.as_lines()), flush=True)
