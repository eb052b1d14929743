"""Shards: channels for which one connection has no room are carried by several."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from support.counting import steps
from support.rig import Plain, Rig, named
from wsclient.dialect.values import Limits
from wsclient.errors import HandshakeRejected, SubscriptionRejected
from wsclient.events import Disconnected, Recovered, Waiting
from wsclient.messages import SubscriptionState
from wsclient.sansio.actions import Cut, Hangup
from wsclient.sansio.connection import HEALTHY_AFTER
from wsclient.sansio.life import State
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import Ack, Counted, Rejection

ACTIVE = SubscriptionState.ACTIVE
PENDING = SubscriptionState.PENDING
SLOW = {"ack_timeout": 1000.0, "connect_timeout": 1000.0}


def limited(room: int = 2, **limits: Any) -> Plain:
    return Plain(Limits(**{"channels_per_message": 100, "channels_per_connection": room, **limits}))


def sharded(*channels: str, dialect: Plain | None = None, **options: Any) -> Rig:
    """Return a client with ``channels``, which are all confirmed."""
    rig = Rig(dialect or limited(), **{**SLOW, **options}).open()
    rig.subscribe(*channels)
    open_all(rig)
    return rig


def open_all(rig: Rig) -> None:
    """Let all attempts succeed, and all subscribes be confirmed."""
    for cid in rig.ids():
        connection = rig.supervisor.connections.by_id[cid]
        if not connection.has_opened:
            rig.opened(on=cid)
        names = [n for n in connection.slot.channels if connection.asked.requests.is_asked_for(n)]
        rig.ack(*names, on=cid)


def placed(rig: Rig) -> dict[str, list[str]]:
    """Return the channels of each slot."""
    return {named(key): list(slot.channels) for key, slot in rig.supervisor.fleet.slots.items()}


def states(rig: Rig) -> dict[str, SubscriptionState]:
    return {channel: state for channel, state, _ in rig.wanted()}


# --- Room ----------------------------------------------------------------------------------------


def test_channels_beyond_the_room_get_further_connections() -> None:
    rig = Rig(limited(), **SLOW).open()
    token = rig.subscribe("a", "b", "c", "d", "e")
    assert placed(rig) == {"": ["a", "b"], "/1": ["c", "d"], "/2": ["e"]}
    assert rig.in_slots() == {"": [1], "/1": [2], "/2": [3]}
    for cid in (2, 3):
        rig.opened(on=cid)
    rig.ack("a", "b", on=1)
    rig.ack("c", "d", on=2)
    assert rig.outcome(token) == "waiting"
    rig.ack("e", on=3)
    assert rig.outcome(token) is None
    assert [rig.asked(on=cid) for cid in (1, 2, 3)] == [
        [("subscribe", ["a", "b"])],
        [("subscribe", ["c", "d"])],
        [("subscribe", ["e"])],
    ]


def test_a_venue_without_a_limit_has_one_connection() -> None:
    rig = sharded(*"abcdefghij", dialect=Plain())
    assert rig.in_slots() == {"": [1]}


def test_room_that_is_given_back_is_used_again() -> None:
    rig = sharded("a", "b", "c")
    rig.unsubscribe("a")
    rig.ack("a", on=1)
    rig.subscribe("d")
    assert placed(rig) == {"": ["b", "d"], "/1": ["c"]}


def test_a_channel_that_is_being_unsubscribed_still_has_its_room() -> None:
    rig = sharded("a", "b")
    rig.unsubscribe("a")
    rig.subscribe("c")
    assert placed(rig) == {"": ["a", "b"], "/1": ["c"]}


def test_an_empty_further_connection_is_closed() -> None:
    rig = sharded("a", "b", "c")
    rig.unsubscribe("c")
    rig.ack("c", on=2)
    assert rig.done(Hangup) == [Hangup(2)]
    rig.drop(on=2)
    rig.tick()
    assert rig.in_slots() == {"": [1]}
    (ended,) = rig.emitted(Disconnected)
    assert (ended.reason, ended.connection_id) == ("rotated", 2)
    counters = rig.supervisor.counters
    assert (counters.disconnects, counters.rotations) == (0, 0)


def test_a_further_connection_that_is_not_open_yet_is_given_up_when_its_channels_leave() -> None:
    rig = Rig(limited(), **SLOW).open()
    rig.subscribe("a", "b", "c")
    rig.unsubscribe("c")
    assert rig.in_slots() == {"": [1]}
    assert rig.ids() == [1]
    assert sum(rig.supervisor.endings.attempt_failures.values()) == 0


def test_an_empty_first_connection_is_closed_as_well() -> None:
    rig = sharded("a", "b", "c")
    rig.unsubscribe("a", "b")
    rig.ack("a", "b", on=1)
    rig.drop(on=1)
    rig.tick()
    assert rig.in_slots() == {"/1": [2]}
    rig.subscribe("d")
    assert placed(rig) == {"/1": ["c", "d"]}


def test_one_connection_stays_when_all_channels_have_left_at_once() -> None:
    rig = sharded("a", "b", "c", "d", "e")
    rig.unsubscribe("a", "b", "c", "d", "e")
    for cid, names in ((1, "ab"), (2, "cd"), (3, "e")):
        rig.received(cid, [Ack(channel=name) for name in names], rig.now)
    rig.tick()
    assert [hangup.connection_id for hangup in rig.done(Hangup)] == [2, 3]
    rig.drop(on=2)
    rig.drop(on=3)
    rig.tick()
    assert rig.in_slots() == {"": [1]}
    assert rig.state is State.OPEN


def test_the_one_that_stays_is_open() -> None:
    rig = sharded("a", "b", "c")
    rig.drop(HandshakeRejected("503", 503), on=1)
    rig.unsubscribe("a", "b", "c")
    rig.ack("c", on=2)
    rig.tick()
    assert rig.in_slots() == {"/1": [2]}
    assert rig.state is State.OPEN


def test_a_channel_in_a_slot_without_a_connection_waits_there() -> None:
    rig = sharded("a", "b", "c")
    rig.drop(HandshakeRejected("503", 503), on=2)
    token = rig.subscribe("d")
    assert placed(rig)["/1"] == ["c", "d"]
    assert rig.outcome(token) == "waiting"
    rig.wait(2.0)
    open_all(rig)
    assert rig.outcome(token) is None


def test_a_further_connection_is_tried_on_and_on() -> None:
    """The limit of attempts is for the first connection of a client."""
    rig = Rig(limited(), max_retries=1, **SLOW).open()
    token = rig.subscribe("a", "b", "c")
    for _ in range(5):
        rig.drop(ConnectionRefusedError("refused"))
        rig.wait(60.0)
    assert rig.outcome(token) == "waiting"
    assert states(rig)["c"] is PENDING


# --- The venue's number of connections -----------------------------------------------------------


def test_channels_beyond_the_number_of_connections_are_refused_with_the_reason() -> None:
    rig = Rig(limited(connections=2), **SLOW).open()
    token = rig.subscribe(*"abcdef")
    open_all(rig)
    error = rig.outcome(token)
    assert isinstance(error, SubscriptionRejected)
    assert set(error.failed) == {"e", "f"}
    assert "2 connections" in error.failed["e"]
    assert set(states(rig)) == set("abcd")


def test_refused_channels_may_be_wanted_again_when_there_is_room() -> None:
    rig = Rig(limited(connections=1), **SLOW).open()
    rig.subscribe("a", "b", "c")
    rig.ack("a", "b")
    rig.unsubscribe("a")
    rig.ack("a")
    token = rig.subscribe("c", token="again")
    rig.ack("c")
    assert rig.outcome(token) is None


def test_a_rotation_waits_until_the_venue_allows_another_connection() -> None:
    rig = sharded("a", "b", "c", dialect=limited(connections=3))
    rig.rotate()
    assert rig.in_slots() == {"": [1, 3], "/1": [2]}
    rig.opened(on=3)
    rig.ack("a", "b", on=3)
    rig.wait(6.0)
    rig.drop(on=1)
    rig.tick()
    assert rig.in_slots() == {"": [3], "/1": [2, 4]}


def test_a_connection_that_drains_still_counts_at_the_venue() -> None:
    rig = sharded("a", "b", "c", dialect=limited(connections=3))
    rig.rotate()
    rig.opened(on=3)
    rig.ack("a", "b", on=3)
    rig.wait(5.2)
    assert rig.done(Hangup) == [Hangup(1)]
    assert rig.in_slots() == {"": [1, 3], "/1": [2]}


def test_a_rotation_that_finds_no_room_is_a_cut() -> None:
    rig = sharded("a", "b", "c", dialect=limited(connections=2))
    rig.rotate()
    assert {cut.connection_id for cut in rig.done(Cut)} == {1, 2}
    assert rig.in_slots() == {"": [3], "/1": [4]}


# --- A refusal for lack of room ------------------------------------------------------------------


def full(channel: str) -> Rejection:
    return Rejection("too many", channel=channel, is_limit=True)


def test_a_refusal_for_lack_of_room_moves_the_channel_and_lowers_the_limit() -> None:
    rig = Rig(limited(10), **SLOW).open()
    token = rig.subscribe("a", "b", "c", "d")
    rig.receive(Ack(channel="a"), Ack(channel="b"), full("c"), full("d"))
    assert placed(rig) == {"": ["a", "b"], "/1": ["c", "d"]}
    rig.subscribe("e")
    assert placed(rig)["/2"] == ["e"]
    open_all(rig)
    assert rig.outcome(token) is None
    assert set(states(rig).values()) == {ACTIVE}


def test_another_refusal_moves_nothing() -> None:
    rig = Rig(limited(10), **SLOW).open()
    token = rig.subscribe("a", "b")
    rig.receive(Ack(channel="a"), Rejection("unknown", channel="b"))
    assert isinstance(rig.outcome(token), SubscriptionRejected)
    assert rig.in_slots() == {"": [1]}


def test_a_connection_without_room_for_one_channel_refuses_it() -> None:
    """Another connection would have no room for it either."""
    rig = Rig(limited(10), **SLOW).open()
    token = rig.subscribe("a")
    rig.receive(full("a"))
    assert isinstance(rig.outcome(token), SubscriptionRejected)
    assert rig.in_slots() == {"": [1]}


def test_a_refusal_for_lack_of_room_where_no_other_connection_is_allowed() -> None:
    rig = Rig(limited(10, connections=1), **SLOW).open()
    token = rig.subscribe("a", "b")
    rig.receive(Ack(channel="a"), full("b"))
    error = rig.outcome(token)
    assert isinstance(error, SubscriptionRejected)
    assert list(error.failed) == ["b"]
    assert states(rig) == {"a": ACTIVE}


def test_a_channel_that_has_moved_may_be_unsubscribed() -> None:
    rig = Rig(limited(10), **SLOW).open()
    rig.subscribe("a", "b")
    rig.receive(Ack(channel="a"), full("b"))
    open_all(rig)
    token = rig.unsubscribe("b")
    assert rig.asked(on=2)[-1] == ("unsubscribe", ["b"])
    assert ("unsubscribe", ["b"]) not in rig.asked(on=1)
    rig.ack("b", on=2)
    assert rig.outcome(token) is None


def test_a_successor_with_less_room_gives_channels_away_without_a_loss() -> None:
    rig = sharded("a", "b", "c", dialect=limited(10))
    rig.data("c", 1, on=1)
    rig.rotate()
    rig.opened(on=2)
    rig.receive(Ack(channel="a"), Ack(channel="b"), full("c"), on=2)
    assert placed(rig) == {"": ["a", "b"], "/1": ["c"]}
    rig.opened(on=3)
    rig.ack("c", on=3)
    rig.data("c", 2, on=1)
    rig.data("c", 2, on=3)
    rig.wait(6.0)
    rig.drop(on=1)
    rig.data("c", 3, on=3)
    assert rig.got("c") == [1, 2, 3]
    assert rig.supervisor.wanted.carriers("c") == (3,)


# --- Cuts ----------------------------------------------------------------------------------------


def test_a_cut_concerns_only_the_channels_of_that_connection() -> None:
    rig = sharded("a", "b", "c", "d")
    for name, cid in (("a", 1), ("b", 1), ("c", 2), ("d", 2)):
        rig.texts(name, "first", on=cid)
    rig.drop(on=2)
    rig.tick()
    assert states(rig) == {"a": ACTIVE, "b": ACTIVE, "c": PENDING, "d": PENDING}
    assert rig.state is State.OPEN
    rig.opened()
    assert rig.asked() == [("subscribe", ["c", "d"])]
    rig.ack("c", "d")
    for name, cid in (("a", 1), ("b", 1), ("c", 3), ("d", 3)):
        rig.texts(name, "next", on=cid)
    assert rig.got("a") == rig.got("b") == ["first", "next"]
    assert rig.got("c") == rig.got("d") == ["first", "?reconnect", "next"]
    assert len(rig.asked(on=1)) == 1


def test_recovered_when_the_channels_of_all_connections_are_confirmed() -> None:
    rig = sharded("a", "b", "c")
    rig.drop(on=1)
    rig.drop(on=2)
    rig.wait(1.0)
    for cid in rig.ids():
        rig.opened(on=cid)
    rig.ack("a", "b", on=3)
    assert rig.emitted(Recovered) == []
    rig.ack("c", on=4)
    (recovered,) = rig.emitted(Recovered)
    assert recovered.channels == 3
    assert rig.supervisor.counters.reconnects == 2


def test_the_client_is_open_while_any_connection_is() -> None:
    rig = sharded("a", "b", "c", wants=lambda _: True)
    rig.drop(HandshakeRejected("503", 503), on=1)
    assert rig.state is State.OPEN
    rig.drop(HandshakeRejected("503", 503), on=2)
    assert rig.state is State.BACKING_OFF
    assert [after for _, after in rig.path()] == [
        State.CONNECTING,
        State.OPEN,
        State.BACKING_OFF,
    ]


def test_an_unreadable_frame_concerns_only_the_channels_of_its_connection() -> None:
    rig = sharded("a", "b", "c")
    rig.texts("a", "first", on=1)
    rig.texts("c", "first", on=2)
    rig.receive(Invalid("rubbish"), on=2)
    rig.texts("a", "next", on=1)
    rig.texts("c", "next", on=2)
    assert rig.got("a") == ["first", "next"]
    assert rig.got("c") == ["first", "?invalid", "next"]


def test_frames_are_counted_per_connection() -> None:
    rig = sharded("a", "b", "c")
    rig.receive(Counted(10), on=1)
    rig.receive(Counted(1), on=2)
    rig.receive(Counted(11), on=1)
    rig.receive(Counted(5), on=2)
    assert rig.pending_gap("a") is None
    assert rig.pending_gap("c") is not None


def test_a_rotation_of_one_connection_leaves_the_others_alone() -> None:
    rig = sharded("a", "b", "c")
    rig.supervisor.connections.by_id[2].lifetime.rotate(rig.now)
    rig.tick()
    assert rig.in_slots() == {"": [1], "/1": [2, 3]}
    rig.opened(on=3)
    assert rig.asked(on=3) == [("subscribe", ["c"])]


def test_an_unsubscribe_concerns_each_connection_with_its_channels() -> None:
    rig = sharded("a", "b", "c")
    token = rig.unsubscribe("a", "c")
    assert rig.asked(on=1)[-1] == ("unsubscribe", ["a"])
    assert rig.asked(on=2)[-1] == ("unsubscribe", ["c"])
    rig.ack("a", on=1)
    assert rig.outcome(token) == "waiting"
    rig.ack("c", on=2)
    assert rig.outcome(token) is None


# --- Limits per connection -----------------------------------------------------------------------


def test_messages_are_limited_per_connection() -> None:
    dialect = limited(3, channels_per_message=1, messages_per_second=2.0)
    rig = Rig(dialect, **SLOW).open()
    rig.subscribe(*"abcdef")
    rig.opened(on=2)
    assert len(rig.asked(on=1)) == len(rig.asked(on=2)) == 2
    rig.wait(1.0)
    assert len(rig.asked(on=1)) == len(rig.asked(on=2)) == 3


def test_a_caller_whose_connection_the_limit_holds_back_is_reported_once() -> None:
    rig = Rig(limited(1, connects=(2, 60.0)), **SLOW).open()
    rig.subscribe("a", "b")
    assert rig.emitted(Waiting) == []
    rig.subscribe("c", timeout=5.0)
    rig.wait(1.0)
    (waiting,) = rig.emitted(Waiting)
    assert (waiting.channels, waiting.state) == (("c",), "open")


def test_attempts_are_limited_per_address() -> None:
    rig = Rig(limited(1, connects=(2, 60.0)), **SLOW).open()
    rig.subscribe("a", "b", "c")
    assert rig.ids() == [1, 2]
    rig.wait(59.9)
    assert rig.ids() == [1, 2]
    rig.wait(0.2)
    assert rig.ids() == [1, 2, 3]


# --- Cost ----------------------------------------------------------------------------------------


def many(count: int) -> Rig:
    rig = Rig(limited(count // 10), **SLOW).open()
    rig.subscribe(*(f"x{n}" for n in range(count)))
    open_all(rig)
    rig.wait(HEALTHY_AFTER)
    rig.actions.clear()
    return rig


def subscribe_all(rig: Rig, count: int) -> None:
    rig.subscribe(*(f"x{n}" for n in range(count)))
    open_all(rig)


def recover_one(rig: Rig, count: int) -> None:
    rig.drop(on=rig.ids()[-1])
    rig.tick()
    open_all(rig)
    assert set(states(rig).values()) == {ACTIVE}


def recover_all(rig: Rig, count: int) -> None:
    for cid in rig.ids():
        rig.drop(on=cid)
    rig.tick()
    open_all(rig)
    assert set(states(rig).values()) == {ACTIVE}


def unsubscribe_all(rig: Rig, count: int) -> None:
    rig.unsubscribe(*(f"x{n}" for n in range(count)))
    for cid in rig.ids():
        rig.ack(*rig.supervisor.connections.by_id[cid].slot.channels, on=cid)
    assert not rig.wanted()


def rotate_all(rig: Rig, count: int) -> None:
    rig.rotate()
    open_all(rig)
    rig.wait(5.1)
    assert len(rig.done(Hangup)) == 10


@pytest.mark.skipif(sys.gettrace() is not None, reason="something else traces")
@pytest.mark.parametrize(
    "call", [subscribe_all, recover_one, recover_all, unsubscribe_all, rotate_all]
)
def test_the_cost_grows_as_the_channels_do(call: Any) -> None:
    """Ten connections with ten times as many channels: no step is quadratic."""

    def cost(count: int) -> int:
        rig = Rig(limited(count // 10), **SLOW).open() if call is subscribe_all else many(count)
        return steps(lambda: call(rig, count))

    few, more = cost(40), cost(400)
    assert more <= 12 * few
