"""What is going on, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ChannelStats", "Stats"]


@dataclass(frozen=True)
class ChannelStats:
    """One channel: messages delivered, gaps marked, messages known to be missed.

    ``duplicates`` have come before, and ``late`` ones had been counted as missed; ``last_sequence``
    and ``last_received_at`` (ns since the epoch) are None where there was none.
    """

    messages: int
    gaps: int
    missed: int
    duplicates: int
    late: int
    last_sequence: int | None
    last_received_at: int | None


@dataclass(frozen=True)
class Stats:
    """A snapshot of a client's counters, from its creation on.

    ``messages`` delivered to queues; ``frames`` and ``bytes`` of payload received; ``connects``
    completed, of ``dials`` attempted; ``disconnects`` of an open link; ``gaps`` marked, with
    ``missed`` messages where the number is known; ``invalid`` frames and messages skipped;
    ``unhandled`` frames of unknown type; ``queued`` and ``queued_bytes`` waiting now; ``dropped``
    by overflow policies; ``callback_errors`` raised by ``on()`` and ``on_event()`` functions;
    ``disconnect_reasons``, whose sum is ``disconnects`` (the words are those of
    :class:`wsclient.events.Disconnected`), and ``attempt_failures``: how often, by reason.
    """

    state: str
    messages: int
    frames: int
    bytes: int
    dials: int
    connects: int
    disconnects: int
    gaps: int
    missed: int
    invalid: int
    unhandled: int
    queued: int
    queued_bytes: int
    dropped: int
    callback_errors: int
    disconnect_reasons: Mapping[str, int]
    attempt_failures: Mapping[str, int]
    channels: Mapping[str, ChannelStats]

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self.connects - 1)
