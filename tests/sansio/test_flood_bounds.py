"""Floods from a venue are bounded, and the number of omitted items is reported."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from support.rig import LOGIN, Rig
from wsclient.errors import AuthenticationError
from wsclient.events import Event
from wsclient.messages import Message
from wsclient.sansio import output
from wsclient.sansio.actions import Cut
from wsclient.sansio.floods import ANSWERS
from wsclient.sansio.life import State
from wsclient.sansio.output import MAX_WAITING
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import (
    Ack,
    Counted,
    Ended,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Respond,
    SubscribedChannels,
    Unhandled,
)

#: Item number n of a flood.
FLOODS: dict[str, Callable[[Rig, int], list[Any]]] = {
    "refusals": lambda rig, n: [Rejection(f"no {n}")],
    "refusals of a channel": lambda rig, n: [Rejection("no", channel="a")],
    "notices": lambda rig, n: [Notice(f"maintenance {n}")],
    "unknown types": lambda rig, n: [Unhandled(f"{n}" * 100)],
    "heartbeats to answer": lambda rig, n: [Respond({"pong": n})],
    "acks of no request": lambda rig, n: [Ack(request_id=n + 1000), Ack(channel=f"x{n}"), Ack()],
    "aliases": lambda rig, n: [Ack(channel=f"x{n}", alias=f"#{n}")],
    "aliases of one channel": lambda rig, n: [Ack(channel="a", alias=f"#{n}")],
    "channels that end": lambda rig, n: [Ack(channel=f"c{n % 2000}", verb="unsubscribe")],
    "channels that end by name": lambda rig, n: [Ended(f"gone {n}", name=f"c{n % 2000}")],
    "one channel that ends": lambda rig, n: [Rejection(f"gone {n}", channel="a"), Ack(channel="a")],
    "lists that flap": lambda rig, n: [SubscribedChannels(["a"] if n % 2 else [])],
    "jumps": lambda rig, n: [Counted(2 * n)],
    "jumps and data": lambda rig, n: [Counted(2 * n), rig.message("a", 2 * n)],
    "invalid frames": lambda rig, n: [Invalid(f"rubbish {n}")],
    "invalid frames and data": lambda rig, n: [Invalid("rubbish"), rig.message("a")],
    "refused messages": lambda rig, n: [Invalid("refused", Message("a", "update", 3 * n))],
    "channels": lambda rig, n: [rig.message(f"x{n}", 3)],
    "gaps": lambda rig, n: [rig.message("a", 3 * n)],
    "logins": lambda rig, n: [LoginRefused("who?"), LoginAccepted()],
    "replies to no request": lambda rig, n: [Reply(n + 1000, {})],
}


def flood(rig: Rig, kind: str, count: int) -> None:
    make = FLOODS[kind]
    for n in range(0, count, 100):
        entries = [entry for i in range(n, n + 100) for entry in make(rig, i)]
        rig.received(rig.cid, entries, rig.now)


@pytest.mark.parametrize("kind", FLOODS)
def test_queued_actions_and_memory_stay_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of wanted channels cost nothing."""
    monkeypatch.setattr(output, "MAX_WAITING", 1000)
    check_bounds(kind, 2000, 1000)


def test_the_bound_is_the_constant_of_the_output() -> None:
    check_bounds("gaps", MAX_WAITING + 1000)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", FLOODS)
def test_queued_actions_and_memory_stay_bounded_in_a_long_flood(kind: str) -> None:
    check_bounds(kind, 600_000)


def check_bounds(kind: str, count: int, most: int = MAX_WAITING) -> None:
    rig = Rig(wants=lambda _: True).active("a", *(f"c{n}" for n in range(2000)))
    flood(rig, kind, 200)
    rig.collect()
    tracemalloc.start()
    flood(rig, kind, count)
    waiting, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    actions = rig.supervisor.actions()
    assert len(actions) <= most + 10
    assert waiting <= 2500 * most
    rig.tick()
    rig.close()


@pytest.mark.parametrize(
    ("make", "first", "second"),
    [
        (
            lambda n: Rejection(f"no {n}"),
            "the venue refused: no 0",
            "the venue refused: no 9 (and 8 before it)",
        ),
        (
            lambda n: Notice(f"maintenance {n}"),
            "the venue says: maintenance 0",
            "the venue says: maintenance 9 (and 8 before it)",
        ),
        (
            lambda n: Unhandled(f"odd {n}"),
            "unhandled message type 'odd 0' (logged once per type)",
            "unhandled message type 'odd 9' (logged once per type) (and 8 before it)",
        ),
        (
            lambda n: Counted(2 * n),
            "the connection's frame number jumped from 0 to 2; data may be missing",
            "the connection's frame number jumped from 16 to 18; data may be missing"
            " (and 7 before it)",
        ),
        (
            lambda n: Invalid(f"rubbish {n}"),
            "skipped rubbish 0",
            "skipped rubbish 9 (and 8 before it)",
        ),
    ],
)
def test_each_kind_is_logged_once_per_second_with_the_number_omitted(
    make: Callable[[int], Any], first: str, second: str
) -> None:
    rig = Rig().open()
    rig.receive(*(make(n) for n in range(10)))
    assert rig.logs("warning") == [first]
    rig.wait(1.0)
    assert rig.logs("warning") == [first, second]
    rig.wait(100.0)
    assert rig.logs("warning") == [first, second]


def test_one_kind_of_line_does_not_suppress_another() -> None:
    rig = Rig().open()
    rig.receive(Notice("one"), Rejection("two"), Notice("three"))
    assert rig.logs("warning") == ["the venue says: one", "the venue refused: two"]


def test_heartbeats_beyond_the_rate_limit_get_only_the_newest_answer() -> None:
    most, per = ANSWERS
    rig = Rig().open()
    rig.receive(*(Respond({"pong": n}) for n in range(100)))
    assert [m["pong"] for m in rig.sent()] == list(range(most))
    rig.wait(per)
    assert [m["pong"] for m in rig.sent()][most:] == [99]
    text = f"a heartbeat is not answered: the venue asks for over {most} answers in {per:g} s"
    assert rig.logs("warning") == [text, f"{text} (and {100 - most - 3} before it)"]


def test_a_waiting_answer_is_not_sent_on_the_next_connection() -> None:
    rig = Rig().open()
    rig.receive(*(Respond({"pong": n}) for n in range(100)))
    rig.drop()
    rig.open()
    rig.wait(10.0)
    assert rig.sent() == []


def test_an_answer_that_cannot_be_encoded_makes_the_frame_invalid() -> None:
    rig = Rig().open()
    rig.receive(*[Respond(object())] * 100)
    rig.wait(10.0)
    assert rig.state is State.OPEN
    assert rig.supervisor.counters.invalid == 100


def test_a_login_is_refused_once() -> None:
    rig = Rig()
    rig.connect()
    rig.opened(LOGIN)
    rig.received(rig.cid, [LoginRefused("who?"), LoginAccepted()] * 100, rig.now)
    rig.tick()
    (cut,) = rig.done(Cut)
    assert isinstance(cut.error, AuthenticationError)
    assert rig.state is State.FAILED


def test_dropped_events_use_their_numbers() -> None:
    rig = Rig(wants=lambda _: True).active("a")
    before = rig.numbers(Event)[-1]
    flood(rig, "gaps", 10_000)
    rig.drop()
    last = rig.numbers(Event)[-1]
    assert last - before >= 10_000
