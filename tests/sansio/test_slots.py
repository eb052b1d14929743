"""Slots, and the plan of which connections to open and to drain."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsclient.errors import ConnectError, ConnectionLost, HandshakeRejected, ReconnectError
from wsclient.options import Options
from wsclient.sansio.backoff import Backoff, Budget
from wsclient.sansio.slots import MAIN, Place, Plan, Slot, SlotKey, plan
from wsclient.verdicts import Verdict

INF = float("inf")
OTHER = SlotKey("private", 0, 0)

times = st.floats(0.0, 100.0)


@st.composite
def places(draw: st.DrawFn) -> list[Place]:
    """Return the places of some slots, in each state that a slot can have."""
    found = []
    for shard in range(draw(st.integers(1, 4))):
        key = SlotKey("", shard, 0)
        kind = draw(st.sampled_from(["waits", "never", "connects", "open"]))
        if kind in ("waits", "never"):
            found.append(Place(key, draw(times) if kind == "waits" else INF, None, None))
        else:
            found.append(Place(key, INF, shard + 1, draw(times) if kind == "open" else None))
    return found


@given(places(), times, st.one_of(st.none(), times), st.lists(st.text(), unique=True))
def test_a_plan_opens_what_is_due_drains_what_is_old_and_places_each_channel_once(
    places: list[Place], now: float, max_age: float | None, channels: list[str]
) -> None:
    found = plan(now, places, max_age, channels)
    for place in places:
        is_free = place.connection_id is None
        assert (place.slot in found.open) == (is_free and now >= place.due_at)
        age = None if place.opened_at is None else now - place.opened_at
        is_old = max_age is not None and age is not None and now >= place.opened_at + max_age
        assert (place.connection_id in found.drain) == (is_old and not is_free)
    assert [c for names in found.belongs.values() for c in names] == channels
    assert set(found.belongs) <= {place.slot for place in places}


@given(places(), times, st.one_of(st.none(), times))
def test_a_plan_changes_only_at_its_next_time(
    places: list[Place], now: float, max_age: float | None
) -> None:
    """Between now and then another plan for the same places is the same."""
    found = plan(now, places, max_age)
    if found.open or found.drain:
        assert found.next_at <= now
    elif found.next_at < INF:
        just_before = plan(now + (found.next_at - now) / 2, places, max_age)
        assert now == found.next_at or (just_before.open, just_before.drain) == ((), ())
        then = plan(found.next_at, places, max_age)
        assert then.open or then.drain
    else:
        assert plan(now + 1e9, places, max_age) == found


def test_a_plan_costs_a_slot_with_a_connection_nothing() -> None:
    kept = Place(MAIN, INF, 7, 0.0)
    assert plan(50.0, [kept], None) == Plan((), (), {}, INF)


def test_a_dead_slot_delays_no_other() -> None:
    dead, due = Place(MAIN, INF, None, None), Place(OTHER, 1.0, None, None)
    assert plan(2.0, [dead, due], None).open == (OTHER,)


# --- the attempts of a slot ----------------------------------------------------------------------


def slot(connects: Budget | None = None, **options: float | None) -> Slot:
    found = Options(retry_delay=1.0, max_retry_delay=8.0, jitter=False, **options)  # type: ignore[arg-type]
    return Slot(MAIN, found, Backoff(1.0, 8.0, lambda: 1.0), connects)


def end(slot: Slot, now: float, error: Exception | None = None, **fields: bool) -> object:
    error = error or ConnectionLost("gone")
    slot.last_reason = str(error)
    verdict = Verdict.FATAL if fields.pop("is_fatal", False) else Verdict.RETRY
    return slot.ended(error, verdict, now, was_healthy=fields.get("was_healthy", False))


def test_delays_double_and_begin_again_after_health() -> None:
    tried = slot(max_retries=9)
    delays = []
    for _ in range(5):
        tried.dialed(0.0)
        assert end(tried, 0.0) is None
        delays.append(tried.due_at)
    assert delays == [1.0, 2.0, 4.0, 8.0, 8.0]
    tried.prove_healthy()
    assert end(tried, 0.0) is None
    assert (tried.attempts, tried.due_at) == (0, 1.0)


def test_a_healthy_connection_is_replaced_at_once() -> None:
    tried = slot()
    tried.opened()
    end(tried, 5.0, was_healthy=True)
    assert tried.due_at == 5.0


def test_the_first_connect_ends_after_max_retries_and_may_begin_again() -> None:
    tried = slot(max_retries=2)
    tried.begin(0.0)
    tried.dialed(0.0)
    assert end(tried, 0.0) is None
    tried.dialed(1.0)
    failure = end(tried, 1.0)
    assert isinstance(failure, ConnectError)
    assert failure.attempts == 2
    assert failure.__cause__ is not None
    tried.begin(2.0)
    assert (tried.attempts, tried.due_at) == (0, 2.0)


def test_an_established_slot_ends_after_max_reconnects_only() -> None:
    tried = slot(max_reconnects=1, max_retries=1)
    tried.dialed(0.0)
    tried.opened()
    assert end(tried, 0.0) is None
    tried.dialed(1.0)
    assert isinstance(end(tried, 1.0), ReconnectError)


def test_a_fatal_end_keeps_an_error_of_ours_and_chains_any_other() -> None:
    refused = HandshakeRejected("401", 401)
    failure = end(slot(), 0.0, refused, is_fatal=True)
    assert isinstance(failure, ConnectError)
    assert failure.__cause__ is refused
    wrong = ConnectError("wrong", 1)
    assert end(slot(), 0.0, wrong, is_fatal=True) is wrong


def test_the_venues_budget_and_retry_after_delay_the_next_attempt() -> None:
    tried = slot(Budget(1, 60.0))
    tried.begin(0.0)
    tried.dialed(0.0)
    end(tried, 0.0)
    assert tried.due_at == 60.0
    later = HandshakeRejected("503", 503)
    later.retry_after = 100.0
    end(tried, 0.0, later)
    assert tried.due_at == 100.0
    tried.begin(10.0)
    assert tried.due_at == 100.0, "another connect() does not forget it"
