"""Removal of local variables from the tracebacks of our exceptions; the lines of code stay.

Error reporters and notebooks show the local variables of every frame in a traceback. Ours hold
headers, credentials, URLs with their queries, and messages to the venue.
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
    """Clear the local variables of all frames of ``error`` and of its chained exceptions.

    The context of an exception raised ``from None`` is dropped. A frame that still runs cannot be
    cleared, so it is removed from the traceback. The chain ends at ``handled``, an exception that
    is not ours. Returns ``error``.
    """
    todo: list[BaseException | None] = [error]
    seen = {id(handled), id(None)}
    while todo:
        chained = todo.pop()
        if chained is None or id(chained) in seen:
            continue
        seen.add(id(chained))
        chained.__traceback__ = _cleared(chained.__traceback__)
        todo += [chained.__cause__, chained.__context__]
        if chained.__suppress_context__ and chained.__context__ is not handled:
            chained.__context__ = None  # tracebacks hide it, but it may quote secrets
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
    """Decorate a public function that takes secrets: its exceptions keep no variable of ours.

    An exception that the caller is already handling is left unchanged.
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
                # Python 3.10 raises the old traceback again, which contains this frame.
                del args, kwargs, handled
            raise

    return call
