"""Replies to callers' requests; more of them in test_supervisor.py, with the client around."""

from __future__ import annotations

import pytest

from support.rig import Rig
from wsclient.errors import OutcomeUnknown, RequestRejected, RequestTimeout
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


def _request(rig: Rig, count: int = 1) -> int:
    request_id = rig.begin_request("request", rig.now + 10.0, rig.now, count)
    assert rig.outcome("request") == "waiting"
    return request_id


def test_items_that_failed_inside_a_success_are_told_one_by_one() -> None:
    rig = Rig().open()
    answer = {"code": 0, "rows": [1, 2, 3]}
    rig.receive(Reply(_request(rig), answer, failed={0: "no funds", 2: "no such order"}))
    error = rig.outcome("request")
    assert isinstance(error, RequestRejected)
    assert error.failed == {0: "no funds", 2: "no such order"}
    assert error.reply == answer
    assert "item 0: no funds; item 2: no such order" in str(error)


def test_the_text_of_an_error_names_the_first_items_only() -> None:
    rig = Rig().open()
    rig.receive(Reply(_request(rig), {}, failed=dict.fromkeys(range(100), "no")))
    error = rig.outcome("request")
    assert isinstance(error, RequestRejected)
    assert len(error.failed) == 100
    assert str(error).endswith("item 4: no; and 95 more")


def test_an_answer_that_is_refused_as_a_whole_may_name_its_items() -> None:
    rig = Rig().open()
    rig.receive(Reply(_request(rig), {}, "all operations failed", {0: "no funds"}))
    error = rig.outcome("request")
    assert isinstance(error, RequestRejected)
    assert "all operations failed" in str(error)
    assert error.failed == {0: "no funds"}


def test_a_venue_that_does_not_know_leaves_the_outcome_unknown() -> None:
    rig = Rig().open()
    rig.receive(Reply(_request(rig), {"status": 500}, "timeout", is_unknown=True))
    error = rig.outcome("request")
    assert isinstance(error, OutcomeUnknown)
    assert not isinstance(error, RequestTimeout)
    assert "timeout" in str(error)
    assert error.reply == {"status": 500}


def test_a_request_with_an_answer_for_each_item_waits_for_all_of_them() -> None:
    rig = Rig().open()
    request_id = _request(rig, 3)
    rig.receive(Reply(request_id, "a"))
    rig.receive(Reply(request_id, "b"))
    assert rig.outcome("request") == "waiting"
    rig.receive(Reply(request_id, "c"))
    assert rig.outcome("request") is None
    assert rig.settled["request"][0].result == ["a", "b", "c"]
    assert not rig.connection.replies.are_open


def test_the_items_whose_own_answer_is_an_error_have_failed() -> None:
    rig = Rig().open()
    request_id = _request(rig, 2)
    rig.receive(Reply(request_id, "a"))
    rig.receive(Reply(request_id, "b", "unknown order"))
    error = rig.outcome("request")
    assert isinstance(error, RequestRejected)
    assert error.failed == {1: "unknown order"}
    assert error.reply == ["a", "b"]


def test_the_answers_that_came_before_the_connection_ended_are_kept() -> None:
    rig = Rig().open()
    rig.receive(Reply(_request(rig, 2), "a"))
    rig.drop()
    error = rig.outcome("request")
    assert isinstance(error, OutcomeUnknown)
    assert error.reply == ["a"]


def test_the_answers_that_came_in_time_are_kept() -> None:
    rig = Rig().open()
    rig.receive(Reply(_request(rig, 2), "a"))
    rig.wait(10.0)
    error = rig.outcome("request")
    assert isinstance(error, RequestTimeout)
    assert isinstance(error, TimeoutError)
    assert error.reply == ["a"]


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
