"""Fixtures of the fault tests: the fault matrix, and the search for secrets.

``promise`` checks a figure of the fault matrix and puts it in the table that ends a run. No fault
may make a secret known: every test here is searched for the canaries.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.canaries import found_in, variables_of
from support.matrix import Line
from wsclient.events import Event
from wsclient.runtime import common
from wsclient.runtime.eventhub import EventHub
from wsclient.runtime.eventstream import EventStream

_lines: list[Line] = []


@pytest.fixture
def promise() -> Callable[..., None]:
    """Return ``promise(row, fault, what, measured, is_held)``.

    It enters the figure in the table, then asserts it.
    """

    def check(row: int, fault: str, what: str, measured: str, is_held: bool) -> None:
        _lines.append(Line(row, fault, what, measured, is_held))
        assert is_held, f"row {row}, {fault}: promised {what}, measured {measured}"

    return check


class _Search(logging.Handler):
    """Searches each log record for the canaries: its traceback, with variables, and its fields."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found += found_in(f"{self.format(record)} {vars(record)}")
        if record.exc_info and record.exc_info[1] is not None:
            self.found += found_in("\n".join(variables_of(record.exc_info[1])))


class _Ear(EventStream):
    """Searches each event for the canaries."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def put(self, event: Event) -> None:
        self.found += found_in(f"{event} {event!r} {vars(event)}")
        error = getattr(event, "error", None)
        if error is not None:
            self.found += found_in("\n".join(variables_of(error)))


@pytest.fixture(autouse=True)
def no_secret_is_in_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fail a test in which an event of any client has a canary; yield the findings."""
    found: list[str] = []
    ears: list[_Ear] = []

    class Overheard(EventHub):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            ears.append(_Ear(found))
            self.add(ears[-1])

    monkeypatch.setattr(common, "EventHub", Overheard)
    yield found
    assert not found, f"secrets in events: {found}"


@pytest.fixture(autouse=True)
def no_secret_is_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose log contains a canary, at any level."""
    root, venues = logging.getLogger(), logging.getLogger("websockets")
    frames = logging.getLogger("wsclient.frames")
    search = _Search()
    levels = [(x, x.level) for x in (root, venues, frames, *root.handlers)]
    if request.path.name != "test_security.py":
        frames.setLevel(logging.INFO)  # the search would slow down what is measured
    for handler in root.handlers:  # pytest's own: what it captures is unchanged
        handler.setLevel(max(handler.level, root.level))
    root.setLevel(logging.DEBUG)
    venues.setLevel(logging.WARNING)  # the FakeVenue's own, which may log what it receives
    root.addHandler(search)
    try:
        yield
    finally:
        root.removeHandler(search)
        for each, level in levels:
            each.setLevel(level)
    assert not search.found, f"secrets in the log: {search.found}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _lines or terminalreporter.config.getoption("markexpr") == "not soak":
        return
    rows = [("row", "fault", "promise", "measured", "")]
    rows += [line.cells for line in sorted(_lines, key=lambda line: (line.row, line.fault))]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    terminalreporter.section("fault matrix")
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)]
        terminalreporter.write_line("  ".join(cells).rstrip())
