"""The instrument interrupts only where a signal's handler may run."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from support import interrupting
from support.interrupting import interrupted, points

SOURCE = """
import threading
lock = threading.RLock()
def nothing(): pass
def with_lock(log):
    with lock:
        log("body")
    log("after")
def last_in_body(log):
    with lock:
        return log("body")
def last_in_try(log):
    try:
        return give(log)
    except BaseException:
        log("caught")
        raise
def last_is_c(log):
    try:
        return log("try")
    except BaseException:
        log("caught")
        raise
def give(log):
    log("try")
def fails(log):
    try:
        return raises(log)
    except ValueError:
        log("failed")
def raises(log):
    raise ValueError
def loop(log):
    total = 0
    while total < 3:
        total += 1
    return total
def generate(log):
    yield 1
    yield 2
def drain(log):
    return list(generate(log))
def catch(log):
    try:
        log("try")
    except BaseException:
        log("caught")
        raise
"""


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    names: dict[str, Any] = {}
    monkeypatch.setattr(interrupting, "PACKAGE", "<package>")
    exec(compile(SOURCE, "<package>/code.py", "exec"), names)
    return SimpleNamespace(**names)


def kinds(function: Any) -> Iterator[str]:
    for point in points():
        log: list[str] = []
        point(function, log.append)
        if point.where is not None:
            yield f"{point.where.split(' (')[0]}, {' '.join(log)}".removesuffix(", ")


def test_starts_and_returns_of_calls_are_points(code: SimpleNamespace) -> None:
    assert list(kinds(code.with_lock)) == [
        "start in with_lock",
        "after a call in with_lock, body",
        "after a call in with_lock, body",  # the lock's release
        "after a call in with_lock, body after",
    ]


def test_backward_jumps_are_points(code: SimpleNamespace) -> None:
    found = list(kinds(code.loop))
    assert found[0] == "start in loop"
    assert len(found) >= 3
    assert set(found[1:]) == {"at a jump in loop"}


def test_resumptions_of_generators_are_points(code: SimpleNamespace) -> None:
    starts = [kind for kind in kinds(code.drain) if kind == "start in generate"]
    assert len(starts) == 3


@pytest.mark.parametrize("name", ["with_lock", "last_in_body"])
def test_no_lock_stays_held_by_a_with_statement(code: SimpleNamespace, name: str) -> None:
    for point in interrupted(lambda: getattr(code, name)(len)):
        assert not code.lock._is_owned(), str(point)
    assert len(list(kinds(getattr(code, name)))) >= 3


def test_the_body_of_a_try_statement_catches_what_comes_after_its_last_call(
    code: SimpleNamespace,
) -> None:
    assert "after a call in catch, try caught" in list(kinds(code.catch))
    assert "after a call in last_in_try, try caught" in list(kinds(code.last_in_try))
    assert "after a call in last_is_c, try caught" in list(kinds(code.last_is_c))


def test_a_call_that_raises_does_not_return(code: SimpleNamespace) -> None:
    assert list(kinds(code.fails)) == [
        "start in fails",
        "start in raises",
        "after a call in fails, failed",
    ]


def test_each_run_has_one_and_its_traceback_is_kept(code: SimpleNamespace) -> None:
    struck = [point.error for point in interrupted(lambda: code.with_lock(len))]
    assert struck[-1] is None
    assert all(error is not None and error.__traceback__ for error in struck[:-1])


def test_code_that_the_package_calls_counts_too(code: SimpleNamespace) -> None:
    names: dict[str, Any] = {}
    exec(compile("def log(what):\n pass", "<library>", "exec"), names)
    wheres = [point.where for point in interrupted(lambda: code.catch(names["log"]))]
    assert any(where and where.startswith("start in log") for where in wheres)


def test_a_call_without_a_point_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="no point"):
        list(interrupted(int))
