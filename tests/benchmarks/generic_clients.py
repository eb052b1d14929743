"""The clients of the generic protocol, each as its users would write it.

All of them subscribe to every channel, touch each message's channel, and check what came last.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import queue
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import payloads
from payloads import CHANNELS, SIZES
from watch import Watch

CERTIFICATE = Path(__file__).parent.parent / "testing" / "localhost.pem"

Result = dict[str, Any]


class Run(Watch):
    """The settings of a run, and the stop-watch that every client uses."""

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        super().__init__()
        size, count, rate = settings["size"], settings["count"], settings.get("rate", 0)
        self.url = f"{url}/?size={size}&count={count}&rate={rate}"
        self.size = SIZES[size]
        self.count: int = count
        self.settings = settings
        self.ssl: ssl.SSLContext | None = None
        if url.startswith("wss:"):
            self.ssl = ssl.create_default_context(cafile=str(CERTIFICATE))
        #: The last message of each channel.
        self.last: dict[str, Any] = {}

    def result(self, missed: int = 0, **more: Any) -> Result:
        """Return messages per second, processor time (us) per message, and messages missed."""
        for channel, sequence in payloads.last_sequences(self.count).items():
            found = self.last[channel]
            found = found["sequence"] if isinstance(found, dict) else found.sequence
            if found != sequence:
                raise AssertionError(f"{channel} ended at {found} instead of {sequence}")
        return self.figures(self.count, missed, **more)


def subscribe_message(channel: str) -> str:
    return json.dumps({"type": "subscribe", "channel": channel})


# Ours.


def connect_ours(run: Run, **options: Any) -> Any:
    import wsclient

    client = wsclient.WebSocketClient(run.url, ssl_context=run.ssl, **options)
    client.connect()
    return client


def ours(run: Run) -> Result:
    """Our client with everything on: ``for message in client``, and dicts."""
    last, wanted, count, missed = run.last, run.count, 0, 0
    with connect_ours(run) as client:
        client.subscribe(*CHANNELS)
        for message in client:
            if not count:
                run.start()
            if message.gap is not None:
                missed += message.gap.missed
            data = message.data
            last[message.channel] = data
            data["channel"]
            count += 1
            if count + missed >= wanted:
                break
        run.end()
        return run.result(missed)


def ours_typed(run: Run) -> Result:
    """Our client with a declared type: each message's ``data`` is a Struct."""
    last, wanted, count, missed = run.last, run.count, 0, 0
    with connect_ours(run, decode=run.size.typed) as client:
        client.subscribe(*CHANNELS)
        for message in client:
            if not count:
                run.start()
            if message.gap is not None:
                missed += message.gap.missed
            data = message.data
            last[message.channel] = data
            data.channel  # noqa: B018 - touched, as by all
            count += 1
            if count + missed >= wanted:
                break
        run.end()
        return run.result(missed)


def ours_untouched(run: Run) -> Result:
    """Our client with ``data`` never read: the cost of the client itself."""
    last, wanted, count, missed = run.last, run.count, 0, 0
    with connect_ours(run) as client:
        client.subscribe(*CHANNELS)
        for message in client:
            if not count:
                run.start()
            if message.gap is not None:
                missed += message.gap.missed
            last[message.channel] = message
            count += 1
            if count + missed >= wanted:
                break
        run.end()
        return run.result(missed)


# websocket-client: the usual recipe, and the same tuned.


def _stock(run: Run, loads: Callable[[Any], Any], take: Callable[[Any], Any], **how: Any) -> None:
    import websocket

    inbox: queue.Queue[Any] = queue.Queue()

    def on_open(app: websocket.WebSocketApp) -> None:
        for channel in CHANNELS:
            app.send(subscribe_message(channel))

    def on_message(_: websocket.WebSocketApp, text: Any) -> None:
        data = loads(text)
        if data["type"] == "market_data":
            inbox.put(data)

    app = websocket.WebSocketApp(run.url, on_open=on_open, on_message=on_message)
    if run.ssl is not None:
        how["sslopt"] = {"context": run.ssl}
    threading.Thread(target=app.run_forever, kwargs=how, daemon=True).start()
    while take(inbox.get()):
        pass


def _count(run: Run) -> Callable[[Any], bool]:
    """Return a function that counts a message's dict; it returns False for the last one."""
    last, wanted, count = run.last, run.count, 0

    def take(data: Any) -> bool:
        nonlocal count
        if not count:
            run.start()
        last[data["channel"]] = data
        count += 1
        if count < wanted:
            return True
        run.end()
        return False

    return take


def stock(run: Run) -> Result:
    """websocket-client with ``run_forever``, ``json`` and ``queue.Queue``."""
    _stock(run, json.loads, _count(run))
    return run.result()


def tuned(run: Run) -> Result:
    """websocket-client with ``skip_utf8_validation`` and orjson."""
    import orjson

    _stock(run, orjson.loads, _count(run), skip_utf8_validation=True)
    return run.result()


# websockets.sync.


def connect_websockets(run: Run) -> Any:
    from websockets.sync.client import connect

    return connect(run.url, ssl=run.ssl, compression=None)


def subscribe_websockets(connection: Any) -> None:
    for channel in CHANNELS:
        connection.send(subscribe_message(channel))
    for _ in CHANNELS:
        connection.recv()


def websockets_sync(run: Run) -> Result:
    """websockets.sync with ``for message in connection`` and orjson."""
    from orjson import loads

    last, wanted, count = run.last, run.count, 0
    with connect_websockets(run) as connection:
        subscribe_websockets(connection)
        for message in connection:
            if not count:
                run.start()
            data = loads(message)
            last[data["channel"]] = data
            count += 1
            if count == wanted:
                break
        run.end()
    return run.result()


def websockets_typed(run: Run) -> Result:
    """websockets.sync with ``for message in connection`` and a msgspec Struct."""
    decode: Callable[[Any], Any] = msgspec.json.Decoder(run.size.typed).decode
    last, wanted, count = run.last, run.count, 0
    with connect_websockets(run) as connection:
        subscribe_websockets(connection)
        for message in connection:
            if not count:
                run.start()
            data = decode(message)
            last[data.channel] = data
            count += 1
            if count == wanted:
                break
        run.end()
    return run.result()


# picows.


def _picows(run: Run, on_data: Callable[[Any], bool]) -> None:
    """Pass each frame after the answers to ``on_data``, which returns False for the last one."""
    import picows

    answers = len(CHANNELS)

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            for channel in CHANNELS:
                transport.send(picows.WSMsgType.TEXT, subscribe_message(channel).encode())

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            nonlocal answers
            if answers:
                answers -= 1
            elif not on_data(frame):
                transport.disconnect()

    async def main() -> None:
        transport, _ = await picows.ws_connect(Listener, run.url, ssl_context=run.ssl)
        await transport.wait_disconnected()

    asyncio.run(main())


def picows_dict(run: Run) -> Result:
    """picows with orjson in the callback."""
    from orjson import loads

    last, wanted, count = run.last, run.count, 0

    def on_data(frame: Any) -> bool:
        nonlocal count
        if not count:
            run.start()
        data = loads(frame.get_payload_as_memoryview())
        last[data["channel"]] = data
        count += 1
        if count < wanted:
            return True
        run.end()
        return False

    _picows(run, on_data)
    return run.result()


def picows_typed(run: Run) -> Result:
    """picows with a msgspec Struct in the callback."""
    decode: Callable[[Any], Any] = msgspec.json.Decoder(run.size.typed).decode
    last, wanted, count = run.last, run.count, 0

    def on_data(frame: Any) -> bool:
        nonlocal count
        if not count:
            run.start()
        data = decode(frame.get_payload_as_memoryview())
        last[data.channel] = data
        count += 1
        if count < wanted:
            return True
        run.end()
        return False

    _picows(run, on_data)
    return run.result()


# The limit of the pipe.


def raw(run: Run) -> Result:
    """A loop of ``recv_into`` alone: the limit of the feed and the socket."""
    sock = _raw_socket(run)
    wanted = run.count * run.size.frame_length
    buffer = bytearray(256 * 1024)
    received = sock.recv_into(buffer)
    run.start()
    while received < wanted:
        got = sock.recv_into(buffer)
        if not got:
            raise AssertionError("the feed ended early")
        received += got
    run.end()
    sock.close()
    return run.figures(run.count)


def _raw_socket(run: Run) -> Any:
    """Connect and subscribe with websocket-client. Return its bare socket."""
    import websocket

    connection = websocket.create_connection(
        run.url, skip_utf8_validation=True, sslopt={"context": run.ssl} if run.ssl else None
    )
    for channel in CHANNELS:
        connection.send(subscribe_message(channel))
    for _ in CHANNELS:
        connection.recv()
    return connection.sock


THROUGHPUT: dict[str, Callable[[Run], Result]] = {
    "ours": ours,
    "ours typed": ours_typed,
    "ours untouched": ours_untouched,
    "stock": stock,
    "tuned": tuned,
    "websockets": websockets_sync,
    "websockets typed": websockets_typed,
    "picows": picows_dict,
    "picows typed": picows_typed,
    "raw": raw,
}


# What statistics cost.


def statistics(client: str, run: Run) -> Result:
    """Run our loop, with statistics on and off by turns.

    Return the processor time (us) per message in each turn, of all threads, as the reader does
    most of the work. ``slice`` is the number of messages per turn.
    """
    import unmeasured

    import wsclient

    switch, each = unmeasured.Switch(), run.settings["slice"]
    turns: dict[bool, list[float]] = {True: [], False: []}
    # On, off, off, on: what a machine does with time cancels out. The first turn settles.
    order = itertools.cycle((True, False, False, True))
    last, touches, count, due, is_on = run.last, client == "ours", 0, each, True
    dialect = wsclient.Generic(timestamp_field="sent")  # its lag behind the feed is measured too
    with connect_ours(run, dialect=dialect) as connection:
        connection.subscribe(*CHANNELS)
        used = 0.0
        for message in connection:
            if touches:
                last[message.channel] = message.data
            count += 1
            if count < due:
                continue
            now = time.process_time()
            if used:
                turns[is_on].append((now - used) / each * 1e6)
            if count >= run.count:
                break
            due += each
            is_on = next(order)
            switch.turn(is_on)
            used = time.process_time()
    return {"on": turns[True], "off": turns[False]}


# Latency: the same loops, with each message's time on the way.


class Latencies:
    """A collector of times (us) from the feed's send to the decoded message in the user's code."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._found: list[int] = []

    def take(self, data: Any) -> bool:
        found = self._found
        found.append(time.monotonic_ns() - data["sent"])
        if len(found) == 1:
            self._run.start()
        if len(found) < self._run.count:
            return True
        self._run.end()
        return False

    def result(self) -> Result:
        """Return the quantiles without the first tenth, in which caches and buffers settle."""
        settled = sorted(self._found[len(self._found) // 10 :])
        return {
            "p50": settled[len(settled) // 2] / 1e3,
            "p99": settled[len(settled) * 99 // 100] / 1e3,
            "share": self._run.figures(self._run.count)["rate"] / self._run.settings["rate"],
        }


def latency(client: str, run: Run) -> Result:
    latencies = Latencies(run)
    take = latencies.take
    if client == "ours":
        with connect_ours(run) as connection:
            connection.subscribe(*CHANNELS)
            for message in connection:
                if not take(message.data):
                    break
    elif client == "stock":
        _stock(run, json.loads, take)
    elif client == "tuned":
        from orjson import loads

        _stock(run, loads, take, skip_utf8_validation=True)
    elif client == "websockets":
        from orjson import loads

        with connect_websockets(run) as connection:
            subscribe_websockets(connection)
            for message in connection:
                if not take(loads(message)):
                    break
    elif client == "raw":
        _take_raw(run, take)
    else:
        from orjson import loads

        _picows(run, lambda frame: take(loads(frame.get_payload_as_memoryview())))
    return latencies.result()


def _take_raw(run: Run, take: Callable[[Any], bool]) -> None:
    """Take messages from a bare socket with orjson: the lowest latency possible."""
    from orjson import loads

    sock = _raw_socket(run)
    buffer = b""
    while True:
        buffer += sock.recv(65536)
        at = 0
        while len(buffer) >= at + 4:
            start = at + 4
            end = start + int.from_bytes(buffer[at + 2 : start], "big")
            if len(buffer) < end:
                break
            if not take(loads(buffer[start:end])):
                return
            at = end
        buffer = buffer[at:]
