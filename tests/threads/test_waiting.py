"""Deadlines, waiters, and Ctrl-C while waiting."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import ClassVar

import pytest

from support.helpers import Call, until
from support.interrupting import points
from wsclient import NotConnected
from wsclient.threads.waiting import Deadline, Permit, Waiter, acquire

only_main_thread = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="needs a signal to the main thread"
)


def interrupt_main_thread_after(seconds: float) -> threading.Timer:
    main = threading.main_thread()
    assert main.ident is not None
    timer = threading.Timer(seconds, signal.pthread_kill, (main.ident, signal.SIGINT))
    timer.start()
    return timer


class TestDeadline:
    def test_counts_down_and_stops_at_zero(self) -> None:
        deadline = Deadline(60)
        assert 59 < deadline.remaining() <= 60
        assert Deadline(-1).remaining() == 0

    def test_none_never_ends(self) -> None:
        assert Deadline(None).remaining() == float("inf")

    def test_several_steps_share_it(self) -> None:
        signal = threading.Lock()
        signal.acquire()
        started = time.monotonic()
        deadline = Deadline(0.05)
        assert [acquire(signal, deadline) for _ in range(3)] == [False] * 3
        assert 0.05 <= time.monotonic() - started < 1

    @pytest.mark.parametrize(("timeout", "slices"), [(None, 3), (60, 3), (0.05, 1)])
    def test_a_wait_is_cut_into_slices_between_which_a_late_ctrl_c_is_heard(
        self, timeout: float | None, slices: int
    ) -> None:
        class Slow:
            waits: ClassVar[list[float]] = []

            def acquire(self, timeout: float) -> bool:
                self.waits.append(timeout)
                return len(self.waits) == slices

        Slow.waits.clear()
        assert acquire(Slow(), Deadline(timeout))  # type: ignore[arg-type]
        assert len(Slow.waits) == slices
        assert 0 < max(Slow.waits) <= 1.0


class TestPermit:
    def test_one_has_it_until_it_is_given_back(self) -> None:
        permit = Permit()
        assert [permit.take(), permit.take()] == [True, False]
        permit.give_back()
        assert [permit.take(), permit.take()] == [True, False]

    def test_of_many_threads_one_gets_it(self) -> None:
        for _ in range(20):
            permit, go = Permit(), threading.Barrier(4)

            def take(permit: Permit = permit, go: threading.Barrier = go) -> bool:
                go.wait(5)
                return permit.take()

            calls = [Call(take) for _ in range(4)]
            assert sorted(call.result(5) for call in calls) == [False, False, False, True]


class TestWaiter:
    def test_gives_the_result_that_another_thread_settles(self) -> None:
        waiter = Waiter()
        call = Call(waiter.wait)
        waiter.settle(None, 7)
        assert call.result() == 7

    def test_raises_the_error_it_is_settled_with(self) -> None:
        waiter = Waiter()
        call = Call(waiter.wait)
        waiter.settle(NotConnected("gone"))
        with pytest.raises(NotConnected, match="gone"):
            call.result()

    def test_the_error_raised_is_a_fresh_one_chained_to_the_cause(self) -> None:
        waiter, error = Waiter(), NotConnected("gone")
        waiter.settle(error)
        with pytest.raises(NotConnected) as caught:
            waiter.wait()
        assert caught.value is not error
        assert caught.value.__cause__ is error

    def test_settles_once(self) -> None:
        waiter = Waiter()
        waiter.settle(None, "first")
        waiter.settle(NotConnected("second"))
        waiter.settle(None, "third")
        assert waiter.wait() == "first"

    def test_can_be_waited_for_after_it_was_settled_and_again(self) -> None:
        waiter = Waiter()
        assert not waiter.settled
        waiter.settle(None, 1)
        assert waiter.settled
        assert [waiter.wait(), waiter.wait(Deadline(0)), waiter.wait()] == [1, 1, 1]

    def test_raises_timeout_error_at_the_deadline_and_still_settles(self) -> None:
        waiter = Waiter()
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            waiter.wait(Deadline(0.05))
        assert 0.05 <= time.monotonic() - started < 1
        waiter.settle(None, "late")
        assert waiter.wait(Deadline(0)) == "late"

    def test_an_interrupt_at_any_point_leaves_it_usable(self) -> None:
        main = threading.get_ident()

        def settle(waiter: Waiter, done: threading.Event) -> None:
            # Settle only once the other thread waits, so that the interrupts reach all points.
            until(lambda: done.is_set() or sys._current_frames()[main].f_code.co_name == "acquire")
            waiter.settle(None, 1)

        for point in points():
            waiter, done = Waiter(), threading.Event()
            settling = Call(settle, waiter, done)
            point(waiter.wait)
            done.set()
            settling.result()
            assert waiter.wait(Deadline(1)) == 1, str(point)


@only_main_thread
class TestCtrlC:
    def test_interrupts_a_wait_at_once_and_all_goes_on_afterwards(self) -> None:
        waiter = Waiter()
        timer = interrupt_main_thread_after(0.02)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            waiter.wait()
        assert time.monotonic() - started < 0.5
        timer.join()
        call = Call(waiter.wait)
        waiter.settle(None, "well")
        assert call.result() == "well"
        assert waiter.wait() == "well"

    def test_interrupts_a_wait_with_a_deadline(self) -> None:
        timer = interrupt_main_thread_after(0.02)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            Waiter().wait(Deadline(30))
        assert time.monotonic() - started < 0.5
        timer.join()

    def test_a_signal_that_raises_nothing_does_not_end_a_wait(self) -> None:
        waiter, seen = Waiter(), threading.Event()
        main = threading.main_thread()
        assert main.ident is not None
        before = signal.signal(signal.SIGUSR1, lambda *_: seen.set())
        try:

            def disturb() -> None:
                assert main.ident is not None
                signal.pthread_kill(main.ident, signal.SIGUSR1)
                until(seen.is_set)
                waiter.settle(None, "well")

            call = Call(disturb)
            assert waiter.wait(Deadline(10)) == "well"
            call.result()
        finally:
            signal.signal(signal.SIGUSR1, before)
