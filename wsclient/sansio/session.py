"""The session: all decisions about the connection, and nothing else.

Rules of this module:

* Events come in as method calls with ``now`` (monotonic seconds); actions go out through
  :meth:`Session.actions`, and the caller performs them in order.
* Everything that affects the state is here. ``TRANSITIONS`` defines which state may follow which,
  and only :meth:`Session._enter` assigns the state.
* A transport's event carries the id of its connection, and is ignored unless that is the current
  connection.
* No code of a dialect or a user is called here. :class:`~wsclient.sansio.consulting.Consulting`
  gets the dialect's messages without the lock that protects the session.
* Everything that a venue can cause at any rate is bounded (:mod:`wsclient.sansio.floods`), and the
  number of omitted items is reported.

::

    IDLE --connect--> CONNECTING --opened--> [AUTHENTICATING --accepted-->] OPEN
    CONNECTING, AUTHENTICATING, OPEN --closed, deadline, stale--> BACKING_OFF --due--> CONNECTING
    connect() out of attempts --> IDLE;  fatal, or max_reconnects --> FAILED
    any --close()--> CLOSING --closed, deadline--> CLOSED, for good
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from wsclient.errors import (
    AuthenticationError,
    ClientClosed,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotConnected,
    OutcomeUnknown,
    ReconnectError,
    RequestRejected,
    WaitTimeout,
    WSClientError,
)
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
    Waiting,
)
from wsclient.messages import Arrival, Gap, Message, SubscriptionState
from wsclient.options import Options
from wsclient.sansio.actions import (
    Abort,
    Action,
    Cut,
    Deliver,
    Dial,
    Fail,
    Forget,
    Hangup,
    Notify,
    Ping,
    Send,
    Settle,
)
from wsclient.sansio.backoff import Backoff, Budget, Verdict, reason_of
from wsclient.sansio.channels import Channels
from wsclient.sansio.codec import encode, one_line
from wsclient.sansio.consulting import AT_ONCE, Consulting
from wsclient.sansio.dialect import (
    Ack,
    Counted,
    Credentials,
    Dialect,
    Ended,
    Heartbeat,
    Item,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Respond,
    SubscribedChannels,
    Unhandled,
)
from wsclient.sansio.firstmessages import FirstMessages
from wsclient.sansio.floods import ANSWERS, Answers, Throttles
from wsclient.sansio.heartbeat import ConnectionView, HeartbeatMonitor
from wsclient.sansio.measures import Lags, Rates
from wsclient.sansio.recovery import LATE_OR_DUPLICATE, Batch, accept_ordinary
from wsclient.sansio.refreshes import Refreshes
from wsclient.sansio.stops import Stops
from wsclient.sansio.subscriptions import (
    Call,
    Kept,
    Lost,
    Missing,
    Refused,
    Removed,
    Settled,
    Stopped,
    Subscriptions,
)
from wsclient.sansio.timers import Timers

__all__ = ["TRANSITIONS", "Session", "State"]

#: A connection that has been open for this time (s) counts as healthy, even without any data.
HEALTHY_AFTER = 10.0
#: A tick that is late by more than this (s) means that this process was stopped; the peer is not
#: blamed for that time.
LATE_TICK = 0.25
#: Beyond this many queued actions events of single channels are dropped. Their numbers are still
#: used, so a listener sees a jump.
MAX_WAITING = 10_000
#: How many unhandled message types are reported and remembered, and how many characters of each.
MAX_UNHANDLED_TYPES = 1000
MAX_TYPE = 100


class State(enum.Enum):
    """The state of the connection; ``client.state``."""

    IDLE = "idle"
    CONNECTING = "connecting"
    AUTHENTICATING = "authenticating"
    OPEN = "open"
    BACKING_OFF = "backing off"
    FAILED = "failed"
    CLOSING = "closing"
    CLOSED = "closed"


IDLE, CONNECTING, AUTHENTICATING, OPEN, BACKING_OFF, FAILED, CLOSING, CLOSED = State

TRANSITIONS: dict[State, frozenset[State]] = {
    IDLE: frozenset({CONNECTING, BACKING_OFF, FAILED, CLOSING}),
    CONNECTING: frozenset({AUTHENTICATING, OPEN, BACKING_OFF, IDLE, FAILED, CLOSING}),
    AUTHENTICATING: frozenset({OPEN, BACKING_OFF, IDLE, FAILED, CLOSING}),
    OPEN: frozenset({BACKING_OFF, FAILED, CLOSING}),
    BACKING_OFF: frozenset({CONNECTING, IDLE, FAILED, CLOSING}),
    FAILED: frozenset({CLOSING}),
    CLOSING: frozenset({CLOSED}),
    CLOSED: frozenset(),
}

#: The states with a connection, or with an attempt under way.
CONNECTED = frozenset({CONNECTING, AUTHENTICATING, OPEN})


class Invalid(NamedTuple):
    """A frame that could not be read, or a message that ``validate`` refused.

    ``message`` is None if the channel is unknown. ``text`` describes the error, with a bounded
    excerpt.
    """

    text: str
    message: Message | None = None


Incoming = Item | Invalid


class Counters:
    """The counters since the start of the client; read by ``client.stats()``."""

    __slots__ = (
        "bytes",
        "connects",
        "dials",
        "disconnects",
        "frames",
        "gaps",
        "invalid",
        "messages",
        "missed",
        "unhandled",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    bytes: int
    connects: int
    dials: int
    disconnects: int
    frames: int
    gaps: int
    invalid: int
    messages: int
    missed: int
    unhandled: int


class Session:
    """The pure state machine of one client.

    It is not thread-safe: the runtime holds one lock around every call. ``random`` returns floats
    in [0, 1). ``mask`` hides the client's secrets in texts of a venue. ``wants`` tells whether any
    listener takes a type of events: those of gaps are frequent, and built only then.
    """

    def __init__(
        self,
        dialect: Dialect,
        options: Options,
        random: Callable[[], float],
        mask: Callable[[str], str] = str,
        wants: Callable[[type[Event]], bool] = lambda _: False,
    ) -> None:
        self._wants = wants
        self._dialect = dialect
        self._options = options
        self._mask = mask
        self._ids = itertools.count(1)
        self._state = IDLE
        self._actions: list[Action] = []
        self.failure: WSClientError | None = None
        self.connection_id = 0
        self.counters = Counters()
        self._channels = Channels(lambda channel: self.subscriptions.state(channel) is not None)
        #: The trackers of the channels' sequences.
        self.trackers = self._channels.trackers
        self.rates = Rates()
        #: The times from the venue's send time of a message to its receipt.
        self.venue_lags = Lags()
        self._stops = Stops()
        self.subscriptions = Subscriptions(dialect, options.ack_timeout, self._ids, self._stops)
        #: Finds confirmed channels that stay without a message.
        self.first_messages = FirstMessages(self._messages_of, self._stops.excuse, self._is_active)
        self._consulting = Consulting(
            dialect, self.subscriptions, self._channels, mask, self.first_messages.expect
        )
        #: Channels whose order books are out of sync.
        self.refreshes = Refreshes()
        #: Channels that the venue has ended without an unsubscribe.
        self._ended = Refreshes(budget=self.refreshes.budget)
        #: Channels that the venue has ended since the last tick, each with a text for the event.
        self._stopped: dict[str, str] = {}
        self._requests: dict[str, tuple[Any, float]] = {}
        self._replies = Timers(self._reply_due)
        #: Active channels whose silence is watched (option ``stale_after``).
        self._watched = Timers(self._silent_at)
        self._connecting: dict[Any, float] = {}
        self._established = False
        self._attempts = 0
        self._dialed_at = 0.0
        #: The current connection is being cut, and its deadlines no longer matter.
        self._is_cut = False
        self._backoff = Backoff(
            options.retry_delay, options.max_retry_delay, random, jitter=options.jitter
        )
        limits = dialect.limits
        self._connects = Budget(*limits.connects) if limits.connects else None
        rate = limits.messages_per_second
        self._sends = Budget(max(1, int(rate)), max(1.0, 1 / rate)) if rate else None
        self._dial_at = float("inf")
        self._not_before = float("-inf")
        #: The error with which the last attempt or connection ended, and its text.
        self._last_error: BaseException | None = None
        self._last_reason = ""
        self._close_at = float("inf")
        self._opened_at = 0.0
        self._heartbeat: HeartbeatMonitor | None = None
        #: The number of the connection's last frame, if the venue counts frames.
        self._count: int | None = None
        self._confirmed = False
        self._healthy = False
        #: When the next tick is due, as last returned by :meth:`next_deadline`; None: at once.
        self.planned: float | None = None
        #: Like ``planned``, but not reset when an earlier tick is needed: a tick after this is
        #: late.
        self._expected_at = float("inf")
        self._looked_at = 0.0
        #: How many events since the last one found no room.
        self._omitted = 0
        #: How often open connections ended, and attempts failed, by reason.
        self.disconnect_reasons: Counter[str] = Counter()
        self.attempt_failures: Counter[str] = Counter()
        #: When the last data arrived on this connection, and when the outage began from which the
        #: client has not yet recovered (monotonic s).
        self.data_at: float | None = None
        self._lost_at: float | None = None
        self._unhandled_types: set[str] = set()
        self._throttles = Throttles(self._notify, mask)
        self._refusals = self._throttles.new(Noticed, "refused")
        self._notices = self._throttles.new(Noticed, "notice")
        self._unhandled = self._throttles.new(Noticed, "unhandled")
        self._jumps = self._throttles.new(Noticed, "numbers")
        self._no_data = self._throttles.new(Noticed, "no data")
        self._endings = self._throttles.new(Noticed, "ended")
        self._unanswered = self._throttles.new(Noticed, "heartbeat")
        self._invalid = self._throttles.new(DecodeError)
        self._answers = Answers()
        silence = options.silence_timeout
        self._silence_timeout = dialect.silence_timeout if silence is None else silence

    # The state.

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._state

    def _enter(self, state: State, why: str = "") -> None:
        if state not in TRANSITIONS[self._state]:
            raise RuntimeError(f"internal error: {self._state.name} cannot become {state.name}")
        self._state = state
        self._notify(StateChanged, state.value, why)
        if state is CLOSED and self.failure is None:
            self._notify(Closed, None)

    def _notify(self, kind: type[Event], *what: Any) -> None:
        """Emit an event."""
        self._actions.append(Notify(kind, what, self.connection_id, self._omitted))
        self._omitted = 0

    def _notify_if_room(self, kind: type[Event], *what: Any) -> None:
        """Emit an event that a venue may cause for many channels at once, or only count it."""
        if len(self._actions) < MAX_WAITING:
            self._notify(kind, *what)
        else:
            self._omitted += 1

    def actions(self) -> list[Action]:
        """Return the actions since the last call, in order."""
        actions, self._actions = self._actions, []
        return actions

    @property
    def is_due(self) -> bool:
        """Whether there is work before the deadline that :meth:`next_deadline` last returned."""
        subscriptions = self.subscriptions
        return (
            bool(self._actions)
            or self.planned is None
            or subscriptions.has_changed
            or subscriptions.is_suspect
        )

    def check(self) -> None:
        """Raise ClientClosed on a closed client, and its failure on a failed one."""
        if self._state in (CLOSING, CLOSED):
            raise ClientClosed("the client is closed; make a new one")
        if self.failure is not None:
            raise self.failure.fresh()

    def check_begun(self) -> None:
        """Raise as :meth:`check` does, and NotConnected before the first ``connect()``."""
        self.check()
        if self._state is IDLE:
            raise NotConnected("not connected; call connect() first")

    # Requests of callers.

    def connect(self, token: Any, deadline: float, now: float) -> None:
        """Open a connection if none is open; ``token`` is settled when it is open, or fails."""
        self.check()
        if self._state is OPEN:
            self._actions.append(Settle(token))
            return
        self._connecting[token] = deadline
        if self._state is IDLE:
            self._attempts = 0
            self._last_error = None
            self._backoff.reset()
            at = self._earliest_dial(now)
            if at <= now:
                self._dial(now)
            else:
                self._wait_until(at, "the venue's limits allow no connection yet", now)

    def cancel_connect(self, token: Any) -> None:
        """Stop waiting with ``token``; if no other caller waits, give up the first connect."""
        if self._connecting.pop(token, None) is None or self._connecting or self._established:
            return
        if self._state in CONNECTED:
            self._actions.append(Abort(self.connection_id))
            self._leave_connection()
        self._enter(IDLE, "connect() was given up")
        self._settle_calls(NotConnected("not connected; connect() was given up"))

    def subscribe(
        self, channels: Iterable[str], options: Mapping[str, Any], token: Any, deadline: float
    ) -> None:
        """Subscribe to channels; ``token`` is settled when each is decided.

        While there is no connection, the call waits for one. Raises ConfigurationError as
        :meth:`Subscriptions.subscribe` does.
        """
        self.check_begun()
        call = self.subscriptions.subscribe(channels, options, token, deadline)
        if call is not None and self._state is not OPEN:
            self._notify_wait(call)
        self._apply_effects()

    def unsubscribe(self, channels: Iterable[str], token: Any, deadline: float) -> None:
        """Unsubscribe from channels; ``token`` is settled when each is decided."""
        self.check()
        self.subscriptions.unsubscribe(channels, token, deadline)
        self._apply_effects()

    def next_id(self) -> int:
        """Return a new request id. Atomic: needs no lock."""
        return next(self._ids)

    def begin_request(
        self, token: Any, deadline: float, now: float, request_id: int | None = None
    ) -> int:
        """Register a request before it is sent, and return its id.

        ``request_id`` is an id from :meth:`next_id`; None for a new one. Raises NotConnected unless
        the connection is open.
        """
        self.require_open()
        request_id = self.next_id() if request_id is None else request_id
        self._requests[str(request_id)] = (token, deadline)
        self._replies.add(str(request_id))
        self.sent(now)
        return request_id

    def cancel_request(self, request_id: int) -> None:
        """Forget a request; its answer is then ignored."""
        self._requests.pop(str(request_id), None)

    def require_open(self) -> int:
        """Return the id of the open connection.

        Raises NotConnected if it is not open, and as :meth:`check` does.
        """
        self.check()
        if self._state is not OPEN:
            raise NotConnected(f"not connected ({self._state.value}); nothing was sent")
        return self.connection_id

    def sent(self, now: float) -> None:
        """Count a message that was sent against the venue's rate limit."""
        if self._sends is not None:
            self._sends.spend(now)

    def close(self, now: float, timeout: float) -> None:
        """Close the client, from any state; idempotent.

        The peer has at most half of ``timeout`` (s) to answer our close frame.
        """
        if self._state in (CLOSING, CLOSED):
            return
        was = self._state
        self._enter(CLOSING)
        error = ClientClosed("the client was closed")
        self._settle_all(error)
        if was is OPEN:
            self._close_at = now + timeout / 2
            self._actions.append(Hangup(self.connection_id))
        else:
            if was in CONNECTED:
                self._actions.append(Abort(self.connection_id))
            self._leave_connection()
            self._enter(CLOSED)

    def fail(self, error: WSClientError) -> None:
        """Fail for good with an error from outside the session (a queue's policy, a bug)."""
        if self._state in (FAILED, CLOSING, CLOSED):
            return
        if self._state in CONNECTED:
            self._actions.append(Abort(self.connection_id))
        self._leave_connection()
        self._give_up(error)

    def slow_consumer(self, queue: str, dropped: int) -> None:
        """Report that a full queue has begun to drop messages, ``dropped`` in total so far."""
        self._notify(SlowConsumer, queue, dropped)

    # Reports of the transport.

    def opened(
        self,
        connection_id: int,
        login: Any,
        now: float,
        credentials: Credentials | None = None,
        address: str = "",
    ) -> None:
        """Note that the handshake is complete.

        ``login`` is the message to send first, None for none. ``address`` is the connection's
        address without its query, for :meth:`Dialect.refusal`.
        """
        if connection_id != self.connection_id or self._state is not CONNECTING:
            return
        self._opened_at = now
        self.data_at = None
        self._count = None
        self._channels.forget_names()
        self._answers.clear()
        self._consulting.opened(credentials, address)
        self._heartbeat = HeartbeatMonitor(
            now,
            ping_interval=self._options.ping_interval,
            ping_timeout=self._options.ping_timeout,
            silence_timeout=self._silence_timeout,
            stall_timeout=self._options.stall_timeout,
            send_timeout=self._options.send_timeout,
            keepalive_interval=self._dialect.keepalive[1] if self._dialect.keepalive else None,
            stops=self._stops,
        )
        for payload in self._dialect.opening:
            self._send(payload, now)
        if login is None and not self._dialect.greets:
            self._open(now)
            return
        self._enter(AUTHENTICATING)
        if login is not None:
            self._send(login, now)

    def ended(
        self,
        connection_id: int,
        error: BaseException,
        verdict: Verdict,
        now: float,
        reason: str | None = None,
    ) -> None:
        """Note that the connection has ended, or that its attempt has failed.

        ``verdict`` is the result of ``classify(error)``. ``reason`` is the text of ``error``; the
        caller passes it if ``error`` may be a user's exception, as ``str()`` then runs user code.
        """
        if connection_id != self.connection_id:
            return
        if self._state in CONNECTED:
            self._last_reason = str(error) if reason is None else reason
            self._connection_lost(error, verdict, now)
        elif self._state is CLOSING:
            self._leave_connection()
            self._enter(CLOSED)

    def count(self, frames: int, size: int, now: float) -> None:
        """Add ``frames`` and their total ``size`` (bytes) to the counters."""
        rates, counters = self.rates, self.counters
        if now >= rates.due:
            rates.mark(now, *self.totals())
        rates.counted_at = now
        counters.frames += frames
        counters.bytes += size

    def totals(self) -> tuple[int, int, dict[str, int]]:
        """Return the number of messages, of bytes, and of messages per channel so far."""
        channels = {channel: tracker.messages for channel, tracker in self.trackers.items()}
        return self.counters.messages, self.counters.bytes, channels

    def pong(self, connection_id: int) -> None:
        """Note that a pong has arrived."""
        if connection_id == self.connection_id and self._heartbeat is not None:
            self._heartbeat.pong_received()

    def control(self, connection_id: int, now: float) -> None:
        """Note that a ping has arrived: a sign of life."""
        if connection_id == self.connection_id and self._heartbeat is not None:
            self._heartbeat.frame_received(now)

    def ordinary(self, connection_id: int, batch: Batch, now: float) -> list[Message]:
        """Return the messages to deliver: the fast path of :meth:`received`.

        There is one for each payload of the batch, up to the first that is not ordinary.
        """
        if connection_id != self.connection_id or self._state is not OPEN:
            return []
        if self._channels.aliases:
            return []
        if not (self._dialect.acknowledges or self.subscriptions.all_confirmed):
            return []
        if self._heartbeat is not None:
            self._heartbeat.frame_received(now)
        messages = accept_ordinary(self.trackers, batch)
        self.counters.messages += len(messages)
        if messages:
            self.data_at = now
        if self._options.stale_after is not None:
            for channel in {message.channel for message in messages}:
                self.trackers[channel].data_at = now
                self.trackers[channel].refreshed = False
        if messages and self._confirmed and not self._healthy:
            self._prove_healthy()
        return messages

    def received(
        self, connection_id: int, entries: Sequence[Incoming], now: float
    ) -> list[Message]:
        """Process the entries of one read; return the messages to deliver, with gap marks."""
        if connection_id != self.connection_id or self._state not in CONNECTED:
            return []
        if self._heartbeat is not None:
            self._heartbeat.frame_received(now)
        delivered: list[Message] = []
        append = delivered.append
        first_data = not self._dialect.acknowledges
        is_watched = self._options.stale_after is not None
        for entry in entries:
            try:
                if self._channels.aliases:
                    self._resolve(entry)
                if isinstance(entry, Message):
                    channel = entry.channel
                    if first_data and self.subscriptions.data(channel):
                        self._on_confirmed([channel], now)
                    tracker = self._channels.tracker(channel)
                    tracker.accept(entry)
                    if entry.gap is not None:
                        self._on_gap(channel, entry.gap)
                    if is_watched:
                        tracker.data_at = now
                    self.data_at = now
                    append(entry)
                    continue
                self._control(entry, delivered, now)
            except Exception as error:  # noqa: BLE001 - deliver the batch's other messages
                text = f"a frame that cannot be processed ({type(error).__name__})"
                self._on_invalid(Invalid(text), now)
            if self._state not in CONNECTED:
                break
        self.counters.messages += len(delivered)
        if delivered and self._confirmed and not self._healthy:
            self._prove_healthy()
        self._apply_effects(delivered)
        self._check_recovered(now)
        return delivered

    # Time.

    def tick(self, now: float, view: ConnectionView | None) -> None:
        """Do everything that is due. ``view`` is the observable state of the connection."""
        if now - self._expected_at > LATE_TICK:
            self._stops.add(self._looked_at, now)
            if self._heartbeat is not None:
                self._heartbeat.stopped(now, now - self._looked_at)
        for token in [t for t, deadline in self._connecting.items() if now >= deadline]:
            self._actions.append(Settle(token, self._connect_timeout()))
            self.cancel_connect(token)
        for key in self._replies.take(now):
            token, _ = self._requests.pop(key)
            self._actions.append(Settle(token, WaitTimeout("no reply within the timeout")))
        self.subscriptions.expire(now)
        if now >= self._attempt_deadline():
            what = "connected" if self._state is CONNECTING else "logged in"
            limit = self._options.connect_timeout
            self._cut(ConnectTimeout(f"not {what} within connect_timeout ({limit:g} s)"))
        if self._state is BACKING_OFF and now >= self._dial_at:
            self._dial(now)
        if self._state in (AUTHENTICATING, OPEN) and view is not None:
            self._tick_connection(now, view)
        if self._state is OPEN and not self._is_cut:
            self._tick_channels(now)
        if self._state is OPEN and not self._is_cut:
            self._flush(now)
        self.subscriptions.has_changed = False
        self._throttles.tick(now)
        if self._state is CLOSING and now >= self._close_at:
            self._actions.append(Abort(self.connection_id))
            self._leave_connection()
            self._enter(CLOSED)
        self._apply_effects()
        self._check_recovered(now)

    def next_deadline(self, now: float, view: ConnectionView | None) -> float:
        """Return when the next tick is due (monotonic s, ``inf`` for never)."""
        times = [self.subscriptions.deadline(), self._replies.deadline(), self._attempt_deadline()]
        times += self._connecting.values()
        if self._state is BACKING_OFF:
            times.append(self._dial_at)
        elif self._state is CLOSING:
            times.append(self._close_at)
        elif self._state is not CLOSED:
            times.append(self._throttles.deadline())
        is_connected = self._state in (AUTHENTICATING, OPEN) and not self._is_cut
        if is_connected and view is not None and self._heartbeat is not None:
            times += [self._heartbeat.deadline(view), self._answers.deadline(now)]
            if self._state is OPEN and not self._healthy:
                times.append(self._opened_at + HEALTHY_AFTER)
            if self._dialect.limits.max_age is not None:
                times.append(self._opened_at + self._dialect.limits.max_age)
        if self._state is OPEN and not self._is_cut:
            times += [self.refreshes.deadline(now), self._ended.deadline(now)]
            times += [self._watched.deadline(), self.first_messages.deadline()]
            if self.subscriptions.is_suspect:
                times.append(now)
            if self.subscriptions.has_unsent and not self._consulting.is_waiting:
                times.append(now if self._sends is None else self._sends.ready_at(now))
        self.planned = self._expected_at = min(times)
        self._looked_at = now
        return self.planned

    def _attempt_deadline(self) -> float:
        """Return the deadline of the current attempt, its login included; ``inf`` for none."""
        if self._state not in (CONNECTING, AUTHENTICATING) or self._is_cut:
            return float("inf")
        excuse = self._stops.excuse(self._dialed_at)
        return self._dialed_at + self._options.connect_timeout + excuse

    def _reply_due(self, key: str) -> float | None:
        found = self._requests.get(key)
        return None if found is None else found[1]

    def _silent_at(self, channel: str) -> float | None:
        tracker, stale_after = self.trackers.get(channel), self._options.stale_after
        if tracker is None or stale_after is None or not self._is_active(channel):
            return None
        return tracker.data_at + stale_after + self._stops.excuse(tracker.data_at)

    def _is_active(self, channel: str) -> bool:
        return self.subscriptions.state(channel) is SubscriptionState.ACTIVE

    def _messages_of(self, channel: str) -> int:
        tracker = self.trackers.get(channel)
        return 0 if tracker is None else tracker.messages

    # The state of a channel.

    def pending_gap(self, channel: str) -> Gap | None:
        """Return the gap that the channel's next message will carry, or None."""
        tracker = self.trackers.get(channel)
        return None if tracker is None else tracker.pending

    # Inside: the connection.

    def _dial(self, now: float) -> None:
        self.connection_id += 1
        self.counters.dials += 1
        self._attempts += 1
        self._dialed_at = now
        self._healthy = self._confirmed = self._is_cut = False
        if self._connects is not None:
            self._connects.spend(now)
        self._enter(CONNECTING, f"connection {self.connection_id}, attempt {self._attempts}")
        self._actions.append(Dial(self.connection_id))

    def _open(self, now: float) -> None:
        self._enter(OPEN, f"connection {self.connection_id}")
        self._notify(Connected, self._attempts)
        if not self._established:
            self._established = True
            self._attempts = 0
        self.counters.connects += 1
        self.rates.opened(now, *self.totals())
        for token in self._connecting:
            self._actions.append(Settle(token))
        self._connecting.clear()
        self.subscriptions.restore()
        self.refreshes.postpone(now)

    def _cut(self, error: WSClientError) -> None:
        if not self._is_cut:
            self._is_cut = True
            self._actions.append(Cut(self.connection_id, error))

    def _leave_connection(self) -> None:
        """Clear the state of the connection: nothing is confirmed, no answer will arrive."""
        self._heartbeat = None
        self._stopped.clear()
        self._ended.all_done()  # a new connection begins with all that is wanted
        self.first_messages.connection_lost()
        self.subscriptions.connection_lost()
        self._consulting.connection_lost()
        self._fail_requests()

    def _fail_requests(self) -> None:
        for token, _ in self._requests.values():
            error = OutcomeUnknown(
                "the request was sent, but the connection ended before the answer"
            )
            self._actions.append(Settle(token, error))
        self._requests.clear()

    def _notify_wait(self, call: Call) -> None:
        """Emit, once per call, that ``subscribe()`` waits and there is no connection."""
        if not call.is_logged:
            call.is_logged = True
            self._notify(Waiting, tuple(call.channels), self._state.value)

    def _connection_lost(self, error: BaseException, verdict: Verdict, now: float) -> None:
        was_open = self._state is OPEN
        could_deliver = self._state in (AUTHENTICATING, OPEN)
        code = error.code if isinstance(error, ConnectionLost) else 1006
        text = self._last_reason
        if could_deliver:
            self.subscriptions.connection_ended(now, f"{text} (close code {code})")
        self._leave_connection()
        reason = reason_of(error)
        if was_open:
            self.counters.disconnects += 1
            self.disconnect_reasons[reason] += 1
            if self._lost_at is None:
                self._lost_at = now
            age = None if self.data_at is None else round(now - self.data_at, 3)
            self._notify(Disconnected, text, reason, code, age)
        else:
            self.attempt_failures[reason] += 1
        if could_deliver:
            for tracker in self.trackers.values():
                tracker.suspect("reconnect")
                tracker.refreshed = False
        self._last_error = error
        self._not_before = now + (getattr(error, "retry_after", None) or 0.0)
        limit = self._options.max_reconnects
        if verdict is Verdict.FATAL:
            self._give_up(self._fatal(error))
        elif not self._established and self._attempts >= self._options.max_retries:
            self._out_of_attempts(error)
        elif self._established and limit is not None and self._attempts >= limit:
            text = f"gave up after {self._attempts} reconnects in a row: {text}"
            self._give_up(_chain(ReconnectError(text), error))
        else:
            self._back_off(verdict, was_open, now)
            for call in self.subscriptions.waiting():
                self._notify_wait(call)
        self._apply_effects()

    def _back_off(self, verdict: Verdict, was_open: bool, now: float) -> None:
        if was_open and self._healthy and verdict is Verdict.RETRY:
            delay = 0.0
        else:
            delay = self._backoff.next(verdict)
        self._wait_until(max(now + delay, self._earliest_dial(now)), self._last_reason, now)

    def _earliest_dial(self, now: float) -> float:
        """Return when the venue's ``Retry-After`` and ``Limits.connects`` allow an attempt."""
        ready = now if self._connects is None else self._connects.ready_at(now)
        return max(ready, self._not_before)

    def _wait_until(self, at: float, why: str, now: float) -> None:
        self._dial_at = at
        self._enter(BACKING_OFF, f"{why}; next attempt in {at - now:.2f} s")
        self._notify(Reconnecting, self._attempts + 1, round(at - now, 3), why)

    def _connect_timeout(self) -> ConnectTimeout:
        last = self._last_error
        detail = "" if last is None else f"; the last attempt failed: {self._last_reason}"
        error = ConnectTimeout(f"not connected within the timeout{detail}", self._attempts)
        error.__cause__ = last
        return error

    def _out_of_attempts(self, error: BaseException) -> None:
        text = f"no connection after {self._attempts} attempt(s): {self._last_reason}"
        failure = _chain(ConnectError(text, self._attempts), error)
        self._enter(IDLE, text)
        self._settle_all(failure)

    def _fatal(self, error: BaseException) -> WSClientError:
        if isinstance(error, WSClientError) and not isinstance(
            error, (HandshakeRejected, ConnectionLost)
        ):
            return error
        return _chain(ConnectError(f"{self._last_reason}; not retried", self._attempts), error)

    def _give_up(self, error: WSClientError) -> None:
        self.failure = error
        self._enter(FAILED, str(error))
        self._settle_all(error)
        self._actions.append(Fail(error))
        self._notify(Closed, error)

    def _check_recovered(self, now: float) -> None:
        if self._lost_at is None or self._state is not OPEN or not self.subscriptions.all_confirmed:
            return
        seconds, self._lost_at = round(now - self._lost_at, 3), None
        channels = self.subscriptions.count(SubscriptionState.ACTIVE)
        self._notify(Recovered, seconds, channels)

    def _settle_all(self, error: WSClientError) -> None:
        for token in self._connecting:
            self._actions.append(Settle(token, error.fresh()))
        self._connecting.clear()
        self._fail_requests()
        self._settle_calls(error)

    def _settle_calls(self, error: WSClientError) -> None:
        for token in self.subscriptions.fail_all():
            self._actions.append(Settle(token, error.fresh()))
        self._apply_effects()

    def _prove_healthy(self) -> None:
        self._healthy = True
        self._attempts = 0
        self._backoff.reset()

    # Inside: frames.

    def _control(self, entry: Incoming, delivered: list[Message], now: float) -> None:
        if isinstance(entry, Heartbeat):
            pass
        elif isinstance(entry, Ack):
            if entry.alias is not None and entry.channel is not None:
                self._channels.name(entry.alias, entry.channel)
            self._on_confirmed(self.subscriptions.acknowledged(entry), now)
        elif isinstance(entry, SubscribedChannels):
            self._on_confirmed(self.subscriptions.subscribed(entry.channels), now)
        elif isinstance(entry, Rejection):
            entry.reason = self._mask(entry.reason)
            confirmed = self.subscriptions.rejected(entry)
            if confirmed is not None:
                self._on_confirmed(confirmed, now)
            elif not entry.is_rest:
                self._refusals.add(f"the venue refused: {one_line(entry.reason)}", now)
        elif isinstance(entry, Ended):
            entry.reason = self._mask(entry.reason)
            if not self.subscriptions.ended(entry):
                self._notices.add(f"the venue says: {one_line(entry.reason)}", now)
        elif isinstance(entry, Reply):
            self._on_reply(entry)
        elif isinstance(entry, Respond):
            if not self._answers.add(encode(entry.payload)):
                most, per = ANSWERS
                why = f"the venue asks for over {most} answers in {per:g} s"
                self._unanswered.add(f"a heartbeat is not answered: {why}", now)
            self._answer(now)
        elif isinstance(entry, Notice):
            self._notices.add(f"the venue says: {one_line(entry.text)}", now)
        elif isinstance(entry, Unhandled):
            self._on_unhandled(entry, now)
        elif isinstance(entry, Invalid):
            self._on_invalid(entry, now)
        elif isinstance(entry, Counted):
            self._on_counted(entry.sequence, now)
        elif isinstance(entry, LoginAccepted):
            if self._state is AUTHENTICATING and not self._is_cut:
                self._open(now)
        elif isinstance(entry, LoginRefused) and self._state is AUTHENTICATING:
            reason = one_line(self._mask(entry.reason))
            self._cut(AuthenticationError(f"the venue refused the login: {reason}"))
        self._apply_effects(delivered)

    def _on_confirmed(self, channels: Sequence[str], now: float) -> None:
        if not channels:
            return
        self._confirmed = True
        for channel in channels:
            self._channels.tracker(channel).data_at = now
            self._watched.add(channel)
            self.first_messages.confirmed(channel, now)
        self.planned = None  # their silence may be due before anything else
        self._notify(Subscribed, tuple(channels))

    def _on_gap(self, channel: str, gap: Gap) -> None:
        self.counters.missed += gap.missed or 0
        if gap.reason in LATE_OR_DUPLICATE:
            return
        self.counters.gaps += 1
        if self._wants(GapMarked):
            self._notify_if_room(GapMarked, channel, gap)

    def _on_reply(self, entry: Reply) -> None:
        found = self._requests.pop(str(entry.request_id), None)
        if found is None:
            return
        token = found[0]
        if entry.error is None:
            self._actions.append(Settle(token, None, entry.payload))
        else:
            reason = self._mask(str(entry.error))
            error = RequestRejected(f"the venue refused the request: {reason}", entry.payload)
            self._actions.append(Settle(token, error))

    def _on_unhandled(self, entry: Unhandled, now: float) -> None:
        self.counters.unhandled += 1
        kind, types = entry.type[:MAX_TYPE], self._unhandled_types
        if kind not in types and len(types) < MAX_UNHANDLED_TYPES:
            types.add(kind)
            self._unhandled.add(f"unhandled message type {kind!r} (logged once per type)", now)

    def _resolve(self, entry: Incoming) -> None:
        """Replace an alias in the entry by the channel's own name."""
        named = entry.message if isinstance(entry, Invalid) else entry
        if isinstance(named, (Message, Ack, Rejection, Ended)) and named.channel is not None:
            named.channel = self._channels.aliases.get(named.channel, named.channel)

    def _on_counted(self, sequence: int, now: float) -> None:
        """Check the number of a frame; after a jump, suspect every channel.

        It is unknown which channel's frames are missing.
        """
        last, self._count = self._count, sequence
        if last is not None and sequence != last + 1:
            self._channels.suspect_all("sequence")
            jump = f"jumped from {last} to {sequence}"
            self._jumps.add(f"the connection's frame number {jump}; data may be missing", now)

    def _on_invalid(self, entry: Invalid, now: float) -> None:
        self.counters.invalid += 1
        if entry.message is not None:
            self._channels.tracker(entry.message.channel).refused(entry.message)
            self.first_messages.heard(entry.message.channel)
        else:
            self._channels.suspect_all("invalid")
        channel = None if entry.message is None else entry.message.channel
        self._invalid.add(entry.text, now, channel)

    def _apply_effects(self, delivered: list[Message] | None = None) -> None:
        for effect in self.subscriptions.effects():
            if isinstance(effect, Settled):
                self._actions.append(Settle(effect.token, effect.error))
            elif isinstance(effect, Lost):
                reason = one_line(effect.reason)
                self._notify(Rejected, effect.channel, reason, True)
                lost = self._lost_message(effect.channel)
                if delivered is None:
                    self._actions.append(Deliver(lost))
                else:
                    delivered.append(lost)
            elif isinstance(effect, Refused):
                reason = one_line(effect.reason)
                self._notify(Rejected, effect.channel, reason, False)
            elif isinstance(effect, Missing):
                self._channels.tracker(effect.channel).suspect("reconnect")
            elif isinstance(effect, Stopped):
                self._channels.tracker(effect.channel).suspect("reconnect")
                why = f"{effect.channel!r} was ended by the venue: {effect.reason}"
                self._stopped[effect.channel] = why
                self.planned = None
                self._notify_if_room(Resubscribing, effect.channel, "ended", why)
            elif isinstance(effect, Kept):
                self._watched.add(effect.channel)
                self.first_messages.kept(effect.channel)
                self.planned = None
            elif isinstance(effect, Removed):
                self._channels.forget(effect.channel)
                self.first_messages.forget(effect.channel)
                self.refreshes.forget(effect.channel)
                self._ended.forget(effect.channel)
                self.venue_lags.forget(effect.channel)
                self._actions.append(Forget(effect.channel))

    def _lost_message(self, channel: str) -> Message:
        pending = self.pending_gap(channel)
        tracker = self.trackers.get(channel)
        since = tracker.last_received_at if tracker else None
        gap = Gap("rejected", None, since)
        gap = gap if pending is None else pending.merge(gap)
        self.counters.gaps += 1
        arrival = Arrival(since or 0, self.connection_id, None)
        return Message(channel, "lost", gap=gap, arrival=arrival)

    # Inside: timed work on an open connection.

    def _tick_connection(self, now: float, view: ConnectionView) -> None:
        if self._heartbeat is None or self._is_cut:
            return
        error = self._heartbeat.failure(now, view)
        suspect, max_age = self.subscriptions.suspect_connection, self._dialect.limits.max_age
        if error is None and suspect is not None:
            error = ConnectionLost(suspect, reason="unanswered")
        if error is None and max_age is not None and now >= self._opened_at + max_age:
            self._prove_healthy()
            why = "the connection has reached the venue's maximum age"
            error = ConnectionLost(why, reason="age")
        if error is not None:
            self._cut(error)
            return
        if self._heartbeat.ping_due(now):
            self._actions.append(Ping(self.connection_id))
        if self._heartbeat.keepalive_due(now) and self._dialect.keepalive is not None:
            self._send(self._dialect.keepalive[0], now)
        self._answer(now)
        if self._state is OPEN and not self._healthy and now >= self._opened_at + HEALTHY_AFTER:
            self._prove_healthy()

    def _tick_channels(self, now: float) -> None:
        self._tick_silent(now)
        if self._is_cut:
            return
        for channel, why in self._stopped.items():
            if self.subscriptions.state(channel) is not None:
                self._ended.want(channel, now)
            self._endings.add(f"resubscribing: {why}", now, channel)
        self._stopped.clear()
        at_once = self._dialect.limits.channels_per_message
        taken = self._ended.take(now, at_once=at_once)
        self.subscriptions.ask_again(taken)
        for channel in taken:
            self._ended.done(channel)
        for channel in self.refreshes.take(now):
            if self._is_active(channel):
                why = f"the order book {channel!r} needs a new snapshot"
                self._notify(Resubscribing, channel, "out of sync", why)
                self.subscriptions.refresh(channel)
        for channel, seconds in self.first_messages.take(now):
            self._notify_if_room(NoData, channel, seconds)
            text = (
                f"no data: {channel!r} was confirmed {seconds:g} s ago, but no message has "
                "arrived: check the address and the case of the symbol"
            )
            self._no_data.add(text, now, channel)

    def _tick_silent(self, now: float) -> None:
        stale_after = self._options.stale_after
        if stale_after is None:
            return
        for channel in self._watched.take(now):
            tracker = self.trackers[channel]
            tracker.suspect("reconnect")
            if tracker.refreshed:
                why = f"{channel!r} is still silent after a resubscription"
                self._cut(ConnectionLost(why, reason="silent"))
                return
            why = f"{channel!r} has been silent for {stale_after:g} s"
            self._notify(Resubscribing, channel, "silent", why)
            tracker.refreshed = True
            self.subscriptions.refresh(channel)

    def _flush(self, now: float) -> None:
        """Send the messages that the dialect made, within the venue's rate limit; ask for more."""
        consulting, sends = self._consulting, self._sends
        while not consulting.is_waiting and (unsent := self.subscriptions.unsent()):
            room = AT_ONCE if sends is None else sends.room(now)
            if not room:
                return
            if consulting.has_made(unsent[0]):
                request = self.subscriptions.send(now)
                for channel in request.channels if request.subscribe else ():
                    self.first_messages.asked(channel)
                self._send(request.payload, now)
            elif consult := consulting.ask(room):
                self._actions.append(consult)

    def _answer(self, now: float) -> None:
        """Send the answer to a heartbeat, if one is due."""
        for payload in self._answers.take(now) or ():
            self._send(payload, now)

    def _send(self, payload: Any, now: float) -> None:
        self._actions.append(Send(self.connection_id, encode(payload)))
        self.sent(now)


def _chain(error: WSClientError, cause: BaseException) -> WSClientError:
    error.__cause__ = cause
    return error
