"""One connection through the whole client: faults found in time, and the WebSocket protocol."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websocket

import wsclient
from support.helpers import (
    Call,
    Server,
    client_context,
    dead_address,
    handshake_answer,
    linux_only,
    receive_head,
    server_context,
    text_of,
    until,
)
from support.inside import outbox_of, written_of
from wsclient import ClientClosed, ConnectionLost, ConnectTimeout, NotConnected, OutcomeUnknown
from wsclient.testing import FakeVenue, Peer

#: How much (s) a deadline may be exceeded.
SLACK = 0.25
QUICK: dict[str, Any] = {"retry_delay": 0.01, "max_retry_delay": 0.02}

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, bits: int = 0) -> bytes:
    """Return a frame as a venue sends it."""
    first = (0x80 if fin else 0) | bits | opcode
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 65536:
        return bytes([first, 126]) + struct.pack(">H", len(payload)) + payload
    return bytes([first, 127]) + struct.pack(">Q", len(payload)) + payload


def data(text: str, channel: str = "a") -> bytes:
    return b'{"type":"market_data","channel":"%s","text":"%s"}' % (channel.encode(), text.encode())


@pytest.fixture(params=["plain", "tls"])
def any_venue(request: pytest.FixtureRequest) -> Iterator[FakeVenue]:
    context = server_context() if request.param == "tls" else None
    with FakeVenue("generic", ssl_context=context, receive_buffer=16 * 1024) as venue:
        yield venue


def dial(venue: FakeVenue, **options: Any) -> wsclient.WebSocketClient:
    if venue.url.startswith("wss"):
        options["ssl_context"] = client_context()
    return wsclient.connect(venue.url, **QUICK, **options)


def losses(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged about each lost connection."""
    return [r.getMessage() for r in caplog.records if "disconnected" in r.getMessage()]


def has_begun_to_send(client: wsclient.WebSocketClient) -> bool:
    """Return whether some bytes are sent and the rest is not."""
    outbox = outbox_of(client)
    return 0 < written_of(outbox) < outbox.position


class Clock:
    """Measures the time from its creation to the venue's next connection."""

    def __init__(self, venue: FakeVenue) -> None:
        self._venue = venue
        self._started = time.monotonic()

    def until_reconnected(self, timeout: float = 5.0) -> float:
        self._venue.accept(timeout)
        return time.monotonic() - self._started


class TestDeadConnections:
    """Each fault is found within its deadline."""

    def test_a_half_open_connection(
        self, any_venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        with dial(any_venue, ping_interval=0.2, ping_timeout=0.2):
            peer = any_venue.accept()
            peer.stop_reading()
            clock = Clock(any_venue)
            assert clock.until_reconnected() < 0.2 + 0.2 + SLACK
        assert "half-open" in losses(caplog)[0]

    def test_a_venue_that_answers_no_pings(
        self, any_venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        with dial(any_venue, ping_interval=0.2, ping_timeout=0.2):
            any_venue.accept().mute_pongs()
            assert Clock(any_venue).until_reconnected() < 0.2 + 0.2 + SLACK
        assert "half-open" in losses(caplog)[0]

    def test_no_alarm_while_pongs_come(self, any_venue: FakeVenue) -> None:
        with dial(any_venue, ping_interval=0.05, ping_timeout=0.5) as client:
            peer = any_venue.accept()
            for _ in range(5):
                peer.expect_ping()
            assert client.is_connected
        assert len(any_venue.peers) == 1

    def test_no_alarm_while_bytes_come_though_the_pong_does_not(self, any_venue: FakeVenue) -> None:
        """A large frame that is sent slowly may delay the pong."""
        pace = threading.Event()
        with dial(any_venue, ping_interval=0.05, ping_timeout=0.2) as client:
            client.subscribe("a")
            peer = any_venue.accept()
            peer.mute_pongs()
            message = frame(TEXT, data("x" * 1000))
            for n in range(0, len(message), 100):
                peer.send_raw(message[n : n + 100])
                pace.wait(0.03)
            assert client.recv(5).raw == message[4:]
            assert len(any_venue.peers) == 1

    def test_no_alarm_while_it_is_us_who_do_not_read(self, any_venue: FakeVenue) -> None:
        """``validate`` delays the reader, and the pongs wait in the socket."""
        held = threading.Event()
        options: dict[str, Any] = {"ping_interval": 0.05, "ping_timeout": 0.2, "stall_timeout": 0.2}
        with dial(any_venue, validate=lambda message: held.wait(0.8), **options) as client:
            client.subscribe("a")
            any_venue.publish("a")
            assert client.recv(5).gap is None
            any_venue.accept().expect_ping()
            assert client.stats().dials == 1

    @pytest.mark.parametrize("sent", [1, 2, 5, 60])
    def test_a_frame_that_stops_half_way(
        self, any_venue: FakeVenue, sent: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        with dial(any_venue, stall_timeout=0.3) as client:
            client.subscribe("a")
            peer = any_venue.accept()
            peer.send_raw(frame(TEXT, data("x" * 200))[:sent])
            assert Clock(any_venue).until_reconnected(timeout=1) < 0.3 + SLACK
        assert "half way" in losses(caplog)[0]

    def test_a_frame_of_2_to_the_40_is_refused_at_once(self, any_venue: FakeVenue) -> None:
        with dial(any_venue):
            peer = any_venue.accept()
            clock = Clock(any_venue)
            peer.send_raw(bytes([0x82, 127]) + struct.pack(">Q", 1 << 40))
            assert peer.expect_close() == 1009
            assert clock.until_reconnected() < 1

    def test_a_peer_that_does_not_read(
        self, any_venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        with dial(any_venue, send_timeout=0.3) as client:
            any_venue.accept().stop_reading()
            call = Call(client.send, "x" * 8 * 1024 * 1024)
            until(lambda: has_begun_to_send(client))
            assert Clock(any_venue).until_reconnected() < 0.3 + SLACK
            with pytest.raises(OutcomeUnknown):
                call.result()
        assert "did not read" in losses(caplog)[0]

    def test_a_peer_that_does_not_read_delays_neither_reading_nor_other_calls(
        self, any_venue: FakeVenue
    ) -> None:
        with dial(any_venue, send_timeout=30) as client:
            client.subscribe("a")
            peer = any_venue.accept()
            peer.stop_reading()
            blocked = Call(client.send, "x" * 8 * 1024 * 1024)
            until(lambda: has_begun_to_send(client))
            started = time.monotonic()
            for n in range(20):
                any_venue.publish("a", price=n)
                peer.ping(b"x")
                assert client.recv(5).data["price"] == n
            assert time.monotonic() - started < 1
            started = time.monotonic()
            client.close(timeout=0.4)
            assert time.monotonic() - started < 0.4 + SLACK
            with pytest.raises(OutcomeUnknown):
                blocked.result()

    def test_a_silent_venue(self, any_venue: FakeVenue, caplog: pytest.LogCaptureFixture) -> None:
        with dial(any_venue, silence_timeout=0.3, ping_interval=0.1):
            any_venue.accept()
            assert Clock(any_venue).until_reconnected() < 0.3 + SLACK
        assert "no frame" in losses(caplog)[0]

    @pytest.mark.parametrize("of", [socket, websocket])
    def test_no_alarm_by_the_default_timeout_of_the_process(
        self, any_venue: FakeVenue, of: Any
    ) -> None:
        of.setdefaulttimeout(0.1)
        try:
            with dial(any_venue) as client:
                whole = frame(TEXT, data("x"))
                peer = any_venue.accept()
                peer.send_raw(whole[:9])
                threading.Event().wait(0.3)
                peer.send_raw(whole[9:])
                assert client.recv(5).data["text"] == "x"
                assert client.stats().dials == 1
            assert of.getdefaulttimeout() == 0.1
        finally:
            of.setdefaulttimeout(None)


class TestDeadHandshakes:
    @pytest.mark.parametrize("fault", ["deaf", "drip"])
    def test_are_ended_at_the_deadline(self, any_venue: FakeVenue, fault: Any) -> None:
        any_venue.fail_handshake(fault)
        started = time.monotonic()
        with pytest.raises(wsclient.ConnectError) as caught:
            dial(any_venue, connect_timeout=0.3, max_retries=1)
        assert time.monotonic() - started < 0.3 + SLACK
        assert isinstance(caught.value.__cause__, ConnectTimeout)

    @pytest.mark.parametrize("fault", ["deaf", "drip"])
    def test_do_not_keep_the_next_attempt_from_succeeding(
        self, any_venue: FakeVenue, fault: Any
    ) -> None:
        any_venue.fail_handshake(fault)
        started = time.monotonic()
        with dial(any_venue, connect_timeout=0.3) as client:
            assert client.is_connected
        assert time.monotonic() - started < 0.3 + 1.0

    @pytest.mark.parametrize("fault", ["deaf", "drip"])
    def test_are_ended_by_close(
        self, any_venue: FakeVenue, fault: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        any_venue.fail_handshake(fault)
        context = client_context() if any_venue.url.startswith("wss") else None
        client = wsclient.WebSocketClient(any_venue.url, ssl_context=context)
        connecting = Call(client.connect)
        any_venue.wait_for(lambda venue: venue.attempts)
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 0.5
        with pytest.raises(ClientClosed):
            connecting.result()
        assert "has not ended" not in caplog.text

    @linux_only
    def test_a_dropped_syn_is_ended_by_close(self, caplog: pytest.LogCaptureFixture) -> None:
        with dead_address() as (host, port):
            client = wsclient.WebSocketClient(f"ws://{host}:{port}/")
            connecting = Call(client.connect)
            until(lambda: client.state is wsclient.State.CONNECTING)
            until(lambda: any(t.name.startswith("wsclient-reader") for t in threading.enumerate()))
            started = time.monotonic()
            client.close()
            assert time.monotonic() - started < 0.5
            with pytest.raises(ClientClosed):
                connecting.result()
        assert "has not ended" not in caplog.text

    def test_slow_dns_is_ended_at_the_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answer = threading.Event()

        def resolve(*_: object, **__: object) -> list[Any]:
            answer.wait(10)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        started = time.monotonic()
        try:
            with pytest.raises(wsclient.ConnectError) as caught:
                wsclient.connect(
                    "ws://venue.example/", connect_timeout=0.3, max_retries=1, close_timeout=0.1
                )
            assert time.monotonic() - started < 0.3 + 0.1 + SLACK
            assert isinstance(caught.value.__cause__, ConnectTimeout)
        finally:
            answer.set()

    def test_a_callable_that_blocks_is_ended_at_the_deadline(self, venue: FakeVenue) -> None:
        answer = threading.Event()

        def headers() -> dict[str, str]:
            answer.wait(10)
            return {}

        client = wsclient.WebSocketClient(
            venue.url, headers=headers, connect_timeout=0.3, max_retries=1
        )
        started = time.monotonic()
        try:
            with pytest.raises(wsclient.ConnectError):
                client.connect()
            assert time.monotonic() - started < 0.3 + SLACK
        finally:
            answer.set()
            client.close()
        assert venue.attempts == 0

    def test_callables_are_called_again_at_each_attempt(self, venue: FakeVenue) -> None:
        numbers = iter(range(1, 9))

        def headers() -> dict[str, str]:
            return {"X-Number": str(next(numbers))}

        with wsclient.connect(lambda: venue.url, headers=headers, **QUICK):
            venue.accept().rst()
            venue.accept()
        sent = [peer.request.headers["X-Number"] for peer in venue.peers if peer.request]
        assert sent == ["1", "2"]


#: Bytes that violate the protocol, and the close code of the answer.
VIOLATIONS = {
    "bad UTF-8": (frame(TEXT, b"\xff\xfe"), 1007),
    "bad UTF-8 across fragments": (
        frame(TEXT, b"\xe2\x82", fin=False) + frame(CONTINUATION, b"x"),
        1007,
    ),
    "bad UTF-8 in a close reason": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "masked": (b"\x81\x82\x00\x00\x00\x00{}", 1002),
    "reserved bit 1": (frame(TEXT, b"{}", bits=0x40), 1002),
    "reserved bit 3": (frame(TEXT, b"{}", bits=0x10), 1002),
    "unknown opcode": (frame(0x3, b"{}"), 1002),
    "fragmented ping": (frame(PING, b"", fin=False), 1002),
    "long ping": (b"\x89\x7e\x00\x7e" + bytes(126), 1002),
    "stray continuation": (frame(CONTINUATION, b"{}"), 1002),
    "new message in a message": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"{}"), 1002),
    "close frame of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close code 1005": (frame(CLOSE, struct.pack(">H", 1005)), 1002),
    "oversize": (frame(TEXT, b"x" * 2000), 1009),
    "oversize in fragments": (
        frame(TEXT, b"x" * 900, fin=False) + frame(CONTINUATION, b"x" * 900),
        1009,
    ),
}


class TestViolations:
    @pytest.mark.parametrize("name", VIOLATIONS)
    def test_are_answered_with_their_code_and_the_stream_goes_on_with_a_gap(
        self, venue: FakeVenue, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        sent, code = VIOLATIONS[name]
        with dial(venue, max_message_size=1000) as client:
            client.subscribe("a")
            peer = venue.accept()
            # In one write: the messages before the close are delivered, those after it are not.
            peer.send_raw(frame(TEXT, data("before")) + sent + frame(TEXT, data("after")))
            assert peer.expect_close() == code
            successor = venue.accept()
            venue.wait_for(lambda venue: successor.subscriptions)
            venue.publish("a", text="next")
            before, after = client.recv(5), client.recv(5)
            assert before.raw == data("before")
            assert after.data["text"] == "next"
            assert after.gap is not None
            assert after.gap.reason == "reconnect"
            assert client.stats().disconnects == 1
        assert f"code {code}" in caplog.text or "violated the protocol" in losses(caplog)[0]

    def test_a_message_that_is_not_utf_8_is_counted_as_invalid(self, venue: FakeVenue) -> None:
        with dial(venue) as client:
            venue.accept().send_raw(frame(TEXT, b"\xff"))
            venue.accept()
            assert client.stats().invalid == 1

    def test_a_venue_that_sends_on_still_sees_the_code(self, any_venue: FakeVenue) -> None:
        """An immediate close with unread input would reset the connection and lose the code."""
        with dial(any_venue):
            peer = any_venue.accept()
            peer.send_raw(frame(0x3) + bytes(200_000))
            assert peer.expect_close() == 1002
            peer.wait_closed()
            assert peer.ended_by == "client close 1002"

    def test_a_connection_that_is_lingering_delays_no_new_one(self) -> None:
        """The venue neither answers the close frame nor ends; the next connection opens at once."""
        received = []

        def venue(sock: socket.socket) -> None:
            sock.sendall(handshake_answer(receive_head(sock)))
            if server.connections == 1:
                sock.sendall(frame(0x3))
                started = time.monotonic()
                until(lambda: server.connections == 2)
                received.append(time.monotonic() - started)
            else:
                sock.recv(100)

        with Server(venue) as server, wsclient.connect(server.url, **QUICK) as client:
            until(lambda: received)
            until(lambda: client.is_connected)
        assert received[0] < 0.5


class TestCloses:
    def test_the_venues_code_is_echoed(self, any_venue: FakeVenue) -> None:
        with dial(any_venue):
            for code in (1000, 1001, 1003, 1008, 1012, 3000, 4999):
                peer = any_venue.accept()
                peer.close(code, "a reason")
                assert peer.expect_close() == code
            any_venue.accept()

    def test_the_venues_code_and_reason_are_reported(
        self, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        with dial(venue):
            venue.accept().close(4001, "too slow")
            venue.accept()
        assert "closed the connection (4001: too slow)" in losses(caplog)[0]

    def test_a_close_without_a_code_is_answered(self, any_venue: FakeVenue) -> None:
        with dial(any_venue):
            peer = any_venue.accept()
            peer.send_raw(frame(CLOSE))
            assert peer.expect_close() in (1000, 1005)
            any_venue.accept()

    def test_messages_right_before_the_close_are_delivered(self, any_venue: FakeVenue) -> None:
        with dial(any_venue) as client:
            client.subscribe("a")
            peer = any_venue.accept()
            last = struct.pack(">H", 1001)
            peer.send_raw(frame(TEXT, data("1")) + frame(TEXT, data("2")) + frame(CLOSE, last))
            assert [client.recv(5).data["text"] for _ in range(2)] == ["1", "2"]

    def test_what_comes_after_a_close_frame_is_not(self, venue: FakeVenue) -> None:
        with dial(venue) as client:
            client.subscribe("a")
            peer = venue.accept()
            peer.send_raw(frame(CLOSE, b"\x03\xe8") + frame(TEXT, data("late")))
            successor = venue.accept()
            venue.wait_for(lambda venue: successor.subscriptions)
            venue.publish("a", text="next")
            assert client.recv(5).data["text"] == "next"

    def test_ours_is_1000_and_waits_for_the_venues_answer(self, any_venue: FakeVenue) -> None:
        client = dial(any_venue)
        peer = any_venue.accept()
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 0.5
        assert peer.expect_close() == 1000
        peer.wait_closed()

    def test_ours_ends_in_time_against_a_venue_that_answers_nothing(
        self, any_venue: FakeVenue
    ) -> None:
        client = dial(any_venue)
        any_venue.accept().stop_reading()
        started = time.monotonic()
        client.close(timeout=0.4)
        assert time.monotonic() - started < 0.4 + SLACK

    @pytest.mark.parametrize("how", ["fin", "rst", "half"])
    def test_an_end_without_a_close_frame_is_reported(
        self, any_venue: FakeVenue, how: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with dial(any_venue) as client:
            client.subscribe("a")
            peer = any_venue.accept()
            peer.half_frame("x" * 100, "fin") if how == "half" else getattr(peer, how)()
            any_venue.accept()
            any_venue.wait_for(lambda venue: venue.subscribers("a"))
        (loss,) = losses(caplog)
        if how == "half":
            assert "in the middle of a frame" in loss
        elif how == "fin":
            assert "without a close frame" in loss


class TestControlFrames:
    def test_a_ping_is_answered_by_a_pong_with_its_payload(self, any_venue: FakeVenue) -> None:
        with dial(any_venue):
            peer = any_venue.accept()
            for payload in (b"", b"x", bytes(range(125))):
                peer.ping(payload)
                assert peer.expect_pong(timeout=1) == payload

    def test_many_pings_at_once_are_all_answered_in_order(self, any_venue: FakeVenue) -> None:
        with dial(any_venue):
            peer = any_venue.accept()
            payloads = [str(n).encode() for n in range(200)]
            peer.send_raw(b"".join(frame(PING, payload) for payload in payloads))
            assert [peer.expect_pong() for _ in payloads] == payloads

    def test_a_ping_is_answered_before_the_message_behind_it_is_handed_on(
        self, any_venue: FakeVenue
    ) -> None:
        """Autobahn 5.19: the consumer's answer to the message must not overtake the pong."""
        pongs = []

        def look(_: wsclient.Message) -> None:
            pongs.append(peer.expect_pong(timeout=2))

        with dial(any_venue, validate=look) as client:
            client.subscribe("a")
            peer = any_venue.accept()
            peer.send_raw(frame(PING, b"x") + frame(TEXT, data("1")))
            client.recv(5)
        assert pongs == [b"x"]

    def test_an_unsolicited_pong_is_ignored(self, any_venue: FakeVenue) -> None:
        with dial(any_venue) as client:
            client.subscribe("a")
            peer = any_venue.accept()
            peer.send_raw(frame(PONG, b"unsolicited"))
            any_venue.publish("a", price=1)
            assert client.recv(5).data["price"] == 1

    def test_pings_between_fragments_are_answered_and_the_message_is_whole(
        self, any_venue: FakeVenue
    ) -> None:
        message = data("é" * 500)
        parts = [message[n : n + 97] for n in range(0, len(message), 97)]
        with dial(any_venue) as client:
            client.subscribe("a")
            peer = any_venue.accept()
            for n, part in enumerate(parts):
                opcode = CONTINUATION if n else TEXT
                peer.send_raw(frame(opcode, part, fin=part is parts[-1]))
                peer.send_raw(frame(PING, bytes([n])))
                assert peer.expect_pong() == bytes([n])
            assert client.recv(5).raw == message

    @pytest.mark.parametrize("count", [2, 7, 100])
    def test_fragments_make_one_message(self, any_venue: FakeVenue, count: int) -> None:
        with dial(any_venue) as client:
            client.subscribe("a")
            sent = any_venue.accept().send_fragments(data("x" * 5000).decode(), count)
            assert client.recv(5).raw == sent.payload

    def test_a_message_byte_by_byte_is_whole(self, venue: FakeVenue) -> None:
        with dial(venue) as client:
            client.subscribe("a")
            peer = venue.accept()
            for byte in frame(TEXT, data("slow")):
                peer.send_raw(bytes([byte]))
            assert client.recv(5).raw == data("slow")

    def test_a_large_message_is_whole(self, any_venue: FakeVenue) -> None:
        with dial(any_venue) as client:
            client.subscribe("a")
            sent = any_venue.accept().send(data("x" * 5_000_000).decode())
            assert client.recv(10).raw == sent.payload


class TestSending:
    def test_text_bytes_and_objects_arrive_as_they_are(self, any_venue: FakeVenue) -> None:
        with dial(any_venue) as client:
            peer = any_venue.accept()
            client.send("text é")
            client.send(b"\x00\xff")
            client.send({"a": [1]})
            assert [peer.expect() for _ in range(3)] == ["text é", b"\x00\xff", '{"a":[1]}']

    def test_what_many_threads_send_is_not_torn(self, any_venue: FakeVenue) -> None:
        with dial(any_venue) as client:
            peer = any_venue.accept()
            calls = [
                Call(lambda n=n: [client.send(f"{n}:" + "x" * 3000) for _ in range(25)])
                for n in range(4)
            ]
            for call in calls:
                call.result()
            got = [str(peer.expect()) for _ in range(100)]
        assert {text[2:] for text in got} == {"x" * 3000}
        assert sorted(text[0] for text in got) == sorted("0123" * 25)

    def test_a_message_larger_than_all_buffers_arrives(self, any_venue: FakeVenue) -> None:
        with dial(any_venue) as client:
            peer = any_venue.accept()
            text = "x" * 3_000_000
            client.send(text)
            assert peer.expect() == text

    def test_not_connected_when_the_connection_is_down(self, venue: FakeVenue) -> None:
        with dial(venue) as client:
            venue.down()
            venue.accept().rst()
            until(lambda: not client.is_connected)
            with pytest.raises(NotConnected):
                client.send("x")
            venue.up()

    def test_outcome_unknown_when_the_connection_ends_half_way(self, any_venue: FakeVenue) -> None:
        with dial(any_venue, send_timeout=30) as client:
            peer = any_venue.accept()
            peer.stop_reading()
            call = Call(client.send, "x" * 8 * 1024 * 1024)
            until(lambda: has_begun_to_send(client))
            peer.rst()
            with pytest.raises(OutcomeUnknown):
                call.result()

    def test_no_send_is_called_done_that_never_left(self, venue: FakeVenue) -> None:
        """Connections end all the time: the outcome that send() reports is always true."""
        done, failed = [], []

        def cut() -> None:
            peers: list[Peer] = []
            while not stop.is_set():
                try:
                    peers.append(venue.accept(timeout=0.05))
                except TimeoutError:
                    continue
                if len(peers[-1].received) < 3:
                    stop.wait(0.001)
                peers[-1].close(1001)

        stop = threading.Event()
        with dial(venue, dialect=wsclient.Generic(limits=wsclient.Limits(connects=None))) as client:
            cutter = Call(cut)
            deadline = time.monotonic() + 0.6
            number = 0
            while time.monotonic() < deadline:
                number += 1
                try:
                    client.send(f"{number}")
                    done.append(f"{number}")
                except (NotConnected, OutcomeUnknown) as error:
                    failed.append((f"{number}", error))
                    until(lambda: client.is_connected)
            stop.set()
            cutter.result()
        received = {payload for peer in venue.peers for payload in peer.received}
        for text, error in failed:
            if isinstance(error, NotConnected):
                assert text not in received, "reported as unsent, but it had arrived"
        assert len(venue.peers) > 3
        assert done


class TestThreads:
    def test_blocking_calls_from_the_readers_thread_are_refused(self, venue: FakeVenue) -> None:
        errors = []

        def headers() -> dict[str, str]:
            for call in (client.recv, client.connect, lambda: client.send("x")):
                try:
                    call()
                except RuntimeError as error:
                    errors.append(str(error))
            return {}

        client = wsclient.WebSocketClient(venue.url, headers=headers)
        with client:
            assert len(errors) == 3
            assert "wait for itself" in errors[0]

    def test_what_a_callable_raises_is_the_attempts_failure(self, venue: FakeVenue) -> None:
        def headers() -> dict[str, str]:
            raise LookupError("no token today")

        line = headers.__code__.co_firstlineno + 1
        said = f"headers raised LookupError at line {line} of test_transport.py"
        with pytest.raises(wsclient.ConnectError, match=said):
            wsclient.connect(venue.url, headers=headers, max_retries=1)

    def test_what_a_callable_raises_is_not_chained(self, venue: FakeVenue) -> None:
        """The text of the cause may quote a URL with a token."""

        def url() -> str:
            raise LookupError("S3CRET") from OSError("S3CRET")

        with pytest.raises(wsclient.ConnectError) as caught:
            wsclient.connect(url, max_retries=1)
        cause = caught.value.__cause__
        assert isinstance(cause, ConnectionLost)
        assert (cause.__cause__, cause.__context__) == (None, None)
        assert "S3CRET" not in text_of(caught.value)

    def test_the_place_is_in_the_functions_own_file(self, venue: FakeVenue) -> None:
        with pytest.raises(wsclient.ConnectError, match=r"JSONDecodeError at line \d+ of test_tr"):
            wsclient.connect(venue.url, headers=lambda: json.loads("{"), max_retries=1)

    def test_a_callable_may_even_exit(self, venue: FakeVenue) -> None:
        """The end is reported for any cause, even SystemExit."""

        def headers() -> dict[str, str]:
            sys.exit("on purpose")

        with pytest.raises(wsclient.ConnectError) as caught:
            wsclient.connect(venue.url, headers=headers, max_retries=1)
        assert "headers raised SystemExit" in str(caught.value)

    def test_the_error_of_a_lost_connection_says_why_without_the_url(
        self, venue: FakeVenue
    ) -> None:
        venue.down()
        url = f"{venue.url}?token=S3CRET"
        with pytest.raises(wsclient.ConnectError) as caught:
            wsclient.connect(url, max_retries=1)
        assert "S3CRET" not in text_of(caught.value)
        assert isinstance(caught.value.__cause__, (ConnectionRefusedError, ConnectionLost))
