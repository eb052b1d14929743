"""The reports of messages that did not fit their declared type, from consumers to the watchdog."""

from __future__ import annotations

from collections.abc import Callable

from wsclient.runtime.gaps import Gaps
from wsclient.runtime.posts import Post
from wsclient.threads.pops import pops, run_all

__all__ = ["Misfits"]


class Misfits:
    """Reports misfits on the watchdog thread, with one post at a time.

    So a consumer whose messages are all misfits does not flood the watchdog. ``post`` runs a
    function on the watchdog thread and is written in C. ``report`` is called there, with the
    channel of the newest misfit, why it does not fit, and how many there are.
    """

    def __init__(
        self, post: Callable[[Post], None], report: Callable[[str, str, int], None]
    ) -> None:
        self._report = report
        #: The gaps of queues that have had misfits.
        self._changed: dict[Gaps, None] = {}
        #: The function to post; absent while it is posted. An interrupt cannot come between.
        self._posts: list[Post] = [self._run]
        self._posting = map(post, pops(self._posts.pop))

    def __call__(self, gaps: Gaps) -> None:
        """Report what ``gaps`` has counted since the last report. Called by consumers."""
        self._changed[gaps] = None
        try:
            run_all(self._posting)
        except IndexError:
            pass  # it is posted

    def _run(self) -> None:
        self._posts.append(self._run)  # first: what is counted from now on is posted again
        while self._changed:
            gaps, _ = self._changed.popitem()
            misfits, newest = gaps.misfits, gaps.newest_misfit
            count, gaps.reported = misfits - gaps.reported, misfits
            if count and newest is not None:
                channel, kind = newest
                self._report(channel, kind.text, count)
