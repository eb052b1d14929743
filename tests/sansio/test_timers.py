"""Deadlines that may move to later, or be no longer needed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsclient.sansio.timers import Timers

INF = float("inf")


def test_due_items_are_taken_once_earliest_first() -> None:
    due = {"a": 3.0, "b": 1.0, "c": 2.0, "d": INF}
    timers = Timers(due.get)
    for name in due:
        timers.add(name)
    assert timers.deadline() == 1.0
    assert timers.take(2.0) == ["b", "c"]
    assert timers.take(2.0) == []
    assert timers.deadline() == 3.0


def test_an_item_without_a_deadline_is_not_due() -> None:
    due = {"a": 1.0, "b": 2.0}
    timers = Timers(due.get)
    timers.add("a")
    timers.add("b")
    del due["a"]
    assert timers.deadline() == 2.0
    del due["b"]
    assert timers.deadline() == INF


def test_items_without_a_deadline_are_removed() -> None:
    due = dict.fromkeys(range(10_000), 100.0)
    timers = Timers(due.get)
    for number in list(due):
        timers.add(number)
        del due[number]
    assert len(timers) <= 64


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "move", "end", "take"]), st.integers(0, 5)),
    max_size=40,
)


@given(STEPS)
def test_no_item_is_missed_or_early(steps: list[tuple[str, int]]) -> None:
    due: dict[int, float] = {}
    watched: set[int] = set()
    timers, now = Timers(due.get), 0.0
    for step, number in steps:
        if step == "add":
            due.setdefault(number, now + number)
            timers.add(number)
            watched.add(number)
        elif step == "move" and number in due:
            due[number] += number
        elif step == "end":
            due.pop(number, None)
            watched.discard(number)
        else:
            now += number
            expected = {n for n in watched if due[n] <= now}
            assert set(timers.take(now)) == expected
            watched -= expected
        assert timers.deadline() <= min((due[n] for n in watched), default=INF)
