"""An order book that messages and snapshots update, and that other threads read and wait for.

No user's code runs under the book's lock. There are two copies of each book. Readers see the copy
that was verified last, under the lock. A writer applies and verifies a change on the other copy,
without the lock; then the two are swapped, and the change is repeated on the older one. A writer
notes the book's version first, and begins again if the version has changed meanwhile. So writers do
not wait for each other, and an interrupted writer leaves the book either as it was before the
message or as it is after it.

Consecutive messages that only update a book in sync are one change: the copies are swapped once for
all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec import MsgspecError

from wsclient.books.book import Book, BookError, DialectBug
from wsclient.books.joiner import Joiner
from wsclient.books.run import BookRun
from wsclient.books.watched import Upstream, WatchedBook
from wsclient.dialect.base import Dialect
from wsclient.dialect.books import BookFormat, BookUpdate, Levels, Snapshot
from wsclient.errors import ConfigurationError, NotSupported
from wsclient.messages import Message
from wsclient.text import one_line, text_of
from wsclient.threads.locks import Locks

__all__ = ["BookCopy", "LiveBook", "Upstream", "format_of"]

#: How often a read is tried without the lock.
READ_TRIES = 3
#: Why a book by REST is out of sync after another subscribe on the same connection.
RESUBSCRIBED = "its channel was subscribed to again, and no snapshot has come yet"

_NO_VERSION = -1

T = TypeVar("T")


def format_of(dialect: Dialect) -> BookFormat:
    """Return the order books of a dialect.

    Raises NotSupported if it has none, ConfigurationError if its ``book`` is anything else.
    """
    book = dialect.book
    if book is None:
        raise NotSupported(f"the {dialect.name} dialect does not support order books")
    if not isinstance(book, BookFormat):
        raise ConfigurationError(
            f"the book of the {dialect.name} dialect must be an object of a class derived from "
            f"BookFormat, or None, not {book!r}"
        )
    return book


class BookCopy(NamedTuple):
    """A copy of a book in sync. ``origin`` is that of the stream that updates it.

    ``sequence`` and ``received_at`` are those of the last message that has updated it. It contains
    at least all messages up to ``seen``.
    """

    book: Book
    sequence: int | None
    received_at: int | None
    origin: int
    seen: Message | None


class LiveBook(WatchedBook):
    """An order book that messages and snapshots update, and that any thread may read.

    It refers neither to the client nor to the OrderBook that its reader holds. So the client's
    threads may hold it, and the client and the OrderBook can still be collected.
    """

    def __init__(
        self,
        dialect: Dialect,
        channel: str,
        verify_checksum: bool,
        options: Mapping[str, Any],
        upstream: Upstream | None = None,
        locks: Locks | None = None,
        mask: Callable[[str], str] = str,
    ) -> None:
        #: The venue's order books.
        self.format = format_of(dialect)
        self._name = dialect.name
        #: The options that its channel is subscribed with.
        self.options = options
        self.verify_checksum = verify_checksum
        #: Masks our own secrets in error texts.
        self._mask = mask
        self._depth = self.format.depth(options)
        by_rest = self.format.request(channel, options) is not None
        self.joiner = Joiner() if by_rest else None
        super().__init__(channel, upstream, locks)
        #: The book that is read. Its levels do not change while it is here.
        self.book = self._new_book()
        #: The version of the book that the other copy is equal to, and that copy.
        self.spare = (_NO_VERSION, self.book)
        #: How often the book, and any snapshot being fetched for it, has become void.
        self._age = 0
        #: True once a message that could not be applied was reported.
        self._is_reported = False
        self.sequence: int | None = None
        self.received_at: int | None = None

    def read(self, take: Callable[[Book], T], stale_ok: bool) -> T:
        """Return what ``take`` returns for the book.

        Raises OrderBookOutOfSync unless the book may be read. Takes no lock, unless messages are
        applied meanwhile: a book is changed only after another one has taken its place, which
        shows here.
        """
        self.catch_up()
        return self.read_now(take, stale_ok)

    def read_now(self, take: Callable[[Book], T], stale_ok: bool) -> T:
        """Return what :meth:`read` returns, of the messages that have been applied so far."""
        for _ in range(READ_TRIES):
            version, book = self._version, self.book
            if not stale_ok and self.status().why:
                break
            try:
                found = take(book)
            except (LookupError, RuntimeError):
                continue  # the book was changed meanwhile
            if version == self._version and book is self.book:
                return found
        with self.lock:
            self.check(stale_ok)
            return take(self.book)

    def copied(self) -> BookCopy | None:
        """Return a copy of the book, None if it is not in sync."""
        seen = self.seen  # first: it may only be older than the book
        with self.lock:
            if not self.lasting().is_synced:
                return None
            return BookCopy(
                self.book.copy(), self.sequence, self.received_at, self.connection_id, seen
            )

    # Messages.

    def apply(self, message: Message) -> bool:
        """Apply the channel's next message. Return whether the book is in sync afterwards."""
        if message.channel == self.channel and not self._is_closed:
            try:
                self._apply(message)
            except BaseException:
                self.waiting.wake_all()  # the first call may have been interrupted
                raise
        self._announce()
        with self.lock:
            return self.lasting().is_synced

    def apply_run(self, messages: Sequence[Message]) -> tuple[int, bool]:
        """Apply the first of ``messages`` of this channel, those that only update a book in sync.

        They are one change, which readers see at once. Returns how many were handled, 0 if the
        first one needs :meth:`apply`, and whether the book is in sync afterwards: it is not if the
        last one does not fit it. For one thread at a time.
        """
        with self.lock:
            if self._is_closed or not self.lasting().is_synced:
                return 0, False
            version, draft = self._take_draft()
            run = BookRun(draft, self.joiner, self.connection_id, self._origin)
        run.fill(self.channel, messages, self._read)
        try:
            if run.error is not None and run.updates:
                run.draft = self.book.copy()  # the other one is half changed
                for update in run.updates:
                    run.draft.change(update)
            if not self._publish(version, run):
                return 0, False
        except BaseException as error:  # noqa: BLE001 - levels that cannot be applied a second time
            run.error = error
        if run.error is not None:
            self._misfit(messages[run.count - 1], run.error)
        if run.count:
            self.seen = messages[run.count - 1]
            self.wake()
        return run.count, run.error is None

    def _apply(self, message: Message) -> None:
        try:
            self._take(message)
        except BaseException as error:
            self._misfit(message, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self.seen = message
            self.waiting.wake_all()  # the message may have ended a doubt

    def _take(self, message: Message) -> None:
        if message.type == "lost":
            with self.lock:
                if self.joiner is not None:
                    self._restart(self.joiner, self.connection_id)
                self._lose("the venue has ended its subscription")
        elif self.joiner is None:
            self._follow(message)
        else:
            self._follow_joined(self.joiner, message)

    def _follow(self, message: Message) -> None:
        """Apply a message to a book that begins with a snapshot in the stream."""
        gap = message.gap
        if self._status.is_synced and gap is not None and gap.reason == "duplicate":
            return
        update = self._read(message)
        if update is not None and update.is_snapshot:
            self._begin(update, message)
            return
        is_applied = False
        while not is_applied and (update is not None or gap is not None):
            with self.lock:
                if not self._status.is_synced:
                    return
                if update is None or gap is not None:
                    self._fault(f"messages were missed ({gap and gap.reason})")
                    return
                version, draft = self._take_draft()
            is_applied = self._change(draft, version, update, message)

    def _follow_joined(self, joiner: Joiner, message: Message) -> None:
        """Apply a message to a book that begins with a snapshot by REST.

        Sequence numbers decide whether it follows, except where they may have begun again.
        """
        gap, origin = message.gap, self._origin(message.connection_id)
        is_applied = False
        while not is_applied:
            with self.lock:
                if origin < self.connection_id or self.is_lost:
                    return
                if not self.connection_id:
                    # The first message of a book that is fed by hand.
                    self.connection_id = origin
                elif origin > self.connection_id:
                    self._restart(joiner, origin)
                elif gap is not None and gap.reason not in ("duplicate", "late", "reconnect"):
                    self._restart(joiner, origin)
                    self._fault(f"messages were missed ({gap.reason})")
                if message.sequence is None or not joiner.add(message):
                    if joiner.wants_snapshot and self._status.is_synced:
                        self._fault("messages were missed (sequence)")
                    return
                version, draft = self._take_draft()
            update = self._read(message) or BookUpdate(False, (), ())  # empty: the number counts
            is_applied = self._change(draft, version, update, message)

    def _read(self, message: Message) -> BookUpdate | None:
        update = self.format.update(message)
        # The levels are iterated over twice, and a dialect may return an iterator.
        return None if update is None else update._replace(bids=[*update.bids], asks=[*update.asks])

    def _read_at(self, message: Message) -> float:
        """Return when ``message`` was received (monotonic s): now, for one from elsewhere."""
        read_at = message.arrival.read_at
        return self._now() if read_at is None else read_at

    def _begin(self, update: BookUpdate, message: Message) -> None:
        """Replace the book by a snapshot from the stream."""
        draft = self._new_book()
        draft.apply(update)
        received_at, connection_id = message.received_at, self._origin(message.connection_id)
        updated_at = self._read_at(message)
        with self.lock:
            status = self._renewed()
            # No call between these assignments, and so no interrupt.
            self._version += 1
            self.book, self.sequence, self.received_at = draft, message.sequence, received_at
            self.updated_at = updated_at
            self.connection_id = connection_id
            self._status, self._failure = status, ""

    def _take_draft(self) -> tuple[int, Book]:
        """Return the version of the book, and a copy to change. Called under the lock."""
        (version, draft), self.spare = self.spare, (_NO_VERSION, self.book)
        if version != self._version:  # after a snapshot, an interrupt or another writer
            draft = self.book.copy()
        return self._version, draft

    def _change(self, draft: Book, version: int, update: BookUpdate, message: Message) -> bool:
        """Apply a message. Return False if the book has changed since the draft was taken."""
        draft.apply(update)
        run = BookRun(draft, self.joiner, self.connection_id, self._origin)
        run.updates, run.last = [update], message
        return self._publish(version, run)

    def _publish(self, version: int, run: BookRun) -> bool:
        """Swap the two books. Return False if the book has changed since the draft was taken."""
        draft, last, connection_id = run.draft, run.last, run.connection_id
        if last is None:
            return True
        sequence, received_at, updated_at = last.sequence, last.received_at, self._read_at(last)
        with self.lock:
            if self._version != version:
                return False
            older, joiner = self.book, self.joiner
            self._version = version + 1
            self.book, self.sequence, self.received_at = draft, sequence, received_at
            self.updated_at = updated_at
            self.connection_id = connection_id
            if joiner is not None:
                # Only after the book: an interrupt in between makes the joiner find the message
                # missing, so the book is out of sync, not wrong.
                joiner.took(last)
        for update in run.updates:
            older.change(update)
        self.spare = version + 1, older
        return True

    def _misfit(self, message: Message, error: BaseException) -> None:
        text = one_line(self._mask(text_of(error)))
        is_bug = isinstance(error, DialectBug)
        with self.lock:
            # Report only once until the next snapshot, since every message may raise.
            is_new = self._status.is_synced or not self._is_reported
            self._is_reported = True
            if self.joiner is not None and not self.joiner.wants_snapshot:
                self.joiner.restart([message])  # only a snapshot that includes it will do
            if is_bug:
                self._lose(f"a bug in its dialect: {text}")
            else:
                self._fault(f"a message does not fit it: {text}")
        # No message of a venue should cause any other error.
        is_odd = not isinstance(error, (ValueError, MsgspecError))
        if self._upstream is not None and is_odd and (is_bug or is_new):
            self._upstream.report(error)

    # Snapshots by REST.

    def begin_snapshot(self, connection_id: int = 0, *, is_void: bool = False) -> int:
        """Note that a snapshot will be fetched. Return the ``age`` for :meth:`take_snapshot`.

        ``is_void``: the messages so far belong to a subscription that has ended.
        """
        with self.lock:
            if is_void and self._status.is_synced:
                self._fault(RESUBSCRIBED)
            if self.joiner is not None and (is_void or connection_id > self.connection_id):
                self._restart(self.joiner, connection_id)
            age = self._age
        self._announce()
        return age

    def take_snapshot(
        self, answer: Any, connection_id: int | None = None, age: int | None = None
    ) -> bool:
        """Apply a snapshot by REST: see :meth:`wsclient.OrderBook.take_snapshot`.

        A client's book also passes the connection that brings its updates, and the ``age`` that
        :meth:`begin_snapshot` returned.
        """
        joiner = self.joiner
        if joiner is None:
            raise BookError(
                f"the order books of {self._name} begin with a message of the channel; "
                "they take no snapshot by REST"
            )
        snapshot = self.format.snapshot(self.channel, answer)
        if not isinstance(snapshot, Snapshot):
            text = f"snapshot() must return a Snapshot, not {type(snapshot).__name__}"
            raise DialectBug(text)
        if not isinstance(snapshot.sequence, int):  # else any update would follow it
            raise DialectBug(f"a Snapshot's sequence must be an int, not {snapshot.sequence!r}")
        try:
            try:
                return self._join(joiner, snapshot, connection_id, age)
            finally:
                self.wake()
        except BaseException:
            self.waiting.wake_all()  # the first call may have been interrupted
            raise

    def _join(
        self, joiner: Joiner, snapshot: Snapshot, connection_id: int | None, age: int | None
    ) -> bool:
        draft, last, sequence = self._new_book(), None, snapshot.sequence
        # The levels may come from a generator of the dialect, so it must run here: an error in it
        # means that the answer is wrong.
        update: BookUpdate | None = BookUpdate(True, [*snapshot.bids], [*snapshot.asks])
        is_joined = False
        while not is_joined:
            with self.lock:
                if self._is_closed or not joiner.wants_snapshot:
                    return True
                age = self._age if age is None else age
                if age != self._age or connection_id not in (None, self.connection_id):
                    return False
                changes = joiner.join(snapshot, last)
                if changes is None:
                    return False
                is_joined = update is None and not changes
                if is_joined:
                    received_at = self.received_at if last is None else last.received_at
                    updated_at = self._now() if last is None else self._read_at(last)
                    status = self._renewed()
                    self._version += 1
                    self.book, self.sequence, self.received_at = draft, sequence, received_at
                    self.updated_at = updated_at
                    self._status, self._failure = status, ""
                    joiner.joined(snapshot, last)  # the book is out of sync until this call
            if update is not None:
                draft.apply(update)
                update = None
            for last in changes:
                change = self._read(last)
                if change is not None:
                    draft.apply(change)
                    sequence = last.sequence or sequence
        return True

    def restore(
        self,
        bids: Levels,
        asks: Levels,
        sequence: int | None,
        received_at: int | None,
        origin: int,
        updated_at: float | None = None,
    ) -> None:
        """Take over a book in sync of another process, whose last message has these values.

        Apply what followed that message. ``origin`` is that of the stream that updates it. Raises
        BookError for levels that make no book.
        """
        draft = self._new_book()
        draft.apply(BookUpdate(True, bids, asks))
        joiner = self.joiner
        if joiner is not None and sequence is None:
            raise BookError("a book without a number cannot be joined to updates")
        with self.lock:
            status = self._renewed()
            self._version += 1
            self._age += 1
            self.book, self.sequence, self.received_at = draft, sequence, received_at
            self.updated_at, self.connection_id = updated_at, origin
            self._status, self._failure = status, ""
            if joiner is not None and sequence is not None:
                joiner.joined(Snapshot(sequence, (), ()), None)
        self.wake()

    def _new_book(self) -> Book:
        return Book(self._depth, self.format if self.verify_checksum else None)

    # Under the lock.

    def _restart(self, joiner: Joiner, connection_id: int) -> None:
        if self._status.is_synced:
            self._fault("the connection was replaced, and no snapshot has come yet")
        self._version += 1
        self._age += 1
        self.connection_id = connection_id
        joiner.restart()
