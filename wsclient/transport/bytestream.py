"""A connected socket, plain or TLS. Reads block, writes never do; any thread may end it."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import struct
import sys

from wsclient.threads.locks import Locks
from wsclient.threads.waiting import Deadline
from wsclient.transport.sockets import shut_down

__all__ = ["ByteStream", "open_stream"]

#: The longest time (s) that a read blocks: a safety net in case a shutdown does not wake it.
NET = 1.0
#: Linux: the offset in ``struct tcp_info`` of the time (ms) since the last data.
LAST_DATA_RECV = 52
_TCP_INFO = getattr(socket, "TCP_INFO", 0) if sys.platform == "linux" else 0
_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)


def open_stream(sock: socket.socket, locks: Locks | None = None) -> ByteStream:
    """Return a ByteStream for ``sock``, or a TlsStream if it is a TLS socket."""
    kind = TlsStream if isinstance(sock, ssl.SSLSocket) else ByteStream
    return kind(sock, locks or Locks())


class ByteStream:
    """A plain socket. It blocks in ``recv_into``, which saves one poll per read."""

    def __init__(self, sock: socket.socket, locks: Locks) -> None:
        self.sock = sock
        #: Serialises write, shutdown and close, none of which blocks. Without it, a write or a
        #: shutdown could use a file descriptor that close() has released and that another thread's
        #: new socket has got.
        self._end = locks.new("a socket")
        self._prepare(locks)

    def _prepare(self, locks: Locks) -> None:
        if os.name == "posix":
            self.sock.settimeout(None)
            self.sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(NET), 0)
            )
        else:
            self.sock.settimeout(NET)

    def read_into(self, buffer: memoryview) -> int | None:
        """Read into ``buffer``, and return the number of bytes.

        0 means the end of the stream, None that nothing came for NET seconds. Called by the reader
        thread only. Raises OSError.
        """
        try:
            return self.sock.recv_into(buffer)
        except (BlockingIOError, TimeoutError):
            return None

    def has_unread(self) -> bool:
        """Return whether data is waiting to be read. Never blocks."""
        with self._end:
            return self.sock.fileno() >= 0 and _is_ready(self.sock, for_write=False, timeout=0)

    def heard_ago(self) -> float:
        """Return how long ago (s) the kernel last received data, whether read since or not.

        ``inf`` if the kernel does not say. Never blocks.
        """
        if not _TCP_INFO:
            return float("inf")
        with self._end:
            try:
                info = self.sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, LAST_DATA_RECV + 4)
            except OSError:
                return float("inf")  # closed, or not a TCP socket
        if len(info) < LAST_DATA_RECV + 4:
            return float("inf")
        milliseconds: int = struct.unpack_from("I", info, LAST_DATA_RECV)[0]
        return milliseconds / 1000

    def write(self, chunk: memoryview) -> int:
        """Write, and return the number of bytes taken: 0 if the peer does not read.

        Never blocks. Raises OSError.
        """
        try:
            with self._end:
                # Check first: not every platform has the flag, and gevent waits in spite of it.
                if not _is_ready(self.sock, for_write=True, timeout=0):
                    return 0
                return self.sock.send(chunk, _DONTWAIT)
        except (BlockingIOError, TimeoutError):
            return 0

    def finish_writing(self) -> None:
        """End the sending direction: the peer sees the end after the bytes that were sent."""
        with self._end:
            shut_down(self.sock, socket.SHUT_WR)

    def drain(self, seconds: float, limit: int) -> None:
        """Read and discard until the peer's end, for at most ``seconds`` and ``limit`` bytes.

        Closing a socket with unread input sends a reset, so that the peer might not get the last
        bytes.
        """
        deadline = Deadline(seconds)
        try:
            while limit > 0:
                remaining = deadline.remaining()
                if not remaining or not _is_ready(self.sock, for_write=False, timeout=remaining):
                    return
                # Read below TLS: discarded data need not be decrypted.
                piece = socket.socket.recv(self.sock, 65536, _DONTWAIT)
                if not piece:
                    return
                limit -= len(piece)
        except OSError:
            return

    def abort(self) -> None:
        """End both directions now, so that a blocked read returns. May be called on any thread."""
        with self._end:
            shut_down(self.sock)

    def close(self) -> None:
        """Close the socket, when nothing reads it any more."""
        with self._end:
            self.sock.close()


class TlsStream(ByteStream):
    """A TLS socket in non-blocking mode.

    A blocking read can deadlock with another thread's write (cpython issue 137583).
    """

    sock: ssl.SSLSocket

    def _prepare(self, locks: Locks) -> None:
        self.sock.setblocking(False)
        #: Serialises reads and writes, which both return at once: OpenSSL's connection is not
        #: thread-safe.
        self._tls = locks.new("TLS")
        #: True after a read that took all data there was.
        self._is_dry = False

    def read_into(self, buffer: memoryview) -> int | None:
        if self._is_dry:
            self._is_dry = False
            if not _is_ready(self.sock, for_write=False, timeout=NET):
                return None
        count = 0
        try:
            # A record holds at most 16 KiB. Several per read spread the fixed cost of a read.
            with self._tls:
                while count < len(buffer):
                    more = self.sock.recv_into(buffer[count:])
                    if not more:
                        break
                    count += more
        except ssl.SSLWantReadError:
            self._is_dry = True
            return count or None
        except ssl.SSLWantWriteError:
            if not count:
                _is_ready(self.sock, for_write=True, timeout=NET)
            return count or None
        except OSError:
            if not count:
                raise  # otherwise the next read raises it again
        return count

    def write(self, chunk: memoryview) -> int:
        try:
            with self._end, self._tls:
                return self.sock.send(chunk)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0


def _is_ready(sock: socket.socket, *, for_write: bool, timeout: float) -> bool:
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, "the socket is closed")
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLOUT if for_write else select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    read, write = ([], [sock]) if for_write else ([sock], [])
    return any(select.select(read, write, [], timeout))
