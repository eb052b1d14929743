"""The events that the supervisor emits."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from support.rig import Plain, Rig
from wsclient import dialect
from wsclient.errors import ConnectionLost, HandshakeRejected, QueueOverflow, WSClientError
from wsclient.events import (
    Closed,
    Connected,
    DecodeError,
    Disconnected,
    Event,
    GapMarked,
    NoData,
    Noticed,
    Reconnecting,
    Recovered,
    Rejected,
    Resubscribing,
    SlowConsumer,
    StateChanged,
    Subscribed,
    Unsubscribed,
    Waiting,
)
from wsclient.messages import Gap
from wsclient.sansio import output
from wsclient.sansio.actions import (
    Cut,
)
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.sansio.life import State
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import Ended
from wsclient.verdicts import Verdict, reason_of


def emitted(rig: Rig, kind: type[Event] = Event) -> list[Any]:
    """Return the events of a type; by default all but those of a kind that comes with others."""
    by_the_way = (StateChanged, Noticed) if kind is Event else ()
    return [event for event in rig.emitted(kind) if not isinstance(event, by_the_way)]


class TestConnection:
    def test_an_attempt_that_succeeds(self) -> None:
        rig = Rig().open()
        assert emitted(rig) == [Connected(1, connection_id=1)]

    def test_attempts_are_counted_until_a_connection_is_healthy(self) -> None:
        rig = Rig().active("a")
        rig.data("a", 1)
        for _ in range(3):
            rig.drop()
            rig.open()
        assert [event.attempt for event in emitted(rig, Connected)] == [1, 1, 2, 3]

    def test_a_wait_for_the_next_attempt(self) -> None:
        rig = Rig(retry_delay=2.0)
        rig.connect()
        rig.drop(HandshakeRejected("busy", 503))
        (event,) = emitted(rig, Reconnecting)
        assert event == Reconnecting(2, 2.0, "busy", connection_id=1)
        assert rig.supervisor.endings.attempt_failures == {"http 503": 1}
        assert emitted(rig, Disconnected) == []

    def test_the_end_of_an_open_connection(self) -> None:
        rig = Rig().active("a")
        rig.data("a", 1)
        rig.wait(3.0)
        rig.drop(ConnectionLost("bye", 1001, "closed"))
        assert emitted(rig, Disconnected) == [
            Disconnected("bye", "closed", 1001, pytest.approx(3.0), connection_id=1)
        ]
        assert rig.supervisor.endings.disconnect_reasons == {"closed": 1}

    def test_without_data_on_this_connection_there_is_no_data_age(self) -> None:
        rig = Rig().active("a")
        rig.data("a", 1)
        rig.drop()
        rig.open()
        rig.drop()
        assert [event.data_age for event in emitted(rig, Disconnected)] == [0.0, None]

    def test_an_error_without_a_close_code_counts_as_1006(self) -> None:
        rig = Rig().open()
        rig.drop(ConnectionResetError("reset by peer"))
        (event,) = emitted(rig, Disconnected)
        assert (event.code, event.reason) == (1006, "reset")

    def test_a_code_of_another_error_is_not_a_close_code(self) -> None:
        rig = Rig().open()
        rig.drop(SystemExit("a function's"))
        assert [event.code for event in emitted(rig, Disconnected)] == [1006]

    def test_a_lost_message_does_not_count_as_data(self) -> None:
        rig = Rig().active("a")
        rig.drop()
        rig.open()
        rig.reject("a", "delisted")
        rig.drop()
        assert emitted(rig, Disconnected)[-1].data_age is None

    def test_times_are_rounded_to_the_millisecond(self) -> None:
        rig = Rig(retry_delay=1 / 3).active("a")
        rig.data("a", 1)
        rig.wait(2 / 3)
        rig.drop(verdict=Verdict.RATE_LIMITED)
        rig.open()
        rig.ack("a")
        assert emitted(rig, Disconnected)[0].data_age == 0.667
        assert emitted(rig, Reconnecting)[0].delay == 0.333
        assert emitted(rig, Recovered)[0].seconds == 0.333

    def test_close_is_the_last_event_and_no_disconnect(self) -> None:
        rig = Rig().open()
        rig.close()
        assert [type(event) for event in emitted(rig)] == [Connected, Closed]
        assert emitted(rig, Closed) == [Closed(None, connection_id=1)]

    def test_a_failure_is_the_last_event_though_close_comes_after_it(self) -> None:
        rig = Rig().open()
        error = QueueOverflow("full")
        rig.supervisor.fail(error)
        rig.close()
        assert emitted(rig, Closed) == [Closed(error, connection_id=1)]

    def test_a_failure_that_ends_the_connection_emits_both_events(self) -> None:
        rig = Rig(max_reconnects=0).open()
        rig.drop()
        assert [type(event) for event in emitted(rig)] == [Connected, Disconnected, Closed]


class TestReasons:
    @pytest.mark.parametrize(
        ("options", "view", "reason"),
        [
            ({"ping_interval": 1.0, "ping_timeout": 1.0}, ConnectionView(1000.0), "half-open"),
            ({"stall_timeout": 1.0}, ConnectionView(1000.0, in_frame=True), "stalled"),
            ({"send_timeout": 1.0}, ConnectionView(1000.0, unsent_since=1000.0), "deaf"),
            ({"silence_timeout": 1.0}, ConnectionView(1000.0), "silent"),
        ],
    )
    def test_of_a_dead_connection(
        self, options: dict[str, Any], view: ConnectionView, reason: str
    ) -> None:
        rig = Rig(**options).open()
        rig.wait(3.0, view)
        assert emitted(rig, Disconnected)[0].reason == reason

    def test_of_a_connection_that_has_reached_its_maximum_age(self) -> None:
        rig = Rig(Plain(dialect.Limits(max_age=10.0, connections=1))).open()
        rig.wait(10.0)
        assert emitted(rig, Disconnected)[0].reason == "age"

    def test_of_a_channel_that_stays_silent(self) -> None:
        rig = Rig(stale_after=1.0).active("a")
        rig.wait(1.0)
        rig.ack("a")  # for the unsubscribe
        rig.ack("a")
        rig.wait(1.0)
        assert emitted(rig, Disconnected)[0].reason == "silent"

    def test_of_a_resubscription_without_an_answer(self) -> None:
        rig = Rig(ack_timeout=1.0).active("a")
        rig.drop()
        rig.open()
        rig.wait(2.0)
        assert [event.reason for event in emitted(rig, Disconnected)] == ["ended", "unanswered"]

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ConnectionLost("gone"), "ended"),
            (HandshakeRejected("no", 429), "http 429"),
            (TimeoutError("slow"), "TimeoutError"),
            (BrokenPipeError(), "reset"),
            (ConnectionRefusedError(), "ConnectionRefusedError"),
        ],
    )
    def test_of_an_error(self, error: BaseException, reason: str) -> None:
        assert reason_of(error) == reason


class TestChannels:
    def test_one_event_for_each_answer(self) -> None:
        rig = Rig().open()
        rig.subscribe("a", "b", "c")
        rig.ack("a")
        rig.receive(dialect.SubscribedChannels(["a", "b", "c"]))
        assert [event.channels for event in emitted(rig, Subscribed)] == [("a",), ("b", "c")]

    def test_an_answer_that_confirms_nothing_new_emits_no_event(self) -> None:
        rig = Rig().active("a")
        rig.ack("a")
        assert len(emitted(rig, Subscribed)) == 1

    def test_a_refusal(self) -> None:
        rig = Rig().open()
        rig.subscribe("a")
        rig.reject("a", "no such market")
        assert emitted(rig, Rejected) == [Rejected("a", "no such market", False, connection_id=1)]

    def test_a_refusal_of_an_unsubscribe_does_not_reject_the_channel(self) -> None:
        rig = Rig().active("a")
        rig.unsubscribe("a")
        rig.reject("a", "not now")
        assert emitted(rig, Rejected) == []

    def test_no_answer_to_the_first_subscribe(self) -> None:
        rig = Rig(ack_timeout=1.0).open()
        rig.subscribe("a")
        rig.wait(1.0)
        assert emitted(rig, Rejected) == [
            Rejected("a", "no answer within 1 s", False, connection_id=1)
        ]

    def test_a_lost_channel(self) -> None:
        rig = Rig().active("a")
        rig.drop()
        rig.open()
        rig.reject("a", "delisted")
        assert emitted(rig, Rejected) == [Rejected("a", "delisted", True, connection_id=2)]

    def test_a_channel_that_is_unsubscribed(self) -> None:
        rig = Rig().active("a")
        rig.unsubscribe("a")
        assert emitted(rig, Unsubscribed) == []
        rig.ack("a")
        assert emitted(rig, Unsubscribed) == [Unsubscribed("a", "", connection_id=1)]

    def test_an_unsubscribe_without_an_answer(self) -> None:
        rig = Rig(ack_timeout=1.0).active("a")
        rig.unsubscribe("a")
        rig.wait(1.0)
        (event,) = emitted(rig, Unsubscribed)
        assert event.why == "no answer within 1 s"

    def test_a_channel_that_is_wanted_again_is_not_unsubscribed(self) -> None:
        rig = Rig().active("a")
        rig.unsubscribe("a")
        rig.subscribe("a")
        rig.ack("a")
        rig.ack("a")
        assert emitted(rig, Unsubscribed) == []
        assert len(emitted(rig, Subscribed)) == 2

    def test_lost_refused_and_ended_channels_are_counted(self) -> None:
        rig = Rig().active("a", "b")
        rig.subscribe("c")
        rig.reject("c", "no such market")
        rig.receive(Ended("expired", channel="a"))
        rig.tick()
        rig.reject("a", "not subscribed")  # the unsubscribe before the subscribe
        rig.reject("a", "delisted")
        rig.drop()
        rig.open()
        rig.reject("b", "delisted")
        counters = rig.supervisor.counters
        assert counters.channels_refused == 1
        assert counters.channels_ended == 1
        assert counters.channels_lost == 2


class TestRecovered:
    def test_comes_when_every_channel_is_confirmed_again(self) -> None:
        rig = Rig(retry_delay=4.0).active("a", "b")
        rig.drop()
        rig.open()
        rig.ack("a")
        assert emitted(rig, Recovered) == []
        rig.wait(1.0)
        rig.ack("b")
        assert emitted(rig, Recovered) == [Recovered(pytest.approx(5.0), 2, connection_id=2)]

    def test_does_not_count_what_is_being_unsubscribed(self) -> None:
        rig = Rig().active("a", "b")
        rig.drop()
        rig.open()
        rig.unsubscribe("b")
        rig.ack("a")
        assert [event.channels for event in emitted(rig, Recovered)] == [1]

    def test_comes_at_once_if_no_channel_is_wanted(self) -> None:
        rig = Rig().open()
        rig.drop()
        rig.open()
        assert [event.channels for event in emitted(rig, Recovered)] == [0]

    def test_does_not_come_while_the_connection_is_down(self) -> None:
        rig = Rig(retry_delay=4.0).open()
        rig.drop()
        rig.wait(1.0)
        assert rig.state is State.BACKING_OFF
        assert emitted(rig, Recovered) == []

    def test_counts_from_the_first_of_several_ends(self) -> None:
        rig = Rig(retry_delay=4.0).active("a")
        rig.drop()
        rig.open()
        rig.drop()
        rig.open()
        rig.ack("a")
        assert [event.seconds for event in emitted(rig, Recovered)] == [pytest.approx(12.0)]

    def test_comes_before_the_next_end_even_if_no_time_is_left(self) -> None:
        rig = Rig().active("a")
        rig.drop()
        rig.open()
        rig.received(rig.cid, [dialect.Ack(channel="a")], rig.now)
        rig.drop()
        kinds = (Disconnected, Recovered, Subscribed)
        named = [type(event) for event in rig.emitted(*kinds)]
        assert named[-4:] == [Disconnected, Subscribed, Recovered, Disconnected]

    def test_does_not_come_on_the_first_connection_nor_twice(self) -> None:
        rig = Rig().active("a")
        assert emitted(rig, Recovered) == []
        rig.drop()
        rig.open()
        rig.ack("a")
        rig.wait(60.0)
        assert len(emitted(rig, Recovered)) == 1

    def test_a_channel_that_is_lost_is_not_waited_for(self) -> None:
        rig = Rig().active("a", "b")
        rig.drop()
        rig.open()
        rig.ack("a")
        rig.reject("b")
        assert [event.channels for event in emitted(rig, Recovered)] == [1]

    def test_comes_with_the_data_if_the_venue_never_acknowledges(self) -> None:
        rig = Rig(Plain(acknowledges=False)).open()
        rig.subscribe("a")
        rig.data("a", 1)
        rig.drop()
        rig.open()
        assert emitted(rig, Recovered) == []
        rig.data("a", 2)
        assert len(emitted(rig, Recovered)) == 1


class TestGaps:
    def test_each_gap_emits_an_event_if_someone_listens(self) -> None:
        rig = Rig(wants=lambda _: True).active("a")
        rig.data("a", 1, 3, 5)
        assert [(e.channel, e.gap) for e in emitted(rig, GapMarked)] == [
            ("a", Gap("sequence", 1, 1)),
            ("a", Gap("sequence", 1, 2)),
        ]

    def test_a_late_or_duplicate_message_emits_no_gap(self) -> None:
        rig = Rig(wants=lambda _: True).active("a")
        rig.data("a", 1, 3, 2, 3)
        assert len(emitted(rig, GapMarked)) == 1

    def test_of_a_flood_the_numbers_tell_what_is_not_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(output, "MAX_WAITING", 3)
        rig = Rig(wants=lambda _: True).active("a")
        before = rig.numbers(Event)[-1]
        rig.data("a", *range(1, 21, 2))
        rig.data("a", 100)
        numbers = [number - before for number in rig.numbers(GapMarked)]
        assert numbers == [1, 2, 3, 10]

    def test_no_event_is_built_if_no_one_listens(self) -> None:
        rig = Rig().active("a")
        rig.data("a", 1, 3)
        assert emitted(rig, GapMarked) == []
        assert rig.supervisor.counters.gaps == 1


class TestDecodeErrors:
    def test_at_most_one_per_second_with_the_number_of_frames(self) -> None:
        rig = Rig().open()
        rig.receive(*[Invalid("nonsense")] * 5)
        rig.receive(Invalid("more"))
        rig.wait(1.0)
        assert emitted(rig, DecodeError) == [
            DecodeError("nonsense", 1, connection_id=1),
            DecodeError("more", 5, connection_id=1),
        ]


class TestNoData:
    """Channels that are confirmed but stay without a message."""

    def test_after_a_minute_it_is_reported_once_and_nothing_is_cut(self) -> None:
        rig = Rig().active("a", "b")
        rig.data("b", 1)
        rig.wait(59.0)
        assert emitted(rig, NoData) == []
        rig.wait(600.0)
        assert emitted(rig, NoData) == [NoData("a", 60.0, connection_id=1)]
        assert rig.supervisor.upkeep.first_messages.overdue() == ("a",)
        assert "'a' was confirmed 60 s ago, but no message" in rig.logs("warning")[0]
        assert (rig.state, rig.cid) == (State.OPEN, 1)

    def test_a_message_ends_it(self) -> None:
        rig = Rig().active("a")
        rig.wait(60.0)
        rig.data("a", 1)
        assert rig.supervisor.upkeep.first_messages.overdue() == ()

    def test_an_unreadable_message_counts(self) -> None:
        rig = Rig().active("a")
        rig.receive(Invalid("nonsense", rig.message("a", 1)))
        rig.wait(600.0)
        assert emitted(rig, NoData) == []

    def test_a_message_before_the_confirmation_counts(self) -> None:
        rig = Rig().open()
        rig.subscribe("a")
        rig.data("a", 1)
        rig.ack("a")
        rig.wait(600.0)
        assert emitted(rig, NoData) == []

    def test_a_reconnect_restarts_the_time_and_does_not_report_twice(self) -> None:
        rig = Rig().active("a", "b")
        rig.wait(30.0)
        rig.data("b", 1)
        rig.wait(30.0)
        rig.drop()
        rig.open().ack("a", "b")
        rig.wait(59.0)
        assert [event.channel for event in emitted(rig, NoData)] == ["a"]
        rig.wait(1.0)
        assert [event.channel for event in emitted(rig, NoData)] == ["a", "b"]
        assert set(rig.supervisor.upkeep.first_messages.overdue()) == {"a", "b"}

    def test_a_channel_that_is_unsubscribed_from_is_forgotten(self) -> None:
        rig = Rig().active("a")
        rig.wait(60.0)
        rig.unsubscribe("a")
        rig.ack("a")
        assert rig.supervisor.upkeep.first_messages.overdue() == ()
        rig.active("a").wait(60.0)
        assert len(emitted(rig, NoData)) == 2

    def test_the_dialect_defines_the_time_of_each_channel(self) -> None:
        class Patient(Plain):
            quiet_channels = ("user.",)

            def first_message_within(self, channel: str) -> float | None:
                return 5.0 if channel == "fast" else super().first_message_within(channel)

        rig = Rig(Patient()).active("fast", "user.orders")
        rig.wait(600.0)
        assert emitted(rig, NoData) == [NoData("fast", 5.0, connection_id=1)]

    @pytest.mark.parametrize("within", [0, -1.0, float("inf"), float("nan"), "60"])
    def test_an_invalid_time_of_the_dialect_refuses_the_channel(self, within: Any) -> None:
        rig = Rig(Plain(first_message_within=lambda channel: within)).open()
        token = rig.subscribe("a")
        assert "'a'" in str(rig.outcome(token))

    def test_a_stopped_process_is_no_silence(self) -> None:
        rig = Rig().active("a")
        rig.sleep(300.0)
        rig.wait(59.0)
        assert emitted(rig, NoData) == []
        rig.wait(1.0)
        assert len(emitted(rig, NoData)) == 1

    def test_a_message_before_the_confirmation_that_cannot_be_read_counts(self) -> None:
        rig = Rig().open()
        rig.subscribe("a")
        rig.receive(Invalid("nonsense", rig.message("a", 1)))
        rig.ack("a")
        rig.wait(600.0)
        assert emitted(rig, NoData) == []

    def test_what_the_dialect_says_at_a_reconnect_holds_from_then_on(self) -> None:
        within = iter([5.0, None])
        rig = Rig(Plain(first_message_within=lambda channel: next(within))).active("a")
        rig.drop()
        rig.open().ack("a")
        rig.wait(100.0)
        assert emitted(rig, NoData) == []

    def test_one_whose_time_is_up_while_it_has_ended_has_its_time_again(self) -> None:
        others = [f"x{n}" for n in range(10)]
        rig = Rig().active("a", *others)
        rig.data("a", 1)
        rig.drop()
        rig.open().ack("a", *others)
        rig.wait(55.0)
        for name in (*others, "a"):  # the others exhaust the budget until 65 s
            rig.receive(dialect.Ended("gone", channel=name))
        rig.receive(*(dialect.Ack(channel=name, verb="unsubscribe") for name in others))
        rig.ack(*others)
        rig.wait(6.0)
        assert "a" not in rig.supervisor.upkeep.first_messages.overdue()
        rig.wait(10.0)
        rig.receive(dialect.Ack(channel="a", verb="unsubscribe"))
        rig.ack("a")
        rig.wait(60.0)
        assert "a" in [event.channel for event in emitted(rig, NoData)]

    def test_one_that_a_refused_unsubscribe_keeps_is_watched_as_before(self) -> None:
        rig = Rig(ack_timeout=100.0).active("a")
        rig.wait(59.0)
        rig.unsubscribe("a")
        rig.wait(2.0)
        rig.reject("a")
        rig.tick()
        assert emitted(rig, NoData) == [NoData("a", 60.0, connection_id=1)]
        assert rig.supervisor.upkeep.first_messages.overdue() == ("a",)

    def test_many_at_once_give_one_log_line(self) -> None:
        names = [f"x{n}" for n in range(500)]
        rig = Rig().active(*names)
        rig.wait(100.0)
        assert [event.channel for event in emitted(rig, NoData)] == names
        assert len(rig.logs("warning")) <= 2


class TestEndedByTheVenue:
    def end(self, rig: Rig, channel: str = "a") -> None:
        rig.receive(dialect.Ack(channel=channel, verb="unsubscribe"))

    def test_it_is_reported_marked_and_resubscribed(self) -> None:
        rig = Rig().active("a", "b")
        rig.data("a", 1)
        self.end(rig)
        (event,) = emitted(rig, Resubscribing)
        assert (event.channel, event.reason) == ("a", "ended")
        assert "'a' was ended by the venue" in event.why
        assert rig.asked()[-1] == ("subscribe", ["a"])
        rig.ack("a")
        (message,) = rig.data("a", None)
        assert message.gap == Gap("reconnect", None, message.gap.since)
        assert rig.cid == 1
        assert emitted(rig)[-1].channels == ("a",)

    def test_a_channel_ended_repeatedly_is_resubscribed_less_and_less_often(self) -> None:
        rig = Rig().active("a")
        start, times = rig.now, []
        while len(times) < 6:
            count = len(rig.asked())
            self.end(rig)
            while len(rig.asked()) == count:
                rig.wait(max(0.01, rig.deadline() - rig.now))
            times.append(rig.now - start)
            rig.ack("a")
        waits = [round(b - a) for a, b in itertools.pairwise(times)]
        assert waits == [5, 10, 20, 40, 80]

    def test_many_at_once_share_the_budget_of_refreshes(self) -> None:
        names = [f"x{n}" for n in range(30)]
        rig = Rig(ack_timeout=100.0).active(*names)
        before = len(rig.asked())
        rig.receive(*(dialect.Ack(channel=name, verb="unsubscribe") for name in names))
        assert len(rig.asked()) - before == 10
        rig.wait(10.0)
        assert len(rig.asked()) - before == 20
        rig.wait(10.0)
        assert len(rig.asked()) - before == 30

    def test_channels_of_one_message_cost_the_budget_of_one(self) -> None:
        names = [f"x{n}" for n in range(30)]
        rig = Rig(Plain(dialect.Limits(channels_per_message=30))).active(*names)
        rig.receive(dialect.SubscribedChannels([]))
        assert rig.asked()[-1] == ("subscribe", names)
        assert len(emitted(rig, Resubscribing)) == 30

    def test_a_message_after_the_end_does_not_take_the_mark_from_the_next(self) -> None:
        rig = Rig().active("a")
        rig.data("a")
        rig.receive(dialect.Ack(channel="a", verb="unsubscribe"), rig.message("a"))
        rig.ack("a")
        (message,) = rig.data("a")
        assert message.gap == Gap("reconnect", None, message.previous_at)

    def test_a_message_after_the_end_confirms_nothing_where_the_venue_does_not(self) -> None:
        rig = Rig(Plain(acknowledges=False)).open()
        rig.subscribe("a")
        rig.data("a")
        rig.receive(dialect.Ended("gone", channel="a"), rig.message("a"))
        assert rig.asked()[1:] == [("unsubscribe", ["a"]), ("subscribe", ["a"])]

    @pytest.mark.parametrize("is_refused", [True, False])
    def test_any_answer_fulfils_an_unsubscribe_of_one_that_waits(self, is_refused: bool) -> None:
        names = [f"x{n}" for n in range(10)]
        rig = Rig().active(*names, "a")
        rig.receive(*(dialect.Ended("gone", channel=name) for name in (*names, "a")))
        token = rig.unsubscribe("a")
        assert rig.asked()[-1] == ("unsubscribe", ["a"]), "the venue may still have it"
        rig.receive(
            dialect.Rejection("no", channel="a") if is_refused else dialect.Ack(channel="a")
        )
        assert rig.outcome(token) is None
        assert rig.supervisor.wanted.state("a") is None

    def test_one_that_is_left_at_once_and_comes_back_waits_for_nothing(self) -> None:
        rig = Rig().active("a")
        end = dialect.Ack(channel="a", verb="unsubscribe")
        rig.received(rig.cid, [end], rig.now)
        rig.unsubscribe("a")
        rig.active("a")
        count = len(rig.asked())
        self.end(rig)
        assert rig.asked()[count:] == [("subscribe", ["a"])]

    def test_a_new_connection_leaves_the_budget_to_those_that_need_it(self) -> None:
        names = [f"x{n}" for n in range(40)]
        rig = Rig().active(*names, "book")
        rig.receive(*(dialect.Ack(channel=name, verb="unsubscribe") for name in names))
        rig.drop()
        rig.open().ack(*names, "book")
        rig.wait(10.0)
        rig.supervisor.upkeep.refreshes.want("book", rig.now)
        rig.tick()
        assert rig.asked()[-2:] == [("unsubscribe", ["book"]), ("subscribe", ["book"])]

    def test_an_item_that_ends_nothing_is_a_notice(self) -> None:
        rig = Rig().open()
        rig.receive(dialect.Ended("too many connections", name="orders"))
        assert "too many connections" in rig.logs("warning")[0]

    def test_a_lost_connection_forgets_it(self) -> None:
        rig = Rig().active("a")
        self.end(rig)
        rig.drop()
        rig.open().ack("a")
        rig.wait(100.0)
        assert [verb for verb, _ in rig.asked()] == ["subscribe"]


def test_a_resubscribed_silent_channel_emits_an_event() -> None:
    rig = Rig(stale_after=30.0).active("a")
    rig.wait(30.0)
    why = "'a' has been silent for 30 s"
    assert emitted(rig, Resubscribing) == [Resubscribing("a", "silent", why, connection_id=1)]


def test_a_silent_channel_that_a_refused_unsubscribe_keeps_emits_an_event() -> None:
    rig = Rig(stale_after=30.0, ack_timeout=100.0).active("a")
    rig.wait(29.0)
    rig.unsubscribe("a")
    rig.wait(2.0)
    rig.reject("a")
    assert [event.reason for event in emitted(rig, Resubscribing)] == ["silent"]


def test_a_connection_that_is_being_cut_is_not_looked_at_again_and_again() -> None:
    rig = Rig(silence_timeout=59.0).active("a")
    rig.wait(58.0)
    for now in (rig.now + 1.0, rig.now + 2.0):  # its end is not reported yet
        view = {rig.cid: ConnectionView(now)}
        rig.supervisor.tick(now, view)
        deadline = rig.supervisor.next_deadline(now, view)
    (cut,) = (action for action in rig.supervisor.actions() if isinstance(action, Cut))
    assert cut.error.reason == "silent"
    assert deadline > now


def test_an_order_book_out_of_sync_emits_an_event() -> None:
    rig = Rig().active("a")
    rig.supervisor.upkeep.refreshes.want("a", rig.now)
    rig.tick()
    why = "the order book 'a' needs a new snapshot"
    assert emitted(rig, Resubscribing) == [Resubscribing("a", "out of sync", why, connection_id=1)]


def test_a_slow_consumer_emits_an_event_and_is_logged() -> None:
    rig = Rig().open()
    rig.supervisor.output.notify(SlowConsumer, "client", 7)
    assert emitted(rig, SlowConsumer) == [SlowConsumer("client", 7, connection_id=1)]
    assert "the queue 'client' is full" in rig.logs("warning")[0]


def test_each_change_of_the_state_emits_an_event_before_the_others() -> None:
    rig = Rig().open()
    rig.drop()
    rig.close()
    assert [
        (type(event).__name__, getattr(event, "state", "")) for event in rig.emitted(Event)
    ] == [
        ("StateChanged", "connecting"),
        ("StateChanged", "open"),
        ("Connected", ""),
        ("Disconnected", ""),
        ("StateChanged", "backing off"),
        ("Reconnecting", ""),
        ("StateChanged", "closing"),
        ("StateChanged", "closed"),
        ("Closed", ""),
    ]


def test_a_subscribe_without_a_connection_emits_that_it_waits() -> None:
    rig = Rig().open()
    rig.drop()
    rig.subscribe("a", "b")
    assert rig.emitted(Waiting) == [Waiting(("a", "b"), "backing off", connection_id=1)]


def test_a_skipped_message_is_reported_with_its_channel() -> None:
    rig = Rig().active("a")
    rig.receive(Invalid("nonsense", rig.message("a")))
    assert rig.emitted(DecodeError) == [DecodeError("nonsense", 1, "a", connection_id=1)]


def test_an_internal_error_emits_an_event_too() -> None:
    rig = Rig().open()
    rig.supervisor.fail(WSClientError("internal error"))
    assert rig.state is State.FAILED
    assert len(emitted(rig, Closed)) == 1
