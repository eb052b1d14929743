"""Atomic pops: taking things out of a container so that an interrupt neither loses nor doubles any.

In a thread of the user a KeyboardInterrupt may come after any call, at the start of a function and
at a backward jump, but not inside a call that runs only C code. ``queue.popleft()`` followed by
``return`` has a point between the two, where a message would be lost. So things are taken by an
iterator that is written in C: each step pops one element and hands it over with no point in
between. The frame that returns an element to the user takes it from the iterator in a ``for``
loop, and no Python function in between returns it. Two or more steps are one call of C code as
well: ``extend(islice(iterator, count))``, :func:`run_all`.

A step raises what the pop raises when nothing is left (IndexError, KeyError). Unlike an exhausted
iterator, it goes on when there is something again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat, starmap
from typing import TypeVar

__all__ = ["pops", "run_all"]

T = TypeVar("T")


def pops(pop: Callable[..., T], *arguments: object) -> Iterator[T]:
    """Return an iterator each step of which is one call of ``pop``, a method written in C."""
    return starmap(pop, repeat(arguments))


#: Takes all steps of an iterator, and drops what they return.
run_all = deque[object](maxlen=0).extend
