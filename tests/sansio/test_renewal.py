"""The renewal of a connection's token, and what follows when it expires."""

from __future__ import annotations

from typing import Any

import pytest

from support.rig import Plain, Rig
from wsclient.dialect.values import Credentials
from wsclient.errors import ConnectionLost, HandshakeRejected, WSClientError
from wsclient.events import Disconnected, Reconnecting, RenewalFailed
from wsclient.sansio.actions import Renew
from wsclient.sansio.life import State
from wsclient.stream.items import Expired

EVERY = 1000.0


def opened(token: Any = "key", every: float | None = EVERY) -> Rig:
    """Return a rig whose connection is open and has a token."""
    rig = Rig(Plain(renewal_interval=every))
    rig.connect()
    credentials = Credentials({}, lambda: 0.0, token)
    rig.supervisor.opened(rig.cid, None, rig.now, credentials)
    rig.tick()
    return rig


def finished(rig: Rig, error: WSClientError | None = None, *, has_expired: bool = False) -> None:
    rig.connection.renewal.finished(error, rig.now, has_expired=has_expired)
    rig.tick()


def renewals(rig: Rig) -> int:
    return len(rig.done(Renew))


def test_a_token_is_renewed_at_its_interval() -> None:
    rig = opened()
    rig.wait(EVERY - 1.0)
    assert renewals(rig) == 0
    rig.wait(1.0)
    assert rig.done(Renew) == [Renew(rig.cid)]
    finished(rig)
    rig.wait(EVERY)
    assert renewals(rig) == 2


def test_no_second_request_follows_before_the_first_has_ended() -> None:
    rig = opened()
    rig.wait(5 * EVERY)
    assert renewals(rig) == 1


@pytest.mark.parametrize(("token", "every"), [(None, EVERY), ("key", None)])
def test_nothing_is_renewed_without_a_token_or_an_interval(
    token: str | None, every: float | None
) -> None:
    rig = opened(token, every)
    rig.wait(5 * EVERY)
    assert renewals(rig) == 0


def test_a_connection_that_is_not_open_yet_renews_nothing() -> None:
    rig = Rig(Plain(renewal_interval=1.0), connect_timeout=100.0)
    rig.connect()
    rig.wait(50.0)
    assert renewals(rig) == 0


@pytest.mark.parametrize(("every", "delay"), [(EVERY, 60.0), (100.0, 10.0)])
def test_a_failure_is_reported_and_soon_followed_by_another_attempt(
    every: float, delay: float
) -> None:
    rig = opened(every=every)
    rig.wait(every)
    finished(rig, ConnectionLost("no route"))
    assert rig.emitted(RenewalFailed) == [RenewalFailed(delay, "no route", connection_id=rig.cid)]
    rig.wait(delay - 1.0)
    assert renewals(rig) == 1
    rig.wait(1.0)
    assert renewals(rig) == 2
    assert rig.state is State.OPEN


def test_the_venue_may_ask_for_a_longer_wait() -> None:
    rig = opened()
    rig.wait(EVERY)
    finished(rig, HandshakeRejected("slow down", 429, 300.0))
    rig.wait(299.0)
    assert renewals(rig) == 1
    rig.wait(1.0)
    assert renewals(rig) == 2


def test_a_token_that_is_not_known_any_more_replaces_the_connection_at_once() -> None:
    rig = opened()
    rig.wait(EVERY)
    finished(rig, HandshakeRejected("HTTP 400", 400), has_expired=True)
    assert [event.reason for event in rig.emitted(Disconnected)] == ["expired"]
    assert [event.delay for event in rig.emitted(Reconnecting)] == [0.0]
    assert rig.state is State.CONNECTING
    assert rig.emitted(RenewalFailed) == []


def test_an_expired_connection_is_replaced_at_once_and_its_channels_have_a_gap() -> None:
    rig = opened()
    rig.active("account")
    rig.data("account")
    first = rig.cid
    rig.receive(Expired("the key has expired"))
    rig.tick()
    assert (rig.state, rig.cid) == (State.CONNECTING, first + 1)
    rig.open().ack("account")
    (message,) = rig.data("account")
    assert message.gap is not None
    assert message.gap.reason == "reconnect"


def test_tokens_that_expire_at_once_do_not_make_it_connect_at_any_rate() -> None:
    rig = opened()
    for _ in range(5):
        rig.receive(Expired("the key has expired"))
        rig.wait(60.0) if rig.state is State.BACKING_OFF else None
        rig.open()
    delays = [event.delay for event in rig.emitted(Reconnecting)]
    assert delays[-1] > delays[0]


def test_the_reason_of_an_end_is_one_line() -> None:
    rig = opened()
    rig.receive(Expired("gone\nfor good"))
    assert [event.why for event in rig.emitted(Disconnected)] == ["gone for good"]
