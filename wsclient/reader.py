"""Reader: blocking calls and an iterator over the messages of some channels."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from wsclient.checks import check_timeout, check_whole
from wsclient.errors import (
    ClientClosed,
    ConfigurationError,
    NotConnected,
    WaitTimeout,
    WSClientError,
)
from wsclient.messages import Message
from wsclient.runtime.checks import close_quietly, forbid_worker_threads
from wsclient.runtime.core import Core
from wsclient.runtime.queues import MessageQueue
from wsclient.sansio.life import State
from wsclient.threads.waiting import NEVER, Deadline, Waiter

if TYPE_CHECKING:
    from wsclient.notebook.collected import Collected

__all__ = ["Reader"]


class _Receiver:
    """Base of the client and its readers: the calls that take messages from one queue."""

    _core: Core
    _queue: MessageQueue

    def recv(self, timeout: float | None = None) -> Message:
        """Return the next message.

        ``timeout`` in seconds: None waits for ever, 0 polls. Raises TimeoutError when no message
        came in time, NotConnected when ``connect()`` was never called, and ClientClosed after
        ``close()``. When the client has failed, raises the failure, after the messages that are
        still queued.
        """
        core, queue, deadline = self._core, self._queue, None
        try:
            if timeout is not None:
                check_timeout(timeout)
            while True:
                try:
                    # In each place where messages are taken, an iterator written in C hands one out
                    # and no call follows. So an interrupt finds the message either still in the
                    # queue or already with the caller.
                    for message in queue.handed_out:
                        return message
                except IndexError:
                    pass  # nothing is handed out
                if deadline is None:
                    deadline = NEVER if timeout is None else Deadline(timeout)
                _fill(core, queue, 1, deadline)
        finally:
            # The running call keeps a reader alive that nothing else holds. The traceback of its
            # error must not keep it alive: a notebook keeps the traceback's frames.
            del self

    def recv_batch(
        self, max_messages: int | None = None, timeout: float | None = None
    ) -> list[Message]:
        """Return all waiting messages: at least one, at most ``max_messages`` (None: no limit).

        Blocks until there is one, for at most ``timeout`` (s). Raises as :meth:`recv`.
        """
        core, queue = self._core, self._queue
        try:
            check_whole("max_messages", max_messages, 1, or_none=True)
            check_timeout(timeout)
            deadline = Deadline(timeout)
            while True:
                _fill(core, queue, max_messages, deadline)
                messages: list[Message] = []
                try:
                    for _ in map(messages.extend, (islice(queue.handed_out, max_messages),)):
                        return messages
                except IndexError:  # that was all
                    if messages:
                        return messages  # inside the handler: an interrupt may come at its end
        finally:
            del self

    def collect(self, seconds: float | None = None, count: int | None = None) -> Collected:
        """Take messages for ``seconds``, or until there are ``count``, and return them.

        At least one of both must be given; what is reached first ends it. ``seconds=0`` takes what
        is waiting now. The result is a list of messages, which ``to_pandas()``, ``to_polars()`` and
        ``to_arrow()`` make into frames: see :class:`wsclient.Collected`.

        Ctrl-C takes nothing: all messages go back into the queue, in their order, and are the first
        that the next call gets. ``collect(seconds=0)`` returns them at once.

        When the client is closed, when it fails, and at the end of a recording, it returns early
        with what it has. The next call, or this one if it has nothing, raises as :meth:`recv`.
        """
        # From a layer above: lazily, since few programs need it.
        from wsclient.notebook.collected import Collected

        core, queue = self._core, self._queue
        take_back = queue.take_back
        taken: deque[Message] = deque()  # the newest first
        try:
            check_timeout(seconds, "seconds")
            check_whole("count", count, 1, or_none=True)
            if seconds is None and count is None:
                raise ConfigurationError("collect() needs seconds, count, or both")
            _take(core, queue, taken, seconds, count)
            return Collected(reversed(taken), core.log)
        except BaseException:
            take_back(taken)
            queue.waiting.wake()  # another thread may wait for them
            raise
        finally:
            del self  # a traceback that somebody keeps must not keep the client alive

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled: it may hold credentials, and its "
            "connection belongs to this process; make a new one in the other process"
        )

    def __iter__(self) -> Iterator[Message]:
        return _iterate(self)

    def __next__(self) -> Message:
        core, queue = self._core, self._queue
        try:
            while True:
                try:
                    for message in queue.handed_out:
                        return message
                except IndexError:
                    pass
                _fill(core, queue, 1, NEVER)
        except ClientClosed:
            raise StopIteration from None
        finally:
            del self


def _iterate(owner: _Receiver) -> Iterator[Message]:
    """Yield the messages to a ``for`` loop.

    A generator, since resuming one takes half the time of a call of ``__next__``.
    """
    core, queue = owner._core, owner._queue
    try:
        while True:
            try:
                yield from queue.handed_out
            except IndexError:
                pass
            if (pull_one := queue.pull_one) is not None:
                while pull_one():
                    yield from islice(queue.handed_out, 1)
            _fill(core, queue, 1, NEVER)
    except ClientClosed:
        return
    finally:
        del owner  # the loop keeps it alive; a traceback that somebody keeps must not


def _fill(core: Core, queue: MessageQueue, maximum: int | None, deadline: Deadline) -> None:
    """Block until ``queue`` has handed out messages."""
    forbid_worker_threads()
    if not queue and core.supervisor.state is State.IDLE:
        raise NotConnected("not connected; call connect() first")
    if not queue.fill(maximum, deadline):
        raise ClientClosed("the client is closed")


def _take(
    core: Core,
    queue: MessageQueue,
    taken: deque[Message],
    seconds: float | None,
    count: int | None,
) -> None:
    """Move messages from ``queue`` to the left of ``taken``, as ``collect()`` does."""
    deadline, has_asked = core.deadline(seconds), False
    try:
        while True:
            left = None if count is None else count - len(taken)
            if left == 0:
                return
            try:
                taken.extendleft(islice(queue.handed_out, left))
                continue
            except IndexError:  # that was all
                left = None if count is None else count - len(taken)
            if queue.pull_one is not None and queue.pull_one(deadline.at):
                continue
            remaining = deadline.remaining()
            if not remaining and has_asked:
                return
            has_asked = True
            _fill(core, queue, left, Deadline(None if remaining == NEVER.at else remaining))
    except WaitTimeout:
        return
    except WSClientError:
        if not taken:
            raise  # else the next call raises it again


class Reader(_Receiver):
    """An independent reader of some channels, with its own queue.

    Made by ``client.reader()``. It is an iterator and a context manager, and keeps the client
    alive. It is closed when it is garbage-collected; a ``for`` loop keeps its reader alive.
    """

    def __init__(self, client: _Receiver, queue: MessageQueue, channels: tuple[str, ...]) -> None:
        self._client = client
        self._core = client._core
        self._queue = queue
        self.channels = channels
        self._finalizer = weakref.finalize(self, self._core.calls.drop, channels, queue)
        self._finalizer.atexit = False

    def close(self, timeout: float | None = None) -> None:
        """End the iteration, and unsubscribe from the channels that nothing else reads.

        Blocks until the venue has answered, at most for ``timeout`` (s). In a signal handler or a
        finalizer that has interrupted wsclient, it returns at once, and the watchdog thread does
        the rest. Raises as ``client.unsubscribe()``.
        """
        check_timeout(timeout)
        core = self._core
        if core.is_forked:
            return
        if core.locks.is_held:
            core.calls.drop(self.channels, self._queue)
            return
        forbid_worker_threads()
        waiter = Waiter()
        core.calls.drop(self.channels, self._queue, waiter, core.until(timeout))
        self._finalizer.detach()  # only now: if close() is interrupted, the finalizer finishes it
        waiter.wait()

    def __enter__(self) -> Reader:
        if self._queue.is_closed:
            raise ClientClosed("the reader is closed; make a new one")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        close_quietly(self.close, kind)

    def __repr__(self) -> str:
        return f"<Reader of {', '.join(self.channels)}: {len(self._queue)} queued>"
