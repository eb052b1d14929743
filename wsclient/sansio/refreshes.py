"""Which channels are to be subscribed to again, and when: order books that need a snapshot, and
channels that the venue has ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from wsclient.sansio.backoff import Backoff, Budget

__all__ = ["Refreshes"]

#: Rate limit per client: (count, seconds). It keeps fifty books from flooding a venue at once.
BUDGET = (10, 10.0)
#: How long (s) a channel's snapshot may take before it is asked for again; doubled each time.
PATIENCE = 5.0
MAX_PATIENCE = 300.0


@dataclass(eq=False)
class _Channel:
    backoff: Backoff
    due: float
    asked_at: float = float("-inf")


class Refreshes:
    """Pure bookkeeping; ``now`` is in monotonic seconds. A channel that has ended counts as out of
    sync until it is asked for.

    A channel is due at once when it falls out of sync, and again each time that its snapshot does
    not come. One that keeps falling out is due less and less often, until it has stayed in sync for
    as long as its last delay.
    """

    def __init__(
        self,
        patience: float = PATIENCE,
        max_patience: float = MAX_PATIENCE,
        budget: Budget | None = None,
    ) -> None:
        self._patience = patience, max_patience
        #: May be shared: all that is asked of a venue again counts together.
        self.budget = budget or Budget(*BUDGET)
        self._channels: dict[str, _Channel] = {}
        #: Those that are out of sync: all others cost nothing.
        self._wanted: dict[str, _Channel] = {}

    def want(self, channel: str, now: float, delay: float = 0.0) -> bool:
        """It is out of sync. False where that is known: nothing is new then."""
        entry = self._channels.get(channel)
        if entry is None:
            backoff = Backoff(*self._patience, lambda: 1.0, jitter=False)
            self._channels[channel] = self._wanted[channel] = _Channel(backoff, now + delay)
            return True
        if channel not in self._wanted:
            if now >= entry.due + (entry.due - entry.asked_at):
                entry.backoff.reset()
            entry.due = max(entry.due, now + delay)
            self._wanted[channel] = entry
            return True
        return False

    def failed(self, channel: str, now: float) -> None:
        """What was taken has come to nothing, now: its delay begins again."""
        if (entry := self._channels.get(channel)) is not None:
            delay = entry.due - entry.asked_at
            entry.asked_at, entry.due = now, now + delay

    def done(self, channel: str) -> None:
        """It is in sync again."""
        self._wanted.pop(channel, None)

    def all_done(self) -> None:
        """All are in sync again."""
        self._wanted.clear()

    def forget(self, channel: str) -> None:
        self._channels.pop(channel, None)
        self._wanted.pop(channel, None)

    def postpone(self, now: float) -> None:
        """The connection is new: it brings snapshots by itself."""
        for entry in self._channels.values():
            entry.due = max(entry.due, now + PATIENCE)

    def take(
        self,
        now: float,
        of: Collection[str] | None = None,
        most: int | None = None,
        at_once: int = 1,
    ) -> list[str]:
        """Return the channels to subscribe to again now: at most ``most``, and only those among
        ``of``. They count as asked for. ``at_once`` of them cost the budget as much as one."""
        taken: list[str] = []
        for channel, entry in sorted(self._wanted.items(), key=lambda item: item[1].due):
            if entry.due > now:
                break
            if of is not None and channel not in of:
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

    def deadline(self, now: float, of: Collection[str] | None = None) -> float:
        """When :meth:`take` has something next (``inf`` for never)."""
        wanted = (
            entry.due for channel, entry in self._wanted.items() if of is None or channel in of
        )
        due = min(wanted, default=float("inf"))
        return due if due == float("inf") else max(due, self.budget.ready_at(now))
