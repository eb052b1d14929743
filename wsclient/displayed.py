"""How a client is shown in notebooks and terminals, and the open clients of this process."""

from __future__ import annotations

import sys

from wsclient import html
from wsclient.observable import _Observable
from wsclient.threads.weak import WeakGroup

__all__ = ["made"]

#: How many channels the representation of a client in a notebook has.
SHOWN_CHANNELS = 10

#: The clients of this process, also those that are closed, as long as they live.
made: WeakGroup[_Displayed] = WeakGroup()


class _Displayed(_Observable):
    """Base of the client: what notebooks and terminals show of it."""

    def show(self, *channels: str, limit: int = 20, interval: float = 0.25) -> None:
        """Show a live table: the client's state, and its channels with rates, lags and gaps.

        With ``channels`` only these are shown, else the ``limit`` channels with the most messages.
        A channel whose messages have a price (``message.quote()``: the mid, ``message.trades()``:
        the last) is shown with it, and with its trend. ``interval`` is the time (s) between two
        updates, at least 0.25; nothing is redrawn while nothing has changed.

        In a notebook it returns at once. The table is updated in the cell that has called it, until
        that cell runs again, any cell is interrupted, or the client is closed, has failed or is
        garbage-collected. In a terminal it draws by ``rich`` (extra ``cli``), until Ctrl-C or the
        end of the client. Elsewhere, such as in a pipe, it prints the table once.

        Raises ConfigurationError for an argument that cannot work, or without ``rich`` in a
        terminal, and ClientForked in a child process.
        """
        # From a layer above.
        from wsclient.notebook.showing import show_client

        show_client(self, channels, limit, interval)

    def _repr_html_(self) -> str:
        from wsclient.telemetry.overview import chosen, overview  # only notebooks need it

        try:
            stats = self.stats()
            shown = chosen(stats, (), SHOWN_CHANNELS)
            return overview(f"{type(self).__name__} {stats.name}", stats, shown).as_html()
        except Exception:  # noqa: BLE001 - forked, half made, or this thread holds a lock of ours
            return html.page(html.lines([repr(self).strip("<>")]))

    def _remember(self) -> None:
        """Add the client to those of this process, and of the notebook's cell that makes it."""
        made.add(self)
        if "IPython" in sys.modules:
            # From a layer above.
            from wsclient.notebook.reruns import client_made

            client_made(self)
