"""The report: its table."""

from __future__ import annotations

from wsclient import Check, Diagnosis


def test_a_table_of_a_given_width() -> None:
    checks = (
        Check("dns", "ok", 0.0123, "word " * 40),
        Check("tcp", "failed", None, "no", "advice " * 30),
        Check("ping", "warning", 1.5, "", ""),
    )
    text = Diagnosis("ws://x", checks).table(60, lambda status, text: text)
    assert max(map(len, text.splitlines())) <= 60
    assert "FAILED" in text
    assert "12.3 ms" in text
    assert "1,500.0 ms" in text
    assert text.endswith("Not healthy: tcp failed.")


def test_a_notebook_shows_the_table() -> None:
    """A cell's last line is shown by its ``repr``."""
    found = Diagnosis("ws://x", (Check("dns", "ok", 0.0123, "127.0.0.1"),))
    assert repr(found) == str(found) == found.table()
    assert "12.3 ms" in repr(found)
