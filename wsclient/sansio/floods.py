"""Bounds for what a venue can cause at any rate: events, and answers to heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsclient.events import Event
from wsclient.sansio.backoff import Budget

__all__ = ["Answers", "Throttle", "Throttles"]

#: The interval (s) in which at most one event of each kind is emitted.
EVENT_INTERVAL = 1.0
#: Rate limit of answers: (count, seconds). A venue's heartbeats are seconds apart.
ANSWERS = (10, 1.0)

#: Called with a text, the number of texts since the last call, and the text's channel.
Emit = Callable[[str, int, str | None], None]


class Throttle:
    """Emits at most one event per EVENT_INTERVAL: the newest, with the number of all."""

    __slots__ = ("_count", "_emit", "_held", "_holding", "_next_at")

    def __init__(self, emit: Emit, holding: set[Throttle]) -> None:
        self._emit = emit
        #: Those that hold back a text; shared by all throttles of a client.
        self._holding = holding
        self._next_at = float("-inf")
        self._count = 0
        self._held: tuple[str, str | None] | None = None

    def add(self, text: str, now: float, channel: str | None = None, count: int = 1) -> None:
        """Add a text, the newest of ``count``; emit it now if the interval allows it."""
        self._count += count
        self._held = text, channel
        self._holding.add(self)
        self.tick(now)

    def tick(self, now: float) -> None:
        """Emit the text that was held back, if its time has come."""
        if self._held is None or now < self._next_at:
            return
        (text, channel), self._held = self._held, None
        self._holding.discard(self)
        count, self._count = self._count, 0
        self._next_at = now + EVENT_INTERVAL
        self._emit(text, count, channel)

    @property
    def deadline(self) -> float:
        """When to call :meth:`tick` (monotonic s, ``inf`` for never)."""
        return float("inf") if self._held is None else self._next_at


class Throttles:
    """The throttles of all kinds of events that a venue may cause at any rate.

    ``notify`` is called with the type of an event and its fields. ``mask`` hides the client's
    secrets in the text.
    """

    __slots__ = ("_holding", "_mask", "_notify", "_throttles")

    def __init__(self, notify: Callable[..., None], mask: Callable[[str], str] = str) -> None:
        self._notify = notify
        self._mask = mask
        self._throttles: list[Throttle] = []
        self._holding: set[Throttle] = set()

    def new(self, kind: type[Event], *what: str) -> Throttle:
        """Make a throttle for events ``kind(*what, text, count, channel)``."""

        def emit(text: str, count: int, channel: str | None) -> None:
            self._notify(kind, *what, self._mask(text), count, channel)

        throttle = Throttle(emit, self._holding)
        self._throttles.append(throttle)
        return throttle

    def tick(self, now: float) -> None:
        """Emit what was held back and whose time has come."""
        if self._holding:
            for throttle in self._throttles:
                throttle.tick(now)

    def deadline(self) -> float:
        """Return when to call :meth:`tick` (monotonic s, ``inf`` for never)."""
        return min((throttle.deadline for throttle in self._holding), default=float("inf"))


class Answers:
    """The answers to the heartbeats of one connection, within a rate limit.

    Beyond the limit only the newest is kept.
    """

    __slots__ = ("_budget", "_newest")

    def __init__(self) -> None:
        self._budget = Budget(*ANSWERS)
        self._newest: tuple[Any] | None = None

    def add(self, payload: Any) -> bool:
        """Queue an answer. Return False if it replaces another one, which is then never sent."""
        replaced, self._newest = self._newest, (payload,)
        return replaced is None

    def take(self, now: float) -> tuple[Any] | None:
        """Return the answer to send now, in a tuple; None if there is none."""
        if self._newest is None or self._budget.ready_at(now) > now:
            return None
        self._budget.spend(now)
        newest, self._newest = self._newest, None
        return newest

    def deadline(self, now: float) -> float:
        """Return when to call :meth:`take` (monotonic s, ``inf`` for never)."""
        return float("inf") if self._newest is None else self._budget.ready_at(now)
