"""The room of connections: what fills it, what gives it back, and which connections that needs."""

from __future__ import annotations

import pytest

from support.rig import Plain, Rig
from wsclient.dialect.values import Limits
from wsclient.errors import SubscriptionRejected
from wsclient.messages import SubscriptionState
from wsclient.sansio.actions import Abort, Dial, Hangup
from wsclient.stream.items import Ack, Rejection


def rig_of(room: int | None = None, most: int | None = None) -> Rig:
    limits = Limits(channels_per_connection=room, connections=most, connects=None)
    return Rig(Plain(limits)).open()


def refusal(channel: str) -> Rejection:
    return Rejection("full", channel=channel, is_limit=True)


def slots(rig: Rig) -> list[list[str]]:
    """Return the channels of each slot."""
    return [list(slot.channels) for slot in rig.supervisor.fleet.slots.values()]


def test_a_channel_beyond_the_room_dials() -> None:
    rig = rig_of(room=1)
    rig.subscribe("a", "b")
    assert slots(rig) == [["a"], ["b"]]
    assert len(rig.done(Dial)) == 2


def test_a_channel_that_moves_makes_work_for_the_watchdog() -> None:
    rig = rig_of()
    rig.active("a")
    rig.subscribe("b")
    rig.supervisor.next_deadline(rig.now, {})
    rig.received(rig.cid, [refusal("b")], rig.now)
    assert rig.is_due


def test_a_refusal_teaches_how_many_fit() -> None:
    rig = rig_of()
    rig.active("a", "b")
    token = rig.subscribe("c")
    rig.receive(refusal("c"))
    assert rig.outcome(token) == "waiting"
    assert slots(rig) == [["a", "b"], ["c"]]
    rig.opened()
    rig.ack("c")
    assert rig.outcome(token) is None
    rig.subscribe("d", "e")
    assert slots(rig) == [["a", "b"], ["c", "d"], ["e"]]


def test_a_connection_that_takes_nothing_refuses() -> None:
    rig = rig_of()
    token = rig.subscribe("a")
    rig.receive(refusal("a"))
    assert isinstance(rig.outcome(token), SubscriptionRejected)
    assert len(rig.done(Dial)) == 1


def test_an_active_channel_that_moves_is_not_lost() -> None:
    rig = rig_of()
    rig.active("a", "b")
    rig.drop()
    rig.open()
    rig.receive(Ack(channel="a"), refusal("b"))
    assert slots(rig) == [["a"], ["b"]]
    assert [state for _, state, _ in rig.wanted()] == [
        SubscriptionState.ACTIVE,
        SubscriptionState.PENDING,
    ]


def test_beyond_the_number_of_connections_is_no_room() -> None:
    rig = rig_of(room=1, most=2)
    rig.subscribe("a", "b")
    token = rig.subscribe("c")
    error = rig.outcome(token)
    assert isinstance(error, SubscriptionRejected)
    assert "allows 2 connections" in error.failed["c"]


def test_a_connection_without_channels_is_closed_beside_one_with_channels() -> None:
    rig = rig_of(room=1)
    rig.active("a")
    rig.subscribe("b")
    rig.opened()
    rig.ack("b")
    rig.unsubscribe("a")
    first = min(rig.supervisor.connections.by_id)
    rig.received(first, [Ack(channel="a", verb="unsubscribe")], rig.now)
    rig.tick()
    assert [hangup.connection_id for hangup in rig.done(Hangup)] == [first]


@pytest.mark.parametrize("last", [1, 2])
def test_one_connection_is_kept_when_all_have_lost_their_channels(last: int) -> None:
    rig = rig_of(room=1)
    rig.active("a")
    rig.subscribe("b")
    rig.opened()
    rig.ack("b")
    rig.unsubscribe("a", "b")
    for connection_id, channel in sorted([(1, "a"), (2, "b")], key=lambda pair: pair[0] == last):
        rig.received(connection_id, [Ack(channel=channel, verb="unsubscribe")], rig.now)
    rig.tick()
    assert rig.wanted() == []
    assert len(rig.done(Hangup)) == 1


def test_an_attempt_that_nothing_needs_is_aborted() -> None:
    rig = rig_of(room=1)
    rig.active("a")
    rig.subscribe("b")
    rig.unsubscribe("b")
    assert [abort.connection_id for abort in rig.done(Abort)] == [2]
    assert rig.supervisor.endings.attempt_failures == {}
    assert slots(rig) == [["a"]]


def test_a_proof_is_soon_noticed() -> None:
    """It comes with any message, and nothing else is due then."""
    rig = rig_of()
    rig.active("a")
    old = rig.cid
    rig.data("a", None)
    rig.supervisor.rotate("rotate", rig.now + 60.0, rig.now)
    rig.tick()
    rig.opened()
    rig.ack("a")
    rig.now += 1.0
    for number in range(4):
        message = rig.message("a", type=f"n{number}")
        for connection_id in (old, rig.cid):
            rig.supervisor.intake.received(
                rig.supervisor.connections.by_id[connection_id], [message], rig.now, {0: number}
            )
    assert rig.deadline() <= rig.now + 0.1
    rig.wait(0.1)
    assert [hangup.connection_id for hangup in rig.done(Hangup)] == [old]
