"""Socket and thread helpers of the venue and the proxy: wait, wake, end."""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import Iterable

JOIN_TIMEOUT = 5.0

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# Unlike epoll, poll() needs no file descriptor of its own; unlike select(), it is not limited to
# 1,024 of them.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


def bind(host: str, port: int, receive_buffer: int | None = None) -> socket.socket:
    """Return a bound socket that does not listen yet.

    Until then connections are refused, and no other process gets the port. `receive_buffer`
    (bytes) is inherited by each connection. Raises OSError if the address cannot be bound.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listener.setblocking(False)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def netloc(host: str, port: int) -> str:
    """Return host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Waker:
    """A socket pair that ends another thread's wait in `select`."""

    def __init__(self) -> None:
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)

    def wake(self) -> None:
        try:
            self._sender.send(b"\0")
        except OSError:
            pass  # full: the thread is about to wake anyway; closed: it has ended

    def clear(self) -> None:
        try:
            while self.receiver.recv(4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self.receiver.close()
        self._sender.close()


def select(
    reads: Iterable[socket.socket], writes: Iterable[socket.socket], timeout: float | None
) -> None:
    """Wait until one of the sockets is ready, or for `timeout` seconds."""
    events: dict[socket.socket, int] = dict.fromkeys(reads, selectors.EVENT_READ)
    for sock in writes:
        events[sock] = events.get(sock, 0) | selectors.EVENT_WRITE
    with _Selector() as selector:
        for sock, wanted in events.items():
            selector.register(sock, wanted)
        selector.select(timeout)


def reset_on_close(sock: socket.socket) -> None:
    """Make `close()` of the socket send a RST."""
    linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    except OSError:
        pass  # the client has closed it already


def join(thread: threading.Thread) -> None:
    """Wait for a thread to end; warn if it has not after JOIN_TIMEOUT."""
    thread.join(JOIN_TIMEOUT)
    if thread.is_alive():
        warnings.warn(f"thread {thread.name} did not stop", ResourceWarning, stacklevel=3)
