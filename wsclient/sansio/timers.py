"""A heap of deadlines."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Timers"]

T = TypeVar("T", bound=Hashable)


class Timers(Generic[T]):
    """A heap of items by deadline (monotonic s). A deadline may only move to later.

    ``due`` returns the current deadline of an item: ``inf`` for never, None if it no longer needs
    one. It is called again only when the old deadline has passed, so moving a deadline costs
    nothing.
    """

    __slots__ = ("_due", "_heap", "_held", "_numbers", "_room")

    def __init__(self, due: Callable[[T], float | None]) -> None:
        self._due = due
        self._heap: list[tuple[float, int, T]] = []
        self._held: set[T] = set()
        self._numbers = itertools.count()
        #: At this many items, those that no longer need a deadline are removed.
        self._room = 64

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, item: T) -> None:
        """Watch ``item``, unless it is already watched or has no deadline."""
        due = self._due(item)
        if item in self._held or due is None or due == float("inf"):
            return
        if len(self._heap) >= self._room:
            self._sweep()
        self._held.add(item)
        heapq.heappush(self._heap, (due, next(self._numbers), item))

    def deadline(self) -> float:
        """Return when to call :meth:`take` (monotonic s, ``inf`` for never).

        It may return nothing at that time.
        """
        while self._heap and self._due(self._heap[0][2]) is None:
            self._pop()
        return self._heap[0][0] if self._heap else float("inf")

    def take(self, now: float) -> list[T]:
        """Return the items that are due, earliest first, and stop watching them."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            item = self._pop()
            due = self._due(item)
            if due is not None and due > now:
                self.add(item)
            elif due is not None:
                taken.append(item)
        return taken

    def _pop(self) -> T:
        _, _, item = heapq.heappop(self._heap)
        self._held.discard(item)
        return item

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if self._due(entry[2]) is not None]
        heapq.heapify(self._heap)
        self._held = {item for _, _, item in self._heap}
        self._room = max(64, 2 * len(self._heap))
