"""The bounds of what a venue can cause at any rate: log lines, and answers to heartbeats."""

from __future__ import annotations

import pytest

from wsclient.sansio.floods import LOG_INTERVAL, Answers, Throttles


class Log:
    """Collects what the throttles log."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str | None]] = []

    def __call__(self, level: str, text: str, channel: str | None) -> None:
        self.lines.append((level, text, channel))


def test_the_first_line_is_logged_at_once_with_its_channel() -> None:
    log = Log()
    Throttles(log).new("skipped").add("rubbish", 5.0, "a")
    assert log.lines == [("warning", "skipped rubbish", "a")]


@pytest.mark.parametrize(
    ("count", "more"),
    [(1, ""), (2, " (and 1 before it)"), (3, " (and 2 before it)")],
)
def test_the_newest_of_the_others_follows_with_their_number(count: int, more: str) -> None:
    log = Log()
    throttles = Throttles(log)
    throttle = throttles.new("skipped")
    throttle.add("first", 0.0)
    for n in range(count):
        throttle.add(f"later {n}", 0.1)
    assert (len(log.lines), throttles.deadline()) == (1, LOG_INTERVAL)
    throttles.tick(LOG_INTERVAL)
    assert log.lines[1][1] == f"skipped later {count - 1}{more}"


def test_secrets_are_masked_in_the_log_and_for_the_listener() -> None:
    log, heard = Log(), []
    throttles = Throttles(log, lambda text: text.replace("key", "***"))
    throttles.new("said", lambda text, count: heard.append((text, count))).add("a key", 0.0)
    assert log.lines[0][1] == "said a ***"
    assert heard == [("a ***", 1)]


def test_one_answer_waits_at_most_and_it_is_the_newest() -> None:
    answers = Answers()
    assert answers.add("one")
    assert not answers.add("two")
    assert answers.take(0.0) == ("two",)
    assert answers.take(0.0) is None
