"""Replies to callers' requests; more of them in test_supervisor.py, with the client around."""

from __future__ import annotations

import pytest

from support.rig import Rig
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
