"""The heartbeat of one connection: when to ping, and when the connection is dead."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.sansio.heartbeat import ConnectionView, HeartbeatMonitor
from wsclient.sansio.stops import Stops

INF = float("inf")
START = 1000.0
OFF = dict.fromkeys(
    ("ping_interval", "ping_timeout", "silence_timeout", "stall_timeout", "send_timeout")
)


def heartbeat(stops: Stops | None = None, **checks: float) -> HeartbeatMonitor:
    """Return the monitor of a connection opened at START, with only these checks."""
    return HeartbeatMonitor(START, **{**OFF, **checks}, stops=stops)


def view(last_byte_at: float = START, **seen: Any) -> ConnectionView:
    return ConnectionView(last_byte_at, **seen)


# --- pings ---------------------------------------------------------------------------------------


def test_a_ping_is_due_after_the_interval() -> None:
    beat = heartbeat(ping_interval=20.0, ping_timeout=10.0)
    assert not beat.ping_due(START + 19.999)
    assert beat.ping_due(START + 20.0)


def test_a_ping_counts_as_sent_when_it_is_due() -> None:
    beat = heartbeat(ping_interval=20.0, ping_timeout=10.0)
    assert beat.ping_due(START + 20.0)
    assert not beat.ping_due(START + 20.0)


def test_the_next_ping_waits_for_the_pong() -> None:
    beat = heartbeat(ping_interval=20.0, ping_timeout=30.0)
    beat.ping_due(START + 20.0)
    assert not beat.ping_due(START + 45.0)
    beat.pong_received()
    assert beat.ping_due(START + 45.0)


def test_pings_keep_their_interval_when_they_are_answered() -> None:
    beat = heartbeat(ping_interval=20.0, ping_timeout=10.0)
    beat.ping_due(START + 20.0)
    beat.pong_received()
    assert not beat.ping_due(START + 39.999)
    assert beat.ping_due(START + 40.0)


def test_without_a_timeout_unanswered_pings_continue() -> None:
    beat = heartbeat(ping_interval=20.0)
    assert beat.ping_due(START + 20.0)
    assert beat.ping_due(START + 40.0)
    assert beat.failure(START + 10_000.0, view()) is None


def test_without_an_interval_there_is_no_ping() -> None:
    beat = heartbeat(ping_timeout=10.0)
    assert not beat.ping_due(START + 10_000.0)
    assert beat.deadline(view()) == INF


# --- verdicts ------------------------------------------------------------------------------------


def pinged(**checks: float) -> HeartbeatMonitor:
    beat = heartbeat(ping_interval=20.0, ping_timeout=10.0, **checks)
    assert beat.ping_due(START + 20.0)
    return beat


def test_no_pong_and_no_byte_is_a_half_open_connection() -> None:
    beat = pinged()
    assert beat.failure(START + 29.999, view()) is None
    reason = beat.failure(START + 30.0, view())
    assert str(reason) == "no pong and no byte for 10 s (half-open connection)"


def test_a_pong_answers_a_ping() -> None:
    beat = pinged()
    beat.pong_received()
    assert beat.failure(START + 10_000.0, view()) is None


def test_progress_of_bytes_extends_the_deadline_of_a_pong() -> None:
    """A large frame may delay the pong."""
    beat = pinged()
    assert beat.failure(START + 34.999, view(START + 25.0)) is None
    assert beat.failure(START + 35.0, view(START + 25.0)) is not None


def test_bytes_before_the_ping_do_not_shorten_the_deadline_of_its_pong() -> None:
    beat = pinged()
    assert beat.failure(START + 29.999, view(START - 500.0)) is None


def test_a_frame_that_stops_half_way_is_a_stalled_connection() -> None:
    beat = heartbeat(stall_timeout=10.0)
    seen = view(START + 5.0, in_frame=True)
    assert beat.failure(START + 14.999, seen) is None
    assert str(beat.failure(START + 15.0, seen)) == "a frame stopped half way: no byte for 10 s"


def test_between_frames_nothing_stalls() -> None:
    beat = heartbeat(stall_timeout=10.0)
    assert beat.failure(START + 10_000.0, view()) is None


def test_a_peer_that_does_not_read_is_deaf() -> None:
    beat = heartbeat(send_timeout=10.0)
    seen = view(START + 500.0, unsent_since=START + 5.0)
    assert beat.failure(START + 14.999, seen) is None
    assert str(beat.failure(START + 15.0, seen)) == "the peer did not read for 10 s"


def test_nothing_to_send_is_not_deafness() -> None:
    beat = heartbeat(send_timeout=10.0)
    assert beat.failure(START + 10_000.0, view()) is None


def test_no_frame_but_pongs_is_a_silent_connection() -> None:
    beat = heartbeat(silence_timeout=15.0)
    assert beat.failure(START + 14.999, view(START + 14.0)) is None
    assert str(beat.failure(START + 15.0, view(START + 14.0))) == "no frame but pongs for 15 s"


def test_a_frame_ends_a_silence() -> None:
    beat = heartbeat(silence_timeout=15.0)
    beat.frame_received(START + 10.0)
    assert beat.failure(START + 24.999, view()) is None
    assert beat.failure(START + 25.0, view()) is not None


def test_a_pong_does_not_end_a_silence() -> None:
    beat = heartbeat(silence_timeout=15.0)
    beat.pong_received()
    assert beat.failure(START + 15.0, view()) is not None


def test_a_disabled_check_never_fails() -> None:
    seen = view(in_frame=True, unsent_since=START)
    assert heartbeat().failure(START + 10_000.0, seen) is None
    assert heartbeat().deadline(seen) == INF


# --- the venue's own ping ------------------------------------------------------------------------


def test_the_venues_own_ping_keeps_its_interval() -> None:
    beat = heartbeat(keepalive_interval=15.0)
    assert not beat.keepalive_due(START + 14.999)
    assert beat.keepalive_due(START + 15.0)
    assert not beat.keepalive_due(START + 29.999)
    assert beat.keepalive_due(START + 30.0)


def test_a_venue_without_a_ping_of_its_own_gets_none() -> None:
    assert not heartbeat().keepalive_due(START + 10_000.0)


# --- the deadline --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checks", "seen", "deadline"),
    [
        ({"ping_interval": 20.0, "ping_timeout": 10.0}, view(), START + 20.0),
        ({"silence_timeout": 15.0}, view(), START + 15.0),
        ({"stall_timeout": 10.0}, view(START + 2.0, in_frame=True), START + 12.0),
        ({"stall_timeout": 10.0}, view(START + 2.0), INF),
        ({"send_timeout": 10.0}, view(unsent_since=START + 3.0), START + 13.0),
        ({"send_timeout": 10.0}, view(), INF),
        ({"keepalive_interval": 5.0}, view(), START + 5.0),
        ({"silence_timeout": 15.0, "keepalive_interval": 5.0}, view(), START + 5.0),
        ({"silence_timeout": 15.0, "ping_interval": 16.0}, view(), START + 15.0),
    ],
)
def test_the_deadline_is_the_earliest_of_all_checks(
    checks: dict[str, float], seen: ConnectionView, deadline: float
) -> None:
    assert heartbeat(**checks).deadline(seen) == deadline


def test_while_a_pong_is_awaited_only_its_deadline_counts() -> None:
    assert pinged().deadline(view()) == START + 30.0
    patient = heartbeat(ping_interval=20.0, ping_timeout=30.0)
    patient.ping_due(START + 20.0)
    assert patient.deadline(view()) == START + 50.0


# --- stops ---------------------------------------------------------------------------------------


def test_after_a_stop_a_ping_goes_out_early() -> None:
    """Another stop could delay it."""
    beat = heartbeat(ping_interval=20.0, ping_timeout=10.0)
    beat.stopped(START + 5.0, 2.0)
    assert beat.deadline(view()) == START + 18.0
    assert not beat.ping_due(START + 17.999)
    assert beat.ping_due(START + 18.0)


def test_long_stops_do_not_cause_a_flood_of_pings() -> None:
    beat = heartbeat(ping_interval=20.0, ping_timeout=10.0)
    beat.stopped(START + 3600.0, 3600.0)
    assert beat.ping_due(START + 3600.0)
    beat.pong_received()
    assert not beat.ping_due(START + 3604.999)
    assert beat.ping_due(START + 3605.0)


def test_the_longest_stop_counts_until_it_is_long_ago() -> None:
    beat = heartbeat(ping_interval=20.0)
    beat.stopped(START + 1.0, 3.0)
    beat.stopped(START + 2.0, 1.0)
    assert beat.deadline(view()) == START + 17.0
    assert beat.ping_due(START + 61.0)
    assert beat.deadline(view()) == START + 81.0
    beat.stopped(START + 62.0, 1.0)
    assert beat.deadline(view()) == START + 80.0


def test_a_stop_does_not_make_a_client_ping_that_never_pings() -> None:
    beat = heartbeat(silence_timeout=15.0)
    beat.stopped(START + 3600.0, 3600.0)
    assert not beat.ping_due(START + 3600.0)


def stopped(*ends: float, **checks: float) -> HeartbeatMonitor:
    """Return a monitor after stops of 100 s each that ended at these times."""
    stops = Stops()
    beat = heartbeat(stops=stops, **checks)
    for end in ends:
        stops.add(end - 100.0, end)
    return beat


CHECKS: dict[str, tuple[dict[str, float], ConnectionView]] = {
    "half-open": ({"ping_interval": 20.0, "ping_timeout": 10.0}, view()),
    "stalled": ({"stall_timeout": 10.0}, view(in_frame=True)),
    "deaf": ({"send_timeout": 10.0}, view(START + 500.0, unsent_since=START)),
}


@pytest.mark.parametrize("check", CHECKS)
def test_a_stop_gives_our_own_threads_time_to_read_and_write(check: str) -> None:
    checks, seen = CHECKS[check]
    beat = stopped(START + 200.0, **checks)
    beat.ping_due(START + 20.0)
    assert beat.failure(START + 200.199, seen) is None
    assert beat.deadline(seen) == START + 200.2
    error = beat.failure(START + 200.2, seen)
    assert error is not None
    assert error.reason == check


@pytest.mark.parametrize("check", CHECKS)
def test_a_second_stop_does_not_excuse_the_same_silence(check: str) -> None:
    checks, seen = CHECKS[check]
    beat = stopped(START + 102.0, START + 202.0, **checks)
    beat.ping_due(START + 20.0)
    assert beat.failure(START + 202.0, seen) is not None


def test_a_stop_excuses_a_peer_that_has_been_heard_since_the_last_one() -> None:
    beat = stopped(START + 102.0, START + 202.0, stall_timeout=10.0)
    seen = view(START + 110.0, in_frame=True)
    assert beat.failure(START + 202.199, seen) is None
    assert beat.failure(START + 202.2, seen) is not None


def test_a_stop_is_excluded_once_from_a_silence() -> None:
    beat = stopped(START + 110.0, START + 210.0, silence_timeout=15.0)
    assert beat.failure(START + 114.999, view()) is None
    assert beat.failure(START + 115.0, view()) is not None


# --- at random -----------------------------------------------------------------------------------

durations = st.one_of(st.none(), st.floats(0.5, 60.0))


@given(
    st.fixed_dictionaries({**dict.fromkeys(OFF, durations), "keepalive_interval": durations}),
    st.floats(0.0, 100.0),
    st.booleans(),
    st.one_of(st.none(), st.floats(0.0, 100.0)),
)
def test_nothing_is_due_before_the_deadline(
    checks: dict[str, Any], last_byte: float, in_frame: bool, unsent: float | None
) -> None:
    """Sleeping until ``deadline`` misses nothing, and then something is due."""
    beat = HeartbeatMonitor(START, **checks)
    seen = view(START + last_byte, in_frame=in_frame, unsent_since=unsent and START + unsent)
    deadline = beat.deadline(seen)
    if deadline > START:
        before = START + (min(deadline, START + 200.0) - START) * 0.999
        assert beat.failure(before, seen) is None
        assert not beat.ping_due(before)
        assert not beat.keepalive_due(before)
    if deadline != INF:
        assert (
            beat.failure(deadline, seen) or beat.ping_due(deadline) or beat.keepalive_due(deadline)
        )
