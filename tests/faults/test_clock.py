"""Row 17: neither a jump of the wall clock nor a stop of the process is a dead venue."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from support.helpers import Call
from support.matrix import each_size
from support.network import dial
from wsclient.testing import FakeVenue, Fault, FaultProxy


@pytest.mark.parametrize("hours", [1, -1])
def test_a_jump_of_the_wall_clock_drops_nothing(
    venue: FakeVenue, promise: Callable[..., None], monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Every timeout of the client is set, and short; the clock jumps to and fro."""
    offset = 0
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + offset)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + offset * 10**9)
    options: dict[str, Any] = dict.fromkeys(
        (
            "ping_timeout",
            "silence_timeout",
            "stale_after",
            "stall_timeout",
            "send_timeout",
            "ack_timeout",
        ),
        2.0,
    )
    with dial(venue.url, ping_interval=0.05, **options) as client:
        client.subscribe("a")
        peer = venue.accept()
        for n in range(4):
            offset = hours * 3600 if n % 2 else 0
            for _ in range(2):
                peer.expect_ping()
            venue.publish("a")
            message = client.recv(timeout=5)
            assert abs(message.received_at / 1e9 - time.time()) < 60
            client.subscribe(f"b{n}", timeout=5)
            client.unsubscribe(f"b{n}", timeout=5)
        stats = client.stats()
    promise(
        17,
        f"wall clock {hours:+} h",
        "no false drop",
        f"4 jumps: {stats.disconnects} drops, {stats.gaps} gaps",
        stats.dials == 1 and stats.gaps == 0,
    )


#: Prints each message's number and gap, up to the one marked as the last.
CHILD = """
import sys, wsclient
options = dict(ping_interval=0.2, ping_timeout=0.5, silence_timeout=1, stale_after=1,
               stall_timeout=0.5, send_timeout=0.5, retry_delay=0.01)
with wsclient.connect(sys.argv[1], **options) as client:
    client.subscribe("a")
    for message in client:
        print(message.sequence, message.gap, flush=True)
        if message.data.get("last"):
            break
"""
MEANWHILE = ["feeds", "pings", "is silent", "resets", "goes deaf"]
#: Time (s) within which a dead connection must be replaced: 0.7 s for the pings, and the rest for a
#: busy machine.
SOON = 1.5


class Received(NamedTuple):
    """What a stopped client has printed, and on how many connections.

    ``back`` is how long (s) it took to replace a dead connection.
    """

    numbers: list[int]
    marked: list[int]
    final: int
    connections: int
    back: float


def stopped(seconds: float, meanwhile: str) -> Received:
    """Stop a client for ``seconds``; return what it printed after it was resumed."""
    pause = threading.Event()
    back = 0.0
    with FakeVenue() as venue, FaultProxy(venue.url) as proxy:

        def feed(seconds: float) -> None:
            for _ in range(round(seconds / 0.05)):
                venue.publish("a")
                pause.wait(0.05)

        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, proxy.url], stdout=subprocess.PIPE, text=True
        )
        try:
            peer = venue.wait_for(lambda venue: venue.subscribers("a"), timeout=30)[0]
            feed(0.3)
            child.send_signal(signal.SIGSTOP)
            if meanwhile == "feeds":
                feed(seconds)
            elif meanwhile == "pings":
                for _ in range(round(seconds / 0.05)):
                    peer.ping()
                    pause.wait(0.05)
            else:
                if meanwhile == "resets":
                    peer.rst()
                elif meanwhile == "goes deaf":
                    proxy.set(Fault("deaf"), on="present")
                pause.wait(seconds)
            child.send_signal(signal.SIGCONT)
            if meanwhile in ("resets", "goes deaf"):
                resumed = time.monotonic()
                venue.wait_for(lambda venue: venue.peers[-1].id > 1 and venue.subscribers("a"))
                back = time.monotonic() - resumed
            feed(1.2)  # longer than any of the client's timeouts
            final = venue.publish("a", last=True)
            lines = [
                line.split(maxsplit=1) for line in child.communicate(timeout=20)[0].split("\n")
            ]
        finally:
            child.kill()
            child.communicate()
        numbers = [int(line[0]) for line in lines if line]
        marked = [int(number) for number, gap in filter(None, lines) if gap != "None"]
        return Received(numbers, marked, final, len(venue.peers), back)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
@each_size("stops", short=[[2.0]], full=[[0.4, 0.6, 0.7, 0.8, 1.6, 30.0]], timeout=180)
def test_a_stopped_process(promise: Callable[..., None], stops: list[float]) -> None:
    """Most stops are longer than the timeouts of the client."""
    calls = {(s, m): Call(stopped, s, m) for s in stops for m in MEANWHILE}
    for (seconds, meanwhile), call in calls.items():
        got = call.result(timeout=120)
        what = f"stopped for {seconds:g} s, venue {meanwhile}"
        assert got.numbers[-1] == got.final, what
        gaps = [b for a, b in itertools.pairwise(got.numbers) if b != a + 1]
        assert gaps == got.marked, f"{what}: {got}"
        if meanwhile in ("resets", "goes deaf"):
            promise(
                17,
                what,
                f"back within {SOON:g} s, gaps marked",
                f"{got.back * 1e3:.0f} ms",
                got.back <= SOON,
            )
        else:
            promise(
                17,
                what,
                "no false drop, nothing missed",
                f"{got.connections - 1} drops, {len(gaps)} gaps",
                got.connections == 1 and not gaps,
            )
