"""The threads that wait for something, and the wake-ups that they get.

Each waiting thread has a signal in the list: a bare lock that is taken when it is made, that this
thread alone waits for, and that another thread releases. Nothing is held during the wait, so an
interrupt leaves nothing held. A thread puts its signal into the list *before* it checks whether it
must wait, or does both under a lock that is held whenever something is put. So whatever comes after
its check finds the signal. A put wakes one thread, the one that has waited longest, and takes its
signal out of the list. That thread may be interrupted before it takes what was put. So a thread
that finds something wakes the next one first, and a thread that was woken and gives up wakes the
next one instead. A wake-up too many only makes a thread check again. Each step on the list is one
call written in C (see :mod:`wsclient.threads.pops`). A second interrupt, while a thread handles the
first, may lose a wake-up; therefore waits are cut into slices, and a thread checks after each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import repeat, starmap
from operator import methodcaller

from wsclient.threads.pops import run_all
from wsclient.threads.waiting import SLICE, Deadline

__all__ = ["WaitList", "new_signal", "pause"]

_release = methodcaller("release")


def new_signal() -> threading.Lock:
    """Return a signal to put into a list. It is made first: an interrupt leaves none behind."""
    signal = threading.Lock()
    signal.acquire()
    return signal


def pause(signal: threading.Lock, seconds: float) -> None:
    """Wait until ``signal`` is released, but at most for ``seconds`` or one slice."""
    signal.acquire(timeout=min(seconds, SLICE))


class WaitList(list[threading.Lock]):
    """The signals of the threads that wait for one thing, those that wait for longest first."""

    __slots__ = ()

    def wake(self, count: int = 1) -> None:
        """Wake ``count`` threads, or all if there are fewer."""
        try:
            run_all(map(_release, starmap(self.pop, repeat((0,), count))))
        except IndexError:
            pass  # there is none left

    def wake_all(self) -> None:
        """Wake all threads that wait now."""
        if self:
            self.wake(len(self))

    def discard(self, signal: threading.Lock | None) -> bool:
        """Take ``signal`` out of the list. Return False if its thread has been woken instead."""
        try:
            if signal is not None and signal in self:
                self.remove(signal)
                return True
        except ValueError:
            pass  # it has just been woken
        return False

    def wait(self, is_over: Callable[[], bool], deadline: Deadline) -> bool:
        """Wait until ``is_over()``, called now and after each wake-up, is true.

        Returns False if the deadline came first.
        """
        signal: threading.Lock | None = None
        try:
            while True:
                signal = new_signal()
                self.append(signal)
                is_done = is_over()
                remaining = 0.0 if is_done else deadline.remaining()
                if remaining:
                    pause(signal, remaining)
                was_woken = not self.discard(signal)
                if is_done or (was_woken and not remaining):
                    self.wake()
                if not remaining:
                    return is_done
        except BaseException:  # also an exception from a user's signal handler
            self.discard(signal)
            self.wake()
            raise
