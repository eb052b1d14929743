"""What is built on top of a core, such as its order books, and what the core reports to it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

__all__ = ["Follower"]


class Follower:
    """Receives the reports of a core; this class ignores them all.

    The core knows nothing else of what is built on it. No report is made under a lock.
    """

    def threads(self) -> Sequence[threading.Thread | None]:
        """Return the threads that the client's ``close()`` waits for."""
        return ()

    def opened(self) -> None:
        """Called when a connection or a subscription is new."""

    def disconnected(self) -> None:
        """Called on the watchdog thread when an open connection has ended."""

    def confirmed(self) -> None:
        """Called when the venue may have confirmed a channel."""

    def caught_up(self) -> None:
        """Called when data has been delivered that was held up for longer than usual."""
