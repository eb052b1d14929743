"""The reports of misfits: one post at a time, and none is lost."""

from __future__ import annotations

import queue
from collections.abc import Callable

from support.interrupting import points
from support.making import message as make
from wsclient.runtime.decoding import Misfit
from wsclient.runtime.gaps import Gaps
from wsclient.runtime.misfits import Misfits

Reports = list[tuple[str, str, int]]


def drop(gaps: Gaps, channel: str, text: str) -> None:
    message = make(channel)
    message.kind = Misfit(text)
    store = {0: message}
    gaps.drop_misfit(message, store, 0)
    assert store == {}


def rig() -> tuple[Misfits, queue.SimpleQueue[Callable[[], None]], Reports]:
    posts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    reports: Reports = []
    return Misfits(posts.put, lambda *report: reports.append(report)), posts, reports


def test_the_newest_of_all_since_the_last_report_is_reported() -> None:
    misfits, posts, reports = rig()
    gaps = Gaps(())
    for channel in ("a", "b"):
        for n in range(2):
            drop(gaps, channel, f"{channel} {n}")
            misfits(gaps)
        assert posts.qsize() == 1
        posts.get_nowait()()
    assert reports == [("a", "a 1", 2), ("b", "b 1", 2)]
    misfits(gaps)
    posts.get_nowait()()
    assert len(reports) == 2


def test_one_post_reports_all_queues() -> None:
    misfits, posts, reports = rig()
    for channel in ("a", "b"):
        gaps = Gaps(())
        drop(gaps, channel, channel)
        misfits(gaps)
    posts.get_nowait()()
    assert sorted(reports) == [("a", "a", 1), ("b", "b", 1)]
    assert posts.empty()


def test_what_is_dropped_during_a_report_is_reported_next() -> None:
    posts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    reports: Reports = []
    gaps = Gaps(())

    def report(channel: str, text: str, count: int) -> None:
        reports.append((channel, text, count))
        if len(reports) == 1:
            drop(gaps, "b", "second")
            misfits(gaps)

    misfits = Misfits(posts.put, report)
    drop(gaps, "a", "first")
    misfits(gaps)
    while not posts.empty():
        posts.get_nowait()()
    assert reports == [("a", "first", 1), ("b", "second", 1)]


def test_after_an_interrupt_at_any_point_the_next_call_reports() -> None:
    for point in points():
        misfits, posts, reports = rig()
        gaps = Gaps(())
        drop(gaps, "a", "text")
        point(misfits, gaps)
        misfits(gaps)
        while not posts.empty():
            posts.get_nowait()()
        assert reports == [("a", "text", 1)], str(point)
