"""The upgrade of a connected socket: the headers that are sent, and the answer that is accepted.

websocket-client writes the upgrade request and checks the key in the answer. Everything else is
here, because the library is not safe enough: it has no timeout for the whole attempt and no limit
for the answer's head, follows redirects with our headers, and shares one cookie jar with the whole
process.
"""

from __future__ import annotations

import email.utils
import io
import re
import socket
import time
from collections.abc import Mapping, Sequence

from wsclient.errors import ConfigurationError, ConnectionLost, HandshakeRejected
from wsclient.options import Options
from wsclient.threads.waiting import Deadline
from wsclient.transport.addresses import CONTROL, SURROGATE, parse_proxy
from wsclient.transport.sockets import DeadlineSocket

__all__ = [
    "HandshakeSocket",
    "check_handshake_headers",
    "check_handshake_options",
    "check_headers",
    "is_interim",
    "parse_retry_after",
]

#: The maximum size of the head of an answer to the upgrade request (bytes).
MAX_HEAD = 64 * 1024
#: The longest wait (s) that a venue may ask for.
MAX_RETRY_AFTER = 86_400.0
#: The most of an error page that is kept (bytes).
MAX_EXCERPT = 512

_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: |\r|$)")
#: Headers that the handshake writes by itself, with the option to use instead; and headers of a
#: body, which would make the venue wait for one.
_OWN = {
    "content-length": "it has no body",
    "transfer-encoding": "it has no body",
    "origin": "pass origin= instead",
    "sec-websocket-protocol": "pass subprotocols= instead",
    "sec-websocket-extensions": "no extension is supported",
}
_NO_HOST = re.compile(r"[\s/?#@,\\]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def check_headers(headers: Mapping[str, str]) -> list[str]:
    """Return ``Name: value`` lines.

    Raises ConfigurationError for a name or value that could inject another header.
    """
    if not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers must be a mapping, not {type(headers).__name__}")
    lines = []
    for name, value in headers.items():
        if not isinstance(name, str):
            raise ConfigurationError(f"a header's name must be text, not {type(name).__name__}")
        token = _TOKEN.match(name)
        if token is None or token.end() < len(name):
            good = token[0] if token else ""
            raise ConfigurationError(f"a header's name has an invalid character after {good!r}")
        lines.append(f"{name}: {check_value(f'header {name}', value)}")
    return lines


def check_handshake_headers(headers: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """Return the user's ``Host`` (None: take the URL's), and the lines of the other headers.

    Raises ConfigurationError for a header that the handshake writes by itself, since it would be
    sent twice.
    """
    host: str | None = None
    lines = []
    for line in check_headers(headers):
        name, _, value = line.partition(": ")
        key = name.lower()
        if key == "host":
            if host is not None or not value.strip():
                raise ConfigurationError("the header Host must be given once, with a value")
            if _NO_HOST.search(value):
                raise ConfigurationError("the header Host must be a host, optionally with a port")
            host = value
        elif key in ("connection", "upgrade", *_OWN) or key.startswith("sec-websocket-"):
            what = _OWN.get(key, "its value cannot be chosen")
            raise ConfigurationError(f"the handshake writes the header {name} by itself: {what}")
        else:
            lines.append(line)
    return host, lines


def check_handshake_options(options: Options) -> None:
    """Raise ConfigurationError for an option that the handshake cannot send as it is.

    The results of functions can be checked only when an attempt calls them.
    """
    if options.headers is not None and not callable(options.headers):
        check_handshake_headers(options.headers)
    if options.cookie is not None:
        check_value("cookie", options.cookie)
    if options.origin is not None:
        check_value("origin", options.origin)
    names = [name.lower() for name in options.subprotocols or ()]
    if not all(map(_TOKEN.fullmatch, names)) or len(set(names)) < len(names):
        raise ConfigurationError(
            "subprotocols must be different names without spaces, commas or control characters"
        )
    if options.proxy is not None:
        parse_proxy(options.proxy)


def check_value(what: str, value: object) -> str:
    """Return ``value`` if it is one line of text.

    Otherwise raises ConfigurationError, without quoting the value.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} must be text, not {type(value).__name__}")
    if CONTROL.search(value):
        raise ConfigurationError(f"{what} contains a control character (CR, LF, NUL ...)")
    if SURROGATE.search(value):
        raise ConfigurationError(
            f"{what} contains half of a surrogate pair, which UTF-8 cannot encode"
        )
    return value


def is_interim(head: bytes | bytearray) -> bool:
    """Return whether ``head`` is a 1xx answer, which precedes another (RFC 9110, 15.2)."""
    match = _STATUS.match(head)
    return match is not None and match[2].startswith(b"1") and match[2] != b"101"


class HandshakeSocket(DeadlineSocket):
    """The object that websocket-client uses as its socket during the handshake.

    It puts ``resource`` into the request, since the library would drop its ``;params``. It reads
    the whole head of the answer within the deadline and MAX_HEAD, skips 1xx answers before it,
    refuses everything but a plain 101 (so no redirect is followed), and keeps the shared cookie jar
    out of both the request and the answer. :attr:`leftover` holds the bytes after the head,
    :attr:`status_line` the first line of the answer, and :attr:`fields` its header fields by their
    names in lower case.
    """

    def __init__(
        self,
        sock: socket.socket,
        deadline: Deadline,
        cookie: str = "",
        resource: str = "",
        subprotocols: Sequence[str] = (),
    ) -> None:
        super().__init__(sock, deadline)
        self.leftover = b""
        self.status_line = b""
        self.fields: dict[bytes, bytes] = {}
        self._cookie = cookie
        self._resource = resource
        self._subprotocols = [name.lower() for name in subprotocols]
        self._head: io.BytesIO | None = None
        self._closed = False  # the library checks it before it closes

    # What the library calls.

    def send(self, data: bytes) -> int:
        """Send the upgrade request, with our own request line and cookies."""
        lines = [x for x in data.split(b"\r\n") if not x.lower().startswith(b"cookie:")]
        if self._resource:
            lines[0] = b"GET " + self._resource.encode() + b" HTTP/1.1"
        if self._cookie:
            lines[-2:-2] = [b"Cookie: " + self._cookie.encode()]
        self.sendall(b"\r\n".join(lines))
        return len(data)

    def recv(self, size: int) -> bytes:
        """Return the next ``size`` bytes of the answer's head, and none of what follows it."""
        if self._head is None:
            self._head = io.BytesIO(self._read_head())
        return self._head.read(size)

    def close(self) -> None:
        """Close the socket."""
        self._closed = True
        super().close()

    # Inside.

    def _read_head(self) -> bytes:
        data, searched, skipped = bytearray(), 0, 0
        while True:
            end = data.find(b"\r\n\r\n", max(0, searched - 3))
            searched = len(data) if end < 0 else 0
            if end >= 0:
                head = bytes(data[: end + 4])
                del data[: end + 4]
                self.leftover = bytes(data)
                if not is_interim(head):
                    return self._check(head)
                skipped += len(head)
            if data and not data.startswith(b"HTTP/"[: len(data)]):
                raise HandshakeRejected(
                    "the answer to the upgrade request is not HTTP",
                    excerpt=bytes(data[:MAX_EXCERPT]),
                )
            if skipped + len(data) > MAX_HEAD:
                raise HandshakeRejected(f"the answer's head is longer than {MAX_HEAD} bytes")
            if end >= 0:
                continue  # the next answer may be in ``data`` already
            piece = super().recv(4096)
            if not piece:
                raise ConnectionLost("the venue closed the connection during the handshake")
            data += piece

    def _check(self, head: bytes) -> bytes:
        lines = head.split(b"\r\n")
        match = _STATUS.match(lines[0])
        if match is None:
            raise HandshakeRejected("the answer to the upgrade request is not HTTP/1.1")
        status = int(match[2])
        fields = [(line, *line.partition(b":")[::2]) for line in lines[1:]]
        values = {name.strip().lower(): value.strip() for _, name, value in fields}
        self.status_line, self.fields = lines[0], values
        if status != 101:
            raise HandshakeRejected(
                f"the venue answered the upgrade request with HTTP {status}",
                status,
                parse_retry_after(values.get(b"retry-after", b"")),
                self.leftover[:MAX_EXCERPT],
            )
        if match[1] == b"0":
            raise HandshakeRejected("the venue answered in HTTP/1.0, which has no upgrade", 101)
        if any(_given(fields, b"sec-websocket-extensions")):
            raise HandshakeRejected("the venue chose an extension that was not offered", 101)
        chosen = _given(fields, b"sec-websocket-protocol")
        if len(chosen) > 1:
            raise HandshakeRejected("the venue chose several subprotocols", 101)
        for each in chosen:
            name = each.decode("latin-1")
            if name.lower() not in self._subprotocols:
                text = f"the venue chose the subprotocol {name[:60]!r}, which was not offered"
                raise HandshakeRejected(text, 101)
        if self._subprotocols and not chosen:
            raise HandshakeRejected("the venue chose none of the subprotocols offered", 101)
        kept = [line for line, name, _ in fields if name.strip().lower() != b"set-cookie"]
        return b"\r\n".join([lines[0], *kept])


def _given(fields: Sequence[tuple[bytes, bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the values of all header fields called ``name``, which is in lower case."""
    return [value.strip() for _, each, value in fields if each.strip().lower() == name]


def parse_retry_after(value: bytes) -> float | None:
    """Return the seconds of a ``Retry-After``, a number or a date (RFC 9110, 10.2.3), or None.

    At most MAX_RETRY_AFTER: a venue must not be able to switch off a client by a header.
    """
    if value.isdigit():
        return min(float(value), MAX_RETRY_AFTER)
    try:
        at = email.utils.parsedate_to_datetime(value.decode("latin-1")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, at - time.time()), MAX_RETRY_AFTER)
