"""One connection: from its attempt to its end.

::

    CONNECTING --log in--> AUTHENTICATING --open--> OPEN;  CONNECTING --open--> OPEN
    CONNECTING, AUTHENTICATING, OPEN --drain--> DRAINING;  each --end--> ENDED

A draining connection is about to end: it gets no more requests and no deadline applies to it, but
what it still brings is processed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from wsclient.dialect.base import Dialect
from wsclient.dialect.values import Credentials
from wsclient.errors import AuthenticationError, ConnectionLost, ConnectTimeout, WSClientError
from wsclient.events import Connected
from wsclient.messages import SubscriptionState
from wsclient.options import Options
from wsclient.sansio.actions import Abort, Cut, Dial, Hangup, Ping
from wsclient.sansio.asked import Asked
from wsclient.sansio.backoff import Budget
from wsclient.sansio.consulting import Consulting
from wsclient.sansio.heartbeat import ConnectionView, HeartbeatMonitor
from wsclient.sansio.lifetime import Lifetime
from wsclient.sansio.machine import Table, after
from wsclient.sansio.names import Names
from wsclient.sansio.output import Output
from wsclient.sansio.plan import Standing
from wsclient.sansio.renewal import Renewal
from wsclient.sansio.replies import Replies
from wsclient.sansio.sending import Sending
from wsclient.sansio.slots import Slot
from wsclient.sansio.stops import Stops
from wsclient.sansio.upkeep import Upkeep
from wsclient.sansio.wanted import Outcomes
from wsclient.sansio.wantedtable import WantedChannel
from wsclient.text import one_line

__all__ = ["STAGES", "Connection", "Shared", "Stage"]

INF = float("inf")
#: A connection that has been open for this time (s) counts as healthy, even without any data.
HEALTHY_AFTER = 10.0
#: How long (s) a retired connection may take to answer our close frame.
DRAIN_TIME = 5.0


class Stage(enum.Enum):
    """The state of one connection."""

    CONNECTING = "connecting"
    AUTHENTICATING = "authenticating"
    OPEN = "open"
    DRAINING = "draining"
    ENDED = "ended"


CONNECTING, AUTHENTICATING, OPEN, DRAINING, ENDED = Stage

STAGES: Table[Stage] = {
    (CONNECTING, "log in"): AUTHENTICATING,
    (CONNECTING, "open"): OPEN,
    (AUTHENTICATING, "open"): OPEN,
    (CONNECTING, "drain"): DRAINING,
    (AUTHENTICATING, "drain"): DRAINING,
    (OPEN, "drain"): DRAINING,
    (CONNECTING, "end"): ENDED,
    (AUTHENTICATING, "end"): ENDED,
    (OPEN, "end"): ENDED,
    (DRAINING, "end"): ENDED,
}


@dataclass(frozen=True, eq=False)
class Shared:
    """What all connections of one client share.

    ``mask`` hides the client's secrets in texts of a venue. ``ids`` are the ids of requests.
    ``random`` returns floats in [0, 1). ``report_state`` reports a change of the client's state:
    its reason, and the id of the connection; it returns whether there was one.
    """

    dialect: Dialect
    options: Options
    mask: Callable[[str], str]
    output: Output
    stops: Stops
    upkeep: Upkeep
    outcomes: Outcomes
    ids: Iterator[int]
    random: Callable[[], float]
    report_state: Callable[[str, int], bool]


class Connection:
    """The state of one connection, with all that was asked on it."""

    __slots__ = (
        "_consulting",
        "_dialect",
        "_mask",
        "_options",
        "_output",
        "_report_state",
        "_stops",
        "_upkeep",
        "asked",
        "bytes",
        "count",
        "data_at",
        "dialed_at",
        "has_opened",
        "heartbeat",
        "id",
        "is_healthy",
        "lifetime",
        "messages",
        "names",
        "opened_at",
        "reached",
        "renewal",
        "replies",
        "retired_at",
        "sending",
        "slot",
        "stage",
    )

    def __init__(self, id: int, slot: Slot, now: float, shared: Shared) -> None:
        self.id = id
        self.slot = slot
        self._dialect = shared.dialect
        self._options = options = shared.options
        self._mask = shared.mask
        self._output = shared.output
        self._stops = shared.stops
        self._upkeep = upkeep = shared.upkeep
        self.stage = CONNECTING
        #: The stage before it drained or ended.
        self.reached = CONNECTING
        #: True once it is open, also when it has ended.
        self.has_opened = False
        #: When its attempt began, and when its handshake was complete (monotonic s).
        self.dialed_at = now
        self.opened_at = now
        self.lifetime = Lifetime(shared.random)
        #: When it was retired, as another connection carries its channels; None if it was not.
        self.retired_at: float | None = None
        #: When the last data arrived; None before the first (monotonic s).
        self.data_at: float | None = None
        #: The messages, and the bytes of payload, that it has brought.
        self.messages = self.bytes = 0
        self.names = Names(upkeep.wanted.__contains__)
        self.replies = Replies(shared.output, shared.mask)
        self.asked = Asked(
            id,
            shared.dialect,
            upkeep.wanted,
            shared.outcomes,
            shared.ids,
            options.ack_timeout,
            shared.stops,
        )
        self._consulting = Consulting(
            shared.dialect, self.asked, self.names, shared.mask, upkeep.first_messages.expect
        )
        self.sending = Sending(
            id,
            shared.output,
            self.asked,
            self._consulting,
            upkeep.first_messages,
            _budget(shared.dialect.limits.messages_per_second),
        )
        #: The checks of the connection, from its handshake to its end.
        self.heartbeat: HeartbeatMonitor | None = None
        self.renewal = Renewal(id, shared.output, self.expire)
        #: The number of the last frame, if the venue counts frames.
        self.count: int | None = None
        #: It works: it has brought data, or has been open for HEALTHY_AFTER.
        self.is_healthy = False
        self._report_state = shared.report_state

    def begin(self) -> None:
        """Begin its attempt. It is among the client's connections now."""
        attempt = f"connection {self.id}, attempt {self.slot.attempts}"
        self._report_state(attempt, self.id)
        self._output.do(Dial(self.id, self.slot.key.route))

    # Its stages.

    def _step(self, step: str) -> None:
        """Change the stage: the only place that does."""
        self.stage = after(STAGES, self.stage, step)
        if self.stage not in (DRAINING, ENDED):
            self.reached = self.stage

    @property
    def has_answered(self) -> bool:
        """Whether its handshake was complete, so that the venue could send anything."""
        return self.reached is not CONNECTING

    @property
    def credentials(self) -> Credentials | None:
        """The credentials of this connection."""
        return self._consulting.credentials

    @property
    def address(self) -> str:
        """Its address without the query; empty before it has opened."""
        return self._consulting.address

    def opened(self, login: Any, now: float, credentials: Credentials | None, address: str) -> bool:
        """Note that the handshake is complete. Return whether the connection is open now.

        ``login`` is the message to send first, None for none. ``address`` is the connection's
        address without its query, for :meth:`Dialect.refusal`.
        """
        if self.stage is not CONNECTING:
            return False  # it is being cut
        options, dialect = self._options, self._dialect
        self.opened_at = now
        self._consulting.opened(credentials, address)
        silence = options.silence_timeout
        self.heartbeat = HeartbeatMonitor(
            now,
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            silence_timeout=dialect.silence_timeout if silence is None else silence,
            stall_timeout=options.stall_timeout,
            send_timeout=options.send_timeout,
            keepalive_interval=dialect.keepalive[1] if dialect.keepalive else None,
            stops=self._stops,
        )
        if credentials is not None and credentials.token is not None:
            self.renewal.begin(dialect.renewal_interval, now)
        for payload in dialect.opening:
            self.sending.send(payload, now)
        if login is None and not dialect.greets:
            self.open()
            return True
        self._step("log in")
        self._report_state("", self.id)
        if login is not None:
            self.sending.send(login, now)
        return False

    def open(self) -> None:
        """Note that it is open, and logged in if the venue requires a login; subscribe."""
        self._step("open")
        self.has_opened = True
        is_first = self._report_state(f"connection {self.id}", self.id)
        place = "" if is_first else str(self.slot.key)
        self._output.notify(Connected, self.slot.attempts, place, connection_id=self.id)
        max_age, is_first = self._dialect.limits.max_age, not self.slot.is_established
        self.lifetime.opened(self.opened_at, max_age, is_first=is_first)
        self.slot.opened()
        self.subscribe(self._restored())

    def subscribe(self, entries: Iterable[WantedChannel]) -> None:
        """Subscribe to channels of its slot. What another connection carries will overlap."""
        entries = list(entries)
        for entry in entries:
            self.names.add_wire(entry.wire, entry.channel)
            if entry.carriers:
                self._upkeep.channels.overlaps.join(entry.channel, self.id, entry.carriers)
        self.asked.subscribe(entries)

    def _restored(self) -> list[WantedChannel]:
        """Return the channels of its slot: first those that were confirmed before, oldest first."""
        wanted = [
            entry
            for entry in self._upkeep.wanted.among(self.slot.channels)
            if entry.state is not SubscriptionState.UNSUBSCRIBING
        ]
        known = [entry for entry in wanted if entry.was_active]
        return [*known, *(entry for entry in wanted if not entry.was_active)]

    def refuse_login(self, reason: str) -> None:
        """Note that the venue has refused the login."""
        if self.stage is AUTHENTICATING:
            reason = one_line(self._mask(reason))
            self.cut(AuthenticationError(f"the venue refused the login: {reason}"))

    def expire(self, reason: str) -> None:
        """Note that the venue sends nothing more here: another connection is needed at once."""
        reason = one_line(self._mask(reason))
        self.cut(ConnectionLost(reason, reason="expired"))

    def cut(self, error: WSClientError) -> None:
        """Cut the connection because of ``error``; its end is reported later."""
        if (self.stage, "drain") in STAGES:
            self._step("drain")
            self._output.do(Cut(self.id, error))

    def hang_up(self) -> None:
        """Send a close frame; the peer's answer ends the connection."""
        if (self.stage, "drain") in STAGES:
            self._step("drain")
        self._output.do(Hangup(self.id))

    def abort(self) -> None:
        """Cut the connection without a reason, and end it now."""
        self._output.do(Abort(self.id))
        self.end()

    def end(self) -> None:
        """Note that the connection has ended: it carries nothing, and no answer will arrive."""
        self._step("end")
        self.heartbeat = None
        # Some of its channels may belong to another slot by now.
        names = [*self.slot.channels, *self.asked.settling.attempts]
        entries = self._upkeep.wanted.among(names)
        self._upkeep.connection_lost(entries, self.id)
        self._consulting.ended()
        self.replies.fail_all()

    # What it brings.

    def frame_received(self, now: float) -> None:
        """Note any frame but a pong: a sign of life."""
        if self.heartbeat is not None:
            self.heartbeat.frame_received(now)

    def pong_received(self) -> None:
        """Note a pong: the answer to our ping."""
        if self.heartbeat is not None:
            self.heartbeat.pong_received()

    def counted(self, number: int) -> int | None:
        """Note the number of a frame. Return the last number if this one does not follow it."""
        last, self.count = self.count, number
        return last if last is not None and number != last + 1 else None

    def brought_messages(self) -> None:
        """Note that it has brought messages: with a confirmed channel, that proves its health."""
        if self.asked.settling.has_confirmed:
            self._prove_healthy()

    def _prove_healthy(self) -> None:
        if not self.is_healthy:  # else it would deny what attempts to replace it have shown
            self.is_healthy = True
            self.slot.prove_healthy()

    # Time.

    def tick(self, now: float, view: ConnectionView | None) -> None:
        """Do everything that is due, except for its channels. ``view`` is its observable state."""
        if now >= self._attempt_deadline():
            what = "connected" if self.stage is CONNECTING else "logged in"
            limit = self._options.connect_timeout
            self.cut(ConnectTimeout(f"not {what} within connect_timeout ({limit:g} s)"))
        if self.retired_at is not None and now >= self.retired_at + DRAIN_TIME:
            self.retired_at = INF
            self._output.do(Cut(self.id, ConnectionLost("retired", reason="rotated")))
        if self.heartbeat is None or self.stage is DRAINING or view is None:
            return
        error = self.heartbeat.failure(now, view)
        suspect = self.asked.settling.suspect
        if error is None and suspect is not None:
            error = ConnectionLost(suspect, reason="unanswered")
        if error is not None:
            self.cut(error)
            return
        if self.heartbeat.ping_due(now):
            self._output.do(Ping(self.id))
        if self.heartbeat.keepalive_due(now) and self._dialect.keepalive is not None:
            self.sending.send(self._dialect.keepalive[0], now)
        self.renewal.tick(now)
        self.sending.send_answers(now)
        if self.stage is OPEN and not self.is_healthy and now >= self.opened_at + HEALTHY_AFTER:
            self._prove_healthy()

    def flush(self, now: float) -> None:
        """Send its requests."""
        if self.stage is OPEN:
            self.sending.flush(now)
        self.asked.requests.has_changed = False

    def cut_early(self) -> None:
        """Cut the connection, as it must end soon and the venue allows no second one."""
        self._prove_healthy()  # so that the next attempt follows at once
        self.cut(ConnectionLost("the venue would end the connection soon", reason="age"))

    def retire(self, now: float) -> None:
        """Send a close frame, as another connection carries its channels, or it has none.

        What it brings before the venue's close frame is still processed.
        """
        self.retired_at = now
        self.hang_up()

    def deadline(self, now: float, view: ConnectionView | None) -> float:
        """Return when the next tick is due (monotonic s, ``inf`` for never)."""
        times = [self.replies.deadline(), self.asked.requests.deadline(), self._attempt_deadline()]
        if self.heartbeat is not None and self.stage is not DRAINING and view is not None:
            times += [self.heartbeat.deadline(view), self.sending.answer_deadline(now)]
            times.append(self.renewal.deadline())
            if self.stage is OPEN and not self.is_healthy:
                times.append(self.opened_at + HEALTHY_AFTER)
            if self.asked.settling.suspect is not None:
                times.append(now)
        if self.stage is OPEN:
            times.append(self.sending.flush_deadline(now))
        if self.retired_at is not None:
            times.append(self.retired_at + DRAIN_TIME)
        return min(times)

    def _attempt_deadline(self) -> float:
        """Return the deadline of the attempt, its login included; ``inf`` for none."""
        if self.stage not in (CONNECTING, AUTHENTICATING):
            return INF
        excuse = self._stops.excuse(self.dialed_at)
        return self.dialed_at + self._options.connect_timeout + excuse

    def is_due(self) -> bool:
        """Return whether there is work before the deadline that was last returned."""
        return self.asked.requests.has_changed or self.asked.settling.suspect is not None

    def standing(self) -> Standing:
        """Return the connection as :func:`wsclient.sansio.plan.plan` sees it."""
        return Standing(self.id, self.stage is OPEN, self.lifetime.rotate_at, self.lifetime.ends_at)


def _budget(rate: float | None) -> Budget | None:
    """Return the budget of messages per second of one connection; None for no limit."""
    return None if rate is None else Budget(max(1, int(rate)), max(1.0, 1 / rate))
