"""The supervisor of one client: what its callers ask for, and what happens to its connections.

The number of connections follows from the plan (``plan.py``, ``fleet.py``). The state machine of a
client is in ``life.py``, that of a connection in ``connection.py``, and that of a wanted channel in
``wanted.py``. Each is driven by a table.

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
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from wsclient.dialect.base import Dialect
from wsclient.dialect.values import Credentials
from wsclient.errors import ClientClosed, NotConnected, WSClientError
from wsclient.events import Closed, Event
from wsclient.messages import Message
from wsclient.options import Options
from wsclient.sansio.actions import Action, Fail
from wsclient.sansio.backoff import Budget, Connects
from wsclient.sansio.callers import Callers
from wsclient.sansio.connection import Connection, Shared, Stage
from wsclient.sansio.endings import Endings
from wsclient.sansio.fleet import Fleet
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.sansio.intake import Intake
from wsclient.sansio.life import Life, Phase, State
from wsclient.sansio.lifetime import ROTATION_TIME
from wsclient.sansio.outcomes import ChannelOutcomes
from wsclient.sansio.output import Output
from wsclient.sansio.placement import Placement
from wsclient.sansio.reports import Reports
from wsclient.sansio.slots import Slot, SlotKey
from wsclient.sansio.stops import Stops
from wsclient.sansio.upkeep import Upkeep
from wsclient.sansio.wantedtable import ChannelRoute
from wsclient.telemetry.rates import Counters
from wsclient.verdicts import Verdict

__all__ = ["Supervisor"]

#: A tick that is late by more than this (s) means that this process was stopped; the peer is not
#: blamed for that time.
LATE_TICK = 0.25


class Supervisor:
    """The pure part of one client.

    It is not thread-safe: the runtime holds one lock around every call, unless a method says
    otherwise. ``random`` returns floats in [0, 1). ``mask`` hides the client's secrets in texts of
    a venue. ``wants`` returns whether anyone listens to events of a type. ``where`` returns the
    address of a route for errors, ``connects`` the rate limit of attempts there, ``rooms`` how many
    channels a connection of a route carries; by default these are the dialect's limits.
    """

    __slots__ = (
        "_close_at",
        "_dialect",
        "_is_draining",
        "_looked_at",
        "_overlaps",
        "_reports",
        "_shared",
        "_stops",
        "callers",
        "connections",
        "counters",
        "endings",
        "fleet",
        "intake",
        "life",
        "next_id",
        "output",
        "placement",
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
        where: Callable[[str], str] = lambda _: "the venue",
        connects: Callable[[str], Connects | None] | None = None,
        rooms: Callable[[str], int | None] | None = None,
    ) -> None:
        self._dialect = dialect
        self.output = Output(wants)
        self.life = Life(self.output)
        self.counters = Counters()
        self._stops = Stops()
        self._reports = Reports(self.output.notify, mask)
        jitter = random if options.jitter else lambda: 1.0
        if connects is None:
            limit = dialect.limits.connects
            budget = Budget(*limit) if limit else None
            connects = lambda _: budget  # noqa: E731
        self.fleet = Fleet(
            dialect,
            options,
            jitter,
            self.output,
            self._stops,
            self.counters,
            where,
            connects,
        )
        self.connections = self.fleet.connections
        limits = dialect.limits
        rooms = rooms or (lambda _: limits.channels_per_connection)
        self.placement = Placement(self.fleet, rooms, limits.connections)
        outcomes = ChannelOutcomes(self.output, self.counters, self.placement)
        self.upkeep = outcomes.upkeep = Upkeep(
            self.output,
            self._reports,
            self._stops,
            options.stale_after,
            self.placement,
            outcomes,
            shares_numbers=dialect.numbers_are_shared,
        )
        self.wanted = self.fleet.wanted = self.upkeep.wanted
        self._overlaps = self.upkeep.channels.overlaps
        self.fleet.channels = self.upkeep.channels
        self.callers = Callers(self.output, self.wanted)
        ids = itertools.count(1)
        #: Returns a new request id. Atomic: needs no lock.
        self.next_id = ids.__next__
        self._shared = Shared(
            dialect,
            options,
            mask,
            self.output,
            self._stops,
            self.upkeep,
            outcomes,
            ids,
            jitter,
            self._report_state,
        )
        self.fleet.make = self._make
        self.fleet.is_awaited = self.callers.is_awaited
        self.intake = Intake(self._shared, self.counters, self._reports, self._on_open)
        self.endings = Endings(
            self.output,
            self.life,
            self.counters,
            self.fleet,
            self.upkeep,
            outcomes,
            self.callers,
            self._fail,
            self._give_up,
            self._report_state,
        )
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

    def open_connection(self, route: str | None = None) -> Connection:
        """Return the open connection for a caller's message; ``route`` is its route, None for any.

        Raises NotConnected if there is none, and as :meth:`Life.check` does.
        """
        self.life.check()
        connection = self.connections.open_one(route) if self.life.is_running else None
        if connection is None:
            state = self.state.value
            if route is not None and self.state is State.OPEN:
                state = f"the route {route!r} has no open connection"
            raise NotConnected(f"not connected ({state}); nothing was sent")
        return connection

    def released(self) -> list[Message]:
        """Return the messages that overlaps have released since the last read.

        They waited for another connection, which has ended or taken too long. Deliver them at once.
        """
        return self.intake.released() if self._overlaps.released else []

    def actions(self) -> list[Action]:
        """Return the actions since the last call, in order."""
        return self.output.take()

    def is_due(self, connection: Connection | None) -> bool:
        """Return whether there is work before the deadline last returned by :meth:`next_deadline`.

        ``connection`` is the one that has brought something since; None if it has ended.
        """
        output = self.output
        return (
            bool(output.actions or output.settles or self.callers.new)
            or self.upkeep.has_changed
            or self._overlaps.has_changed
            or (connection is not None and connection.is_due())
        )

    # Requests of callers.

    def connect(self, token: Any, deadline: float, now: float, route: str = "") -> None:
        """Open a connection if none is open; ``token`` is settled when it is open, or cannot be.

        ``route`` is the default route. Raises as :meth:`Life.check`.
        """
        self.life.check()
        if self.state is State.OPEN:
            self.output.settle(token)
            return
        key = SlotKey(route)
        self.callers.connect(token, key, deadline)
        slot = self.fleet.slot(key, now)
        if not self.life.is_running:
            self.life.step("connect")
            slot.outage.begin(now)
            slot.begin(now)
            if slot.due_at > now:
                self.endings.report_wait(slot, "the venue's limits allow no connection yet", now)
            self._follow_plan(now)

    def connect_route(self, token: Any, deadline: float, now: float, route: str) -> None:
        """Open a connection of a route, and keep it; ``token`` is settled as in :meth:`connect`.

        Raises as :meth:`Life.check_begun`.
        """
        self.life.check_begun()
        slot = self.fleet.slot(SlotKey(route), now)
        slot.is_pinned = True
        if self.connections.serving(slot.key) is not None:
            self.output.settle(token)
        else:
            self.callers.connect(token, slot.key, deadline)

    def cancel_connect(self, token: Any) -> None:
        """Stop waiting with ``token``; if no other caller waits, give up the first connect."""
        key = self.callers.cancel_connect(token)
        slot = None if key is None else self.fleet.slots.get(key)
        if slot is None or slot.is_established or not self.life.is_running:
            return
        if len(self.fleet.slots) > 1:
            slot.is_pinned = False
            return
        self.connections.abort_all()
        self.life.step("give up", "connect() was given up")
        self.callers.fail_calls(NotConnected("not connected; connect() was given up"))

    def subscribe(
        self,
        channels: Iterable[str],
        options: Mapping[str, Any],
        token: Any,
        deadline: float,
        routing: Mapping[str, ChannelRoute] = MappingProxyType({}),
    ) -> None:
        """Subscribe to channels; ``token`` is settled when each is decided.

        ``routing`` says how each is reached. While there is no connection, the call waits for one.
        Raises ConfigurationError if a channel is already subscribed with other options, and as
        :meth:`Life.check_begun`.
        """
        self.life.check_begun()
        self.placement.add(self.callers.subscribe(channels, options, token, deadline, routing))

    def unsubscribe(self, channels: Iterable[str], token: Any, deadline: float) -> None:
        """Unsubscribe from channels; ``token`` is settled when each is decided.

        Raises as :meth:`Life.check`.
        """
        self.life.check()
        self.placement.unsubscribe(self.wanted.unsubscribe(channels, token, deadline))

    def rotate(self, token: Any, deadline: float, now: float) -> None:
        """Replace all open connections; ``token`` is settled when that is done.

        Raises as :meth:`Life.check_begun`.
        """
        self.life.check_begun()
        old = [connection for connection in self.connections if connection.stage is Stage.OPEN]
        most = self._dialect.limits.connections
        has_room = most is None or len(self.fleet.slots) < most
        for connection in old:  # without room for a successor, it is cut
            connection.lifetime.rotate(now, ROTATION_TIME if has_room else 0.0)
        self.callers.rotate(token, {connection.id for connection in old}, deadline)

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
        for connection in self.connections:
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
        self._overlaps.at(now)
        if connection is not None and connection.opened(login, now, credentials, address):
            self._on_open(connection, now)

    def _on_open(self, connection: Connection, now: float) -> None:
        """Note that a connection is open, and logged in if the venue requires a login."""
        self.counters.connects += 1
        slot = connection.slot
        is_alone = self.fleet.opened(connection, now)
        self.counters.reconnects += slot.was_lost and is_alone
        slot.was_lost = False
        if len([c for c in self.connections if c.stage is Stage.OPEN]) == 1:
            self.intake.rates.opened(now, *self.intake.totals())
        self.callers.connected(slot.key)
        if is_alone:
            self.upkeep.opened(slot.channels, now)

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
        self._overlaps.at(now)
        if self.life.is_running:
            text = str(error) if reason is None else reason
            self.endings.check_recovered(now)  # by answers since the last tick
            self.endings.ended(connection, error, text, verdict, now)
        else:
            self.connections.end(connection)
            self._end_close()

    # Time.

    def tick(self, now: float, views: Mapping[int, ConnectionView]) -> None:
        """Do everything that is due. ``views`` are the observable states of the connections."""
        if now - self.planned > LATE_TICK:
            self._stops.add(self._looked_at, now)
            for connection in self.connections:
                if connection.heartbeat is not None:
                    connection.heartbeat.stopped(now, now - self._looked_at)
        self._overlaps.tick(now)
        # Before requests expire: an old request must not decide about a channel that is new.
        for channel, why in self.placement.place_new(now).items():
            self.endings.refuse(channel, why)
        for token, key in self.callers.expired(now):
            slot = self.fleet.slots[key]
            self.output.settle(token, slot.timeout())
            self.cancel_connect(token)
        for connection in self.connections:
            connection.replies.expire(now)
        self.wanted.expire(now)
        for connection in self.connections:
            connection.asked.expire(now)
            connection.tick(now, views.get(connection.id))
        if self.life.is_running:
            self._follow_plan(now)
            at_once = self._dialect.limits.channels_per_message
            for connection_id, error in self.upkeep.tick(at_once, now):
                self.connections.by_id[connection_id].cut(error)
        for connection in self.connections:
            connection.flush(now)
        self._reports.tick(now)
        self.callers.rotated(self.connections.by_id, now)
        self.endings.tick(now)
        if self.life.phase is Phase.CLOSING and now >= self._close_at:
            self._close_at = float("inf")
            self.connections.abort_all()
            self._end_close()

    def next_deadline(self, now: float, views: Mapping[int, ConnectionView]) -> float:
        """Return when the next tick is due (monotonic s, ``inf`` for never)."""
        times = [self.callers.deadline(), self._overlaps.deadline()]
        times += [c.deadline(now, views.get(c.id)) for c in self.connections]
        if self.life.is_running:
            times += [self.fleet.next_at(now), self.endings.deadline()]
            if self.placement.has_new:
                times.append(now)
            if self.state is State.OPEN:
                times.append(self.upkeep.deadline(now))
        if self.life.phase is Phase.CLOSING:
            times.append(self._close_at)
        elif self.life.phase is not Phase.CLOSED:
            times.append(self._reports.deadline())
        self.upkeep.has_changed = False
        self.planned, self._looked_at = min(times), now
        return self.planned

    # Inside.

    def _make(self, slot: Slot, now: float) -> Connection:
        self.output.newest_id += 1
        return Connection(self.output.newest_id, slot, now, self._shared)

    def _follow_plan(self, now: float) -> None:
        """Open and end what the plan says."""
        self.fleet.follow(now)
        self._report_state("no channel needs the connection")
        if self.callers.are_unreported:
            for slot in self.fleet.slots.values():
                if slot.due_at > now and not self.connections.of(slot.key):
                    self.callers.report_all(slot.channels, self.state.value)
        if self.callers.new:
            state = self.state
            self.callers.report_new(state.value, is_open=state is State.OPEN)

    def _report_state(self, why: str, connection_id: int | None = None) -> bool:
        """Emit an event if the state of the running client has changed; return whether it has."""
        if not self.life.is_running:
            return False
        return self.output.report_state(self.state.value, why, connection_id)

    def _end_close(self) -> None:
        if self.life.phase is Phase.CLOSING and not self.connections and not self._is_draining:
            self.life.step("end")

    def _give_up(self, error: WSClientError) -> None:
        """Give up the first connect; it may be tried again."""
        self.life.step("give up", str(error))
        self._settle_all(error)

    def _fail(self, error: WSClientError) -> None:
        """Fail for good: every call raises ``error`` from now on."""
        self.life.failure = error
        self.life.step("fail", str(error))
        self._settle_all(error)
        self.output.do(Fail(error))
        self.output.notify(Closed, error)

    def _settle_all(self, error: WSClientError) -> None:
        for connection in self.connections:
            connection.replies.fail_all()
        self.callers.fail_all(error)
