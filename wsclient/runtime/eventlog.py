"""The log as a listener of events: which event makes which record."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from logging import ERROR, INFO, WARNING
from typing import Any

from wsclient import events
from wsclient.events import Event
from wsclient.text import one_line
from wsclient.threads.logs import ClientLog

__all__ = ["EventLog", "line_of"]

#: The level and the text of a record. No record for an empty text.
_Logged = tuple[int, str]


def _state(event: events.StateChanged) -> _Logged:
    level = WARNING if event.state in ("backing off", "failed") else INFO
    # People search a log for this word.
    state = "disconnected" if event.state == "backing off" else event.state
    return level, f"{state}: {event.why}" if event.why else state


def _connected(event: events.Connected) -> _Logged:
    return INFO, event.route and f"open: {event.route}"  # else StateChanged reports it


def _reconnecting(event: events.Reconnecting) -> _Logged:
    if not event.route:
        return WARNING, ""  # StateChanged reports it
    when = f"in {event.delay:.2f} s" if event.delay >= 0.005 else "at once"
    return WARNING, f"disconnected: {event.route}: {event.why}; next attempt {when}"


def _failing(event: events.Failing) -> _Logged:
    why = event.why or "the first attempt has not ended"
    return WARNING, f"not connected for {event.seconds:.0f} s: {why}; still trying"


def _unsubscribed(event: events.Unsubscribed) -> _Logged:
    # Nothing for one that is confirmed, as for Subscribed: the caller knows.
    return INFO, event.why and f"unsubscribed: {event.channel!r}: {event.why}"


def _waiting(event: events.Waiting) -> _Logged:
    names = ", ".join(repr(name) for name in itertools.islice(event.channels, 3))
    more = f" and {len(event.channels) - 3} more" if len(event.channels) > 3 else ""
    which = "another connection" if event.state == "open" else f"a connection ({event.state})"
    text = f"subscribe() of {names}{more} waits for {which}"
    return WARNING, one_line(text)


def _rejected(event: events.Rejected) -> _Logged:
    if event.is_lost:
        return ERROR, f"subscription lost: {event.channel!r}: {event.why}"
    return INFO, f"subscription refused: {event.channel!r}: {event.why}"


def _resubscribing(event: events.Resubscribing) -> _Logged:
    # A venue may end many channels at once. Noticed sums them up.
    return WARNING, "" if event.reason == "ended" else f"{event.why}; resubscribing"


def _callback(event: events.CallbackFailed) -> _Logged:
    call = "on_event()" if event.channel is None else f"on({event.channel!r})"
    text = f"the function {event.function} of {call} raised {type(event.error).__name__}"
    return ERROR, one_line(f"{text}; it and the others are still called")


def _subscribe_failed(event: events.SubscribeFailed) -> _Logged:
    return WARNING, one_line(f"subscribe({event.channel!r}) has failed: {event.why}")


def _snapshot(event: events.SnapshotFailed) -> _Logged:
    book, why = repr(event.channel), event.why
    if event.is_final:
        return ERROR, f"the order book {book} gets no snapshot and has ended: {why}"
    return WARNING, f"no snapshot of {book} yet, another attempt follows: {why}"


def _recorder_failed(event: events.RecorderFailed) -> _Logged:
    error = event.error
    why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return ERROR, one_line(f"the recorder cannot write {event.path}: {why}; it goes on trying")


#: A line whose text has ``{e}`` for the event, or a function that returns the line of an event.
_Records = Mapping[type[Event], _Logged | Callable[[Any], _Logged]]

#: Events of a connection: their records have its id.
_OF_CONNECTIONS: _Records = {
    events.StateChanged: _state,
    events.Connected: _connected,
    events.Reconnecting: _reconnecting,
    events.Failing: _failing,
    events.Rotated: (
        INFO,
        "connection {e.connection_id} has replaced connection {e.replaced} after {e.seconds:.1f} s",
    ),
    events.RotationFailed: (
        WARNING,
        "connection {e.connection_id} is not replaced yet: {e.why}; "
        "next attempt in {e.delay:.2f} s",
    ),
    events.RenewalFailed: (
        WARNING,
        "the token of connection {e.connection_id} is not renewed yet: {e.why}; "
        "next attempt in {e.delay:.2f} s",
    ),
    events.RouteFailed: (
        ERROR,
        "the connection {e.route!r} has failed for good and its channels are lost; "
        "the others go on: {e.why}",
    ),
    events.Waiting: _waiting,
    events.Rejected: _rejected,
    events.Unsubscribed: _unsubscribed,
    events.Resubscribing: _resubscribing,
    events.Recovered: (INFO, "recovered: {e.channels} channel(s) after {e.seconds:.2f} s"),
    events.SlowConsumer: (
        WARNING,
        "the queue {e.queue!r} is full and drops messages: its consumer is too slow",
    ),
    events.Noticed: (WARNING, "{e.text}"),
    events.DecodeError: (WARNING, "skipped {e.why}"),
    events.CallbackFailed: _callback,
}
#: Events of the client.
_OF_CLIENTS: _Records = {
    events.ClassifyFailed: (ERROR, "classify {e.why}; the built-in function decides"),
    events.ClassifyUnanswered: (WARNING, "classify {e.why}; the built-in function decides"),
    events.DialectFailed: (
        ERROR,
        "the order book {e.channel!r} is out of sync because of a bug in its dialect",
    ),
    events.SnapshotTooOld: (
        INFO,
        "the snapshot of {e.channel!r} is too old; another one will be fetched",
    ),
    events.SnapshotFailed: _snapshot,
    events.SnapshotsFailed: (
        ERROR,
        "internal error while fetching snapshots of order books; trying again",
    ),
    events.GapUnhandled: (
        WARNING,
        "{e.channel}: messages were missed before the next one: {e.gap}",
    ),
    events.SubscribeFailed: _subscribe_failed,
    events.InsecureTLS: (WARNING, "the ssl_context is insecure: {e.why}"),
    events.RecorderFailed: _recorder_failed,
    events.RecorderLost: (
        WARNING,
        "the recorder's buffer is full and messages are not recorded: the disk of {e.path} is too "
        "slow",
    ),
    events.RecorderRecovered: (
        INFO,
        "the recorder writes everything again, to {e.path}; {e.messages} messages in {e.frames} "
        "frames were not recorded",
    ),
    events.UnreadDiscarded: (INFO, "{e.messages} unread messages are discarded by close()"),
    events.ThreadStuck: (
        WARNING,
        "the thread {e.thread} has not ended within the timeout of close(); close() returns "
        "without waiting for it",
    ),
    events.ThreadDied: (
        ERROR,
        "internal error: the thread {e.thread} has ended and the client has failed; make a new "
        "client, and report this bug with its traceback",
    ),
}
_LINES = {**_OF_CONNECTIONS, **_OF_CLIENTS}
_LOGGERS = {
    events.CallbackFailed: "wsclient.callbacks",
    events.GapUnhandled: "wsclient.handler",
    events.SubscribeFailed: "wsclient.handler",
}


def _is_alarm(event: Event) -> bool:
    """Return whether ``event`` is reported even if the program has configured no logging."""
    has_failed = isinstance(event, events.StateChanged) and event.state == "failed"
    return has_failed or isinstance(event, events.Failing)


def line_of(event: Event) -> tuple[int, str]:
    """Return the level and the text that ``event`` has in the log, an empty one for no record."""
    line = _LINES.get(type(event), (INFO, ""))
    level, text = line(event) if callable(line) else (line[0], line[1].format(e=event))
    before = getattr(event, "count", 1) - 1
    return level, f"{text} (and {before} before it)" if before else text


class EventLog:
    """The listener that writes the log. A call never blocks and never raises.

    The record names the line that called the hub, which calls this.
    """

    __slots__ = ("_log",)

    #: The types of events that are logged.
    types = frozenset(_LINES)

    def __init__(self, log: ClientLog) -> None:
        self._log = log

    def __call__(self, event: Event) -> None:
        kind = type(event)
        level, text = line_of(event)
        if text:
            self._log(
                level,
                text,
                connection_id=event.connection_id if kind in _OF_CONNECTIONS else None,
                channel=getattr(event, "channel", None),
                exc_info=getattr(event, "error", None),
                logger=_LOGGERS.get(kind, "wsclient"),
                depth=3,
                is_alarm=_is_alarm(event),
            )
