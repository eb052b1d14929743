"""The checks of an open connection: subscription, message, pings, its end."""

from __future__ import annotations

from support.broken import (
    SHORT,
    Mute,
    open_venue,
    skewed,
)
from support.checks import check
from support.helpers import Call
from wsclient import diagnose
from wsclient.testing import FakeVenue


def test_a_refused_channel() -> None:
    with open_venue(subscribe="gone") as options:
        diagnosis = diagnose(**options)
    assert check(diagnosis, "subscribe").detail == "refused: gone: no such channel"
    assert "name" in check(diagnosis, "subscribe").advice
    assert check(diagnosis, "message").status == "skipped"
    assert check(diagnosis, "ping").status == "ok"
    assert not diagnosis.is_healthy


def test_an_answer_that_does_not_come() -> None:
    with open_venue(subscribe="muted", timeout=1.0) as options:
        diagnosis = diagnose(**options)
    assert check(diagnosis, "subscribe").status == "failed"
    assert "no answer to the subscription (muted)" in check(diagnosis, "subscribe").detail
    assert check(diagnosis, "ping").status in ("ok", "warning")


def test_a_channel_that_is_silent() -> None:
    with open_venue(subscribe=["a", "b"], timeout=1.0) as options:
        diagnosis = diagnose(**options)
    assert check(diagnosis, "subscribe").detail == "acknowledged: a, b"
    assert check(diagnosis, "message").status == "failed"
    assert "quiet" in check(diagnosis, "message").advice
    assert not diagnosis.is_healthy


def test_pings_that_nobody_answers() -> None:
    with open_venue(Mute(), timeout=SHORT) as options:
        diagnosis = diagnose(**options)
    assert check(diagnosis, "ping").status == "failed"
    assert "nothing comes back" in check(diagnosis, "ping").advice
    assert not diagnosis.is_healthy


def test_pings_that_are_no_longer_answered() -> None:
    with skewed(pongs=2) as options:
        diagnosis = diagnose(**options, timeout=1.5)
    assert check(diagnosis, "ping").status == "warning"
    assert "median of 2; then one was not answered in time" in check(diagnosis, "ping").detail
    assert diagnosis.is_healthy


def test_a_connection_that_ends_while_it_is_pinged() -> None:
    with FakeVenue(Mute()) as venue:
        calling = Call(diagnose, venue.url)
        peer = venue.accept()
        venue.wait_for(lambda _: peer.pings)
        peer.close(1012, "restart")
        diagnosis = calling.result()
    assert check(diagnosis, "ping").status == "failed"
    assert "1012: restart" in check(diagnosis, "ping").detail
    assert "reconnects by itself" in check(diagnosis, "ping").advice


def test_a_connection_that_ends_while_a_message_is_waited_for(venue: FakeVenue) -> None:
    calling = Call(diagnose, venue.url, subscribe="a")
    venue.wait_for(lambda v: v.subscribers("a"))[0].close(4001, "no")
    diagnosis = calling.result()
    failed = [c for c in diagnosis.checks if c.status == "failed"]
    assert [c.name for c in failed] in (["subscribe"], ["message"])
    assert "4001" in failed[0].detail
    assert "close code 4001" in failed[0].advice
    assert check(diagnosis, "ping").status == "skipped"
