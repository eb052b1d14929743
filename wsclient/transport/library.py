"""All that touches websocket-client. No other module imports it.

The library does three things for us: it writes the upgrade request and checks the key in the
answer, it frames and masks what we send, and its ``run_forever`` is the loop in which a reader
reads. It never reads by itself: the dispatcher that it is given hands the loop over to us, and its
own frame reader gets no bytes.

Names that are not public are used here only: ``WebSocket.frame_buffer.recv``, the closure of the
functions within ``run_forever``, and the parameters of ``create_dispatcher``.
``tests/runtime/test_library.py`` checks for each that a new version still has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from websocket import (
    ABNF,
    WebSocket,
    WebSocketApp,
    WebSocketException,
    WebSocketTimeoutException,
)

from wsclient.errors import ConnectTimeout, HandshakeRejected
from wsclient.threads.logs import silence
from wsclient.threads.workers import is_worker_thread
from wsclient.transport.handshake import HandshakeSocket

__all__ = ["FrameWriter", "error_of", "run"]

# The library logs each failed attempt as an error, and, with its trace enabled, the headers of the
# request. The wsclient loggers report our attempts, once and without secrets.
silence("websocket", is_worker_thread)


class FrameWriter:
    """Makes the frames that we send. They go to ``put`` of :func:`run`."""

    __slots__ = ("_ws",)

    def __init__(self, ws: WebSocket) -> None:
        self._ws = ws

    def message(self, payload: str | bytes) -> None:
        """Frame a message: text or bytes."""
        opcode = ABNF.OPCODE_TEXT if isinstance(payload, str) else ABNF.OPCODE_BINARY
        self._ws.send(payload, opcode)

    def ping(self) -> None:
        """Frame a ping."""
        self._ws.ping()

    def pong(self, payload: bytes) -> None:
        """Frame the answer to a ping with this payload."""
        self._ws.pong(payload)

    def close(self, code: int) -> None:
        """Frame a close with this code."""
        self._ws.send_close(code)

    def finish(self) -> None:
        """Mark the connection as over: else the library would begin its own closing handshake."""
        self._ws.connected = False


def run(
    handshake: HandshakeSocket,
    *,
    url: str,
    host: str,
    headers: list[str],
    origin: str | None,
    subprotocols: Sequence[str] | None,
    opened: Callable[[FrameWriter], None],
    read: Callable[[bytes], None],
    put: Callable[[bytes], None],
    failed: Callable[[BaseException], None],
) -> None:
    """Upgrade a connection, and call ``read``; return at the end of the connection.

    ``opened`` is called when the venue has accepted the upgrade, ``failed`` when it has not or when
    ``opened`` has raised. ``read`` reads until the end, and must not raise; it gets the bytes that
    came after the answer to the upgrade request. ``put`` gets each frame that the FrameWriter
    makes, on the thread that uses it.
    """
    app = _App(
        handshake,
        opened,
        failed,
        _Dispatcher(lambda: read(handshake.leftover), put),
        url=url,
        header=headers,
        subprotocols=list(subprotocols) if subprotocols else None,
    )
    try:
        app.run_forever(host=host, origin=origin, skip_utf8_validation=True, reconnect=0)
    finally:
        app.untie()


def error_of(error: BaseException) -> BaseException:
    """Return our own error for one of the library's, whose text may quote what the venue sent."""
    if isinstance(error, WebSocketTimeoutException):
        return ConnectTimeout("the connection attempt took too long")
    if isinstance(error, WebSocketException):
        return HandshakeRejected("the venue's answer to the upgrade request is not valid", 101)
    return error


class _App(WebSocketApp):
    """A WebSocketApp that upgrades a connected socket, and reads through our dispatcher."""

    def __init__(
        self,
        handshake: HandshakeSocket,
        opened: Callable[[FrameWriter], None],
        failed: Callable[[BaseException], None],
        dispatcher: _Dispatcher,
        **kwargs: Any,
    ) -> None:
        # Functions of the class: methods of this object would refer to it.
        ours: Any = {"socket": handshake, "on_open": _App._open, "on_error": _App._error}
        super().__init__(**ours, **kwargs)
        self._raw = handshake.sock
        self._opened = opened
        self._failed = failed
        self._dispatcher = dispatcher
        #: What has reference cycles: the library's socket, and a function within ``run_forever``.
        self._ws: WebSocket | None = None
        self._inner: Callable[..., object] | None = None

    def _open(self) -> None:
        ws = self._ws = cast("WebSocket", self.sock)  # there is one: it is open
        ws.sock = self._raw
        self._opened(FrameWriter(ws))

    def _error(self, error: Exception) -> None:
        self._ws = self._ws or self.sock
        self._failed(error)

    def create_dispatcher(self, *args: Any, **_: object) -> Any:
        self._inner = args[-1]
        return self._dispatcher

    def untie(self) -> None:
        """Break all reference cycles, since the garbage collector may be disabled."""
        inner, self._inner = self._inner, None
        for cell in getattr(inner, "__closure__", None) or ():
            cell.cell_contents = None
        if self._ws is not None:
            # A bound method of the object itself; only the library's reader would call it.
            del self._ws.frame_buffer.recv


class _Dispatcher:
    """Replaces the library's own select loop and its own ``send``."""

    def __init__(self, read: Callable[[], None], put: Callable[[bytes], None]) -> None:
        self._read = read
        self._put = put

    def read(self, sock: object, read_callback: object, check_callback: object) -> None:
        self._read()

    def send(self, sock: object, data: str | bytes) -> int:
        self._put(data.encode() if isinstance(data, str) else data)
        return len(data)
