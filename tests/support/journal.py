"""An independent oracle: a server of the ``websockets`` library, with append-only journals.

It speaks the generic protocol. Handshake, framing, pings and the closing handshake are the
library's; only what breaks a connection bypasses it, to the transport. Everything happens on one
thread, that of its event loop, and under ``changed``: a journal is in the order of the wire.

As a program it is the other end of many reconnects in a process of its own: it prints its port, and
cuts each connection after the first message that it has sent on it, until its stdin ends.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import random
import socket
import struct
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal, NamedTuple, TypeVar

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN

__all__ = ["Entry", "Journal", "ServedConnection"]

T = TypeVar("T")

#: How long (s) anything may take that is waited for here.
PATIENCE = 10.0


def _on_the_loop(method: Callable[..., T]) -> Callable[..., T]:
    """Run a method on the loop's thread; return its result to the calling thread."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> T:
        return self.run(functools.partial(method, self, *args, **kwargs))

    return call


class Entry(NamedTuple):
    """A message handed to a connection, and whether its frame was sent unchanged."""

    payload: bytes
    is_whole: bool = True


class ServedConnection:
    """One connection.

    ``journal`` is what was sent on it, ``wire`` the same as bytes. A connection is ``live`` until
    one side ends it, and ``closed`` when its socket is.
    """

    def __init__(self, server: Journal, connection: _Connection, id: int) -> None:
        self.id = id
        self.journal: list[Entry] = []
        self.wire = bytearray()
        self.requests: list[dict[str, Any]] = []
        self.subscriptions: set[str] = set()
        self.is_ended = False
        self.closed = False
        self._connection = connection
        self._transport = connection.transport
        self.run = server.run
        self._mangle = server.mangle

    @property
    def live(self) -> bool:
        return not self.is_ended and self._connection.protocol.state is OPEN

    @property
    def pings(self) -> int:
        """Return how many pings the client has sent."""
        return self._connection.pings

    @property
    def pongs(self) -> int:
        return self._connection.pongs

    @_on_the_loop
    def send(self, payload: str) -> None:
        """Send a message if the connection is still live."""
        if self.live:
            frame = self._frame(payload)
            sent = self._mangle(frame)
            self.journal.append(Entry(payload.encode(), sent == frame))
            self._write(sent)

    @_on_the_loop
    def ping(self) -> None:
        if self.live:
            self._connection.protocol.send_ping(b"")
            self._write(b"".join(self._connection.protocol.data_to_send()))

    @_on_the_loop
    def fin(self) -> None:
        """End with a FIN behind all that was sent, without a close frame."""
        if self.live:
            self.is_ended = True
            self._transport.write_eof()

    @_on_the_loop
    def rst(self) -> None:
        """End with a RST at once."""
        if not self._transport.is_closing():
            self.is_ended = True
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    @_on_the_loop
    def half_frame(self, payload: str, then: Literal["fin", "rst"] | None = None) -> None:
        """Send half of a frame, which is not journaled, and then nothing more, or ``then``."""
        if self.live:
            frame = self._frame(payload)
            self._write(frame[: len(frame) // 2])
            if then is None:
                self.is_ended = True
            else:
                getattr(self, then)()

    @_on_the_loop
    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake; the client's answer ends the connection."""
        if self.live:
            self.is_ended = True
            self._connection.protocol.send_close(code, reason)
            self._connection.send_data()

    def _frame(self, payload: str) -> bytes:
        self._connection.protocol.send_text(payload.encode())
        return b"".join(self._connection.protocol.data_to_send())

    def _write(self, data: bytes) -> None:
        self.wire += data
        self._transport.write(data)


class _Connection(ServerConnection):
    """The library's connection, with a count of the control frames that it answers by itself."""

    pings = pongs = 0

    def process_event(self, event: Any) -> None:
        if isinstance(event, Frame):
            self.pings += event.opcode is Opcode.PING
            self.pongs += event.opcode is Opcode.PONG
        super().process_event(event)


class Journal:
    """The server; ``with`` starts and ends it.

    ``mangle`` is given each data frame's bytes, and returns what is to be sent instead.
    ``on_request`` is called before and after each answer, with the connection and ``"before"`` or
    ``"after"``; it may cut the connection.
    """

    def __init__(self, mangle: Callable[[bytes], bytes] = bytes) -> None:
        self.mangle = mangle
        self.on_request: Callable[[ServedConnection, str], None] = lambda served, when: None
        self.connections: list[ServedConnection] = []
        self.changed = threading.Condition(threading.RLock())
        self._numbers: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="journal", daemon=True)
        self.url = ""

    def __enter__(self) -> Journal:
        self._thread.start()
        self._await(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    @property
    def live(self) -> list[ServedConnection]:
        return [served for served in self.connections[-8:] if served.live]

    @_on_the_loop
    def publish(self, channel: str, **fields: Any) -> int:
        """Send the next message of ``channel`` to each live connection subscribed to it.

        Returns its number, which increases even without subscribers.
        """
        number = self._numbers[channel] = self._numbers.get(channel, 0) + 1
        message = {"type": "market_data", "channel": channel, "sequence": number, **fields}
        for served in self.live:
            if channel in served.subscriptions:
                served.send(json.dumps(message))
        return number

    def wait_for(self, predicate: Callable[[Journal], T], timeout: float = PATIENCE) -> T:
        """Block until ``predicate(self)`` is true, and return it; it is tried at each change."""
        with self.changed:
            result = self.changed.wait_for(lambda: predicate(self), timeout)
        assert result, f"not within {timeout} s; {[vars(served) for served in self.live]}"
        return result

    def run(self, function: Callable[[], T]) -> T:
        """Call ``function`` on the loop's thread, with ``changed`` held, and return its result."""

        def call() -> T:
            with self.changed:
                try:
                    return function()
                finally:
                    self.changed.notify_all()

        if threading.current_thread() is self._thread:
            return call()
        future: Future[T] = Future()

        def settle() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                future.set_exception(error)

        self._loop.call_soon_threadsafe(settle)
        return future.result(PATIENCE)

    def _await(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def _start(self) -> None:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            compression=None,
            ping_interval=None,
            create_connection=_Connection,
        )
        host, port = self._server.sockets[0].getsockname()
        self.url = f"ws://{host}:{port}/"

    async def _stop(self) -> None:
        for served in self.connections:
            served.rst()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, _Connection)
        served = self.run(functools.partial(self._opened, connection))
        try:
            async for text in connection:
                self.run(functools.partial(self._received, served, json.loads(text)))
        except ConnectionClosed:
            pass
        self.run(functools.partial(self._closed, served))

    def _opened(self, connection: _Connection) -> ServedConnection:
        served = ServedConnection(self, connection, len(self.connections) + 1)
        self.connections.append(served)
        return served

    def _received(self, served: ServedConnection, request: dict[str, Any]) -> None:
        served.requests.append(request)
        kind, channel = request.get("type"), request.get("channel", "")
        if not served.live or kind not in ("subscribe", "unsubscribe"):
            return
        self.on_request(served, "before")
        if served.live:
            change = (
                served.subscriptions.add if kind == "subscribe" else served.subscriptions.discard
            )
            change(channel)
            answer = {"type": "subscription", "channel": channel, "status": "success"}
            served.send(json.dumps(answer))
            self.on_request(served, "after")

    def _closed(self, served: ServedConnection) -> None:
        served.is_ended = True
        served.closed = True


def _cut_all(seed: int) -> None:
    from support.oracle import CUTS

    rng = random.Random(seed)
    numbers = itertools.count(1)
    with Journal() as server:

        def after_the_first_message(served: ServedConnection, when: str) -> None:
            if when == "after":
                server.publish("a", number=next(numbers))
                CUTS[rng.choice(sorted(CUTS))](served)  # type: ignore[arg-type]
                del server.connections[
                    :-8
                ]  # a server that discards data, so that it does not grow itself

        server.on_request = after_the_first_message
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _cut_all(seed=int(sys.argv[1]))
