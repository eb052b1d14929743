"""REST requests: what is sent, the result of each answer, and the bounds of time and size."""

from __future__ import annotations

import errno
import gc
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from decimal import Decimal
from typing import Any

import pytest
import requests
import responses

import wsclient
from support.depth import Binance
from support.helpers import (
    Call,
    Server,
    client_context,
    expect_end,
    receive_head,
    server_context,
    text_of,
    until,
)
from support.logrig import making
from support.proxies import Proxy
from wsclient import (
    ConfigurationError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    LoginAccepted,
    WebSocketClient,
    WSClientError,
)
from wsclient.dialect.values import RestRequest
from wsclient.dialects import Generic
from wsclient.testing import FakeVenue
from wsclient.transport import rest
from wsclient.transport.rest import fetch
from wsclient.verdicts import Verdict, classify

URL = "https://venue.example/path-5ecret"
REQUEST = RestRequest(URL, {"token": "query-5ecret"}, headers={"X-Key": "header-5ecret"})
SLACK = 0.5


def answer(body: bytes = b'{"a": 1}', status: str = "200 OK", *lines: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def serving(*pieces: bytes, then: Callable[[socket.socket], None] = expect_end) -> Server:
    """Return a handler that reads one request and answers with these pieces."""

    def handle(sock: socket.socket) -> None:
        receive_head(sock)
        for piece in pieces:
            sock.sendall(piece)
        then(sock)

    return Server(handle)


def asking(server: Server, path: str = "") -> RestRequest:
    return RestRequest(http(server) + path)


def failure(request: RestRequest, timeout: float = 5.0) -> WSClientError:
    with pytest.raises(WSClientError) as caught:
        fetch(request, timeout)
    assert "5ecret" not in text_of(caught.value)
    return caught.value


@pytest.fixture
def mocked() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


class TestAsking:
    def test_the_method_the_query_and_the_headers_go_out(
        self, mocked: responses.RequestsMock
    ) -> None:
        mocked.post(URL, json={"a": 1})
        assert fetch(REQUEST._replace(method="POST"), 5.0) == {"a": 1}
        sent = mocked.calls[0].request
        assert (sent.method, sent.url) == ("POST", f"{URL}?token=query-5ecret")
        assert sent.headers["X-Key"] == "header-5ecret"

    def test_a_body_goes_out_as_it_is(self, mocked: responses.RequestsMock) -> None:
        mocked.post(URL, json=1)
        fetch(REQUEST._replace(method="POST", body="nonce=1&otp=2"), 5.0)
        assert mocked.calls[0].request.body == "nonce=1&otp=2"

    def test_fractions_are_decimals_digit_for_digit(self, mocked: responses.RequestsMock) -> None:
        mocked.get(URL, body=b'{"p": 0.10, "n": 12, "s": "1.0"}')
        found = fetch(REQUEST, 5.0)
        assert repr(found) == repr({"p": Decimal("0.10"), "n": 12, "s": "1.0"})

    def test_no_cookie_is_kept(self, mocked: responses.RequestsMock) -> None:
        mocked.get(URL, json=1, headers={"Set-Cookie": "a=b"})
        fetch(REQUEST, 5.0)
        fetch(REQUEST, 5.0)
        assert "Cookie" not in mocked.calls[1].request.headers

    def test_the_environment_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        with serving(answer()) as server:
            assert fetch(asking(server), 5.0) == {"a": 1}

    def test_it_goes_over_a_real_socket(self) -> None:
        heads = []

        def handle(sock: socket.socket) -> None:
            heads.append(receive_head(sock))
            sock.sendall(answer())
            expect_end(sock)

        with Server(handle) as server:
            assert fetch(asking(server, "a")._replace(params={"b": "c d"}), 5.0) == {"a": 1}
        assert heads[0].startswith(b"GET /a?b=c+d HTTP/1.1\r\n")
        assert b"identity" in heads[0]

    def test_an_answer_in_chunks(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        with serving(head, b"4\r\n[1, \r\n", b"2\r\n2]\r\n0\r\n\r\n") as server:
            assert fetch(asking(server), 5.0) == [1, 2]

    @pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
    def test_interim_answers_before_it_are_skipped(self, status: bytes) -> None:
        interim = b"HTTP/1.1 " + status + b"\r\nLink: </a>\r\n\r\n"
        with serving(interim, interim, answer()) as server:
            assert fetch(asking(server), 5.0) == {"a": 1}

    def test_interim_answers_without_end_are_ended_at_the_deadline(self) -> None:
        def handle(sock: socket.socket) -> None:
            receive_head(sock)
            with suppress(OSError):
                while True:
                    sock.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")

        with Server(handle) as server:
            assert isinstance(failure(asking(server), 0.3), wsclient.ConnectTimeout)

    def test_an_answer_that_ends_with_the_connection(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        with serving(head, b"[1, ", b"2]", then=lambda sock: None) as server:
            assert fetch(asking(server), 5.0) == [1, 2]

    @pytest.mark.parametrize(
        "url",
        [
            "http://venue.example/",
            "http://10.0.0.1/",
            "ftp://venue.example/",
            "venue.example",
            "https://user:5ecret@venue.example/",
            "https:///5ecret",
        ],
    )
    def test_no_request_is_sent_that_is_not_https(self, url: str) -> None:
        assert isinstance(failure(RestRequest(url)), ConfigurationError)

    def test_no_header_is_injected(self) -> None:
        request = RestRequest(URL, headers={"A": "b\r\n5ecret: c"})
        assert isinstance(failure(request), ConfigurationError)


class TestRefusals:
    @pytest.mark.parametrize("status", [401, 403])
    def test_some_are_final(self, mocked: responses.RequestsMock, status: int) -> None:
        mocked.get(URL, status=status, body="5ecret")
        error = failure(REQUEST)
        assert isinstance(error, HandshakeRejected)
        assert (error.status, classify(error)) == (status, Verdict.FATAL)
        assert str(error) == f"venue.example answered the REST request with HTTP {status}"

    @pytest.mark.parametrize(
        ("status", "verdict"),
        [(418, Verdict.RATE_LIMITED), (429, Verdict.RATE_LIMITED), (503, Verdict.RETRY)],
    )
    def test_a_retry_after_is_reported(
        self, mocked: responses.RequestsMock, status: int, verdict: Verdict
    ) -> None:
        mocked.get(URL, status=status, headers={"Retry-After": "7"})
        error = failure(REQUEST)
        assert isinstance(error, HandshakeRejected)
        assert (error.status, error.retry_after, classify(error)) == (status, 7.0, verdict)

    @pytest.mark.parametrize("status", [400, 404, 500, 502])
    def test_others_are_worth_another_attempt(
        self, mocked: responses.RequestsMock, status: int
    ) -> None:
        mocked.get(URL, status=status)
        error = failure(REQUEST)
        assert isinstance(error, HandshakeRejected)
        assert (error.status, error.retry_after, classify(error)) == (status, None, Verdict.RETRY)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, mocked: responses.RequestsMock, status: int) -> None:
        mocked.get(URL, status=status, headers={"Location": "https://other.example/"})
        error = failure(REQUEST)
        assert isinstance(error, HandshakeRejected)
        assert error.status == status
        assert "redirect" in str(error)
        assert len(mocked.calls) == 1

    @pytest.mark.parametrize(
        ("body", "kept"), [(b'{"code":-1125}', 14), (b"x" * 2000, 512), (b"", 0)]
    )
    def test_the_beginning_of_its_page_is_kept(self, body: bytes, kept: int) -> None:
        with serving(answer(body, "400 Bad Request")) as server:
            error = failure(asking(server))
        assert isinstance(error, HandshakeRejected)
        assert (error.status, error.excerpt) == (400, body[:kept])

    def test_a_page_that_breaks_does_not_hide_it(self) -> None:
        def cut(sock: socket.socket) -> None:
            sock.close()

        broken = answer(b"", "400 Bad Request").replace(b"Length: 0", b"Length: 9")
        with serving(broken, then=cut) as server:
            error = failure(asking(server))
        assert isinstance(error, HandshakeRejected)
        assert error.excerpt == b""


class TestBadAnswers:
    @pytest.mark.parametrize(
        "body", [b"{", b"<html>5ecret</html>", b"\xff", b"[" * 100_000 + b"]" * 100_000, b'"\xff"']
    )
    def test_what_is_no_json(self, mocked: responses.RequestsMock, body: bytes) -> None:
        mocked.get(URL, body=body)
        error = failure(REQUEST)
        assert isinstance(error, ConnectionLost)
        assert str(error) == "the REST answer of venue.example is not JSON"
        assert classify(error) is Verdict.RETRY

    @pytest.mark.parametrize("body", [b"", b" \n"])
    def test_an_empty_one(self, mocked: responses.RequestsMock, body: bytes) -> None:
        mocked.get(URL, body=body)
        error = failure(REQUEST)
        assert isinstance(error, ConnectionLost)
        assert str(error) == "the REST answer of venue.example is empty"

    def test_one_too_large_is_not_read_to_its_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rest, "MAX_BODY", 100_000)
        sent = []

        def pour(sock: socket.socket) -> None:
            while True:
                sent.append(sock.send(b" " * 65536))

        head = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"
        with serving(head, then=pour) as server:
            error = failure(asking(server))
        assert str(error) == "the REST answer of 127.0.0.1 is longer than 100000 bytes"
        assert sum(sent) < 50_000_000

    def test_one_as_large_as_is_allowed_is_read(
        self, mocked: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rest, "MAX_BODY", 100_000)
        mocked.get(URL, body=b"1" + b" " * 99_999)
        assert fetch(REQUEST, 5.0) == 1

    def test_one_that_is_small_on_the_wire_only_is_refused(self) -> None:
        with serving(answer(b"\x1f\x8b" + b"x" * 20, "200 OK", "Content-Encoding: gzip")) as server:
            assert "not JSON" in str(failure(asking(server)))

    @pytest.mark.parametrize(
        "piece", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1, ", b"no HTTP\r\n\r\n"]
    )
    def test_one_that_breaks_off(self, piece: bytes) -> None:
        with serving(piece, then=lambda sock: None) as server:
            error = failure(asking(server, "5ecret?a=5ecret"))
        assert isinstance(error, ConnectionLost)
        assert classify(error) is Verdict.RETRY
        assert str(error).startswith("the REST request to 127.0.0.1 failed: ")

    def test_its_connection_is_closed_even_if_the_caller_keeps_the_error(self) -> None:
        kept: list[BaseException] = []

        def hold(_: socket.socket) -> None:
            assert not kept

        with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{") as server:
            try:
                fetch(asking(server), 5.0, hold=hold)
            except ConnectionLost as error:
                kept.append(error)
        assert len(kept) == 1  # the fixture that looks for leaks checks the rest

    def test_nobody_there(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            error = failure(RestRequest(f"http://127.0.0.1:{port}/5ecret"))
        why = os.strerror(errno.ECONNREFUSED)
        assert str(error) == f"the REST request to 127.0.0.1 failed: {why}"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


class TestDeadline:
    """One deadline bounds the whole request."""

    @pytest.mark.parametrize("piece", [b"", b"HTTP/1.1 200 OK\r\n", HEAD, HEAD + b"[1"])
    def test_silence(self, piece: bytes) -> None:
        with serving(piece) as server:
            started = time.monotonic()
            error = failure(asking(server), 0.2)
            assert 0.15 < time.monotonic() - started < 0.2 + SLACK
        assert isinstance(error, ConnectTimeout)
        assert str(error) == "127.0.0.1 did not answer the REST request in time"
        assert classify(error) is Verdict.RETRY

    @pytest.mark.parametrize("piece", [b"HTTP/1.1 200 OK\r\nX-Slow: ", HEAD])
    def test_a_trickle(self, piece: bytes) -> None:
        def trickle(sock: socket.socket) -> None:
            while not server.closing.wait(0.02):
                sock.sendall(b" ")

        with serving(piece, then=trickle) as server:
            started = time.monotonic()
            error = failure(asking(server), 0.3)
            assert time.monotonic() - started < 0.3 + SLACK
        assert isinstance(error, ConnectTimeout)

    def test_a_timeout_of_the_library(self, mocked: responses.RequestsMock) -> None:
        mocked.get(URL, body=requests.ReadTimeout("5ecret"))
        assert isinstance(failure(REQUEST), ConnectTimeout)

    def test_a_failure_of_the_library(self, mocked: responses.RequestsMock) -> None:
        mocked.get(URL, body=requests.ConnectionError("5ecret"))
        assert str(failure(REQUEST)) == "the REST request to venue.example failed: ConnectionError"


class TestCycles:
    """The garbage collector may be disabled."""

    @pytest.mark.parametrize("piece", [answer(), answer(b"", "503 No"), HEAD, b"no HTTP\r\n\r\n"])
    def test_nothing_is_left_to_the_collector(self, piece: bytes) -> None:
        with serving(piece) as server:
            request = asking(server)

            def left() -> int:
                gc.collect()
                with suppress(WSClientError):
                    fetch(request, 0.2)
                return gc.collect()

            gc.disable()
            try:
                # Another thread may leave something meanwhile. A cycle of ours is left each time.
                assert any(left() == 0 for _ in range(5))
            finally:
                gc.enable()


class TestTls:
    @pytest.mark.parametrize("scheme", ["https", "HTTPS"])
    def test_an_own_context_is_used(self, scheme: str) -> None:
        with Server(secure_answer) as server:
            request = RestRequest(f"{scheme}://localhost:{server.port}/")
            assert fetch(request, 5.0, client_context()) == {"a": 1}
            assert isinstance(failure(request), ConnectionLost), "no other context trusts it"


class TestProxies:
    @pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
    def test_it_goes_through_the_proxy_and_its_tls_is_end_to_end(self, scheme: str) -> None:
        proxy = Proxy()
        with Server(secure_answer) as server, Server(proxy) as between:
            via = f"{scheme}://user:p%40ss@127.0.0.1:{between.port}"
            request = RestRequest(f"https://127.0.0.1:{server.port}/path")
            assert fetch(request, 5.0, client_context(), proxy=via) == {"a": 1}
            assert (between.connections, server.connections) == (1, 1)
        assert proxy.logins == ["user:p@ss"]
        assert f"127.0.0.1:{server.port}" in proxy.asked[0]
        assert "path" not in proxy.asked[0]

    @pytest.mark.parametrize(
        ("scheme", "fault"),
        [("http", "407 No"), ("http", "502 Down"), ("socks5h", "login"), ("socks5h", "no")],
    )
    def test_its_refusal_is_reported_without_the_password(self, scheme: str, fault: str) -> None:
        with Server(Proxy(fault)) as between:
            via = f"{scheme}://user:5ecret@127.0.0.1:{between.port}"
            with pytest.raises(WSClientError, match="proxy") as caught:
                fetch(REQUEST, 5.0, proxy=via)
        assert "5ecret" not in text_of(caught.value)
        assert classify(caught.value) is Verdict.RETRY

    @pytest.mark.parametrize("scheme", ["http", "socks5h"])
    def test_a_mute_one_is_ended_at_the_deadline(self, scheme: str) -> None:
        with Server(Proxy("mute")) as between:
            started = time.monotonic()
            with pytest.raises(ConnectTimeout):
                fetch(REQUEST, 0.2, proxy=f"{scheme}://127.0.0.1:{between.port}")
            assert time.monotonic() - started < 0.2 + SLACK

    def test_no_unencrypted_request_goes_through_a_proxy(self) -> None:
        """Not even to loopback: at the proxy it is the proxy's own host."""
        with pytest.raises(ConfigurationError, match="https"):
            fetch(RestRequest("http://127.0.0.1:1/"), 5.0, proxy="http://127.0.0.1:1")

    def test_a_books_snapshot_goes_through_the_clients(self) -> None:
        truth, proxy = Binance(), Proxy()

        def answer_securely(sock: socket.socket) -> None:
            with server_context().wrap_socket(sock, server_side=True) as secure:
                truth.answer(secure)

        with (
            Server(answer_securely) as server,
            FakeVenue(truth, ssl_context=server_context()) as venue,
            Server(proxy) as between,
            wsclient.connect(
                venue.url,
                dialect=truth.at(f"https://localhost:{server.port}"),
                proxy=f"socks5h://127.0.0.1:{between.port}",
                ssl_context=client_context(),
            ) as client,
        ):
            assert client.order_book(truth.symbol, timeout=5).is_synced
        assert proxy.asked == [f"127.0.0.1:{venue.port}", f"localhost:{server.port}"]


def secure_answer(sock: socket.socket) -> None:
    with server_context().wrap_socket(sock, server_side=True) as secure:
        receive_head(secure)
        secure.sendall(answer())
        expect_end(secure)


class TestSecrets:
    def test_nothing_of_the_url_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        bad = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nno header\r\n\r\n1"
        for piece in (answer(), bad):
            with serving(piece) as server:
                try:
                    fetch(asking(server, "?token=5ecret"), 5.0)
                except WSClientError:
                    pass  # in the library's own order
        assert "5ecret" not in caplog.text

    def test_no_record_is_made_of_it(self, caplog: pytest.LogCaptureFixture) -> None:
        """The record factory is the user's and may raise or block."""
        caplog.set_level(logging.DEBUG)
        made: list[str] = []

        def factory(name: str, *args: Any, **kwargs: Any) -> logging.LogRecord:
            made.append(name)
            return logging.LogRecord(name, *args, **kwargs)

        with serving(answer()) as server, making(factory):
            fetch(asking(server), 5.0)
        assert made == []

    def test_requests_of_others_are_still_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        with serving(answer()) as server:
            requests.get(f"http://127.0.0.1:{server.port}/theirs", timeout=5.0).close()
        assert "/theirs" in caplog.text


# --- before a connect ----------------------------------------------------------------------------


class Bullet(Generic):
    """A venue that sends a greeting, and whose address comes by REST."""

    greets = True

    def __init__(self, url: str) -> None:
        super().__init__()
        self.rest = url
        self.asked = 0

    def url_request(self, url: str, credentials: Any) -> RestRequest:
        self.asked += 1
        return RestRequest(self.rest, {"n": str(self.asked)}, "POST")

    def url_from(self, url: str, answer: Any) -> str:
        return str(answer["url"])

    def read(self, message: Any) -> Any:
        return LoginAccepted() if message == {"hello": 1} else super().read(message)


def json_answer(url: str) -> bytes:
    return answer(b'{"url": "%s"}' % url.encode())


def http(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/"


def client_of(server: Server, **options: Any) -> closing[WebSocketClient]:
    dialect = Bullet(http(server))
    return closing(WebSocketClient("ws://127.0.0.1/", dialect=dialect, **QUICK, **options))


QUICK: dict[str, Any] = {"retry_delay": 0.01, "max_retry_delay": 0.02}


class TestBeforeConnects:
    def test_each_attempt_asks_for_the_address_again(self) -> None:
        heads: list[bytes] = []

        def handle(sock: socket.socket) -> None:
            heads.append(receive_head(sock))
            sock.sendall(json_answer(f"{venue.url}?token={len(heads)}"))
            expect_end(sock)

        with FakeVenue(None) as venue, Server(handle) as server, client_of(server) as client:
            call = Call(client.connect)
            first = venue.accept()
            first.send_json({"hello": 1})
            call.result()
            first.rst()
            second = venue.accept()
            paths = [peer.request.path for peer in (first, second) if peer.request]
        assert paths == ["/?token=1", "/?token=2"]
        assert [head.split(b" ")[:2] for head in heads] == [
            [b"POST", b"/?n=1"],
            [b"POST", b"/?n=2"],
        ]

    def test_a_dead_endpoint_is_a_failed_attempt(self) -> None:
        answers = [answer(b"", "503 No"), answer(b""), answer(b"[]")]

        def handle(sock: socket.socket) -> None:
            receive_head(sock)
            sock.sendall(answers.pop(0) if answers else json_answer(venue.url))
            expect_end(sock)

        with (
            FakeVenue(None) as venue,
            Server(handle) as server,
            client_of(server, max_retries=4) as client,
        ):
            call = Call(client.connect)
            venue.accept().send_json({"hello": 1})
            call.result()
            assert (client.stats().dials, server.connections) == (4, 4)

    @pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
    def test_a_refused_token_is_final(self, status: str) -> None:
        with serving(answer(b"", status)) as server, client_of(server) as client:
            with pytest.raises(wsclient.ConnectError, match="not retried"):
                client.connect()
            assert client.state is wsclient.State.FAILED
            assert server.connections == 1

    def test_the_attempts_deadline_holds(self) -> None:
        with serving() as server, client_of(server, connect_timeout=0.3, max_retries=1) as client:
            started = time.monotonic()
            with pytest.raises(wsclient.ConnectError) as caught:
                client.connect()
            assert time.monotonic() - started < 0.3 + SLACK
            assert isinstance(caught.value.__cause__, ConnectTimeout)

    def test_close_does_not_wait_for_it(self, caplog: pytest.LogCaptureFixture) -> None:
        with serving() as server, client_of(server) as client:
            call = Call(client.connect)
            until(lambda: server.connections)
            started = time.monotonic()
            client.close()
            assert time.monotonic() - started < 0.5
            with pytest.raises(wsclient.ClientClosed):
                call.result()
        assert "has not ended" not in caplog.text

    def test_a_token_goes_over_wss_only(self) -> None:
        answered = json_answer("ws://venue.example/?5ecret")
        with serving(answered) as server, client_of(server) as client:
            with pytest.raises(ConfigurationError) as caught:
                client.connect()
            assert "wss:// only" in str(caught.value)

    def test_what_the_dialect_raises_is_not_quoted(self) -> None:
        with (
            serving(answer(b'{"5ecret": 1}')) as server,
            client_of(server, max_retries=1) as client,
        ):
            with pytest.raises(wsclient.ConnectError) as caught:
                client.connect()
            assert "url_from() raised KeyError" in str(caught.value)

    def test_requests_is_imported_only_when_it_is_needed(self) -> None:
        code = """if True:
            import sys, wsclient, wsclient.testing
            with wsclient.testing.FakeVenue() as venue, wsclient.connect(venue.url):
                print(sys.modules.keys() & {"requests", "urllib3"})
        """
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, timeout=30, check=True
        )
        assert done.stdout == b"set()\n"
