"""The types that a program declares for the data of its channels (option ``decode``)."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NewType, get_origin

import msgspec

from wsclient.errors import ConfigurationError

__all__ = ["Types", "types_of"]

#: How many answers of a function are remembered: a venue may invent channels without end.
MAX_CHANNELS = 10_000

#: What makes default values without running code of the user.
_HARMLESS = (None, msgspec.NODEFAULT, list, dict, set, bytearray)
_missing = enum.Enum._missing_.__func__  # type: ignore[attr-defined]


class Types:
    """The declared types of the messages of a queue.

    ``declared`` is a type, for all channels; a mapping from channels to types; or a function from a
    channel to a type. None or ``Any`` in the place of a type, and a channel that the mapping does
    not have, mean plain data.

    Raises ConfigurationError for a type that messages cannot be decoded to.
    """

    __slots__ = ("_function", "_known", "kind")

    def __init__(self, declared: Any) -> None:
        #: The type, if it is one for all channels; None otherwise.
        self.kind: Any = None
        self._function: Callable[[str], Any] | None = None
        #: By channel. Each access is one atomic step, since consumers share it.
        self._known: dict[str, Any] = {}
        if isinstance(declared, Mapping):
            self._known = {channel: _checked(kind) for channel, kind in declared.items()}
        elif _is_function(declared):
            self._function = declared
        else:
            self.kind = _checked(declared)

    def of(self, channel: str) -> Any:
        """Return the type of a channel's messages; ``Any`` for plain data.

        Calls the function of the user, once per channel. Raises what it raises, and
        ConfigurationError if it returns something else than a type or None.
        """
        if self.kind is not None:
            return self.kind
        try:
            return self._known[channel]
        except KeyError:
            if self._function is None:
                return Any
        kind = _checked(self._function(channel))
        if len(self._known) >= MAX_CHANNELS:
            self._known.clear()
        self._known[channel] = kind
        return kind

    def forget(self, channel: str) -> None:
        """Forget the function's answer for a channel that is no longer wanted."""
        if self._function is not None:
            self._known.pop(channel, None)

    @property
    def runs_code(self) -> bool:
        """True if decoding to :attr:`kind` runs code of the user's types."""
        return any(map(_runs_code, _parts(self.kind)))


def types_of(declared: Any) -> Types | None:
    """Return the types that the option ``decode`` declares; None for plain data.

    Raises ConfigurationError as :class:`Types`.
    """
    return None if declared is None or declared is Any else Types(declared)


def _is_function(declared: Any) -> bool:
    """Return whether ``declared`` is a function, and neither a class nor an alias of types."""
    is_type = isinstance(declared, (type, NewType)) or get_origin(declared) is not None
    return callable(declared) and not is_type and declared is not Any


def _checked(kind: Any) -> Any:
    """Return the type that ``kind`` means. Raises ConfigurationError if it is none."""
    if kind is None or kind is Any:
        return Any
    try:
        hash(kind)
        msgspec.json.Decoder(kind)
        unknown = [
            part.cls for part in _parts(kind) if isinstance(part, msgspec.inspect.CustomType)
        ]
    except Exception as error:
        raise ConfigurationError(
            f"decode must be a type that msgspec can decode to, a mapping from channels to types, "
            f"or a function from a channel to a type: {error}"
        ) from error
    if unknown:
        raise ConfigurationError(
            f"msgspec cannot decode to {unknown[0].__name__}: declare a msgspec.Struct, a "
            "dataclass, a TypedDict or builtin types"
        )
    return kind


def _parts(kind: Any) -> Iterator[Any]:
    """Return all types that a type consists of, as ``msgspec.inspect`` describes them."""
    todo: list[Any] = [msgspec.inspect.type_info(kind)]
    seen: set[int] = set()
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        for name in part.__struct_fields__:
            value = getattr(part, name)
            values = value if isinstance(value, tuple) else (value,)
            todo += [
                v for v in values if isinstance(v, (msgspec.inspect.Type, msgspec.inspect.Field))
            ]


def _runs_code(part: Any) -> bool:
    cls, factory = getattr(part, "cls", None), getattr(part, "default_factory", None)
    hook = getattr(cls, "_missing_", None)  # of an Enum
    return (
        hasattr(cls, "__post_init__")
        or getattr(hook, "__func__", None) not in (None, _missing)
        or factory not in _HARMLESS
    )
