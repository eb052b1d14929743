"""Wrappers of sockets: one can be ended by another thread, one spends a single deadline."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

from wsclient.errors import ConnectionLost, ConnectTimeout
from wsclient.threads.waiting import Deadline

__all__ = ["Cancellable", "DeadlineSocket", "left", "shut_down"]

#: The longest timeout (s) set on a socket, which cannot take more than 24 days.
MAX_WAIT = 86_400.0


def shut_down(sock: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    """End one or both directions of ``sock`` now, so that a blocked call on it returns."""
    try:
        # Unbound: the method of an SSLSocket begins the end of TLS, which can block.
        socket.socket.shutdown(sock, how)
    except OSError:
        pass  # not connected yet: its own timeout ends it; or no longer connected, as requested


class Cancellable:
    """The socket of an operation that any thread can end: an attempt, a request, a connection.

    The thread that does the work makes each socket known by :meth:`hold` before a call on it can
    block, and passes ``hold`` to whatever opens one. :meth:`cancel` ends the socket that is held
    then, and every later one as soon as it is held. Neither takes a lock, so ``cancel`` is safe in
    a signal handler and in a finalizer.
    """

    __slots__ = ("_end", "_sock", "_why", "is_cancelled")

    def __init__(self, why: str) -> None:
        self._why = why
        self._sock: socket.socket | None = None
        self._end: Callable[[], None] | None = None
        self.is_cancelled = False

    def hold(self, sock: socket.socket, end: Callable[[], None] | None = None) -> None:
        """Make ``sock`` known. ``end`` ends it, instead of :func:`shut_down`.

        Raises ConnectionLost if :meth:`cancel` has already been called.
        """
        # Order matters, here and in cancel(): one of the two must see the other's assignment.
        self._sock, self._end = sock, end or partial(shut_down, sock)
        if self.is_cancelled:
            raise ConnectionLost(self._why)

    def cancel(self) -> None:
        """End the operation. May be called on any thread, at any time, more than once."""
        self.is_cancelled = True
        end = self._end
        if end is not None:
            end()

    def close(self) -> None:
        """Close the socket. Sends nothing to the peer, with TLS either."""
        if self._sock is not None:
            socket.socket.close(self._sock)

    def forked(self) -> None:
        """Close the copy of the parent's socket in a child process, and allow no other."""
        self.is_cancelled = True
        self.close()


class DeadlineSocket:
    """A socket whose calls together take no longer than one deadline.

    A timeout of a socket is per call, so a peer that drips bytes could prolong an operation for
    ever. Libraries get this object in place of a socket: the timeouts that they set are ignored.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self.sock = sock
        self._deadline = deadline

    def ready(self) -> socket.socket:
        """Return the socket, ready for one call, which may take the time that is left.

        Raises ConnectTimeout if no time is left.
        """
        self.sock.settimeout(left(self._deadline))
        return self.sock

    # The methods of a socket.

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``. Raises OSError, and as :meth:`ready`."""
        self.ready().sendall(data)

    def recv(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end. Raises OSError, and as :meth:`ready`."""
        return self.ready().recv(size)

    def gettimeout(self) -> float:
        """Return the time (s) that is left, but never 0, which would mean not to block."""
        return max(0.001, self._deadline.remaining())

    def settimeout(self, timeout: float | None) -> None:
        """Ignore ``timeout``: only the deadline counts."""

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self.sock.fileno()

    def shutdown(self, how: int) -> None:
        """End one or both directions."""
        self.sock.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def left(deadline: Deadline) -> float:
    """Return the time (s) left, as a timeout for a socket. Raises ConnectTimeout if none is."""
    remaining = deadline.remaining()
    if remaining <= 0:
        raise ConnectTimeout("the attempt took longer than connect_timeout")
    return min(remaining, MAX_WAIT)
