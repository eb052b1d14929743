"""Passes connections on to a real venue, and notes all that passes.

Messages are passed on, not bytes: so the venue may speak TLS, and nothing is compressed.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from wsclient.dialect.values import RestRequest
from wsclient.errors import HandshakeRejected, WSClientError
from wsclient.testing.conversations import Passage
from wsclient.testing.frames import close_reason, is_close_code
from wsclient.testing.journal import Traced
from wsclient.testing.scrubbing import Scrubber
from wsclient.testing.sockets import join
from wsclient.transport.rest import fetch

__all__ = ["PassThrough"]

#: What the library logs of connections that end is recorded already.
QUIET = logging.getLogger("wsclient.testing.passing")
QUIET.setLevel(logging.CRITICAL)
#: How long (s) the venue may take to open a connection or to answer a GET.
OPEN_TIMEOUT = 10.0
CLOSE_TIMEOUT = 1.0
#: Headers of a handshake that belong to each connection, and are not passed on.
_OWN = frozenset(
    {
        "host",
        "connection",
        "upgrade",
        "content-length",
        "transfer-encoding",
        "accept-encoding",
        "keep-alive",
        "user-agent",
    }
)
#: Headers of an answer that describe its form, which differs here.
_FORM = frozenset({"connection", "content-encoding", "content-length", "transfer-encoding"})
#: A handshake that could not be made with the venue: what its gateway would answer.
BAD_GATEWAY = 502
TRACE = 200


class PassThrough:
    """A local address that stands for the venue at `url`; a context manager, which closes it.

    A GET that is no handshake is passed on to `rest`, if that is given, behind which the path
    stands. `passages` has what has passed so far, in order.

    Raises ValueError for a `url` that is none.
    """

    def __init__(self, url: str, rest: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            shown = Scrubber().url(url)
            raise ValueError(f"not the address of a venue: {shown!r}; it begins with wss://")
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._rest = None if rest is None else rest.rstrip("/")
        self._lock = threading.Lock()
        self.passages: list[Passage] = []
        self.trace: deque[Traced] = deque(maxlen=TRACE)
        #: The headers of clients' handshakes: they are not recorded, but may hold secrets.
        self.headers: list[tuple[str, str]] = []
        self._numbers = 0
        self._is_closed = False
        self._venues: dict[ServerConnection, tuple[int, ClientConnection]] = {}
        #: The connections that their client has ended.
        self._left: set[int] = set()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._server = serve(
            self._pass,
            "127.0.0.1",
            0,
            process_request=self._asked,
            select_subprotocol=self._subprotocol,
            compression=None,
            max_size=None,
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT,
            logger=QUIET,
        )
        self.address: tuple[str, int] = self._server.socket.getsockname()[:2]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="fakevenue-pass", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> PassThrough:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection, thread and socket; idempotent."""
        with self._lock:
            is_closed, self._is_closed = self._is_closed, True
            venues, sockets = list(self._venues.values()), list(self._sockets)
            self._left.update(number for number, _ in venues)
        if is_closed:
            return
        for _, venue in venues:
            _cut(venue.socket)
        for sock in sockets:
            _cut(sock)
        self._server.shutdown()
        join(self._thread)
        for _, venue in venues:
            venue.close()
        for thread in self._threads:
            join(thread)

    # Handshakes and GETs, each on the thread of its connection.

    def _asked(self, client: ServerConnection, request: Request) -> Response | None:
        """Dial the venue. Return its answer if it refuses, None if it accepts."""
        with self._lock:
            self._numbers += 1
            number = self._numbers
            self._sockets.append(client.socket)
            self._threads.append(threading.current_thread())
            self.headers += request.headers.raw_items()
        threading.current_thread().name = f"fakevenue-pass-{number}"
        if "Upgrade" not in request.headers:
            return self._get(number, request)
        headers = [(k, v) for k, v in request.headers.raw_items() if _is_passed(k)]
        offered = [
            Subprotocol(name.strip())
            for given in request.headers.get_all("Sec-WebSocket-Protocol")
            for name in given.split(",")
        ]
        try:
            venue = connect(
                self._base + request.path,
                additional_headers=headers,
                user_agent_header=request.headers.get("User-Agent"),
                subprotocols=offered or None,
                compression=None,
                max_size=None,
                open_timeout=OPEN_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                logger=QUIET,
            ).__enter__()  # newer versions want it; close() ends both
        except InvalidStatus as error:
            return self._refused(number, request, error.response)
        except (OSError, InvalidHandshake, TimeoutError) as error:
            text = f"the venue cannot be reached: {error}"
            answer = _response(BAD_GATEWAY, text.encode())
            return self._refused(number, request, answer, f": {text}")
        with self._lock:
            is_closed = self._is_closed
            if not is_closed:
                self._venues[client] = number, venue
        if is_closed:  # meanwhile: nobody else would end the connection to the venue
            venue.close()
            return _response(BAD_GATEWAY, b"closed")
        self._note(Passage(time.time_ns(), number, "opened", text=request.path))
        return None

    def _refused(self, number: int, request: Request, answer: Response, why: str = "") -> Response:
        body, status = bytes(answer.body or b""), answer.status_code
        passage = Passage(time.time_ns(), number, "refused", body, text=request.path, code=status)
        self._note(passage, why)
        kept = [(k, v) for k, v in answer.headers.raw_items() if k.lower() not in _FORM]
        return _response(status, body, kept, answer.reason_phrase)

    def _get(self, number: int, request: Request) -> Response:
        if self._rest is None:
            return _response(404, b"give rest=, the address of the venue's REST")
        headers = {k: v for k, v in request.headers.raw_items() if _is_passed(k)}
        asked = RestRequest(self._rest + request.path, headers=headers)
        try:
            body = fetch(asked, OPEN_TIMEOUT, decode=bytes)
        except HandshakeRejected as error:
            return _response(error.status, error.excerpt)
        except WSClientError as error:
            return _response(BAD_GATEWAY, f"the venue cannot be reached: {error}".encode())
        self._note(Passage(time.time_ns(), number, "answered", body, text=request.path))
        return _response(200, body, [("Content-Type", "application/json")])

    def _subprotocol(self, client: ServerConnection, _: object) -> Subprotocol | None:
        """Return what the venue has selected."""
        with self._lock:
            return self._venues[client][1].subprotocol

    # Messages.

    def _pass(self, client: ServerConnection) -> None:
        """Pass a connection on, until one side ends it. One thread for each direction."""
        with self._lock:
            number, venue = self._venues[client]
        back = threading.Thread(
            target=self._pass_back,
            args=(number, venue, client),
            name=f"fakevenue-pass-back-{number}",
            daemon=True,
        )
        back.start()
        try:
            with contextlib.suppress(ConnectionClosed):
                for payload in _messages(client):
                    self._note(Passage(time.time_ns(), number, "sent", payload))
                    venue.send(payload)
            with self._lock:
                self._left.add(number)
            _close(venue, client)
        finally:
            join(back)
            with self._lock:
                self._venues.pop(client, None)

    def _pass_back(self, number: int, venue: ClientConnection, client: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for payload in _messages(venue):
                self._note(Passage(time.time_ns(), number, "received", payload))
                client.send(payload)
        said = venue.protocol.close_rcvd
        with self._lock:
            is_left = number in self._left
        if is_left:
            code, why = None, "client"
        elif said is None:
            code, why = None, "ended without a close frame"
        else:
            code, why = said.code, said.reason
        self._note(Passage(time.time_ns(), number, "ended", text=why, code=code))
        _close(client, venue)

    def _note(self, passage: Passage, why: str = "") -> None:
        with self._lock:
            self.passages.append(passage)
            what = passage.what if passage.what in ("sent", "received") else "event"
            shown = passage.payload
            if what == "event":
                code = "" if passage.code is None else f" {passage.code}"
                shown = f"{passage.what}{code} {passage.text}".rstrip() + why
            self.trace.append(Traced(passage.time, passage.connection, what, shown))


def _is_passed(header: str) -> bool:
    name = header.lower()
    return name not in _OWN and not name.startswith("sec-websocket-")


def _messages(source: Any) -> Iterator[str | bytes]:
    """Yield messages until the connection ends. Raises ConnectionClosed at an unclean end."""
    yield from source


def _close(connection: Any, other: Any) -> None:
    """End a connection as the other one was ended."""
    said = other.protocol.close_rcvd
    if said is None:
        _cut(connection.socket)
    elif not is_close_code(said.code):
        connection.close()
    else:
        connection.close(said.code, close_reason(said.reason))


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _response(
    status: int, body: bytes, headers: Any = (), phrase: str = "from the venue"
) -> Response:
    every = Headers([*headers, ("Connection", "close"), ("Content-Length", str(len(body)))])
    return Response(status, phrase, every, body)
