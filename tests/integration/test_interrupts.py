"""Ctrl-C: it interrupts every blocking call at once, loses nothing, and the client works on."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

import wsclient
from support.helpers import Call, until
from support.inside import core_of, outbox_of, written_of
from wsclient.testing import FakeVenue

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="sends a signal to one thread"
)


def blocked_at() -> tuple[int, int] | None:
    """Return where the main thread is in a call of the client.

    The same place twice means that it waits there.
    """
    frame = inner = sys._current_frames()[threading.main_thread().ident or 0]
    while frame is not None and "wsclient/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return None if frame is None else (id(inner), inner.f_lasti)


@contextlib.contextmanager
def interrupt_soon(when: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Send Ctrl-C once the main thread is blocked, and check that it ends the call at once."""
    at: list[float] = []
    is_over = threading.Event()

    def interrupt() -> None:
        before = None
        while (now := blocked_at()) is None or now != before or not when():
            before = now
            if is_over.wait(0.05):
                return
        at.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    call = Call(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
        assert time.monotonic() - at[0] < 0.1
    finally:
        is_over.set()
        call.join()


def _works_on(client: wsclient.WebSocketClient, venue: FakeVenue) -> None:
    venue.mute_acks(False)
    client.subscribe("after")
    venue.publish("after", price=1)
    assert client.recv(timeout=5).data["price"] == 1


BLOCKING: dict[str, Callable[[wsclient.WebSocketClient], object]] = {
    "recv": lambda client: client.recv(),
    "recv_batch": lambda client: client.recv_batch(),
    "iteration": lambda client: next(client),  # type: ignore[call-overload]
    "subscribe": lambda client: client.subscribe("muted"),
    "reader": lambda client: client.reader("muted"),
    "on": lambda client: client.on("muted", print),
}


@pytest.mark.parametrize("call", BLOCKING)
def test_a_blocked_call_is_interrupted_at_once_and_the_client_works_on(
    venue: FakeVenue, call: str
) -> None:
    venue.mute_acks(channel="muted")
    with wsclient.connect(venue.url) as client:
        with interrupt_soon():
            BLOCKING[call](client)
        _works_on(client, venue)


@pytest.mark.parametrize("call", ["reader", "on"])
def test_a_channel_that_nobody_came_to_read_is_left(venue: FakeVenue, call: str) -> None:
    venue.mute_acks(channel="muted")
    with wsclient.connect(venue.url) as client:
        with interrupt_soon():
            BLOCKING[call](client)

        def is_left() -> bool:
            left = client.subscriptions.get("muted")
            return left is None or left.state is wsclient.SubscriptionState.UNSUBSCRIBING

        until(is_left)


def test_a_blocked_unsubscribe_is_interrupted(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url) as client:
        client.subscribe("a")
        venue.mute_acks()
        with interrupt_soon():
            client.unsubscribe("a")
        _works_on(client, venue)


def test_a_blocked_connect_is_interrupted_and_given_up(venue: FakeVenue) -> None:
    venue.fail_handshake("deaf")
    client = wsclient.WebSocketClient(venue.url)
    with interrupt_soon():
        client.connect()
    until(lambda: client.state is wsclient.State.IDLE)
    client.connect()
    _works_on(client, venue)
    client.close()


def test_a_blocked_send_is_interrupted(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url) as client:
        venue.accept().stop_reading()
        outbox = outbox_of(client)
        # Until bytes are sent they are being prepared, and no interrupt is handled.
        with interrupt_soon(lambda: 0 < written_of(outbox) < outbox.position):
            client.send("x" * 20_000_000)


def test_a_blocked_request_is_interrupted() -> None:
    with FakeVenue(None) as venue, wsclient.connect(venue.url, dialect="kraken") as client:
        with interrupt_soon():
            client.request({"method": "ping"})
        client.send("after")


def test_an_interrupted_request_does_not_hold_up_a_rotation(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url) as client:
        with interrupt_soon():
            client.request({"type": "nothing answers this"}, timeout=None)
        connection = core_of(client).supervisor.open_connection()
        until(lambda: not connection.replies.are_open)
        client.rotate(timeout=5)


@pytest.mark.parametrize("seed", [1, 2])
def test_interrupts_at_any_instant_lose_and_double_no_message(venue: FakeVenue, seed: int) -> None:
    """Interrupt inside the client only: what a caller's own code drops is its own."""
    rng = random.Random(seed)
    total, got, struck = 3000, [], 0

    def strike(_: int, frame: FrameType | None) -> None:
        nonlocal struck
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.002))
        if frame is not None and "wsclient/" in frame.f_code.co_filename:
            struck += 1
            raise KeyboardInterrupt

    with wsclient.connect(venue.url) as client:
        client.subscribe("a")
        publisher = threading.Thread(target=lambda: [venue.publish("a") for _ in range(total)])
        old = signal.signal(signal.SIGALRM, strike)
        try:
            publisher.start()
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            while len(got) < total:
                message = None
                try:
                    message = client.recv(timeout=5) if rng.random() < 0.7 else next(client)
                except KeyboardInterrupt:
                    continue
                got.append(message.sequence)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
            publisher.join()
    assert got == list(range(1, total + 1))
    assert struck > 5
