"""What the frames of a connection become before they are processed."""

from __future__ import annotations

from typing import NamedTuple

from wsclient.messages import Message
from wsclient.stream.items import Item

__all__ = ["Incoming", "Invalid"]


class Invalid(NamedTuple):
    """A frame that could not be read, or a message that ``validate`` refused.

    ``message`` is None if the channel is unknown. ``text`` describes the error, with a bounded
    excerpt.
    """

    text: str
    message: Message | None = None


Incoming = Item | Invalid
