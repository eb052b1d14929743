"""The core of a client that plays recordings: no thread, no socket, and the recordings' clock.

It *pulls*: a consumer that finds its queue empty plays the recordings, record by record, until
there is a message for it. So nothing is ever ahead of the consumer that plays: the newest messages,
the order books, the statistics and the clock are those of the last record played.

One thread at a time has the *turn*, from when it takes a record until the functions of ``on()`` and
``on_event()`` have been called with it, which run on that thread. The core's lock protects what it
protects in any client, and the turn; no user's code runs under it.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from logging import WARNING
from threading import get_ident
from typing import NamedTuple

from wsclient.dialect.base import Dialect
from wsclient.errors import ClientClosed, RecordingEnded, WaitTimeout
from wsclient.events import GapMarked
from wsclient.messages import Arrival, LinkedMessage, Message
from wsclient.options import Options
from wsclient.recording.container import Damage
from wsclient.recording.folder import FileDamage
from wsclient.recording.playback import Playback, Tape
from wsclient.recording.records import (
    ClientRecord,
    ClientState,
    Frame,
    Happened,
    Lost,
    decode,
    decode_frame,
)
from wsclient.recording.replaycalls import ReplayCallbacks, ReplayCalls
from wsclient.recording.replayevents import notice_of
from wsclient.recording.replaylanes import Lane, NoSources, ReplayDeadline, ReplaySupervisor
from wsclient.recording.shield import Shield
from wsclient.runtime.core import Core
from wsclient.runtime.fifo import FifoQueue
from wsclient.runtime.queues import MessageQueue
from wsclient.sansio.actions import Notify
from wsclient.sansio.life import State
from wsclient.stream.channel import LATE_OR_DUPLICATE, Channel
from wsclient.stream.declared import Types
from wsclient.threads.logs import ClientLog
from wsclient.threads.waiting import Deadline
from wsclient.threads.waitlist import WaitList, new_signal, pause

__all__ = ["ReplayCore"]

#: How long (s) a thread that would play waits for another one that has to come first: one that
#: calls a function, or that does not take what its full queue holds. Then it goes on.
PATIENCE = 10.0
#: How often (s) it looks whether a full queue has room.
LOOK_EVERY = 0.002
#: After every time.
NEVER = float("inf")
#: The states of a client that plays, that of the furthest recording first.
FURTHEST = (State.OPEN, State.AUTHENTICATING, State.CONNECTING, State.BACKING_OFF)


class _Taken(NamedTuple):
    """A record that was taken, and what is to be done with it without the lock.

    ``messages`` are still to be delivered. ``record`` is one of the topic ``client``. ``has_turn``:
    the thread has taken the turn for it.
    """

    lane: Lane
    messages: Sequence[Message] = ()
    notices: Sequence[Notify] = ()
    record: ClientRecord | None = None
    has_turn: bool = False


#: Nothing is left to do with a record.
DONE = object()


class _Patience:
    """Says how long one call waits for another thread."""

    def __init__(self) -> None:
        self._seen: object = None
        self._until = 0.0

    def lasts(self, seen: object) -> bool:
        """Return whether to go on waiting. ``seen`` changes while the other thread goes on."""
        now = time.monotonic()
        if seen != self._seen:
            self._seen, self._until = seen, now + PATIENCE
        return now < self._until


class ReplayCore(Core):
    """The core of a client that plays recordings, each in a lane of its own."""

    supervisor: ReplaySupervisor
    callbacks: ReplayCallbacks
    calls: ReplayCalls

    def __init__(
        self,
        lanes: Sequence[Lane],
        options: Options,
        dialect: Dialect,
        log: ClientLog,
        *,
        is_selective: bool,
    ) -> None:
        sources = NoSources()
        self.replayed = sources.clock
        super().__init__(sources, options, dialect, log)
        self.lanes = {lane.tape: lane for lane in lanes}
        supervisor = self.supervisor = ReplaySupervisor(dialect, options, random.random)
        supervisor.recorded = State.OPEN
        supervisor.life.step("connect")
        self.rates = supervisor.intake.rates
        self._by_name = supervisor.upkeep.channels.by_name
        self.callbacks = ReplayCallbacks(
            partial(super().new_queue, "callbacks", types=self.types),
            self.add_queue,
            self.emit,
            self.died,
        )
        self.calls = ReplayCalls(self, self.channels, self._select)
        self.playback = Playback([lane.tape for lane in lanes])
        #: True once a caller has named channels: only these are delivered, and only to those who
        #: want them. Before, the client's own queue gets all.
        self.is_selective = is_selective
        #: What is built on this core: called with each record of the topic ``client``, and with the
        #: messages of a channel before they are delivered. Without the lock.
        self.record_listeners: list[Callable[[Lane, ClientRecord], None]] = []
        self.appliers: dict[str, Callable[[Message], object]] = {}
        #: How fast recorded time passes; None for as fast as possible. Then the moments, by the
        #: recordings' and by this machine's monotonic clock, from which it is counted.
        self.speed: float | None = None
        self._paced_from: tuple[int, float] | None = None
        #: The thread that has the turn.
        self._player: int | None = None
        #: The threads that wait to play.
        self._waiting = WaitList()
        for lane in lanes:
            lane.look_back()
        if (tape := self.playback.tape) is not None:
            self.replayed.time = tape.records[tape.index][1]
        self.at_end.append(self._waiting.wake_all)

    def channels(self) -> dict[str, None]:
        """Return the channels of the recordings, as far as they are known."""
        return {name: None for lane in self.lanes.values() for name in lane.channels}

    def _select(self) -> None:
        self.is_selective = True

    def set_speed(self, speed: float | None) -> None:
        """Play at ``speed`` from now on."""
        with self.lock:
            self.speed, self._paced_from = speed, None
            self._waiting.wake_all()

    def new_queue(
        self,
        name: str,
        size: int | None = None,
        overflow: str | None = None,
        types: Types | None = None,
    ) -> MessageQueue:
        """Return a new queue, whose consumers play the recordings."""
        queue = super().new_queue(name, size, overflow, types)
        queue.pull = self.pull
        if isinstance(queue, FifoQueue) and types is None:
            queue.pull_one = self._quick_way(queue)
        return queue

    # The consumers.

    def deadline(self, timeout: float | None) -> Deadline:
        return ReplayDeadline(timeout, self.replayed)

    def pull(self, queue: MessageQueue, deadline: Deadline) -> None:
        """Play until there is a message in ``queue``, or it is closed.

        The timeout of ``deadline`` is in recorded time, but at least one record is played. Raises
        WaitTimeout, RecordingEnded, and ClientClosed.
        """
        self.play_until(lambda: bool(queue) or queue.is_closed, deadline.timeout)

    def play_until(self, is_done: Callable[[], bool], timeout: float | None) -> None:
        """Play until ``is_done()``. Raises as :meth:`pull`."""
        self.locks.check()
        limit = NEVER if timeout is None else self.replayed.time + round(timeout * 1e9)
        is_poll = timeout == 0 and self.speed is None
        while not is_done():
            if not self.advance(NEVER if is_poll else limit, is_done):
                raise WaitTimeout("no message within the timeout, in recorded time")
            is_poll = False
        if self.speed is not None:  # what is due has come, however slow this consumer is
            while self._is_due() and not self.supervisor.life.is_over:
                self.advance()

    @property
    def is_playing(self) -> bool:
        """True on the thread that has the turn."""
        return self._player == get_ident()

    def exclusively(self, function: Callable[[], object]) -> None:
        """Call ``function`` while no other thread plays, without the lock."""
        me, patience = get_ident(), _Patience()
        while True:
            with self.lock:
                player = self._player
                if player in (None, me) or not patience.lasts(player):
                    self._player = me
                    break
                signal = new_signal()
                self._waiting.append(signal)
            try:
                pause(signal, LOOK_EVERY)
            finally:
                self._waiting.discard(signal)
        try:
            function()
        finally:
            with self.lock:
                self._player = player
                self._waiting.wake_all()

    def feed(self, channel: str, apply: Callable[[Message], object]) -> None:
        """Call ``apply`` with each message of a channel, from the present record on."""
        with self.lock:
            self._select()
            self.appliers[channel] = apply

    def advance(self, limit: float = NEVER, is_done: Callable[[], bool] = lambda: False) -> bool:
        """Play the next record, if its time is not after ``limit`` (ns since the epoch).

        Returns False if it is; then the time is ``limit``. Plays nothing if ``is_done()``: another
        thread may have played meanwhile. Raises RecordingEnded and ClientClosed.
        """
        me, patience = get_ident(), _Patience()
        while True:
            with Shield() as shield:
                if not self.posts.are_done():
                    self.posts.drain()
                with self.lock:
                    if self.supervisor.life.is_over:
                        raise ClientClosed("the client is closed")
                    if is_done():
                        return True
                    found = self._take(me, limit, patience)
                    if isinstance(found, float):
                        signal = new_signal()
                        self._waiting.append(signal)
                if isinstance(found, _Taken):
                    self._finish(found, shield)
                if not isinstance(found, float):
                    return found is not None
            try:
                pause(signal, found)
            finally:
                self._waiting.discard(signal)

    def _finish(self, step: _Taken, shield: Shield) -> None:
        """Do what is to be done with a record without the lock."""
        try:
            if step.record is not None:
                for listener in self.record_listeners:
                    listener(step.lane, step.record)
            for notice in step.notices:
                self.event_hub.repeat(notice)
            for message in step.messages:
                if (apply := self.appliers.get(message.channel)) is not None:
                    apply(message)
            if messages := [m for m in step.messages if self.routes_of(m.channel)]:
                with self.lock:
                    self._hand_over(messages)
            if not self.posts.are_done():
                self.posts.drain()
            if step.has_turn:
                with shield.lifted():
                    self.callbacks.run()
        finally:
            if step.has_turn:
                with self.lock:
                    self._player = None
                    self._waiting.wake_all()

    def _quick_way(self, queue: MessageQueue) -> Callable[..., bool]:
        """Return a function that plays one record into ``queue``: the fast path of :meth:`pull`.

        Its argument is the latest time of the record (ns since the epoch). It does what
        :meth:`advance` does with a frame of one message without a gap that goes to ``queue`` alone,
        when nothing else is to be done. Else it does nothing and returns False.
        """
        # Bound to names of their own: this is run for nearly each message.
        core, lock, clock, give = self, self.lock, self.replayed, queue.give
        routes, only, is_done, decode = self._routes, (queue,), self.posts.are_done, decode_frame
        new, new_linked, arrived = Message, LinkedMessage, Arrival

        def play_one(limit: float = NEVER) -> bool:
            with lock:
                if not core.is_plain or core._player is not None or queue.is_closed:
                    return False
                if queue.consumer != get_ident():
                    return False  # the careful path notes who reads the queue
                if queue:
                    return False  # another thread has put in what comes first
                playback = core.playback
                tape = playback.tape
                if tape is None or tape.harm or not is_done():
                    return False
                index, records = tape.index, tape.records
                if index >= len(records):
                    return False
                number, log_time, published, data = records[index]
                lane = core.lanes[tape]
                # Known once a message has come by the careful path: no gap of the recorder waits.
                found = tape.known_topics.get(number)
                if found is None or lane.shift is None:
                    return False
                if log_time > playback.until or log_time > limit:
                    return False
                name, channel = found
                if routes.get(name, None if core.is_selective else only) != only:
                    return False
                if not core.is_selective and queue is not core.default:
                    return False
                try:
                    frame = decode(data)
                    (part,) = frame.parts
                except ValueError:
                    return False
                raw, sequence, at = frame.raw, part.sequence, frame.at + lane.shift
                now = at / 1e9
                if part.gap is not None or not raw or frame.is_repeated or now >= core.rates.due:
                    return False
                arrival = arrived(published, frame.connection_id, lane.decoder, now)
                before = channel.last_received_at
                message: Message
                if part.is_counted is None:
                    message = new(name, part.type, sequence, part.item, raw, None, before, arrival)
                else:
                    message = new_linked(
                        name, part.type, sequence, part.item, raw, None, before, arrival,
                        follows=part.follows, is_counted=part.is_counted,
                    )  # fmt: skip
                connection = lane.connections.opened.get(frame.connection_id)
                counters, size = core.supervisor.counters, len(raw)
                received_at = lane.received_at
                # From here on no function is called before give(), so no interrupt comes between.
                tape.index = index + 1
                if at > clock.at:
                    clock.at = at
                clock.time = log_time
                lane.last = received_at[name] = published
                channel.counted += 1
                if sequence is not None:
                    channel._last = sequence  # as Channel.replay() does
                channel.last_received_at = published
                channel.latest = message
                core.rates.counted_at = now
                counters.frames += 1
                counters.messages += 1
                counters.bytes += size
                if connection is not None:
                    connection.messages += 1
                    connection.bytes += size
                give(message)
                return True

        return play_one

    # The rest is called under the lock.

    @property
    def is_plain(self) -> bool:
        """Whether only messages are to be delivered, as fast as possible."""
        return self.speed is None and not self.appliers and not self.callbacks.are_wanted

    def _take(self, me: int, limit: float, patience: _Patience) -> float | object | None:
        """Take the next record, and deliver its messages if that is all there is to do.

        Returns the time (s) after which to try again, if another thread comes first or the record
        is not due yet; None if it is after ``limit``; a _Taken if there is something left to do.
        """
        player = self._player
        if player is not None and player != me and patience.lasts(player):
            return LOOK_EVERY * 10
        tape = self.playback.next()
        if tape is None:
            raise RecordingEnded("the recording has no further message")
        time = tape.records[tape.index][1]
        if self.speed is not None and (delay := self._delay(min(time, limit))) > 0:
            return delay
        if time > limit:
            self.replayed.wait_until(int(limit))
            return None
        full = self._full(tape, me) if len(self.router.queues) > 1 else None
        if full is not None and patience.lasts((full, len(full))):
            return LOOK_EVERY
        lane = self.lanes[tape]
        step = self._read(tape, lane)
        if step is None:
            return DONE
        callbacks = self.callbacks
        if (
            step.record is None
            and not step.notices
            and not callbacks.are_wanted
            and (not self.appliers or not any(m.channel in self.appliers for m in step.messages))
        ):
            self._hand_over(step.messages)
            return DONE
        if player is None:
            self._player = me
            step = step._replace(has_turn=True)
        return step

    def _delay(self, until: float) -> float:
        """Return how long (s) it takes until a recorded time is due, at the present speed."""
        now = time.monotonic()
        if self._paced_from is None:
            self._paced_from = self.replayed.time, now
        begin, began = self._paced_from
        if until == NEVER or self.speed is None:
            return 0.0
        return began + (until - begin) / 1e9 / self.speed - now

    def _full(self, tape: Tape, me: int) -> MessageQueue | None:
        """Return a full queue for the next record that another living thread reads."""
        for queue in self.router.queues:
            if queue.pull is None or queue.consumer in (None, me) or not queue.is_in_order:
                continue
            number, _, _, data = tape.records[tape.index]
            kind, name = tape.topics.get(number, ("", ""))
            if kind == "channel" and queue not in self.routes_of(name):
                continue
            # A frame of one message, or several: its size is about that of its record.
            if not queue.has_room(1, len(data)) and queue.consumer in sys._current_frames():
                return queue
        return None

    def routes_of(self, channel: str) -> Sequence[MessageQueue]:
        """Return the queues that get the messages of a channel."""
        found = self._routes.get(channel)
        if found is not None:
            return found
        return () if self.is_selective else (self.default,)

    def _is_wanted(self, channel: str) -> bool:
        return not self.is_selective or channel in self._routes or channel in self.appliers

    def _read(self, tape: Tape, lane: Lane) -> _Taken | None:
        """Take the next record of a tape. Returns None for one that nobody wants."""
        number, log_time, published, data = tape.records[tape.index]
        kind, name = tape.topics.get(number, ("", ""))
        if tape.harm:
            self._report_harm(tape, lane)
        if not kind or (kind == "channel" and not self._is_wanted(name)):
            tape.index += 1
            return None
        try:
            record = decode(kind, data)
            self._set_clock(lane, record.at, log_time)
            if isinstance(record, Frame):
                is_own = kind == "channel"
                step = self._frame(
                    lane, record, name if is_own else None, published, number if is_own else None
                )
            else:
                step = self._client(lane, record)
        except ValueError as error:
            why = f"a record of {name!r} cannot be read ({error})"
            damage = FileDamage(tape.path, Damage(0, len(data), why))
            tape.recording.unreadable.append(damage)
            tape.harm.append(damage)
            step = None
        tape.index += 1
        lane.last = published
        return step

    def _set_clock(self, lane: Lane, at: int, log_time: int) -> None:
        clock = self.replayed
        if lane.shift is None:
            lane.shift = clock.at + max(0, log_time - clock.time) - at if clock.at else 0
            for other in self.lanes.values():
                if other is not lane and other.client == lane.client:
                    other.connections.end()
        clock.at = max(clock.at, at + lane.shift)
        clock.time = max(clock.time, log_time)

    def _frame(
        self, lane: Lane, frame: Frame, topic: str | None, published: int, number: int | None
    ) -> _Taken | None:
        raw, now = frame.raw, self.replayed.monotonic()
        intake, counters = self.supervisor.intake, self.supervisor.counters
        intake.count(None, not frame.is_repeated, 0 if frame.is_repeated else len(raw), now)
        if not frame.parts:
            return None
        wanted = {*self._routes, *self.appliers} if topic is None and self.is_selective else None
        messages = lane.of_frame(frame, topic, published, wanted, now)
        notices = []
        for message in messages:
            name = message.channel
            channel = self._by_name.get(name)
            if channel is None:
                channel = self._by_name[name] = Channel(name)
                lane.channels[name] = None
            channel.replay(message)
            if number is not None:
                lane.tape.known_topics[number] = name, channel
            if (gap := message.gap) is not None:
                counters.missed += gap.missed or 0
                if gap.reason not in LATE_OR_DUPLICATE:
                    counters.gaps += 1
                    if self.event_hub.wants(GapMarked):
                        notices.append(Notify(GapMarked, (name, gap), frame.connection_id))
        counters.messages += len(messages)
        lane.connections.count(frame.connection_id, len(messages), len(raw))
        return _Taken(lane, messages, notices)

    def _client(self, lane: Lane, record: ClientRecord) -> _Taken:
        notices: list[Notify] = []
        now = self.replayed.monotonic()
        if isinstance(record, Lost):
            lane.lost.add(record)
            lane.tape.known_topics.clear()
        elif isinstance(record, ClientState):
            lane.connections.restart(record, now)
        elif isinstance(record, Happened):
            lane.connections.happened(record, now)
            notice = notice_of(record)
            notices += [] if notice is None else [notice]
        lanes = [found for found in self.lanes.values() if found.shift is not None]
        states = {found.connections.state for found in lanes}
        self.supervisor.recorded = next(state for state in FURTHEST if state in states)
        return _Taken(lane, (), notices, record)

    def _report_harm(self, tape: Tape, lane: Lane) -> None:
        for path, damage in tape.harm:
            size = f"{damage.size:,} bytes at {damage.position:,}"
            self.log(WARNING, f"damaged recording: {path}: skipped {size}: {damage.why}")
        tape.harm.clear()
        lane.lost.add(Lost(at=0, why="damage", since=lane.last, is_unknown=True))
        tape.known_topics.clear()

    def _hand_over(self, messages: Sequence[Message]) -> None:
        failure = self.router.deliver(messages)
        if failure is not None:
            self.supervisor.fail(failure)
            for queue in self.router.queues:
                queue.fail(failure)

    def _is_due(self) -> bool:
        with self.lock:
            tape = self.playback.next()
            return tape is not None and self._delay(tape.records[tape.index][1]) <= 0
