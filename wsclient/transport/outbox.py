"""The bytes to be sent: subscribe, send, request, ping, and the library's own pong and close.

Any thread may put bytes in; only the watchdog flushes, and it never blocks. So a peer that does not
read blocks no thread, bytes are sent in the order of the decisions, and a Ctrl-C in a caller's
thread cannot cut a frame in two.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from wsclient.errors import NotConnected, OutcomeUnknown
from wsclient.threads.locks import Locks
from wsclient.threads.waiting import Waiter
from wsclient.transport.bytestream import ByteStream

__all__ = ["Outbox"]

#: The size of one write (bytes): the most that a TLS record holds.
CHUNK = 16 * 1024


class _Ticket(NamedTuple):
    """A waiter for the bytes between two positions."""

    start: int
    end: int
    waiter: Waiter


class Outbox:
    """A queue of bytes to be sent over one connection, with waiters for parts of them."""

    def __init__(self, locks: Locks | None = None) -> None:
        #: Protects everything below. A leaf: no other lock is taken and no I/O is done under it.
        self._lock = (locks or Locks()).new("an outbox")
        self._chunks: deque[memoryview] = deque()
        self._put = 0
        self._out = 0
        #: More than ``_out`` during a write: the bytes in between may be sent already.
        self._maybe_out = 0
        self._tickets: deque[_Ticket] = deque()
        self._closed = False
        #: Since when bytes have been waiting without progress (monotonic s); None if none wait.
        self.unsent_since: float | None = None

    def put(self, data: bytes, now: float) -> None:
        """Queue bytes. After :meth:`close` they are dropped, since the connection is gone."""
        with self._lock:
            self._put += len(data)
            if self._closed:
                return
            self._chunks.append(memoryview(data))
            if self.unsent_since is None:
                self.unsent_since = now

    @property
    def position(self) -> int:
        """The number of bytes put so far."""
        with self._lock:
            return self._put

    @property
    def waiting(self) -> int:
        """The number of bytes that the peer has not taken yet."""
        return self._put - self._out

    def when_out(self, start: int, waiter: Waiter) -> None:
        """Settle ``waiter`` when all bytes put so far are sent.

        ``start`` is the position before the bytes in question. If the connection ends first, it
        decides whether some of them may have been sent (OutcomeUnknown) or none (NotConnected).
        """
        with self._lock:
            ticket = _Ticket(start, self._put, waiter)
            if self._closed:
                self._settle(ticket)
            elif self._out >= ticket.end:
                waiter.settle()
            else:
                self._tickets.append(ticket)

    def flush(self, stream: ByteStream, now: float) -> None:
        """Write as many bytes as the peer takes. Called by the watchdog only. Raises OSError."""
        while True:
            with self._lock:
                if not self._chunks or self._closed:
                    return
                # The head stays in the queue until it is sent: after an unfinished write TLS must
                # get the same bytes again.
                head = self._chunks[0]
                self._maybe_out = self._out + min(len(head), CHUNK)
            try:
                taken = stream.write(head[:CHUNK])
            except OSError:
                self._maybe_out = self._out
                raise
            with self._lock:
                self._out += taken
                self._maybe_out = self._out
                if taken == 0 or self._closed:
                    return
                if taken == len(head):
                    self._chunks.popleft()
                else:
                    self._chunks[0] = head[taken:]
                self.unsent_since = now if self._chunks else None
                while self._tickets and self._out >= self._tickets[0].end:
                    self._tickets.popleft().waiter.settle()

    def release(self) -> None:
        """Settle all waiters with OutcomeUnknown; their bytes may still be sent."""
        with self._lock:
            while self._tickets:
                error = OutcomeUnknown("the client was closed while the message was being sent")
                self._tickets.popleft().waiter.settle(error)

    def close(self) -> None:
        """Drop all bytes, as the connection is gone. Settle each waiter with its outcome."""
        with self._lock:
            self._closed = True
            self._chunks.clear()
            self.unsent_since = None
            while self._tickets:
                self._settle(self._tickets.popleft())

    def _settle(self, ticket: _Ticket) -> None:
        if self._out >= ticket.end:
            ticket.waiter.settle()
        elif self._maybe_out > ticket.start:
            ticket.waiter.settle(
                OutcomeUnknown("the connection ended while the message was being sent")
            )
        else:
            ticket.waiter.settle(NotConnected("the connection ended before the message was sent"))
