"""From a frame's payload to what the session works on, outside of any lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from wsclient.messages import Arrival, Message
from wsclient.sansio.codec import encode, lenient_decoder
from wsclient.sansio.dialect import (
    DataFields,
    Dialect,
    Item,
    LoginRefused,
    Notice,
    Rejection,
    Respond,
    Subscribed,
    Unhandled,
)
from wsclient.sansio.session import Entry, Invalid

__all__ = ["Inbound"]

#: At most so much of a frame goes into a log line or an exception's text.
EXCERPT = 120
#: Frames up to this long (bytes) may be decoded by the reader. The objects of many long ones, all
#: alive at once, would keep the garbage collector busy and the processor's cache cold.
SMALL = 1024

_UNDECODED: Any = msgspec.UNSET


class Inbound:
    """Makes Messages of payloads, and decodes them when asked.

    A frame takes either a peek at its head now and the decoding later, in the consumer's thread,
    or one decoding now, which serves for both. The latter is less work in all, but only if
    somebody wants the objects, soon. So the reader decodes ahead while ``ahead`` is set, by
    whoever knows that the consumer keeps up, and what consumers last asked for was ``data``.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        decimal: bool = False,
        deliver_unhandled: bool = False,
        validate: Callable[[Message], object] | None = None,
    ) -> None:
        self.ahead = True
        self._wants_data = True
        self._dialect = dialect
        self._decode = dialect.decoder(decimal)
        self._decode_leniently = lenient_decoder(decimal)
        self._is_json = type(dialect).decoder is Dialect.decoder
        self._typed: dict[Any, Callable[[bytes], Any]] = {}
        self._deliver_unhandled = deliver_unhandled
        self._validate = validate
        self._fields = dialect.data_fields if validate is None and self._is_json else None
        self._head: Callable[[bytes], Any] = self._decode
        if self._fields is not None:
            self._head = msgspec.json.Decoder(self._fields.head()).decode
        # A dialect may know frames by peek alone.
        self._reads = type(dialect).read is not Dialect.read

    def entries(
        self, payloads: Sequence[bytes], received_at: int, connection_id: int
    ) -> list[Entry]:
        """One entry a message, answer or sign of life, in the order of the wire.

        Never raises: what cannot be read becomes an :class:`Invalid`.
        """
        arrival = Arrival(received_at, connection_id, self)
        entries: list[Entry] = []
        append = entries.append
        decoded = self._decode_ahead(payloads)
        if self._fields is None:
            for i, raw in enumerate(payloads):
                self._read(raw, _UNDECODED if decoded is None else decoded[i], arrival, append)
        elif decoded is None:
            self._peek_at_fields(self._fields, payloads, arrival, entries)
        else:
            self._look_up_fields(self._fields, payloads, decoded, arrival, entries)
        return entries

    def data(self, message: Message) -> Any:
        """What ``message.data`` is, decoded in the consumer's thread."""
        self._wants_data = True
        decoded = self._decoded(message.raw)
        return decoded if message.item is None else self._dialect.item(decoded, message.item)

    def typed(self, message: Message, kind: Any) -> Any:
        """What ``message.decode(kind)`` is."""
        self._wants_data = False
        if message.item is not None or not self._is_json:
            return msgspec.convert(message.data, kind)
        decode = self._typed.get(kind)
        if decode is None:
            decode = self._typed[kind] = msgspec.json.Decoder(kind).decode
        return decode(message.raw)

    # Inside.

    def _decode_ahead(self, payloads: Sequence[bytes]) -> list[Any] | None:
        if not (self.ahead and self._wants_data and self._reads):
            return None
        if max(map(len, payloads), default=0) > SMALL:
            return None
        try:
            return list(map(self._decode, payloads))
        except Exception:  # noqa: BLE001 - the careful way tells which, and goes on with the rest
            return None

    # The next two are the same but for where they look: most messages end here, so neither calls
    # anything for one that is as expected.

    def _look_up_fields(
        self,
        fields: DataFields,
        payloads: Sequence[bytes],
        decoded: list[Any],
        arrival: Arrival,
        entries: list[Entry],
    ) -> None:
        append = entries.append
        types, type_field, channel_field, sequences = fields
        sequence_field = sequences[0] if sequences else ""
        for raw, data in zip(payloads, decoded, strict=True):
            try:
                kind, channel, sequence = (
                    data[type_field],
                    data[channel_field],
                    data[sequence_field],
                )
                if kind in types and type(channel) is str and type(sequence) is int:
                    append(Message(channel, kind, sequence, None, raw, None, None, arrival, data))
                    continue
            except (KeyError, TypeError):
                pass  # not of that shape
            self._read(raw, data, arrival, append)

    def _peek_at_fields(
        self,
        fields: DataFields,
        payloads: Sequence[bytes],
        arrival: Arrival,
        entries: list[Entry],
    ) -> None:
        append = entries.append
        types, head_of = fields.types, self._head
        for raw in payloads:
            try:
                head = head_of(raw)
                kind, channel = head.type, head.channel
                if kind in types and channel is not None and _is_utf8(raw):
                    sequence = head.sequence()
                    append(Message(channel, kind, sequence, None, raw, None, None, arrival))
                    continue
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass  # the careful way tells why
            self._read(raw, _UNDECODED, arrival, append)

    def _decoded(self, raw: bytes) -> Any:
        try:
            return self._decode(raw)
        except msgspec.ValidationError:  # a number out of range, which a peek does not see
            return self._decode_leniently(raw)

    def _read(
        self, raw: bytes, decoded: Any, arrival: Arrival, append: Callable[[Entry], None]
    ) -> None:
        """One frame, the careful way: all there is to it, and nothing is taken for granted."""
        dialect = self._dialect
        try:
            if decoded is _UNDECODED and dialect.peek is not None:
                _is_utf8(raw)
                found = dialect.peek(raw)
            else:
                if decoded is _UNDECODED:
                    decoded = self._decoded(raw)
                found = dialect.read(decoded)
            items = found if isinstance(found, (list, tuple)) else (found,)
            if len(items) > 1 and decoded is _UNDECODED:
                decoded = self._decoded(raw)  # once for all of its items
            elif len(items) == 1 and not self.ahead:
                decoded = _UNDECODED  # objects are several times as large as the frame
            for item in items:
                if type(item) is Unhandled and self._deliver_unhandled:
                    append(item)
                    self._append(Message(item.channel, item.type), raw, decoded, arrival, append)
                elif isinstance(item, Message):
                    _check(item)
                    self._append(item, raw, decoded, arrival, append)
                elif isinstance(item, Item):
                    append(_tidy(item))
                else:
                    raise TypeError(f"the dialect gave {type(item).__name__}, which is no item")
        except Exception as error:  # noqa: BLE001 - whatever a dialect raises, input is to blame
            append(Invalid(f"an unreadable frame ({_why(error)}): {excerpt(raw)}"))

    def _append(
        self,
        message: Message,
        raw: bytes,
        decoded: Any,
        arrival: Arrival,
        append: Callable[[Entry], None],
    ) -> None:
        message.raw = raw
        message.arrival = arrival
        if decoded is not _UNDECODED and message.item is not None:
            decoded = self._dialect.item(decoded, message.item)
        message.decoded = decoded
        if self._validate is not None:
            try:
                self._validate(message)
            except Exception as error:  # noqa: BLE001 - a user's check says no
                text = f"a message that validate refused ({_why(error)}): {excerpt(raw)}"
                append(Invalid(text, message.channel, message.sequence))
                return
        append(message)


def _check(message: Message) -> None:
    if type(message.channel) is not str or type(message.type) is not str:
        raise TypeError("a message's channel and type are text")
    if message.sequence is not None and type(message.sequence) is not int:
        raise TypeError("a message's sequence is an integer, or None")


def _tidy(item: Item) -> Item:
    """What venues may put in the place of text, as text; what is to be sent, as it will be."""
    if isinstance(item, (Rejection, LoginRefused)):
        item.reason = str(item.reason)
    elif isinstance(item, Notice):
        item.text = str(item.text)
    elif isinstance(item, Unhandled):
        item.type, item.channel = str(item.type), str(item.channel)
    elif isinstance(item, Respond):
        item.payload = encode(item.payload)
    elif isinstance(item, Subscribed):
        item.channels = [str(channel) for channel in item.channels]
    return item


def _is_utf8(raw: bytes) -> bool:
    """True, or raise UnicodeDecodeError: a peek does not look into what it skips, and the parser
    not into binary frames."""
    return raw.isascii() or str(raw, "utf-8") is not None


def excerpt(raw: bytes) -> str:
    """A bounded, printable piece of a payload."""
    text = repr(raw[:EXCERPT])
    return text if len(raw) <= EXCERPT else f"{text}... ({len(raw)} bytes)"


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:EXCERPT]}"
