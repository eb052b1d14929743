"""Locks know whether the current thread holds one of them."""

from __future__ import annotations

import gc

import pytest

from support.helpers import Call
from wsclient.errors import ReentrantCall
from wsclient.runtime.locks import Locks


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
