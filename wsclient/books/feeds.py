"""The feeds of a client's order books: they pass messages to a book and request its snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsclient.books.calls import Routed
from wsclient.books.keeper import RESUBSCRIBED, LiveBook
from wsclient.books.service import BookService
from wsclient.dialect.values import RestRequest
from wsclient.events import BookOutOfSync, BookRefreshed, DialectFailed
from wsclient.messages import Gap, Message
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.reception import LATE
from wsclient.sansio.life import State
from wsclient.sansio.refreshes import PATIENCE
from wsclient.threads.waiting import Waiter

__all__ = ["BookFeed", "LiveBook", "RestBookFeed"]

#: The delay (s) before another try to start the thread for snapshots, after a failed start.
THREAD_AGAIN = 1.0


class BookFeed:
    """Feeds one order book of a client. Called on the books thread with its messages."""

    def __init__(self, service: BookService, channel: str) -> None:
        self._service = service
        self._core = service.core
        self.channel = channel
        self._was_synced = False
        #: The origin of the last message.
        self._connection_id = 0
        #: True while a snapshot is requested and has not come.
        self._is_asked = False
        #: True while the first message is one that had come before the book existed.
        self._is_late = False
        self._has_started = False
        #: The calls that wait for the book, and whether one has got it. Used by the watchdog
        #: thread only.
        self.calls: set[object] = set()
        self.is_given = False
        self._routed: Routed
        self.book: LiveBook
        self.queue: MessageQueue

    def keep(self, book: LiveBook) -> None:
        """Route the channel's messages to ``book``, and wake the book at the client's end.

        Raises ThreadStartError; then nothing has changed.
        """
        service, self.book = self._service, book
        self.queue = service.feeder.add(self.channel, self)
        service.calls.route_book(self.channel, self.queue, self._begin)
        service.core.at_end.append(book.wake)

    def _begin(self, routed: Routed) -> None:
        """Note the state of the channel. Called under the core's lock, before the first message."""
        self._routed, self._is_late = routed, routed.is_given
        self.book.seen = routed.newest

    def start(self) -> None:
        """Request the first snapshot, if it would not come by itself; later calls do nothing.

        Called on the watchdog thread once the channel is subscribed to.
        """
        routed = self._routed
        if self._has_started:
            return
        self._has_started = True
        if routed.is_wanted and not routed.is_given:
            self.ask(0.0 if routed.is_begun else PATIENCE)

    def end(self) -> None:
        """Undo :meth:`keep`, once. Unsubscribe from the channel, unless something else reads it.

        Does not wait.
        """
        service, core, book = self._service, self._core, self.book
        book.close()
        service.calls.has_snapshot(self.channel)  # withdraws the request for one
        core.at_end.remove(book.wake)
        service.feeder.remove(self.channel, self)
        core.calls.leave((self.channel,), self.queue, Waiter())

    def __call__(self, messages: Sequence[Message]) -> int:
        """Apply the first of ``messages``, and return how many were applied."""
        count, is_synced = self.book.apply_run(messages)
        if not count:
            count, is_synced = 1, self._apply(messages[0])
        self._applied(messages[count - 1], is_synced)
        return count

    def _applied(self, message: Message, is_synced: bool) -> None:
        """Request a snapshot if the book is out of sync after ``message``."""
        was_synced, self._was_synced = self._was_synced, is_synced
        origin = self.origin(message.connection_id)
        is_same_connection = origin == self._connection_id
        self._connection_id = origin
        if self._was_synced:
            if self._is_asked:
                self._is_asked = False
                self._service.calls.has_snapshot(self.channel)
        elif not self._is_asked and self.trouble(origin) is None:
            # After a reconnect the new subscription brings a snapshot by itself.
            self.ask(0.0 if (was_synced and is_same_connection) or self._is_late else PATIENCE)
        self._is_late = False

    def _apply(self, message: Message) -> bool:
        try:
            return self.book.apply(message)
        except BaseException:  # noqa: BLE001 - a hook's sys.exit(): reported; other books go on
            return False

    def ask(self, delay: float) -> None:
        """Request a snapshot in ``delay`` seconds."""
        self._is_asked = True
        self._service.calls.want_snapshot(self.channel, delay, unless=lambda: self.book.is_lost)

    def again(self) -> None:
        """Do nothing: only books with snapshots by REST need the thread that fetches them."""

    def wake(self) -> None:
        self.book.wake()

    # For the book.

    @property
    def is_current(self) -> bool:
        """True on the books thread."""
        return self._service.feeder.is_current

    @property
    def is_over(self) -> bool:
        """True when the client is closed or has failed."""
        return not self._core.supervisor.life.may("fail")

    def origin(self, connection_id: int) -> int:
        """Return the id of the connection with which the stream of this connection began."""
        return self._core.supervisor.fleet.root(connection_id)

    def trouble(self, connection_id: int) -> str | None:
        """Return why data of the stream of this origin is no longer up to date; None if it is."""
        if self._service.feeder.failure is not None:
            return "the thread that updates order books has ended"
        supervisor = self._core.supervisor
        if self.is_over:
            return f"the client {'is closed' if supervisor.life.is_over else 'has failed'}"
        if (state := supervisor.state) is not State.OPEN:
            return f"the connection is down ({state.value})"
        if not supervisor.fleet.is_up(self.channel):
            return "its connection is down"
        if not supervisor.fleet.goes_on(connection_id):
            return "the connection was replaced, and no snapshot has come yet"
        return None

    def doubt(self) -> str | None:
        """Return why a message may be missing or late; None if there is no sign of it."""
        gap = self._suspected() or self.queue.pending_gap(self.channel)
        if gap is not None:
            return f"messages may have been missed ({gap.reason})"
        late = self._core.reception.held_up_for(self._core.supervisor.fleet.ids(self.channel))
        return None if late <= LATE else f"received data has waited for delivery for {late:.2f} s"

    def _suspected(self) -> Gap | None:
        channel = self._core.supervisor.upkeep.channels.get(self.channel)
        return None if channel is None else channel.pending

    def newest(self) -> Message | None:
        """Return the newest message that has come for the book.

        None if there is none, or if the queue is closed, so that the book will not get it.
        """
        if self.queue.is_closed:
            return None
        channel = self._core.supervisor.upkeep.channels.get(self.channel)
        return None if channel is None else channel.latest

    def now(self) -> float:
        """Return the time (monotonic s) by the client's clock."""
        return self._core.clock.monotonic()

    def lateness(self) -> float:
        """Return how long (s) the oldest message has been waiting to be applied.

        0 if it is not longer than LATE.
        """
        now = self._core.clock.time_ns()
        since = self._service.feeder.waits_since(self.channel, now - int(LATE * 1e9))
        return 0.0 if since is None else (now - since) / 1e9

    def report(self, error: BaseException) -> None:
        """Emit an event for an error of the dialect."""
        self._core.emit(DialectFailed, self.channel, error)

    def changed(self, why: str) -> None:
        """Emit an event: the book fell out of sync (``why``), or has a new snapshot (empty)."""
        if why:
            self._service.calls.count("books_out_of_sync")
            self._core.emit(BookOutOfSync, self.channel, why)
        else:
            self._service.calls.count("books_refreshed")
            self._core.emit(BookRefreshed, self.channel)

    def look(self) -> None:
        """Report the book as out of sync if its connection has ended."""
        self.book.look()

    def check(self) -> None:
        """Raise if the client is closed or has failed, or if this thread would wait for itself."""
        with self._core.lock:
            self._core.supervisor.life.check()
        if self.is_current:
            raise RuntimeError(
                "a hook of a dialect must not wait for an order book: it is called on the thread "
                "that updates the books, so the wait would never end"
            )


class RestBookFeed(BookFeed):
    """Feeds an order book that begins with a snapshot by REST."""

    def __init__(self, service: BookService, channel: str, request: RestRequest) -> None:
        super().__init__(service, channel)
        self.request = request
        #: The connection and the subscription that the last snapshot was fetched for.
        self._fetched_for: tuple[int, int | None] = (0, None)

    def start(self) -> None:
        if not self._has_started:
            self._has_started = True
            self.ask(0.0)

    def end(self) -> None:
        super().end()
        self._service.snapshots.forget(self)

    def _applied(self, message: Message, is_synced: bool) -> None:
        if not is_synced:
            self.ask(0.0)

    def _suspected(self) -> Gap | None:
        gap = super()._suspected()
        # The snapshot fetched after a reconnect contains what was missed in between.
        return None if gap is None or gap.reason == "reconnect" else gap

    def trouble(self, connection_id: int) -> str | None:
        why = super().trouble(connection_id)
        if why is None:
            active_as = self._service.calls.active_as(self.channel)
            if active_as is None:
                return "its channel is not confirmed at present"
            if active_as != self._fetched_for[1]:
                return RESUBSCRIBED
        return why

    def ask(self, delay: float) -> None:
        if not self.wants_snapshot:
            self._service.snapshots.forget(self)
        elif not self._service.snapshots.want(self):
            self._service.feeder.call_again(THREAD_AGAIN)

    def again(self) -> None:
        self.ask(0.0)

    # Called on the thread that fetches snapshots.

    @property
    def is_lost(self) -> bool:
        return self.book.is_lost

    @property
    def wants_snapshot(self) -> bool:
        with self.book.lock:
            return not self.book.is_lost and not self.book.lasting().is_synced

    def ready(self) -> int | None:
        return self._service.calls.active_on(self.channel)

    def begin(self, connection_id: int) -> int:
        active_as = self._service.calls.active_as(self.channel)
        before, was_active_as = self._fetched_for
        is_void = connection_id == before and active_as != was_active_as
        age = self.book.begin_snapshot(connection_id, is_void=is_void)
        # Last: until then the old value keeps the book out of sync.
        self._fetched_for = connection_id, active_as
        return age

    def join(self, answer: Any, connection_id: int, age: int) -> bool:
        return self.book.take_snapshot(answer, connection_id, age)

    def failed(self, why: str) -> None:
        self.book.snapshot_failed(why)

    def give_up(self, why: str) -> None:
        self._service.calls.count("books_refused")
        self.book.give_up(why)
