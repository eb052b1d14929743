"""Venues, networks and proxies on loopback, each broken in one way.

Each of :data:`BROKEN` gives the arguments of ``diagnose`` for as long as its block lasts.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import functools
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import trustme

from support.helpers import (
    Server,
    dead_address,
    expect_end,
    handshake_answer,
    receive,
    receive_head,
    refused_address,
)
from support.proxies import Proxy
from wsclient.dialects import Kucoin
from wsclient.testing import FakeVenue, GenericProtocol
from wsclient.transport.dialing import default_ssl_context

__all__ = ["BROKEN", "HOST", "Arguments", "resolving", "server_context", "trusting"]

Arguments = dict[str, Any]

HOST = "venue.example"
SHORT = 0.6
DAY = datetime.timedelta(days=1)

CA = trustme.CA(organization_name="Sound Authority")
UNKNOWN = trustme.CA(organization_name="Unknown Authority")


@contextlib.contextmanager
def resolving(**names: Any) -> Iterator[None]:
    """Resolve ``names`` (with ``_`` for the dot) as given; look up all others as usual.

    A value is a list of targets, an error, or a function that returns one of these.
    """
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        found = names.get(str(host).replace(".", "_"))
        if found is None:
            return real(host, *args, **kwargs)
        if callable(found):
            found = found()
        if isinstance(found, BaseException):
            raise found
        return [
            (
                socket.AF_INET6 if ":" in target[0] else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                target,
            )
            for target in found
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield


def server_context(
    *names: str, issuer: trustme.CA = CA, not_after: datetime.datetime | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    started = None if not_after is None else not_after - 30 * DAY
    certificate = issuer.issue_cert(
        *(names or (HOST,)), common_name=HOST, not_before=started, not_after=not_after
    )
    certificate.configure_cert(context)
    return context


def trusting(authority: trustme.CA = CA) -> ssl.SSLContext:
    context = default_ssl_context()
    authority.configure_trust(context)
    return context


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


# Names and addresses.


@contextlib.contextmanager
def no_such_name() -> Iterator[Arguments]:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with resolving(venue_example=error):
        yield {"url": f"wss://{HOST}/"}


@contextlib.contextmanager
def no_resolver() -> Iterator[Arguments]:
    error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    with resolving(venue_example=error):
        yield {"url": f"wss://{HOST}/"}


@contextlib.contextmanager
def name_without_address() -> Iterator[Arguments]:
    with resolving(venue_example=[]):
        yield {"url": f"wss://{HOST}/"}


@contextlib.contextmanager
def hanging_resolver() -> Iterator[Arguments]:
    release = threading.Event()

    def wait() -> Any:
        release.wait(30)
        return []

    with resolving(venue_example=wait):
        yield {"url": f"wss://{HOST}/", "timeout": SHORT}
        release.set()


@contextlib.contextmanager
def refused_connection() -> Iterator[Arguments]:
    with refused_address() as (host, port):
        yield {"url": f"ws://{host}:{port}/"}


@contextlib.contextmanager
def black_hole() -> Iterator[Arguments]:
    with dead_address() as (host, port):
        yield {"url": f"ws://{host}:{port}/", "timeout": SHORT}


# Proxies.


@contextlib.contextmanager
def proxied(fault: str, scheme: str = "http") -> Iterator[Arguments]:
    with Server(Proxy(fault)) as server:
        via = f"{scheme}://trader:hunter22@127.0.0.1:{server.port}"
        timeout = SHORT if fault == "mute" else 10.0
        yield {"url": f"wss://{HOST}/", "proxy": via, "timeout": timeout}


@contextlib.contextmanager
def proxy_that_is_not_there() -> Iterator[Arguments]:
    with refused_address() as (host, port):
        yield {"url": f"wss://{HOST}/", "proxy": f"http://trader:hunter22@{host}:{port}"}


@contextlib.contextmanager
def proxy_of_no_such_name() -> Iterator[Arguments]:
    with resolving(proxy_example=socket.gaierror(socket.EAI_NONAME, "Name not known")):
        yield {"url": f"wss://{HOST}/", "proxy": "http://proxy.example:3128"}


@contextlib.contextmanager
def name_that_only_the_proxy_knows() -> Iterator[Arguments]:
    with (
        Server(Proxy()) as server,
        resolving(venue_example=socket.gaierror(socket.EAI_NONAME, "Name not known")),
    ):
        yield {"url": f"wss://{HOST}/", "proxy": f"socks5://127.0.0.1:{server.port}"}


# TLS.


@contextlib.contextmanager
def tls_venue(context: ssl.SSLContext, trust: ssl.SSLContext | None) -> Iterator[Arguments]:
    """Run a venue that only TLS may reach."""
    with (
        FakeVenue(ssl_context=context) as venue,
        resolving(venue_example=[("127.0.0.1", venue.port)]),
    ):
        yield {"url": f"wss://{HOST}:{venue.port}/", "ssl_context": trust}
        assert venue.requests == []


def expired() -> Any:
    return tls_venue(server_context(not_after=now() - 3 * DAY - DAY / 4), trusting())


def for_another_host() -> Any:
    return tls_venue(server_context("other.example", "*.other.example"), trusting())


def by_an_unknown_authority() -> Any:
    return tls_venue(server_context(issuer=UNKNOWN), trusting())


@contextlib.contextmanager
def self_signed() -> Iterator[Arguments]:
    from support.helpers import server_context as localhost

    with FakeVenue(ssl_context=localhost()) as venue:
        yield {"url": f"wss://127.0.0.1:{venue.port}/"}
        assert venue.requests == []


@contextlib.contextmanager
def old_tls() -> Iterator[Arguments]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = server_context()
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            expect_end(secure)

    with Server(serve) as server, resolving(venue_example=[("127.0.0.1", server.port)]):
        yield {"url": f"wss://{HOST}:{server.port}/", "ssl_context": trusting()}


@contextlib.contextmanager
def plain_venue_by_wss() -> Iterator[Arguments]:
    """Run a plain server that answers TLS with a 400, as most web servers do."""

    def serve(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with Server(serve) as server:
        yield {"url": f"wss://127.0.0.1:{server.port}/"}


@contextlib.contextmanager
def plain_venue_that_hangs_up_on_wss() -> Iterator[Arguments]:
    with FakeVenue() as venue:
        yield {"url": f"wss://127.0.0.1:{venue.port}/"}


@contextlib.contextmanager
def mute_tls() -> Iterator[Arguments]:
    with Server(expect_end) as server:
        yield {"url": f"wss://127.0.0.1:{server.port}/", "timeout": SHORT}


# The handshake.


@contextlib.contextmanager
def refusing(status: int, **how: Any) -> Iterator[Arguments]:
    with FakeVenue() as venue:
        venue.refuse(status, **how)
        yield {"url": venue.url}


@contextlib.contextmanager
def failing(fault: Any, **options: Any) -> Iterator[Arguments]:
    with FakeVenue() as venue:
        venue.fail_handshake(fault)
        yield {"url": venue.url, **options}


@contextlib.contextmanager
def tls_venue_by_ws() -> Iterator[Arguments]:
    """Run a TLS server that answers a plain request with an alert, as most do."""

    def serve(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(bytes.fromhex("15030100020246"))

    with Server(serve) as server:
        yield {"url": f"ws://127.0.0.1:{server.port}/"}


@contextlib.contextmanager
def reset_instead_of_an_answer() -> Iterator[Arguments]:
    def serve(sock: socket.socket) -> None:
        receive_head(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with Server(serve) as server:
        yield {"url": server.url}


@contextlib.contextmanager
def answer_to_another_key() -> Iterator[Arguments]:
    def serve(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(handshake_answer(b"Sec-WebSocket-Key: another"))
        expect_end(sock)

    with Server(serve) as server:
        yield {"url": server.url}


# The open connection.


class HangsUp(GenericProtocol):
    """Protocol that closes every connection at once."""

    def greeting(self, peer: Any) -> Any:
        peer.close(1008, "your key trust-no-1 has\nexpired")
        return []


class Mute(GenericProtocol):
    """Protocol that answers no ping."""

    def greeting(self, peer: Any) -> Any:
        peer.mute_pongs()
        return []


class HangsUpLater(GenericProtocol):
    """Protocol that closes the connection instead of answering."""

    def received(self, peer: Any, payload: Any) -> Any:
        peer.rst()
        return []


@contextlib.contextmanager
def open_venue(protocol: Any = "generic", **options: Any) -> Iterator[Arguments]:
    with FakeVenue(protocol) as venue:
        venue.refuse_channel("gone", "no such channel")
        venue.mute_acks(channel="muted")
        yield {"url": f"{venue.url}?token=trust-no-1", **options}


# A token by REST.


@contextlib.contextmanager
def token_server(status: bytes, body: bytes, **options: Any) -> Iterator[Arguments]:
    def handle(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        expect_end(sock)

    with Server(handle) as server:
        dialect = Kucoin(rest=f"http://127.0.0.1:{server.port}")
        yield {"url": f"wss://{HOST}/", "dialect": dialect, **options}


def bullet(endpoint: str) -> bytes:
    data = {"token": "t0ken-of-the-venue", "instanceServers": [{"endpoint": endpoint}]}
    return msgspec.json.encode({"code": "200000", "data": data})


@contextlib.contextmanager
def no_welcome() -> Iterator[Arguments]:
    with FakeVenue() as venue, token_server(b"200 OK", bullet(venue.url), timeout=SHORT) as options:
        yield options


@contextlib.contextmanager
def skewed(seconds: float = 0.0, pongs: int = 99) -> Iterator[Arguments]:
    """Run a venue whose clock is ahead of ours by ``seconds``, and that answers ``pongs`` pings."""

    def serve(sock: socket.socket) -> None:
        request = receive_head(sock)
        date = email.utils.formatdate(time.time() + seconds, usegmt=True).encode()
        sock.sendall(handshake_answer(request, b"Date: " + date))
        for _ in range(pongs):
            if receive(sock, 6)[0] & 0x0F != 9:  # an empty ping is as long as its head
                return
            sock.sendall(b"\x8a\x00")
        expect_end(sock)

    with Server(serve) as server:
        yield {"url": server.url}


HTML = b"<!doctype html><title>Welcome to Hotel California</title>"
FAR = [("Location", "https://user:pass@www.venue.example/login?token=trust-no-1")]
BROKEN: dict[str, tuple[Callable[[], Any], str, str, str]] = {
    # name: the rig, the check that fails, what it says, what it advises
    "no such name": (no_such_name, "dns", "does not exist", "typo"),
    "no resolver": (no_resolver, "dns", "no DNS server answered", "resolv.conf"),
    "name without address": (name_without_address, "dns", "has no address", "resolv.conf"),
    "hanging resolver": (hanging_resolver, "dns", "no DNS server answered", "resolv.conf"),
    "connection refused": (refused_connection, "tcp", "refused", "check the port"),
    "black hole": (black_hole, "tcp", "no answer", "firewall"),
    "proxy wants a login": (
        functools.partial(proxied, "407 Proxy Authentication Required"),
        "proxy",
        "407 Proxy Authentication Required",
        "user:password@",
    ),
    "proxy refuses the login": (
        functools.partial(proxied, "login", "socks5h"),
        "proxy",
        "authentication failure",
        "user:password@",
    ),
    "proxy forbids": (
        functools.partial(proxied, "403 Forbidden"),
        "proxy",
        "403 Forbidden",
        "only port 443",
    ),
    "proxy cannot reach the venue": (
        functools.partial(proxied, "502 Bad Gateway"),
        "proxy",
        "502 Bad Gateway",
        "could not look up or reach the venue",
    ),
    "SOCKS proxy cannot reach the venue": (
        functools.partial(proxied, "refuse", "socks5h"),
        "proxy",
        "refused",
        "could not look up or reach the venue",
    ),
    "proxy is none": (
        functools.partial(proxied, "what?"),
        "proxy",
        "the proxy refused",
        "a proxy of that kind",
    ),
    "proxy is mute": (
        functools.partial(proxied, "mute"),
        "proxy",
        "does not answer",
        "overloaded",
    ),
    "proxy is not there": (proxy_that_is_not_there, "tcp", "refused", "whether the proxy is down"),
    "proxy of no such name": (
        proxy_of_no_such_name,
        "dns",
        "proxy.example does not exist",
        "the proxy's URL",
    ),
    "name that only the proxy knows": (
        name_that_only_the_proxy_knows,
        "proxy",
        "could not be looked up",
        "socks5h://",
    ),
    "expired certificate": (expired, "tls", "3 days ago", "only the venue"),
    "certificate for another host": (
        for_another_host,
        "tls",
        f"not for {HOST} but for other.example, *.other.example",
        "Check the host",
    ),
    "unknown authority": (by_an_unknown_authority, "tls", "Unknown Authority", "CA certificates"),
    "self-signed certificate": (self_signed, "tls", "self-signed", "send nothing there"),
    "old TLS": (old_tls, "tls", "1.2 or newer is needed", "out of date"),
    "plain venue by wss": (plain_venue_by_wss, "tls", "not TLS", "ws://, without TLS"),
    "plain venue hangs up on wss": (
        plain_venue_that_hangs_up_on_wss,
        "tls",
        "closed during the TLS handshake",
        "ws://, without TLS",
    ),
    "mute TLS": (mute_tls, "tls", "no answer", "ws://, without TLS"),
    "TLS venue by ws": (tls_venue_by_ws, "handshake", "requires TLS", "wss://"),
    "TLS venue by ws, in words": (
        functools.partial(refusing, 400, body=b"400 The plain HTTP request was sent to HTTPS port"),
        "handshake",
        "requires TLS",
        "wss://",
    ),
    "a web page": (
        functools.partial(
            refusing,
            200,
            body=HTML,
            headers=[("Content-Type", "text/html"), ("Server", "Hotel\tCalifornia")],
        ),
        "handshake",
        "HTTP 200 OK (server: Hotel California, type: text/html)",
        "login page",
    ),
    "redirect": (
        functools.partial(refusing, 301, headers=FAR),
        "handshake",
        "HTTP 301 Moved Permanently, to https://www.venue.example",
        "follows no redirect",
    ),
    "redirect to itself": (
        functools.partial(refusing, 307, headers=[("Location", "/v3")]),
        "handshake",
        "HTTP 307 Temporary Redirect, to another path of this host",
        "follows no redirect",
    ),
    "400": (functools.partial(refusing, 400), "handshake", "HTTP 400", "subprotocol"),
    "401": (functools.partial(refusing, 401), "handshake", "HTTP 401", "credentials"),
    "403": (functools.partial(refusing, 403), "handshake", "HTTP 403", "region"),
    "404": (functools.partial(refusing, 404), "handshake", "HTTP 404", "path in the URL"),
    "426": (functools.partial(refusing, 426), "handshake", "HTTP 426", "another protocol"),
    "429": (
        functools.partial(refusing, 429, retry_after=90),
        "handshake",
        "HTTP 429 Too Many Requests, retry after 90 s",
        "Too many connects",
    ),
    "503": (
        functools.partial(refusing, 503, retry_after=300),
        "handshake",
        "HTTP 503 Service Unavailable, retry after 5 minutes",
        "status page",
    ),
    "a status of its own": (functools.partial(refusing, 599), "handshake", "HTTP 599", "a failure"),
    "garbage": (functools.partial(failing, "garbage"), "handshake", "not HTTP", "not a WebSocket"),
    "endless head": (functools.partial(failing, "headers"), "handshake", "65536", "broken one"),
    "dripping head": (
        functools.partial(failing, "drip", timeout=SHORT),
        "handshake",
        "no complete answer",
        "overloaded",
    ),
    "deaf venue": (
        functools.partial(failing, "deaf", timeout=SHORT),
        "handshake",
        "no complete answer",
        "overloaded",
    ),
    "end instead of an answer": (
        functools.partial(failing, "eof"),
        "handshake",
        "closed before an answer",
        "restarting",
    ),
    "reset instead of an answer": (
        reset_instead_of_an_answer,
        "handshake",
        "closed before an answer",
        "restarting",
    ),
    "answer to another key": (
        answer_to_another_key,
        "handshake",
        "not valid",
        "not a WebSocket server",
    ),
    "hangs up": (
        functools.partial(open_venue, HangsUp()),
        "connection",
        "1008: your key *** has expired",
        "key or token",
    ),
    "hangs up on a subscription": (
        functools.partial(open_venue, HangsUpLater(), subscribe="a"),
        "subscribe",
        "the connection broke (Connection reset by peer)",
        "without a close frame",
    ),
    "token refused": (
        functools.partial(token_server, b"503 Service Unavailable", b""),
        "rest",
        "HTTP 503",
        "a failure",
    ),
    "token refused in words": (
        functools.partial(token_server, b"200 OK", b'{"code":"400100","msg":"No"}'),
        "rest",
        "code 400100",
        "look up the code",
    ),
    "too many tokens": (
        functools.partial(token_server, b"429 Too Many Requests", b""),
        "rest",
        "HTTP 429",
        "Too many connects",
    ),
    "token in no JSON": (
        functools.partial(token_server, b"200 OK", HTML),
        "rest",
        "not JSON",
        "from 127.0.0.1",
    ),
    "token in other JSON": (
        functools.partial(token_server, b"200 OK", b"[]"),
        "rest",
        "url_from() raised",
        "from 127.0.0.1",
    ),
    "token for a wrong address": (
        functools.partial(token_server, b"200 OK", bullet("gopher://x")),
        "rest",
        "must begin with ws://",
        "from 127.0.0.1",
    ),
    "no welcome": (
        no_welcome,
        "login",
        "no answer to the login, in time",
        "does not finish the login",
    ),
}
