"""A group of weakly held objects that any thread may go through at any time."""

from __future__ import annotations

from typing import Generic, TypeVar
from weakref import ref

__all__ = ["WeakGroup"]

T = TypeVar("T")


class WeakGroup(Generic[T]):
    """A WeakSet that may be copied while other threads, signal handlers and finalizers add to it:
    each step is one atomic call."""

    def __init__(self) -> None:
        self._refs: dict[int, ref[T]] = {}

    def add(self, thing: T) -> None:
        key, refs = id(thing), self._refs
        refs[key] = ref(thing, lambda _: refs.pop(key, None))

    def all(self) -> list[T]:
        """Return the objects that are alive now."""
        found = (known() for known in list(self._refs.values()))
        return [thing for thing in found if thing is not None]

    def __len__(self) -> int:
        return len(self._refs)
