"""A group of weak references that any thread may iterate over at any time."""

from __future__ import annotations

from functools import partial
from typing import Generic, TypeVar
from weakref import ref

__all__ = ["WeakGroup"]

T = TypeVar("T")


class WeakGroup(Generic[T]):
    """A WeakSet that may be copied while other threads, signal handlers and finalizers add to it.

    Each step is one atomic call.
    """

    __slots__ = ("_refs",)

    def __init__(self) -> None:
        self._refs: dict[int, ref[T]] = {}

    def add(self, thing: T) -> None:
        key, refs = id(thing), self._refs
        # Written in C: Python would ignore a Ctrl-C within a callback written in Python here.
        refs[key] = ref(thing, partial(refs.pop, key))

    def all(self) -> list[T]:
        """Return the objects that are alive now."""
        found = (known() for known in list(self._refs.values()))
        return [thing for thing in found if thing is not None]

    def clear(self) -> None:
        self._refs.clear()

    def __len__(self) -> int:
        return len(self._refs)
