"""The records of a recording: what stands in its files, in MessagePack.

A recording has three kinds of topics:

* ``channel``: one topic for each channel. Its records are frames that hold messages of this channel
  only, in the order in which the client delivered them.
* ``frames``: one topic for all other frames: answers, heartbeats, frames of several channels, and
  copies that were not delivered because another connection had brought the same.
* ``client``: what else happened: events, sent messages, snapshots by REST, what the recorder has
  lost, and *state records*, at which reading may begin.

Who reads some of the channels reads the topics ``frames`` and ``client`` too. Records of all topics
stand in the order in which the client processed them.

Every record has two times. ``at`` is by the monotonic clock of the recording process (ns). The
container adds the wall time (ns since the epoch): of a frame, when it was read from the socket.

A reader ignores fields that it does not know, so fields may be added at the end without a new
version.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from wsclient.messages import Gap, LinkedMessage, Message

__all__ = [
    "VERSION",
    "Answer",
    "BookSnapshot",
    "ChannelState",
    "ClientState",
    "ConnectionState",
    "End",
    "Frame",
    "Happened",
    "Kind",
    "Lost",
    "MissedPart",
    "Part",
    "Record",
    "SentFrame",
    "decode",
    "decode_frame",
    "encode",
    "message_of",
    "part_of",
]

#: The version of the format that is written, and the newest that is read.
VERSION = 1

#: The kinds of topics.
Kind: TypeAlias = Literal["channel", "frames", "client"]


class MissedPart(msgspec.Struct, array_like=True, gc=False):
    """A gap: see :class:`wsclient.Gap`."""

    reason: str
    missed: int | None = None
    since: int | None = None


class Part(msgspec.Struct, array_like=True, gc=False):
    """One message of a frame, as it was delivered: the fields of :class:`wsclient.Message`.

    ``channel`` is None for that of the topic. ``is_counted`` is None for a message that is no
    LinkedMessage.
    """

    channel: str | None
    type: str
    sequence: int | None = None
    item: int | None = None
    gap: MissedPart | None = None
    follows: int | None = None
    is_counted: bool | None = None


class Frame(msgspec.Struct, array_like=True, gc=False):
    """A frame as received, with the messages of it that were delivered.

    ``is_repeated``: an earlier record of the topic ``frames`` holds the same frame. It had to wait
    until it was known that no other connection has brought its messages.
    ``raw`` is empty for a message that the client has made itself (type ``lost``).
    """

    connection_id: int
    at: int
    raw: bytes
    parts: list[Part]
    is_binary: bool = False
    is_repeated: bool = False


class _ClientRecord(msgspec.Struct, tag_field="record", kw_only=True, omit_defaults=True):
    """Base of the records of the topic ``client``."""

    at: int


class SentFrame(_ClientRecord, tag="sent"):
    """A message that was sent. ``payload`` has ``***`` for each secret."""

    connection_id: int
    payload: bytes
    is_binary: bool = False


class Happened(_ClientRecord, tag="event"):
    """An event of the client: ``name`` is its class in :mod:`wsclient.events`.

    ``fields`` are its own fields in plain types; an exception is its text, with its class before a
    colon. ``origin`` is the connection with which the stream of this connection began, if that is
    another one.
    """

    name: str
    fields: dict[str, Any] = {}
    connection_id: int = 0
    number: int = 0
    origin: int | None = None


class Answer(_ClientRecord, tag="answer"):
    """A snapshot of an order book by REST: the venue's answer, in JSON."""

    channel: str
    connection_id: int
    body: bytes


class Lost(_ClientRecord, tag="lost"):
    """What was not recorded, before this record.

    ``why`` is a text for people. ``since`` is the time of the last record before (ns since the
    epoch), None if there is none. ``channels`` has the number of messages that each channel missed.
    With ``is_unknown``, every channel may have missed messages, nobody knows how many.
    """

    why: str
    since: int | None = None
    channels: dict[str, int] = {}
    frames: int = 0
    is_unknown: bool = False


class ConnectionState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An open connection, in a state record.

    ``origin`` is the connection with which its stream began. ``aliases`` are the venue's names of
    its channels, by which frames name them.
    """

    id: int
    route: str = ""
    address: str = ""
    origin: int = 0
    aliases: dict[str, str] = {}


class ChannelState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A channel, in a state record.

    ``options`` are those it was subscribed with. ``last`` is its last sequence number and
    ``last_received_at`` the time of its last message (ns since the epoch). ``gap`` will be on its
    next message, as far as is known.
    """

    name: str
    is_confirmed: bool = False
    options: dict[str, Any] = {}
    messages: int = 0
    last: int | None = None
    last_received_at: int | None = None
    gap: MissedPart | None = None


class ClientState(_ClientRecord, tag="state"):
    """The state of the client. Reading may begin with this record.

    The books of the client follow as :class:`BookSnapshot` records.
    """

    state: str
    channels: list[ChannelState] = []
    connections: list[ConnectionState] = []


class BookSnapshot(_ClientRecord, tag="book"):
    """An order book in sync of the client.

    It contains the messages of its channel up to one received at ``received_at`` with the number
    ``sequence``, which stands before this record but after the last state record, or is the last
    one before that. Prices and sizes are text with the venue's digits. ``options`` are those of the
    book, ``origin`` is that of the stream that updates it.
    """

    channel: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    origin: int
    sequence: int | None = None
    received_at: int | None = None
    options: dict[str, Any] = {}


class End(_ClientRecord, tag="end"):
    """The recorder was closed in order. The last record of its last file."""


ClientRecord: TypeAlias = SentFrame | Happened | Answer | Lost | ClientState | BookSnapshot | End
Record: TypeAlias = Frame | ClientRecord

encode = msgspec.msgpack.Encoder().encode
#: Decodes a record of the other topics. Raises ValueError.
decode_frame = msgspec.msgpack.Decoder(Frame).decode
_client = msgspec.msgpack.Decoder(ClientRecord).decode


def decode(kind: str, data: bytes) -> Record:
    """Return the record of a topic of this kind. Raises ValueError if there is none."""
    try:
        return _client(data) if kind == "client" else decode_frame(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def part_of(message: Message, topic: str | None = None) -> Part:
    """Return what a frame's record says of a message. ``topic`` is the channel of the topic."""
    linked = message if isinstance(message, LinkedMessage) else None
    return Part(
        None if message.channel == topic else message.channel,
        message.type,
        message.sequence,
        message.item,
        None if message.gap is None else MissedPart(*message.gap),
        None if linked is None else linked.follows,
        None if linked is None else linked.is_counted,
    )


def message_of(part: Part, topic: str | None, raw: bytes) -> Message:
    """Return the message of a part, without its arrival. Raises ValueError if it has no channel."""
    channel = topic if part.channel is None else part.channel
    if channel is None:
        raise ValueError("a message of a recording has no channel")
    gap = None if part.gap is None else Gap(part.gap.reason, part.gap.missed, part.gap.since)
    if part.is_counted is None:
        return Message(channel, part.type, part.sequence, part.item, raw, gap)
    return LinkedMessage(
        channel, part.type, part.sequence, part.item, raw, gap,
        follows=part.follows, is_counted=part.is_counted,
    )  # fmt: skip
