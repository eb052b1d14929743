"""What keeps a client's order book up to date, and knows when it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from wsclient.errors import OrderBookOutOfSync
from wsclient.messages import Gap, Message
from wsclient.runtime.mailbox import Mailbox
from wsclient.runtime.watchdog import Watchdog
from wsclient.sansio.dialect import RestRequest
from wsclient.sansio.resync import PATIENCE
from wsclient.sansio.session import State

__all__ = ["BookLink", "RestBookLink"]


#: Of a book that was given up, in the hands of who has it still.
NOT_KEPT = "it is kept no longer; ask the client for it anew"


class Kept(Protocol):
    """The order book."""

    @property
    def needs_snapshot(self) -> bool: ...

    @property
    def is_lost(self) -> bool: ...

    def apply(self, message: Message) -> bool: ...

    def wake(self) -> None: ...

    def begin_snapshot(self, connection_id: int) -> int: ...

    def take_snapshot(self, answer: Any, connection_id: int, age: int) -> bool: ...

    def give_up(self, why: str) -> None: ...


class BookLink:
    """Between one order book and the client. Called on the callbacks thread with each message."""

    def __init__(self, core: Watchdog, channel: str) -> None:
        self._core = core
        self._channel = channel
        self._was_synced = False
        #: The connection that brought the last message.
        self._connection_id = 0
        #: The client has been asked for a snapshot.
        self._is_asked = False
        self._has_ended = False
        self._book: Kept
        self._wake: Callable[[], None]
        self.mailbox: Mailbox

    def keep(self, book: Kept) -> None:
        """Begin: its messages go to the book, which is woken at the client's end."""
        self._book, self._wake = book, book.wake
        self.mailbox = self._core.callbacks.add(self._channel, self)
        self._core.at_end.append(self._wake)

    def end(self) -> None:
        """The reverse, once. Unsubscribes, without waiting, from what nobody else reads."""
        if self._has_ended:
            return
        self._has_ended = True
        if not self._book.is_lost:
            self._book.give_up(NOT_KEPT)
        core = self._core
        core.at_end.remove(self._wake)
        if not core.callbacks.remove(self._channel, self):
            core.abandon((self._channel,), self.mailbox)

    def __call__(self, message: Message) -> None:
        was_synced, self._was_synced = self._was_synced, self._book.apply(message)
        is_same_link = message.connection_id == self._connection_id
        self._connection_id = message.connection_id
        if self._was_synced:
            if self._is_asked:
                self._is_asked = False
                self._core.has_snapshot(self._channel)
        elif not self._is_asked and self.trouble(message.connection_id) is None:
            # Where the link has dropped, the next one brings a snapshot by itself, in time.
            self.ask(0.0 if was_synced and is_same_link else PATIENCE)

    def ask(self, delay: float) -> None:
        self._is_asked = True
        self._core.want_snapshot(self._channel, delay)

    def trouble(self, connection_id: int) -> str | None:
        """Why what came over this connection is not up to date any more; None: it is."""
        if self._has_ended:
            return NOT_KEPT  # whatever was on its way to it
        session = self._core.peek()
        if session.state is not State.OPEN:
            return f"the link is down ({session.state.value})"
        if session.connection_id != connection_id:
            return "the link has been replaced, and no snapshot has come yet"
        return None

    def doubt(self) -> str | None:
        """What the next message may tell; None: nothing is known to be missed."""
        gap = self._suspected() or self.mailbox.pending_gap(self._channel)
        return None if gap is None else f"messages may have been missed ({gap.reason})"

    def _suspected(self) -> Gap | None:
        return self._core.peek().pending_gap(self._channel)

    def check(self) -> None:
        """Raise what a call on a closed or failed client must raise, and where we would wait for
        ourselves or in vain."""
        if self._core.callbacks.is_current:
            raise RuntimeError(
                "waiting for an order book within an on() function would wait for itself: books "
                "are kept on the same thread; use one of your own"
            )
        if self._has_ended:
            raise OrderBookOutOfSync(f"the order book {self._channel!r}: {NOT_KEPT}")
        with self._core.session() as session:
            session.check()


class RestBookLink(BookLink):
    """The same for a book that begins with a snapshot by REST."""

    def __init__(self, core: Watchdog, channel: str, request: RestRequest) -> None:
        super().__init__(core, channel)
        self.channel = channel
        self.request = request

    def end(self) -> None:
        super().end()
        self._core.snapshots.forget(self)

    def __call__(self, message: Message) -> None:
        if not self._book.apply(message):
            self.ask(0.0)

    def _suspected(self) -> Gap | None:
        gap = super()._suspected()
        # What a link's end may have taken is in the snapshot that was fetched since.
        return None if gap is None or gap.reason == "reconnect" else gap

    def ask(self, delay: float) -> None:
        if self.wants_snapshot:
            self._core.snapshots.want(self)

    # Called on the thread that fetches.

    @property
    def wants_snapshot(self) -> bool:
        return not (self._has_ended or self._book.is_lost) and self._book.needs_snapshot

    def ready(self) -> int | None:
        return self._core.active_on(self._channel)

    def begin(self, connection_id: int) -> int:
        return self._book.begin_snapshot(connection_id)

    def join(self, answer: Any, connection_id: int, age: int) -> bool:
        return self._book.take_snapshot(answer, connection_id, age)

    def give_up(self, why: str) -> None:
        self._book.give_up(why)
