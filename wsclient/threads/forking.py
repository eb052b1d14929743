"""Cleaning up the parent's objects in a forked child process.

Only the thread that forked exists in the child. Locks that other threads held would stay held for
ever, and results that they would have settled never come. The sockets are copies of the parent's,
and must be closed without sending anything to the peer.

Whatever must change in the child is watched: its ``forked()`` is called once. The locks are
released by :meth:`wsclient.threads.locks.Locks.forked`, a blocked call is ended by its Waiter, a
socket is closed by its Cancellable. A ``forked()`` that takes a lock makes a new one first, as the
locks are released last.
"""

from __future__ import annotations

import os
from typing import Protocol

from wsclient.errors import ClientForked, WSClientError
from wsclient.threads.weak import WeakGroup

__all__ = ["Forkable", "forked_error", "watch"]


class Forkable(Protocol):
    """An object that must change its state in a forked child."""

    def forked(self) -> None:
        """End in the child process, touching no lock and nothing outside of the process."""


_watched: WeakGroup[Forkable] = WeakGroup()


def watch(thing: Forkable) -> None:
    """Call ``thing.forked()`` in each forked child, for as long as ``thing`` lives."""
    _watched.add(thing)


def forked_error() -> WSClientError:
    """Return the error that calls raise in a child process."""
    return ClientForked("this client belongs to the parent process; make a new one in the child")


def _in_child() -> None:
    # The newest first: an order book looks whether its lock is held, before that is released.
    for thing in reversed(_watched.all()):
        thing.forked()
    _watched.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
