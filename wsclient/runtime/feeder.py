"""The thread that feeds a client's order books, so that no ``on()`` function delays them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from wsclient.errors import WaitTimeout, WSClientError
from wsclient.messages import Message
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.threads import start
from wsclient.runtime.waiting import Deadline

__all__ = ["Fed", "Feeder"]

#: The most messages that are taken from the queue at once.
BATCH = 256


class Fed(Protocol):
    """What takes a channel's messages: an order book."""

    def __call__(self, message: Message) -> None: ...

    def again(self) -> None:
        """Called once after :meth:`Feeder.call_again`, when its delay is over."""

    def wake(self) -> None:
        """Wake all who wait for the book, to look again."""


class Feeder:
    """Feeds books. The queue and the thread are made for the first one: most clients have none.

    :meth:`add`, :meth:`remove` and :meth:`call_again` are for one thread at a time, or the caller's
    lock. ``died`` is called when the thread dies of an error: no book is kept any more.
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
        #: Looked up by the thread while others change it: each is one step.
        self._fed: dict[str, Fed] = {}
        self._queue: MessageQueue | None = None
        #: The thread, once it has started.
        self.thread: threading.Thread | None = None
        #: What the thread died of.
        self.failure: BaseException | None = None
        #: Taken from the queue; the first is being applied.
        self._taken: list[Message] = []
        self._again_at = float("inf")

    @property
    def is_current(self) -> bool:
        """True on the thread itself."""
        return self.thread is threading.current_thread()

    def add(self, channel: str, fed: Fed) -> MessageQueue:
        """Call ``fed`` with the channel's messages. Returns the queue that they are to be put into.

        Raises ThreadStartError, and nothing is changed then.
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

    def remove(self, channel: str, fed: Fed) -> None:
        """Undo :meth:`add`, unless the channel has been given to another since."""
        if self._fed.get(channel) is fed:
            del self._fed[channel]

    def call_again(self, delay: float) -> None:
        """Call ``again()`` of every book in ``delay`` seconds."""
        self._again_at = min(self._again_at, time.monotonic() + delay)
        if self._queue is not None:
            self._queue.rouse()

    def wake(self) -> None:
        """Wake all who wait for a book, to look again."""
        for fed in list(self._fed.values()):
            fed.wake()

    def waits_since(self, channel: str, before: int) -> int | None:
        """When the oldest message of the channel that is still to be applied was received, if that
        was before ``before`` (ns since the epoch)."""
        queued = None if self._queue is None else self._queue.waits_since(channel, before)
        # The queue first: what is taken meanwhile is seen twice rather than not at all.
        taken = (m.received_at for m in list(self._taken) if m.channel == channel)
        since = next(taken, queued)
        return since if since is not None and since < before else None

    # The thread.

    def _run(self, queue: MessageQueue) -> None:
        try:
            while not queue.is_closed:
                self._step(queue)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the client fails
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
            pass  # that was all
        except WaitTimeout:
            return
        except WSClientError:
            queue.close()  # the client has failed; calls raise that by themselves
        while taken and not queue.is_closed:
            fed_or_none = self._fed.get(taken[0].channel)
            if fed_or_none is not None:
                fed_or_none(taken[0])
            del taken[0]

    def _until_again(self) -> float | None:
        at = self._again_at
        return None if at == float("inf") else max(0.0, at - time.monotonic())
