"""What our client holds: a backlog, bounded queues, and many idle connections of all clients."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

from generic_clients import (
    Result,
    Run,
    connect_ours,
    connect_websockets,
    subscribe_message,
    subscribe_websockets,
)
from payloads import CHANNELS

# Memory.


def rss() -> int:
    """Return the resident memory (bytes) of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _wait_for_all(client: Any, wanted: int) -> tuple[float, int]:
    """Wait until ``wanted`` were received. Return their rate and the highest RSS (bytes)."""
    started, first, peak = 0.0, 0, 0
    deadline = time.monotonic() + 60
    while True:
        messages = client.stats().messages
        now = time.monotonic()
        peak = max(peak, rss())
        if messages and not started:
            started, first = now, messages
        if messages >= wanted:
            return (wanted - first) / max(now - started, 1e-9), peak
        if now > deadline:
            raise AssertionError(f"{messages} of {wanted} came")
        time.sleep(0.005)


def backlog(client: str, run: Run) -> Result:
    """Measure the cost per message in an unbounded queue that nobody reads."""
    traced = run.settings["traced"]
    with connect_ours(run, queue_size=None, queue_bytes=None) as connection:
        gc.collect()
        if traced:
            tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0] if traced else rss()
        connection.subscribe(*CHANNELS)
        _wait_for_all(connection, run.count)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0] if traced else rss()
        queued = connection.stats().queued
    if queued != run.count:
        raise AssertionError(f"{queued} of {run.count} are queued")
    return {"each": (after - before) / queued - run.size.length}


def overflow(client: str, run: Run) -> Result:
    """Run at full speed into a bounded queue with a slow reader or none.

    ``busy`` is how long (s) the reader takes per message; 0 for no reader."""
    busy = run.settings["busy"]
    done = threading.Event()
    seen = missed = 0

    def read() -> None:
        nonlocal seen, missed
        while seen + missed < run.count:
            message = connection.recv(timeout=30)
            seen += 1
            if message.gap is not None:
                missed += message.gap.missed
            if not done.is_set():
                time.sleep(busy)

    with connect_ours(run, **run.settings["options"]) as connection:
        before = rss()
        reader = threading.Thread(target=read)
        if busy:
            reader.start()
        connection.subscribe(*CHANNELS)
        rate, peak = _wait_for_all(connection, run.count)
        stats = connection.stats()
        done.set()
        if not busy:
            reader.start()
        reader.join()
        peak = max(peak, rss())
    return {
        "rate": rate,
        "queued": stats.queued,
        "queued_bytes": stats.queued_bytes,
        "peak": peak - before,
        "seen": seen,
        "missed": missed,
    }


# Many idle connections.


def connections(client: str, run: Run) -> Result:
    """Measure RSS, threads and share of a core per connection, of many idle ones."""
    opened = run.settings["connections"]
    openers = {
        "ours": _open_ours,
        "stock": _open_stock,
        "tuned": _open_tuned,
        "websockets": _open_websockets,
    }
    if client == "picows":
        return asyncio.run(_many_picows(run, opened))
    opener = openers[client]
    keep = [opener(run)]  # the first one pays for imports
    before = _state()
    keep += [opener(run) for _ in range(opened)]
    time.sleep(1.0)
    result = _each(before, _state(), opened)
    used, started = time.process_time(), time.monotonic()
    time.sleep(2.0)
    idle = (time.process_time() - used) / (time.monotonic() - started)
    print(json.dumps({**result, "idle": idle / (opened + 1)}), flush=True)
    os._exit(0)  # closing is not what is measured


async def _many_picows(run: Run, opened: int) -> Result:
    import picows

    async def one() -> Any:
        answered = asyncio.Event()

        class Listener(picows.WSListener):
            def on_ws_connected(self, transport: picows.WSTransport) -> None:
                self.answers = 0
                for channel in CHANNELS:
                    transport.send(picows.WSMsgType.TEXT, subscribe_message(channel).encode())

            def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
                self.answers += 1
                if self.answers == len(CHANNELS):
                    answered.set()

        transport, _ = await picows.ws_connect(Listener, run.url)
        await answered.wait()
        return transport

    keep = [await one()]
    before = _state()
    keep += [await one() for _ in range(opened)]
    await asyncio.sleep(1.0)
    result = _each(before, _state(), opened)
    used, started = time.process_time(), time.monotonic()
    await asyncio.sleep(2.0)
    idle = (time.process_time() - used) / (time.monotonic() - started)
    for transport in keep:
        transport.disconnect()
    return {**result, "idle": idle / (opened + 1)}


def _state() -> tuple[int, int]:
    gc.collect()
    return rss(), threading.active_count()


def _each(before: tuple[int, int], after: tuple[int, int], opened: int) -> Result:
    return {"rss": (after[0] - before[0]) / opened, "threads": (after[1] - before[1]) / opened}


def _open_ours(run: Run) -> Any:
    client = connect_ours(run)
    client.subscribe(*CHANNELS)
    return client


def _open_stock(run: Run, **how: Any) -> Any:
    import websocket

    opened = threading.Event()

    def on_open(app: websocket.WebSocketApp) -> None:
        for channel in CHANNELS:
            app.send(subscribe_message(channel))
        opened.set()

    app = websocket.WebSocketApp(run.url, on_open=on_open, on_message=lambda *_: None)
    threading.Thread(target=app.run_forever, kwargs=how, daemon=True).start()
    opened.wait(10)
    return app


def _open_tuned(run: Run) -> Any:
    return _open_stock(run, skip_utf8_validation=True)


def _open_websockets(run: Run) -> Any:
    connection = connect_websockets(run)
    subscribe_websockets(connection)
    return connection
