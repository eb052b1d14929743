"""The clients that take a venue's frames, each as its users would write it.

All of them only decode: the others look at no number, while ours checks sequences, counts, answers
heartbeats and bounds its queue. Any gap, and a wrong last message, fails the run.
"""

from __future__ import annotations

import asyncio
import gc
import json
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from frames import Stream, payload_of
from kinds import KINDS
from shapes import type_of
from watch import Watch

import wsclient
from wsclient.dialect.base import Dialect

Result = dict[str, Any]
#: How many frames show what a user would declare.
EXAMPLES = 80


class Course:
    """One run: ``count`` frames of one kind on some channels."""

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        self.kind = KINDS[settings["kind"]]
        self.count: int = settings["count"]
        self._channels = settings["channels"]
        self._place = f"kind/{quote(str(self.kind))}/{self._channels}/{self.count}"
        self.url = f"{url}/{self._place}"
        #: For clients that do not speak the venue's protocol.
        self.plain_url = f"{self.url}/plain"
        self.stream = Stream(self.kind, self._channels)
        #: The messages that come before those that are measured.
        self.skipped = len(self.stream.openings)
        self.watch = Watch()
        gc.collect()  # what the run before has left

    @property
    def http(self) -> str:
        return self.url.replace("ws://", "http://")

    def dialect(self) -> Dialect:
        match self.kind.dialect:
            case "binance":
                return wsclient.Binance(rest=f"{self.http}/depth")
            case "binance_futures":
                return wsclient.BinanceFutures(rest=f"{self.http}/depth")
            case "kucoin":
                return wsclient.Kucoin(rest=self.http)
            case "bybit":
                return wsclient.Bybit(sequenced=True)
            case name:
                return wsclient.dialects.find(name)

    def connect(self, **options: Any) -> wsclient.WebSocketClient:
        return wsclient.connect(self.url + self.kind.route, dialect=self.dialect(), **options)

    def payloads(self) -> list[bytes]:
        """Return payloads of all shapes."""
        return [
            *map(self.stream.payload, range(EXAMPLES)),
            *map(payload_of, self.stream.openings),
        ]

    def data(self, payload: bytes) -> Any:
        """Return what ``message.data`` is for the last message of a frame."""
        decoded = msgspec.json.decode(payload)
        return decoded["data"][-1] if self.kind.dialect == "kraken" else decoded

    def check(self, data: Any, kind: Any = None, *, is_whole: bool = False) -> None:
        """Raise AssertionError unless ``data`` is the last message, or ``is_whole`` frame."""
        payload = self.stream.payload(self.count - 1)
        expected = msgspec.json.decode(payload) if is_whole else self.data(payload)
        if kind is not None:
            expected = msgspec.convert(expected, kind)
        if data != expected:
            raise AssertionError(f"the last message is {data} instead of {expected}")

    def result(self) -> Result:
        return self.watch.figures(self.count)


# Ours.


def ours(course: Course) -> Result:
    """Our client with everything on: ``for message in client``, and dicts."""
    count, wanted = -course.skipped, course.count * course.kind.items
    with course.connect() as client:
        client.subscribe(*course.stream.channels)
        client.send("go")
        for message in client:
            if not count:
                course.watch.start()
            if message.gap is not None:
                break
            data = message.data
            count += 1
            if count == wanted:
                break
        course.watch.end()
        check_client(client, message)
    course.check(data)
    return course.result()


def ours_typed(course: Course) -> Result:
    """Our client with a declared type."""
    kind = type_of([course.data(payload) for payload in course.payloads()])
    count, wanted = -course.skipped, course.count * course.kind.items
    with course.connect(decode=kind) as client:
        client.subscribe(*course.stream.channels)
        client.send("go")
        for message in client:
            if not count:
                course.watch.start()
            if message.gap is not None:
                break
            data = message.data
            count += 1
            if count == wanted:
                break
        course.watch.end()
        check_client(client, message)
    course.check(data, kind)
    return course.result()


def ours_untouched(course: Course) -> Result:
    """Our client with ``data`` never read."""
    count, wanted = -course.skipped, course.count * course.kind.items
    with course.connect() as client:
        client.subscribe(*course.stream.channels)
        client.send("go")
        for message in client:
            if not count:
                course.watch.start()
            if message.gap is not None:
                break
            count += 1
            if count == wanted:
                break
        course.watch.end()
        check_client(client, message)
    course.check(message.data)
    return course.result()


def check_client(client: Any, message: Any = None) -> None:
    """Raise AssertionError for a gap, or a frame that could not be read."""
    stats = client.stats()
    gap = message.gap if message is not None else None
    if gap is not None or stats.gaps or stats.missed or stats.invalid:
        raise AssertionError(f"a gap or an invalid frame: {gap}\n{stats}")


# Others.


def _loop_over_websockets(course: Course, loads: Callable[[Any], Any], kind: Any) -> Result:
    count, wanted = -course.skipped, course.count
    with websockets_to(course.plain_url) as connection:
        for message in connection:
            if not count:
                course.watch.start()
            data = loads(message)
            count += 1
            if count == wanted:
                break
        course.watch.end()
    course.check(data, kind, is_whole=True)
    return course.result()


def websockets_to(url: str) -> Any:
    """Connect with websockets.sync, and have the frames sent."""
    from websockets.sync.client import connect

    connection = connect(url, compression=None)
    connection.send("go")
    return connection


def websockets_sync(course: Course) -> Result:
    """websockets.sync with orjson."""
    from orjson import loads

    return _loop_over_websockets(course, loads, None)


def _type_of_frames(course: Course) -> Any:
    return type_of([*map(msgspec.json.decode, course.payloads())])


def websockets_typed(course: Course) -> Result:
    """websockets.sync with a msgspec Struct."""
    kind = _type_of_frames(course)
    return _loop_over_websockets(course, msgspec.json.Decoder(kind).decode, kind)


def run_picows(url: str, on_frame: Callable[[Any], bool]) -> None:
    """Call ``on_frame`` with each frame until it returns False."""
    import picows

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            transport.send(picows.WSMsgType.TEXT, b"go")

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if not on_frame(frame):
                transport.disconnect()

    async def main() -> None:
        transport, _ = await picows.ws_connect(Listener, url)
        await transport.wait_disconnected()

    asyncio.run(main())


def _loop_in_picows(course: Course, loads: Callable[[Any], Any], kind: Any) -> Result:
    count, wanted, data = -course.skipped, course.count, None

    def on_frame(frame: Any) -> bool:
        nonlocal count, data
        if not count:
            course.watch.start()
        data = loads(frame.get_payload_as_memoryview())
        count += 1
        if count < wanted:
            return True
        if count == wanted:
            course.watch.end()
        return False

    run_picows(course.plain_url, on_frame)
    course.check(data, kind, is_whole=True)
    return course.result()


def picows_dict(course: Course) -> Result:
    """picows with orjson in the callback."""
    from orjson import loads

    return _loop_in_picows(course, loads, None)


def picows_typed(course: Course) -> Result:
    """picows with a msgspec Struct in the callback."""
    kind = _type_of_frames(course)
    return _loop_in_picows(course, msgspec.json.Decoder(kind).decode, kind)


def stock(course: Course) -> Result:
    """websocket-client with ``run_forever``, ``json`` and ``queue.Queue``."""
    import websocket

    inbox: queue.Queue[Any] = queue.Queue()
    app = websocket.WebSocketApp(
        course.plain_url,
        on_open=lambda app: app.send("go"),
        on_message=lambda _, text: inbox.put(json.loads(text)),
    )
    thread = threading.Thread(target=app.run_forever, daemon=True)
    thread.start()
    count, wanted = -course.skipped, course.count
    while count < wanted:
        data = inbox.get()
        if not count:
            course.watch.start()
        count += 1
    course.watch.end()
    sock: Any = app.sock
    sock.sock.shutdown(socket.SHUT_RDWR)  # app.close() would wait for seconds
    thread.join(5)
    course.check(data, is_whole=True)
    return course.result()


def raw(course: Course) -> Result:
    """A loop of ``recv_into`` alone: the limit of the feed and the socket."""
    import websocket

    connection = websocket.create_connection(course.plain_url, skip_utf8_validation=True)
    connection.send("go")
    sock: Any = connection.sock
    buffer, received = bytearray(256 * 1024), 0
    wanted = course.stream.frames_length(course.count)
    course.watch.start()
    while received < wanted and (got := sock.recv_into(buffer)):
        received += got
    course.watch.end()
    sock.close()
    return course.result()


CLIENTS: dict[str, Callable[[Course], Result]] = {
    "ours": ours,
    "ours typed": ours_typed,
    "ours untouched": ours_untouched,
    "stock": stock,
    "websockets": websockets_sync,
    "websockets typed": websockets_typed,
    "picows": picows_dict,
    "picows typed": picows_typed,
    "raw": raw,
}


def venues(client: str, url: str, settings: dict[str, Any]) -> Result:
    return CLIENTS[client](Course(url, settings))
