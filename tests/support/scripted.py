"""A source without a socket: what comes, and when, is said by a test."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from wsclient.errors import ConnectionLost, WSClientError
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.stream.frames import Frames
from wsclient.threads.locks import Locks
from wsclient.threads.waiting import Waiter
from wsclient.threads.workers import WorkerThread, start
from wsclient.transport.source import FrameReceiver
from wsclient.transport.target import Target

__all__ = ["Script", "ScriptClock", "ScriptedSource"]


class ScriptClock:
    """Another time than the machine's: it runs as fast, and a test may put it forward."""

    def __init__(self) -> None:
        self._ahead = 1e9
        self.epoch = 0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def time_ns(self) -> int:
        return self.epoch

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


class Script:
    """The sources of one client, and the clock that they share."""

    def __init__(self) -> None:
        self.clock = ScriptClock()
        self.sources: queue.SimpleQueue[ScriptedSource] = queue.SimpleQueue()
        #: Whether subscribes are answered.
        self.answers = True

    def __call__(self, target: Target) -> Script:
        return self

    def mask(self, words: str) -> str:
        return words

    def make(
        self, connection_id: int, receiver: FrameReceiver, locks: Locks, route: str
    ) -> ScriptedSource:
        return ScriptedSource(connection_id, receiver, self)

    def next(self) -> ScriptedSource:
        """Return the next connection that the client has opened."""
        return self.sources.get(timeout=10)


class ScriptedSource:
    """One connection, which speaks the generic protocol."""

    def __init__(self, connection_id: int, receiver: FrameReceiver, script: Script) -> None:
        self.connection_id = connection_id
        self.sent: list[Any] = []
        self.pings = 0
        self._receiver = receiver
        self._script = script
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._error: BaseException = ConnectionLost("the script was cut")
        self.thread: threading.Thread = WorkerThread(f"script-{connection_id}", self._run)

    def start(self) -> None:
        start(self.thread)

    # For the test.

    def deliver(self, received_at: int, *messages: Any) -> None:
        """Deliver messages as one read that came at ``received_at`` (ns)."""
        self._todo.put(lambda: self._read(received_at, messages))

    def report(self, report: Callable[[FrameReceiver], None]) -> None:
        """Report something else, right or wrong."""
        self._todo.put(lambda: report(self._receiver))

    def end(self, error: BaseException) -> None:
        self._error = error
        self._todo.put(None)

    def wake(self) -> None:
        """Let the client look at the clock."""
        self._receiver.wake()

    # For the client.

    def view(self) -> ConnectionView:
        return ConnectionView(self._script.clock.monotonic(), False, None)

    def send(self, payload: str | bytes, waiter: Waiter | None = None) -> None:
        request = json.loads(payload)
        self.sent.append(request)
        if request["type"] == "subscribe" and self._script.answers:
            answer = {"type": "subscription", "channel": request["channel"], "status": "success"}
            self.deliver(0, answer)
        if waiter is not None:
            waiter.settle()

    def ping(self) -> None:
        self.pings += 1
        self._todo.put(lambda: self._receiver.ponged(self.connection_id))

    def renew(self) -> None:
        self._todo.put(lambda: self._receiver.renewed(self.connection_id, None, False))

    def hang_up(self) -> None:
        self.end(ConnectionLost("the script has closed", 1000, "closed"))

    def release(self) -> None:
        pass

    def flush(self) -> bool:
        return False

    def abort(self, why: WSClientError | None = None) -> None:
        self.end(why or self._error)

    def forked(self) -> None:
        pass

    # The thread.

    def _run(self) -> None:
        self._receiver.opened(self.connection_id, None, None, "script")
        self._script.sources.put(self)
        for step in iter(self._todo.get, None):
            step()
        self._receiver.ended(self.connection_id, self._error)
        self._receiver.finished(self.connection_id)

    def _read(self, received_at: int, messages: tuple[Any, ...]) -> None:
        frames = Frames()
        frames.messages = [json.dumps(message).encode() for message in messages]
        frames.connection_id = self.connection_id
        frames.received_at = received_at
        frames.read_at = self._script.clock.monotonic()
        self._receiver.received(frames)
        self._receiver.pace()
