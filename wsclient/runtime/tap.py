"""What a recorder gets from a core: everything that happens, in the order of the core's lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from wsclient.events import Event
from wsclient.messages import Arrival, Message
from wsclient.stream.channel import Batch
from wsclient.telemetry.stats import RecorderStats
from wsclient.threads.waiting import Deadline

__all__ = ["RunningRecorder", "Tap"]


class Tap(Protocol):
    """Notes what passes. No method blocks or raises, or keeps a message, which its consumer owns.

    All methods except :meth:`happened` are called under the core's lock. A read is noted first,
    then what is delivered of it, and at last that it is done.
    """

    def opened(self, connection_id: int, login: Any) -> None:
        """Note that a connection is open. ``login`` is what will be sent first, or None."""

    def read(
        self, arrival: Arrival, payloads: Sequence[bytes], binary: Sequence[int], size: int
    ) -> None:
        """Note the frames of one read, of ``size`` bytes together, before they are processed.

        ``binary`` are the indexes of those that were not text.
        """

    def ordinary(self, messages: Sequence[Message], batch: Batch, begin: int) -> None:
        """Note messages that are about to be delivered, without gaps.

        They are those of the payloads from ``begin`` to before ``batch.done``.
        """

    def delivered(self, messages: Sequence[Message]) -> None:
        """Note messages that are about to be delivered, of any frames."""

    def passed(self, connection_id: int, done: int) -> None:
        """Note that the first ``done`` frames of the last read of a connection are processed."""

    def sent(self, connection_id: int, payload: str | bytes) -> None:
        """Note a message that is about to be sent."""

    def answered(self, channel: str, connection_id: int, body: bytes) -> None:
        """Note a snapshot of an order book by REST, in JSON, before it is applied."""

    def happened(self, event: Event, origin: int) -> None:
        """Note an event. ``origin`` is the first connection of the stream of its connection.

        Called under the lock of the events.
        """


class RunningRecorder(Protocol):
    """The recorder of a client, as the client sees it."""

    def stats(self) -> RecorderStats:
        """Return its counters as of now."""

    def join(self, deadline: Deadline) -> bool:
        """Wait for its end, which follows the client's last event. Return False at the deadline."""
