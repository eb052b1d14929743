"""The calls of ``classify``, and what happens when it does not return."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from support.helpers import until
from support.logrig import logging_hub
from wsclient.errors import ConnectionLost, HandshakeRejected
from wsclient.runtime.judging import PATIENCE, Judge
from wsclient.verdicts import Verdict, classify

LOST = ConnectionLost("gone")
REFUSED = HandshakeRejected("no", 403)


class Rig:
    """A judge, its posts, and its verdicts."""

    def __init__(self, function: Callable[[BaseException], Any]) -> None:
        self.posts: queue.Queue[Callable[[], None]] = queue.Queue()
        self.given: list[Verdict] = []
        self.judge = Judge(function, logging_hub().emit, self.posts.put)

    def ask(self, error: BaseException = LOST, now: float = 0.0) -> None:
        self.judge.judge(error, self.given.append, now)

    def hear(self) -> None:
        self.posts.get(timeout=5)()


def test_the_built_in_function_is_called_at_once() -> None:
    rig = Rig(classify)
    rig.ask(LOST)
    rig.ask(REFUSED)
    assert rig.given == [Verdict.RETRY, Verdict.FATAL]
    assert rig.judge.thread is None


def test_the_users_function_is_called_on_its_own_thread() -> None:
    names: list[str] = []

    def asked(error: BaseException) -> Verdict:
        assert error is LOST
        names.append(threading.current_thread().name)
        return Verdict.RATE_LIMITED

    rig = Rig(asked)
    rig.ask()
    assert rig.given == []
    rig.hear()
    assert rig.given == [Verdict.RATE_LIMITED]
    assert names == ["wsclient-classify"]
    assert rig.judge.deadline == float("inf")


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_the_built_in_function_decides_if_the_users_raises(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def raises(_: BaseException) -> Verdict:
        raise error

    rig = Rig(raises)
    rig.ask(REFUSED)
    rig.hear()
    assert rig.given == [Verdict.FATAL]
    assert "classify raised" in caplog.text


def test_the_built_in_function_decides_if_the_users_returns_no_verdict(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(lambda _: None)
    rig.ask(REFUSED)
    rig.hear()
    assert rig.given == [Verdict.FATAL]
    assert "returned NoneType" in caplog.text


def test_the_built_in_function_decides_if_the_users_does_not_return_in_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    leave = threading.Event()

    def blocks(_: BaseException) -> Verdict:
        leave.wait(30)
        return Verdict.FATAL

    rig = Rig(blocks)
    try:
        rig.ask(now=10.0)
        assert rig.judge.deadline == 10.0 + PATIENCE
        rig.judge.expire(10.0 + PATIENCE / 2)
        assert rig.given == []
        rig.judge.expire(10.0 + PATIENCE)
        assert rig.given == [Verdict.RETRY]
        assert "has not returned within" in caplog.text
        rig.ask(REFUSED, now=20.0)
        assert rig.given == [Verdict.RETRY, Verdict.FATAL], "it is not waited for again"
        assert "has not returned from an earlier call yet" in caplog.text
    finally:
        leave.set()
    rig.hear()
    assert len(rig.given) == 2, "a verdict that comes too late is ignored"


def test_a_users_function_that_has_returned_is_called_again() -> None:
    rig = Rig(lambda _: Verdict.FATAL)
    for count in (1, 2):
        rig.ask()
        rig.hear()
        until(lambda: not rig.judge.thread.is_alive())  # type: ignore[union-attr]
        assert rig.given == [Verdict.FATAL] * count


def test_the_built_in_function_decides_if_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    rig = Rig(lambda _: Verdict.FATAL)
    rig.ask(LOST)
    assert rig.given == [Verdict.RETRY]
    assert rig.judge.thread is None
    assert "no thread can be started" in caplog.text
