"""WebSocketClient: blocking calls and an iterator over a connection that reconnects by itself."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from wsclient import dialects
from wsclient.errors import ConfigurationError
from wsclient.events import Event, InsecureTLS
from wsclient.messages import Message, Subscription, SubscriptionState
from wsclient.options import Options, check_overflow, check_timeout, check_whole
from wsclient.orderbook import OrderBook
from wsclient.reader import Reader, _Receiver
from wsclient.runtime.accounting import connections_of, stats_of
from wsclient.runtime.checks import (
    check_channels,
    check_event_types,
    close_quietly,
    forbid_worker_threads,
)
from wsclient.runtime.core import Core
from wsclient.runtime.eventstream import EventStream
from wsclient.runtime.platform import check_threads
from wsclient.runtime.queues import MessageQueue
from wsclient.sansio.life import State
from wsclient.stream.codec import encode
from wsclient.stream.declared import types_of
from wsclient.telemetry.stats import ConnectionInfo, Stats
from wsclient.threads.forking import forked_error
from wsclient.threads.logs import ClientLog
from wsclient.threads.waiting import Deadline, Waiter
from wsclient.tracebacks import without_locals
from wsclient.transport.addresses import parse_url
from wsclient.transport.dialing import weakness_of
from wsclient.transport.handshake import check_handshake_options
from wsclient.transport.source import Sources
from wsclient.transport.target import Target
from wsclient.transport.transport import Sockets

if TYPE_CHECKING:
    from wsclient.books.feeds import BookFeed
    from wsclient.books.registry import BookRegistry

__all__ = ["Reader", "WebSocketClient", "client_of", "connect"]

_Event = TypeVar("_Event", bound=Event)


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
        sources = make_sources(Target(url, checked, dialect, log))
        self._core = Core(sources, checked, dialect, log)
        if checked.ssl_context is not None and (weakness := weakness_of(checked.ssl_context)):
            self._core.emit(InsecureTLS, weakness)
        self._queue = self._core.default
        #: The registry of the order books, made for the first one, under the key None.
        self._registries: dict[None, BookRegistry] = {}
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
        forbid_worker_threads()
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
        close_quietly(self.close, kind)

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
        forbid_worker_threads()
        check_channels(channels)
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
        decode: Any = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Reader:
        """Return an independent reader of ``channels``; subscribe to them if necessary.

        The reader gets their messages. The client's own ``recv`` gets them only if the client has
        subscribed to them too. ``queue_size`` (messages), ``overflow`` and ``decode`` (``Any`` for
        plain data) replace the client's options for this reader. ``timeout`` and ``options``
        are as in :meth:`subscribe`. Raises as :meth:`subscribe`.
        """
        check_whole("queue_size", queue_size, 1, or_none=True)
        if overflow is not None:
            check_overflow(overflow)
        check_timeout(timeout)
        check_channels(channels)
        types = self._core.types if decode is None else types_of(decode)
        name = f"reader-{next(self._core.reader_numbers)}"
        queue = self._core.new_queue(name, queue_size, overflow, types)
        undo = partial(self._core.posts.put_now, self._core.calls.dropping(channels, queue))
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
        forbid_worker_threads()
        check_channels((channel,))
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
        self._core.calls.on_event(function, check_event_types("on_event", types))

    def events(self, *types: type[Event]) -> EventStream:
        """Return an iterator over the client's events from now on: see :mod:`wsclient.events`.

        With ``types``, only over events of these types, such as ``Disconnected``. Iterate over it
        in a thread of your own. May be called before :meth:`connect`. The iteration ends after the
        last event, :class:`wsclient.events.Closed`, even if its type is not among them.
        """
        stream = EventStream(types=check_event_types("events", types))
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
        core.check_call()  # before the dialect is called
        forbid_worker_threads()
        registry, deadline = self._book_registry, Deadline(timeout)
        channel = registry.channel(symbol, options)
        core.supervisor.life.check_begun()
        feed, live = registry.new(channel, verify_checksum, options)
        call = object()
        try:
            feed = core.call(partial(registry.find, feed, live, call))
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
            core.post(partial(registry.give_up, channel, call))
            raise

    def latest(self, channel: str) -> Message | None:
        """Return the newest message received of ``channel``, or None.

        Takes nothing from a queue and does not wait. With the option ``decode``, reading its
        ``data`` raises ``msgspec.ValidationError`` if they do not fit their declared type. Raises
        ClientForked in a child process.
        """
        if self._core.is_forked:
            raise forked_error()
        found = self._core.supervisor.upkeep.channels.get(channel)
        message = None if found is None else found.latest
        if message is not None and self._core.has_types:
            message = message.copy()  # a consumer stores the data of its type in the original
            message.kind = self._core.types.of(channel) if self._core.types is not None else None
        return message

    def age(self, channel: str) -> float | None:
        """Return how long ago (s) the newest message of ``channel`` was received.

        None before its first message, and for a channel that the client does not know. By the
        monotonic clock, so a change of the system's time does not change it. It goes on growing
        while the connection is down, and starts again with the next message, of whichever
        connection; a message that ``validate`` refuses does not count. Does not wait. Raises
        ClientForked in a child process.
        """
        message = self.latest(channel)
        read_at = None if message is None else message.arrival.read_at
        return None if read_at is None else max(0.0, self._core.clock.monotonic() - read_at)

    # Messages to the venue.

    @without_locals
    def send(self, payload: Any) -> None:
        """Send text, bytes, or an object as JSON; return when its bytes are sent.

        Raises NotConnected at once when the connection is not open, or when it ends before any
        byte was sent; OutcomeUnknown when it ends half way. The message is neither kept for the
        next connection nor sent twice.
        """
        forbid_worker_threads()
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
        forbid_worker_threads()
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
        """The state of the client: OPEN while a connection is, else that of the furthest one."""
        return self._core.supervisor.state

    @property
    def is_connected(self) -> bool:
        """True while the connection is open and messages can be sent."""
        return self.state is State.OPEN

    @property
    def connections(self) -> list[ConnectionInfo]:
        """The connections that have not ended, oldest first.

        Raises ClientForked in a child process.
        """
        self._core.check_call()
        return connections_of(self._core)

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

    @property
    def _book_registry(self) -> BookRegistry:
        """The registry of the order books: the first call makes it, as most clients have none."""
        made = self._registries.get(None)
        if made is None:
            from wsclient.books.registry import BookRegistry  # imported lazily, for the same reason

            made = self._registries.setdefault(None, BookRegistry(self._core))
        return made

    def _book_of(self, feed: BookFeed, call: object) -> OrderBook:
        """Return the OrderBook for the caller ``call``. Runs on the watchdog thread."""
        feed.calls.discard(call)
        feed.is_given = True
        book = self._books.get(feed.channel)
        if book is None or book._live is not feed.book:
            book = OrderBook._of(feed.book, partial(self._close_book, feed))
            self._books[feed.channel] = book
        return book

    def _close_book(self, feed: BookFeed) -> None:
        """Close a book. A method of the client, so that each book keeps its client alive."""
        self._book_registry.close(feed)

    def _subscribe(
        self,
        channels: tuple[str, ...],
        queue: MessageQueue,
        timeout: float | None,
        options: Mapping[str, Any],
    ) -> None:
        check_timeout(timeout)
        forbid_worker_threads()
        check_channels(channels)
        waiter = Waiter()
        self._core.calls.subscribe(channels, queue, options, waiter, self._core.until(timeout))
        waiter.wait()


@without_locals
def connect(url: str | Callable[[], str], **options: Any) -> WebSocketClient:
    """Make a :class:`WebSocketClient`, open it and return it.

    ``url`` is a ``ws://`` or ``wss://`` URL, or a function that returns one. ``options`` are the
    arguments of :class:`wsclient.Options`, such as ``dialect="kraken"``; without a dialect the
    client speaks the ``generic`` protocol. ``help(wsclient.Options)`` lists them with their
    defaults.

    Raises ConfigurationError for a URL or an option that cannot work, and as
    :meth:`WebSocketClient.connect` if the connection cannot be opened.
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
