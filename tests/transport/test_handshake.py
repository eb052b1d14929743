"""The upgrade of a connection: what is refused, what is bounded, and what stays secret."""

from __future__ import annotations

import contextlib
import email.utils
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websocket._handshake as library
from hypothesis import given
from hypothesis import strategies as st

import wsclient
from support.attempts import SECRET, SLACK, connect, failure_of
from support.examples import examples
from support.helpers import (
    Call,
    Server,
    expect_end,
    handshake_answer,
    listener,
    receive_head,
    tcp_pair,
    text_of,
)
from wsclient import (
    ConfigurationError,
    ConnectionLost,
    HandshakeRejected,
)
from wsclient.testing import FakeVenue
from wsclient.threads.waiting import Deadline
from wsclient.transport.handshake import (
    MAX_EXCERPT,
    MAX_HEAD,
    HandshakeSocket,
    check_handshake_headers,
    check_headers,
    parse_retry_after,
)

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: a2V5\r\n\r\n"


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
