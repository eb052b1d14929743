"""Tracebacks of exceptions keep the lines of code, and none of our variables."""

from __future__ import annotations

import contextlib
import gc
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from support.interrupting import Point
from wsclient.tracebacks import forget_locals, without_locals

SECRET = "S3CRET"


def shown(error: BaseException) -> str:
    """Return what a reporter shows of ``error`` and its chain, without the test's own frames."""
    chain: list[BaseException | None] = [error]
    said = []
    for connection in chain:
        if connection is None:
            continue
        chain += [x for x in (connection.__cause__, connection.__context__) if x not in chain]
        summary = traceback.TracebackException(
            type(connection), connection, connection.__traceback__, capture_locals=True
        )
        ours = [f for f in summary.stack if not f.name.startswith(("test_", "error_of"))]
        said += [f"{frame.name} {frame.locals}" for frame in ours]
    return "\n".join(said)


def inner(key: str) -> None:
    raise LookupError(f"no key of {len(key)} characters")


@without_locals
def outer(key: str, *keys: str, **named: str) -> None:
    half = key[:3]
    inner(half + key[3:])


def error_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseException:
    try:
        function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("it did not raise")


def test_a_decorated_function_returns_what_it_returns() -> None:
    @without_locals
    def double(number: int, *, plus: int = 0) -> int:
        """Return twice the number."""
        return 2 * number + plus

    assert double(3, plus=1) == 7
    assert (double.__name__, double.__doc__) == ("double", "Return twice the number.")


def test_what_a_decorated_function_raises_shows_its_lines_and_no_variable() -> None:
    error = error_of(outer, SECRET, SECRET, name=SECRET)
    assert isinstance(error, LookupError)
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-2:] == ["outer", "inner"]
    assert SECRET not in shown(error)


def test_an_interrupt_shows_no_variable_either() -> None:
    @without_locals
    def interrupted(key: str) -> None:
        raise KeyboardInterrupt

    assert SECRET not in shown(error_of(interrupted, SECRET))


def test_an_interrupt_anywhere_after_the_entry_shows_no_variable() -> None:
    """This includes an interrupt while an error is being cleared."""

    @without_locals
    def failing(key: str) -> None:
        raise LookupError

    number, where = 2, ""
    while True:
        point = Point(number)
        with contextlib.suppress(LookupError):
            point(lambda: failing(SECRET))
        if point.where is None:
            break
        number, where = number + 1, f"{where}{point.where}\n"
        assert point.error is not None
        assert SECRET not in shown(point.error), point
    assert "forget_locals" in where


def test_the_whole_chain_is_cleared() -> None:
    @without_locals
    def chained(key: str) -> None:
        try:
            try:
                inner(key)
            except LookupError as error:
                raise ValueError from error
        except ValueError:
            raise OSError  # noqa: B904 - the context is meant

    error = error_of(chained, SECRET)
    assert isinstance(error.__context__, ValueError)
    assert isinstance(error.__context__.__cause__, LookupError)
    assert SECRET not in shown(error)


def test_what_is_hidden_by_from_none_is_dropped() -> None:
    @without_locals
    def hiding() -> None:
        try:
            raise LookupError(SECRET)
        except LookupError:
            raise ValueError from None

    assert error_of(hiding).__context__ is None


def test_what_the_caller_was_handling_stays_as_it_is() -> None:
    def of_the_user(value: str) -> None:
        raise RuntimeError

    try:
        of_the_user("mine")
    except RuntimeError as caught:
        handled, error = caught, error_of(outer, SECRET)
    assert error.__context__ is handled
    assert "'value': \"'mine'\"" in shown(handled)


def test_a_frame_that_still_runs_is_dropped() -> None:
    """A thread hands its error over and continues."""
    handed: list[BaseException] = []
    taken = threading.Event()

    def work(key: str) -> None:
        try:
            inner(key)
        except LookupError as error:
            handed.append(forget_locals(error))
            taken.wait(5)

    thread = threading.Thread(target=work, args=(SECRET,))
    thread.start()
    while not handed:
        taken.wait(0.001)
    said = shown(handed[0])
    taken.set()
    thread.join()
    assert "inner" in said
    assert SECRET not in said + shown(handed[0])


def test_a_chain_that_leads_back_to_itself_ends() -> None:
    first, second = ValueError(), LookupError()
    first.__cause__, second.__cause__ = second, first
    assert forget_locals(first) is first


def test_an_error_that_is_kept_keeps_nothing_alive() -> None:
    class Held:
        pass

    @without_locals
    def holding(held: Held) -> None:
        raise LookupError

    held = Held()
    reference = weakref.ref(held)
    gc.disable()
    try:
        with pytest.raises(LookupError) as caught:
            holding(held)
        del held
        assert reference() is None
    finally:
        gc.enable()
    assert caught.value


@pytest.mark.parametrize("times", [1, 3])
def test_forgetting_twice_does_no_harm(times: int) -> None:
    error = error_of(inner, SECRET)
    for _ in range(times):
        forget_locals(error)
    assert SECRET not in shown(error)
