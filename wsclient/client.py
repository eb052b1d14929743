"""WebSocketClient: blocking calls and an iterator over a connection that reconnects by itself."""

from __future__ import annotations

import os
import ssl
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, overload

from wsclient import dialects
from wsclient.checks import check_timeout, check_whole
from wsclient.dialect.base import Dialect
from wsclient.displayed import _Displayed
from wsclient.errors import ConfigurationError
from wsclient.events import InsecureTLS
from wsclient.messages import Message, Subscription, Subscriptions, SubscriptionState
from wsclient.options import Headers, Options, Overflow, check_overflow, given_options
from wsclient.orderbook import ClientBooks, OrderBook
from wsclient.outgoing import _Sender
from wsclient.reader import Reader, _Receiver
from wsclient.runtime.checks import (
    check_channels,
    check_venue_options,
    end_block,
    forbid_worker_threads,
)
from wsclient.runtime.core import Core
from wsclient.runtime.platform import check_threads
from wsclient.sansio.life import State
from wsclient.stream.declared import types_of
from wsclient.tabular import _Tabular
from wsclient.threads.logs import ClientLog
from wsclient.threads.waiting import Deadline, Waiter
from wsclient.tracebacks import without_locals
from wsclient.transport.addresses import parse_url
from wsclient.transport.dialing import weakness_of
from wsclient.transport.handshake import check_handshake_options
from wsclient.transport.source import Sources
from wsclient.transport.target import Target
from wsclient.transport.transport import Sockets
from wsclient.verdicts import Verdict, classify

if TYPE_CHECKING:
    from wsclient.recording.recorder import Recorder

__all__ = ["WebSocketClient", "client_of", "connect"]


class WebSocketClient(_Displayed, _Sender, _Tabular, _Receiver):
    """The connections to one venue, kept open in the background and read by blocking calls.

    It opens one connection at first, and more when its channels need them: those at other addresses
    of the venue, and those beyond the venue's limit of channels per connection.

    ``url`` is a ``ws://`` or ``wss://`` URL, or a function that returns one and is called at each
    attempt. ``help(wsclient.Options)`` says what each option means. The connection is opened by
    :meth:`connect` or by a ``with`` block, which closes the client at its end. Any number of
    threads may use a client.

    Raises ConfigurationError for a URL or an option that cannot work.
    """

    @without_locals
    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        dialect: str | Dialect = "generic",
        headers: Headers | Callable[[], Headers] | None = None,
        subprotocols: Sequence[str] | None = None,
        cookie: str | None = None,
        origin: str | None = None,
        credentials: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout: float = 10.0,
        max_retries: int = 3,
        max_reconnects: int | None = None,
        retry_delay: float = 1.0,
        max_retry_delay: float = 60.0,
        jitter: bool = True,
        classify: Callable[[BaseException], Verdict] = classify,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 10.0,
        silence_timeout: float | None = None,
        stale_after: float | None = None,
        stall_timeout: float | None = 10.0,
        send_timeout: float | None = 10.0,
        ack_timeout: float = 20.0,
        close_timeout: float = 1.0,
        queue_size: int | None = 100_000,
        queue_bytes: int | None = 256 * 1024 * 1024,
        overflow: Overflow = "drop_oldest",
        max_message_size: int | None = 16 * 1024 * 1024,
        decimal: bool = False,
        deliver_unhandled: bool = False,
        validate: Callable[[Message], object] | None = None,
        decode: Any = None,
        name: str | None = None,
        **unknown: NoReturn,
    ) -> None:
        self._begin(Sockets, url, given_options(locals()))

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
        self._core = Core(sources, checked, dialect, log, None if callable(url) else url)
        if checked.ssl_context is not None and (weakness := weakness_of(checked.ssl_context)):
            self._core.emit(InsecureTLS, weakness)
        self._queue = self._core.default
        self._order_books = ClientBooks(self._core)
        # The threads hold only the core. So a client that nothing else holds is collected, and its
        # finalizer closes the core.
        self._finalizer = weakref.finalize(self, self._core.close_soon)
        # At the interpreter's exit the threads simply end. A close there would only make a thread
        # that waits in recv() print its ClientClosed.
        self._finalizer.atexit = False
        self._remember()

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

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the client is closed, to keep a script of :meth:`on` functions alive.

        Returns when a ``close()`` of another thread or of a signal handler is complete, at once if
        the client is closed already. Goes on while the client connects or reconnects. Ctrl-C
        interrupts it at any time.

        Raises the client's failure when it has failed, NotConnected when ``connect()`` was never
        called or has failed, and TimeoutError after ``timeout`` seconds; the client goes on then.
        Raises RuntimeError on a thread of the client, such as in an :meth:`on` function.
        """
        try:
            check_timeout(timeout)
            forbid_worker_threads()
            self._core.wait(Deadline(timeout))
        finally:
            del self  # a traceback that somebody keeps must not keep the client alive

    def rotate(self, timeout: float | None = None) -> None:
        """Replace each open connection by a new one, at a moment of your choice.

        The new connection opens beside the old one, which is closed when the new one carries all of
        its channels. No message is lost or doubled, and a channel gets a gap mark only if that
        cannot be proven. Where the venue allows only one connection, the old one is closed first,
        and all channels get a gap mark. The client does the same by itself before a venue's maximum
        age is reached, and when the venue announces the end of a connection.

        Returns when the old connections have ended. Raises TimeoutError after ``timeout`` seconds,
        NotConnected before ``connect()``, and the client's failure.
        """
        check_timeout(timeout)
        forbid_worker_threads()
        waiter = Waiter()
        try:
            self._core.calls.rotate(waiter, self._core.until(timeout))
            waiter.wait()
        except BaseException:  # also Ctrl-C
            self._core.calls.cancel_rotate(waiter)
            raise

    def close(self, timeout: float | None = None, *, drain: bool = False) -> None:
        """Close the client for good: end its connection, every iteration and every blocked call.

        Takes at most ``timeout`` seconds (default: the option ``close_timeout``). A hook of the
        dialect that has not returned delays the end of the connection, but after 0.25 s not that of
        the blocked calls. Idempotent. May be called from any thread, from a signal handler and from
        a finalizer. If that handler or finalizer has interrupted wsclient itself, ``close()``
        returns at once, and the client is closed as soon as the handler returns.

        Messages that are still queued are discarded, unless ``drain``. Then the connection ends
        first, and nothing more is taken in. Other threads go on until they have taken out what is
        queued: the functions of :meth:`on`, order books, and every thread in a loop or in
        ``recv()``, whose iteration or call ends only then. ``close()`` waits for them within its
        timeout, then discards what is left; :class:`wsclient.events.UnreadDiscarded` says how much.
        It does not wait for messages that the calling thread itself reads, or that nobody reads:
        they can still be read after it has returned. Another ``close()``, without ``drain``, ends
        the drain and discards them.
        """
        check_timeout(timeout)
        limit = self._core.options.close_timeout if timeout is None else timeout
        self._core.close(limit, drain=drain)
        self._finalizer.detach()

    def __enter__(self) -> WebSocketClient:
        life = self._core.supervisor.life
        if life.is_over:
            life.check()  # raises ClientClosed
        if self._core.supervisor.state is State.IDLE:
            self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end_block(self.close, kind, is_draining=self._core.drain.is_on)

    # Channels.

    @without_locals
    def subscribe(
        self, *channels: str, timeout: float | None = None, **options: Any
    ) -> Subscriptions:
        """Subscribe to ``channels``, and block until the venue has answered for every one.

        ``options`` are passed to the dialect (``depth=100``), and again at each resubscribe. They
        are not checked: the venue may refuse or ignore one that it does not know. While the
        connection is down, the call waits for it. ``timeout`` (s) bounds the whole call; by default
        the venue has ``ack_timeout`` to answer each message.

        Returns the subscriptions. Raises SubscriptionRejected or SubscriptionTimeout, whose
        ``failed`` maps each channel that failed to the reason; the others stay subscribed.
        """
        self._core.calls.subscribe_and_wait(channels, self._queue, timeout, options)
        found = self._core.calls.subscriptions(channels)
        return Subscriptions(found[c] for c in channels if c in found)

    def unsubscribe(self, *channels: str, timeout: float | None = None) -> None:
        """Unsubscribe from ``channels``, and block until the venue has answered.

        A channel that a reader or a callback still uses stays subscribed for them. Does nothing for
        a channel that is not subscribed: the venue may have ended it at any time.
        :attr:`subscriptions` has those that are. ``timeout`` is as in :meth:`subscribe`.

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
        overflow: Overflow | None = None,
        decode: Any = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Reader:
        """Subscribe to ``channels``, and return an independent reader of their messages.

        No :meth:`subscribe` is needed, and none is made for channels that are subscribed to
        already. The reader gets their messages. The client's own ``recv`` gets them only if the
        client has subscribed to them too. ``queue_size`` (messages), ``overflow`` and ``decode``
        (``Any`` for plain data) replace the client's options for this reader. ``timeout`` and
        ``options`` are as in :meth:`subscribe`. Raises as :meth:`subscribe`.
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
            self._core.calls.subscribe_and_wait(channels, queue, timeout, options)
        except BaseException:
            undo()  # one call, written in C: a second interrupt can only come after it
            raise
        return reader

    @overload
    def on(
        self,
        channels: str,
        function: Callable[[Message], object],
        timeout: float | None = None,
        **options: Any,
    ) -> Subscription: ...

    @overload
    def on(
        self,
        channels: Iterable[str],
        function: Callable[[Message], object],
        timeout: float | None = None,
        **options: Any,
    ) -> list[Subscription]: ...

    def on(
        self,
        channels: str | Iterable[str],
        function: Callable[[Message], object],
        timeout: float | None = None,
        **options: Any,
    ) -> Subscription | list[Subscription]:
        """Subscribe to ``channels``, and call ``function`` with each of their messages.

        No :meth:`subscribe` is needed, and none is made for channels that are subscribed to
        already. ``channels`` is a name, or several: a list, a tuple, a set. They are subscribed to
        together, in as few requests as the venue allows. ``timeout`` and ``options`` are as in
        :meth:`subscribe`.

        The function runs on the ``wsclient-callbacks`` thread, as all functions of ``on()`` do, one
        after the other. An exception from it stops nothing: it is logged with its traceback,
        emitted as :class:`wsclient.events.CallbackFailed`, and counted in
        ``stats().callback_errors``. :meth:`wait` keeps a script alive meanwhile.

        Returns the subscription, a list of them for several names. Raises as :meth:`subscribe`. If
        one channel fails, the whole call is undone: the function is not called for the others.
        """
        names: Iterable[Any] = (channels,)
        if isinstance(channels, Iterable) and not isinstance(channels, (str, bytes)):
            names = channels
        added = list[str]()
        try:
            found = self._on(tuple(names), function, timeout, options, added)
            return found[0] if isinstance(channels, str) else found
        except BaseException:  # in this frame: no interrupt comes between it and the return
            self._core.calls.off(function, added)
            del options  # they may hold secrets
            raise

    @without_locals
    def _on(
        self,
        channels: tuple[str, ...],
        function: Callable[[Message], object],
        timeout: float | None,
        options: Mapping[str, Any],
        added: list[str],
    ) -> list[Subscription]:
        check_timeout(timeout)
        forbid_worker_threads()
        check_channels(channels)
        channels = tuple(dict.fromkeys(channels))
        if not callable(function):
            raise ConfigurationError(f"on() takes a function, not {type(function).__name__}")
        check_venue_options(options)
        waiter = Waiter()
        self._core.calls.on(channels, function, options, waiter, self._core.until(timeout), added)
        waiter.wait()
        found = self._core.calls.subscriptions(channels)
        # Another thread may have unsubscribed from one meanwhile.
        gone = SubscriptionState.UNSUBSCRIBING
        return Subscriptions(found.get(c) or Subscription(c, gone, options) for c in channels)

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
        return self._order_books.open(self, symbol, verify_checksum, timeout, options)

    def record(
        self,
        folder: str | os.PathLike[str],
        *,
        buffer_bytes: int = 64 * 1024 * 1024,
        chunk_seconds: float = 1.0,
        sync_seconds: float | None = 5.0,
        file_bytes: int = 1024 * 1024 * 1024,
        file_seconds: float = 3600.0,
        state_seconds: float = 300.0,
        level: int = 3,
    ) -> Recorder:
        """Record everything from now on into files in ``folder``, on the thread wsclient-recorder.

        The files have the frames as received, with what was delivered of each, gaps, events, what
        was sent (without secrets) and the states of the client and its order books.
        :func:`wsclient.open_recording` plays them. May be called before :meth:`connect`. The
        recorder ends with the client, or by its own ``close()``; a client has one at a time.

        It never delays a message: what waits to be written takes at most ``buffer_bytes``. What
        finds no room there is not recorded, and the recording says how many messages of which
        channels are missing. ``chunk_seconds`` is how much a crash of the process loses at most;
        the system is asked to write to the disk every ``sync_seconds`` (None: never). A file ends
        at ``file_bytes``, after ``file_seconds`` and at the end of a day (UTC); a record of the
        state, at which reading may begin, is written every ``state_seconds``. ``level`` (1 to 22)
        is that of the compression by zstd.

        Files end with ``.mcap.part`` until they are finished, then with ``.mcap``. Those that a
        crash has left are finished first. Nothing is overwritten.

        Needs the extra ``record``. Raises ConfigurationError without it, for an argument that
        cannot work, and if the client is being recorded already; OSError if the folder or a file
        cannot be made; ClientClosed after ``close()``.
        """
        # From a layer above: the only such import.
        from wsclient.recording.recorder import Recorder, new_recorder

        thread = new_recorder(
            self._core,
            folder,
            buffer_bytes=buffer_bytes,
            chunk_seconds=chunk_seconds,
            sync_seconds=sync_seconds,
            file_bytes=file_bytes,
            file_seconds=file_seconds,
            state_seconds=state_seconds,
            level=level,
        )
        try:
            thread.begin()
            return Recorder(thread)
        except BaseException:  # also an interrupt just before it returns: nobody would have it
            thread.cancel()
            raise

    def __repr__(self) -> str:
        if "_core" not in vars(self):  # an error reporter may show it when __init__ has raised
            return "<WebSocketClient, not made>"
        supervisor = self._core.supervisor
        count = len(supervisor.wanted)
        return (
            f"<WebSocketClient {self._where} {supervisor.state.value}, "
            f"{count} channel{'s'[: count != 1]}, {len(self._queue)} queued>"
        )


@without_locals
def connect(
    url: str | Callable[[], str],
    *,
    dialect: str | Dialect = "generic",
    headers: Headers | Callable[[], Headers] | None = None,
    subprotocols: Sequence[str] | None = None,
    cookie: str | None = None,
    origin: str | None = None,
    credentials: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    proxy: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    connect_timeout: float = 10.0,
    max_retries: int = 3,
    max_reconnects: int | None = None,
    retry_delay: float = 1.0,
    max_retry_delay: float = 60.0,
    jitter: bool = True,
    classify: Callable[[BaseException], Verdict] = classify,
    ping_interval: float | None = 20.0,
    ping_timeout: float | None = 10.0,
    silence_timeout: float | None = None,
    stale_after: float | None = None,
    stall_timeout: float | None = 10.0,
    send_timeout: float | None = 10.0,
    ack_timeout: float = 20.0,
    close_timeout: float = 1.0,
    queue_size: int | None = 100_000,
    queue_bytes: int | None = 256 * 1024 * 1024,
    overflow: Overflow = "drop_oldest",
    max_message_size: int | None = 16 * 1024 * 1024,
    decimal: bool = False,
    deliver_unhandled: bool = False,
    validate: Callable[[Message], object] | None = None,
    decode: Any = None,
    name: str | None = None,
    **unknown: NoReturn,
) -> WebSocketClient:
    """Make a :class:`WebSocketClient`, open it and return it.

    ``url`` is a ``ws://`` or ``wss://`` URL, or a function that returns one. The other arguments
    are the options: ``help(wsclient.Options)`` says what each means. Without a dialect the client
    speaks the ``generic`` protocol.

    Raises ConfigurationError for a URL or an option that cannot work, and as
    :meth:`WebSocketClient.connect` if the connection cannot be opened.
    """
    client = WebSocketClient(url, **given_options(locals()))
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
