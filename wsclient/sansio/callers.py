"""The callers that wait: for a connection, or for the answers about their channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wsclient.errors import WSClientError
from wsclient.events import Waiting
from wsclient.sansio.output import Output
from wsclient.sansio.waitingcalls import Call
from wsclient.sansio.wanted import Wanted

__all__ = ["Callers"]


class Callers:
    """The waiting callers of one client."""

    __slots__ = ("_connecting", "_output", "_unplaced", "_wanted", "new")

    def __init__(self, output: Output, wanted: Wanted) -> None:
        self._output = output
        self._wanted = wanted
        #: The tokens of those in connect(), with their deadlines.
        self._connecting: dict[Any, float] = {}
        #: Calls of subscribe() since the last tick.
        self.new: list[Call] = []
        #: Channels that belong to no slot yet.
        self._unplaced: list[str] = []

    # In connect().

    def connect(self, token: Any, deadline: float) -> None:
        """Add a caller that waits for an open connection until ``deadline`` (monotonic s)."""
        self._connecting[token] = deadline

    def cancel_connect(self, token: Any) -> bool:
        """Forget a caller in connect(). Return whether it was the last one."""
        return self._connecting.pop(token, self) is not self and not self._connecting

    def connected(self) -> None:
        """Settle all callers in connect(): a connection is open."""
        for token in self._connecting:
            self._output.settle(token)
        self._connecting.clear()

    def impatient(self, now: float) -> list[Any]:
        """Return the tokens of those in connect() whose time is over."""
        return [token for token, deadline in self._connecting.items() if now >= deadline]

    # In subscribe().

    def subscribe(
        self,
        channels: Iterable[str],
        options: Mapping[str, Any],
        token: Any,
        deadline: float,
        limit: int | None,
    ) -> None:
        """Want ``channels``: see :meth:`Wanted.subscribe`."""
        call, new = self._wanted.subscribe(channels, options, token, deadline, limit)
        self._unplaced += new
        self.new.append(call)

    def take_unplaced(self) -> list[str]:
        """Return the channels that belong to no slot yet; the caller places them."""
        unplaced, self._unplaced = self._unplaced, []
        return unplaced

    def report_new(self, state: str, *, is_open: bool) -> None:
        """Report the new calls of ``subscribe()`` that wait, unless a connection is open."""
        new, self.new = self.new, []
        for call in () if is_open else new:
            self._report(call, state)

    def report_all(self, state: str) -> None:
        """Report all calls of ``subscribe()`` that wait: the connection has ended."""
        for call in self._wanted.calls.subscribing():
            self._report(call, state)

    def _report(self, call: Call, state: str) -> None:
        if call in self._wanted.calls and not call.is_reported:
            call.is_reported = True
            self._output.notify(Waiting, tuple(call.channels), state)

    # All.

    def deadline(self) -> float:
        """Return when the time of the first caller is over (monotonic s, ``inf`` for never)."""
        return min(self._wanted.calls.deadline(), *self._connecting.values(), float("inf"))

    def fail_all(self, error: WSClientError) -> None:
        """Settle all callers with ``error``."""
        for token in self._connecting:
            self._output.settle(token, error.fresh())
        self._connecting.clear()
        self.fail_calls(error)

    def fail_calls(self, error: WSClientError) -> None:
        """Settle those in ``subscribe()`` and ``unsubscribe()`` with ``error``."""
        for token in self._wanted.fail_all():
            self._output.settle(token, error.fresh())
