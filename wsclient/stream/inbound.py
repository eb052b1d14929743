"""Decoding of payloads into messages and other entries, without any lock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import repeat
from operator import attrgetter, itemgetter
from typing import Any, Protocol

import msgspec

from wsclient.messages import Arrival, Decoder, LinkedMessage, Message
from wsclient.stream.channel import Batch
from wsclient.stream.codec import MAX_DIGITS, Decoded, PlainDecoder, encode, is_suspect
from wsclient.stream.declared import Types
from wsclient.stream.incoming import Incoming, Invalid
from wsclient.stream.items import (
    DataFields,
    Ended,
    Item,
    LoginRefused,
    Notice,
    Rejection,
    Respond,
    SubscribedChannels,
    Unhandled,
)
from wsclient.text import excerpt, why

__all__ = ["Inbound"]

#: Frames up to this length (bytes) may be decoded by the reader. The objects of many long frames,
#: all alive at once, would burden the garbage collector and the processor's cache.
SMALL = 1024

_UNDECODED: Any = msgspec.UNSET


class FrameFormat(Protocol):
    """What is used of a dialect to decode its frames. A ``Dialect`` has all of it."""

    @property
    def is_json(self) -> bool: ...
    @property
    def has_read(self) -> bool: ...
    @property
    def data_fields(self) -> DataFields | None: ...
    @property
    def peek(self) -> Callable[[bytes], Item | Sequence[Item]] | None: ...
    def decoder(self, decimal: bool) -> Callable[[bytes], Any]: ...
    def read(self, message: Any) -> Item | Sequence[Item]: ...
    def item(self, decoded: Any, index: int) -> Any: ...
    def timestamp(self, message: Message) -> int | None: ...


class _Shape:
    """A way to decode a data frame, and to get its type, channel and sequence then."""

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
        #: Returns (type, channel, sequence) of a value; the quick getter reads only the first of
        #: the sequence fields.
        self.keys: Callable[[Any], Any] = self.exact
        self.is_exact = len(names) <= 3
        self._is_quick = len(names) >= 3
        if self._is_quick:
            self.keys = quick(*names[:3])

    def decoded(self, payloads: Iterable[bytes]) -> list[Any]:
        """Return the decoded payloads, up to the first that cannot be decoded."""
        values: list[Any] = []
        # The careful path reports why, and continues with the rest. A user's type may raise
        # anything.
        with suppress(BaseException):
            values.extend(map(self.decode, payloads))
        return values

    def exact(self, value: Any) -> tuple[Any, Any, int | None]:
        """Return (type, channel, sequence) of a value, from all of the sequence fields."""
        get = self._get
        kind, channel, *numbers = (get(value, name) for name in self._names)
        return kind, channel, next((n for n in numbers if type(n) is int), None)

    def fit(self, value: Any, types: Collection[str]) -> None:
        """Disable the quick getter for good if it misreads this data message."""
        if not self._is_quick:
            return
        try:
            found = self.exact(value)
            is_numbered = self.is_exact or found[2] is not None
            if found[0] not in types or (is_numbered and self.keys(value) == found):
                return
        except (AttributeError, TypeError):
            return  # not of this shape
        except KeyError:
            pass
        self.keys, self.is_exact, self._is_quick = self.exact, True, False


class Inbound:
    """Makes Messages of payloads, and decodes them on request.

    A frame needs either a peek at its head now and the decoding later, in the consumer's thread, or
    one decoding now that serves both purposes. The latter is less work in total, but only if a
    consumer soon uses the objects. So the reader decodes ahead while ``ahead`` is set, which the
    caller does while the consumer keeps up: to plain data, or to the type of ``types``, if it is
    one for all channels, has the fields that the reader needs, and runs no code of the user. With
    other ``types`` the reader never decodes ahead.
    """

    def __init__(
        self,
        dialect: FrameFormat,
        *,
        decimal: bool = False,
        deliver_unhandled: bool = False,
        validate: Callable[[Message], object] | None = None,
        types: Types | None = None,
    ) -> None:
        self.ahead = True
        self._is_plain = types is None
        self._dialect = dialect
        self._is_json = dialect.is_json
        self._json = PlainDecoder(decimal)
        self._decode = self._json.decode_all if self._is_json else dialect.decoder(decimal)
        self._deliver_unhandled = deliver_unhandled
        self._validate = validate
        # A dialect may have only a peek.
        self._reads = dialect.has_read
        self._fields = dialect.data_fields if validate is None and self._is_json else None
        if self._fields is not None:
            names, type_field, channel_field, sequences = self._fields
            self._types = {name: name for name in names}
            self._names = [type_field, channel_field, *sequences]
            self._object = _Shape(self._json.decode, dict.get, itemgetter, self._names)
            head = _head(tuple(self._names))
            decode = msgspec.json.Decoder(head).decode
            self._head = _Shape(decode, getattr, attrgetter, head.__struct_fields__)
            #: The shape of the data decoded ahead, None if none is, and their declared type.
            self._ahead = self._object if types is None else self._shape_of(types)
            self._kind = None if types is None else types.kind

    def batch(
        self,
        payloads: list[bytes],
        binary: bool,
        received_at: int,
        connection_id: int,
        read_at: float | None = None,
    ) -> Batch:
        """Return the payloads of one read as a batch for the fast path.

        ``binary``: not all of them were text frames. ``received_at`` is in ns since the epoch,
        ``read_at`` the same moment in monotonic s.
        """
        batch = Batch(payloads, Arrival(received_at, connection_id, self, read_at))
        fields = self._fields
        if fields is None or (binary and not _are_utf8(payloads)):
            return batch
        batch.types = self._types
        longest = max(map(len, payloads), default=0)
        shape = self._ahead if self.ahead and longest <= SMALL else None
        values = [] if shape is None else shape.decoded(payloads)
        if shape is not None and (self._is_plain or len(values) == len(payloads)):
            batch.decoded, batch.kind = values, self._kind
        else:  # the consumer decodes them, also if one is not of the declared type
            shape = self._head
            values = shape.decoded(payloads)
            if longest > MAX_DIGITS:
                del values[self._readable(payloads) :]
        batch.keys = map(shape.keys, values)
        batch.are_exact = shape.is_exact
        return batch

    def entries(self, batch: Batch, start: int = 0) -> list[Incoming]:
        """Return one entry per message, answer or sign of life, in order: the careful path.

        ``start`` is the index of the first payload to read. Never raises: a payload that cannot be
        read becomes an :class:`Invalid`.
        """
        entries: list[Incoming] = []
        if start == 0 and batch.payloads and self._fields is not None:
            self._fit(batch.payloads[0], self._fields)
        for raw in batch.payloads[start:]:
            self._read(raw, batch.arrival, entries.append)
        return entries

    def data(self, message: Message) -> Any:
        """Return the plain data of a message, decoded in the consumer's thread."""
        decoded = (
            self._json.decode_deep(message.raw) if self._is_json else self._decode(message.raw)
        )
        return decoded if message.item is None else self._dialect.item(decoded, message.item)

    def typed(self, message: Message, kind: Any) -> Any:
        """Return the data of a message, decoded to ``kind`` in the consumer's thread."""
        if self._is_json and message.item is None:
            return self._json.typed(message, kind)
        return msgspec.convert(self._plain(message), kind, str_keys=self._is_json)

    def typed_decoder(self, kind: Any) -> Callable[[bytes], Any] | None:
        """Return the function that decodes a whole payload to ``kind``, None if it is no JSON."""
        return self._json.typed_decoder(kind) if self._is_json else None

    def time(self, message: Message) -> int | None:
        """Return the venue's send time of a message (ns since the epoch), or None."""
        try:
            return self._dialect.timestamp(message)
        except Exception:  # noqa: BLE001 - a message without a time, for this dialect
            return None

    def portable(self, message: Message) -> Decoder:
        """Return a decoder that gives the same results in another process.

        It contains nothing of the client, and no dialect: a dialect may know secrets, and may not
        be importable there.
        """
        if self._is_json and message.item is None:
            return self._json
        return Decoded(self._plain(message), self._is_json)

    # Inside.

    def _plain(self, message: Message) -> Any:
        """Return the plain data of a message, which may be there already."""
        decoded, kind = message.decoded, message.kind
        is_plain = decoded is not _UNDECODED and (kind is None or kind is Any)
        return decoded if is_plain else self.data(message)

    def _shape_of(self, types: Types) -> _Shape | None:
        """Return the shape of frames decoded to the type, if that has all needed fields."""
        kind = types.kind
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)) or types.runs_code:
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
        """Check whether the frame was not ordinary only because a quick getter misread it."""
        for shape in (self._object, self._head):
            for value in shape.decoded([raw]):
                shape.fit(value, fields.types)

    def _readable(self, payloads: Sequence[bytes]) -> int:
        """Return how many payloads precede the first that passes a peek but cannot be decoded."""
        for index, raw in enumerate(payloads):
            if is_suspect(raw) and not self._object.decoded([raw]):
                return index
        return len(payloads)

    def _read(self, raw: bytes, arrival: Arrival, append: Callable[[Incoming], None]) -> None:
        """Append all entries of one frame: the careful path, which assumes nothing."""
        dialect = self._dialect
        decoded = _UNDECODED
        try:
            ahead = self.ahead and self._is_plain and len(raw) <= SMALL
            if dialect.peek is not None and not (ahead and self._reads):
                _ = raw.isascii() or str(raw, "utf-8")  # a peek does not check what it skips
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
                    raise TypeError(
                        f"the dialect returned {type(item).__name__}, which is not an item"
                    )
        except BaseException as error:  # noqa: BLE001 - any error of a dialect means a bad frame
            append(Invalid(f"an unreadable frame ({why(error)}): {excerpt(raw)}"))

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
                text = f"a message that validate refused ({why(error)}): {excerpt(raw)}"
                append(Invalid(text, message))
                return
        append(message)


@lru_cache
def _head(names: Sequence[str]) -> type[msgspec.Struct]:
    """Return a Struct with only these fields; decoding a frame to it skips the rest."""
    attributes = {f"field_{i}": name for i, name in enumerate(names)}
    fields = [(attribute, Any, None) for attribute in attributes]
    return msgspec.defstruct("Head", fields, rename=attributes, gc=False)


def _check(message: Message) -> None:
    """Raise TypeError or ValueError if the dialect has put anything invalid into the message."""
    if type(message.channel) is not str or type(message.type) is not str:
        raise TypeError("a message's channel and type must be text")
    if message.sequence is not None and type(message.sequence) is not int:
        raise TypeError("a message's sequence must be an integer or None")
    if isinstance(message, LinkedMessage) and message.follows is not None:
        if type(message.follows) is not int:
            raise TypeError("a message's follows must be an integer or None")
        first = message.follows if message.is_counted else None
        if first is not None and message.sequence is not None and first > message.sequence:
            raise ValueError("a range of sequence numbers ends before it begins")


def _tidy(item: Item) -> Item:
    """Convert to text what a venue may have sent instead of text; encode what is to be sent."""
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
    """Return whether all payloads are UTF-8.

    The frame parser checks text frames only, and a peek does not check what it skips.
    """
    try:
        return all(map(str, payloads, repeat("utf-8")))
    except UnicodeDecodeError:
        return False
