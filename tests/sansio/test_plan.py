"""The plan: which connections to open and to end, and where each channel belongs."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.sansio.plan import Plan, SlotView, Standing, place, plan
from wsclient.sansio.slots import SlotKey

pytestmark = pytest.mark.pure
INF = float("inf")
MAIN, OTHER = SlotKey(), SlotKey("private")

times = st.floats(0.0, 100.0)
ends = st.one_of(st.just(INF), times)


@st.composite
def views(draw: st.DrawFn) -> list[SlotView]:
    """Return some slots, in each state that a slot can have."""
    ids = iter(range(1, 100))
    found = []
    for shard in range(draw(st.integers(1, 4))):
        standing = []
        for _ in range(draw(st.integers(0, 2))):
            rotate_at, ends_at = sorted((draw(ends), draw(ends)))
            standing.append(Standing(next(ids), draw(st.booleans()), rotate_at, ends_at))
        due_at, ready_at = draw(ends), draw(ends)
        if len(standing) < 2 or not standing[-1].is_open:
            ready_at = INF
        key, needed = SlotKey("", shard), draw(st.booleans())
        found.append(SlotView(key, due_at, tuple(standing), ready_at, needed))
    return found


@given(views(), times, st.sampled_from([None, 1, 3]))
def test_a_plan_says_what_is_due(slots: list[SlotView], now: float, most: int | None) -> None:
    found = plan(now, slots, most)
    alive = sum(len(p.connections) for p in slots)
    for slot in slots:
        ids = [standing.id for standing in slot.connections]
        retired = [id for id in ids if id in found.retire]
        if not slot.is_needed:
            assert retired == ids
            assert slot.key not in found.open
            assert (slot.key in found.remove) == (not ids)
            continue
        assert slot.key not in found.remove
        if not ids:
            assert (slot.key in found.open) == (now >= slot.due_at)
        elif len(ids) == 1:
            assert not retired
            (only,) = slot.connections
            assert not (slot.key in found.open and ids[0] in found.cut)
            if slot.key in found.open:
                assert only.is_open
                assert now >= max(only.rotate_at, slot.due_at)
            if ids[0] in found.cut:
                assert most is not None
                assert now >= only.ends_at
        else:
            oldest, newest = slot.connections
            is_due = now >= slot.ready_at or (newest.is_open and now >= oldest.ends_at)
            assert retired == ([oldest.id] if oldest.is_open and is_due else [])
            assert slot.key not in found.open
    successors = [p for p in slots if p.connections and p.key in found.open]
    assert most is None or alive + len(successors) <= max(most, alive)


@given(views(), times, st.sampled_from([None, 1, 3]))
def test_a_plan_changes_only_at_its_next_time(
    slots: list[SlotView], now: float, most: int | None
) -> None:
    """Between now and then another plan for the same slots is the same."""
    found = plan(now, slots, most)
    if now < found.next_at < INF:
        assert plan(now + (found.next_at - now) / 2, slots, most) == found
    if found.next_at == INF:
        assert plan(now + 1e9, slots, most) == found


def test_a_slot_with_a_connection_needs_nothing() -> None:
    kept = SlotView(MAIN, 0.0, (Standing(7, True),))
    assert plan(50.0, [kept]) == Plan()


def test_a_dead_slot_delays_no_other() -> None:
    assert plan(2.0, [SlotView(MAIN, INF), SlotView(OTHER, 1.0)]).open == (OTHER,)


def test_a_successor_is_opened_beside_a_connection_that_must_end() -> None:
    old = Standing(1, True, rotate_at=10.0, ends_at=20.0)
    assert plan(9.0, [SlotView(MAIN, 0.0, (old,))]) == Plan(next_at=10.0)
    assert plan(10.0, [SlotView(MAIN, 0.0, (old,))]).open == (MAIN,)
    new = Standing(2, True)
    assert plan(11.0, [SlotView(MAIN, 0.0, (old, new))]) == Plan(next_at=20.0)
    assert plan(12.0, [SlotView(MAIN, 0.0, (old, new), ready_at=12.0)]).retire == (1,)


def test_a_connection_that_must_end_is_kept_while_its_successor_is_not_open() -> None:
    old, new = Standing(1, True, 10.0, 20.0), Standing(2, False)
    assert plan(30.0, [SlotView(MAIN, 0.0, (old, new))]) == Plan()


def test_where_the_venue_allows_no_second_connection_the_first_is_cut_at_its_end() -> None:
    old = Standing(1, True, rotate_at=10.0, ends_at=20.0)
    assert plan(15.0, [SlotView(MAIN, 0.0, (old,))], most=1) == Plan(next_at=20.0)
    assert plan(20.0, [SlotView(MAIN, 0.0, (old,))], most=1).cut == (1,)


# --- where channels belong -----------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.text(), st.sampled_from(["", "a"])), unique_by=lambda pair: pair[0]),
    st.one_of(st.none(), st.integers(1, 5)),
    st.one_of(st.none(), st.integers(1, 4)),
    st.dictionaries(
        st.builds(SlotKey, st.sampled_from(["", "a"]), st.integers(0, 3)),
        st.integers(0, 5),
    ),
)
def test_each_channel_gets_one_slot_of_its_route_with_room_or_there_is_none(
    channels: list[tuple[str, str]],
    limit: int | None,
    most: int | None,
    used: dict[SlotKey, int],
) -> None:
    limits = {"": limit, "a": limit}
    found, left = place(channels, used, limits, most)
    placed = [name for names in found.values() for name in names]
    assert Counter([*placed, *left]) == Counter(name for name, _ in channels)
    routes = dict(channels)
    for key, names in found.items():
        assert {routes[name] for name in names} == {key.route}
        assert limit is None or used.get(key, 0) + len(names) <= max(limit, used.get(key, 0))
    slots = {*used, *found}
    assert most is None or len(slots) <= max(most, len(used))
    for name in left:
        assert most is not None
        for key in slots:
            if key.route == routes[name]:
                assert limit is not None
                assert used.get(key, 0) + len(found.get(key, ())) >= limit


def test_channels_fill_one_slot_after_the_other() -> None:
    names = [(f"c{i}", "") for i in range(5)]
    found, left = place(names, {SlotKey(): 1}, {"": 2})
    assert found == {
        SlotKey(): ["c0"],
        SlotKey("", 1): ["c1", "c2"],
        SlotKey("", 2): ["c3", "c4"],
    }
    assert left == []


def test_a_place_that_is_free_again_is_taken_first() -> None:
    found, _ = place([("new", "")], {SlotKey(): 1, SlotKey("", 1): 2}, {"": 2})
    assert found == {SlotKey(): ["new"]}
