"""Decoding of payloads into messages and other entries, without any lock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, ClassVar, Protocol

import msgspec

from wsclient.messages import Arrival, Decoder, LinkedMessage, Message, View
from wsclient.stream.channel import Batch
from wsclient.stream.codec import (
    MAX_DIGITS,
    Decoded,
    Origin,
    PlainDecoder,
    encode,
    is_suspect,
    plain_decoder,
)
from wsclient.stream.declared import Types
from wsclient.stream.heads import Recipes, Shape, heads_of, shape_of, shape_of_objects
from wsclient.stream.incoming import Incoming, Invalid
from wsclient.stream.items import (
    Ack,
    DataFields,
    Ended,
    Ending,
    Expired,
    Heads,
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

#: The reader stops decoding ahead after this many reads whose data nobody has asked for.
UNTOUCHED = 8

_UNDECODED: Any = msgspec.UNSET


class FrameFormat(Protocol):
    """What is used of a dialect to decode its frames. A ``Dialect`` has all of it."""

    name: ClassVar[str]

    def __hash__(self) -> int: ...
    @property
    def is_json(self) -> bool: ...
    @property
    def has_read(self) -> bool: ...
    @property
    def heads(self) -> Heads | None: ...
    @property
    def data_fields(self) -> DataFields | None: ...
    @property
    def peek(self) -> Callable[[bytes], Item | Sequence[Item]] | None: ...
    def decoder(self, decimal: bool) -> Callable[[bytes], Any]: ...
    def read(self, message: Any) -> Item | Sequence[Item]: ...
    def item(self, decoded: Any, index: int) -> Any: ...
    def timestamp(self, message: Message) -> int | None: ...
    def view(self, message: Message, kind: View) -> Any: ...


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
        #: How many reads have been decoded ahead since a consumer last asked for data.
        self._untouched = 0
        self._is_plain = types is None
        self._dialect = dialect
        self._is_json = dialect.is_json
        self._json = PlainDecoder(decimal)
        self._decode_quickly = self._json.decode
        self._decode = self._json.decode_all if self._is_json else dialect.decoder(decimal)
        self._deliver_unhandled = deliver_unhandled
        self._validate = validate
        # A dialect may have only a peek.
        self._reads = dialect.has_read
        heads = dialect.heads
        fields = dialect.data_fields
        if heads is None and fields is not None:
            heads = heads_of(fields)
        #: How heads are read and what their keys mean; None if they are not read. The data decoded
        #: ahead have recipes of their own, which name the getters of their shape.
        self._recipes: Recipes | None = None
        if heads is not None and validate is None and self._is_json:
            self._recipes, self._recipes_ahead = Recipes(heads), Recipes(heads)
            flat = fields if dialect.heads is None else None
            self._head = shape_of(msgspec.json.Decoder(heads.struct).decode, heads, fields=flat)
            #: The shape of the data decoded ahead, None if none is, and their declared type.
            self._ahead: Shape | None = None
            if flat is not None:
                self._ahead = (
                    shape_of_objects(self._json.decode, flat)
                    if types is None
                    else self._shape_of(types, flat, heads)
                )
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
        recipes = self._recipes
        if recipes is None or (binary and not _are_utf8(payloads)):
            return batch
        longest = max(map(len, payloads), default=0)
        ahead = self._ahead if self.ahead and longest <= SMALL else None
        if ahead is not None and self._untouched < UNTOUCHED:
            values = ahead.read(payloads)
            if self._is_plain or None not in values:
                batch.heads, batch.shape, batch.kind = values, ahead, self._kind
                batch.decoded = values
                recipes = self._recipes_ahead
                if self._is_plain:
                    self._untouched += 1
                    if self._untouched > UNTOUCHED // 2:
                        # The first is left to the consumer, which shows whether data are wanted.
                        batch.decoded = [_UNDECODED, *values[1:]]
        if batch.shape is None:  # the consumer decodes them, also where one is not of the type
            batch.heads, batch.shape = self._head.read(payloads), self._head
            if longest > MAX_DIGITS:
                self._hide_unreadable(payloads, batch.heads)
        batch.recipe = recipes.get
        return batch

    def entries(self, batch: Batch, count: int | None = None) -> list[Incoming]:
        """Return one entry per message, answer or sign of life, in order: the careful path.

        Reads the next ``count`` payloads that are not done, and counts them as done; None for all.
        Never raises: a payload that cannot be read becomes an :class:`Invalid`.
        """
        entries: list[Incoming] = []
        start = batch.done
        batch.done = len(batch.payloads)
        if count is not None:
            batch.done = min(start + count, batch.done)
        for index in range(start, batch.done):
            items = self._read(batch.payloads[index], batch.arrival, entries.append)
            if items and batch.shape is not None and self._recipes is not None:
                head = batch.heads[index]
                if head is not None:
                    is_ahead = batch.shape is self._ahead
                    recipes = self._recipes_ahead if is_ahead else self._recipes
                    recipes.learn(batch.shape, head, items)
        return entries

    def data(self, message: Message) -> Any:
        """Return the plain data of a message, decoded in the consumer's thread."""
        self._untouched = 0
        raw, item = message.raw, message.item
        if self._is_json:
            try:
                decoded = self._decode_quickly(raw)  # written in C
            except (msgspec.MsgspecError, ValueError, RecursionError):
                decoded = self._json.decode_deep(raw)
        else:
            decoded = self._decode(raw)
        return decoded if item is None else self._dialect.item(decoded, item)

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

    @property
    def dialect(self) -> FrameFormat:
        """What the messages are read with."""
        return self._dialect

    @property
    def venue(self) -> str:
        """The name of the dialect."""
        return self._dialect.name

    def view(self, message: Message, kind: View) -> Any:
        """Return a plain view of a message, or None."""
        return self._dialect.view(message, kind)

    def portable(self, message: Message) -> Decoder:
        """Return a decoder that gives the same results in another process.

        It contains nothing of the client, and only the name of the dialect: a dialect may know
        secrets, and may not be importable there.
        """
        origin = Origin.of(self._dialect)
        if self._is_json and message.item is None:
            return plain_decoder(self._json.decimal, origin)
        return Decoded(self._plain(message), self._is_json, origin)

    # Inside.

    def _plain(self, message: Message) -> Any:
        """Return the plain data of a message, which may be there already."""
        decoded, kind = message.decoded, message.kind
        is_plain = decoded is not _UNDECODED and (kind is None or kind is Any)
        return decoded if is_plain else self.data(message)

    def _shape_of(self, types: Types, fields: DataFields, heads: Heads) -> Shape | None:
        """Return the shape of frames decoded to the type, if that has all needed fields."""
        kind = types.kind
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)) or types.runs_code:
            return None
        known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        names = [fields.type, fields.channel, *fields.sequences[:1]]
        found = [known[name] for name in names if name in known]
        if len(found) < 3 or not all(field.required for field in found):
            return None
        if found[2].type is not int:
            return None  # None there could mean that the number is in another field
        attributes = dict(
            zip(heads.struct.__struct_fields__, (f.name for f in found), strict=False)
        )
        heads = heads._replace(numbers=heads.numbers[:1])
        return shape_of(self._json.typed_decoder(kind), heads, attributes.__getitem__, fields)

    def _hide_unreadable(self, payloads: Sequence[bytes], heads: list[Any]) -> None:
        """Remove the heads of payloads that pass a peek but cannot be decoded."""
        for index, raw in enumerate(payloads):
            if is_suspect(raw):
                try:
                    self._json.decode(raw)
                except Exception:  # noqa: BLE001 - the careful path says why
                    heads[index] = None

    def _read(
        self, raw: bytes, arrival: Arrival, append: Callable[[Incoming], None]
    ) -> Sequence[Item]:
        """Append all entries of one frame: the careful path, which assumes nothing.

        Returns what the dialect said that the frame means; nothing if that is not valid.
        """
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
            return ()
        return items

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
    """Convert to text what a venue may have sent instead of text; encode what is to be sent.

    Raises TypeError for a name that is not text, and ValueError or TypeError for a time that is no
    number of seconds.
    """
    if isinstance(item, (Ack, Rejection, Ended)):
        for name in (item.channel, getattr(item, "alias", None), getattr(item, "symbol", None)):
            if name is not None and type(name) is not str:
                raise TypeError("an answer's channel must be text")
    if isinstance(item, (Rejection, LoginRefused, Ended, Ending, Expired)):
        item.reason = str(item.reason)
        if isinstance(item, Ending) and item.within is not None and not 0 <= item.within < math.inf:
            raise ValueError("the time until an end must be None or a number of seconds")
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
