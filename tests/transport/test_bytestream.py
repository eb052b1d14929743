"""A connected socket: reads that any thread can end, writes that never block."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from support.helpers import PAIRS, Call, receive, tcp_pair, until
from wsclient.threads.locks import Locks
from wsclient.transport.bytestream import ByteStream, TlsStream, open_stream

Ends = tuple[ByteStream, socket.socket]


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> AbstractContextManager[tuple[socket.socket, ...]]:
    return PAIRS[request.param]()


@pytest.fixture
def ends(pair: AbstractContextManager[tuple[socket.socket, socket.socket]]) -> Iterator[Ends]:
    """Our stream, and the peer's socket."""
    with pair as (near, far):
        yield open_stream(near), far


def read_some(stream: ByteStream) -> bytes:
    """Return the bytes of the next read with a result; b"" at the end."""
    buffer = memoryview(bytearray(65536))
    while (count := stream.read_into(buffer)) is None:
        pass
    return bytes(buffer[:count])


def read(stream: ByteStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = read_some(stream)
        assert piece, "the stream ended"
        data += piece
    return data


def read_to_the_end(stream: ByteStream) -> int:
    """Return how many bytes came before the end or an error."""
    total = 0
    try:
        while piece := read_some(stream):
            total += len(piece)
    except OSError:
        pass
    return total


def write(stream: ByteStream, data: bytes) -> None:
    view = memoryview(data)
    pause = threading.Event()
    while view:
        taken = stream.write(view[:16384])
        view = view[taken:]
        if not taken:
            pause.wait(0.001)


def test_a_tls_socket_gets_a_tls_stream() -> None:
    for name, kind in (("plain", ByteStream), ("tls", TlsStream)):
        with PAIRS[name]() as (near, _):
            assert type(open_stream(near)) is kind


class TestReading:
    def test_gives_what_the_peer_sent(self, ends: Ends) -> None:
        stream, peer = ends
        peer.sendall(b"hello")
        assert read(stream, 5) == b"hello"

    def test_blocks_until_something_comes(self, ends: Ends) -> None:
        stream, peer = ends
        call = Call(read_some, stream)
        until(lambda: call.is_in("read_into"))
        peer.sendall(b"late")
        assert call.result() == b"late"

    def test_says_none_when_nothing_comes_for_a_while(self, ends: Ends) -> None:
        stream, _ = ends
        started = time.monotonic()
        assert stream.read_into(memoryview(bytearray(10))) is None
        assert time.monotonic() - started < 3

    def test_says_zero_at_the_end(self, ends: Ends) -> None:
        stream, peer = ends
        peer.sendall(b"last words")
        peer.shutdown(socket.SHUT_WR)
        assert read(stream, 10) == b"last words"
        assert read_some(stream) == b""

    def test_a_reset_ends_it(self, ends: Ends) -> None:
        stream, peer = ends
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.close(peer)
        if isinstance(stream, TlsStream):
            assert read_to_the_end(stream) == 0  # Python's TLS does not distinguish it from an end
        else:
            with pytest.raises(OSError):
                read_some(stream)

    def test_gives_all_of_a_tls_record_larger_than_the_buffer(self, ends: Ends) -> None:
        """Data that TLS has already decrypted does not make the socket readable again."""
        stream, peer = ends
        data = bytes(n % 251 for n in range(16000))
        peer.sendall(data)
        got, buffer = b"", memoryview(bytearray(1000))
        started = time.monotonic()
        while len(got) < len(data):
            count = stream.read_into(buffer) or 0
            got += buffer[:count]
        assert got == data
        assert time.monotonic() - started < 0.9


class TestWriting:
    def test_reaches_the_peer(self, ends: Ends) -> None:
        stream, peer = ends
        data = bytes(n % 251 for n in range(300_000))
        reading = Call(receive, peer, len(data))
        write(stream, data)
        assert reading.result() == data

    def test_takes_nothing_and_does_not_block_when_the_peer_does_not_read(self, ends: Ends) -> None:
        stream, _ = ends
        chunk = memoryview(bytes(16384))
        slowest = 0.0
        for _ in range(10_000):
            started = time.monotonic()
            taken = stream.write(chunk)
            slowest = max(slowest, time.monotonic() - started)
            if not taken:
                break
        assert taken == 0
        assert slowest < 0.5

    def test_goes_on_with_the_same_bytes_when_the_peer_reads_again(self, ends: Ends) -> None:
        stream, peer = ends
        data = bytes(n % 251 for n in range(8 * 1024 * 1024))
        view = memoryview(data)
        while taken := stream.write(view[:16384]):
            view = view[taken:]
        assert view, "all of it went into the kernel's buffers"
        reading = Call(receive, peer, len(data))
        write(stream, bytes(view))
        assert reading.result() == data

    def test_raises_when_the_stream_is_closed(self, ends: Ends) -> None:
        stream, _ = ends
        stream.close()
        with pytest.raises(OSError):
            stream.write(memoryview(b"x"))

    def test_works_while_another_thread_is_blocked_in_a_read(self, ends: Ends) -> None:
        stream, peer = ends
        reader = Call(read, stream, 4)
        for n in range(20):
            write(stream, bytes([n]) * 1000)
            assert receive(peer, 1000) == bytes([n]) * 1000
        peer.sendall(b"done")
        assert reader.result() == b"done"

    def test_a_flood_in_both_directions_does_not_deadlock(self, ends: Ends) -> None:
        stream, peer = ends
        size, until_time = 64 * 1024, time.monotonic() + 0.7
        block = bytes(range(256)) * (size // 256)
        counts: dict[str, int] = {}

        def peer_writes() -> None:
            # Raw non-blocking I/O on one thread, as in a venue, which reads and writes when it can.
            peer.settimeout(0)
            out, got, stopping = 0, 0, False
            pending = memoryview(b"")
            while not (stopping and not pending):
                stopping = stopping or time.monotonic() > until_time
                if not pending and not stopping:
                    pending = memoryview(block)
                progress = False
                try:
                    taken = peer.send(pending[:16384]) if pending else 0
                    pending, out, progress = pending[taken:], out + taken, taken > 0
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
                try:
                    piece = peer.recv(65536)
                    got, progress = got + len(piece), True
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
                if not progress:
                    select.select([peer], [peer] if pending else [], [], 0.01)
            counts["peer out"] = out
            while got < counts.get("our out", 1 << 60):
                select.select([peer], [], [], 0.01)
                try:
                    got += len(peer.recv(65536))
                except (BlockingIOError, ssl.SSLWantReadError):
                    pass
            counts["peer in"] = got

        def we_write() -> None:
            total, view = 0, memoryview(b"")
            pause = threading.Event()
            while time.monotonic() < until_time or view:
                view = view or memoryview(block)
                taken = stream.write(view[:16384])
                total, view = total + taken, view[taken:]
                if not taken:
                    pause.wait(0.001)
            counts["our out"] = total

        def we_read() -> None:
            total, buffer = 0, memoryview(bytearray(128 * 1024))
            while total < counts.get("peer out", 1 << 60):
                total += stream.read_into(buffer) or 0
            counts["our in"] = total

        calls = [Call(peer_writes), Call(we_write), Call(we_read)]
        for call in calls:
            call.result(15)
        assert counts["our in"] == counts["peer out"] > size
        assert counts["peer in"] == counts["our out"] > size


class TestEnding:
    def test_abort_ends_a_blocked_read(self, ends: Ends) -> None:
        stream, peer = ends
        peer.sendall(b"x")
        assert read(stream, 1) == b"x"
        call = Call(read_to_the_end, stream)
        until(lambda: call.is_in("read_into"))
        started = time.monotonic()
        stream.abort()
        assert call.result() == 0
        assert call.ended_at - started < 0.3

    def test_abort_ends_a_read_in_the_middle_of_a_tls_record(self) -> None:
        with PAIRS["tls"]() as (near, far):
            stream = open_stream(near)
            call = Call(read_to_the_end, stream)
            # The header of a record of 1,000 bytes, and nothing more.
            socket.socket.sendall(far, b"\x17\x03\x03\x03\xe8" + bytes(10))
            until(lambda: call.is_in("read_into"))
            started = time.monotonic()
            stream.abort()
            call.result()
            assert call.ended_at - started < 0.3

    def test_abort_ends_a_read_while_the_peers_window_is_full(self, ends: Ends) -> None:
        stream, _ = ends
        while stream.write(memoryview(bytes(16384))):
            pass
        call = Call(read_to_the_end, stream)
        until(lambda: call.is_in("read_into"))
        started = time.monotonic()
        stream.abort()
        call.result()
        assert call.ended_at - started < 0.3

    def test_the_peer_sees_the_end_of_an_aborted_stream(self, ends: Ends) -> None:
        stream, peer = ends
        stream.abort()
        try:
            assert peer.recv(10) == b""
        except OSError:
            pass  # TLS reports an end without close_notify as an error

    def test_abort_and_close_are_idempotent(self, ends: Ends) -> None:
        stream, _ = ends
        stream.abort()
        stream.abort()
        stream.close()
        stream.close()
        stream.abort()
        stream.finish_writing()

    def test_finish_writing_sends_the_written_bytes_and_reads_go_on(self, ends: Ends) -> None:
        stream, peer = ends
        write(stream, b"goodbye")
        stream.finish_writing()
        assert receive(peer, 7) == b"goodbye"
        peer.sendall(b"you too")
        assert read(stream, 7) == b"you too"

    def test_abort_and_close_may_race_with_each_other_and_with_writes(self) -> None:
        """No call may fail with anything but OSError, or touch another's new socket."""
        for _ in range(60):
            with tcp_pair() as (near, far):
                stream = open_stream(near)
                go = threading.Barrier(4)

                def write_on(stream: ByteStream = stream, go: threading.Barrier = go) -> None:
                    go.wait()
                    try:
                        while True:
                            stream.write(memoryview(b"x" * 100))
                    except OSError:
                        pass

                def end(how: str, stream: ByteStream = stream, go: threading.Barrier = go) -> None:
                    go.wait()
                    getattr(stream, how)()

                calls = [Call(write_on), Call(end, "abort"), Call(end, "close")]
                go.wait()
                for call in calls:
                    call.result()
                far.settimeout(0)


class TestDraining:
    def test_ends_at_the_peers_end(self, ends: Ends) -> None:
        stream, peer = ends
        peer.sendall(bytes(1000))
        peer.shutdown(socket.SHUT_WR)
        started = time.monotonic()
        stream.drain(5.0, 1024 * 1024)
        assert time.monotonic() - started < 2

    def test_ends_after_its_time(self, ends: Ends) -> None:
        stream, _ = ends
        started = time.monotonic()
        stream.drain(0.1, 1024 * 1024)
        assert time.monotonic() - started < 1

    def test_ends_at_its_limit_against_a_peer_that_never_stops(self, ends: Ends) -> None:
        stream, peer = ends
        done = threading.Event()

        def flood() -> None:
            try:
                while not done.is_set():
                    peer.sendall(bytes(65536))
            except OSError:
                pass

        call = Call(flood)
        started = time.monotonic()
        stream.drain(10.0, 512 * 1024)
        assert time.monotonic() - started < 5
        done.set()
        stream.abort()
        stream.close()
        call.result()

    def test_lets_the_peer_read_the_last_bytes_before_a_close(self) -> None:
        """Without drain(), closing with unread input resets the connection, and bytes are lost."""
        with tcp_pair() as (near, far):
            stream = open_stream(near)
            far.sendall(bytes(100_000))
            write(stream, b"close 1002")
            stream.finish_writing()
            draining = Call(stream.drain, 5.0, 1024 * 1024)
            assert receive(far, 10) == b"close 1002"
            assert far.recv(10) == b""
            far.close()
            draining.result()
            stream.close()

    def test_abort_ends_it(self, ends: Ends) -> None:
        stream, _ = ends
        call = Call(stream.drain, 10.0, 1024)
        until(lambda: call.is_in("drain"))
        started = time.monotonic()
        stream.abort()
        call.result()
        assert call.ended_at - started < 0.3


class TestHeardAgo:
    def test_what_has_come_counts_whether_it_was_read_or_not(self) -> None:
        if not hasattr(socket, "TCP_INFO"):
            pytest.skip("the kernel does not say")
        with tcp_pair() as (near, far):
            stream = open_stream(near)
            until(lambda: stream.heard_ago() >= 0.02)
            far.sendall(b"x")
            until(lambda: stream.heard_ago() < 0.02)
            until(lambda: stream.heard_ago() >= 0.02)
            far.sendall(b"y")
            assert stream.read_into(memoryview(bytearray(9)))
            assert stream.heard_ago() < 5.0

    def test_of_a_closed_socket_nothing_is_known(self) -> None:
        with tcp_pair() as (near, _):
            stream = open_stream(near)
            stream.close()
            assert stream.heard_ago() == float("inf")

    def test_without_tcp_nothing_is_known(self) -> None:
        near, far = socket.socketpair()
        with near, far:
            assert open_stream(near).heard_ago() == float("inf")


def test_in_a_forked_child_a_lock_whose_holder_is_gone_blocks_nothing(ends: Ends) -> None:
    stream, _ = ends
    group = Locks()
    stream = open_stream(stream.sock, group)
    locks = [stream._end, *([stream._tls] if isinstance(stream, TlsStream) else [])]
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        # Not by ``with``: in a real child the holder does not exist, and releases nothing.
        for lock in locks:
            lock.acquire()
        held.set()
        done.wait(30)

    holder = Call(hold)
    assert held.wait(5)
    try:
        group.forked()
        Call(stream.close).result(5)
    finally:
        done.set()
        holder.result()
