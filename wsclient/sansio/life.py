"""The life of a client: idle, running, failed or closed.

::

    IDLE --connect--> RUNNING;  RUNNING --give up--> IDLE
    IDLE, RUNNING --fail--> FAILED;  IDLE, RUNNING, FAILED --close--> CLOSING --end--> CLOSED
"""

from __future__ import annotations

import enum

from wsclient.errors import ClientClosed, NotConnected, WSClientError
from wsclient.events import Closed
from wsclient.sansio.machine import Table, after
from wsclient.sansio.output import Output

__all__ = ["PHASES", "Life", "Phase", "State"]


class State(enum.Enum):
    """The state of a client, ``client.state``.

    While it runs, this is the furthest stage that one of its connections has reached: it is OPEN
    while a connection is.
    """

    IDLE = "idle"
    CONNECTING = "connecting"
    AUTHENTICATING = "authenticating"
    OPEN = "open"
    BACKING_OFF = "backing off"
    FAILED = "failed"
    CLOSING = "closing"
    CLOSED = "closed"


class Phase(enum.Enum):
    """The part of its life that a client is in."""

    IDLE = "idle"
    RUNNING = "running"
    FAILED = "failed"
    CLOSING = "closing"
    CLOSED = "closed"


IDLE, RUNNING, FAILED, CLOSING, CLOSED = Phase

PHASES: Table[Phase] = {
    (IDLE, "connect"): RUNNING,
    (RUNNING, "give up"): IDLE,
    (IDLE, "fail"): FAILED,
    (RUNNING, "fail"): FAILED,
    (IDLE, "close"): CLOSING,
    (RUNNING, "close"): CLOSING,
    (FAILED, "close"): CLOSING,
    (CLOSING, "end"): CLOSED,
}


class Life:
    """The phase of one client, and the error with which it has failed."""

    __slots__ = ("_output", "failure", "is_running", "phase")

    def __init__(self, output: Output) -> None:
        self._output = output
        self.phase = IDLE
        self.is_running = False
        self.failure: WSClientError | None = None

    @property
    def is_over(self) -> bool:
        """Whether the client is closed or being closed."""
        return self.phase in (CLOSING, CLOSED)

    def may(self, step: str) -> bool:
        """Return whether ``step`` can happen in this phase."""
        return (self.phase, step) in PHASES

    def step(self, step: str, why: str = "") -> None:
        """Change the phase, and emit the events of the change; ``why`` is its reason.

        Raises RuntimeError if ``step`` cannot happen in this phase.
        """
        self.phase = after(PHASES, self.phase, step)
        self.is_running = self.phase is RUNNING
        if not self.is_running:  # its states are those of the connections
            self._output.report_state(self.phase.value, why)
        if self.phase is CLOSED and self.failure is None:
            self._output.notify(Closed, None)

    def check(self) -> None:
        """Raise ClientClosed on a closed client, and its failure on a failed one."""
        if self.is_over:
            raise ClientClosed("the client is closed; make a new one")
        if self.failure is not None:
            raise self.failure.fresh()

    def check_begun(self) -> None:
        """Raise as :meth:`check` does, and NotConnected before the first ``connect()``."""
        self.check()
        if self.phase is IDLE:
            raise NotConnected("not connected; call connect() first")
