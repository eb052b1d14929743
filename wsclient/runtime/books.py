"""What connects a client's order books to it: their messages, and requests for a snapshot."""

from __future__ import annotations

import logging
import time
from typing import Any

from wsclient.messages import Gap, Message
from wsclient.runtime.core import Core, Routed
from wsclient.runtime.keeper import LATE, RESUBSCRIBED, LiveBook
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.waiting import Waiter
from wsclient.sansio.dialect import RestRequest
from wsclient.sansio.refreshes import PATIENCE
from wsclient.sansio.session import State

__all__ = ["BookFeed", "LiveBook", "RestBookFeed"]

#: How soon (s) a thread for snapshots that could not be started is tried again.
THREAD_AGAIN = 1.0


class BookFeed:
    """Connects one order book to its client. Called on the books thread with each message."""

    def __init__(self, core: Core, channel: str) -> None:
        self._core = core
        self.channel = channel
        self._was_synced = False
        #: The connection that brought the last message.
        self._connection_id = 0
        #: True while a snapshot has been asked for and has not come.
        self._is_asked = False
        #: True while the first message is one that came before there was a book.
        self._is_late = False
        self._has_started = False
        #: The calls that wait for the book, and whether one has got it. Of the watchdog thread.
        self.calls: set[object] = set()
        self.is_given = False
        self._routed: Routed
        self.book: LiveBook
        self.queue: MessageQueue

    def keep(self, book: LiveBook) -> None:
        """Begin: its messages go to the book, which is woken at the client's end. Raises
        ThreadStartError, and nothing has begun then."""
        core, self.book = self._core, book
        self.queue = core.books.add(self.channel, self)
        core.route_book(self.channel, self.queue, self._begin)
        core.at_end.append(book.wake)

    def _begin(self, routed: Routed) -> None:
        """Under the session's lock, before the first message."""
        self._routed, self._is_late = routed, routed.is_given
        self.book.seen = routed.newest

    def start(self) -> None:
        """See that it gets a snapshot, once: its channel is subscribed to now. On the watchdog
        thread."""
        routed = self._routed
        if self._has_started:
            return
        self._has_started = True
        if routed.is_wanted and not routed.is_given:
            self.ask(0.0 if routed.is_begun else PATIENCE)

    def end(self) -> None:
        """Undo :meth:`keep`, once. Unsubscribes, without waiting, from what nobody else reads."""
        core, book = self._core, self.book
        book.close()
        core.has_snapshot(self.channel)  # and asks for none any more
        core.at_end.remove(book.wake)
        core.books.remove(self.channel, self)
        core.leave((self.channel,), self.queue, Waiter())

    def __call__(self, message: Message) -> None:
        was_synced, self._was_synced = self._was_synced, self._apply(message)
        is_same_connection = message.connection_id == self._connection_id
        self._connection_id = message.connection_id
        if self._was_synced:
            if self._is_asked:
                self._is_asked = False
                self._core.has_snapshot(self.channel)
        elif not self._is_asked and self.trouble(message.connection_id) is None:
            # After a reconnect the new subscription brings a snapshot by itself.
            self.ask(0.0 if (was_synced and is_same_connection) or self._is_late else PATIENCE)
        self._is_late = False

    def _apply(self, message: Message) -> bool:
        try:
            return self.book.apply(message)
        except BaseException:  # noqa: BLE001 - a hook's sys.exit(): reported, and others go on
            return False

    def ask(self, delay: float) -> None:
        self._is_asked = True
        self._core.want_snapshot(self.channel, delay, unless=lambda: self.book.is_lost)

    def again(self) -> None:
        """Do nothing: only books by REST need a thread for their snapshots."""

    def wake(self) -> None:
        self.book.wake()

    # For the book.

    @property
    def is_current(self) -> bool:
        """True on the thread that keeps the book."""
        return self._core.books.is_current

    def trouble(self, connection_id: int) -> str | None:
        """Why what came over this connection is not up to date any more; None: it is."""
        if self._core.books.failure is not None:
            return "the thread that keeps order books has died"
        session = self._core.peek()
        if session.state is not State.OPEN:
            return f"the connection is down ({session.state.value})"
        if session.connection_id != connection_id:
            return "the connection was replaced, and no snapshot has come yet"
        return None

    def doubt(self) -> str | None:
        """What the next message may say; None: nothing is known to be missed, or to be late."""
        gap = self._suspected() or self.queue.pending_gap(self.channel)
        if gap is not None:
            return f"messages may have been missed ({gap.reason})"
        late = self._core.held_up_for(self.book.connection_id)
        return (
            None if late <= LATE else f"what has come has waited to be delivered for {late:.2f} s"
        )

    def _suspected(self) -> Gap | None:
        return self._core.peek().pending_gap(self.channel)

    def newest(self) -> Message | None:
        """The newest message that has come for the book; None: there is none, or no end to wait
        for it."""
        if self.queue.is_closed:
            return None
        tracker = self._core.peek().trackers.get(self.channel)
        return None if tracker is None else tracker.latest

    def lateness(self) -> float:
        """How long (s) the oldest message that is still to be applied has been waiting, if that is
        too long."""
        now = time.time_ns()
        since = self._core.books.waits_since(self.channel, now - int(LATE * 1e9))
        return 0.0 if since is None else (now - since) / 1e9

    def report(self, error: BaseException) -> None:
        """Log an error of the dialect, with its traceback."""
        text = f"the order book {self.channel!r} is out of sync: a bug of its dialect"
        self._core.log(logging.ERROR, text, channel=self.channel, exc_info=error)

    def check(self) -> None:
        """Raise what a call on a closed or failed client must raise, and where we would wait for
        ourselves."""
        with self._core.lock:
            self._core.peek().check()
        if self.is_current:
            raise RuntimeError(
                "waiting for an order book within a hook of a dialect would wait for itself: it is "
                "called on the thread that keeps the books"
            )


class RestBookFeed(BookFeed):
    """Connects a book that begins with a snapshot by REST."""

    def __init__(self, core: Core, channel: str, request: RestRequest) -> None:
        super().__init__(core, channel)
        self.request = request
        #: The connection and the subscription that the last snapshot was fetched for.
        self._fetched_for: tuple[int, int | None] = (0, None)

    def start(self) -> None:
        if not self._has_started:
            self._has_started = True
            self.ask(0.0)

    def end(self) -> None:
        super().end()
        self._core.snapshots.forget(self)

    def __call__(self, message: Message) -> None:
        if not self._apply(message):
            self.ask(0.0)

    def _suspected(self) -> Gap | None:
        gap = super()._suspected()
        # What was missed when a connection ended is in the snapshot that was fetched since.
        return None if gap is None or gap.reason == "reconnect" else gap

    def trouble(self, connection_id: int) -> str | None:
        why = super().trouble(connection_id)
        if why is None:
            active_as = self._core.peek().subscriptions.active_as(self.channel)
            if active_as is None:
                return "its channel is not confirmed at present"
            if active_as != self._fetched_for[1]:
                return RESUBSCRIBED
        return why

    def ask(self, delay: float) -> None:
        if not self.wants_snapshot:
            self._core.snapshots.forget(self)
        elif not self._core.snapshots.want(self):
            self._core.books.call_again(THREAD_AGAIN)

    def again(self) -> None:
        self.ask(0.0)

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
        active_as = self._core.peek().subscriptions.active_as(self.channel)
        before, was_active_as = self._fetched_for
        is_void = connection_id == before and active_as != was_active_as
        age = self.book.begin_snapshot(connection_id, is_void=is_void)
        # Last: until here the book is out of sync by the change of this.
        self._fetched_for = connection_id, active_as
        return age

    def join(self, answer: Any, connection_id: int, age: int) -> bool:
        return self.book.take_snapshot(answer, connection_id, age)

    def failed(self, why: str) -> None:
        self.book.snapshot_failed(why)

    def give_up(self, why: str) -> None:
        self.book.give_up(why)
