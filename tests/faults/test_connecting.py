"""Row 7: ``connect()`` returns at its deadline, whatever does not answer."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import pytest

import wsclient
from support.helpers import Call, Server, dead_address, expect_end, linux_only, receive_head
from support.matrix import each_size

#: How late the deadline may be (s), on a machine that is not busy and on one that is.
PROMISED, BUSY = 0.25, 1.25
#: The slowest handshake that is alive: one byte per this time (s).
DRIP = 1.0


class Trial(NamedTuple):
    """How late connect() was (s), and what it raised."""

    late: float
    error: BaseException


def attempt(url: str, timeout: float, whole: bool, **options: Any) -> Trial:
    """Call connect() once; return how it ended.

    It is bounded as an attempt or, when ``whole``, as a call.
    """
    bound: dict[str, Any] = {} if whole else {"connect_timeout": timeout}
    client = wsclient.WebSocketClient(url, max_retries=1, **bound, **options)
    with closing(client):
        started = time.monotonic()
        with pytest.raises(wsclient.ConnectError) as caught:
            client.connect(timeout if whole else None)
        return Trial(time.monotonic() - started - timeout, caught.value)


def _drip(sock: socket.socket) -> None:
    receive_head(sock)
    _drip_out(sock, b"HTTP/1.1 101 Switching Protocols\r\nX-Drip: " + b"~" * 1000)


def _drip_out(sock: socket.socket, answer: bytes) -> None:
    gone = threading.Event()
    watching = Call(lambda: (_until_gone(sock), gone.set()))
    for byte in answer:
        sock.send(bytes([byte]))
        if gone.wait(DRIP):
            break
    watching.result()


def _until_gone(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        expect_end(sock)


def _drip_proxy(sock: socket.socket) -> None:
    receive_head(sock)
    _drip_out(sock, b"HTTP/1.1 200 OK\r\nX-Drip: " + b"~" * 1000)


@contextlib.contextmanager
def _server(
    handle: Callable[[socket.socket], None], url: str = "ws://127.0.0.1:{}/"
) -> Iterator[dict[str, Any]]:
    with Server(handle) as server:
        yield {"url": url.format(server.port)}


@contextlib.contextmanager
def _by_proxy(scheme: str, handle: Callable[[socket.socket], None]) -> Iterator[dict[str, Any]]:
    with Server(handle) as server:
        yield {"url": "wss://venue.example/", "proxy": f"{scheme}://127.0.0.1:{server.port}"}


@contextlib.contextmanager
def _full_backlog() -> Iterator[dict[str, Any]]:
    with dead_address() as (host, port):
        yield {"url": f"ws://{host}:{port}/"}


@contextlib.contextmanager
def _slow_dns() -> Iterator[dict[str, Any]]:
    answer = threading.Event()

    def resolve(*_: object, **__: object) -> list[Any]:
        answer.wait(60)
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield {"url": "ws://venue.example/"}
        answer.set()


FAULTS = {
    "full backlog": _full_backlog,
    "mute handshake": lambda: _server(expect_end),
    "mute TLS handshake": lambda: _server(expect_end, "wss://127.0.0.1:{}/"),
    "dripped handshake": lambda: _server(_drip),
    "mute proxy, CONNECT": lambda: _by_proxy("http", expect_end),
    "mute proxy, SOCKS": lambda: _by_proxy("socks5h", expect_end),
    "dripped proxy, CONNECT": lambda: _by_proxy("http", _drip_proxy),
    "slow DNS": _slow_dns,
}


@linux_only
@each_size("trials", short=[4], full=[100], timeout=300)
@pytest.mark.parametrize("fault", FAULTS)
def test_connect_returns_at_its_deadline(
    fault: str, trials: int, promise: Callable[..., None]
) -> None:
    """Several calls run at a time; half are bounded by the option, half by their own timeout."""
    timeout, together = (0.4, 4) if trials < 20 else (3.0, 20)
    done: list[Trial] = []
    with FAULTS[fault]() as target:
        for _ in range(trials // together):
            calls = [
                Call(attempt, timeout=timeout, whole=n % 2 == 0, close_timeout=0.01, **target)
                for n in range(together)
            ]
            done += [call.result(timeout + 10) for call in calls]
    _judge(promise, fault, done, soaking=trials >= 20)
    for trial in done:
        # The attempt or the call has timed out, and nothing else has failed.
        timed_out = (trial.error, trial.error.__cause__)
        assert any(isinstance(error, wsclient.ConnectTimeout) for error in timed_out)


#: Runs in a network namespace of its own: no other process uses its loopback.
DROPPED_SYN = """
import json, subprocess, sys, time
import wsclient

subprocess.run(["ip", "connection", "set", "lo", "up"], check=True)
drop = ["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"]
subprocess.run(drop, check=True)
late = []
for _ in range(int(sys.argv[1])):
    client = wsclient.WebSocketClient("ws://127.0.0.1:9/", max_retries=1, connect_timeout=0.4)
    started = time.monotonic()
    try:
        client.connect()
    except wsclient.ConnectError as error:
        late.append([time.monotonic() - started - 0.4, type(error.__cause__).__name__])
    client.close()
print(json.dumps(late))
"""


@each_size("trials", short=[2], full=[100], timeout=300)
def test_connect_returns_at_its_deadline_when_each_packet_is_dropped(
    trials: int, promise: Callable[..., None]
) -> None:
    for tool in ("unshare", "ip", "iptables"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "iptables", "--list"], capture_output=True, check=False).returncode:
        pytest.skip("a network namespace with iptables needs root")
    command = [*alone, sys.executable, "-c", DROPPED_SYN, str(trials)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert run.returncode == 0, run.stderr
    late = json.loads(run.stdout)
    assert {name for _, name in late} == {"ConnectTimeout"}
    _judge(promise, "dropped SYN", [Trial(x, TimeoutError()) for x, _ in late], trials >= 20)


def _judge(promise: Callable[..., None], fault: str, done: list[Trial], soaking: bool) -> None:
    latest, earliest = max(trial.late for trial in done), min(trial.late for trial in done)
    promise(
        7,
        fault,
        f"connect() returns within its deadline + {PROMISED} s",
        f"+{latest * 1000:.0f} ms at worst of {len(done)}",
        latest <= (PROMISED if soaking else BUSY) and earliest > -0.05,
    )
