"""Delays, budgets, and verdicts on errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotSupported,
    WSClientError,
)
from wsclient.sansio.backoff import Backoff, Budget
from wsclient.verdicts import Verdict, classify

RETRY, RATE_LIMITED, FATAL = Verdict


# --- classify ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        *((HandshakeRejected("", status), FATAL) for status in (401, 403)),
        *((HandshakeRejected("", status), RATE_LIMITED) for status in (418, 429)),
        *((HandshakeRejected("", status), RETRY) for status in (0, 200, 301, 400, 404, 500, 503)),
        (HandshakeRejected("", 503, retry_after=5.0), RETRY),
        (AuthenticationError("no"), FATAL),
        (ConfigurationError("no"), FATAL),
        (NotSupported("no"), FATAL),
        (ConnectionLost("gone", 1001), RETRY),
        (ConnectTimeout("late"), RETRY),
        (WSClientError("?"), RETRY),
        (OSError("refused"), RETRY),
        (ConnectionResetError(), RETRY),
        (TimeoutError(), RETRY),
        (ValueError("a bug in the url function"), RETRY),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else value.value,
)
def test_classify(error: BaseException, verdict: Verdict) -> None:
    assert classify(error) is verdict


# --- delays --------------------------------------------------------------------------------------


def backoff(base: float = 1.0, cap: float = 60.0, random: float = 1.0) -> Backoff:
    return Backoff(base, cap, lambda: random)


def test_delays_double_until_the_cap() -> None:
    delays = backoff(base=1.0, cap=10.0)
    assert [delays.next() for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_full_jitter_spreads_a_delay_over_the_whole_interval() -> None:
    assert backoff(base=8.0, random=0.0).next() == 0.0
    assert backoff(base=8.0, random=0.5).next() == 4.0


def test_a_rate_limited_client_waits_in_full() -> None:
    assert backoff(base=8.0, random=0.5).next(RATE_LIMITED) == 8.0


def test_each_failure_counts_whatever_its_verdict() -> None:
    delays = backoff(base=1.0)
    delays.next(RATE_LIMITED)
    assert delays.next() == 2.0


def test_a_reset_starts_again_at_the_base() -> None:
    delays = backoff(base=1.0)
    delays.next()
    delays.next()
    delays.reset()
    assert delays.next() == 1.0


def test_a_base_of_zero_never_waits() -> None:
    delays = backoff(base=0.0)
    assert [delays.next() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_an_outage_of_years_does_not_overflow() -> None:
    delays = backoff(base=1.0, cap=60.0)
    assert {delays.next() for _ in range(5000)} == {1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0}


@given(st.floats(0.0, 10.0), st.floats(0.1, 100.0), st.integers(0, 100), st.floats(0.0, 1.0))
def test_no_delay_is_negative_or_above_the_cap(
    base: float, cap: float, failures: int, random: float
) -> None:
    delays = Backoff(base, cap, lambda: random, failures=failures)
    assert 0.0 <= delays.next() <= cap


# --- budgets -------------------------------------------------------------------------------------


def test_a_budget_lets_its_count_through_at_once() -> None:
    budget = Budget(3, 10.0)
    for _ in range(3):
        assert budget.ready_at(5.0) == 5.0
        budget.spend(5.0)
    assert budget.ready_at(5.0) == 15.0


def test_a_budget_slides() -> None:
    budget = Budget(2, 10.0)
    budget.spend(0.0)
    budget.spend(4.0)
    assert budget.ready_at(9.0) == 10.0
    budget.spend(10.0)
    assert budget.ready_at(10.0) == 14.0


def test_a_budget_that_was_not_used_is_ready_now() -> None:
    budget = Budget(1, 10.0)
    budget.spend(0.0)
    assert budget.ready_at(100.0) == 100.0


@given(
    st.integers(1, 5),
    st.integers(1, 20),
    st.lists(st.integers(0, 15), max_size=60),
)
def test_no_window_holds_more_than_the_budget(count: int, per: int, pauses: list[int]) -> None:
    budget = Budget(count, per)
    now, spent = 0.0, []
    for pause in pauses:
        now = budget.ready_at(now + pause)
        budget.spend(now)
        spent.append(now)
    for first, beyond in zip(spent, spent[count:], strict=False):
        assert beyond - first >= per
