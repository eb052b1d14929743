"""Replies to callers' requests; more of them in test_supervisor.py, with the client around."""

from __future__ import annotations

import pytest

from support.rig import Rig
from wsclient.errors import OutcomeUnknown, RequestRejected
from wsclient.events import Noticed
from wsclient.stream.items import Reply


@pytest.mark.parametrize("was_cancelled", [False, True])
def test_a_reply_that_no_request_waits_for_is_no_invalid_frame(was_cancelled: bool) -> None:
    rig = Rig().open()
    request_id = 99
    if was_cancelled:
        request_id = rig.begin_request("gone", rig.now + 10.0, rig.now)
        rig.cancel_request(request_id)
    rig.receive(Reply(request_id, {}))
    assert rig.outcome("gone") == "waiting"
    assert rig.supervisor.counters.invalid == 0
    assert rig.logs("warning") == []


def test_an_error_that_leaves_the_outcome_open_is_no_refusal() -> None:
    rig = Rig().open()
    request_id = rig.request()
    rig.receive(Reply(request_id, {}, "Timeout (code -1007)", is_unknown=True))
    error = rig.outcome("request")
    assert isinstance(error, OutcomeUnknown)
    assert "Timeout (code -1007)" in str(error)


def test_an_error_without_an_id_answers_the_oldest_request() -> None:
    rig = Rig().open()
    rig.request("first")
    rig.request("second")
    rig.receive(Reply(None, {}, "no such key"))
    assert isinstance(rig.outcome("first"), RequestRejected)
    assert rig.outcome("second") == "waiting"


def test_it_answers_a_subscribe_that_is_older_than_all_requests() -> None:
    rig = Rig().open()
    subscribing = rig.subscribe("a")
    rig.request()
    rig.receive(Reply(None, {}, "no such key"))
    assert "no such key" in str(rig.outcome(subscribing))
    assert rig.outcome("request") == "waiting"


def test_it_answers_a_request_that_is_older_than_all_subscribes() -> None:
    rig = Rig().open()
    rig.request()
    subscribing = rig.subscribe("a")
    rig.receive(Reply(None, {}, "no such key"))
    assert isinstance(rig.outcome("request"), RequestRejected)
    assert rig.outcome(subscribing) == "waiting"


def test_it_is_a_notice_if_nothing_waits() -> None:
    rig = Rig().open()
    rig.receive(Reply(None, {}, "no such key"))
    (noticed,) = rig.emitted(Noticed)
    assert "no such key" in noticed.text
    assert rig.supervisor.counters.invalid == 0
