"""Without any logging configured, only a client that fails speaks on stderr."""

from __future__ import annotations

import pytest

import wsclient
from support.program import Program
from wsclient.testing import FakeVenue

#: A client whose connection is cut while the venue is down, and a function that raises.
FAILING = """
import logging, sys
{setup}
import wsclient
from wsclient.events import CallbackFailed, Failing
from wsclient.sansio import outages
from wsclient.testing import FakeVenue
from wsclient.threads.logs import flush

outages.FAILING_AFTER = 0.2
with FakeVenue() as venue:
    client = wsclient.connect(venue.url, name="feed", retry_delay=0.01, max_retry_delay=0.02)
    events = client.events(CallbackFailed, Failing)
    client.on("a", lambda message: 1 / 0)
    venue.publish("a")
    events.recv(10)
    assert client.stats().callback_errors == 1
    venue.down()
    for peer in venue.live:
        peer.rst()
    events.recv(10)
    {later}
    client.close(5)
    assert flush(5)
"""

REFUSED = """
import logging
{setup}
import wsclient
from wsclient.testing import FakeVenue
from wsclient.threads.logs import flush

with FakeVenue() as venue:
    venue.refuse(401)
    try:
        wsclient.connect(venue.url, name="feed")
    except wsclient.ConnectError:
        pass
    assert flush(5)
"""


def said(program: str, setup: str = "", later: str = "") -> list[str]:
    with Program(program.format(setup=setup, later=later)) as running:
        end = running.end()
    assert end.code == 0, end.err
    return end.err.splitlines()


def test_a_client_that_has_been_failing_says_so_and_nothing_else_does() -> None:
    (line,) = said(FAILING)
    assert line.startswith("feed: not connected for 0 s: ")
    assert line.endswith("; still trying")


def test_a_client_that_has_failed_says_so() -> None:
    (line,) = said(REFUSED)
    assert line.startswith("feed: failed: ")
    assert "401" in line


@pytest.mark.parametrize(
    "setup",
    [
        "logging.getLogger('wsclient').propagate = False",
        "logging.getLogger('wsclient').setLevel(logging.DEBUG)",
    ],
    ids=["propagate", "level"],
)
def test_a_program_without_a_handler_is_not_configured(setup: str) -> None:
    (line,) = said(FAILING, setup)
    assert line.startswith("feed: not connected for")


@pytest.mark.parametrize(
    "setup",
    [
        "logging.getLogger('wsclient').addHandler(logging.NullHandler())",
        "logging.getLogger().addHandler(logging.NullHandler())",
        "logging.getLogger('wsclient').setLevel(logging.ERROR)",
        "logging.getLogger('wsclient').addFilter(lambda record: False)",
        "logging.lastResort = None",
        "logging.disable()",
    ],
    ids=["ours", "root", "level", "filter", "lastResort", "disable"],
)
def test_a_program_may_silence_it_by_the_means_of_logging(setup: str) -> None:
    assert said(FAILING, setup) == []
    assert said(REFUSED, setup) == []


@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
def test_all_records_reach_a_handler_of_the_program_and_none_comes_twice(level: str) -> None:
    lines = said(FAILING, f"logging.basicConfig(level=logging.{level}, format='%(message)s')")
    found = [line for line in lines if line.startswith("feed: ")]
    assert sum("not connected for" in line for line in found) == 1
    assert any(line.startswith("feed: disconnected: ") for line in found)
    assert any("of on('a') raised" in line for line in found)
    assert ("feed: open: connection 1" in found) is (level == "DEBUG")
    assert any(line.startswith("feed: connection 1 sent: ") for line in found) is (level == "DEBUG")


def test_a_handler_that_is_added_later_gets_all_that_follows() -> None:
    lines = said(FAILING, later="logging.basicConfig(level=logging.INFO, format='%(message)s')")
    assert lines[0].startswith("feed: not connected for")
    assert "feed: closed" in lines


def test_a_diagnosis_reports_the_failure_itself() -> None:
    program = """
import wsclient
from wsclient.testing import FakeVenue
from wsclient.threads.logs import flush

with FakeVenue() as venue:
    venue.refuse(401)
    assert not wsclient.diagnose(venue.url).is_healthy
    assert flush(5)
"""
    assert said(program) == []


def test_under_pytest_the_report_is_captured(caplog: pytest.LogCaptureFixture) -> None:
    with FakeVenue() as venue:
        venue.refuse(401)
        with pytest.raises(wsclient.ConnectError):
            wsclient.connect(venue.url, name="feed")
    assert [r.getMessage() for r in caplog.records if "failed" in r.getMessage()]
