"""How a snapshot that was fetched by REST joins a stream of updates. Pure logic."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from wsclient.books.book import BookError
from wsclient.dialect.books import Snapshot
from wsclient.messages import LinkedMessage, Message

__all__ = ["Joiner"]

#: How many messages may wait for a snapshot; beyond this the oldest are dropped.
MAX_BUFFER = 10_000


class Joiner:
    """Joins a snapshot that was fetched separately (by REST) to the stream of numbered updates.

    * Updates wait until there is a snapshot, which must contain all updates before the first of
      them.
    * Updates that the snapshot already contains are dropped. The first other one must directly
      follow the snapshot, and each later one must directly follow the one before it.
    * If an update does not, everything before it is void and another snapshot is needed.

    ``wants_snapshot`` is true while there is no snapshot that fits.

    An update counts only once it is in the book: :meth:`add` and :meth:`join` return what to apply;
    call :meth:`took` and :meth:`joined` after it has been applied. Each of these changes the joiner
    in one step, after its last call, so that no interrupt leaves it half changed.
    """

    def __init__(self, limit: int = MAX_BUFFER) -> None:
        #: Updates that have arrived and are not in the book yet, oldest first.
        self.waiting: deque[Message] = deque(maxlen=limit)
        #: The number that the next update must follow, when none is waiting.
        self._last: int | None = None
        #: An update with this number is accepted although it is the snapshot's own number.
        self._again: int | None = None
        self.wants_snapshot = True

    def add(self, message: Message) -> bool:
        """Add the next update of the stream. If True, apply it now, then call :meth:`took`.

        Raises BookError if the update has no sequence number.
        """
        sequence, follows = _numbers(message)
        if self.wants_snapshot:
            if self.waiting:
                last = _numbers(self.waiting[-1])[0]
                if sequence <= last:
                    return False
                if follows > last:
                    self.waiting.clear()
            self.waiting.append(message)
            return False
        last = self._last if self._last is not None else follows
        if sequence <= last != follows and sequence != self._again:
            return False
        if follows > last:
            self.restart([message])
            return False
        return True

    def follows(self, message: Message, last: Message | None) -> bool:
        """Return whether the update directly follows ``last``, which is not in the book yet.

        None for the last update in the book. :meth:`add` would return True.
        """
        if message.sequence is None or self.wants_snapshot:
            return False
        before = self._last if last is None else last.sequence
        sequence, follows = _numbers(message)
        return before is not None and follows <= before < sequence

    def took(self, message: Message) -> None:
        """Note that the update is in the book."""
        number = _numbers(message)[0]
        self._last, self._again = number, None

    def join(self, snapshot: Snapshot, after: Message | None = None) -> list[Message] | None:
        """Return the waiting updates to apply to ``snapshot``.

        ``after``: the last one that is already applied; only later ones are returned. Returns None
        if the snapshot is too old, and another one is needed.
        """
        updates = list(self.waiting)
        if after is not None:
            return updates[updates.index(after) + 1 :] if after in updates else None
        known = snapshot.sequence if snapshot.has_last else snapshot.sequence - 1
        while updates and _numbers(updates[0])[0] <= known:
            del updates[0]
        if updates and _numbers(updates[0])[1] > snapshot.sequence:
            return None
        return updates

    def joined(self, snapshot: Snapshot, last: Message | None) -> None:
        """Note that the snapshot and all updates up to ``last`` are in the book.

        ``last`` is None if there were no updates.
        """
        number = snapshot.sequence if last is None else _numbers(last)[0]
        again = number if last is None and not snapshot.has_last else None
        waiting: deque[Message] = deque(maxlen=self.waiting.maxlen)
        self.waiting, self._last, self._again, self.wants_snapshot = waiting, number, again, False

    def restart(self, waiting: Iterable[Message] = ()) -> None:
        """Start again with ``waiting``: the stream has a gap, or the book is wrong."""
        begun = deque(waiting, self.waiting.maxlen)
        self.waiting, self._last, self._again, self.wants_snapshot = begun, None, None, True


def _numbers(message: Message) -> tuple[int, int]:
    """Return an update's sequence number, and the number that it follows."""
    sequence = message.sequence
    if sequence is None:
        raise BookError("an update without a sequence number cannot be joined to a snapshot")
    follows = message.follows if isinstance(message, LinkedMessage) else None
    return sequence, sequence - 1 if follows is None else follows
