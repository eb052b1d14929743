"""The clients that a cell of a notebook has made are let go when that cell runs again.

IPython keeps references of its own: to what a cell's last line returned (``Out``, ``_``, ``_5``),
and, by the last traceback, to the variables of functions that raised. Each would keep a client of
an earlier run, and its connection, alive. Just before a cell runs again, these references to the
clients of its earlier runs are dropped. A client that nothing else holds is then collected, which
closes it. Whatever the program holds under a name of its own is not touched.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from types import CodeType, FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

from wsclient.notebook.shell import CellKey, cell_of, running_cell, shell_of
from wsclient.threads.weak import WeakGroup

__all__ = ["client_made"]

#: How many references, one after the other, may lie between what IPython holds and a client.
FAR = 5
#: How many objects are looked into for one of IPython's references, and how many elements a list,
#: tuple, set or dict may have that is looked into.
MANY, LARGE = 1000, 10_000
#: They refer to the program's variables, so everything could be reached through them.
_PUBLIC = (type, ModuleType, FunctionType, CodeType)
_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


#: The clients that are alive, by the cell that has made them.
_made: dict[CellKey, WeakGroup[object]] = {}


def client_made(client: object) -> None:
    """Note which cell has made ``client``, if the program runs in IPython."""
    shell = shell_of()
    if shell is None:
        return
    for cell, group in list(_made.items()):
        if not group:
            _made.pop(cell, None)
    _made.setdefault(running_cell(shell), WeakGroup()).add(client)
    shell.events.register("pre_run_cell", _before_cell)  # IPython ignores all but the first


def _before_cell(info: Any) -> None:
    with suppress(Exception):  # IPython would print it into the cell
        cell = cell_of(info)
        group = _made.get(cell)
        clients = {id(client) for client in group.all()} if group and cell[1] else set()
        if clients:
            _forget(shell_of(), clients)


def _forget(shell: Any, clients: Collection[int]) -> None:
    """Drop the references of ``shell`` from which these clients, given by id, can be reached."""
    names = [shell.user_ns, shell.user_ns_hidden]
    outputs, hook = shell.user_ns.get("_oh", {}), shell.displayhook
    for number, value in list(outputs.items()):
        if _reaches(value, clients, shell):
            outputs.pop(number, None)
            for space in names:
                if space.get(f"_{number}") is value:
                    del space[f"_{number}"]
    for name in ("_", "__", "___"):
        value = getattr(hook, name, None)
        if _reaches(value, clients, shell):
            setattr(hook, name, "")  # as IPython itself does it
            for space in names:
                if space.get(name) is value:
                    space[name] = ""
    result = shell.last_execution_result
    if result is not None and _reaches(result.result, clients, shell):
        result.result = None
    value = None
    for trace in _tracebacks(result):
        frame = trace.tb_frame
        if _reaches(frame, clients, shell) and not _is_suspended(frame):
            with suppress(RuntimeError):  # it still runs
                frame.clear()
                # Before Python 3.13 a debugger may have made a copy, which this updates.
                dict(frame.f_locals)


def _is_suspended(frame: FrameType) -> bool:
    """Return whether the frame is that of a generator that goes on: clearing would end it."""
    if not frame.f_code.co_flags & _SUSPENDABLE:
        return False
    names = ("gi_frame", "cr_frame", "ag_frame")
    owners = gc.get_referrers(frame)
    return any(getattr(owner, name, None) is frame for owner in owners for name in names)


def _tracebacks(result: Any) -> Iterator[TracebackType]:
    """Yield each step of the tracebacks that IPython and Python keep of the last error."""
    todo = [getattr(sys, name, None) for name in ("last_exc", "last_value")]
    todo += [getattr(result, name, None) for name in ("error_in_exec", "error_before_exec")]
    seen = set[int]()
    traces = [getattr(sys, "last_traceback", None)]
    while todo:
        error = todo.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            traces.append(error.__traceback__)
            todo += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
    for trace in traces:
        while trace is not None:
            yield trace
            trace = trace.tb_next


def _reaches(value: Any, clients: Collection[int], shell: Any) -> bool:
    """Return whether one of ``clients`` can be reached from ``value`` by a few references."""
    # Also the shell: everything could be reached through it.
    seen = {id(shell), id(shell.user_ns), id(shell.user_ns_hidden), id(sys.modules)}
    level = [value]
    for _ in range(FAR + 1):
        found = []
        for each in level:
            if id(each) in clients:
                return True
            is_large = isinstance(each, (list, tuple, set, dict)) and len(each) > LARGE
            if not (id(each) in seen or is_large or isinstance(each, _PUBLIC)) and len(seen) < MANY:
                seen.add(id(each))
                found.append(each)
        level = gc.get_referents(*found)
    return False
