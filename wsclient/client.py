"""WebSocketClient: blocking calls and an iterator over a connection that looks after itself."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, NoReturn

from wsclient import dialects
from wsclient.errors import (
    ClientClosed,
    ConfigurationError,
    NotConnected,
)
from wsclient.events import Event
from wsclient.messages import Message, Subscription, SubscriptionState
from wsclient.options import Options, check_overflow, check_timeout, check_whole
from wsclient.orderbook import OrderBook
from wsclient.runtime.accounting import stats_of
from wsclient.runtime.books import BookFeed, LiveBook, RestBookFeed
from wsclient.runtime.core import Core
from wsclient.runtime.eventhub import EventStream
from wsclient.runtime.forking import forked_error
from wsclient.runtime.handshake import check_handshake_options, parse_url, weakness_of
from wsclient.runtime.logs import ClientLog
from wsclient.runtime.platform import check_threads
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.transport import Target, Turn, is_worker_thread
from wsclient.runtime.waiting import NEVER, Deadline, Waiter
from wsclient.sansio.codec import encode
from wsclient.sansio.session import State
from wsclient.stats import Stats
from wsclient.tracebacks import without_locals

__all__ = ["Reader", "WebSocketClient", "connect"]


class _Receiver:
    """What the client and its readers have in common: the calls that take from one queue."""

    _core: Core
    _queue: MessageQueue

    def recv(self, timeout: float | None = None) -> Message:
        """The next message.

        ``timeout`` in seconds: None waits for ever, 0 polls. Raises TimeoutError when none came,
        NotConnected when ``connect()`` was never called, ClientClosed after ``close()``, and what
        ended the client when it has failed; queued messages are handed out first.
        """
        core, queue, deadline = self._core, self._queue, None
        try:
            if timeout is not None:
                check_timeout(timeout)
            while True:
                try:
                    # An iterator all in C, and no call after it, here and wherever messages are
                    # taken: an interrupt finds the message still in the queue or already with
                    # the caller.
                    for message in queue.handed_out:
                        return message
                except IndexError:
                    pass  # nothing is handed out
                if deadline is None:
                    deadline = NEVER if timeout is None else Deadline(timeout)
                _fill(core, queue, 1, deadline)
        finally:
            # A call keeps a reader that only it holds. The traceback of its error, whose frames a
            # notebook keeps, must not.
            del self

    def recv_batch(
        self, max_messages: int | None = None, timeout: float | None = None
    ) -> list[Message]:
        """All messages that are waiting, at least one and at most ``max_messages``; else as
        :meth:`recv`."""
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
                        return messages  # from here: after the handler's end there is a jump
        finally:
            del self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} is never pickled: it may hold credentials, and its "
            "connection is this process's; make a new one there"
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


def _iterate(owner: _Receiver | None) -> Iterator[Message]:
    """What a ``for`` loop runs; a generator, since resuming one costs half of a ``__next__``."""
    assert owner is not None
    core, queue = owner._core, owner._queue
    try:
        while True:
            try:
                yield from queue.handed_out
            except IndexError:
                pass
            _fill(core, queue, 1, NEVER)
    except ClientClosed:
        return
    finally:
        owner = None  # whoever loops keeps it alive; a traceback that is kept must not


def _fill(core: Core, queue: MessageQueue, maximum: int | None, deadline: Deadline) -> None:
    """Wait until messages are handed out."""
    _forbid_worker_threads()
    if not queue and core.peek().state is State.IDLE:
        raise NotConnected("not connected; call connect() first")
    if not queue.fill(maximum, deadline):
        raise ClientClosed("the client is closed")


class Reader(_Receiver):
    """An independent reader of some channels, with a queue of its own.

    Made by ``client.reader()``. It is an iterator, a context manager, and keeps the client alive.
    One that nobody holds any more is closed; a ``for`` loop holds its reader.
    """

    def __init__(
        self, client: WebSocketClient, queue: MessageQueue, channels: tuple[str, ...]
    ) -> None:
        self._client = client
        self._core = client._core
        self._queue = queue
        self.channels = channels
        self._finalizer = weakref.finalize(self, self._core.drop, channels, queue)
        self._finalizer.atexit = False

    def close(self, timeout: float | None = None) -> None:
        """End its iteration, and unsubscribe from what nobody else reads.

        Blocks until the venue has answered, or ``timeout`` (s). Within a signal handler or a
        finalizer that has interrupted wsclient it returns at once, and the rest follows. Raises as
        ``client.unsubscribe()``.
        """
        check_timeout(timeout)
        core = self._core
        if core.is_forked:
            return
        if core.locks.is_held:
            core.drop(self.channels, self._queue)
            return
        _forbid_worker_threads()
        waiter = Waiter()
        core.drop(self.channels, self._queue, waiter, Deadline(timeout).at)
        self._finalizer.detach()  # not before: an interrupted close() leaves the rest to it
        waiter.wait()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _close_quietly(self.close, kind)

    def __repr__(self) -> str:
        return f"<Reader of {', '.join(self.channels)}: {len(self._queue)} queued>"


class WebSocketClient(_Receiver):
    """A connection to one venue, kept up in the background, read by blocking calls.

    ``url`` is ``ws://`` or ``wss://``, or a function that gives it, asked again at each attempt.
    The options are those of :class:`wsclient.Options`. Nothing is opened before
    :meth:`connect`, or a ``with`` block, which closes at its end. May be used from any number of
    threads.

    Raises ConfigurationError for a URL or an option that cannot work.
    """

    @without_locals
    def __init__(self, url: str | Callable[[], str], **options: Any) -> None:
        check_threads()
        checked = Options.of(options)
        dialect = dialects.find(checked.dialect)
        checked.check_credentials(dialect)
        where = dialect.name
        if not callable(url):
            where = str(parse_url(url))
        check_handshake_options(checked)
        log = ClientLog(checked.name or where, where)
        if checked.ssl_context is not None and (weakness := weakness_of(checked.ssl_context)):
            log(logging.WARNING, f"the ssl_context is insecure: {weakness}")
        self._where = where
        self._core = Core(Target(url, checked, dialect, Turn()), log)
        self._queue = self._core.default
        #: Changed on the watchdog thread only.
        self._book_feeds: dict[str, BookFeed] = {}
        #: The books that callers hold. Each holds the client, so it is not held here.
        self._books: weakref.WeakValueDictionary[str, OrderBook] = weakref.WeakValueDictionary()
        # The threads hold the core only: a client that nobody holds is collected, and closes it.
        self._finalizer = weakref.finalize(self, self._core.close_soon)
        # At the interpreter's exit the threads just end: a close would only have a thread that
        # waits in recv() print its ClientClosed.
        self._finalizer.atexit = False

    # The connection.

    def connect(self, timeout: float | None = None) -> None:
        """Open the connection; nothing to do when it is open.

        Makes at most ``max_retries`` attempts, with backoff between them, and at most for
        ``timeout`` seconds. Raises ConnectError (also a ConnectionError), chained to the last
        attempt's failure, or ConnectTimeout; ``connect()`` may then be called again, unless the
        venue refused for good (401, 403, login refused). Raises ClientClosed after close().
        """
        check_timeout(timeout)
        _forbid_worker_threads()
        waiter = Waiter()
        try:
            self._core.connect(waiter, Deadline(timeout).at)
            waiter.wait()
        except BaseException:  # Ctrl-C, or what another signal handler raises
            self._core.cancel_connect(waiter)
            raise

    def close(self, timeout: float | None = None) -> None:
        """End for good: the connection, every iteration, every blocked call.

        Takes at most ``timeout`` seconds (``close_timeout`` by default). Idempotent, and may be
        called from any thread, a signal handler and a finalizer: where these have interrupted
        wsclient itself it returns at once, and the client is closed as soon as they have returned.
        Messages still queued are discarded.
        """
        check_timeout(timeout)
        self._core.close(self._core.options.close_timeout if timeout is None else timeout)
        self._finalizer.detach()

    def __enter__(self) -> WebSocketClient:
        if self._core.peek().state is State.IDLE:
            self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _close_quietly(self.close, kind)

    # Channels.

    @without_locals
    def subscribe(
        self, *channels: str, timeout: float | None = None, **options: Any
    ) -> list[Subscription]:
        """Subscribe, and block until the venue has answered for every channel.

        ``options`` go to the dialect (``depth=100``) and are used again to resubscribe. While the
        connection is down, the request waits for it. ``timeout`` (s) bounds the whole call; by
        default each message to the venue is given ``ack_timeout``.

        Raises SubscriptionRejected or SubscriptionTimeout, whose ``failed`` names each channel
        that failed and why; the others stay subscribed.
        """
        self._subscribe(channels, self._queue, timeout, options)
        found = self._core.subscriptions(channels)
        return [found[c] for c in channels if c in found]

    def unsubscribe(self, *channels: str, timeout: float | None = None) -> None:
        """Unsubscribe, and block until the venue has answered. A channel that a reader or a
        callback still wants stays with those. ``timeout`` as in :meth:`subscribe`.

        Raises SubscriptionRejected where the venue refuses, SubscriptionTimeout where it does not
        answer; in the latter case the channel is no longer wanted all the same.
        """
        check_timeout(timeout)
        _forbid_worker_threads()
        _check_channels(channels)
        waiter = Waiter()
        self._core.unsubscribe(channels, self._queue, waiter, Deadline(timeout).at)
        waiter.wait()

    @property
    def subscriptions(self) -> dict[str, Subscription]:
        """The channels wanted now, with their state and a gap that is still to be delivered."""
        return self._core.subscriptions()

    @without_locals
    def reader(
        self,
        *channels: str,
        queue_size: int | None = None,
        overflow: str | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Reader:
        """An independent reader of ``channels``, which it subscribes to if need be.

        Their messages go to it, and to the client's own ``recv`` only where the client has
        subscribed to them as well. Raises as :meth:`subscribe`.
        """
        check_whole("queue_size", queue_size, 1, or_none=True)
        if overflow is not None:
            check_overflow(overflow)
        check_timeout(timeout)
        _check_channels(channels)
        name = f"reader-{next(self._core.reader_numbers)}"
        queue = self._core.new_queue(name, queue_size, overflow)
        undo = partial(self._core.undo, self._core.dropping(channels, queue))
        reader = Reader(self, queue, channels)
        try:
            self._subscribe(channels, queue, timeout, options)
        except BaseException:
            undo()  # one call all in C: another interrupt comes after it
            raise
        return reader

    def on(
        self,
        channel: str,
        function: Callable[[Message], object],
        timeout: float | None = None,
        **options: Any,
    ) -> Subscription:
        """Call ``function`` with each message of ``channel``, which is subscribed to if need be.

        It runs on the ``wsclient-callbacks`` thread; what it raises is logged and counted, and
        stops nothing. Raises as :meth:`subscribe`.
        """
        added = list[None]()
        try:
            return self._on(channel, function, timeout, options, added)
        except BaseException:  # out here, so that no interrupt comes between it and the return
            self._core.off(channel, function, added)
            del options  # they may hold secrets
            raise

    @without_locals
    def _on(
        self,
        channel: str,
        function: Callable[[Message], object],
        timeout: float | None,
        options: Mapping[str, Any],
        added: list[None],
    ) -> Subscription:
        check_timeout(timeout)
        _forbid_worker_threads()
        _check_channels((channel,))
        if not callable(function):
            raise ConfigurationError(f"on() takes a function, not {type(function).__name__}")
        waiter = Waiter()
        self._core.on(channel, function, options, waiter, Deadline(timeout).at, added)
        waiter.wait()
        found = self._core.subscriptions((channel,)).get(channel)
        gone = Subscription(channel, SubscriptionState.UNSUBSCRIBING, options)
        return found or gone  # somebody may have unsubscribed from it meanwhile

    def on_event(self, function: Callable[[Event], object]) -> None:
        """Call ``function`` with each event from now on: see :mod:`wsclient.events`.

        It runs on the ``wsclient-callbacks`` thread, which is shared with the functions of
        :meth:`on`; what it raises is logged and counted, and harms nothing. May be called before
        :meth:`connect`. ``close()`` waits, within its timeout, until the last event is
        delivered; after it none is. Raises ClientClosed after it, and what ended the client when
        it has failed.
        """
        if not callable(function):
            raise ConfigurationError(f"on_event() takes a function, not {type(function).__name__}")
        self._core.listen(self._core.callbacks.events, function)

    def events(self) -> EventStream:
        """What happens to the client, from now on, to iterate over: see :mod:`wsclient.events`.

        Usually in a thread of your own. May be called before :meth:`connect`. The iteration ends
        after the last event, :class:`wsclient.events.Closed`.
        """
        stream = EventStream()
        self._core.listen(stream)
        return stream

    @without_locals
    def order_book(
        self,
        symbol: str,
        *,
        verify_checksum: bool = True,
        timeout: float | None = None,
        **options: Any,
    ) -> OrderBook:
        """The order book of ``symbol``, kept up to date on the ``wsclient-books`` thread.

        Returns when it has its first snapshot; the same book for the same symbol. ``options`` go
        to the dialect, as with :meth:`subscribe`. A book that falls out of sync is
        resubscribed by itself, or its snapshot is fetched again where the venue gives it by REST.
        ``timeout`` (s) bounds the whole call; by default the venue's answer and the snapshot are
        each given ``ack_timeout``.

        Raises as :meth:`subscribe`, TimeoutError when no snapshot came, OrderBookOutOfSync where
        it was refused for good, NotSupported where the dialect has no order books, and
        ConfigurationError with ``overflow="conflate"``.
        """
        check_timeout(timeout)
        if not isinstance(symbol, str) or not isinstance(verify_checksum, bool):
            raise ConfigurationError("a book's symbol is text, its verify_checksum True or False")
        core = self._core
        if core.options.overflow == "conflate":
            raise ConfigurationError(
                'an order book needs every message, and overflow="conflate" keeps the newest only'
            )
        channel = core.dialect.book_channel(symbol, options)
        request = core.dialect.book_request(channel, options)
        deadline = Deadline(timeout)
        _forbid_worker_threads()
        core.peek().check_begun()
        # Made here, since it asks the dialect; kept on the watchdog thread.
        feed = BookFeed(core, channel) if request is None else RestBookFeed(core, channel, request)
        kept = LiveBook(
            core.dialect, channel, verify_checksum, options, feed, core.locks, core.mask
        )
        call = object()
        try:
            feed = core.call(partial(self._find_book, feed, kept, call))
            if feed.book.verify_checksum != verify_checksum:
                raise ConfigurationError(
                    f"the book of {symbol!r} is there already, with another verify_checksum"
                )
            feed.check()
            left = None if timeout is None else deadline.remaining()
            self._subscribe((channel,), feed.queue, left, options)
            core.call(feed.start)
            left = core.options.ack_timeout if timeout is None else deadline.remaining()
            feed.book.wait_synced(left)
            book: OrderBook = core.call(partial(self._book_of, feed, call))
            return book
        except BaseException:
            core.post(partial(self._give_up_book, channel, call))
            raise

    def latest(self, channel: str) -> Message | None:
        """The newest message received of ``channel``, or None. Consumes nothing, and waits for
        nothing. Raises ClientForked in a child process."""
        if self._core.is_forked:
            raise forked_error()
        tracker = self._core.peek().trackers.get(channel)
        return None if tracker is None else tracker.latest

    # Messages to the venue.

    @without_locals
    def send(self, payload: Any) -> None:
        """Send text, bytes, or an object as JSON; returns when its bytes are out.

        Raises NotConnected at once when the connection is not open, or when it ends before any
        byte went out; OutcomeUnknown when it ends half way. Nothing is queued or sent twice.
        """
        _forbid_worker_threads()
        waiter = Waiter()
        self._core.send(encode(payload), waiter)
        waiter.wait()

    @without_locals
    def request(self, payload: Any, timeout: float | None = 10.0) -> Any:
        """Send, and return the decoded reply that the dialect correlates to it.

        Raises NotSupported for a dialect without correlation, NotConnected as :meth:`send`,
        TimeoutError after ``timeout`` seconds, RequestRejected when the venue answers with an
        error, OutcomeUnknown when the connection ends before the answer.
        """
        check_timeout(timeout)
        _forbid_worker_threads()
        dialect = self._core.dialect
        sent, reply = Waiter(), Waiter()
        request_id = self._core.request(
            lambda id: encode(dialect.request(payload, id)), sent, reply, Deadline(timeout).at
        )
        try:
            sent.wait(Deadline(timeout))
        except TimeoutError:
            pass  # the reply's own deadline decides
        except BaseException:
            self._core.cancel_request(request_id)
            raise
        return reply.wait()

    # What is going on.

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._core.peek().state

    @property
    def is_connected(self) -> bool:
        """True while the connection is open and messages can be sent."""
        return self.state is State.OPEN

    def stats(self) -> Stats:
        """All counters and measures, as they stand now. Raises ClientForked in a child process."""
        self._core.check_call()
        return stats_of(self._core)

    def __repr__(self) -> str:
        if "_core" not in vars(self):  # an error reporter looks at one that could not be made
            return "<WebSocketClient, not made>"
        session = self._core.peek()
        count = len(session.subscriptions)
        return (
            f"<WebSocketClient {self._where} {session.state.value}, "
            f"{count} channel{'s'[: count != 1]}, {len(self._queue)} queued>"
        )

    # Inside.

    def _find_book(self, new: BookFeed, kept: LiveBook, call: object) -> BookFeed:
        """Return what keeps the channel's book: ``new``, if nothing does yet. ``call`` stands for
        the call that waits for it. On the watchdog thread, as the next three."""
        feed = self._book_feeds.get(new.channel)
        if feed is not None and feed.book.is_lost:
            self._drop_book(feed)
            feed = None
        if feed is None:
            new.keep(kept)
            feed = self._book_feeds[new.channel] = new
        feed.calls.add(call)
        return feed

    def _book_of(self, feed: BookFeed, call: object) -> OrderBook:
        feed.calls.discard(call)
        feed.is_given = True
        book = self._books.get(feed.channel)
        if book is None or book._kept is not feed.book:
            book = OrderBook._of(feed.book, partial(self._close_book, feed))
            self._books[feed.channel] = book
        return book

    def _give_up_book(self, channel: str, call: object) -> None:
        """A call has failed. Unless another one waits for the book, or has got it, it goes."""
        feed = self._book_feeds.get(channel)
        if feed is not None and call in feed.calls:
            feed.calls.discard(call)
            if not feed.calls and not feed.is_given:
                self._drop_book(feed)

    def _drop_book(self, feed: BookFeed) -> None:
        """Stop feeding the book of ``feed``. On the watchdog thread."""
        if self._book_feeds.get(feed.channel) is feed:
            del self._book_feeds[feed.channel]
            feed.end()

    def _close_book(self, feed: BookFeed) -> None:
        if not self._core.is_forked:
            feed.book.close()
            self._core.post(partial(self._drop_book, feed))

    def _subscribe(
        self,
        channels: tuple[str, ...],
        queue: MessageQueue,
        timeout: float | None,
        options: Mapping[str, Any],
    ) -> None:
        check_timeout(timeout)
        _forbid_worker_threads()
        _check_channels(channels)
        waiter = Waiter()
        self._core.subscribe(channels, queue, options, waiter, Deadline(timeout).at)
        waiter.wait()


@without_locals
def connect(url: str | Callable[[], str], **options: Any) -> WebSocketClient:
    """A :class:`WebSocketClient`, opened. Takes its arguments, and raises as its ``connect()``."""
    client = WebSocketClient(url, **options)
    try:
        client.connect()
    except BaseException:
        client.close(timeout=0.1)  # nothing is open: only a stuck attempt could take longer
        raise
    return client


def _forbid_worker_threads() -> None:
    if is_worker_thread():
        raise RuntimeError(
            "a blocking call from wsclient's own reader or watchdog thread would wait for itself; "
            "use client.on(), or a thread of your own"
        )


def _check_channels(channels: tuple[str, ...]) -> None:
    if not channels:
        raise ConfigurationError("name at least one channel")
    for channel in channels:
        if not isinstance(channel, str):
            raise ConfigurationError(
                f"a channel is text, not {type(channel).__name__}; "
                "several are several arguments: subscribe(*channels)"
            )


def _close_quietly(close: Callable[[], None], kind: type[BaseException] | None) -> None:
    """Close on leaving a ``with`` block, masking no exception of its body."""
    try:
        close()
    except Exception:
        if kind is None:
            raise
