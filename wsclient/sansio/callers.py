"""The callers that wait: for a connection, or for the answers about their channels."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from wsclient.errors import WaitTimeout, WSClientError
from wsclient.events import Waiting
from wsclient.sansio.output import Output
from wsclient.sansio.slots import SlotKey
from wsclient.sansio.waitingcalls import Call
from wsclient.sansio.wanted import Wanted
from wsclient.sansio.wantedtable import ChannelRoute

__all__ = ["Callers"]


class Callers:
    """The waiting callers of one client."""

    __slots__ = ("_connecting", "_output", "_rotating", "_wanted", "new")

    def __init__(self, output: Output, wanted: Wanted) -> None:
        self._output = output
        self._wanted = wanted
        #: The tokens of those in connect(), each with the slot it waits for, and its deadline.
        self._connecting: dict[Any, tuple[SlotKey, float]] = {}
        #: The tokens of those in rotate(), each with the connections whose end it waits for, and
        #: its deadline.
        self._rotating: dict[Any, tuple[set[int], float]] = {}
        #: Calls of subscribe() since the last tick.
        self.new: list[Call] = []

    # In connect().

    def connect(self, token: Any, slot: SlotKey, deadline: float) -> None:
        """Add a caller that waits for a connection in ``slot`` until ``deadline`` (monotonic s)."""
        self._connecting[token] = slot, deadline

    def cancel_connect(self, token: Any) -> SlotKey | None:
        """Forget a caller in connect(). Return its slot, if no other caller waits for that."""
        slot, _ = self._connecting.pop(token, (None, 0.0))
        return None if slot is None or self.is_awaited(slot) else slot

    def connected(self, slot: SlotKey) -> None:
        """Settle the callers in connect() that wait for ``slot``: its connection is open."""
        self.settle_connecting(slot, None)

    def settle_connecting(self, slot: SlotKey, error: WSClientError | None) -> None:
        """Settle the callers in connect() that wait for ``slot``."""
        for token, (other, _) in list(self._connecting.items()):
            if other == slot:
                del self._connecting[token]
                self._output.settle(token, None if error is None else error.fresh())

    def is_awaited(self, slot: SlotKey) -> bool:
        """Return whether a caller in connect() waits for ``slot``."""
        return any(other == slot for other, _ in self._connecting.values())

    def expired(self, now: float) -> list[tuple[Any, SlotKey]]:
        """Return those in connect() whose time is over: their tokens and slots."""
        return [(t, slot) for t, (slot, deadline) in self._connecting.items() if now >= deadline]

    # In subscribe().

    def subscribe(
        self,
        channels: Iterable[str],
        options: Mapping[str, Any],
        token: Any,
        deadline: float,
        routing: Mapping[str, ChannelRoute],
    ) -> list[str]:
        """Want ``channels``: see :meth:`Wanted.subscribe`. Return the new ones."""
        call, new = self._wanted.subscribe(channels, options, token, deadline, routing)
        self.new.append(call)
        return new

    def report_new(self, state: str, *, is_open: bool) -> None:
        """Report the new calls of ``subscribe()`` that wait, unless a connection is open."""
        new, self.new = self.new, []
        for call in () if is_open else new:
            self._report(call, state)

    @property
    def are_unreported(self) -> bool:
        """Whether a call of ``subscribe()`` waits that was not reported yet."""
        return any(not call.is_reported for call in self._wanted.calls.subscribing())

    def report_all(self, channels: Container[str], state: str) -> None:
        """Report the calls of ``subscribe()`` that wait for ``channels``.

        Their connection has ended, or the venue's limits do not allow it yet.
        """
        for call in self._wanted.calls.subscribing():
            if not call.is_reported and any(channel in channels for channel in call.channels):
                self._report(call, state)

    def _report(self, call: Call, state: str) -> None:
        if call in self._wanted.calls and not call.is_reported:
            call.is_reported = True
            self._output.notify(Waiting, tuple(call.channels), state)

    # In rotate().

    def rotate(self, token: Any, old: set[int], deadline: float) -> None:
        """Add a caller that waits, until ``deadline``, for the end of the connections ``old``."""
        self._rotating[token] = old, deadline

    def cancel_rotate(self, token: Any) -> None:
        """Forget a caller in rotate(). The connections are replaced all the same."""
        self._rotating.pop(token, None)

    def rotated(self, connections: Container[int], now: float) -> None:
        """Settle the callers in rotate() whose connections have ended, or whose time is over.

        ``connections`` are those that have not ended.
        """
        for token, (old, deadline) in list(self._rotating.items()):
            left = sum(connection_id in connections for connection_id in old)
            if left and now < deadline:
                continue
            what = f"{left} of {len(old)} connection(s) not replaced within the timeout"
            error = WaitTimeout(f"{what}; the rotation goes on") if left else None
            del self._rotating[token]
            self._output.settle(token, error)

    # All.

    def deadline(self) -> float:
        """Return when the time of the first caller is over (monotonic s, ``inf`` for never)."""
        waiting = (*self._connecting.values(), *self._rotating.values())
        deadlines = (deadline for _, deadline in waiting)
        return min(self._wanted.calls.deadline(), *deadlines, float("inf"))

    def fail_all(self, error: WSClientError) -> None:
        """Settle all callers with ``error``."""
        for token in (*self._connecting, *self._rotating):
            self._output.settle(token, error.fresh())
        self._connecting.clear()
        self._rotating.clear()
        self.fail_calls(error)

    def fail_calls(self, error: WSClientError) -> None:
        """Settle those in ``subscribe()`` and ``unsubscribe()`` with ``error``."""
        for token in self._wanted.fail_all():
            self._output.settle(token, error.fresh())
