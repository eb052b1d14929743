"""The port of a venue: it accepts or refuses connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from wsclient.testing.sockets import Waker, bind, join, select

__all__ = ["Listener"]


class Listener:
    """A bound port, on which connections are accepted between `up` and `down`.

    `connected(sock)` gets each connection, on a thread that exists while the listener is up. Raises
    OSError if the address cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        receive_buffer: int | None,
        connected: Callable[[socket.socket], None],
    ) -> None:
        self._host = host
        self._receive_buffer = receive_buffer
        self._connected = connected
        self._acceptor: _Acceptor | None = None
        self._sock = bind(host, port, receive_buffer)
        self.port: int = self._sock.getsockname()[1]

    def up(self) -> None:
        """Accept connections. Raises OSError if another socket listens on the port."""
        if self._acceptor is None:
            self._sock.listen(128)
            self._acceptor = _Acceptor(self._sock, self._connected)

    def down(self) -> None:
        """Refuse connections, and keep the port."""
        if self._acceptor is not None:
            self.close()
            self._sock = bind(self._host, self.port, self._receive_buffer)

    def close(self) -> None:
        """Refuse connections, and give the port back."""
        if self._acceptor is not None:
            self._acceptor.stop()
            self._acceptor = None
        self._sock.close()


class _Acceptor:
    """The thread that accepts connections, until stopped."""

    def __init__(self, listener: socket.socket, connected: Callable[[socket.socket], None]) -> None:
        self._listener = listener
        self._connected = connected
        self._waker = Waker()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fakevenue-accept", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._waker.wake()
        join(self._thread)
        self._waker.close()

    def _run(self) -> None:
        while True:
            select([self._listener, self._waker.receiver], [], None)
            if self._stopping:
                return
            try:
                sock, _ = self._listener.accept()
            except OSError:
                continue  # the client has gone again
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connected(sock)
