"""The state of an order book, and why it is not in sync. Pure logic.

::

    EMPTY, STALE, LOST --snapshot--> SYNCED;  SYNCED --suspect--> SUSPECT;  SYNCED --fault--> STALE
    EMPTY, SYNCED, STALE --lose--> LOST;  any --close--> CLOSED

A book that is EMPTY, STALE or LOST stays so through further faults. What a read sees is the stored
state after what its client shows at that moment: only the others are stored, not SUSPECT or CLOSED.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from wsclient.sansio.machine import Table, after

__all__ = ["STATES", "BookState", "BookStatus"]


class BookState(enum.Enum):
    """The state of an order book, ``book.state``; ``book.reason`` says why.

    ``EMPTY``: it has had no snapshot yet. ``SYNCED``: it matches the messages that have come so
    far. ``SUSPECT``: a message may be missing or late; the next message shows whether it is.
    ``STALE``: it is out of sync until the next snapshot. ``LOST``: no further snapshot will come by
    itself. ``CLOSED``: it was closed. Only a book that is SYNCED is read without ``stale_ok``.
    """

    EMPTY = "empty"
    SYNCED = "synced"
    SUSPECT = "suspect"
    STALE = "stale"
    LOST = "lost"
    CLOSED = "closed"


EMPTY, SYNCED, SUSPECT, STALE, LOST, CLOSED = BookState

STATES: Table[BookState] = {
    (EMPTY, "snapshot"): SYNCED,
    (SYNCED, "snapshot"): SYNCED,
    (STALE, "snapshot"): SYNCED,
    (LOST, "snapshot"): SYNCED,
    (EMPTY, "fault"): EMPTY,
    (SYNCED, "fault"): STALE,
    (STALE, "fault"): STALE,
    (LOST, "fault"): LOST,
    (SYNCED, "suspect"): SUSPECT,
    (EMPTY, "lose"): LOST,
    (SYNCED, "lose"): LOST,
    (STALE, "lose"): LOST,
    (LOST, "lose"): LOST,
    (EMPTY, "close"): CLOSED,
    (SYNCED, "close"): CLOSED,
    (STALE, "close"): CLOSED,
    (LOST, "close"): CLOSED,
}


class BookStatus(NamedTuple):
    """A state, and why the book is not in sync; an empty text if it is."""

    state: BookState
    why: str

    @property
    def is_synced(self) -> bool:
        return self.state is SYNCED

    def after(self, step: str, why: str = "") -> BookStatus:
        """Return the status that follows after ``step``.

        Raises RuntimeError if the step cannot happen in this state.
        """
        return BookStatus(after(STATES, self.state, step), why)
