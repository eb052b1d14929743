"""The supervisor of one client: which connections exist, and how each call of a caller ends.

The number of connections follows from :func:`wsclient.sansio.slots.plan` alone. The state machine
of a client is in ``life.py``, that of a connection in ``connection.py``, and that of a wanted
channel in ``wanted.py``. Each is driven by a table.

Rules of the pure part:

* What happens comes in as method calls with ``now`` (monotonic seconds); actions go out through
  :meth:`Supervisor.actions`, and the caller performs them in order.
* A report about a connection carries its id. :meth:`Supervisor.connection` looks it up; a report
  about a connection that has ended finds none, and is ignored. Only :meth:`Supervisor.ended` looks
  it up by itself, as the client may be closing.
* No code of a dialect or a user is called here. :class:`~wsclient.sansio.consulting.Consulting`
  gets the dialect's messages without the core's lock.
* Everything that a venue can cause at any rate is bounded (:mod:`wsclient.sansio.floods`), and the
  number of omitted items is reported.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wsclient.dialect.base import Dialect
from wsclient.dialect.values import Credentials
from wsclient.errors import ClientClosed, ConnectionLost, NotConnected, WSClientError
from wsclient.events import Closed, Disconnected, Event, Reconnecting, Recovered, StateChanged
from wsclient.messages import SubscriptionState
from wsclient.options import Options
from wsclient.sansio.actions import Action, Fail
from wsclient.sansio.backoff import Backoff, Budget
from wsclient.sansio.callers import Callers
from wsclient.sansio.connection import Connection, Shared, Stage
from wsclient.sansio.connections import Connections
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.sansio.intake import Intake
from wsclient.sansio.life import Life, Phase, State
from wsclient.sansio.outages import Outage
from wsclient.sansio.output import Output
from wsclient.sansio.reports import Reports
from wsclient.sansio.slots import MAIN, Plan, Slot, SlotKey, plan
from wsclient.sansio.stops import Stops
from wsclient.sansio.upkeep import Upkeep
from wsclient.sansio.wanted import WantedChannel
from wsclient.telemetry.rates import Counters
from wsclient.verdicts import Verdict, reason_of

__all__ = ["Supervisor"]

#: A tick that is late by more than this (s) means that this process was stopped; the peer is not
#: blamed for that time.
LATE_TICK = 0.25


class Supervisor:
    """The pure part of one client.

    It is not thread-safe: the runtime holds one lock around every call, unless a method says
    otherwise. ``random`` returns floats in [0, 1). ``mask`` hides the client's secrets in texts of
    a venue. ``wants`` returns whether anyone listens to events of a type.
    """

    __slots__ = (
        "_callers",
        "_close_at",
        "_dialect",
        "_is_draining",
        "_looked_at",
        "_lost_at",
        "_outage",
        "_reports",
        "_shared",
        "_slot",
        "_stops",
        "attempt_failures",
        "connections",
        "counters",
        "disconnect_reasons",
        "intake",
        "life",
        "next_id",
        "output",
        "planned",
        "upkeep",
        "wanted",
    )

    def __init__(
        self,
        dialect: Dialect,
        options: Options,
        random: Callable[[], float],
        mask: Callable[[str], str] = str,
        wants: Callable[[type[Event]], bool] = lambda _: False,
        where: str = "the venue",
    ) -> None:
        self._dialect = dialect
        self.output = Output(wants)
        self.life = Life(self.output)
        self.connections = Connections()
        self.counters = Counters()
        #: How often open connections ended, and attempts failed, by reason.
        self.disconnect_reasons: Counter[str] = Counter()
        self.attempt_failures: Counter[str] = Counter()
        connects = Budget(*dialect.limits.connects) if dialect.limits.connects else None
        rate = dialect.limits.messages_per_second
        sends = Budget(max(1, int(rate)), max(1.0, 1 / rate)) if rate else None
        self._stops = Stops()
        self._outage = Outage(self.output, self._stops)
        self._reports = Reports(self.output.notify, mask)
        self.upkeep = Upkeep(
            self.output,
            self.counters,
            self._reports,
            self._stops,
            options.stale_after,
            self.connections.forget,
        )
        self.wanted = self.upkeep.wanted
        self._callers = Callers(self.output, self.wanted)
        ids = itertools.count(1)
        #: Returns a new request id. Atomic: needs no lock.
        self.next_id = ids.__next__
        self._shared = Shared(
            dialect, options, mask, self.output, self._stops, self.upkeep, ids, sends
        )
        self.intake = Intake(self._shared, self.counters, self._reports, self._on_open)
        jitter = random if options.jitter else lambda: 1.0
        backoff = Backoff(options.retry_delay, options.max_retry_delay, jitter)
        self._slot = Slot(MAIN, options, backoff, connects, where)
        #: When the present outage began; None without one (monotonic s).
        self._lost_at: float | None = None
        #: When close() stops waiting for the peers and cuts their connections (monotonic s).
        self._close_at = float("inf")
        #: True while close() waits until what is queued is handed out.
        self._is_draining = False
        #: When the next tick is due, as last returned by :meth:`next_deadline` (monotonic s).
        self.planned = float("inf")
        #: When :meth:`next_deadline` was last called (monotonic s).
        self._looked_at = 0.0

    # The state.

    @property
    def state(self) -> State:
        """The state of the client. May be read without the lock."""
        if not self.life.is_running:
            return State(self.life.phase.value)
        furthest = self.connections.furthest()
        return State.BACKING_OFF if furthest is None else State(furthest.value)

    @property
    def connection_id(self) -> int:
        """The id of the newest connection; 0 before the first."""
        return self.output.newest_id

    def connection(self, connection_id: int) -> Connection | None:
        """Return the connection that a report is about; None if the report is to be ignored."""
        return self.connections.by_id.get(connection_id) if self.life.is_running else None

    def open_connection(self) -> Connection:
        """Return the open connection for a caller's message.

        Raises NotConnected if there is none, and as :meth:`Life.check` does.
        """
        self.life.check()
        connection = self.connections.open_one() if self.life.is_running else None
        if connection is None:
            raise NotConnected(f"not connected ({self.state.value}); nothing was sent")
        return connection

    def carrier(self, channel: str) -> Connection | None:
        """Return the open connection that a channel belongs to. Needs no lock."""
        entry = self.wanted.get(channel)
        connection = None if entry is None else self.connections.of(entry.slot)
        return connection if connection is not None and connection.has_opened else None

    def actions(self) -> list[Action]:
        """Return the actions since the last call, in order."""
        return self.output.take()

    def is_due(self, connection: Connection | None) -> bool:
        """Return whether there is work before the deadline last returned by :meth:`next_deadline`.

        ``connection``: the one that something has come on since; None if that has ended.
        """
        output = self.output
        return (
            bool(output.actions or output.settles or self._callers.new)
            or self.upkeep.has_changed
            or (connection is not None and connection.is_due())
        )

    # Requests of callers.

    def connect(self, token: Any, deadline: float, now: float) -> None:
        """Open a connection if none is open; ``token`` is settled when it is open, or cannot be.

        Raises as :meth:`Life.check`.
        """
        self.life.check()
        if self.state is State.OPEN:
            self.output.settle(token)
            return
        self._callers.connect(token, deadline)
        if not self.life.is_running:
            self.life.step("connect")
            self._outage.begin(now)
            self._slot.begin(now)
            if self._slot.due_at > now:
                self._report_wait("the venue's limits allow no connection yet", now)
            self._follow_plan(now)

    def cancel_connect(self, token: Any) -> None:
        """Stop waiting with ``token``; if no other caller waits, give up the first connect."""
        if self._callers.cancel_connect(token) and not self._slot.is_established:
            self.connections.abort_all()
            self.life.step("give up", "connect() was given up")
            self._callers.fail_calls(NotConnected("not connected; connect() was given up"))

    def subscribe(
        self, channels: Iterable[str], options: Mapping[str, Any], token: Any, deadline: float
    ) -> None:
        """Subscribe to channels; ``token`` is settled when each is decided.

        While there is no connection, the call waits for one. Raises ConfigurationError if a
        channel is already subscribed with other options, and as :meth:`Life.check_begun`.
        """
        self.life.check_begun()
        limit = self._dialect.limits.channels_per_connection
        self._callers.subscribe(channels, options, token, deadline, limit)

    def unsubscribe(self, channels: Iterable[str], token: Any, deadline: float) -> None:
        """Unsubscribe from channels; ``token`` is settled when each is decided.

        Raises as :meth:`Life.check`.
        """
        self.life.check()
        for slot, leaving in _by_slot(self.wanted.unsubscribe(channels, token, deadline)).items():
            connection = self.connections.of(slot)
            if connection is not None:
                connection.asked.unsubscribe(leaving)
            else:
                for entry in leaving:
                    self.wanted.left(entry)

    def close(self, now: float, timeout: float, *, drain: bool = False) -> None:
        """Close the client, from any state; idempotent.

        The peer has at most half of ``timeout`` (s) to answer our close frame. With ``drain``, the
        client is not CLOSED before :meth:`drained` is called.
        """
        if self.life.is_over:
            return
        self._is_draining = drain
        self.life.step("close")
        self._settle_all(ClientClosed("the client was closed"))
        self._close_at = now + timeout / 2
        for connection in self.connections.by_id.values():
            if connection.has_opened:
                connection.hang_up()
            else:
                self.connections.abort(connection)
        self._end_close()

    def drained(self) -> None:
        """Note that the drain of :meth:`close` has ended, or was given up."""
        self._is_draining = False
        self._end_close()

    def fail(self, error: WSClientError) -> None:
        """Fail for good with an error from outside the pure part (a queue's policy, a bug)."""
        if self.life.may("fail"):
            self.connections.abort_all()
            self._fail(error)

    # Reports about connections.

    def opened(
        self,
        connection_id: int,
        login: Any,
        now: float,
        credentials: Credentials | None = None,
        address: str = "",
    ) -> None:
        """Note that the handshake is complete. The arguments are those of Connection.opened."""
        connection = self.connection(connection_id)
        if connection is not None and connection.opened(login, now, credentials, address):
            self._on_open(now)

    def _on_open(self, now: float) -> None:
        """Note that a connection is open, and logged in if the venue requires a login."""
        self.counters.connects += 1
        self.intake.rates.opened(now, *self.intake.totals())
        self._callers.connected()
        self.upkeep.opened(now)

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
        connection = self.connections.get(connection_id)
        if connection is None:
            return
        if self.life.is_running:
            connection.slot.last_reason = str(error) if reason is None else reason
            self._on_end(connection, error, verdict, now)
        else:
            self.connections.end(connection)
            self._end_close()

    def _on_end(
        self, connection: Connection, error: BaseException, verdict: Verdict, now: float
    ) -> None:
        self._check_recovered(now)  # by answers since the last tick
        slot, text, reason = connection.slot, connection.slot.last_reason, reason_of(error)
        code = error.code if isinstance(error, ConnectionLost) else 1006
        if connection.has_opened:
            self.counters.disconnects += 1
            self.disconnect_reasons[reason] += 1
            if self._lost_at is None:
                self._lost_at = now
            data_at = connection.data_at
            age = None if data_at is None else round(now - data_at, 3)
            self.output.notify(Disconnected, text, reason, code, age, connection_id=connection.id)
        else:
            self.attempt_failures[reason] += 1
        was_healthy = connection.has_opened and connection.is_healthy
        if was_healthy:
            self._outage.end()
        self._outage.begin(now)
        failure = slot.ended(error, verdict, now, was_healthy=was_healthy)
        if failure is None:
            self._report_wait(text, now)
        if connection.has_answered:
            connection.asked.connection_ended(now, text)
            self.upkeep.suspect_all()
        self.connections.end(connection)
        if failure is None:
            self._callers.report_all(self.state.value)
        elif slot.is_established or verdict is Verdict.FATAL:
            self._fail(failure)
        else:
            self.life.step("give up", str(failure))
            self._settle_all(failure)

    # Time.

    def tick(self, now: float, views: Mapping[int, ConnectionView]) -> None:
        """Do everything that is due. ``views`` are the observable states of the connections."""
        if now - self.planned > LATE_TICK:
            self._stops.add(self._looked_at, now)
            for connection in self.connections.by_id.values():
                if connection.heartbeat is not None:
                    connection.heartbeat.stopped(now, now - self._looked_at)
        self._place_new(now)  # first: what is new is not what an expired request asked for
        for token in self._callers.impatient(now):
            self.output.settle(token, self._slot.timeout())
            self.cancel_connect(token)
        for connection in self.connections.by_id.values():
            connection.replies.expire(now)
        self.wanted.expire(now)
        for connection in self.connections.by_id.values():
            connection.asked.expire(now)
            connection.tick(now, views.get(connection.id))
        if self.life.is_running:
            self._follow_plan(now)
        for connection in self.connections.by_id.values():
            connection.tick_channels(now)
        self._reports.tick(now)
        self._tick_outage(now)
        if self.life.phase is Phase.CLOSING and now >= self._close_at:
            self._close_at = float("inf")
            self.connections.abort_all()
            self._end_close()
        self._check_recovered(now)

    def next_deadline(self, now: float, views: Mapping[int, ConnectionView]) -> float:
        """Return when the next tick is due (monotonic s, ``inf`` for never)."""
        times = [self._callers.deadline()]
        times += [c.deadline(now, views.get(c.id)) for c in self.connections]
        if self.life.is_running:
            times.append(self._plan(now, ()).next_at)
            if self.state is not State.OPEN:
                times.append(self._outage.deadline())
        if self.life.phase is Phase.CLOSING:
            times.append(self._close_at)
        elif self.life.phase is not Phase.CLOSED:
            times.append(self._reports.deadline())
        self.upkeep.has_changed = False
        self.planned, self._looked_at = min(times), now
        return self.planned

    # Inside.

    def _plan(self, now: float, unplaced: Iterable[str]) -> Plan:
        places = self.connections.places([self._slot])
        return plan(now, places, self._dialect.limits.max_age, unplaced)

    def _follow_plan(self, now: float) -> None:
        """Open and drain what :func:`plan` says."""
        found = self._plan(now, ())
        for connection in self.connections.by_id.values():
            if connection.id in found.drain:
                connection.age_out()
        for _ in found.open:  # the only slot
            self.output.newest_id += 1
            self.counters.dials += 1
            self._slot.dialed(now)
            connection = Connection(self.output.newest_id, self._slot, now, self._shared)
            self.connections.add(connection)
        if self._callers.new:
            state = self.state
            self._callers.report_new(state.value, is_open=state is State.OPEN)

    def _place_new(self, now: float) -> None:
        """Place the channels that are new since the last tick, as :func:`plan` says."""
        if unplaced := self._callers.take_unplaced():
            for slot, names in self._plan(now, unplaced).belongs.items():
                self._place(slot, names)

    def _place(self, slot: SlotKey, names: Iterable[str]) -> None:
        """Note that channels belong to ``slot``; subscribe to them if its connection is open."""
        entries = [entry for entry in self.wanted.among(names) if entry.slot is None]
        for entry in entries:
            entry.slot = slot
        connection = self.connections.of(slot)
        if connection is not None and connection.stage is Stage.OPEN:
            connection.asked.subscribe(entries)

    def _end_close(self) -> None:
        if self.life.phase is Phase.CLOSING and not self.connections and not self._is_draining:
            self.life.step("end")

    def _report_wait(self, why: str, now: float) -> None:
        delay = self._slot.due_at - now
        when = f"in {delay:.2f} s" if delay >= 0.005 else "at once"
        wait = f"{why}; next attempt {when}"
        self.output.notify(StateChanged, State.BACKING_OFF.value, wait)
        self.output.notify(Reconnecting, self._slot.attempts + 1, round(delay, 3), why)

    def _fail(self, error: WSClientError) -> None:
        """Fail for good: every call raises ``error`` from now on."""
        self.life.failure = error
        self.life.step("fail", str(error))
        self._settle_all(error)
        self.output.do(Fail(error))
        self.output.notify(Closed, error)

    def _settle_all(self, error: WSClientError) -> None:
        for connection in self.connections.by_id.values():
            connection.replies.fail_all()
        self._callers.fail_all(error)

    def _tick_outage(self, now: float) -> None:
        connection = self.connections.open_one()
        if not self.life.is_running or (connection is not None and connection.is_healthy):
            self._outage.end()
        elif connection is None:
            self._outage.tick(now, self._slot.last_reason)

    def _check_recovered(self, now: float) -> None:
        if self._lost_at is None or self.state is not State.OPEN or not self.wanted.all_confirmed:
            return
        seconds, self._lost_at = round(now - self._lost_at, 3), None
        self.output.notify(Recovered, seconds, self.wanted.count(SubscriptionState.ACTIVE))


def _by_slot(entries: Iterable[WantedChannel]) -> dict[SlotKey | None, list[WantedChannel]]:
    found: dict[SlotKey | None, list[WantedChannel]] = {}
    for entry in entries:
        found.setdefault(entry.slot, []).append(entry)
    return found
