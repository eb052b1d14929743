"""The session: each state against each event, then each rule by itself, then all at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rig import INF, LOGIN, Plain, Rig
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
from wsclient.messages import Gap, SubscriptionState
from wsclient.sansio.backoff import Verdict
from wsclient.sansio.dialect import (
    Ack,
    Heartbeat,
    Limits,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Respond,
    Subscribed,
    Unhandled,
)
from wsclient.sansio.heartbeat import LinkView
from wsclient.sansio.session import (
    TRANSITIONS,
    Abort,
    Cut,
    Dial,
    Fail,
    Hangup,
    Invalid,
    Log,
    Ping,
    State,
)

RETRY, RATE_LIMITED, FATAL = Verdict
IDLE, CONNECTING, AUTHENTICATING, OPEN, BACKING_OFF, FAILED, CLOSING, CLOSED = State

# --- Each state against each event ---------------------------------------------------------------
#
# A situation is a state and how it was come to: before the first success of connect() a failure
# ends in IDLE, afterwards the client goes on by itself. In each, somebody waits in connect() if
# that can wait there, for a channel, and for a reply.

SLOW = {"connect_timeout": 1000.0, "ack_timeout": 1000.0}


def first_connecting() -> Rig:
    rig = Rig(**SLOW)
    rig.connect("waiting")
    rig.subscribe("wished")
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
    rig.ack("wished")
    rig.subscribe("wished too")
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
    rig.session.fail(QueueOverflow("full"))
    return rig


def closing() -> Rig:
    rig = first_open()
    rig.session.close(rig.now, 1.0)
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
LINKS = (*DIALS, *LOGINS, *OPENS)
WAITS = ("backing off", "backing off again")
ALIVE = ("idle", *LINKS, *WAITS)
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
    """The same event, of a connection that is not the present one."""
    return lambda rig: [call(rig, cid) for cid in (rig.cid - 1, rig.cid + 1)]


def end(verdict: Verdict) -> Callable[[Rig], object]:
    return lambda rig: rig.drop(ConnectionLost("gone"), verdict)


def halt(rig: Rig) -> None:
    rig.wait(10.0, LinkView(rig.now, in_frame=True))


def next_deadline(rig: Rig) -> None:
    rig.wait(min(rig.deadline() - rig.now, 5000.0))


GIVEN_UP = all_of(("failed", QueueOverflow), (OVER, ClientClosed))
UNSENDABLE = all_of(("idle", NotConnected), (DIALS, NotConnected), (LOGINS, NotConnected),
                    (WAITS, NotConnected)) | GIVEN_UP  # fmt: skip
LOST = all_of((LINKS, BACKING_OFF), ("closing", CLOSED))

#: Of each event, what it leads to (a state, or an exception) where it does not leave the state.
EVENTS: dict[str, tuple[Callable[[Rig], object], dict[str, Expected]]] = {
    "connect()": (
        lambda rig: rig.connect("one more"),
        all_of(("idle", CONNECTING)) | GIVEN_UP,
    ),
    "the only connect() is given up": (
        lambda rig: (rig.cancel_connect("waiting"), rig.cancel_connect("waiting again")),
        all_of((FIRST_DIALS, IDLE)),
    ),
    "one of two connect()s is given up": (
        lambda rig: (rig.connect("one more"), rig.cancel_connect("one more")),
        all_of(("idle", IDLE)) | GIVEN_UP,
    ),
    "somebody gives up who does not wait": (lambda rig: rig.cancel_connect("nobody"), {}),
    "subscribe()": (
        lambda rig: rig.subscribe("a", "b"),
        all_of(("idle", NotConnected)) | GIVEN_UP,
    ),
    "unsubscribe() of the unknown": (lambda rig: rig.unsubscribe("unknown"), GIVEN_UP),
    "unsubscribe()": (lambda rig: rig.unsubscribe("wished"), GIVEN_UP),
    "a request": (lambda rig: rig.request("one more"), UNSENDABLE),
    "a message is to be sent": (lambda rig: rig.session.require_open(), UNSENDABLE),
    "the caller leaves a request": (lambda rig: rig.session.cancel_request(10**6), {}),
    "close()": (
        lambda rig: rig.session.close(rig.now, 1.0),
        dict.fromkeys(SITUATIONS, CLOSED) | all_of((OPENS, CLOSING), ("closing", CLOSING)),
    ),
    "close(), twice": (
        lambda rig: [rig.session.close(rig.now, 1.0) for _ in range(2)],
        dict.fromkeys(SITUATIONS, CLOSED) | all_of((OPENS, CLOSING), ("closing", CLOSING)),
    ),
    "a fatal error from outside": (
        lambda rig: rig.session.fail(WSClientError("bug")),
        all_of((ALIVE, FAILED)),
    ),
    "opened": (lambda rig: rig.opened(), all_of((DIALS, OPEN))),
    "opened, and a login is due": (
        lambda rig: rig.opened(LOGIN),
        all_of((DIALS, AUTHENTICATING)),
    ),
    "another connection opened": (
        late(lambda rig, cid: rig.session.opened(cid, None, rig.now)),
        {},
    ),
    "ended": (end(RETRY), LOST),
    "ended, rate-limited": (end(RATE_LIMITED), LOST),
    "ended for good": (end(FATAL), all_of((LINKS, FAILED), ("closing", CLOSED))),
    "another connection ended": (
        late(lambda rig, cid: rig.session.ended(cid, OSError(), RETRY, rig.now)),
        {},
    ),
    "another connection ended for good": (
        late(lambda rig, cid: rig.session.ended(cid, OSError(), FATAL, rig.now)),
        {},
    ),
    "data": (lambda rig: rig.data("wished"), {}),
    "data of an unknown channel": (lambda rig: rig.data("unknown"), {}),
    "nothing readable": (receive(), {}),
    "an answer": (receive(Ack(channel="wished")), {}),
    "an answer to nothing": (receive(Ack(request_id=10**6)), {}),
    "an answer without a name": (receive(Ack()), {}),
    "a cumulative answer": (receive(Subscribed(["wished"])), {}),
    "a refusal": (receive(Rejection("no", channel="wished")), {}),
    "a refusal of nothing": (receive(Rejection("no", request_id=10**6)), {}),
    "the login is accepted": (receive(LoginAccepted()), all_of((LOGINS, OPEN))),
    "the login is refused": (receive(LoginRefused("who?")), all_of((LOGINS, FAILED))),
    "another connection's login is accepted": (
        late(lambda rig, cid: rig.session.received(cid, [LoginAccepted()], rig.now)),
        {},
    ),
    "another connection's login is refused": (
        late(lambda rig, cid: rig.session.received(cid, [LoginRefused("who?")], rig.now)),
        {},
    ),
    "a heartbeat": (receive(Heartbeat()), {}),
    "a heartbeat to be answered": (receive(Respond({"op": "pong"})), {}),
    "a notice": (receive(Notice("maintenance")), {}),
    "a reply": (receive(Reply("3", {})), {}),
    "a reply to nothing": (receive(Reply(10**6, {})), {}),
    "an unknown type": (receive(Unhandled("odd")), {}),
    "an unreadable frame": (receive(Invalid("not JSON")), {}),
    "a refused message": (receive(Invalid("refused", "wished", 7)), {}),
    "a pong": (lambda rig: rig.session.pong(rig.cid), {}),
    "a ping": (lambda rig: rig.session.control(rig.cid, rig.now), {}),
    "another connection's pong": (late(lambda rig, cid: rig.session.pong(cid)), {}),
    "another connection's ping": (late(lambda rig, cid: rig.session.control(cid, rig.now)), {}),
    "a tick": (lambda rig: rig.tick(), {}),
    "a tick that sees no link": (lambda rig: rig.session.tick(rig.now, None), {}),
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
@pytest.mark.parametrize("situation", SITUATIONS)
def test_event(situation: str, event: str) -> None:
    """Each event in each situation leads where the table says, by legal steps only; and then
    close() ends it, and has woken everybody, once."""
    before, make = SITUATIONS[situation]
    happen, table = EVENTS[event]
    rig = make()
    assert rig.state is before

    expected = table.get(situation, before)
    if isinstance(expected, State):
        happen(rig)
        assert rig.state is expected
    else:
        with pytest.raises(expected):
            happen(rig)
        assert rig.state is before

    rig.close()
    assert all(after in TRANSITIONS[before] for before, after in rig.session.path)
