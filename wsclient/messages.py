"""What a caller gets: Message, the Gap that it may carry, and the Subscription."""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

__all__ = ["Gap", "LinkedMessage", "Message", "Subscription", "SubscriptionState"]

#: Strongest first: when two gaps become one, the stronger reason names it.
GAP_REASONS = (
    "rejected",
    "reconnect",
    "sequence",
    "overflow",
    "invalid",
    "conflate",
    "late",
    "duplicate",
)


class Gap(NamedTuple):
    """Something of this channel was missed just before the message that carries it.

    ``reason`` is one of ``rejected`` (the channel will not come back), ``reconnect``,
    ``sequence`` (the venue's numbers jumped), ``overflow`` (the consumer was too slow),
    ``invalid`` (a frame could not be read, or ``validate`` refused it), ``conflate``; or of two
    that say what the message itself is: ``duplicate`` (it has come before; 0 are missed) and
    ``late`` (an earlier gap has counted it; -1, so that sums come out right).
    ``missed`` is how many messages, None where that cannot be known.
    ``since`` is the ``received_at`` of the channel's last message before the gap (ns since the
    epoch), None where there was none.
    """

    reason: str
    missed: int | None = None
    since: int | None = None

    def merge(self, later: Gap | None) -> Gap:
        """This gap and the one right after it, as one."""
        if later is None:
            return self
        unknown = self.missed is None or later.missed is None
        return Gap(
            min(self.reason, later.reason, key=GAP_REASONS.index),
            None if unknown else self.missed + later.missed,  # type: ignore[operator]
            self.since,
        )


class Decoder(Protocol):
    """How the messages of a client are decoded, when their ``data`` is asked for."""

    def data(self, message: Message) -> Any: ...
    def typed(self, message: Message, type: Any) -> Any: ...
    def portable(self, message: Message) -> Decoder: ...


class Arrival(msgspec.Struct, frozen=True, gc=False, eq=False):
    """What the messages of one socket read have in common."""

    received_at: int
    connection_id: int
    decoder: Decoder | None


_NOWHERE = Arrival(0, 0, None)
_UNDECODED: Any = msgspec.UNSET


class Message(msgspec.Struct, gc=False, eq=False):
    """One message of one channel.

    A dialect makes it of ``channel`` (str), ``type`` (the venue's word: ``"update"``,
    ``"snapshot"``; ours: ``"lost"``), ``sequence`` (the venue's number, +1 a channel, or None) and
    ``item`` (its place in a frame that holds several, else None). The client adds ``raw`` (the
    whole frame's payload as received), ``gap`` (a :class:`Gap`, None where nothing before it was
    missed) and what the properties tell.

    It pickles, for another process or a file: without the client and what it was given, and without
    the data where ``raw`` is all of them. There, ``data`` and :meth:`decode` give the same as here;
    so they do in a ``copy.deepcopy()``. An item of several, and what a dialect decodes in a way of
    its own, is sent decoded.
    """

    channel: str
    type: str = "update"
    sequence: int | None = None
    item: int | None = None
    raw: bytes = b""
    gap: Gap | None = None
    #: ``received_at`` of the channel's message before this one, for a gap to tell.
    previous_at: int | None = None
    arrival: Arrival = _NOWHERE
    decoded: Any = _UNDECODED

    @property
    def data(self) -> Any:
        """The decoded payload, decoded at the latest now; one item of it where ``item`` says so."""
        data = self.decoded
        if data is _UNDECODED:
            decoder = self.arrival.decoder
            data = self.decoded = None if decoder is None else decoder.data(self)
        return data

    def decode(self, type: Any) -> Any:
        """``data`` as a type of yours: a ``msgspec.Struct``, a dataclass, a TypedDict ...

        Raises ``msgspec.ValidationError`` where the payload is not of that type.
        """
        decoder = self.arrival.decoder
        return None if decoder is None else decoder.typed(self, type)

    @property
    def received_at(self) -> int:
        """When it was read from the socket (ns since the epoch)."""
        return self.arrival.received_at

    @property
    def connection_id(self) -> int:
        """Which of the client's connections brought it, counted from 1."""
        return self.arrival.connection_id

    def copy(self) -> Message:
        """The same message with a gap and data of its own, for a second reader of the channel."""
        twin = copy.copy(self)
        twin.decoded = _UNDECODED
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        arrival = self.arrival
        decoder = arrival.decoder
        if decoder is not None:
            arrival = Arrival(self.received_at, self.connection_id, decoder.portable(self))
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return _make, (type(self), {**fields, "arrival": arrival, "decoded": _UNDECODED})

    def __repr__(self) -> str:
        parts = [repr(self.channel), f"type={self.type!r}"]
        if self.sequence is not None:
            parts.append(f"sequence={self.sequence}")
        if self.gap is not None:
            parts.append(f"gap={self.gap!r}")
        return f"<Message {' '.join(parts)} {len(self.raw)} bytes>"


def _make(kind: Callable[..., Message], fields: Mapping[str, Any]) -> Message:
    return kind(**fields)


class TypedMessage(Message, gc=False, eq=False):
    """A Message whose ``decoded`` is of the type that consumers last gave to :meth:`decode`."""

    @property
    def data(self) -> Any:
        decoder = self.arrival.decoder
        return None if decoder is None else decoder.data(self)

    def decode(self, type: Any) -> Any:
        return self.decoded if self.decoded.__class__ is type else super().decode(type)


class LinkedMessage(Message, gc=False, eq=False):
    """A Message whose number says by itself which one it follows, for a dialect to make.

    ``follows`` is the number of the message directly before it: one less than the first of the
    range of numbers that it stands for, or the venue's pointer. None: the count begins again here
    (a snapshot). ``is_counted``: numbers count one by one, so that a jump says how many are
    missing; pointers do not.
    """

    follows: int | None = None
    is_counted: bool = True


class SubscriptionState(enum.Enum):
    """Where a channel stands with the venue, on the present connection."""

    PENDING = "pending"
    ACTIVE = "active"
    UNSUBSCRIBING = "unsubscribing"


@dataclass(frozen=True)
class Subscription:
    """A channel that is wanted, as it stood when this was asked for.

    ``gap`` is a gap not yet delivered: set from the moment the connection drops until the channel's
    next message carries it.
    """

    channel: str
    state: SubscriptionState
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    gap: Gap | None = None

    @property
    def is_active(self) -> bool:
        """True when the venue has confirmed it on the present connection."""
        return self.state is SubscriptionState.ACTIVE
