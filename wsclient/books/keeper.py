"""An order book that messages and snapshots update, and that other threads read and wait for.

No user's code runs under the book's lock. There are two copies of each book. Readers see the copy
that was verified last, under the lock. A writer applies and verifies a change on the other copy,
without the lock; then the two are swapped, and the change is repeated on the older one. A writer
notes the book's version first, and begins again if the version has changed meanwhile. So writers do
not wait for each other, and an interrupted writer leaves the book either as it was before the
message or as it is after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from msgspec import MsgspecError

from wsclient.books.book import Book, BookError, DialectBug
from wsclient.books.joiner import Joiner
from wsclient.errors import NotSupported, OrderBookOutOfSync, WaitTimeout
from wsclient.messages import Message
from wsclient.runtime.forking import watch
from wsclient.runtime.locks import Locks
from wsclient.runtime.reception import LATE
from wsclient.runtime.waiting import Deadline
from wsclient.runtime.waitlist import WaitList
from wsclient.sansio.codec import one_line
from wsclient.sansio.dialect import BookFormat, BookUpdate, Dialect, Snapshot

__all__ = ["LiveBook", "Upstream", "format_of"]

#: How long (s) a read waits until the messages that had come before it are applied.
CATCH_UP = 0.01
#: Why a book by REST is out of sync after another subscribe on the same connection.
RESUBSCRIBED = "its channel was subscribed to again, and no snapshot has come yet"

_NO_VERSION = -1


def format_of(dialect: Dialect) -> BookFormat:
    """Return the order books of a dialect. Raises NotSupported if it has none."""
    if dialect.book is None:
        raise NotSupported(f"the {dialect.name} dialect does not support order books")
    return dialect.book


class Upstream(Protocol):
    """The source of the messages of a client's book.

    :meth:`trouble`, :meth:`doubt` and :meth:`lateness` are called under the book's lock, and may
    take the lock of a queue.
    """

    @property
    def is_current(self) -> bool:
        """True on the thread that updates the book."""

    def trouble(self, connection_id: int) -> str | None:
        """Return why data of this connection is no longer up to date; None if it is."""

    def doubt(self) -> str | None:
        """Return why a message may be missing or late; None if there is no sign of it."""

    def newest(self) -> Message | None:
        """Return the newest message that has come for the book, applied or not."""

    def lateness(self) -> float:
        """Return how long (s) the oldest message has been waiting to be applied."""

    def report(self, error: BaseException) -> None:
        """Emit an event for an error of the dialect."""

    def check(self) -> None:
        """Raise if no snapshot can come while the caller waits."""


class LiveBook:
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
        self.channel = channel
        self.verify_checksum = verify_checksum
        self._upstream = upstream
        #: Masks our own secrets in error texts.
        self._mask = mask
        self._depth = self.format.depth(options)
        self.locks = Locks() if locks is None else locks
        #: Protects everything below except ``waiting`` and ``_is_closed``, whose changes are
        #: atomic. Held to check the state, to copy what is read, and to swap the two books.
        self.lock = self.locks.new("an order book")
        #: The book that is read. Its levels do not change while it is here.
        self.book = self._new_book()
        #: The version of the book that the other copy is equal to, and that copy.
        self.spare = (_NO_VERSION, self.book)
        #: Changes with each change of the book, or of whether it may be changed.
        self._version = 0
        by_rest = self.format.request(channel, options) is not None
        #: Set if the book begins with a snapshot by REST.
        self.joiner = Joiner() if by_rest else None
        #: How often the book, and any snapshot being fetched for it, has become void.
        self._age = 0
        #: Why the book is out of sync; None if it is not.
        self._why: str | None = "it has had no snapshot yet"
        #: What was wrong with the last snapshot by REST; empty once there is a good one.
        self._failure = ""
        self._is_lost = False
        self._is_closed = False
        #: True once a message that could not be applied was reported.
        self._is_reported = False
        self.connection_id = 0
        self.sequence: int | None = None
        self.received_at: int | None = None
        #: The last message that was handled, with or without success.
        self.seen: Message | None = None
        #: The threads that wait for a change.
        self.waiting = WaitList()
        watch(self)

    @property
    def is_lost(self) -> bool:
        """True when no further snapshot will come by itself."""
        return self._is_closed or self._is_lost

    # Messages.

    def apply(self, message: Message) -> bool:
        """Apply the channel's next message. Return whether the book is in sync afterwards."""
        if message.channel == self.channel and not self._is_closed:
            try:
                self._apply(message)
            except BaseException:
                self.waiting.wake_all()  # the first call may have been interrupted
                raise
        with self.lock:
            return self.trouble() is None

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
        if self._why is None and gap is not None and gap.reason == "duplicate":
            return
        update = self._read(message)
        if update is not None and update.is_snapshot:
            self._begin(update, message)
            return
        is_applied = False
        while not is_applied and (update is not None or gap is not None):
            with self.lock:
                if self._why is not None:
                    return
                if update is None or gap is not None:
                    self._doubt(f"messages were missed ({gap and gap.reason})")
                    return
                version, draft = self._take_draft()
            is_applied = self._change(draft, version, update, message)

    def _follow_joined(self, joiner: Joiner, message: Message) -> None:
        """Apply a message to a book that begins with a snapshot by REST.

        Sequence numbers decide whether it follows, except where they may have begun again.
        """
        gap = message.gap
        is_applied = False
        while not is_applied:
            with self.lock:
                if message.connection_id < self.connection_id or self.is_lost:
                    return
                if not self.connection_id:
                    # The first message of a book that is fed by hand.
                    self.connection_id = message.connection_id
                elif message.connection_id > self.connection_id:
                    self._restart(joiner, message.connection_id)
                elif gap is not None and gap.reason not in ("duplicate", "late", "reconnect"):
                    self._restart(joiner, message.connection_id)
                    self._doubt(f"messages were missed ({gap.reason})")
                if message.sequence is None or not joiner.add(message):
                    return
                version, draft = self._take_draft()
            update = self._read(message) or BookUpdate(False, (), ())  # empty: the number counts
            is_applied = self._change(draft, version, update, message)

    def _read(self, message: Message) -> BookUpdate | None:
        update = self.format.update(message)
        # The levels are iterated over twice, and a dialect may return an iterator.
        return None if update is None else update._replace(bids=[*update.bids], asks=[*update.asks])

    def _begin(self, update: BookUpdate, message: Message) -> None:
        """Replace the book by a snapshot from the stream."""
        draft = self._new_book()
        draft.apply(update)
        received_at, connection_id = message.received_at, message.connection_id
        with self.lock:
            # No call between these assignments, and so no interrupt.
            self._version += 1
            self.book, self.sequence, self.received_at = draft, message.sequence, received_at
            self.connection_id = connection_id
            self._why, self._failure, self._is_lost = None, "", False

    def _take_draft(self) -> tuple[int, Book]:
        """Return the version of the book, and a copy to change. Called under the lock."""
        (version, draft), self.spare = self.spare, (_NO_VERSION, self.book)
        if version != self._version:  # after a snapshot, an interrupt or another writer
            draft = self.book.copy()
        return self._version, draft

    def _change(self, draft: Book, version: int, update: BookUpdate, message: Message) -> bool:
        """Apply a message. Return False if the book has changed since the draft was taken."""
        draft.apply(update)
        received_at = message.received_at
        with self.lock:
            if self._version != version:
                return False
            older, joiner = self.book, self.joiner
            self._version = version + 1
            self.book, self.sequence, self.received_at = draft, message.sequence, received_at
            if joiner is not None:
                # Only after the book: an interrupt in between makes the joiner find the message
                # missing, so the book is out of sync, not wrong.
                joiner.took(message)
        older.change(update)
        self.spare = version + 1, older
        return True

    def _misfit(self, message: Message, error: BaseException) -> None:
        text = one_line(self._mask(str(error)) or type(error).__name__)
        is_bug = isinstance(error, DialectBug)
        with self.lock:
            # Report only once until the next snapshot, since every message may raise.
            is_new, self._is_reported = self._why is None or not self._is_reported, True
            if self.joiner is not None and not self.joiner.wants_snapshot:
                self.joiner.restart([message])  # only a snapshot that includes it will do
            if is_bug:
                self._lose(f"a bug in its dialect: {text}")
            else:
                self._doubt(f"a message does not fit it: {text}")
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
            if is_void and self._why is None:
                self._doubt(RESUBSCRIBED)
            if self.joiner is not None and (is_void or connection_id > self.connection_id):
                self._restart(self.joiner, connection_id)
            return self._age

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
                self.waiting.wake_all()
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
                    self._version += 1
                    self.book, self.sequence, self.received_at = draft, sequence, received_at
                    self._why, self._failure, self._is_lost = None, "", False
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

    def snapshot_failed(self, why: str) -> None:
        """Note why no snapshot could be fetched. Another fetch follows."""
        with self.lock:
            self._failure = why

    def give_up(self, why: str) -> None:
        """End the book, since no snapshot will come."""
        with self.lock:
            self._lose(why)
        self.waiting.wake_all()

    def close(self) -> None:
        """End the book. Takes no lock, so a signal handler may call it at any time."""
        self._is_closed = True
        try:
            self.waiting.wake_all()
        except BaseException:
            self.waiting.wake_all()
            raise

    def _new_book(self) -> Book:
        return Book(self._depth, self.format if self.verify_checksum else None)

    # Under the lock.

    def _doubt(self, why: str) -> None:
        self._version += 1
        self._why = why

    def _lose(self, why: str) -> None:
        self._version += 1
        self._why, self._failure, self._is_lost = why, "", True

    def _restart(self, joiner: Joiner, connection_id: int) -> None:
        if self._why is None:
            self._doubt("the connection was replaced, and no snapshot has come yet")
        self._version += 1
        self._age += 1
        self.connection_id = connection_id
        joiner.restart()

    # The state.

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
                doubt = self.doubt()
            if doubt is None:
                return True
            why = doubt
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

    def wake(self) -> None:
        """Wake all waiting threads, so that they check again."""
        self.waiting.wake_all()

    # The rest is called under the lock.

    def trouble(self) -> str | None:
        """Return why the book is out of sync until the next snapshot; None if it is not."""
        if self._is_closed:
            return "it was closed"
        why = self._why
        if why is None and self.joiner is not None and self.joiner.wants_snapshot:
            why = "messages were missed (sequence)"
        if why is None and self._upstream is not None:
            why = self._upstream.trouble(self.connection_id)
        if why and self._failure:
            return f"{why} (the last attempt to fetch a snapshot: {self._failure})"
        return why

    def doubt(self) -> str | None:
        """Return why the book is not in sync; None if it is."""
        why, upstream = self.trouble(), self._upstream
        if why is not None or upstream is None:
            return why
        why = upstream.doubt()
        if (
            why is None
            and not self._has(upstream.newest())
            and (late := upstream.lateness()) > LATE
        ):
            why = f"messages are waiting to be applied, the oldest for {late:.2f} s"
        return why

    def check(self, stale_ok: bool) -> None:
        """Raise OrderBookOutOfSync unless the book may be read."""
        if not stale_ok:
            why = self.doubt()
            if why is not None:
                self._raise(why)

    def _raise(self, why: str) -> NoReturn:
        way = "make a new one" if self.is_lost else "wait_synced() waits for the next snapshot"
        raise OrderBookOutOfSync(
            f"the order book {self.channel!r} is out of sync: {why}; {way}, stale_ok=True reads it "
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
            self._why = "the process was forked, and the book belongs to the parent process"
        self.locks = Locks()  # the parent's may be held for ever
        self.lock = self.locks.new("an order book")
        self.waiting = WaitList()
