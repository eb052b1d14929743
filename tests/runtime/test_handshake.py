"""From a URL to an upgraded socket: what is refused, what is bounded, and what stays secret."""

from __future__ import annotations

import contextlib
import email.utils
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket._handshake as library
from hypothesis import given
from hypothesis import strategies as st

import wsclient
from support.examples import examples
from support.helpers import (
    LOCALHOST,
    Call,
    Server,
    addresses,
    client_context,
    dead_address,
    expect_end,
    handshake_answer,
    linux_only,
    listener,
    receive_head,
    refused_address,
    server_context,
    tcp_pair,
    text_of,
)
from support.proxies import Proxy
from wsclient import (
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotSupported,
)
from wsclient.runtime.addresses import Address, parse_url
from wsclient.runtime.dialing import default_ssl_context, open_socket, wrap
from wsclient.runtime.handshake import (
    MAX_EXCERPT,
    MAX_HEAD,
    HandshakeSocket,
    check_handshake_headers,
    check_headers,
    parse_retry_after,
)
from wsclient.runtime.waiting import Deadline
from wsclient.testing import FakeVenue

SECRET = "S3CRET"
#: How much (s) a deadline may be exceeded.
SLACK = 0.25
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: a2V5\r\n\r\n"


def connect(url: str, **options: Any) -> wsclient.WebSocketClient:
    return wsclient.connect(url, max_retries=1, **options)


def failure_of(url: str, **options: Any) -> BaseException:
    """Return why the only attempt failed. No text about it may contain the secret."""
    with pytest.raises(wsclient.WSClientError) as caught:
        connect(url, **options)
    assert SECRET not in text_of(caught.value)
    if isinstance(caught.value, ConnectError) and caught.value.__cause__ is not None:
        return caught.value.__cause__
    return caught.value


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("ws://venue.example", Address("venue.example", 80, False)),
            ("wss://venue.example", Address("venue.example", 443, True)),
            ("wss://Venue.Example/v2?token=x", Address("venue.example", 443, True)),
            ("ws://127.0.0.1:8080/", Address("127.0.0.1", 8080, False)),
            ("wss://[::1]:9/path", Address("::1", 9, True)),
            ("WS://host/", Address("host", 80, False)),
            ("Wss://HOST:8443", Address("host", 8443, True)),
            ("wss://börse.example/", Address("xn--brse-5qa.example", 443, True)),
            ("wss://BÖRSE.example/", Address("xn--brse-5qa.example", 443, True)),
            ("wss://straße.example/", Address("xn--strae-oqa.example", 443, True)),
            ("ws://\uff11\uff12\uff17.0.0.1/", Address("127.0.0.1", 80, False)),
        ],
    )
    def test_is_taken_apart(self, url: str, address: Address) -> None:
        assert parse_url(url) == address

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            (f"ws://host/{SECRET}\r", "control"),
            (f"ws://host/{SECRET}\nX: y", "control"),
            (f"ws://host/{SECRET}\0", "control"),
            (f"ws://host/{SECRET} x", "space"),
            (f"ws://user:{SECRET}@host/", "user part"),
            (f"ws://{SECRET}@host/", "user part"),
            (f"ws://host/#{SECRET}", "fragment"),
            (f"ws://host/{SECRET}#", "fragment"),
            (f"ws://host:{SECRET}/", "port"),
            (f"ws://host:99999/{SECRET}", "port"),
            (f"ws://host:0/{SECRET}", "port"),
            (f"ws://host:-1/{SECRET}", "port"),
            (f"http://host/{SECRET}", "begin with"),
            (f"{SECRET}://host/", "begin with"),
            (SECRET, "begin with"),
            (f"ws:///{SECRET}", "host"),
            (f"ws://:80/{SECRET}", "host"),
            (f"ws://[::1/{SECRET}", "host"),
            (f"ws://user:{SECRET}\u2100@host/", "host"),
            (f"ws://-ö-.example/{SECRET}", "international"),
            (f"ws://host/{SECRET}\ud800", "surrogate"),
            (b"ws://host/", "bytes"),
            (None, "NoneType"),
        ],
    )
    def test_that_cannot_work_is_refused_and_not_quoted(self, url: object, why: str) -> None:
        with pytest.raises(ConfigurationError, match=why) as caught:
            parse_url(url)
        assert SECRET not in text_of(caught.value)

    @pytest.mark.parametrize(
        ("host", "is_loopback"),
        [
            ("localhost", True),
            ("127.0.0.1", True),
            ("127.9.9.9", True),
            ("::1", True),
            ("192.0.2.1", False),
            ("localhost.example.com", False),
            ("127.0.0.1.example.com", False),
        ],
    )
    def test_loopback_is_recognised_by_the_address_alone(
        self, host: str, is_loopback: bool
    ) -> None:
        assert Address(host, 80, False).is_loopback is is_loopback

    def test_an_address_reads_as_a_url_without_its_path(self) -> None:
        assert str(parse_url(f"wss://[::1]:9/{SECRET}?{SECRET}")) == "wss://[::1]:9"


class TestResource:
    """The path and query in the request line, sent by a whole client."""

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ("", "/"),
            ("/", "/"),
            ("?a=1", "/?a=1"),
            ("/v2?", "/v2?"),
            ("/a;b=1/c;d=2?e;f=3", "/a;b=1/c;d=2?e;f=3"),
            ("/a%20b%2Fc", "/a%20b%2Fc"),
            ("/kurs/größe?währung=€", "/kurs/gr%C3%B6%C3%9Fe?w%C3%A4hrung=%E2%82%AC"),
            ("?u=ws://x/?y", "/?u=ws://x/?y"),
        ],
    )
    def test_is_what_was_given(self, venue: FakeVenue, given: str, sent: str) -> None:
        with connect(venue.url.rstrip("/") + given):
            request = venue.accept().request
        assert request is not None
        assert request.path == sent

    def test_an_international_host_goes_out_in_ascii(
        self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", addresses(("127.0.0.1", venue.port)))
        with connect(f"ws://börse.example:{venue.port}/"):
            request = venue.accept().request
        assert request is not None
        assert request.headers["Host"] == f"xn--brse-5qa.example:{venue.port}"
        assert request.headers["Origin"] == f"http://xn--brse-5qa.example:{venue.port}"

    def test_a_scheme_in_capitals_connects(self, venue: FakeVenue) -> None:
        with connect(venue.url.replace("ws://", "WS://")) as client:
            assert client.is_connected

    @pytest.mark.parametrize(
        ("address", "header"),
        [
            (Address("host", 80, False), "host"),
            (Address("host", 443, True), "host"),
            (Address("host", 80, True), "host:80"),
            (Address("host", 443, False), "host:443"),
            (Address("::1", 9, False), "[::1]:9"),
            (Address("::1", 443, True), "[::1]"),
        ],
    )
    def test_the_host_is_without_the_port_of_its_scheme(
        self, address: Address, header: str
    ) -> None:
        assert address.host_header == header


class TestHeaders:
    def test_become_lines(self) -> None:
        assert check_headers({"X-A": "1", "x_b": ""}) == ["X-A: 1", "x_b: "]

    @pytest.mark.parametrize("char", ["\r", "\n", "\0", "\x7f", "\r\nX: y"])
    def test_values_that_could_inject_are_refused_and_not_quoted(self, char: str) -> None:
        with pytest.raises(ConfigurationError, match="X-Key contains a control") as caught:
            check_headers({"X-Key": f"{SECRET}{char}"})
        assert SECRET not in text_of(caught.value)

    @pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\nY", "X\0", "Ä", "X\n"])
    def test_names_are_tokens(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="name"):
            check_headers({name: "1"})

    def test_a_value_put_into_the_name_is_not_quoted(self) -> None:
        with pytest.raises(ConfigurationError, match="after 'Authorization'") as caught:
            check_headers({f"Authorization: Bearer {SECRET}": ""})
        assert SECRET not in text_of(caught.value)

    @pytest.mark.parametrize("headers", [{"X": 1}, {"X": b"1"}, {1: "x"}, ["X: 1"], "X: 1"])
    def test_are_a_mapping_of_text(self, headers: Any) -> None:
        with pytest.raises(ConfigurationError):
            check_headers(headers)

    @pytest.mark.parametrize(
        ("name", "advice"),
        [
            ("Origin", "pass origin="),
            ("ORIGIN", "pass origin="),
            ("Sec-WebSocket-Protocol", "pass subprotocols="),
            ("sec-websocket-extensions", "no extension"),
            ("Sec-WebSocket-Key", "its value cannot be chosen"),
            ("Sec-WebSocket-Version", "its value cannot be chosen"),
            ("Sec-WebSocket-Whatever", "its value cannot be chosen"),
            ("Connection", "its value cannot be chosen"),
            ("Content-Length", "has no body"),
            ("transfer-encoding", "has no body"),
            ("upgrade", "its value cannot be chosen"),
        ],
    )
    @pytest.mark.parametrize("kind", ["given", "from a function"])
    def test_of_the_handshakes_own_are_refused(
        self, venue: FakeVenue, name: str, advice: str, kind: str
    ) -> None:
        """Otherwise they would be sent twice."""
        headers: Any = {name: SECRET}
        error = failure_of(venue.url, headers=headers if kind == "given" else lambda: headers)
        assert isinstance(error, ConfigurationError)
        assert advice in str(error)
        assert venue.attempts == 0

    def test_the_host_is_ones_own_where_it_is_given(self, venue: FakeVenue) -> None:
        with connect(venue.url, headers={"hOst": "venue.example:8443", "X-A": "1"}):
            request = venue.accept().request
        assert request is not None
        assert request.headers.get_all("Host") == ["venue.example:8443"]
        assert request.headers["X-A"] == "1"

    @pytest.mark.parametrize("headers", [{"Host": ""}, {"Host": "a", "host": "b"}])
    def test_a_host_is_given_once_with_a_value(self, headers: dict[str, str]) -> None:
        with pytest.raises(ConfigurationError, match="Host must be given once"):
            check_handshake_headers(headers)

    @pytest.mark.parametrize("value", ["a b", "https://a", "a/b", "user@a", "a, b"])
    def test_a_host_is_one(self, value: str) -> None:
        with pytest.raises(ConfigurationError, match="Host must be a host"):
            check_handshake_headers({"Host": value})

    def test_what_utf8_cannot_express_is_refused_and_not_quoted(self, venue: FakeVenue) -> None:
        for option in ({"headers": {"X": f"{SECRET}\ud800"}}, {"cookie": f"{SECRET}\udfff"}):
            error = failure_of(venue.url, **option)
            assert isinstance(error, ConfigurationError)
            assert "surrogate" in str(error)

    @pytest.mark.parametrize(
        "option",
        [
            {"cookie": f"a={SECRET}\r\nX: y"},
            {"origin": f"https://{SECRET}\n"},
            {"subprotocols": [f"{SECRET}\r\n"]},
            {"headers": lambda: {"X-Key": f"{SECRET}\r\nX: y"}},
            {"headers": lambda: ["X-Key: 1"]},
        ],
    )
    def test_of_options_are_checked_before_anything_is_sent(
        self, venue: FakeVenue, option: dict[str, Any]
    ) -> None:
        assert isinstance(failure_of(venue.url, **option), ConfigurationError)
        assert venue.attempts == 0

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("headers", {"Origin": SECRET}),
            ("headers", {"X": f"{SECRET}\n"}),
            ("cookie", f"a={SECRET}\r\nX: y"),
            ("cookie", f"a={SECRET}\ud800"),
            ("origin", f"https://{SECRET}\n"),
            ("subprotocols", [f"{SECRET}\r\n"]),
            ("subprotocols", ["a b"]),
            ("subprotocols", ["a,b"]),
            ("subprotocols", [""]),
            ("subprotocols", ["a", "A"]),
            ("proxy", f"ftp://{SECRET}"),
        ],
    )
    def test_of_options_are_refused_when_given(self, name: str, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=name.rstrip("s")) as caught:
            wsclient.WebSocketClient("wss://venue.example/", **{name: value})
        assert SECRET not in text_of(caught.value)


class TestSecretsInTheClear:
    @pytest.mark.parametrize(
        "option",
        [
            {"headers": {"Authorization": SECRET}},
            {"headers": {"authorization": SECRET}},
            {"headers": {"X-API-Key": SECRET}},
            {"headers": {"Cookie": SECRET}},
            {"headers": lambda: {"Authorization": SECRET}},
            {"cookie": SECRET},
            {"credentials": {"key": SECRET}, "dialect": "okx"},
            {"credentials": lambda: {"key": SECRET}, "dialect": "okx"},
        ],
    )
    def test_are_refused(self, option: dict[str, Any]) -> None:
        started = time.monotonic()
        error = failure_of("ws://192.0.2.1/", **option)  # an address that is not in use
        assert isinstance(error, ConfigurationError)
        assert "wss://" in str(error)
        assert time.monotonic() - started < 2

    def test_are_allowed_to_loopback(self, venue: FakeVenue) -> None:
        with connect(venue.url, headers={"Authorization": SECRET, "X-API-Key": "k"}):
            request = venue.accept().request
        assert request is not None
        assert request.headers["Authorization"] == SECRET
        assert request.headers["X-API-Key"] == "k"


@contextlib.contextmanager
def head(answer: bytes, end: bool = False, timeout: float = 5.0) -> Iterator[HandshakeSocket]:
    """Return a HandshakeSocket whose peer has answered."""
    with tcp_pair() as (near, far):
        far.sendall(answer)
        if end:
            far.shutdown(socket.SHUT_WR)
        yield HandshakeSocket(near, Deadline(timeout))


def answer_of(handshake: HandshakeSocket) -> bytes:
    """Return the head, read byte by byte as the library reads it."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += handshake.recv(1)
    return data


class TestHead:
    def test_of_a_101_is_handed_on_byte_by_byte(self) -> None:
        sent = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
        with head(sent) as handshake:
            assert answer_of(handshake) == sent

    @pytest.mark.parametrize(
        "interim",
        [
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 \r\n\r\n",
        ],
    )
    def test_interim_answers_before_it_are_skipped(self, interim: bytes) -> None:
        sent = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
        with head(interim + sent + b"\x81\x02hi") as handshake:
            assert answer_of(handshake) == sent
            assert handshake.leftover == b"\x81\x02hi"

    def test_interim_answers_in_pieces_are_skipped(self) -> None:
        sent = b"HTTP/1.1 101 OK\r\n\r\n"

        def drip(sock: socket.socket) -> None:
            for byte in b"HTTP/1.1 100 Continue\r\n\r\n" + sent:
                sock.sendall(bytes([byte]))

        with Server(drip) as server, server.dial() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            assert answer_of(HandshakeSocket(sock, Deadline(5))) == sent

    def test_a_refusal_after_an_interim_answer_counts(self) -> None:
        answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\nbody"
        with head(answer) as handshake:
            with pytest.raises(HandshakeRejected, match="HTTP 403") as caught:
                handshake.recv(1)
            assert caught.value.excerpt == b"body"

    def test_interim_answers_without_end_are_cut_at_64_kib(self) -> None:
        def flood(sock: socket.socket) -> None:
            while True:
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

        with Server(flood) as server, server.dial() as sock:
            handshake = HandshakeSocket(sock, Deadline(10))
            with pytest.raises(HandshakeRejected, match=str(MAX_HEAD)):
                handshake.recv(1)

    def test_interim_answers_byte_by_byte_are_ended_at_the_deadline(self) -> None:
        def drip(sock: socket.socket) -> None:
            while not server.closing.wait(0.02):
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        with Server(drip) as server, server.dial() as sock:
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                HandshakeSocket(sock, Deadline(0.3)).recv(1)
            assert time.monotonic() - started < 0.3 + SLACK

    def test_of_a_101_in_http_1_0_is_refused(self) -> None:
        with head(b"HTTP/1.0 101 OK\r\nUpgrade: websocket\r\n\r\n") as handshake:
            with pytest.raises(HandshakeRejected, match=r"HTTP/1\.0") as caught:
                handshake.recv(1)
            assert caught.value.status == 101

    def test_of_a_refusal_in_http_1_0_has_its_status(self) -> None:
        with head(b"HTTP/1.0 503 No\r\n\r\n") as handshake:
            with pytest.raises(HandshakeRejected) as caught:
                handshake.recv(1)
            assert caught.value.status == 503

    def test_frames_glued_to_it_are_left_over(self) -> None:
        with head(b"HTTP/1.1 101 OK\r\n\r\n\x81\x02hi\x81") as handshake:
            answer_of(handshake)
            assert handshake.leftover == b"\x81\x02hi\x81"

    @pytest.mark.parametrize("status", [200, 301, 302, 307, 308, 400, 401, 403, 404, 500, 999])
    def test_of_anything_but_101_is_refused(self, status: int) -> None:
        with head(b"HTTP/1.1 %d Whatever\r\nLocation: ws://x/\r\n\r\n" % status) as handshake:
            with pytest.raises(HandshakeRejected, match=f"HTTP {status}") as caught:
                handshake.recv(1)
            assert caught.value.status == status
            assert caught.value.retry_after is None

    @pytest.mark.parametrize("status", [418, 429, 503])
    def test_retry_after_in_seconds(self, status: int) -> None:
        with head(b"HTTP/1.1 %d No\r\nretry-after:  17 \r\n\r\n" % status) as handshake:
            with pytest.raises(HandshakeRejected) as caught:
                handshake.recv(1)
            assert caught.value.status == status
            assert caught.value.retry_after == 17.0

    def test_retry_after_as_a_date(self) -> None:
        at = email.utils.formatdate(time.time() + 60, usegmt=True).encode()
        with head(b"HTTP/1.1 503 No\r\nRetry-After: " + at + b"\r\n\r\n") as handshake:
            with pytest.raises(HandshakeRejected) as caught:
                handshake.recv(1)
            assert caught.value.retry_after is not None
            assert 55 < caught.value.retry_after <= 60

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (b"", None),
            (b"soon", None),
            (b"-1", None),
            (b"1.5", None),
            (b"\xb2", None),
            (b"0", 0.0),
            (b"Mon, 01 Jan 2001 00:00:00 GMT", 0.0),
            (b"Mon, 01 Jan 2001 00:00:00 +99999999999999999999", None),
            (b"Mon, 01 Jan 0001 00:00:00 -0000", None),
        ],
    )
    def test_retry_after_of_other_kinds(self, value: bytes, seconds: float | None) -> None:
        assert parse_retry_after(value) in (seconds, 0.0 if seconds is None else seconds)
        assert (parse_retry_after(value) is None) == (seconds is None) or b"0001" in value

    @given(value=st.binary(max_size=40) | st.text("0123456789 GMTJan:,+-", max_size=40))
    def test_no_retry_after_breaks_the_handshake(self, value: bytes | str) -> None:
        seconds = parse_retry_after(value if isinstance(value, bytes) else value.encode())
        assert seconds is None or seconds >= 0

    def test_of_an_error_is_kept_apart_from_its_body(self) -> None:
        body = SECRET.encode() + bytes(2 * MAX_EXCERPT)
        with head(b"HTTP/1.1 403 No\r\n\r\n" + body) as handshake:
            with pytest.raises(HandshakeRejected) as caught:
                handshake.recv(1)
            assert caught.value.excerpt == body[:MAX_EXCERPT]
            assert SECRET not in text_of(caught.value)

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH\r\n",
            b"\x00\xff\xfe",
            b"HTTQ",
            b"HTTP/2 101 OK\r\n\r\n",
            b"HTTP/1.1 1o1 OK\r\n\r\n",
            b"HTTP/1.1101\r\n\r\n",
            b"HTTP/1.1 1010 OK\r\n\r\n",
        ],
    )
    def test_that_is_not_http_is_refused_at_once(self, answer: bytes) -> None:
        with head(answer) as handshake:
            with pytest.raises(HandshakeRejected, match="not HTTP") as caught:
                handshake.recv(1)
            assert caught.value.status == 0

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 OK\r\nUpgra"])
    def test_that_ends_early_is_a_lost_connection(self, answer: bytes) -> None:
        with (
            head(answer, end=True) as handshake,
            pytest.raises(ConnectionLost, match="during the handshake"),
        ):
            handshake.recv(1)

    def test_is_cut_at_64_kib(self) -> None:
        line = b"X-More: " + b"x" * 1000 + b"\r\n"

        def flood(sock: socket.socket) -> None:
            sock.sendall(b"HTTP/1.1 101 OK\r\n")
            while True:
                sock.sendall(line)

        with Server(flood) as server, server.dial() as sock:
            handshake = HandshakeSocket(sock, Deadline(10))
            with pytest.raises(HandshakeRejected, match=str(MAX_HEAD)):
                handshake.recv(1)

    def test_may_be_just_short_of_64_kib(self) -> None:
        sent = b"HTTP/1.1 101 OK\r\nX: " + b"x" * (MAX_HEAD - 100) + b"\r\n\r\n"
        with tcp_pair() as (near, far):
            sending = Call(far.sendall, sent)
            assert answer_of(HandshakeSocket(near, Deadline(5))) == sent
            sending.result()

    def test_byte_by_byte_is_ended_at_the_deadline(self) -> None:
        def drip(sock: socket.socket) -> None:
            for byte in b"HTTP/1.1 101 OK\r\n" + b"X" * 1000:
                sock.sendall(bytes([byte]))
                if server.closing.wait(0.02):
                    return

        with Server(drip) as server, server.dial() as sock:
            handshake = HandshakeSocket(sock, Deadline(0.3))
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                handshake.recv(1)
            assert time.monotonic() - started < 0.3 + SLACK

    def test_that_never_comes_is_ended_at_the_deadline(self) -> None:
        with head(b"", timeout=0.2) as handshake:
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                handshake.recv(1)
            assert time.monotonic() - started < 0.2 + SLACK

    @pytest.mark.parametrize("more", [b"", b"Sec-WebSocket-Extensions:\r\n"])
    def test_with_an_extension_that_was_not_offered_is_refused(self, more: bytes) -> None:
        answer = b"HTTP/1.1 101 OK\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        answer += more + b"\r\n"
        with head(answer) as handshake, pytest.raises(HandshakeRejected, match="extension"):
            handshake.recv(1)

    def test_is_handed_on_without_its_cookies(self) -> None:
        answer = b"HTTP/1.1 101 OK\r\nSet-Cookie: a=1\r\nX: y\r\nset-cookie : b=2\r\n\r\n"
        with head(answer) as handshake:
            assert answer_of(handshake) == b"HTTP/1.1 101 OK\r\nX: y\r\n\r\n"

    @given(answer=st.binary(max_size=80), prefix=st.sampled_from([b"", b"HTTP/1.1 101 OK\r\n"]))
    @examples(200)
    def test_whatever_it_is_ends_in_an_error_of_ours(self, answer: bytes, prefix: bytes) -> None:
        near, far = socket.socketpair()
        with near, far:
            far.sendall(prefix + answer)
            far.shutdown(socket.SHUT_WR)
            try:
                assert HandshakeSocket(near, Deadline(5)).recv(10) == b"HTTP/1.1 1"
            except (HandshakeRejected, ConnectionLost):
                pass


class TestRequest:
    def test_goes_out_whole(self) -> None:
        with tcp_pair() as (near, far):
            assert HandshakeSocket(near, Deadline(5)).send(REQUEST) == len(REQUEST)
            assert receive_head(far) == REQUEST

    def test_carries_our_cookie_and_not_the_librarys(self) -> None:
        with tcp_pair() as (near, far):
            request = REQUEST[:-2] + b"Cookie: theirs=1\r\n\r\n"
            HandshakeSocket(near, Deadline(5), "ours=2").send(request)
            assert receive_head(far) == REQUEST[:-2] + b"Cookie: ours=2\r\n\r\n"

    def test_that_cannot_be_sent_is_ended_at_the_deadline(self) -> None:
        with tcp_pair() as (near, _):
            handshake = HandshakeSocket(near, Deadline(0.2))
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                handshake.send(bytes(16 * 1024 * 1024) + b"\r\n\r\n")
            assert time.monotonic() - started < 1


@pytest.fixture
def empty_jar() -> Iterator[Any]:
    assert library.CookieJar.jar == {}
    yield library.CookieJar
    library.CookieJar.jar.clear()


class TestCookies:
    def test_of_a_venue_are_never_stored(self, empty_jar: Any) -> None:
        requests = []

        def answer(sock: socket.socket) -> None:
            requests.append(receive_head(sock))
            cookie = b"Set-Cookie: session=1; Domain=127.0.0.1"
            sock.sendall(handshake_answer(requests[-1], cookie, b"SET-COOKIE: b=2"))
            sock.recv(100)  # the close frame

        with Server(answer) as server:
            for _ in range(2):
                connect(server.url).close()
        assert len(requests) == 2
        assert not any(b"ookie" in request for request in requests)
        assert empty_jar.jar == {}

    def test_of_other_users_of_the_library_are_never_sent(
        self, venue: FakeVenue, empty_jar: Any
    ) -> None:
        empty_jar.add("stolen=1; domain=127.0.0.1")
        assert "stolen" in empty_jar.get("127.0.0.1")
        with connect(venue.url, cookie="mine=2"):
            request = venue.accept().request
        assert request is not None
        assert request.headers.get_all("Cookie") == ["mine=2"]

    def test_may_be_given_as_a_header_too(self, venue: FakeVenue) -> None:
        with connect(venue.url, headers={"cookie": "a=1"}, cookie="b=2"):
            request = venue.accept().request
        assert request is not None
        assert request.headers.get_all("Cookie") == ["a=1; b=2"]


class TestRefusals:
    """Tests through a whole client."""

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, venue: FakeVenue, status: int) -> None:
        with listener() as second:
            target = f"ws://127.0.0.1:{second.getsockname()[1]}/"
            venue.refuse(status, headers=[("Location", target)])
            error = failure_of(venue.url, headers={"Authorization": SECRET})
            assert isinstance(error, HandshakeRejected)
            assert error.status == status
            assert not select.select([second], [], [], 0)[0], "it was followed"

    def test_an_answer_to_another_key_is_refused(self) -> None:
        def answer(sock: socket.socket) -> None:
            receive_head(sock)
            sock.sendall(handshake_answer(b"Sec-WebSocket-Key: another"))
            expect_end(sock)

        with Server(answer) as server:
            assert isinstance(failure_of(server.url), HandshakeRejected)

    def test_a_subprotocol_that_was_not_offered_is_refused(self) -> None:
        def answer(sock: socket.socket) -> None:
            sock.sendall(handshake_answer(receive_head(sock), b"Sec-WebSocket-Protocol: other"))
            expect_end(sock)

        with Server(answer) as server:
            for offered in (["mine"], [], None):
                error = failure_of(server.url, subprotocols=offered)
                assert isinstance(error, HandshakeRejected)
                assert "'other', which was not offered" in str(error)

    def test_several_subprotocols_in_one_answer_are_refused(self) -> None:
        def answer(sock: socket.socket) -> None:
            lines = [b"Sec-WebSocket-Protocol: " + name for name in (b"mine", b"other")]
            sock.sendall(handshake_answer(receive_head(sock), *lines))
            expect_end(sock)

        with Server(answer) as server:
            error = failure_of(server.url, subprotocols=["mine", "other"])
            assert "several subprotocols" in str(error)

    def test_an_answer_without_any_subprotocol_offered_is_refused(self) -> None:
        def answer(sock: socket.socket) -> None:
            sock.sendall(handshake_answer(receive_head(sock)))
            expect_end(sock)

        with Server(answer) as server:
            error = failure_of(server.url, subprotocols=["mine"])
            assert "chose none of the subprotocols" in str(error)

    def test_a_subprotocol_that_was_offered_is_taken(self) -> None:
        def answer(sock: socket.socket) -> None:
            sock.sendall(handshake_answer(receive_head(sock), b"Sec-WebSocket-Protocol: mine"))
            sock.recv(100)  # the close frame

        with Server(answer) as server:
            connect(server.url, subprotocols=("other", "mine")).close()

    @pytest.mark.parametrize("line", [f"X: {SECRET}\xff".encode("latin-1"), SECRET.encode()])
    def test_a_malformed_header_is_refused_and_not_quoted(self, line: bytes) -> None:
        def answer(sock: socket.socket) -> None:
            sock.sendall(handshake_answer(receive_head(sock), line))
            expect_end(sock)

        with Server(answer) as server:
            assert isinstance(failure_of(server.url), HandshakeRejected)

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            ("garbage", HandshakeRejected),
            ("headers", HandshakeRejected),
            ("eof", ConnectionLost),
            ("reset", OSError),
        ],
    )
    def test_of_a_broken_venue(self, venue: FakeVenue, fault: Any, kind: type) -> None:
        venue.fail_handshake(fault)
        assert isinstance(failure_of(venue.url, connect_timeout=5), kind)

    @pytest.mark.parametrize("size", [1, 200_000])
    def test_frames_glued_to_the_head_are_delivered(self, size: int) -> None:
        payload = b'{"type":"market_data","channel":"a","pad":"%s"}' % (b"x" * size)
        frame = b"\x81\x7f" + struct.pack(">Q", len(payload)) + payload
        if len(payload) < 126:
            frame = bytes([0x81, len(payload)]) + payload

        def answer(sock: socket.socket) -> None:
            sock.sendall(handshake_answer(receive_head(sock)) + frame * 3)
            sock.recv(100)  # the close frame

        with Server(answer) as server, connect(server.url) as client:
            assert [client.recv(5).raw for _ in range(3)] == [payload] * 3


def open_plain(timeout: float, hold: Callable[[socket.socket], None] = lambda _: None) -> Any:
    return open_socket(
        Address("venue.example", 80, False),
        proxy=None,
        ssl_context=None,
        deadline=Deadline(timeout),
        hold=hold,
    )


class TestAddresses:
    def test_the_next_is_tried_when_one_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with refused_address() as refused, listener() as good:
            target = good.getsockname()
            monkeypatch.setattr(socket, "getaddrinfo", addresses(refused, target))
            with open_plain(5) as sock:
                assert sock.getpeername() == target

    @linux_only
    def test_a_dead_first_one_does_not_take_all_the_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with dead_address() as dead, listener() as good:
            target = good.getsockname()
            monkeypatch.setattr(socket, "getaddrinfo", addresses(dead, target))
            started = time.monotonic()
            with open_plain(0.6) as sock:
                assert sock.getpeername() == target
            assert time.monotonic() - started < 0.6

    @linux_only
    def test_all_dead_ends_at_the_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with dead_address() as dead:
            monkeypatch.setattr(socket, "getaddrinfo", addresses(dead, dead, dead))
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                open_plain(0.3)
            assert time.monotonic() - started < 0.3 + SLACK

    def test_a_family_that_this_machine_lacks_is_passed_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with listener() as good:
            target = good.getsockname()
            infos = addresses(target)()
            infos.insert(0, (254, socket.SOCK_STREAM, 6, "", target))
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
            with open_plain(5) as sock:
                assert sock.getpeername() == target

    def test_the_last_ones_error_is_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with refused_address() as refused:
            monkeypatch.setattr(socket, "getaddrinfo", addresses(refused, refused))
            with pytest.raises(ConnectionRefusedError):
                open_plain(5)

    def test_a_name_without_any_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", addresses())
        with pytest.raises(OSError, match="no address"):
            open_plain(5)

    def test_each_socket_is_made_known_before_it_can_block(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held: list[Any] = []

        def hold(sock: socket.socket) -> None:
            with contextlib.suppress(OSError):
                sock.getpeername()
                pytest.fail("it is connected already")
            held.append(sock)

        with refused_address() as refused, listener() as good:
            monkeypatch.setattr(socket, "getaddrinfo", addresses(refused, good.getsockname()))
            with open_plain(5, hold) as sock:
                assert held[-1] is sock
        assert len(held) == 2

    def test_each_step_is_reported_as_it_begins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[tuple[str, Any]] = []
        with refused_address() as refused, listener() as good:
            found = addresses(refused, good.getsockname())
            monkeypatch.setattr(socket, "getaddrinfo", found)
            address = Address("venue.example", 80, False)
            with open_socket(
                address,
                proxy=None,
                ssl_context=None,
                deadline=Deadline(5),
                hold=lambda _: None,
                on_step=lambda step, about: told.append((step, about)),
            ):
                pass
        first, second = found()
        assert [step for step, _ in told] == [
            *("dns", "addresses", "tcp", "refused", "tcp", "connected")
        ]
        abouts = dict(told)
        assert abouts["dns"] == address
        assert abouts["addresses"] == [first, second]
        assert told[2][1] == first
        assert isinstance(told[3][1], ConnectionRefusedError)
        assert told[4][1] == second

    def test_no_other_is_tried_once_the_attempt_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def hold(_: socket.socket) -> None:
            raise ConnectionLost("given up")

        with listener() as good:
            target = good.getsockname()
            monkeypatch.setattr(socket, "getaddrinfo", addresses(target, target))
            with pytest.raises(ConnectionLost, match="given up"):
                open_plain(5, hold)
            assert not select.select([good], [], [], 0)[0]


@pytest.fixture
def tls_venue() -> Iterator[FakeVenue]:
    with FakeVenue("generic", ssl_context=server_context()) as venue:
        yield venue


class TestTls:
    def test_a_peer_that_has_reset_the_connection_already_leaves_no_socket_open(self) -> None:
        with tcp_pair() as (near, far):
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            assert select.select([near], [], [], 5)[0]
            with pytest.raises(OSError, match=r"(?i)reset|not connected"):
                wrap(near, client_context(), "localhost")
            assert near.fileno() == -1

    def test_a_self_signed_certificate_is_refused_by_default(self, tls_venue: FakeVenue) -> None:
        error = failure_of(tls_venue.url)
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert tls_venue.requests == []

    def test_a_context_of_ones_own_decides(self, tls_venue: FakeVenue) -> None:
        with connect(tls_venue.url, ssl_context=client_context()) as client:
            client.subscribe("a")
            tls_venue.publish("a", price=1)
            assert client.recv(5).data["price"] == 1

    def test_a_certificate_for_another_host_is_refused(
        self, tls_venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = ("127.0.0.1", tls_venue.port)
        monkeypatch.setattr(socket, "getaddrinfo", addresses(target))
        error = failure_of("wss://venue.example/", ssl_context=client_context())
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert "venue.example" in str(error)

    def test_older_than_1_2_is_refused(self) -> None:
        def old(sock: socket.socket) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                context = server_context()
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
                context.set_ciphers("ALL:@SECLEVEL=0")
            with context.wrap_socket(sock, server_side=True) as secure:
                expect_end(secure)

        def dial(context: ssl.SSLContext) -> str | None:
            with open_socket(
                Address("localhost", server.port, True),
                proxy=None,
                ssl_context=context,
                deadline=Deadline(5),
                hold=lambda _: None,
            ) as sock:
                assert isinstance(sock, ssl.SSLSocket)
                return sock.version()

        with Server(old) as server:
            context = default_ssl_context()
            context.load_verify_locations(LOCALHOST)
            with pytest.raises(ssl.SSLError, match=r"(?i)protocol|version"):
                dial(context)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.set_ciphers("ALL:@SECLEVEL=0")
            try:
                assert dial(context) == "TLSv1.1"
            except ssl.SSLError:
                pytest.skip("this OpenSSL speaks no TLS 1.1 at all")

    def test_the_default_verifies_and_keeps_no_keys(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
        context = default_ssl_context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.keylog_filename is None
        assert not (tmp_path / "keys").exists()

    def test_the_librarys_environment_variable_adds_no_trust(
        self, tls_venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(LOCALHOST))
        assert isinstance(failure_of(tls_venue.url), ssl.SSLCertVerificationError)

    def test_a_mute_server_is_ended_at_the_deadline(self) -> None:
        with listener() as mute:
            url = f"wss://127.0.0.1:{mute.getsockname()[1]}/"
            started = time.monotonic()
            error = failure_of(url, connect_timeout=0.3)
            assert time.monotonic() - started < 0.3 + SLACK
            assert isinstance(error, ConnectTimeout)


class TestProxies:
    @pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
    def test_the_connection_goes_through_it(self, venue: FakeVenue, scheme: str) -> None:
        proxy = Proxy()
        with Server(proxy) as server:
            via = f"{scheme}://127.0.0.1:{server.port}"
            with connect(venue.url, proxy=via) as client:
                client.subscribe("a")
                venue.publish("a", price=1)
                assert client.recv(5).data["price"] == 1
        assert proxy.logins == []
        assert len(proxy.asked) == server.connections == 1
        assert f"127.0.0.1:{venue.port}" in proxy.asked[0]

    @pytest.mark.parametrize(
        ("scheme", "host"), [("socks5", "127.0.0.1"), ("socks5h", "localhost")]
    )
    def test_the_name_is_resolved_here_or_there(
        self, venue: FakeVenue, scheme: str, host: str
    ) -> None:
        proxy = Proxy()
        with Server(proxy) as server:
            url = f"ws://localhost:{venue.port}/"
            with socket.socket(socket.AF_INET6) as probe:
                if probe.connect_ex(("::1", venue.port)) == 0:
                    pytest.skip("localhost is IPv6 first here")
            with connect(url, proxy=f"{scheme}://127.0.0.1:{server.port}"):
                pass
        assert proxy.asked == [f"{host}:{venue.port}"]

    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    def test_it_gets_the_password(self, venue: FakeVenue, scheme: str) -> None:
        proxy = Proxy()
        with Server(proxy) as server:
            via = f"{scheme}://user:p%40ss@127.0.0.1:{server.port}"
            with connect(venue.url, proxy=via):
                pass
        assert proxy.logins == ["user:p@ss"]

    def test_it_gets_a_user_without_a_password(self, venue: FakeVenue) -> None:
        proxy = Proxy()
        with Server(proxy) as server:
            connect(venue.url, proxy=f"http://user@127.0.0.1:{server.port}").close()
        assert proxy.logins == ["user:"]

    def test_a_scheme_has_no_case(self, venue: FakeVenue) -> None:
        proxy = Proxy()
        with Server(proxy) as server:
            connect(venue.url, proxy=f"HTTP://127.0.0.1:{server.port}").close()
        assert len(proxy.asked) == 1

    def test_its_answer_may_come_in_pieces(self, venue: FakeVenue) -> None:
        proxy = Proxy(pieces=True)
        with Server(proxy) as server:
            connect(venue.url, proxy=f"http://127.0.0.1:{server.port}").close()

    def test_interim_answers_before_its_answer_are_skipped(self, venue: FakeVenue) -> None:
        proxy = Proxy(pieces=True, before=b"HTTP/1.1 100 Continue\r\n\r\n" * 2)
        with Server(proxy) as server:
            connect(venue.url, proxy=f"http://127.0.0.1:{server.port}").close()

    def test_interim_answers_without_end_are_cut(self, venue: FakeVenue) -> None:
        one = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        many = one * (MAX_HEAD // len(one) + 1)
        with Server(Proxy(before=many)) as server:
            error = failure_of(venue.url, proxy=f"http://127.0.0.1:{server.port}")
            assert isinstance(error, ConnectionLost)
            assert str(MAX_HEAD) in str(error)

    def test_an_answer_without_end_is_cut(self, venue: FakeVenue) -> None:
        with Server(Proxy("200 OK\r\nX: " + "~" * MAX_HEAD)) as server:
            error = failure_of(venue.url, proxy=f"http://127.0.0.1:{server.port}")
            assert isinstance(error, ConnectionLost)
            assert str(MAX_HEAD) in str(error)

    def test_tls_is_end_to_end(self, tls_venue: FakeVenue) -> None:
        with Server(Proxy()) as server:
            via = f"http://127.0.0.1:{server.port}"
            assert isinstance(failure_of(tls_venue.url, proxy=via), ssl.SSLCertVerificationError)
            with connect(tls_venue.url, proxy=via, ssl_context=client_context()) as client:
                assert client.is_connected

    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    def test_a_mute_one_is_ended_at_the_deadline(self, venue: FakeVenue, scheme: str) -> None:
        with Server(Proxy("mute")) as server:
            started = time.monotonic()
            via = f"{scheme}://u:{SECRET}@127.0.0.1:{server.port}"
            error = failure_of(venue.url, proxy=via, connect_timeout=0.3)
            assert time.monotonic() - started < 0.3 + SLACK
            assert isinstance(error, ConnectTimeout)
        assert venue.attempts == 0

    def test_a_dripping_one_is_ended_at_the_deadline_and_its_thread_with_it(
        self, venue: FakeVenue
    ) -> None:
        proxy = Proxy("drip")
        with Server(proxy) as server:
            started = time.monotonic()
            via = f"socks5://127.0.0.1:{server.port}"
            error = failure_of(venue.url, proxy=via, connect_timeout=0.3)
            assert time.monotonic() - started < 0.3 + SLACK
            assert isinstance(error, ConnectTimeout)
            for thread in threading.enumerate():
                if thread.name.startswith("wsclient-reader"):
                    thread.join(1)
                    assert not thread.is_alive()
            proxy.stop.set()

    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    def test_close_ends_an_attempt_through_a_mute_one(
        self, venue: FakeVenue, scheme: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Server(Proxy("mute")) as server:
            via = f"{scheme}://127.0.0.1:{server.port}"
            client = wsclient.WebSocketClient(venue.url, proxy=via)
            connecting = Call(client.connect)
            while not server.connections:
                server.closing.wait(0.001)
            started = time.monotonic()
            client.close()
            assert time.monotonic() - started < 0.5
            with pytest.raises(wsclient.ClientClosed):
                connecting.result()
        assert "has not ended" not in caplog.text

    @pytest.mark.parametrize(
        ("scheme", "fault"),
        [
            ("http", "403 Forbidden"),
            ("http", "407 Proxy Authentication Required"),
            ("http", "502 Bad Gateway"),
            ("http", ""),
            ("socks5", "login"),
            ("socks5", "refuse"),
        ],
    )
    def test_one_that_refuses_is_a_lost_connection(
        self, venue: FakeVenue, scheme: str, fault: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Server(Proxy(fault)) as server:
            via = f"{scheme}://user:{SECRET}@127.0.0.1:{server.port}"
            error = failure_of(venue.url, proxy=via)
            assert isinstance(error, ConnectionLost)
            assert "the proxy refused" in str(error)
        assert SECRET not in caplog.text
        assert venue.attempts == 0

    def test_one_that_is_not_there_is_a_connection_error(self, venue: FakeVenue) -> None:
        with refused_address() as (host, port):
            error = failure_of(venue.url, proxy=f"http://user:{SECRET}@{host}:{port}")
            assert isinstance(error, ConnectionRefusedError)

    @pytest.mark.parametrize(
        "proxy",
        [
            f"{SECRET}",
            f"https://user:{SECRET}@127.0.0.1:1",
            f"socks4://user:{SECRET}@127.0.0.1:1",
            f"http://user:{SECRET}@127.0.0.1",
            f"http://user:{SECRET}@127.0.0.1:x",
            f"http://user:{SECRET}@127.0.0.1:999999",
            f"http://user:{SECRET}@[::1",
            f"http://user:{SECRET}\u2100@127.0.0.1:1",
            f"http://user:{SECRET}@:1",
            f"http://:{SECRET}@127.0.0.1:1",
            f"http://us%3Aer:{SECRET}@127.0.0.1:1",
            f"http://user:{SECRET}€@127.0.0.1:1",
            f"socks5://{SECRET}@127.0.0.1:1",
            f"socks5h://:{SECRET}@127.0.0.1:1",
            f"socks5://user:{SECRET}ö@127.0.0.1:1",
            f"socks5://user:{SECRET * 50}@127.0.0.1:1",
        ],
    )
    def test_a_url_that_cannot_work_is_refused_when_given_and_not_quoted(
        self, venue: FakeVenue, proxy: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            wsclient.WebSocketClient(venue.url, proxy=proxy)
        assert SECRET not in text_of(caught.value)

    def test_needs_python_socks(self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "python_socks", None)
        error = failure_of(venue.url, proxy=f"http://user:{SECRET}@127.0.0.1:1")
        assert isinstance(error, NotSupported)
        assert "pip install" in str(error)

    def test_those_of_the_environment_are_ignored(
        self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with listener() as trap:
            for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"):
                value = f"http://127.0.0.1:{trap.getsockname()[1]}"
                monkeypatch.setenv(name, value)
                monkeypatch.setenv(name.upper(), value)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            with connect(venue.url) as client:
                assert client.is_connected
            assert not select.select([trap], [], [], 0)[0]
        assert os.environ["http_proxy"]
