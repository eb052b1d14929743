"""The log as a listener: which event makes which record, and from where."""

from __future__ import annotations

import logging
import threading
from dataclasses import fields
from typing import Any

import pytest

import wsclient
from support.inside import core_of
from support.logrig import logging_hub
from wsclient import Gap, events
from wsclient.errors import WSClientError
from wsclient.events import Event, GapMarked
from wsclient.runtime.eventhub import EventHub, EventStream
from wsclient.runtime.eventlog import line_of
from wsclient.sansio.actions import Notify
from wsclient.testing import FakeVenue

ERROR = ZeroDivisionError("text of the user")
INFO, WARNING, FATAL = logging.INFO, logging.WARNING, logging.ERROR

#: Each event that is logged: its level, its text, whether the record has the connection's id.
LOGGED: list[tuple[Event, int, str, bool]] = [
    (events.StateChanged("open", "connection 1"), INFO, "open: connection 1", True),
    (events.StateChanged("closing", ""), INFO, "closing", True),
    (events.StateChanged("backing off", "gone"), WARNING, "disconnected: gone", True),
    (
        events.Failing(30.01, "refused"),
        WARNING,
        "not connected for 30 s: refused; still trying",
        True,
    ),
    (
        events.Failing(30.01, ""),
        WARNING,
        "not connected for 30 s: the first attempt has not ended; still trying",
        True,
    ),
    (events.Connected(1, "market/1"), INFO, "open: market/1", True),
    (
        events.Reconnecting(1, 0.25, "gone", "market/1"),
        WARNING,
        "disconnected: market/1: gone; next attempt in 0.25 s",
        True,
    ),
    (
        events.Reconnecting(1, 0.0, "gone", "shard 1"),
        WARNING,
        "disconnected: shard 1: gone; next attempt at once",
        True,
    ),
    (
        events.Rotated(3, 2.04),
        INFO,
        "connection 5 has replaced connection 3 after 2.0 s",
        True,
    ),
    (
        events.RotationFailed(0.25, "refused"),
        WARNING,
        "connection 5 is not replaced yet: refused; next attempt in 0.25 s",
        True,
    ),
    (
        events.RenewalFailed(60.0, "no answer"),
        WARNING,
        "the token of connection 5 is not renewed yet: no answer; next attempt in 60.00 s",
        True,
    ),
    (
        events.RouteFailed("private", "401"),
        FATAL,
        "the connection 'private' has failed for good and its channels are lost; the others go on: "
        "401",
        True,
    ),
    (events.Unsubscribed("a", "no answer"), INFO, "unsubscribed: 'a': no answer", True),
    (events.StateChanged("failed", "401"), WARNING, "failed: 401", True),
    (
        events.Waiting(("a", "b", "c", "d{e}"), "idle"),
        WARNING,
        "subscribe() of 'a', 'b', 'c' and 1 more waits for a connection (idle)",
        True,
    ),
    (
        events.Waiting(("a",), "open"),
        WARNING,
        "subscribe() of 'a' waits for another connection",
        True,
    ),
    (
        events.Waiting(("a{e}",), "idle"),
        WARNING,
        "subscribe() of 'a{e}' waits for a connection (idle)",
        True,
    ),
    (events.Rejected("a", "no", False), INFO, "subscription refused: 'a': no", True),
    (events.Rejected("a", "no", True), FATAL, "subscription lost: 'a': no", True),
    (events.Resubscribing("a", "silent", "'a' is"), WARNING, "'a' is; resubscribing", True),
    (events.Recovered(2.5, 3), INFO, "recovered: 3 channel(s) after 2.50 s", True),
    (
        events.SlowConsumer("client", 7),
        WARNING,
        "the queue 'client' is full and drops messages: its consumer is too slow",
        True,
    ),
    (
        events.Noticed("notice", "the venue says: {e}", 1, None),
        WARNING,
        "the venue says: {e}",
        True,
    ),
    (events.Noticed("refused", "no", 3, "a"), WARNING, "no (and 2 before it)", True),
    (events.DecodeError("rubbish", 1), WARNING, "skipped rubbish", True),
    (events.DecodeError("rubbish", 2, "a"), WARNING, "skipped rubbish (and 1 before it)", True),
    (
        events.CallbackFailed("Mine.hear", "a", ERROR),
        FATAL,
        "the function Mine.hear of on('a') raised ZeroDivisionError; "
        "it and the others are still called",
        True,
    ),
    (
        events.ClassifyFailed("raised", ERROR),
        FATAL,
        "classify raised; the built-in function decides",
        False,
    ),
    (
        events.ClassifyUnanswered("has not returned within 1 s"),
        WARNING,
        "classify has not returned within 1 s; the built-in function decides",
        False,
    ),
    (
        events.DialectFailed("a", ERROR),
        FATAL,
        "the order book 'a' is out of sync because of a bug in its dialect",
        False,
    ),
    (
        events.SnapshotTooOld("a"),
        INFO,
        "the snapshot of 'a' is too old; another one will be fetched",
        False,
    ),
    (
        events.SnapshotFailed("a", "503", False, None),
        WARNING,
        "no snapshot of 'a' yet, another attempt follows: 503",
        False,
    ),
    (
        events.SnapshotFailed("a", "401", True, ERROR),
        FATAL,
        "the order book 'a' gets no snapshot and has ended: 401",
        False,
    ),
    (
        events.SnapshotsFailed(ERROR),
        FATAL,
        "internal error while fetching snapshots of order books; trying again",
        False,
    ),
    (
        events.GapUnhandled("a", Gap("sequence", 2)),
        WARNING,
        f"a: messages were missed before the next one: {Gap('sequence', 2)}",
        False,
    ),
    (
        events.SubscribeFailed("a", "no such\nmarket"),
        WARNING,
        "subscribe('a') has failed: no such market",
        False,
    ),
    (events.InsecureTLS("no check"), WARNING, "the ssl_context is insecure: no check", False),
    (
        events.RecorderFailed("a.mcap.part", OSError(28, "No space left on device")),
        FATAL,
        "the recorder cannot write a.mcap.part: No space left on device; it goes on trying",
        False,
    ),
    (
        events.RecorderLost("a.mcap.part"),
        WARNING,
        "the recorder's buffer is full and messages are not recorded: the disk of a.mcap.part is "
        "too slow",
        False,
    ),
    (
        events.RecorderRecovered("a.mcap.part", 7, 5),
        INFO,
        "the recorder writes everything again, to a.mcap.part; 7 messages in 5 frames were not "
        "recorded",
        False,
    ),
    (events.UnreadDiscarded(7), INFO, "7 unread messages are discarded by close()", False),
    (
        events.ThreadStuck("wsclient-books"),
        WARNING,
        "the thread wsclient-books has not ended within the timeout of close(); close() returns "
        "without waiting for it",
        False,
    ),
    (
        events.ThreadDied("wsclient-books", ERROR),
        FATAL,
        "internal error: the thread wsclient-books has ended and the client has failed; make a new "
        "client, and report this bug with its traceback",
        False,
    ),
]
#: Events that make no record: another event at the same moment does, or there may be many.
SILENT: list[Event] = [
    events.Connected(1),
    events.Disconnected("gone", "reset", 1006, None),
    events.Reconnecting(1, 0.0, "gone"),
    events.Subscribed(("a",)),
    events.Unsubscribed("a", ""),
    events.Resubscribing("a", "ended", "'a' was ended"),
    events.NoData("a", 60.0),
    events.GapMarked("a", Gap("sequence", 1)),
    events.BookOutOfSync("book:BTC/USD", "a gap"),
    events.BookRefreshed("book:BTC/USD"),
    events.Closed(None),
]


def name(case: Any) -> str | None:
    return repr(case) if isinstance(case, Event) else ""


def notify(hub: EventHub, event: Event) -> None:
    what = tuple(getattr(event, f.name) for f in fields(event) if not f.kw_only)
    hub.notify(Notify(type(event), what, 5))


def test_each_type_of_event_has_a_line_or_is_known_to_have_none() -> None:
    cases = {type(event) for event, *_ in LOGGED} | {type(event) for event in SILENT} | {Event}
    assert cases == {getattr(events, name) for name in events.__all__}


@pytest.mark.parametrize(("event", "level", "text", "has_connection"), LOGGED, ids=name)
def test_an_event_is_logged(
    event: Event, level: int, text: str, has_connection: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "wsclient"):
        notify(logging_hub(), event)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, f"test: {text}")
    found = vars(record)
    assert found["connection_id"] == (5 if has_connection else None)
    assert found["channel"] == getattr(event, "channel", None)
    error = getattr(event, "error", None)
    assert (record.exc_info or (None, None))[1] is error


@pytest.mark.parametrize("event", SILENT, ids=name)
def test_an_event_without_a_line_makes_no_record(
    event: Event, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "wsclient"):
        notify(logging_hub(), event)
    assert caplog.records == []
    assert line_of(event)[1] == ""


@pytest.mark.parametrize(
    ("event", "logger"),
    [
        (events.CallbackFailed("Mine.hear", "a", ERROR), "wsclient.callbacks"),
        (events.GapUnhandled("a", Gap("sequence")), "wsclient.handler"),
        (events.SubscribeFailed("a", "no"), "wsclient.handler"),
        (events.StateChanged("open", ""), "wsclient"),
    ],
    ids=name,
)
def test_a_record_has_the_logger_of_its_part(
    event: Event, logger: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "wsclient"):
        notify(logging_hub(), event)
    assert [record.name for record in caplog.records] == [logger]


@pytest.mark.parametrize("is_emitted", [False, True], ids=["notify", "emit"])
def test_a_record_names_the_line_that_called_the_hub(
    is_emitted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    hub = logging_hub()
    if is_emitted:
        hub.emit(events.ThreadStuck, "x")
    else:
        hub.notify(Notify(events.ThreadStuck, ("x",), 1))
    assert [record.funcName for record in caplog.records] == [
        "test_a_record_names_the_line_that_called_the_hub"
    ]


class Odd(Exception):
    """An exception whose truth value raises."""

    def __bool__(self) -> bool:
        raise ZeroDivisionError


def test_an_exception_of_any_kind_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    odd = Odd()
    logging_hub().emit(events.CallbackFailed, "Mine.hear", "a", odd)
    assert [record.exc_info and record.exc_info[1] is odd for record in caplog.records] == [True]


def test_the_repr_shows_only_the_type_of_an_exception() -> None:
    event = events.CallbackFailed("Mine.hear", "a", ERROR)
    assert (
        repr(event) == "CallbackFailed(function='Mine.hear', channel='a', error=ZeroDivisionError)"
    )
    assert repr(events.ClassifyFailed("returned int", None)) == (
        "ClassifyFailed(why='returned int', error=None)"
    )


def test_gaps_cost_nothing_when_only_the_log_listens(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url) as client:
        assert not core_of(client).event_hub.wants(GapMarked)
        stream = client.events(events.Connected)
        assert not core_of(client).event_hub.wants(GapMarked)
        client.on_event(print, GapMarked)
        assert core_of(client).event_hub.wants(GapMarked)
        del stream


def test_the_log_has_what_comes_after_the_last_event(caplog: pytest.LogCaptureFixture) -> None:
    hub, stream = logging_hub(), EventStream()
    hub.add(stream)
    hub.end(WSClientError("broken"), 1)
    hub.emit(events.ThreadDied, "wsclient-watchdog", ERROR)
    assert [type(event) for event in stream] == [events.Closed]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_an_event_is_logged_on_the_thread_that_emits_it(caplog: pytest.LogCaptureFixture) -> None:
    hub = logging_hub()
    thread = threading.Thread(name="emitter", target=lambda: hub.emit(events.InsecureTLS, "x"))
    thread.start()
    thread.join(5)
    assert [record.threadName for record in caplog.records] == ["emitter"]
