"""The source that is a socket: its reader thread connects, then runs the library's loop once.

websocket-client does the handshake, and frames and masks the messages to the venue
(``library.py``). The reading is ours. Each transport reports its end exactly once, and closes what
it has opened.
"""

from __future__ import annotations

import socket
import ssl
import time
from functools import partial
from typing import Any

from wsclient.dialect.values import RestRequest
from wsclient.errors import (
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotConnected,
    WSClientError,
)
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.stream.frames import PING, PONG, FrameParser, Frames
from wsclient.text import one_line
from wsclient.threads.locks import Locks
from wsclient.threads.logs import debugs_frames
from wsclient.threads.waiting import Deadline, Waiter
from wsclient.threads.workers import WorkerThread, start
from wsclient.tracebacks import forget_locals
from wsclient.transport import library
from wsclient.transport.addresses import resource_of
from wsclient.transport.bytestream import ByteStream, open_stream
from wsclient.transport.dialing import OnStep, open_socket, to_nobody
from wsclient.transport.framelog import FrameLog
from wsclient.transport.handshake import HandshakeSocket
from wsclient.transport.masking import Mask
from wsclient.transport.outbox import Outbox
from wsclient.transport.renewing import Renewing
from wsclient.transport.sockets import Cancellable
from wsclient.transport.source import Clock, FrameReceiver
from wsclient.transport.target import Destination, Target, call

__all__ = ["Sockets", "Transport"]

#: After our close frame: how long (s) and how much (bytes) to read until the peer closes.
LINGER = 1.0
LINGER_BYTES = 1024 * 1024
#: Pings are not answered while this much (bytes) waits to be sent: a peer that sends pings and
#: reads little must not fill our memory with pongs.
MAX_BACKLOG = 64 * 1024


class Sockets:
    """Makes the connections of one client, all to the same target.

    ``on_step`` is called on the reader thread as an attempt reaches a step, with the step's name
    and its subject: ``"rest"`` (a RestRequest), ``"target"`` (a Destination), the steps of
    :func:`wsclient.transport.dialing.open_socket`, ``"handshake"`` (its HandshakeSocket) and
    ``"open"`` (None); later at each pong, too (``"pong"``, None).
    """

    __slots__ = ("on_step", "target")

    clock: Clock = time

    def __init__(self, target: Target, on_step: OnStep = to_nobody) -> None:
        self.target = target
        self.on_step = on_step

    @property
    def mask(self) -> Mask:
        """The function that hides our secrets in a text."""
        return self.target.mask

    def make(
        self, connection_id: int, receiver: FrameReceiver, locks: Locks, route: str = ""
    ) -> Transport:
        """Return the transport of a new connection of ``route``, not started.

        ``locks`` makes its locks.
        """
        return Transport(connection_id, self, receiver, locks, route)


class Transport:
    """One connection with its reader thread.

    :meth:`start` is called once. All public methods may be called on any thread, and return at
    once.
    """

    def __init__(
        self,
        connection_id: int,
        sockets: Sockets,
        receiver: FrameReceiver,
        locks: Locks,
        route: str = "",
    ) -> None:
        options = sockets.target.options
        self.connection_id = connection_id
        self._target = sockets.target
        self._route = route
        self._options = options
        self._on_step = sockets.on_step
        self._receiver = receiver
        self._locks = locks
        self._deadline = Deadline(options.connect_timeout)
        self._parser = FrameParser(options.max_message_size)
        self._outbox = Outbox(locks)
        self._last_byte_at = time.monotonic()
        #: Holds each socket that this connection opens.
        self._opened = Cancellable("the client has ended this attempt")
        self._stream: ByteStream | None = None
        self._writer: library.FrameWriter | None = None
        self._renewing: Renewing | None = None
        self._said_goodbye = False
        self._log = FrameLog(connection_id, sockets.target.log, sockets.mask)
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
        writer = self._writer
        if writer is None or self._said_goodbye:
            if waiter is not None:
                waiter.settle(NotConnected("the connection ended before the message was sent"))
            return
        if debugs_frames():
            self._log.sent(payload)
        start = self._outbox.position
        writer.message(payload)
        if waiter is not None:
            self._outbox.when_out(start, waiter)

    def ping(self) -> None:
        """Queue a ping."""
        writer = self._writer
        if writer is not None and not self._said_goodbye:
            if debugs_frames():
                self._log.sent_control("a ping")
            writer.ping()

    def renew(self) -> None:
        """Renew the connection's token on a thread of its own, which reports the result."""
        if self._renewing is not None:
            self._renewing.begin()

    def hang_up(self, code: int = 1000) -> None:
        """Queue a close frame with ``code``. The peer's answer ends the connection."""
        writer = self._writer
        if writer is not None and not self._said_goodbye:
            self._said_goodbye = True
            if debugs_frames():
                self._log.sent_control(f"a close frame ({code})")
            writer.close(code)

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
        self._outbox.close()
        self._opened.cancel()
        if self._renewing is not None:
            self._renewing.cancel()

    def forked(self) -> None:
        """Close the copy of the parent's socket in a child process.

        Closing only the socket object sends nothing to the peer, with TLS too.
        """
        self._opened.forked()
        if self._renewing is not None:
            self._renewing.forked()

    # The reader thread.

    def _run(self) -> None:
        try:
            self._connect_and_read()
        except BaseException as error:  # noqa: BLE001 - any error is the end of the connection
            self._fail(error)
        finally:
            self._report()
            self._outbox.close()
            if self._stream is not None:
                self._stream.close()
            else:
                self._opened.close()
            if self._renewing is not None:
                self._renewing.cancel()
                self._renewing.end()
            # Both refer to this object, and the garbage collector may be disabled.
            self._writer = self._error = None
            self._receiver.finished(self.connection_id)

    def _connect_and_read(self) -> None:
        options = self._options
        there = self._target.ask(self._fetch, self._route)
        address, host, lines = there.check(options)
        self._on_step("target", there)
        sock = open_socket(
            address,
            proxy=options.proxy,
            ssl_context=options.ssl_context,
            deadline=self._deadline,
            hold=self._opened.hold,
            on_step=self._on_step,
        )
        self._opened.hold(sock)
        handshake = HandshakeSocket(
            sock,
            self._deadline,
            there.cookie(options),
            resource_of(there.url),
            options.subprotocols or (),
        )
        self._on_step("handshake", handshake)
        library.run(
            handshake,
            url=f"{address}/",
            host=host or address.host_header,
            headers=lines,
            origin=options.origin,
            subprotocols=options.subprotocols,
            opened=partial(self._upgraded, sock, there),
            read=self._read,
            put=self._put,
            failed=self._fail,
        )

    def _fetch(self, request: RestRequest) -> Any:
        self._on_step("rest", request)
        return self._ask(request, self._deadline.remaining(), self._opened)

    def _ask(self, request: RestRequest, timeout: float, holder: Cancellable) -> Any:
        from wsclient.transport.rest import fetch  # imported lazily: requests is slow to import

        options = self._options
        return fetch(request, timeout, options.ssl_context, proxy=options.proxy, hold=holder.hold)

    def _upgraded(
        self, sock: socket.socket, there: Destination, writer: library.FrameWriter
    ) -> None:
        self._on_step("open", None)
        self._stream = stream = open_stream(sock, self._locks)
        self._writer = writer
        self._opened.hold(sock, stream.abort)
        login, credentials = None, there.credentials
        if credentials is not None:
            dialect = self._target.dialect
            if call("the dialect's logs_in()", dialect.logs_in, self._route):
                login = call("the dialect's login()", dialect.login, credentials)
                self._log.hide(login)
            self._renewing = Renewing(
                self.connection_id, self._target, there, self._ask_again, self._renewed
            )
        self._last_byte_at = time.monotonic()
        where = there.url.partition("?")[0]
        self._receiver.opened(self.connection_id, login, credentials, where)

    def _ask_again(self, request: RestRequest, holder: Cancellable) -> Any:
        self._target.mask.learn(request.url, request.headers)
        return self._ask(request, self._options.connect_timeout, holder)

    def _renewed(self, error: WSClientError | None, has_expired: bool) -> None:
        if error is not None:
            _discreet(error, self._target.mask)
        self._receiver.renewed(self.connection_id, error, has_expired)

    def _put(self, data: bytes) -> None:
        self._outbox.put(data, time.monotonic())

    def _read(self, leftover: bytes) -> None:
        """Read until the end of the connection. Raises no error into the library."""
        try:
            self._read_all(leftover)
        except Exception as error:  # noqa: BLE001 - reported by _run
            self._fail(error)
        finally:
            if self._writer is not None:
                self._writer.finish()

    def _read_all(self, leftover: bytes) -> None:
        stream, parser, opened = self._stream, self._parser, self._opened
        if stream is None or self._error is not None:
            return
        going = True
        if leftover:
            going = self._digest(parser.feed(leftover))
        while going and not opened.is_cancelled:
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
                self._receiver.in_frame(self._last_byte_at)

    def _digest(self, frames: Frames) -> bool:
        """Report what one read brought. Return False if it was the last one."""
        cid, receiver = self.connection_id, self._receiver
        frames.connection_id = cid
        frames.read_at = self._last_byte_at
        frames.received_at = time.time_ns()
        is_logged = debugs_frames()
        if is_logged:  # before the messages are delivered, and so before an answer to them
            self._log.received(frames)
        is_closed = False
        # Pings first: the pong must be queued before a consumer's quick answer to a message.
        for control in frames.controls:
            if is_logged:
                self._log.received_control(control)
            if control.opcode == PING:
                receiver.pinged(cid)
                if self._writer is not None and not self._said_goodbye:
                    if self._outbox.waiting < MAX_BACKLOG:
                        if debugs_frames():
                            self._log.sent_control("a pong")
                        self._writer.pong(control.payload)
                    receiver.wake()
            elif control.opcode == PONG:
                self._on_step("pong", None)
                receiver.ponged(cid)
            else:
                is_closed = True
        if frames.messages:
            receiver.received(frames)
            receiver.pace()
        if is_closed:
            self._on_close()
            return False
        if frames.violation is not None:
            code, reason = frames.violation
            why = f"the venue violated the protocol: {reason}"
            self._fail(ConnectionLost(why, code, "protocol"))
            if code == 1007:
                receiver.unreadable(cid, f"a frame that is not UTF-8: {reason}")
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
        self.hang_up(code)
        self._receiver.wake()
        # Report the end first, so that the next connection need not wait for the steps below.
        self._report()
        stream = self._stream
        if stream is None or self._opened.is_cancelled:
            return
        waiter = Waiter()
        self._outbox.when_out(0, waiter)
        try:
            waiter.wait(Deadline(LINGER))
        except (TimeoutError, WSClientError):
            return
        stream.finish_writing()
        stream.drain(LINGER, LINGER_BYTES)

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error

    def _report(self) -> None:
        if self._reported:
            return
        self._reported = True
        error = self._error or ConnectionLost("the connection was cut by the client")
        if not isinstance(error, WSClientError):
            error = _own(error)
        self._receiver.ended(self.connection_id, _discreet(error, self._target.mask))


def _own(error: BaseException) -> BaseException:
    """Return our own error for one of the library's or the system's, where there is one."""
    if isinstance(error, TimeoutError):
        return ConnectTimeout("the connection attempt took too long")
    if isinstance(error, UnicodeError):
        # The error keeps the text that could not be encoded.
        return ConnectionLost(f"the attempt failed with {type(error).__name__}")
    return library.error_of(error)


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
