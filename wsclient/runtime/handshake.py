"""Opens sockets and does the handshake: from a URL to an upgraded socket, within one deadline.

websocket-client writes the upgrade request and checks the key in the answer. Everything else is
here, because the library is not safe enough: it has no timeout for the whole attempt and no limit
for the answer's head, follows redirects with our headers, and shares one cookie jar with the whole
process.
"""

from __future__ import annotations

import contextlib
import email.utils
import io
import ipaddress
import re
import socket
import ssl
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from wsclient.errors import (
    ConfigurationError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotSupported,
)
from wsclient.options import Options
from wsclient.runtime.waiting import Deadline

__all__ = [
    "Address",
    "HandshakeSocket",
    "OnStep",
    "check_handshake_headers",
    "check_handshake_options",
    "check_headers",
    "connect_to",
    "open_socket",
    "parse_proxy",
    "parse_retry_after",
    "parse_url",
    "resource_of",
    "weakness_of",
]

#: The maximum size of the head of an answer to the upgrade request (bytes).
MAX_HEAD = 64 * 1024
#: The longest wait (s) that a venue may ask for.
MAX_RETRY_AFTER = 86_400.0
#: The most of an error page that is kept (bytes).
MAX_EXCERPT = 512
#: The longest timeout (s) set on a socket, which cannot take more than 24 days.
MAX_WAIT = 86_400.0

#: Called with the name of each step of an attempt as it begins, and with the step's subject. An
#: address that refuses the connection is reported as ``"refused"``, with its error.
OnStep = Callable[[str, Any], None]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_SCHEME = re.compile("wss?://", re.IGNORECASE)
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


class Address(NamedTuple):
    """The host and port of a URL."""

    host: str
    port: int
    is_secure: bool

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def host_header(self) -> str:
        """The value of the header ``Host``, without the port if it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_secure else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.is_secure else 'ws'}://{host}:{self.port}"


def parse_url(url: object) -> Address:
    """Check a ``ws://`` or ``wss://`` URL, and return its address.

    Raises ConfigurationError without quoting the URL: its query, its path or its user part may hold
    a secret.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"url must be text, not {type(url).__name__}")
    if _CONTROL.search(url) or " " in url or _SURROGATE.search(url):
        raise ConfigurationError(
            "the URL contains a space, a control character or half of a surrogate pair; "
            "percent-encode it"
        )
    if not _SCHEME.match(url):
        raise ConfigurationError("the URL must begin with ws:// or wss://")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError("the URL's host is not valid") from None
    if "@" in parts.netloc:
        raise ConfigurationError(
            "the URL has a user part, which would be ignored; pass "
            "headers={'Authorization': ...} instead"
        )
    if "#" in url:
        raise ConfigurationError("the URL has a fragment (#...), which WebSocket does not allow")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ConfigurationError("the URL's port is not a number from 1 to 65535")
    if not parts.hostname:
        raise ConfigurationError("the URL has no host")
    secure = parts.scheme == "wss"
    return Address(_ascii_host(parts.hostname, "URL"), port or (443 if secure else 80), secure)


def _ascii_host(host: str, what: str) -> str:
    """Return ``host`` in the ASCII form that DNS, TLS and HTTP use."""
    if host.isascii():
        return host
    # Imported lazily: idna is slow to import, and most hosts are ASCII. requests depends on it.
    import idna

    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError:
        raise ConfigurationError(
            f"the host of the {what} is not a valid international domain name"
        ) from None


def resource_of(url: str) -> str:
    """Return the path and query of a URL that :func:`parse_url` accepts, for the request line.

    They are unchanged, except that characters outside ASCII become UTF-8 percent-escapes.
    """
    rest = url.partition("://")[2]
    begin = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    resource = _NOT_ASCII.sub(lambda found: quote(found[0]), rest[begin:])
    return resource if resource.startswith("/") else f"/{resource}"


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
    if _CONTROL.search(value):
        raise ConfigurationError(f"{what} contains a control character (CR, LF, NUL ...)")
    if _SURROGATE.search(value):
        raise ConfigurationError(
            f"{what} contains half of a surrogate pair, which UTF-8 cannot encode"
        )
    return value


def default_ssl_context() -> ssl.SSLContext:
    """Return a context that verifies certificates and hosts, with TLS 1.2 or newer.

    It ignores SSLKEYLOGFILE.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    return context


def weakness_of(context: ssl.SSLContext) -> str | None:
    """Return what a user's ``context`` fails to check; None if it is as strict as ours."""
    if context.verify_mode is not ssl.CERT_REQUIRED:
        return "certificates are not verified"
    if not context.check_hostname:
        return "certificates of any host are accepted"
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        return "TLS older than 1.2 is allowed"
    return None


def _to_nobody(_step: str, _about: object) -> None:
    pass


def open_socket(
    address: Address,
    *,
    proxy: str | None,
    ssl_context: ssl.SSLContext | None,
    deadline: Deadline,
    hold: Callable[[socket.socket], None],
    on_step: OnStep = _to_nobody,
) -> socket.socket:
    """Return a connected socket, after the TLS handshake.

    ``hold`` is called with each socket before an operation on it can block, so that the watchdog
    can shut it down at the deadline. ``on_step`` is called with the steps ``"dns"`` (an Address),
    ``"addresses"`` (the addresses found), ``"tcp"`` (one of them), ``"proxy"`` (an Address),
    ``"connected"`` (None) and ``"tls"`` (a socket).

    Raises OSError, ConnectTimeout, or ConfigurationError and NotSupported about the proxy.
    """
    if proxy is not None:
        sock = _open_by_proxy(proxy, address, deadline, hold, on_step)
    else:
        sock = _open_directly(address, deadline, hold, on_step)
    on_step("connected", None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not address.is_secure:
        return sock
    context = ssl_context or default_ssl_context()
    sock = wrap(sock, context, address.host)
    with _closing_on_error(sock):
        hold(sock)
        on_step("tls", sock)
        sock.settimeout(_left(deadline))
        sock.do_handshake()
    return sock


def wrap(sock: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    with _closing_on_error(sock):
        try:
            return context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        except OSError as error:
            _close_half_made(error)
            raise


def _close_half_made(error: OSError) -> None:
    """Close the SSLSocket that ``wrap_socket`` leaves open when it raises ``error``.

    If the peer has already reset the socket, ``ssl`` makes a half-initialised SSLSocket and leaves
    it to the garbage collector.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        half = frame.f_locals.get("self")
        if isinstance(half, ssl.SSLSocket):
            socket.socket.close(half)


def _open_directly(
    address: Address, deadline: Deadline, hold: Callable[[socket.socket], None], on_step: OnStep
) -> socket.socket:
    on_step("dns", address)
    infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    on_step("addresses", infos)
    error: OSError | None = None
    for i, info in enumerate(infos):
        on_step("tcp", info)
        try:
            # Each address gets its share of the time left: a dead first one must not take all.
            return connect_to(info, _left(deadline) / (len(infos) - i), hold)
        except OSError as failure:
            if isinstance(failure, ConnectionLost):
                raise
            on_step("refused", failure)
            error = failure
    try:
        raise error or OSError(f"{address.host} has no address")
    finally:
        del error  # its traceback and this frame refer to each other


def connect_to(
    info: tuple[Any, ...], timeout: float, hold: Callable[[socket.socket], None]
) -> socket.socket:
    """Return a socket connected to ``info``, one of the results of ``getaddrinfo``."""
    family, kind, protocol, _, target = info
    sock = socket.socket(family, kind, protocol)
    with _closing_on_error(sock):
        hold(sock)
        sock.settimeout(timeout)
        sock.connect(target)
    return sock


class _ProxyDialer(NamedTuple):
    """Opens the connection to the proxy in place of python-socks, so that it can be held."""

    deadline: Deadline
    hold: Callable[[socket.socket], None]
    on_step: OnStep
    is_http: bool

    def connect(self, dest_host: str, dest_port: int, timeout: float) -> Any:
        proxy = Address(dest_host, dest_port, False)
        sock = _open_directly(proxy, self.deadline, self.hold, self.on_step)
        self.on_step("proxy", proxy)
        sock.settimeout(_left(self.deadline))
        return _WholeAnswers(sock, self.deadline) if self.is_http else sock


class _WholeAnswers:
    """A socket to an HTTP proxy whose ``recv`` returns the proxy's whole answer.

    python-socks takes the result of one read for the whole answer. But the answer may come in
    pieces, and a piece left unread would be taken for data of the venue.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self.sock = sock
        self.sendall = sock.sendall
        self.close = sock.close
        self._deadline = deadline

    def recv(self, _size: int) -> bytes:
        answer, skipped = bytearray(), 0
        while not answer.endswith(b"\r\n\r\n"):
            self.sock.settimeout(_left(self._deadline))
            byte = self.sock.recv(1)
            if not byte:
                break
            answer += byte
            if skipped + len(answer) > MAX_HEAD:
                raise ConnectionLost(f"the proxy's answer is longer than {MAX_HEAD} bytes")
            if answer.endswith(b"\r\n\r\n") and _is_interim(answer):
                skipped += len(answer)
                answer.clear()
        return bytes(answer)


class ProxyUrl(NamedTuple):
    """The parts of a proxy's URL. ``user`` is None if it has no login."""

    scheme: str
    host: str
    port: int
    user: str | None
    password: str


def parse_proxy(proxy: str) -> ProxyUrl:
    """Check the URL of a proxy, and return its parts.

    Raises ConfigurationError, without quoting the URL.
    """
    scheme = proxy.partition("://")[0].lower()
    if scheme not in ("http", "socks5", "socks5h") or "://" not in proxy:
        raise ConfigurationError("proxy must begin with http://, socks5:// or socks5h://")
    try:
        parts = urlsplit(proxy)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ConfigurationError(
            "proxy must be like http://host:port or socks5://user:password@host:port"
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    is_login = bool(user or password)
    if (
        scheme == "http"
        and is_login
        and not (user and ":" not in user and _is_latin(user + password))
    ):
        raise ConfigurationError(
            "the login of an HTTP proxy must be a user without a colon and a password, "
            "both in Latin-1"
        )
    if scheme != "http" and is_login and not (_is_socks_word(user) and _is_socks_word(password)):
        raise ConfigurationError(
            "the login of a SOCKS5 proxy must be a user and a password, each of 1 to 255 ASCII "
            "characters"
        )
    return ProxyUrl(scheme, _ascii_host(host, "proxy"), port, user or None, password)


def _is_socks_word(text: str) -> bool:
    return text.isascii() and 0 < len(text) < 256


def _is_latin(text: str) -> bool:
    return all(ord(char) < 256 for char in text)


def _open_by_proxy(
    proxy: str,
    address: Address,
    deadline: Deadline,
    hold: Callable[[socket.socket], None],
    on_step: OnStep,
) -> socket.socket:
    scheme, host, port, user, password = parse_proxy(proxy)
    try:
        from python_socks import ProxyError, ProxyType
        from python_socks import ProxyTimeoutError as ProxyTimeout
        from python_socks.sync import Proxy
    except ImportError:
        raise NotSupported(
            "proxy= needs the package python-socks: pip install 'wsclient-market[proxy]'"
        ) from None
    is_http = scheme == "http"
    dialer: Any = _ProxyDialer(deadline, hold, on_step, is_http)
    kind = ProxyType.HTTP if is_http else ProxyType.SOCKS5
    via = Proxy(kind, host, port, user, password, rdns=scheme != "socks5", forward=dialer)
    try:
        sock: Any = via.connect(address.host, address.port, timeout=_left(deadline))
    except ProxyTimeout:
        raise ConnectTimeout("the proxy did not answer in time") from None
    except ProxyError as error:
        raise ConnectionLost(f"the proxy refused: {str(error)[:200]}") from None
    opened: socket.socket = getattr(sock, "sock", sock)
    return opened


def _is_interim(head: bytes | bytearray) -> bool:
    """Return whether ``head`` is a 1xx answer, which precedes another (RFC 9110, 15.2)."""
    match = _STATUS.match(head)
    return match is not None and match[2].startswith(b"1") and match[2] != b"101"


@contextlib.contextmanager
def _closing_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


def _left(deadline: Deadline) -> float:
    remaining = deadline.remaining()
    if remaining <= 0:
        raise ConnectTimeout("the attempt took longer than connect_timeout")
    return min(remaining, MAX_WAIT)


class HandshakeSocket:
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
        self.sock = sock
        self.leftover = b""
        self.status_line = b""
        self.fields: dict[bytes, bytes] = {}
        self._deadline = deadline
        self._cookie = cookie
        self._resource = resource
        self._subprotocols = [name.lower() for name in subprotocols]
        self._head: io.BytesIO | None = None
        self._closed = False  # the library checks it before it closes

    # What the library calls.

    def gettimeout(self) -> float:
        return max(0.001, self._deadline.remaining())

    def settimeout(self, timeout: float | None) -> None:
        """Ignore ``timeout``: only the deadline counts."""

    def send(self, data: bytes) -> int:
        lines = [x for x in data.split(b"\r\n") if not x.lower().startswith(b"cookie:")]
        if self._resource:
            lines[0] = b"GET " + self._resource.encode() + b" HTTP/1.1"
        if self._cookie:
            lines[-2:-2] = [b"Cookie: " + self._cookie.encode()]
        self.sock.settimeout(_left(self._deadline))
        self.sock.sendall(b"\r\n".join(lines))
        return len(data)

    def recv(self, size: int) -> bytes:
        if self._head is None:
            self._head = io.BytesIO(self._read_head())
        return self._head.read(size)

    def fileno(self) -> int:
        return self.sock.fileno()

    def shutdown(self, how: int) -> None:
        self.sock.shutdown(how)

    def close(self) -> None:
        self._closed = True
        self.sock.close()

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
                if not _is_interim(head):
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
            self.sock.settimeout(_left(self._deadline))
            piece = self.sock.recv(4096)
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
