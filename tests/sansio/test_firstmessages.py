"""Which confirmed channels stay without a message, and when that is noticed."""

from __future__ import annotations

from collections import Counter

from support.rig import INF
from wsclient.sansio.firstmessages import FirstMessages


class Channels:
    """The channels of a client, as far as FirstMessages sees them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.inactive: set[str] = set()
        self.stopped = 0.0
        self.first = FirstMessages(
            self.counts.__getitem__,
            lambda since: self.stopped,
            lambda channel: channel not in self.inactive,
        )

    def confirm(self, channel: str, now: float = 0.0, within: float | None = 60.0) -> FirstMessages:
        self.first.expect({channel: within})
        self.first.asked(channel)
        self.first.confirmed(channel, now)
        return self.first


def test_a_channel_is_due_when_its_time_is_up_and_once() -> None:
    first = Channels().confirm("a", 100.0)
    assert first.deadline() == 160.0
    assert first.take(159.0) == []
    assert first.take(160.0) == [("a", 60.0)]
    assert (first.take(1000.0), first.deadline()) == ([], INF)
    assert first.overdue() == ("a",)


def test_a_message_since_the_subscribe_was_sent_settles_it() -> None:
    channels = Channels()
    channels.counts["a"] = 7  # of an earlier connection
    first = channels.confirm("a")
    channels.counts["a"] = 8
    assert first.take(60.0) == []
    assert first.overdue() == ()


def test_messages_of_an_earlier_subscription_do_not_count() -> None:
    channels = Channels()
    channels.counts["a"] = 7
    assert channels.confirm("a").take(60.0) == [("a", 60.0)]


def test_an_unreadable_message_settles_it_too() -> None:
    first = Channels().confirm("a")
    first.heard("a")
    assert first.take(60.0) == []


def test_an_unreadable_message_ends_the_state_overdue() -> None:
    first = Channels().confirm("a")
    first.take(60.0)
    first.heard("a")
    assert first.overdue() == ()


def test_an_unreadable_message_of_another_channel_leaves_no_trace() -> None:
    channels = Channels()
    channels.first.heard("a")
    assert channels.confirm("a").take(60.0) == [("a", 60.0)]


def test_a_stop_of_the_process_extends_the_time() -> None:
    channels = Channels()
    first = channels.confirm("a")
    channels.stopped = 30.0
    assert first.take(60.0) == []
    assert first.take(90.0) == [("a", 60.0)]


def test_another_subscribe_begins_the_time_again() -> None:
    first = Channels().confirm("a")
    first.asked("a")
    assert first.take(60.0) == []
    first.confirmed("a", 70.0)
    assert first.take(129.0) == []
    assert first.take(130.0) == [("a", 60.0)]


def test_an_overdue_channel_is_reported_again_only_after_a_message() -> None:
    channels = Channels()
    channels.confirm("a").take(60.0)
    first = channels.confirm("a", 100.0)
    assert (first.take(160.0), first.overdue()) == ([], ("a",))
    channels.counts["a"] += 1
    assert channels.confirm("a", 200.0).take(260.0) == [("a", 60.0)]


def test_a_lost_connection_ends_the_time() -> None:
    first = Channels().confirm("a")
    first.lost("a")
    assert (first.take(60.0), first.deadline()) == ([], INF)


def test_a_channel_that_may_be_silent_is_not_watched() -> None:
    channels = Channels()
    assert channels.confirm("a", within=None).deadline() == INF
    first = channels.confirm("b")
    first.expect({"b": None})  # the dialect has changed its mind
    assert first.take(60.0) == []


def test_a_channel_that_is_not_active_is_not_due_until_it_is_kept() -> None:
    channels = Channels()
    first = channels.confirm("a")
    channels.inactive.add("a")
    assert first.take(60.0) == []
    channels.inactive.clear()
    first.kept("a")
    assert first.take(61.0) == [("a", 60.0)]


def test_a_reported_channel_is_not_reported_again_when_it_is_kept() -> None:
    first = Channels().confirm("a")
    first.take(60.0)
    first.kept("a")
    assert (first.take(200.0), first.deadline()) == ([], INF)


def test_a_forgotten_channel_is_neither_due_nor_overdue() -> None:
    channels = Channels()
    channels.confirm("a").take(60.0)
    first = channels.confirm("b")
    first.forget("a")
    first.forget("b")
    assert (first.take(60.0), first.overdue()) == ([], ())
    first.confirmed("b", 100.0)
    assert first.deadline() == INF
