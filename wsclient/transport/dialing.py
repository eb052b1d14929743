"""Opens sockets: from an address to a connection, through a proxy and TLS, within one deadline."""

from __future__ import annotations

import contextlib
import socket
import ssl
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from wsclient.errors import ConnectionLost, ConnectTimeout, NotSupported
from wsclient.threads.waiting import Deadline
from wsclient.transport.addresses import Address, parse_proxy
from wsclient.transport.handshake import MAX_HEAD, is_interim
from wsclient.transport.sockets import DeadlineSocket, left

__all__ = [
    "OnStep",
    "connect_to",
    "default_ssl_context",
    "open_socket",
    "to_nobody",
    "weakness_of",
    "wrap",
]

#: Called with the name of each step of an attempt as it begins, and with the step's subject. An
#: address that refuses the connection is reported as ``"refused"``, with its error.
OnStep = Callable[[str, Any], None]


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


def to_nobody(_step: str, _about: object) -> None:
    """Ignore a step."""


def open_socket(
    address: Address,
    *,
    proxy: str | None,
    ssl_context: ssl.SSLContext | None,
    deadline: Deadline,
    hold: Callable[[socket.socket], None],
    on_step: OnStep = to_nobody,
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
        sock.settimeout(left(deadline))
        sock.do_handshake()
    return sock


def wrap(sock: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """Return ``sock`` as a TLS socket, before its handshake. If it raises, ``sock`` is closed.

    Raises OSError.
    """
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
            return connect_to(info, left(deadline) / (len(infos) - i), hold)
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
    """Return a socket connected to ``info``, one of the results of ``getaddrinfo``.

    ``timeout`` is in seconds. Raises OSError.
    """
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
    kind: type[DeadlineSocket]

    def connect(self, dest_host: str, dest_port: int, timeout: float) -> DeadlineSocket:
        """Return a connection to the proxy. Called by python-socks."""
        proxy = Address(dest_host, dest_port, False)
        try:
            sock = _open_directly(proxy, self.deadline, self.hold, self.on_step)
        except OSError as error:
            if error.strerror:  # else the text would be that of a failure to reach the venue
                error.strerror = f"the proxy cannot be reached: {error.strerror}"
            raise
        self.on_step("proxy", proxy)
        return self.kind(sock, self.deadline)


class _WholeAnswers(DeadlineSocket):
    """A socket to an HTTP proxy whose ``recv`` returns the proxy's whole answer.

    python-socks takes the result of one read for the whole answer. But the answer may come in
    pieces, and a piece left unread would be taken for data of the venue.
    """

    def recv(self, _size: int) -> bytes:
        """Return the whole answer. Raises ConnectionLost if it is longer than MAX_HEAD."""
        answer, skipped = bytearray(), 0
        while not answer.endswith(b"\r\n\r\n"):
            byte = super().recv(1)
            if not byte:
                break
            answer += byte
            if skipped + len(answer) > MAX_HEAD:
                raise ConnectionLost(f"the proxy's answer is longer than {MAX_HEAD} bytes")
            if answer.endswith(b"\r\n\r\n") and is_interim(answer):
                skipped += len(answer)
                answer.clear()
        return bytes(answer)


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
    sockets = _WholeAnswers if is_http else DeadlineSocket
    dialer: Any = _ProxyDialer(deadline, hold, on_step, sockets)
    kind = ProxyType.HTTP if is_http else ProxyType.SOCKS5
    via = Proxy(kind, host, port, user, password, rdns=scheme != "socks5", forward=dialer)
    try:
        sock: Any = via.connect(address.host, address.port, timeout=left(deadline))
    except ProxyTimeout:
        raise ConnectTimeout("the proxy did not answer in time") from None
    except ProxyError as error:
        raise ConnectionLost(f"the proxy refused: {str(error)[:200]}") from None
    opened: socket.socket = sock.sock
    return opened


@contextlib.contextmanager
def _closing_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
