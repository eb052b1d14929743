"""Heads: the few fields of a frame that say which message it holds, read without the rest.

The careful path asks the dialect what a frame means. The fast path remembers the answer: two frames
whose heads have the same key mean the same, except for their numbers. What is remembered for a key
is a ``Recipe``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter, itemgetter, methodcaller
from typing import Any, NamedTuple

import msgspec

from wsclient.messages import LinkedMessage, Message
from wsclient.stream.items import Counted, DataFields, Heads, Item

__all__ = [
    "COUNTED",
    "PLAIN",
    "POINTER",
    "RANGE",
    "SEVERAL",
    "TYPED_POINTER",
    "UNNUMBERED",
    "Recipe",
    "Recipes",
    "Shape",
    "heads_of",
    "shape_of",
    "shape_of_objects",
]

#: How many keys are remembered. A venue may invent names without end: then all are forgotten.
KEYS = 10_000

Getter = Callable[[Any], Any]

#: How the numbers of a channel continue, which ``accept_ordinary`` checks. There is no number, and
#: never will be one; there has been no number yet; the number is one more than the last; the first
#: number of a range is one more than the last of the range before; the message names the number of
#: the message before it; the same, with the type of the message beside its numbers; the frame has
#: several messages without numbers.
PLAIN, UNNUMBERED, COUNTED, RANGE, POINTER, TYPED_POINTER, SEVERAL = range(7)

#: What a frame with a known key becomes: the channel, type and item of its message, the style of
#: its numbers, the getter of its numbers, and that of the connection's count (indexes; -1 for
#: none). For several messages, the first is a tuple of channel, type and item of each. A plain
#: tuple, since it is unpacked for each message.
Recipe = tuple[Any, str, int | None, int, int, int]


class Shape(NamedTuple):
    """A way to read heads: a decoder, and getters for what it returns.

    ``numbers`` are the getters of numbers, ``all_numbers`` gets all of them at once; ``nothing`` is
    what it returns where there is none. ``flat`` gets type, channel and number, if these are fields
    at the top, and ``types`` maps each type of data to itself.
    """

    decode: Callable[[bytes], Any]
    key: Getter
    numbers: Sequence[Getter]
    counts: Sequence[Getter]
    all_numbers: Getter
    nothing: Any
    flat: Getter | None = None
    types: Mapping[str, str] = {}

    def read(self, payloads: Sequence[bytes]) -> list[Any]:
        """Return the head of each payload; None for one that has none."""
        heads: list[Any] = []
        left = iter(payloads)
        while len(heads) < len(payloads):
            try:
                heads.extend(map(self.decode, left))
            except Exception:  # noqa: BLE001 - the careful path says why
                heads.append(None)
        return heads


@lru_cache
def _head(names: Sequence[str]) -> type[msgspec.Struct]:
    """Return a Struct with only these fields."""
    attributes = {f"field_{i}": name for i, name in enumerate(names)}
    fields = [(attribute, Any, None) for attribute in attributes]
    return msgspec.defstruct("Head", fields, rename=attributes, gc=False)


def heads_of(fields: DataFields) -> Heads:
    """Return the heads of frames whose fields stand at the top."""
    names = [fields.type, fields.channel, *fields.sequences]
    struct = _head(tuple(names))
    kind, channel, *numbers = struct.__struct_fields__
    return Heads(struct, (kind, channel), [(name,) for name in numbers], (), ("",) * bool(numbers))


def shape_of(
    decode: Callable[[bytes], Any],
    heads: Heads,
    names: Callable[[str], str] = str,
    fields: DataFields | None = None,
) -> Shape:
    """Return the shape of heads that are objects with attributes.

    ``names`` maps the attributes of ``heads`` to theirs. ``fields`` are those of flat frames.
    """
    key = list(map(names, heads.key))
    flat = [names(name) for candidate in heads.numbers for name in candidate]
    all_numbers = attrgetter(*flat) if flat else _none
    numbers: list[Getter] = [attrgetter(*map(names, candidate)) for candidate in heads.numbers]
    return Shape(
        decode,
        attrgetter(*key),
        numbers if fields is None else _by_rank(numbers, all_numbers),
        [attrgetter(names(name)) for name in heads.counts],
        all_numbers,
        (None,) * len(flat) if len(flat) > 1 else None,
        attrgetter(*key, flat[0]) if fields is not None and flat else None,
        _types(fields),
    )


def shape_of_objects(decode: Callable[[bytes], Any], fields: DataFields) -> Shape:
    """Return the shape of whole frames, decoded to dicts."""
    key, names = (fields.type, fields.channel), fields.sequences
    gets = [methodcaller("get", name) for name in names]

    def all_numbers(data: Any) -> list[Any]:
        return [get(data) for get in gets]

    return Shape(
        decode,
        itemgetter(*key),
        _by_rank([itemgetter(name) for name in names], all_numbers),
        (),
        all_numbers,
        [None] * len(names),
        itemgetter(*key, names[0]) if names else None,
        _types(fields),
    )


def _by_rank(numbers: list[Getter], all_numbers: Getter) -> list[Getter]:
    """Return getters for the first field, and for the first field that holds an integer."""

    def first(head: Any) -> Any:
        return next((number for number in all_numbers(head) if type(number) is int), None)

    return [numbers[0], first] if len(numbers) > 1 else numbers


def _types(fields: DataFields | None) -> Mapping[str, str]:
    return {} if fields is None else {kind: kind for kind in fields.types}


def _none(_: Any) -> None:
    return None


class Recipes:
    """The recipes of the keys that have come. Used by one thread at a time."""

    __slots__ = ("_by_key", "_heads", "get")

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._by_key: dict[Any, Recipe] = {}
        #: Returns the recipe of a key, or None; written in C.
        self.get = self._by_key.get

    def learn(self, shape: Shape, head: Any, items: Sequence[Item]) -> None:
        """Remember that a frame with this head means these items, if that can be remembered."""
        try:
            key = shape.key(head)
            hash(key)
            if shape.types and key[0] not in shape.types:
                return  # type and channel may not say everything about such a frame
            recipe = self._recipe(shape, head, items)
        except (AttributeError, LookupError, TypeError):
            return
        if recipe is not None:
            if len(self._by_key) >= KEYS:
                self._by_key.clear()
            self._by_key[key] = recipe

    def _recipe(self, shape: Shape, head: Any, items: Sequence[Item]) -> Recipe | None:
        count = -1
        if items and type(items[0]) is Counted:
            count = _index(shape.counts, head, items[0].sequence)
            if count < 0:
                return None
            items = items[1:]
        if len(items) == 1:
            return self._of_one(shape, head, items[0], count)
        if not items:
            return None
        parts = []
        for item in items:
            if type(item) is not Message or item.sequence is not None or self._may_count(item):
                return None
            parts.append((item.channel, item.type, item.item))
        return tuple(parts), "", None, SEVERAL, -1, count

    def _of_one(self, shape: Shape, head: Any, item: Item, count: int) -> Recipe | None:
        number = getattr(item, "sequence", None)
        style = PLAIN
        found = -1
        if type(item) is LinkedMessage:
            if number is None or item.follows is None:
                return None
            style = RANGE if item.is_counted else POINTER
            first = item.follows + 1 if item.is_counted else item.follows
            found = _index(shape.numbers, head, (first, number))
            if found < 0 and style == POINTER:
                style = TYPED_POINTER
                found = _index(shape.numbers, head, (first, number, item.type))
        elif type(item) is not Message:
            return None
        elif number is not None:
            style, found = COUNTED, _index(shape.numbers, head, number)
        elif self._may_count(item) and _has_none(shape, head):
            style = UNNUMBERED
        if found < 0 and style not in (PLAIN, UNNUMBERED):
            return None
        return item.channel, item.type, item.item, style, found, count

    def _may_count(self, item: Message) -> bool:
        return item.channel.startswith(self._heads.may_begin_to_count)


def _has_none(shape: Shape, head: Any) -> bool:
    """Return whether the head has the fields of numbers, but no number."""
    try:
        return bool(shape.all_numbers(head) == shape.nothing)
    except AttributeError:
        return False


def _index(getters: Iterable[Getter], head: Any, value: Any) -> int:
    """Return the index of the first getter that gets ``value``; -1 if none does."""
    for index, get in enumerate(getters):
        try:
            if get(head) == value:
                return index
        except (AttributeError, LookupError):
            pass
    return -1
