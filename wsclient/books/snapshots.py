"""The thread that fetches snapshots of order books by REST, one after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import MsgspecError

from wsclient.books.book import DialectBug
from wsclient.dialect.values import RestRequest
from wsclient.errors import HandshakeRejected, ThreadStartError, WSClientError
from wsclient.events import SnapshotFailed, SnapshotsFailed, SnapshotTooOld
from wsclient.options import Options
from wsclient.sansio.backoff import Backoff
from wsclient.sansio.refreshes import Refreshes
from wsclient.text import one_line, text_of
from wsclient.threads.forking import watch
from wsclient.threads.locks import Locks
from wsclient.threads.workers import WorkerThread, start
from wsclient.tracebacks import forget_locals
from wsclient.transport.sockets import Cancellable
from wsclient.transport.source import Clock
from wsclient.verdicts import Verdict

__all__ = ["Snapshots", "Wanting"]

#: The delay (s) before a book's next snapshot is fetched, after a failure or a snapshot that is too
#: old. It is doubled each time, up to MAX_PATIENCE.
PATIENCE = 1.0
MAX_PATIENCE = 300.0


class Wanting(Protocol):
    """A book that begins with a snapshot by REST."""

    channel: str
    request: RestRequest

    @property
    def is_lost(self) -> bool:
        """True when the book has ended. :meth:`Snapshots.forget` is called after that."""

    @property
    def wants_snapshot(self) -> bool:
        """True when the book is out of sync and has not ended."""

    def ready(self) -> int | None:
        """Return the connection that brings the book's updates; None while there is none."""

    def begin(self, connection_id: int) -> int:
        """Note that a snapshot will be fetched. Return the ``age`` for :meth:`join`."""

    def join(self, answer: Any, connection_id: int, age: int) -> bool:
        """Apply a snapshot. Return False if a newer one is needed.

        Raises for an answer that makes no sense.
        """

    def failed(self, why: str) -> None:
        """Note why there is no usable snapshot yet. Another one will be fetched."""

    def give_up(self, why: str) -> None:
        """End the book, since no snapshot will come."""


class Snapshots:
    """Fetches the snapshots of all books of a client.

    The thread is started for the first book, since most clients have none.

    After an answer with Retry-After, or one that refuses us for asking too often, no request is
    sent until the delay is over. A snapshot that was refused for good (401, 403) is not requested
    again.

    ``fetched`` is called, without a lock, with each answer before it is applied: its channel, the
    connection that brings the book's updates, and the decoded answer.
    """

    def __init__(
        self,
        options: Options,
        emit: Callable[..., None],
        judge: Callable[[BaseException], Verdict],
        clock: Clock,
        locks: Locks | None = None,
        mask: Callable[[str], str] = str,
        fetched: Callable[[str, int, Any], None] = lambda *_: None,
    ) -> None:
        self.options = options
        self._fetched = fetched
        self._mask = mask
        self._emit = emit
        self._judge = judge
        self._clock = clock
        #: Protects the books, what is due, and the start of the thread. Never held during I/O, nor
        #: during a call of a book.
        self._lock = (locks or Locks()).new("the snapshots of order books")
        self.books: dict[str, Wanting] = {}
        self._refreshes = Refreshes(PATIENCE, MAX_PATIENCE)
        self._thread: WorkerThread | None = None
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        #: True while a book waits for its channel to be confirmed: :meth:`confirmed` wakes the
        #: thread.
        self.is_listening = False
        # Used by the thread only.
        self._backoff = Backoff(PATIENCE, MAX_PATIENCE, lambda: 1.0)
        self.not_before = 0.0
        self._fetching = Cancellable("the client was closed")
        watch(self)

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, while it runs."""
        thread = self._thread
        return thread if thread is not None and thread.is_alive() else None

    def want(self, book: Wanting) -> bool:
        """Fetch a snapshot for ``book``.

        Returns False if no thread can be started to fetch it: the caller must try again.
        """
        with self._lock:
            if self._fetching.is_cancelled or book.is_lost:
                return True  # the channel may belong to another book by now
            self.books[book.channel] = book
            is_new = self._refreshes.want(book.channel, self._clock.monotonic())
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
            self._emit(SnapshotFailed, book.channel, str(error), False, None)
            return False
        return True

    def forget(self, book: Wanting) -> None:
        """Stop fetching snapshots for ``book``: it has ended, or needs none."""
        with self._lock:
            if self.books.get(book.channel) is book:
                del self.books[book.channel]
                self._refreshes.forget(book.channel)

    def opened(self) -> None:
        """Fetch a snapshot for every book, since the connection or a subscription is new."""
        with self._lock:
            now = self._clock.monotonic()
            for channel in self.books:
                self._refreshes.want(channel, now)
        self._wakeups.put(None)

    def confirmed(self) -> None:
        """Check the waiting books again, since the venue may have confirmed a channel."""
        if self.is_listening:
            self.is_listening = False
            self._wakeups.put(None)

    def close(self) -> None:
        """End the thread without waiting for it. May be called anywhere, also in a finalizer."""
        self._fetching.cancel()
        self._wakeups.put(None)

    def forked(self) -> None:
        """Close the copy of the parent's socket in a child process, without sending anything."""
        self._fetching.forked()

    # The thread.

    def _run(self) -> None:
        try:
            self._loop()
        finally:
            self._thread = None  # whatever ended it, the next request starts another

    def _loop(self) -> None:
        while not self._fetching.is_cancelled:
            try:
                timeout = self._step(self._clock.monotonic())
            except BaseException as error:  # noqa: BLE001 - reported, and the thread goes on
                self._emit(SnapshotsFailed, error)
                timeout = PATIENCE
            if timeout > 0:
                try:
                    self._wakeups.get(timeout=min(timeout, threading.TIMEOUT_MAX))
                except queue.Empty:
                    pass

    def _step(self, now: float) -> float:
        """Fetch the snapshot that is due first. Return the time (s) until the next one is due."""
        with self._lock:
            books = dict(self.books)
        ready: dict[str, int] = {}
        waiting = 0
        self.is_listening = True  # before the check, so that a later confirmation wakes us
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
            wait = self.not_before - now
            taken = [] if wait > 0 else self._refreshes.take(now, ready.__contains__, 1)
            due = self._refreshes.deadline(now, ready.__contains__)
        for channel in taken:
            self._serve(books[channel], ready[channel])
            return 0.0
        return max(wait, due - now)

    def _serve(self, book: Wanting, connection_id: int) -> None:
        age = book.begin(connection_id)
        try:
            answer = self._fetch(book.request)
            self._fetched(book.channel, connection_id, answer)
            is_joined = book.join(answer, connection_id, age)
        except BaseException as error:  # noqa: BLE001 - the dialect may raise anything
            if not self._fetching.is_cancelled:
                self._failed(book, error)
            return
        self._backoff.reset()
        if is_joined:
            self._done(book)
        else:
            book.failed("it is too old for the updates")
            self._emit(SnapshotTooOld, book.channel)

    def _done(self, book: Wanting) -> None:
        with self._lock:
            # If the book was closed meanwhile, the channel may have a new book, which is not done.
            if self.books.get(book.channel) is book:
                self._refreshes.done(book.channel)
        if book.wants_snapshot:
            self.want(book)  # it fell out of sync meanwhile, when its request had no effect

    def _failed(self, book: Wanting, error: BaseException) -> None:
        text = one_line(self._mask(text_of(forget_locals(error))))
        is_bug = isinstance(error, DialectBug)
        verdict = Verdict.FATAL if is_bug else self._judge(error)
        # Only an error that no answer of a venue should cause is reported with its traceback.
        is_odd = not isinstance(error, (WSClientError, OSError, ValueError, MsgspecError))
        odd = error if is_odd else None
        if verdict is Verdict.FATAL:
            self._emit(SnapshotFailed, book.channel, text, True, odd)
            cause = "a bug in its dialect" if is_bug else "its snapshot was refused"
            book.give_up(f"{cause}: {text}")
            self.forget(book)
            return
        now = self._clock.monotonic()
        delay = error.retry_after or 0.0 if isinstance(error, HandshakeRejected) else 0.0
        if verdict is Verdict.RATE_LIMITED:
            delay = max(delay, self._backoff.next(verdict))
        self.not_before = now + delay
        with self._lock:
            if self.books.get(book.channel) is book:
                self._refreshes.failed(book.channel, now)
        book.failed(text)
        self._emit(SnapshotFailed, book.channel, text, False, odd)

    def _fetch(self, request: RestRequest) -> Any:
        from wsclient.transport.rest import fetch  # imported lazily: requests is slow to import

        options = self.options
        return fetch(
            request,
            options.connect_timeout,
            options.ssl_context,
            proxy=options.proxy,
            hold=self._fetching.hold,
        )
