"""The types that callers get: Message, the Gap that it may carry, and Subscription."""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from wsclient import html
from wsclient.text import excerpt
from wsclient.views import PlainBookUpdate, Quote, Trade

__all__ = [
    "Gap",
    "LinkedMessage",
    "Message",
    "Subscription",
    "SubscriptionState",
    "Subscriptions",
    "View",
]

#: The plain views of a message, by the name of its method.
View: TypeAlias = Literal["trades", "quote", "book_update"]

#: The strongest reason first. Two merged gaps have the stronger of their reasons.
GAP_REASONS = (
    "rejected",
    "reconnect",
    "sequence",
    "overflow",
    "recorder",
    "invalid",
    "conflate",
    "late",
    "duplicate",
)


class Gap(NamedTuple):
    """Messages of this channel that were missed just before the message that carries the gap.

    ``reason`` says why: ``rejected`` (the channel will not come back), ``reconnect``, ``sequence``
    (the venue's sequence numbers jumped), ``overflow`` (the consumer was too slow), ``invalid`` (a
    frame could not be read, ``validate`` refused it, or it did not fit its declared type),
    ``conflate`` (the queue kept only the newest) or, in a recording, ``recorder`` (it could not
    keep them, or none was running). Two more reasons describe the message itself:
    ``duplicate`` (it has come before; 0 are missed) and ``late`` (an earlier gap has counted it; -1
    are missed, so that sums are right).
    ``missed`` is the number of missed messages, None if it is not known.
    ``since`` is the ``received_at`` of the channel's last message before the gap (ns since the
    epoch), None if there was none.
    """

    reason: str
    missed: int | None = None
    since: int | None = None

    def merge(self, later: Gap | None) -> Gap:
        """Return this gap and the one directly after it as one gap."""
        if later is None:
            return self
        unknown = self.missed is None or later.missed is None
        return Gap(
            min(self.reason, later.reason, key=GAP_REASONS.index),
            None if unknown else self.missed + later.missed,  # type: ignore[operator]
            self.since,
        )


class Decoder(Protocol):
    """Decodes the messages of a client: to plain data, or to a type."""

    @property
    def venue(self) -> str | None: ...
    def data(self, message: Message) -> Any: ...
    def typed(self, message: Message, type: Any) -> Any: ...
    def typed_decoder(self, type: Any) -> Callable[[bytes], Any] | None: ...
    def time(self, message: Message) -> int | None: ...
    def view(self, message: Message, kind: View) -> Any: ...
    def portable(self, message: Message) -> Decoder: ...


class Arrival(msgspec.Struct, frozen=True, gc=False, eq=False):
    """The values shared by all messages of one socket read.

    ``read_at`` is the time of the read (monotonic s); None in another process, and by hand.
    ``sent_at`` is the time of the only message of this arrival, unset if the decoder finds it.
    """

    received_at: int
    connection_id: int
    decoder: Decoder | None
    read_at: float | None = None
    sent_at: int | msgspec.UnsetType | None = msgspec.UNSET


_NOWHERE = Arrival(0, 0, None)
_UNDECODED: Any = msgspec.UNSET
#: How many subscriptions a ``repr`` shows.
_SHOWN = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

#: A ``repr`` encodes the data of one of several messages of a frame of up to this length (bytes).
_SHORT = 64 * 1024
#: How much of the data a notebook shows (bytes).
_EXCERPT = 500


class Message(msgspec.Struct, gc=False, eq=False):
    """One message of one channel.

    A dialect makes it with ``channel`` (str), ``type`` (the venue's word, such as ``"update"`` or
    ``"snapshot"``; ours is ``"lost"``), ``sequence`` (the venue's sequence number, which grows by 1
    per message of the channel, or None) and ``item`` (its position in a frame that holds several
    messages, else None). The client adds ``raw`` (the payload of the whole frame as received),
    ``gap`` (a :class:`Gap`, or None if nothing was missed before it), ``kind`` (the declared type
    of its data) and the values behind the properties: ``data``; ``time``, the venue's own time, and
    ``received_at``, both in ns since the epoch, and as datetimes ``time_utc`` and
    ``received_at_utc``; ``connection_id``.

    A message can be pickled, for another process or a file. The pickle holds neither the client
    nor its options, and no decoded data if ``raw`` holds exactly this message. In the unpickled
    message, and in a ``copy.deepcopy()``, ``data`` and :meth:`decode` return the same as here. One
    of several items of a frame, or a message that its dialect decodes in its own way, is pickled
    with its decoded data. The pickle names the dialect's class, which :meth:`trades`, :meth:`quote`
    and :meth:`book_update` import there, without any parameters.
    """

    channel: str
    type: str = "update"
    sequence: int | None = None
    item: int | None = None
    raw: bytes = b""
    gap: Gap | None = None
    #: ``received_at`` of the channel's message before this one, for the ``since`` of a gap.
    previous_at: int | None = None
    arrival: Arrival = _NOWHERE
    decoded: Any = _UNDECODED
    #: The declared type of ``data``. None and ``Any``: plain data.
    kind: Any = None

    @property
    def data(self) -> Any:
        """The decoded payload, or its item number ``item``, as the declared type if there is one.

        Plain data are decoded at the first read.
        """
        data = self.decoded
        if data is _UNDECODED:
            decoder, kind = self.arrival.decoder, self.kind
            if decoder is None:
                data = None
            elif kind is None or kind is Any:
                data = decoder.data(self)
            else:
                data = decoder.typed(self, kind)
            self.decoded = data
        return data

    def decode(self, type: Any) -> Any:
        """Return ``data`` as your own type: a ``msgspec.Struct``, a dataclass, a TypedDict ...

        For occasional use: a type that is declared with the option ``decode`` costs less. Raises
        ``msgspec.ValidationError`` if the payload is not of that type.
        """
        if type is self.kind:
            return self.data
        decoder = self.arrival.decoder
        return None if decoder is None else decoder.typed(self, type)

    def trades(self) -> list[Trade] | None:
        """Return all trades in the message, in plain fields; None if it is of another kind.

        The page ``views`` of the manual says for which channels. Found at each call. Raises
        InvalidMessage for a payload that the dialect cannot read, and NotSupported for a message
        that was pickled or deep-copied, if the class of its dialect cannot be made here.
        """
        trades: list[Trade] | None = self._view("trades")
        return trades

    def quote(self) -> Quote | None:
        """Return the best bid and ask in the message; None if it is of another kind.

        Raises as :meth:`trades` does.
        """
        quote: Quote | None = self._view("quote")
        return quote

    def book_update(self) -> PlainBookUpdate | None:
        """Return the update of an order book in the message; None if it is of another kind.

        Raises as :meth:`trades` does.
        """
        update: PlainBookUpdate | None = self._view("book_update")
        return update

    def _view(self, kind: View) -> Any:
        decoder = self.arrival.decoder
        return None if decoder is None else decoder.view(self, kind)

    @property
    def time(self) -> int | None:
        """When the venue sent the message, by its own clock (ns since the epoch).

        None if it does not say so, or the dialect does not know where. Found at each read.
        """
        sent_at, decoder = self.arrival.sent_at, self.arrival.decoder
        if isinstance(sent_at, msgspec.UnsetType):
            return None if decoder is None else decoder.time(self)
        return sent_at

    @property
    def time_utc(self) -> datetime | None:
        """:attr:`time` as a datetime in UTC, cut to microseconds."""
        time = self.time
        return None if time is None else _datetime(time)

    @property
    def received_at(self) -> int:
        """When the message was read from the socket (ns since the epoch)."""
        return self.arrival.received_at

    @property
    def received_at_utc(self) -> datetime:
        """:attr:`received_at` as a datetime in UTC, cut to microseconds."""
        return _datetime(self.received_at)

    @property
    def connection_id(self) -> int:
        """The number of the client's connection that brought the message, counted from 1."""
        return self.arrival.connection_id

    def copy(self) -> Message:
        """Return a copy with its own gap and data, for a second reader of the channel."""
        twin = copy.copy(self)
        twin.decoded = _UNDECODED
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        decoder = self.arrival.decoder
        portable = None if decoder is None else decoder.portable(self)
        arrival = Arrival(self.received_at, self.connection_id, portable, sent_at=self.time)
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return _make, (type(self), {**fields, "arrival": arrival, "decoded": _UNDECODED})

    def __repr__(self) -> str:
        parts = [repr(self.channel), f"type={self.type!r}"]
        if self.sequence is not None:
            parts.append(f"sequence={self.sequence}")
        if self.item is not None:
            parts.append(f"item={self.item}")
        if self.received_at:
            at = _datetime(self.received_at).isoformat(" ", "microseconds").removesuffix("+00:00")
            parts.append(f"received {at}Z")
        if self.gap is not None:
            parts.append(f"gap={self.gap!r}")
        if self.raw:
            parts.append(self._excerpt())
        return f"<Message {' '.join(parts)}>"

    def _repr_html_(self) -> str:
        pairs: list[tuple[str, object]] = [("channel", self.channel), ("type", self.type)]
        numbers = {"sequence": self.sequence, "item": self.item}
        pairs += [(name, number) for name, number in numbers.items() if number is not None]
        if self.received_at:
            pairs.append(("received", f"{self.received_at_utc:%Y-%m-%d %H:%M:%S.%f}Z"))
        if self.connection_id:
            pairs.append(("connection", self.connection_id))
        if self.gap is not None:
            missed = "an unknown number" if self.gap.missed is None else self.gap.missed
            pairs.append(("gap", html.badge(f"missed {missed} ({self.gap.reason})", "warning")))
        if self.raw:
            data = self._shown()
            cut = f"... ({len(data):,} bytes)" if len(data) > _EXCERPT else ""
            pairs.append(("data", f"{data[:_EXCERPT].decode(errors='replace')}{cut}"))
        return html.page(html.facts(pairs))

    def _excerpt(self) -> str:
        return excerpt(self._shown())

    def _shown(self) -> bytes:
        """Return the data as they are shown: the payload, or this message's part of it."""
        shown = self.raw
        if self.item is not None and self.decoded is not _UNDECODED and len(shown) <= _SHORT:
            try:
                shown = msgspec.json.encode(self.decoded)
            except Exception:  # noqa: BLE001, S110 - data of a user's type; then the whole frame
                pass
        return shown


def _datetime(ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ns // 1000)


def _make(kind: Callable[..., Message], fields: Mapping[str, Any]) -> Message:
    return kind(**fields)


class LinkedMessage(Message, gc=False, eq=False):
    """A Message that says which sequence number it follows. Made by a dialect.

    ``follows`` is the sequence number of the message directly before it: the venue's pointer, or,
    for a message that covers a range of numbers, one less than the first of the range. None means
    that the numbers begin again here (a snapshot). ``is_counted`` is True when the numbers go up
    by one per message, so that a jump says how many messages are missing; for pointers it is False.
    """

    follows: int | None = None
    is_counted: bool = True


class SubscriptionState(enum.Enum):
    """The state of a subscription with the venue, on the present connection."""

    PENDING = "pending"
    ACTIVE = "active"
    UNSUBSCRIBING = "unsubscribing"


@dataclass(frozen=True)
class Subscription:
    """A snapshot of the state of a wanted channel.

    ``gap`` is a gap not yet delivered: it is set from the moment the connection drops until the
    channel's next message carries it.
    """

    channel: str
    state: SubscriptionState
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    gap: Gap | None = None

    @property
    def is_active(self) -> bool:
        """True when the venue has confirmed the subscription on the present connection."""
        return self.state is SubscriptionState.ACTIVE

    def __repr__(self) -> str:
        return f"<Subscription {self._text()}>"

    def _text(self) -> str:
        gap = "" if self.gap is None else f" gap={self.gap!r}"
        return f"{self.channel!r} {self.state.value}{gap}"


class Subscriptions(list[Subscription]):
    """A list of subscriptions, whose ``repr`` is a line for each of the first ten."""

    def __repr__(self) -> str:
        lines = [subscription._text() for subscription in self[:_SHOWN]]
        if len(self) > _SHOWN:
            lines.append(f"... and {len(self) - _SHOWN} more")
        head = f"{len(self)} subscription{'s'[: len(self) != 1]}"
        return "\n    ".join([f"{head}:" if lines else head, *lines])
