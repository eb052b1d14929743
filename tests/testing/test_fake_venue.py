import json
import os
import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidStatus,
)
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from wsclient.testing import FakeVenue, ScriptedProtocol

LOCALHOST = Path(__file__).with_name("localhost.pem")  # key and self-signed certificate, to 2125
HANDSHAKE = (
    b"GET /feed?x=1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@contextmanager
def tcp(venue, send=HANDSHAKE):
    """Return a raw client that has sent its handshake."""
    with socket.create_connection((venue.host, venue.port), timeout=5) as sock:
        sock.sendall(send)
        yield sock


def read_head(sock):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, head
        head += byte
    return head


def read_all(sock):
    """Return everything up to the end of the stream."""
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


def frames_of(payload):
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def subscribe(client, channel):
    client.send(json.dumps({"type": "subscribe", "channel": channel}))
    return json.loads(client.recv(timeout=5))


# Life


def test_venue_listens_only_between_start_and_close():
    venue = FakeVenue()
    with venue:
        with tcp(venue) as sock:
            assert b" 101 " in read_head(sock)
        venue.wait_for(lambda v: v.attempts == 1)
    with pytest.raises(ConnectionError):
        socket.create_connection((venue.host, venue.port), timeout=5)


def test_close_is_idempotent_and_drops_every_client(dial):
    venue = FakeVenue()
    venue.start()
    clients = [dial(venue) for _ in range(3)]
    venue.close()
    venue.close()
    for client in clients:
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=5)
    assert [peer.ended_by for peer in venue.peers] == ["venue closed"] * 3
    assert all(peer.closed for peer in venue.peers)


def test_venue_starts_only_once(venue):
    with pytest.raises(RuntimeError):
        venue.start()


def test_closing_a_venue_that_never_started_does_nothing():
    FakeVenue().close()


def test_close_is_prompt_while_clients_stall_in_every_handshake_fault():
    with FakeVenue() as venue:
        kinds = ["deaf", "drip", "headers", "garbage"]
        for kind in kinds:
            venue.fail_handshake(kind)
        socks = [socket.create_connection((venue.host, venue.port)) for _ in kinds]
        for sock in socks:
            sock.sendall(HANDSHAKE)
        venue.wait_for(lambda v: len(v.requests) == 3)
        before = time.monotonic()
        venue.close()
        assert time.monotonic() - before < 2
        for sock in socks:
            sock.close()


def test_threads_are_named_and_daemons(venue, dial):
    dial(venue)
    threads = {t.name: t.daemon for t in threading.enumerate() if t.name.startswith("fakevenue")}
    assert threads == {"fakevenue-accept": True, "fakevenue-peer-1": True}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_no_descriptor_is_left_open(dial):
    before = len(os.listdir("/proc/self/fd"))
    with FakeVenue() as venue:
        with tcp(venue) as sock:
            read_head(sock)
            venue.accept().rst()
        venue.down()
        venue.up()
        with tcp(venue) as sock:
            read_head(sock)
    assert len(os.listdir("/proc/self/fd")) == before


def test_down_refuses_connections_and_up_accepts_them_on_the_same_port(venue):
    port = venue.port
    venue.down()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((venue.host, port), timeout=5)
    venue.up()
    assert venue.port == port
    with tcp(venue) as sock:
        assert b" 101 " in read_head(sock)


def test_down_leaves_open_connections_alone(venue, dial):
    client = dial(venue)
    venue.down()
    venue.accept().send("still here")
    assert client.recv(timeout=5) == "still here"


@pytest.fixture
def tls_venue():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(LOCALHOST)
    with FakeVenue(ssl_context=context) as venue:
        yield venue


def test_tls_venue_speaks_wss(tls_venue):
    assert tls_venue.url.startswith("wss://127.0.0.1:")
    context = ssl.create_default_context(cafile=LOCALHOST)
    # One thread only: a TLS socket must not be read and written at the same time.
    with tcp(tls_venue, b"") as sock, context.wrap_socket(sock, server_hostname="localhost") as tls:
        tls.sendall(HANDSHAKE)
        read_head(tls)
        peer = tls_venue.accept()
        tls.sendall(Frame(Opcode.TEXT, b"x" * 200_000).serialize(mask=True))
        assert peer.expect() == "x" * 200_000
        peer.send("y" * 3_000_000)
        peer.fin()
        assert read_all(tls) == frames_of(b"y" * 3_000_000)


def test_tls_client_that_distrusts_the_venue_counts_as_one_attempt(tls_venue):
    context = ssl.create_default_context()
    with tcp(tls_venue, b"") as sock, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(sock, server_hostname="localhost")
    assert tls_venue.attempts == 1
    assert tls_venue.peers == []


# Accepting and waiting


def test_accept_hands_out_each_connection_once_in_order(venue, dial):
    dial(venue)
    dial(venue)
    assert [venue.accept().id, venue.accept().id] == [1, 2]
    with pytest.raises(TimeoutError, match="no new connection"):
        venue.accept(timeout=0.01)


def test_requests_hold_path_and_headers(venue):
    with tcp(venue) as sock:
        read_head(sock)
        assert venue.accept().request is venue.requests[0]
        assert venue.requests[0].path == "/feed?x=1"
        assert venue.requests[0].headers["host"] == "localhost"


def test_wait_for_returns_the_value_of_the_predicate(venue, dial):
    dial(venue)
    assert venue.wait_for(lambda v: v.live) == venue.peers


def test_wait_for_that_times_out_shows_the_venue(venue):
    with pytest.raises(TimeoutError, match="0 attempts"):
        venue.wait_for(lambda v: v.peers, timeout=0.01)


def test_subprotocol_is_negotiated(dial):
    with FakeVenue(subprotocols=["v2", "v1"]) as venue:
        assert dial(venue, subprotocols=["v1", "v2"]).subprotocol == "v2"
        assert dial(venue).subprotocol is None


def test_request_that_is_no_websocket_handshake_is_refused(venue):
    with tcp(venue, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as sock:
        assert read_all(sock).startswith(b"HTTP/1.1 426 ")
    assert venue.peers == []


# Handshake faults


def test_refuse_answers_with_status_headers_and_body_then_accepts_again(venue, dial):
    venue.refuse(429, retry_after=7, body=b"slow down", headers=[("X-Why", "limit")], times=2)
    for _ in range(2):
        with pytest.raises(InvalidStatus) as caught:
            connect(venue.url)
        response = caught.value.response
        assert response.status_code == 429
        assert response.headers["Retry-After"] == "7"
        assert response.headers["X-Why"] == "limit"
        assert response.body == b"slow down"
    dial(venue)
    assert venue.accept().id == 3
    assert venue.attempts == len(venue.requests) == 3


def test_faults_are_served_in_the_order_of_the_calls(venue):
    venue.refuse(401)
    venue.fail_handshake("eof")
    venue.refuse(503)
    with tcp(venue) as sock:
        assert read_all(sock).startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    with tcp(venue, b"") as sock:
        assert read_all(sock) == b""
    with tcp(venue) as sock:
        assert read_all(sock).startswith(b"HTTP/1.1 503 ")
    assert len(venue.requests) == 2


def test_reset_handshake_ends_with_rst(venue):
    venue.fail_handshake("reset")

    def connect_and_read():
        with tcp(venue) as sock:
            sock.recv(1)

    with pytest.raises(ConnectionResetError):  # it may come at any of these calls
        connect_and_read()


def test_deaf_handshake_is_never_answered_until_the_client_gives_up(venue):
    venue.fail_handshake("deaf")
    with tcp(venue) as sock:
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        (thread,) = [t for t in threading.enumerate() if t.name == "fakevenue-peer-1"]
    thread.join(5)
    assert not thread.is_alive()
    assert venue.requests == []


def test_a_deaf_handshake_does_not_answer_tls_either(tls_venue):
    tls_venue.fail_handshake("deaf")
    with tcp(tls_venue) as sock:  # TLS would answer these bytes with an alert
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_drip_sends_a_valid_reply_byte_by_byte(venue):
    venue.fail_handshake("drip")
    with tcp(venue) as sock:
        before = time.monotonic()
        assert b"".join(sock.recv(100) for _ in range(5)) == b"HTTP/"
        assert 0.19 <= time.monotonic() - before < 2


def test_headers_never_end(venue):
    venue.fail_handshake("headers")
    with tcp(venue) as sock:
        data = b""
        while len(data) < 1_000_000:
            data += sock.recv(65536)
        assert data.startswith(b"HTTP/1.1 101 ")
        assert b"\r\n\r\n" not in data


def test_garbage_is_not_http(venue):
    venue.fail_handshake("garbage")
    with tcp(venue) as sock:
        assert not read_head(sock).startswith(b"HTTP/")


def test_unknown_handshake_fault_is_an_error(venue):
    with pytest.raises(ValueError):
        venue.fail_handshake("deaff")


# The dialogue


def test_expect_returns_messages_in_order_as_text_or_bytes(venue, dial):
    client = dial(venue)
    client.send("one")
    client.send(b"two")
    client.send(["th", "ree"])
    peer = venue.accept()
    assert [peer.expect(), peer.expect(), peer.expect()] == ["one", b"two", "three"]
    assert peer.received == ["one", b"two", "three"]


def test_expect_json_shows_both_messages_when_they_differ(venue, dial):
    dial(venue).send('{"a": 1}')
    with pytest.raises(AssertionError, match=r"\{'a': 2\}.*\s.*\{'a': 1\}"):
        venue.accept().expect_json({"a": 2})


def test_expect_json_of_something_else_fails(venue, dial):
    dial(venue).send("no json")
    with pytest.raises(AssertionError, match="not JSON"):
        venue.accept().expect_json()


def test_expect_fails_at_its_deadline(venue, dial):
    dial(venue)
    with pytest.raises(AssertionError, match=r"no message within 0.01 s from <Peer 1 live"):
        venue.accept().expect(timeout=0.01)


def test_expect_fails_at_once_when_the_client_has_gone(venue, dial):
    dial(venue).close()
    with pytest.raises(AssertionError, match="ended by client close 1000"):
        venue.accept().expect(timeout=60)


def test_messages_that_came_before_the_close_can_still_be_expected(venue, dial):
    client = dial(venue)
    client.send("last words")
    client.close(1001)
    peer = venue.accept()
    assert peer.expect_close() == 1001
    assert peer.expect() == "last words"


def test_send_json_is_compact_text(venue, dial):
    client = dial(venue)
    venue.accept().send_json({"a": [1, None]})
    assert client.recv(timeout=5) == '{"a":[1,null]}'


def test_bytes_are_sent_as_a_binary_frame(venue, dial):
    client = dial(venue)
    venue.accept().send(b"\x00\xff")
    assert client.recv(timeout=5) == b"\x00\xff"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_fragments_make_up_the_message(venue, dial, count):
    client = dial(venue)
    sent = venue.accept().send_fragments("héllo wörld", count)
    fragments = list(client.recv_streaming())
    assert "".join(fragments).encode() == sent.payload
    assert len(fragments) == count


def test_raw_bytes_are_sent_unchanged(venue):
    with tcp(venue) as sock:
        read_head(sock)
        peer = venue.accept()
        peer.send_raw(b"\xf1\x00anything")
        peer.fin()
        assert read_all(sock) == b"\xf1\x00anything"
        assert peer.journal == []


def test_journal_numbers_every_message_of_a_connection(venue, dial):
    clients = [dial(venue), dial(venue)]
    before = time.time_ns()
    peers = [venue.accept(), venue.accept()]
    for peer in peers:
        peer.send("a")
        peer.ping()
        peer.send(b"b")
    for client, peer in zip(clients, peers, strict=True):
        assert [client.recv(timeout=5), client.recv(timeout=5)] == ["a", b"b"]
        journal = [(sent.number, sent.connection, sent.payload) for sent in peer.journal]
        assert journal == [(1, peer.id, b"a"), (2, peer.id, b"b")]
        assert all(before <= sent.time <= time.time_ns() for sent in peer.journal)


def test_journal_is_the_order_of_the_wire_when_many_threads_send(venue, dial):
    client = dial(venue)
    peer = venue.accept()
    threads = [
        threading.Thread(target=lambda n=n: [peer.send(f"{n} {i}") for i in range(200)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    arrived = [client.recv(timeout=5) for _ in range(800)]
    for thread in threads:
        thread.join()
    assert arrived == [sent.payload.decode() for sent in peer.journal]


def test_call_later_runs_on_the_peers_thread(venue, dial):
    client = dial(venue)
    peer = venue.accept()
    peer.call_later(0.01, lambda: peer.send(threading.current_thread().name))
    assert client.recv(timeout=5) == "fakevenue-peer-1"


# Pings


def test_pings_are_answered_and_can_be_expected(venue, dial):
    client = dial(venue)
    assert client.ping(b"hello").wait(5)
    assert venue.accept().expect_ping() == b"hello"


def test_muted_pongs_leave_pings_unanswered(venue, dial):
    client = dial(venue)
    peer = venue.accept()
    peer.mute_pongs()
    pong = client.ping(b"1")
    assert peer.expect_ping() == b"1"
    peer.send("marker")
    client.recv(timeout=5)
    assert not pong.is_set()


def test_the_clients_pong_can_be_expected(venue, dial):
    dial(venue)
    peer = venue.accept()
    peer.ping(b"there?")
    assert peer.expect_pong() == b"there?"


# Endings


def test_close_handshake_reaches_the_client_and_ends_the_peer(venue, dial):
    client = dial(venue)
    peer = venue.accept()
    peer.close(1012, "restart")
    with pytest.raises(ConnectionClosedError) as caught:
        client.recv(timeout=5)
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1012, "restart")
    assert peer.expect_close() == 1012
    peer.wait_closed()
    assert peer.ended_by == "close 1012"


def test_close_that_is_not_answered_ends_after_a_second(venue):
    with tcp(venue) as sock:
        read_head(sock)
        peer = venue.accept()
        before = time.monotonic()
        peer.close()
        assert read_all(sock) == b"\x88\x02\x03\xe8"
        assert 0.9 < time.monotonic() - before < 3
        peer.wait_closed()


def test_fin_comes_after_everything_sent(venue):
    with tcp(venue) as sock:
        read_head(sock)
        peer = venue.accept()
        for n in range(2000):
            peer.send(f"{n} " + "x" * 5000)
        peer.fin()
        assert read_all(sock) == b"".join(frames_of(sent.payload) for sent in peer.journal)
        sock.close()
        peer.wait_closed()
        assert peer.ended_by == "fin"


def test_fin_closes_after_a_second_when_the_client_keeps_its_side_open(venue):
    with tcp(venue) as sock:
        read_head(sock)
        peer = venue.accept()
        peer.fin()
        assert sock.recv(1) == b""
        peer.wait_closed(timeout=3)


def test_rst_resets_the_connection(venue):
    with tcp(venue) as sock:
        read_head(sock)
        venue.accept().rst()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_half_frame_stalls_with_the_connection_open(venue):
    with tcp(venue) as sock:
        read_head(sock)
        peer = venue.accept()
        peer.half_frame("x" * 100)
        frame = frames_of(b"x" * 100)
        assert sock.recv(1000) == frame[:52]
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert not peer.live
        assert not peer.closed


def test_nothing_follows_a_half_frame(venue):
    with tcp(venue) as sock:
        read_head(sock)
        peer = venue.accept()
        peer.half_frame(b"1234")
        sock.sendall(Frame(Opcode.PING, b"!").serialize(mask=True))
        assert peer.expect_ping() == b"!"
        with pytest.raises(ConnectionError):
            peer.send("more")
        peer.fin()
        assert read_all(sock) == b"\x82\x0412"


@pytest.mark.parametrize("payload", ["", "a", "ab"])
def test_half_frame_always_lacks_something(venue, payload):
    with tcp(venue) as sock:
        read_head(sock)
        venue.accept().half_frame(payload, then="fin")
        frame = frames_of(payload.encode())
        got = read_all(sock)
        assert got == frame[: len(got)]
        assert 0 < len(got) < len(frame)


def test_half_frame_then_rst(venue):
    with tcp(venue) as sock:
        read_head(sock)
        venue.accept().half_frame("x" * 100, then="rst")
        with pytest.raises(ConnectionResetError):
            read_all(sock)


def test_peer_that_stopped_reading_lets_the_clients_writes_pile_up():
    with FakeVenue(None, receive_buffer=8192) as venue, tcp(venue) as sock:
        read_head(sock)
        peer = venue.accept()
        peer.stop_reading()
        sock.settimeout(0.2)
        frame = Frame(Opcode.BINARY, bytes(1_000_000)).serialize(mask=True)
        with pytest.raises(TimeoutError):
            sock.sendall(frame * 20)
        assert len(peer.received) <= 1


def test_start_reading_reads_what_piled_up(venue, dial):
    client = dial(venue)
    peer = venue.accept()
    peer.stop_reading()
    client.send("one")
    with pytest.raises(AssertionError):
        peer.expect(timeout=0.02)
    peer.start_reading()
    assert peer.expect() == "one"


def test_client_that_never_reads_blocks_neither_publishing_nor_other_clients(venue, dial):
    with tcp(venue) as sock:
        read_head(sock)
        deaf = venue.accept()
        deaf.subscribe("a")
        client = dial(venue)
        subscribe(client, "a")
        for _ in range(300):
            venue.publish("a", pad="x" * 100_000)
        assert [json.loads(client.recv(timeout=5))["sequence"] for _ in range(300)][-1] == 300
        assert deaf.backlog > 0
        assert deaf.live
        before = time.monotonic()
        venue.close()
        assert time.monotonic() - before < 2


def test_client_that_closes_ends_its_peer(venue, dial):
    dial(venue).close()
    peer = venue.accept()
    peer.wait_closed()
    assert peer.ended_by == "client close 1000"
    assert venue.live == []


def test_client_that_sends_a_bare_eof_closes_with_none(venue):
    with tcp(venue) as sock:
        read_head(sock)
        peer = venue.accept()
    assert peer.expect_close() is None
    assert peer.ended_by == "client eof"


def test_client_that_resets_ends_its_peer(venue):
    with tcp(venue) as sock:
        read_head(sock)
        peer = venue.accept()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert peer.expect_close() is None
    assert peer.ended_by == "client reset"


def test_client_that_breaks_the_protocol_gets_a_close_frame(venue):
    with tcp(venue) as sock:
        read_head(sock)
        sock.sendall(b"\x81\x01x")  # not masked
        assert read_all(sock).startswith(b"\x88")
    assert venue.accept().ended_by == "close 1002"


def test_sending_after_the_end_is_an_error(venue, dial):
    dial(venue)
    peer = venue.accept()
    peer.rst()
    with pytest.raises(ConnectionError, match="ended by rst"):
        peer.send("x")


def test_endings_of_a_closed_peer_do_nothing(venue, dial):
    dial(venue)
    peer = venue.accept()
    peer.rst()
    peer.wait_closed()
    peer.fin()
    peer.rst()
    assert peer.ended_by == "rst"


def test_wait_closed_fails_at_its_deadline(venue, dial):
    dial(venue)
    with pytest.raises(AssertionError, match="no end of the connection within"):
        venue.accept().wait_closed(timeout=0.01)


def test_normal_close_is_ok_for_the_client(venue, dial):
    client = dial(venue)
    venue.accept().close()
    with pytest.raises(ConnectionClosedOK):
        client.recv(timeout=5)


def test_a_text_that_is_not_utf_8_is_refused(venue):
    with tcp(venue) as sock:
        read_head(sock)
        sock.sendall(Frame(Opcode.TEXT, b"\xff").serialize(mask=True))
        assert read_all(sock).startswith(b"\x88\x0b\x03\xefnot UTF-8")
    assert venue.accept().ended_by == "close 1007"


# For a venue that runs for days


def test_a_port_can_be_chosen_and_is_refused_if_in_use(venue):
    with pytest.raises(OSError, match="in use"), FakeVenue(port=venue.port):
        pass
    venue.close()
    with FakeVenue(port=venue.port) as again:
        assert again.port == venue.port


def test_channels_that_are_not_listed_are_refused(dial):
    with FakeVenue(channels=["a"]) as venue:
        client = dial(venue)
        assert subscribe(client, "a")["status"] == "success"
        assert subscribe(client, "b")["error"] == "there is no channel 'b' here, only a"


def test_published_messages_can_be_tampered_with_and_are_still_counted(dial):
    def tamper(peer, channel, payload):
        number = json.loads(payload)["sequence"]
        return [f"{peer.id} {channel} {number}"] * number

    with FakeVenue(tamper=tamper) as venue:
        client = dial(venue)
        subscribe(client, "a")
        assert [venue.publish("a"), venue.publish("a")] == [1, 2]
        assert venue.sequence("a") == 2
        assert venue.sequence("b") == 0
        assert [client.recv(timeout=5) for _ in range(3)] == ["1 a 1", "1 a 2", "1 a 2"]


def test_it_logs_what_happens_on_a_connection(dial):
    events = []
    with FakeVenue(channels=["a"], log=lambda peer, text: events.append((peer.id, text))) as venue:
        venue.refuse(503)
        with tcp(venue) as sock:
            read_all(sock)
        client = dial(venue)
        for request in ("subscribe", "unsubscribe", "unsubscribe"):
            client.send(json.dumps({"type": request, "channel": "a"}))
            client.recv(timeout=5)
        subscribe(client, "b")
        venue.peers[0].rst()
        venue.peers[0].wait_closed()
    assert events == [
        (1, "refused: HTTP/1.1 503 Service Unavailable"),
        (2, "connected"),
        (2, "subscribed to a"),
        (2, "unsubscribed from a"),
        (2, "refused b: there is no channel 'b' here, only a"),
        (2, "gone: rst"),
    ]


def test_the_old_name_of_log_still_works(dial):
    texts = []
    with pytest.deprecated_call(match="log"):
        venue = FakeVenue(tell=lambda peer, text: texts.append(text))
    with venue:
        dial(venue)
    assert texts == ["connected", "gone: venue closed"]


def test_without_a_journal_nothing_is_recorded(dial):
    with FakeVenue(journal=False) as venue:
        for number in (1, 2, 3):
            client = dial(venue)
            subscribe(client, "a")
            client.ping()
            venue.publish("a")
            client.recv(timeout=5)
            (peer,) = venue.live
            peer.rst()
            peer.wait_closed()
            assert (peer.id, peer.journal, peer.received, peer.pings) == (number, [], [], [])
        assert venue.attempts == 3
        assert len(venue.peers) == len(venue.connections) == 1
        assert venue.requests == []


def test_a_get_is_answered_by_the_protocol():
    class Rest(ScriptedProtocol):
        def http(self, path):
            return path.encode() if path.startswith("/book?") else None

    with FakeVenue(Rest()) as venue:
        with tcp(venue, b"GET /book?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n") as sock:
            head, _, body = read_all(sock).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Length: 9" in head
        assert body == b"/book?x=1"
        with tcp(venue, b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n") as sock:
            assert read_all(sock).startswith(b"HTTP/1.1 426 ")
        assert venue.peers == []


def test_a_muted_peer_sends_nothing_but_pongs_until_it_is_unmuted(venue, dial):
    client = dial(venue)
    subscribe(client, "a")
    peer = venue.accept()
    peer.mute()
    venue.publish("a")
    client.send(json.dumps({"type": "subscribe", "channel": "b"}))
    assert client.ping().wait(5)
    peer.mute(False)
    venue.publish("a")
    assert json.loads(client.recv(timeout=5))["sequence"] == 2
    assert len(peer.journal) == 2


def test_a_batch_is_sent_at_its_end_in_order(venue, dial):
    client = dial(venue)
    subscribe(client, "a")
    peer = venue.accept()
    with venue.batch():
        for _ in range(50):
            venue.publish("a")
        assert peer.backlog > 50 * 40
    assert [json.loads(client.recv(timeout=5))["sequence"] for _ in range(50)] == [*range(1, 51)]
