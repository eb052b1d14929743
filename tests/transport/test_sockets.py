"""Sockets that another thread may end, and sockets with one deadline for all their calls."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from support.attempts import SLACK
from support.helpers import Call, tcp_pair
from wsclient import ConnectionLost, ConnectTimeout
from wsclient.threads.waiting import Deadline
from wsclient.transport.sockets import Cancellable, DeadlineSocket


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with tcp_pair() as pair:
        yield pair


class TestCancellable:
    def test_a_call_on_the_socket_that_is_held_ends(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        near, _ = ends
        work = Cancellable("given up")
        work.hold(near)
        reading = Call(near.recv, 1)
        work.cancel()
        assert reading.result(5) == b""

    def test_no_socket_can_be_held_after_it(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        work = Cancellable("given up")
        work.cancel()
        with pytest.raises(ConnectionLost, match="given up"):
            work.hold(ends[0])

    def test_only_the_newest_socket_ends(self, ends: tuple[socket.socket, socket.socket]) -> None:
        """The others belong to nobody any more, and their numbers may be another's."""
        near, far = ends
        with tcp_pair() as (other, _):
            work = Cancellable("given up")
            work.hold(near)
            work.hold(other)
            work.cancel()
            far.sendall(b"x")
            assert near.recv(1) == b"x"

    def test_another_way_to_end_it_may_be_given(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        ended: list[bool] = []
        work = Cancellable("given up")
        work.hold(ends[0], lambda: ended.append(True))
        work.cancel()
        work.cancel()
        assert ended == [True, True]

    def test_a_socket_that_is_closed_or_not_connected_does_not_matter(self) -> None:
        work = Cancellable("given up")
        with socket.socket() as sock:
            work.hold(sock)
            work.cancel()
        work.cancel()
        work.close()
        assert work.is_cancelled

    @pytest.mark.parametrize("pause", [0.0, 0.001])
    def test_whoever_is_first_the_work_ends(self, pause: float) -> None:
        """Race both: either the socket is shut down, or hold() raises."""
        for _ in range(50):
            with tcp_pair() as (near, _):
                work = Cancellable("given up")
                go = threading.Barrier(2)

                def cancel(work: Cancellable = work, go: threading.Barrier = go) -> None:
                    go.wait(5)
                    work.cancel()

                call = Call(cancel)
                go.wait(5)
                if pause:
                    threading.Event().wait(pause)
                try:
                    work.hold(near)
                except ConnectionLost:
                    pass
                else:
                    near.settimeout(5)
                    assert near.recv(1) == b""
                call.result(5)

    def test_in_a_forked_child_it_is_closed_and_the_peer_is_told_nothing(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        near, far = ends
        work = Cancellable("given up")
        copy = near.dup()  # as the child has it
        work.hold(copy)
        work.forked()
        assert copy.fileno() == -1
        assert work.is_cancelled
        near.sendall(b"x")
        assert far.recv(10) == b"x"


class TestDeadlineSocket:
    def test_calls_share_one_deadline(self, ends: tuple[socket.socket, socket.socket]) -> None:
        """A peer that drips bytes does not prolong it."""
        near, far = ends
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.02):
                far.sendall(b"x")

        def read(sock: DeadlineSocket) -> None:
            while sock.recv(1):
                pass

        dripping = Call(drip)
        started = time.monotonic()
        try:
            with pytest.raises(TimeoutError):
                read(DeadlineSocket(near, Deadline(0.3)))
            assert time.monotonic() - started < 0.3 + SLACK
        finally:
            stop.set()
            dripping.result(5)

    def test_a_library_s_own_timeout_does_not_count(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        sock = DeadlineSocket(ends[0], Deadline(0.05))
        sock.settimeout(None)
        with pytest.raises(TimeoutError):
            sock.recv(1)

    def test_no_call_begins_after_it(self, ends: tuple[socket.socket, socket.socket]) -> None:
        near, far = ends
        far.sendall(b"x")
        sock = DeadlineSocket(near, Deadline(0))
        for call in (lambda: sock.recv(1), lambda: sock.sendall(b"x")):
            with pytest.raises(ConnectTimeout, match="connect_timeout"):
                call()
