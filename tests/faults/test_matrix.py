"""The table's own arithmetic."""

from __future__ import annotations

from support.matrix import Line, percentile


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(100)]

    assert percentile(values, 50) == 50.0
    assert percentile(values, 99) == 99.0
    assert percentile([3.0], 99) == 3.0


def test_a_line_that_is_not_held_says_so() -> None:
    assert Line(4, "drop", "<= 50 ms", "70 ms", False).cells[-1] == "NOT HELD"
