"""Routes: channels that a venue serves at different addresses get a connection each."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from support.rig import Rig, Routed
from wsclient.dialect.values import Limits
from wsclient.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotConnected,
    SubscriptionRejected,
)
from wsclient.events import Closed, Disconnected, Failing, Recovered, Rejected, RouteFailed
from wsclient.messages import SubscriptionState
from wsclient.sansio.actions import Dial, Hangup
from wsclient.sansio.backoff import Budget
from wsclient.sansio.life import State
from wsclient.sansio.outages import FAILING_AFTER
from wsclient.sansio.wantedtable import ChannelRoute
from wsclient.stream.items import Ack, LoginRefused

ACTIVE = SubscriptionState.ACTIVE
PENDING = SubscriptionState.PENDING
SLOW = {"ack_timeout": 1000.0, "connect_timeout": 1000.0}
DENIED = HandshakeRejected("401", 401)


def routed(**options: Any) -> Rig:
    return Rig(Routed(Limits(channels_per_message=10)), **{**SLOW, **options})


def connect(rig: Rig, route: str = "spot") -> Rig:
    """Connect to the default route."""
    rig.supervisor.connect("connect", float("inf"), rig.now, route)
    rig.tokens.add("connect")
    rig.tick()
    return rig


def two(**options: Any) -> Rig:
    """Return a client with a confirmed channel on each of two routes: connections 1 and 2."""
    rig = connect(routed(**options))
    rig.opened(on=1)
    rig.subscribe("spot:a")
    rig.ack("a", on=1)
    rig.subscribe("linear:a")
    rig.opened(on=2)
    rig.ack("a", on=2)
    return rig


def connect_route(rig: Rig, route: str, timeout: float = float("inf")) -> str:
    token = f"route {route}"
    rig.supervisor.connect_route(token, rig.now + timeout, rig.now, route)
    rig.tokens.add(token)
    rig.tick()
    return token


def state(rig: Rig, channel: str) -> SubscriptionState | None:
    return rig.supervisor.wanted.state(channel)


# --- Which connections there are -----------------------------------------------------------------


def test_without_channels_the_default_route_is_opened() -> None:
    rig = connect(routed())
    assert rig.done(Dial) == [Dial(1, "spot")]
    rig.opened()
    assert rig.outcome("connect") is None


def test_each_route_has_a_connection() -> None:
    rig = two()
    assert rig.in_slots() == {"spot": [1], "linear": [2]}
    assert rig.done(Dial) == [Dial(1, "spot"), Dial(2, "linear")]


def test_one_call_may_name_channels_of_several_routes() -> None:
    rig = connect(routed())
    rig.opened(on=1)
    token = rig.subscribe("spot:a", "linear:a", "linear:b", "inverse:c")
    assert rig.in_slots() == {"spot": [1], "linear": [2], "inverse": [3]}
    for cid, names in ((1, "a"), (2, "ab"), (3, "c")):
        if cid > 1:
            rig.opened(on=cid)
        assert rig.asked(on=cid) == [("subscribe", list(names))]
        rig.ack(*names, on=cid)
    assert rig.outcome(token) is None


def test_the_default_route_is_left_once_another_one_is_used() -> None:
    rig = connect(routed())
    rig.opened(on=1)
    rig.subscribe("linear:a")
    assert rig.done(Hangup) == [Hangup(1)]
    rig.drop(on=1)
    rig.tick()
    assert rig.in_slots() == {"linear": [2]}
    (ended,) = rig.emitted(Disconnected)
    assert ended.reason == "rotated"
    assert rig.supervisor.counters.disconnects == 0


def test_the_default_route_is_kept_while_a_caller_waits_for_it() -> None:
    rig = connect(routed())
    rig.subscribe("linear:a")
    assert rig.in_slots() == {"spot": [1], "linear": [2]}
    rig.opened(on=1)
    assert rig.outcome("connect") is None
    rig.drop(on=1)
    rig.tick()
    assert rig.in_slots() == {"linear": [2]}


def test_a_route_without_channels_is_left() -> None:
    rig = two()
    rig.unsubscribe("linear:a")
    rig.ack("a", on=2)
    assert rig.done(Hangup) == [Hangup(2)]


def test_one_route_is_kept_though_it_has_no_channels() -> None:
    rig = two()
    rig.unsubscribe("linear:a", "spot:a")
    rig.received(1, [Ack(channel="a")], rig.now)
    rig.received(2, [Ack(channel="a")], rig.now)
    rig.tick()
    assert rig.done(Hangup) == [Hangup(2)]
    assert rig.state is State.OPEN


def test_a_caller_may_open_a_route_which_is_then_kept() -> None:
    rig = two()
    token = connect_route(rig, "private")
    assert rig.done(Dial)[-1] == Dial(3, "private")
    assert rig.outcome(token) == "waiting"
    rig.opened(on=3)
    assert rig.outcome(token) is None
    rig.wait(100.0)
    assert rig.in_slots()["private"] == [3]
    assert rig.supervisor.open_connection("private").id == 3


def test_a_route_that_is_open_is_there_at_once() -> None:
    rig = two()
    assert rig.outcome(connect_route(rig, "linear")) is None


def test_a_caller_who_opens_a_route_may_lose_patience() -> None:
    rig = two()
    token = connect_route(rig, "private", timeout=5.0)
    rig.wait(5.0)
    assert isinstance(rig.outcome(token), ConnectTimeout)
    assert rig.in_slots() == {"spot": [1], "linear": [2]}, "nobody needs it any more"


def test_a_message_of_a_caller_needs_an_open_connection_of_its_route() -> None:
    rig = two()
    assert rig.supervisor.open_connection("linear").id == 2
    assert rig.supervisor.open_connection("spot").id == 1
    with pytest.raises(NotConnected, match="the route 'private' has no open connection"):
        rig.supervisor.open_connection("private")


def test_connect_is_answered_while_any_route_is_open() -> None:
    rig = two()
    rig.drop(DENIED, on=1)
    rig.connect("again")
    assert rig.outcome("again") is None


def test_the_room_may_differ_by_route() -> None:
    rig = Rig(Routed(Limits(channels_per_message=10), {"spot": 1}), **SLOW)
    connect(rig).opened(on=1)
    rig.subscribe("spot:a", "spot:b", "linear:a", "linear:b")
    assert rig.in_slots() == {"spot": [1], "spot/1": [2], "linear": [3]}


def test_a_rotation_replaces_the_connections_of_all_routes() -> None:
    rig = two()
    rig.rotate()
    assert rig.in_slots() == {"spot": [1, 3], "linear": [2, 4]}
    for cid in (3, 4):
        rig.opened(on=cid)
        rig.ack("a", on=cid)
    rig.wait(5.1)
    assert {hangup.connection_id for hangup in rig.done(Hangup)} == {1, 2}
    rig.drop(on=1)
    assert rig.outcome("rotate") == "waiting"
    rig.drop(on=2)
    rig.tick()
    assert rig.outcome("rotate") is None
    assert rig.supervisor.counters.rotations == 2


# --- Names ---------------------------------------------------------------------------------------


def test_channels_of_two_routes_may_have_one_name_at_the_venue() -> None:
    rig = two()
    rig.data("a", 5, on=1)
    rig.data("a", 9, on=2)
    assert rig.got("spot:a") == [5]
    assert rig.got("linear:a") == [9]


def test_the_venue_is_asked_by_its_own_names() -> None:
    rig = two()
    rig.unsubscribe("linear:a")
    assert rig.asked(on=2) == [("subscribe", ["a"]), ("unsubscribe", ["a"])]


def test_an_alias_is_that_of_one_connection() -> None:
    rig = connect(routed())
    rig.opened(on=1)
    rig.subscribe("spot:a", "linear:b")
    rig.opened(on=2)
    rig.receive(Ack(channel="a", alias="7"), on=1)
    rig.receive(Ack(channel="b", alias="7"), on=2)
    rig.data("7", 1, on=1)
    rig.data("7", 5, on=2)
    assert (rig.got("spot:a"), rig.got("linear:b")) == ([1], [5])
    rig.unsubscribe("linear:b")
    assert rig.asked(on=2)[-1] == ("unsubscribe", ["7"])


def test_after_a_reconnect_the_venue_is_asked_by_its_own_names() -> None:
    rig = two()
    rig.drop(on=2)
    rig.wait(1.0)
    rig.opened()
    assert rig.asked() == [("subscribe", ["a"])]
    rig.ack("a")
    assert state(rig, "linear:a") is ACTIVE


def test_two_channels_with_one_name_at_the_venue_cannot_be_told_apart() -> None:
    rig = connect(Rig(**SLOW), "")
    rig.opened()
    ways = {name: ChannelRoute("", "x") for name in ("first", "second")}
    rig.supervisor.subscribe(["first"], {}, "one", rig.now + 99.0, ways)
    rig.supervisor.subscribe(["second"], {}, "other", rig.now + 99.0, ways)
    rig.tick()
    error = rig.outcome("other")
    assert isinstance(error, SubscriptionRejected)
    assert error.failed == {"second": "it is the same channel as 'first'"}
    rig.ack("x")
    assert rig.outcome("one") is None


def test_the_name_is_free_when_its_channel_has_left() -> None:
    rig = connect(Rig(**SLOW), "")
    rig.opened()
    ways = {name: ChannelRoute("", "x") for name in ("first", "second")}
    rig.supervisor.subscribe(["first"], {}, "one", rig.now + 99.0, ways)
    rig.tick()
    rig.ack("x")
    rig.unsubscribe("first")
    rig.ack("x")
    rig.supervisor.subscribe(["second"], {}, "other", rig.now + 99.0, ways)
    rig.tick()
    rig.ack("x")
    assert rig.outcome("other") is None
    rig.data("x", 1)
    assert rig.got("second") == [1]


def test_what_cannot_be_routed_is_refused_with_the_reason() -> None:
    rig = connect(routed())
    rig.opened()
    ways = {
        "odd": ChannelRoute("", "odd", "no route carries it"),
        "spot:a": ChannelRoute("spot", "a"),
    }
    rig.supervisor.subscribe(["odd", "spot:a"], {}, "call", rig.now + 99.0, ways)
    rig.tick()
    rig.ack("a")
    error = rig.outcome("call")
    assert isinstance(error, SubscriptionRejected)
    assert error.failed == {"odd": "no route carries it"}
    assert state(rig, "spot:a") is ACTIVE


# --- A route that fails --------------------------------------------------------------------------


def test_a_fatal_end_fails_only_the_channels_of_that_route() -> None:
    rig = two(wants=lambda _: True)
    token = rig.subscribe("private:orders")
    rig.drop(DENIED, on=3)
    rig.tick()
    error = rig.outcome(token)
    assert isinstance(error, SubscriptionRejected)
    assert "401" in error.failed["private:orders"]
    (failed,) = rig.emitted(RouteFailed)
    assert failed.route == "private"
    assert "401" in failed.why
    assert state(rig, "private:orders") is None
    assert state(rig, "spot:a") is state(rig, "linear:a") is ACTIVE
    assert rig.state is State.OPEN
    assert rig.in_slots() == {"spot": [1], "linear": [2]}


def test_channels_that_were_active_on_a_route_that_fails_are_lost() -> None:
    rig = two()
    rig.data("a", 1, on=2)
    rig.drop(on=2)
    rig.wait(1.0)
    rig.drop(DENIED)
    assert rig.got("linear:a")[-1] == "lost"
    (rejected,) = rig.emitted(Rejected)
    assert (rejected.channel, rejected.is_lost) == ("linear:a", True)
    assert rig.supervisor.counters.channels_lost == 1


def test_a_refused_login_fails_only_its_route() -> None:
    rig = two()
    token = rig.subscribe("private:orders")
    rig.opened({"op": "login"}, on=3)
    rig.receive(LoginRefused("expired"), on=3)
    assert isinstance(rig.outcome(token), SubscriptionRejected)
    assert rig.state is State.OPEN


def test_a_caller_who_opens_a_route_gets_the_error_with_which_it_fails() -> None:
    rig = two()
    token = connect_route(rig, "private")
    rig.opened({"op": "login"}, on=3)
    rig.receive(LoginRefused("expired"), on=3)
    assert isinstance(rig.outcome(token), AuthenticationError)
    assert "private" not in rig.in_slots()


def test_the_client_fails_when_its_last_route_does() -> None:
    rig = two()
    rig.drop(DENIED, on=1)
    assert rig.state is State.OPEN
    rig.drop(DENIED, on=2)
    assert rig.state is State.FAILED
    (closed,) = rig.emitted(Closed)
    assert isinstance(closed.error, ConnectError)


def test_a_later_subscribe_tries_a_failed_route_again() -> None:
    rig = two()
    rig.drop(DENIED, on=2)
    rig.tick()
    token = rig.subscribe("linear:a", token="again")
    rig.opened(on=3)
    rig.ack("a", on=3)
    assert rig.outcome(token) is None
    rig.data("a", 1, on=3)
    assert rig.got("linear:a")[-1] == 1


def test_recovered_does_not_wait_for_the_channels_of_a_route_that_has_failed() -> None:
    rig = two()
    rig.drop(on=2)
    rig.wait(1.0)
    rig.drop(DENIED)
    rig.tick()
    assert len(rig.emitted(Recovered)) == 1


def test_a_first_connect_that_fails_leaves_the_routes_that_work() -> None:
    rig = connect(routed(max_retries=1))
    rig.subscribe("linear:a")
    rig.opened(on=2)
    rig.ack("a", on=2)
    rig.drop(ConnectionRefusedError("refused"), on=1)
    rig.tick()
    assert isinstance(rig.outcome("connect"), ConnectError)
    assert rig.state is State.OPEN
    assert state(rig, "linear:a") is ACTIVE


def test_close_ends_the_connections_of_all_routes() -> None:
    rig = two()
    rig.subscribe("private:orders")
    rig.close()
    assert rig.ids() == []


def test_a_failure_of_the_client_reaches_the_callers_of_all_routes() -> None:
    rig = two()
    tokens = [rig.subscribe("private:orders"), connect_route(rig, "inverse")]
    rig.supervisor.fail(ConnectionLost("a bug"))
    assert all(isinstance(rig.outcome(token), ConnectionLost) for token in tokens)


# --- A slot by itself ----------------------------------------------------------------------------


def test_a_dead_route_delays_no_other() -> None:
    rig = two(retry_delay=10.0, max_retry_delay=100.0)
    for _ in range(4):
        rig.drop(ConnectionRefusedError("refused"), on=rig.in_slots()["linear"][0])
        while not rig.in_slots()["linear"]:
            rig.wait(10.0)
    since = rig.now
    rig.drop(on=1)
    rig.wait(0.0)
    assert rig.in_slots()["spot"], "it was healthy, so the next attempt follows at once"
    assert rig.now == since


def test_a_retry_after_is_that_of_one_slot() -> None:
    rig = two()
    error = HandshakeRejected("429", 429)
    error.retry_after = 500.0
    rig.drop(error, on=2)
    rig.drop(on=1)
    rig.wait(2.0)
    assert rig.in_slots() == {"spot": [3], "linear": []}
    rig.wait(498.0)
    assert rig.in_slots()["linear"] == [4]


def test_attempts_at_one_address_share_a_budget() -> None:
    shared = Budget(2, 60.0)
    rig = routed(connects=lambda route: shared)
    connect(rig)
    rig.subscribe("linear:a", "inverse:a")
    assert rig.ids() == [1, 2]
    rig.wait(60.0)
    assert rig.ids() == [1, 2, 3]


def test_attempts_at_different_addresses_do_not() -> None:
    budgets: dict[str, Budget] = defaultdict(lambda: Budget(1, 60.0))
    rig = routed(connects=budgets.__getitem__)
    connect(rig)
    rig.subscribe("linear:a", "inverse:a")
    assert rig.ids() == [1, 2, 3]


def test_the_failure_of_one_slot_is_reported_with_its_address() -> None:
    rig = two()
    rig.drop(ConnectionRefusedError("refused"), on=2)
    for _ in range(20):
        rig.wait(3.0)
        rig.data("a", on=1)
        for cid in rig.in_slots()["linear"]:
            rig.drop(ConnectionRefusedError("refused"), on=cid)
    (failing,) = rig.emitted(Failing)
    assert failing.seconds >= FAILING_AFTER
    assert "refused" in failing.why


def test_a_channel_waits_for_its_own_route_only() -> None:
    rig = two()
    rig.drop(on=1)
    token = rig.subscribe("linear:b")
    rig.ack("b", on=2)
    assert rig.outcome(token) is None
    assert state(rig, "spot:a") is PENDING


def test_a_cut_of_one_route_marks_only_its_channels() -> None:
    rig = two()
    rig.texts("a", "first", on=1)
    rig.texts("a", "first", on=2)
    rig.drop(on=2)
    rig.wait(1.0)
    rig.opened()
    rig.ack("a")
    rig.texts("a", "next", on=1)
    rig.texts("a", "next", on=3)
    assert rig.got("spot:a") == ["first", "next"]
    assert rig.got("linear:a") == ["first", "?reconnect", "next"]
