"""Decoding of messages to their declared types, in the consumer's thread.

A type's code (``__post_init__``) and the function of ``decode=`` are the user's: they may raise
anything, and then the message does not fit. But the consumer's thread may be the main thread, where
a signal's handler may raise too, anything and at any place: that exception must come out of the
call, and costs no message. The two look the same. So after an exception that is not msgspec's, the
message is decoded once more there: the user's code raises the same again, a signal does not come
again. A KeyboardInterrupt needs no second attempt. No signal comes in another thread: ours must not
end by a type whose code raises only sometimes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from wsclient.messages import Decoder, Message
from wsclient.stream.declared import Types
from wsclient.text import excerpt, why

__all__ = ["Misfit", "Outcome", "decoded", "fitting", "store"]

Outcome = tuple[Message, Any, Any]


class Misfit(NamedTuple):
    """The ``kind`` of a queued message that does not fit its type: why, for the log."""

    text: str


def decoded(messages: Iterable[Message], types: Types) -> list[Outcome]:
    """Return (message, kind, data) of each message that is not decoded yet.

    ``kind`` is its type, ``Any`` for plain data, which stay as they are, or a :class:`Misfit`. The
    messages are not changed: another consumer may decode them at the same time.
    """
    found: list[Outcome] = []
    append, of = found.append, types.of
    #: How the payloads of the last decoder and kind are decoded: looked up once for a run.
    decoder: Decoder | None = None
    kind: Any = None
    decode: Callable[[bytes], Any] | None = None
    for message in messages:
        if message.kind is not None:
            continue
        try:
            its, raw = message.arrival.decoder, message.raw
            wanted = of(message.channel) if its is not None and raw else Any
            if its is None or wanted is Any:
                append((message, Any, None))
                continue
            if wanted is not kind or its is not decoder:
                decoder, kind, decode = its, wanted, its.typed_decoder(wanted)
            if decode is None or message.item is not None:
                append((message, kind, its.typed(message, kind)))
            else:
                append((message, kind, decode(raw)))
        except msgspec.MsgspecError as error:
            append((message, _misfit(message, error), None))
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            append(_decoded_again(message, types, error))
    return found


def store(found: Iterable[Outcome]) -> None:
    """Store decoded data in their messages, unless another consumer has done it.

    Called under the queue's lock. Each message has both or none: no call comes between.
    """
    for message, kind, data in found:
        if message.kind is None:
            if data is not None:
                message.decoded = data
            message.kind = kind


def fitting(messages: Iterable[Message]) -> int:
    """Return how many of the first messages are decoded and fit their types."""
    count = 0
    for message in messages:
        kind = message.kind
        if kind is None or kind.__class__ is Misfit:
            break
        count += 1
    return count


def _decoded_again(message: Message, types: Types, error: BaseException) -> Outcome:
    """Decide whether ``error`` is the message's or a signal's, which is raised."""
    if threading.current_thread() is not threading.main_thread():
        return message, _misfit(message, error), None
    if isinstance(error, KeyboardInterrupt):
        raise error
    decoder = message.arrival.decoder
    try:
        kind = types.of(message.channel)
        if decoder is not None and kind is not Any:
            decoder.typed(message, kind)
    except msgspec.MsgspecError:
        return message, _misfit(message, error), None  # nesting too deep for the stack
    except BaseException as second:  # noqa: BLE001 - as above
        if type(second) is type(error):
            return message, _misfit(message, error), None
    raise error


def _misfit(message: Message, error: BaseException) -> Misfit:
    return Misfit(
        f"a message that does not fit its declared type ({why(error)}): {excerpt(message.raw)}"
    )
