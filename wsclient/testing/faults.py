"""A TCP proxy between a client and a venue, whose connections fail on request.

One thread does all the work: it alone reads, writes and closes sockets, all non-blocking. Other
threads change its orders under the lock, the only one here, and wake it.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

from wsclient.testing.sockets import (
    JOIN_TIMEOUT,
    WOULD_BLOCK,
    Waker,
    bind,
    join,
    netloc,
    reset_on_close,
    select,
)

__all__ = ["Fault", "FaultProxy", "ProxiedConnection"]

Direction = Literal["to_client", "to_venue"]
DIRECTIONS: tuple[Direction, ...] = ("to_client", "to_venue")

BUFFER = 64 * 1024  # bytes buffered in one direction; beyond it the sender's window fills
DRIP_INTERVAL = 0.02
DIAL_TIMEOUT = 1.0
CLOSE_TIMEOUT = 1.0  # for both sides to answer a FIN with theirs
NEVER = float("inf")


@dataclass(frozen=True)
class Fault:
    """A fault in one direction of a connection; `Fault()` is none.

    `stop` takes effect after `after` more bytes:

    - `"deaf"`: bytes and the end of the stream are read and discarded: a half-open connection;
    - `"stall"`: nothing is read or written, and the sender's window fills;
    - `"fin"`, `"rst"`: the connection ends on both sides.

    Until then bytes are delayed by `delay` (s), limited to `rate` (bytes per second; None: no
    limit), and each byte is replaced by another with the probability `corrupt`.
    """

    stop: Literal["deaf", "stall", "fin", "rst"] | None = None
    after: int = 0
    delay: float = 0.0
    rate: float | None = None
    corrupt: float = 0.0


class FaultProxy:
    """A proxy to the venue at `url`; clients connect to its own `url`, on loopback.

    ::

        with FakeVenue() as venue, FaultProxy(venue.url) as proxy:
            client = wsclient.connect(proxy.url)
            proxy.set(Fault("deaf"))  # all connections are half-open, new ones too
            proxy.set(Fault(delay=0.1), "to_client", on="new")
            proxy.connections[0].set(Fault("rst", after=10))  # cut within a frame
            proxy.refuse()  # new connections are refused

    `receive_buffer` (bytes) sets SO_RCVBUF: if it is small, a client that sends soon notices a
    stall. `port` 0 takes any free port. Which bytes are corrupted depends only on `seed`, the
    number of the connection, the direction and the bytes.
    """

    def __init__(
        self,
        url: str,
        *,
        seed: int = 0,
        receive_buffer: int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.seed = seed
        self._receive_buffer = receive_buffer
        self.address: tuple[str, int] = (host, port)
        self._venue = urlsplit(url)
        self._lock = threading.Condition()
        self._connections: list[ProxiedConnection] = []
        self._faults: dict[Direction, Fault] = dict.fromkeys(DIRECTIONS, Fault())
        self._dialled = 0
        self._is_refusing = self._is_listening = self._is_closing = False
        self._listener = self._bind()
        self._waker = Waker()
        self._thread = threading.Thread(target=self._run, name="faultproxy", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return (
            f"<FaultProxy {self.url} to {self._venue.netloc}, {len(self._connections)} connections>"
        )

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection, the thread and the sockets; idempotent."""
        self._is_closing = True
        self._waker.wake()
        join(self._thread)

    @property
    def url(self) -> str:
        """The venue's URL, with the proxy's address in it."""
        return self._venue._replace(netloc=netloc(*self.address)).geturl()

    @property
    def connections(self) -> list[ProxiedConnection]:
        """The connections that have not ended, oldest first."""
        with self._lock:
            return list(self._connections)

    def set(
        self,
        fault: Fault,
        *directions: Direction,
        on: Literal["all", "present", "new"] = "all",
    ) -> None:
        """Replace the fault in `directions`, or in both if none are named.

        `on` selects the connections: those of now, those to come, or all.
        """
        with self._lock:
            if on != "present":
                self._faults.update(dict.fromkeys(directions or DIRECTIONS, fault))
            for connection in self._connections if on != "new" else ():
                connection.set(fault, *directions)

    def refuse(self, on: bool = True) -> None:
        """Refuse new TCP connections, or accept them again. Open ones stay open.

        Raises TimeoutError if the proxy's thread does not react.
        """
        with self._lock:
            self._is_refusing = on
            self._waker.wake()
            if not self._lock.wait_for(lambda: self._is_listening is not on, JOIN_TIMEOUT):
                raise TimeoutError(f"the thread of {self} does not react")

    # The thread

    def _run(self) -> None:
        try:
            while True:
                with self._lock:
                    self._waker.clear()
                    if self._is_closing:
                        return
                    reads, writes, timeout = self._advance(time.monotonic())
                select([self._waker.receiver, *reads], writes, timeout)
        finally:
            with self._lock:
                for connection in self._connections:
                    connection._close()
                self._connections.clear()
                self._listener.close()
                self._waker.close()

    def _advance(self, now: float) -> tuple[list[socket.socket], list[socket.socket], float | None]:
        """Do what can be done now, and return what to wait for: reads, writes, a timeout."""
        if self._is_listening is self._is_refusing:
            self._listener.close()
            self._listener = self._bind()
            self._lock.notify_all()
        if self._is_listening:
            self._accept()
        for connection in self._connections:
            connection._advance(now)
        self._connections = [
            connection for connection in self._connections if not connection._is_closed
        ]
        flows = [flow for connection in self._connections for flow in connection._flows.values()]
        reads = [flow.source for flow in flows if flow.wants_read]
        times = [connection._close_at for connection in self._connections] + [
            flow.due for flow in flows
        ]
        soonest = min((due for due in times if due > now), default=NEVER)
        return (
            [*reads, self._listener] if self._is_listening else reads,
            [flow.sink for flow in flows if flow.due <= now],
            None if soonest == NEVER else soonest - now,
        )

    def _bind(self) -> socket.socket:
        listener = bind(*self.address, self._receive_buffer)
        self.address = listener.getsockname()[:2]
        if not self._is_refusing:
            try:
                listener.listen(128)
            except OSError:  # another socket listens on the port
                listener.close()
                raise
        self._is_listening = not self._is_refusing
        return listener

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # no client waits, or it has gone again
        self._dialled += 1
        port = self._venue.port or (443 if self._venue.scheme == "wss" else 80)
        try:
            venue = socket.create_connection((self._venue.hostname, port), DIAL_TIMEOUT)
        except OSError:
            reset_on_close(client)
            client.close()
            return
        self._connections.append(ProxiedConnection(self, self._dialled, client, venue))


class ProxiedConnection:
    """A client's connection through the proxy; `number` counts the connections from 1."""

    def __init__(
        self, proxy: FaultProxy, number: int, client: socket.socket, venue: socket.socket
    ) -> None:
        self.number = number
        self._proxy = proxy
        self._sockets = (client, venue)
        for sock in self._sockets:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._flows: dict[Direction, _Flow] = {
            "to_client": _Flow(venue, client, f"{proxy.seed}/{number}/to_client"),
            "to_venue": _Flow(client, venue, f"{proxy.seed}/{number}/to_venue"),
        }
        self._close_at = NEVER
        self._is_closed = False
        for direction, fault in proxy._faults.items():
            self._flows[direction].set(fault)

    def set(self, fault: Fault, *directions: Direction) -> None:
        """Replace the fault of this connection in `directions`, or in both if none are named."""
        with self._proxy._lock:
            for direction in directions or DIRECTIONS:
                self._flows[direction].set(fault)
            self._proxy._waker.wake()

    def _advance(self, now: float) -> None:
        flows = self._flows.values()
        for flow in flows:
            flow.read(now)
            flow.write(now)
        if "rst" in [flow.struck for flow in flows] or any(flow.was_reset for flow in flows):
            self._close(reset=True)
        elif "fin" in [flow.struck for flow in flows] and self._close_at == NEVER:
            self._close_at = now + CLOSE_TIMEOUT
            for flow in flows:
                flow.finish()
        if all(flow.has_ended for flow in flows) or now >= self._close_at:
            self._close()

    def _close(self, reset: bool = False) -> None:
        if not self._is_closed:
            self._is_closed = True
            for sock in self._sockets:
                if reset:
                    reset_on_close(sock)
                sock.close()


class _Flow:
    """The bytes of one direction, from `source` to `sink`."""

    def __init__(self, source: socket.socket, sink: socket.socket, seed: str) -> None:
        self.source = source
        self.sink = sink
        self.was_reset = False
        self._rng = random.Random(seed)
        self._queue: deque[tuple[float, memoryview]] = deque()
        self._size = 0
        self._next_at = 0.0  # when the next bytes of a limited rate may go
        self._left = sys.maxsize  # bytes that may pass before the fault takes effect
        self._fault = Fault()
        self._at_end = False  # the source has ended its stream
        self._is_shut = False  # the stream to the sink has been ended, or the sink is gone

    def set(self, fault: Fault) -> None:
        self._fault = fault
        self._left = sys.maxsize if fault.stop is None else fault.after

    @property
    def struck(self) -> str | None:
        return self._fault.stop if self._left == 0 else None

    @property
    def wants_read(self) -> bool:
        return not self._at_end and self._size < BUFFER and self.struck != "stall"

    @property
    def due(self) -> float:
        """When the next bytes may be sent (monotonic s)."""
        if not self._queue or self.struck:
            return NEVER
        return max(self._queue[0][0], self._next_at)

    @property
    def has_ended(self) -> bool:
        return self._at_end and not self._queue

    def read(self, now: float) -> None:
        if not self.wants_read:
            return
        try:
            data = bytearray(self.source.recv(BUFFER))
        except WOULD_BLOCK:
            return
        except OSError:
            # Over a dead network no reset arrives.
            self._at_end, self.was_reset = True, self.struck != "deaf"
            return
        if not data:
            self._at_end = True
        elif not self._is_shut and self.struck != "deaf":
            due = max(now + self._fault.delay, self._queue[-1][0] if self._queue else 0.0)
            self._queue.append((due, memoryview(self._corrupt(data))))
            self._size += len(data)

    def write(self, now: float) -> None:
        while self.due <= now:
            due, data = self._queue[0]
            rate = self._fault.rate
            size = len(data) if rate is None else max(1, int(rate * DRIP_INTERVAL))
            try:
                count = self.sink.send(data[: min(size, self._left)])
            except WOULD_BLOCK:
                return
            except OSError:
                self.finish()
                return
            self._size -= count
            self._left -= count if self._fault.stop else 0
            if rate is not None:
                self._next_at = now + count / rate
            if count < len(data):
                self._queue[0] = (due, data[count:])
            else:
                self._queue.popleft()
        if self.struck == "deaf":
            self._drop()
        elif self.has_ended and not self.struck and not self.was_reset:
            self.finish()

    def finish(self) -> None:
        """End the stream to the sink, and discard what is buffered or still arrives."""
        self._drop()
        if not self._is_shut:
            self._is_shut = True
            try:
                self.sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the sink has gone already

    def _drop(self) -> None:
        self._queue.clear()
        self._size = 0

    def _corrupt(self, data: bytearray) -> bytearray:
        rate = self._fault.corrupt
        for i in range(len(data)) if rate else ():
            if self._rng.random() < rate:
                data[i] ^= self._rng.randrange(1, 256)
        return data
