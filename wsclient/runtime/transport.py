"""One connection: its reader thread connects, then runs websocket-client's ``run_forever`` once.

The library does the handshake, frames and masks the messages to the venue, and provides
``run_forever``. The reading within that loop is ours (:class:`_Dispatcher`); the library's own
reader gets no bytes. Each transport reports its end exactly once, and closes what it has opened.
"""

from __future__ import annotations

import os.path
import re
import socket
import ssl
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from websocket import (
    ABNF,
    WebSocket,
    WebSocketApp,
    WebSocketException,
    WebSocketTimeoutException,
)

from wsclient.errors import (
    ConfigurationError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotConnected,
    WSClientError,
)
from wsclient.options import Options
from wsclient.runtime.handshake import (
    Address,
    HandshakeSocket,
    check_handshake_headers,
    open_socket,
    parse_url,
    resource_of,
)
from wsclient.runtime.locks import Locks
from wsclient.runtime.logs import silence
from wsclient.runtime.masking import Mask
from wsclient.runtime.outbox import Outbox
from wsclient.runtime.stream import Stream, open_stream
from wsclient.runtime.threads import start
from wsclient.runtime.waiting import Deadline, Waiter
from wsclient.sansio.codec import one_line
from wsclient.sansio.dialect import Credentials, Dialect, RestRequest
from wsclient.sansio.frames import CLOSE, PING, PONG, FrameParser, Received
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.tracebacks import forget_locals

__all__ = ["Events", "Transport", "WorkerThread", "is_worker_thread"]

#: After our close frame: how long (s) and how much (bytes) to read until the peer closes.
LINGER = 1.0
LINGER_BYTES = 1024 * 1024
#: Pings are not answered while this much (bytes) waits to be sent: a peer that sends pings and
#: reads little must not fill our memory with pongs.
MAX_BACKLOG = 64 * 1024


#: Names of headers that are likely to hold a secret.
_SECRET = re.compile("auth|cookie|key|token|secret|pass|sign", re.IGNORECASE)


class WorkerThread(threading.Thread):
    """One of our own threads. Blocking calls are forbidden on it: it would wait for itself."""

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        super().__init__(name=name, target=target, daemon=True)


def is_worker_thread() -> bool:
    return isinstance(threading.current_thread(), WorkerThread)


# The library logs each failed attempt as an error, and, with its trace enabled, the headers of the
# request. The wsclient loggers report our attempts, once and without secrets.
silence("websocket", is_worker_thread)


class Events(Protocol):
    """The receiver of a transport's reports, which come on its reader thread."""

    def step(self, name: str, about: Any) -> None: ...
    def opened(
        self, connection_id: int, login: Any, credentials: Credentials | None, address: str
    ) -> None: ...
    def received(self, connection_id: int, received: Received, now: float) -> None: ...
    def in_frame(self, now: float) -> None: ...
    def pace(self) -> None: ...
    def pinged(self, connection_id: int) -> None: ...
    def ponged(self, connection_id: int) -> None: ...
    def unreadable(self, connection_id: int, text: str) -> None: ...
    def ended(self, connection_id: int, error: BaseException) -> None: ...
    def finished(self, connection_id: int) -> None: ...
    def wake(self) -> None: ...


class Turn:
    """A context manager that lets one attempt at a time call the user's functions.

    It is not a lock, since those functions may block: other attempts fail until the function has
    returned.
    """

    def __init__(self) -> None:
        self._free = deque([None])  # atomic pops

    def __enter__(self) -> None:
        try:
            self._free.pop()
        except IndexError:
            raise ConnectionLost(
                "a function passed as url, headers or credentials, or one of the dialect, has not "
                "returned from an earlier attempt, so this attempt cannot begin",
                reason="busy",
            ) from None

    def __exit__(self, *_: object) -> None:
        self._free.append(None)


@dataclass(frozen=True, eq=False, repr=False)
class Target:
    """Where to connect, and how.

    Each attempt calls the callables, one attempt at a time (``turn``). ``mask`` masks the secrets
    of all attempts.
    """

    url: str | Callable[[], str]
    options: Options
    dialect: Dialect
    turn: Turn
    mask: Mask = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", Mask(self.url, self.options))

    def __repr__(self) -> str:
        where = "a function" if callable(self.url) else parse_url(self.url)
        return f"<Target {where}, {self.dialect.name}>"


class Transport:
    """One connection with its reader thread.

    :meth:`start` is called once. All other public methods except :meth:`read` may be called on any
    thread and return at once.
    """

    def __init__(
        self, connection_id: int, target: Target, events: Events, locks: Locks | None = None
    ) -> None:
        self.connection_id = connection_id
        self._target = target
        self._options = target.options
        self._events = events
        self._deadline = Deadline(target.options.connect_timeout)
        self._parser = FrameParser(target.options.max_message_size)
        self._locks = locks or Locks()
        self._outbox = Outbox(self._locks)
        self._last_byte_at = time.monotonic()
        self._sock: socket.socket | None = None
        self._stream: Stream | None = None
        self._ws: WebSocket | None = None
        self._aborted = False
        self._said_goodbye = False
        self._error: BaseException | None = None
        self._reported = False
        self.thread = WorkerThread(f"wsclient-reader-{connection_id}", self._run)

    def start(self) -> None:
        """Start the reader thread, which connects. Raises ThreadStartError."""
        start(self.thread)

    # Called by the watchdog.

    def view(self) -> ConnectionView:
        """Return the state of the connection, for the heartbeat."""
        heard_at, stream = self._last_byte_at, self._stream
        if stream is not None:
            # The reader may be late although the peer is not (a stop of the process, another
            # thread that holds the interpreter's lock, a slow ``validate``). Then data has come
            # that is still unread, or read and not processed yet.
            ago = 0.0 if stream.has_unread() else stream.heard_ago()
            heard_at = max(heard_at, time.monotonic() - ago)
        return ConnectionView(heard_at, self._parser.in_frame, self._outbox.unsent_since)

    def send(self, payload: str | bytes, waiter: Waiter | None = None) -> None:
        """Queue a message. ``waiter`` is settled when its bytes are sent or cannot be sent."""
        ws = self._ws
        if ws is None or self._said_goodbye:
            if waiter is not None:
                waiter.settle(NotConnected("the connection ended before the message was sent"))
            return
        start = self._outbox.position
        opcode = ABNF.OPCODE_TEXT if isinstance(payload, str) else ABNF.OPCODE_BINARY
        ws.send(payload, opcode)
        if waiter is not None:
            self._outbox.when_out(start, waiter)

    def put(self, data: bytes) -> None:
        """Queue a frame that the library has made."""
        self._outbox.put(data, time.monotonic())

    def ping(self) -> None:
        """Queue a ping."""
        ws = self._ws
        if ws is not None and not self._said_goodbye:
            ws.ping()

    def hang_up(self, code: int = 1000) -> None:
        """Queue a close frame with ``code``. The peer's answer ends the connection."""
        ws = self._ws
        if ws is not None and not self._said_goodbye:
            self._said_goodbye = True
            ws.send_close(code)

    def release(self) -> None:
        """Wake the callers whose messages the peer has not taken."""
        self._outbox.release()

    def flush(self) -> bool:
        """Write as many bytes as the peer takes. Return whether some are left."""
        stream = self._stream
        if stream is None:
            return False
        try:
            self._outbox.flush(stream, time.monotonic())
        except OSError:
            # The reader finds the broken connection too, and reports it after its last data.
            self._outbox.close()
        return self._outbox.unsent_since is not None

    def abort(self, why: WSClientError | None = None) -> None:
        """Cut the connection, or end the attempt, now. ``why`` is reported as the cause."""
        if why is not None:
            self._fail(why)
        # Order matters, here and in _hold: one of the two must see the other's assignment.
        self._aborted = True
        sock = self._sock
        self._outbox.close()
        if self._stream is not None:
            self._stream.abort()
        elif sock is not None:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass  # not connected yet: its own timeout ends it

    def forked(self) -> None:
        """Close the copy of the parent's socket in a child process.

        Closing only the socket object sends nothing to the peer, with TLS too.
        """
        if self._stream is not None:
            self._stream.forked()
        self._outbox.forked()
        if self._sock is not None:
            self._sock.close()

    # The reader thread.

    def _run(self) -> None:
        try:
            self._connect_and_read()
        except BaseException as error:  # noqa: BLE001 - any error is reported to the session
            self._fail(error)
        finally:
            self._report()
            self._outbox.close()
            if self._stream is not None:
                self._stream.close()
            elif self._sock is not None:
                self._sock.close()
            self._untie()
            self._events.finished(self.connection_id)

    def _connect_and_read(self) -> None:
        options = self._options
        dialect = self._target.dialect
        with self._target.turn:
            url, headers, credentials, request = self._ask_where()
        on_step = self._events.step
        address = parse_url(url)
        host, lines = check_handshake_headers(headers or {})
        _refuse_secrets_in_the_clear(address, headers or {}, options, request is not None)
        on_step("target", (url, headers, credentials))
        sock = open_socket(
            address,
            proxy=options.proxy,
            ssl_context=options.ssl_context,
            deadline=self._deadline,
            hold=self._hold,
            on_step=on_step,
        )
        self._hold(sock)
        cookies = [value for name, value in (headers or {}).items() if name.lower() == "cookie"]
        cookies += [options.cookie] if options.cookie is not None else []
        handshake = HandshakeSocket(
            sock, self._deadline, "; ".join(cookies), resource_of(url), options.subprotocols or ()
        )
        on_step("handshake", handshake)

        def on_open(app: WebSocketApp) -> None:
            on_step("open", None)
            assert app.sock is not None
            self._sock = sock
            self._stream = open_stream(sock, self._locks)
            self._ws = app.sock
            self._ws.sock = sock
            self._hold(sock)
            login = None
            if credentials is not None:
                login = _call("the dialect's login()", dialect.login, credentials)
            self._last_byte_at = time.monotonic()
            where = url.partition("?")[0]
            self._events.opened(self.connection_id, login, credentials, where)

        def on_error(app: WebSocketApp, error: Exception) -> None:
            self._fail(error)
            if self._ws is None and app.sock is not None:
                _untie(app.sock)

        app = _App(
            self,
            handshake,
            url=f"{address}/",
            header=lines,
            subprotocols=list(options.subprotocols) if options.subprotocols else None,
            socket=handshake,
            on_open=on_open,
            on_error=on_error,
        )
        try:
            app.run_forever(
                host=host or address.host_header,
                origin=options.origin,
                skip_utf8_validation=True,
                reconnect=0,
            )
        finally:
            app.untie()

    def _ask_where(
        self,
    ) -> tuple[str, Mapping[str, str] | None, Credentials | None, RestRequest | None]:
        """Return the URL, headers, credentials and REST request of this attempt.

        They come from the options, the user's functions, the dialect, and the answer by REST.
        """
        options, dialect, mask = self._options, self._target.dialect, self._target.mask
        credentials = _credentials(options)
        url = _ask("url", self._target.url)
        mask.learn(url, credentials=credentials)
        request = _call("the dialect's url_request()", dialect.url_request, url, credentials)
        if request is not None:
            mask.learn(request.url, request.headers)
            self._events.step("rest", request)
            answer = self._fetch(request)
            url = _call("the dialect's url_from()", dialect.url_from, url, answer)
            if credentials is not None:
                credentials.token = _call("the dialect's token_from()", dialect.token_from, answer)
                mask.learn(token=credentials.token)
        url = _call("the dialect's url()", dialect.url, url, credentials)
        parse_url(url)  # a wrong URL is refused before the headers function is called
        headers = _ask("headers", options.headers)
        mask.learn(url, headers)
        return url, headers, credentials, request

    def _fetch(self, request: RestRequest) -> Any:
        from wsclient.runtime.rest import fetch  # imported lazily: requests is slow to import

        options = self._options
        try:
            return fetch(
                request,
                self._deadline.remaining(),
                options.ssl_context,
                proxy=options.proxy,
                hold=self._hold,
            )
        finally:
            self._sock = None  # closed

    def _untie(self) -> None:
        """Break all reference cycles, since the garbage collector may be disabled."""
        ws, self._ws = self._ws, None
        if ws is not None:
            _untie(ws)
        self._error = None  # its traceback refers to this object

    def _hold(self, sock: socket.socket) -> None:
        """Make ``sock`` known to abort(). Raise if abort() has already been called."""
        self._sock = sock
        if self._aborted:
            raise ConnectionLost("the client has ended this attempt")

    def read(self, leftover: bytes) -> None:
        """Read until the end of the connection, within ``run_forever``.

        ``leftover`` is what came after the answer to the upgrade request. Never raises an error
        into the library.
        """
        try:
            self._read(leftover)
        except Exception as error:  # noqa: BLE001 - reported by _run
            self._fail(error)
        finally:
            if self._ws is not None:
                # Otherwise the library would begin its own closing handshake at its end.
                self._ws.connected = False

    def _read(self, leftover: bytes) -> None:
        stream, parser = self._stream, self._parser
        if stream is None or self._error is not None:
            return
        going = True
        if leftover:
            going = self._digest(parser.feed(leftover))
        while going and not self._aborted:
            count = stream.read_into(parser.buffer())
            if count is None:
                continue
            if count == 0:
                what = "in the middle of a frame" if parser.in_frame else "without a close frame"
                self._fail(ConnectionLost(f"the venue ended the connection {what}"))
                return
            self._last_byte_at = time.monotonic()
            going = self._digest(parser.received(count))
            if parser.in_frame:
                self._events.in_frame(self._last_byte_at)

    def _digest(self, received: Received) -> bool:
        """Report what one read brought. Return False if it was the last one."""
        cid, events = self.connection_id, self._events
        # Pings first: the pong must be queued before a consumer's quick answer to a message.
        for control in received.controls:
            if control.opcode == PING:
                events.pinged(cid)
                if self._ws is not None and not self._said_goodbye:
                    if self._outbox.waiting < MAX_BACKLOG:
                        self._ws.pong(control.payload)
                    events.wake()
            elif control.opcode == PONG:
                events.ponged(cid)
        if received.messages:
            events.received(cid, received, self._last_byte_at)
            events.pace()
        if any(control.opcode == CLOSE for control in received.controls):
            self._on_close()
            return False
        if received.violation is not None:
            code, reason = received.violation
            why = f"the venue violated the protocol: {reason}"
            self._fail(ConnectionLost(why, code, "protocol"))
            if code == 1007:
                events.unreadable(cid, f"a frame that is not UTF-8: {reason}")
            self._part(code)
            return False
        return True

    def _on_close(self) -> None:
        code = self._parser.close_code or 1005
        reason = self._parser.close_reason
        said = f": {one_line(reason)}" if reason else ""
        why = f"the venue closed the connection ({code}{said})"
        self._fail(ConnectionLost(why, code, "closed"))
        self._part(1000 if code == 1005 else code)

    def _part(self, code: int) -> None:
        """Send a close frame with ``code``, and give the peer time to read it."""
        assert self._stream is not None
        self.hang_up(code)
        self._events.wake()
        # Report the end first, so that the next connection need not wait for the steps below.
        self._report()
        if self._aborted:
            return
        waiter = Waiter()
        self._outbox.when_out(0, waiter)
        try:
            waiter.wait(Deadline(LINGER))
        except (TimeoutError, WSClientError):
            return
        self._stream.finish_writing()
        self._stream.drain(LINGER, LINGER_BYTES)

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error

    def _report(self) -> None:
        if self._reported:
            return
        self._reported = True
        error = self._error or ConnectionLost("the connection was cut by the client")
        if isinstance(error, WSClientError):
            pass
        elif isinstance(error, (TimeoutError, WebSocketTimeoutException)):
            error = ConnectTimeout("the connection attempt took too long")
        elif isinstance(error, WebSocketException):
            # The library's text may quote what the venue sent.
            error = HandshakeRejected("the venue's answer to the upgrade request is not valid", 101)
        elif isinstance(error, UnicodeError):
            # The error keeps the text that could not be encoded.
            error = ConnectionLost(f"the attempt failed with {type(error).__name__}")
        self._events.ended(self.connection_id, _discreet(error, self._target.mask))


def _discreet(error: BaseException, mask: Mask) -> BaseException:
    """Return ``error`` without any of our secrets, to be reported outside of the thread.

    Its text may quote them, and the variables in its traceback hold them.
    """
    error.__cause__ = error.__context__ = None
    if not isinstance(error, ssl.SSLError):  # its text is made from other attributes
        error.args = tuple(mask(arg) if isinstance(arg, str) else arg for arg in error.args)
    if isinstance(error, HandshakeRejected):
        error.excerpt = mask(error.excerpt.decode("latin-1")).encode("latin-1")
    return forget_locals(error)


def _ask(name: str, option: Any) -> Any:
    """Return the value of ``option``, or the result of its function if it is one."""
    return _call(f"the function passed as {name}", option) if callable(option) else option


def _credentials(options: Options) -> Credentials | None:
    given = _ask("credentials", options.credentials)
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ConfigurationError("credentials must be a mapping, or a function that returns one")
    return Credentials(given, time.time)  # wall-clock time, which the venue compares


def _call(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the user or of the dialect.

    If it raises, raises ConnectionLost with the function, the type of the error and its place, but
    not its text: the errors of HTTP clients quote URLs with their tokens.
    """
    try:
        return function(*args)
    except WSClientError:
        raise
    except BaseException as error:  # noqa: BLE001 - also SystemExit: the attempt has failed
        text = f"{what} raised {type(error).__name__}{_place(error)}"
    raise ConnectionLost(text)


def _place(error: BaseException) -> str:
    """Return the last line in the function's own file that ``error`` passed through, as text."""
    walk = list(traceback.walk_tb(error.__traceback__))[1:]
    places = [(frame.f_code.co_filename, line) for frame, line in walk]
    own = [place for place in places if place[0] == places[0][0]]
    return f" at line {own[-1][1]} of {os.path.basename(own[-1][0])}" if own else ""


def _refuse_secrets_in_the_clear(
    address: Address, headers: Mapping[str, str], options: Options, has_token: bool
) -> None:
    if address.is_secure or (address.is_loopback and options.proxy is None):
        return
    secret = has_token or any(_SECRET.search(name) for name in headers)
    if options.credentials is not None or options.cookie is not None or secret:
        raise ConfigurationError(
            "credentials, cookies, keys and tokens are sent over wss:// only (or to loopback)"
        )


def _untie(ws: WebSocket) -> None:
    """Break the reference cycle of ``ws`` with its frame buffer."""
    del ws.frame_buffer.recv  # a bound method of ws; only the library's reader would call it


class _App(WebSocketApp):
    """A WebSocketApp that reads through our dispatcher."""

    def __init__(self, transport: Transport, handshake: HandshakeSocket, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._transport = transport
        self._handshake = handshake
        self._inner: Callable[..., object] | None = None

    def create_dispatcher(self, *args: Any, **_: object) -> Any:
        self._inner = args[-1]
        return _Dispatcher(self._transport, self._handshake)

    def untie(self) -> None:
        """Break the reference cycles of the functions within ``run_forever`` with this object."""
        inner, self._inner = self._inner, None
        for cell in getattr(inner, "__closure__", None) or ():
            cell.cell_contents = None


class _Dispatcher:
    """Replaces the library's own select loop and its own ``send``."""

    def __init__(self, transport: Transport, handshake: HandshakeSocket) -> None:
        self._transport = transport
        self._handshake = handshake

    def read(self, sock: object, read_callback: object, check_callback: object) -> None:
        self._transport.read(self._handshake.leftover)

    def send(self, sock: object, data: str | bytes) -> int:
        self._transport.put(data.encode() if isinstance(data, str) else data)
        return len(data)
