"""The server that feeds the clients: a process of its own, plain blocking sockets.

The URL says what a connection gets. ``/?size=small&count=1000&rate=0`` is for the tables of the
generic protocol (``rate`` in messages per second, 0 for as fast as the socket takes them): the feed
waits until every channel is subscribed to, and answers each.

``/kind/binance aggTrade/4/1000`` is for those of the venues: a kind, its channels, its frames. The
feed answers as the venue does, until the client sends ``go``. A client that does not speak the
venue's protocol adds ``/plain``, and gets what the venue sends first of its channels, such as
snapshots, and then the frames. ``cut`` ends the connection. A GET below the same path is answered
as by the venue's REST address.

After its frames the feed answers pings until the client goes. It prints its ports as JSON, and ends
when its standard input does.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import payloads
from answers import Channel, Conversation, greeting
from frames import Stream, header
from kinds import KINDS
from payloads import CHANNELS, FIRST_SEQUENCE, SIZES

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Below this distance from a message's time (ns) the pacing spins instead of sleeping.
_SPIN = 150_000


@lru_cache(maxsize=2)  # their chunks take hundreds of megabytes
def stream_of(kind: str, channels: int) -> Stream:
    return Stream(KINDS[kind], channels)


class Connection:
    """One client, served by one thread."""

    def __init__(self, sock: socket.socket, blobs: dict[str, list[bytes]]) -> None:
        self._sock = sock
        self._blobs = blobs
        self._buffer = bytearray()

    def serve(self) -> None:
        head = self._read_until(b"\r\n\r\n").decode("latin-1")
        target = head.split(" ", 2)[1]
        url = urlsplit(target)
        query = parse_qs(url.query)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        path = unquote(url.path).split("/")[1:]
        if "sec-websocket-key" not in headers:
            self._rest(path, query, headers["host"])
            return
        accept = hashlib.sha1(headers["sec-websocket-key"].encode() + _GUID).digest()
        self._sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n"
        )
        if path[0] == "kind":
            stream = stream_of(path[1], int(path[2]))
            self._serve_kind(stream, int(path[3]), is_plain=path[4:] == ["plain"])
        else:
            self._answer_subscribes()
            size, count = query["size"][0], int(query["count"][0])
            rate = int(query["rate"][0])
            if rate:
                self._send_paced(size, count, rate)
            elif count:
                self._blast(size, count)
        while True:
            self._handle(*self._read_frame())

    # Venues.

    def _serve_kind(self, stream: Stream, count: int, is_plain: bool) -> None:
        stream.prepare(count)  # now: it takes time
        conversation = Conversation(stream.kind.dialect)
        openings = dict(zip(stream.channels, stream.openings, strict=False))
        for each in () if is_plain else greeting(stream.kind.dialect):
            self._send_frame(1, json.dumps(each).encode())
        while True:
            opcode, payload = self._read_frame()
            if opcode != 1:
                self._handle(opcode, payload)
            elif payload == b"go":
                break
            elif payload == b"cut":
                raise EOFError
            else:
                for answer in conversation.received(payload):
                    if isinstance(answer, Channel):
                        self._sock.sendall(openings.get(answer, b""))
                    else:
                        self._send_frame(1, answer)
        if is_plain:
            self._sock.sendall(b"".join(stream.openings))
        for chunk in stream.chunks(count):
            self._sock.sendall(chunk)
            self._handle_what_came()

    def _rest(self, path: list[str], query: dict[str, list[str]], host: str) -> None:
        """Answer a request for a token, or for the snapshot of a book."""
        answer: Any
        if "bullet-public" in path:
            server = {"endpoint": f"ws://{host}/{quote('/'.join(path[:4]))}"}
            data = {"token": "none", "instanceServers": [server]}
            answer = json.dumps({"code": "200000", "data": data}).encode()
        else:
            answer = stream_of(path[1], int(path[2])).rest(query["symbol"][0])
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
        self._sock.sendall(head.encode() + answer)

    def _answer_subscribes(self) -> None:
        missing = set(CHANNELS)
        while missing:
            opcode, payload = self._read_frame()
            if opcode != 1:
                self._handle(opcode, payload)
                continue
            request = json.loads(payload)
            if request["type"] == "subscribe":
                missing.discard(request["channel"])
                answer = {
                    "type": "subscription",
                    "channel": request["channel"],
                    "status": "success",
                }
                self._send_frame(1, json.dumps(answer).encode())

    # Sending.

    def _blast(self, size: str, count: int) -> None:
        """Send ``count`` frames at full speed, starting again at the first when they run out."""
        frame_length = SIZES[size].frame_length
        while count:
            for chunk in self._blobs[size]:
                frames = min(count, len(chunk) // frame_length)
                self._sock.sendall(memoryview(chunk)[: frames * frame_length])
                count -= frames
                if not count:
                    return
                self._handle_what_came()

    def _send_paced(self, size: str, count: int, rate: int) -> None:
        """Send ``count`` messages at ``rate`` per second, each with its time of sending."""
        turn = payloads.halves(SIZES[size])
        channels, period = len(CHANNELS), len(turn)
        now = time.monotonic_ns
        start = now() + 20_000_000
        n = 0
        while n < count:
            due = start + n * 1_000_000_000 // rate
            wait = due - now()
            if wait > _SPIN:
                self._handle_what_came()
                time.sleep((wait - _SPIN / 2) / 1e9)
                continue
            if wait > 0:
                continue
            # Send all that are due in one call; a late feed does not send a long burst.
            due_now = min(count, (now() - start) * rate // 1_000_000_000 + 1, n + 64)
            frames = []
            for i in range(n, due_now):
                before, between, after = turn[i % period]
                sequence = FIRST_SEQUENCE + i // channels
                frames.append(
                    payloads.frame(b"%b%d%b%d%b" % (before, sequence, between, now(), after))
                )
            self._sock.sendall(b"".join(frames))
            n = due_now

    def _send_frame(self, opcode: int, payload: bytes) -> None:
        head = bytearray(header(len(payload)))
        head[0] = 0x80 | opcode
        self._sock.sendall(head + payload)

    # Receiving: just enough of the protocol for well-behaved clients.

    def _handle_what_came(self) -> None:
        while self._is_readable():
            self._handle(*self._read_frame())

    def _is_readable(self) -> bool:
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return True
        return bool(self._buffer) or bool(select.select([self._sock], [], [], 0)[0])

    def _handle(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            self._send_frame(10, payload)
        elif opcode == 8:
            self._send_frame(8, payload[:2])
            raise EOFError

    def _read_frame(self) -> tuple[int, bytes]:
        first, second = self._read(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self._read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._read(8))
        mask = self._read(4)
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self._read(length)))
        return first & 0x0F, payload

    def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    def _read_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._fill()
        return self._read(self._buffer.index(end) + len(end))

    def _fill(self) -> None:
        received = self._sock.recv(65536)
        if not received:
            raise EOFError
        self._buffer += received


def _serve(sock: socket.socket, tls: ssl.SSLContext | None, blobs: dict[str, list[bytes]]) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_side=True)
        Connection(sock, blobs).serve()
    except (EOFError, OSError):
        pass  # the client has gone
    finally:
        sock.close()


def _accept(
    listener: socket.socket, tls: ssl.SSLContext | None, blobs: dict[str, list[bytes]]
) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_serve, args=(sock, tls, blobs), daemon=True).start()


def _listeners(certificate: str | None) -> Iterator[tuple[str, ssl.SSLContext | None]]:
    yield "ws", None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        yield "wss", tls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, help="run on this core only")
    parser.add_argument("--certificate", help="PEM of key and certificate, for wss")
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    blobs = {name: list(payloads.chunks(size)) for name, size in SIZES.items()}
    ports = {}
    for scheme, tls in _listeners(arguments.certificate):
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        ports[scheme] = listener.getsockname()[1]
        threading.Thread(target=_accept, args=(listener, tls, blobs), daemon=True).start()
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
