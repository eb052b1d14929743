"""What the tracebacks of our exceptions keep: the lines of code, not the values of variables.

Error reporters and notebooks show the local variables of every frame in a traceback. Ours hold
headers, credentials, URLs with their queries, and what is sent.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

__all__ = ["forget_locals", "without_locals"]

_Error = TypeVar("_Error", bound=BaseException)
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def forget_locals(error: _Error, handled: BaseException | None = None) -> _Error:
    """Clear the local variables of every frame that ``error``, and what it is chained to, keeps.
    What it was raised from, ``from None``, is dropped.

    A frame that still runs cannot be cleared: it is dropped from the traceback. ``handled`` is an
    exception of somebody else at which the chain ends. Return ``error``.
    """
    todo: list[BaseException | None] = [error]
    seen = {id(handled), id(None)}
    while todo:
        connection = todo.pop()
        if connection is None or id(connection) in seen:
            continue
        seen.add(id(connection))
        connection.__traceback__ = _cleared(connection.__traceback__)
        todo += [connection.__cause__, connection.__context__]
        if connection.__suppress_context__ and connection.__context__ is not handled:
            connection.__context__ = None  # not shown, but there to be found; it may quote others
    return error


def _cleared(trace: TracebackType | None) -> TracebackType | None:
    kept = trace
    while trace is not None:
        try:
            trace.tb_frame.clear()
        except RuntimeError:
            kept = trace.tb_next
        trace = trace.tb_next
    return kept


def without_locals(
    function: Callable[_Parameters, _Result],
) -> Callable[_Parameters, _Result]:
    """Decorate a public function that is given secrets: what it raises keeps no variable of ours.

    What its caller was handling already stays as it is.
    """

    @functools.wraps(function)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        handled = None
        try:
            handled = sys.exc_info()[1]
            return function(*args, **kwargs)
        except BaseException as error:
            try:
                forget_locals(error, handled)
            except BaseException as interrupt:
                forget_locals(interrupt, handled)
                raise
            finally:
                # Python 3.10 raises the traceback again as it was, with this frame in it.
                del args, kwargs, handled
            raise

    return call
