"""Shared helpers: calls on threads, and pairs of connected sockets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: A key, and a self-signed certificate for localhost, 127.0.0.1 and ::1.
LOCALHOST = Path(__file__).parents[1] / "testing" / "localhost.pem"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PACKAGE = str(Path(__file__).parents[2] / "wsclient")


class Call(threading.Thread):
    """A call on a thread of its own; :meth:`result` returns or raises its result."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(daemon=True)
        self._call = lambda: function(*args, **kwargs)
        self._value: Any = None
        self.error: BaseException | None = None
        self.ended_at = 0.0
        self.start()

    def run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self.error = error
        self.ended_at = time.monotonic()

    def is_in(self, name: str) -> bool:
        """Return whether a function of this name is being run."""
        assert self.ident is not None
        frame = sys._current_frames().get(self.ident)
        while frame is not None and frame.f_code.co_name != name:
            frame = frame.f_back
        return frame is not None

    def result(self, timeout: float = 10.0) -> Any:
        self.join(timeout)
        assert not self.is_alive(), "the call is still blocked"
        if self.error is not None:
            raise self.error
        return self._value


def until(condition: Callable[[], Any], timeout: float = 10.0) -> None:
    """Wait until ``condition`` is true, where no event reports it."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition never became true"
        pause.wait(0.001)


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield two ends of a TCP connection over loopback."""
    with listener() as listening:
        near = socket.create_connection(listening.getsockname(), timeout=5)
        far, _ = listening.accept()
        far.settimeout(5)
        with near, far:
            yield near, far


@contextlib.contextmanager
def tls_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield two ends of a TLS connection over loopback."""
    with tcp_pair() as (near, far):
        accept = Call(server_context().wrap_socket, far, server_side=True)
        secure_near = client_context().wrap_socket(near, server_hostname="localhost")
        secure_far = accept.result()
        with secure_near, secure_far:
            yield secure_near, secure_far


PAIRS = {"plain": tcp_pair, "tls": tls_pair}


@contextlib.contextmanager
def listener(host: str = "127.0.0.1", backlog: int = 16) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        listening.listen(backlog)
        listening.settimeout(5)
        yield listening


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(LOCALHOST)
    return context


def client_context() -> ssl.SSLContext:
    """Return a context that verifies, and trusts the one certificate of these tests."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(LOCALHOST)
    return context


def receive(sock: socket.socket, count: int) -> bytes:
    """Return exactly ``count`` bytes."""
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(min(65536, count - len(data)))
        assert piece, f"the stream ended after {len(data)} of {count} bytes"
        data += piece
    return bytes(data)


def receive_head(sock: socket.socket) -> bytes:
    """Return all up to and with the empty line that ends an HTTP head."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        assert piece, f"the stream ended after {head!r}"
        head += piece
    return head


def handshake_answer(request: bytes, *lines: bytes) -> bytes:
    """Return the 101 to an upgrade request, with further header lines."""
    key = next(x for x in request.split(b"\r\n") if x.lower().startswith(b"sec-websocket-key"))
    accept = hashlib.sha1(key.partition(b":")[2].strip() + GUID).digest()
    head = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + base64.b64encode(accept),
        *lines,
        b"",
        b"",
    ]
    return b"\r\n".join(head)


class Server:
    """Runs ``handle(sock)`` on a thread for each connection, and closes it afterwards."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self._handle = handle
        self._calls: list[Call] = []
        self._sockets: list[socket.socket] = []
        self.closing = threading.Event()

    def __enter__(self) -> Server:
        self._stack = contextlib.ExitStack()
        self._listener = self._stack.enter_context(listener())
        self._listener.settimeout(None)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/"
        self._accepting = Call(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._accepting.result()
        for call in self._calls:
            call.result()
        self._stack.close()

    @property
    def connections(self) -> int:
        return len(self._sockets)

    def dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            self._calls.append(Call(self._serve, sock))

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, AssertionError):
            self._handle(sock)


def expect_end(sock: socket.socket) -> None:
    """Read until the other side has ended."""
    while sock.recv(65536):
        pass


def text_of(error: BaseException) -> str:
    """Return the text and repr of ``error`` and of the errors chained to it.

    These are the errors that a traceback would show.
    """
    said = "".join(traceback.format_exception_only(type(error), error)) + repr(error)
    context = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said if context is None else said + text_of(context)


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's full backlogs")


def addresses(*targets: tuple[str, int]) -> Callable[..., list[Any]]:
    """Return a resolver that gives these addresses for every name."""
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", target) for target in targets]
    return lambda *_, **__: infos


@contextlib.contextmanager
def refused_address() -> Iterator[tuple[str, int]]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


@contextlib.contextmanager
def dead_address() -> Iterator[tuple[str, int]]:
    """Yield an address whose full backlog drops each SYN: no host answers."""
    with listener(backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()
