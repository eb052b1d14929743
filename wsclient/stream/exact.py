"""The data of messages as JSON text, digit for digit."""

from __future__ import annotations

from typing import Any

import msgspec

from wsclient.messages import Message
from wsclient.stream.inbound import FrameFormat

__all__ = ["Exact", "parts"]


class Exact:
    """The data of messages as the JSON text that the venue sent, digit for digit."""

    def __init__(self, dialect: FrameFormat) -> None:
        self._item = dialect.item

    def __call__(self, message: Message) -> bytes:
        """Return the JSON text of ``message.data``, on one line."""
        text = message.raw or b"null"
        if message.item is not None:
            text = self._item(_Text(text), message.item).text
        return msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text


#: The values of an object or an array, as JSON texts.
parts = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw]).decode


class _Text:
    """A JSON text that is decoded only where an item of it is taken."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __getitem__(self, key: Any) -> _Text:
        return _Text(bytes(parts(self.text)[key]))
