"""A single HTTP request through ``requests``: a token before a connect, a snapshot of a book.

The connection is opened like that of a WebSocket (:func:`open_socket`): by the same TLS rules,
through the same proxy, within one deadline. The environment's proxies, netrc and certificates are
ignored, no cookie is kept and no redirect is followed. Errors and log lines quote no part of the
URL except the host.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from http.client import CONTINUE, HTTPResponse
from typing import Any

import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from wsclient.dialect.values import RestRequest
from wsclient.errors import (
    ConfigurationError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    WSClientError,
)
from wsclient.stream.codec import decoder
from wsclient.threads.logs import silence
from wsclient.threads.waiting import Deadline
from wsclient.tracebacks import forget_locals, without_locals
from wsclient.transport.addresses import Address, parse_url
from wsclient.transport.dialing import open_socket
from wsclient.transport.handshake import check_headers, parse_retry_after
from wsclient.transport.sockets import DeadlineSocket

__all__ = ["fetch"]

#: The maximum size of an answer (bytes).
MAX_BODY = 64 * 1024 * 1024

#: The most of a refusal's body that is kept (bytes).
EXCERPT = 512

_PIECE = 64 * 1024
#: ``identity``: an answer that is small on the wire must not become large in memory.
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}

_decode = decoder(decimal=True)
_here = threading.local()


# urllib3 logs paths and queries, which may hold a token.
for _name in ("connection", "connectionpool", "poolmanager", "response", "util.retry"):
    silence(f"urllib3.{_name}", lambda: getattr(_here, "is_fetching", False))


@without_locals
def fetch(
    request: RestRequest,
    timeout: float,
    ssl_context: ssl.SSLContext | None = None,
    *,
    proxy: str | None = None,
    hold: Callable[[socket.socket], None] = lambda _: None,
    decode: Callable[[bytes], Any] = _decode,
) -> Any:
    """Send ``request`` and return the decoded answer, by default with fractions as Decimals.

    ``timeout`` is in seconds; ``hold`` is as in :func:`open_socket`. Raises HandshakeRejected for
    any status except 2xx, ConnectTimeout, ConnectionLost for a broken connection or an answer that
    is not JSON, and ConfigurationError for a request that must not be sent. ``timeout`` does not
    bound the system's DNS resolver: the call waits for its answer.
    """
    address = _address(request.url, proxy)
    check_headers(request.headers)
    deadline = Deadline(timeout)

    def connect() -> _Socket:
        sock = open_socket(
            address, proxy=proxy, ssl_context=ssl_context, deadline=deadline, hold=hold
        )
        return _Socket(sock, deadline)

    _here.is_fetching = True
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.mount("https://", _Adapter(connect))
            session.mount("http://", _Adapter(connect))
            session.headers.update(_HEADERS)
            with session.request(
                request.method,
                request.url,
                params=dict(request.params),
                headers=dict(request.headers),
                data=request.body or None,
                timeout=max(0.001, timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                return decode(_body(response, address.host))
    except Exception as error:  # noqa: BLE001 - replaced by our own error
        failure = _failure(error, deadline, address.host)
    finally:
        _here.is_fetching = False
    raise failure  # outside of the handler, where its context would quote the URL


def _address(url: str, proxy: str | None) -> Address:
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in ("https", "http"):
        raise ConfigurationError("the REST URL must begin with https://")
    address = parse_url(f"{'wss' if scheme == 'https' else 'ws'}://{rest}")
    if not address.is_secure and not (address.is_loopback and proxy is None):
        raise ConfigurationError(
            "a REST request must use https://; http:// is for loopback only, without a proxy"
        )
    return address


def _body(response: requests.Response, host: str) -> bytes:
    status = response.status_code
    if not 200 <= status < 300:
        what = " (a redirect, which is not followed)" if 300 <= status < 400 else ""
        wait = response.headers.get("Retry-After", "").encode("latin-1", "replace")
        text = f"{host} answered the REST request with HTTP {status}{what}"
        raise HandshakeRejected(text, status, parse_retry_after(wait), _excerpt(response))
    body = bytearray()
    for piece in response.raw.stream(_PIECE, decode_content=False):
        body += piece
        if len(body) > MAX_BODY:
            raise ConnectionLost(f"the REST answer of {host} is longer than {MAX_BODY} bytes")
    if not body.strip():
        raise ConnectionLost(f"the REST answer of {host} is empty")
    return bytes(body)


def _excerpt(response: requests.Response) -> bytes:
    """Return the beginning of an answer; nothing if it cannot be read."""
    try:
        return next(response.raw.stream(EXCERPT, decode_content=False), b"")[:EXCERPT]
    except Exception:  # noqa: BLE001 - the status says more than why its page broke
        return b""


def _failure(error: BaseException, deadline: Deadline, host: str) -> WSClientError:
    """Return our own error for ``error``, without the texts of others, which quote URLs."""
    causes = [error]
    while (cause := causes[-1].__context__) is not None:
        causes.append(cause)
    forget_locals(error)  # urllib3's frames hold their own errors
    for cause in causes:
        if isinstance(cause, WSClientError) and not isinstance(cause, ConnectTimeout):
            cause.__cause__ = cause.__context__ = None
            return cause
    root = causes[-1]
    if isinstance(error, requests.Timeout | ConnectTimeout) or deadline.remaining() <= 0:
        return ConnectTimeout(f"{host} did not answer the REST request in time")
    if isinstance(root, (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)):
        return ConnectionLost(f"the REST answer of {host} is not JSON")
    why = type(root).__name__
    if isinstance(root, OSError) and not isinstance(root, requests.RequestException):
        why = root.strerror or why  # the system's text, which quotes no URL
    return ConnectionLost(f"the REST request to {host} failed: {why}")


class _Adapter(HTTPAdapter):
    """A transport adapter for connections that ``connect`` opens. Nothing is tried twice."""

    def __init__(self, connect: Callable[[], _Socket]) -> None:
        self._connect = connect
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": partial(_pool, HTTPConnectionPool, partial(_HttpConnection, self._connect)),
            "https": partial(_pool, HTTPSConnectionPool, partial(_HttpsConnection, self._connect)),
        }

    def close(self) -> None:
        # Otherwise a pool closes its connections only when it is collected. That may never happen:
        # its finalizer refers, through a connection and this adapter, to an error whose traceback
        # refers to the pool.
        pools = self.poolmanager.pools
        for key in pools.keys():  # noqa: SIM118 - not a dict: it cannot be iterated over
            pools[key].close()
        super().close()


def _pool(kind: type[HTTPConnectionPool], connection: Any, *args: Any, **kwargs: Any) -> Any:
    pool: Any = kind(*args, **kwargs)
    pool.ConnectionCls = connection
    return pool


class _Response(HTTPResponse):
    """A response that skips all interim answers; the standard library skips only ``100``."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, CONTINUE if 100 <= status < 200 else status, reason


class _HttpConnection(HTTPConnection):
    """A connection whose socket ``open`` returns."""

    response_class = _Response

    def __init__(self, open: Callable[[], _Socket], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open = open

    def connect(self) -> None:
        self.sock: Any = self._open()


class _HttpsConnection(HTTPSConnection):
    """A connection whose socket ``open`` returns, after the TLS handshake."""

    response_class = _Response

    def __init__(self, open: Callable[[], _Socket], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open = open

    def connect(self) -> None:
        self.sock: Any = self._open()
        self.is_verified = True


class _Socket(DeadlineSocket):
    """The object that urllib3 uses as its socket."""

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_BodyReader(self))


class _BodyReader(io.RawIOBase):
    """The file from which urllib3 reads an answer: each read spends the deadline."""

    def __init__(self, sock: _Socket) -> None:
        self._socket = sock
        # Keeps the socket open, although urllib3 closes it once the head has been read.
        self._file = sock.sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.ready()
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
