"""Rows 20 and 21: signals and finalizers strike the client at random moments.

The programs run in processes of their own (see struck.py).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from support.program import Program
from support.struck import CALLS
from support.talk import BOOK_CHANNEL, FEED, LOOPS, Talker, feeding
from wsclient.testing import FakeVenue

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

TESTS = str(Path(__file__).parents[1])
#: The loops of which a short run does all ten.
TEN = (
    "latest",
    "subscriptions",
    "stats",
    "recv",
    "for",
    "reader.recv",
    "reader",
    "subscribe and unsubscribe",
    "request",
    "book reads",
)


def run(*args: object, patience: float = 50.0) -> dict[str, str]:
    """Return what the program reports of each of its loops."""
    source = f"import sys; sys.path[:0] = [{TESTS!r}]; from support import struck; "
    source += "struck.main(*sys.argv[1:])"
    with Program(source, *map(str, args), patience=patience) as program:
        end = program.end()
    assert (end.code, end.err) == (0, ""), f"{args}: ended with {end.code}\n{end.out}\n{end.err}"
    return dict(line.split(": ", 1) for line in end.out.splitlines())


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1, 1_000_000)
    print(f"SEED={seed}")
    return seed


def in_parts(names: Iterable[str], count: int) -> list[str]:
    """Divide the names among ``count`` programs."""
    names = list(names)
    return [",".join(names[n::count]) for n in range(count)]


def sizes(parts: list[str], short: float, names: Iterable[str], full: float) -> Any:
    """Parametrise with some loops for each program, briefly; with ``-m soak`` each by itself."""
    soak = (pytest.mark.soak, pytest.mark.timeout(900))
    return pytest.mark.parametrize(
        ("loops", "amount"),
        [
            *((part, short) for part in parts),
            *(pytest.param(name, full, marks=soak) for name in names),
        ],
    )


@sizes(in_parts(LOOPS, 3), 30, LOOPS, 2000)
def test_interrupts_in_a_loop_of_calls_lose_nothing_and_leave_the_client_at_work(
    promise: Callable[..., None], loops: str, amount: int, seed: int
) -> None:
    for loop, said in run("interrupts", loops, amount, seed, patience=890).items():
        promise(20, f"SIGINT 1 to 3 ms apart, {loop}", f"{amount} times", said, True)


@sizes(in_parts(TEN, 2), 12, LOOPS, 500)
def test_close_in_a_signal_handler_ends_what_it_interrupts(
    promise: Callable[..., None], loops: str, amount: int, seed: int
) -> None:
    for loop, said in run("closes", loops, amount, seed, patience=890).items():
        promise(21, f"close() in a SIGTERM handler, {loop}", f"{amount} times", said, True)


@sizes(in_parts(CALLS, 1), 0.4, CALLS, 30)
def test_a_call_from_a_finalizer_works_or_raises(
    promise: Callable[..., None], loops: str, amount: float, seed: int
) -> None:
    with FakeVenue(Talker()) as venue, feeding(venue, FEED, BOOK_CHANNEL, interval=0.005):
        found = run("finalizers", loops, amount, seed, venue.url, patience=110)
    for call, said in found.items():
        promise(21, f"{call} from finalizers", "works or raises, no deadlock", said, True)
