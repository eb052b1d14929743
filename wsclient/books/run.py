"""Consecutive messages that change an order book together. Pure, except for the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from wsclient.books.book import Book
from wsclient.books.joiner import Joiner
from wsclient.dialect.books import BookUpdate
from wsclient.messages import Message

__all__ = ["BookRun"]

#: Readers see the messages applied so far after this time (s), if a message takes long.
AT_ONCE = 0.001


class BookRun:
    """A change of an order book in sync, by messages that are applied to its ``draft``.

    ``count`` messages were handled. ``updates`` were applied, up to the message ``last``; a
    snapshot among them is the first. If there is an ``error``, the message handled last has raised
    it, and the draft may be half changed. ``connection_id`` is the origin of the book's stream;
    ``origin`` returns that of a message's connection.
    """

    def __init__(
        self,
        draft: Book,
        joiner: Joiner | None,
        connection_id: int,
        origin: Callable[[int], int] = int,
    ) -> None:
        self.draft = draft
        self.connection_id = connection_id
        self.count = 0
        self.updates: list[BookUpdate] = []
        self.last: Message | None = None
        self.error: BaseException | None = None
        self._joiner = joiner
        self._origin = origin

    def fill(
        self,
        channel: str,
        messages: Sequence[Message],
        read: Callable[[Message], BookUpdate | None],
    ) -> None:
        """Apply the first of ``messages``, up to one that does more than update the book."""
        until = monotonic() + AT_ONCE
        for message in messages:
            if message.channel != channel or not self._is_ordinary(message):
                return
            self.count += 1
            try:
                update = read(message)
                if update is None and self._joiner is not None:
                    update = BookUpdate(False, (), ())  # empty: the number counts
                if update is not None:
                    self.draft.apply(update)
            except BaseException as error:  # noqa: BLE001 - also a hook's sys.exit()
                self.error = error
                return
            if update is not None:
                if update.is_snapshot:
                    self.updates.clear()
                    self.connection_id = self._origin(message.connection_id)
                self.updates.append(update)
                self.last = message
            if monotonic() > until:
                return

    def _is_ordinary(self, message: Message) -> bool:
        if message.gap is not None or message.type == "lost":
            return False
        joiner = self._joiner
        return joiner is None or (
            self._origin(message.connection_id) == self.connection_id
            and joiner.follows(message, self.last)
        )
