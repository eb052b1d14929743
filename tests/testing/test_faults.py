"""The fault proxy, with two plain sockets at its ends."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import wsclient
from wsclient.testing import FakeVenue, Fault, FaultProxy

PAYLOAD = bytes(range(256)) * 64


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


@pytest.fixture
def proxy(listener: socket.socket) -> Iterator[FaultProxy]:
    with FaultProxy(f"ws://127.0.0.1:{listener.getsockname()[1]}/path?a=b") as proxy:
        yield proxy


class Ends:
    """Both ends of a connection, and the connection itself."""

    def __init__(self, proxy: FaultProxy, listener: socket.socket) -> None:
        self.client = socket.create_connection(proxy.address, timeout=5)
        self.venue, _ = listener.accept()
        self.venue.settimeout(5)
        self.connection = proxy.connections[-1]

    def pass_on(self, data: bytes) -> bytes:
        """Send bytes from the venue, and return the same number of bytes read by the client."""
        self.venue.sendall(data)
        return receive(self.client, len(data))


@pytest.fixture
def ends(proxy: FaultProxy, listener: socket.socket) -> Iterator[Ends]:
    ends = Ends(proxy, listener)
    with ends.client, ends.venue:
        yield ends


def receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, f"the stream ended after {data!r}"
        data += piece
    return data


def assert_quiet(sock: socket.socket, seconds: float = 0.1) -> None:
    """Check that neither bytes nor an end of the stream arrive."""
    sock.settimeout(seconds)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    sock.settimeout(5)


def fill(sock: socket.socket) -> int:
    """Write until the window is full, and return the number of bytes written."""
    sock.settimeout(0.2)
    count = 0
    with contextlib.suppress(TimeoutError):
        while count < 64 * 1024 * 1024:
            count += sock.send(bytes(65536))
    return count


def test_without_a_fault_bytes_and_ends_pass_both_ways(ends: Ends) -> None:
    assert ends.pass_on(PAYLOAD) == PAYLOAD
    ends.client.sendall(PAYLOAD)
    ends.client.shutdown(socket.SHUT_WR)
    assert receive(ends.venue, len(PAYLOAD)) == PAYLOAD
    assert ends.venue.recv(1) == b""
    assert ends.pass_on(b"after") == b"after"
    ends.venue.close()
    assert ends.client.recv(1) == b""


def test_a_reset_passes(ends: Ends) -> None:
    ends.venue.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ends.venue.close()
    with pytest.raises(ConnectionResetError):
        ends.client.recv(1)


def test_its_url_is_the_venues_with_its_own_address(proxy: FaultProxy) -> None:
    assert proxy.url == f"ws://127.0.0.1:{proxy.address[1]}/path?a=b"


def test_a_deaf_connection_discards_bytes_and_the_end(ends: Ends) -> None:
    ends.connection.set(Fault("deaf"))
    ends.venue.sendall(PAYLOAD)
    ends.client.sendall(PAYLOAD)
    ends.client.shutdown(socket.SHUT_WR)
    assert_quiet(ends.client)
    assert_quiet(ends.venue)
    assert fill(ends.venue) == 64 * 1024 * 1024  # deaf, and not full


def test_one_direction_can_be_deaf(ends: Ends) -> None:
    ends.connection.set(Fault("deaf"), "to_venue")
    ends.client.sendall(b"lost")
    assert ends.pass_on(b"heard") == b"heard"
    assert_quiet(ends.venue)


def test_a_stalled_connection_fills_the_window_and_loses_nothing(ends: Ends) -> None:
    ends.connection.set(Fault("stall", after=3))
    count = fill(ends.venue)
    assert 0 < count < 64 * 1024 * 1024
    assert receive(ends.client, 3) == bytes(3)
    assert_quiet(ends.client)
    ends.connection.set(Fault())
    assert receive(ends.client, count - 3) == bytes(count - 3)


@pytest.mark.parametrize("after", [0, 1, 1000])
def test_a_fin_after_a_number_of_bytes(ends: Ends, after: int) -> None:
    ends.connection.set(Fault("fin", after=after), "to_client")
    if after:
        ends.venue.sendall(PAYLOAD)
    assert receive(ends.client, after) == PAYLOAD[:after]
    assert ends.client.recv(1) == b""
    assert ends.venue.recv(1) == b""


@pytest.mark.parametrize("after", [0, 1000])
def test_a_reset_after_a_number_of_bytes(ends: Ends, after: int) -> None:
    ends.connection.set(Fault("rst", after=after), "to_client")
    if after:
        ends.venue.sendall(PAYLOAD)
    with pytest.raises(ConnectionResetError):
        receive(ends.client, after + 1)
    with pytest.raises(ConnectionResetError):
        ends.venue.recv(1)


def test_a_delay_keeps_the_order_even_when_it_ends(ends: Ends) -> None:
    ends.connection.set(Fault(delay=0.2))
    started = time.monotonic()
    ends.venue.sendall(b"late")
    assert receive(ends.client, 1) == b"l"
    assert time.monotonic() - started >= 0.2
    ends.venue.sendall(b", ")
    assert_quiet(ends.venue, 0.05)
    ends.connection.set(Fault())
    assert ends.pass_on(b"soon") == b"ate,"
    assert receive(ends.client, 5) == b" soon"


def test_a_limited_rate(ends: Ends) -> None:
    ends.connection.set(Fault(rate=1000))
    started = time.monotonic()
    assert ends.pass_on(PAYLOAD[:300]) == PAYLOAD[:300]
    assert time.monotonic() - started >= 0.25


def test_the_seed_decides_which_bytes_are_corrupted(listener: socket.socket) -> None:
    def corrupted(seed: int, step: int) -> bytes:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        with FaultProxy(url, seed=seed) as proxy:
            proxy.set(Fault(corrupt=0.01), on="new")
            ends = Ends(proxy, listener)
            with ends.client, ends.venue:
                pieces = [PAYLOAD[i : i + step] for i in range(0, len(PAYLOAD), step)]
                return b"".join(ends.pass_on(piece) for piece in pieces)

    first = corrupted(1, 1000)
    changed = sum(a != b for a, b in zip(first, PAYLOAD, strict=True))
    assert 0.005 < changed / len(PAYLOAD) < 0.015
    assert first == corrupted(1, 77)
    assert first != corrupted(2, 1000)


def test_a_fault_can_be_set_on_present_or_new_connections_only(
    proxy: FaultProxy, listener: socket.socket, ends: Ends
) -> None:
    proxy.set(Fault("deaf"), on="new")
    new = Ends(proxy, listener)
    with new.client, new.venue:
        assert ends.pass_on(b"present") == b"present"
        new.venue.sendall(b"new")
        assert_quiet(new.client)
        proxy.set(Fault("deaf"), on="present")
        proxy.set(Fault(), on="new")
        ends.venue.sendall(b"present")
        assert_quiet(ends.client)
        newest = Ends(proxy, listener)
        with newest.client, newest.venue:
            assert newest.pass_on(b"newest") == b"newest"
            assert [connection.number for connection in proxy.connections] == [1, 2, 3]


def test_refuse_rejects_new_connections_and_keeps_open_ones(
    proxy: FaultProxy, listener: socket.socket, ends: Ends
) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(proxy.address, timeout=5)
    assert ends.pass_on(b"x") == b"x"
    proxy.refuse(False)
    again = Ends(proxy, listener)
    with again.client, again.venue:
        assert again.pass_on(b"x") == b"x"


def test_a_venue_that_is_down_resets_the_client(listener: socket.socket) -> None:
    with FaultProxy(f"ws://127.0.0.1:{listener.getsockname()[1]}/") as proxy:
        listener.close()
        # The reset may come as soon as there is a connection.
        with (
            pytest.raises(ConnectionResetError),
            socket.create_connection(proxy.address, timeout=5) as client,
        ):
            client.recv(1)
        assert proxy.connections == []


@pytest.mark.parametrize("stop", [None, "deaf", "stall", "fin"])
def test_close_is_prompt_and_leaves_nothing(proxy: FaultProxy, ends: Ends, stop: Any) -> None:
    proxy.set(Fault(stop))
    started = time.monotonic()
    proxy.close()
    proxy.close()
    assert time.monotonic() - started < 1
    assert "faultproxy" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(proxy.address, timeout=5)


def test_an_idle_connection_does_not_wake_the_thread(proxy: FaultProxy, ends: Ends) -> None:
    """No fault makes the thread spin."""
    for fault in (Fault(), Fault("stall"), Fault("deaf")):
        ends.connection.set(fault)
        ends.venue.sendall(b"x")
        before = time.process_time()
        assert_quiet(ends.venue, 0.2)
        assert time.process_time() - before < 0.1


def test_a_client_survives_all_faults(venue: FakeVenue) -> None:
    with (
        FaultProxy(venue.url) as proxy,
        wsclient.connect(proxy.url, retry_delay=0.01, connect_timeout=0.5) as client,
    ):
        client.subscribe("a")
        for number, fault in enumerate([Fault("fin"), Fault("rst", after=10), Fault(delay=0.02)]):
            peer = venue.wait_for(lambda venue: venue.subscribers("a"))[0]
            proxy.set(fault, "to_client", on="present")
            venue.publish("a", number=number)
            if fault.stop:
                peer.wait_closed()
        assert client.recv(timeout=5).data["number"] == 2
        assert client.stats().disconnects == 2


def test_a_port_can_be_chosen_and_is_refused_if_in_use(proxy: FaultProxy) -> None:
    port = proxy.address[1]
    with pytest.raises(OSError, match="in use"):
        FaultProxy("ws://127.0.0.1:1/", port=port)
    proxy.close()
    with FaultProxy("ws://127.0.0.1:1/", port=port) as again:
        assert again.url == f"ws://127.0.0.1:{port}/"
