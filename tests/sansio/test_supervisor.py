"""The supervisor: each state with each event, then each rule by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.making import message
from support.rig import INF, LOGIN, TRANSITIONS, Plain, Rig
from wsclient.dialect.values import Limits
from wsclient.errors import (
    AuthenticationError,
    ClientClosed,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotConnected,
    OutcomeUnknown,
    QueueOverflow,
    ReconnectError,
    RequestRejected,
    SubscriptionRejected,
    SubscriptionTimeout,
    WaitTimeout,
    WSClientError,
)
from wsclient.events import Closed, Failing, Reconnecting, Unsubscribed
from wsclient.messages import Gap, SubscriptionState
from wsclient.sansio.actions import (
    Abort,
    Consult,
    Cut,
    Deliver,
    Dial,
    Fail,
    Forget,
    Hangup,
    Notify,
    Ping,
    Settle,
)
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.sansio.life import PHASES, Phase, State
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import (
    Ack,
    Counted,
    Heartbeat,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Respond,
    SubscribedChannels,
    Unhandled,
)
from wsclient.telemetry.rates import STEP
from wsclient.verdicts import Verdict

RETRY, RATE_LIMITED, FATAL = Verdict
IDLE, CONNECTING, AUTHENTICATING, OPEN, BACKING_OFF, FAILED, CLOSING, CLOSED = State

# --- Each state with each event ------------------------------------------------------------------
#
# A situation is a state and how it was reached: before connect() first succeeds a failure ends in
# IDLE, afterwards the client reconnects by itself. In each situation callers wait for a channel,
# for a reply, and in connect() if that can wait there.

SLOW = {"connect_timeout": 1000.0, "ack_timeout": 1000.0}


def first_connecting() -> Rig:
    rig = Rig(**SLOW)
    rig.connect("waiting")
    rig.subscribe("wanted")
    return rig


def first_authenticating() -> Rig:
    rig = first_connecting()
    rig.opened(LOGIN)
    return rig


def first_backing_off() -> Rig:
    rig = first_connecting()
    rig.drop()
    return rig


def first_open() -> Rig:
    rig = first_connecting()
    rig.opened()
    rig.request()
    return rig


def again_backing_off() -> Rig:
    rig = first_open()
    rig.ack("wanted")
    rig.subscribe("wanted too")
    rig.drop()
    rig.connect("waiting again")
    return rig


def again_connecting() -> Rig:
    rig = again_backing_off()
    rig.wait(rig.deadline() - rig.now)
    return rig


def again_authenticating() -> Rig:
    rig = again_connecting()
    rig.opened(LOGIN)
    return rig


def again_open() -> Rig:
    rig = again_connecting()
    rig.opened()
    rig.request("second request")
    return rig


def failed() -> Rig:
    rig = first_open()
    rig.supervisor.fail(QueueOverflow("full"))
    return rig


def closing() -> Rig:
    rig = first_open()
    rig.supervisor.close(rig.now, 1.0)
    return rig


def closed() -> Rig:
    rig = first_open()
    rig.close()
    return rig


SITUATIONS: dict[str, tuple[State, Callable[[], Rig]]] = {
    "idle": (IDLE, Rig),
    "connecting": (CONNECTING, first_connecting),
    "authenticating": (AUTHENTICATING, first_authenticating),
    "open": (OPEN, first_open),
    "backing off": (BACKING_OFF, first_backing_off),
    "backing off again": (BACKING_OFF, again_backing_off),
    "connecting again": (CONNECTING, again_connecting),
    "authenticating again": (AUTHENTICATING, again_authenticating),
    "open again": (OPEN, again_open),
    "failed": (FAILED, failed),
    "closing": (CLOSING, closing),
    "closed": (CLOSED, closed),
}
FIRST_DIALS = ("connecting", "authenticating", "backing off")
DIALS = ("connecting", "connecting again")
LOGINS = ("authenticating", "authenticating again")
OPENS = ("open", "open again")
CONNECTIONS = (*DIALS, *LOGINS, *OPENS)
WAITS = ("backing off", "backing off again")
ALIVE = ("idle", *CONNECTIONS, *WAITS)
OVER = ("closing", "closed")

Expected = State | type[BaseException]


def all_of(*groups: tuple[tuple[str, ...] | str, Expected]) -> dict[str, Expected]:
    table: dict[str, Expected] = {}
    for names, expected in groups:
        table.update(dict.fromkeys((names,) if isinstance(names, str) else names, expected))
    return table


def receive(*entries: Any) -> Callable[[Rig], object]:
    return lambda rig: rig.receive(*entries)


def late(call: Callable[[Rig, int], object]) -> Callable[[Rig], object]:
    """Return the same event of a connection that is not the current one."""
    return lambda rig: [call(rig, cid) for cid in (rig.cid - 1, rig.cid + 1)]


def end(verdict: Verdict) -> Callable[[Rig], object]:
    return lambda rig: rig.drop(ConnectionLost("gone"), verdict)


def halt(rig: Rig) -> None:
    rig.wait(10.0, ConnectionView(rig.now, in_frame=True))


def next_deadline(rig: Rig) -> None:
    rig.wait(min(rig.deadline() - rig.now, 5000.0))
    if rig.emitted(Failing):  # that was the deadline of the report, which changes nothing
        rig.wait(min(rig.deadline() - rig.now, 5000.0))


GIVEN_UP = all_of(("failed", QueueOverflow), (OVER, ClientClosed))
UNSENDABLE = all_of(("idle", NotConnected), (DIALS, NotConnected), (LOGINS, NotConnected),
                    (WAITS, NotConnected)) | GIVEN_UP  # fmt: skip
LOST = all_of((CONNECTIONS, BACKING_OFF), ("closing", CLOSED))

#: The result of each event (a state or an exception) in the situations where it has one.
EVENTS: dict[str, tuple[Callable[[Rig], object], dict[str, Expected]]] = {
    "connect()": (
        lambda rig: rig.connect("another"),
        all_of(("idle", CONNECTING)) | GIVEN_UP,
    ),
    "the only connect() is given up": (
        lambda rig: (rig.cancel_connect("waiting"), rig.cancel_connect("waiting again")),
        all_of((FIRST_DIALS, IDLE)),
    ),
    "one of two connect()s is given up": (
        lambda rig: (rig.connect("another"), rig.cancel_connect("another")),
        all_of(("idle", IDLE)) | GIVEN_UP,
    ),
    "a connect() that does not wait is given up": (lambda rig: rig.cancel_connect("nobody"), {}),
    "subscribe()": (
        lambda rig: rig.subscribe("a", "b"),
        all_of(("idle", NotConnected)) | GIVEN_UP,
    ),
    "unsubscribe() of an unknown channel": (lambda rig: rig.unsubscribe("unknown"), GIVEN_UP),
    "unsubscribe()": (lambda rig: rig.unsubscribe("wanted"), GIVEN_UP),
    "a request": (lambda rig: rig.request("another"), UNSENDABLE),
    "a message is to be sent": (lambda rig: rig.supervisor.open_connection(), UNSENDABLE),
    "the caller leaves a request": (lambda rig: rig.cancel_request(10**6), {}),
    "close()": (
        lambda rig: rig.supervisor.close(rig.now, 1.0),
        dict.fromkeys(SITUATIONS, CLOSED) | all_of((OPENS, CLOSING), ("closing", CLOSING)),
    ),
    "close(), twice": (
        lambda rig: [rig.supervisor.close(rig.now, 1.0) for _ in range(2)],
        dict.fromkeys(SITUATIONS, CLOSED) | all_of((OPENS, CLOSING), ("closing", CLOSING)),
    ),
    "a fatal error from outside": (
        lambda rig: rig.supervisor.fail(WSClientError("bug")),
        all_of((ALIVE, FAILED)),
    ),
    "opened": (lambda rig: rig.opened(), all_of((DIALS, OPEN))),
    "opened, and a login is due": (
        lambda rig: rig.opened(LOGIN),
        all_of((DIALS, AUTHENTICATING)),
    ),
    "another connection opened": (
        late(lambda rig, cid: rig.supervisor.opened(cid, None, rig.now)),
        {},
    ),
    "ended": (end(RETRY), LOST),
    "ended, rate-limited": (end(RATE_LIMITED), LOST),
    "ended for good": (end(FATAL), all_of((CONNECTIONS, FAILED), ("closing", CLOSED))),
    "another connection ended": (
        late(lambda rig, cid: rig.supervisor.ended(cid, OSError(), RETRY, rig.now)),
        {},
    ),
    "another connection ended for good": (
        late(lambda rig, cid: rig.supervisor.ended(cid, OSError(), FATAL, rig.now)),
        {},
    ),
    "data": (lambda rig: rig.data("wanted"), {}),
    "data of an unknown channel": (lambda rig: rig.data("unknown"), {}),
    "a read without entries": (receive(), {}),
    "an answer": (receive(Ack(channel="wanted")), {}),
    "an answer to no request": (receive(Ack(request_id=10**6)), {}),
    "an answer without a name": (receive(Ack()), {}),
    "a cumulative answer": (receive(SubscribedChannels(["wanted"])), {}),
    "a refusal": (receive(Rejection("no", channel="wanted")), {}),
    "a refusal of no request": (receive(Rejection("no", request_id=10**6)), {}),
    "the login is accepted": (receive(LoginAccepted()), all_of((LOGINS, OPEN))),
    "the login is refused": (receive(LoginRefused("who?")), all_of((LOGINS, FAILED))),
    "another connection's login is accepted": (
        late(lambda rig, cid: rig.received(cid, [LoginAccepted()], rig.now)),
        {},
    ),
    "another connection's login is refused": (
        late(lambda rig, cid: rig.received(cid, [LoginRefused("who?")], rig.now)),
        {},
    ),
    "a heartbeat": (receive(Heartbeat()), {}),
    "a heartbeat to be answered": (receive(Respond({"op": "pong"})), {}),
    "a notice": (receive(Notice("maintenance")), {}),
    "a reply": (receive(Reply("3", {})), {}),
    "a reply to no request": (receive(Reply(10**6, {})), {}),
    "an unknown type": (receive(Unhandled("odd")), {}),
    "an unreadable frame": (receive(Invalid("not JSON")), {}),
    "a refused message": (receive(Invalid("refused", message("wanted", sequence=7))), {}),
    "a pong": (lambda rig: rig.pong(rig.cid), {}),
    "a ping": (lambda rig: rig.control(rig.cid, rig.now), {}),
    "another connection's pong": (late(lambda rig, cid: rig.pong(cid)), {}),
    "another connection's ping": (late(lambda rig, cid: rig.control(cid, rig.now)), {}),
    "a tick": (lambda rig: rig.tick(), {}),
    "a tick that sees no connection": (lambda rig: rig.supervisor.tick(rig.now, {}), {}),
    "the next deadline": (
        next_deadline,
        all_of(
            (DIALS, BACKING_OFF),
            (LOGINS, BACKING_OFF),
            (WAITS, CONNECTING),
            ("closing", CLOSED),
        ),
    ),
    "a frame that stops half way": (
        halt,
        all_of((LOGINS, BACKING_OFF), (OPENS, BACKING_OFF), (WAITS, CONNECTING),
               ("closing", CLOSED)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
def test_event(event: str) -> None:
    """In each situation the event has the result in the table, by legal transitions only.

    Then close() ends the client, and each caller has been woken exactly once.
    """
    happen, table = EVENTS[event]
    for situation, (before, make) in SITUATIONS.items():
        rig = make()
        assert rig.state is before, situation

        expected = table.get(situation, before)
        if isinstance(expected, State):
            happen(rig)
            assert rig.state is expected, situation
        else:
            with pytest.raises(expected):
                happen(rig)
            assert rig.state is before, situation

        rig.close()
        assert all(new in TRANSITIONS[old] for old, new in rig.path()), situation


def test_closed_is_for_good() -> None:
    assert not any(phase is Phase.CLOSED for phase, _ in PHASES)


# --- connect() -----------------------------------------------------------------------------------


def test_connect_returns_when_the_connection_is_open() -> None:
    rig = Rig()
    rig.connect()
    assert rig.outcome("connect") == "waiting"
    rig.opened()
    assert rig.outcome("connect") is None


def test_connect_on_an_open_connection_returns_at_once() -> None:
    rig = Rig().open()
    rig.connect("again")
    assert rig.outcome("again") is None
    assert len(rig.done(Dial)) == 1


def test_all_callers_of_connect_share_one_attempt() -> None:
    rig = Rig()
    rig.connect("one")
    rig.connect("two")
    rig.opened()
    assert (rig.outcome("one"), rig.outcome("two")) == (None, None)
    assert rig.done(Dial) == [Dial(1)]


def test_connect_makes_max_retries_attempts_in_all() -> None:
    rig = Rig(max_retries=3)
    rig.connect()
    for attempt in (1, 2, 3):
        assert rig.done(Dial)[-1] == Dial(attempt)
        assert rig.outcome("connect") == "waiting"
        rig.drop(OSError("refused"))
        rig.wait(0 if attempt == 3 else rig.deadline() - rig.now)
    assert rig.state is IDLE
    error = rig.outcome("connect")
    assert isinstance(error, ConnectError)
    assert error.attempts == 3


def test_the_cause_of_a_connect_error_is_the_last_failure() -> None:
    rig = Rig(max_retries=1)
    rig.connect()
    refused = OSError("refused")
    rig.drop(refused)
    error = rig.outcome("connect")
    assert isinstance(error, ConnectError)
    assert error.__cause__ is refused


def test_each_waiting_caller_gets_its_own_exception() -> None:
    """Tracebacks must not pile up on a shared exception."""
    rig = Rig(max_retries=1)
    rig.connect("one")
    rig.connect("two")
    rig.drop()
    assert isinstance(rig.outcome("one"), ConnectError)
    assert rig.outcome("one") is not rig.outcome("two")


def test_after_a_connect_error_connect_may_be_called_again() -> None:
    rig = Rig(max_retries=1)
    rig.connect("first")
    rig.drop()
    rig.connect("second")
    rig.opened()
    assert rig.outcome("second") is None


def test_a_second_connect_has_all_its_attempts_and_the_shortest_delay() -> None:
    rig = Rig(max_retries=2)
    for token in ("first", "second"):
        rig.connect(token)
        rig.drop()
        assert rig.deadline() == rig.now + 1.0
        rig.wait(1.0)
        rig.drop()
        assert isinstance(rig.outcome(token), ConnectError)


def test_a_connect_that_times_out_ends_in_idle_and_cuts_the_attempt() -> None:
    rig = Rig()
    rig.connect(timeout=5.0)
    rig.wait(4.999)
    assert rig.outcome("connect") == "waiting"
    rig.wait(0.001)
    assert isinstance(rig.outcome("connect"), ConnectTimeout)
    assert rig.done(Abort) == [Abort(1)]
    assert rig.state is IDLE


def test_a_connect_that_times_out_does_not_affect_another_caller() -> None:
    rig = Rig()
    rig.connect("hasty", timeout=1.0)
    rig.connect("patient")
    rig.wait(1.0)
    assert isinstance(rig.outcome("hasty"), ConnectTimeout)
    assert rig.state is CONNECTING
    rig.opened()
    assert rig.outcome("patient") is None


def test_a_connect_that_times_out_during_a_reconnect_does_not_stop_it() -> None:
    rig = Rig().open()
    rig.drop(verdict=RATE_LIMITED)
    rig.connect("hasty", timeout=0.5)
    rig.wait(0.5)
    assert isinstance(rig.outcome("hasty"), ConnectTimeout)
    assert rig.state is BACKING_OFF


def test_a_connect_that_is_given_up_cuts_its_attempt() -> None:
    rig = Rig()
    rig.connect()
    rig.cancel_connect()
    assert rig.done(Abort) == [Abort(1)]


def test_a_connect_given_up_between_attempts_has_nothing_to_cut() -> None:
    rig = Rig()
    rig.connect()
    rig.drop()
    rig.cancel_connect()
    assert rig.done(Abort) == []
    rig.wait(1000.0)
    assert rig.done(Dial) == [Dial(1)]


@pytest.mark.parametrize("end", ["given up", "out of attempts", "out of time"])
def test_a_waiting_subscribe_fails_when_connect_fails(end: str) -> None:
    """In IDLE nothing else would wake it."""
    rig = Rig(max_retries=1)
    rig.connect(timeout=5.0)
    call = rig.subscribe("a")
    if end == "given up":
        rig.cancel_connect()
    elif end == "out of attempts":
        rig.drop()
    else:
        rig.wait(5.0)
    assert rig.state is IDLE
    assert isinstance(rig.outcome(call), (NotConnected, ConnectError))
    assert rig.wanted() == []


def test_an_attempt_is_limited_to_connect_timeout() -> None:
    rig = Rig(connect_timeout=10.0)
    rig.connect()
    rig.wait(9.999)
    assert rig.state is CONNECTING
    rig.wait(0.001)
    assert isinstance(rig.done(Cut)[0].error, ConnectTimeout)
    assert str(rig.done(Cut)[0].error) == "not connected within connect_timeout (10 s)"
    assert rig.state is BACKING_OFF


def test_an_attempt_that_times_out_is_cut_once() -> None:
    rig = Rig()
    rig.connect()
    rig.now += 10.0
    for _ in range(3):
        rig.supervisor.tick(rig.now, {})
    assert [type(action) for action in rig.supervisor.actions()] == [Cut]


@pytest.mark.parametrize("status", [401, 403])
def test_a_fatal_refusal_is_not_retried(status: int) -> None:
    rig = Rig()
    rig.connect()
    refused = HandshakeRejected("refused", status)
    rig.drop(refused)
    error = rig.outcome("connect")
    assert rig.state is FAILED
    assert isinstance(error, ConnectError)
    assert isinstance(rig.supervisor.life.failure, ConnectError)
    assert rig.supervisor.life.failure.__cause__ is refused


def test_after_a_failure_every_call_raises_a_fresh_copy_chained_to_the_cause() -> None:
    rig = Rig().open()
    failure = QueueOverflow("full")
    rig.supervisor.fail(failure)
    raised = []
    for _ in range(2):
        with pytest.raises(QueueOverflow) as caught:
            rig.supervisor.life.check()
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert all(error.__cause__ is failure for error in raised)


def test_a_failure_ends_the_queues_once() -> None:
    rig = Rig().open()
    failure = QueueOverflow("full")
    rig.supervisor.fail(failure)
    rig.supervisor.fail(WSClientError("later"))
    assert rig.done(Fail) == [Fail(failure)]
    assert rig.supervisor.life.failure is failure


@pytest.mark.parametrize("situation", CONNECTIONS)
def test_a_failure_cuts_the_connection(situation: str) -> None:
    rig = SITUATIONS[situation][1]()
    rig.supervisor.fail(QueueOverflow("full"))
    assert rig.done(Abort) == [Abort(rig.cid)]


def test_a_failure_reaches_all_waiting_callers() -> None:
    rig = Rig(max_retries=2)
    rig.connect()
    call = rig.subscribe("a")
    rig.supervisor.fail(WSClientError("bug"))
    assert str(rig.outcome("connect")) == "bug"
    assert str(rig.outcome(call)) == "bug"


def test_a_failure_settles_unsubscribes_too() -> None:
    """After an internal error there may be no further tick."""
    rig = Rig().active("a")
    gone = rig.unsubscribe("a")
    rig.supervisor.fail(WSClientError("bug"))
    assert rig.outcome(gone) is None


# --- login ---------------------------------------------------------------------------------------


def test_the_login_is_sent_first_and_opens_the_connection_when_accepted() -> None:
    rig = Rig()
    rig.connect()
    rig.subscribe("a")
    rig.opened(LOGIN)
    assert rig.sent() == [LOGIN]
    assert rig.outcome("connect") == "waiting"
    rig.receive(LoginAccepted())
    assert rig.outcome("connect") is None
    assert rig.asked() == [("subscribe", ["a"])]


def test_a_refused_login_is_fatal() -> None:
    rig = Rig()
    rig.connect()
    rig.opened(LOGIN)
    rig.receive(LoginRefused("bad key"))
    assert rig.state is FAILED
    assert isinstance(rig.outcome("connect"), AuthenticationError)
    assert "bad key" in str(rig.outcome("connect"))


def test_a_login_that_is_not_answered_in_time_is_an_attempt_that_failed() -> None:
    rig = Rig(connect_timeout=10.0, max_retries=1)
    rig.connect()
    rig.wait(4.0)
    rig.opened(LOGIN)
    rig.wait(5.999)
    assert rig.state is AUTHENTICATING
    rig.wait(0.001)
    assert rig.state is IDLE
    assert isinstance(rig.outcome("connect"), ConnectError)
    assert str(rig.done(Cut)[0].error) == "not logged in within connect_timeout (10 s)"


def test_a_connection_that_waits_for_its_login_is_not_healthy() -> None:
    """Otherwise a venue that never answers a login would be tried for ever."""
    rig = Rig(connect_timeout=20.0, max_retries=2)
    rig.connect()
    for _ in range(2):
        rig.opened(LOGIN)
        rig.wait(20.0)
        rig.wait(0.0 if rig.state is IDLE else rig.deadline() - rig.now)
    assert rig.state is IDLE


def test_a_login_message_after_the_login_changes_nothing() -> None:
    rig = Rig().open()
    rig.receive(LoginRefused("again?"), LoginAccepted())
    assert rig.state is OPEN
    assert rig.supervisor.counters.connects == 1


# --- backoff -------------------------------------------------------------------------------------


def delay(rig: Rig) -> float:
    """Return the time (s) until the next attempt."""
    assert rig.state is BACKING_OFF
    found: float = rig.emitted(Reconnecting)[-1].delay
    return found


def healthy(rig: Rig) -> Rig:
    rig.open()
    rig.wait(10.0)
    return rig


def test_delays_double_up_to_the_cap() -> None:
    rig = Rig(max_retries=6, retry_delay=1.0, max_retry_delay=5.0)
    rig.connect()
    delays = []
    for _ in range(5):
        rig.drop()
        delays.append(delay(rig))
        rig.wait(delays[-1])
    assert delays == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_delay_is_jittered() -> None:
    rig = Rig(random=0.25, retry_delay=8.0)
    rig.connect()
    rig.drop()
    assert delay(rig) == 2.0


def test_a_delay_is_not_jittered_without_jitter() -> None:
    rig = Rig(random=0.25, retry_delay=8.0, jitter=False)
    rig.connect()
    rig.drop()
    assert delay(rig) == 8.0


def test_the_first_reconnect_of_a_healthy_connection_is_immediate() -> None:
    rig = healthy(Rig())
    rig.drop()
    assert delay(rig) == 0.0
    rig.tick()
    assert rig.state is CONNECTING


def test_a_connection_is_healthy_after_ten_seconds() -> None:
    rig = Rig().open()
    rig.wait(9.999)
    rig.drop()
    assert delay(rig) == 1.0


def test_a_connection_is_healthy_with_a_confirmed_channel_and_data() -> None:
    rig = Rig().active("a")
    rig.data("a")
    rig.drop()
    assert delay(rig) == 0.0


def test_data_alone_does_not_prove_a_connection_healthy() -> None:
    rig = Rig().open()
    rig.data("a")
    rig.drop()
    assert delay(rig) == 1.0


def test_a_confirmed_channel_alone_does_not_prove_a_connection_healthy() -> None:
    rig = Rig().active("a")
    rig.drop()
    assert delay(rig) == 1.0


def test_health_counts_for_one_connection_only() -> None:
    rig = Rig().active("a")
    rig.data("a")
    rig.drop()
    rig.open()
    rig.data("a")
    rig.drop()
    assert delay(rig) == 1.0


def test_delays_grow_for_a_venue_that_accepts_and_drops() -> None:
    rig = Rig(max_retry_delay=60.0)
    delays = []
    for _ in range(6):
        rig.open()
        rig.drop()
        delays.append(delay(rig))
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]


def test_health_resets_the_delays() -> None:
    rig = Rig()
    for _ in range(4):
        rig.open()
        rig.drop()
    healthy(rig)
    rig.drop()
    assert delay(rig) == 0.0
    rig.open()
    rig.drop()
    assert delay(rig) == 1.0


def test_a_rate_limited_client_waits_the_full_delay_even_if_it_was_healthy() -> None:
    rig = healthy(Rig(random=0.0))
    rig.drop(verdict=RATE_LIMITED)
    assert delay(rig) == 1.0


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_respected(status: int) -> None:
    rig = Rig(retry_delay=1.0)
    rig.connect()
    rig.drop(HandshakeRejected("busy", status, retry_after=30.0))
    assert delay(rig) == 30.0


def test_retry_after_does_not_shorten_a_delay() -> None:
    rig = Rig(retry_delay=8.0)
    rig.connect()
    rig.drop(HandshakeRejected("busy", 503, retry_after=1.0))
    assert delay(rig) == 8.0


def test_the_venues_budget_of_connects_bounds_even_a_healthy_connection() -> None:
    """A venue that accepts, confirms, sends and drops must not cause a busy loop."""
    rig = Rig(Plain(Limits(connects=(3, 60.0))))
    start = rig.now
    for _ in range(3):
        rig.active("a") if not rig.wanted() else (rig.open(), rig.ack("a"))
        rig.data("a")
        rig.drop()
    assert delay(rig) == start + 60.0 - rig.now
    rig.wait(delay(rig))
    assert rig.state is CONNECTING


def test_a_call_of_connect_waits_for_the_venues_budget_and_says_so() -> None:
    rig = Rig(Plain(Limits(connects=(1, 60.0))))
    rig.connect("given up")
    rig.cancel_connect("given up")
    rig.connect("waits")
    assert rig.state is BACKING_OFF
    (wait,) = rig.emitted(Reconnecting)
    assert (wait.attempt, wait.delay) == (1, 60.0)
    assert wait.why == "the venue's limits allow no connection yet"
    rig.wait(60.0)
    assert rig.state is CONNECTING


def test_without_a_budget_only_the_delay_counts() -> None:
    rig = Rig(Plain(Limits(connects=None)))
    for _ in range(100):
        healthy(rig)
        rig.drop()
        assert delay(rig) == 0.0


def test_max_reconnects_in_a_row_end_the_client() -> None:
    rig = Rig(max_reconnects=2).open()
    why = ConnectionLost("gone")
    for _ in range(2):
        rig.drop(why)
        rig.wait(delay(rig))
    rig.drop(why)
    assert rig.state is FAILED
    assert isinstance(rig.supervisor.life.failure, ReconnectError)
    assert rig.supervisor.life.failure.__cause__ is why


def test_max_reconnects_counts_connections_that_open_and_drop() -> None:
    rig = Rig(max_reconnects=2)
    for _ in range(3):
        rig.open()
        rig.drop()
    assert rig.state is FAILED


def test_max_reconnects_restarts_after_a_healthy_connection() -> None:
    rig = Rig(max_reconnects=1)
    for _ in range(5):
        healthy(rig)
        rig.drop()
    assert rig.state is BACKING_OFF


def test_with_max_reconnects_0_the_first_drop_is_the_end() -> None:
    rig = healthy(Rig(max_reconnects=0))
    rig.drop()
    assert rig.state is FAILED


def test_without_max_reconnects_the_client_never_gives_up() -> None:
    rig = Rig(max_retries=1, max_retry_delay=1.0).open()
    for _ in range(200):
        rig.drop()
        rig.wait(delay(rig))
    assert rig.state is CONNECTING


def test_failed_attempts_before_the_first_success_are_not_reconnects() -> None:
    rig = Rig(max_retries=3, max_reconnects=1)
    rig.connect()
    rig.drop()
    rig.wait(delay(rig))
    rig.opened()
    rig.drop()
    rig.wait(delay(rig))
    assert rig.state is CONNECTING
    rig.drop()
    assert rig.state is FAILED


# --- close() -------------------------------------------------------------------------------------


def test_close_sends_a_close_frame_and_waits_for_the_peers() -> None:
    rig = Rig().open()
    rig.supervisor.close(rig.now, 1.0)
    assert rig.done(Hangup) == [Hangup(1)]
    assert rig.done(Abort) == []
    rig.drop()
    assert rig.state is CLOSED
    assert rig.done(Abort) == []


def test_close_gives_the_peer_half_of_the_timeout() -> None:
    rig = Rig().open()
    rig.supervisor.close(rig.now, 1.0)
    rig.wait(0.499)
    assert rig.state is CLOSING
    rig.wait(0.001)
    assert rig.state is CLOSED
    assert rig.done(Abort) == [Abort(1)]


@pytest.mark.parametrize("situation", [*DIALS, *LOGINS])
def test_close_cuts_an_attempt(situation: str) -> None:
    rig = SITUATIONS[situation][1]()
    rig.supervisor.close(rig.now, 1.0)
    assert rig.done(Abort) == [Abort(rig.cid)]
    assert rig.done(Hangup) == []


@pytest.mark.parametrize("situation", ["idle", *WAITS, "failed"])
def test_close_cuts_nothing_if_there_is_no_connection(situation: str) -> None:
    rig = SITUATIONS[situation][1]()
    before = rig.done(Abort)
    rig.supervisor.close(rig.now, 1.0)
    assert rig.done(Abort) == before


@pytest.mark.parametrize("ends_by_itself", [True, False])
def test_a_client_that_drains_is_closed_only_when_it_is_drained(ends_by_itself: bool) -> None:
    rig = Rig().open()
    rig.supervisor.close(rig.now, 1.0, drain=True)
    rig.tick()
    assert rig.done(Hangup)
    if ends_by_itself:
        rig.drop()
    rig.wait(0.6)
    assert bool(rig.done(Abort)) is not ends_by_itself
    assert rig.state is CLOSING
    assert rig.deadline() == INF  # nothing is due until then
    assert not rig.emitted(Closed)
    rig.supervisor.drained()
    assert rig.state is CLOSED
    assert rig.emitted(Closed)


def test_a_client_that_is_drained_first_is_closed_by_the_end_of_its_connection() -> None:
    rig = Rig().open()
    rig.supervisor.close(rig.now, 1.0, drain=True)
    rig.supervisor.drained()
    assert rig.state is CLOSING
    rig.drop()
    assert rig.state is CLOSED


@pytest.mark.parametrize("situation", [s for s in SITUATIONS if s not in OVER])
def test_nothing_is_dialled_or_sent_after_close(situation: str) -> None:
    rig = SITUATIONS[situation][1]()
    rig.supervisor.close(rig.now, 1.0)
    rig.collect()
    before = len(rig.done(Dial)), len(rig.sent())
    rig.drop()
    rig.opened()
    rig.wait(1000.0)
    assert (len(rig.done(Dial)), len(rig.sent())) == before
    assert rig.deadline() == INF


def test_close_wakes_each_kind_of_caller_at_once() -> None:
    rig = Rig().active("a")
    call, gone = rig.subscribe("b"), rig.unsubscribe("a")
    rig.request()
    rig.supervisor.close(rig.now, 1.0)
    assert isinstance(rig.outcome(call), ClientClosed)
    assert isinstance(rig.outcome(gone), ClientClosed)
    assert isinstance(rig.outcome("request"), OutcomeUnknown)


def test_messages_that_arrive_during_close_are_not_delivered() -> None:
    rig = Rig().active("a")
    rig.supervisor.close(rig.now, 1.0)
    assert rig.data("a") == []


def test_calls_after_a_failure_and_close_raise_client_closed() -> None:
    rig = failed()
    rig.close()
    with pytest.raises(ClientClosed):
        rig.supervisor.life.check()


# --- connection ids ------------------------------------------------------------------------------


def test_each_attempt_has_its_own_id() -> None:
    rig = Rig()
    for _ in range(3):
        rig.open()
        rig.drop()
    assert rig.done(Dial) == [Dial(1), Dial(2), Dial(3)]


def test_messages_of_a_superseded_reader_are_not_delivered() -> None:
    rig = Rig().active("a")
    old = rig.cid
    rig.drop()
    rig.open()
    assert rig.received(old, [rig.message("a")], rig.now) == []
    assert rig.supervisor.counters.messages == 0


def test_the_end_of_a_connection_is_counted_once() -> None:
    rig = Rig().open()
    rig.drop()
    rig.drop()
    assert rig.supervisor.counters.disconnects == 1


def test_an_abandoned_attempt_opens_nothing() -> None:
    rig = Rig()
    rig.connect()
    rig.cancel_connect()
    rig.opened()
    assert rig.state is IDLE


# --- messages and gaps ---------------------------------------------------------------------------


def test_messages_are_delivered_in_order_and_answers_are_not_delivered() -> None:
    rig = Rig().open()
    one, two, three = rig.message("a"), rig.message("b"), rig.message("a")
    assert rig.receive(one, Heartbeat(), two, Ack(), three) == [one, two, three]


def test_an_unbroken_stream_carries_no_gap() -> None:
    rig = Rig().active("a")
    assert [m.gap for m in rig.data("a", 1, 2, 3)] == [None, None, None]


def test_the_first_message_after_a_reconnect_carries_a_gap() -> None:
    rig = Rig().active("a")
    last = rig.data("a")[-1].received_at
    rig.drop()
    rig.open()
    assert [m.gap for m in rig.data("a", None, None)] == [Gap("reconnect", None, last), None]


def test_a_continued_sequence_proves_that_nothing_was_missed() -> None:
    rig = Rig().active("a")
    rig.data("a", 5)
    rig.drop()
    rig.open()
    assert rig.data("a", 6)[0].gap is None


def test_a_sequence_gives_the_number_missed_in_a_reconnect() -> None:
    rig = Rig().active("a")
    last = rig.data("a", 5)[0].received_at
    rig.drop()
    rig.open()
    assert rig.data("a", 9)[0].gap == Gap("reconnect", 3, last)


def test_a_restarted_sequence_after_a_reconnect_proves_nothing() -> None:
    rig = Rig().active("a")
    last = rig.data("a", 5)[0].received_at
    rig.drop()
    rig.open()
    assert [m.gap for m in rig.data("a", 1, 2)] == [Gap("reconnect", None, last), None]


def test_two_drops_before_a_message_are_one_gap() -> None:
    rig = Rig().active("a")
    last = rig.data("a")[0].received_at
    for _ in range(2):
        rig.drop()
        rig.open()
    assert rig.data("a")[0].gap == Gap("reconnect", None, last)


def test_a_failed_attempt_adds_no_gap() -> None:
    rig = Rig().active("a")
    rig.data("a", 5)
    rig.drop()
    rig.wait(delay(rig))
    rig.drop()
    rig.open()
    assert rig.data("a", 6)[0].gap is None


def test_a_confirmed_channel_without_messages_carries_a_gap_too() -> None:
    """It was confirmed, so data was missed while the connection was down."""
    rig = Rig().active("a")
    rig.drop()
    rig.open()
    assert rig.data("a")[0].gap == Gap("reconnect", None, None)


def test_a_channel_first_confirmed_on_the_new_connection_carries_no_gap() -> None:
    rig = Rig().open()
    rig.subscribe("a")
    rig.drop()
    rig.open()
    rig.ack("a")
    assert rig.data("a")[0].gap is None


def test_a_gap_in_the_sequence_is_counted_exactly() -> None:
    rig = Rig().active("a")
    last = rig.data("a", 1)[0].received_at
    assert rig.data("a", 5)[0].gap == Gap("sequence", 3, last)
    assert rig.supervisor.counters.missed == 3
    assert rig.supervisor.counters.gaps == 1


def test_a_gap_belongs_to_one_channel() -> None:
    rig = Rig().active("a", "b")
    rig.data("a", 1)
    rig.data("b", 1)
    assert rig.data("a", 3)[0].gap is not None
    assert rig.data("b", 2)[0].gap is None


def test_a_pending_gap_is_visible_from_the_drop_on() -> None:
    rig = Rig().active("a")
    last = rig.data("a")[0].received_at
    assert rig.pending_gap("a") is None
    rig.drop()
    assert rig.pending_gap("a") == Gap("reconnect", None, last)
    rig.open()
    rig.data("a")
    assert rig.pending_gap("a") is None
    assert rig.pending_gap("unknown") is None


def test_an_unreadable_frame_makes_all_channels_suspect() -> None:
    rig = Rig().active("a", "b")
    seen = {c: rig.data(c)[0].received_at for c in "ab"}
    rig.receive(Invalid("not JSON"))
    assert rig.data("a")[0].gap == Gap("invalid", None, seen["a"])
    assert rig.data("b")[0].gap == Gap("invalid", None, seen["b"])
    assert rig.supervisor.counters.invalid == 1


def test_a_sequence_shows_which_channel_the_unreadable_frame_had() -> None:
    rig = Rig().active("a", "b")
    last = rig.data("a", 1)[0].received_at
    rig.data("b", 1)
    rig.receive(Invalid("not JSON"))
    assert rig.data("a", 3)[0].gap == Gap("invalid", 1, last)
    assert rig.data("b", 2)[0].gap is None


def test_a_refused_message_is_a_gap_of_one() -> None:
    rig = Rig().active("a")
    last = rig.data("a", 1)[0].received_at
    rig.receive(Invalid("refused", message("a", sequence=2)))
    assert rig.data("a", 3)[0].gap == Gap("invalid", 1, last)


def test_a_new_subscription_is_independent_of_an_earlier_one() -> None:
    rig = Rig().active("a")
    rig.data("a", 5)
    rig.unsubscribe("a")
    rig.ack("a")
    rig.active("a")
    assert rig.data("a", 100)[0].gap is None


def test_a_new_subscription_during_an_unsubscribe_is_independent_too() -> None:
    rig = Rig().active("a")
    rig.data("a", 5)
    rig.unsubscribe("a")
    rig.subscribe("a", token="again")
    rig.ack("a")
    rig.ack("a")
    assert rig.outcome("again") is None
    assert rig.data("a", 100)[0].gap is None


def test_the_newest_message_survives_a_disconnect() -> None:
    rig = Rig().active("a")
    (message,) = rig.data("a")
    rig.drop()
    assert rig.supervisor.upkeep.channels.by_name["a"].latest is message


# --- a lost channel ------------------------------------------------------------------------------


def test_a_channel_whose_resubscription_is_refused_ends_with_a_lost_message() -> None:
    rig = Rig().active("a")
    last = rig.data("a")[0].received_at
    rig.drop()
    rig.open()
    (lost,) = rig.reject("a", "delisted")
    assert (lost.channel, lost.type, lost.data, lost.sequence) == ("a", "lost", None, None)
    assert lost.gap == Gap("rejected", None, last)
    assert (lost.connection_id, lost.received_at) == (rig.cid, last)
    assert rig.wanted() == []
    assert "delisted" in rig.logs("error")[0]


def test_a_lost_message_has_its_place_in_the_stream() -> None:
    rig = Rig().active("a", "b")
    rig.drop()
    rig.open()
    before, after = rig.message("b"), rig.message("b")
    delivered = rig.receive(before, Rejection("delisted", channel="a"), after)
    assert [m.channel for m in delivered] == ["b", "a", "b"]


def test_a_channel_that_was_never_confirmed_is_refused_without_a_lost_message() -> None:
    rig = Rig().open()
    call = rig.subscribe("a")
    assert rig.reject("a", "unknown") == []
    error = rig.outcome(call)
    assert isinstance(error, SubscriptionRejected)
    assert error.failed == {"a": "unknown"}


# --- subscribing ---------------------------------------------------------------------------------


def test_a_subscribe_is_sent_by_the_next_tick() -> None:
    rig = Rig().open()
    rig.supervisor.subscribe(["a"], {"depth": 5}, "call", INF)
    assert rig.sent() == []
    assert rig.is_due
    rig.tick()
    assert rig.sent() == [{"op": "subscribe", "channels": ["a"], "id": 1, "depth": 5}]


def test_a_subscribe_without_a_connection_waits_for_the_next() -> None:
    rig = Rig().open()
    rig.drop()
    call = rig.subscribe("a")
    rig.open()
    assert rig.asked() == [("subscribe", ["a"])]
    rig.ack("a")
    assert rig.outcome(call) is None


def test_all_wanted_channels_are_resubscribed_within_the_limits() -> None:
    rig = Rig(Plain(Limits(channels_per_message=2)))
    rig.active("a", "b", "c")
    rig.active("d", depth=5)
    rig.active("e")
    rig.drop()
    rig.open()
    assert rig.asked() == [
        ("subscribe", ["a", "b"]),
        ("subscribe", ["c"]),
        ("subscribe", ["d"]),
        ("subscribe", ["e"]),
    ]
    assert [m.get("depth") for m in rig.sent()] == [None, None, 5, None]


def test_after_a_drop_no_channel_is_active_until_acknowledged_again() -> None:
    rig = Rig().active("a")
    rig.drop()
    assert rig.supervisor.wanted.state("a") is SubscriptionState.PENDING
    rig.open()
    assert rig.supervisor.wanted.state("a") is SubscriptionState.PENDING
    rig.ack("a")
    assert rig.supervisor.wanted.state("a") is SubscriptionState.ACTIVE


def test_messages_are_sent_within_the_venues_rate_limit() -> None:
    rig = Rig(Plain(Limits(messages_per_second=2))).open()
    rig.subscribe("a", "b", "c", "d", "e")
    assert len(rig.sent()) == 2
    rig.wait(0.999)
    assert len(rig.sent()) == 2
    rig.wait(0.001)
    assert len(rig.sent()) == 4
    rig.wait(1.0)
    assert len(rig.sent()) == 5


def test_a_rate_below_one_per_second_is_kept() -> None:
    rig = Rig(Plain(Limits(messages_per_second=0.5))).open()
    rig.subscribe("a", "b")
    rig.wait(1.999)
    assert len(rig.sent()) == 1
    rig.wait(0.001)
    assert len(rig.sent()) == 2


def test_a_callers_own_messages_count_against_the_rate() -> None:
    rig = Rig(Plain(Limits(messages_per_second=2))).open()
    rig.request()
    rig.connection.sending.spend(rig.now)
    rig.subscribe("a")
    assert rig.sent() == []


def test_an_error_of_the_dialect_affects_only_its_channels() -> None:
    class Picky(Plain):
        def subscribe(self, channels: Any, request_id: int, options: Any) -> Any:
            if "bad" in channels:
                raise ValueError("no such thing")
            return super().subscribe(channels, request_id, options)

    rig = Rig(Picky()).open()
    bad, good = rig.subscribe("bad"), rig.subscribe("good")
    rig.ack("good")
    error = rig.outcome(bad)
    assert isinstance(error, SubscriptionRejected)
    assert "no such thing" in error.failed["bad"]
    assert rig.outcome(good) is None


class Routed(Plain):
    """A dialect whose addresses offer only channels that begin with the address's last letter."""

    def refusal(self, channel: str, address: str) -> str | None:
        return None if channel[0] == address[-1] else f"not at {address}"


def test_channels_that_the_address_lacks_are_refused_and_the_rest_requested() -> None:
    rig = Rig(Routed(Limits(channels_per_message=3)))
    rig.connect()
    rig.supervisor.opened(rig.cid, None, rig.now, None, "wss://x/a")
    token = rig.subscribe("a1", "b1", "a2")
    assert rig.asked() == [("subscribe", ["a1", "a2"])]
    rig.ack("a1", "a2")
    error = rig.outcome(token)
    assert isinstance(error, SubscriptionRejected)
    assert error.failed == {"b1": "not at wss://x/a"}


def test_a_request_whose_channels_are_all_refused_is_not_sent() -> None:
    rig = Rig(Routed())
    rig.connect()
    rig.supervisor.opened(rig.cid, None, rig.now, None, "wss://x/a")
    token = rig.subscribe("b1")
    assert rig.asked() == []
    assert isinstance(rig.outcome(token), SubscriptionRejected)


def test_a_channel_that_the_next_address_lacks_is_lost() -> None:
    rig = Rig(Routed())
    rig.connect()
    rig.supervisor.opened(rig.cid, None, rig.now, None, "wss://x/a")
    rig.subscribe("a1")
    rig.ack("a1")
    rig.drop()
    rig.wait(rig.deadline() - rig.now)
    rig.supervisor.opened(rig.cid, None, rig.now, None, "wss://x/b")
    rig.tick()
    assert rig.asked() == []
    assert [action.message.channel for action in rig.done(Deliver)] == ["a1"]
    assert rig.logs("error") == ["subscription lost: 'a1': not at wss://x/b"]


def test_a_refusal_of_no_request_is_logged() -> None:
    rig = Rig().open()
    rig.receive(Rejection("slow down"))
    assert rig.logs("warning") == ["the venue refused: slow down"]


def test_the_first_data_confirms_a_channel_if_the_venue_never_acknowledges() -> None:
    rig = Rig(Plain(acknowledges=False)).open()
    call = rig.subscribe("a")
    assert rig.outcome(call) == "waiting"
    rig.received(rig.cid, [rig.message("a")], rig.now)
    assert rig.outcome(call) is None


def test_data_that_comes_before_the_subscribe_is_sent_confirms_nothing() -> None:
    rig = Rig(Plain(acknowledges=False)).open()
    rig.supervisor.subscribe(["a"], {}, "call", INF)
    rig.received(rig.cid, [rig.message("a")], rig.now)  # of an earlier subscription
    assert rig.supervisor.wanted.state("a") is SubscriptionState.PENDING
    rig.tick()
    assert rig.asked() == [("subscribe", ["a"])]
    assert rig.outcome("call") == "waiting"
    rig.data("a")
    assert rig.outcome("call") is None


def test_a_new_call_does_not_fail_by_an_expired_request_of_an_earlier_one() -> None:
    rig = Rig(ack_timeout=5.0).open()
    rig.subscribe("a", token="early", timeout=1.0)
    rig.wait(1.0)
    assert rig.wanted() == []
    rig.now += 4.0
    rig.supervisor.subscribe(["a"], {}, "late", INF)
    rig.tick()
    assert rig.outcome("late") == "waiting"
    rig.ack("a")
    assert rig.outcome("late") is None


def test_data_that_comes_during_the_login_confirms_nothing() -> None:
    rig = Rig(Plain(acknowledges=False)).open()
    rig.subscribe("a")
    rig.data("a")
    rig.drop()
    rig.wait(rig.deadline() - rig.now)
    rig.opened(LOGIN)
    rig.data("a")
    assert rig.supervisor.wanted.state("a") is SubscriptionState.PENDING
    rig.receive(LoginAccepted())
    rig.data("a")
    assert rig.supervisor.wanted.state("a") is SubscriptionState.ACTIVE


def test_no_dialect_delays_a_caller_that_is_settled_in_the_same_step() -> None:
    rig = Rig()
    rig.connect()
    rig.subscribe("a")
    rig.supervisor.opened(rig.cid, None, rig.now)
    rig.supervisor.tick(rig.now, {rig.cid: ConnectionView(rig.now)})
    waiting = (Settle, Consult)
    kinds = [type(action) for action in rig.supervisor.actions() if isinstance(action, waiting)]
    assert kinds == [Settle, Consult]


def test_a_connection_that_cannot_be_seen_is_not_looked_at_all_the_time() -> None:
    """As while the verdict on its end is pending."""
    rig = Rig(ack_timeout=5.0).active("a")
    rig.drop()
    rig.open()
    rig.wait(5.0)
    rig.now += 5.0  # the resubscription is now unanswered for the second time
    rig.supervisor.tick(rig.now, {})
    assert rig.connection.is_due
    assert rig.supervisor.next_deadline(rig.now, {}) > rig.now


def test_an_unsubscribe_is_done_when_sent_if_the_venue_never_acknowledges() -> None:
    rig = Rig(Plain(acknowledges=False)).open()
    rig.subscribe("a")
    rig.data("a")
    gone = rig.unsubscribe("a")
    assert rig.asked() == [("subscribe", ["a"]), ("unsubscribe", ["a"])]
    assert rig.outcome(gone) is None
    assert rig.wanted() == []


def test_a_call_that_is_decided_at_once_is_settled_at_once() -> None:
    rig = Rig().active("a")
    rig.supervisor.subscribe(["a"], {}, "subscribed", INF)
    rig.supervisor.unsubscribe(["b"], "unsubscribed", INF)
    assert [action.token for action in rig.supervisor.actions()] == ["subscribed", "unsubscribed"]


def test_a_channel_is_forgotten_before_its_unsubscribe_returns() -> None:
    rig = Rig().active("a")
    token = rig.unsubscribe("a")
    rig.received(rig.cid, [Ack(channel="a")], rig.now)
    event, *others = rig.supervisor.actions()
    assert isinstance(event, Notify)
    assert event.kind is Unsubscribed
    assert others == [Forget("a"), Settle(token)]


# --- an unanswered call --------------------------------------------------------------------------


def closed_by_venue() -> ConnectionLost:
    return ConnectionLost("the venue closed the connection (1008: no)", 1008, "closed")


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_subscribe_fails_if_the_venue_closes_each_connection(is_asked: bool) -> None:
    """It closes after the subscribe or right after the handshake; the error has reason and code."""
    rig = Rig(max_retry_delay=1.0).active("mine")
    rig.drop()
    rig.holds = not is_asked
    token = rig.subscribe("a")
    for _ in range(2):
        assert rig.outcome(token) == "waiting"
        rig.open()
        rig.drop(closed_by_venue())
    error = rig.outcome(token)
    assert isinstance(error, SubscriptionTimeout)
    assert error.failed["a"].endswith("(1008: no)")
    assert [channel for channel, _, _ in rig.wanted()] == ["mine"]


def test_a_subscribe_fails_if_the_venue_closes_each_connection_at_its_login() -> None:
    rig = Rig(max_retry_delay=1.0).active("mine")
    rig.drop()
    token = rig.subscribe("a")
    for _ in range(2):
        rig.wait(delay(rig))
        rig.opened(LOGIN)
        rig.drop(closed_by_venue())
    assert isinstance(rig.outcome(token), SubscriptionTimeout)


def test_failed_attempts_do_not_end_a_subscribe() -> None:
    rig = Rig(max_retry_delay=1.0).active("mine")
    rig.drop()
    token = rig.subscribe("a")
    for _ in range(20):
        rig.wait(delay(rig))
        rig.drop(OSError("refused"))
    assert rig.outcome(token) == "waiting"


def test_a_subscribe_that_had_no_connection_for_a_time_says_so_at_its_timeout() -> None:
    rig = Rig(max_retry_delay=60.0, retry_delay=60.0).active("mine")
    rig.drop()
    token = rig.subscribe("a", timeout=5.0)
    rig.wait(5.0)
    error = rig.outcome(token)
    assert isinstance(error, SubscriptionTimeout)
    why = "no answer within the timeout; for some of that time there was no connection"
    assert error.failed == {"a": why}


def test_a_subscribe_that_waits_for_a_connection_is_logged_once() -> None:
    rig = Rig(max_retry_delay=1.0).active("mine")
    rig.subscribe("early")
    rig.drop()
    rig.subscribe("a", "b", "c", "d", "e")
    for _ in range(5):
        rig.wait(delay(rig))
        rig.drop(OSError("refused"))
    assert [text for text in rig.logs("warning") if "waits" in text] == [
        "subscribe() of 'early' waits for a connection (backing off)",
        "subscribe() of 'a', 'b', 'c' and 2 more waits for a connection (backing off)",
    ]


def test_a_subscribe_on_an_open_connection_logs_nothing() -> None:
    rig = Rig().active("a")
    rig.subscribe("b")
    assert rig.logs("warning") == []


def test_no_str_of_a_users_exception_is_called() -> None:
    """Otherwise user code would run under the lock."""

    class Mine(Exception):
        def __str__(self) -> str:
            raise AssertionError("asked for its text")

    rig = Rig(max_retries=1)
    rig.connect()
    rig.supervisor.ended(rig.cid, Mine(), RETRY, rig.now, "in words")
    assert str(rig.outcome("connect")) == (
        "no connection to the venue after 1 attempt(s): in words"
    )


# --- requests ------------------------------------------------------------------------------------


def test_a_reply_is_matched_by_its_id_even_as_another_type() -> None:
    rig = Rig().open()
    one, two = rig.request("one"), rig.request("two")
    rig.receive(Reply(str(two), {"for": "two"}), Reply(one, {"for": "one"}))
    assert rig.settled["one"][0].result == {"for": "one"}
    assert rig.settled["two"][0].result == {"for": "two"}


def test_a_reply_with_an_error_is_a_rejection_that_holds_it() -> None:
    rig = Rig().open()
    rig.receive(Reply(rig.request(), {"code": 7}, error="no funds"))
    error = rig.outcome("request")
    assert isinstance(error, RequestRejected)
    assert error.reply == {"code": 7}
    assert "no funds" in str(error)


def test_a_second_reply_is_ignored() -> None:
    rig = Rig().open()
    request_id = rig.request()
    rig.receive(Reply(request_id, 1), Reply(request_id, 2))
    assert rig.settled["request"][0].result == 1


def test_a_request_without_a_reply_times_out() -> None:
    rig = Rig().open()
    rig.request(timeout=10.0)
    rig.wait(9.999)
    assert rig.outcome("request") == "waiting"
    rig.wait(0.001)
    assert isinstance(rig.outcome("request"), WaitTimeout)


def test_the_outcome_of_a_request_in_flight_at_a_drop_is_unknown() -> None:
    rig = Rig().open()
    request_id = rig.request()
    rig.drop()
    assert isinstance(rig.outcome("request"), OutcomeUnknown)
    rig.open()
    rig.receive(Reply(request_id, "late"))


def test_a_cancelled_request_settles_no_token() -> None:
    rig = Rig().open()
    request_id = rig.request()
    rig.cancel_request(request_id)
    rig.receive(Reply(request_id, {}))
    assert rig.outcome("request") == "waiting"


def test_requests_and_subscriptions_share_no_id() -> None:
    rig = Rig().open()
    request_id = rig.request()
    rig.subscribe("a")
    assert rig.sent()[0]["id"] != request_id


# --- the connection's health ---------------------------------------------------------------------


def test_a_ping_is_sent_each_interval_when_it_is_answered() -> None:
    rig = Rig(ping_interval=20.0).open()
    for count in (1, 2, 3):
        rig.wait(20.0)
        assert len(rig.done(Ping)) == count
        rig.pong(rig.cid)
    assert rig.state is OPEN


def test_an_unanswered_ping_cuts_a_connection_without_any_bytes() -> None:
    rig = Rig(ping_interval=20.0, ping_timeout=10.0).open()
    silent = ConnectionView(rig.now)
    rig.wait(29.999, silent)
    assert rig.state is OPEN
    assert rig.done(Cut) == []
    rig.wait(0.001, silent)
    assert "half-open" in str(rig.done(Cut)[0].error)


def test_a_peer_that_does_not_read_is_cut() -> None:
    rig = Rig(send_timeout=10.0).open()
    rig.wait(10.0, ConnectionView(rig.now, unsent_since=rig.now))
    assert rig.state is BACKING_OFF
    assert "did not read" in str(rig.done(Cut)[0].error)


@pytest.mark.parametrize(
    ("sign", "alive"),
    [
        (lambda rig: rig.receive(Heartbeat()), True),
        (lambda rig: rig.control(rig.cid, rig.now), True),
        (lambda rig: rig.pong(rig.cid), False),
        (lambda rig: rig.control(rig.cid - 1, rig.now), False),
    ],
    ids=["frame", "ping", "pong", "ping of another connection"],
)
def test_any_frame_but_a_pong_is_a_sign_of_life(sign: Callable[[Rig], object], alive: bool) -> None:
    rig = Rig(silence_timeout=15.0).open()
    rig.wait(10.0)
    sign(rig)
    rig.wait(10.0)
    assert (rig.state is OPEN) == alive


def test_the_dialect_defines_how_long_its_venue_may_be_silent() -> None:
    rig = Rig(Plain(silence_timeout=15.0)).open()
    rig.wait(14.999)
    assert rig.done(Cut) == []
    rig.wait(0.001)
    assert "no frame but pongs" in str(rig.done(Cut)[0].error)


def test_the_option_overrides_the_dialects_silence() -> None:
    rig = Rig(Plain(silence_timeout=15.0), silence_timeout=60.0).open()
    rig.wait(59.0)
    assert rig.state is OPEN


def test_the_venues_own_ping_is_sent_at_its_interval() -> None:
    rig = Rig(Plain(keepalive=({"op": "ping"}, 20.0))).open()
    rig.wait(60.0)
    assert rig.sent() == [{"op": "ping"}] * 3


def test_a_heartbeat_that_must_be_answered_is_answered() -> None:
    rig = Rig().open()
    rig.receive(Respond({"op": "pong", "n": 7}))
    assert rig.sent() == [{"op": "pong", "n": 7}]


def test_a_connection_is_cut_at_its_maximum_age_if_the_venue_allows_no_second_one() -> None:
    rig = Rig(Plain(Limits(max_age=5.0, connections=1))).open()
    rig.wait(4.999)
    assert rig.state is OPEN
    rig.wait(0.001)
    assert "would end" in str(rig.done(Cut)[0].error)
    assert rig.state is CONNECTING


# --- silent channels -----------------------------------------------------------------------------


def test_a_silent_channel_is_resubscribed_on_the_same_connection() -> None:
    rig = Rig(stale_after=30.0).active("a")
    rig.wait(29.999)
    assert rig.asked() == [("subscribe", ["a"])]
    rig.wait(0.001)
    assert rig.asked()[1:] == [("unsubscribe", ["a"]), ("subscribe", ["a"])]
    assert rig.state is OPEN


def test_data_restarts_the_clock_of_its_channel_only() -> None:
    rig = Rig(stale_after=30.0).active("a", "b")
    rig.wait(20.0)
    rig.data("a")
    rig.wait(10.0)
    assert rig.asked()[2:] == [("unsubscribe", ["b"]), ("subscribe", ["b"])]


def test_the_clock_of_a_channel_starts_when_it_is_confirmed() -> None:
    rig = Rig(stale_after=5.0, ack_timeout=100.0).open()
    rig.subscribe("a")
    rig.wait(20.0)
    assert rig.asked() == [("subscribe", ["a"])]
    rig.ack("a")
    assert rig.deadline() == rig.now + 5.0


def test_a_confirmation_makes_the_watchdog_check_its_deadline() -> None:
    """It may fall silent before anything else is due."""
    rig = Rig(stale_after=5.0).open()
    rig.subscribe("a")
    rig.received(rig.cid, [Ack(channel="a")], rig.now)
    rig.supervisor.actions()
    assert rig.is_due
    rig.deadline()
    assert not rig.is_due


def test_a_channel_that_stays_silent_cuts_the_connection() -> None:
    rig = Rig(stale_after=30.0).active("a")
    rig.wait(30.0)
    rig.ack("a")  # for the unsubscribe
    rig.ack("a")
    rig.wait(29.999)
    assert rig.done(Cut) == []
    rig.wait(0.001)
    assert "silent" in str(rig.done(Cut)[0].error)


def test_data_ends_the_suspicion_of_a_silent_channel() -> None:
    rig = Rig(stale_after=30.0).active("a")
    rig.wait(30.0)
    rig.ack("a")
    rig.ack("a")
    rig.data("a")
    rig.wait(30.0)
    assert rig.done(Cut) == []
    assert rig.asked()[3:] == [("unsubscribe", ["a"]), ("subscribe", ["a"])]


def test_a_resubscribed_channel_carries_a_gap() -> None:
    rig = Rig(stale_after=30.0).active("a")
    last = rig.data("a")[0].received_at
    rig.wait(30.0)
    assert rig.data("a")[0].gap == Gap("reconnect", None, last)


def test_a_reconnect_ends_the_suspicion_of_a_silent_channel() -> None:
    rig = Rig(stale_after=30.0).active("a")
    rig.wait(30.0)
    rig.drop()
    rig.open()
    rig.ack("a")
    rig.wait(30.0)
    assert rig.done(Cut) == []
    assert rig.state is OPEN


def test_without_stale_after_channels_have_no_deadline() -> None:
    rig = Rig(stale_after=None).active("a")
    rig.wait(10_000.0)
    assert rig.state is OPEN
    assert len(rig.asked()) == 1


# --- unanswered resubscriptions ------------------------------------------------------------------


def test_an_unanswered_resubscription_is_sent_again_and_then_cuts_the_connection() -> None:
    rig = Rig(ack_timeout=20.0).active("a")
    rig.drop()
    rig.open()
    assert rig.asked() == [("subscribe", ["a"])]
    rig.wait(20.0)
    assert rig.asked() == [("subscribe", ["a"])] * 2
    rig.wait(20.0)
    assert "'a' is not answered" in str(rig.done(Cut)[0].error)
    assert rig.wanted()[0][0] == "a"


def test_a_first_subscribe_without_an_answer_times_out_and_is_undone() -> None:
    """The venue may have received it, and must not stay subscribed."""
    rig = Rig(ack_timeout=20.0).open()
    call = rig.subscribe("a")
    rig.wait(20.0)
    error = rig.outcome(call)
    assert isinstance(error, SubscriptionTimeout)
    assert error.failed == {"a": "no answer within 20 s"}
    assert rig.asked() == [("subscribe", ["a"]), ("unsubscribe", ["a"])]
    assert rig.wanted() == []


# --- sleep ---------------------------------------------------------------------------------------


def test_after_a_sleep_the_peer_is_not_blamed_but_pinged() -> None:
    rig = Rig(ping_interval=20.0, ping_timeout=10.0, silence_timeout=30.0).open()
    rig.wait(5.0)
    rig.now += 3600.0
    rig.supervisor.tick(rig.now, {rig.cid: ConnectionView(rig.now - 3605.0, in_frame=True)})
    assert rig.state is OPEN
    assert rig.done(Ping) == [Ping(1)]


def test_a_slightly_late_tick_is_no_stop() -> None:
    rig = Rig(silence_timeout=5.0).open()
    rig.sleep(5.249)
    assert rig.state is BACKING_OFF


def test_a_short_sleep_past_a_deadline_is_a_sleep_too() -> None:
    rig = Rig(silence_timeout=5.0).open()
    rig.sleep(5.251)
    assert rig.state is OPEN


def test_a_sleep_does_not_age_a_channel() -> None:
    rig = Rig(stale_after=30.0).active("a")
    rig.wait(11.0)
    rig.sleep(3600.0)
    assert rig.asked() == [("subscribe", ["a"])]


def test_a_sleep_postpones_the_answers_that_are_due() -> None:
    rig = Rig(ack_timeout=20.0).open()
    call = rig.subscribe("a")
    rig.wait(12.0)
    rig.sleep(3600.0)
    rig.wait(7.999)
    assert rig.outcome(call) == "waiting"
    rig.wait(0.001)
    assert isinstance(rig.outcome(call), SubscriptionTimeout)


def test_a_sleep_does_not_age_an_attempt() -> None:
    rig = Rig(connect_timeout=10.0)
    rig.connect()
    rig.sleep(3600.0)
    assert rig.state is CONNECTING
    rig.wait(10.0)
    assert rig.state is BACKING_OFF


def test_a_sleep_excuses_only_once() -> None:
    rig = Rig(silence_timeout=30.0).open()
    rig.sleep(3600.0)
    rig.wait(29.999)
    assert rig.done(Cut) == []
    rig.wait(0.001)
    assert len(rig.done(Cut)) == 1


def test_a_callers_own_timeout_includes_a_sleep() -> None:
    rig = Rig().open()
    rig.request(timeout=50.0)
    rig.sleep(60.0)
    assert isinstance(rig.outcome("request"), WaitTimeout)


def test_a_sleep_is_harmless_with_an_unrequested_channel() -> None:
    rig = Rig().open()
    rig.data("x")
    rig.sleep(600.0)
    assert rig.state is OPEN


# --- the next tick -------------------------------------------------------------------------------


@pytest.mark.parametrize("situation", ["idle", "failed", "closed"])
def test_nothing_is_due_if_nothing_can_happen(situation: str) -> None:
    rig = SITUATIONS[situation][1]()
    rig.tick()
    assert rig.deadline() == INF
    assert not rig.is_due


@pytest.mark.parametrize(
    ("options", "prepare", "after"),
    [
        ({"ping_interval": 3.0}, lambda rig: None, 3.0),
        ({"silence_timeout": 4.0}, lambda rig: None, 4.0),
        ({"stale_after": 5.0}, lambda rig: rig.active("a"), 5.0),
        ({"ack_timeout": 6.0}, lambda rig: rig.subscribe("a"), 6.0),
        ({}, lambda rig: rig.subscribe("a", timeout=7.0), 7.0),
        ({}, lambda rig: rig.request(timeout=8.0), 8.0),
        ({}, lambda rig: None, 10.0),
        ({}, lambda rig: rig.wait(10.0), INF),
    ],
)
def test_the_next_tick_is_at_the_earliest_deadline(
    options: dict[str, float], prepare: Callable[[Rig], object], after: float
) -> None:
    rig = Rig(**options).open()
    prepare(rig)
    assert rig.deadline() == rig.now + after


def test_a_rate_limited_message_is_due_when_the_rate_allows_it() -> None:
    rig = Rig(Plain(Limits(messages_per_second=2))).open()
    rig.subscribe("a", "b", "c")
    assert rig.deadline() == rig.now + 1.0


def test_a_close_that_is_not_answered_is_due() -> None:
    rig = Rig().open()
    rig.supervisor.close(rig.now, 1.0)
    assert rig.deadline() == rig.now + 0.5


def test_while_it_connects_the_caller_and_the_attempt_have_deadlines() -> None:
    rig = Rig(connect_timeout=10.0)
    rig.connect(timeout=50.0)
    assert rig.deadline() == rig.now + 10.0
    rig.connect("hasty", timeout=4.0)
    assert rig.deadline() == rig.now + 4.0


# --- logs and coun-------------------------------------------------------------------------------


def test_unreadable_frames_are_logged_once_per_second_and_all_counted() -> None:
    rig = Rig().open()
    for text in ("rubbish", "of", "every", "kind"):
        rig.receive(Invalid(text))
    rig.wait(0.999)
    assert rig.logs("warning") == ["skipped rubbish"]
    rig.wait(0.001)
    rig.receive(Invalid("more rubbish"))
    assert rig.logs("warning") == ["skipped rubbish", "skipped kind (and 2 before it)"]
    rig.wait(1.0)
    assert rig.logs("warning")[2:] == ["skipped more rubbish"]
    assert rig.supervisor.counters.invalid == 5


def test_an_unknown_type_is_logged_once_and_counted_each_time() -> None:
    rig = Rig().open()
    for kind in ("odd", "odd", "even"):
        rig.receive(Unhandled(kind))
        rig.wait(1.0)
    assert rig.logs("warning") == [
        "unhandled message type 'odd' (logged once per type)",
        "unhandled message type 'even' (logged once per type)",
    ]
    assert rig.supervisor.counters.unhandled == 3


def test_at_most_a_thousand_unknown_types_are_remembered() -> None:
    rig = Rig().open()
    rig.receive(*(Unhandled(str(n)) for n in range(1500)))
    rig.wait(1.0)
    assert rig.logs("warning")[1:] == [
        "unhandled message type '999' (logged once per type) (and 998 before it)"
    ]


def test_the_venues_notices_are_logged_up_to_a_length() -> None:
    rig = Rig().open()
    rig.receive(Notice("x" * 10_000))
    (text,) = rig.logs("warning")
    assert text.startswith("the venue says: xxx")
    assert len(text) < 300


def test_each_change_of_state_is_logged() -> None:
    rig = Rig().open()
    rig.drop(ConnectionLost("gone"))
    assert [text.partition(":")[0] for text in rig.logs("info")] == ["connecting", "open"]
    assert rig.logs("warning") == ["disconnected: gone; next attempt in 1.00 s"]


def test_an_attempt_without_delay_is_logged_as_one_at_once() -> None:
    rig = Rig(random=0.0).open()
    rig.drop(ConnectionLost("gone"))
    assert rig.logs("warning") == ["disconnected: gone; next attempt at once"]


def test_everything_is_counted() -> None:
    rig = Rig().active("a")
    rig.data("a", 1, 3)
    rig.drop()
    rig.wait(delay(rig))
    rig.drop()
    rig.open()
    rig.data("a", 4)
    counters = rig.supervisor.counters
    assert (counters.dials, counters.connects, counters.disconnects) == (3, 2, 1)
    assert (counters.messages, counters.gaps, counters.missed) == (3, 1, 1)


def test_a_lost_message_is_counted_like_any_other() -> None:
    rig = Rig().active("a")
    rig.drop()
    rig.open()
    rig.reject("a")
    assert (rig.supervisor.counters.messages, rig.supervisor.counters.gaps) == (1, 1)


# --- a connection's own count --------------------------------------------------------------------


def test_a_jump_of_the_connections_count_marks_every_channel() -> None:
    rig = Rig().active("a", "b")
    rig.receive(Counted(1), rig.message("a"), Counted(2), rig.message("b"))

    messages = rig.receive(Counted(4), rig.message("a"), Counted(5), rig.message("b"))
    after = rig.receive(Counted(6), rig.message("a"), Counted(7), Heartbeat())

    assert [m.gap and m.gap.reason for m in messages] == ["sequence", "sequence"]
    assert [m.gap for m in after] == [None]
    text = "the connection's frame number jumped from 2 to 4; data may be missing"
    assert rig.logs("warning") == [text]


def test_the_count_of_a_heartbeat_shows_a_jump_too() -> None:
    rig = Rig().active("a")
    rig.receive(Counted(1), rig.message("a"))
    rig.receive(Counted(3), Heartbeat())
    (message,) = rig.data("a")
    assert message.gap is not None
    assert message.gap.reason == "sequence"


def test_each_connection_counts_for_itself() -> None:
    rig = Rig().active("a")
    rig.receive(Counted(7), rig.message("a", 1))
    rig.drop()
    rig.open()
    rig.receive(Counted(0), rig.message("a", 2))
    assert not [text for text in rig.logs("warning") if "jumped" in text]


# --- a venue that speaks first -------------------------------------------------------------------


def test_nothing_is_sent_before_the_greeting_of_a_venue_that_greets() -> None:
    rig = Rig(Plain(greets=True))
    rig.connect()
    rig.subscribe("a")
    rig.opened()
    assert (rig.state, rig.sent()) == (State.AUTHENTICATING, [])

    rig.receive(LoginAccepted())

    assert (rig.state, rig.asked()) == (State.OPEN, [("subscribe", ["a"])])


def test_a_connection_without_a_greeting_times_out() -> None:
    rig = Rig(Plain(greets=True), connect_timeout=5.0)
    rig.connect()
    rig.opened()
    rig.wait(5.0)
    assert rig.state is State.BACKING_OFF


# --- counters and rates --------------------------------------------------------------------------


def test_frames_are_counted_before_their_messages() -> None:
    rig = Rig().active("a", "b")
    counters, rates = rig.supervisor.counters, rig.supervisor.intake.rates
    rig.count(2, 100, rig.now)
    rig.data("a", 1)
    rig.data("b", 1)
    rig.now += 20
    rig.count(3, 50, rig.now)
    assert rig.supervisor.intake.totals() == (2, 150, {"a": 1, "b": 1})
    assert (counters.frames, counters.bytes) == (5, 150)
    assert rates.counted_at == rig.now
    window = rates.recent(rig.now + 1)
    assert window is not None
    assert (window.start.messages, window.start.bytes) == (2, 100)
    assert window.start.channels == {"a": 1, "b": 1}
    rig.count(1, 1, rig.now + 1)
    assert rates.due == rig.now + STEP


def test_a_connections_rate_begins_when_it_is_open() -> None:
    rig = Rig().active("a")
    rig.data("a", 1, 2)
    rig.drop()
    rig.tick()
    rig.now += 3
    rig.opened()
    window = rig.supervisor.intake.rates.connection(rig.now + 2)
    assert window is not None
    assert (window.seconds, window.start.messages, window.start.channels) == (2.0, 2, {"a": 2})


def test_an_unsubscribed_channels_lag_is_forgotten() -> None:
    rig = Rig().active("a", "b")
    for channel in "ab":
        rig.supervisor.upkeep.venue_lags.record(channel, 5)
    rig.unsubscribe("a")
    rig.tick()
    rig.ack("a")
    assert list(rig.supervisor.upkeep.venue_lags.by_channel) == ["b"]
