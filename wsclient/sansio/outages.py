"""How long a client has been without a connection that works, and the event that says so."""

from __future__ import annotations

from wsclient.events import Failing
from wsclient.sansio.output import Output
from wsclient.sansio.stops import Stops

__all__ = ["FAILING_AFTER", "Outage"]

#: A client that has had no working connection for this time (s) is failing.
FAILING_AFTER = 30.0


class Outage:
    """The time without a working connection: one that has brought data or stayed open for long.

    A connection that opens and ends again does not end it, as it brings nothing.
    """

    __slots__ = ("_is_reported", "_output", "_since", "_stops")

    def __init__(self, output: Output, stops: Stops) -> None:
        self._output = output
        self._stops = stops
        #: Since when no connection works (monotonic s); None while one does, or none is wanted.
        self._since: float | None = None
        self._is_reported = False

    def begin(self, now: float) -> None:
        """Note that no connection works. Does nothing if that is known."""
        if self._since is None:
            self._since, self._is_reported = now, False

    def end(self) -> None:
        """Note that a connection works, or that none is wanted."""
        self._since = None

    def tick(self, now: float, why: str) -> None:
        """Report the outage if it is due; ``why`` says how the last attempt failed.

        Called while no connection is open.
        """
        if self._since is not None and now >= self.deadline():
            self._is_reported = True
            self._output.notify(Failing, round(now - self._since, 3), why)

    def deadline(self) -> float:
        """Return when to call :meth:`tick` (monotonic s, ``inf`` for never)."""
        if self._since is None or self._is_reported:
            return float("inf")
        return self._since + FAILING_AFTER + self._stops.excuse(self._since)
