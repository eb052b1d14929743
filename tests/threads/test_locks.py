"""Locks know whether the current thread holds one of them."""

from __future__ import annotations

import gc
import os
import threading

import pytest

from support.helpers import Call
from wsclient.errors import ReentrantCall
from wsclient.threads.locks import Locks


def test_none_is_held_at_first() -> None:
    locks = Locks()
    locks.new("a")
    assert not locks.is_held
    locks.check()


def test_a_call_within_a_section_is_refused() -> None:
    locks = Locks()
    _, inner = locks.new("a"), locks.new("b")
    with inner:
        assert locks.is_held
        with pytest.raises(ReentrantCall, match="only close"):
            locks.check()
    locks.check()


def test_another_threads_section_is_none_of_ours() -> None:
    locks = Locks()
    with locks.new("a"):
        assert Call(lambda: locks.is_held).result() is False


def test_another_groups_section_is_none_of_ours() -> None:
    with Locks().new("a"):
        assert not Locks().is_held


def test_a_lock_that_nobody_has_any_more_is_forgotten() -> None:
    locks = Locks()
    kept = locks.new("kept")
    for _ in range(100):
        locks.new("gone")
    gc.collect()
    assert len(locks._locks) == 1
    with kept:
        assert locks.is_held


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_in_a_forked_child_only_the_locks_of_lost_threads_are_free() -> None:
    locks = Locks()
    theirs, ours = locks.new("theirs"), locks.new("ours")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with theirs:
            held.set()
            done.wait(30)

    holder = Call(hold)
    assert held.wait(5)
    with ours:
        child = os.fork()
        if child == 0:
            is_free = theirs.acquire(timeout=5)
            os._exit(0 if is_free and ours._is_owned() else 1)  # type: ignore[attr-defined]
    done.set()
    holder.result()
    assert os.waitpid(child, 0)[1] == 0
