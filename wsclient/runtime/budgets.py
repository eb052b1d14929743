"""The rate limits of connection attempts, which the clients of a process share by address."""

from __future__ import annotations

import threading
import weakref

from wsclient.sansio.backoff import Budget
from wsclient.threads.forking import watch

__all__ = ["SharedBudget", "budget_of"]


class SharedBudget:
    """A rate limit that several clients spend, each under its own lock."""

    def __init__(self, count: int, per: float) -> None:
        #: Protects the budget. Nothing else is locked while it is held.
        self._lock = threading.Lock()
        self._budget = Budget(count, per)
        watch(self)

    def ready_at(self, now: float) -> float:
        """Return the earliest time of the next attempt; ``now`` if it may begin now."""
        with self._lock:
            return self._budget.ready_at(now)

    def spend(self, now: float) -> None:
        """Count an attempt."""
        with self._lock:
            self._budget.spend(now)

    def forked(self) -> None:
        """Make a new lock in a child process: a thread of the parent may hold the old one."""
        self._lock = threading.Lock()


#: The budgets in use, by address and limit.
_budgets: weakref.WeakValueDictionary[tuple[str, int, float], SharedBudget] = (
    weakref.WeakValueDictionary()
)


def budget_of(address: str, count: int, per: float) -> SharedBudget:
    """Return the budget of an address, ``count`` attempts in ``per`` seconds.

    Clients of this process that name the same address and limit share one budget.
    """
    made = SharedBudget(count, per)
    return _budgets.setdefault((address, count, per), made)
