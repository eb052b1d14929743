"""What follows from the end of a connection: for its slot, for the client, and for its callers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from wsclient.errors import ConnectionLost, WSClientError
from wsclient.events import (
    Disconnected,
    Reconnecting,
    Recovered,
    Rotated,
    RotationFailed,
    RouteFailed,
)
from wsclient.messages import SubscriptionState
from wsclient.sansio.callers import Callers
from wsclient.sansio.connection import Connection, Stage
from wsclient.sansio.fleet import Fleet
from wsclient.sansio.life import Life, State
from wsclient.sansio.output import Output
from wsclient.sansio.slots import Slot
from wsclient.sansio.upkeep import Upkeep
from wsclient.telemetry.rates import Counters
from wsclient.verdicts import Verdict, reason_of

__all__ = ["Endings"]


class Endings:
    """Processes the ends of the connections of one client, while it runs.

    ``fail`` is called with the error with which the client fails for good, ``give_up`` with that
    of a first connect that may be tried again. ``report_state`` reports a change of the client's
    state.
    """

    __slots__ = (
        "_callers",
        "_counters",
        "_fail",
        "_fleet",
        "_give_up",
        "_life",
        "_lost_at",
        "_output",
        "_report_state",
        "_upkeep",
        "attempt_failures",
        "disconnect_reasons",
    )

    def __init__(
        self,
        output: Output,
        life: Life,
        counters: Counters,
        fleet: Fleet,
        upkeep: Upkeep,
        callers: Callers,
        fail: Callable[[WSClientError], None],
        give_up: Callable[[WSClientError], None],
        report_state: Callable[[str], bool],
    ) -> None:
        self._output = output
        self._life = life
        self._counters = counters
        self._fleet = fleet
        self._upkeep = upkeep
        self._callers = callers
        self._fail = fail
        self._give_up = give_up
        self._report_state = report_state
        #: How often open connections ended, and attempts failed, by reason.
        self.disconnect_reasons: Counter[str] = Counter()
        self.attempt_failures: Counter[str] = Counter()
        #: Since when not all wanted channels are confirmed; None while they are (monotonic s).
        self._lost_at: float | None = None

    def ended(
        self,
        connection: Connection,
        error: BaseException,
        text: str,
        verdict: Verdict,
        now: float,
    ) -> None:
        """Note that a connection has ended, or that its attempt has failed, by ``error``.

        ``text`` is the text of ``error``, ``verdict`` says whether another attempt follows.
        """
        slot = connection.slot
        others = [c for c in self._fleet.connections.of(slot.key) if c is not connection]
        others = [other for other in others if other.retired_at is None]
        is_served = any(other.stage is Stage.OPEN for other in others)
        is_retired = connection.retired_at is not None
        if is_retired:
            text = "another connection has taken over" if slot.channels else "no channel needed it"
        else:
            slot.last_reason = text
        self._count(connection, error, text, now, others)
        was_healthy = connection.has_opened and connection.is_healthy
        failure = None
        if is_retired:
            pass
        elif not others:
            if was_healthy:
                slot.outage.end()
            slot.outage.begin(now)
            failure = slot.ended(error, verdict, now, was_healthy=was_healthy)
            if failure is None:
                self.report_wait(slot, text, now, but=connection)
        elif connection.id > others[-1].id:
            slot.successor_failed(error, verdict, now)
            delay = round(slot.due_at - now, 3)
            self._output.notify(RotationFailed, delay, text, connection_id=others[0].id)
        if connection.has_answered:
            if not is_retired:
                connection.asked.connection_ended(slot.channels, now, text)
            self._upkeep.suspect(connection.id, slot.channels, now)
            if others and not (is_served or is_retired):  # its successor is being opened
                why = f"{text}; its successor is being opened"
                self._output.notify(Reconnecting, slot.attempts, 0.0, why, str(slot.key))
        self._fleet.connections.end(connection)
        for other in others if connection.has_opened else ():
            self._ask_again(other)
        if failure is not None:
            self._on_failure(slot, failure, verdict)
        elif not (is_served or is_retired):
            self._callers.report_all(slot.channels, self.state_now())
        self._report_state(slot.last_reason if is_retired else text)

    def state_now(self, but: Connection | None = None) -> str:
        """Return the state of the client, which runs, as if ``but`` had ended."""
        furthest = self._fleet.connections.furthest(but)
        return State.BACKING_OFF.value if furthest is None else furthest.value

    def _count(
        self,
        connection: Connection,
        error: BaseException,
        text: str,
        now: float,
        others: Sequence[Connection],
    ) -> None:
        """Count and report the end."""
        reason = reason_of(error)
        is_served = any(other.stage is Stage.OPEN for other in others)
        if not connection.has_opened:
            self.attempt_failures[reason] += 1
            return
        if connection.retired_at is not None:
            reason = "rotated"
            self._counters.rotations += bool(others)
        else:
            self._counters.disconnects += 1
            self.disconnect_reasons[reason] += 1
            connection.slot.was_lost = not is_served
            if self._lost_at is None and not is_served:
                self._lost_at = now
        code = error.code if isinstance(error, ConnectionLost) else 1006
        data_at = connection.data_at
        age = None if data_at is None else round(now - data_at, 3)
        self._output.notify(Disconnected, text, reason, code, age, connection_id=connection.id)
        if is_served:
            successor = others[-1]
            seconds = round(now - successor.dialed_at, 3)
            self._output.notify(Rotated, connection.id, seconds, connection_id=successor.id)

    def _ask_again(self, left: Connection) -> None:
        """Subscribe, on a connection that is left, to what it does not carry.

        The venue has refused these channels there, while the other connection carried them.
        """
        if left.stage is Stage.OPEN:
            left.subscribe(left.asked.lacking(left.slot.channels))

    def report_wait(self, slot: Slot, why: str, now: float, but: Connection | None = None) -> None:
        """Report that the next attempt in ``slot`` waits; ``but`` is the connection that ends."""
        delay = slot.due_at - now
        when = f"in {delay:.2f} s" if delay >= 0.005 else "at once"
        route = str(slot.key)
        if self._fleet.connections.furthest(but) is None:
            route = ""
            wait = f"{why}; next attempt {when}"
            self._output.report_state(State.BACKING_OFF.value, wait)
        self._output.notify(Reconnecting, slot.attempts + 1, round(delay, 3), why, route)

    # Failures.

    def _on_failure(self, slot: Slot, failure: WSClientError, verdict: Verdict) -> None:
        """Note that no attempt follows in a slot: its channels fail, or the whole client."""
        if len(self._fleet.slots) > 1:
            self._fail_slot(slot, failure)
        elif slot.is_established or verdict is Verdict.FATAL:
            self._fail(failure)
        else:
            self._give_up(failure)

    def _fail_slot(self, slot: Slot, failure: WSClientError) -> None:
        """Give up a slot: its channels are no longer wanted, and its callers get the error."""
        self._output.notify(RouteFailed, str(slot.key), str(failure))
        for channel in list(slot.channels):
            self.refuse(channel, str(failure))
        self._callers.settle_connecting(slot.key, failure)
        self._fleet.remove(slot.key)

    def refuse(self, channel: str, why: str) -> None:
        """Note that nothing carries a channel: it is no longer wanted."""
        entry = self._upkeep.wanted.get(channel)
        if entry is not None:
            report = self._upkeep.lost if entry.was_active else self._upkeep.refused
            report(channel, why)
            self._upkeep.wanted.remove(entry, why, refused=True)

    # Time.

    def tick(self, now: float) -> None:
        """Report what has lasted for too long, and what is over."""
        for slot in self._fleet.slots.values():
            connection = self._fleet.connections.serving(slot.key)
            if not self._life.is_running or (connection is not None and connection.is_healthy):
                slot.outage.end()
            elif connection is None:
                is_only = len(self._fleet.slots) == 1
                why = slot.last_reason if is_only else f"{slot.where}: {slot.last_reason}"
                slot.outage.tick(now, why)
        self.check_recovered(now)

    def deadline(self) -> float:
        """Return when to call :meth:`tick` (monotonic s, ``inf`` for never)."""
        waiting = [
            slot.outage.deadline()
            for slot in self._fleet.slots.values()
            if self._fleet.connections.serving(slot.key) is None
        ]
        return min(waiting, default=float("inf"))

    def check_recovered(self, now: float) -> None:
        """Report that all wanted channels are confirmed again, if they are."""
        wanted = self._upkeep.wanted
        is_open = self._life.is_running and self._fleet.connections.furthest() is Stage.OPEN
        if self._lost_at is None or not is_open or not wanted.all_confirmed:
            return
        seconds, self._lost_at = round(now - self._lost_at, 3), None
        self._output.notify(Recovered, seconds, wanted.count(SubscriptionState.ACTIVE))
