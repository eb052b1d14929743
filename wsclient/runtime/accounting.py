"""Collects the counters and measurements for ``client.stats()``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wsclient.runtime.core import Core
from wsclient.sansio.connection import Connection
from wsclient.sansio.life import State
from wsclient.sansio.slots import SlotKey
from wsclient.sansio.supervisor import Supervisor
from wsclient.telemetry.histogram import Histogram, Lags
from wsclient.telemetry.rates import Window
from wsclient.telemetry.stats import (
    ChannelStats,
    ConnectionInfo,
    ConnectionInfos,
    Lag,
    Rate,
    Stats,
)

__all__ = ["connections_of", "stats_of"]


def stats_of(core: Core) -> Stats:
    """Return a snapshot of the statistics of ``core``.

    The reader needs the locks too, so nothing but copying is done under them.
    """
    supervisor = core.supervisor
    with core.lock:
        now = core.clock.monotonic()
        message_queues, retired = core.router.queues, core.router.retired
        counters, rates = supervisor.counters, supervisor.intake.rates
        is_open = supervisor.state is State.OPEN
        recent = rates.recent(now)
        connection = rates.connection(now if is_open else rates.counted_at)
        rows = [
            (
                name,
                t.messages,
                t.gaps,
                t.missed,
                t.late_or_duplicate,
                t.late,
                t.last,
                t.last_received_at,
            )
            for name, t in supervisor.upkeep.channels.by_name.items()
        ]
        connections = _rows(supervisor, now)
        counted = {
            "state": supervisor.state.value,
            "dropped": retired.dropped,
            "disconnect_reasons": dict(supervisor.endings.disconnect_reasons),
            "attempt_failures": dict(supervisor.endings.attempt_failures),
            "no_data": supervisor.upkeep.first_messages.overdue(),
            **{name: getattr(counters, name) for name in counters.__slots__},
        }
    clock = core.clock.time_ns()
    venue = supervisor.upkeep.venue_lags.copy(core.lock)
    consumer = retired.lags.copy(core.lock)
    queues = {}
    for message_queue in message_queues:
        queues[message_queue.name], lags = message_queue.stats(clock)
        consumer.absorb(lags)
    channels = {
        name: ChannelStats(
            messages,
            gaps,
            missed,
            late_or_duplicate - late,
            late,
            last,
            last_at,
            recent.channel_rate(name, messages) if recent else 0.0,
            connection.channel_rate(name, messages) if connection else 0.0,
            _lag(venue, name),
            _lag(consumer, name),
        )
        for name, messages, gaps, missed, late_or_duplicate, late, last, last_at in rows
    }
    counted["dropped"] += sum(queue.dropped for queue in queues.values())
    counted["invalid"] += retired.invalid + sum(queue.invalid for queue in message_queues)
    ages = [queue.oldest for queue in queues.values() if queue.oldest is not None]
    return Stats(
        **counted,
        name=core.log.name,
        queued=sum(queue.messages for queue in queues.values()),
        queued_bytes=sum(queue.bytes for queue in queues.values()),
        oldest=max(ages, default=None),
        callback_errors=core.callbacks.errors,
        rate=_rate(recent, counted),
        connection_rate=_rate(connection, counted),
        venue_lag=Lag(venue.total),
        consumer_lag=Lag(consumer.total),
        queues=queues,
        channels=channels,
        connections=tuple(_connections(connections)),
        recorder=None if core.recorder is None else core.recorder.stats(),
    )


def connections_of(core: Core) -> list[ConnectionInfo]:
    """Return the connections of ``core`` that have not ended, oldest first."""
    with core.lock:
        rows = _rows(core.supervisor, core.clock.monotonic())
    return ConnectionInfos(found for found in _connections(rows) if found.id)


class _Rows(NamedTuple):
    """Copies of what is known of the connections of a client.

    ``active`` are pairs of connection and channel. ``waiting`` are the slots without a connection.
    """

    connections: list[tuple[Connection, str, float | None, int, int, int | None]]
    active: list[tuple[int, str]]
    waiting: list[tuple[SlotKey, int]]


def _rows(supervisor: Supervisor, now: float) -> _Rows:
    """Copy what :func:`_connections` needs. Call it with the lock."""
    active = [
        (connection_id, entry.channel)
        for entry in supervisor.wanted
        for connection_id in entry.carriers
    ]
    connections = []
    for c in supervisor.connections:
        age = now - c.opened_at if c.has_opened else None
        oldest = supervisor.connections.of(c.slot.key)[0]
        replaces = None if oldest is c else oldest.id
        connections.append((c, c.stage.value, age, c.messages, c.bytes, replaces))
    waiting = [
        (key, slot.messages)
        for key, slot in (supervisor.fleet.slots.items() if supervisor.life.is_running else ())
        if not supervisor.connections.of(key)
    ]
    return _Rows(connections, active, waiting)


def _connections(rows: _Rows) -> Iterator[ConnectionInfo]:
    by_id: dict[int, list[str]] = {}
    for connection_id, channel in rows.active:
        by_id.setdefault(connection_id, []).append(channel)
    nothing = Rate(0.0, 0.0, 0.0)
    for connection, state, age, messages, size, replaces in rows.connections:
        slot = connection.slot
        yield ConnectionInfo(
            connection.id,
            state,
            age,
            tuple(by_id.get(connection.id, ())),
            Rate(messages / age, size / age, age) if age else nothing,
            slot.key.route,
            slot.key.shard,
            replaces,
            messages,
            slot.messages,
        )
    for key, before in rows.waiting:
        state = State.BACKING_OFF.value
        yield ConnectionInfo(
            0, state, None, (), nothing, key.route, key.shard, messages_before=before
        )


_NOTHING = Lag(Histogram(0))


def _lag(lags: Lags, channel: str) -> Lag:
    found = lags.by_channel.get(channel)
    return _NOTHING if found is None else Lag(found)


def _rate(window: Window | None, counted: dict[str, int]) -> Rate:
    if window is None:
        return Rate(0.0, 0.0, 0.0)
    start = window.start
    return Rate(
        window.rate(counted["messages"], start.messages),
        window.rate(counted["bytes"], start.bytes),
        window.seconds,
    )
