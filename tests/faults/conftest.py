"""``promise`` checks a figure of the fault matrix, and has it in the table that ends a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from matrix import Line

_lines: list[Line] = []


@pytest.fixture
def promise() -> Callable[..., None]:
    """``promise(row, fault, what, measured, is_held)``: in the table first, asserted then."""

    def check(row: int, fault: str, what: str, measured: str, is_held: bool) -> None:
        _lines.append(Line(row, fault, what, measured, is_held))
        assert is_held, f"row {row}, {fault}: promised {what}, measured {measured}"

    return check


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
