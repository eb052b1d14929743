"""A proxy that speaks HTTP CONNECT and SOCKS5."""

from __future__ import annotations

import base64
import select
import socket
import struct
import threading

from support.helpers import expect_end, receive, receive_head


class Proxy:
    """A handler for :class:`Server`: HTTP CONNECT and SOCKS5, or a fault."""

    def __init__(self, fault: str | None = None, pieces: bool = False, before: bytes = b"") -> None:
        self.fault = fault
        self.pieces = pieces
        self.before = before
        self.asked: list[str] = []
        self.logins: list[str] = []
        self.stop = threading.Event()

    def __call__(self, sock: socket.socket) -> None:
        sock.settimeout(5)
        if self.fault == "mute":
            expect_end(sock)
        elif sock.recv(1, socket.MSG_PEEK) == b"\x05":
            self._socks(sock)
        else:
            self._http(sock)

    def _http(self, sock: socket.socket) -> None:
        request = receive_head(sock).decode()
        self.asked.append(request.split("\r\n")[0])
        for line in request.split("\r\n"):
            if line.startswith("Proxy-Authorization: Basic "):
                self.logins.append(base64.b64decode(line.split()[-1]).decode())
        if self.fault is not None:
            sock.sendall(b"HTTP/1.1 " + self.fault.encode() + b"\r\n\r\n")
            return
        host, _, port = request.split()[1].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as target:
            answer = self.before
            answer += b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"
            for byte in answer if self.pieces else ():
                sock.sendall(bytes([byte]))
                self.stop.wait(0.001)
            sock.sendall(b"" if self.pieces else answer)
            relay(sock, target)

    def _socks(self, sock: socket.socket) -> None:
        _, count = receive(sock, 2)
        methods = receive(sock, count)
        method = 2 if 2 in methods else 0
        sock.sendall(bytes([5, method]))
        if method == 2:
            receive(sock, 1)
            name = receive(sock, receive(sock, 1)[0]).decode()
            password = receive(sock, receive(sock, 1)[0]).decode()
            self.logins.append(f"{name}:{password}")
            sock.sendall(bytes([1, 1 if self.fault == "login" else 0]))
        _, _, _, kind = receive(sock, 4)
        if kind == 3:
            host = receive(sock, receive(sock, 1)[0]).decode()
        else:
            host = socket.inet_ntoa(receive(sock, 4))
        (port,) = struct.unpack(">H", receive(sock, 2))
        self.asked.append(f"{host}:{port}")
        if self.fault == "drip":
            # A reply of 262 bytes, so slow that its client would take 13 s to read it.
            for byte in bytes([5, 0, 0, 3, 255]) + bytes(257):
                sock.sendall(bytes([byte]))
                if self.stop.wait(0.05):
                    return
        if self.fault is not None:
            sock.sendall(bytes([5, 5, 0, 1]) + bytes(6))
            return
        with socket.create_connection((host, port), timeout=5) as target:
            sock.sendall(bytes([5, 0, 0, 1]) + bytes(6))
            relay(sock, target)


def relay(a: socket.socket, b: socket.socket) -> None:
    while True:
        for sock in select.select([a, b], [], [], 5)[0]:
            data = sock.recv(65536)
            if not data:
                return
            (b if sock is a else a).sendall(data)
