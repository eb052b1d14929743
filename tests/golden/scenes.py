"""The scenes of the golden trace, with each fault that a FakeVenue knows.

A scene waits for each thing that it causes before it causes the next one, so that its trace does
not depend on how fast the machine is. Its seed decides what happens, never when.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from golden import scenes_of_all, scenes_of_one
from golden.speakers import SPEAKERS
from golden.stage import FOR_ALL, FOR_ONE, SLOW, Play, perform

__all__ = ["scenes", "scenes_of_all", "scenes_of_one"]

#: These wait 1 s for a limit of requests: the reduced trace has them for other venues.
_PACED = {
    "binance_futures: book",
    "binance_futures: book_with_a_hole",
    "deribit: login accepted",
    "deribit: refused_channels",
    "kucoin: book",
    "kucoin: book_with_a_hole",
}


def scenes(reduced: bool = False) -> Iterator[tuple[str, Play]]:
    """Yield each scene's name, and a function that runs it and returns its rows."""
    for speaker in SPEAKERS:
        for name, play in FOR_ALL.items():
            full_name = f"{speaker.name}: {name}"
            if not (reduced and (name in SLOW or full_name in _PACED)):
                yield full_name, functools.partial(perform, speaker, play)
    for name, play in FOR_ONE.items():
        if not (reduced and name in SLOW):
            yield f"one: {name}", functools.partial(perform, SPEAKERS[0], play)
