"""Row 12: a kill during a subscribe or a resubscribe.

In the end the venue's subscriptions are exactly the wanted set.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import wsclient
from support.helpers import Call
from support.journal import Journal, ServedConnection
from support.matrix import each_size
from support.oracle import CUTS

UNLIMITED = wsclient.Generic(limits=wsclient.Limits(connects=None))
CHANNELS = [f"c{n}" for n in range(6)]


class Killer:
    """Cuts the connection at the ``after``-th request from now on.

    ``when`` says whether its answer is due or sent.
    """

    def __init__(self, server: Journal) -> None:
        self.kills = 0
        self._left = 0
        self._plan: tuple[str, str] | None = None
        self._next: Callable[[], tuple[int, str, str]] | None = None
        self._server = server
        server.on_request = self._on_request

    def arm(self, after: int, when: str, how: str) -> None:
        with self._server.changed:
            self._left, self._plan = after, (when, how)

    def keep_on(self, plan: Callable[[], tuple[int, str, str]] | None) -> None:
        """Arm the killer again after each kill, as ``plan`` says; None ends it."""
        with self._server.changed:
            self._next = plan
            if plan is None:
                self._plan = None
            else:
                self.arm(*plan())

    def _on_request(self, connection: ServedConnection, when: str) -> None:
        if self._plan is None:
            return
        self._left -= when == "before"
        if self._left > 0 or when != self._plan[0]:
            return
        how, self._plan = self._plan[1], None
        CUTS[how](connection)  # type: ignore[arg-type]
        self.kills += 1
        if self._next is not None:
            self.arm(*self._next())


def settled(server: Journal, wanted: set[str]) -> bool:
    server.wait_for(lambda server: len(server.live) == 1 and server.live[0].subscriptions == wanted)
    return True


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_each_request(promise: Callable[..., None], when: str, how: str) -> None:
    """Kill the connection at each request of the first subscribe or of its restoration."""
    wanted, total = set(CHANNELS), 0
    for n in range(1, len(CHANNELS) + 1):
        with (
            Journal() as server,
            wsclient.connect(server.url, dialect=UNLIMITED, retry_delay=0) as client,
        ):
            killer = Killer(server)
            killer.arm(n, when, how)
            client.subscribe(*CHANNELS, timeout=10)
            settled(server, wanted)
            killer.arm(n, when, how)
            server.live[0].rst()
            server.wait_for(lambda server: len(server.connections) == 4)
            settled(server, wanted)
            assert client.stats().disconnects == 3
            assert {c for c, s in client.subscriptions.items()} == wanted
            total += killer.kills
    promise(
        12,
        f"a kill ({how}) {when} the answer to each request",
        "the venue's set is the wanted one",
        f"{total} kills, the same in all",
        total == 2 * len(CHANNELS),
    )


@pytest.mark.parametrize("seed", [121, 122])
@each_size("calls", short=[40], full=[2000], timeout=600)
def test_kills_while_threads_change_their_minds(
    promise: Callable[..., None], calls: int, seed: int
) -> None:
    """Each thread has channels of its own, and knows what it wants.

    Now and then it has no patience; its call then raises SubscriptionTimeout.
    """
    rng = random.Random(seed)

    def plan() -> tuple[int, str, str]:
        return rng.randint(1, 20), rng.choice(["before", "after"]), rng.choice(sorted(CUTS))

    def change_minds(number: int) -> set[str]:
        mine = [f"{number}-{n}" for n in range(4)]
        rng, wanted = random.Random(f"{seed}-{number}"), set[str]()
        for _ in range(calls):
            channel = rng.choice(mine)
            timeout = rng.choice([30.0, 30.0, 0.001])
            if channel in wanted:
                wanted.discard(channel)
                call = client.unsubscribe
            else:
                wanted.add(channel)
                call = client.subscribe
            try:
                call(channel, timeout=timeout)
            except wsclient.SubscriptionTimeout:
                wanted.discard(channel)
        return wanted

    with (
        Journal() as server,
        wsclient.connect(server.url, dialect=UNLIMITED, retry_delay=0) as client,
    ):
        killer = Killer(server)
        killer.keep_on(plan)
        threads = [Call(change_minds, number) for number in range(3)]
        wanted = set().union(*(thread.result(500) for thread in threads))
        killer.keep_on(None)
        settled(server, wanted)
        client.subscribe("the last", timeout=10)  # everything on its way has come by now
        wanted.add("the last")
        assert client.subscriptions.keys() == wanted
        promise(
            12,
            f"kills while 3 threads subscribe and unsubscribe (seed {seed})",
            "the venue's set is the wanted one",
            f"{3 * calls} calls, {killer.kills} kills, {len(wanted)} channels: the same",
            settled(server, wanted) and killer.kills > calls // 20,
        )
