"""Row 10: attempts after a refusal.

A permanent refusal is followed by no further attempt, any other one by attempts that are never too
early and never too frequent.
"""

from __future__ import annotations

import email.utils
import itertools
import random
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

import wsclient
from support.matrix import each_size
from wsclient import HandshakeRejected, Limits, State
from wsclient.options import Options
from wsclient.sansio.actions import (
    Cut,
    Dial,
)
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.sansio.supervisor import Supervisor
from wsclient.testing import FakeVenue
from wsclient.transport.handshake import MAX_RETRY_AFTER
from wsclient.verdicts import classify

HOUR = 3600.0
#: Rounding error of sums of floats (s).
ROUNDING = 1e-6
QUICK: dict[str, Any] = {"retry_delay": 0.001, "max_retry_delay": 0.002, "max_retries": 9}


@pytest.mark.parametrize("was_open", [False, True])
@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_for_good_is_one_attempt(
    venue: FakeVenue, status: int, was_open: bool, promise: Callable[..., None]
) -> None:
    with closing(wsclient.WebSocketClient(venue.url, **QUICK)) as client:
        if was_open:
            client.connect()
        before = venue.attempts
        venue.refuse(status, times=9, retry_after=0)
        if was_open:
            venue.accept().rst()
        for call in (client.recv if was_open else client.connect, client.connect, client.recv):
            with pytest.raises(wsclient.ConnectError, match=str(status)):
                call()
        assert client.state is State.FAILED
    attempts = venue.attempts - before
    when = "to a reconnect" if was_open else "to connect()"
    promise(10, f"HTTP {status} {when}", "one attempt", str(attempts), attempts == 1)


def _in_seconds(seconds: int) -> tuple[str, float]:
    return str(seconds), time.time() + seconds


def _as_a_date(seconds: int) -> tuple[str, float]:
    """Return a date that is ``seconds`` away or slightly more: dates have whole seconds."""
    at = int(time.time()) + seconds + 1
    return email.utils.formatdate(at, usegmt=True), at


@each_size("seconds", short=[1], full=[5], timeout=60)
@pytest.mark.parametrize(("status", "form"), [(429, _in_seconds), (503, _as_a_date)])
def test_no_attempt_comes_before_retry_after(
    venue: FakeVenue,
    status: int,
    form: Callable[[int], tuple[str, float]],
    seconds: int,
    promise: Callable[..., None],
) -> None:
    """Check connect()'s own retries, and a caller that calls it again."""
    value, at = form(seconds)
    venue.refuse(status, retry_after=value)
    with closing(wsclient.WebSocketClient(venue.url, **QUICK | {"max_retries": 1})) as client:
        with pytest.raises(wsclient.ConnectError):
            client.connect()
        client.connect()
        early = at - time.time()
    assert venue.attempts == 2
    promise(
        10,
        f"HTTP {status}, Retry-After {form.__name__.strip('_').replace('_', ' ')}",
        "never before Retry-After",
        f"{-early * 1000:+.0f} ms",
        early <= 0.0,
    )


@pytest.mark.parametrize("form", ["9" * 30, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_venue_cannot_switch_a_client_off(venue: FakeVenue, form: str) -> None:
    venue.refuse(503, retry_after=form)
    with pytest.raises(wsclient.ConnectError) as caught:
        wsclient.connect(venue.url, max_retries=1)
    assert isinstance(caught.value.__cause__, HandshakeRejected)
    assert caught.value.__cause__.retry_after == MAX_RETRY_AFTER


class Outage:
    """An hour of a venue that refuses all connections, on a simulated clock."""

    def __init__(self, seed: int, limits: Limits, fail: Callable[[random.Random], Any]) -> None:
        rng = random.Random(seed)
        options = Options(retry_delay=0.01, max_retry_delay=30.0, ping_interval=None)
        supervisor = Supervisor(wsclient.Generic(limits=limits), options, rng.random)
        now = 0.0
        self.dials = [now]
        #: The times from which the answer to the previous attempt allowed each attempt.
        self.allowed = [now, now]
        supervisor.connect("connect", float("inf"), now)
        supervisor.tick(now, {})
        supervisor.actions()
        supervisor.opened(1, None, now)  # once connected, it may try for ever
        supervisor.ended(1, wsclient.ConnectionLost("gone"), wsclient.Verdict.RETRY, now)
        while now < HOUR:
            supervisor.tick(now, {supervisor.connection_id: ConnectionView(now)})
            for action in supervisor.actions():
                assert not isinstance(action, Cut)
                if isinstance(action, Dial):
                    self.dials.append(now)
                    now += rng.random() * 0.1
                    error = fail(rng)
                    if error is None:  # accepted, and dropped
                        supervisor.opened(action.connection_id, None, now)
                        error = wsclient.ConnectionLost("dropped")
                    verdict = classify(error)
                    supervisor.ended(action.connection_id, error, verdict, now)
                    self.allowed.append(now + (getattr(error, "retry_after", None) or 0.0))
            now = max(
                now, supervisor.next_deadline(now, {supervisor.connection_id: ConnectionView(now)})
            )
        supervisor.close(now, 1.0)

    def most_within(self, seconds: float) -> int:
        """Return the most attempts in any window of ``seconds``."""
        most = start = 0
        for end, at in enumerate(self.dials):
            while at - self.dials[start] >= seconds - ROUNDING:
                start += 1
            most = max(most, end - start + 1)
        return most


def _busy(rng: random.Random) -> Any:
    return HandshakeRejected("busy", rng.choice((429, 503)), rng.choice((None, 0.0, 7.0, 90.0)))


FAILURES: dict[str, Callable[[random.Random], Any]] = {
    "429": lambda rng: HandshakeRejected("busy", 429),
    "503": lambda rng: HandshakeRejected("busy", 503),
    "429 and 503, with Retry-After and without": _busy,
    "Retry-After: 0": lambda rng: HandshakeRejected("busy", 503, 0.0),
    "let in and dropped": lambda rng: None,
    "all of these": lambda rng: rng.choice((_busy(rng), OSError("refused"), None)),
}
BUDGETS = [Limits(), Limits(connects=(5, 300.0)), Limits(connects=(1, 20.0))]


@each_size("seeds", short=[range(3)], full=[range(300)], timeout=300)
@pytest.mark.parametrize("failure", FAILURES)
def test_an_hours_outage_stays_within_the_venues_budget(
    failure: str, seeds: range, promise: Callable[..., None]
) -> None:
    worst, attempts, early = 0.0, 0, 0.0
    for seed, limits in itertools.product(seeds, BUDGETS):
        outage = Outage(seed, limits, FAILURES[failure])
        assert limits.connects is not None
        count, per = limits.connects
        used = outage.most_within(per) / count
        assert used <= 1, f"seed {seed}, {limits}: {used:.2f} of the budget"
        for at, allowed in zip(outage.dials, outage.allowed, strict=False):
            early = max(early, allowed - at)
        worst = max(worst, used)
        attempts = max(attempts, len(outage.dials))
    promise(
        10,
        f"an hour of {failure}",
        "attempts within the budget, never before Retry-After",
        f"{worst:.0%} of the budget, at most {attempts} attempts",
        worst <= 1 and early <= ROUNDING and attempts > 10,
    )
