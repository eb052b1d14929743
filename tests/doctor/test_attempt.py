"""The attempt: what it reached in time."""

from __future__ import annotations

import threading
from typing import Any

from support.broken import HOST, SHORT, resolving
from support.checks import check, statuses
from support.helpers import until
from wsclient import diagnose


def is_client_there() -> bool:
    return any(thread.name == "wsclient-watchdog" for thread in threading.enumerate())


def test_a_step_reached_after_the_deadline_does_not_count() -> None:
    """A lookup that ends too late has failed: no address was tried, so none is to blame."""

    def resolve() -> Any:
        until(lambda: not is_client_there())
        return [("127.0.0.1", 9)]

    with resolving(venue_example=resolve):
        diagnosis = diagnose(f"ws://{HOST}/", timeout=SHORT)
    assert check(diagnosis, "dns").detail == f"no DNS server answered for {HOST}"
    assert {status for _, status in statuses(diagnosis)[1:]} == {"skipped"}
