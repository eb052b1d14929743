"""The socket of one connection at a venue, and its thread. Nothing here knows of frames."""

from __future__ import annotations

import heapq
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from websockets.typing import Subprotocol

from wsclient.testing.sockets import WOULD_BLOCK, Waker, join, reset_on_close, select

__all__ = ["CLOSE_TIMEOUT", "Terms", "Wire"]

FLUSH_TIMEOUT = 5.0  # for a client to read what was sent before a FIN
CLOSE_TIMEOUT = 1.0  # for a client to answer a close frame or a FIN with its own


@dataclass
class Terms:
    """What all connections of a venue share.

    While `is_batching`, what they write stays in their backlogs until the venue flushes them.
    """

    lock: threading.Condition
    ssl_context: ssl.SSLContext | None
    subprotocols: Sequence[Subprotocol]
    is_batching: bool = False


class Wire:
    """The bytes of a connection in both directions, its timers, and its end.

    `received(data, now)` is called with what the client has sent, `ended(cause)` with each cause
    for the end, and a last time when the socket is `closed`. Both are called under the venue's
    lock; all methods but `start` and `join` must be, too. The wire speaks TLS if the venue does,
    unless `is_plain`.
    """

    def __init__(
        self,
        terms: Terms,
        sock: socket.socket,
        name: str,
        is_plain: bool,
        received: Callable[[bytes, float], None],
        ended: Callable[[str], None],
    ) -> None:
        self.closed = False
        self.gone = False  # the socket is to be closed at once
        self.backlog = bytearray()  # waits for the client to read
        self._terms = terms
        self._lock = terms.lock
        self._sock = sock
        self._is_plain = is_plain
        self._received = received
        self._ended = ended
        self._waker = Waker()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = itertools.count()
        self._deadline: float | None = None
        self._reading = True
        self._sealed = False  # nothing more may be written
        self._fin_wanted = False
        self._resetting = False

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread to end; warn if it does not."""
        join(self._thread)

    def write(self, data: bytes) -> None:
        """Send `data` behind the backlog, unless the wire is sealed."""
        if not self._sealed:
            self.backlog += data
            if not self._terms.is_batching:
                self.flush()

    def flush(self) -> None:
        """Send as much of the backlog as the client takes now; the thread sends the rest."""
        if self.gone:
            return
        try:
            while self.backlog:
                # TLS must be offered the same bytes again after it would have blocked.
                sent = self._sock.send(bytes(self.backlog[:65536]))
                del self.backlog[:sent]
            if self._fin_wanted:
                self._fin_wanted = False
                self._sock.shutdown(socket.SHUT_WR)
                self.end_within(CLOSE_TIMEOUT)
        except WOULD_BLOCK:
            self._wake()  # its thread goes on once the socket is writable
        except OSError:
            self.abandon("client reset")

    def pour(self, chunks: Iterator[bytes], interval: float) -> None:
        """Send the next chunk every `interval` (s), if nothing waits. `chunks` must not end."""
        if not self.backlog:
            self.write(next(chunks))
        self.call_at(time.monotonic() + interval, lambda: self.pour(chunks, interval))

    def call_at(self, due: float, function: Callable[[], None]) -> None:
        """Call `function` at `due` (monotonic s), on the thread and under the lock."""
        heapq.heappush(self._timers, (due, next(self._timer_numbers), function))
        self._wake()

    def read(self, on: bool) -> None:
        """Read from the socket, or leave there what the client sends."""
        self._reading = on
        self._wake()

    # The end

    def seal(self) -> None:
        """Ignore all that is written from now on."""
        self._sealed = True

    def finish(self) -> None:
        """Send a FIN behind what was written, and close after the client's FIN."""
        self._sealed = self._fin_wanted = True
        self.end_within(FLUSH_TIMEOUT)
        self.flush()

    def abandon(self, cause: str, *, reset: bool = False) -> None:
        """Close the socket as soon as the thread can, by a RST if `reset`."""
        self._resetting = self._resetting or reset
        self._ended(cause)
        self._sealed = self.gone = True
        self._wake()

    def end_within(self, timeout: float) -> None:
        """Close the socket after `timeout` (s) if the client has not done so before."""
        self._deadline = time.monotonic() + timeout
        self._wake()

    def _wake(self) -> None:
        if threading.current_thread() is not self._thread:
            self._waker.wake()

    # The thread

    def _run(self) -> None:
        try:
            with self._lock:
                self._secure()
            while True:
                with self._lock:
                    self._waker.clear()
                    self._advance(time.monotonic())
                    if self.gone:
                        return
                    reads = [self._waker.receiver, *([self._sock] if self._reading else [])]
                    writes = [self._sock] if self.backlog else []
                    timeout = self._time_left()
                select(reads, writes, timeout)
        finally:
            with self._lock:
                self.gone = self.closed = True
                self._ended("venue failed")
                if self._resetting:
                    reset_on_close(self._sock)
                self._sock.close()
                self._waker.close()

    def _secure(self) -> None:
        context = self._terms.ssl_context
        if context is None or self._is_plain:
            return
        try:
            # Raises if the client has gone already: wrap_socket would lose the socket.
            self._sock.getpeername()
            self._sock = context.wrap_socket(
                self._sock, server_side=True, do_handshake_on_connect=False
            )
        except OSError:
            self.abandon("client reset")

    def _advance(self, now: float) -> None:
        """Handle what is due: timers, input, output, the deadline."""
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        if self._reading:
            self._read(now)
        self.flush()
        if self._deadline is not None and self._deadline <= now:
            self.abandon("fin")

    def _time_left(self) -> float | None:
        dues = [due for due, _, _ in self._timers[:1]]
        if self._deadline is not None:
            dues.append(self._deadline)
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _read(self, now: float) -> None:
        pending = 1
        while pending and not self.gone:
            try:
                data = self._sock.recv(65536)
            except WOULD_BLOCK:
                return
            except OSError:
                self.abandon("client reset")
                return
            if data:
                self._received(data, now)
            else:
                self.abandon("client eof")
            # What TLS has decrypted already does not make the socket readable again.
            pending = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
