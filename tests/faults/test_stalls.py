"""Row 3: a frame that stops half-way, and a peer that does not read, are noticed in time."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import wsclient
from support.helpers import Call, until
from support.inside import core_of
from support.matrix import each_size, percentile
from support.network import SLACK, Losses, dial
from wsclient.testing import FakeVenue, Fault, FaultProxy


class Size(NamedTuple):
    """Size of a run: clients at once, faults for each, and the deadline (s)."""

    clients: int
    rounds: int
    timeout: float
    slack: float


#: The full run holds the slack that the matrix names: a loaded machine is no defect.
SHORT = Size(clients=4, rounds=2, timeout=0.2, slack=5 * SLACK)
FULL = Size(clients=10, rounds=10, timeout=3, slack=SLACK)


def stop_within_a_frame(
    venue: FakeVenue, proxy: FaultProxy, client: wsclient.WebSocketClient, rng: random.Random
) -> None:
    size = rng.choice([20, 300, 100_000])
    peer = venue.subscribers(core_of(client).log.name)[0]
    proxy.set(Fault("stall", after=rng.randrange(1, size)), "to_client", on="present")
    peer.send("x" * size)


def send_without_a_reader(
    venue: FakeVenue, proxy: FaultProxy, client: wsclient.WebSocketClient, rng: random.Random
) -> None:
    proxy.set(Fault("stall", after=rng.randrange(1000)), "to_venue", on="present")
    with pytest.raises(wsclient.OutcomeUnknown):
        client.send("x" * 5 * 1024 * 1024)


@pytest.mark.parametrize(
    ("fault", "strike", "option", "why"),
    [
        ("mid-frame stall", stop_within_a_frame, "stall_timeout", "half way"),
        ("blocked send", send_without_a_reader, "send_timeout", "did not read"),
    ],
)
@each_size("size", short=[SHORT], full=[FULL], timeout=300)
def test_is_noticed_in_time_and_leaves_no_thread(
    venue: FakeVenue,
    promise: Callable[..., None],
    size: Size,
    fault: str,
    strike: Callable[[FakeVenue, FaultProxy, wsclient.WebSocketClient, random.Random], None],
    option: str,
    why: str,
) -> None:
    pause = threading.Event()

    def trials(proxy: FaultProxy, client: wsclient.WebSocketClient, seed: int) -> list[float]:
        rng = random.Random(seed)
        delays = []
        for _ in range(size.rounds):
            peer = venue.wait_for(lambda venue: venue.subscribers(core_of(client).log.name))[0]
            connections = proxy.connections
            pause.wait(rng.uniform(0, size.timeout))
            at = time.monotonic()
            strike(venue, proxy, client, rng)
            loss = losses.first(client, at, size.timeout + 5)
            assert why in loss.why, f"seed {seed}"
            delays.append(loss.at - at)
            # The venue's end of the stalled connection would linger, and be taken for the live one.
            for connection in connections:
                connection.set(Fault("rst"))
            peer.wait_closed()
        return delays

    options: dict[str, Any] = {option: size.timeout}
    with contextlib.ExitStack() as stack:
        losses = stack.enter_context(Losses())
        calls = []
        for n in range(size.clients):
            proxy = stack.enter_context(FaultProxy(venue.url, receive_buffer=16 * 1024))
            client = stack.enter_context(dial(proxy.url, n, **options))
            client.subscribe(core_of(client).log.name)
            calls.append(Call(trials, proxy, client, seed=n))
        delays = [delay for call in calls for delay in call.result(timeout=240)]
        # Every reader but the live ones' has ended.
        until(lambda: _readers() == size.clients, timeout=5)
    promise(
        3,
        fault,
        f"noticed within {size.timeout:g} + {size.slack:g} s; no thread left",
        f"{len(delays)} trials: p50 {percentile(delays, 50):.2f} s, max {max(delays):.2f} s",
        max(delays) <= size.timeout + size.slack,
    )


def _readers() -> int:
    return sum(thread.name.startswith("wsclient-reader") for thread in threading.enumerate())
