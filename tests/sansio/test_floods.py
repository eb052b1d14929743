"""The bounds of what a venue can cause at any rate: events, and answers to heartbeats."""

from __future__ import annotations

from typing import Any

import pytest

from wsclient.events import DecodeError, Noticed
from wsclient.sansio.floods import EVENT_INTERVAL, Answers, Throttles


class Notified:
    """Collects the events of the throttles, each as its type and its fields."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __call__(self, *event: Any) -> None:
        self.events.append(event)


def test_the_first_event_is_emitted_at_once_with_its_channel() -> None:
    notified = Notified()
    Throttles(notified).new(DecodeError).add("rubbish", 5.0, "a")
    assert notified.events == [(DecodeError, "rubbish", 1, "a")]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_newest_of_the_others_follows_with_their_number(count: int) -> None:
    notified = Notified()
    throttles = Throttles(notified)
    throttle = throttles.new(Noticed, "notice")
    throttle.add("first", 0.0)
    for n in range(count):
        throttle.add(f"later {n}", 0.1)
    assert (len(notified.events), throttles.deadline()) == (1, EVENT_INTERVAL)
    throttles.tick(EVENT_INTERVAL)
    assert notified.events[1] == (Noticed, "notice", f"later {count - 1}", count, None)


def test_secrets_are_masked() -> None:
    notified = Notified()
    throttles = Throttles(notified, lambda text: text.replace("key", "***"))
    throttles.new(DecodeError).add("a key", 0.0)
    assert notified.events == [(DecodeError, "a ***", 1, None)]


def test_one_answer_waits_at_most_and_it_is_the_newest() -> None:
    answers = Answers()
    assert answers.add("one")
    assert not answers.add("two")
    assert answers.take(0.0) == ("two",)
    assert answers.take(0.0) is None
