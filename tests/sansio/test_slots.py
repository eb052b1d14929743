"""Slots: the attempts to connect there."""

from __future__ import annotations

from wsclient.errors import ConnectError, ConnectionLost, HandshakeRejected, ReconnectError
from wsclient.options import Options
from wsclient.sansio.backoff import Backoff, Budget
from wsclient.sansio.outages import Outage
from wsclient.sansio.output import Output
from wsclient.sansio.slots import Slot, SlotKey
from wsclient.sansio.stops import Stops
from wsclient.verdicts import Verdict


def slot(connects: Budget | None = None, **options: float | None) -> Slot:
    found = Options(retry_delay=1.0, max_retry_delay=8.0, jitter=False, **options)  # type: ignore[arg-type]
    outage = Outage(Output(lambda _: False), Stops())
    return Slot(SlotKey(), found, Backoff(1.0, 8.0, lambda: 1.0), connects, outage)


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


def test_a_failed_successor_waits_and_leaves_the_attempts_of_the_slot_alone() -> None:
    tried = slot(max_reconnects=1)
    tried.opened()
    tried.dialed(0.0)
    tried.successor_failed(HandshakeRejected("401", 401), Verdict.FATAL, 0.0)
    assert (tried.attempts, tried.due_at) == (0, 1.0)
    assert end(tried, 5.0, was_healthy=True) is None
    assert tried.due_at == 5.0


def test_an_attempt_waits_for_a_budget_that_others_spend_too() -> None:
    shared = Budget(1, 60.0)
    tried = slot(shared)
    tried.begin(0.0)
    shared.spend(0.0)
    assert not tried.may_dial(0.0)
    assert tried.due_at == 60.0
    assert tried.may_dial(60.0)
