"""Row 5: ``close()`` in every state, under every fault, at any instant."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsclient
from support.helpers import Call, client_context, dead_address, linux_only, server_context, until
from support.inside import outbox_of, written_of
from support.matrix import each_size, percentile
from wsclient import State, WebSocketClient
from wsclient.testing import FakeVenue

UNLIMITED = wsclient.Limits(connects=None)
#: How long (s) close() may take, and how long where the peer answers (99 of 100).
LIMIT, PROMPT = 1.0, 0.1
#: Time within which a blocked call wakes (s).
WAKE = 0.05
#: How much a busy machine may add to the limit; the other two hold only on a quiet one (soak).
SLACK = 0.1
#: In the suite a call must at least not wait for the peer's half of close_timeout.
WAKE_SHORT = 0.4


class Asking(wsclient.Generic):
    """The generic protocol with requests, and with a login if there are credentials."""

    def login(self, credentials: Any) -> Any:
        return {"type": "login"}

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "id": request_id}


DIALECT = Asking(limits=UNLIMITED)
#: The calls that a scene blocks, and the venue, which must see no connection afterwards.
Scene = tuple[WebSocketClient, list[Call], FakeVenue]


def client_of(venue: FakeVenue, **options: Any) -> WebSocketClient:
    if venue.url.startswith("wss"):
        options["ssl_context"] = client_context()
    return WebSocketClient(venue.url, dialect=DIALECT, **options)


@contextlib.contextmanager
def idle() -> Iterator[Scene]:
    with FakeVenue() as venue:
        yield client_of(venue), [], venue


@contextlib.contextmanager
def resolving() -> Iterator[Scene]:
    answer, real = threading.Event(), socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "venue.example":
            answer.wait(10)
            host = "127.0.0.1"
        return real(host, *args, **kwargs)

    with FakeVenue() as venue, pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        client = WebSocketClient(f"ws://venue.example:{venue.port}/", dialect=DIALECT)
        call = Call(client.connect)
        until(lambda: client.state is State.CONNECTING)
        yield client, [call], venue
        answer.set()
        # The attempt that DNS held up must end without a connection.
        until(lambda: not any(t.name.startswith("wsclient") for t in threading.enumerate()))


@contextlib.contextmanager
def dropped_syn() -> Iterator[Scene]:
    with dead_address() as (host, port), FakeVenue() as venue:
        client = WebSocketClient(f"ws://{host}:{port}/", dialect=DIALECT)
        call = Call(client.connect)
        until(lambda: any(t.name.startswith("wsclient-reader") for t in threading.enumerate()))
        yield client, [call], venue


@contextlib.contextmanager
def handshaking(fault: Any, *, tls: bool) -> Iterator[Scene]:
    with FakeVenue(ssl_context=server_context() if tls else None) as venue:
        venue.fail_handshake(fault)
        client = client_of(venue)
        call = Call(client.connect)
        venue.wait_for(lambda venue: venue.attempts)
        yield client, [call], venue


@contextlib.contextmanager
def authenticating() -> Iterator[Scene]:
    with FakeVenue(None) as venue:
        client = client_of(venue, credentials={"key": "k"})
        call = Call(client.connect)
        until(lambda: client.state is State.AUTHENTICATING)
        yield client, [call], venue


def is_waiting(call: Call) -> bool:
    return call.is_in("acquire") or call.is_in("fill")


@contextlib.contextmanager
def opened(fault: str = "", *, tls: bool = False) -> Iterator[Scene]:
    context = server_context() if tls else None
    with FakeVenue(ssl_context=context, receive_buffer=16 * 1024) as venue:
        client = client_of(venue)
        client.connect()
        peer = venue.accept()
        client.subscribe("a", "b")
        reader = client.reader("c")
        venue.mute_acks()
        calls = [
            Call(client.recv),
            Call(client.recv_batch, timeout=60),
            Call(list, client),
            Call(list, reader),
            Call(client.subscribe, "x"),
            Call(client.unsubscribe, "b"),
            Call(client.request, {"type": "order"}, timeout=60),
        ]
        until(lambda: all(is_waiting(call) for call in calls))
        venue.wait_for(lambda venue: len(peer.received) >= 6)
        if fault == "half a frame":
            peer.send_raw(b"\x81\x7e\x01\x00half")
        elif fault == "blocked send":
            peer.stop_reading()
            outbox = outbox_of(client)
            before = outbox.position
            calls.append(Call(client.send, "x" * 8 * 1024 * 1024))
            # Framed, and sent as far as the peer's window allows.
            until(lambda: written_of(outbox) > before and written_of(outbox) < outbox.position)
            calls.append(Call(client.send, "behind it"))
            until(lambda: is_waiting(calls[-1]))
        elif fault:
            peer.stop_reading()
            peer.mute_pongs()
        yield client, calls, venue


@contextlib.contextmanager
def backing_off() -> Iterator[Scene]:
    with FakeVenue() as venue:
        client = client_of(venue, retry_delay=60, jitter=False)
        client.connect()
        venue.accept().rst()
        until(lambda: client.state is State.BACKING_OFF)
        calls = [Call(client.connect), Call(client.recv), Call(client.subscribe, "a")]
        until(lambda: all(is_waiting(call) for call in calls))
        yield client, calls, venue


@contextlib.contextmanager
def failed() -> Iterator[Scene]:
    with FakeVenue() as venue:
        venue.refuse(401)
        client = client_of(venue)
        with pytest.raises(wsclient.ConnectError):
            client.connect()
        yield client, [], venue


@contextlib.contextmanager
def closing() -> Iterator[Scene]:
    with opened("mute") as (client, calls, venue):
        calls.append(Call(client.close))
        until(lambda: client.state is State.CLOSING)
        yield client, calls[:-1], venue


@contextlib.contextmanager
def closed() -> Iterator[Scene]:
    with idle() as (client, calls, venue):
        client.connect()
        client.close()
        yield client, calls, venue


#: How each state comes about, and whether the peer answers (or there is none to answer).
SCENES: dict[str, tuple[Callable[[], Any], bool]] = {
    "idle": (idle, True),
    "connecting: slow DNS": (resolving, False),
    "connecting: SYN dropped": (dropped_syn, False),
    "connecting: mute in TLS": (lambda: handshaking("deaf", tls=True), False),
    "connecting: mute handshake": (lambda: handshaking("deaf", tls=False), False),
    "connecting: dripped handshake": (lambda: handshaking("drip", tls=False), False),
    "authenticating: no answer": (authenticating, True),
    "open": (opened, True),
    "open, TLS": (lambda: opened(tls=True), True),
    "open: peer mute (half-open)": (lambda: opened("mute"), False),
    "open: half a frame": (lambda: opened("half a frame"), True),
    "open: blocked send": (lambda: opened("blocked send"), False),
    "open: blocked send, TLS": (lambda: opened("blocked send", tls=True), False),
    "backing off": (backing_off, True),
    "failed": (failed, True),
    "closing": (closing, False),
    "closed": (closed, True),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=linux_only) if "SYN" in n else n for n in SCENES],
)
@each_size("trials", short=[1], full=[100], timeout=300)
def test_close_in_every_state(promise: Callable[..., None], trials: int, name: str) -> None:
    scene, is_answered = SCENES[name]
    took, woke = [], [0.0]
    for _ in range(trials):
        with scene() as (client, calls, venue):
            dials, attempts = client.stats().dials, venue.attempts
            started = time.monotonic()
            client.close()
            took.append(time.monotonic() - started)
            for call in calls:
                call.join(LIMIT)
                assert not call.is_alive(), "still blocked"
                assert call.error is None or isinstance(call.error, wsclient.WSClientError)
                woke.append(call.ended_at - started)
            assert client.state is State.CLOSED
            with pytest.raises(wsclient.ClientClosed):
                client.connect()
        assert client.stats().dials == dials
        assert venue.attempts == attempts
    is_full = trials > 1
    limit = PROMPT if is_answered and is_full else LIMIT + SLACK
    wake = WAKE if is_full else WAKE_SHORT
    promise(
        5,
        f"close(): {name}",
        f"<= 1.0 s{', p99 <= 0.1 s' if is_answered else ''}; blocked calls wake in 0.05 s",
        f"p99 {percentile(took, 99):.3f} s, max {max(took):.3f} s; woke in {max(woke):.3f} s",
        percentile(took, 99) <= limit and max(took) <= LIMIT + SLACK and max(woke) <= wake,
    )


@pytest.mark.parametrize("seed", [51])
@each_size("instants", short=[40], full=[500], timeout=300)
def test_close_at_any_instant(promise: Callable[..., None], instants: int, seed: int) -> None:
    """close() comes at a random moment of a client in full use.

    The connection is cut now and then; the moment may be any from the first connect() on.
    """
    took, woke = [], []
    with FakeVenue() as venue, Chaos(venue, seed):
        for n in range(instants):
            rng = random.Random(f"{seed}-{n}")
            client = client_of(venue, retry_delay=0.001)
            called_back: list[float] = []

            def note(message: wsclient.Message, at: list[float] = called_back) -> None:
                at.append(time.monotonic())

            calls = [
                Call(until_closed, client, function)
                for function in (
                    client.connect,
                    client.recv,
                    client.recv_batch,
                    lambda c=client: c.subscribe("a", timeout=1),
                    lambda c=client: c.unsubscribe("a", timeout=1),
                    lambda c=client, note=note: c.on("b", note),
                    lambda c=client: c.request({"type": "order"}, timeout=1),
                    lambda c=client: c.send("x" * 100_000),
                )
            ]
            threading.Event().wait(rng.uniform(0, 0.05))
            started = time.monotonic()
            client.close()
            ended, dials = time.monotonic(), client.stats().dials
            took.append(ended - started)
            for call in calls:
                call.result(LIMIT)
                woke.append(call.ended_at - started)
            venue.wait_for(lambda venue: not venue.live)
            where = f"instant {n} of seed {seed}"
            assert max(called_back, default=0.0) <= ended, f"{where}: a callback afterwards"
            assert client.stats().dials == dials, f"{where}: a connection afterwards"
    is_full = instants > 100
    promise(
        5,
        f"close() at {instants} random instants (seed {seed})",
        "<= 1.0 s, p99 <= 0.1 s; blocked calls wake in 0.05 s; nothing afterwards",
        f"p99 {percentile(took, 99):.3f} s, max {max(took):.3f} s; "
        f"woke in {percentile(woke, 99):.3f} s (p99), {max(woke):.3f} s (max)",
        max(took) <= LIMIT + SLACK
        and (not is_full or percentile(took, 99) <= PROMPT)
        and max(woke) <= (WAKE + SLACK if is_full else LIMIT + SLACK),
    )


def test_close_while_the_first_function_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread exists but is not started: it must not be joined yet."""
    starting, go_on = threading.Event(), threading.Event()
    start = threading.Thread.start

    def slowly(thread: threading.Thread) -> None:
        if thread.name == "wsclient-callbacks":
            starting.set()
            go_on.wait(5)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", slowly)
    with FakeVenue() as venue:
        client = wsclient.connect(venue.url)
        adding = Call(client.on, "a", print)
        assert starting.wait(5)
        closing = Call(client.close)
        until(lambda: client.state is not State.OPEN)
        go_on.set()
        closing.result()
        with pytest.raises(wsclient.ClientClosed):
            adding.result()


def until_closed(client: WebSocketClient, function: Callable[[], object]) -> None:
    """Call it repeatedly, whatever it raises, until the client is closed."""
    pace = threading.Event()
    while True:
        try:
            function()
        except wsclient.ClientClosed:
            return
        except (wsclient.WSClientError, TimeoutError):
            pass
        pace.wait(0.002)


class Chaos:
    """Venue that publishes all the time, and now and then cuts whatever is live."""

    def __init__(self, venue: FakeVenue, seed: int) -> None:
        self._venue = venue
        self._rng = random.Random(seed)
        self._over = threading.Event()

    def __enter__(self) -> None:
        self._call = Call(self._run)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._call.result()

    def _run(self) -> None:
        while not self._over.wait(0.001):
            for channel in "ab":
                self._venue.publish(channel)
            if self._rng.random() < 0.02:
                for peer in self._venue.live:
                    with contextlib.suppress(ConnectionError):
                        self._rng.choice((peer.rst, peer.fin, peer.close))()
