"""The thread that feeds a client's order books. No ``on()`` function can delay it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from operator import attrgetter
from typing import Protocol

from wsclient.errors import WaitTimeout, WSClientError
from wsclient.messages import Message
from wsclient.runtime.queues import MessageQueue
from wsclient.threads.waiting import Deadline
from wsclient.threads.workers import start

__all__ = ["Fed", "Feeder"]

#: The most messages taken from the queue at once.
BATCH = 256

_channel_of = attrgetter("channel")


class Fed(Protocol):
    """The interface of an order book's feed."""

    def __call__(self, messages: Sequence[Message]) -> int:
        """Apply the first of ``messages``, which is of this channel, and more of them.

        Returns how many were applied.
        """

    def again(self) -> None:
        """Try again. Called once after :meth:`Feeder.call_again`, when its delay is over."""

    def wake(self) -> None:
        """Wake all threads that wait for the book, so that they check it again."""

    def look(self) -> None:
        """Check the book, since a connection has ended."""


class Feeder:
    """Feeds order books with their messages on one thread.

    The queue and the thread are made for the first book, since most clients have none.

    :meth:`add`, :meth:`remove` and :meth:`call_again` must be called by one thread at a time.
    ``died`` is called when the thread ends by an error; after that no book is updated.
    """

    def __init__(
        self,
        new_queue: Callable[[], MessageQueue],
        add_queue: Callable[[MessageQueue], None],
        died: Callable[[str, BaseException], object],
    ) -> None:
        self._new_queue = new_queue
        self._add_queue = add_queue
        self._died = died
        #: The thread reads it while others change it: each access is one atomic step.
        self._fed: dict[str, Fed] = {}
        self._queue: MessageQueue | None = None
        #: The thread, once it has started.
        self.thread: threading.Thread | None = None
        #: The error that ended the thread.
        self.failure: BaseException | None = None
        #: Messages taken from the queue; the first is being applied.
        self._taken: list[Message] = []
        self._again_at = float("inf")

    @property
    def is_current(self) -> bool:
        """True on the feeder's own thread."""
        return self.thread is threading.current_thread()

    def add(self, channel: str, fed: Fed) -> MessageQueue:
        """Call ``fed`` with the channel's messages. Return the queue to put them into.

        Raises ThreadStartError; then nothing has changed.
        """
        if self._queue is None:
            queue = self._new_queue()
            thread = threading.Thread(
                name="wsclient-books", target=self._run, args=(queue,), daemon=True
            )
            start(thread)
            self.thread, self._queue = thread, queue
            self._add_queue(queue)
        self._fed[channel] = fed
        return self._queue

    def all(self) -> list[Fed]:
        """Return all books."""
        return list(self._fed.values())

    def remove(self, channel: str, fed: Fed) -> None:
        """Undo :meth:`add`, unless the channel belongs to another feed by now."""
        if self._fed.get(channel) is fed:
            del self._fed[channel]

    def call_again(self, delay: float) -> None:
        """Call ``again()`` of every book in ``delay`` seconds."""
        self._again_at = min(self._again_at, time.monotonic() + delay)
        if self._queue is not None:
            self._queue.rouse()

    def wake(self) -> None:
        """Wake all threads that wait for a book, so that they check it again."""
        for fed in self.all():
            fed.wake()

    def look(self) -> None:
        """Check every book, since a connection has ended."""
        for fed in self.all():
            fed.look()

    def waits_since(self, channel: str, before: int) -> int | None:
        """Return when the channel's oldest message that is still to be applied was received.

        None if it was not received before ``before``. Both are in ns since the epoch.
        """
        queued = None if self._queue is None else self._queue.waits_since(channel, before)
        # The queue first: a message that is taken meanwhile is seen twice rather than not at all.
        taken = (m.received_at for m in list(self._taken) if m.channel == channel)
        since = next(taken, queued)
        return since if since is not None and since < before else None

    # The thread.

    def _run(self, queue: MessageQueue) -> None:
        try:
            while not queue.is_closed:
                self._step(queue)
        except BaseException as error:  # noqa: BLE001 - any error here fails the client
            self.failure = error
            self._died("wsclient-books", error)
            self.wake()

    def _step(self, queue: MessageQueue) -> None:
        taken = self._taken
        if time.monotonic() >= self._again_at:
            self._again_at = float("inf")
            for fed in list(self._fed.values()):
                fed.again()
        try:
            queue.fill(BATCH, Deadline(self._until_again()))
            taken.extend(islice(queue.handed_out, BATCH))
        except IndexError:
            pass  # no message is left
        except WaitTimeout:
            return
        except WSClientError:
            queue.close()  # the client has failed, which the calls on it raise
        # By channel, so that messages of one book change it together. A new list: sort() would hide
        # the messages from other threads meanwhile.
        self._taken = taken = sorted(taken, key=_channel_of)
        while taken and not queue.is_closed:
            fed_or_none = self._fed.get(taken[0].channel)
            count = 1 if fed_or_none is None else fed_or_none(taken)
            del taken[:count]

    def _until_again(self) -> float | None:
        at = self._again_at
        return None if at == float("inf") else max(0.0, at - time.monotonic())
