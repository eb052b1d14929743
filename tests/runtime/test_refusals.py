"""The reports of refused messages: one post at a time, and none is lost."""

from __future__ import annotations

import queue
from collections.abc import Callable

from support.interrupting import points
from support.making import message as make
from wsclient.runtime.decoding import Misfit
from wsclient.runtime.gaps import Gaps
from wsclient.runtime.refusals import Refusals

Reports = list[tuple[str, str, int]]


def refuse(gaps: Gaps, channel: str, text: str) -> None:
    message = make(channel)
    message.kind = Misfit(text)
    store = {0: message}
    gaps.refuse(message, store, 0)
    assert store == {}


def rig() -> tuple[Refusals, queue.SimpleQueue[Callable[[], None]], Reports]:
    posts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    reports: Reports = []
    return Refusals(posts.put, lambda *report: reports.append(report)), posts, reports


def test_the_newest_of_all_refused_since_the_last_report_is_reported() -> None:
    refusals, posts, reports = rig()
    gaps = Gaps(())
    for channel in ("a", "b"):
        for n in range(2):
            refuse(gaps, channel, f"{channel} {n}")
            refusals(gaps)
        assert posts.qsize() == 1
        posts.get_nowait()()
    assert reports == [("a", "a 1", 2), ("b", "b 1", 2)]
    refusals(gaps)
    posts.get_nowait()()
    assert len(reports) == 2


def test_one_post_reports_all_queues() -> None:
    refusals, posts, reports = rig()
    for channel in ("a", "b"):
        gaps = Gaps(())
        refuse(gaps, channel, channel)
        refusals(gaps)
    posts.get_nowait()()
    assert sorted(reports) == [("a", "a", 1), ("b", "b", 1)]
    assert posts.empty()


def test_what_is_refused_during_a_report_is_reported_next() -> None:
    posts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    reports: Reports = []
    gaps = Gaps(())

    def report(channel: str, text: str, count: int) -> None:
        reports.append((channel, text, count))
        if len(reports) == 1:
            refuse(gaps, "b", "second")
            refusals(gaps)

    refusals = Refusals(posts.put, report)
    refuse(gaps, "a", "first")
    refusals(gaps)
    while not posts.empty():
        posts.get_nowait()()
    assert reports == [("a", "first", 1), ("b", "second", 1)]


def test_after_an_interrupt_at_any_point_the_next_call_reports() -> None:
    for point in points():
        refusals, posts, reports = rig()
        gaps = Gaps(())
        refuse(gaps, "a", "text")
        point(refusals, gaps)
        refusals(gaps)
        while not posts.empty():
            posts.get_nowait()()
        assert reports == [("a", "text", 1)], str(point)
