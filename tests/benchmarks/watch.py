"""The stop-watch of a run."""

from __future__ import annotations

import time
from typing import Any


class Watch:
    """Measures a run, by the clock and by the processor time of this process."""

    def __init__(self) -> None:
        self._started = (0, 0.0)
        self._ended = (0, 0.0)

    def start(self) -> None:
        """Start the time: the consumer has its first message."""
        self._started = (time.monotonic_ns(), time.process_time())

    def end(self) -> None:
        """Stop the time: the consumer has its last message."""
        self._ended = (time.monotonic_ns(), time.process_time())

    def figures(self, count: int, missed: int = 0, **more: Any) -> dict[str, Any]:
        """Return messages per second, and processor time (us) per message."""
        seconds = (self._ended[0] - self._started[0]) / 1e9
        delivered = count - missed
        return {
            "rate": (delivered - 1) / seconds,
            "cpu": (self._ended[1] - self._started[1]) / delivered * 1e6,
            "missed": missed,
            **more,
        }
