"""The routes of messages to queues, and the report of queues that drop some."""

from __future__ import annotations

from typing import Any

import pytest

from support.making import message
from support.queues import message_queue, take
from wsclient.messages import Gap
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.router import LOOK_FOR_DROPS, Router


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

    def test_after_the_last_route_of_a_reader_all_is_plain_again(self, router: Router) -> None:
        one = queue("one")
        router.route(["a", "b"], one)
        router.route(["c"], router.default)
        router.unroute(["a"], one)
        router.forget("b")
        router.deliver([message(c, sequence=n) for n, c in enumerate("abc")])
        assert numbers(router.default) == [0, 1, 2]
        assert router.special == 0

    def test_a_pending_gap_is_that_of_all_queues_of_the_channel(self, router: Router) -> None:
        one = queue("one", 1, "drop_newest")
        router.route(["a"], one)
        router.deliver([message("a", sequence=1), message("a", sequence=2)])
        assert router.pending_gap("a", None) == Gap("overflow", 1)
        assert router.pending_gap("a", Gap("reconnect")) == Gap("reconnect")
        assert router.pending_gap("b", None) is None


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
        told: list[tuple[str, int]] = []
        router.look(now, lambda name, dropped: told.append((name, dropped)))
        return told

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

    def test_conflating_is_on_purpose(self) -> None:
        router = Router(queue("client", 5, "conflate"))
        router.deliver([message("a"), message("a")])
        assert not router.has_changed
        assert self.episodes(router, 10.0) == []

    def test_without_drops_there_is_nothing_to_look_at(self, router: Router) -> None:
        assert router.look(1.0, lambda *_: None) == float("inf")
