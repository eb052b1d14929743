"""What keeps a client's order book up to date, and knows when it is not."""

from __future__ import annotations

from collections.abc import Callable

from wsclient.messages import Message
from wsclient.runtime.mailbox import Mailbox
from wsclient.runtime.watchdog import Watchdog
from wsclient.sansio.resync import PATIENCE
from wsclient.sansio.session import State

__all__ = ["BookLink"]


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
        self._apply: Callable[[Message], bool]
        self._wake: Callable[[], None]
        self.mailbox: Mailbox

    def keep(self, apply: Callable[[Message], bool], wake: Callable[[], None]) -> None:
        """Begin: the book's messages go to ``apply``; ``wake`` is called at the client's end."""
        self._apply, self._wake = apply, wake
        self.mailbox = self._core.callbacks.add(self._channel, self)
        self._core.at_end.append(wake)

    def end(self) -> None:
        """The reverse. Unsubscribes, without waiting, from what nobody else reads."""
        core = self._core
        core.at_end.remove(self._wake)
        if not core.callbacks.remove(self._channel, self):
            core.abandon(core.unroute((self._channel,), self.mailbox))

    def __call__(self, message: Message) -> None:
        was_synced, self._was_synced = self._was_synced, self._apply(message)
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
        session = self._core.peek()
        if session.state is not State.OPEN:
            return f"the link is down ({session.state.value})"
        if session.connection_id != connection_id:
            return "the link has been replaced, and no snapshot has come yet"
        return None

    def check(self) -> None:
        """Raise what a call on a closed or failed client must raise, and where we would wait for
        ourselves."""
        if self._core.callbacks.is_current:
            raise RuntimeError(
                "waiting for an order book within an on() function would wait for itself: books "
                "are kept on the same thread; use one of your own"
            )
        with self._core.session() as session:
            session.check()
