"""The security list, line by line.

What the rest of the suite tests is not repeated here.
"""

from __future__ import annotations

import ast
import copy
import json
import logging
import pickle
import socket
import ssl
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme
import websocket

import wsclient
from support.canaries import TOKENS, found_in, secret_options, secret_url, variables_of, whole_chain
from support.helpers import Server, expect_end, handshake_answer, listener, receive_head, until
from support.inside import core_of, transports_of
from support.interrupting import Point
from support.making import with_book
from wsclient import (
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    WebSocketClient,
    WebSocketHandler,
)
from wsclient.dialect.values import RestRequest
from wsclient.options import Options
from wsclient.testing import FakeVenue, GenericProtocol, Peer
from wsclient.transport import rest
from wsclient.transport.dialing import default_ssl_context, weakness_of
from wsclient.transport.rest import fetch

QUICK: dict[str, Any] = {"retry_delay": 0.01, "max_retry_delay": 0.02}


def failure_of(url: str, **options: Any) -> BaseException:
    """Return the failure that ended the one attempt."""
    with pytest.raises(wsclient.ConnectError) as caught:
        wsclient.connect(url, max_retries=1, **options)
    assert caught.value.__cause__ is not None
    return caught.value.__cause__


# 1. TLS is verified; only a context of the user's own may be insecure, with a warning.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return our own default context, which also trusts the authority of these tests."""
    context = default_ssl_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (lambda ca: ca.issue_cert("127.0.0.1", not_after=_yesterday()), "expired"),
        (lambda ca: ca.issue_cert("venue.example"), "not valid for '127.0.0.1'"),
        (lambda ca: ca.issue_cert("127.0.0.2"), "not valid for '127.0.0.1'"),
        (lambda ca: trustme.CA().issue_cert("127.0.0.1"), "unable to get local issuer"),
    ],
    ids=["expired", "of another host", "of another address", "of an unknown authority"],
)
def test_01_a_bad_certificate_is_refused_before_anything_is_said(
    authority: trustme.CA, certificate: Callable[[trustme.CA], trustme.LeafCert], why: str
) -> None:
    with FakeVenue(ssl_context=server_context(certificate(authority))) as venue:
        error = failure_of(venue.url, ssl_context=trusting(authority))
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert why in str(error)
        assert venue.requests == []


def test_01_a_good_certificate_is_accepted(authority: trustme.CA) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    with FakeVenue(ssl_context=context) as venue:
        wsclient.connect(venue.url, ssl_context=trusting(authority)).close()


def _yesterday() -> datetime:
    return datetime.now(timezone.utc) - timedelta(days=1)


def _allow_old(context: ssl.SSLContext) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("ALL:@SECLEVEL=0")


def _any_certificate(context: ssl.SSLContext) -> None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE


def _any_host(context: ssl.SSLContext) -> None:
    context.check_hostname = False


@pytest.mark.parametrize(
    ("weaken", "said"),
    [
        (_any_certificate, "certificates are not verified"),
        (_any_host, "certificates of any host are accepted"),
        (_allow_old, "TLS older than 1.2 is allowed"),
    ],
)
def test_01_an_insecure_context_is_warned_of_once(
    weaken: Callable[[ssl.SSLContext], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.create_default_context()
    weaken(context)
    with FakeVenue(ssl_context=server_context(trustme.CA().issue_cert("x.example"))) as venue:
        client = WebSocketClient(venue.url, ssl_context=context, max_retries=2, **QUICK)
        with closing(client), ExitStack() as stack:
            if weaken is not _any_certificate:
                stack.enter_context(pytest.raises(wsclient.ConnectError))
            client.connect()
    warned = [r.getMessage() for r in caplog.records if "insecure" in r.getMessage()]
    assert warned == [f"{venue.url[:-1]}: the ssl_context is insecure: {said}"]


@pytest.mark.parametrize(
    "context",
    [
        default_ssl_context,
        ssl.create_default_context,
        lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    ],
)
def test_01_a_secure_context_is_not_warned_of(context: Callable[[], ssl.SSLContext]) -> None:
    assert weakness_of(context()) is None


# 2. ws:// with credentials is refused, except to loopback.


@pytest.mark.parametrize("name", ["headers", "cookie", "credentials"])
def test_02_secrets_do_not_go_to_a_proxy_in_the_clear(name: str) -> None:
    """Secrets never go to a proxy in the clear: its loopback is another host's."""
    with listener() as trap:
        host, port = trap.getsockname()
        options = {name: secret_options()[name], "proxy": f"http://{host}:{port}"}
        with pytest.raises(wsclient.ConfigurationError, match="wss://"):
            wsclient.connect(f"ws://{host}:{port}/", dialect="okx", **options)
        trap.settimeout(0)
        with pytest.raises(BlockingIOError):
            trap.accept()


# 6. Limits are on by default: the table of limits in CONTRIBUTING.rst names each limit's test.


@pytest.mark.parametrize(
    "name",
    [
        "connect_timeout",
        "max_message_size",
        "queue_size",
        "queue_bytes",
        "stall_timeout",
        "send_timeout",
        "ping_interval",
        "ping_timeout",
        "ack_timeout",
        "close_timeout",
    ],
)
def test_06_a_limit_is_on_by_default(name: str) -> None:
    assert getattr(Options(), name) is not None


# 7. No text contains secrets, whatever goes wrong.


class Login(wsclient.Generic):
    """The generic dialect with a login and a token in the URL."""

    def url(self, url: str, credentials: Any) -> str:
        return f"{url}&key={credentials['key']}"

    def login(self, credentials: Any) -> Any:
        return {"type": "login", "key": credentials["key"], "nonce": TOKENS["Login"]}

    def request(self, payload: Any, request_id: int) -> Any:
        return {"type": "request", "id": request_id, **payload}

    def read(self, message: Any) -> Any:
        if message["type"] == "notice":
            return Notice(message["words"])
        if message["type"] == "rejected":
            return Rejection(message["words"], request_id=0)
        if message["type"] == "reply":
            return Reply(message["id"], message, message["words"])
        if message["type"] == "login":
            return LoginAccepted() if message["ok"] else LoginRefused(message["words"])
        return super().read(message)


class LoginVenue(GenericProtocol):
    def __init__(self) -> None:
        self.accepts = True
        self.words = f"no key {TOKENS['Credential']}"

    def received(self, peer: Peer, payload: Any) -> Any:
        if json.loads(payload)["type"] == "login":
            return [json.dumps({"type": "login", "ok": self.accepts, "words": self.words})]
        message = json.loads(payload)
        if message["type"] == "request":
            return [json.dumps({**message, "type": "reply"})]
        return super().received(peer, payload)


class Stage:
    """A venue that reveals secrets, a client that has some, and every text about the two."""

    def __init__(self) -> None:
        self.protocol = LoginVenue()
        self.venue = FakeVenue(self.protocol)
        self.said: list[str] = []
        self.url = ""
        self.options: dict[str, Any] = {
            "dialect": Login(),
            "max_retries": 1,
            "connect_timeout": 0.2,
            **secret_options(),
            **QUICK,
        }

    def client(self, **options: Any) -> WebSocketClient:
        client = WebSocketClient(self.url or secret_url(self.venue.url), **self.options | options)
        self._clients.callback(client.close)
        self._clients.callback(self.listen_to, client)
        return client

    def open(self, **options: Any) -> tuple[WebSocketClient, Peer]:
        client = self.client(**options)
        client.connect()
        client.subscribe("a", token=TOKENS["Option"])
        client.send({"type": "order", "key": TOKENS["Payload"]})
        return client, self.venue.accept()

    def fails(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Assert that the call fails, and record what a caller can learn of its error."""
        with pytest.raises(Exception) as caught:
            function(*args, **kwargs)
        self.listen_to_error(caught.value)

    def listen_to_error(self, error: BaseException) -> None:
        """Record what ``error`` says.

        These are its own text, that of all that it is chained to, shown or not, and the tracebacks
        with the variables in them.
        """
        self.said += traceback.format_exception(type(error), error, error.__traceback__)
        self.said += variables_of(error)
        for chained in whole_chain(error):
            self.said += [str(chained), repr(chained)]
            # The program may see what a venue's page says, except for our secrets.
            data = {name: value for name, value in vars(chained).items() if name != "reply"}
            self.said.append(str(data).replace(TOKENS["Body"], ""))

    def listen_to(self, client: WebSocketClient) -> None:
        core = core_of(client)
        things = (client, client.stats(), client.subscriptions, client.latest("a"), core.options)
        for thing in (
            *things,
            core,
            core.supervisor,
            core.callbacks,
            *transports_of(client).values(),
        ):
            self.said += [repr(thing), str(thing)]

    def __enter__(self) -> Stage:
        self._clients = ExitStack()
        self.venue.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._clients.close()
        self.venue.close()


def _refused(status: int) -> Callable[[Stage], None]:
    def fault(stage: Stage) -> None:
        stage.venue.refuse(
            status,
            body=TOKENS["Body"].encode() * 10,
            headers=[
                ("Set-Cookie", TOKENS["SetCookie"]),
                ("Location", f"{stage.venue.url}?{TOKENS['Location']}"),
                ("WWW-Authenticate", f"Bearer {TOKENS['Header']}"),
            ],
            retry_after=0,
        )
        stage.fails(stage.client().connect)

    return fault


def _broken_handshake(kind: Any) -> Callable[[Stage], None]:
    def fault(stage: Stage) -> None:
        stage.venue.fail_handshake(kind)
        stage.fails(stage.client().connect)

    return fault


def _answer(lines: Callable[[bytes], bytes]) -> Callable[[Stage], None]:
    """Return the fault of a venue that answers the upgrade request with ``lines(head)``."""

    def fault(stage: Stage) -> None:
        def answer(sock: socket.socket) -> None:
            sock.sendall(lines(receive_head(sock)))
            expect_end(sock)

        with Server(answer) as server:
            stage.url = secret_url(server.url)
            stage.fails(stage.client().connect)

    return fault


def _dead_proxy(stage: Stage) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        _through(stage, "http", bound.getsockname()[1])


def _through(stage: Stage, scheme: str, port: int) -> None:
    stage.url = secret_url("wss://venue.example/")
    proxy = f"{scheme}://user:{TOKENS['Proxy']}@127.0.0.1:{port}"
    stage.fails(stage.client(proxy=proxy).connect)


def _proxy(scheme: str, answer: bytes) -> Callable[[Stage], None]:
    def fault(stage: Stage) -> None:
        def proxy(sock: socket.socket) -> None:
            sock.recv(65536)
            sock.sendall(answer)
            expect_end(sock)

        with Server(proxy) as server:
            _through(stage, scheme, server.port)

    return fault


def _quoting_proxy(stage: Stage) -> None:
    """Connect through a proxy that quotes the login as it was sent."""

    def proxy(sock: socket.socket) -> None:
        login = next(line for line in receive_head(sock).split(b"\r\n") if b"Basic" in line)
        sock.sendall(b"HTTP/1.1 407 " + login + b"\r\n\r\n")
        expect_end(sock)

    with Server(proxy) as server:
        _through(stage, "http", server.port)


def _bad_proxy_url(stage: Stage) -> None:
    stage.url = secret_url("wss://venue.example/")
    for proxy in (f"http://user:{TOKENS['Proxy']}@:x", f"ftp://user:{TOKENS['Proxy']}@127.0.0.1:1"):
        stage.fails(stage.client, proxy=proxy)


def _bad_url(stage: Stage) -> None:
    for url in (
        f"http://venue.example/?{TOKENS['Query']}",
        f"ws://venue.example/?a b{TOKENS['Query']}",
        f"ws://venue.example:{TOKENS['Query']}/",
        f"ws://[{TOKENS['Query']}/",
        f"ws://user:{TOKENS['Query']}@venue.example/",
        f"ws://venue.example/#{TOKENS['Query']}",
    ):
        stage.url = url
        stage.fails(stage.client)


def _bad_header(stage: Stage) -> None:
    for headers in (
        {"X": f"{TOKENS['Header']}\r\n"},
        {"X-A:" + TOKENS["Header"]: "1"},
        [TOKENS["Header"]],
    ):
        stage.fails(stage.client, headers=headers)
    stage.fails(stage.client, cookie=f"{TOKENS['Cookie']}\n")


def _in_the_clear(stage: Stage) -> None:
    stage.url = secret_url("ws://192.0.2.1/")
    stage.fails(stage.client().connect)


def _unknown_host(stage: Stage) -> None:
    stage.url = secret_url("wss://venue.invalid/")
    stage.fails(stage.client(connect_timeout=2).connect)


def _bad_tls(stage: Stage) -> None:
    with FakeVenue(ssl_context=server_context(trustme.CA().issue_cert("127.0.0.1"))) as venue:
        stage.url = secret_url(venue.url)
        stage.fails(stage.client().connect)


def _function_raises(name: str) -> Callable[[Stage], None]:
    """Return the fault of a user's function whose error quotes a URL with the token."""

    def fault(stage: Stage) -> None:
        def raising() -> Any:
            token = TOKENS["Token"]
            raise LookupError(f"https://venue.example/?{token}") from OSError(token)

        if name == "url":
            stage.fails(wsclient.connect, raising, **stage.options)
        else:
            stage.fails(stage.client(**{name: raising}).connect)

    return fault


class ByRest(Login):
    """Dialect that fetches a token first, as ``url_from`` does."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url_request(self, url: str, credentials: Any) -> RestRequest:
        return RestRequest(
            f"http://127.0.0.1:{self.port}/?key={credentials['key']}",
            headers={"X-Sign": TOKENS["Header"]},
        )

    def url_from(self, url: str, answer: Any) -> str:
        if "error" in answer:
            raise wsclient.HandshakeRejected(f"no token: {answer['error']}", 200)
        return url

    def token_from(self, answer: Any) -> Any:
        return answer["token"]

    def url(self, url: str, credentials: Any) -> str:
        return f"{url}&bullet={credentials.token}"


def _by_rest(answer: bytes, *, is_refused: bool = False) -> Callable[[Stage], None]:
    """Return the fault of a REST server that gives ``answer``.

    ``is_refused``: the venue then quotes the token.
    """

    def fault(stage: Stage) -> None:
        def handle(sock: socket.socket) -> None:
            receive_head(sock)
            length = b"Content-Length: %d\r\n\r\n" % len(answer.partition(b"\r\n")[2])
            line, _, body = answer.partition(b"\r\n")
            sock.sendall(b"HTTP/1.1 " + line + b"\r\n" + length + body)
            expect_end(sock)

        with Server(handle) as server:
            if is_refused:
                stage.protocol.accepts = False
                stage.protocol.words = f"the token {TOKENS['Token']} is void"
            stage.fails(stage.client(dialect=ByRest(server.port)).connect)

    return fault


def _login_refused(stage: Stage) -> None:
    stage.protocol.accepts = False
    client = stage.client()
    stage.fails(client.connect)
    stage.fails(client.recv)


def _dialect_raises(stage: Stage) -> None:
    class Raising(Login):
        def login(self, credentials: Any) -> Any:
            return {"type": "login", "key": {credentials["key"]: object()}}

    stage.fails(stage.client(dialect=Raising()).connect)


def _connection_ends(end: Callable[[Peer], None]) -> Callable[[Stage], None]:
    def fault(stage: Stage) -> None:
        client, peer = stage.open()
        end(peer)
        stage.venue.wait_for(lambda venue: len(venue.peers) == 2 and venue.subscribers("a"))
        stage.venue.publish("a")
        stage.listen_to(client)
        client.recv(timeout=5)

    return fault


def _half_frame(peer: Peer) -> None:
    peer.half_frame("x" * 100)


def _given_up(stage: Stage) -> None:
    client, peer = stage.open(max_reconnects=1)
    stage.venue.refuse(500, body=TOKENS["Body"].encode(), times=9)
    peer.rst()
    stage.fails(client.recv, timeout=5)
    stage.fails(client.send, TOKENS["Payload"])


def _unreadable(stage: Stage) -> None:
    client, peer = stage.open()
    for quoted in (TOKENS["Header"], "x" * 90 + TOKENS["Query"]):  # the excerpt ends within it
        before = client.stats().invalid
        peer.send(f'{{"you said": "{quoted}')
        until(lambda before=before: client.stats().invalid > before)


def _quoting_notice(stage: Stage) -> None:
    """Let the venue quote what it received, in each possible way."""
    client, peer = stage.open()
    for quoted in ("Credential", "Header", "Cookie", "Query"):
        peer.send(json.dumps({"type": "notice", "words": f"you are {TOKENS[quoted]}"}))
        peer.send(json.dumps({"type": f"type of {TOKENS[quoted]}"}))
    peer.send(json.dumps({"type": "rejected", "words": f"no {TOKENS['Header']}"}))
    until(lambda: client.stats().unhandled == 4)
    stage.fails(client.request, {"words": f"no {TOKENS['Cookie']}"})


def _quoting_refusal(stage: Stage) -> None:
    client, _ = stage.open()
    for n, quoted in enumerate(("Credential", "Header", "Cookie", "Query")):
        stage.venue.refuse_channel(f"b{n}", f"not for {TOKENS[quoted]}")
        stage.fails(client.subscribe, f"b{n}")
        stage.fails(client.reader, f"b{n}")
        stage.fails(client.on, f"b{n}", print)


def _quoting_book(stage: Stage) -> None:
    """Deliver a message that is no book; the error quotes it."""

    class Books(wsclient.BookFormat):
        def channel(self, symbol: str, options: Any) -> str:
            return symbol

        def update(self, message: wsclient.Message) -> Any:
            raise ValueError(bytes(message.raw).decode())

    client, _ = stage.open(dialect=with_book(Books(), Login()))
    client.subscribe("b")
    stage.venue.publish("b", words=TOKENS["Credential"])
    client.recv(timeout=5)
    stage.fails(client.order_book, "b", timeout=0.05)
    assert any("does not fit it" in text for text in stage.said)


def _dialect_raises_of_a_channel(stage: Stage) -> None:
    class Raising(Login):
        def subscribe(self, channels: Any, request_id: int, options: Any) -> Any:
            if channels == ("b",):
                raise LookupError(TOKENS["Credential"])
            return super().subscribe(channels, request_id, options)

    client, _ = stage.open(dialect=Raising())
    stage.fails(client.subscribe, "b", token=TOKENS["Option"])


def _interrupted(stage: Stage) -> None:
    """Interrupt calls: an error reporter receives these errors, too."""
    client, _ = stage.open()
    stage.venue.mute_acks()
    for call in (client.subscribe, client.reader):
        for number in (20, 40, 60):
            point = Point(number)
            point(call, "c", token=TOKENS["Option"], timeout=5)
            assert point.error is not None, point
            stage.listen_to_error(point.error)


def _subscription_rejected(stage: Stage) -> None:
    stage.venue.refuse_channel("b", "no")
    client, _ = stage.open()
    stage.fails(client.subscribe, "b", token=TOKENS["Option"])
    stage.fails(client.subscribe, "c", type=TOKENS["Option"])  # the dialect refuses
    stage.fails(client.subscribe, "d", token={TOKENS["Option"]: object()})  # no JSON
    stage.fails(client.subscribe, "a", token=TOKENS["Option"] + "other")


def _subscription_unanswered(stage: Stage) -> None:
    client, _ = stage.open()
    stage.venue.mute_acks()
    stage.fails(client.subscribe, "b", timeout=0.05, token=TOKENS["Option"])


def _unsendable(stage: Stage) -> None:
    client, _ = stage.open()
    for payload in ({TOKENS["Payload"]: object()}, [TOKENS["Payload"], float("nan")]):
        stage.fails(client.send, payload)
    stage.fails(client.request, {"key": {TOKENS["Payload"]: object()}})


def _callback_raises(stage: Stage) -> None:
    client, _ = stage.open()
    client.on("b", lambda message: message.data["missing"], token=TOKENS["Option"])
    stage.venue.publish("b")
    until(lambda: client.stats().callback_errors)


def _classify_raises(stage: Stage) -> None:
    def raising(error: BaseException) -> Any:
        raise RuntimeError

    stage.venue.refuse(500, body=TOKENS["Body"].encode())
    stage.fails(stage.client(classify=raising).connect)


def _overflow(stage: Stage) -> None:
    client, _ = stage.open(queue_size=1, overflow="error")
    for _ in range(3):
        stage.venue.publish("a")
    until(lambda: client.state is wsclient.State.FAILED)
    client.recv(timeout=5)
    stage.fails(client.recv)


def _closed(stage: Stage) -> None:
    client, _ = stage.open()
    client.close()
    stage.fails(client.recv)
    stage.fails(client.connect)
    stage.fails(client.send, TOKENS["Payload"])


def _misspelt(stage: Stage) -> None:
    stage.fails(stage.client, credential=TOKENS["Credential"])
    for options in ({"connect_timeout": -1}, {"headers": {"Origin": TOKENS["Header"]}}):
        stage.fails(stage.client, **options)
        stage.fails(wsclient.connect, secret_url(stage.venue.url), **stage.options | options)
        stage.fails(wsclient.diagnose, secret_url(stage.venue.url), **secret_options() | options)
        config = {"websocket_uri": secret_url(stage.venue.url), **stage.options, **options}
        stage.fails(WebSocketHandler, config)
    stage.fails(Options, **secret_options(), ack_timeout=0)
    client, _ = stage.open()
    stage.fails(client.subscribe, "b", timeout="1", token=TOKENS["Option"])
    stage.fails(client.order_book, "b", token=TOKENS["Option"])


def _handler(stage: Stage) -> None:
    stage.venue.refuse(401, body=TOKENS["Body"].encode())
    config = {"websocket_uri": secret_url(stage.venue.url), **stage.options}
    with WebSocketHandler(config) as handler:
        stage.fails(handler.connect)
        stage.said += [repr(handler), repr(handler.subscribe("a", token=TOKENS["Option"]))]


FAULTS: dict[str, Callable[[Stage], None]] = {
    **{f"HTTP {status}": _refused(status) for status in (301, 400, 401, 403, 407, 429, 500, 503)},
    **{
        f"{kind} handshake": _broken_handshake(kind)
        for kind in ("deaf", "reset", "eof", "drip", "headers", "garbage")
    },
    "answer that quotes the request": _answer(lambda head: b"HTTP/1.1 101 " + head),
    "answer that is the request": _answer(lambda head: head),
    "answer with the request as a header": _answer(
        lambda head: handshake_answer(head, head.split(b"\r\n")[0])
    ),
    "answer to another key": _answer(
        lambda head: handshake_answer(
            b"Sec-WebSocket-Key: " + TOKENS["Header"].encode(),
            b"Set-Cookie: " + TOKENS["SetCookie"].encode(),
        )
    ),
    "dead proxy": _dead_proxy,
    "proxy that wants another password": _proxy(
        "http", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
    ),
    "proxy that quotes": _quoting_proxy,
    "proxy that is no proxy": _proxy("http", b"SSH-2.0\r\n\r\n"),
    "mute proxy": _proxy("http", b""),
    "socks proxy that refuses": _proxy("socks5", b"\x05\xff"),
    "proxy with a bad URL": _bad_proxy_url,
    "bad URL": _bad_url,
    "bad header": _bad_header,
    "no TLS": _in_the_clear,
    "unknown host": _unknown_host,
    "bad TLS": _bad_tls,
    "url that raises": _function_raises("url"),
    "headers that raise": _function_raises("headers"),
    "credentials that raise": _function_raises("credentials"),
    "REST refused": _by_rest(b"401 No\r\n" + TOKENS["Body"].encode()),
    "REST without a token": _by_rest(b'200 OK\r\n{"token'),
    "REST that quotes": _by_rest(
        b'200 OK\r\n{"error": "no key %s, sign %s"}'
        % (TOKENS["Credential"].encode(), TOKENS["Header"].encode())
    ),
    "token by REST refused": _by_rest(
        b'200 OK\r\n{"token": "%s"}' % TOKENS["Token"].encode(), is_refused=True
    ),
    "login refused": _login_refused,
    "dialect raises": _dialect_raises,
    "kill": _connection_ends(lambda peer: peer.rst()),
    "end without a close frame": _connection_ends(lambda peer: peer.fin()),
    "close by the venue": _connection_ends(lambda peer: peer.close(4001, "go")),
    "close that quotes": _connection_ends(lambda peer: peer.close(4001, f"bad {TOKENS['Header']}")),
    "close that quotes a part": _connection_ends(
        lambda peer: peer.close(4001, "x" * 108 + TOKENS["Cookie"][:15])
    ),
    "notice that quotes": _quoting_notice,
    "refusal that quotes": _quoting_refusal,
    "dialect raises of a channel": _dialect_raises_of_a_channel,
    "interrupt": _interrupted,
    "protocol violation": _connection_ends(lambda peer: peer.send_raw(b"\x83\x00")),
    "invalid UTF-8": _connection_ends(lambda peer: peer.send_raw(b"\x81\x01\xff")),
    "cut in a frame": _connection_ends(lambda peer: peer.half_frame("x" * 100, then="rst")),
    "too many reconnects": _given_up,
    "book that quotes": _quoting_book,
    "unreadable frame": _unreadable,
    "subscription rejected": _subscription_rejected,
    "subscription unanswered": _subscription_unanswered,
    "unsendable payload": _unsendable,
    "callback raises": _callback_raises,
    "classify raises": _classify_raises,
    "overflow": _overflow,
    "close": _closed,
    "misspelt option": _misspelt,
    "handler": _handler,
}


@pytest.fixture
def traced() -> Iterator[None]:
    """Let websocket-client log everything, as a user may ask of it."""
    library = logging.getLogger("websocket")
    handlers, level = list(library.handlers), library.level
    websocket.enableTrace(True, logging.NullHandler())
    yield
    websocket.enableTrace(False)
    library.handlers[:] = handlers
    library.setLevel(level)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("traced")
def test_07_no_fault_makes_a_secret_known(fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    """No fault reveals a secret; a fixture of all fault tests searches the log."""
    with Stage() as stage:
        FAULTS[fault](stage)
    assert stage.said
    out, err = capfd.readouterr()
    assert err == ""
    assert found_in("\n".join([*stage.said, out])) == []


# 8. Credentials are requested again for each connect, and never pickled.


@pytest.mark.parametrize("kind", [ValueError, wsclient.ConfigurationError])
@pytest.mark.parametrize("hook", ["route", "address", "wire_name"])
def test_07_a_hook_that_quotes_the_address_makes_no_secret_known(
    venue: FakeVenue, hook: str, kind: type[Exception]
) -> None:
    url = f"{venue.url}?listenKey=s3cret-canary"

    def quote(*_: Any) -> str:
        raise kind(f"no route at {url}")

    dialect = wsclient.Generic()
    with wsclient.connect(url, dialect=dialect) as client:
        setattr(dialect, hook, quote)
        dialect.route = quote if hook == "route" else lambda *_: "other"  # type: ignore[assignment]
        with pytest.raises(wsclient.SubscriptionRejected, match="no route at") as caught:
            client.subscribe("a", timeout=5)
        assert "canary" not in str(caught.value)
        assert "canary" not in str(caught.value.failed)


def test_08_credentials_are_requested_for_each_connect(venue: FakeVenue) -> None:
    venue.protocol = protocol = LoginVenue()
    protocol.words = "welcome"  # the canary is no secret of this client
    numbers = iter(range(1, 9))
    client = wsclient.connect(
        venue.url + "?", dialect=Login(), credentials=lambda: {"key": str(next(numbers))}, **QUICK
    )
    with client:
        first = venue.accept()
        first.rst()
        second = venue.accept()
        logins = [peer.expect_json()["key"] for peer in (first, second)]
    assert logins == ["1", "2"]
    assert [peer.request.path for peer in (first, second) if peer.request] == [
        "/?&key=1",
        "/?&key=2",
    ]


def test_08_nothing_that_holds_credentials_is_pickled_or_copied(venue: FakeVenue) -> None:
    class Signing(wsclient.Generic):
        def access(self, channels: Any, credentials: Any) -> dict[str, Any]:
            return {}

    options = {**secret_options(), "dialect": Signing()}
    with wsclient.connect(venue.url, **options) as client:
        handler = WebSocketHandler({"websocket_uri": venue.url, **options})
        for thing in (client, client.reader("a"), core_of(client).options, handler):
            for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
                if thing is handler and duplicate is copy.copy:
                    continue  # two handlers of one client
                with pytest.raises(TypeError, match="cannot be pickled") as caught:
                    duplicate(thing)
                assert found_in(str(caught.value)) == []
        handler.close()


# 10. REST: the same TLS rules, timeout, size cap, no redirect to another host.


def test_10_one_module_speaks_http() -> None:
    """One module speaks HTTP: another would need all these tests too."""
    clients = {"requests", "urllib3", "urllib.request", "http.client", "httpx"}
    speakers = set()
    for path in Path(wsclient.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name == c or name.startswith(f"{c}.") for name in names for c in clients):
                speakers.add(path.name)
    assert speakers == {"rest.py"}


def rest_failure(request: RestRequest, **options: Any) -> wsclient.WSClientError:
    with pytest.raises(wsclient.WSClientError) as caught:
        fetch(request, 1.0, **options)
    return caught.value


@pytest.mark.parametrize(
    ("certificate", "is_trusted"),
    [
        (lambda ca: ca.issue_cert("127.0.0.1"), True),
        (lambda ca: ca.issue_cert("127.0.0.1", not_after=_yesterday()), False),
        (lambda ca: ca.issue_cert("venue.example"), False),
        (lambda ca: trustme.CA().issue_cert("127.0.0.1"), False),
    ],
    ids=["good", "expired", "of another host", "of an unknown authority"],
)
def test_10_rest_is_held_to_the_same_tls_rules(
    authority: trustme.CA, certificate: Callable[[trustme.CA], trustme.LeafCert], is_trusted: bool
) -> None:
    context = server_context(certificate(authority))
    heads = []

    def handle(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            heads.append(receive_head(secure))
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
            expect_end(secure)

    with Server(handle) as server:
        request = RestRequest(f"https://127.0.0.1:{server.port}/?5ecret")
        if is_trusted:
            assert fetch(request, 5.0, trusting(authority)) == 1
        else:
            error = rest_failure(request, ssl_context=trusting(authority))
            assert "127.0.0.1 failed: [SSL: CERTIFICATE_VERIFY_FAILED]" in str(error)
            assert "5ecret" not in str(error)
            assert heads == []


def test_10_rest_trusts_no_certificate_of_the_environments(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(bundle))
    context = server_context(authority.issue_cert("127.0.0.1"))
    with Server(lambda sock: context.wrap_socket(sock, server_side=True).close()) as server:
        error = rest_failure(RestRequest(f"https://127.0.0.1:{server.port}/"))
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "did not answer the REST request in time"),
        (b"200 OK\r\nContent-Length: 9999\r\n\r\n" + b"1" * 9999, "is longer than 4096 bytes"),
        (b"302 Found\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:%d/\r\n\r\n", "HTTP 302"),
    ],
    ids=["no answer", "too large", "redirect"],
)
def test_10_rest_has_a_timeout_a_size_cap_and_no_redirects(
    answer: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "MAX_BODY", 4096)
    with Server(expect_end) as other:

        def handle(sock: socket.socket) -> None:
            receive_head(sock)
            text = answer % other.port if b"%d" in answer else answer
            sock.sendall(b"HTTP/1.1 " + text if text else b"")
            expect_end(sock)

        with Server(handle) as server:
            error = rest_failure(RestRequest(f"http://127.0.0.1:{server.port}/"))
        assert why in str(error)
        assert other.connections == 0


# 12. The depth of JSON is bounded, and frames that exceed it are counted.


@pytest.mark.parametrize("dialect", ["generic", "kraken"])
def test_12_json_that_is_too_deep_costs_one_frame_only(dialect: str) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    with FakeVenue(None) as venue, wsclient.connect(venue.url, dialect=dialect, **QUICK) as client:
        peer = venue.accept()
        kind = "market_data" if dialect == "generic" else "update"
        peer.send(f'{{"channel":"a","type":"{kind}","data":{deep}}}')
        peer.send(f'{{"channel":"a","type":"{kind}","data":[]}}')
        assert client.recv(timeout=1).raw.endswith(b"[]}")
        assert client.stats().invalid == client.stats().dials == 1
