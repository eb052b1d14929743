"""The routes of messages to queues, and the report of queues that drop some."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from support.making import message
from support.queues import POLICIES, message_queue, take
from wsclient.messages import Gap, Message
from wsclient.runtime import router as routers
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.router import KEEPS_UP, LOOK_FOR_DROPS, Router, strip
from wsclient.stream.declared import Types


def queue(name: str = "one", size: int = 10, overflow: str = "drop_oldest") -> MessageQueue:
    return message_queue(overflow, size, name=name)


@pytest.fixture
def router() -> Router:
    return Router(queue("client"))


def numbers(some: MessageQueue) -> list[int | None]:
    return [m.sequence for m in take(some)] if some else []


class TestRoutes:
    def test_messages_that_no_caller_requested_go_to_the_default_queue(
        self, router: Router
    ) -> None:
        router.deliver([message("a", sequence=1)])
        assert numbers(router.default) == [1]

    def test_a_channel_goes_to_each_queue_that_it_is_routed_to(self, router: Router) -> None:
        one, two = queue("one"), queue("two")
        assert router.route(["a"], one) == ["a"]
        assert router.route(["a", "b", "b"], two) == ["a", "b"]
        router.deliver([message("a", sequence=1), message("b", sequence=2)])
        router.deliver([message("c", sequence=3)])
        assert [numbers(slow) for slow in (one, two, router.default)] == [[1], [1, 2], [3]]

    def test_a_copy_has_a_gap_of_its_own(self, router: Router) -> None:
        one = queue("one")
        router.route(["a"], router.default)
        router.route(["a"], one)
        router.deliver([message("a", gap=Gap("sequence", 1))])
        (first,), (second,) = take(router.default), take(one)
        first.gap = None
        assert second.gap == Gap("sequence", 1)

    def test_what_is_routed_there_already_is_not_new(self, router: Router) -> None:
        router.route(["a"], router.default)
        assert router.route(["a"], router.default) == []

    def test_unroute_leaves_the_others(self, router: Router) -> None:
        one, two = queue("one"), queue("two")
        router.route(["a"], one)
        router.route(["a"], two)
        router.unroute(["a", "never"], one)
        assert not router.has_others("a", two)
        assert router.has_others("a", one)
        router.deliver([message("a", sequence=1)])
        assert [numbers(slow) for slow in (one, two)] == [[], [1]]

    def test_a_pending_gap_is_that_of_all_queues_of_the_channel(self, router: Router) -> None:
        one = queue("one", 1, "drop_newest")
        router.route(["a"], one)
        router.deliver([message("a", sequence=1), message("a", sequence=2)])
        assert router.pending_gap("a", None) == Gap("overflow", 1)
        assert router.pending_gap("a", Gap("reconnect")) == Gap("reconnect")
        assert router.pending_gap("b", None) is None


def late(channel: str, connection_id: int = 1) -> Message:
    return message(channel, connection_id=connection_id)


class TestLateMessages:
    """Messages of channels that only someone who has gone asked for."""

    @pytest.fixture
    def router(self) -> Router:
        return Router(queue("client"), None, lambda channel: channel in self.wanted, lambda: 1)

    @pytest.fixture(autouse=True)
    def nothing_is_wanted(self) -> None:
        self.wanted: set[str] = set()

    def kept(self, router: Router, *messages: Message) -> list[str]:
        """Deliver messages, and return the channels of those in the client's own queue."""
        router.deliver(messages)
        return [m.channel for m in take(router.default)] if router.default else []

    def test_what_is_unsolicited_is_kept(self, router: Router) -> None:
        assert self.kept(router, late("a")) == ["a"]
        router.route(["b"], queue("one"))
        assert self.kept(router, late("a"), late("b")) == ["a"]

    @pytest.mark.parametrize("has_others", [False, True])
    def test_after_a_reader_has_left_they_are_discarded(
        self, router: Router, has_others: bool
    ) -> None:
        one = queue("one")
        router.route(["a"], one)
        router.route(["b"], one if has_others else router.default)
        router.unroute(["a"], one)
        assert self.kept(router, late("a"), late("b"), late("c")) == ["b", "c"][has_others:]

    def test_after_the_channel_was_forgotten_too(self, router: Router) -> None:
        router.route(["a"], queue("one"))
        router.forget("a")
        assert self.kept(router, late("a")) == []

    def test_those_of_a_later_connection_are_unsolicited(self, router: Router) -> None:
        one = queue("one")
        router.route(["a"], one)
        router.unroute(["a"], one)
        assert self.kept(router, late("a", 1), late("a", 2)) == ["a"]

    def test_a_channel_that_the_venue_refused_to_end_is_nobodys(self, router: Router) -> None:
        one = queue("one")
        router.route(["a"], one)
        router.unroute(["a"], one)
        self.wanted.add("a")
        router.connected(2)
        assert self.kept(router, late("a", 2)) == []

    def test_a_new_connection_forgets_who_has_gone(self, router: Router) -> None:
        one = queue("one")
        router.route(["a"], one)
        router.unroute(["a"], one)
        router.connected(2)
        assert self.kept(router, late("a", 1)) == ["a"]

    def test_a_channel_that_is_asked_for_again_is_delivered(self, router: Router) -> None:
        one = queue("one")
        router.route(["a"], one)
        router.unroute(["a"], one)
        router.route(["a"], router.default)
        assert self.kept(router, late("a")) == ["a"]

    def test_of_a_failed_call_they_are_discarded(self, router: Router) -> None:
        router.ask(["a", "b"], router.default, "call")
        assert self.kept(router, late("a")) == ["a"], "it may still succeed"
        router.settle("call", ["a", "b"], router.default, {"a"})
        assert self.kept(router, late("a"), late("b")) == ["b"]

    def test_those_of_a_refused_channel_are_unsolicited(self, router: Router) -> None:
        """Such as Bitfinex's account, which is sent without a subscription, and only so."""
        router.ask(["a"], router.default, "call")
        router.forget("a")
        router.settle("call", ["a"], router.default, {"a"}, is_refused=True)
        assert self.kept(router, late("a")) == ["a"]

    def test_a_failed_call_ends_no_route_that_another_call_has(self, router: Router) -> None:
        for call in ("first", "second"):
            router.ask(["a"], router.default, call)
        router.settle("first", ["a"], router.default, {"a"})
        assert self.kept(router, late("a")) == ["a"]
        router.settle("second", ["a"], router.default, ())
        router.ask(["a"], router.default, "third")
        router.settle("third", ["a"], router.default, {"a"})
        assert self.kept(router, late("a")) == ["a"]

    def test_when_all_calls_have_failed_the_route_ends(self, router: Router) -> None:
        for call in ("first", "second"):
            router.ask(["a"], router.default, call)
        for call in ("first", "second"):
            router.settle(call, ["a"], router.default, {"a"})
        assert self.kept(router, late("a")) == []

    def test_a_failed_call_leaves_the_channel_to_a_reader(self, router: Router) -> None:
        one = queue("one")
        router.ask(["a"], one, "reader")
        router.ask(["a"], router.default, "subscribe")
        router.settle("subscribe", ["a"], router.default, {"a"})
        router.settle("reader", ["a"], one, ())
        assert self.kept(router, late("a")) == []
        assert len(take(one)) == 1

    def test_an_unsubscribe_ends_the_route_when_it_is_answered(self, router: Router) -> None:
        router.route(["a"], router.default)
        router.resign(["a"], router.default, "unsubscribe")
        assert self.kept(router, late("a")) == ["a"]
        router.settle("unsubscribe", ["a"], router.default, {"a"})
        assert self.kept(router, late("a")) == []

    def test_a_refused_unsubscribe_leaves_the_route(self, router: Router) -> None:
        router.route(["a"], router.default)
        router.resign(["a"], router.default, "unsubscribe")
        router.settle("unsubscribe", ["a"], router.default, ())
        assert self.kept(router, late("a")) == ["a"]

    def test_a_queue_whose_unsubscribe_is_not_answered_yet_keeps_no_channel(
        self, router: Router
    ) -> None:
        one = queue("one")
        router.route(["a"], router.default)
        router.route(["a"], one)
        assert router.has_others("a", one)
        router.resign(["a"], router.default, "unsubscribe")
        assert not router.has_others("a", one)
        router.ask(["a"], router.default, "again")
        assert router.has_others("a", one)

    def test_an_answered_unsubscribe_leaves_the_route_of_a_later_call(self, router: Router) -> None:
        router.route(["a"], router.default)
        router.resign(["a"], router.default, "unsubscribe")
        router.ask(["a"], router.default, "again")
        router.settle("unsubscribe", ["a"], router.default, {"a"})
        router.settle("again", ["a"], router.default, ())
        assert self.kept(router, late("a")) == ["a"]

    def test_how_many_are_remembered_is_bounded(
        self, router: Router, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(routers, "MAX_LEFT", 2)
        one = queue("one")
        for channel in "abc":
            router.route([channel], one)
            router.unroute([channel], one)
        assert self.kept(router, *map(late, "abc")) == ["a"]


class TestOriginalsAndCopies:
    """A message that was decoded ahead, for queues whose consumers do or do not keep up."""

    @staticmethod
    def decoded(channel: str = "a", item: int | None = None) -> Message:
        made = message(channel)
        made.decoded, made.item = {"n": 1}, item
        return made

    @staticmethod
    def held_up(name: str) -> MessageQueue:
        slow = queue(name, 1000)
        slow.put([message("x") for _ in range(KEEPS_UP + 1)])
        return slow

    def test_what_was_decoded_belongs_to_one_consumer(self, router: Router) -> None:
        one = queue("one")
        router.route(["a"], router.default)
        router.route(["a"], one)
        router.deliver([self.decoded()])
        (first,), (second,) = take(router.default), take(one)
        assert first.decoded == {"n": 1}
        assert second.decoded is msgspec.UNSET

    def test_it_goes_to_the_first_that_keeps_up(self) -> None:
        slow, one = self.held_up("client"), queue("one")
        router = Router(slow)
        router.route(["a"], slow)
        router.route(["a"], one)
        router.deliver([self.decoded()])
        assert take(one)[0].decoded == {"n": 1}
        assert take(slow)[-1].decoded is msgspec.UNSET
        assert router.keeps_up

    def test_what_was_decoded_to_a_type_is_dropped_with_it(self) -> None:
        made = self.decoded()
        made.kind = dict
        strip([made])
        assert (made.decoded, made.kind) == (msgspec.UNSET, None)

    def test_queues_are_uniform_while_all_have_the_same_types(self) -> None:
        types = Types(dict)
        router = Router(message_queue(types=types))
        router.route(["a"], message_queue(types=types))
        assert router.is_uniform
        other = message_queue(types=Types(dict))
        router.route(["a"], other)
        assert not router.is_uniform
        router.retire(other)
        assert router.is_uniform

    def test_a_queue_that_does_not_keep_up_holds_no_objects(self, router: Router) -> None:
        slow = self.held_up("one")
        router.route(["a", "b"], slow)
        router.deliver([self.decoded(), self.decoded("b", item=0)])
        *_, ahead, item = take(slow)
        assert ahead.decoded is msgspec.UNSET
        assert item.decoded == {"n": 1}, "to decode it again would decode all items of its frame"

    def test_ahead_is_decoded_while_those_keep_up_that_got_the_last_messages(
        self, router: Router
    ) -> None:
        fast, slow = queue("fast"), self.held_up("slow")
        router.route(["a"], fast)
        router.route(["b"], slow)
        assert router.keeps_up
        router.deliver([message("b")])
        assert not router.keeps_up
        router.deliver([message("a")])
        assert router.keeps_up
        router.deliver([message("a"), message("b")])
        assert not router.keeps_up
        take(slow)
        assert router.keeps_up
        router.deliver([message("b")] * (KEEPS_UP + 1))
        router.unroute(["b"], slow)
        router.retire(slow)
        assert router.keeps_up

    def test_a_client_without_readers_decodes_ahead_while_its_own_queue_is_short(self) -> None:
        router = Router(queue("client", 1000))
        router.deliver([message("a")] * KEEPS_UP)
        assert router.keeps_up
        router.deliver([message("a")])
        assert not router.keeps_up


class TestQueues:
    def test_one_is_there_once(self, router: Router) -> None:
        one = queue("one")
        router.add(one)
        router.route(["a"], one)
        assert list(router.queues) == [router.default, one]

    def test_what_a_retired_one_has_counted_stays(self, router: Router) -> None:
        one = queue("one", 1)
        router.route(["a"], one)
        router.deliver([message("a") for _ in range(3)])
        router.retire(one)
        router.retire(one)
        assert list(router.queues) == [router.default]
        assert router.retired.dropped == 2

    def test_a_queue_that_fails_says_so(self, router: Router) -> None:
        one = queue("one", 1, "error")
        router.route(["a"], one)
        assert router.deliver([message("a")]) is None
        assert router.deliver([message("a")]) is not None


class TestDrops:
    def episodes(self, router: Router, now: float) -> list[tuple[str, int]]:
        reported: list[tuple[str, int]] = []
        router.look(now, lambda name, dropped: reported.append((name, dropped)))
        return reported

    @pytest.mark.parametrize("is_routed", [False, True])
    def test_a_queue_that_drops_is_reported_once_per_episode(self, is_routed: bool) -> None:
        slow = queue("slow", 1)
        router = Router(queue("client") if is_routed else slow)
        if is_routed:
            router.route(["a"], slow)
        batch: list[Any] = [message("a"), message("a")]
        router.deliver(batch)
        assert router.has_changed
        assert self.episodes(router, 10.0) == [("slow", 1)]
        router.deliver(batch)
        assert not router.has_changed, "it is reported already"
        assert self.episodes(router, 10.0 + LOOK_FOR_DROPS) == []
        assert self.episodes(router, 10.0 + 2 * LOOK_FOR_DROPS) == [], "the episode is over"
        router.deliver(batch)
        assert router.has_changed
        assert self.episodes(router, 10.0 + 3 * LOOK_FOR_DROPS) == [("slow", 5)]

    @pytest.mark.parametrize("overflow", POLICIES[:3])
    def test_every_queue_is_watched(self, router: Router, overflow: str) -> None:
        """A queue that conflates too, when more channels wait than it may hold."""
        slow = queue("slow", 2, overflow)
        router.route(["a", "b", "c"], slow)
        router.deliver([message(c) for c in "abc"])
        assert router.has_changed
        assert self.episodes(router, 10.0) == [("slow", 1)]

    def test_messages_replaced_on_purpose_are_not_in_the_number(self) -> None:
        router = Router(queue("client", 2, "conflate"))
        router.deliver([message(c) for c in "aaabc"])
        assert router.default.dropped == 3
        assert self.episodes(router, 10.0) == [("client", 1)]

    def test_conflating_is_on_purpose(self) -> None:
        router = Router(queue("client", 5, "conflate"))
        router.deliver([message("a"), message("a")])
        assert not router.has_changed
        assert self.episodes(router, 10.0) == []

    def test_without_drops_there_is_nothing_to_look_at(self, router: Router) -> None:
        assert router.look(1.0, lambda *_: None) == float("inf")


class TestUnusedQueue:
    """The client's own queue, when nothing was taken from it and others get all of its channels."""

    @pytest.fixture(params=POLICIES)
    def router(self, request: pytest.FixtureRequest) -> Router:
        router = Router(queue("client", 2, request.param))
        router.route(["a", "b", "c"], router.default)
        router.route(["a", "b", "c"], queue("callbacks", 1000))
        return router

    def overflow(self, router: Router, more: str = "") -> tuple[bool, list[str]]:
        """Drop some messages. Return whether the client fails by it, and the queues reported."""
        failure = router.deliver([message(c) for c in "abcabc" + more])
        reported: list[str] = []
        router.look(10.0, lambda name, _: reported.append(name))
        return failure is not None, reported

    def test_it_raises_no_alarm_and_counts_what_it_drops(self, router: Router) -> None:
        for _ in range(3):
            assert self.overflow(router) == (False, [])
            assert not router.has_changed
        assert router.default.dropped == 16
        assert len(router.default) == 2

    def test_when_something_is_taken_it_is_as_others_are(self, router: Router) -> None:
        self.overflow(router)
        take(router.default)
        is_error = router.default.overflow == "error"
        assert self.overflow(router) == (is_error, ["client"])

    def test_a_channel_of_its_own_makes_it_as_others_are(self, router: Router) -> None:
        self.overflow(router)
        router.route(["d"], router.default)
        is_error = router.default.overflow == "error"
        assert self.overflow(router) == (is_error, ["client"])

    def test_so_does_an_unsolicited_message(self, router: Router) -> None:
        self.overflow(router)
        is_error = router.default.overflow == "error"
        assert self.overflow(router, "unasked") == (is_error, ["client"])

    def test_so_does_the_end_of_the_other_reader(self, router: Router) -> None:
        (other,) = set(router.queues) - {router.default}
        router.unroute(["a"], other)
        is_error = router.default.overflow == "error"
        assert self.overflow(router) == (is_error, ["client"])

    def test_the_other_queues_raise_theirs(self, router: Router) -> None:
        slow = queue("reader-1", 2)
        router.route(["a", "b", "c"], slow)
        assert self.overflow(router) == (False, ["reader-1"])
