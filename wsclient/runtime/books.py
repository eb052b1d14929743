"""What keeps an order book up to date, and knows when it is not."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from wsclient.errors import OrderBookOutOfSync, WaitTimeout
from wsclient.messages import Gap, Message
from wsclient.runtime.core import Core
from wsclient.runtime.forking import watch
from wsclient.runtime.mailbox import Mailbox
from wsclient.runtime.waiting import Deadline, Waiter, acquire
from wsclient.sansio.book import Book, BookError, Joiner
from wsclient.sansio.codec import one_line
from wsclient.sansio.dialect import BookUpdate, Dialect, RestRequest
from wsclient.sansio.resync import PATIENCE
from wsclient.sansio.session import State

__all__ = ["BookLink", "KeptBook", "RestBookLink"]


class Link(Protocol):
    """Where the messages of a client's book come from."""

    def trouble(self, connection_id: int) -> str | None:
        """Why what came over this connection is not up to date any more; None: it is."""

    def doubt(self) -> str | None:
        """What the next message may tell; None: nothing is known to be missed."""

    def check(self) -> None:
        """Raise where waiting for a snapshot is in vain."""


class KeptBook:
    """A book, what messages and snapshots do to it, and who waits for it.

    It knows nothing of the client, nor of the OrderBook that its reader holds, so that it may be
    kept by the client's threads and these still be collected.
    """

    def __init__(
        self,
        dialect: Dialect,
        channel: str,
        verify_checksum: bool,
        options: Mapping[str, Any],
        link: Link | None = None,
    ) -> None:
        self._dialect = dialect
        self.channel = channel
        self.verify_checksum = verify_checksum
        self._link = link
        #: Protects all below, so that each read sees the book between two messages, never within
        #: one. Held for a message or a read; never while waiting.
        self.lock = threading.Lock()
        self.book = Book(dialect.book_depth(options), dialect if verify_checksum else None)
        by_rest = dialect.book_request(channel, options) is not None
        #: Where the book begins with a snapshot by REST.
        self.joiner = Joiner() if by_rest else None
        #: How often what was there, a snapshot on its way too, has become void.
        self._age = 0
        self._why: str | None = "it has had no snapshot yet"
        #: What was wrong with the last snapshot by REST; nothing, once there is a good one.
        self._failure = ""
        #: No snapshot will come of itself ...
        self.is_lost = False
        #: ... and none is taken any more.
        self._is_closed = False
        self.connection_id = 0
        self.sequence: int | None = None
        self.received_at: int | None = None
        #: One signal for each thread in wait_synced(); released to wake it.
        self.waiting: list[threading.Lock] = []
        watch(self)

    # Its messages.

    def apply(self, message: Message) -> bool:
        with self.lock:
            if message.channel == self.channel and not self._is_closed:
                try:
                    self._apply(message)
                except Exception as error:  # noqa: BLE001 - a dialect's, about a venue's payload
                    text = str(error) or type(error).__name__
                    self._why = f"a message does not fit it: {one_line(text)}"
                self._wake()  # it may have ended a doubt
            return self.trouble() is None

    def _apply(self, message: Message) -> None:
        if message.type == "lost":
            if self.joiner is not None:
                self._restart(self.joiner, self.connection_id)
            self._lose("the venue has ended its subscription")
            return
        if self.joiner is not None:
            self._join(self.joiner, message)
            return
        gap = message.gap
        if self._why is None and gap is not None and gap.reason == "duplicate":
            return
        update = self._dialect.book_update(message)
        if update is None and gap is None:
            return
        if update is None or not update.is_snapshot:
            if self._why is not None:
                return
            if gap is not None:
                self._why = f"messages were missed ({gap.reason})"
                return
        assert update is not None
        self.book.apply(update)
        self.sequence = message.sequence
        self.received_at = message.received_at
        if update.is_snapshot:
            self.connection_id = message.connection_id
            self._why, self.is_lost = None, False
            self._wake()

    # Snapshots by REST.

    def begin_snapshot(self, connection_id: int = 0) -> int:
        """Its snapshot is about to be fetched. Returns what :meth:`take_snapshot` needs."""
        with self.lock:
            if self.joiner is not None and connection_id > self.connection_id:
                self._restart(self.joiner, connection_id)
            return self._age

    def take_snapshot(
        self, answer: Any, connection_id: int | None = None, age: int | None = None
    ) -> bool:
        """As the OrderBook's; the connection that the changes come over, and what
        :meth:`begin_snapshot` returned, are for a client's book."""
        joiner = self.joiner
        if joiner is None:
            raise BookError(f"the books of {self._dialect.name} begin with a message, not by REST")
        snapshot = self._dialect.book_snapshot(self.channel, answer)
        with self.lock:
            if self._is_closed or not joiner.wants_snapshot:
                return True
            if connection_id not in (None, self.connection_id) or age not in (None, self._age):
                return False
            waiting = list(joiner.waiting)
            changes = joiner.join(snapshot)
            if changes is None:
                return False
            try:
                self.book.apply(BookUpdate(True, snapshot.bids, snapshot.asks))
                self.sequence = snapshot.sequence
                for message in changes:
                    self._change(message)
            except BaseException:
                joiner.restart(waiting)  # an older one would pass over them
                raise
            self._why, self._failure, self.is_lost = None, "", False
            self._wake()
            return True

    def snapshot_failed(self, why: str) -> None:
        """Another will be fetched."""
        with self.lock:
            self._failure = why

    def give_up(self, why: str) -> None:
        """No snapshot will come."""
        with self.lock:
            self._lose(why)

    def close(self) -> None:
        """Take nothing any more."""
        with self.lock:
            self._is_closed = True
            self._lose("it was closed")

    def _lose(self, why: str) -> None:
        self._why, self._failure, self.is_lost = why, "", True
        self._wake()

    def _join(self, joiner: Joiner, message: Message) -> None:
        """The numbers decide, but where they may have begun anew."""
        gap = message.gap
        if message.connection_id < self.connection_id or self.is_lost:
            return
        if message.connection_id > self.connection_id:
            self._restart(joiner, message.connection_id)
        elif gap is not None and gap.reason not in ("duplicate", "late", "reconnect"):
            self._restart(joiner, message.connection_id)
            self._why = f"messages were missed ({gap.reason})"
        if message.sequence is None:
            return
        was_joined = not joiner.wants_snapshot
        try:
            if joiner.add(message):
                self._change(message)
        except BaseException:
            joiner.restart([message])  # only a snapshot that has it will do
            raise
        if was_joined and joiner.wants_snapshot:
            self._why = "messages were missed (sequence)"

    def _restart(self, joiner: Joiner, connection_id: int) -> None:
        joiner.restart()
        self._age += 1
        self.connection_id = connection_id
        if self._why is None:
            self._why = "the link has been replaced, and no snapshot has come yet"

    def _change(self, message: Message) -> None:
        update = self._dialect.book_update(message)
        if update is not None:
            self.book.apply(update)
            self.sequence = message.sequence
            self.received_at = message.received_at

    # How it stands. All but the first two are called under the lock.

    def wait_synced(self, timeout: float | None) -> None:
        deadline = Deadline(timeout)
        while True:
            with self.lock:
                why = self.doubt()
                if why is None:
                    return
                if self.is_lost:
                    self._raise(why)
                signal = threading.Lock()
                signal.acquire()
                self.waiting.append(signal)
            try:
                if self._link is not None:
                    self._link.check()  # after the signal is in place: its end is not missed
                if not acquire(signal, deadline):
                    with self.lock:
                        why = self.doubt() or why
                    raise WaitTimeout(f"{self.channel!r} is not in sync within the timeout: {why}")
            finally:
                with self.lock:
                    if signal in self.waiting:
                        self.waiting.remove(signal)

    def wake(self) -> None:
        """Have all who wait look again: the client has ended."""
        with self.lock:
            self._wake()

    def trouble(self) -> str | None:
        """Why it is out of sync until the next snapshot; None: it is not."""
        why = self._why
        if why is None and self._link is not None:
            why = self._link.trouble(self.connection_id)
        if why and self._failure:
            return f"{why} (the last snapshot that was fetched: {self._failure})"
        return why

    def doubt(self) -> str | None:
        """Why it is not in sync; None: it is."""
        why = self.trouble()
        return self._link.doubt() if why is None and self._link is not None else why

    def check(self, stale_ok: bool) -> None:
        """Raise unless it may be read."""
        if not stale_ok:
            why = self.doubt()
            if why is not None:
                self._raise(why)

    def _raise(self, why: str) -> NoReturn:
        way = "make a new one" if self.is_lost else "wait_synced() waits for the next snapshot"
        raise OrderBookOutOfSync(
            f"the order book {self.channel!r} is out of sync: {why}; {way}, stale_ok=True reads "
            "what is there"
        )

    def _wake(self) -> None:
        for signal in self.waiting:
            signal.release()
        self.waiting.clear()

    def forked(self) -> None:
        """In a child process: a message may be half applied, and a client is the parent's."""
        if self.lock.locked() or self._link is not None:
            self._why = "the process was forked, and it was the parent's"
        self.lock = threading.Lock()
        self.waiting = []


class BookLink:
    """Between one order book and the client. Called on the callbacks thread with each message."""

    def __init__(self, core: Core, channel: str) -> None:
        self._core = core
        self.channel = channel
        self._was_synced = False
        #: The connection that brought the last message.
        self._connection_id = 0
        #: The client has been asked for a snapshot.
        self._is_asked = False
        self.book: KeptBook
        self.mailbox: Mailbox

    def keep(self, book: KeptBook) -> None:
        """Begin: its messages go to the book, which is woken at the client's end."""
        self.book = book
        self.mailbox = self._core.callbacks.add(self.channel, self)
        self._core.at_end.append(book.wake)

    def end(self) -> None:
        """The reverse, once. Unsubscribes, without waiting, from what nobody else reads."""
        core, book = self._core, self.book
        book.close()
        core.has_snapshot(self.channel)  # and asks for none any more
        core.at_end.remove(book.wake)
        mailbox = core.callbacks.remove(self.channel, self)
        if mailbox is not None:
            core.leave((self.channel,), mailbox, Waiter())

    def __call__(self, message: Message) -> None:
        was_synced, self._was_synced = self._was_synced, self.book.apply(message)
        is_same_link = message.connection_id == self._connection_id
        self._connection_id = message.connection_id
        if self._was_synced:
            if self._is_asked:
                self._is_asked = False
                self._core.has_snapshot(self.channel)
        elif not self._is_asked and self.trouble(message.connection_id) is None:
            # Where the link has dropped, the next one brings a snapshot by itself, in time.
            self.ask(0.0 if was_synced and is_same_link else PATIENCE)

    def ask(self, delay: float) -> None:
        self._is_asked = True
        self._core.want_snapshot(self.channel, delay, unless=lambda: self.book.is_lost)

    def trouble(self, connection_id: int) -> str | None:
        """Why what came over this connection is not up to date any more; None: it is."""
        session = self._core.peek()
        if session.state is not State.OPEN:
            return f"the link is down ({session.state.value})"
        if session.connection_id != connection_id:
            return "the link has been replaced, and no snapshot has come yet"
        return None

    def doubt(self) -> str | None:
        """What the next message may tell; None: nothing is known to be missed."""
        gap = self._suspected() or self.mailbox.pending_gap(self.channel)
        return None if gap is None else f"messages may have been missed ({gap.reason})"

    def _suspected(self) -> Gap | None:
        return self._core.peek().pending_gap(self.channel)

    def check(self) -> None:
        """Raise what a call on a closed or failed client must raise, and where we would wait for
        ourselves."""
        with self._core.lock:  # before the lock of the callbacks: a forked child has no use of it
            self._core.peek().check()
        if self._core.callbacks.is_current:
            raise RuntimeError(
                "waiting for an order book within an on() function would wait for itself: books "
                "are kept on the same thread; use one of your own"
            )


class RestBookLink(BookLink):
    """The same for a book that begins with a snapshot by REST."""

    def __init__(self, core: Core, channel: str, request: RestRequest) -> None:
        super().__init__(core, channel)
        self.request = request

    def end(self) -> None:
        super().end()
        self._core.snapshots.forget(self)

    def __call__(self, message: Message) -> None:
        if not self.book.apply(message):
            self.ask(0.0)

    def _suspected(self) -> Gap | None:
        gap = super()._suspected()
        # What a link's end may have taken is in the snapshot that was fetched since.
        return None if gap is None or gap.reason == "reconnect" else gap

    def ask(self, delay: float) -> None:
        if self.wants_snapshot:
            self._core.snapshots.want(self)
        else:
            self._core.snapshots.forget(self)

    # Called on the thread that fetches.

    @property
    def is_lost(self) -> bool:
        return self.book.is_lost

    @property
    def wants_snapshot(self) -> bool:
        with self.book.lock:
            return not self.book.is_lost and self.book.trouble() is not None

    def ready(self) -> int | None:
        return self._core.active_on(self.channel)

    def begin(self, connection_id: int) -> int:
        return self.book.begin_snapshot(connection_id)

    def join(self, answer: Any, connection_id: int, age: int) -> bool:
        return self.book.take_snapshot(answer, connection_id, age)

    def failed(self, why: str) -> None:
        self.book.snapshot_failed(why)

    def give_up(self, why: str) -> None:
        self.book.give_up(why)
