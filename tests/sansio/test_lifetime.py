"""How long a connection may live."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.sansio.lifetime import (
    ENDING_WITHIN,
    JITTER,
    LEAD,
    LEAST_LIFE,
    OVERLAP_TIME,
    ROTATION_TIME,
    Lifetime,
)

INF = float("inf")


def lifetime(random: float = 0.0) -> Lifetime:
    return Lifetime(lambda: random)


def test_without_a_limit_a_connection_never_ends() -> None:
    life = lifetime()
    life.opened(5.0, None)
    assert (life.rotate_at, life.ends_at) == (INF, INF)


def test_it_is_replaced_some_time_before_the_maximum_age() -> None:
    life = lifetime()
    life.opened(5.0, 86_000.0)
    assert (life.rotate_at, life.ends_at) == (86_005.0 - LEAD, 86_005.0)


def test_a_short_life_leaves_a_quarter_for_the_replacement() -> None:
    life = lifetime()
    life.opened(0.0, 8.0)
    assert life.rotate_at == 6.0


@given(st.floats(1.0, 1e6), st.floats(0.0, 1.0, exclude_max=True))
def test_the_replacements_of_many_clients_are_spread(max_age: float, random: float) -> None:
    latest, life = lifetime(), lifetime(random)
    latest.opened(0.0, max_age)
    life.opened(0.0, max_age)
    assert latest.rotate_at - life.rotate_at == pytest.approx(JITTER * max_age * random)
    assert 0.0 < life.rotate_at < life.ends_at == max_age


@pytest.mark.parametrize(("within", "left"), [(20.0, 20.0), (None, ENDING_WITHIN)])
def test_an_announced_end_begins_the_replacement_soon(within: float | None, left: float) -> None:
    life = lifetime(0.5)
    life.announced(within, 100.0)
    assert life.ends_at == 100.0 + left
    assert life.rotate_at == 100.0 + 0.5 * min(10.0, left / 4)


def test_a_replacement_on_request_begins_at_once() -> None:
    life = lifetime(0.5)
    life.rotate(100.0)
    assert (life.rotate_at, life.ends_at) == (100.0, 100.0 + ROTATION_TIME)


def test_the_earliest_end_counts() -> None:
    life = lifetime()
    life.rotate(0.0)
    life.announced(1e6, 1.0)
    assert (life.rotate_at, life.ends_at) == (0.0, ROTATION_TIME)


def test_the_end_of_a_young_successor_is_not_answered_at_once() -> None:
    life = lifetime()
    life.opened(100.0, None, is_first=False)
    life.announced(0.001, 100.0)
    assert life.rotate_at == life.ends_at == 100.0 + LEAST_LIFE


def test_many_announcements_are_spread_like_one() -> None:
    draws = iter([0.9, 0.1, 0.1])
    life = Lifetime(lambda: next(draws))
    for at in (100.0, 100.1, 100.2):
        life.announced(60.0, at)
    assert (life.rotate_at, life.ends_at) == (100.0 + 0.9 * 10.0, 160.0)


def test_an_announcement_does_not_shorten_an_overlap() -> None:
    life = lifetime()
    life.announced(0.001, 100.0)
    life.overlaps(100.0)
    life.announced(0.001, 100.0)
    assert life.ends_at == 100.0 + OVERLAP_TIME
