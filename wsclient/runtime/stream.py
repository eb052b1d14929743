"""A connected socket, plain or TLS: reads block, writes never do, and anyone may end it."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time

from wsclient.runtime.locks import Locks

__all__ = ["Stream", "open_stream"]

#: The longest that a read blocks (s), as a safety net should a shutdown not wake it.
NET = 1.0
#: Linux: where in ``struct tcp_info`` the time (ms) since the last data stands.
LAST_DATA_RECV = 52
_TCP_INFO = getattr(socket, "TCP_INFO", 0) if sys.platform == "linux" else 0
_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)


def open_stream(sock: socket.socket, locks: Locks | None = None) -> Stream:
    kind = TlsStream if isinstance(sock, ssl.SSLSocket) else Stream
    return kind(sock, locks or Locks())


class Stream:
    """A plain socket. It blocks in ``recv_into``, which saves a poll a read."""

    def __init__(self, sock: socket.socket, locks: Locks) -> None:
        self.sock = sock
        #: Serialises writes and the end: neither a write nor shutdown() must meet a file number
        #: that close() has given back and another thread's new socket has got. None blocks.
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
        """Bytes read; 0 at the end of the stream; None when nothing came for a while.

        Called by the reader thread only. Raises OSError.
        """
        try:
            return self.sock.recv_into(buffer)
        except (BlockingIOError, TimeoutError):
            return None

    def has_unread(self) -> bool:
        """Has something come that was not read yet? Never blocks."""
        with self._end:
            return self.sock.fileno() >= 0 and _is_ready(self.sock, for_write=False, timeout=0)

    def heard_ago(self) -> float:
        """How long ago (s) the kernel last took in data, read since or not; ``inf`` where it does
        not say. Never blocks."""
        if not _TCP_INFO:
            return float("inf")
        with self._end:
            try:
                info = self.sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, LAST_DATA_RECV + 4)
            except OSError:
                return float("inf")  # closed, or no TCP
        if len(info) < LAST_DATA_RECV + 4:
            return float("inf")
        milliseconds: int = struct.unpack_from("I", info, LAST_DATA_RECV)[0]
        return milliseconds / 1000

    def write(self, chunk: memoryview) -> int:
        """Bytes taken, 0 when the peer does not read. Never blocks. Raises OSError."""
        try:
            with self._end:
                # Asked first: the flag is not known everywhere, and gevent waits in spite of it.
                if not _is_ready(self.sock, for_write=True, timeout=0):
                    return 0
                return self.sock.send(chunk, _DONTWAIT)
        except (BlockingIOError, TimeoutError):
            return 0

    def finish_writing(self) -> None:
        """No more will be sent: the peer sees the end after what is on its way."""
        self._shutdown(socket.SHUT_WR)

    def drain(self, seconds: float, limit: int) -> None:
        """Read and discard until the peer's end, ``seconds`` or ``limit`` bytes.

        Closing with unread input would send a reset, and the peer might never see what was said.
        """
        deadline = time.monotonic() + seconds
        try:
            while limit > 0:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not _is_ready(self.sock, for_write=False, timeout=remaining):
                    return
                # Past TLS: what is thrown away need not be decrypted.
                piece = socket.socket.recv(self.sock, 65536, _DONTWAIT)
                if not piece:
                    return
                limit -= len(piece)
        except OSError:
            return

    def abort(self) -> None:
        """End both directions now, from any thread: a blocked read returns."""
        self._shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._end:
            self.sock.close()

    def forked(self) -> None:
        """In a child process, where the locks' holders may not exist."""
        self._end = threading.RLock()

    def _shutdown(self, how: int) -> None:
        with self._end:
            try:
                # Unbound: an SSLSocket's own would begin a TLS goodbye, which can block.
                socket.socket.shutdown(self.sock, how)
            except OSError:
                pass  # not connected any more, which is what was asked for


class TlsStream(Stream):
    """A TLS socket, non-blocking: a blocking read beside another thread's write can deadlock
    (cpython issue 137583)."""

    sock: ssl.SSLSocket

    def _prepare(self, locks: Locks) -> None:
        self.sock.setblocking(False)
        #: OpenSSL's connection is not safe for two threads; both calls return at once.
        self._tls = locks.new("TLS")
        #: All that had arrived was read.
        self._is_dry = False

    def forked(self) -> None:
        super().forked()
        self._tls = threading.RLock()

    def read_into(self, buffer: memoryview) -> int | None:
        if self._is_dry:
            self._is_dry = False
            if not _is_ready(self.sock, for_write=False, timeout=NET):
                return None
        count = 0
        try:
            # A record holds 16 KiB at most: with one a read, all that is done once a read weighs.
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
                raise  # else it is met again by the next read
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
