"""The state of an order book, which any thread may read and wait for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NoReturn, Protocol

from wsclient.books.joiner import Joiner
from wsclient.books.status import BookState, BookStatus
from wsclient.errors import OrderBookOutOfSync, WaitTimeout
from wsclient.messages import Message
from wsclient.runtime.reception import LATE
from wsclient.threads.forking import watch
from wsclient.threads.locks import Locks
from wsclient.threads.pops import pops
from wsclient.threads.waiting import Deadline
from wsclient.threads.waitlist import WaitList

__all__ = ["Upstream", "WatchedBook"]

#: How long (s) a read waits until the messages that had come before it are applied.
CATCH_UP = 0.01


class Upstream(Protocol):
    """The source of the messages of a client's book.

    :meth:`trouble`, :meth:`doubt` and :meth:`lateness` are called under the book's lock, and may
    take the lock of a queue.
    """

    @property
    def is_current(self) -> bool:
        """True on the thread that updates the book."""

    @property
    def is_over(self) -> bool:
        """True when the client is closed or has failed."""

    def origin(self, connection_id: int) -> int:
        """Return the id of the connection with which the stream of this connection began.

        A stream goes on while one connection takes over from another.
        """

    def trouble(self, connection_id: int) -> str | None:
        """Return why data of the stream of this origin is no longer up to date; None if it is."""

    def doubt(self) -> str | None:
        """Return why a message may be missing or late; None if there is no sign of it."""

    def newest(self) -> Message | None:
        """Return the newest message that has come for the book, applied or not."""

    def lateness(self) -> float:
        """Return how long (s) the oldest message has been waiting to be applied."""

    def now(self) -> float:
        """Return the time (monotonic s) by the clock of the messages."""

    def report(self, error: BaseException) -> None:
        """Emit an event for an error of the dialect."""

    def changed(self, why: str) -> None:
        """Emit an event: the book fell out of sync (``why``), or has a new snapshot (empty)."""

    def check(self) -> None:
        """Raise if no snapshot can come while the caller waits."""


class WatchedBook:
    """The state of an order book, without its contents."""

    #: Set if the book begins with a snapshot by REST.
    joiner: Joiner | None

    def __init__(self, channel: str, upstream: Upstream | None, locks: Locks | None) -> None:
        self.channel = channel
        self._upstream = upstream
        self._origin: Callable[[int], int] = int if upstream is None else upstream.origin
        self.locks = Locks() if locks is None else locks
        #: Protects the state and the contents, except ``waiting`` and ``_is_closed``, whose changes
        #: are atomic. Held to check the state, to copy what is read, and to swap the two books.
        self.lock = self.locks.new("an order book")
        #: Changes with each change of the book, or of whether it may be changed.
        self._version = 0
        #: The stored state, which what the client shows at the moment may only make worse.
        self._status = BookStatus(BookState.EMPTY, "it has had no snapshot yet")
        #: What was wrong with the last snapshot by REST; empty once there is a good one.
        self._failure = ""
        self._is_closed = False
        #: The changes that :meth:`_announce` will report, and whether the last one was a fall out
        #: of sync.
        self._changes: deque[str] = deque()
        self._is_out = False
        #: Taken by the thread that reports changes, so that they are reported in their order.
        self._turn = deque([True])
        #: The origin of the book's stream; 0 before the first message.
        self.connection_id = 0
        #: The clock of the messages (monotonic s).
        self._now = time.monotonic if upstream is None else upstream.now
        #: When the last message that was applied was received, or the snapshot by REST was applied
        #: (monotonic s); None before.
        self.updated_at: float | None = None
        #: The last message that was handled, with or without success.
        self.seen: Message | None = None
        #: The threads that wait for a change.
        self.waiting = WaitList()
        watch(self)

    @property
    def is_lost(self) -> bool:
        """True when no further snapshot will come by itself."""
        return self._is_closed or self._status.state is BookState.LOST

    def snapshot_failed(self, why: str) -> None:
        """Note why no snapshot could be fetched. Another fetch follows."""
        with self.lock:
            self._failure = why

    def give_up(self, why: str) -> None:
        """End the book, since no snapshot will come."""
        with self.lock:
            self._lose(why)
        self.wake()

    def close(self) -> None:
        """End the book. Takes no lock, so a signal handler may call it at any time."""
        self._is_closed = True
        try:
            self.waiting.wake_all()
        except BaseException:
            self.waiting.wake_all()
            raise

    def look(self) -> None:
        """Report the book as out of sync if its client shows that it is."""
        with self.lock:
            found = self.lasting()
            if found.state is not BookState.CLOSED and self._status.is_synced:
                self._fall(found.why)
        self._announce()

    def wake(self) -> None:
        """Wake all waiting threads, so that they check again, and report what has changed."""
        self.waiting.wake_all()
        self._announce()

    def _announce(self) -> None:
        upstream = self._upstream
        while upstream is not None and self._changes:
            turn: list[bool] = []
            try:
                try:
                    turn.extend(islice(pops(self._turn.pop), 1))
                except IndexError:
                    return  # another thread is reporting changes: this one too
                while self._changes:
                    upstream.changed(self._changes.popleft())
            finally:
                self._turn.extend(turn)

    # Reading and waiting.

    def wait_synced(self, timeout: float | None) -> None:
        """Block until the book is in sync.

        Raises WaitTimeout after ``timeout`` (s), and OrderBookOutOfSync if no snapshot can come.
        """
        deadline, upstream = Deadline(timeout), self._upstream
        self.catch_up()  # messages that have come already may put it out of sync
        why = ""

        def is_synced() -> bool:
            nonlocal why
            with self.lock:
                status = self.status()
            if status.is_synced:
                return True
            why = status.why
            if self.is_lost:
                self._raise(why)
            if upstream is not None:
                upstream.check()
            return False

        if not self.waiting.wait(is_synced, deadline):
            raise WaitTimeout(
                f"the order book {self.channel!r} is not in sync within the timeout: {why}"
            )

    def catch_up(self) -> None:
        """Wait briefly, before a read, until the messages that have come so far are applied.

        Raises ReentrantCall if this thread could wait for itself.
        """
        self.locks.check()
        upstream = self._upstream
        if upstream is not None:
            newest = upstream.newest()
            if newest is not self.seen and not self._has(newest) and not upstream.is_current:
                self.waiting.wait(lambda: self._has(newest), Deadline(CATCH_UP))

    def _has(self, message: Message | None) -> bool:
        """Return whether the book has seen ``message`` or a later one."""
        seen = self.seen
        if message is None or message is seen:
            return True
        if seen is None:
            return False
        # Another reader of the channel may have got the original message, and this book a copy.
        is_same = message.raw is seen.raw and message.item == seen.item
        return is_same or seen.received_at > message.received_at

    def check_age(self, updated_at: float | None, max_age: float) -> None:
        """Raise OrderBookOutOfSync if ``updated_at`` (monotonic s) is more than ``max_age`` s ago.

        It is the :attr:`updated_at` of what was read.
        """
        age = float("inf") if updated_at is None else self._now() - updated_at
        if age > max_age:
            last = "it has had none" if updated_at is None else f"the last one came {age:.3g} s ago"
            raise OrderBookOutOfSync(
                f"the order book {self.channel!r} has had no update for max_age={max_age:g} s: "
                f"{last}; the market may be quiet, or the venue's feed has stopped"
            )

    # The rest is called under the lock.

    def _fall(self, why: str) -> None:
        """Report a fall out of sync, unless one was reported since the last snapshot."""
        if why and not self._is_out and self._upstream is not None:
            self._is_out = True
            self._changes.append(why)

    def _fault(self, why: str) -> None:
        """Put the book out of sync until the next snapshot."""
        self._step("fault", why)

    def _lose(self, why: str) -> None:
        """End the book until a snapshot comes that nothing here requests."""
        self._step("lose", why)
        self._failure = ""

    def _step(self, step: str, why: str) -> None:
        if self._status.is_synced:
            self._fall(why)
        status = self._status.after(step, why)
        self._version += 1
        self._status = status

    def _renewed(self) -> BookStatus:
        """Return the status after a snapshot, and report the snapshot if it is not the first."""
        if self._status.state is not BookState.EMPTY and self._upstream is not None:
            self._changes.append("")
        self._is_out = False
        return self._status.after("snapshot")

    def lasting(self) -> BookStatus:
        """Return the status, apart from suspicions that the next message may clear."""
        status = self._status
        if self._is_closed:
            return status.after("close", "it was closed")
        if not status.why:
            joiner, upstream = self.joiner, self._upstream
            if joiner is not None and joiner.wants_snapshot:
                status = status.after("fault", "messages were missed (sequence)")
            elif upstream is not None and (why := upstream.trouble(self.connection_id)):
                status = status.after("fault", why)
        if self._failure and status.why:
            why = f"{status.why} (the last attempt to fetch a snapshot: {self._failure})"
            return BookStatus(status.state, why)
        return status

    def status(self) -> BookStatus:
        """Return the status at this moment."""
        status, upstream = self.lasting(), self._upstream
        if upstream is None or status.why:
            return status
        why, newest = upstream.doubt(), upstream.newest()
        if (
            why is None
            and newest is not self.seen
            and not self._has(newest)
            and (late := upstream.lateness()) > LATE
        ):
            why = f"messages are waiting to be applied, the oldest for {late:.2f} s"
        return status if why is None else status.after("suspect", why)

    def check(self, stale_ok: bool) -> None:
        """Raise OrderBookOutOfSync unless the book may be read."""
        if not stale_ok:
            why = self.status().why
            if why:
                self._raise(why)

    def _raise(self, why: str) -> NoReturn:
        upstream = self._upstream
        is_over = self.is_lost or (upstream is not None and upstream.is_over)
        way = "make a new one" if is_over else "wait_synced() waits for the next snapshot"
        raise OrderBookOutOfSync(
            f"the order book {self.channel!r} is out of sync: {why}; {way}; stale_ok=True reads it "
            "as it is"
        )

    def forked(self) -> None:
        """Replace the locks in a child process.

        The book is out of sync there if another thread was changing it, or if it has a client,
        which belongs to the parent.
        """
        lock = self.lock
        is_free = not lock._is_owned() and lock.acquire(blocking=False)  # type: ignore[attr-defined]
        if not is_free or self._upstream is not None:
            why = "the process was forked, and the book belongs to the parent process"
            self._status = self._status.after("fault", why)
        self.locks = Locks()  # the parent's may be held for ever
        self.lock = self.locks.new("an order book")
        self.waiting = WaitList()
