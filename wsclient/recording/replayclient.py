"""RecordedClient: a client whose messages come from recordings instead of from a venue."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import combinations
from logging import WARNING
from types import TracebackType
from typing import Any, NoReturn

from wsclient import dialects
from wsclient.checks import check_timeout
from wsclient.client import WebSocketClient
from wsclient.dialect.base import Dialect
from wsclient.errors import ClientClosed, ConfigurationError, NotSupported
from wsclient.options import Options, Overflow
from wsclient.recording.folder import FileDamage, Recording, recordings_of
from wsclient.recording.playback import Tape
from wsclient.recording.replaybooks import ReplayBooks
from wsclient.recording.replaycore import ReplayCore
from wsclient.recording.replaylanes import Lane
from wsclient.telemetry.stats import ConnectionInfo, ConnectionInfos, Stats
from wsclient.threads.logs import ClientLog

__all__ = ["RecordedClient", "open_recording"]


def open_recording(
    *paths: str | os.PathLike[str],
    dialect: str | Dialect | None = None,
    channels: Collection[str] | None = None,
    decimal: bool | None = None,
    decode: Any = None,
    queue_size: int | None = 100_000,
    queue_bytes: int | None = 256 * 1024 * 1024,
    overflow: Overflow = "drop_oldest",
    name: str | None = None,
) -> RecordedClient:
    """Return a client that plays recordings made by ``client.record()``.

    ``paths`` are folders, files and patterns such as ``"data/*.mcap"``. Unfinished files are
    included. Several recordings are merged by time: those of several venues, and the runs of a
    recorder one after the other. With ``channels``, only these are read.

    ``dialect`` is a name, or an object for a dialect of your own; by default it is the one that was
    recorded, found by its name. ``decimal`` is the recorded client's option by default. The other
    options are those of :class:`wsclient.WebSocketClient`.

    Raises ConfigurationError if there is no recording, if an option cannot work, and if two of the
    recordings have a channel of the same name: open them one by one then. Raises OSError as the
    system does.
    """
    return RecordedClient(
        *paths,
        dialect=dialect,
        channels=channels,
        decimal=decimal,
        decode=decode,
        queue_size=queue_size,
        queue_bytes=queue_bytes,
        overflow=overflow,
        name=name,
    )


class RecordedClient(WebSocketClient):
    """A client that plays recordings. A program for a :class:`WebSocketClient` runs on it.

    Made by :func:`open_recording`. It has no thread and no connection. The thread that needs a
    message reads the recording up to the next one: in a loop, in ``recv()``, in :meth:`wait` or in
    :meth:`order_book`. Order books, ``latest()``, ``stats()``, ``age()``, ``state`` and
    ``connections`` are as of the last record read, and times are those of the recording: also a
    timeout, so ``recv(timeout=1)`` raises TimeoutError if the next message was received more than a
    second later. The functions of :meth:`on` and :meth:`on_event` are called on the thread that
    reads, one after the other, each before anything else is read. So two runs give the same.

    As long as nothing is subscribed to, the client's own loop gets all messages. With
    :meth:`subscribe`, :meth:`reader`, :meth:`on`, :meth:`frame` or :meth:`order_book`, each gets
    those of its channels from there on. Messages have the gaps that the recorded client marked, and
    a gap with the reason ``recorder`` where the recording lacks messages. :attr:`damage` says which
    files could not be read completely.

    At the end of the recording iterations end, and ``recv()`` raises RecordingEnded.
    """

    _core: ReplayCore

    def __init__(
        self,
        *paths: str | os.PathLike[str],
        dialect: str | Dialect | None = None,
        channels: Collection[str] | None = None,
        decimal: bool | None = None,
        **options: Any,
    ) -> None:
        self._recordings, self._bad = recordings_of(*paths)
        if isinstance(channels, str):
            raise ConfigurationError("channels must be a list of channels, not text")
        self._only = None if channels is None else tuple(dict.fromkeys(channels))
        self._given_dialect, self._given_decimal = dialect, decimal
        self._given = options
        _check_distinct(self._recordings, self._only)
        self._where = ", ".join(map(str, paths))
        self._play(None, None)

    def _play(self, start: int | None, end: int | None) -> None:
        """Begin to play from ``start`` to before ``end`` (ns since the epoch)."""
        lanes, first = [], None
        for recording in self._recordings:
            recorded = _options_of(recording)
            found = dialects.find(
                recording.venue if self._given_dialect is None else self._given_dialect
            )
            decimal = self._given_decimal
            if decimal is None:
                decimal = recorded.get("decimal") is True
            options = Options.of({**self._given, "dialect": found, "decimal": decimal})
            first = first or (options, found)
            names = recording.channels if self._only is None else self._only
            has = [name for name in names if name in set(recording.channels)]
            tape = Tape(recording, start, end, self._only)
            lanes.append(Lane(tape, found, has, decimal=decimal))
        if first is None:
            why = "; ".join(f"{bad.path}: {bad.damage.why}" for bad in self._bad)
            raise ConfigurationError(f"no file of {self._where} can be read: {why}")
        options, found = first
        log = ClientLog(options.name or self._where, found.name)
        for bad in self._bad:
            log(WARNING, f"damaged recording: {bad.path}: {bad.damage.why}")
        self._core = ReplayCore(lanes, options, found, log, is_selective=False)
        self._queue = self._core.default
        self._order_books = ReplayBooks(self._core)
        self._finalizer = weakref.finalize(self, self._core.close_soon)
        self._finalizer.atexit = False

    # What is played.

    def between(
        self,
        start: int | datetime | str | None = None,
        end: int | datetime | str | None = None,
    ) -> RecordedClient:
        """Play only what was received from ``start`` to before ``end``, and return the client.

        Each is a number of ns since the epoch, a datetime with a time zone, or an ISO text, in UTC
        if it has no time zone; None for the beginning or the end. Call it before anything is read,
        subscribed to or listened to: it begins again.
        """
        first, last = _ns("start", start), _ns("end", end)
        if first is not None and last is not None and first > last:
            raise ConfigurationError("between() takes the earlier time first")
        self._core.close(0.0)
        self._finalizer.detach()
        self._play(first, last)
        return self

    def play(self, speed: float | None = 1.0) -> RecordedClient:
        """Set how fast recorded time passes from now on, and return the client.

        1 is as fast as it was recorded, 10 ten times as fast; None, the default of a client, as
        fast as messages are taken. At a speed, what is due has come, however slow the consumers
        are, and queues overflow as those of a live client do.
        """
        if speed is not None and (isinstance(speed, bool) or not 0 < speed < float("inf")):
            raise ConfigurationError(f"speed must be a number above 0, or None, not {speed!r}")
        self._core.set_speed(speed)
        return self

    @property
    def start(self) -> int | None:
        """The time of the first record (ns since the epoch); None without a record."""
        return min((r.start for r in self._recordings if r.start is not None), default=None)

    @property
    def end(self) -> int | None:
        """The time of the last record (ns since the epoch); None without a record."""
        return max((r.end for r in self._recordings if r.end is not None), default=None)

    @property
    def channels(self) -> list[str]:
        """The channels of the recordings, in the order of their first messages."""
        return list(self._core.channels())

    @property
    def damage(self) -> list[FileDamage]:
        """What could not be read so far: the file, the place in it, and why.

        The torn end of a file is known at once, a chunk that cannot be read when it is reached.
        """
        return [*self._bad, *(damage for r in self._recordings for damage in r.damage)]

    # The calls of a client.

    def connect(self, timeout: float | None = None) -> None:
        """Do nothing: a recording needs no connection. Raises ClientClosed after ``close()``."""
        check_timeout(timeout)
        self._core.check_call()
        self._core.supervisor.life.check()

    def wait(self, timeout: float | None = None) -> None:
        """Play to the end of the recording, for the functions of :meth:`on`.

        Raises TimeoutError after ``timeout`` seconds of recorded time.
        """
        check_timeout(timeout)
        try:
            self._core.play_until(lambda: False, timeout)
        except ClientClosed:
            return

    def rotate(self, timeout: float | None = None) -> NoReturn:
        """Raise NotSupported: a recording has no connection."""
        raise _unsupported("rotate")

    def send(self, payload: Any) -> NoReturn:
        """Raise NotSupported: nothing can be sent to a recording."""
        raise _unsupported("send")

    def request(self, payload: Any, timeout: float | None = 10.0) -> NoReturn:
        """Raise NotSupported: nothing can be asked of a recording."""
        raise _unsupported("request")

    def record(self, folder: str | os.PathLike[str], **options: Any) -> NoReturn:
        """Raise NotSupported: copy the files of the recording instead."""
        raise _unsupported("record")

    @property
    def connections(self) -> list[ConnectionInfo]:
        """The connections that the recorded client had open, oldest first."""
        core = self._core
        core.check_call()
        with core.lock:
            now = core.replayed.monotonic()
            lanes = list(core.lanes.values())
            return ConnectionInfos(c for lane in lanes for c in lane.connections.infos(now))

    def stats(self) -> Stats:
        """Return all counters and measurements of what has been played so far."""
        return replace(super().stats(), connections=tuple(self.connections))

    def __enter__(self) -> RecordedClient:
        self._core.supervisor.life.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if "_core" not in vars(self):
            return "<RecordedClient, not made>"
        core = self._core
        count = len(core.channels())
        at = datetime.fromtimestamp(core.replayed.time // 10**9, timezone.utc)
        return (
            f"<RecordedClient {self._where} at {at:%Y-%m-%d %H:%M:%S}Z, "
            f"{count} channel{'s'[: count != 1]}, {len(self._queue)} queued>"
        )


def _unsupported(call: str) -> NotSupported:
    return NotSupported(
        f"a recording cannot {call}: it has no connection. A strategy for live and recorded data "
        f"may check isinstance(client, wsclient.RecordedClient) before it calls {call}()"
    )


def _options_of(recording: Recording) -> dict[str, Any]:
    try:
        found = json.loads(recording.options)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _check_distinct(recordings: Sequence[Recording], only: Iterable[str] | None) -> None:
    """Raise ConfigurationError if two recordings give a channel of the same name at the same time.

    Sessions of one client that follow each other may.
    """
    for one, other in combinations(recordings, 2):
        shared = set(one.channels).intersection(other.channels)
        if only is not None:
            shared &= set(only)
        if not shared:
            continue
        is_same = (one.venue, one.name) == (other.venue, other.name)
        if is_same and not _overlap(one, other):
            continue
        name = min(shared)
        what = "overlap in time" if is_same else f"are of {one.venue!r} and of {other.venue!r}"
        if one.venue == other.venue and not is_same:
            what = f"are of the clients {one.name!r} and {other.name!r}"
        raise ConfigurationError(
            f"two recordings have the channel {name!r}, and {what}: open {one.files[0].path} and "
            f"{other.files[0].path} with two calls, or name other channels with channels="
        )


def _overlap(one: Recording, other: Recording) -> bool:
    if one.start is None or one.end is None or other.start is None or other.end is None:
        return False
    return one.start <= other.end and other.start <= one.end


def _ns(what: str, given: int | datetime | str | None) -> int | None:
    """Return a time in ns since the epoch."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given.replace("Z", "+00:00"))
        except ValueError:
            raise ConfigurationError(f"{what} is not a time in ISO form: {given!r}") from None
        if given.tzinfo is None:
            given = given.replace(tzinfo=timezone.utc)
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise ConfigurationError(
            f"{what} must be ns since the epoch, a datetime with a time zone, or ISO text, not "
            f"{given!r}"
        )
    since = given - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
