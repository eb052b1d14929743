"""Rotation: one connection replaces another one, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from support.rig import Plain, Rig
from wsclient.dialect.values import Limits
from wsclient.errors import (
    ConnectionLost,
    HandshakeRejected,
    OutcomeUnknown,
    SubscriptionRejected,
    SubscriptionTimeout,
    WaitTimeout,
)
from wsclient.events import (
    Connected,
    Disconnected,
    NoData,
    Recovered,
    Rotated,
    StateChanged,
    Subscribed,
)
from wsclient.messages import SubscriptionState
from wsclient.sansio.actions import Abort, Cut, Dial, Hangup
from wsclient.sansio.connection import DRAIN_TIME, HEALTHY_AFTER
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.sansio.life import State
from wsclient.sansio.lifetime import ENDING_WITHIN, LEAD, OVERLAP_TIME
from wsclient.stream.items import Ack, Counted, Ended, Ending, LoginRefused, Rejection, Reply

ACTIVE = SubscriptionState.ACTIVE
SLOW = {"ack_timeout": 1000.0}
DAY = 86400.0


def aged(max_age: float = 1000.0, **limits: Any) -> Plain:
    return Plain(Limits(max_age=max_age, **{"channels_per_message": 10, **limits}))


def wait(rig: Rig, seconds: float) -> None:
    """Let time pass in steps of a second: data, which the rig does not bring, would cause ticks."""
    for _ in range(int(seconds)):
        rig.wait(1.0)


def rotating(*channels: str, numbers: bool = True, **options: Any) -> Rig:
    """Return a client whose connection 1 carries ``channels``, and 2 is open and has asked."""
    rig = Rig(Plain(Limits(channels_per_message=10)), **{**SLOW, **options}).active(*channels)
    for channel in channels:
        if numbers:
            rig.data(channel, 1)
        else:
            rig.texts(channel, "first")
    rig.rotate()
    rig.opened(on=2)
    return rig


def hangups(rig: Rig) -> list[int]:
    return [hangup.connection_id for hangup in rig.done(Hangup)]


def close_frame(rig: Rig, on: int) -> None:
    """The venue answers our close frame."""
    rig.drop(ConnectionLost("closed", 1000), on=on)
    rig.tick()


# --- When ----------------------------------------------------------------------------------------


def test_a_successor_is_opened_before_the_maximum_age() -> None:
    rig = Rig(aged(), jitter=False).active("a")
    begins = 1000.0 - LEAD - 20.0
    rig.wait(begins - 0.1)
    assert rig.ids() == [1]
    rig.wait(0.1)
    assert rig.ids() == [1, 2]
    assert rig.done(Dial)[-1] == Dial(2, "")


def test_rotations_by_age_are_jittered() -> None:
    at = {}
    for random in (0.0, 0.5, 1.0):
        rig = Rig(aged(DAY), random=random).active("a")
        at[random] = DAY + 1000.0 - rig.connection.lifetime.rotate_at
    assert at == {0.0: LEAD, 0.5: LEAD + DAY / 100, 1.0: LEAD + DAY / 50}


def test_a_short_life_is_used_for_three_quarters() -> None:
    rig = Rig(aged(40.0), random=0.0).active("a")
    assert rig.connection.lifetime.rotate_at == rig.now + 30.0


def test_a_venue_without_a_maximum_age_is_never_left() -> None:
    rig = Rig().active("a")
    rig.wait(3 * DAY)
    assert rig.ids() == [1]


def test_an_announced_end_is_answered_by_a_successor() -> None:
    rig = Rig(random=0.0).active("a")
    rig.receive(Ending("upgrade", 30.0))
    assert rig.ids() == [1, 2]
    assert rig.supervisor.connections.by_id[1].lifetime.ends_at == rig.now + 30.0


def test_an_announced_end_without_a_time_is_expected_in_a_minute() -> None:
    rig = Rig(random=0.0).active("a")
    rig.receive(Ending("upgrade"))
    assert rig.ids() == [1, 2]
    assert rig.supervisor.connections.by_id[1].lifetime.ends_at == rig.now + ENDING_WITHIN


def test_answers_to_an_announced_end_are_spread() -> None:
    rig = Rig(random=1.0).active("a")
    rig.receive(Ending("upgrade", 20.0))
    rig.wait(4.9)
    assert rig.ids() == [1]
    rig.wait(0.1)
    assert rig.ids() == [1, 2]


def test_an_announced_end_that_repeats_changes_nothing() -> None:
    rig = Rig(random=0.0, **SLOW).active("a")
    for _ in range(5):
        rig.receive(Ending("upgrade", 30.0), on=1)
    assert rig.ids() == [1, 2]


def test_a_caller_who_rotates_waits_until_the_old_connection_has_ended() -> None:
    rig = rotating("a")
    rig.ack("a")
    rig.data("a", 2, on=1)
    rig.data("a", 2, on=2)
    assert hangups(rig) == [1]
    assert rig.outcome("rotate") == "waiting"
    close_frame(rig, on=1)
    assert rig.outcome("rotate") is None


def test_a_caller_who_rotates_without_a_connection_is_answered_at_once() -> None:
    rig = Rig()
    rig.connect()
    rig.rotate()
    assert rig.outcome("rotate") is None


def test_a_caller_who_rotates_may_lose_patience() -> None:
    rig = Rig(**SLOW).active("a")
    rig.rotate(timeout=3.0)
    rig.wait(3.0)
    error = rig.outcome("rotate")
    assert isinstance(error, WaitTimeout)
    assert str(error).startswith("1 of 1 connection(s) not replaced")
    assert rig.ids() == [1, 2], "the rotation goes on"


def test_a_caller_who_rotates_may_leave() -> None:
    rig = rotating("a")
    rig.supervisor.callers.cancel_rotate("rotate")
    rig.tokens.discard("rotate")
    rig.ack("a")
    rig.data("a", 2, on=1)
    rig.data("a", 2, on=2)
    close_frame(rig, on=1)
    assert rig.outcome("rotate") == "waiting"
    assert rig.ids() == [2]


# --- Hand over -----------------------------------------------------------------------------------


def test_the_successor_subscribes_to_all_channels() -> None:
    rig = rotating("a", "b", "c")
    assert rig.asked(on=2) == [("subscribe", ["a", "b", "c"])]


def test_the_old_connection_stays_until_each_channel_is_confirmed_on_the_successor() -> None:
    rig = rotating("a", "b")
    rig.ack("a", on=2)
    rig.wait(20.0)
    assert hangups(rig) == []
    rig.ack("b", on=2)
    rig.wait(1.0)
    assert hangups(rig) == [1]


def test_a_channel_without_numbers_is_proven_by_silence() -> None:
    rig = rotating("a", numbers=False)
    rig.ack("a", on=2)
    rig.wait(4.9)
    assert hangups(rig) == []
    rig.wait(0.2)
    assert hangups(rig) == [1]
    close_frame(rig, on=1)
    rig.texts("a", "next")
    assert rig.got("a") == ["first", "next"]


def test_a_channel_without_numbers_is_proven_by_a_common_run() -> None:
    rig = rotating("a", numbers=False)
    rig.ack("a", on=2)
    rig.wait(0.3)
    for text in "bcde":
        rig.texts("a", text, on=1)
        rig.texts("a", text, on=2)
    assert hangups(rig) == [1]
    rig.texts("a", "f", on=1)
    close_frame(rig, on=1)
    rig.texts("a", "f", "g", on=2)
    assert rig.got("a") == ["first", *"bcdefg"]


def test_a_run_that_proves_the_hand_over_is_noticed_without_another_event() -> None:
    """What the successor brings makes no work for the clock; it looks by itself soon."""
    rig = rotating("a", numbers=False)
    rig.ack("a", on=2)
    rig.wait(0.3)
    assert rig.deadline() <= rig.now + 1.0


def test_what_is_never_proven_ends_with_one_mark() -> None:
    rig = rotating("a", numbers=False)
    rig.ack("a", on=2)
    for n in range(70):
        rig.wait(1.0)
        rig.texts("a", f"old {n}", on=1)
        rig.texts("a", f"new {n}", on=2)
    assert hangups(rig) == [1]
    close_frame(rig, on=1)
    rig.texts("a", "last")
    marks = [item for item in rig.got("a") if str(item).startswith("?")]
    assert marks == ["?reconnect"]
    assert rig.ids() == [2]


def test_numbered_messages_are_delivered_once_whoever_brings_them() -> None:
    rig = rotating("a")
    rig.ack("a", on=2)
    rig.data("a", 2, 3, on=1)
    rig.data("a", 3, 4, on=2)
    rig.data("a", 4, 5, on=1)
    rig.data("a", 5, 6, on=2)
    close_frame(rig, on=1)
    rig.data("a", 7)
    assert rig.got("a") == [1, 2, 3, 4, 5, 6, 7]


def test_copies_are_no_duplicates() -> None:
    rig = rotating("a")
    rig.ack("a", on=2)
    for number in range(2, 10):
        rig.data("a", number, on=1)
        rig.data("a", number, on=2)
    close_frame(rig, on=1)
    channel = rig.supervisor.upkeep.channels.of("a")
    assert channel.late_or_duplicate == 0
    assert channel.messages == 9
    assert rig.supervisor.counters.messages == 9
    assert rig.supervisor.counters.gaps == 0


def test_what_the_old_connection_brings_while_it_drains_is_used() -> None:
    rig = rotating("a")
    rig.ack("a", on=2)
    rig.data("a", 2, on=2)
    rig.data("a", 2, on=1)
    assert hangups(rig) == [1]
    rig.data("a", 3, 4, on=1)
    close_frame(rig, on=1)
    rig.data("a", 4, 5, on=2)
    assert rig.got("a") == [1, 2, 3, 4, 5]


def test_new_channels_belong_to_the_successor_once_it_is_open() -> None:
    rig = rotating("a")
    rig.subscribe("b")
    assert ("subscribe", ["b"]) in rig.asked(on=2)
    assert ("subscribe", ["b"]) not in rig.asked(on=1)


def test_a_channel_that_both_were_asked_for_at_once_is_delivered_once() -> None:
    rig = Rig(Plain(Limits(channels_per_message=10)), **SLOW).active("a")
    rig.rotate()
    rig.subscribe("b")
    rig.opened(on=2)
    assert rig.asked(on=1)[-1] == rig.asked(on=2)[-1] == ("subscribe", ["b"]) or (
        rig.asked(on=2) == [("subscribe", ["a"]), ("subscribe", ["b"])]
    )
    rig.ack("b", on=1)
    rig.ack("a", "b", on=2)
    for number in (1, 2):
        rig.data("b", number, on=1)
        rig.data("b", number, on=2)
    assert rig.got("b") == [1, 2]


def test_a_retired_connection_that_never_answers_is_cut() -> None:
    rig = rotating("a")
    rig.ack("a")
    rig.wait(1.0)
    assert hangups(rig) == [1]
    rig.wait(DRAIN_TIME)
    assert [cut.connection_id for cut in rig.done(Cut)] == [1]
    assert rig.ids() == [2]
    assert rig.outcome("rotate") is None


def test_a_client_is_open_all_the_time() -> None:
    rig = rotating("a", wants=lambda _: True)
    rig.ack("a")
    rig.wait(1.0)
    close_frame(rig, on=1)
    assert [after for _, after in rig.path()] == [State.CONNECTING, State.OPEN]
    assert len(rig.emitted(StateChanged)) == 2


def test_events_and_counters_of_a_rotation() -> None:
    rig = rotating("a")
    rig.ack("a")
    rig.wait(1.0)
    close_frame(rig, on=1)
    connected = [event.connection_id for event in rig.emitted(Connected)]
    assert connected == [1, 2]
    (ended,) = rig.emitted(Disconnected)
    assert (ended.connection_id, ended.reason) == (1, "rotated")
    (rotated,) = rig.emitted(Rotated)
    assert (rotated.connection_id, rotated.replaced, rotated.seconds) == (2, 1, 1.0)
    assert rig.emitted(Recovered) == []
    assert len(rig.emitted(Subscribed)) == 1
    counters = rig.supervisor.counters
    found = counters.rotations, counters.disconnects, counters.reconnects, counters.connects
    assert found == (1, 0, 0, 2)
    assert rig.supervisor.endings.disconnect_reasons == {}


def test_the_channel_is_active_all_the_time() -> None:
    rig = rotating("a")
    states = [rig.supervisor.wanted.state("a")]
    rig.ack("a")
    states.append(rig.supervisor.wanted.state("a"))
    rig.wait(1.0)
    close_frame(rig, on=1)
    states.append(rig.supervisor.wanted.state("a"))
    assert states == [ACTIVE] * 3


def test_a_rotation_follows_another_one() -> None:
    rig = Rig(aged(), random=0.0, **SLOW).active("a")
    rig.data("a", 1)
    for number in range(2, 6):
        rig.wait(1000.0 - LEAD)
        old, new = rig.ids()
        rig.opened(on=new)
        rig.ack("a", on=new)
        rig.data("a", number, on=old)
        rig.data("a", number, on=new)
        close_frame(rig, on=old)
    assert rig.ids() == [5]
    assert rig.got("a") == [1, 2, 3, 4, 5]
    assert rig.supervisor.counters.rotations == 4


def test_a_request_is_answered_before_the_old_connection_is_closed() -> None:
    rig = Rig(**SLOW).active("a")
    rig.data("a", 1)
    request_id = rig.request("request", timeout=20.0)
    rig.rotate()
    rig.opened(on=2)
    rig.ack("a", on=2)
    rig.wait(3.0)
    assert hangups(rig) == []
    rig.receive(Reply(request_id, {}), on=1)
    rig.wait(1.0)
    assert rig.outcome("request") is None
    assert hangups(rig) == [1]


def test_a_request_that_is_never_answered_does_not_keep_the_old_connection_for_ever() -> None:
    rig = Rig(**SLOW).active("a")
    rig.request("request")
    rig.rotate()
    rig.opened(on=2)
    rig.ack("a", on=2)
    rig.wait(61.0)
    close_frame(rig, on=1)
    assert isinstance(rig.outcome("request"), OutcomeUnknown)


# --- One connection per key ----------------------------------------------------------------------


def alone(**limits: Any) -> Plain:
    return Plain(Limits(channels_per_message=10, connections=1, **limits))


def test_where_the_venue_allows_one_connection_it_is_cut_first_and_marked() -> None:
    rig = Rig(alone(max_age=1000.0), random=0.0, **SLOW).active("a")
    rig.texts("a", "first")
    rig.wait(999.9)
    assert rig.ids() == [1]
    rig.wait(0.1)
    assert [cut.error.reason for cut in rig.done(Cut)] == ["age"]
    assert rig.ids() == [2], "the next attempt follows at once"
    rig.opened()
    rig.ack("a")
    rig.texts("a", "next")
    assert rig.got("a") == ["first", "?reconnect", "next"]
    assert rig.supervisor.counters.reconnects == 1
    assert rig.supervisor.counters.rotations == 0
    assert len(rig.emitted(Recovered)) == 1


def test_where_the_venue_allows_one_connection_a_caller_rotates_by_a_cut() -> None:
    rig = Rig(alone(), **SLOW).active("a")
    rig.rotate()
    assert rig.ids() == [2]
    assert rig.outcome("rotate") is None


def test_where_the_venue_allows_one_connection_an_announced_end_is_a_cut() -> None:
    rig = Rig(alone(), **SLOW).active("a")
    rig.receive(Ending("upgrade", 7.0))
    rig.wait(6.9)
    assert rig.ids() == [1]
    rig.wait(0.2)
    assert rig.ids() == [2]


# --- The successor fails -------------------------------------------------------------------------


def attempts(rig: Rig) -> list[int]:
    return [dial.connection_id for dial in rig.done(Dial)]


@pytest.mark.parametrize(
    "error",
    [
        HandshakeRejected("401", 401),
        HandshakeRejected("429", 429),
        HandshakeRejected("503", 503),
        ConnectionRefusedError("refused"),
        ConnectionLost("cut in the handshake"),
    ],
    ids=str,
)
def test_a_successor_that_fails_leaves_the_old_connection_alone(error: Exception) -> None:
    rig = Rig(**SLOW).active("a")
    rig.data("a", 1)
    rig.rotate()
    for _ in range(4):
        rig.drop(error)
        rig.wait(100.0)
        rig.data("a", on=1)
    assert rig.state is State.OPEN
    assert rig.ids()[0] == 1
    assert len(attempts(rig)) > 4, "it is tried again"
    assert rig.supervisor.wanted.state("a") is ACTIVE
    assert rig.emitted(Disconnected) == []
    assert rig.pending_gap("a") is None


def test_a_successor_that_is_not_answered_is_given_up_and_tried_again() -> None:
    rig = Rig(connect_timeout=5.0, **SLOW).active("a")
    rig.rotate()
    rig.wait(5.0)
    assert [cut.connection_id for cut in rig.done(Cut)] == [2]
    rig.wait(1.0)
    assert rig.ids() == [1, 3]


def test_a_successor_whose_login_is_refused_is_tried_again() -> None:
    rig = Rig(**SLOW).active("a")
    rig.rotate()
    rig.opened({"op": "login"}, on=2)
    rig.receive(LoginRefused("expired"), on=2)
    assert rig.state is State.OPEN
    assert rig.ids() == [1]
    rig.wait(1.0)
    assert rig.ids() == [1, 3]


@pytest.mark.parametrize("brings", ["nothing", "data"])
def test_successors_are_tried_less_and_less_often(brings: str) -> None:
    """Also while the old connection brings data, which proves only its own health."""
    rig = Rig(max_retry_delay=16.0, **SLOW).active("a")
    rig.wait(HEALTHY_AFTER)
    rig.rotate()
    delays = []
    for _ in range(6):
        rig.drop(HandshakeRejected("503", 503))
        since, count = rig.now, len(attempts(rig))
        while len(attempts(rig)) == count:
            rig.wait(0.5)
            if brings == "data":
                rig.data("a", on=1)
        delays.append(rig.now - since)
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 16.0]


def test_a_successor_that_opens_and_ends_is_tried_again_later() -> None:
    """Else a venue that ends each second connection would be dialed without a pause."""
    rig = Rig(**SLOW).active("a")
    rig.rotate()
    for _ in range(3):
        rig.opened()
        rig.drop()
        rig.tick()
        assert rig.ids() == [1]
        rig.wait(8.0)
    assert len(attempts(rig)) == 5


def test_a_retry_after_of_the_venue_is_kept() -> None:
    rig = Rig(**SLOW).active("a")
    rig.rotate()
    error = HandshakeRejected("429", 429)
    error.retry_after = 50.0
    rig.drop(error)
    rig.wait(49.0)
    assert rig.ids() == [1]
    rig.wait(1.0)
    assert rig.ids() == [1, 3]


def test_attempts_of_successors_do_not_count_as_reconnects() -> None:
    rig = Rig(max_reconnects=2, **SLOW).active("a")
    rig.rotate()
    for _ in range(5):
        rig.drop(HandshakeRejected("503", 503))
        rig.wait(60.0)
    rig.drop()
    rig.drop(on=1)
    assert rig.state is State.BACKING_OFF


def test_a_late_successor_has_time_to_prove_itself() -> None:
    """The old connection lives: it is not cut as soon as a successor is open at last."""
    rig = rotating("a", numbers=False, connect_timeout=1000.0)
    rig.drop(on=2)
    while rig.now < 1000.0 + 70.0:
        rig.wait(1.0)
        if len(rig.ids()) > 1:
            rig.drop(HandshakeRejected("503", 503))
    rig.wait(64.0)
    rig.opened()
    assert hangups(rig) == []
    rig.ack("a")
    rig.wait(5.1)
    assert hangups(rig) == [1]
    close_frame(rig, on=1)
    assert rig.pending_gap("a") is None


def test_it_has_no_more_time_than_that() -> None:
    rig = Rig(random=0.0, **SLOW).active("a")
    rig.receive(Ending("now", 0.0))
    rig.opened(on=2)
    rig.wait(OVERLAP_TIME - 1.0)
    assert hangups(rig) == []
    rig.wait(1.0)
    assert hangups(rig) == [1]


def test_a_successor_is_cut_while_it_subscribes() -> None:
    rig = rotating("a", "b")
    rig.ack("a", on=2)
    rig.data("a", 2, on=2)
    rig.drop(on=2)
    rig.data("a", 2, 3, on=1)
    rig.data("b", 2, on=1)
    assert rig.got("a") == [1, 2, 3]
    assert rig.got("b") == [1, 2]
    assert rig.asked(on=1) == [("subscribe", ["a", "b"])], "nothing is asked of the old one"
    assert rig.emitted(Recovered) == []


def test_an_attempt_that_fails_asks_nothing_of_the_old_connection() -> None:
    """A channel that waits until it is asked for again goes on to wait."""
    rig = Rig(**SLOW).active("a", "b")
    for _ in range(10):
        rig.receive(Ended("gone", channel="a"))
        rig.ack("a")
    rig.receive(Ended("gone", channel="a"))
    rig.rotate()
    before = rig.asked(on=1)
    rig.drop(HandshakeRejected("503", 503), on=2)
    rig.tick()
    assert rig.asked(on=1) == before


# --- The old connection ends by itself -----------------------------------------------------------


def test_the_old_connection_ends_before_the_successor_is_open() -> None:
    rig = Rig(**SLOW).active("a")
    rig.texts("a", "first")
    rig.rotate()
    rig.drop(on=1)
    assert rig.state is State.CONNECTING
    rig.opened(on=2)
    rig.ack("a", on=2)
    rig.texts("a", "next", on=2)
    assert rig.got("a") == ["first", "?reconnect", "next"]
    assert rig.supervisor.counters.reconnects == 1
    assert rig.supervisor.counters.rotations == 0
    assert len(rig.emitted(Recovered)) == 1
    assert rig.outcome("rotate") is None


def test_the_old_connection_ends_before_the_successor_has_confirmed() -> None:
    rig = rotating("a", "b")
    rig.ack("a", on=2)
    rig.data("a", 2, on=2)
    rig.drop(on=1)
    assert rig.supervisor.wanted.state("a") is ACTIVE
    assert rig.supervisor.wanted.state("b") is SubscriptionState.PENDING
    rig.ack("b", on=2)
    rig.data("a", 3, on=2)
    rig.data("b", 2, on=2)
    assert rig.got("a") == [1, 2, 3]
    assert rig.got("b") == [1, 2]
    (ended,) = rig.emitted(Disconnected)
    assert ended.reason != "rotated"
    assert rig.state is State.OPEN
    assert rig.asked(on=2) == [("subscribe", ["a", "b"])]


def test_only_the_channels_that_nothing_proves_are_marked() -> None:
    rig = rotating("a", "b", numbers=False)
    rig.ack("a", "b", on=2)
    rig.wait(0.3)
    for text in "bcde":
        rig.texts("a", text, on=1)
        rig.texts("a", text, on=2)
        rig.texts("b", text, on=1)
    rig.drop(on=1)
    rig.texts("a", "f", on=2)
    rig.texts("b", "f", on=2)
    assert rig.got("a") == ["first", *"bcdef"]
    assert "?reconnect" in rig.got("b")


def test_both_connections_end() -> None:
    rig = rotating("a")
    rig.ack("a", on=2)
    rig.data("a", 2, on=2)
    rig.drop(on=2)
    rig.drop(on=1)
    rig.tick()
    assert rig.state in (State.CONNECTING, State.BACKING_OFF)
    rig.open()
    rig.ack("a")
    rig.data("a", 5)
    assert rig.got("a") == [1, 2, "?reconnect", 5]
    assert len(rig.emitted(Recovered)) == 1


def test_the_successor_ends_while_the_old_connection_drains() -> None:
    rig = rotating("a")
    rig.ack("a", on=2)
    rig.data("a", 2, on=2)
    rig.data("a", 2, on=1)
    assert hangups(rig) == [1]
    rig.drop(on=2)
    rig.tick()
    rig.data("a", 3, on=1)
    rig.open()
    rig.ack("a")
    close_frame(rig, on=1)
    rig.data("a", 4)
    assert rig.got("a") == [1, 2, 3, 4]
    assert len(rig.ids()) == 1
    assert rig.emitted(Rotated) == [] or rig.supervisor.counters.rotations == 1


def test_the_old_connection_is_cut_while_it_drains() -> None:
    rig = rotating("a")
    rig.ack("a", on=2)
    rig.data("a", 2, on=2)
    rig.data("a", 2, on=1)
    rig.drop(on=1)
    assert [event.reason for event in rig.emitted(Disconnected)] == ["rotated"]
    rig.data("a", 3)
    assert rig.got("a") == [1, 2, 3]


# --- The end of the client -----------------------------------------------------------------------


def at_dial(rig: Rig) -> None:
    rig.rotate()


def at_login(rig: Rig) -> None:
    rig.rotate()
    rig.opened({"op": "login"}, on=2)


def at_open(rig: Rig) -> None:
    rig.rotate()
    rig.opened(on=2)


def at_confirmation(rig: Rig) -> None:
    at_open(rig)
    rig.ack("a", on=2)


def at_drain(rig: Rig) -> None:
    at_confirmation(rig)
    rig.wait(6.0)
    assert hangups(rig) == [1]


STEPS = [at_dial, at_login, at_open, at_confirmation, at_drain]


@pytest.mark.parametrize("step", STEPS)
def test_close_ends_all_connections_at_each_step(step: Any) -> None:
    rig = Rig(**SLOW).active("a")
    step(rig)
    rig.close()
    assert rig.ids() == []


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_ends_all_connections_at_each_step(step: Any) -> None:
    rig = Rig(**SLOW).active("a")
    step(rig)
    ids = rig.ids()
    error = ConnectionLost("a bug")
    rig.supervisor.fail(error)
    assert [abort.connection_id for abort in rig.done(Abort)] == ids
    assert rig.state is State.FAILED
    assert isinstance(rig.outcome("rotate"), ConnectionLost)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("cut", [1, 2])
def test_a_cut_of_either_connection_at_each_step_leaves_a_client_that_works(
    step: Any, cut: int
) -> None:
    rig = Rig(**SLOW).active("a")
    rig.data("a", 1)
    step(rig)
    rig.drop(on=cut)
    rig.tick()
    rig.open()
    for cid in rig.ids():
        connection = rig.supervisor.connections.by_id[cid]
        if connection.asked.requests.is_asked_for("a"):
            rig.ack("a", on=cid)
    rig.wait(6.0)
    rig.data("a", 2, on=rig.supervisor.placement.serving("a").id)  # type: ignore[union-attr]
    assert rig.got("a") == [1, 2]
    assert rig.supervisor.wanted.state("a") is ACTIVE


# --- What the venue says about channels ----------------------------------------------------------


def test_a_channel_that_the_successor_is_refused_stays_on_the_old_connection() -> None:
    rig = rotating("a", "b")
    rig.ack("a", on=2)
    rig.reject("b", on=2)
    assert rig.supervisor.wanted.state("b") is ACTIVE
    rig.wait(30.0)
    assert hangups(rig) == [], "it is kept as long as possible"
    rig.data("b", 2, on=1)
    assert rig.got("b") == [1, 2]


def test_it_is_asked_for_again_when_the_old_connection_has_ended_and_lost_only_then() -> None:
    rig = rotating("a", "b")
    rig.ack("a", on=2)
    rig.reject("b", on=2)
    rig.wait(61.0)
    assert hangups(rig) == [1]
    assert rig.supervisor.wanted.state("b") is ACTIVE
    close_frame(rig, on=1)
    assert rig.asked(on=2)[-1] == ("subscribe", ["b"])
    rig.reject("b", "delisted", on=2)
    assert rig.supervisor.wanted.state("b") is None
    assert rig.got("b") == [1, "?reconnect", "lost"] or rig.got("b")[-1] == "lost"
    assert rig.supervisor.counters.channels_lost == 1


def test_it_goes_on_with_a_mark_if_the_venue_then_accepts_it() -> None:
    rig = rotating("b", numbers=False)
    rig.reject("b", on=2)
    rig.wait(61.0)
    close_frame(rig, on=1)
    rig.ack("b", on=2)
    rig.texts("b", "next", on=2)
    assert rig.got("b") == ["first", "?reconnect", "next"]


def test_a_channel_that_ends_on_the_old_connection_is_left_to_the_successor() -> None:
    rig = rotating("a", "b")
    rig.receive(Ended("gone", channel="a"), on=1)
    rig.ack("a", "b", on=2)
    rig.data("a", 2, on=2)
    rig.wait(1.0)
    assert rig.asked(on=1) == [("subscribe", ["a", "b"])]
    assert rig.got("a") == [1, 2]
    assert hangups(rig) == [1]


def test_a_channel_that_ends_on_the_successor_is_asked_for_again_there() -> None:
    rig = rotating("a", "b")
    rig.ack("a", "b", on=2)
    rig.receive(Ended("gone", channel="a"), on=2)
    assert rig.supervisor.wanted.state("a") is ACTIVE
    assert rig.asked(on=2)[-1] == ("subscribe", ["a"])
    assert hangups(rig) == []
    rig.receive(*[Ack(channel="a")] * 2, on=2)
    rig.wait(1.0)
    assert hangups(rig) == [1]
    rig.data("a", 2, on=2)
    assert rig.got("a") == [1, 2]


def test_a_channel_that_ends_on_both_is_asked_for_again_and_marked() -> None:
    rig = rotating("a", numbers=False)
    rig.ack("a", on=2)
    rig.receive(Ended("gone", channel="a"), on=1)
    rig.receive(Ended("gone", channel="a"), on=2)
    assert rig.supervisor.wanted.state("a") is SubscriptionState.PENDING
    assert rig.asked(on=2)[-1] == ("subscribe", ["a"])
    rig.receive(*[Ack(channel="a")] * 2, on=2)
    rig.texts("a", "next", on=2)
    assert rig.got("a") == ["first", "?reconnect", "next"]


def test_a_channel_that_is_left_on_one_connection_is_not_carried_there_if_the_other_keeps_it() -> (
    None
):
    """The venue refuses the unsubscribe on the old connection, and accepts it on the new one."""
    rig = rotating("a")
    rig.ack("a", on=2)
    rig.unsubscribe("a")
    rig.reject("a", "not now", on=1)
    rig.ack("a", on=2)
    rig.wait(20.0)
    assert rig.asked(on=2)[-1] == ("subscribe", ["a"])
    assert hangups(rig) == []


def test_an_unsubscribe_is_complete_when_both_connections_have_left() -> None:
    rig = rotating("a", "b")
    rig.ack("a", "b", on=2)
    token = rig.unsubscribe("a")
    rig.ack("a", on=1)
    assert rig.outcome(token) == "waiting"
    rig.ack("a", on=2)
    assert rig.outcome(token) is None
    assert rig.supervisor.wanted.state("a") is None
    rig.wait(1.0)
    assert hangups(rig) == [1]


def test_an_unsubscribe_is_complete_when_the_other_connection_has_ended() -> None:
    rig = rotating("a", "b")
    rig.ack("a", "b", on=2)
    token = rig.unsubscribe("a")
    rig.ack("a", on=2)
    rig.drop(on=1)
    assert rig.outcome(token) is None


def test_an_unsubscribe_on_the_old_connection_is_not_asked_again_of_the_successor() -> None:
    rig = Rig(**SLOW).active("a", "b")
    rig.rotate()
    token = rig.unsubscribe("a")
    rig.opened(on=2)
    assert rig.asked(on=2) == [("subscribe", ["b"])]
    rig.ack("a", on=1)
    assert rig.outcome(token) is None


@pytest.mark.parametrize("last", [1, 2])
def test_a_channel_that_is_wanted_again_goes_to_the_successor(last: int) -> None:
    rig = rotating("a", "b")
    rig.ack("a", "b", on=2)
    rig.unsubscribe("a")
    token = rig.subscribe("a")
    rig.ack("a", on=3 - last)
    rig.ack("a", on=last)
    assert rig.asked(on=2)[-1] == ("subscribe", ["a"])
    rig.ack("a", on=2)
    assert rig.outcome(token) is None
    rig.data("a", 7, on=2)
    rig.wait(1.0)
    assert hangups(rig) == [1]
    close_frame(rig, on=1)
    rig.data("a", 8, on=2)
    assert rig.got("a") == [1, 7, 8]


def test_a_channel_that_leaves_the_old_connection_and_is_wanted_again_meets_the_successor() -> None:
    rig = Rig(**SLOW).active("a", "b")
    rig.rotate()
    rig.unsubscribe("a")
    rig.subscribe("a")
    rig.opened(on=2)
    rig.ack("a", on=1)
    assert rig.asked(on=2) == [("subscribe", ["b"]), ("subscribe", ["a"])]


def test_a_rotation_waits_for_a_refresh() -> None:
    rig = rotating("book", "b")
    rig.ack("book", "b", on=2)
    rig.supervisor.upkeep.refreshes.want("book", rig.now)
    rig.tick()
    assert rig.asked(on=2)[-2:] == [("unsubscribe", ["book"]), ("subscribe", ["book"])]
    rig.wait(3.0)
    assert hangups(rig) == []
    assert rig.supervisor.wanted.state("book") is ACTIVE
    rig.receive(Ack(channel="book"), Ack(channel="book"), on=2)
    rig.wait(1.0)
    assert hangups(rig) == [1]


def test_a_refresh_that_the_venue_refuses_leaves_the_channel_on_the_old_connection() -> None:
    rig = rotating("book", "b")
    rig.ack("book", "b", on=2)
    rig.supervisor.upkeep.refreshes.want("book", rig.now)
    rig.tick()
    rig.ack("book", on=2)
    rig.reject("book", on=2)
    rig.supervisor.upkeep.refreshes.done("book")
    rig.wait(30.0)
    assert hangups(rig) == []
    rig.data("book", 2, on=1)
    assert rig.got("book") == [1, 2]


def test_a_rotation_waits_for_a_refresh_on_the_old_connection() -> None:
    rig = rotating("book", "b")
    rig.ack("b", on=2)
    rig.reject("book", on=2)
    rig.supervisor.upkeep.refreshes.want("book", rig.now)
    rig.tick()
    assert rig.asked(on=1)[-2:] == [("unsubscribe", ["book"]), ("subscribe", ["book"])]
    rig.wait(3.0)
    assert hangups(rig) == []


def test_a_resubscription_that_is_not_answered_ends_the_successor_only() -> None:
    rig = rotating("a", ack_timeout=5.0)
    rig.wait(10.0)
    assert [cut.connection_id for cut in rig.done(Cut)] == [2]
    assert rig.state is State.OPEN
    assert rig.supervisor.wanted.state("a") is ACTIVE
    rig.data("a", 2, on=1)
    assert rig.got("a") == [1, 2]


def test_aliases_differ_per_connection() -> None:
    rig = Rig(Plain(Limits(channels_per_message=10)), **SLOW).open()
    rig.subscribe("a")
    rig.receive(Ack(channel="a", alias="11"))
    rig.data("11", 1, on=1)
    rig.rotate()
    rig.opened(on=2)
    rig.receive(Ack(channel="a", alias="22"), on=2)
    rig.data("11", 2, on=1)
    rig.data("22", 2, 3, on=2)
    rig.data("11", 3, 4, on=1)
    assert rig.got("a") == [1, 2, 3, 4]
    rig.unsubscribe("a")
    assert rig.asked(on=1)[-1] == ("unsubscribe", ["11"]) or hangups(rig) == [1]
    assert rig.asked(on=2)[-1] == ("unsubscribe", ["22"])


def test_data_confirms_where_the_venue_does_not_acknowledge() -> None:
    rig = Rig(Plain(Limits(channels_per_message=10), acknowledges=False)).open()
    rig.subscribe("a")
    rig.data("a", 1)
    rig.rotate()
    rig.opened(on=2)
    rig.wait(3.0)
    assert hangups(rig) == []
    rig.data("a", 2, on=1)
    rig.data("a", 2, on=2)
    rig.wait(0.1)
    assert hangups(rig) == [1]
    assert rig.got("a") == [1, 2]


def test_a_quiet_channel_of_a_venue_without_acks_is_subscribed_once_on_the_successor() -> None:
    rig = Rig(Plain(Limits(channels_per_message=10), acknowledges=False)).open()
    rig.subscribe("a")
    rig.data("a", 1)
    rig.rotate()
    rig.opened(on=2)
    rig.wait(61.0)
    close_frame(rig, on=1)
    rig.tick()
    assert rig.asked(on=2) == [("subscribe", ["a"])]
    rig.data("a", 2, on=2)
    assert rig.got("a") == [1, 2]


def test_a_jump_of_a_counted_connection_concerns_only_what_it_carries() -> None:
    rig = rotating("a", "b", numbers=False)
    rig.ack("a", "b", on=2)
    rig.receive(Counted(1), on=1)
    rig.receive(Counted(7), on=2)
    rig.receive(Counted(9), on=2)
    rig.texts("a", "b", on=1)
    assert rig.got("a") == ["first", "b"]
    rig.receive(Counted(3), rig.message("a", text="c", on=1), on=1)
    assert rig.got("a") == ["first", "b", "?sequence", "c"]


def test_a_jump_of_an_old_connection_does_not_concern_what_only_the_new_one_carries() -> None:
    rig = rotating("a", "b", numbers=False)
    rig.ack("a", "b", on=2)
    rig.receive(Counted(1), on=1)
    rig.subscribe("c")
    rig.ack("c", on=2)
    rig.texts("c", "first", on=2)
    rig.receive(Counted(5), on=1)
    rig.texts("c", "next", on=2)
    assert rig.got("c") == ["first", "next"]


def test_numbers_of_a_connection_begin_again_on_the_successor() -> None:
    rig = rotating("a", numbers=False)
    rig.receive(Counted(500), on=1)
    rig.receive(Counted(1), Ack(channel="a"), on=2)
    rig.receive(Counted(2), on=2)
    assert rig.pending_gap("a") is None


def test_a_channel_that_never_sends_is_reported_though_its_connection_is_replaced() -> None:
    dialect = Plain(first_message_within=lambda channel: 30.0)
    rig = Rig(dialect, wants=lambda _: True, **SLOW).active("a")
    rig.wait(20.0)
    rig.rotate()
    rig.opened(on=2)
    rig.ack("a", on=2)
    rig.wait(9.0)
    assert rig.emitted(NoData) == []
    rig.wait(2.0)
    assert [event.channel for event in rig.emitted(NoData)] == ["a"]


def test_silence_is_that_of_both_connections() -> None:
    rig = rotating("a", stale_after=30.0)
    rig.ack("a", on=2)
    rig.data("a", 2, on=2)
    for number in range(3, 9):
        rig.wait(20.0)
        rig.data("a", number, on=2)
    assert [kind for kind, _ in rig.asked(on=2)] == ["subscribe"]


def test_a_dead_old_connection_is_found_during_an_overlap() -> None:
    rig = rotating("a", numbers=False, silence_timeout=10.0)
    rig.wait(11.0, ConnectionView(rig.now))
    assert {cut.connection_id for cut in rig.done(Cut)} == {1, 2}


def test_a_channel_with_a_pending_refusal_is_not_taken_for_carried() -> None:
    rig = rotating("a")
    rig.receive(Rejection("no", channel="a"), on=2)
    assert rig.supervisor.wanted.carriers("a") == (1,)


# --- What the venue sends unrequested ------------------------------------------------------------


@pytest.mark.parametrize("numbers", [True, False])
def test_unrequested_messages_are_delivered_once(numbers: bool) -> None:
    rig = rotating("a", numbers=False)
    rig.drop(on=2)
    send = rig.data if numbers else rig.texts
    first: list[Any] = [1, 2, 3, 4, 5, 6, 7, 8] if numbers else list("12345678")
    send("account", first[0], on=1)
    rig.wait(2.0)
    rig.opened(on=3)
    rig.ack("a", on=3)
    rig.wait(0.3)
    for one in first[1:7]:
        send("account", one, on=1)
        send("account", one, on=3)
    rig.wait(6.0)
    assert hangups(rig) == [1]
    close_frame(rig, on=1)
    send("account", first[7], on=3)
    assert rig.got("account") == first


def test_unrequested_messages_that_begin_during_an_overlap_are_delivered_once() -> None:
    rig = rotating("a", numbers=False)
    rig.ack("a", on=2)
    rig.wait(0.3)
    for text in "123456":
        rig.texts("account", text, on=2)
        rig.texts("account", text, on=1)
    rig.wait(6.0)
    close_frame(rig, on=1)
    rig.texts("account", "7", on=2)
    assert rig.got("account") == list("1234567")


def test_what_the_old_connection_alone_brings_unrequested_is_not_lost() -> None:
    rig = rotating("a", numbers=False)
    rig.ack("a", on=2)
    rig.texts("account", "1", on=1)
    rig.texts("account", "2", on=1)
    assert rig.got("account") == ["1", "2"]


def test_a_channel_that_came_unrequested_may_be_wanted_elsewhere() -> None:
    """Then the connection that carries it does not wait for those that happened to bring it."""
    dialect = Plain(Limits(channels_per_message=10, channels_per_connection=1))
    rig = Rig(dialect, **SLOW).active("a")
    rig.texts("b", "1", on=1)
    rig.rotate()
    rig.opened(on=2)
    rig.subscribe("b")
    rig.opened(on=3)
    rig.ack("b", on=3)
    rig.texts("b", "2", "3", on=3)
    assert rig.got("b") == ["1", "?reconnect", "2", "3"]


# --- Asked for on both at the same time ----------------------------------------------------------


def both_asked() -> Rig:
    """Return a client whose new channel ``b`` is asked for on both connections."""
    rig = Rig(Plain(Limits(channels_per_message=10)), **SLOW).active("a")
    rig.data("a", 1)
    rig.rotate()
    rig.subscribe("b", token="call")
    rig.opened(on=2)
    return rig


@pytest.mark.parametrize("refuses", [1, 2])
def test_a_refusal_waits_for_the_answer_to_the_other_connection(refuses: int) -> None:
    rig = both_asked()
    rig.reject("b", on=refuses)
    assert rig.outcome("call") == "waiting"
    rig.ack("b", on=3 - refuses)
    assert rig.outcome("call") is None
    rig.data("b", 1, 2, on=3 - refuses)
    assert rig.got("b") == [1, 2]


def test_a_new_channel_that_neither_answers_is_left_on_both() -> None:
    rig = Rig(Plain(Limits(channels_per_message=10)), ack_timeout=5.0).active("a")
    rig.rotate()
    rig.subscribe("b", token="call")
    rig.wait(1.0)
    rig.opened(on=2)
    rig.ack("a", on=2)
    rig.wait(4.0)
    assert rig.outcome("call") == "waiting"
    rig.wait(1.0)
    assert isinstance(rig.outcome("call"), SubscriptionTimeout)
    for cid in (1, 2):
        assert rig.asked(on=cid)[-1] == ("unsubscribe", ["b"])


def test_a_channel_that_both_refuse_is_refused() -> None:
    rig = both_asked()
    rig.reject("b", on=2)
    rig.reject("b", "unknown", on=1)
    error = rig.outcome("call")
    assert isinstance(error, SubscriptionRejected)
    assert error.failed == {"b": "unknown"}


def test_a_full_old_connection_gives_no_channel_away_that_the_successor_carries() -> None:
    rig = both_asked()
    rig.ack("a", "b", on=2)
    rig.receive(Rejection("full", channel="b", is_limit=True), on=1)
    assert rig.in_slots() == {"": [1, 2]}
    assert rig.supervisor.wanted.carriers("b") == (2,)


def test_a_connection_that_still_brings_a_channel_leads_though_it_is_being_refreshed() -> None:
    rig = Rig(Plain(Limits(channels_per_message=10)), **SLOW).active("a")
    rig.texts("a", "1")
    rig.connection.asked.refresh("a")
    rig.tick()
    rig.rotate()
    rig.opened(on=2)
    rig.ack("a", on=2)
    rig.texts("a", "2", "3", on=1)
    rig.texts("a", "3", on=2)
    assert rig.got("a") == ["1", "2", "3"]


def test_its_end_is_marked_as_nothing_proves_what_followed() -> None:
    rig = Rig(Plain(Limits(channels_per_message=10)), **SLOW).active("a")
    rig.texts("a", "1")
    rig.connection.asked.refresh("a")
    rig.tick()
    rig.rotate()
    rig.opened(on=2)
    rig.ack("a", on=2)
    rig.drop(on=1)
    rig.texts("a", "3", on=2)
    assert rig.got("a") == ["1", "?reconnect", "3"]


def test_a_slot_is_kept_while_its_connection_drains() -> None:
    """A channel that comes in the meantime finds the connection that drains beside its own."""
    rig = Rig(**SLOW).active("a")
    connect_route(rig, "other")
    rig.unsubscribe("a")
    rig.ack("a", on=1)
    assert hangups(rig) == [1]
    assert set(rig.in_slots()) == {"", "other"}
    rig.subscribe("b")
    assert rig.in_slots() == {"": [1, 3], "other": [2]}
    close_frame(rig, on=1)
    assert rig.in_slots() == {"": [3], "other": [2]}


def connect_route(rig: Rig, route: str) -> None:
    rig.supervisor.connect_route("route", float("inf"), rig.now, route)
    rig.tokens.add("route")
    rig.tick()
    rig.opened()
