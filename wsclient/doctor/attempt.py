"""The single attempt of the client that is examined: the steps that it reached, and how it ended.

The client's sockets report each step (:class:`wsclient.transport.transport.Sockets`).
"""

from __future__ import annotations

import queue
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from wsclient.client import WebSocketClient
from wsclient.errors import ConnectionLost, ThreadStartError, WSClientError
from wsclient.threads.waiting import SLICE, Deadline
from wsclient.transport.addresses import Address, parse_url

__all__ = ["Attempt", "Step", "TimedStep"]

#: Reports between two steps: how the first one ended.
_MARKS = ("addresses", "refused", "connected")


class Step(NamedTuple):
    """A step that the client reached, and when: monotonic (s), and since the epoch (s)."""

    name: str
    about: Any
    at: float
    wall: float

    @classmethod
    def now(cls, name: str, about: Any = None) -> Step:
        """Return a step that is reached now."""
        return cls(name, about, time.monotonic(), time.time())


class TimedStep(NamedTuple):
    """A step that has ended, by the next one or with the attempt (``end``).

    ``error`` is the failure of the attempt, if it failed at this step.
    """

    start: Step
    end: Step
    error: BaseException | None

    @property
    def name(self) -> str:
        """The name of the step."""
        return self.start.name

    @property
    def about(self) -> Any:
        """The subject of the step."""
        return self.start.about

    @property
    def seconds(self) -> float:
        """How long the step took (s)."""
        return self.end.at - self.start.at


class Attempt:
    """One connect of a client. Make the client's sockets with ``on_step=attempt.hear``.

    Call ``run`` once. Its results do not change afterwards, whatever the reader still does.
    """

    def __init__(self) -> None:
        self.began = self.ended = Step.now("begin")
        #: The steps reached before the end. An attempt that is given up may reach more later.
        self.steps: tuple[Step, ...] = ()
        self.failure: BaseException | None = None
        #: The TLS version and cipher, and the venue's certificate.
        self.tls: tuple[str, Mapping[str, Any]] = ("", {})
        self._reached: list[Step] = []
        #: Pongs (True) and the end of the connection (False).
        self._changes: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def run(self, client: WebSocketClient, timeout: float) -> None:
        """Connect ``client``, and keep the error if that fails. ``timeout`` is in seconds."""
        client._core.at_end.append(self._end_connection)
        self.began = Step.now("begin")
        try:
            client.connect(timeout)
        except WSClientError as error:
            self.failure = _reported_by(error)
        self.steps = tuple(self._reached)
        self.ended = Step.now("end")

    def hear(self, name: str, about: Any) -> None:
        """Note a step. Called on the thread of the client's reader."""
        if name == "pong":
            self._changes.put(True)
            return
        last = _last(self._reached)
        if name == "handshake" and last is not None and last.name == "tls":
            sock: ssl.SSLSocket = last.about
            cipher, _, bits = sock.cipher() or ("no cipher", "", 0)
            self.tls = f"{sock.version()}, {cipher}, {bits} bit", sock.getpeercert() or {}
        self._reached.append(Step.now(name, about))

    def _end_connection(self) -> None:
        self._changes.put(False)

    def wait(self, timeout: float) -> bool | None:
        """Wait for a change: True for a pong, False for the end of the connection, else None."""
        deadline = Deadline(timeout)
        while True:
            remaining = deadline.remaining()
            try:
                return self._changes.get(timeout=min(remaining, SLICE))
            except queue.Empty:
                if remaining <= SLICE:
                    return None

    @property
    def last(self) -> Step:
        """The last step that the attempt reached."""
        return _last(self.steps) or self.began

    def find(self, name: str) -> Step | None:
        """Return the first step of that name; None if the attempt did not reach one."""
        return next((step for step in self.steps if step.name == name), None)

    def timed_steps(self) -> Iterator[TimedStep]:
        """Yield the steps, and the marks between them, in order, each with its end."""
        for step, end in pairwise([*self.steps, self.ended]):
            yield TimedStep(step, end, self.failure if step is self.last else None)

    @property
    def address(self) -> Address:
        """The venue's address. Raises LookupError if the attempt failed before it was known."""
        target = self.find("target")
        if target is None:
            raise LookupError("the attempt failed before the venue's address was known")
        return parse_url(target.about.url)

    @property
    def untried(self) -> Sequence[Any]:
        """The addresses that the client found, but did not try."""
        found = self.find("addresses")
        tried = sum(step.name == "tcp" for step in self.steps)
        return found.about[tried:] if found else ()


def _last(steps: Sequence[Step]) -> Step | None:
    met = [step for step in steps if step.name not in _MARKS]
    return met[-1] if met else None


def _reported_by(error: WSClientError) -> BaseException:
    """Return the failure of the attempt, which ``connect`` has reported as ``error``."""
    failure = error.__cause__
    if failure is None or isinstance(error, ThreadStartError):
        return error
    if isinstance(failure, ConnectionLost) and failure.reason == "thread":
        return ThreadStartError(str(failure))
    return failure
