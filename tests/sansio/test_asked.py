"""Wanted channels, requests and answers: which calls are settled, and what is sent."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from support.rig import INF, Plain
from wsclient.dialect.values import Limits
from wsclient.errors import (
    ConfigurationError,
    SubscriptionError,
    SubscriptionRejected,
    SubscriptionTimeout,
)
from wsclient.messages import SubscriptionState
from wsclient.sansio.asked import Asked
from wsclient.sansio.stops import Stops
from wsclient.sansio.unanswered import Request
from wsclient.sansio.wanted import Wanted
from wsclient.sansio.wantedtable import WantedChannel
from wsclient.stream.items import Ack, Ended, Rejection

PENDING = SubscriptionState.PENDING
ACTIVE = SubscriptionState.ACTIVE
UNSUBSCRIBING = SubscriptionState.UNSUBSCRIBING

ACK_TIMEOUT = 20.0


class Desk:
    """The requests of one connection after the other, and the outcome of each call."""

    def __init__(self, limits: Limits | None = None, **attributes: Any) -> None:
        self._dialect = Plain(limits, **attributes)
        self._ids = itertools.count(1)
        self.stops = Stops()
        self._wanted = Wanted(self)
        self._id = 0
        self._asked = self._new_asked()
        self.now = 0.0
        self.outcomes: dict[Any, Any] = {}
        self.losses: list[tuple[str, str]] = []
        self.refusals: list[str] = []
        self.removals: list[str] = []
        self.leavings: list[tuple[str, str]] = []
        self.misses: list[str] = []
        self.stops_of: dict[str, str] = {}
        self.keeps: list[str] = []
        self._confirmed: list[str] = []
        self.out: list[Request] = []

    def _new_asked(self) -> Asked:
        self._id += 1
        args = (self._dialect, self._wanted, self, self._ids, ACK_TIMEOUT, self.stops)
        return Asked(self._id, *args)

    # Outcomes.

    def settled(self, token: Any, error: SubscriptionError | None) -> None:
        assert token not in self.outcomes, f"{token!r} settled twice"
        self.outcomes[token] = error

    def confirmed(self, channels: Sequence[str], now: float) -> None:
        self._confirmed += channels

    def lost(self, channel: str, reason: str) -> None:
        self.losses.append((channel, reason))

    def refused(self, channel: str, reason: str) -> None:
        self.refusals.append(channel)

    def missing(self, channel: str, connection_id: int) -> None:
        self.misses.append(channel)

    def stopped(self, channel: str, reason: str, connection_id: int) -> None:
        self.stops_of[channel] = reason

    def left(self, channel: str, reason: str) -> None:
        self.leavings.append((channel, reason))

    def kept(self, channel: str) -> None:
        self.keeps.append(channel)

    def removed(self, entry: WantedChannel) -> None:
        self.removals.append(entry.channel)
        self._asked.forget(entry.channel)

    def again(self, entry: WantedChannel, connection_id: int) -> None:
        pass

    def freed(self, entry: WantedChannel) -> None:
        pass

    def renewed(self, entry: WantedChannel) -> None:
        self._asked.subscribe([entry])

    def is_asked_beside(self, entry: WantedChannel, connection_id: int) -> bool:
        return False

    def declined(self, channel: str, connection_id: int) -> None:
        raise AssertionError("no other connection carries it")

    def joined(self, channel: str, connection_id: int) -> None:
        raise AssertionError("another connection carries it already")

    def crowded(self, entry: WantedChannel, connection_id: int) -> bool:
        return False

    # Callers, and the connection.

    def subscribe(
        self, *channels: str, token: Any = "sub", deadline: float = INF, **options: Any
    ) -> Desk:
        _, new = self._wanted.subscribe(channels, options, token, deadline)
        self._asked.subscribe(self._wanted.among(new))
        return self.check()

    def unsubscribe(self, *channels: str, token: Any = "unsub", deadline: float = INF) -> Desk:
        self._asked.unsubscribe(self._wanted.unsubscribe(channels, token, deadline))
        return self.check()

    def send(self) -> list[tuple[str, list[str]]]:
        """Send all unsent requests; return them."""
        sent = []
        while unsent := self.unsent():
            (request,) = unsent
            if request.id is None:
                batches = self._dialect.batches(list(request.channels))
                self.split(unsent, [batches])
                continue
            what = "subscribe" if request.subscribe else "unsubscribe"
            sent.append((what, list(request.channels)))
            assert self.send_one() is request
        self.check()
        return sent

    def send_one(self) -> Request:
        request = self._asked.send(self.now)
        self.out.append(request)
        return request

    def unsent(self, most: int = 1) -> list[Request]:
        return self._asked.requests.unsent.first(most)

    def split(self, requests: list[Request], batches: list[list[list[str]]]) -> None:
        self._asked.requests.split(requests, batches)

    def refuse(self, request: Request, names: Sequence[str], reason: str) -> None:
        self._asked.refuse(request, names, reason)

    def subscribed_by(self, channel: str) -> int:
        return self._asked.subscribed_by(channel)

    def refresh(self, channel: str) -> None:
        self._asked.refresh(channel)

    def ask_again(self, *channels: str) -> list[tuple[str, list[str]]]:
        self._asked.ask_again(channels)
        return self.send()

    def _confirms(self, answer: Callable[[], object]) -> list[str]:
        """Return the channels that ``answer()`` has confirmed."""
        self._confirmed = []
        answer()
        self.check()
        return self._confirmed

    def ack(self, channel: str | None = None, **fields: Any) -> list[str]:
        answer = Ack(channel=channel, **fields)
        return self._confirms(lambda: self._asked.acknowledged(answer, self.now))

    def subscribed(self, channels: list[str]) -> list[str]:
        return self._confirms(lambda: self._asked.subscribed(channels, self.now))

    def data(self, channel: str) -> bool:
        return self._confirms(lambda: self._asked.data(channel, self.now)) == [channel]

    def reject(self, channel: str | None = None, reason: str = "no", **fields: Any) -> bool:
        """Return whether the refusal had a request, or ended a channel."""
        has_matched = self._asked.rejected(Rejection(reason, channel=channel, **fields), self.now)
        self.check()
        return has_matched

    def rejected(self, rejection: Rejection) -> list[str]:
        return self._confirms(lambda: self._asked.rejected(rejection, self.now))

    def ended(self, answer: Ended) -> bool:
        return self._asked.ended(answer)

    def active(self, *channels: str, **options: Any) -> Desk:
        self.subscribe(*channels, token=object(), **options).send()
        for channel in channels:
            assert self.ack(channel) == [channel]
        return self

    def wait(self, seconds: float) -> Desk:
        self.now += seconds
        self._wanted.expire(self.now)
        self._asked.expire(self.now)
        return self.check()

    def deadline(self) -> float:
        return min(self._wanted.calls.deadline(), self._asked.requests.deadline())

    def connection_ended(self, why: str) -> None:
        self._asked.connection_ended(self.wanted, self.now, why)

    def drop(self) -> Desk:
        self._wanted.connection_lost(self._wanted, self._id)
        self._asked = self._new_asked()
        return self.check()

    def reopen(self) -> None:
        """Open a connection, on which all wanted channels are asked for."""
        self._asked = self._new_asked()
        known = [entry for entry in self._wanted if entry.was_active]
        self._asked.subscribe([*known, *(e for e in self._wanted if not e.was_active)])

    def restore(self) -> list[tuple[str, list[str]]]:
        self.reopen()
        return self.send()

    def fail_all(self) -> list[Any]:
        return self._wanted.fail_all()

    # The state.

    def check(self) -> Desk:
        states = [entry.state for entry in self._wanted]
        assert self.all_confirmed == (PENDING not in states)
        return self

    @property
    def all_confirmed(self) -> bool:
        return self._wanted.all_confirmed

    @property
    def is_suspect(self) -> bool:
        return self._asked.settling.suspect is not None

    @property
    def has_unsent(self) -> bool:
        return bool(self.unsent())

    def __len__(self) -> int:
        return len(self._wanted)

    def among(self, channels: list[str]) -> list[tuple[str, SubscriptionState, Any]]:
        return [(e.channel, e.state, e.options) for e in self._wanted.among(channels)]

    def listed(self) -> list[tuple[str, SubscriptionState, Any]]:
        return [(e.channel, e.state, e.options) for e in self._wanted]

    def state(self, channel: str) -> SubscriptionState | None:
        return self._wanted.state(channel)

    @property
    def wanted(self) -> list[str]:
        return [entry.channel for entry in self._wanted]


# --- subscribe -----------------------------------------------------------------------------------


def test_a_channel_is_pending_until_it_is_acknowledged() -> None:
    desk = Desk().subscribe("a")
    assert desk.send() == [("subscribe", ["a"])]
    assert desk.state("a") is PENDING
    assert desk.outcomes == {}
    assert desk.ack("a") == ["a"]
    assert desk.state("a") is ACTIVE
    assert desk.outcomes == {"sub": None}


def test_a_call_ends_when_each_of_its_channels_is_decided() -> None:
    desk = Desk().subscribe("a", "b")
    desk.send()
    desk.ack("a")
    assert desk.outcomes == {}
    desk.ack("b")
    assert desk.outcomes == {"sub": None}


def test_some_channels_may_fail_and_the_others_stay() -> None:
    desk = Desk().subscribe("a", "b", "c")
    desk.send()
    desk.ack("a")
    desk.reject("b", "unknown")
    desk.reject("c", "no right to it")
    error = desk.outcomes["sub"]
    assert isinstance(error, SubscriptionRejected)
    assert error.failed == {"b": "unknown", "c": "no right to it"}
    assert str(error) == "'b': unknown; 'c': no right to it"
    assert desk.wanted == ["a"]


def test_a_refusal_and_a_timeout_together_are_a_refusal() -> None:
    desk = Desk().subscribe("a", "b")
    desk.send()
    desk.reject("a", "unknown")
    desk.wait(ACK_TIMEOUT)
    error = desk.outcomes["sub"]
    assert isinstance(error, SubscriptionRejected)
    assert error.failed == {"a": "unknown", "b": "no answer within 20 s"}
    assert desk.refusals == desk.removals == ["a", "b"]


def test_a_call_without_channels_ends_at_once() -> None:
    desk = Desk().subscribe()
    assert desk.outcomes == {"sub": None}
    assert desk.send() == []


def test_a_channel_named_twice_is_requested_once() -> None:
    desk = Desk().subscribe("a", "a")
    assert desk.send() == [("subscribe", ["a"])]


def test_an_active_channel_is_not_requested_again() -> None:
    desk = Desk().active("a")
    desk.subscribe("a")
    assert desk.outcomes["sub"] is None
    assert desk.send() == []


def test_a_pending_channel_is_requested_once_for_all_calls() -> None:
    desk = Desk().subscribe("a", token="one").subscribe("a", token="two")
    assert desk.send() == [("subscribe", ["a"])]
    desk.ack("a")
    assert desk.outcomes == {"one": None, "two": None}


def test_other_options_for_the_same_channel_are_an_error() -> None:
    desk = Desk().active("a", depth=10)
    with pytest.raises(ConfigurationError, match="other values of depth"):
        desk.subscribe("new", "a", depth=5)
    assert desk.wanted == ["a"]
    assert desk.send() == []


def test_options_are_sent_with_the_request_and_kept() -> None:
    desk = Desk().active("a", depth=10)
    desk.unsubscribe("a").send()
    assert [r.options for r in desk.out] == [{"depth": 10}, {"depth": 10}]


def test_channels_are_sent_in_batches_of_the_allowed_size() -> None:
    desk = Desk(Limits(channels_per_message=2)).subscribe("a", "b", "c", "d", "e")
    assert [channels for _, channels in desk.send()] == [["a", "b"], ["c", "d"], ["e"]]


# --- answers -------------------------------------------------------------------------------------


def both_asked(**attributes: Any) -> Desk:
    """Return a desk with two outstanding requests, the older one for two channels."""
    desk = Desk(Limits(channels_per_message=2), **attributes)
    desk.subscribe("x:A", "x:B", token="first").subscribe("x:C", token="second")
    assert desk.send() == [("subscribe", ["x:A", "x:B"]), ("subscribe", ["x:C"])]
    return desk


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"request_id": 1}, ["x:A", "x:B"]),
        ({"request_id": "1"}, ["x:A", "x:B"]),
        ({"request_id": 2}, ["x:C"]),
        ({"request_id": "2"}, ["x:C"]),
        ({"request_id": 1, "channel": "x:B"}, ["x:B"]),
        ({"request_id": 1, "symbol": "B"}, ["x:B"]),
        ({"channel": "x:B"}, ["x:B"]),
        ({"channel": "x:C"}, ["x:C"]),
        ({"symbol": "C"}, ["x:C"]),
        ({}, ["x:A", "x:B"]),
        ({"request_id": 3}, []),
        ({"request_id": 2, "channel": "x:A"}, []),
        ({"channel": "x:D"}, []),
        ({"symbol": "D"}, []),
        ({"symbol": ":C"}, []),
    ],
)
def test_an_answer_is_matched(fields: dict[str, Any], meant: list[str]) -> None:
    """By id of any type, with or without a channel; by channel or symbol; or the oldest."""
    assert sorted(both_asked().ack(**fields)) == meant
    refusing = both_asked()
    assert refusing.reject(**fields) == bool(meant)
    assert [c for c in ("x:A", "x:B", "x:C") if c not in refusing.wanted] == meant


def test_an_answer_by_channel_belongs_to_its_oldest_request() -> None:
    desk = Desk().active("a")
    desk.unsubscribe("a").subscribe("a").send()
    assert desk.ack("a") == []
    assert desk.send() == [("subscribe", ["a"])]
    assert desk.ack("a") == ["a"]


def test_an_answer_without_a_name_belongs_to_the_oldest_outstanding_request() -> None:
    desk = both_asked()
    desk.ack()
    assert desk.ack() == ["x:C"]
    assert desk.ack() == []


def test_a_repeated_answer_confirms_once() -> None:
    desk = Desk().subscribe("a")
    desk.send()
    assert desk.ack("a") == ["a"]
    assert desk.ack("a") == []
    assert desk.state("a") is ACTIVE


def test_a_request_not_yet_sent_has_no_answer() -> None:
    desk = Desk().subscribe("a")
    assert desk.ack("a") == []
    assert desk.state("a") is PENDING


def test_a_cumulative_answer_confirms_what_it_lists_in_any_order() -> None:
    desk = both_asked()
    assert sorted(desk.subscribed(["x:C", "other", "x:A"])) == ["x:A", "x:C"]
    assert desk.outcomes == {"second": None}
    assert desk.state("x:B") is PENDING


def test_a_cumulative_answer_ends_the_unsubscribes_of_what_it_does_not_list() -> None:
    desk = Desk().active("a", "b")
    desk.unsubscribe("a", token="a").unsubscribe("b", token="b").send()
    assert desk.subscribed(["b"]) == []
    assert desk.outcomes["a"] is None
    assert "b" not in desk.outcomes
    assert desk.wanted == ["b"]


def test_first_data_confirms_if_the_venue_never_acknowledges() -> None:
    desk = both_asked(acknowledges=False)
    assert desk.data("x:B")
    assert not desk.data("x:B")
    assert not desk.data("other")
    assert desk.state("x:B") is ACTIVE
    assert desk.state("x:A") is PENDING


def test_data_confirms_a_channel_again_however_late_it_arrives() -> None:
    desk = Desk(acknowledges=False).subscribe("a")
    desk.send()
    assert desk.data("a")
    desk.drop().restore()
    desk.wait(2 * ACK_TIMEOUT)
    assert desk.state("a") is PENDING
    desk.subscribe("a", token="waits")
    assert desk.data("a")
    assert not desk.data("a"), "once"
    assert (desk.state("a"), desk.outcomes["waits"]) == (ACTIVE, None)


def test_data_of_an_old_subscription_does_not_confirm_a_new_one() -> None:
    desk = Desk(acknowledges=False).subscribe("a")
    desk.send()
    assert desk.data("a")
    desk.refresh("a")
    assert not desk.data("a")
    desk.send()
    assert desk.data("a")


def test_data_confirms_nothing_if_the_venue_acknowledges() -> None:
    desk = both_asked()
    assert not desk.data("x:B")
    assert desk.state("x:B") is PENDING


def test_an_unsubscribe_that_is_never_acknowledged_still_names_its_channel() -> None:
    desk = Desk(acknowledges=False).subscribe("a")
    desk.send()
    desk.data("a")
    desk.unsubscribe("a")
    assert desk.send() == [("unsubscribe", ["a"])]
    assert desk.outcomes["unsub"] is None
    assert desk.wanted == []


def test_a_refusal_that_answers_no_request_returns_false() -> None:
    assert not Desk().active("a").reject("b")


# --- unsubscribe ---------------------------------------------------------------------------------


def test_what_a_late_answer_has_confirmed_is_unsubscribed_at_the_venue() -> None:
    """The venue answers an unsubscribe before the subscribe that was sent earlier."""
    desk = Desk().subscribe("a")
    desk.send()
    desk.unsubscribe("a", token="left").send()
    desk.subscribe("a", token="again")
    late, gone = desk.out
    desk.ack("a", request_id=gone.id)
    desk.ack("a", request_id=late.id)
    assert (desk.state("a"), desk.outcomes["again"]) == (ACTIVE, None)
    assert desk.subscribed_by("a") == late.id
    desk.unsubscribe("a", token="left again")
    assert desk.send() == [("unsubscribe", ["a"])]


def test_a_channel_is_wanted_until_its_unsubscribe_is_answered() -> None:
    desk = Desk().active("a").unsubscribe("a")
    assert desk.send() == [("unsubscribe", ["a"])]
    assert desk.state("a") is UNSUBSCRIBING
    assert desk.outcomes.get("unsub", "waiting") == "waiting"
    desk.ack("a")
    assert desk.outcomes["unsub"] is None
    assert (desk.wanted, desk.removals) == ([], ["a"])


def test_an_unsubscribe_of_an_unknown_channel_succeeds() -> None:
    desk = Desk().unsubscribe("a")
    assert desk.outcomes == {"unsub": None}
    assert desk.send() == []


def test_an_unsubscribe_cancels_an_unsent_subscribe() -> None:
    desk = Desk().subscribe("a", "b").unsubscribe("a")
    assert desk.outcomes["unsub"] is None
    assert desk.send() == [("subscribe", ["b"])]
    desk.ack("b")
    error = desk.outcomes["sub"]
    assert isinstance(error, SubscriptionRejected)
    assert error.failed == {"a": "unsubscribed before it was acknowledged"}


def test_an_unsubscribe_of_an_outstanding_subscribe_follows_it() -> None:
    desk = Desk().subscribe("a")
    desk.send()
    desk.unsubscribe("a")
    assert isinstance(desk.outcomes["sub"], SubscriptionRejected)
    assert desk.send() == [("unsubscribe", ["a"])]
    assert desk.ack(request_id=1) == []
    assert desk.state("a") is UNSUBSCRIBING
    desk.ack(request_id=2)
    assert desk.outcomes["unsub"] is None
    assert desk.wanted == []


def test_a_refused_subscribe_completes_the_unsubscribe_that_followed_it() -> None:
    desk = Desk().subscribe("a")
    desk.send()
    desk.unsubscribe("a").send()
    desk.reject("a", "unknown")
    assert desk.outcomes["unsub"] is None
    assert desk.wanted == []
    desk.reject("a", "not subscribed")
    assert desk.wanted == []


def test_an_unsubscribe_while_the_connection_is_down_needs_no_message() -> None:
    desk = Desk().active("a").drop().unsubscribe("a")
    assert desk.outcomes["unsub"] is None
    assert desk.restore() == []


def test_a_second_unsubscribe_waits_for_the_first() -> None:
    desk = Desk().active("a").unsubscribe("a", token="one").unsubscribe("a", token="two")
    assert desk.send() == [("unsubscribe", ["a"])]
    desk.ack("a")
    assert (desk.outcomes["one"], desk.outcomes["two"]) == (None, None)


def test_a_refused_unsubscribe_leaves_the_channel_active() -> None:
    desk = Desk().active("a").unsubscribe("a")
    desk.send()
    desk.reject("a", "not now")
    assert desk.state("a") is ACTIVE
    error = desk.outcomes["unsub"]
    assert isinstance(error, SubscriptionRejected)
    assert error.failed == {"a": "not now"}


def test_a_channel_kept_by_a_refused_unsubscribe_is_one_that_can_be_lost() -> None:
    desk = Desk().subscribe("a")
    desk.send()
    desk.unsubscribe("a").send()
    desk.ack(request_id=1)
    desk.reject(request_id=2)
    desk.drop().restore()
    desk.reject("a", "delisted")
    assert desk.losses == [("a", "delisted")]


def test_an_unanswered_unsubscribe_times_out_and_ends_the_channel() -> None:
    desk = Desk().active("a").unsubscribe("a")
    desk.send()
    desk.wait(ACK_TIMEOUT)
    assert isinstance(desk.outcomes["unsub"], SubscriptionTimeout)
    assert desk.wanted == []
    desk.ack("a")
    assert desk.send() == []


# --- subscribe again while unsubscribing ---------------------------------------------------------


def changed_mind(**options: Any) -> Desk:
    desk = Desk().active("a", depth=10).unsubscribe("a")
    desk.send()
    return desk.subscribe("a", **options)


def test_a_channel_wanted_again_is_subscribed_after_its_unsubscribe() -> None:
    desk = changed_mind(depth=10)
    assert desk.send() == []
    assert desk.ack("a") == []
    assert desk.outcomes["unsub"] is None
    assert "sub" not in desk.outcomes
    assert desk.state("a") is PENDING
    assert desk.send() == [("subscribe", ["a"])]
    assert desk.ack("a") == ["a"]
    assert desk.outcomes["sub"] is None


def test_a_channel_wanted_again_may_have_other_options() -> None:
    desk = changed_mind(depth=5)
    desk.ack("a")
    desk.send()
    assert [r.options["depth"] for r in desk.out] == [10, 10, 5]


def test_a_channel_wanted_again_is_a_new_stream() -> None:
    desk = changed_mind()
    desk.ack("a")
    assert desk.removals == ["a"]
    desk.send()
    desk.reject("a")
    assert desk.losses == []


def test_a_channel_wanted_again_and_then_not_is_unsubscribed() -> None:
    desk = changed_mind().unsubscribe("a", token="after all")
    assert isinstance(desk.outcomes["sub"], SubscriptionRejected)
    desk.ack("a")
    assert (desk.outcomes["unsub"], desk.outcomes["after all"]) == (None, None)
    assert desk.send() == []
    assert desk.wanted == []


def test_a_refused_unsubscribe_confirms_a_channel_wanted_again() -> None:
    desk = changed_mind()
    desk.reject("a", "not now")
    assert desk.outcomes["sub"] is None
    assert isinstance(desk.outcomes["unsub"], SubscriptionRejected)
    assert desk.state("a") is ACTIVE


def test_a_drop_completes_an_unsubscribe() -> None:
    desk = Desk().active("a", "b").unsubscribe("a")
    desk.send()
    desk.drop()
    assert desk.outcomes["unsub"] is None
    assert desk.restore() == [("subscribe", ["b"])]


def test_a_channel_wanted_again_is_subscribed_once_after_a_drop() -> None:
    desk = changed_mind().drop()
    assert desk.outcomes["unsub"] is None
    assert desk.restore() == [("subscribe", ["a"])]
    assert desk.ack("a") == ["a"]
    assert desk.outcomes["sub"] is None


# --- a call's own deadline -----------------------------------------------------------------------


def test_a_timeout_names_the_undecided_channels() -> None:
    desk = Desk().subscribe("a", "b", deadline=5.0)
    desk.send()
    desk.ack("a")
    desk.wait(4.999)
    assert desk.outcomes == {}
    desk.wait(0.001)
    error = desk.outcomes["sub"]
    assert isinstance(error, SubscriptionTimeout)
    assert error.failed == {"b": "no answer within the timeout"}
    assert desk.wanted == ["a"]


def test_an_unsent_subscribe_that_times_out_leaves_no_trace() -> None:
    desk = Desk().subscribe("a", deadline=5.0).wait(5.0)
    assert desk.send() == []
    assert desk.wanted == []


def test_a_late_acknowledgement_after_a_timeout_is_undone() -> None:
    """The venue must not stay subscribed to an unwanted channel."""
    desk = Desk().subscribe("a", deadline=5.0, depth=10)
    desk.send()
    desk.wait(5.0)
    assert desk.ack("a") == []
    assert desk.send() == [("unsubscribe", ["a"])]
    assert desk.out[-1].options == {"depth": 10}
    assert desk.ack("a") == []
    assert desk.wanted == []
    assert desk.deadline() == INF


def test_an_unanswered_subscribe_after_a_timeout_is_undone_too() -> None:
    desk = Desk().subscribe("a", deadline=5.0)
    desk.send()
    desk.wait(5.0)
    desk.wait(ACK_TIMEOUT)
    assert desk.send() == [("unsubscribe", ["a"])]


def test_a_late_refusal_after_a_timeout_needs_nothing() -> None:
    desk = Desk().subscribe("a", deadline=5.0)
    desk.send()
    desk.wait(5.0)
    assert desk.reject("a")
    assert desk.send() == []


def test_a_late_acknowledgement_counts_for_a_new_call() -> None:
    desk = Desk().subscribe("a", token="hasty", deadline=5.0)
    desk.send()
    desk.wait(5.0)
    desk.subscribe("a").send()
    assert desk.ack("a") == ["a"]
    assert desk.outcomes["sub"] is None
    desk.ack("a")
    assert desk.send() == []


def test_one_callers_timeout_does_not_affect_other_callers() -> None:
    desk = Desk().subscribe("a", token="hasty", deadline=5.0).subscribe("a", token="patient")
    desk.send()
    desk.wait(5.0)
    assert isinstance(desk.outcomes["hasty"], SubscriptionTimeout)
    assert desk.ack("a") == ["a"]
    assert desk.outcomes["patient"] is None


def test_a_timeout_leaves_a_channel_wanted_that_was_active_before() -> None:
    desk = Desk().active("a").drop().subscribe("a", deadline=5.0).wait(5.0)
    assert isinstance(desk.outcomes["sub"], SubscriptionTimeout)
    assert desk.wanted == ["a"]


def test_an_unsubscribe_continues_after_its_callers_timeout() -> None:
    desk = Desk().active("a").unsubscribe("a", deadline=5.0).wait(5.0)
    assert isinstance(desk.outcomes["unsub"], SubscriptionTimeout)
    assert desk.wanted == []
    assert desk.send() == [("unsubscribe", ["a"])]


def test_an_old_unanswered_unsubscribe_does_not_end_a_new_subscription() -> None:
    desk = Desk().active("a").unsubscribe("a", deadline=5.0)
    desk.send()
    desk.wait(5.0)
    desk.subscribe("a").send()
    desk.wait(ACK_TIMEOUT - 5.0)
    assert desk.ack(request_id=3) == ["a"]
    assert desk.outcomes["sub"] is None
    assert desk.wanted == ["a"]


def test_a_channel_wanted_again_and_left_before_its_request_needs_no_message() -> None:
    """The venue would refuse the unsubscribe, and the channel would count as active."""
    desk = Desk().subscribe("a", token="first")
    desk.send()
    desk.unsubscribe("a").subscribe("a", token="again").send()
    desk.ack("a")
    desk.ack("a")
    desk.unsubscribe("a", token="after all")
    assert desk.outcomes["after all"] is None
    assert (desk.wanted, desk.send()) == ([], [])


# --- the connection ------------------------------------------------------------------------------


def test_after_a_drop_no_channel_is_active_and_all_are_wanted() -> None:
    desk = Desk().active("a", "b").drop()
    assert desk.wanted == ["a", "b"]
    assert (desk.state("a"), desk.state("b")) == (PENDING, PENDING)


def test_a_drop_forgets_outstanding_requests() -> None:
    desk = Desk().subscribe("a")
    desk.send()
    desk.drop()
    assert desk.ack("a") == []
    assert desk.deadline() == INF


def test_a_subscribe_waits_for_the_next_connection() -> None:
    desk = Desk().subscribe("a")
    desk.send()
    desk.drop()
    assert desk.outcomes == {}
    assert desk.restore() == [("subscribe", ["a"])]
    desk.ack("a")
    assert desk.outcomes == {"sub": None}


def test_an_unsent_subscribe_is_sent_once_after_a_drop() -> None:
    desk = Desk().active("a").drop().subscribe("b")
    assert desk.restore() == [("subscribe", ["a"]), ("subscribe", ["b"])]


def test_a_restore_groups_channels_of_equal_options_in_order() -> None:
    desk = Desk(Limits(channels_per_message=10))
    desk.active("a").active("b").active("c", depth=5).active("d", depth=5).active("e")
    desk.drop()
    assert [channels for _, channels in desk.restore()] == [["a", "b"], ["c", "d"], ["e"]]
    assert [r.options for r in desk.out[-3:]] == [{}, {"depth": 5}, {}]


def test_a_refused_resubscription_is_a_lost_channel() -> None:
    desk = Desk().active("a").drop()
    desk.restore()
    desk.reject("a", "delisted")
    assert desk.losses == [("a", "delisted")]
    assert (desk.wanted, desk.removals) == ([], ["a"])


def test_a_call_that_waits_for_a_lost_channel_fails() -> None:
    desk = Desk().active("a").drop().subscribe("a")
    desk.restore()
    desk.reject("a", "delisted")
    assert isinstance(desk.outcomes["sub"], SubscriptionRejected)


def test_an_unanswered_resubscription_is_sent_again_and_then_makes_the_connection_suspect() -> None:
    desk = Desk().active("a").drop()
    assert desk.restore() == [("subscribe", ["a"])]
    desk.wait(ACK_TIMEOUT)
    assert not desk.is_suspect
    assert desk.send() == [("subscribe", ["a"])]
    desk.wait(ACK_TIMEOUT)
    assert desk.is_suspect
    assert desk.send() == []
    assert desk.wanted == ["a"]
    desk.drop()
    assert not desk.is_suspect


def test_a_resubscription_answered_at_the_second_request_succeeds() -> None:
    desk = Desk().active("a").drop()
    desk.restore()
    desk.wait(ACK_TIMEOUT)
    desk.send()
    assert desk.ack("a") == ["a"]
    desk.wait(ACK_TIMEOUT)
    assert not desk.is_suspect


def test_each_connection_has_its_own_attempts() -> None:
    desk = Desk().active("a")
    for _ in range(3):
        desk.drop()
        desk.restore()
        desk.wait(ACK_TIMEOUT)
        assert desk.send() == [("subscribe", ["a"])]
        assert not desk.is_suspect


def test_a_first_subscribe_that_is_not_answered_fails_and_is_undone() -> None:
    desk = Desk().subscribe("a", depth=10)
    desk.send()
    desk.wait(ACK_TIMEOUT - 0.001)
    assert desk.outcomes == {}
    desk.wait(0.001)
    assert isinstance(desk.outcomes["sub"], SubscriptionTimeout)
    assert desk.wanted == []
    assert desk.send() == [("unsubscribe", ["a"])]
    assert desk.out[-1].options == {"depth": 10}


def test_no_call_waits_for_the_undo_of_a_subscribe() -> None:
    desk = Desk().subscribe("a")
    desk.send()
    desk.wait(ACK_TIMEOUT)
    desk.send()
    desk.wait(ACK_TIMEOUT)
    assert desk.send() == []
    assert desk.deadline() == INF


# --- refresh -------------------------------------------------------------------------------------


def refreshed() -> Desk:
    desk = Desk().active("a", depth=10)
    desk.refresh("a")
    assert desk.send() == [("unsubscribe", ["a"]), ("subscribe", ["a"])]
    return desk


def test_a_refreshed_channel_is_pending_until_both_halves_are_answered() -> None:
    desk = refreshed()
    assert desk.state("a") is PENDING
    assert desk.misses == []
    assert desk.ack("a") == []
    assert desk.state("a") is PENDING
    assert desk.misses == ["a"], "data is missing from the first half's answer on"
    assert desk.ack("a") == ["a"]
    assert (desk.misses, desk.removals) == (["a"], [])
    assert [r.options for r in desk.out] == [{"depth": 10}] * 3


def test_a_refused_first_half_of_a_refresh_means_that_the_channel_had_ended_before() -> None:
    desk = refreshed()
    assert desk.reject("a", "not subscribed")
    assert desk.misses == ["a"]
    assert desk.ack("a") == ["a"]
    assert (desk.losses, desk.misses) == ([], ["a"])


def test_a_first_half_of_a_refresh_that_is_not_answered_before_the_second_has_ended_it() -> None:
    desk = refreshed()
    assert desk.ack(request_id=desk.out[-1].id) == ["a"]
    assert desk.misses == ["a"]
    assert desk.ack(request_id=desk.out[-2].id) == []
    desk.wait(ACK_TIMEOUT)
    assert (desk.state("a"), desk.misses) == (ACTIVE, ["a"])


def test_an_unanswered_first_half_of_a_refresh_may_have_ended_the_channel() -> None:
    desk = refreshed()
    desk.wait(ACK_TIMEOUT)
    assert desk.misses == ["a"]


def test_a_refused_second_half_of_a_refresh_is_a_lost_channel() -> None:
    desk = refreshed()
    desk.ack("a")
    desk.reject("a", "delisted")
    assert desk.losses == [("a", "delisted")]


def test_an_unanswered_refresh_makes_the_connection_suspect() -> None:
    desk = refreshed()
    desk.wait(ACK_TIMEOUT)
    assert desk.is_suspect


def test_a_channel_may_be_unsubscribed_in_the_middle_of_a_refresh() -> None:
    desk = refreshed()
    desk.unsubscribe("a")
    assert desk.send() == [("unsubscribe", ["a"])]
    for _ in range(3):
        desk.ack("a")
    assert desk.outcomes["unsub"] is None
    assert desk.wanted == []


def test_an_unanswered_first_half_of_a_refresh_decides_no_unsubscribe() -> None:
    desk = refreshed()
    desk.wait(5.0)
    desk.unsubscribe("a").send()
    desk.wait(ACK_TIMEOUT - 5.0)
    assert "unsub" not in desk.outcomes
    desk.ack("a")
    assert desk.outcomes["unsub"] is None


def test_a_refused_first_half_of_a_refresh_decides_no_unsubscribe() -> None:
    desk = refreshed()
    desk.unsubscribe("a").send()
    desk.reject("a", "not subscribed")
    assert (desk.state("a"), desk.misses) == (UNSUBSCRIBING, [])
    assert "unsub" not in desk.outcomes


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prepare", "deadline"),
    [
        (lambda desk: None, INF),
        (lambda desk: desk.subscribe("a"), INF),
        (lambda desk: desk.subscribe("a", deadline=7.0), 7.0),
        (lambda desk: desk.subscribe("a").send(), ACK_TIMEOUT),
        (lambda desk: desk.subscribe("a", deadline=7.0).send(), 7.0),
        (lambda desk: desk.subscribe("a", deadline=70.0).send(), ACK_TIMEOUT),
        (lambda desk: desk.active("a"), INF),
    ],
)
def test_the_next_deadline_is_the_earliest_of_calls_and_requests(
    prepare: Callable[[Desk], object], deadline: float
) -> None:
    desk = Desk()
    prepare(desk)
    assert desk.deadline() == deadline


def test_a_sleep_postpones_the_venues_answers_but_no_callers_timeout() -> None:
    desk = Desk().subscribe("a", deadline=21.0)
    desk.send()
    desk.stops.add(0.0, 5.0)
    desk.wait(ACK_TIMEOUT)
    assert desk.outcomes == {}
    desk.wait(1.0)
    assert isinstance(desk.outcomes["sub"], SubscriptionTimeout)


# --- the end -------------------------------------------------------------------------------------


def test_fail_all_returns_all_waiting_tokens_and_settles_none() -> None:
    desk = Desk().active("a").subscribe("b", "c").unsubscribe("a")
    assert desk.fail_all() == ["sub", "unsub"]
    assert desk.outcomes.keys().isdisjoint({"sub", "unsub"})
    assert desk.fail_all() == []


def test_fail_all_keeps_confirmed_channels_and_forgets_others() -> None:
    desk = Desk().active("a").subscribe("b")
    desk.fail_all()
    assert desk.wanted == ["a"]
    assert desk.send() == []


# --- lookups -------------------------------------------------------------------------------------


def test_the_wanted_channels_are_listed_with_state_and_options() -> None:
    desk = Desk().active("a", depth=10).subscribe("b")
    assert desk.listed() == [("a", ACTIVE, {"depth": 10}), ("b", PENDING, {})]
    assert desk.state("unknown") is None


def test_all_confirmed_means_that_no_channel_is_pending() -> None:
    desk = Desk()
    assert desk.all_confirmed
    desk.subscribe("a").send()
    assert not desk.all_confirmed
    desk.ack("a")
    assert desk.all_confirmed


def test_has_unsent_means_that_a_request_waits() -> None:
    desk = Desk()
    assert not desk.has_unsent
    desk.subscribe("a")
    assert desk.has_unsent
    desk.send()
    assert not desk.has_unsent


# --- answers that come late, or are missed -------------------------------------------------------


def test_a_late_answer_to_a_void_unsubscribe_does_not_end_a_later_one() -> None:
    desk = Desk().active("b")
    desk.subscribe("a").send()
    desk.unsubscribe("a", token="first").unsubscribe("b", token="other").send()
    subscribe, first, other = (request.id for request in desk.out[1:])
    desk.reject("a", request_id=subscribe)
    assert desk.outcomes["first"] is None
    desk.subscribe("a", token="again").send()
    assert desk.ack("a", request_id=desk.out[-1].id) == ["a"]
    desk.unsubscribe("a", token="second").send()
    desk.ack("a", request_id=first)
    assert "second" not in desk.outcomes
    desk.ack("a", request_id=desk.out[-1].id)
    assert desk.outcomes["second"] is None
    desk.ack("b", request_id=other)
    assert desk.outcomes["other"] is None


def test_a_channel_missing_from_a_cumulative_answer_has_stopped() -> None:
    desk = Desk().active("a", "b")
    desk.subscribe("c").send()
    desk.subscribed(["a"])
    assert [desk.state(channel) for channel in "abc"] == [ACTIVE, PENDING, PENDING]
    assert list(desk.stops_of) == ["b"]
    assert desk.removals == []
    assert desk.ask_again("b") == [("subscribe", ["b"])]


class TestEndedByTheVenue:
    """The venue ends an active channel without an unsubscribe."""

    def test_an_unsolicited_unsubscribe(self) -> None:
        desk = Desk().active("a", "b")
        assert desk.ack("a", verb="unsubscribe") == []
        assert desk.stops_of == {"a": "the venue has unsubscribed it"}
        assert (desk.state("a"), desk.state("b")) == (PENDING, ACTIVE)
        assert desk.send() == [], "it is requested when the budget allows it"
        assert desk.ask_again("a") == [("subscribe", ["a"])]
        assert desk.ack("a", verb="subscribe") == ["a"]

    def test_an_error_that_names_it(self) -> None:
        desk = Desk().active("a")
        assert desk.reject("a", "delisted")
        assert desk.stops_of == {"a": "delisted"}
        # The channel may still be subscribed at the venue, which would refuse a second subscribe.
        assert desk.ask_again("a") == [("unsubscribe", ["a"]), ("subscribe", ["a"])]

    def test_an_item_of_the_dialect(self) -> None:
        desk = Desk().active("orders:x", "orders", "orders-algo:x", "b")
        assert desk.ended(Ended("too many", name="orders"))
        assert desk.stops_of == {"orders:x": "too many", "orders": "too many"}
        assert desk.ended(Ended("gone", channel="b"))
        assert desk.stops_of["b"] == "gone"
        assert not desk.ended(Ended("gone", channel="b")), "known already"
        assert not desk.ended(Ended("gone", channel="c"))

    @pytest.mark.parametrize(
        "fields", [{"keeps_active": True}, {"verb": "unsubscribe"}, {"request_id": "theirs"}]
    )
    def test_an_error_that_leaves_it_intact(self, fields: dict[str, Any]) -> None:
        desk = Desk().active("a")
        assert not desk.reject("a", **fields)
        assert desk.state("a") is ACTIVE
        assert desk.stops_of == {}

    def test_an_answer_to_an_unsubscribe_of_the_users_own(self) -> None:
        desk = Desk().active("a")
        desk.ack("a", request_id="theirs", verb="unsubscribe")
        assert desk.state("a") is ACTIVE

    def test_it_completes_an_unsent_unsubscribe(self) -> None:
        desk = Desk().active("a").unsubscribe("a")
        desk.ack("a", verb="unsubscribe")
        assert desk.outcomes["unsub"] is None
        desk.send()
        desk.reject("a", "not subscribed")
        assert desk.wanted == []

    def test_it_may_be_unsubscribed_from_at_once(self) -> None:
        desk = Desk().active("a")
        desk.ack("a", verb="unsubscribe")
        desk.unsubscribe("a")
        assert desk.outcomes["unsub"] is None
        assert desk.ask_again("a") == []

    def test_it_is_requested_once(self) -> None:
        desk = Desk().active("a")
        desk.ack("a", verb="unsubscribe")
        assert desk.ask_again("a") == [("subscribe", ["a"])]
        assert desk.ask_again("a") == []
        desk.ack("a")
        assert desk.ask_again("a") == []

    def test_a_new_connection_requests_it_like_all_others(self) -> None:
        desk = Desk(Limits(channels_per_message=2)).active("a", "b")
        desk.ack("a", verb="unsubscribe")
        assert desk.drop().restore() == [("subscribe", ["a", "b"])]
        assert desk.ask_again("a") == []

    def test_a_refusal_afterwards_loses_it(self) -> None:
        desk = Desk().active("a")
        desk.ack("a", verb="unsubscribe")
        desk.ask_again("a")
        desk.reject("a", "delisted")
        assert desk.losses == [("a", "delisted")]


@pytest.mark.parametrize("answer", [Desk.ack, Desk.reject])
def test_an_unsubscribe_within_a_refresh_ends_with_its_first_half(
    answer: Callable[[Desk, str], object],
) -> None:
    desk = Desk().active("a")
    desk.refresh("a")
    first, _ = desk.unsent(2)
    desk.split([first], [[["a"]]])
    desk.send_one()
    desk.unsubscribe("a")
    assert desk.send() == [("unsubscribe", ["a"])]
    answer(desk, "a")
    assert desk.outcomes["unsub"] is None
    desk.reject("a", "not subscribed")
    assert desk.wanted == []


class TestSubscribedAlready:
    """A subscribe that the venue refuses because it still has the channel."""

    def test_a_resubscription_is_confirmed_by_that(self) -> None:
        desk = Desk().active("a")
        desk.refresh("a")
        desk.send()
        rejection = Rejection("dup", desk.out[-1].id, keeps_active=True)
        assert desk.rejected(rejection) == ["a"]
        assert desk.state("a") is ACTIVE
        assert desk.losses == []

    def test_a_channel_that_was_never_confirmed_is_refused(self) -> None:
        desk = Desk().subscribe("a")
        desk.send()
        assert desk.reject("a", "dup", keeps_active=True)
        assert desk.wanted == []
        assert isinstance(desk.outcomes["sub"], SubscriptionRejected)


class TestVerbs:
    """An answer that contains the kind of its request."""

    def test_an_answer_to_the_first_half_of_a_refresh_confirms_nothing(self) -> None:
        desk = Desk().active("a")
        desk.refresh("a")
        desk.send()
        assert desk.ack("a", verb="subscribe") == ["a"]
        desk.ack("a", verb="unsubscribe")
        assert desk.state("a") is ACTIVE
        assert desk.stops_of == {}

    def test_a_refusal_of_an_unsubscribe_does_not_refuse_a_subscribe(self) -> None:
        desk = Desk().subscribe("a")
        desk.send()
        assert not desk.reject("a", verb="unsubscribe")
        assert desk.state("a") is PENDING


def test_an_unsent_request_is_not_sent_after_a_drop() -> None:
    desk = Desk().subscribe("a").drop()
    assert desk.send() == []
    assert desk.restore() == [("subscribe", ["a"])]


def test_an_unanswered_request_does_not_affect_a_later_one() -> None:
    desk = Desk().subscribe("a", token="first")
    desk.send()
    desk.unsubscribe("a").subscribe("a", token="again").send()
    desk.ack("a", request_id=desk.out[-1].id)
    desk.wait(ACK_TIMEOUT / 2).send()
    desk.wait(ACK_TIMEOUT / 2)
    assert "again" not in desk.outcomes
    assert desk.ack("a", request_id=desk.out[-1].id) == ["a"]
    assert desk.outcomes["again"] is None


# --- one channel of several ----------------------------------------------------------------------


def test_a_refusal_by_the_first_part_of_a_name_belongs_to_the_oldest_such_subscribe() -> None:
    desk = Desk().active("x:0")
    desk.unsubscribe("x:0").subscribe("y:1").subscribe("x:1", token="x1")
    desk.subscribe("x:2", token="x2").send()
    assert desk.reject(name="x")
    assert desk.refusals == ["x:1"]
    assert not desk.reject(name="z")
    assert desk.reject(name="x")
    assert desk.refusals == ["x:1", "x:2"]
    assert desk.state("y:1") is PENDING


class TestOneOfARequest:
    """The venue has refused one channel of a request without naming it."""

    @pytest.fixture
    def desk(self) -> Desk:
        desk = Desk(Limits(channels_per_message=3)).subscribe("a", "b", "c")
        desk.send()
        return desk

    def refuse(self, desk: Desk, reason: str) -> bool:
        return desk.reject(reason=reason, request_id=1, is_one=True)

    def test_it_is_the_one_that_remains(self, desk: Desk) -> None:
        assert self.refuse(desk, "log in")
        assert desk.refusals == []
        assert desk.ack("c", request_id=1) == ["c"]
        assert desk.refusals == []
        assert desk.ack("b", request_id=1) == ["b"]
        assert desk.refusals == ["a"]
        assert desk.outcomes["sub"].failed == {"a": "log in"}

    def test_it_may_arrive_after_the_others(self, desk: Desk) -> None:
        desk.ack("a", request_id=1)
        desk.ack("b", request_id=1)
        self.refuse(desk, "no")
        assert desk.refusals == ["c"]

    def test_several_are_those_that_remain(self, desk: Desk) -> None:
        self.refuse(desk, "one")
        desk.ack("b", request_id=1)
        self.refuse(desk, "two")
        assert sorted(desk.refusals) == ["a", "c"]

    def test_a_named_channel_is_not_one_of_them(self, desk: Desk) -> None:
        self.refuse(desk, "one")
        desk.reject("c", "named", request_id=1)
        desk.ack("a", request_id=1)
        assert desk.outcomes["sub"].failed == {"b": "one", "c": "named"}

    def test_an_ack_of_the_rest_refuses_nothing(self, desk: Desk) -> None:
        self.refuse(desk, "one")
        assert desk.ack(request_id=1) == ["a", "b", "c"]
        assert desk.refusals == []

    def test_an_unanswered_rest_is_refused_with_its_reason(self, desk: Desk) -> None:
        self.refuse(desk, "too many")
        desk.wait(ACK_TIMEOUT)
        assert sorted(desk.refusals) == ["a", "b", "c"]
        assert set(desk.outcomes["sub"].failed.values()) == {"too many"}


# --- many at once --------------------------------------------------------------------------------


def test_an_unsubscribe_is_sent_in_batches_in_the_callers_order() -> None:
    names = [f"x{n}" for n in range(300)]
    desk = Desk(Limits(channels_per_message=100)).active(*names)
    desk.unsubscribe(*reversed(names))
    assert desk.send() == [
        ("unsubscribe", names[299:199:-1]),
        ("unsubscribe", names[199:99:-1]),
        ("unsubscribe", names[99::-1]),
    ]


def test_channels_of_other_options_are_unsubscribed_in_a_separate_message() -> None:
    desk = Desk(Limits(channels_per_message=10))
    desk.active("a", "c", depth=5).active("b", "d")
    desk.unsubscribe("a", "b", "c", "d")
    assert desk.send() == [("unsubscribe", ["a", "c"]), ("unsubscribe", ["b", "d"])]
    assert [request.options for request in desk.out[-2:]] == [{"depth": 5}, {}]


def test_a_refused_channel_of_a_batch_leaves_the_others_alone() -> None:
    """Its unsubscribe, in one message with another, has nothing left to end."""
    desk = Desk(Limits(channels_per_message=10)).active("b")
    desk.subscribe("a").send()
    desk.unsubscribe("a", "b").send()
    desk.reject("a", "unknown", request_id=desk.out[-2].id)
    assert desk.wanted == ["b"]
    desk.ack(request_id=desk.out[-1].id)
    assert (desk.wanted, desk.outcomes["unsub"]) == ([], None)


def test_undone_subscribes_are_sent_in_batches() -> None:
    names = [f"x{n}" for n in range(100)]
    desk = Desk(Limits(channels_per_message=100)).subscribe(*names)
    desk.send()
    desk.wait(ACK_TIMEOUT)
    assert [channels for _, channels in desk.send()] == [["x0"], names[1:]]


def test_channels_missing_from_a_cumulative_answer_are_resubscribed_in_batches() -> None:
    desk = Desk(Limits(channels_per_message=10)).active("a", "b", "c")
    desk.subscribed(["b"])
    assert desk.ask_again(*desk.stops_of) == [("subscribe", ["a", "c"])]


def test_wanted_channels_are_counted_and_looked_up() -> None:
    desk = Desk().active("a", depth=10).subscribe("b").subscribe("c")
    assert len(desk) == 3
    assert desk.among(["c", "x", "a", "c"]) == [
        ("c", PENDING, {}),
        ("a", ACTIVE, {"depth": 10}),
    ]


# --- connections that end before the venue has answered ------------------------------------------


def end(desk: Desk, after: float = 0.0, why: str = "gone") -> Desk:
    desk.wait(after)
    desk.connection_ended(why)
    return desk.drop()


def test_two_fruitless_connections_in_a_row_end_a_call() -> None:
    desk = Desk().active("mine").subscribe("a", "b")
    desk.send()
    end(desk)
    assert "sub" not in desk.outcomes
    desk.restore()
    desk.ack("mine")
    end(desk, why="the venue closed the connection (1008: no)")
    error = desk.outcomes["sub"]
    assert isinstance(error, SubscriptionTimeout)
    assert error.failed.keys() == {"a", "b"}
    assert error.failed["a"] == (
        "2 connections in a row ended before the venue answered, "
        "the last one because the venue closed the connection (1008: no)"
    )
    assert (desk.refusals, desk.wanted) == (["a", "b"], ["mine"])
    assert desk.restore() == [("subscribe", ["mine"])]


def test_connections_that_end_before_any_request_end_a_call_too() -> None:
    desk = Desk().subscribe("a")
    end(end(desk))
    assert isinstance(desk.outcomes["sub"], SubscriptionTimeout)


def test_a_working_connection_does_not_end_a_call_that_was_not_yet_sent() -> None:
    desk = Desk().active("mine")
    for _ in range(5):
        end(desk)
        desk.reopen()
        (request,) = desk.unsent()
        desk.split([request], [[["mine"]]])
        desk.send_one()
        desk.ack("mine")
        if "a" not in desk.wanted:
            desk.subscribe("a")
    assert "sub" not in desk.outcomes
    assert desk.wanted == ["mine", "a"]


def test_a_confirmed_channel_gives_the_rest_of_its_call_two_more_connections() -> None:
    desk = Desk().subscribe("a", "b", "c")
    for channel in "abc":
        desk.restore()
        end(desk)
        desk.restore()
        desk.ack(channel)
        end(desk)
    assert desk.outcomes == {"sub": None}


def test_a_call_for_a_channel_that_was_confirmed_before_leaves_it_wanted() -> None:
    desk = Desk().active("a")
    end(desk).subscribe("a")
    for _ in range(2):
        desk.restore()
        end(desk)
    assert isinstance(desk.outcomes["sub"], SubscriptionTimeout)
    assert (desk.wanted, desk.refusals) == (["a"], [])


def test_new_channels_are_sent_in_separate_messages_after_confirmed_ones() -> None:
    desk = Desk(Limits(channels_per_message=10)).subscribe("new", token="one")
    desk.active("a", "b").subscribe("c", "d", token="two").subscribe("e", token="three")
    end(desk)
    assert desk.restore() == [
        ("subscribe", ["a", "b"]),
        ("subscribe", ["new"]),
        ("subscribe", ["c", "d"]),
        ("subscribe", ["e"]),
    ]


def test_the_time_for_an_answer_is_summed_over_connections() -> None:
    desk = Desk().subscribe("a", "b")
    desk.send()
    desk.wait(5.0)
    desk.ack("b")
    end(desk, after=10.0)
    desk.wait(1000.0)
    desk.restore()
    desk.wait(4.999)
    assert "sub" not in desk.outcomes
    desk.wait(0.001)
    assert desk.outcomes["sub"].failed == {"a": "no answer within 20 s"}
    assert desk.wanted == ["b"]


def test_a_channel_whose_new_call_timed_out_is_not_subscribed_again() -> None:
    desk = Desk().active("a").unsubscribe("a")
    desk.send()
    desk.subscribe("a", deadline=5.0).wait(5.0)
    desk.ack("a")
    assert desk.wanted == []
    assert desk.send() == []
