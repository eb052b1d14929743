"""Several connections at random: rotations, shards and routes lose and double nothing unmarked.

The model is a venue with a journal of each channel. Each of its connections brings the same
messages, when it likes, and may be cut at any time with all that it has not brought.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.examples import examples
from support.rig import Rig, Routed
from wsclient.dialect.values import Limits
from wsclient.errors import ConnectionLost, HandshakeRejected
from wsclient.messages import LinkedMessage, Message, SubscriptionState
from wsclient.sansio.actions import Forget, Hangup
from wsclient.sansio.connection import Stage
from wsclient.sansio.life import State
from wsclient.stream.items import Ack, Ended, Ending, Rejection
from wsclient.stream.matching import LAG
from wsclient.verdicts import Verdict

ACTIVE = SubscriptionState.ACTIVE
UNSUBSCRIBING = SubscriptionState.UNSUBSCRIBING
ROUTES = ("spot", "linear")
#: The venue's names: with numbers, with pointers to the message before, and without either.
NAMES = ("n1", "n2", "p1", "u1", "u2")
CHANNELS = tuple(f"{route}:{name}" for route in ROUTES for name in NAMES)
ROOM = 3

some_channels = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=4, unique=True)
which = st.integers(0, 7)
seldom = st.integers(0, 19).map(lambda n: n == 13)


class Line:
    """The venue's side of one connection."""

    def __init__(self, cid: int, route: str) -> None:
        self.cid = cid
        self.route = route
        self.is_open = False
        self.subscribed: set[str] = set()
        #: Requests that are not executed, and how many messages of the client were read.
        self.requests: deque[dict[str, Any]] = deque()
        self.read = 0
        #: What is under way to the client: answers, and (name, number) of data.
        self.queue: deque[Any] = deque()


class FleetMachine(RuleBasedStateMachine):
    """A state machine: each rule is one event; what is delivered is compared with the journal."""

    kills = True
    acknowledges = True

    @initialize(
        max_age=st.sampled_from([None, 200.0]),
        connections=st.sampled_from([None, None, 6]),
        channels=some_channels,
    )
    def make(self, max_age: float | None, connections: int | None, channels: list[str]) -> None:
        limits = Limits(
            2, None, ROOM, connects=(1000, 1.0), max_age=max_age, connections=connections
        )
        dialect = Routed(limits, acknowledges=self.acknowledges)
        patience = 1e6 if self.acknowledges else 20.0
        self.rig = Rig(dialect, random=0.5, ack_timeout=patience, connect_timeout=1e6)
        self.lines: dict[int, Line] = {}
        self.journal: Counter[str] = Counter()
        #: By channel: the number of the last message that was delivered.
        self.last: dict[str, int] = {}
        #: By channel: the numbers of all messages that the client has received.
        self.brought: dict[str, set[int]] = {}
        self.seen = self.forgotten = self.tokens = 0
        #: When nothing was under way.
        self.emptied_at = self.rig.now
        self.marks: Counter[str] = Counter()
        self.rig.supervisor.connect("connect", float("inf"), self.rig.now, "spot")
        self.rig.tokens.add("connect")
        self.rig.tick()
        self.subscribe(channels)
        self.look()
        for line in self.lines.values():
            self.serve(line)

    # Helpers.

    def token(self, what: str) -> str:
        self.tokens += 1
        return f"{what} {self.tokens}"

    def look(self) -> None:
        """Find the connections that there are, and what the client has sent."""
        for connection in self.rig.supervisor.connections:
            if connection.id not in self.lines:
                self.lines[connection.id] = Line(connection.id, connection.slot.key.route)
        ids = self.rig.ids()
        self.lines = {cid: line for cid, line in self.lines.items() if cid in ids}
        for line in self.lines.values():
            sent = self.rig.sent(line.cid)
            line.requests += [message for message in sent[line.read :] if "channels" in message]
            line.read = len(sent)

    def line(self, index: int) -> Line | None:
        self.look()
        lines = list(self.lines.values())
        return lines[index % len(lines)] if lines else None

    def open(self, line: Line) -> None:
        if not line.is_open and line.cid in self.rig.ids():
            line.is_open = True
            self.rig.opened(on=line.cid)
            self.look()

    def execute(self, line: Line, refuse: str | None = None, *, is_limit: bool = False) -> None:
        """Execute the oldest request; the answers follow what is under way already."""
        if not line.requests:
            return
        request = line.requests.popleft()
        if request["op"] == "unsubscribe" and not self.acknowledges:
            self.deliver(line)  # nothing tells what came before from what follows
            for name in request["channels"]:
                self.last.pop(f"{line.route}:{name}", None)
        for name in request["channels"]:
            known = {"request_id": request["id"], "channel": name}
            if request["op"] == "subscribe" and name == refuse:
                line.queue.append(Rejection("no", is_limit=is_limit, **known))
            elif request["op"] == "subscribe":
                line.subscribed.add(name)
                line.queue += [Ack(**known)] if self.acknowledges else []
            elif name in line.subscribed:
                line.subscribed.discard(name)
                line.queue += [Ack(**known)] if self.acknowledges else []
            elif self.acknowledges:
                line.queue.append(Rejection("not subscribed", **known))

    def deliver(self, line: Line, most: int = 1000) -> None:
        """Let the client receive what is under way, in one read."""
        entries = []
        while line.queue and len(entries) < most:
            item = line.queue.popleft()
            if isinstance(item, tuple):
                self.brought.setdefault(f"{line.route}:{item[0]}", set()).add(item[1])
                item = self.message(line, *item)
            entries.append(item)
        if entries and line.cid in self.rig.ids():
            self.rig.receive(*entries, on=line.cid)
        self.check()

    def message(self, line: Line, name: str, number: int) -> Message:
        if name.startswith("n"):
            return self.rig.message(name, number, on=line.cid)
        if name.startswith("u"):
            return self.rig.message(name, text=str(number), on=line.cid)
        plain = self.rig.message(name, 10 * number, on=line.cid)
        return LinkedMessage(
            name,
            "update",
            10 * number,
            raw=plain.raw,
            arrival=plain.arrival,
            follows=10 * (number - 1),
            is_counted=False,
        )

    def serve(self, line: Line) -> None:
        """Do for a connection all that waits."""
        self.open(line)
        while line.requests:
            self.execute(line)
        self.deliver(line)
        self.look()

    # What is delivered.

    @invariant()
    def check(self) -> None:
        if not hasattr(self, "rig"):
            return
        self.rig.collect()
        for message in self.rig.delivered[self.seen :]:
            self.check_one(message)
        self.seen = len(self.rig.delivered)
        forgotten = self.rig.done(Forget)
        for action in forgotten[self.forgotten :]:
            self.last.pop(action.channel, None)
        self.forgotten = len(forgotten)

    def check_one(self, message: Message) -> None:
        channel, gap = message.channel, message.gap
        if channel not in self.rig.supervisor.wanted or message.type == "lost":
            self.last.pop(channel, None)
            return
        number, last = self.number(message), self.last.get(channel)
        self.last[channel] = number
        self.marks[channel] += gap is not None
        if last is None:
            return
        if gap is None:
            assert number == last + 1, f"{channel}: {number} follows {last} without a mark"
        elif ":u" not in channel:
            assert number > last, f"{channel}: {number} follows {last}"
            lacking = set(range(last + 1, number)) - self.brought[channel]
            assert lacking, f"{channel}: {gap} between {last} and {number}, which all came"

    def number(self, message: Message) -> int:
        content = json.loads(message.raw)
        number = int(content["n"] if "text" not in content else content["text"])
        return number // 10 if ":p" in message.channel else number

    # The venue.

    @rule(index=which)
    def opens(self, index: int) -> None:
        if line := self.line(index):
            self.open(line)

    @rule(
        index=which,
        refuse=st.sampled_from([None, None, None, *NAMES]),
        is_limit=st.booleans(),
    )
    def executes(self, index: int, refuse: str | None, is_limit: bool) -> None:
        line = self.line(index)
        if line and line.is_open:
            self.execute(line, refuse, is_limit=is_limit)

    @rule(index=which)
    def serves(self, index: int) -> None:
        if line := self.line(index):
            self.serve(line)

    @rule(names=st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=6))
    def publishes(self, names: list[str]) -> None:
        self.look()
        for channel in names:
            route, _, name = channel.partition(":")
            self.journal[channel] += 1
            for line in self.lines.values():
                if line.route == route and name in line.subscribed:
                    line.queue.append((name, self.journal[channel]))

    @rule(index=which, most=st.sampled_from([1, 2, 5, 1000]))
    def brings(self, index: int, most: int) -> None:
        line = self.line(index)
        if line and line.is_open:
            self.deliver(line, most)

    @rule()
    def brings_all(self) -> None:
        self.look()
        for line in list(self.lines.values()):
            if line.is_open:
                self.deliver(line)

    @precondition(lambda self: self.acknowledges)
    @rule(index=which, name=st.sampled_from(NAMES))
    def ends_a_channel(self, index: int, name: str) -> None:
        line = self.line(index)
        if line and name in line.subscribed and not line.requests:
            line.subscribed.discard(name)
            line.queue.append(Ended("gone", channel=name))

    @rule(index=which, within=st.sampled_from([None, 5.0, 30.0]))
    def announces_the_end(self, index: int, within: float | None) -> None:
        line = self.line(index)
        if line and line.is_open:
            line.queue.append(Ending("upgrade", within))

    @rule(index=which)
    def closes(self, index: int) -> None:
        """The venue answers a close frame, after all that it has sent before."""
        line = self.line(index)
        asked = {hangup.connection_id for hangup in self.rig.done(Hangup)}
        if line and line.cid in asked:
            self.deliver(line)
            self.rig.drop(ConnectionLost("closed", 1000), on=line.cid)
            self.rig.tick()

    @precondition(lambda self: self.kills)
    @rule(index=which, verdict=st.sampled_from([Verdict.RETRY, Verdict.RATE_LIMITED]))
    def cuts(self, index: int, verdict: Verdict) -> None:
        if line := self.line(index):
            self.rig.drop(verdict=verdict, on=line.cid)
            self.rig.tick()

    @precondition(lambda self: self.kills)
    @rule(index=which, is_fatal=seldom)
    def refuses(self, index: int, is_fatal: bool) -> None:
        line = self.line(index)
        if line and not line.is_open:
            self.rig.drop(HandshakeRejected("no", 401 if is_fatal else 503), on=line.cid)
            self.rig.tick()

    # Callers.

    @precondition(lambda self: self.is_running)
    @rule(channels=some_channels)
    def subscribe(self, channels: list[str]) -> None:
        self.rig.subscribe(*channels, token=self.token("subscribe"))

    @precondition(lambda self: self.is_running and self.acknowledges)
    @rule(channels=some_channels)
    def unsubscribe(self, channels: list[str]) -> None:
        self.rig.unsubscribe(*channels, token=self.token("unsubscribe"))

    @precondition(lambda self: self.is_running)
    @rule()
    def rotate(self) -> None:
        self.rig.rotate(self.token("rotate"))

    @precondition(lambda self: self.is_running and self.acknowledges)
    @rule(channel=st.sampled_from(CHANNELS))
    def refresh(self, channel: str) -> None:
        if self.rig.supervisor.wanted.is_active(channel):
            self.rig.supervisor.upkeep.refreshes.want(channel, self.rig.now)
            self.rig.tick()
            self.rig.supervisor.upkeep.refreshes.done(channel)

    @rule(seconds=st.sampled_from([0.05, 1.0, 6.0, 40.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass. No message is under way for longer than the rules of overlap allow."""
        if self.rig.now + seconds > self.emptied_at + LAG / 2:
            self.brings_all()
            self.emptied_at = self.rig.now
        self.rig.wait(seconds)

    @rule(now=seldom)
    def close(self, now: bool) -> None:
        if now:
            self.rig.supervisor.close(self.rig.now, 1.0)
            self.rig.tick()

    @property
    def is_running(self) -> bool:
        return self.rig.state not in (State.FAILED, State.CLOSING, State.CLOSED)

    # What always holds.

    @invariant()
    def each_carrier_is_a_connection_and_two_are_merged(self) -> None:
        if not hasattr(self, "rig") or not self.is_running:
            return
        upkeep, ids = self.rig.supervisor.upkeep, set(self.rig.ids())
        for entry in self.rig.supervisor.wanted:
            assert ids.issuperset(entry.carriers), entry
            merge = upkeep.channels.overlaps.get(entry.channel)
            channel = upkeep.channels.get(entry.channel)
            assert (merge is not None) == (channel is not None and channel.is_merged), entry
            if merge is not None:
                assert ids.issuperset(merge.connections), entry
            if len(entry.carriers) > 1 and entry.state is not UNSUBSCRIBING:
                assert merge is not None, entry
                assert set(merge.connections).issuperset(entry.carriers), entry

    @invariant()
    def each_channel_has_one_slot_with_room(self) -> None:
        if not hasattr(self, "rig"):
            return
        fleet = self.rig.supervisor.fleet
        placed = [name for slot in fleet.slots.values() for name in slot.channels]
        assert len(placed) == len(set(placed))
        assert set(placed) <= {entry.channel for entry in fleet.wanted}
        for key, slot in fleet.slots.items():
            assert len(slot.channels) <= ROOM
            alive = [c for c in fleet.connections.of(key) if c.retired_at is None]
            assert len(alive) <= 2, key
            for name in slot.channels:
                entry = fleet.wanted.get(name)
                assert entry is not None
                assert entry.slot == key
        assert {c.slot.key for c in fleet.connections} <= set(fleet.slots)

    @invariant()
    def nobody_waits_where_nothing_comes(self) -> None:
        if hasattr(self, "rig") and self.rig.state in (State.FAILED, State.CLOSED):
            self.rig.collect()
            assert all(self.rig.settled[token] for token in self.rig.tokens)

    # The end.

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return
        if self.is_running:
            self.settle()
        self.rig.close()

    def settle(self) -> None:
        """At the end all is as callers want it, on one connection of each slot."""
        for _ in range(200):
            self.look()
            for line in list(self.lines.values()):
                self.serve(line)
            if not self.acknowledges:  # data confirms
                self.publishes([entry.channel for entry in self.rig.supervisor.wanted])
                self.brings_all()
            for index in range(len(self.lines)):
                self.closes(index)
            self.rig.wait(1.0)
            if not self.is_running:
                return
            if self.is_quiet():
                break
        else:
            raise AssertionError("it never comes to rest")
        self.look()
        wanted = [entry.channel for entry in self.rig.supervisor.wanted]
        assert all(entry.state is ACTIVE for entry in self.rig.supervisor.wanted)
        carried = [f"{line.route}:{n}" for line in self.lines.values() for n in line.subscribed]
        assert sorted(carried) == sorted(wanted)
        before = len(self.rig.delivered)
        self.publishes(wanted)
        self.brings_all()
        self.rig.wait(2.0)
        self.check()
        told = [message.channel for message in self.rig.delivered[before:]]
        assert sorted(told) == sorted(wanted)

    def is_quiet(self) -> bool:
        fleet = self.rig.supervisor.fleet
        is_done = not any(
            line.requests or line.queue or not line.is_open for line in self.lines.values()
        )
        per_slot = [len(fleet.connections.of(key)) for key in fleet.slots]
        return (
            is_done
            and all(count == 1 for count in per_slot)
            and fleet.wanted.all_confirmed
            and not any(e.state is UNSUBSCRIBING for e in fleet.wanted)
            and all(c.stage is Stage.OPEN for c in fleet.connections)
            and not any(c.asked.requests.are_open for c in fleet.connections)
        )


@pytest.mark.parametrize("kills", [False, True])
def test_whatever_happens_to_many_connections(kills: bool) -> None:
    machine = type("Machine", (FleetMachine,), {"kills": kills})
    run_state_machine_as_test(
        machine,
        settings=settings(
            examples(400),
            stateful_step_count=60,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
