"""Calls of ``subscribe()`` and ``unsubscribe()`` that wait until their channels are decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from wsclient.errors import SubscriptionError, SubscriptionRejected, SubscriptionTimeout
from wsclient.sansio.timers import Timers

__all__ = ["Call", "WaitingCalls"]


@dataclass(eq=False, slots=True)
class Call:
    """One call of ``subscribe()`` or ``unsubscribe()``; ``channels`` are those not yet decided."""

    token: Any
    #: True for ``subscribe()``.
    subscribe: bool
    channels: dict[str, None]
    #: When its time is over (monotonic s).
    deadline: float
    #: The channels that are not as requested, each with the reason.
    failed: dict[str, str] = field(default_factory=dict)
    #: The venue has refused one of them.
    rejected: bool = False
    #: The current connection has confirmed some of its channels.
    is_served: bool = False
    #: How many connections in a row have ended and confirmed none of its channels.
    fruitless: int = 0
    #: It has been reported that the call waits for a connection.
    is_reported: bool = False


class WaitingCalls:
    """The waiting calls of one client.

    ``settled`` is called with the token of each call that is decided, and its error, None if all of
    its channels are as requested.
    """

    __slots__ = ("_calls", "_settled", "_timers")

    def __init__(self, settled: Callable[[Any, SubscriptionError | None], None]) -> None:
        self._settled = settled
        self._calls: dict[Call, None] = {}
        self._timers: Timers[Call] = Timers(
            lambda call: call.deadline if call in self._calls else None
        )

    def new(self, token: Any, subscribe: bool, names: Iterable[str], deadline: float) -> Call:
        """Return a new call, which waits until ``deadline`` (monotonic s)."""
        call = Call(token, subscribe, dict.fromkeys(names), deadline)
        self._calls[call] = None
        self._timers.add(call)
        return call

    def decide(
        self, call: Call, channel: str, reason: str | None = None, *, refused: bool = False
    ) -> None:
        """Note that ``channel`` is as requested, or why it is not. :meth:`finish` must follow."""
        call.channels.pop(channel, None)
        if reason is not None:
            call.failed[channel] = reason
            call.rejected |= refused

    def finish(self, call: Call) -> None:
        """Settle the call if all of its channels are decided."""
        if call.channels or call not in self._calls:
            return
        del self._calls[call]
        error: SubscriptionError | None = None
        if call.failed:
            kind = SubscriptionRejected if call.rejected else SubscriptionTimeout
            error = kind(
                "; ".join(f"{name!r}: {reason}" for name, reason in sorted(call.failed.items())),
                call.failed,
            )
        self._settled(call.token, error)

    def __contains__(self, call: Call) -> bool:
        return call in self._calls

    def subscribing(self) -> list[Call]:
        """Return the calls of ``subscribe()``, oldest first."""
        return [call for call in self._calls if call.subscribe]

    def take_all(self) -> list[Any]:
        """Forget all calls, and return their tokens."""
        tokens = [call.token for call in self._calls]
        self._calls.clear()
        return tokens

    def expired(self, now: float) -> list[Call]:
        """Return the calls whose time is over; they are still to be decided."""
        return self._timers.take(now)

    def deadline(self) -> float:
        """Return when to call :meth:`expired` at the latest (monotonic s, ``inf`` for never)."""
        return self._timers.deadline()
