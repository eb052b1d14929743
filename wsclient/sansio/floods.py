"""Bounds for what a venue can cause as often as it likes: lines in the log, answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsclient.sansio.backoff import Budget

__all__ = ["Answers", "Throttle", "Throttles"]

#: The time (s) in which at most one line of each kind is logged.
LOG_INTERVAL = 1.0
#: Rate limit of answers: (count, seconds). A venue's heartbeats are seconds apart.
ANSWERS = (10, 1.0)

#: Called with a line's text, its channel, and how many there were since the last one.
Emit = Callable[[str, str | None, int], None]


class Throttle:
    """Lets one line through in each LOG_INTERVAL: the newest, with the number of all."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._next_at = float("-inf")
        self._count = 0
        self._held: tuple[str, str | None] | None = None

    def add(self, text: str, now: float, channel: str | None = None) -> None:
        self._count += 1
        self._held = text, channel
        self.tick(now)

    def tick(self, now: float) -> None:
        """Let out what was held back, when it is time."""
        if self._held is None or now < self._next_at:
            return
        (text, channel), self._held = self._held, None
        count, self._count = self._count, 0
        self._next_at = now + LOG_INTERVAL
        self._emit(text, channel, count)

    @property
    def deadline(self) -> float:
        return float("inf") if self._held is None else self._next_at


class Throttles:
    """One throttle for each kind of line, and a way to look at all of them.

    ``mask`` hides our own secrets in what is let out.
    """

    def __init__(
        self, log: Callable[[str, str, str | None], None], mask: Callable[[str], str] = str
    ) -> None:
        self._log = log
        self._mask = mask
        self._throttles: list[Throttle] = []

    def new(self, what: str, then: Callable[[str, int], None] | None = None) -> Throttle:
        """Make a throttle for warnings that begin with ``what``; ``then`` is called with the text
        of each that was logged, and how many there were."""

        def emit(text: str, channel: str | None, count: int) -> None:
            text = self._mask(text)
            more = f" (and {count - 1} before it)" if count > 1 else ""
            self._log("warning", f"{what} {text}{more}", channel)
            if then is not None:
                then(text, count)

        throttle = Throttle(emit)
        self._throttles.append(throttle)
        return throttle

    def tick(self, now: float) -> None:
        for throttle in self._throttles:
            throttle.tick(now)

    def deadline(self) -> float:
        return min(throttle.deadline for throttle in self._throttles)


class Answers:
    """Answers to heartbeats, within a rate; of those beyond it, the newest is sent."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all of the previous connection."""
        self._budget = Budget(*ANSWERS)
        self._newest: tuple[Any] | None = None

    def add(self, payload: Any) -> bool:
        """Queue an answer. False if it replaces another, which is then never sent."""
        replaced, self._newest = self._newest, (payload,)
        return replaced is None

    def take(self, now: float) -> tuple[Any] | None:
        """The answer to send now, in a tuple; None for none."""
        if self._newest is None or self._budget.ready_at(now) > now:
            return None
        self._budget.spend(now)
        newest, self._newest = self._newest, None
        return newest

    def deadline(self, now: float) -> float:
        return float("inf") if self._newest is None else self._budget.ready_at(now)
