"""WebSocketClient: blocking calls and an iterator over a connection that reconnects by itself."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, NoReturn, TypeVar, overload

from wsclient import dialects
from wsclient.errors import (
    ClientClosed,
    ConfigurationError,
    NotConnected,
)
from wsclient.events import Event, InsecureTLS
from wsclient.messages import Message, Subscription, SubscriptionState
from wsclient.options import Options, check_overflow, check_timeout, check_whole
from wsclient.orderbook import OrderBook
from wsclient.runtime.accounting import stats_of
from wsclient.runtime.addresses import parse_url
from wsclient.runtime.books import BookFeed, LiveBook, RestBookFeed
from wsclient.runtime.core import Core
from wsclient.runtime.dialing import weakness_of
from wsclient.runtime.eventstream import EventStream
from wsclient.runtime.forking import forked_error
from wsclient.runtime.handshake import check_handshake_options
from wsclient.runtime.logs import ClientLog
from wsclient.runtime.platform import check_threads
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.source import Sources
from wsclient.runtime.target import Target
from wsclient.runtime.threads import is_worker_thread
from wsclient.runtime.transport import Sockets
from wsclient.runtime.waiting import NEVER, Deadline, Waiter
from wsclient.sansio.codec import encode
from wsclient.sansio.life import State
from wsclient.stats import Stats
from wsclient.tracebacks import without_locals

__all__ = ["Reader", "WebSocketClient", "client_of", "connect"]

_Event = TypeVar("_Event", bound=Event)


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
                    # Here, and wherever messages are taken, an iterator written in C hands one out
                    # and no call follows: so an interrupt finds the message either still in the
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


def _iterate(owner: _Receiver | None) -> Iterator[Message]:
    """Yield the messages to a ``for`` loop.

    A generator, since resuming one takes half the time of a call of ``__next__``.
    """
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
        owner = None  # the loop keeps it alive; a traceback that somebody keeps must not


def _fill(core: Core, queue: MessageQueue, maximum: int | None, deadline: Deadline) -> None:
    """Block until ``queue`` has handed out messages."""
    _forbid_worker_threads()
    if not queue and core.supervisor.state is State.IDLE:
        raise NotConnected("not connected; call connect() first")
    if not queue.fill(maximum, deadline):
        raise ClientClosed("the client is closed")


class Reader(_Receiver):
    """An independent reader of some channels, with its own queue.

    Made by ``client.reader()``. It is an iterator and a context manager, and keeps the client
    alive. It is closed when it is garbage-collected; a ``for`` loop keeps its reader alive.
    """

    def __init__(
        self, client: WebSocketClient, queue: MessageQueue, channels: tuple[str, ...]
    ) -> None:
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
        _forbid_worker_threads()
        waiter = Waiter()
        core.calls.drop(self.channels, self._queue, waiter, core.until(timeout))
        self._finalizer.detach()  # only now: if close() is interrupted, the finalizer finishes it
        waiter.wait()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _close_quietly(self.close, kind)

    def __repr__(self) -> str:
        return f"<Reader of {', '.join(self.channels)}: {len(self._queue)} queued>"


class WebSocketClient(_Receiver):
    """A connection to one venue, kept open in the background and read by blocking calls.

    ``url`` is a ``ws://`` or ``wss://`` URL, or a function that returns one and is called at each
    attempt. The options are those of :class:`wsclient.Options`. The connection is opened by
    :meth:`connect` or by a ``with`` block, which closes the client at its end. Any number of
    threads may use a client.

    Raises ConfigurationError for a URL or an option that cannot work.
    """

    @without_locals
    def __init__(self, url: str | Callable[[], str], **options: Any) -> None:
        self._begin(Sockets, url, options)

    def _begin(
        self,
        make_sources: Callable[[Target], Sources],
        url: str | Callable[[], str],
        options: Mapping[str, Any],
    ) -> None:
        check_threads()
        checked = Options.of(options)
        dialect = dialects.find(checked.dialect)
        checked.check_credentials(dialect)
        where = dialect.name
        if not callable(url):
            where = str(parse_url(url))
        check_handshake_options(checked)
        log = ClientLog(checked.name or where, where)
        self._where = where
        sources = make_sources(Target(url, checked, dialect))
        self._core = Core(sources, checked, dialect, log)
        if checked.ssl_context is not None and (weakness := weakness_of(checked.ssl_context)):
            self._core.emit(InsecureTLS, weakness)
        self._queue = self._core.default
        #: Changed on the watchdog thread only.
        self._book_feeds: dict[str, BookFeed] = {}
        #: The books that callers hold. Weak references, since each book holds the client.
        self._books: weakref.WeakValueDictionary[str, OrderBook] = weakref.WeakValueDictionary()
        # The threads hold only the core. So a client that nothing else holds is collected, and its
        # finalizer closes the core.
        self._finalizer = weakref.finalize(self, self._core.close_soon)
        # At the interpreter's exit the threads simply end. A close there would only make a thread
        # that waits in recv() print its ClientClosed.
        self._finalizer.atexit = False

    # The connection.

    def connect(self, timeout: float | None = None) -> None:
        """Open the connection. Does nothing if it is open.

        Makes at most ``max_retries`` attempts, with backoff between them, within ``timeout``
        seconds. Raises ConnectError (also a ConnectionError), chained to the failure of the last
        attempt, or ConnectTimeout. ``connect()`` may then be called again, unless the venue
        refused for good (401, 403, login refused). Raises ClientClosed after ``close()``.
        """
        check_timeout(timeout)
        _forbid_worker_threads()
        waiter = Waiter()
        try:
            self._core.calls.connect(waiter, self._core.until(timeout))
            waiter.wait()
        except BaseException:  # also Ctrl-C, and an exception from another signal handler
            self._core.calls.cancel_connect(waiter)
            raise

    def close(self, timeout: float | None = None) -> None:
        """Close the client for good: end its connection, every iteration and every blocked call.

        Takes at most ``timeout`` seconds (default: the option ``close_timeout``). Messages that
        are still queued are discarded. Idempotent. May be called from any thread, from a signal
        handler and from a finalizer. If that handler or finalizer has interrupted wsclient itself,
        ``close()`` returns at once, and the client is closed as soon as the handler returns.
        """
        check_timeout(timeout)
        self._core.close(self._core.options.close_timeout if timeout is None else timeout)
        self._finalizer.detach()

    def __enter__(self) -> WebSocketClient:
        if self._core.supervisor.state is State.IDLE:
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
        """Subscribe to ``channels``, and block until the venue has answered for every one.

        ``options`` are passed to the dialect (``depth=100``), and again at each resubscribe.
        While the connection is down, the call waits for it. ``timeout`` (s) bounds the whole call;
        by default the venue has ``ack_timeout`` to answer each message.

        Returns the subscriptions. Raises SubscriptionRejected or SubscriptionTimeout, whose
        ``failed`` maps each channel that failed to the reason; the others stay subscribed.
        """
        self._subscribe(channels, self._queue, timeout, options)
        found = self._core.calls.subscriptions(channels)
        return [found[c] for c in channels if c in found]

    def unsubscribe(self, *channels: str, timeout: float | None = None) -> None:
        """Unsubscribe from ``channels``, and block until the venue has answered.

        A channel that a reader or a callback still uses stays subscribed for them. ``timeout`` is
        as in :meth:`subscribe`.

        Raises SubscriptionRejected when the venue refuses, and SubscriptionTimeout when it does
        not answer. After a timeout the channel is no longer wanted either.
        """
        check_timeout(timeout)
        _forbid_worker_threads()
        _check_channels(channels)
        waiter = Waiter()
        self._core.calls.unsubscribe(channels, self._queue, waiter, self._core.until(timeout))
        waiter.wait()

    @property
    def subscriptions(self) -> dict[str, Subscription]:
        """The wanted channels, each with its state and any gap that is not yet delivered."""
        return self._core.calls.subscriptions()

    @without_locals
    def reader(
        self,
        *channels: str,
        queue_size: int | None = None,
        overflow: str | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Reader:
        """Return an independent reader of ``channels``; subscribe to them if necessary.

        The reader gets their messages. The client's own ``recv`` gets them only if the client has
        subscribed to them too. ``queue_size`` (messages) and ``overflow`` replace the client's
        options for this reader. ``timeout`` and ``options`` are as in :meth:`subscribe`. Raises as
        :meth:`subscribe`.
        """
        check_whole("queue_size", queue_size, 1, or_none=True)
        if overflow is not None:
            check_overflow(overflow)
        check_timeout(timeout)
        _check_channels(channels)
        name = f"reader-{next(self._core.reader_numbers)}"
        queue = self._core.new_queue(name, queue_size, overflow)
        undo = partial(self._core.undo, self._core.calls.dropping(channels, queue))
        reader = Reader(self, queue, channels)
        try:
            self._subscribe(channels, queue, timeout, options)
        except BaseException:
            undo()  # one call, written in C: a second interrupt can only come after it
            raise
        return reader

    def on(
        self,
        channel: str,
        function: Callable[[Message], object],
        timeout: float | None = None,
        **options: Any,
    ) -> Subscription:
        """Call ``function`` with each message of ``channel``; subscribe to it if necessary.

        The function runs on the ``wsclient-callbacks`` thread. An exception from it is logged and
        counted, and stops nothing. Raises as :meth:`subscribe`.
        """
        added = list[None]()
        try:
            return self._on(channel, function, timeout, options, added)
        except BaseException:  # in this frame: no interrupt comes between it and the return
            self._core.calls.off(channel, function, added)
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
        self._core.calls.on(channel, function, options, waiter, self._core.until(timeout), added)
        waiter.wait()
        found = self._core.calls.subscriptions((channel,)).get(channel)
        gone = Subscription(channel, SubscriptionState.UNSUBSCRIBING, options)
        return found or gone  # another thread may have unsubscribed from it meanwhile

    @overload
    def on_event(self, function: Callable[[Event], object]) -> None: ...

    @overload
    def on_event(self, function: Callable[[_Event], object], kind: type[_Event], /) -> None: ...

    @overload
    def on_event(
        self,
        function: Callable[[Any], object],
        kind: type[Event],
        other: type[Event],
        /,
        *types: type[Event],
    ) -> None: ...

    def on_event(self, function: Callable[[Any], object], *types: type[Event]) -> None:
        """Call ``function`` with each event from now on: see :mod:`wsclient.events`.

        With ``types``, the function gets only events of these types, such as ``Disconnected``.
        The function runs on the ``wsclient-callbacks`` thread, which it shares with the functions
        of :meth:`on`. An exception from it is logged and counted, and stops nothing. May be called
        before :meth:`connect`. ``close()`` waits, within its timeout, until the last event is
        delivered; no event is delivered after ``close()``. Raises ClientClosed after ``close()``,
        and the client's failure when it has failed.
        """
        if not callable(function):
            raise ConfigurationError(f"on_event() takes a function, not {type(function).__name__}")
        self._core.calls.on_event(function, _event_types("on_event", types))

    def events(self, *types: type[Event]) -> EventStream:
        """Return an iterator over the client's events from now on: see :mod:`wsclient.events`.

        With ``types``, only over events of these types, such as ``Disconnected``. Iterate over it
        in a thread of your own. May be called before :meth:`connect`. The iteration ends after the
        last event, :class:`wsclient.events.Closed`, even if its type is not among them.
        """
        stream = EventStream(types=_event_types("events", types))
        self._core.calls.listen(stream)
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
        """Return the order book of ``symbol``, kept up to date on the ``wsclient-books`` thread.

        Blocks until the book has its first snapshot. The same symbol gives the same book.
        ``options`` are passed to the dialect, as in :meth:`subscribe`. When a book falls out of
        sync, the client resubscribes to its channel, or fetches its snapshot again if the venue
        provides it by REST. ``timeout`` (s) bounds the whole call; by default the venue's
        answer and the snapshot each have ``ack_timeout``.

        Raises as :meth:`subscribe`; TimeoutError when no snapshot came, OrderBookOutOfSync when
        the snapshot was refused for good, NotSupported when the dialect has no order books, and
        ConfigurationError with ``overflow="conflate"``.
        """
        check_timeout(timeout)
        if not isinstance(symbol, str) or not isinstance(verify_checksum, bool):
            raise ConfigurationError(
                "an order book's symbol must be text, and verify_checksum True or False"
            )
        core = self._core
        if core.options.overflow == "conflate":
            raise ConfigurationError(
                'an order book needs every message, but overflow="conflate" keeps only the newest; '
                "choose another overflow policy"
            )
        channel = core.dialect.book_channel(symbol, options)
        request = core.dialect.book_request(channel, options)
        deadline = Deadline(timeout)
        _forbid_worker_threads()
        core.supervisor.life.check_begun()
        # Made here, since it calls the dialect; put into the table on the watchdog thread.
        feed = BookFeed(core, channel) if request is None else RestBookFeed(core, channel, request)
        live = LiveBook(
            core.dialect, channel, verify_checksum, options, feed, core.locks, core.mask
        )
        call = object()
        try:
            feed = core.call(partial(self._find_book, feed, live, call))
            if feed.book.verify_checksum != verify_checksum:
                raise ConfigurationError(
                    f"the order book of {symbol!r} already exists with verify_checksum="
                    f"{feed.book.verify_checksum}; close it first, or pass the same value"
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
        """Return the newest message received of ``channel``, or None.

        Takes nothing from a queue and does not wait. Raises ClientForked in a child process.
        """
        if self._core.is_forked:
            raise forked_error()
        found = self._core.supervisor.upkeep.channels.get(channel)
        return None if found is None else found.latest

    # Messages to the venue.

    @without_locals
    def send(self, payload: Any) -> None:
        """Send text, bytes, or an object as JSON; return when its bytes are sent.

        Raises NotConnected at once when the connection is not open, or when it ends before any
        byte was sent; OutcomeUnknown when it ends half way. The message is neither kept for the
        next connection nor sent twice.
        """
        _forbid_worker_threads()
        waiter = Waiter()
        self._core.calls.send(encode(payload), waiter)
        waiter.wait()

    @without_locals
    def request(self, payload: Any, timeout: float | None = 10.0) -> Any:
        """Send a request, and return the decoded reply that the dialect matches to it.

        Raises NotSupported if the dialect cannot match replies to requests, NotConnected as
        :meth:`send`, TimeoutError after ``timeout`` seconds, RequestRejected when the venue answers
        with an error, and OutcomeUnknown when the connection ends before the answer.
        """
        check_timeout(timeout)
        _forbid_worker_threads()
        dialect = self._core.dialect
        sent, reply = Waiter(), Waiter()
        request_id = self._core.calls.request(
            lambda id: encode(dialect.request(payload, id)), sent, reply, self._core.until(timeout)
        )
        try:
            sent.wait(Deadline(timeout))
        except TimeoutError:
            pass  # the reply's own deadline decides
        except BaseException:
            self._core.calls.cancel_request(request_id)
            raise
        return reply.wait()

    # State and statistics.

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._core.supervisor.state

    @property
    def is_connected(self) -> bool:
        """True while the connection is open and messages can be sent."""
        return self.state is State.OPEN

    def stats(self) -> Stats:
        """Return all counters and measurements as of now.

        Raises ClientForked in a child process.
        """
        self._core.check_call()
        return stats_of(self._core)

    def __repr__(self) -> str:
        if "_core" not in vars(self):  # an error reporter may show it when __init__ has raised
            return "<WebSocketClient, not made>"
        supervisor = self._core.supervisor
        count = len(supervisor.wanted)
        return (
            f"<WebSocketClient {self._where} {supervisor.state.value}, "
            f"{count} channel{'s'[: count != 1]}, {len(self._queue)} queued>"
        )

    # Inside.

    def _find_book(self, new: BookFeed, live: LiveBook, call: object) -> BookFeed:
        """Return the feed of the channel's book: ``new``, unless there is one already.

        ``call`` identifies the call that waits for the book. Runs on the watchdog thread.
        """
        feed = self._book_feeds.get(new.channel)
        if feed is not None and feed.book.is_lost:
            self._drop_book(feed)
            feed = None
        if feed is None:
            new.keep(live)
            feed = self._book_feeds[new.channel] = new
        feed.calls.add(call)
        return feed

    def _book_of(self, feed: BookFeed, call: object) -> OrderBook:
        """Return the OrderBook for the caller ``call``. Runs on the watchdog thread."""
        feed.calls.discard(call)
        feed.is_given = True
        book = self._books.get(feed.channel)
        if book is None or book._live is not feed.book:
            book = OrderBook._of(feed.book, partial(self._close_book, feed))
            self._books[feed.channel] = book
        return book

    def _give_up_book(self, channel: str, call: object) -> None:
        """Drop the book of a call that has failed, unless another call waits for it or has got it.

        Runs on the watchdog thread.
        """
        feed = self._book_feeds.get(channel)
        if feed is not None and call in feed.calls:
            feed.calls.discard(call)
            if not feed.calls and not feed.is_given:
                self._drop_book(feed)

    def _drop_book(self, feed: BookFeed) -> None:
        """Stop feeding the book of ``feed``. Runs on the watchdog thread."""
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
        self._core.calls.subscribe(channels, queue, options, waiter, self._core.until(timeout))
        waiter.wait()


@without_locals
def connect(url: str | Callable[[], str], **options: Any) -> WebSocketClient:
    """Make a :class:`WebSocketClient`, open it and return it.

    Takes the arguments of the class. Raises as the class and its ``connect()``.
    """
    client = WebSocketClient(url, **options)
    try:
        client.connect()
    except BaseException:
        client.close(timeout=0.1)  # nothing is open; only an attempt that hangs would take longer
        raise
    return client


@without_locals
def client_of(
    make_sources: Callable[[Target], Sources], url: str | Callable[[], str], **options: Any
) -> WebSocketClient:
    """Make a :class:`WebSocketClient` whose frames come from other sources than plain Sockets."""
    client = WebSocketClient.__new__(WebSocketClient)
    client._begin(make_sources, url, options)
    return client


def _forbid_worker_threads() -> None:
    if is_worker_thread():
        raise RuntimeError(
            "this blocking call was made on wsclient's own reader or watchdog thread, where it "
            "would wait for itself; use client.on(), or a thread of your own"
        )


def _check_channels(channels: tuple[str, ...]) -> None:
    if not channels:
        raise ConfigurationError("name at least one channel")
    for channel in channels:
        if not isinstance(channel, str):
            raise ConfigurationError(
                f"a channel must be text, not {type(channel).__name__}; "
                "pass several channels as several arguments: subscribe(*channels)"
            )


def _event_types(call: str, types: tuple[type[Event], ...]) -> tuple[type[Event], ...]:
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            raise ConfigurationError(f"{call}() takes types from wsclient.events, not {kind!r}")
    return types or (Event,)


def _close_quietly(close: Callable[[], None], kind: type[BaseException] | None) -> None:
    """Close at the end of a ``with`` block, without hiding an exception from its body."""
    try:
        close()
    except Exception:
        if kind is None:
            raise
