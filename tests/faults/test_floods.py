"""Rows 9 and 24: floods from a venue.

Row 9: a venue that sends without end is refused at once, with the right code, in little memory. Row
24: one that floods a client with small frames fills no memory, and holds up nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import wsclient
from support.helpers import Call, Server, handshake_answer, receive_head, until
from support.inside import outbox_of
from support.matrix import each_size, percentile

MIB = 1024 * 1024
GB = 1 << 30
#: ``max_message_size`` here (bytes): far above the memory of an interpreter itself.
LIMIT = 32 * MIB
#: How long the refusal may take (s), on a machine that is not busy and on one that is.
PROMISED, BUSY = 1.0, 5.0
#: How much the venue sends at most (bytes).
amounts = each_size("amount", short=[64 * MIB], full=[GB], timeout=120)

CONTINUATION, TEXT, BINARY, UNKNOWN, PING = 0x0, 0x1, 0x2, 0x3, 0x9


class Flood(NamedTuple):
    """What comes first, what is then repeated, and the close code that answers it."""

    first: bytes
    again: bytes
    code: int


def head(opcode: int, length: int, bits: int = 0x80, mask: int = 0) -> bytes:
    return bytes([bits | opcode, mask | 127]) + struct.pack(">Q", length)


BEGUN = bytes([TEXT, 1]) + b"x"
ONE, NONE = bytes([CONTINUATION, 1]) + b"x", bytes([CONTINUATION, 0])
LONG = head(CONTINUATION, 1 << 16, bits=0) + b"x" * (1 << 16)
FLOODS = {
    "2^40 bytes declared": Flood(head(BINARY, 1 << 40), b"", 1009),
    "2^40 bytes declared, and sent": Flood(head(BINARY, 1 << 40), bytes(MIB), 1009),
    "1 GB frame": Flood(head(TEXT, GB), b"x" * MIB, 1009),
    "endless fragments of 64 kB": Flood(BEGUN, LONG, 1009),
    "endless fragments of 1 byte": Flood(BEGUN, ONE * 10_000, 1009),
    "endless empty fragments": Flood(BEGUN, NONE * 10_000, 1009),
    "not UTF-8, in a long frame": Flood(head(TEXT, LIMIT) + b"\xff" * 9000, b"x" * MIB, 1007),
    "not UTF-8, late": Flood(BEGUN + LONG * 100 + head(CONTINUATION, MIB), b"\xff" * MIB, 1007),
    "masked 1 GB frame": Flood(head(BINARY, GB, mask=0x80) + bytes(4), bytes(MIB), 1002),
    "1 GB frame with a reserved bit": Flood(head(BINARY, GB, 0xC0), bytes(MIB), 1002),
    "1 GB frame of no known kind": Flood(head(UNKNOWN, GB), bytes(MIB), 1002),
    "1 GB ping": Flood(head(PING, GB), bytes(MIB), 1002),
}


class Peak:
    """The most memory that this process takes in a ``with`` block, above its start (MiB)."""

    def __enter__(self) -> Peak:
        peak = Path("/proc/self/clear_refs")
        if not os.access(peak, os.W_OK):
            pytest.skip("this machine does not report a process's peak of memory")
        gc.collect()
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # otherwise memory that earlier tests freed would hide what this one takes
        peak.write_text("5")  # the peak is reset
        self._before = self._read("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.growth = (self._read("VmHWM") - self._before) / 1024

    def _read(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return int(found[1])


def pour(sock: socket.socket, first: bytes, again: bytes, amount: int) -> None:
    """Send as fast as the client takes it, until it hangs up or ``amount`` is sent."""
    with contextlib.suppress(OSError):
        sock.sendall(first)
        for _ in range(amount // len(again) if again else 0):
            sock.sendall(again)


def close_code(sock: socket.socket) -> int | None:
    """Return the code of the close frame that the client sends; it sends nothing else."""
    data = bytearray()
    with contextlib.suppress(OSError):
        while piece := sock.recv(4096):
            data += piece
    if len(data) < 8 or data[0] != 0x88:
        return None
    key, body = data[2:6], data[6:8]
    return int.from_bytes(bytes(a ^ b for a, b in zip(body, key, strict=False)), "big")


@amounts
@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_refused(name: str, amount: int, promise: Callable[..., None]) -> None:
    flood = FLOODS[name]
    codes: list[int | None] = []
    clock: list[float] = []

    def venue(sock: socket.socket) -> None:
        sock.sendall(handshake_answer(receive_head(sock)))
        reading = Call(close_code, sock)
        clock.append(time.monotonic())
        pour(sock, flood.first, flood.again, amount)
        codes.append(reading.result())

    with Server(venue) as server, Peak() as peak:
        client = wsclient.connect(server.url, max_message_size=LIMIT, max_reconnects=0)
        with closing(client), pytest.raises(wsclient.ReconnectError) as caught:
            client.recv(timeout=30)
        took = time.monotonic() - clock[0]
    assert isinstance(caught.value.__cause__, wsclient.ConnectionLost)
    assert caught.value.__cause__.code == flood.code
    assert codes == [flood.code], "what the venue has read"
    _judge(promise, name, f"{flood.code}, ", took, peak, amount)


@amounts
def test_a_venue_that_pings_and_does_not_read_fills_no_memory(
    amount: int, promise: Callable[..., None]
) -> None:
    """Each ping asks for a pong of its size, which waits as long as the venue reads a bit."""
    pings = (bytes([0x80 | PING, 125]) + bytes(125)) * 1000
    data = b'{"type":"market_data","channel":"a"}'

    def venue(sock: socket.socket) -> None:
        sock.sendall(handshake_answer(receive_head(sock)))
        pour(sock, b"", pings, min(amount, 256 * MIB) // 4)
        pour(sock, bytes([0x81, len(data)]) + data, b"", 0)
        server.closing.wait(30)

    with Server(venue) as server, Peak() as peak:
        client = wsclient.connect(server.url, send_timeout=None, ping_interval=None)
        with closing(client):
            outbox, waiting = outbox_of(client), [0]
            # The most: at the end, the system may have taken all of it.
            until(lambda: waiting.append(outbox.waiting) or client.latest("a"), timeout=50)
            server.closing.set()
    most = max(waiting)
    promise(
        9,
        "endless pings, nothing read",
        "at most 64 kB of pongs wait",
        f"{most / 1024:.0f} kB, memory +{peak.growth:.1f} MiB",
        0 < most < 65 * 1024 and peak.growth < 8,
    )


def _status_line() -> bytes:
    return b"HTTP/1.1 500 Internal Server Error\r\n"


def _chunks() -> bytes:
    return b"10000\r\n" + b"x" * 0x10000 + b"\r\n"


HTTP_FLOODS = {
    "endless headers": (b"HTTP/1.1 101 Switching Protocols\r\n", b"X-Pad: 1\r\n" * 1000),
    "endless header": (b"HTTP/1.1 101 Switching Protocols\r\nX-Pad: ", b"x" * MIB),
    "endless status line": (b"HTTP/1.1 101 ", b"x" * MIB),
    "endless headers of an error": (_status_line(), b"X-Pad: 1\r\n" * 1000),
    "endless error body": (_status_line() + b"\r\n", b"x" * MIB),
    "error body of 2^40 bytes": (
        _status_line() + b"Content-Length: %d\r\n\r\n" % (1 << 40),
        b"x" * MIB,
    ),
    "endless error body in chunks": (
        _status_line() + b"Transfer-Encoding: chunked\r\n\r\n",
        _chunks() * 16,
    ),
}


@amounts
@pytest.mark.parametrize("name", HTTP_FLOODS)
def test_a_flood_in_the_handshake_is_refused(
    name: str, amount: int, promise: Callable[..., None]
) -> None:
    first, again = HTTP_FLOODS[name]
    clock: list[float] = []

    def venue(sock: socket.socket) -> None:
        receive_head(sock)
        clock.append(time.monotonic())
        pour(sock, first, again, amount)

    with Server(venue) as server, Peak() as peak:
        with pytest.raises(wsclient.ConnectError) as caught:
            wsclient.connect(server.url, max_message_size=LIMIT, max_retries=1)
        took = time.monotonic() - clock[0]
    assert isinstance(caught.value.__cause__, wsclient.HandshakeRejected)
    assert len(str(caught.value)) < 200
    assert len(caught.value.__cause__.excerpt) <= 512
    _judge(promise, name, "", took, peak, amount)


def _judge(
    promise: Callable[..., None], name: str, code: str, took: float, peak: Peak, amount: int
) -> None:
    promise(
        9,
        name,
        f"{code}fails within {PROMISED:g} s, memory <= 2 x max_message_size",
        f"{took * 1000:.0f} ms, {peak.growth / (LIMIT / MIB):.2f} x",
        took <= (PROMISED if amount == GB else BUSY) and peak.growth <= 2 * LIMIT / MIB,
    )


# Row 24: floods of small frames that each ask for something.


class Wordy(wsclient.Generic):
    """Dialect in which the venue may send everything that a client has to deal with."""

    limits = wsclient.Limits(connects=None)

    def read(self, message: Any) -> Any:
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "notice":
            return wsclient.Notice(message["text"])
        if kind == "beat":
            return wsclient.Respond({"type": "beat", "n": message["n"]})
        if kind == "answer":
            return wsclient.Reply(message["n"], message)
        return super().read(message)


#: The text of the n-th frame.
WORDS: dict[str, Callable[[int], str]] = {
    "channels": lambda n: f'{{"type":"market_data","channel":"channel {n}","sequence":7}}',
    "refusals": lambda n: f'{{"type":"subscription","channel":"channel {n}","error":"no"}}',
    "acks": lambda n: f'{{"type":"subscription","channel":"channel {n}","success":true}}',
    "notices": lambda n: f'{{"type":"notice","text":"notice {n}"}}',
    "heartbeats": lambda n: f'{{"type":"beat","n":{n}}}',
    "replies": lambda n: f'{{"type":"answer","n":{n}}}',
    "unknown types": lambda n: f'{{"type":"type {n}"}}',
    "nonsense": lambda n: f"this is no JSON, {n}",
}
#: Frames to begin with, which are not measured: they fill what is allocated only once.
WARM = 5_000
#: The size of a client's queue (bytes).
QUEUE = MIB
#: How long (s) the watchdog, and the next dial, may take: as promised, and on a busy machine.
TICK, BUSY_TICK = 0.1, 1.0
REDIAL, BUSY_REDIAL = 1.0, 5.0


def text_frames(word: Callable[[int], str], numbers: range) -> bytes:
    bodies = [word(n).encode() for n in numbers]
    return b"".join(bytes([0x81, len(body)]) + body for body in bodies)


class Chatterbox:
    """Venue that sends its flood at ``go``, and cuts the connection at ``cut``."""

    def __init__(self, word: Callable[[int], str], count: int) -> None:
        self._word, self._count = word, count
        self.go, self.poured, self.cut = (threading.Event() for _ in range(3))

    def __call__(self, sock: socket.socket) -> None:
        sock.sendall(handshake_answer(receive_head(sock)))
        reading = Call(expect_end_or_reset, sock)
        if not self.poured.is_set():
            sock.sendall(text_frames(self._word, range(WARM)))
            assert self.go.wait(30)
            for start in range(WARM, WARM + self._count, 1000):
                sock.sendall(text_frames(self._word, range(start, start + 1000)))
            self.poured.set()
            assert self.cut.wait(50)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.socket.shutdown(sock, socket.SHUT_RD)
        reading.result(60)


def expect_end_or_reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass


@pytest.mark.parametrize(
    ("name", "overflow"),
    # Of these frames only messages go to a queue.
    [
        *((name, "drop_oldest") for name in WORDS),
        *(("channels", p) for p in ("drop_newest", "conflate")),
    ],
)
@each_size("count", short=[40_000], full=[600_000], timeout=300)
def test_a_flood_of_words_fills_no_memory_and_holds_up_nothing(
    name: str, overflow: str, count: int, promise: Callable[..., None]
) -> None:
    venue = Chatterbox(WORDS[name], count)
    waits: list[float] = []
    options = {"queue_size": 2000, "queue_bytes": QUEUE, "overflow": overflow, "retry_delay": 0.01}
    with Server(venue) as server:
        client = wsclient.connect(server.url, dialect=Wordy(), **options)
        with closing(client):
            until(lambda: client.stats().frames >= WARM, 10)
            with Peak() as peak:
                venue.go.set()
                while not venue.poured.is_set() or not waits:
                    at = time.monotonic()
                    client.send("{}")
                    waits.append(time.monotonic() - at)
                    venue.poured.wait(0.01)
                at = time.monotonic()
                venue.cut.set()
                until(lambda: server.connections > 1, 20)
                redial = time.monotonic() - at
            at = time.monotonic()
        close = time.monotonic() - at
    is_full = count == 600_000
    tick, late = (TICK, REDIAL) if is_full else (BUSY_TICK, BUSY_REDIAL)
    promise(
        24,
        f"{count} {name}, {overflow}",
        f"memory <= {QUEUE // MIB} + 10 MiB, a tick each {TICK} s, redial within {REDIAL} s",
        f"+{peak.growth:.1f} MiB, longest tick {max(waits):.2f} s, redial {redial:.2f} s",
        peak.growth <= QUEUE / MIB + 10
        and percentile(waits, 99) <= tick
        and redial <= late
        and close <= BUSY,
    )
