"""The reports of readers: frames are decoded without the lock, then checked and delivered."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import partial
from typing import Any

from wsclient.dialect.base import Dialect
from wsclient.dialect.values import Credentials
from wsclient.errors import WSClientError
from wsclient.messages import Message
from wsclient.runtime.common import Common
from wsclient.runtime.router import strip
from wsclient.runtime.watchdog import Watchdog
from wsclient.stream.channel import Batch
from wsclient.stream.frames import Frames
from wsclient.stream.inbound import Inbound
from wsclient.stream.incoming import Incoming, Invalid

__all__ = ["Reception"]

#: Data is late when it has waited for its delivery for longer than this (s).
LATE = 0.25
#: The time (s) between two messages whose venue lag is measured: each one must be partly decoded.
SAMPLE_EVERY = 0.01
#: How often the payloads of one read go back to the fast path: each time costs a look at all that
#: are left.
ROUNDS = 32


class _Reading:
    """What the reader of one connection needs. Used by that thread only."""

    __slots__ = ("inbound", "login", "sample_at", "since")

    def __init__(self, core: Common, login: Any) -> None:
        #: What the dialect has sent first; None for nothing.
        self.login = login
        options = core.options
        self.inbound = Inbound(
            core.dialect,
            decimal=options.decimal,
            deliver_unhandled=options.deliver_unhandled,
            validate=options.validate,
            types=core.types,
        )
        #: When the data that is being processed was read; None if none is (monotonic s).
        self.since: float | None = None
        #: When the next message is measured (monotonic s).
        self.sample_at = float("-inf") if _has_times(core.dialect) else float("inf")

    def sampled(self, messages: list[Message], now: float) -> Message | None:
        """Return the first message of a read when the next measurement is due, else None."""
        if now < self.sample_at or not messages:
            return None
        self.sample_at = now + SAMPLE_EVERY
        return messages[0]


class Reception:
    """Takes the reports of all sources of one client.

    Implements :class:`wsclient.transport.source.FrameReceiver`, on the sources' threads. A report
    about a connection that the supervisor no longer has is ignored.
    """

    __slots__ = ("_clock", "_core", "_readings", "_watchdog")

    def __init__(self, core: Common, watchdog: Watchdog) -> None:
        self._core = core
        self._watchdog = watchdog
        self._clock = core.clock
        #: By connection, from its first report to its last.
        self._readings: dict[int, _Reading] = {}

    def held_up_for(self, connection_ids: Iterable[int]) -> float:
        """Return how long (s) data read from one of the connections has waited for its delivery.

        A slow ``validate``, or a slow hook of the dialect, may hold it up.
        """
        readings = (self._readings.get(connection_id) for connection_id in connection_ids)
        began = (reading.since for reading in readings if reading is not None)
        since = min((time for time in began if time is not None), default=None)
        return 0.0 if since is None else self._clock.monotonic() - since

    def is_busy(self, connection_ids: Iterable[int]) -> bool:
        """Return whether a read of one of the connections is being processed."""
        readings = (self._readings.get(connection_id) for connection_id in connection_ids)
        return any(reading is not None and reading.since is not None for reading in readings)

    def logins(self) -> list[tuple[int, Any]]:
        """Return what each open connection has sent first, by its id."""
        return [(number, reading.login) for number, reading in self._readings.copy().items()]

    def opened(
        self, connection_id: int, login: Any, credentials: Credentials | None, address: str
    ) -> None:
        """Note that the handshake of a connection is complete."""
        now = self._core.clock.monotonic()
        with self._core.lock:
            if self._core.supervisor.connection(connection_id) is None:
                return
            self._readings[connection_id] = _Reading(self._core, login)
            if self._core.tap is not None:
                self._core.tap.opened(connection_id, login)
            self._core.supervisor.opened(connection_id, login, now, credentials, address)
            self._core.router.connected(min(self._core.supervisor.connections.by_id))
        self._core.wake()
        self._core.follower.opened()

    def received(self, frames: Frames) -> None:
        """Decode and deliver what one read brought."""
        connection_id, now = frames.connection_id, frames.read_at
        reading = self._readings.get(connection_id)
        if reading is None:
            return
        reading.since = now
        try:
            self._received(connection_id, reading, frames, now)
        finally:
            reading.since = None
        if self._clock.monotonic() - now > LATE:
            self._core.follower.caught_up()

    def _received(self, connection_id: int, reading: _Reading, frames: Frames, now: float) -> None:
        core, inbound = self._core, reading.inbound
        # Neither this frame nor the caller's may hold the messages when the reader gives way: a
        # consumer decodes and drops them one by one, and must hold the last reference to each.
        payloads, frames.messages = frames.messages, []
        size = sum(map(len, payloads))
        inbound.ahead = core.router.is_uniform and core.router.keeps_up
        batch = inbound.batch(payloads, bool(frames.binary), frames.received_at, connection_id, now)
        # Most reads take one round. A payload that is not ordinary takes the careful path; after
        # each that follows directly on another one, twice as many do; after some rounds, all do.
        careful, due = 1, False
        rounds = ROUNDS if batch.shape is not None else 1
        for left in reversed(range(rounds)):
            before = batch.done
            due |= self._take_ordinary(connection_id, reading, batch, frames, size, now)
            if batch.done == len(payloads):
                break
            careful = 1 if batch.done > before else 2 * careful
            entries = inbound.entries(batch, careful if left else None)
            due |= self._take_in(connection_id, reading, entries, now, batch.done)
            if batch.done == len(payloads):
                break
        if due:
            core.wake()

    def _take_ordinary(
        self,
        connection_id: int,
        reading: _Reading,
        batch: Batch,
        frames: Frames,
        size: int,
        now: float,
    ) -> bool:
        """Deliver the messages of the next payloads that are ordinary.

        ``size`` is the total size (bytes) of the read. Returns whether the watchdog has work to do.
        """
        core, begin = self._core, batch.done
        with core.lock:
            supervisor = core.supervisor
            connection = supervisor.connection(connection_id)
            if not begin:
                supervisor.intake.count(connection, len(batch.payloads), size, now)
                if core.tap is not None:
                    core.tap.read(batch.arrival, batch.payloads, frames.binary, size)
            if connection is None:
                return False
            messages = supervisor.intake.ordinary(connection, batch, now)
            if not messages:
                return False
            sample = reading.sampled(messages, now) if now >= reading.sample_at else None
            if batch.kind is not None and not core.router.is_uniform:
                strip(messages)  # a queue with other types was added meanwhile
            is_all = not begin and len(messages) == len(batch.payloads) == batch.done
            core.deliver(messages, size if is_all else None, batch, begin)
            due = supervisor.is_due(connection) or core.router.has_changed
        if sample is not None:
            self._measure(sample)
        return due

    def wake(self) -> None:
        """Make the watchdog flush the sources."""
        self._core.wake()

    def in_frame(self, now: float) -> None:
        """Make the watchdog check in time whether the rest of a frame has come.

        Called when a read ends within a frame, as most do.
        """
        stall, planned = self._core.options.stall_timeout, self._core.supervisor.planned
        if stall is not None and planned > now + stall:
            self._core.wake()

    def pace(self) -> None:
        """Wait briefly for the consumers that the last read has woken."""
        self._core.pacer.wait()

    def unreadable(self, connection_id: int, text: str) -> None:
        """Count and report a frame that could not be read."""
        with self._core.lock:
            connection = self._core.supervisor.connection(connection_id)
            self._core.supervisor.intake.count(connection, 1, 0, self._clock.monotonic())
        reading = self._readings.get(connection_id)
        if reading is None:
            return
        if self._take_in(connection_id, reading, [Invalid(text)], self._clock.monotonic()):
            self._core.wake()

    def _take_in(
        self,
        connection_id: int,
        reading: _Reading,
        entries: list[Incoming],
        now: float,
        done: int = 0,
    ) -> bool:
        """Process what is not ordinary. Return whether the watchdog has work to do.

        ``done`` is the number of frames of the read that are processed then.
        """
        identities = self._identities(connection_id, entries)
        with self._core.lock:
            supervisor = self._core.supervisor
            connection = supervisor.connection(connection_id)
            if connection is None:
                if self._core.tap is not None:
                    self._core.tap.passed(connection_id, done)
                return False
            messages = supervisor.intake.received(connection, entries, now, identities)
            sample = reading.sampled(messages, now)
            if messages:
                self._core.deliver(messages)
            if self._core.tap is not None:
                self._core.tap.passed(connection_id, done)
            due = supervisor.is_due(connection) or self._core.router.has_changed
        if sample is not None:
            self._measure(sample)
        self._core.follower.confirmed()
        return due

    def _identities(self, connection_id: int, entries: list[Incoming]) -> dict[int, Hashable]:
        """Return the identities of the messages among the entries, while they are needed.

        Calls the dialect without the lock.
        """
        identities: dict[int, Hashable] = {}
        if self._core.supervisor.upkeep.channels.overlaps.has(connection_id):
            for index, entry in enumerate(entries):
                if isinstance(entry, Message):
                    try:
                        identity = self._core.dialect.identity(entry)
                        hash(identity)
                        identities[index] = identity if identity == identity else None
                    except BaseException:  # noqa: BLE001 - also SystemExit: it equals no other
                        identities[index] = None
        return identities

    def _measure(self, message: Message) -> None:
        """Record the venue lag of ``message``. Calls the dialect without the lock."""
        try:
            sent_at = self._core.dialect.timestamp(message)
        except BaseException:  # noqa: BLE001 - also SystemExit; the message is not measured then
            return
        if sent_at is not None:
            with self._core.lock:
                channel, supervisor = message.channel, self._core.supervisor
                is_wanted = channel in supervisor.wanted
                ago = message.received_at - sent_at
                supervisor.upkeep.venue_lags.record(channel, ago, is_wanted=is_wanted)

    def pinged(self, connection_id: int) -> None:
        """Note a ping: the peer is not silent."""
        with self._core.lock:
            connection = self._core.supervisor.connection(connection_id)
            if connection is not None:
                connection.frame_received(self._clock.monotonic())

    def ponged(self, connection_id: int) -> None:
        """Note a pong: the heartbeat's deadline moves."""
        with self._core.lock:
            connection = self._core.supervisor.connection(connection_id)
            if connection is not None:
                connection.pong_received()
        self._core.wake()

    def renewed(self, connection_id: int, error: WSClientError | None, has_expired: bool) -> None:
        """Make the watchdog note the result of a renewal."""
        self._core.post(partial(self._watchdog.renewed, connection_id, error, has_expired))

    def ended(self, connection_id: int, error: BaseException) -> None:
        """Make the watchdog note that a connection or an attempt has ended by ``error``."""
        self._core.post(partial(self._watchdog.ended, connection_id, error))

    def finished(self, connection_id: int) -> None:
        """Forget a source: its thread ends."""
        self._readings.pop(connection_id, None)
        self._watchdog.transports.pop(connection_id, None)


def _has_times(dialect: Dialect) -> bool:
    return bool(dialect.timestamp_fields) or type(dialect).timestamp is not Dialect.timestamp
