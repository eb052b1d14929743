"""The supervisor at random: invariants that hold whatever happens.

The venue answers late, partly, oddly or not at all; connections drop; callers come and go.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
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
from support.rig import INF, LOGIN, TRANSITIONS, Plain, Rig
from wsclient.dialect.values import Limits
from wsclient.errors import ConfigurationError, NotConnected, QueueOverflow, WSClientError
from wsclient.messages import SubscriptionState
from wsclient.sansio.actions import (
    Forget,
    Send,
)
from wsclient.sansio.connection import Connection
from wsclient.sansio.life import State
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import (
    Ack,
    Ended,
    Heartbeat,
    LoginAccepted,
    LoginRefused,
    Rejection,
    Reply,
    SubscribedChannels,
)
from wsclient.verdicts import Verdict

ACTIVE = SubscriptionState.ACTIVE
UNSUBSCRIBING = SubscriptionState.UNSUBSCRIBING
RISING = (State.IDLE, State.CONNECTING, State.AUTHENTICATING, State.BACKING_OFF)
CHANNELS = ("a", "b", "c", "d")
ACK_TIMEOUT = 5.0
WITH_IDS = ("id", "text", "whole")

#: Rarely true; not for zero, which hypothesis prefers.
seldom = st.integers(0, 99).map(lambda n: n == 37)
some_channels = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3)
timeouts = st.sampled_from([INF, INF, 1.0, 8.0])


class Venue:
    """The venue's state of one connection.

    It executes requests in order; whether it also answers them is decided separately.
    """

    def __init__(self, answers: str) -> None:
        self.answers = answers
        self.subscribed: set[str] = set()
        self.unread: deque[dict[str, Any]] = deque()

    def take(
        self, refuse: frozenset[str] = frozenset()
    ) -> list[Ack | Rejection | SubscribedChannels]:
        """Execute the oldest request; return the answers that it requires."""
        request = self.unread.popleft()
        answers: list[Ack | Rejection | SubscribedChannels] = []
        for channel in request["channels"]:
            name = self.names(request["id"], channel)
            if request["op"] == "subscribe" and channel in refuse:
                answers.append(Rejection("no", **name))
            elif request["op"] == "unsubscribe" and channel not in self.subscribed:
                answers.append(Rejection("not subscribed", **name))
            else:
                change = self.subscribed.add if request["op"] == "subscribe" else None
                (change or self.subscribed.discard)(channel)
                answers.append(Ack(**name))
        if self.answers == "whole" and all(isinstance(a, Ack) for a in answers):
            return [Ack(request_id=request["id"])]
        if self.answers == "cumulative":
            refusals = [a for a in answers if isinstance(a, Rejection)]
            return [*refusals, SubscribedChannels(sorted(self.subscribed))]
        return answers

    def names(self, request_id: int, channel: str) -> dict[str, Any]:
        return {
            "text": {"request_id": str(request_id), "channel": channel},
            "channel": {"channel": channel},
        }.get(self.answers, {"request_id": request_id, "channel": channel})


class SupervisorMachine(RuleBasedStateMachine):
    """A state machine: each rule is one event; the invariants are the client's promises."""

    answers = "id"
    forgotten = 0

    @initialize(
        batch=st.sampled_from([1, 3]),
        rate=st.sampled_from([None, None, 2.0]),
        limit=st.sampled_from([None, None, 3]),
        stale_after=st.sampled_from([None, None, 20.0]),
        max_reconnects=st.sampled_from([None, None, None, 4]),
        is_open=st.sampled_from([True, True, False]),
    )
    def make(
        self,
        batch: int,
        rate: float | None,
        limit: int | None,
        stale_after: float | None,
        max_reconnects: int | None,
        is_open: bool,
    ) -> None:
        # Where channels are limited, so are connections: further channels are refused. A model of
        # several connections is in test_fleet_random.py.
        connections = None if limit is None else 1
        limits = Limits(batch, rate, limit, connects=(30, 60.0), connections=connections)
        self.rig = Rig(
            Plain(limits),
            ack_timeout=ACK_TIMEOUT,
            connect_timeout=5.0,
            stale_after=stale_after,
            max_reconnects=max_reconnects,
        )
        self.supervisor = self.rig.supervisor
        self.venue = Venue(self.answers)
        self.read = 0
        self.venue_cid = 0
        self.tokens = 0
        self.requests: list[int] = []
        #: Wanted channels that the venue has confirmed, on this connection or an earlier one.
        self.confirmed: set[str] = set()
        #: Channels whose next message must carry a gap, or prove that nothing was missed.
        self.owed: set[str] = set()
        self.drops = 0
        #: The venue's number of each channel; it continues across reconnects.
        self.counts = dict.fromkeys(CHANNELS, 0)
        if is_open:
            self.rig.open()

    # Helpers.

    def token(self, what: str) -> str:
        self.tokens += 1
        return f"{what} {self.tokens}"

    @property
    def is_connected(self) -> bool:
        return self.rig.state in (State.AUTHENTICATING, State.OPEN)

    @property
    def is_open(self) -> bool:
        return self.rig.state is State.OPEN

    def attempt(self, call: Any) -> None:
        """Make a call that may be refused only because of the client's state."""
        try:
            call()
        except NotConnected:
            assert self.rig.state is State.IDLE or not self.is_open
        except ConfigurationError:
            pass  # other options
        except WSClientError:
            assert self.rig.state in (State.FAILED, State.CLOSING, State.CLOSED)

    def hear(self) -> None:
        """Return the venue's state of the connection; a new connection starts empty."""
        sends = [a for a in self.rig.done(Send) if a.connection_id == self.rig.cid]
        if self.venue_cid != self.rig.cid:
            self.venue, self.venue_cid, self.read = Venue(self.answers), self.rig.cid, 0
        for send in sends[self.read :]:
            message = json.loads(send.payload)
            if "channels" in message:
                assert message["channels"], "a message without channels"
                self.venue.unread.append(message)
        self.read = len(sends)

    def receive(self, *entries: Any) -> None:
        """Check that no entry but data delivers anything, except the end of a confirmed channel."""
        for message in self.rig.receive(*entries):
            assert message.type == "lost"
            assert message.gap is not None
            assert message.gap.reason == "rejected"
            assert message.channel in self.confirmed
        self.note()

    @invariant()
    def note(self) -> None:
        forgotten = self.rig.done(Forget) if hasattr(self, "rig") else []
        for action in forgotten[self.forgotten :]:  # even if it is wanted again now
            self.confirmed.discard(action.channel)
            self.owed.discard(action.channel)
        self.forgotten = len(forgotten)
        for channel in CHANNELS if hasattr(self, "rig") else ():
            state = self.supervisor.wanted.state(channel)
            if state is ACTIVE:
                self.confirmed.add(channel)
            elif state is None:
                self.confirmed.discard(channel)
                self.owed.discard(channel)
        if hasattr(self, "rig") and self.supervisor.counters.disconnects > self.drops:
            self.drops = self.supervisor.counters.disconnects
            self.owed |= self.confirmed

    # The connection.

    @rule(timeout=timeouts)
    def connect(self, timeout: float) -> None:
        self.attempt(lambda: self.rig.connect(self.token("connect"), timeout))

    @precondition(lambda self: self.rig.state in RISING)
    @rule()
    def cancel_connect(self) -> None:
        self.rig.cancel_connect(f"connect {self.tokens}")

    @precondition(lambda self: self.rig.state is State.CONNECTING)
    @rule(login=st.sampled_from([None, None, LOGIN]))
    def opened(self, login: Any) -> None:
        self.rig.opened(login)

    @precondition(lambda self: self.rig.state is State.AUTHENTICATING)
    @rule(refused=seldom)
    def login(self, refused: bool) -> None:
        self.receive(LoginRefused("no") if refused else LoginAccepted())

    @precondition(lambda self: self.rig.state in RISING)
    @rule()
    def open(self) -> None:
        """Open a connection at once, so that the other rules have an effect."""
        if self.rig.state is State.BACKING_OFF:
            self.rig.wait(self.rig.deadline() - self.rig.now)
        if self.rig.state in (State.IDLE, State.CONNECTING, State.AUTHENTICATING):
            self.rig.open()

    @precondition(lambda self: self.rig.state not in (State.IDLE, State.CLOSED))
    @rule(fatal=seldom, verdict=st.sampled_from([Verdict.RETRY, Verdict.RATE_LIMITED]))
    def ended(self, fatal: bool, verdict: Verdict) -> None:
        before = self.rig.wanted()
        self.rig.drop(verdict=Verdict.FATAL if fatal else verdict)
        if self.rig.state is State.BACKING_OFF:
            after = [channel for channel, _, _ in self.rig.wanted()]
            assert after == [channel for channel, _, _ in before if channel in after]
            leaving = {channel for channel, state, _ in before if state is UNSUBSCRIBING}
            # A channel never confirmed is removed when its call ends, after two failed connections.
            assert self.confirmed <= {*after, *leaving}
        assert all(not self.supervisor.wanted.is_active(channel) for channel in CHANNELS)

    @rule(verdict=st.sampled_from(Verdict))
    def another_ended(self, verdict: Verdict) -> None:
        state = self.rig.state
        self.supervisor.ended(self.rig.cid - 1, OSError(), verdict, self.rig.now)
        self.supervisor.opened(self.rig.cid + 1, None, self.rig.now)
        assert self.rig.received(self.rig.cid - 1, [LoginRefused("")], self.rig.now) == []
        assert self.rig.state is state

    # Callers.

    @rule(channels=some_channels, timeout=timeouts, depth=st.sampled_from([None, None, 10]))
    def subscribe(self, channels: list[str], timeout: float, depth: int | None) -> None:
        options = {} if depth is None else {"depth": depth}
        token = self.token("subscribe")
        self.attempt(lambda: self.rig.subscribe(*channels, token=token, timeout=timeout, **options))

    @rule(channels=some_channels, timeout=timeouts)
    def unsubscribe(self, channels: list[str], timeout: float) -> None:
        self.owed -= set(channels)
        token = self.token("unsubscribe")
        self.attempt(lambda: self.rig.unsubscribe(*channels, token=token, timeout=timeout))

    @rule(timeout=timeouts)
    def request(self, timeout: float) -> None:
        token = self.token("request")
        self.attempt(lambda: self.requests.append(self.rig.request(token, timeout)))

    # The venue.

    @precondition(lambda self: self.is_open)
    @rule(
        refuse=st.frozensets(st.sampled_from(CHANNELS), max_size=1),
        answer=st.sampled_from([True, True, True, False]),
    )
    def take(self, refuse: frozenset[str], answer: bool) -> None:
        """The venue executes the oldest request, with or without an answer.

        It always answers with a refusal.
        """
        self.hear()
        answer = answer or self.answers not in WITH_IDS
        if self.venue.unread:
            answers = self.venue.take(refuse if answer else frozenset())
            if answer:
                self.receive(*answers)

    @precondition(lambda self: self.is_open)
    @rule()
    def take_all(self) -> None:
        """The venue executes and answers all requests."""
        self.hear()
        while self.is_open and self.venue.unread:
            self.receive(*self.venue.take())
            self.hear()

    @precondition(lambda self: self.is_open)
    @rule(channel=st.sampled_from(CHANNELS), how=st.sampled_from(["ack", "error", "item"]))
    def end(self, channel: str, how: str) -> None:
        """The venue ends a channel without an unsubscribe, and reports it."""
        self.hear()
        if channel not in self.venue.subscribed or self.venue.unread:
            return
        self.venue.subscribed.discard(channel)
        if self.supervisor.wanted.state(channel) is ACTIVE:
            self.owed.add(channel)
        if self.answers == "cumulative":
            self.receive(SubscribedChannels(sorted(self.venue.subscribed)))
        elif how == "ack":
            self.receive(Ack(channel=channel, verb="unsubscribe"))
        elif how == "error":
            self.receive(Rejection("delisted", channel=channel))
        else:
            self.receive(Ended("too many", channel=channel))

    @precondition(lambda self: self.is_open)
    @rule(channel=st.sampled_from(CHANNELS), skipped=st.sampled_from([0, 0, 0, 1, 5]))
    def data(self, channel: str, skipped: int) -> None:
        """Receive a numbered message: it marks all numbers skipped on or between connections."""
        self.counts[channel] += 1 + skipped
        number = self.counts[channel]
        known = self.supervisor.upkeep.channels.by_name.get(channel)
        last = None if known is None else known.last
        (message,) = self.rig.receive(self.rig.message(channel, number))
        if last is None:
            assert message.gap is not None or channel not in self.owed
        elif number == last + 1:
            assert message.gap is None
        else:
            assert message.gap is not None
            assert message.gap.missed == number - last - 1
        self.owed.discard(channel)

    @precondition(lambda self: self.is_open)
    @rule(channel=st.sampled_from(CHANNELS))
    def data_without_a_number(self, channel: str) -> None:
        """Receive a message without a number: the first one after a drop carries the gap."""
        (message,) = self.rig.receive(self.rig.message(channel))
        if channel in self.owed:
            assert message.gap is not None
            assert message.gap.reason == "reconnect"
        self.owed.discard(channel)

    # The dialect, which is called without the lock: anything may happen before its answer.

    @rule(is_slow=st.booleans())
    def pace(self, is_slow: bool) -> None:
        self.rig.holds = is_slow
        self.rig.tick()

    @rule()
    def answer(self) -> None:
        self.rig.consult()
        self.rig.tick()

    @precondition(lambda self: self.is_open)
    @rule()
    def unreadable(self) -> None:
        self.receive(Invalid("rubbish"))
        for known in self.supervisor.upkeep.channels.by_name.values():
            assert known.pending is not None

    @precondition(lambda self: self.is_open)
    @rule()
    def reply(self) -> None:
        if self.requests:
            self.receive(Reply(self.requests.pop(), {}), Heartbeat())

    # Time.

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.be_punctual()
        self.rig.wait(seconds)

    @rule(seconds=st.sampled_from([2.0, 600.0]))
    def sleep(self, seconds: float) -> None:
        self.be_punctual()
        self.rig.sleep(seconds)

    def be_punctual(self) -> None:
        """Let time pass.

        Without ids an answer after its deadline looks like an answer to the next request, so venues
        without ids answer in time.
        """
        if self.is_open and self.answers not in WITH_IDS:
            self.take_all()

    # The end.

    @rule(now=seldom)
    def fail(self, now: bool) -> None:
        if now:
            self.supervisor.fail(QueueOverflow("full"))
            self.rig.tick()

    @rule(now=seldom)
    def close(self, now: bool) -> None:
        if now:
            self.supervisor.close(self.rig.now, 1.0)
            self.rig.tick()

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return
        self.settle()
        self.rig.close()  # each token is settled, and none twice
        assert all(after in TRANSITIONS[before] for before, after in self.rig.path())

    def settle(self) -> None:
        """At the end the venue is subscribed to exactly the wanted channels.

        Before that it has answered all requests, and unanswered ones have expired.
        """
        self.rig.holds = False
        self.rig.tick()
        for _ in range(200):
            self.hear()
            if self.is_open:
                self.take_all()
            if not self.is_open:
                return
            is_done = self.supervisor.wanted.all_confirmed and self.quiet
            if is_done and not any(c.asked.requests.unsent.first(1) for c in self.connections):
                break
            self.rig.wait(min(ACK_TIMEOUT, max(0.0, self.rig.deadline() - self.rig.now)))
        wanted = self.rig.wanted()
        assert {channel for channel, _, _ in wanted} == self.venue.subscribed
        assert {state for _, state, _ in wanted} <= {ACTIVE}

    @property
    def quiet(self) -> bool:
        waiting = [c.asked.requests.deadline() for c in self.connections]
        return min(self.supervisor.wanted.calls.deadline(), *waiting) == INF

    @property
    def connections(self) -> list[Connection]:
        return list(self.supervisor.connections)

    # What always holds.

    @invariant()
    def there_is_one_connection_at_most(self) -> None:
        """The model knows one: what others carry, it would misjudge."""
        if hasattr(self, "rig"):
            assert len(self.rig.ids()) <= 1

    @invariant()
    def nothing_is_active_without_a_connection(self) -> None:
        if hasattr(self, "rig") and not self.is_open:
            for channel, state, _ in self.rig.wanted():
                assert state is not ACTIVE or self.rig.state is State.CLOSING, channel

    @invariant()
    def only_what_is_wanted_is_without_data(self) -> None:
        if hasattr(self, "rig"):
            wanted = {channel for channel, _, _ in self.rig.wanted()}
            assert wanted.issuperset(self.supervisor.upkeep.first_messages.overdue())

    @invariant()
    def nobody_waits_where_nothing_comes(self) -> None:
        """In IDLE, FAILED and CLOSED no caller waits."""
        if hasattr(self, "rig") and self.rig.state in (State.IDLE, State.FAILED, State.CLOSED):
            self.rig.collect()
            assert all(self.rig.settled[token] for token in self.rig.tokens)


@pytest.mark.parametrize("answers", [*WITH_IDS, "channel", "cumulative"])
def test_whatever_happens(answers: str) -> None:
    """For each way in which venues answer."""
    machine = type("Machine", (SupervisorMachine,), {"answers": answers})
    run_state_machine_as_test(
        machine,
        settings=settings(
            examples(125),
            stateful_step_count=50,
            suppress_health_check=list(HealthCheck),
            # A failure takes minutes to shrink: the timeout would hide it.
            phases=[Phase.generate],
        ),
    )


@pytest.mark.parametrize("answers", ["id", "channel"])
@examples(300)
@given(
    st.lists(
        st.sampled_from(
            [
                "refresh",
                "done",
                "done",
                "unanswered",
                "refused",
                "ended",
                "due",
                "due",
                "wait",
                "drop",
            ]
        ),
        max_size=25,
    )
)
def test_data_sent_while_a_channel_was_not_subscribed_is_marked_as_missed(
    answers: str, steps: list[str]
) -> None:
    """The cause may be a refresh, an end that the venue does not report, or a drop."""
    rig = Rig(Plain(), ack_timeout=ACK_TIMEOUT, max_reconnects=None).active("a")
    venue, read, cid = Venue(answers), len(rig.sent()), rig.cid
    venue.subscribed.add("a")
    is_owed = False
    for step in steps:
        if rig.supervisor.wanted.state("a") is None:
            return  # lost, and reported
        if rig.state is not State.OPEN:
            rig.open()
            is_owed = True
        if cid != rig.cid:
            venue, read, cid = Venue(answers), 0, rig.cid
        venue.unread += rig.sent()[read:]
        read = len(rig.sent())
        if step == "refresh" and rig.supervisor.wanted.state("a") is ACTIVE:
            rig.connection.asked.refresh("a")
            rig.tick()
        elif step == "ended":
            venue.subscribed.discard("a")
        elif step == "wait" and answers == "id":
            rig.wait(ACK_TIMEOUT)
        elif step == "drop":
            rig.drop()
        elif step in ("done", "refused") and venue.unread:
            rig.receive(*venue.take(frozenset("a") if step == "refused" else frozenset()))
        elif step == "unanswered" and venue.unread and answers == "id":
            # Data of an unanswered subscribe looks like data from before it.
            if venue.unread[0]["op"] == "unsubscribe":
                venue.take()
        elif step == "due" and "a" not in venue.subscribed:
            is_owed = True
        elif step == "due":
            (message,) = rig.receive(rig.message("a"))
            assert message.gap is not None or not is_owed
            is_owed = False
