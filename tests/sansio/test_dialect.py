"""The base of all dialects: what it leaves to be written, and what it assumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wsclient import Dialect, Limits


@pytest.mark.parametrize(
    "call",
    [
        lambda dialect: dialect.subscribe(["a"], 1, {}),
        lambda dialect: dialect.unsubscribe(["a"], 1, {}),
        lambda dialect: dialect.read({}),
    ],
)
def test_what_a_dialect_must_say_is_not_passed_over(call: Callable[[Dialect], object]) -> None:
    with pytest.raises(NotImplementedError):
        call(Dialect())


def test_without_limits_of_its_own_a_venue_is_dialled_sixty_times_a_minute_at_most() -> None:
    assert Limits() == Limits(1, None, None, (60, 60.0), None)


def test_channels_go_in_messages_of_the_size_that_is_allowed() -> None:
    class Two(Dialect):
        limits = Limits(channels_per_message=2)

    assert list(Two().batches(["a", "b", "c"])) == [["a", "b"], ["c"]]


def test_channels_of_different_groups_go_in_different_messages() -> None:
    class Grouped(Dialect):
        limits = Limits(channels_per_message=2)

        def group(self, channel: str) -> str:
            return channel[0]

    batches = Grouped().batches(["a1", "b1", "a2", "b2", "a3"])
    assert list(batches) == [["a1", "a2"], ["a3"], ["b1", "b2"]]


def test_a_subscribe_and_its_reverse_may_be_one_method() -> None:
    class Changing(Dialect):
        def change(self, verb: str, channels: Any, request_id: int, options: Any) -> Any:
            return verb, channels, request_id, options

    assert Changing().subscribe(["a"], 1, {"o": 1}) == ("subscribe", ["a"], 1, {"o": 1})
    assert Changing().unsubscribe(["a"], 2, {}) == ("unsubscribe", ["a"], 2, {})
