"""One client at one venue, and a trace of its behaviour as seen from outside.

The trace has rows of text: what the caller's calls return or raise and the messages that it gets
(``calls``), events (``events``; gap events in ``gaps``), log records (``logs``) and what the client
sends (``sent``). Events that exist for the log only are in ``logs`` as its records.

What may differ between correct runs is left out or sorted, here and nowhere else:

- the order of events, log records and messages among each other: each has a section of its own;
- texts, times, ages, ports, and what is random by the protocol (the handshake's key, masks);
- pings in the venue's own words, and how many there are;
- the values of login fields that are signed with a time: the names of the fields are recorded;
- ``DecodeError`` events and warnings may be held back for 1 s and summed up: a scene with several
  of them says so, and each kind of its warnings is recorded once;
- how many messages a queue has dropped when ``SlowConsumer`` is emitted.

Ids of requests are compared as they are: they count from 1 on each client, for all venues.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import wsclient
from wsclient import events
from wsclient.testing import FakeVenue, Peer

#: How long (s) a scene waits for what must come.
PATIENCE = float(os.environ.get("GOLDEN_PATIENCE", "20"))

#: Fields of events that are texts, or differ from run to run.
_FREE = frozenset({"why", "at", "number", "seconds", "dropped"})
#: The events in the section ``events``.
_RECORDED = frozenset(
    {
        *("Connected", "Disconnected", "Reconnecting", "Recovered", "Closed"),
        *("Subscribed", "Rejected", "Resubscribing", "NoData"),
        *("GapMarked", "SlowConsumer", "DecodeError"),
    }
)
#: Fields of sent messages that depend on the time.
_SIGNED = re.compile(
    r'("(?:authNonce|authSig|authPayload|sign|signature|timestamp)":)"?[^",}]*"?'
    r'|("op":"auth","args":\["[^"]*",)[^\]]*'
)
_PINGS = re.compile(
    r'ping|\{"method":"ping"\}|\{"op":"ping"\}|\{"event":"ping"\}|\{"id":"ping","type":"ping"\}'
)
_CUT = re.compile("client (?:eof|reset)")
_PORT = re.compile(r"127\.0\.0\.1:\d+")


#: Base classes that say nothing about an error.
_GENERAL = frozenset({"BaseException", "Exception", "object"})


def digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()[:12]


def describe(message: wsclient.Message) -> str:
    """Return a message as a row: all that a consumer can see, except its times."""
    gap = message.gap
    mark = "" if gap is None else f" gap={gap.reason},{gap.missed},{gap.since is not None}"
    decoded = json.dumps(message.data, sort_keys=True, default=str).encode()
    connection = ""
    if isinstance(message, wsclient.LinkedMessage):
        connection = f" follows={message.follows},{message.is_counted}"
    return (
        f"#{message.connection_id} {message.channel} {message.type} {message.sequence} "
        f"item={message.item}{connection}{mark} raw={digest(message.raw)} data={digest(decoded)}"
    )


def describe_error(error: BaseException) -> str:
    """Return an error's class, what it is as a builtin, its failed channels, and its causes."""
    row = type(error).__name__
    builtins = (k.__name__ for k in type(error).__mro__ if k.__module__ == "builtins")
    row += f"({', '.join(name for name in builtins if name not in _GENERAL)})"
    for name in ("failed", "attempts", "status", "retry_after", "code", "reason"):
        value = getattr(error, name, None)
        if value is not None and value != {}:
            row += f" {name}={sorted(value) if isinstance(value, dict) else value}"
    cause = error.__cause__
    return row if cause is None else f"{row} <- {describe_error(cause)}"


def describe_event(event: events.Event) -> str:
    parts = [f"#{event.connection_id} {type(event).__name__}"]
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name in _FREE or field.name == "connection_id":
            continue
        if field.name == "channel" and isinstance(event, events.DecodeError):
            continue  # the log's record has it
        if field.name == "route" and not value:
            continue  # the client has no other connection
        if field.name == "data_age":
            value = value is not None
        elif isinstance(value, wsclient.Gap):
            value = f"{value.reason},{value.missed},{value.since is not None}"
        elif isinstance(value, BaseException):
            value = describe_error(value)
        parts.append(f"{field.name}={value}")
    return " ".join(parts)


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, Any]:
    """Call a function. Return its result's type or its error as text, and the result."""
    try:
        result = function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - it is recorded
        return describe_error(error), None
    kind = list if isinstance(result, list) else type(result)  # a list that shows itself well
    return kind.__name__, result


class LogHandler(logging.Handler):
    """A handler that keeps the records of ``wsclient`` in the order in which they are handled."""

    def __init__(self) -> None:
        super().__init__()
        self._records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        logger = logging.getLogger("wsclient")
        logger.setLevel(logging.DEBUG)
        logging.getLogger("wsclient.frames").setLevel(logging.INFO)  # they are in ``sent``
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._records.put(record)

    def take(self) -> list[str]:
        """Return what has been logged so far, one row per record.

        Records are handled on a thread: log another record and wait for it first.
        """
        marker = wsclient.WebSocketHandler({"websocket_uri": "ws://marker/", "name": "marker"})
        marker.process_gap("marker", wsclient.Gap("sequence"))
        rows: list[str] = []
        while True:
            record = self._records.get(timeout=PATIENCE)
            if getattr(record, "client", None) == "marker":
                marker.close()
                return rows
            found = (f"{name}={getattr(record, name, '-')}" for name in _LOG_FIELDS)
            row = f"{record.name} {record.levelname} {' '.join(found)}"
            rows.append(_PORT.sub("VENUE", row))


_LOG_FIELDS = ("client", "venue", "connection_id", "channel")


class Rest:
    """An HTTP server on loopback; ``answer(method, path)`` gives the JSON of an answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[str, str], Any] = lambda method, path: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                outer.asked.append(f"{self.command} {self.path}")
                found = outer.answer(self.command, self.path)
                status, body = (404, b"{}") if found is None else (200, json.dumps(found).encode())
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Run:
    """A client and its trace. ``rest`` records the REST requests."""

    def __init__(
        self, venue: FakeVenue, dialect: Any, rest: Rest | None = None, **options: Any
    ) -> None:
        self.venue = venue
        self.rows: dict[str, list[str]] = {"calls": [], "events": [], "logs": [], "sent": []}
        self._rest = rest
        url = options.pop("url", venue.url)
        #: No pings of the protocol, and delays that are the same each time.
        quiet = {"name": "golden", "ping_interval": None, "jitter": False, "retry_delay": 0.01}
        self.client = wsclient.WebSocketClient(url, dialect=dialect, **{**quiet, **options})
        #: ``close()`` sent no close frame: the client's thread did not get to it in time.
        self.is_cut_short = False
        #: Warnings and errors of reading may be held back for 1 s and summed up.
        self.is_throttled = False
        self._stream = self.client.events()
        self._events: list[events.Event] = []

    def note(self, row: str) -> None:
        self.rows["calls"].append(row)

    # Calls.

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call and record the outcome. Return the result, or None for an error."""
        row, result = outcome(function, *args, **kwargs)
        self.note(f"{name}: {row}")
        return result

    def connect(self) -> Run:
        self.call("connect", self.client.connect, timeout=PATIENCE)
        return self

    def subscribe(self, *channels: str, **options: Any) -> None:
        options = {"timeout": PATIENCE, **options}
        self.call(f"subscribe {channels}", self.client.subscribe, *channels, **options)
        self.note(f"wanted: {self.wanted()}")

    def unsubscribe(self, *channels: str) -> None:
        timeout = PATIENCE
        self.call(f"unsubscribe {channels}", self.client.unsubscribe, *channels, timeout=timeout)
        self.note(f"wanted: {self.wanted()}")

    def wanted(self) -> dict[str, str]:
        found = self.client.subscriptions.values()
        return {s.channel: s.state.value + " gap" * (s.gap is not None) for s in found}

    def recv(self, count: int, source: Any = None) -> None:
        """Record the next messages of the client, or of a reader."""
        source = source or self.client
        for _ in range(count):
            try:
                message = source.recv(timeout=PATIENCE)
            except Exception as error:  # noqa: BLE001 - recorded
                self.note(f"recv: {describe_error(error)}")
                return
            self.note(describe(message))

    def recv_all(self, source: Any = None) -> None:
        """Record the waiting messages, and the error that says that there are no more."""
        source = source or self.client
        while True:
            try:
                message = source.recv(timeout=0)
            except Exception as error:  # noqa: BLE001 - recorded
                self.note(f"recv: {describe_error(error)}")
                return
            self.note(describe(message))

    def stats(self) -> None:
        """Record the counters, but no measurements."""
        stats = self.client.stats()
        names = ("messages", "gaps", "missed", "invalid", "unhandled", "connects", "disconnects")
        row = " ".join(f"{name}={getattr(stats, name)}" for name in names)
        reasons = sorted(stats.disconnect_reasons.items()), sorted(stats.attempt_failures.items())
        self.note(f"stats: {row} reasons={reasons[0]} failures={reasons[1]}")
        for name, queued in sorted(stats.queues.items()):
            self.note(f"stats of {name}: dropped={queued.dropped}")
        for name, channel in sorted(stats.channels.items()):
            found = (f"{n}={getattr(channel, n)}" for n in _CHANNEL_FIELDS)
            self.note(f"stats of {name}: {' '.join(found)}")

    # Waiting.

    def until(self, *kinds: type[events.Event]) -> None:
        """Wait for one event of each kind, in this order."""
        for kind in kinds:
            while not isinstance(self._next(PATIENCE), kind):
                pass

    def _next(self, timeout: float) -> events.Event:
        event = self._stream.recv(timeout=timeout)
        self._events.append(event)
        return event

    def wait(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition that no event reports."""
        deadline, pause = time.monotonic() + PATIENCE, threading.Event()
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("it never came true")
            pause.wait(0.001)

    def wait_messages(self, count: int) -> None:
        """Wait until the client has received ``count`` messages in all, consumed or not."""
        self.wait(lambda: self.client.stats().messages >= count)

    @property
    def peer(self) -> Peer:
        """Return the venue's end of the present connection."""
        return self.venue.live[-1]

    # The end.

    def close(self, logs: LogHandler) -> None:
        """Close the client, and record what is known only then."""
        live = self.venue.live
        try:
            self.client.close(timeout=PATIENCE)
            for event in self._stream:
                self._events.append(event)
            self.wait(lambda: not _threads())
        except Exception as error:  # noqa: BLE001 - recorded
            self.note(f"the end failed: {describe_error(error)}")
        rows = list(self._event_rows())
        self.rows["gaps"] = [row for row in rows if " GapMarked " in row]
        self.rows["events"] = [row for row in rows if " GapMarked " not in row]
        self.rows["logs"] = list(self._log_rows(logs.take()))
        self.rows["sent"] = list(self._sent_rows())
        self.is_cut_short = any(_CUT.fullmatch(str(peer.ended_by)) for peer in live)

    def _event_rows(self) -> Iterator[str]:
        last = 0
        for event in self._events:
            if self.is_throttled and isinstance(event, events.DecodeError):
                last += 1
                continue
            if event.number != last + 1:
                yield f"numbers jump from {last} to {event.number}"
            last = event.number
            if type(event).__name__ in _RECORDED:
                yield describe_event(event)

    def _log_rows(self, rows: list[str]) -> Iterator[str]:
        """Return the log's rows. Where warnings may be summed up, each kind is there once."""
        seen: set[str] = set()
        for row in rows:
            if not (self.is_throttled and " WARNING " in row and row in seen):
                seen.add(row)
                yield row

    def _sent_rows(self) -> Iterator[str]:
        yield f"attempts={self.venue.attempts}"
        for request in self.venue.requests:
            names = sorted(
                _PORT.sub("VENUE", f"{name}: {value}")
                for name, value in request.headers.raw_items()
                if name.lower() not in ("host", "sec-websocket-key")
            )
            yield f"handshake {request.path} {names}"
        for peer in self.venue.peers:
            peer.wait_closed(PATIENCE)
            for payload in peer.received:
                if isinstance(payload, str):
                    if not _PINGS.fullmatch(payload):
                        yield f"#{peer.id} {_SIGNED.sub(_unsigned, payload)}"
                else:
                    yield f"#{peer.id} binary {payload!r}"
            for pong in peer.pongs:
                yield f"#{peer.id} pong {pong!r}"
            # An end without a close frame is a reset where something was unread.
            ended = _CUT.sub("client cut", str(peer.ended_by))
            yield f"#{peer.id} close={peer.close_code} ended_by={ended}"
        for asked in self._rest.asked if self._rest is not None else ():
            yield f"rest {asked}"


_CHANNEL_FIELDS = ("messages", "gaps", "missed", "duplicates", "late", "last_sequence")


def _unsigned(match: re.Match[str]) -> str:
    return f"{match[1] or match[2]}..."


def _threads() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return [n for n in names if n.startswith("wsclient-") and n != "wsclient-log"]


def steadily(play: Callable[[], Run | None]) -> dict[str, list[str]]:
    """Run a scene and return its rows. Repeat it if the machine was too busy.

    ``close()`` waits at most 0.25 s for a thread of the client to begin: a client that is always
    late is recorded as it is.
    """
    for _ in range(3):
        run = play()
        if run is None or not run.is_cut_short:
            break
    return {} if run is None else run.rows


class Bench:
    """The log and the REST server that all scenes share."""

    def __init__(self) -> None:
        self.logs = LogHandler()
        self.rest = Rest()

    def close(self) -> None:
        self.rest.close()
