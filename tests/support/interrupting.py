"""A KeyboardInterrupt at every point of a call, one after the other::

    for point in points():
        client = ...                      # each point begins with things of its own
        message = point(client.recv)      # None where the interrupt came out of it
        assert ...                        # point.error still holds the traceback, as a notebook

    for point in interrupted(client.stats):
        assert ...                        # the same, where nothing needs to be made again

A point is where CPython may run a signal's handler: at a function's start and a generator's
resumption, after a call has returned, and at a backward jump (on 3.10 at each conditional jump
that is taken). It counts in the package's own functions, and in whatever Python code they call,
but not in the tests', nor in an import.

The interrupt is raised before the instruction that follows. That may be outside of a ``try`` or
``with`` body whose last instruction the call is, and then it would come where none can: between a
locked section's end and the lock's release. There it is raised as the call returns.
"""

from __future__ import annotations

import dis
import gc
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

__all__ = ["Point", "interrupted", "points"]

TESTS = str(Path(__file__).parents[1])
PACKAGE = str(Path(TESTS).with_name("wsclient"))
#: Jumps at which a signal may be handled even when they go forward.
ABSENT = -1
HEARD_FORWARD = "POP_JUMP" if sys.version_info < (3, 11) else "no such instruction"


class Point:
    """The ``number``-th point of a call, counted from 1."""

    def __init__(self, number: int) -> None:
        self.number = number
        #: Where the interrupt came; None until then.
        self.where: str | None = None
        #: The interrupt, with its traceback, if it came out of the call.
        self.error: KeyboardInterrupt | None = None
        self._left = number
        #: The last instruction of each frame that counts: None before the first one, and ABSENT
        #: after an exception.
        self._before: dict[FrameType, int | None] = {}
        #: The frames among these that are in a call of a C function.
        self._in_c: set[FrameType] = set()

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``function``. Returns what it returns, or None when the interrupt came out of it;
        another exception is raised as it is."""
        trace, profile = sys.gettrace(), sys.getprofile()
        hook, is_collecting = sys.unraisablehook, gc.isenabled()
        gc.disable()  # finalizers would also be points, wherever they run
        sys.unraisablehook = self._unraisable
        try:
            # Some frame must ask for instructions before the trace begins (3.12).
            sys._getframe().f_trace_opcodes = True
            sys.setprofile(self._returned)
            sys.settrace(self._enter)
            try:
                return function(*args, **kwargs)
            finally:
                sys.settrace(trace)
                sys.setprofile(profile)
        except KeyboardInterrupt as error:
            self.error = error
            return None
        finally:
            sys.unraisablehook = hook
            self._before.clear()
            self._in_c.clear()
            if is_collecting:
                gc.enable()

    def __str__(self) -> str:
        return f"point {self.number}: {self.where}"

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if not self._is_ours(frame):
            return None
        frame.f_trace, frame.f_trace_lines = self._step, False
        frame.f_trace_opcodes = True
        self._before[frame] = None
        return self._step

    def _is_ours(self, frame: FrameType) -> bool:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            return True
        if name.startswith((TESTS, "<frozen importlib")):
            return False
        return frame.f_back in self._before

    def _step(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        before = self._before
        if event == "opcode":
            kind = self._kind(frame.f_code, before.get(frame, ABSENT), frame.f_lasti)
            before[frame] = frame.f_lasti
            if kind is not None:
                self._strike(kind, frame)
        elif event == "exception":
            before[frame] = ABSENT  # what comes next is not a return from a call
        return self._step

    def _returned(self, frame: FrameType, event: str, arg: Any) -> None:
        """Profile function, for calls that are the last of a body."""
        before, in_c = self._before, self._in_c
        if event == "c_call":
            in_c.add(frame)
        elif event in ("c_return", "c_exception"):
            in_c.discard(frame)
            if event == "c_return" and frame in before:
                self._end_of_call(frame)
        elif event == "return" and frame in before:
            last, caller = before.pop(frame), frame.f_back
            is_whole = last != ABSENT and not frame.f_code.co_flags & inspect.CO_GENERATOR
            if is_whole and caller in before and caller not in in_c:
                self._end_of_call(caller)

    def _end_of_call(self, frame: FrameType) -> None:
        code, now = frame.f_code, self._before[frame]  # f_lasti may be past it
        if now is None or now == ABSENT or not _is_call(code, now):
            return
        if _handler(code, now) != _handler(code, _next(code).get(now, now)):
            self._strike("after a call", frame)

    def _strike(self, kind: str, frame: FrameType) -> None:
        self._left -= 1
        if self._left == 0:
            code = frame.f_code
            self.where = f"{kind} in {code.co_name} ({code.co_filename}:{frame.f_lineno})"
            raise KeyboardInterrupt

    def _kind(self, code: CodeType, last: int | None, now: int) -> str | None:
        """Return the kind of point between two consecutive instructions."""
        if last is None:
            return "start"
        if last == ABSENT:
            return None
        if _is_call(code, last):
            is_same = _handler(code, last) == _handler(code, now)
            return "after a call" if is_same else None
        name = _name(code, last)
        if "JUMP" not in name or name.endswith("NO_INTERRUPT"):
            return None
        if now <= last or (name.startswith(HEARD_FORWARD) and now != last + 2):
            return "at a jump"
        return None

    def _unraisable(self, args: Any) -> None:
        if not issubclass(args.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(args)


@cache
def _handlers(code: CodeType) -> tuple[tuple[int, int, int, int], ...]:
    parse = getattr(dis, "_parse_exception_table", None)  # from 3.11 on
    return () if parse is None else tuple((e.start, e.end, e.target, e.depth) for e in parse(code))


@cache
def _instructions(code: CodeType) -> bytes:
    return code.co_code  # a new object each time it is read


def _name(code: CodeType, offset: int) -> str:
    return dis.opname[_instructions(code)[offset]]


def _is_call(code: CodeType, offset: int) -> bool:
    name = _name(code, offset)
    return name.startswith("CALL") and "INTRINSIC" not in name


@cache
def _next(code: CodeType) -> dict[int, int]:
    """Return the instruction after each."""
    offsets = [instruction.offset for instruction in dis.get_instructions(code)]
    return dict(pairwise(offsets))


def _handler(code: CodeType, offset: int) -> tuple[int, int] | None:
    """Return where an exception of that instruction goes."""
    for start, end, target, depth in _handlers(code):
        if start <= offset < end:
            return target, depth
    return None


def points() -> Iterator[Point]:
    """Yield points, each to be used for one call, until the call has no more of them."""
    number = 0
    while True:
        number += 1
        point = Point(number)
        yield point
        if point.where is None:
            assert number > 1, "the call has no point"
            return


def interrupted(call: Callable[[], Any]) -> Iterator[Point]:
    """Yield each point of ``call`` after it was interrupted there; the last one was not."""
    for point in points():
        point(call)
        yield point
