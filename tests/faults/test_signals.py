"""Rows 20 and 21: signals and finalizers strike the client at random moments, in programs of their
own (see struck.py)."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from support.matrix import each_size
from support.program import Program
from support.struck import CALLS
from support.talk import BOOK_CHANNEL, FEED, LOOPS, Talker, feeding
from wsclient.testing import FakeVenue

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

TESTS = str(Path(__file__).parents[1])
#: Of the loops: those of which a short run does all ten.
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


def run(*args: object, patience: float = 50.0) -> str:
    """What the program says that it has seen."""
    source = f"import sys; sys.path[:0] = [{TESTS!r}]; from support import struck; "
    source += "struck.main(*sys.argv[1:])"
    with Program(source, *map(str, args), patience=patience) as program:
        end = program.end()
    assert (end.code, end.err) == (0, ""), f"{args}: ended with {end.code}\n{end.out}\n{end.err}"
    return end.out.strip()


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1, 1_000_000)
    print(f"SEED={seed}")
    return seed


@each_size("times", short=[100], full=[2000], timeout=600)
@pytest.mark.parametrize("loop", LOOPS)
def test_interrupts_in_a_loop_of_calls_lose_nothing_and_leave_the_client_at_work(
    promise: Callable[..., None], loop: str, times: int, seed: int
) -> None:
    said = run("interrupts", loop, times, seed, patience=590)
    promise(20, f"SIGINT 1 to 3 ms apart, {loop}", f"{times} times", said, True)


@pytest.mark.parametrize(
    ("loop", "times"),
    [
        *((loop, 12) for loop in TEN),
        *(
            pytest.param(loop, 500, marks=(pytest.mark.soak, pytest.mark.timeout(900)))
            for loop in LOOPS
        ),
    ],
)
def test_close_in_a_signal_handler_ends_what_it_interrupts(
    promise: Callable[..., None], loop: str, times: int, seed: int
) -> None:
    said = run("closes", loop, times, seed, patience=890)
    promise(21, f"close() in a SIGTERM handler, {loop}", f"{times} times", said, True)


@each_size("seconds", short=[1], full=[30], timeout=120)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_from_a_finalizer_works_or_raises(
    promise: Callable[..., None], call: str, seconds: int, seed: int
) -> None:
    with FakeVenue(Talker()) as venue, feeding(venue, FEED, BOOK_CHANNEL, interval=0.005):
        said = run("finalizers", call, seconds, seed, venue.url, patience=110)
    promise(21, f"{call} from finalizers", "works or raises, no deadlock", said, True)
