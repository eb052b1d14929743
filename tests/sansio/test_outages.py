"""When a client says that it fails: once per outage, by the time without a working connection."""

from __future__ import annotations

from typing import Any

from support.rig import Rig
from wsclient.errors import ConnectionLost
from wsclient.events import Failing
from wsclient.sansio.life import State


def reported(rig: Rig) -> list[tuple[float, str]]:
    return [(event.seconds, event.why) for event in rig.emitted(Failing)]


def working(**options: Any) -> Rig:
    rig = Rig(**options).active("a")
    rig.data("a")
    return rig


def test_a_client_says_once_that_it_has_been_failing_for_thirty_seconds() -> None:
    rig = working()
    rig.drop(ConnectionLost("gone"))
    rig.wait(0.0)
    for _ in range(29):
        rig.drop(ConnectionLost("refused"))
        rig.wait(1.0)
    assert reported(rig) == []
    for _ in range(100):
        if rig.state is not State.BACKING_OFF:
            rig.drop(ConnectionLost("refused again"))
        rig.wait(1.0)
    ((seconds, why),) = reported(rig)
    assert 30.0 <= seconds <= 31.0
    assert why.startswith("refused")


def test_the_report_comes_in_time_though_nothing_else_is_due() -> None:
    rig = working(connect_timeout=500.0)
    rig.drop()
    rig.wait(0.0)
    assert rig.deadline() - rig.now == 30.0
    rig.wait(30.0)
    assert [seconds for seconds, _ in reported(rig)] == [30.0]
    assert rig.deadline() - rig.now > 30.0


def test_it_counts_from_connect_when_nothing_was_ever_open() -> None:
    rig = Rig(connect_timeout=500.0)
    rig.connect()
    rig.wait(30.0)
    assert reported(rig) == [(30.0, "")]


def test_the_next_outage_is_reported_too() -> None:
    rig = working(connect_timeout=500.0)
    for _ in range(2):
        rig.drop()
        rig.wait(40.0)
        rig.opened()
        rig.ack("a")
        rig.data("a")
    assert len(reported(rig)) == 2


def test_a_venue_that_accepts_and_drops_does_not_end_the_outage() -> None:
    rig = working(retry_delay=0.5, max_retry_delay=0.5)
    for _ in range(80):
        rig.drop()
        rig.wait(0.5)
        rig.opened()
    rig.drop()
    assert len(reported(rig)) == 1


def test_an_open_connection_is_not_reported_though_it_has_brought_nothing_yet() -> None:
    rig = working(connect_timeout=500.0)
    rig.drop()
    rig.wait(29.0)
    rig.opened()
    rig.wait(5.0)
    assert reported(rig) == []
    rig.wait(10.0)  # so it works
    rig.drop()
    rig.wait(29.0)
    assert reported(rig) == []


def test_the_time_for_which_the_process_was_stopped_does_not_count() -> None:
    rig = working(connect_timeout=500.0)
    rig.drop()
    rig.wait(1.0)
    rig.tick()
    rig.deadline()
    rig.sleep(3600.0)
    assert reported(rig) == []


def test_a_closed_client_reports_nothing() -> None:
    rig = working(connect_timeout=500.0)
    rig.drop()
    rig.close()
    rig.wait(100.0)
    assert reported(rig) == []


def test_a_client_that_has_given_up_reports_nothing() -> None:
    rig = Rig(max_retries=1)
    rig.connect()
    rig.drop(ConnectionLost("refused"))
    assert rig.state is State.IDLE
    rig.wait(100.0)
    assert reported(rig) == []
