"""Refreshes: which channels to resubscribe, for a new snapshot or after their end, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wsclient.sansio.backoff import Backoff, Budget

__all__ = ["Refreshes"]

#: Rate limit per client: (count, seconds), so that fifty order books do not flood a venue at once.
BUDGET = (10, 10.0)
#: How long (s) a channel's snapshot may take before the next attempt; doubled each time.
PATIENCE = 5.0
MAX_PATIENCE = 300.0


@dataclass(eq=False, slots=True)
class _Refresh:
    backoff: Backoff
    due: float
    asked_at: float = float("-inf")


class Refreshes:
    """The channels to resubscribe, with their due times; ``now`` is in monotonic seconds.

    A channel that the venue has ended counts as out of sync until it is subscribed again.

    A channel is due at once when it falls out of sync, and again each time that its snapshot does
    not arrive. A channel that keeps falling out of sync is due less and less often, until it has
    stayed in sync for as long as its last delay.
    """

    __slots__ = ("_channels", "_patience", "_wanted", "budget")

    def __init__(
        self,
        patience: float = PATIENCE,
        max_patience: float = MAX_PATIENCE,
        budget: Budget | None = None,
    ) -> None:
        self._patience = patience, max_patience
        #: May be shared with other instances: all resubscriptions at a venue count together.
        self.budget = budget or Budget(*BUDGET)
        self._channels: dict[str, _Refresh] = {}
        #: The channels that are out of sync; the others cost nothing.
        self._wanted: dict[str, _Refresh] = {}

    def want(self, channel: str, now: float, delay: float = 0.0) -> bool:
        """Note that ``channel`` is out of sync; it is due after ``delay`` (s) at the earliest.

        Returns False if that was already known.
        """
        entry = self._channels.get(channel)
        if entry is None:
            backoff = Backoff(*self._patience, lambda: 1.0)
            self._channels[channel] = self._wanted[channel] = _Refresh(backoff, now + delay)
            return True
        if channel not in self._wanted:
            if now >= entry.due + (entry.due - entry.asked_at):
                entry.backoff.reset()
            entry.due = max(entry.due, now + delay)
            self._wanted[channel] = entry
            return True
        return False

    def failed(self, channel: str, now: float) -> None:
        """Note that a channel's refresh has failed: its delay starts again now."""
        if (entry := self._channels.get(channel)) is not None:
            delay = entry.due - entry.asked_at
            entry.asked_at, entry.due = now, now + delay

    def done(self, channel: str) -> None:
        """Note that ``channel`` is in sync again."""
        self._wanted.pop(channel, None)

    def forget(self, channel: str) -> None:
        """Forget ``channel`` and its delay."""
        self._channels.pop(channel, None)
        self._wanted.pop(channel, None)

    def postpone(self, channels: Iterable[str], now: float) -> None:
        """Delay ``channels`` by PATIENCE: a new connection brings their snapshots by itself."""
        for channel in channels if self._channels else ():
            entry = self._channels.get(channel)
            if entry is not None:
                entry.due = max(entry.due, now + PATIENCE)

    def take(
        self,
        now: float,
        of: Callable[[str], bool] | None = None,
        most: int | None = None,
        at_once: int = 1,
    ) -> list[str]:
        """Return the channels to resubscribe now; they count as asked for.

        ``of`` returns whether to take a channel; all by default. ``most``: at most this many.
        ``at_once``: how many channels one unit of the budget pays for.
        """
        taken: list[str] = []
        if not self._wanted:  # nearly always
            return taken
        for channel, entry in sorted(self._wanted.items(), key=lambda item: item[1].due):
            if entry.due > now:
                break
            if of is not None and not of(channel):
                continue
            if len(taken) == most:
                break
            if len(taken) % at_once == 0:
                if self.budget.ready_at(now) > now:
                    break
                self.budget.spend(now)
            entry.asked_at, entry.due = now, now + entry.backoff.next()
            taken.append(channel)
        return taken

    def deadline(self, now: float, of: Callable[[str], bool] | None = None) -> float:
        """Return when :meth:`take` next returns anything (monotonic s, ``inf`` for never)."""
        if not self._wanted:
            return float("inf")
        wanted = (entry.due for channel, entry in self._wanted.items() if of is None or of(channel))
        due = min(wanted, default=float("inf"))
        return due if due == float("inf") else max(due, self.budget.ready_at(now))
