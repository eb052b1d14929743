"""Everything from a connection that has been superseded is ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.making import entries_of
from support.rig import LOGIN, Plain, Rig
from wsclient.dialects import Generic
from wsclient.errors import AuthenticationError, ConnectionLost
from wsclient.events import Noticed
from wsclient.messages import LinkedMessage, Message
from wsclient.sansio.actions import Consult, Send
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.sansio.life import State
from wsclient.stream.inbound import Inbound
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import (
    Ack,
    Counted,
    Heartbeat,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Respond,
    SubscribedChannels,
    Unhandled,
)
from wsclient.verdicts import Verdict

#: No answer is missed while a test waits.
SLOW = {"ack_timeout": 1000.0, "connect_timeout": 1000.0}


def superseded(verdict: Verdict = Verdict.RETRY) -> tuple[Rig, int]:
    """Return a client that has lost a connection with open requests, and that connection's id.

    On it ``a`` was confirmed, ``b`` was requested, and ``c`` was being unsubscribed.
    """
    rig = Rig(**SLOW).active("a", "c")
    rig.data("a", 1)
    rig.request("old request")
    rig.subscribe("b", token="b")
    rig.unsubscribe("c", token="c")
    old = rig.cid
    rig.drop(verdict=verdict)
    return rig, old


def backing_off() -> tuple[Rig, int]:
    """Return a client whose next attempt is not due yet."""
    return superseded(Verdict.RATE_LIMITED)


def connecting() -> tuple[Rig, int]:
    rig, old = superseded()
    while rig.state is not State.CONNECTING:
        rig.wait(rig.deadline() - rig.now)
    return rig, old


def logging_in() -> tuple[Rig, int]:
    rig, old = connecting()
    rig.opened(LOGIN)
    return rig, old


def asking() -> tuple[Rig, int]:
    """Return a client with unanswered requests on its current connection."""
    rig, old = connecting()
    rig.opened()
    rig.request("new request")
    rig.subscribe("d", token="d")
    return rig, old


def confirmed() -> tuple[Rig, int]:
    rig, old = asking()
    rig.ack("a", "b")
    rig.data("a", 2)
    rig.subscribe("e", token="e")
    rig.unsubscribe("b", token="b, again")
    return rig, old


def closing() -> tuple[Rig, int]:
    rig, old = asking()
    rig.supervisor.close(rig.now, 100.0)
    return rig, old


SITUATIONS = (backing_off, connecting, logging_in, asking, confirmed, closing)


def ids_of(rig: Rig) -> list[int]:
    """Return all ids that requests may have had."""
    return list(range(1, rig.supervisor.next_id()))


def message(rig: Rig, *numbers: int | None) -> list[Message]:
    return [rig.message("a", number) for number in numbers]


#: Items that may arrive, made for a rig: each in all forms by which it could be matched.
ITEMS: dict[str, Callable[[Rig], list[Any]]] = {
    "answers by id": lambda rig: [Ack(n) for n in ids_of(rig)],
    "answers by channel": lambda rig: [Ack(channel=c) for c in "abcde"],
    "an answer without a name": lambda rig: [Ack()],
    "answers with an alias": lambda rig: [Ack(channel=c, alias="a") for c in "bd"],
    "refusals by id": lambda rig: [Rejection("no", n) for n in ids_of(rig)],
    "refusals by channel": lambda rig: [Rejection("no", channel=c) for c in "abcde"],
    "refusals by name": lambda rig: [Rejection("no", name=c) for c in "abcde"],
    "a refusal without a name": lambda rig: [Rejection("no")],
    "refusals of one": lambda rig: [Rejection("no", n, is_one=True) for n in ids_of(rig)],
    "refusals of the rest": lambda rig: [Rejection("no", n, is_rest=True) for n in ids_of(rig)],
    "a list of all": lambda rig: [SubscribedChannels(list("abcde"))],
    "a list of none": lambda rig: [SubscribedChannels([])],
    "replies": lambda rig: [Reply(str(n), {"n": n}) for n in ids_of(rig)],
    "replies with an error": lambda rig: [Reply(n, {}, "no") for n in ids_of(rig)],
    "the login is accepted": lambda rig: [LoginAccepted()],
    "the login is refused": lambda rig: [LoginRefused("who?")],
    "data without a number": lambda rig: message(rig, None),
    "data with the next number": lambda rig: message(rig, 2, 3),
    "data after a gap": lambda rig: message(rig, 70),
    "duplicate data": lambda rig: message(rig, 1),
    "a snapshot": lambda rig: [LinkedMessage("a", "snapshot", 90)],
    "data of an unknown channel": lambda rig: [rig.message("unknown")],
    "a counted frame": lambda rig: [Counted(5), Counted(9)],
    "an unreadable frame": lambda rig: [Invalid("not JSON")],
    "a refused message": lambda rig: [Invalid("refused", rig.message("a", 2))],
    "a heartbeat to be answered": lambda rig: [Respond({"op": "pong"})],
    "a notice": lambda rig: [Notice("maintenance")],
    "an unknown type": lambda rig: [Unhandled("odd")],
    "a heartbeat": lambda rig: [Heartbeat()],
}


def standing(rig: Rig) -> Any:
    """Return the observable state of a supervisor."""
    supervisor = rig.supervisor
    counters = supervisor.counters
    counted = {name: getattr(counters, name) for name in counters.__slots__}
    channels = supervisor.upkeep.channels.by_name
    rig.collect()
    return (
        supervisor.state,
        supervisor.connection_id,
        supervisor.life.failure,
        rig.wanted(),
        [connection.asked.requests.unsent.first(1000) for connection in supervisor.connections],
        [connection.asked.settling.suspect for connection in supervisor.connections],
        {channel: rig.pending_gap(channel) for channel in "abcde"},
        {name: (c.messages, c.latest, c.data_at) for name, c in channels.items()},
        counted,
        len(rig.actions),
        {token: len(settled) for token, settled in rig.settled.items() if settled},
        rig.deadline(),
    )


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_entries_of_a_superseded_connection_are_ignored(
    situation: Callable[[], tuple[Rig, int]], item: str
) -> None:
    rig, old = situation()
    items = ITEMS[item](rig)
    before = standing(rig)
    delivered = [m for i in items for m in rig.received(old, [i], rig.now)]
    assert delivered == []
    assert standing(rig) == before
    rig.tick()
    assert standing(rig) == before


@pytest.mark.parametrize("item", sorted(ITEMS.keys() - {"a heartbeat"}))
def test_the_same_entries_of_the_current_connection_are_not_ignored(item: str) -> None:
    """This shows that each of these tests can fail."""

    def is_noticed(situation: Callable[[], tuple[Rig, int]]) -> bool:
        rig, _ = situation()
        items = ITEMS[item](rig)
        before = standing(rig)
        for one in items:
            rig.received(rig.cid, [one], rig.now)
        rig.tick()
        return bool(standing(rig) != before)

    assert any(is_noticed(situation) for situation in SITUATIONS)


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_data_on_the_fast_path_is_ignored(
    situation: Callable[[], tuple[Rig, int]], number: int
) -> None:
    rig, old = situation()
    before = standing(rig)
    payload = b'{"type":"market_data","channel":"a","sequence":%d}' % number
    batch = Inbound(Generic()).batch([payload], False, 1, old)
    assert rig.ordinary(old, batch, rig.now) == []
    assert standing(rig) == before


def test_data_on_the_fast_path_of_the_current_connection_is_delivered() -> None:
    rig, _ = confirmed()
    payload = b'{"type":"market_data","channel":"a","sequence":3}'
    batch = Inbound(Generic()).batch([payload], False, 1, rig.cid)
    assert len(rig.ordinary(rig.cid, batch, rig.now)) == 1


EVENTS: dict[str, Callable[[Rig, int, float], None]] = {
    "opened": lambda rig, cid, now: rig.supervisor.opened(cid, None, now),
    "opened for a login": lambda rig, cid, now: rig.supervisor.opened(cid, LOGIN, now),
    "a pong": lambda rig, cid, now: rig.pong(cid),
    "a ping": lambda rig, cid, now: rig.control(cid, now),
    "lost": lambda rig, cid, now: rig.supervisor.ended(cid, OSError(), Verdict.RETRY, now),
    "lost again, with a text": lambda rig, cid, now: rig.supervisor.ended(
        cid, ConnectionLost("gone", 1001), Verdict.RATE_LIMITED, now, "gone"
    ),
    "refused for good": lambda rig, cid, now: rig.supervisor.ended(
        cid, AuthenticationError("no"), Verdict.FATAL, now
    ),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("situation", SITUATIONS[1:])
def test_events_of_a_superseded_connection_are_ignored(
    situation: Callable[[], tuple[Rig, int]], event: str
) -> None:
    rig, old = situation()
    before = standing(rig)
    EVENTS[event](rig, old, rig.now)
    rig.tick()
    assert standing(rig) == before


def test_a_pong_of_a_superseded_connection_does_not_answer_a_current_ping() -> None:
    rig = Rig(ping_interval=10.0, ping_timeout=5.0, **SLOW).open()
    old = rig.cid
    rig.drop()
    rig.open()
    quiet = ConnectionView(rig.now)
    rig.wait(10.0, quiet)
    rig.pong(old)
    rig.control(old, rig.now)
    rig.wait(5.0, quiet)
    assert rig.cid > old + 1 or rig.state is not State.OPEN


def test_a_ping_of_a_superseded_connection_is_no_sign_of_life_of_the_current_one() -> None:
    rig = Rig(silence_timeout=10.0, **SLOW).open()
    old = rig.cid
    rig.drop()
    rig.open()
    present = rig.cid
    rig.wait(9.0)
    rig.control(old, rig.now)
    rig.wait(1.0)
    assert (rig.cid, rig.state) != (present, State.OPEN)


@pytest.mark.parametrize("asked", [1, 2])
def test_an_old_answer_of_the_dialect_is_not_mistaken_for_the_expected_one(asked: int) -> None:
    rig = Rig(**SLOW).active("a")
    rig.holds = True
    rig.subscribe("b")
    for _ in range(asked - 1):
        rig.consult()
        rig.tick()
    (old,) = rig.consults
    rig.drop()
    rig.open()
    (_, present) = rig.consults
    old.then(old.ask())
    rig.tick()
    assert rig.consults == [old, present]


@pytest.mark.parametrize("outcome", ["answered", "failed"])
@pytest.mark.parametrize("asked", [1, 2])
@pytest.mark.parametrize("is_subscribe", [True, False], ids=["subscribe", "unsubscribe"])
def test_an_answer_of_the_dialect_for_a_superseded_connection_is_ignored(
    is_subscribe: bool, asked: int, outcome: str
) -> None:
    """The first question is how to split the channels, the second which messages to send."""
    rig = Rig(**SLOW).active("a")
    rig.holds = True
    if is_subscribe:
        rig.subscribe("b", token="b")
    else:
        rig.unsubscribe("a", token="a")
    for _ in range(asked - 1):
        rig.consult()
        rig.tick()
    (old,) = rig.consults
    assert isinstance(old, Consult)
    rig.consults.clear()
    rig.holds = False
    answer = old.ask()
    rig.drop()
    rig.open()
    before, sent = standing(rig), len(rig.done(Send))
    if outcome == "answered":
        old.then(answer)
    else:
        old.failed(RuntimeError("late"))
    rig.tick()
    assert len(rig.done(Send)) == sent
    assert standing(rig) == before
    rig.ack("a", "b")
    wanted = {name: state.value for name, state, _ in rig.wanted()}
    assert wanted == ({"a": "active", "b": "active"} if is_subscribe else {})


def test_a_request_of_a_superseded_connection_is_settled_once_as_unknown() -> None:
    rig, old = asking()
    assert type(rig.outcome("old request")).__name__ == "OutcomeUnknown"
    for n in ids_of(rig):
        rig.received(old, [Reply(n, {})], rig.now)
    rig.tick()
    assert rig.outcome("new request") == "waiting"


def test_the_time_for_an_answer_ends_with_its_connection() -> None:
    """An unanswered resubscription counts against the connection that was asked."""
    rig = Rig(ack_timeout=20.0).active("a")
    rig.drop()
    rig.open()
    rig.wait(19.0)
    rig.drop()
    rig.open()
    cid = rig.cid
    rig.wait(19.0)
    assert (rig.cid, rig.state) == (cid, State.OPEN)
    assert rig.asked() == [("subscribe", ["a"])]


def test_an_alias_of_a_superseded_connection_names_nothing() -> None:
    rig = Rig(**SLOW).open()
    rig.subscribe("a")
    rig.receive(Ack(channel="a", alias="#1"))
    rig.drop()
    rig.open()
    rig.receive(Ack(channel="a", alias="#2"))
    (strange,) = rig.receive(rig.message("#1"))
    (known,) = rig.receive(rig.message("#2"))
    assert (strange.channel, known.channel) == ("#1", "a")


def test_a_connections_count_is_not_compared_with_the_next_ones() -> None:
    rig = Rig(**SLOW).active("a")
    rig.receive(Counted(7))
    rig.drop()
    rig.open()
    rig.ack("a")
    rig.data("a", 1)
    logged = len(rig.emitted(Noticed))
    rig.receive(Counted(1))
    rig.receive(Counted(2))
    assert rig.pending_gap("a") is None
    assert len(rig.emitted(Noticed)) == logged


def test_an_old_connections_half_refresh_does_not_end_a_channel_of_the_next() -> None:
    """Its unsubscribe was outstanding; the answer must not count for the current connection."""
    rig = Rig(stale_after=30.0, **SLOW).active("a")
    rig.wait(30.0)
    assert rig.asked()[-2:] == [("unsubscribe", ["a"]), ("subscribe", ["a"])]
    old = rig.cid
    ids = ids_of(rig)
    rig.drop()
    rig.open()
    before = standing(rig)
    for n in ids:
        rig.received(old, [Ack(n)], rig.now)
    rig.received(old, [Ack(channel="a")], rig.now)
    assert standing(rig) == before


def test_only_data_of_the_current_connection_confirms_without_acknowledgements() -> None:
    rig = Rig(Plain(acknowledges=False), **SLOW).open()
    rig.subscribe("a", token="a")
    old = rig.cid
    rig.drop()
    rig.open()
    assert rig.received(old, [rig.message("a")], rig.now) == []
    rig.tick()
    assert rig.outcome("a") == "waiting"
    rig.data("a")
    assert rig.outcome("a") is None


def test_entries_of_one_read_are_all_ignored_together() -> None:
    rig, old = asking()
    entries = entries_of(
        Inbound(Generic()),
        b'{"type":"subscription","channel":"a"}',
        b'{"type":"market_data","channel":"a","sequence":2}',
    )
    before = standing(rig)
    assert rig.received(old, entries, rig.now) == []
    assert standing(rig) == before
