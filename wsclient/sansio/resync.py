"""Which channels are to be subscribed anew, for a snapshot, and when."""

from __future__ import annotations

from dataclasses import dataclass

from wsclient.sansio.backoff import Backoff, Budget

__all__ = ["Resyncs"]

#: So many in so many seconds, for a whole client: a venue is not flooded by fifty books at once.
BUDGET = (10, 10.0)
#: How long (s) a channel's snapshot may take before it is asked for again; doubled each time.
PATIENCE = 5.0
MAX_PATIENCE = 300.0


@dataclass(eq=False)
class _Channel:
    backoff: Backoff
    due: float
    asked_at: float = float("-inf")
    is_wanted: bool = True


class Resyncs:
    """Pure bookkeeping; ``now`` is in monotonic seconds.

    A channel is due at once when it falls out of sync, and again each time that its snapshot does
    not come. One that keeps falling out is due less and less often, until it has stayed in sync for
    as long as its last delay.
    """

    def __init__(self) -> None:
        self._budget = Budget(*BUDGET)
        self._channels: dict[str, _Channel] = {}

    def want(self, channel: str, now: float, delay: float = 0.0) -> None:
        """It is out of sync. Nothing new where that is known."""
        entry = self._channels.get(channel)
        if entry is None:
            backoff = Backoff(PATIENCE, MAX_PATIENCE, lambda: 1.0, jitter=False)
            self._channels[channel] = _Channel(backoff, now + delay)
        elif not entry.is_wanted:
            if now >= entry.due + (entry.due - entry.asked_at):
                entry.backoff.reset()
            entry.due = max(entry.due, now + delay)
            entry.is_wanted = True

    def done(self, channel: str) -> None:
        """It is in sync again."""
        if (entry := self._channels.get(channel)) is not None:
            entry.is_wanted = False

    def forget(self, channel: str) -> None:
        self._channels.pop(channel, None)

    def postpone(self, now: float) -> None:
        """The link is new: it brings snapshots by itself."""
        for entry in self._channels.values():
            entry.due = max(entry.due, now + PATIENCE)

    def take(self, now: float) -> list[str]:
        """The channels to subscribe to anew now, which then counts as done."""
        taken = []
        for channel, entry in sorted(self._channels.items(), key=lambda item: item[1].due):
            if not entry.is_wanted or entry.due > now:
                continue
            if self._budget.ready_at(now) > now:
                break
            self._budget.spend(now)
            entry.asked_at, entry.due = now, now + entry.backoff.next()
            taken.append(channel)
        return taken

    def deadline(self, now: float) -> float:
        """When :meth:`take` has something next (``inf`` for never)."""
        due = min((e.due for e in self._channels.values() if e.is_wanted), default=float("inf"))
        return due if due == float("inf") else max(due, self._budget.ready_at(now))
