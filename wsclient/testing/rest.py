"""Requests by REST to a venue that are no GET, such as the one for a token. Pure."""

from __future__ import annotations

import http
from collections.abc import Mapping
from dataclasses import dataclass

from wsclient.testing.handshakes import HandshakeReply

__all__ = ["RestCall", "RestError", "RestReader", "answered"]

_METHODS = (b"POST ", b"PUT ", b"DELETE ")
#: A longer request (bytes) is not waited for.
_MOST = 1024 * 1024


@dataclass(frozen=True)
class RestCall:
    """A request by REST. The names of `headers` are in lower case.

    `is_secure` says whether it came by TLS.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    is_secure: bool = False


class RestError(bytes):
    """The JSON of an answer with another `status` than 200."""

    status: int

    def __new__(cls, status: int, body: bytes) -> RestError:
        made = super().__new__(cls, body)
        made.status = status
        return made


class RestReader:
    """Reads the first request of a connection, if it is none of a handshake."""

    def __init__(self, is_secure: bool) -> None:
        self._is_secure = is_secure
        self._data = bytearray()

    def add(self, data: bytes) -> bytes | RestCall | None:
        """Return the request once it is whole, else None; all bytes if it is another request."""
        self._data += data
        begin = bytes(self._data[:7])
        if len(self._data) > _MOST or not any(_begins(begin, method) for method in _METHODS):
            return bytes(self._data)
        head, end, body = bytes(self._data).partition(b"\r\n\r\n")
        if not end:
            return None
        line, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = line.partition(" ")
        pairs = (each.partition(":") for each in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        length = headers.get("content-length", "0")
        if len(body) < (int(length) if length.isdecimal() else 0):
            return None
        return RestCall(method, rest.partition(" ")[0], headers, body, self._is_secure)


def _begins(data: bytes, method: bytes) -> bool:
    return method.startswith(data[: len(method)])


def answered(call: RestCall, body: bytes | None) -> HandshakeReply:
    """Return the answer to a request: JSON, or without a body a status 404."""
    status = http.HTTPStatus.NOT_FOUND if body is None else http.HTTPStatus.OK
    if isinstance(body, RestError):
        status = http.HTTPStatus(body.status)
    body = body or b""
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    path = call.path.partition("?")[0]
    return HandshakeReply(head.encode() + body, cause="http", note=f"{call.method} {path}")
