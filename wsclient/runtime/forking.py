"""What becomes, in a forked child, of that which is the parent's.

Only the thread that forked lives on there: locks of the others stay held for ever, results that
they would have settled never come, and the sockets are copies of the parent's, to be let go of
without a word to the peer.
"""

from __future__ import annotations

import os
from typing import Protocol

from wsclient.errors import ClientForked, WSClientError
from wsclient.runtime.weak import WeakGroup

__all__ = ["Forkable", "forked_error", "watch"]


class Forkable(Protocol):
    def forked(self) -> None:
        """In the child: end, touching no lock and nothing outside of the process."""


_watched: WeakGroup[Forkable] = WeakGroup()


def watch(thing: Forkable) -> None:
    """See that ``thing`` hears of a fork, for as long as it lives."""
    _watched.add(thing)


def forked_error() -> WSClientError:
    return ClientForked("this client is the parent process's; make a new one in the child")


def _in_child() -> None:
    for thing in _watched.all():
        thing.forked()
    _watched.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
