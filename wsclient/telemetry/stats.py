"""The statistics of a client.

Times are in seconds. Lags are measured for a sample of the messages: see :class:`Lag`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from wsclient import html
from wsclient.telemetry.histogram import Histogram
from wsclient.text import Grid, aligned, one_line, size_text, time_text

__all__ = [
    "ChannelStats",
    "ConnectionInfo",
    "ConnectionInfos",
    "Lag",
    "QueueStats",
    "Rate",
    "RecorderStats",
    "Stats",
]

#: The most channels, and the most connections, shown as text. First come the channels with the most
#: messages, and the connections that are not open.
SHOWN = 20


class Lag:
    """The delays of messages (s): their ``count``, ``min``, ``max``, ``mean`` and quantiles.

    Measured since the client was made, for a sample: at most one message per 10 ms.
    ``venue_lag`` is the time from the venue's own time stamp of a message to its receipt, measured
    for the first message of a socket read; there is none if the dialect finds no time stamp.
    ``consumer_lag`` is the time from the receipt until the message is handed to ``recv()``, a loop
    or a function, measured for the first message of the batch that a consumer takes.

    Both are differences of wall clocks. If the clocks disagree (the venue's is ahead of ours, or
    ours was set), a lag can be negative, and is shown as such.

    The error of a quantile is at most 1.6 % of its value, for one channel 6.3 %, or 0.6 us if that
    is more. Without measurements, all values except ``count`` are None.
    """

    __slots__ = ("_histogram",)

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    @property
    def count(self) -> int:
        """The number of measurements."""
        return self._histogram.count

    def quantile(self, share: float) -> float | None:
        """Return the delay (s) that ``share`` (0 to 1) of the messages did not exceed."""
        found = self._histogram.quantile(share)
        return None if found is None else found / 1e9

    def below(self, seconds: float) -> int:
        """Return the number of measured delays below ``seconds``.

        Exact for 0 and for 1.024 us times a power of two, such as 0.001048576.
        """
        return self._histogram.below(round(seconds * 1e9))

    @property
    def p50(self) -> float | None:
        """The median (s)."""
        return self.quantile(0.5)

    @property
    def p99(self) -> float | None:
        """The delay (s) that 99 % of the messages did not exceed."""
        return self.quantile(0.99)

    @property
    def min(self) -> float | None:
        """The smallest delay (s)."""
        return self._histogram.min / 1e9 if self.count else None

    @property
    def max(self) -> float | None:
        """The largest delay (s)."""
        return self._histogram.max / 1e9 if self.count else None

    @property
    def mean(self) -> float | None:
        """The arithmetic mean (s)."""
        return self.total / self.count if self.count else None

    @property
    def total(self) -> float:
        """The sum of all measured delays (s)."""
        return self._histogram.total / 1e9

    def as_dict(self) -> dict[str, Any]:
        """Return ``count``, ``min``, ``p50``, ``p99``, ``max`` and ``mean``, for JSON."""
        names = ("count", "min", "p50", "p99", "max", "mean")
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        return f"<Lag of {self.count}: {_lag_cell(self)}>"


# These stand above the dataclasses with a Lag as a default: without docstrings (``python -OO``) a
# dataclass describes itself, and so calls the ``repr`` of its defaults, when it is made.


def _lag_cell(lag: Lag) -> str:
    return f"{time_text(lag.p50)} / {time_text(lag.p99)}" if lag.count else "-"


_NO_LAG = Lag(Histogram(0))


class _AsDict:
    """Base of dataclasses that can be converted to what JSON can hold."""

    def as_dict(self) -> dict[str, Any]:
        """Return all fields for JSON; a lag becomes its count, min, p50, p99, max and mean."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, (_AsDict, Lag)):
        return value.as_dict()
    if isinstance(value, Mapping):
        return {key: _plain(found) for key, found in value.items()}
    return [_plain(found) for found in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Rate(_AsDict):
    """``messages`` and ``bytes`` of payload per second, over the last ``seconds``."""

    messages: float
    bytes: float
    seconds: float


@dataclass(frozen=True)
class ChannelStats(_AsDict):
    """The statistics of one channel.

    ``messages`` were delivered, ``gaps`` marked, ``missed`` messages are known to be missed.
    ``duplicates`` are messages that had come before, ``late`` ones had been counted as missed.
    ``last_sequence`` and ``last_received_at`` (ns since the epoch) are None if there was none.
    ``rate`` and ``connection_rate`` are in messages per second, over the same periods as those of
    :class:`Stats`.
    """

    messages: int
    gaps: int
    missed: int
    duplicates: int
    late: int
    last_sequence: int | None
    last_received_at: int | None
    rate: float = 0.0
    connection_rate: float = 0.0
    venue_lag: Lag = _NO_LAG
    consumer_lag: Lag = _NO_LAG


@dataclass(frozen=True)
class QueueStats(_AsDict):
    """The statistics of one queue.

    ``messages`` are waiting and are charged ``bytes``; ``oldest`` is the age (s) of the oldest one,
    None if none is waiting; ``dropped`` messages were dropped by the overflow policy.
    """

    messages: int
    bytes: int
    oldest: float | None
    dropped: int
    consumer_lag: Lag = _NO_LAG


@dataclass(frozen=True, repr=False)
class ConnectionInfo(_AsDict):
    """One connection of a client, as listed by ``client.connections``.

    ``id`` is the ``connection_id`` of its messages, events and log records. ``state`` is
    ``connecting``, ``authenticating``, ``open``, or ``draining`` while it is being ended. ``age``
    is the time (s) since it was opened, None before. ``channels`` are those that the venue has
    confirmed on it. ``rate`` is in messages and bytes of payload per second over that age.
    ``route`` is the dialect's name for its address, empty if the venue has only one. ``shard`` is
    its number among the connections of that route, from 0.

    Two connections have the same route and shard while one replaces the other: ``replaces`` is then
    the id of the older one, for the newer one, and None otherwise. ``messages`` counts what it has
    delivered, ``messages_before`` what others have delivered in its place before it.
    """

    id: int
    state: str
    age: float | None
    channels: tuple[str, ...]
    rate: Rate
    route: str = ""
    shard: int = 0
    replaces: int | None = None
    messages: int = 0
    messages_before: int = 0

    def __repr__(self) -> str:
        name, cells = _connection_cells(self)
        header = ["id", *_CONNECTION]
        shown = zip(header[1:-2], cells[:-2], strict=True)
        text = ", ".join(f"{what} {cell}" for what, cell in shown if cell != "-")
        return f"<ConnectionInfo {name}: {text}, {cells[-2]} messages/s, {cells[-1]}/s>"


class ConnectionInfos(list[ConnectionInfo]):
    """A list of connections, whose ``repr`` is a table."""

    def __repr__(self) -> str:
        return "\n".join(aligned(_connection_grid(self))) if self else "no connections"


@dataclass(frozen=True)
class RecorderStats(_AsDict):
    """The statistics of a recorder, since it was made.

    ``frames`` with ``messages`` and ``bytes`` of payload were recorded, as ``written_bytes`` in
    ``files``; ``path`` is the present file, or the last one. ``lost_frames`` and ``lost_messages``
    found no room, as the disk was too slow or full. ``buffered_bytes`` are charged for what waits
    to be written. ``error`` says why nothing can be written at present; empty if it can.
    """

    frames: int
    messages: int
    bytes: int
    written_bytes: int
    lost_frames: int
    lost_messages: int
    files: int
    buffered_bytes: int
    path: str
    error: str
    is_closed: bool


@dataclass(frozen=True, repr=False)
class Stats(_AsDict):
    """A snapshot of a client's counters, which count from its creation. Its repr is a table.

    ``messages`` delivered to queues; ``frames`` and ``bytes`` of payload received; ``connects``
    completed, of ``dials`` attempted; ``disconnects`` of an open connection, counted by reason in
    ``disconnect_reasons``; ``reconnects`` after one; ``rotations``, in which a connection was
    replaced before it ended; ``gaps`` marked, with ``missed`` messages if the number is known;
    ``invalid`` frames and messages skipped; ``unhandled`` frames of unknown type; ``queued``
    messages and ``queued_bytes`` waiting now, and the age (s) of the ``oldest``; ``dropped`` by
    overflow policies; ``callback_errors`` raised by ``on()`` and ``on_event()`` functions.

    The reasons in ``disconnect_reasons`` are those of :class:`wsclient.events.Disconnected`. Failed
    attempts are counted in ``attempt_failures``, by the same reasons, ``timeout`` and ``http 503``
    (the status of the answer). ``no_data`` lists the channels that the venue has confirmed, but for
    which no message has come: see :class:`wsclient.events.NoData`.

    The venue has refused ``channels_refused`` channels when they were requested, and ended
    ``channels_ended`` active ones, to which the client then subscribed again. ``channels_lost``
    channels were refused then, or after a reconnect, and will bring nothing more.

    Order books fell out of sync ``books_out_of_sync`` times and got a new snapshot after that
    ``books_refreshed`` times; ``books_refused`` snapshots were refused for good, or could not be
    read for a bug of the dialect.

    ``connections`` are those of ``client.connections``. Where one is missing and the next attempt
    is still to come, there is an entry with the id 0 and the state ``backing off``.

    ``rate`` covers the last 10 to 15 s. ``connection_rate`` covers the time since the client last
    had no open connection, of all its connections together; without one, the time before that,
    until the last frame. It goes on while connections replace each other. ``queues`` are ``client``
    (its own ``recv`` and loop), ``reader-1`` and so on in the order in which they were made,
    ``callbacks`` and ``books``. ``recorder`` is that of the last ``record()``, else None. For the
    lags see :class:`Lag`.
    """

    state: str
    messages: int
    frames: int
    bytes: int
    dials: int
    connects: int
    disconnects: int
    gaps: int
    missed: int
    invalid: int
    unhandled: int
    queued: int
    queued_bytes: int
    dropped: int
    callback_errors: int
    channels: Mapping[str, ChannelStats]
    name: str = ""
    disconnect_reasons: Mapping[str, int] = field(default_factory=dict)
    attempt_failures: Mapping[str, int] = field(default_factory=dict)
    rate: Rate = Rate(0.0, 0.0, 0.0)
    connection_rate: Rate = Rate(0.0, 0.0, 0.0)
    oldest: float | None = None
    venue_lag: Lag = _NO_LAG
    consumer_lag: Lag = _NO_LAG
    queues: Mapping[str, QueueStats] = field(default_factory=dict)
    no_data: tuple[str, ...] = ()
    books_out_of_sync: int = 0
    books_refreshed: int = 0
    books_refused: int = 0
    channels_refused: int = 0
    channels_ended: int = 0
    channels_lost: int = 0
    reconnects: int = 0
    rotations: int = 0
    connections: tuple[ConnectionInfo, ...] = ()
    recorder: RecorderStats | None = None

    def __repr__(self) -> str:
        blocks = (aligned(block) if isinstance(block, Grid) else block for block in _blocks(self))
        return "\n\n".join("\n".join(block) for block in blocks)

    def _repr_html_(self) -> str:
        return html.page(
            *(
                html.grid(block) if isinstance(block, Grid) else html.lines(block)
                for block in _blocks(self)
            )
        )


# As text, and as HTML.


def _blocks(stats: Stats) -> Iterator[list[str] | Grid]:
    """Yield the parts of what is shown: some lines, or a table."""
    reasons = ", ".join(f"{count} {why}" for why, count in stats.disconnect_reasons.items())
    recent, whole = stats.rate, stats.connection_rate
    first = [
        f"{one_line(stats.name)}: {stats.state}; {stats.connects:,} connects of {stats.dials:,} "
        f"dials, {stats.disconnects:,} disconnects{f' ({reasons})' if reasons else ''}, "
        f"{stats.reconnects:,} reconnects, {stats.rotations:,} rotations",
        f"{stats.messages:,} messages, {size_text(stats.bytes)}; {recent.messages:,.1f}/s and "
        f"{size_text(recent.bytes)}/s recently, {whole.messages:,.1f}/s and "
        f"{size_text(whole.bytes)}/s over {whole.seconds:,.0f} s of connection",
        f"{stats.gaps:,} gaps, {stats.missed:,} missed, {stats.dropped:,} dropped, "
        f"{stats.invalid:,} invalid, {stats.unhandled:,} unhandled, "
        f"{stats.callback_errors:,} callback errors",
    ]
    if stats.channels_refused or stats.channels_ended or stats.channels_lost:
        first.append(
            f"channels: {stats.channels_refused:,} refused, {stats.channels_ended:,} ended by the "
            f"venue, {stats.channels_lost:,} lost"
        )
    yield first
    if len(stats.connections) > 1:
        yield _connection_grid(stats.connections)
    lags = (("venue to client", stats.venue_lag), ("client to consumer", stats.consumer_lag))
    rows = [[name, f"{lag.count:,}", *_lag_cells(lag)] for name, lag in lags]
    yield Grid(["lag", "measured", "p50", "p99", "max"], rows)
    rows = [
        [name, *_queue_cells(queue), *_lag_cells(queue.consumer_lag)]
        for name, queue in stats.queues.items()
    ]
    yield Grid(["queue", "waiting", "size", "oldest", "dropped", "p50", "p99", "max"], rows)
    if stats.channels:
        yield _channel_grid(stats.channels)
    if stats.no_data:
        names = ", ".join(map(one_line, stats.no_data[:SHOWN]))
        more = len(stats.no_data) - SHOWN
        and_more = f" and {more:,} more" if more > 0 else ""
        yield [f"confirmed, but without data: {names}{and_more}"]


_CONNECTION = ("route", "shard", "state", "age", "channels", "messages", "/s", "size/s")


def _connection_grid(connections: Sequence[ConnectionInfo]) -> Grid:
    first = connections
    if len(connections) > SHOWN:
        first = sorted(connections, key=lambda found: found.state == "open")[:SHOWN]
    rows = [[name, *cells] for name, cells in map(_connection_cells, first)]
    more = len(connections) - len(first)
    return Grid(
        ["connection", *_CONNECTION], rows, f"... and {more:,} more connections" if more else ""
    )


def _connection_cells(found: ConnectionInfo) -> tuple[str, list[str]]:
    state = found.state if found.replaces is None else f"{found.state}, replaces {found.replaces}"
    age = "-" if found.age is None else f"{found.age:,.{int(found.age < 10)}f} s"
    where = [one_line(found.route) or "-", str(found.shard), state, age]
    counted = [f"{len(found.channels):,}", f"{found.messages:,}"]
    rate = [f"{found.rate.messages:,.1f}", size_text(found.rate.bytes)]
    return str(found.id) if found.id else "-", [*where, *counted, *rate]


def _channel_grid(channels: Mapping[str, ChannelStats]) -> Grid:
    first = sorted(channels.items(), key=lambda pair: -pair[1].messages)[:SHOWN]
    rows = [[one_line(name), *_channel_cells(channel)] for name, channel in first]
    header = ["channel", "messages", "/s", "gaps", "missed", "venue p50/p99", "consumer p50/p99"]
    more = len(channels) - len(first)
    return Grid(header, rows, f"... and {more:,} more channels" if more else "")


def _queue_cells(queue: QueueStats) -> list[str]:
    waiting = [f"{queue.messages:,}", size_text(queue.bytes), time_text(queue.oldest)]
    return [*waiting, f"{queue.dropped:,}"]


def _channel_cells(channel: ChannelStats) -> list[str]:
    counted = [f"{channel.messages:,}", f"{channel.rate:,.1f}"]
    counted += [f"{channel.gaps:,}", f"{channel.missed:,}"]
    return [*counted, _lag_cell(channel.venue_lag), _lag_cell(channel.consumer_lag)]


def _lag_cells(lag: Lag) -> list[str]:
    return [time_text(lag.p50), time_text(lag.p99), time_text(lag.max)]
