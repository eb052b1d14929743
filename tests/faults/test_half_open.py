"""Row 2: a half-open connection is noticed in time, and a blocked consumer is no dead venue."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

import wsclient
from support.helpers import Call, client_context, server_context
from support.matrix import each_size, percentile
from support.network import SLACK, Losses, dial, dropping, own_network
from wsclient.testing import FakeVenue, Fault, FaultProxy


class Size(NamedTuple):
    """Size of a run: clients at once, faults for each, and the settings (s)."""

    clients: int
    rounds: int
    interval: float
    timeout: float
    slack: float

    @property
    def deadline(self) -> float:
        return self.interval + self.timeout + self.slack


#: The full run holds the slack that the matrix names: a loaded machine is no defect.
SHORT = Size(clients=5, rounds=1, interval=0.2, timeout=0.1, slack=5 * SLACK)
FULL = Size(clients=20, rounds=5, interval=3, timeout=1, slack=SLACK)

Promise = Callable[[int, str, str, str, bool], None]


def check(promise: Promise, fault: str, size: Size, delays: list[float]) -> None:
    assert len(delays) == size.clients * size.rounds
    promise(
        2,
        fault,
        f"noticed within {size.interval:g} + {size.timeout:g} + {size.slack:g} s",
        f"{len(delays)} trials: p50 {percentile(delays, 50):.2f} s, max {max(delays):.2f} s",
        max(delays) <= size.deadline,
    )


@pytest.mark.parametrize(
    ("kind", "directions"),
    [("ws", ()), ("ws", ("to_client",)), ("ws", ("to_venue",)), ("wss", ())],
)
@each_size("size", short=[SHORT], full=[FULL], timeout=300)
def test_a_deaf_connection(
    promise: Promise, size: Size, kind: str, directions: tuple[str, ...]
) -> None:
    pause = threading.Event()

    def strike(proxy: FaultProxy, client: wsclient.WebSocketClient, seed: int) -> list[float]:
        rng = random.Random(seed)
        delays = []
        for _ in range(size.rounds):
            client.connect(timeout=10)
            pause.wait(rng.uniform(0, size.interval))  # at any phase of the pings
            at = time.monotonic()
            proxy.set(Fault("deaf"), *directions, on="present")
            loss = losses.first(client, at, 2 * size.deadline)
            assert "half-open" in loss.why, f"seed {seed}"
            delays.append(loss.at - at)
        return delays

    tls = kind == "wss"
    options = {"ping_interval": size.interval, "ping_timeout": size.timeout}
    if tls:
        options["ssl_context"] = client_context()
    with contextlib.ExitStack() as stack:
        venue = stack.enter_context(FakeVenue(ssl_context=server_context() if tls else None))
        losses = stack.enter_context(Losses())
        calls = []
        for n in range(size.clients):
            proxy = stack.enter_context(FaultProxy(venue.url))
            client = stack.enter_context(dial(proxy.url, n, **options))
            calls.append(Call(strike, proxy, client, seed=n))
        delays = [delay for call in calls for delay in call.result(timeout=240)]
    where = " and ".join(directions) or "both ways"
    check(promise, f"half-open connection, {kind}, {where}", size, delays)


@pytest.mark.parametrize("where", ["both ways", "to the client", "to the venue"])
@each_size("size", short=[SHORT], full=[FULL], timeout=300)
def test_packets_that_are_dropped(promise: Promise, size: Size, where: str) -> None:
    rng = random.Random(2)
    pause = threading.Event()
    delays: list[float] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_network())
        venue = stack.enter_context(FakeVenue())
        losses = stack.enter_context(Losses())
        options = {
            "ping_interval": size.interval,
            "ping_timeout": size.timeout,
            "connect_timeout": 0.5,  # the next handshakes are lost too, and restarted
        }
        clients = [stack.enter_context(dial(venue.url, n, **options)) for n in range(size.clients)]
        port = str(venue.port)
        match = {
            "both ways": (),
            "to the client": ("-p", "tcp", "--sport", port),
            "to the venue": ("-p", "tcp", "--dport", port),
        }[where]
        for _ in range(size.rounds):
            pause.wait(rng.uniform(0, size.interval))
            at = time.monotonic()
            with dropping(*match):
                found = [losses.first(client, at, 2 * size.deadline) for client in clients]
            assert all("half-open" in loss.why for loss in found)
            delays += [loss.at - at for loss in found]
            for client in clients:
                client.connect(timeout=10)  # returns when it is open again
    check(promise, f"packets dropped, {where}", size, delays)


class Watch(NamedTuple):
    """Size of a run: clients, its length (s), and the settings (s)."""

    clients: int
    seconds: float
    interval: float
    timeout: float


@each_size("watch", short=[Watch(5, 1, 0.1, 1)], full=[Watch(60, 60, 1, 1)], timeout=300)
def test_a_blocked_consumer_is_no_dead_connection(
    venue: FakeVenue, promise: Promise, watch: Watch
) -> None:
    pause, freed = threading.Event(), threading.Event()
    options = {"ping_interval": watch.interval, "ping_timeout": watch.timeout, "queue_size": 100}
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(dial(venue.url, n, **options)) for n in range(watch.clients)]
        stack.callback(freed.set)
        for client in clients:
            client.subscribe("never read")
            client.on("never returns", lambda message: freed.wait(watch.seconds + 60))
        end = time.monotonic() + watch.seconds
        while time.monotonic() < end:
            for channel in ("never read", "never returns"):
                venue.publish(channel, text="x" * 1000)
            pause.wait(watch.interval / 5)
        pings = [len(peer.pings) for peer in venue.peers]
        stats = [client.stats() for client in clients]
        assert min(pings) >= watch.seconds / watch.interval * 0.5
        assert all(s.messages > 50 for s in stats)
    promise(
        2,
        "consumer blocked",
        f"no false alarm in {watch.clients} clients x {watch.seconds:g} s",
        f"{sum(s.disconnects for s in stats)} alarms, {sum(pings)} pings answered",
        all(s.dials == 1 and s.disconnects == 0 for s in stats),
    )
