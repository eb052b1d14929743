"""What a caller gets: Message, the Gap that it may carry, and the Subscription."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Gap", "Message", "Subscription", "SubscriptionState"]

#: Strongest first: when two holes become one, the stronger reason names it.
GAP_REASONS = ("rejected", "reconnect", "sequence", "overflow", "invalid", "conflate")


class Gap(NamedTuple):
    """Something of this channel was missed just before the message that carries it.

    ``reason`` is one of ``rejected`` (the channel will not come back), ``reconnect``,
    ``sequence`` (the venue's numbers jumped), ``overflow`` (the consumer was too slow),
    ``invalid`` (a frame could not be read, or ``validate`` refused it), ``conflate``.
    ``missed`` is how many messages, None where that cannot be known.
    ``since`` is the ``received_at`` of the channel's last message before the hole (ns since the
    epoch), None where there was none.
    """

    reason: str
    missed: int | None = None
    since: int | None = None

    def merge(self, later: Gap | None) -> Gap:
        """This hole and the one right after it, as one."""
        if later is None:
            return self
        unknown = self.missed is None or later.missed is None
        return Gap(
            min(self.reason, later.reason, key=GAP_REASONS.index),
            None if unknown else self.missed + later.missed,  # type: ignore[operator]
            self.since,
        )


_UNDECODED: Any = object()


class Message:
    """One message of one channel.

    ``channel`` (str), ``type`` (the venue's word: ``"update"``, ``"snapshot"``, ``"lost"`` ...),
    ``sequence`` (int or None), ``received_at`` (ns since the epoch), ``connection_id`` (int),
    ``raw`` (the whole frame's payload as received), ``data`` (decoded on first use),
    ``gap`` (a :class:`Gap`, or None where nothing before it was missed).
    """

    __slots__ = (
        "_data",
        "_decode",
        "channel",
        "connection_id",
        "gap",
        "previous_at",
        "raw",
        "received_at",
        "sequence",
        "type",
    )

    def __init__(
        self,
        channel: str,
        type: str,
        sequence: int | None,
        raw: bytes,
        decode: Callable[[bytes], Any],
        received_at: int,
        connection_id: int,
        gap: Gap | None = None,
    ) -> None:
        self.channel = channel
        self.type = type
        self.sequence = sequence
        self.raw = raw
        self.received_at = received_at
        self.connection_id = connection_id
        self.gap = gap
        #: ``received_at`` of the channel's message before this one, for a gap to tell.
        self.previous_at: int | None = None
        self._decode = decode
        self._data = _UNDECODED

    @property
    def data(self) -> Any:
        """The decoded payload: for a frame with several items, this message's item."""
        if self._data is _UNDECODED:
            self._data = self._decode(self.raw)
        return self._data

    def copy(self) -> Message:
        """The same message with a gap of its own, for a second reader of the channel."""
        copy = Message(
            self.channel,
            self.type,
            self.sequence,
            self.raw,
            self._decode,
            self.received_at,
            self.connection_id,
            self.gap,
        )
        copy.previous_at = self.previous_at
        return copy

    def __repr__(self) -> str:
        parts = [repr(self.channel), f"type={self.type!r}"]
        if self.sequence is not None:
            parts.append(f"sequence={self.sequence}")
        if self.gap is not None:
            parts.append(f"gap={self.gap!r}")
        return f"<Message {' '.join(parts)} {len(self.raw)} bytes>"


class SubscriptionState(enum.Enum):
    """Where a channel stands with the venue, on the present connection."""

    PENDING = "pending"
    ACTIVE = "active"
    UNSUBSCRIBING = "unsubscribing"
    REJECTED = "rejected"
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Subscription:
    """A channel that is wanted, as it stood when this was asked for.

    ``gap`` is a hole not yet delivered: set from the moment the link drops until the channel's
    next message carries it.
    """

    channel: str
    state: SubscriptionState
    options: Mapping[str, Any] = field(default_factory=dict)
    gap: Gap | None = None

    @property
    def is_active(self) -> bool:
        """True when the venue has confirmed it on the present connection."""
        return self.state is SubscriptionState.ACTIVE
