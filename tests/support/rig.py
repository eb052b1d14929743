"""A test rig for a supervisor: a simulated clock, and a record of all its actions."""

from __future__ import annotations

import itertools
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from support.making import message as make
from wsclient.dialect.base import Dialect
from wsclient.dialect.values import Limits
from wsclient.errors import ConnectionLost
from wsclient.events import Event, StateChanged
from wsclient.messages import Gap, Message, SubscriptionState
from wsclient.options import Options
from wsclient.runtime.eventlog import line_of
from wsclient.sansio.actions import (
    Action,
    Consult,
    Cut,
    Deliver,
    Notify,
    Send,
    Settle,
)
from wsclient.sansio.backoff import Connects
from wsclient.sansio.connection import Connection
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.sansio.life import State
from wsclient.sansio.slots import SlotKey
from wsclient.sansio.supervisor import Supervisor
from wsclient.sansio.wantedtable import ChannelRoute
from wsclient.stream.channel import Batch
from wsclient.stream.incoming import Incoming
from wsclient.stream.items import Ack, LoginAccepted, Rejection
from wsclient.verdicts import Verdict, classify

INF = float("inf")
LOGIN = {"op": "login"}

_UP = {State.BACKING_OFF, State.FAILED, State.CLOSING}
#: The states that may follow each state of a client with one connection.
TRANSITIONS: dict[State, set[State]] = {
    State.IDLE: {State.CONNECTING, *_UP},
    State.CONNECTING: {State.AUTHENTICATING, State.OPEN, State.IDLE, *_UP},
    State.AUTHENTICATING: {State.OPEN, State.IDLE, *_UP},
    State.OPEN: _UP,
    State.BACKING_OFF: {State.CONNECTING, State.IDLE, State.FAILED, State.CLOSING},
    State.FAILED: {State.CLOSING},
    State.CLOSING: {State.CLOSED},
    State.CLOSED: set(),
}


class Plain(Dialect):
    """A dialect that makes plain JSON requests, which a test can compare."""

    name = "plain"

    def __init__(self, limits: Limits | None = None, **attributes: Any) -> None:
        self.limits = limits or Limits()
        for name, value in attributes.items():
            setattr(self, name, value)

    def subscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        return {"op": "subscribe", "channels": list(channels), "id": request_id, **options}

    def unsubscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        return {"op": "unsubscribe", "channels": list(channels), "id": request_id, **options}

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "id": request_id}


class Routed(Plain):
    """Its channels are called ``route:name``; the venue's name has no route.

    ``rooms`` are the numbers of channels that a connection of each route carries.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        rooms: Mapping[str, int] = MappingProxyType({}),
        **attributes: Any,
    ) -> None:
        super().__init__(limits, **attributes)
        self._rooms = rooms

    def route(self, channel: str, url: str) -> str:
        return channel.partition(":")[0]

    def wire_name(self, channel: str) -> str:
        return channel.partition(":")[2]

    def room(self, route: str) -> int | None:
        return self._rooms.get(route, super().room(route))


def named(key: SlotKey) -> str:
    """Return a short name of a slot: ``route`` of the first, ``route/1`` of the second."""
    return f"{key.route}/{key.shard}" if key.shard else key.route


class Rig:
    """Runs a supervisor as the watchdog and the readers do, one step at a time.

    What is done on a connection is done on the newest one, or on that of the id ``on``.
    """

    def __init__(
        self,
        dialect: Dialect | None = None,
        *,
        random: float = 1.0,
        wants: Callable[[type[Event]], bool] = lambda _: False,
        connects: Callable[[str], Connects | None] | None = None,
        **options: Any,
    ) -> None:
        self.now = 1000.0
        self.dialect = dialect or Plain()
        options = {"ping_interval": None, **options}
        self.supervisor = Supervisor(
            self.dialect,
            Options(**options),
            lambda: random,
            str,
            wants,
            connects=connects,
            rooms=self.dialect.room,
        )
        #: All that was delivered, in order.
        self.delivered: list[Message] = []
        self.actions: list[Action] = []
        self._cuts: list[Cut] = []
        #: Questions to the dialect that are not asked yet; while ``holds`` is set they wait here.
        self.consults: list[Consult] = []
        self.holds = False
        self.settled: defaultdict[Any, list[Settle]] = defaultdict(list)
        #: The tokens of all calls: each must be settled once, at the latest by close().
        self.tokens: set[Any] = set()
        self.received_at = 0
        self._numbers = itertools.count()

    # The record.

    @property
    def state(self) -> State:
        return self.supervisor.state

    @property
    def cid(self) -> int:
        return self.supervisor.connection_id

    @property
    def is_due(self) -> bool:
        """Whether there is work before the deadline, after something came on the newest one."""
        return self.supervisor.is_due(self.supervisor.connections.get(self.cid))

    @property
    def connection(self) -> Connection:
        """The newest connection, which must not have ended."""
        found = self.supervisor.connections.get(self.cid)
        assert found is not None
        return found

    def ids(self) -> list[int]:
        """Return the ids of the connections that have not ended, oldest first."""
        return [connection.id for connection in self.supervisor.connections]

    def in_slots(self) -> dict[str, list[int]]:
        """Return the ids of the connections in each slot, oldest first."""
        fleet = self.supervisor.fleet
        return {named(key): [c.id for c in fleet.connections.of(key)] for key in fleet.slots}

    def wanted(self) -> list[tuple[str, SubscriptionState, Mapping[str, Any]]]:
        """Return channel, state and options of each wanted channel."""
        return [(e.channel, e.state, e.options) for e in self.supervisor.wanted]

    def pending_gap(self, channel: str) -> Gap | None:
        """Return the gap that the channel's next message will carry."""
        found = self.supervisor.upkeep.channels.get(channel)
        return None if found is None else found.pending

    def path(self) -> list[tuple[State, State]]:
        """Return each change of the client's state that was reported so far, in order."""
        reported = [State(n.what[0]) for n in self.done(Notify) if n.kind is StateChanged]
        return list(itertools.pairwise([State.IDLE, *reported]))

    def collect(self) -> list[Action]:
        """Record and return the actions since the last call; each token may be settled once."""
        actions = self.supervisor.actions()
        self.actions += actions
        self.delivered += [action.message for action in actions if isinstance(action, Deliver)]
        self._cuts += [action for action in actions if isinstance(action, Cut)]
        self.consults += [action for action in actions if isinstance(action, Consult)]
        for action in actions:
            if isinstance(action, Settle):
                self.settled[action.token].append(action)
                assert len(self.settled[action.token]) == 1, f"{action.token!r} settled twice"
        return actions

    def done(self, kind: type[Action]) -> list[Any]:
        """Return all actions of one kind so far."""
        self.collect()
        return [action for action in self.actions if isinstance(action, kind)]

    def sent(self, on: int | None = None) -> list[dict[str, Any]]:
        """Return the messages sent on a connection, decoded, in order."""
        cid = self.cid if on is None else on
        return [json.loads(s.payload) for s in self.done(Send) if s.connection_id == cid]

    def asked(self, on: int | None = None) -> list[tuple[str, list[str]]]:
        """Return the subscribes and unsubscribes on a connection, without ids."""
        return [(m["op"], m["channels"]) for m in self.sent(on) if "channels" in m]

    def outcome(self, token: Any) -> BaseException | str | None:
        """Return ``"waiting"``, or the error of ``token``, None if it succeeded."""
        self.collect()
        return self.settled[token][0].error if self.settled[token] else "waiting"

    def logs(self, level: str) -> list[str]:
        """Return the texts that the events so far have in the log at this level."""
        lines = (line_of(event) for event in self.emitted(Event))
        return [text for at, text in lines if text and at == logging.getLevelName(level.upper())]

    def emitted(self, *kinds: type[Event]) -> list[Any]:
        """Return all events of these types so far, without their numbers."""
        return [
            make(*what, connection_id=connection_id)
            for make, what, connection_id, _ in self.done(Notify)
            if issubclass(make, kinds)
        ]

    def numbers(self, *kinds: type[Event]) -> list[int]:
        """Return the numbers of the events of these types so far."""
        counted = itertools.accumulate(1 + notify.omitted for notify in self.done(Notify))
        found = zip(counted, self.done(Notify), strict=True)
        return [number for number, notify in found if issubclass(notify.kind, kinds)]

    # Reports, as the core passes them on.

    def received(self, cid: int, entries: Sequence[Incoming], now: float) -> list[Message]:
        connection = self.supervisor.connection(cid)
        if connection is None:
            return []
        identities: dict[int, Hashable] = {}
        if self.supervisor.upkeep.channels.overlaps.has(cid):
            for index, entry in enumerate(entries):
                if isinstance(entry, Message):
                    identities[index] = self.dialect.identity(entry)
        messages = self.supervisor.intake.received(connection, entries, now, identities)
        self.delivered += messages
        return messages

    def release(self) -> None:
        """Deliver what overlaps have released since the last read, as is done after each step."""
        self.delivered += self.supervisor.released()

    def ordinary(self, cid: int, batch: Batch, now: float) -> list[Message]:
        connection = self.supervisor.connection(cid)
        if connection is None:
            return []
        messages = self.supervisor.intake.ordinary(connection, batch, now)
        self.delivered += messages
        return messages

    def pong(self, cid: int) -> None:
        if (connection := self.supervisor.connection(cid)) is not None:
            connection.pong_received()

    def control(self, cid: int, now: float) -> None:
        if (connection := self.supervisor.connection(cid)) is not None:
            connection.frame_received(now)

    def count(self, frames: int, size: int, now: float) -> None:
        self.supervisor.intake.count(self.supervisor.connection(self.cid), frames, size, now)

    def begin_request(self, token: Any, deadline: float, now: float, count: int = 1) -> int:
        connection = self.supervisor.open_connection()
        request_id = self.supervisor.next_id()
        connection.replies.begin(request_id, token, deadline, count)
        connection.sending.spend(now)
        return request_id

    def cancel_request(self, request_id: int) -> None:
        for connection in self.supervisor.connections:
            connection.replies.cancel(request_id)

    # Events.

    def connect(self, token: Any = "connect", timeout: float = INF) -> None:
        self.supervisor.connect(token, self.now + timeout, self.now)
        self.tokens.add(token)
        self.tick()

    def cancel_connect(self, token: Any = "connect") -> None:
        """Cancel a connect: its token must not be settled from now on."""
        self.supervisor.cancel_connect(token)
        if not self.settled[token]:
            self.tokens.discard(token)
        self.tick()

    def opened(self, login: Any = None, on: int | None = None) -> None:
        self.supervisor.opened(self.cid if on is None else on, login, self.now)
        self.tick()

    def open(self) -> Rig:
        """Go to OPEN from any state that allows it."""
        if self.state is State.IDLE:
            self.connect(("open", next(self._numbers)))
        while self.state is State.BACKING_OFF:
            self.wait(self.deadline() - self.now)
        if self.state is State.CONNECTING:
            self.opened()
        if self.state is State.AUTHENTICATING:
            self.receive(LoginAccepted())
        assert self.state is State.OPEN
        return self

    def drop(
        self,
        error: BaseException | None = None,
        verdict: Verdict | None = None,
        on: int | None = None,
    ) -> None:
        error = error or ConnectionLost("gone")
        cid = self.cid if on is None else on
        self.supervisor.ended(cid, error, verdict or classify(error), self.now)
        self.release()
        self.collect()

    def subscribe(
        self, *channels: str, token: Any = None, timeout: float = INF, **options: Any
    ) -> Any:
        token = token or ("subscribe", *channels)
        dialect, ways = self.dialect, {}
        if isinstance(dialect, Routed):  # others have one address
            ways = {c: ChannelRoute(dialect.route(c, ""), dialect.wire_name(c)) for c in channels}
        self.supervisor.subscribe(channels, options, token, self.now + timeout, ways)
        self.tokens.add(token)
        self.tick()
        return token

    def unsubscribe(self, *channels: str, token: Any = None, timeout: float = INF) -> Any:
        token = token or ("unsubscribe", *channels)
        self.supervisor.unsubscribe(channels, token, self.now + timeout)
        self.tokens.add(token)
        self.tick()
        return token

    def request(self, token: Any = "request", timeout: float = INF) -> int:
        request_id = self.begin_request(token, self.now + timeout, self.now)
        self.tokens.add(token)
        return request_id

    def rotate(self, token: Any = "rotate", timeout: float = INF) -> Any:
        self.supervisor.rotate(token, self.now + timeout, self.now)
        self.tokens.add(token)
        self.tick()
        return token

    def receive(self, *entries: Incoming, on: int | None = None) -> list[Message]:
        delivered = self.received(self.cid if on is None else on, entries, self.now)
        self.collect()
        self.tick()
        return delivered

    def ack(self, *channels: str, on: int | None = None) -> list[Message]:
        return self.receive(*(Ack(channel=c) for c in channels), on=on)

    def reject(self, channel: str, reason: str = "no", on: int | None = None) -> list[Message]:
        return self.receive(Rejection(reason, channel=channel), on=on)

    def active(self, *channels: str, **options: Any) -> Rig:
        """Subscribe to channels on an open connection, and confirm them."""
        self.open()
        self.subscribe(*channels, token=("active", next(self._numbers)), **options)
        self.ack(*channels)
        return self

    def message(
        self,
        channel: str,
        sequence: int | None = None,
        type: str = "update",
        text: str | None = None,
        on: int | None = None,
    ) -> Message:
        """Return a message; ``text`` tells those without a number apart."""
        self.received_at += 1
        content = {"channel": channel, "n": sequence} | ({} if text is None else {"text": text})
        raw, cid = json.dumps(content).encode(), self.cid if on is None else on
        return make(channel, type, sequence, raw, self.received_at, cid)

    def data(self, channel: str, *sequences: int | None, on: int | None = None) -> list[Message]:
        """Receive messages of one channel; without ``sequences``, one without a number."""
        found = (self.message(channel, s, on=on) for s in sequences or (None,))
        return self.receive(*found, on=on)

    def texts(self, channel: str, *texts: str, on: int | None = None) -> list[Message]:
        """Receive messages without numbers."""
        return self.receive(*(self.message(channel, text=t, on=on) for t in texts), on=on)

    def got(self, channel: str) -> list[int | str | None]:
        """Return the numbers or texts of all delivered messages of a channel, and its marks.

        A mark, ``"?"`` with its reason, stands before its message.
        """
        found: list[int | str | None] = []
        for message in self.delivered:
            if message.channel == channel:
                found += [] if message.gap is None else [f"?{message.gap.reason}"]
                text = json.loads(message.raw).get("text") if message.raw else message.type
                found.append(message.sequence if text is None else text)
        return found

    def consult(self) -> bool:
        """Ask the dialect all waiting questions, as the watchdog does; False if there are none."""
        was_asked = bool(self.consults)
        while self.consults:
            ask, then, failed = self.consults.pop(0)
            try:
                answer = ask()
            except Exception as error:  # noqa: BLE001 - reported to the connection
                failed(error)
            else:
                then(answer)
        return was_asked

    # Time.

    def tick(self, view: ConnectionView | None = None) -> None:
        """Tick, and perform the cuts, until there is nothing to do."""
        view = view or ConnectionView(self.now)
        for _ in range(100):
            self.supervisor.tick(self.now, self._views(view))
            self.release()
            actions = self.collect()
            while self._cuts:
                cid, error = self._cuts.pop(0)
                self.supervisor.ended(cid, error, classify(error), self.now)
                self.release()
            if not self.holds and self.consult():
                continue
            self.deadline(view)
            if not actions:
                return
        raise AssertionError("the supervisor is never idle")

    def deadline(self, view: ConnectionView | None = None) -> float:
        view = view or ConnectionView(self.now)
        return self.supervisor.next_deadline(self.now, self._views(view))

    def _views(self, view: ConnectionView) -> dict[int, ConnectionView]:
        return {connection.id: view for connection in self.supervisor.connections}

    def wait(self, seconds: float, view: ConnectionView | None = None) -> None:
        """Let time pass, with a tick at each deadline of the supervisor.

        Bytes arrive all the time, unless ``view`` gives another state of the connection.
        """
        end = self.now + seconds
        self.tick(view)
        while self.now < end:
            self.now = max(self.now, min(end, self.deadline(view)))
            self.tick(view)

    def sleep(self, seconds: float) -> None:
        """Let time pass without a tick, as when the computer sleeps."""
        self.now += seconds
        self.tick()

    def close(self, timeout: float = 1.0) -> None:
        """Close, and let the deadline for the peer's answer pass."""
        self.supervisor.close(self.now, timeout)
        self.tick()
        self.wait(timeout)
        assert self.state is State.CLOSED
        waiting = self.tokens - {token for token, settles in self.settled.items() if settles}
        assert not waiting, f"never settled: {waiting}"
