"""Snapshots of order books by REST, fetched one after the other on a thread of their own."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import MsgspecError

from wsclient.errors import ConnectionLost, HandshakeRejected, ThreadStartError, WSClientError
from wsclient.options import Options
from wsclient.runtime.forking import watch
from wsclient.runtime.locks import Locks
from wsclient.runtime.logs import ClientLog
from wsclient.runtime.threads import start
from wsclient.runtime.transport import WorkerThread
from wsclient.sansio.backoff import Backoff, Verdict
from wsclient.sansio.book import DialectBug
from wsclient.sansio.codec import one_line
from wsclient.sansio.dialect import RestRequest
from wsclient.sansio.refreshes import Refreshes
from wsclient.tracebacks import forget_locals

__all__ = ["Snapshots", "Wanting"]

#: How soon (s) after a failure, or a snapshot that is too old, a book's next one is fetched;
#: doubled each time.
PATIENCE = 1.0
MAX_PATIENCE = 300.0


class Wanting(Protocol):
    """A book that begins with a snapshot by REST."""

    channel: str
    request: RestRequest

    @property
    def is_lost(self) -> bool:
        """Is it kept no longer? Whoever makes it so calls :meth:`Snapshots.forget` after that."""

    @property
    def wants_snapshot(self) -> bool:
        """Is it out of sync, and kept?"""

    def ready(self) -> int | None:
        """The connection that its changes come over; None while they do not."""

    def begin(self, connection_id: int) -> int:
        """What :meth:`join` is to be told of the snapshot about to be fetched."""

    def join(self, answer: Any, connection_id: int, age: int) -> bool:
        """Take it. False where another is needed; raises for nonsense."""

    def failed(self, why: str) -> None:
        """Why this one does not do; another will be fetched."""

    def give_up(self, why: str) -> None:
        """None will come."""


class Snapshots:
    """The thread is started for the first book: most clients have none.

    A venue that says Retry-After, or that we ask too often, is asked nothing before that time. What
    is refused for good (401, 403) is not asked for again.
    """

    def __init__(
        self,
        options: Options,
        log: ClientLog,
        judge: Callable[[BaseException], Verdict],
        locks: Locks | None = None,
        mask: Callable[[str], str] = str,
    ) -> None:
        self._options = options
        self._mask = mask
        self._log = log
        self._judge = judge
        self._locks = Locks() if locks is None else locks
        #: Protects the books, what is due, and who starts the thread. Never held during I/O, nor
        #: while a book is asked for anything.
        self._lock = self._locks.new("the snapshots of order books")
        self.books: dict[str, Wanting] = {}
        self._refreshes = Refreshes(PATIENCE, MAX_PATIENCE)
        self._thread: WorkerThread | None = None
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        #: A book waits for the venue's word on its channel: :meth:`confirmed` is news.
        self.is_listening = False
        # The thread's own.
        self._backoff = Backoff(PATIENCE, MAX_PATIENCE, lambda: 1.0, jitter=False)
        self._not_before = 0.0
        self._sock: socket.socket | None = None
        self._is_closed = False
        watch(self)

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, while it runs."""
        thread = self._thread
        return thread if thread is not None and thread.is_alive() else None

    def want(self, book: Wanting) -> bool:
        """It needs a snapshot. False where there is no thread to fetch it: to be asked again."""
        with self._lock:
            if self._is_closed or book.is_lost:
                return True  # its channel may be another book's by now
            self.books[book.channel] = book
            is_new = self._refreshes.want(book.channel, time.monotonic())
            thread = None
            if self._thread is None:
                thread = self._thread = WorkerThread("wsclient-snapshot", self._run)
        if is_new:
            self._wakeups.put(None)
        return thread is None or self._start(thread, book)

    def _start(self, thread: WorkerThread, book: Wanting) -> bool:
        try:
            start(thread)
        except ThreadStartError as error:
            self._thread = None
            book.failed(str(error))
            text = f"no snapshot of {book.channel!r} yet: {error}"
            self._log(logging.WARNING, text, channel=book.channel)
            return False
        return True

    def forget(self, book: Wanting) -> None:
        """It is kept no longer, or none will come."""
        with self._lock:
            if self.books.get(book.channel) is book:
                del self.books[book.channel]
                self._refreshes.forget(book.channel)

    def opened(self) -> None:
        """The link is new, or a subscription: so must be the snapshot."""
        with self._lock:
            now = time.monotonic()
            for channel in self.books:
                self._refreshes.want(channel, now)
        self._wakeups.put(None)

    def confirmed(self) -> None:
        """The venue may have confirmed a channel."""
        if self.is_listening:
            self.is_listening = False
            self._wakeups.put(None)

    def close(self) -> None:
        """End the thread, without waiting for it. Any thread may do so, a finalizer's too."""
        # The order matters, as in _hold, so that one of the two sees the other's doing.
        self._is_closed = True
        sock = self._sock
        if sock is not None:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass  # not connected yet: its own timeout ends it
        self._wakeups.put(None)

    def forked(self) -> None:
        """In a child process: let go of the copy of the parent's socket, without a word."""
        self._is_closed = True
        self._lock = self._locks.new("the snapshots of order books")
        sock, self._sock = self._sock, None
        if sock is not None:
            socket.socket.close(sock)

    # The thread.

    def _run(self) -> None:
        try:
            self._loop()
        finally:
            self._thread = None  # whatever it died of, the next book that wants one starts another

    def _loop(self) -> None:
        while not self._is_closed:
            try:
                timeout = self._step(time.monotonic())
            except BaseException:  # noqa: BLE001 - logged, and the thread goes on
                self._log(logging.ERROR, "internal error about a snapshot", exc_info=True)
                timeout = PATIENCE
            if timeout > 0:
                try:
                    self._wakeups.get(timeout=min(timeout, threading.TIMEOUT_MAX))
                except queue.Empty:
                    pass

    def _step(self, now: float) -> float:
        """Fetch what is due first. Returns how long (s) nothing will be."""
        with self._lock:
            books = dict(self.books)
        ready: dict[str, int] = {}
        waiting = 0
        self.is_listening = True  # from before we look: what comes later is news
        for channel, book in books.items():
            if not book.wants_snapshot:
                self._done(book)
            elif (connection_id := book.ready()) is not None:
                ready[channel] = connection_id
            else:
                waiting += 1
        if not waiting:
            self.is_listening = False
        with self._lock:
            wait = self._not_before - now
            taken = [] if wait > 0 else self._refreshes.take(now, ready, 1)
            due = self._refreshes.deadline(now, ready)
        for channel in taken:
            self._serve(books[channel], ready[channel])
            return 0.0
        return max(wait, due - now)

    def _serve(self, book: Wanting, connection_id: int) -> None:
        age = book.begin(connection_id)
        try:
            answer = self._fetch(book.request)
            is_joined = book.join(answer, connection_id, age)
        except BaseException as error:  # noqa: BLE001 - a dialect's too, about a venue's answer
            if not self._is_closed:
                self._failed(book, error)
            return
        self._backoff.reset()
        if is_joined:
            self._done(book)
        else:
            book.failed("it is too old for its changes")
            text = f"the snapshot of {book.channel!r} is too old; another is fetched"
            self._log(logging.INFO, text, channel=book.channel)

    def _done(self, book: Wanting) -> None:
        with self._lock:
            # Closed meanwhile, it may have a successor, which is not done.
            if self.books.get(book.channel) is book:
                self._refreshes.done(book.channel)
        if book.wants_snapshot:
            self.want(book)  # it fell out of sync meanwhile, which was no news then

    def _failed(self, book: Wanting, error: BaseException) -> None:
        text = one_line(self._mask(str(forget_locals(error)) or type(error).__name__))
        is_bug = isinstance(error, DialectBug)
        verdict = Verdict.FATAL if is_bug else self._judge(error)
        # What no venue's answer should cause comes with its traceback.
        is_odd = not isinstance(error, (WSClientError, OSError, ValueError, MsgspecError))
        if verdict is Verdict.FATAL:
            said = f"the order book {book.channel!r} gets no snapshot: {text}"
            self._log(logging.ERROR, said, channel=book.channel, exc_info=is_odd and error)
            cause = "a bug of its dialect" if is_bug else "its snapshot was refused"
            book.give_up(f"{cause}: {text}")
            self.forget(book)
            return
        now = time.monotonic()
        delay = error.retry_after or 0.0 if isinstance(error, HandshakeRejected) else 0.0
        if verdict is Verdict.RATE_LIMITED:
            delay = max(delay, self._backoff.next(verdict))
        self._not_before = now + delay
        with self._lock:
            if self.books.get(book.channel) is book:
                self._refreshes.failed(book.channel, now)
        book.failed(text)
        said = f"no snapshot of {book.channel!r} yet: {text}"
        self._log(logging.WARNING, said, channel=book.channel, exc_info=is_odd and error)

    def _fetch(self, request: RestRequest) -> Any:
        from wsclient.runtime.rest import fetch  # its imports are a burden to who needs it not

        options = self._options
        try:
            return fetch(
                request,
                options.connect_timeout,
                options.ssl_context,
                proxy=options.proxy,
                hold=self._hold,
            )
        finally:
            self._sock = None  # closed

    def _hold(self, sock: socket.socket) -> None:
        """Make ``sock`` known to close(), or end here if that has been before us."""
        self._sock = sock
        if self._is_closed:
            raise ConnectionLost("given up")
