"""Envelope: a message as a record of plain fields, for JSON lines, files and other programs.

A record holds the payload as it was received. Its format has a version, and is described by the
page ``messages`` of the manual. Fields may be added without a new version, and readers ignore
those that they do not know.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from wsclient.errors import ConfigurationError, InvalidMessage
from wsclient.messages import GAP_REASONS, Arrival, Decoder, Gap, LinkedMessage, Message
from wsclient.stream.codec import Decoded, Origin, PlainDecoder, plain_decoder
from wsclient.stream.inbound import FrameFormat, Inbound
from wsclient.text import why

__all__ = ["VERSION", "Envelope"]

#: The version of the format that is written, and the newest that is read.
VERSION = 1

#: Control characters, and those that change the order of text. In JSON they can only stand in a
#: string, where an escape means the same.
_OBEYED = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
#: Levels of nesting that the reader of a record surely has left on its stack.
_DEEP = 400


class _Missed(msgspec.Struct):
    reason: str
    missed: int | None = None
    since: int | None = None


class _Head(msgspec.Struct, kw_only=True):
    """What all forms of a record have, in the order in which it is written."""

    version: int
    venue: str | None = None
    channel: str
    type: str
    sequence: int | None = None
    follows: int | None = None
    is_counted: bool | None = None
    item: int | None = None
    received_at: int
    time: int | None = None
    connection_id: int
    gap: _Missed | None = None


class _Record(_Head, kw_only=True):
    raw: bytes


class _Line(_Head, kw_only=True):
    raw: str | msgspec.UnsetType = msgspec.UNSET
    raw_base64: str | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw = msgspec.Raw(b"null")


_line = msgspec.json.Decoder(_Line).decode
_record = msgspec.msgpack.Decoder(_Record).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A message as a record: made by :meth:`of`, written by ``to_``, read by ``from_`` methods.

    The fields are those of the :class:`Message`, with ``venue``, the name of its dialect (None if
    it has none), and ``is_counted``, which is None for a message that is no LinkedMessage. ``raw``
    is the payload of the whole frame. ``data`` is the JSON text of the message alone, if its frame
    holds several and the maker has given it.
    """

    venue: str | None = None
    channel: str
    type: str = "update"
    sequence: int | None = None
    follows: int | None = None
    is_counted: bool | None = None
    item: int | None = None
    received_at: int = 0
    time: int | None = None
    connection_id: int = 0
    gap: Gap | None = None
    raw: bytes = b""
    data: bytes | None = None

    @classmethod
    def of(cls, message: Message, data: bytes | None = None) -> Envelope:
        """Return the envelope of a message.

        ``data`` is the JSON text of a message that shares its frame with others.
        """
        decoder = message.arrival.decoder
        linked = message if isinstance(message, LinkedMessage) else None
        return cls(
            venue=None if decoder is None else decoder.venue,
            channel=message.channel,
            type=message.type,
            sequence=message.sequence,
            follows=None if linked is None else linked.follows,
            is_counted=None if linked is None else linked.is_counted,
            item=message.item,
            received_at=message.received_at,
            time=message.time,
            connection_id=message.connection_id,
            gap=message.gap,
            raw=message.raw,
            data=data,
        )

    def message(self, dialect: FrameFormat | None = None, *, decimal: bool = False) -> Message:
        """Return the message.

        With its ``dialect`` it has the same ``data`` and the same plain views as before. Without,
        ``data`` is the whole payload as JSON, or that of ``data`` here if the frame holds several
        messages, and there are no views. ``decimal`` is the client's option.

        Raises ConfigurationError for a dialect of another name.
        """
        if dialect is not None and self.venue not in (None, dialect.name):
            raise ConfigurationError(
                f"this message was read by the dialect {self.venue!r}, not by {dialect.name!r}"
            )
        decoder = self._plain(decimal) if dialect is None else _inbound(dialect, decimal)
        arrival = Arrival(self.received_at, self.connection_id, decoder, sent_at=self.time)
        fields: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("channel", "type", "sequence", "item", "raw", "gap")
        }
        if self.is_counted is None:
            return Message(**fields, arrival=arrival)
        return LinkedMessage(
            **fields, arrival=arrival, follows=self.follows, is_counted=self.is_counted
        )

    def _plain(self, decimal: bool) -> Decoder | None:
        origin = None if self.venue is None else Origin(self.venue)
        if self.item is None:
            return plain_decoder(decimal, origin) if self.raw else None
        if self.data is None:
            return None
        return Decoded(PlainDecoder(decimal).decode_deep(self.data), origin=origin)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a dict, with ``raw`` as bytes and without ``data``."""
        record = _Record(**self._head(), raw=self.raw)
        return {
            **msgspec.structs.asdict(record),
            "gap": None if self.gap is None else self.gap._asdict(),
        }

    def to_msgpack(self) -> bytes:
        """Return the dict of :meth:`to_dict` in MessagePack.

        Raises InvalidMessage for a number of more than 64 bits.
        """
        try:
            return msgspec.msgpack.encode(_Record(**self._head(), raw=self.raw))
        except (OverflowError, UnicodeError) as error:
            raise InvalidMessage(f"the message does not fit into a record: {why(error)}") from error

    def to_json(self) -> str:
        """Return the record as a JSON object on one line, without control characters."""
        line = _Line(**self._head())
        text = self.raw.decode(errors="replace")
        if self.item is None and _is_one_line(text) and _is_json(self.raw):
            line.data = msgspec.Raw(self.raw)
        else:
            if text.encode() == self.raw:
                line.raw = text
            else:
                line.raw_base64 = base64.b64encode(self.raw).decode()
            data = self.raw if self.item is None else self.data
            if data is not None and _is_json(data):
                line.data = msgspec.Raw(msgspec.json.format(data, indent=-1))
        try:
            encoded = msgspec.json.encode(line).decode()
        except UnicodeError as error:
            raise InvalidMessage(f"the message does not fit into a record: {why(error)}") from error
        if encoded.isascii() and encoded.isprintable():
            return encoded
        return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded)

    def _head(self) -> dict[str, Any]:
        names = _Head.__struct_fields__[1:-1]
        gap = None if self.gap is None else _Missed(*self.gap)
        return {"version": VERSION, **{name: getattr(self, name) for name in names}, "gap": gap}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Envelope:
        """Return the envelope in a dict. Raises InvalidMessage if there is none."""
        try:
            found = msgspec.convert(dict(record), _Record)
            return cls._from(found, found.raw)
        except (ValueError, TypeError) as error:
            raise _invalid(error) from error

    @classmethod
    def from_msgpack(cls, record: bytes) -> Envelope:
        """Return the envelope in MessagePack. Raises InvalidMessage if there is none."""
        try:
            found = _record(record)
            return cls._from(found, found.raw)
        except ValueError as error:
            raise _invalid(error) from error

    @classmethod
    def from_json(cls, record: str | bytes) -> Envelope:
        """Return the envelope in a JSON object. Raises InvalidMessage if there is none."""
        try:
            found = _line(record)
            data = bytes(found.data)
            if isinstance(found.raw_base64, str):
                raw = base64.b64decode(found.raw_base64, validate=True)
            else:
                raw = found.raw.encode() if isinstance(found.raw, str) else data
            return cls._from(found, raw, None if found.item is None or data == b"null" else data)
        except (ValueError, RecursionError) as error:
            raise _invalid(error) from error

    @classmethod
    def _from(cls, found: _Head, raw: bytes, data: bytes | None = None) -> Envelope:
        if not 1 <= found.version <= VERSION:
            raise ValueError(
                f"its version is {found.version}, but this wsclient reads no other than {VERSION}"
            )
        if found.gap is not None and found.gap.reason not in GAP_REASONS:
            raise ValueError(f"unknown reason of a gap: {found.gap.reason!r}")
        gap = None if found.gap is None else Gap(*msgspec.structs.astuple(found.gap))
        names = _Head.__struct_fields__[1:-1]
        return cls(**{name: getattr(found, name) for name in names}, gap=gap, raw=raw, data=data)


def _invalid(error: Exception) -> InvalidMessage:
    return InvalidMessage(f"this is no record of a message: {why(error)}")


def _is_one_line(text: str) -> bool:
    """Return whether a text can be a part of a line as it is, with nothing around it."""
    if text != text.strip(" \t\r\n"):
        return False
    if text.isascii() and text.isprintable():
        return True
    return not _OBEYED.search(text) and "\n" not in text and "\r" not in text


def _is_json(text: bytes) -> bool:
    """Return whether this is one JSON value, in UTF-8, that can be read as a part of a record."""
    if text.count(b"[") + text.count(b"{") > _DEEP:  # who reads it may have less stack left
        text = b"[" * _DEEP + text + b"]" * _DEEP
    try:
        text.decode()
        _skip(text)
    except (ValueError, RecursionError):
        return False
    return True


@lru_cache(16)
def _inbound(dialect: FrameFormat, decimal: bool) -> Inbound:
    return Inbound(dialect, decimal=decimal)
