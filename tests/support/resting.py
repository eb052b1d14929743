"""A venue's REST server on loopback, which keeps the requests."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from support.helpers import Server, expect_end, receive_head


class Asked(NamedTuple):
    line: str
    headers: dict[str, str]
    body: str


class Rest(NamedTuple):
    url: str
    asked: list[Asked]


@contextlib.contextmanager
def rest(answer: Callable[[int], object]) -> Iterator[Rest]:
    """Run a REST server that gives ``answer(n)`` to the n-th request, from 1 on.

    An answer is JSON, or an integer for a status.
    """

    def handle(sock: socket.socket) -> None:
        line, *headers = receive_head(sock).decode().split("\r\n")[:-2]
        fields = {name.lower(): value for name, value in (h.split(": ", 1) for h in headers)}
        body = b""
        while len(body) < int(fields.get("content-length", 0)):
            body += sock.recv(65536)
        found.asked.append(Asked(line, fields, body.decode()))
        given = answer(len(found.asked))
        status, text = (given, b"") if isinstance(given, int) else (200, msgspec.json.encode(given))
        sock.sendall(b"HTTP/1.1 %d So\r\nContent-Length: %d\r\n\r\n" % (status, len(text)) + text)
        expect_end(sock)

    with Server(handle) as server:
        found = Rest(re.sub("^ws:(.*)/$", r"http:\1", server.url), [])
        yield found
