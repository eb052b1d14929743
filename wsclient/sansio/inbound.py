"""From a frame's payload to what the session works on, outside of any lock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import repeat
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from wsclient.messages import Arrival, Decoder, LinkedMessage, Message, TypedMessage
from wsclient.sansio.codec import MAX_DIGITS, Decoded, PlainDecoder, encode, is_suspect
from wsclient.sansio.dialect import (
    DataFields,
    Dialect,
    Ended,
    Item,
    LoginRefused,
    Notice,
    Rejection,
    Respond,
    SubscribedChannels,
    Unhandled,
)
from wsclient.sansio.recovery import Batch
from wsclient.sansio.session import Incoming, Invalid

__all__ = ["Inbound"]

#: At most so much of a frame goes into a log line or an exception's text.
EXCERPT = 120
#: Frames up to this long (bytes) may be decoded by the reader. The objects of many long ones, all
#: alive at once, would keep the garbage collector busy and the processor's cache cold.
SMALL = 1024

_UNDECODED: Any = msgspec.UNSET


class _Shape:
    """One way to decode a data frame, and where its type, channel and sequence then are."""

    def __init__(
        self,
        decode: Callable[[bytes], Any],
        get: Callable[[Any, str], Any],
        quick: Callable[..., Any],
        names: Sequence[str],
    ) -> None:
        self.decode = decode
        self._get = get
        self._names = names
        #: (type, channel, sequence) of a value. The quick way knows the first sequence field only.
        self.keys: Callable[[Any], Any] = self.exact
        self.is_exact = len(names) <= 3
        self._is_quick = len(names) >= 3
        if self._is_quick:
            self.keys = quick(*names[:3])

    def decoded(self, payloads: Iterable[bytes]) -> list[Any]:
        """The values of the payloads, up to the first that has none."""
        values: list[Any] = []
        # The careful way tells why, and goes on with the rest. A type of the user's may raise
        # anything.
        with suppress(BaseException):
            values.extend(map(self.decode, payloads))
        return values

    def exact(self, value: Any) -> tuple[Any, Any, int | None]:
        get = self._get
        kind, channel, *numbers = (get(value, name) for name in self._names)
        return kind, channel, next((n for n in numbers if type(n) is int), None)

    def fit(self, value: Any, types: Collection[str]) -> None:
        """Give up the quick way for good if this data message shows that it does not do."""
        if not self._is_quick:
            return
        try:
            found = self.exact(value)
            is_numbered = self.is_exact or found[2] is not None
            if found[0] not in types or (is_numbered and self.keys(value) == found):
                return
        except (AttributeError, TypeError):
            return  # not of that shape
        except KeyError:
            pass
        self.keys, self.is_exact, self._is_quick = self.exact, True, False


class Inbound:
    """Makes Messages of payloads, and decodes them when asked.

    A frame takes either a peek at its head now and the decoding later, in the consumer's thread,
    or one decoding now, which serves for both. The latter is less work in all, but only if
    somebody wants the objects, soon. So the reader decodes ahead while ``ahead`` is set, by
    whoever knows that the consumer keeps up, and into what consumers last asked for.
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
        #: What consumers last asked for: the type given to ``decode``, or None for ``data``.
        self._wanted: Any = None
        self._dialect = dialect
        self._is_json = type(dialect).decoder is Dialect.decoder
        self._json = PlainDecoder(decimal)
        self._decode = self._json.decode_all if self._is_json else dialect.decoder(decimal)
        #: For the types that the reader may decode into; None for one that did not do.
        self._shapes: dict[Any, _Shape | None] = {}
        self._deliver_unhandled = deliver_unhandled
        self._validate = validate
        # A dialect may know frames by peek alone.
        self._reads = type(dialect).read is not Dialect.read
        self._fields = dialect.data_fields if validate is None and self._is_json else None
        if self._fields is not None:
            types, type_field, channel_field, sequences = self._fields
            self._types = {kind: kind for kind in types}
            self._names = [type_field, channel_field, *sequences]
            self._object = _Shape(self._json.decode, dict.get, itemgetter, self._names)
            head = _head(tuple(self._names))
            decode = msgspec.json.Decoder(head).decode
            self._head = _Shape(decode, getattr, attrgetter, head.__struct_fields__)

    def batch(
        self, payloads: list[bytes], binary: bool, received_at: int, connection_id: int
    ) -> Batch:
        """What one read brought, for the fast path. ``binary``: not all were text frames."""
        batch = Batch(payloads, Arrival(received_at, connection_id, self))
        fields = self._fields
        if fields is None or (binary and not _are_utf8(payloads)):
            return batch
        batch.types = self._types
        wanted = self._wanted
        shape = self._head
        longest = max(map(len, payloads), default=0)
        if self.ahead and longest <= SMALL:
            shape = self._object if wanted is None else self._shapes.get(wanted) or self._head
        values = shape.decoded(payloads)
        if shape is self._object:
            batch.decoded = values
        elif shape is not self._head:
            batch.decoded, batch.make = values, TypedMessage
            if len(values) < len(payloads) and self._is_data(payloads[len(values)], fields):
                self._shapes[wanted] = None  # not all data is of this type
        elif longest > MAX_DIGITS:
            del values[self._readable(payloads) :]
        batch.keys = map(shape.keys, values)
        batch.are_exact = shape.is_exact
        return batch

    def entries(self, batch: Batch, start: int = 0) -> list[Incoming]:
        """The careful path: one entry a message, answer or sign of life, in the order of the wire,
        from the payload ``start`` on.

        Never raises: what cannot be read becomes an :class:`Invalid`.
        """
        entries: list[Incoming] = []
        if start == 0 and batch.payloads and self._fields is not None:
            self._fit(batch.payloads[0], self._fields)
        for raw in batch.payloads[start:]:
            self._read(raw, batch.arrival, entries.append)
        return entries

    def data(self, message: Message) -> Any:
        """What ``message.data`` is, decoded in the consumer's thread."""
        self._wanted = None
        decoded = (
            self._json.decode_deep(message.raw) if self._is_json else self._decode(message.raw)
        )
        return decoded if message.item is None else self._dialect.item(decoded, message.item)

    def typed(self, message: Message, kind: Any) -> Any:
        """What ``message.decode(kind)`` is."""
        if message.item is not None or not self._is_json:
            return msgspec.convert(message.data, kind)
        if kind not in self._shapes:
            self._shapes[kind] = self._shape_of(kind)
        self._wanted = kind
        return self._json.typed(message, kind)

    def portable(self, message: Message) -> Decoder:
        """A decoder that gives the same in another process: neither a dialect, which may know
        secrets and need not be importable there, nor anything else of the client goes along."""
        if self._is_json and message.item is None:
            return self._json
        return Decoded(message.data)

    # Inside.

    def _shape_of(self, kind: Any) -> _Shape | None:
        """The shape of frames decoded into a type of the user's, if it has all that we need."""
        is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        if self._fields is None or not is_struct:
            return None
        known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        found = [known[name] for name in self._names[:3] if name in known]
        if len(found) < 3 or not all(field.required for field in found):
            return None
        if found[2].type is not int:
            return None  # None there could mean that the number is in another field
        names = [field.name for field in found]
        return _Shape(self._json.typed_decoder(kind), getattr, attrgetter, names)

    def _fit(self, raw: bytes, fields: DataFields) -> None:
        """Was this frame not ordinary because of how we looked at it?"""
        for shape in (self._object, self._head):
            for value in shape.decoded([raw]):
                shape.fit(value, fields.types)

    def _is_data(self, raw: bytes, fields: DataFields) -> bool:
        kinds = [self._head.keys(value)[0] for value in self._head.decoded([raw])]
        return any(type(kind) is str and kind in fields.types for kind in kinds)

    def _readable(self, payloads: Sequence[bytes]) -> int:
        """How many payloads there are before the first that a peek took for good, and is not."""
        for index, raw in enumerate(payloads):
            if is_suspect(raw) and not self._object.decoded([raw]):
                return index
        return len(payloads)

    def _read(self, raw: bytes, arrival: Arrival, append: Callable[[Incoming], None]) -> None:
        """One frame, the careful way: all there is to it, and nothing is taken for granted."""
        dialect = self._dialect
        decoded = _UNDECODED
        try:
            ahead = self.ahead and self._wanted is None and len(raw) <= SMALL
            if dialect.peek is not None and not (ahead and self._reads):
                _ = raw.isascii() or str(raw, "utf-8")  # a peek skips what it does not need
                found = dialect.peek(raw)
                if self._is_json and is_suspect(raw):
                    decoded = self._decode(raw)
            else:
                decoded = self._decode(raw)
                found = dialect.read(decoded)
            items = found if isinstance(found, (list, tuple)) else (found,)
            if len(items) > 1 and decoded is _UNDECODED:
                decoded = self._decode(raw)  # once for all of its items
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
        except BaseException as error:  # noqa: BLE001 - whatever a dialect raises, input is to blame
            append(Invalid(f"an unreadable frame ({_why(error)}): {excerpt(raw)}"))

    def _append(
        self,
        message: Message,
        raw: bytes,
        decoded: Any,
        arrival: Arrival,
        append: Callable[[Incoming], None],
    ) -> None:
        message.raw = raw
        message.arrival = arrival
        if decoded is not _UNDECODED and message.item is not None:
            decoded = self._dialect.item(decoded, message.item)
        message.decoded = decoded
        if self._validate is not None:
            try:
                self._validate(message)
            except BaseException as error:  # noqa: BLE001 - a user's check says no, or sys.exit()
                text = f"a message that validate refused ({_why(error)}): {excerpt(raw)}"
                append(Invalid(text, message))
                return
        append(message)


@lru_cache
def _head(names: Sequence[str]) -> type[msgspec.Struct]:
    """A Struct with just these fields, that a frame can be decoded to: the rest is skipped."""
    attributes = {f"field_{i}": name for i, name in enumerate(names)}
    fields = [(attribute, Any, None) for attribute in attributes]
    return msgspec.defstruct("Head", fields, rename=attributes, gc=False)


def _check(message: Message) -> None:
    if type(message.channel) is not str or type(message.type) is not str:
        raise TypeError("a message's channel and type are text")
    if message.sequence is not None and type(message.sequence) is not int:
        raise TypeError("a message's sequence is an integer, or None")
    if isinstance(message, LinkedMessage) and message.follows is not None:
        if type(message.follows) is not int:
            raise TypeError("what a message follows is an integer, or None")
        first = message.follows if message.is_counted else None
        if first is not None and message.sequence is not None and first > message.sequence:
            raise ValueError("a range of numbers ends before it begins")


def _tidy(item: Item) -> Item:
    """What venues may put in the place of text, as text; what is to be sent, as it will be."""
    if isinstance(item, (Rejection, LoginRefused, Ended)):
        item.reason = str(item.reason)
    elif isinstance(item, Notice):
        item.text = str(item.text)
    elif isinstance(item, Unhandled):
        item.type, item.channel = str(item.type), str(item.channel)
    elif isinstance(item, Respond):
        item.payload = encode(item.payload)
    elif isinstance(item, SubscribedChannels):
        item.channels = [str(channel) for channel in item.channels]
    return item


def _are_utf8(payloads: Iterable[bytes]) -> bool:
    """The parser looks into text frames only, and a peek not into what it skips."""
    try:
        return all(map(str, payloads, repeat("utf-8")))
    except UnicodeDecodeError:
        return False


def excerpt(raw: bytes) -> str:
    """A bounded, printable piece of a payload."""
    text = repr(raw[:EXCERPT])
    return text if len(raw) <= EXCERPT else f"{text}... ({len(raw)} bytes)"


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:EXCERPT]}"
