"""The outbox: order, tickets, and a peer that does not read."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.helpers import PAIRS, Call, receive, tcp_pair, until
from support.inside import lock_of
from wsclient import NotConnected, OutcomeUnknown
from wsclient.threads.locks import Locks
from wsclient.threads.waiting import Deadline, Waiter
from wsclient.transport.bytestream import ByteStream, open_stream
from wsclient.transport.outbox import CHUNK, Outbox


@pytest.fixture(params=PAIRS)
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[ByteStream, socket.socket]]:
    """Our stream, and the peer's socket."""
    with PAIRS[request.param]() as (near, far):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        yield open_stream(near), far


def ticket(outbox: Outbox, data: bytes) -> Waiter:
    """Put ``data``, and return a waiter for it."""
    start, waiter = outbox.position, Waiter()
    outbox.put(data, 0.0)
    outbox.when_out(start, waiter)
    return waiter


def flush_until_out(outbox: Outbox, stream: ByteStream) -> None:
    deadline = time.monotonic() + 10
    pause = threading.Event()
    while outbox.unsent_since is not None:
        assert time.monotonic() < deadline
        outbox.flush(stream, time.monotonic())
        pause.wait(0.001)


def fill(outbox: Outbox, stream: ByteStream) -> None:
    """Put and flush until the peer takes no more."""
    while outbox.unsent_since is None:
        outbox.put(bytes(1024 * 1024), 0.0)
        outbox.flush(stream, 0.0)


class TestOrder:
    def test_bytes_leave_in_the_order_they_were_put(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, peer = ends
        outbox = Outbox()
        pieces = [bytes([n]) * n * 37 for n in range(1, 60)]
        for piece in pieces:
            outbox.put(piece, 0.0)
        flush_until_out(outbox, stream)
        assert receive(peer, sum(map(len, pieces))) == b"".join(pieces)

    def test_a_message_of_many_chunks_arrives_whole(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, peer = ends
        outbox = Outbox()
        data = bytes(n % 251 for n in range(CHUNK * 40 + 5))
        waiter = ticket(outbox, data)
        reading = Call(receive, peer, len(data))
        flush_until_out(outbox, stream)
        assert reading.result() == data
        waiter.wait(Deadline(0))

    def test_puts_of_many_threads_are_not_torn(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, peer = ends
        outbox, size, count = Outbox(), 3000, 40
        calls = [
            Call(lambda n=n: [outbox.put(bytes([n]) * size, 0.0) for _ in range(count)])
            for n in range(5)
        ]
        reading = Call(receive, peer, 5 * size * count)
        for call in calls:
            call.result()
        flush_until_out(outbox, stream)
        data = reading.result()
        blocks = {data[i : i + size] for i in range(0, len(data), size)}
        assert blocks == {bytes([n]) * size for n in range(5)}


class TestPeerThatDoesNotRead:
    def test_flush_never_blocks_and_says_since_when_nothing_moves(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, _ = ends
        outbox = Outbox()
        started = time.monotonic()
        fill(outbox, stream)
        outbox.flush(stream, 5.0)
        outbox.flush(stream, 6.0)
        assert time.monotonic() - started < 2
        assert outbox.unsent_since == 0.0

    def test_progress_moves_the_time(self, ends: tuple[ByteStream, socket.socket]) -> None:
        stream, peer = ends
        outbox = Outbox()
        fill(outbox, stream)
        pause = threading.Event()
        for now in range(1, 5000):
            receive(peer, 1)
            peer.recv(65536)
            outbox.flush(stream, float(now))
            if outbox.unsent_since != 0.0:
                break
            pause.wait(0.001)
        assert outbox.unsent_since in (now, None)

    def test_all_leaves_in_order_when_it_reads_again(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, peer = ends
        outbox = Outbox()
        fill(outbox, stream)
        outbox.put(b"the end", 0.0)
        size = outbox.position
        reading = Call(receive, peer, size)
        flush_until_out(outbox, stream)
        assert reading.result()[-7:] == b"the end"
        assert outbox.unsent_since is None

    def test_the_time_starts_when_bytes_begin_to_wait(self) -> None:
        outbox = Outbox()
        assert outbox.unsent_since is None
        outbox.put(b"a", 3.0)
        outbox.put(b"b", 4.0)
        assert outbox.unsent_since == 3.0


class TestTickets:
    def test_is_settled_when_all_its_bytes_are_out(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, peer = ends
        outbox = Outbox()
        waiter = ticket(outbox, b"hello")
        assert not waiter.settled
        outbox.flush(stream, 0.0)
        waiter.wait(Deadline(0))
        assert receive(peer, 5) == b"hello"

    def test_is_settled_at_once_when_they_are_out_already(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, _ = ends
        outbox, waiter = Outbox(), Waiter()
        outbox.put(b"hello", 0.0)
        outbox.flush(stream, 0.0)
        outbox.when_out(0, waiter)
        waiter.wait(Deadline(0))

    def test_not_connected_when_none_of_its_bytes_went_out(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, _ = ends
        outbox = Outbox()
        fill(outbox, stream)
        waiter = ticket(outbox, b"behind the others")
        outbox.close()
        with pytest.raises(NotConnected):
            waiter.wait(Deadline(0))

    def test_outcome_unknown_when_some_went_out(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, _ = ends
        outbox = Outbox()
        waiter = ticket(outbox, bytes(16 * 1024 * 1024))
        outbox.flush(stream, 0.0)
        assert not waiter.settled
        outbox.close()
        with pytest.raises(OutcomeUnknown):
            waiter.wait(Deadline(0))

    def test_settled_when_all_went_out_before_the_end(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, _ = ends
        outbox, waiter = Outbox(), Waiter()
        outbox.put(b"hello", 0.0)
        outbox.flush(stream, 0.0)
        outbox.close()
        outbox.when_out(0, waiter)
        waiter.wait(Deadline(0))

    def test_not_connected_after_the_end(self) -> None:
        outbox = Outbox()
        outbox.close()
        waiter = ticket(outbox, b"too late")
        assert outbox.unsent_since is None
        with pytest.raises(NotConnected):
            waiter.wait(Deadline(0))

    def test_not_connected_when_the_write_itself_fails(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        stream, _ = ends
        outbox = Outbox()
        waiter = ticket(outbox, b"hello")
        stream.close()
        with pytest.raises(OSError):
            outbox.flush(stream, 0.0)
        outbox.close()
        with pytest.raises(NotConnected):
            waiter.wait(Deadline(0))

    def test_outcome_unknown_when_the_end_comes_during_the_write(
        self, ends: tuple[ByteStream, socket.socket]
    ) -> None:
        """The bytes are sent, but the outbox does not know it yet: it must not call them unsent."""
        stream, peer = ends
        outbox = Outbox()
        waiter = ticket(outbox, b"an order")

        class EndsMeanwhile:
            def write(self, chunk: memoryview) -> int:
                taken = stream.write(chunk)
                outbox.close()
                return taken

        ending: Any = EndsMeanwhile()
        outbox.flush(ending, 0.0)
        assert receive(peer, 8) == b"an order"
        with pytest.raises(OutcomeUnknown):
            waiter.wait(Deadline(0))

    def test_closing_again_changes_nothing(self) -> None:
        outbox = Outbox()
        waiter = ticket(outbox, b"hello")
        outbox.close()
        outbox.close()
        with pytest.raises(NotConnected):
            waiter.wait(Deadline(0))


def test_every_ticket_is_settled_when_the_end_comes_amid_puts_and_flushes() -> None:
    with tcp_pair() as (near, far):
        stream = open_stream(near)
        outbox, stop = Outbox(), threading.Event()
        waiters: list[Waiter] = []

        def put() -> None:
            while not stop.is_set():
                waiters.append(ticket(outbox, b"x" * 500))

        def flush() -> None:
            while not stop.is_set():
                outbox.flush(stream, time.monotonic())

        def read() -> None:
            while far.recv(65536):
                pass

        calls = [Call(put), Call(flush), Call(read)]
        until(lambda: len(waiters) > 500 and waiters[0].settled)
        outbox.close()
        stop.set()
        stream.abort()
        for call in calls:
            call.result()
        outcomes = set()
        for waiter in waiters:
            try:
                waiter.wait(Deadline(0))
                outcomes.add("out")
            except (NotConnected, OutcomeUnknown) as error:
                outcomes.add(type(error).__name__)
        assert "out" in outcomes


def test_in_a_forked_child_a_lock_whose_holder_is_gone_blocks_nothing() -> None:
    locks = Locks()
    outbox = Outbox(locks)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        # Not by ``with``: in a real child the holder does not exist, and releases nothing.
        lock_of(outbox).acquire()
        held.set()
        done.wait(30)

    holder = Call(hold)
    assert held.wait(5)
    try:
        locks.forked()
        Call(outbox.close).result(5)
    finally:
        done.set()
        holder.result()
