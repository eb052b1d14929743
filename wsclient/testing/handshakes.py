"""What a client gets instead of a WebSocket: a broken handshake, a refusal, or a page.

This is pure: `connection` sends it.
"""

from __future__ import annotations

import http
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from websockets.exceptions import NegotiationError
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

__all__ = [
    "HandshakeFailure",
    "HandshakeFault",
    "HandshakeReply",
    "failed",
    "page",
    "refusal",
    "select_subprotocol",
]

HandshakeFault = Literal["deaf", "reset", "eof", "drip", "headers", "garbage"]

DRIP_INTERVAL = 0.05
FLOOD_INTERVAL = 0.0005


@dataclass(frozen=True)
class HandshakeFailure:
    """How one handshake fails: by a fault, or by `reply`, an HTTP response that refuses it."""

    kind: HandshakeFault | Literal["refuse"]
    reply: bytes = b""

    @property
    def is_early(self) -> bool:
        """Whether it takes effect before anything is read, and so before TLS."""
        return self.kind in ("deaf", "reset", "eof")


@dataclass(frozen=True)
class HandshakeReply:
    """Bytes for the client, then one chunk of `more` per `interval` (s).

    Then the connection ends with `cause`, or stays open if that is None. The venue logs `note`.
    """

    data: bytes = b""
    more: Iterator[bytes] | None = None
    interval: float = 0.0
    cause: str | None = None
    note: str | None = None


def refusal(
    status: int, retry_after: int | str | None, body: bytes, headers: Iterable[tuple[str, str]]
) -> HandshakeFailure:
    """Return the failure of a handshake that is answered with an HTTP status."""
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Refused"
    lines = [f"HTTP/1.1 {status} {phrase}", "Connection: close", f"Content-Length: {len(body)}"]
    if retry_after is not None:
        lines.append(f"Retry-After: {retry_after}")
    lines += [f"{name}: {value}" for name, value in headers]
    return HandshakeFailure("refuse", "\r\n".join([*lines, "", ""]).encode() + body)


def page(path: str, body: bytes) -> HandshakeReply:
    """Return the answer to a GET of `path` that is no handshake."""
    head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n"
    data = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    return HandshakeReply(data, cause="http", note=f"GET {path}")


def failed(fault: HandshakeFailure, response: Response) -> HandshakeReply:
    """Return what a client gets instead of `response`, the answer of a working venue."""
    head = response.serialize().removesuffix(b"\r\n")
    match fault.kind:
        case "refuse":
            status = fault.reply.splitlines()[0].decode()
            return HandshakeReply(fault.reply, cause="refused", note=f"refused: {status}")
        case "garbage":
            return HandshakeReply(b"SSH-2.0-FakeVenue\r\n\x00\xff\xfe\r\n\r\n")
        case "drip":
            drops = (bytes([byte]) for byte in head + b"X-Drip: ")
            return HandshakeReply(
                more=itertools.chain(drops, itertools.repeat(b"~")), interval=DRIP_INTERVAL
            )
        case "headers":
            lines = (b"X-Header-%d: %s\r\n" % (n, b"~" * 4096) for n in itertools.count())
            return HandshakeReply(head, lines, FLOOD_INTERVAL)
        case "deaf" | "reset" | "eof":
            return HandshakeReply()  # nothing is read, and so nothing answered


def select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """Return the first subprotocol of the venue that the client offers.

    Returns None if the client offers none. Raises NegotiationError if none fits.
    """
    if not offered:
        return None
    for name in protocol.available_subprotocols or ():
        if name in offered:
            return name
    raise NegotiationError(f"none of the subprotocols {offered} is supported")
