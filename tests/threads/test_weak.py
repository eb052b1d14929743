"""A group of weak references to objects that are held elsewhere."""

from __future__ import annotations

import gc
import sys
from types import FrameType

from support.helpers import Call
from wsclient.threads.weak import WeakGroup


class Thing:
    pass


def test_it_knows_what_others_hold() -> None:
    group: WeakGroup[Thing] = WeakGroup()
    held = [Thing(), Thing()]
    for thing in held:
        group.add(thing)
    assert group.all() == held
    assert len(group) == 2
    del held[0], thing
    gc.collect()
    assert group.all() == held
    assert len(group) == 1


def test_it_is_copied_while_another_thread_adds_and_drops() -> None:
    group: WeakGroup[Thing] = WeakGroup()

    def work() -> None:
        for _ in range(200):
            held = [Thing() for _ in range(50)]
            for thing in held:
                group.add(thing)

    call = Call(work)
    while call.is_alive():
        assert all(type(thing) is Thing for thing in group.all())
    call.result()


def test_it_forgets_without_running_any_python() -> None:
    """Python ignores what a signal handler raises in the callback of a weak reference."""
    group: WeakGroup[Thing] = WeakGroup()
    group.add(thing := Thing())
    entered: list[str] = []

    def trace(frame: FrameType, event: str, arg: object) -> None:
        entered.append(frame.f_code.co_name)

    sys.settrace(trace)
    try:
        del thing
    finally:
        sys.settrace(None)
    assert entered == []
    assert group.all() == []
