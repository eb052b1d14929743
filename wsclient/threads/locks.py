"""The locks of one client, which know whether the current thread holds one of them.

A signal handler, or a finalizer that the garbage collector runs, may interrupt a thread within a
locked section and call the client from there. A wait for that lock would never end. So a call that
takes locks checks first: ``close()`` leaves the work to the watchdog, and any other call raises.

Rules for every lock of the package:

* It is made by :meth:`Locks.new`, taken by ``with lock:`` and never re-entered. Both ends of that
  statement are C: no interrupt can come between a lock's release and the end of its section. A
  lock is never taken in a generator, nor in a ``contextlib`` manager.
* It is never held during I/O, during a wait, or while a user's code runs: callbacks, hooks of a
  dialect, logging. Only the locks of a socket and of TLS are held during calls on the socket, none
  of which blocks.
* Under the lock of the core, of an order book or of the events, only the lock of a queue is taken;
  under that of a socket, only that of TLS. Under any other lock, none is taken.
"""

from __future__ import annotations

import threading

from wsclient.errors import ReentrantCall
from wsclient.threads.forking import watch
from wsclient.threads.weak import WeakGroup

__all__ = ["Locks"]


class Locks:
    """Makes the locks of one client, and checks whether the current thread holds one."""

    def __init__(self) -> None:
        self._locks: WeakGroup[threading.RLock] = WeakGroup()
        watch(self)

    def new(self, what: str) -> threading.RLock:
        """Return a new lock. ``what`` names what it protects."""
        lock = threading.RLock()  # knows its owner, as a Lock does not
        self._locks.add(lock)
        return lock

    @property
    def is_held(self) -> bool:
        """True when the current thread holds one of the locks."""
        return any(lock._is_owned() for lock in self._locks.all())  # type: ignore[attr-defined]

    def forked(self) -> None:
        """Release the locks of the threads that do not exist in a forked child."""
        for lock in self._locks.all():
            # This thread releases its own: it was forked by a signal handler within a section.
            if not lock._is_owned():  # type: ignore[attr-defined]
                lock._at_fork_reinit()  # type: ignore[attr-defined]

    def check(self) -> None:
        """Raise ReentrantCall when the current thread holds one of the locks."""
        if self.is_held:
            raise ReentrantCall(
                "this call came from a signal handler or a finalizer that interrupted wsclient "
                "itself; only close() works there: set a flag instead, and call from your program"
            )
