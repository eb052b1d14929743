"""From a frame's payload to what the session works on, outside of any lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from wsclient.messages import Message
from wsclient.sansio.codec import decoder
from wsclient.sansio.dialect import Data, Dialect, Unhandled
from wsclient.sansio.session import Entry, Invalid

__all__ = ["Inbound"]

#: At most so much of a frame goes into a log line or an exception's text.
EXCERPT = 120


class Inbound:
    """Peeks at payloads and makes Messages of them. Stateless, so any thread may use it."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        decimal: bool = False,
        deliver_unhandled: bool = False,
        validate: Callable[[Message], object] | None = None,
    ) -> None:
        self._dialect = dialect
        self._decode = decoder(decimal)
        self._first_item = partial(self._item, 0)
        self._deliver_unhandled = deliver_unhandled
        self._validate = validate

    def entries(
        self, payloads: Iterable[bytes], received_at: int, connection_id: int
    ) -> list[Entry]:
        """One entry a message, answer or sign of life, in the order of the wire.

        Never raises: what cannot be read becomes an :class:`Invalid`.
        """
        entries: list[Entry] = []
        append = entries.append
        peek = self._dialect.peek
        decode = self._decode
        validate = self._validate
        for raw in payloads:
            try:
                items = peek(raw)
                is_single = len(items) == 1
            except Exception as error:  # noqa: BLE001 - whatever a dialect raises, input is to blame
                append(Invalid(f"an unreadable frame ({_why(error)}): {excerpt(raw)}"))
                continue
            decoders = None if is_single else _SharedDecode(self._dialect, decode)
            for item in items:
                if type(item) is not Data:
                    if self._deliver_unhandled and type(item) is Unhandled:
                        append(item)
                        item = Data(item.channel, item.type)
                    else:
                        append(item)
                        continue
                if item.item is None:
                    of_item: Callable[[bytes], Any] = decode
                elif decoders is not None:
                    of_item = partial(decoders.item, item.item)
                else:
                    of_item = self._first_item if item.item == 0 else partial(self._item, item.item)
                message = Message(
                    item.channel, item.type, item.sequence, raw, of_item, received_at, connection_id
                )
                if validate is not None:
                    try:
                        validate(message)
                    except Exception as error:  # noqa: BLE001 - a user's check says no
                        text = f"a message that validate refused ({_why(error)}): {excerpt(raw)}"
                        append(Invalid(text, item.channel, item.sequence))
                        continue
                append(message)
        return entries

    def _item(self, index: int, raw: bytes) -> Any:
        return self._dialect.item(self._decode(raw), index)


class _SharedDecode:
    """A frame of several messages is decoded once, by the first that is asked for its data."""

    def __init__(self, dialect: Dialect, decode: Callable[[bytes], Any]) -> None:
        self._dialect = dialect
        self._decode = decode
        self._decoded: Any = None

    def item(self, index: int, raw: bytes) -> Any:
        if self._decoded is None:
            self._decoded = self._decode(raw)
        return self._dialect.item(self._decoded, index)


def excerpt(raw: bytes) -> str:
    """A bounded, printable piece of a payload."""
    text = repr(raw[:EXCERPT])
    return text if len(raw) <= EXCERPT else f"{text}... ({len(raw)} bytes)"


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:EXCERPT]}"
