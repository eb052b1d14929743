"""Row 6: reconnects leave nothing behind.

The server is another process: everything that is counted here belongs to the client.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType

import pytest

import wsclient
from support.helpers import Call, until
from support.journal import Journal
from support.matrix import each_size
from support.oracle import CUTS

UNLIMITED = wsclient.Generic(limits=wsclient.Limits(connects=None))
TESTS = Path(__file__).parents[1]
PROC = Path("/proc/self")
FULL = 10_000
#: At any instant a connection may be about to end: the minimum of this many samples is what stays.
SAMPLES = 50


@pytest.fixture
def cutting_server() -> Iterator[str]:
    """Yield the URL of a server that cuts each connection after its first message.

    See journal.py.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "support.journal", "6"],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(10) == 0


@pytest.fixture(params=["gc on", "gc off"])
def collector(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "gc off":
        gc.collect()
        gc.disable()
    yield request.param
    gc.enable()


@pytest.mark.skipif(not PROC.exists(), reason="counts in /proc")
@each_size("reconnects", short=[500], full=[FULL], timeout=600)
def test_reconnects_leave_nothing_behind(
    promise: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    cutting_server: str,
    collector: str,
    reconnects: int,
) -> None:
    caplog.set_level(logging.CRITICAL, "wsclient")  # the records kept by caplog would be counted
    files_before, threads_before = count_files(), threading.active_count()
    counts: list[tuple[int, int]] = []
    resident: dict[int, int] = {}
    with wsclient.connect(
        cutting_server, dialect=UNLIMITED, retry_delay=0, queue_size=10
    ) as client:
        client.subscribe("a")
        while (done := client.stats().disconnects) < reconnects:
            client.recv(timeout=10)
            counts.append((count_files(), threading.active_count()))
            if done >= reconnects // 5:  # until then memory use settles
                resident[done] = resident_bytes()
    until(lambda: threading.active_count() == threads_before)
    # Added to what was there: one socket, and the threads of one reader and of the watchdog.
    files = min(files for files, _ in counts[-SAMPLES:]) - files_before - 1
    threads = min(threads for _, threads in counts[-SAMPLES:]) - threads_before - 2
    assert count_files() == files_before
    growth = slope(resident)
    is_full = reconnects >= FULL
    promise(
        6,
        f"{reconnects} reconnects, {collector}",
        "fds and threads +-0" + (", RSS < 1 kB a reconnect" if is_full else ""),
        f"{max(0, files)} fds, {max(0, threads)} threads, RSS {growth:+.0f} bytes a reconnect",
        max(files, threads) <= 0 and (growth < 1000 or not is_full),
    )


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Turn the garbage collector off for the block: an object in a cycle stays."""
    gc.disable()
    yield
    gc.enable()


def count_ours() -> Counter[str]:
    """Count the objects of the runtime and of websocket-client, by kind."""
    kinds = [o if type(o) is FunctionType else type(o) for o in gc.get_objects()]
    return Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
        if str(kind.__module__).startswith(("wsclient.runtime.", "websocket."))
    )


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("how", CUTS)
def test_an_ended_connection_leaves_nothing_to_the_collector(how: str) -> None:
    with (
        Journal() as server,
        wsclient.connect(server.url, dialect=UNLIMITED, retry_delay=0) as client,
    ):
        client.subscribe("a")
        for n in range(1, 5):
            server.wait_for(lambda server, n=n: len(server.connections) == n and server.live)
            server.wait_for(lambda server: server.live[0].subscriptions)
            server.publish("a")
            client.recv(timeout=5)
            if n == 2:
                # The last failure is kept; its traceback keeps its connection.
                before = count_ours()
            CUTS[how](server.live[0])  # type: ignore[arg-type]
        server.wait_for(lambda server: server.live and server.live[0].subscriptions)
        until(lambda: not count_ours() - before)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 503 No\r\n\r\n", b"HTTP/1.1 101 Yes\r\n\r\n", None]
)
def test_a_failed_attempt_leaves_nothing_to_the_collector(answer: bytes | None) -> None:
    def refuse() -> None:
        for _ in range(4):
            sock, _ = listener.accept()
            with sock:
                sock.recv(4096)
                sock.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        if answer is None:
            listener.close()  # no socket listens there
        else:
            server = Call(refuse)
        client = wsclient.WebSocketClient(url, dialect=UNLIMITED, retry_delay=0, max_retries=2)
        with pytest.raises(wsclient.ConnectError):
            client.connect()
        before = count_ours()  # the last failure is kept
        with pytest.raises(wsclient.ConnectError):
            client.connect()
        until(lambda: not count_ours() - before)
        client.close()
        if answer is not None:
            server.result()


def count_files() -> int:
    return len(os.listdir(PROC / "fd"))


def resident_bytes() -> int:
    return int((PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def slope(values: dict[int, int]) -> float:
    """Return the slope of the line that fits best."""
    middle, mean = sum(values) / len(values), sum(values.values()) / len(values)
    above = sum((x - middle) * (y - mean) for x, y in values.items())
    return above / sum((x - middle) ** 2 for x in values)
