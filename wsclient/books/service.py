"""What the order books of one client share: the thread that feeds them, and their snapshots."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from wsclient.books.calls import BookCalls
from wsclient.books.feeder import Feeder
from wsclient.books.snapshots import Snapshots
from wsclient.runtime.core import Core
from wsclient.runtime.follower import Follower

__all__ = ["BookService"]

#: Keeps all digits of a number.
_encode = msgspec.json.Encoder(decimal_format="number").encode


class BookService(Follower):
    """The threads and the calls of one client's order books, built on its core."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.calls = BookCalls(core)
        make = partial(core.new_queue, "books")
        self.feeder = Feeder(make, core.add_queue, core.died)
        self.snapshots = Snapshots(
            core.options,
            core.emit,
            core.judge.now,
            core.clock,
            core.locks,
            core.mask,
            self._fetched,
        )

    def attach(self) -> None:
        """Follow the core, from now until its end. Runs on the watchdog thread."""
        core = self.core
        if core.follower is self:
            return
        core.follower = self
        core.at_end.append(self.snapshots.close)
        if not core.supervisor.life.may("fail"):  # it is over: nothing will call at_end
            self.snapshots.close()

    def _fetched(self, channel: str, connection_id: int, answer: Any) -> None:
        """Pass an answer by REST to the recorder, if there is one."""
        core = self.core
        if core.tap is not None:
            body = _encode(answer)
            with core.lock:
                if core.tap is not None:
                    core.tap.answered(channel, connection_id, body)

    def threads(self) -> Sequence[threading.Thread | None]:
        return self.feeder.thread, self.snapshots.thread

    def opened(self) -> None:
        self.snapshots.opened()

    def disconnected(self) -> None:
        if not self.core.supervisor.life.is_over:
            self.feeder.look()

    def confirmed(self) -> None:
        self.snapshots.confirmed()

    def caught_up(self) -> None:
        self.feeder.wake()  # the books were doubtful until now
