"""Decoding of payloads to entries: nothing raises, nothing is left out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import entries_of
from support.rig import Plain
from wsclient.dialects import Generic, Kraken
from wsclient.messages import LinkedMessage, Message
from wsclient.stream.inbound import Inbound
from wsclient.stream.incoming import Incoming, Invalid
from wsclient.stream.items import Ack, Heartbeat, Item, Unhandled
from wsclient.text import EXCERPT, excerpt


class Rows(Plain):
    """A frame is a list of items: ``"ack"``, ``"beat"``, ``"?type"``, or a channel's name."""

    def peek(self, frame: bytes) -> Sequence[Item]:
        return [self._item_of(name, i) for i, name in enumerate(json.loads(frame))]

    def _item_of(self, name: str, index: int) -> Item:
        if name == "ack":
            return Ack()
        if name == "beat":
            return Heartbeat()
        if name.startswith("?"):
            return Unhandled(name[1:], "where")
        return Message(name, "row", index, index)


def read(*frames: Any, dialect: Any = None, **options: Any) -> list[Incoming]:
    payloads = [f if isinstance(f, bytes) else json.dumps(f).encode() for f in frames]
    return entries_of(Inbound(dialect or Rows(), **options), *payloads, received_at=123)


# --- messages ------------------------------------------------------------------------------------


def test_a_message_has_all_its_fields() -> None:
    (message,) = read({"type": "market_data", "channel": "a", "seq": 5}, dialect=Generic())
    assert isinstance(message, Message)
    assert (message.channel, message.type, message.sequence) == ("a", "market_data", 5)
    assert (message.received_at, message.connection_id, message.gap) == (123, 7, None)
    assert message.raw == b'{"type": "market_data", "channel": "a", "seq": 5}'


def test_entries_keep_the_order_of_the_wire() -> None:
    entries = read(["a", "ack", "b"], ["beat", "c"])
    kinds = [e.channel if isinstance(e, Message) else type(e) for e in entries]
    assert kinds == ["a", Ack, "b", Heartbeat, "c"]


def test_a_frame_without_items_gives_no_entry() -> None:
    assert read([]) == []


def test_a_frame_of_several_items_gives_a_message_for_each() -> None:
    entries = read(["a", "b", "c"])
    assert [m.data for m in entries if isinstance(m, Message)] == ["a", "b", "c"]


def test_a_frame_of_one_item_gives_that_item() -> None:
    (message,) = read(["a"])
    assert isinstance(message, Message)
    assert message.data == "a"


def test_a_frame_whose_one_message_is_not_its_first_item() -> None:
    class Second(Plain):
        def peek(self, frame: bytes) -> Sequence[Item]:
            return (Message("a", "row", None, 1),)

    (message,) = read(["x", "y"], dialect=Second())
    assert isinstance(message, Message)
    assert message.data == "y"


def test_a_frame_that_is_one_message_gives_its_whole_payload() -> None:
    frame = {"type": "market_data", "channel": "a", "price": 1.5}
    (message,) = read(frame, dialect=Generic())
    assert isinstance(message, Message)
    assert message.data == frame


def test_a_frame_of_several_items_is_decoded_once() -> None:
    class Watched(Rows):
        def item(self, decoded: Any, index: int) -> Any:
            return decoded

    one, two = read(["a", "b"], dialect=Watched())
    assert isinstance(one, Message)
    assert isinstance(two, Message)
    assert one.data is two.data


def test_numbers_are_decimals_if_requested() -> None:
    raw = b'{"type": "market_data", "channel": "a", "price": 1.10}'
    (message,) = read(raw, dialect=Generic(), decimal=True)
    assert isinstance(message, Message)
    assert str(message.data["price"]) == "1.10"


# --- unreadable frames ---------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"null", b'"text"', b"[1, 2]", b"{}{}"])
@pytest.mark.parametrize("dialect", [Generic(), Kraken()], ids=["generic", "kraken"])
def test_an_unreadable_frame_is_an_invalid_entry(raw: bytes, dialect: Any) -> None:
    (entry,) = read(raw, dialect=dialect)
    assert isinstance(entry, Invalid)
    assert entry.message is None
    assert entry.text.startswith("an unreadable frame (")
    assert entry.text.endswith(repr(raw))


def test_an_unreadable_frame_does_not_affect_others() -> None:
    entries = read(["a"], b"rubbish", ["b"])
    assert [type(e) for e in entries] == [Message, Invalid, Message]


@pytest.mark.parametrize("answer", [None, 5, iter(())])
def test_a_dialect_that_returns_no_item_makes_a_frame_unreadable(answer: Any) -> None:
    class Broken(Plain):
        def peek(self, frame: bytes) -> Any:
            return answer

    (entry,) = read(["a"], dialect=Broken())
    assert isinstance(entry, Invalid)


@pytest.mark.parametrize(
    ("numbers", "is_counted", "is_read"),
    [
        ((None, 5), True, True),
        ((5, 5), True, True),
        ((6, 5), True, False),
        ((6, 5), False, True),
        ((6, None), True, True),
        ((True, 5), True, False),
        (("4", 5), False, False),
        ((4, 5.0), False, False),
        ((4, True), False, False),
    ],
)
def test_invalid_numbers_make_a_frame_unreadable(
    numbers: tuple[Any, Any], is_counted: bool, is_read: bool
) -> None:
    class Linked(Plain):
        def peek(self, frame: bytes) -> Item:
            follows, sequence = numbers
            return LinkedMessage("a", sequence=sequence, follows=follows, is_counted=is_counted)

    (entry,) = read([], dialect=Linked())
    assert isinstance(entry, LinkedMessage if is_read else Invalid)


def test_an_excerpt_is_bounded_and_says_how_long_the_frame_was() -> None:
    text = excerpt(b"x" * 1_000_000)
    assert len(text) < EXCERPT + 40
    assert text.endswith("(1000000 bytes)")


def test_an_excerpt_of_a_short_frame_is_complete() -> None:
    assert excerpt(b"x" * EXCERPT) == repr(b"x" * EXCERPT)


def test_an_excerpt_can_be_printed() -> None:
    assert excerpt(b"\x1b[2J\r\n\x00").isprintable()


def test_the_text_of_an_error_is_bounded() -> None:
    class Wordy(Plain):
        def peek(self, frame: bytes) -> Sequence[Item]:
            raise ValueError("y" * 1_000_000)

    (entry,) = read(["a"], dialect=Wordy())
    assert isinstance(entry, Invalid)
    assert len(entry.text) < 3 * EXCERPT


# --- validate ------------------------------------------------------------------------------------


def refuse_b(message: Message) -> None:
    if message.data == "b":
        raise ValueError("b is bad")


def test_a_message_that_validate_refuses_is_an_invalid_entry_in_its_place() -> None:
    entries = read(["a", "b", "c"], validate=refuse_b)
    assert [type(e) for e in entries] == [Message, Invalid, Message]
    refused = entries[1]
    assert isinstance(refused, Invalid)
    assert refused.message is not None
    assert (refused.message.channel, refused.message.sequence) == ("b", 1)
    assert "ValueError: b is bad" in refused.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_a_validate_that_raises_anything_refuses_one_message(error: type[BaseException]) -> None:
    def validate(message: Message) -> None:
        if message.channel == "b":
            raise error("no")

    first, invalid, last = read(["a", "b", "c"], validate=validate)
    assert isinstance(first, Message)
    assert isinstance(last, Message)
    assert isinstance(invalid, Invalid)
    assert invalid.message is not None
    assert invalid.message.channel == "b"
    assert error.__name__ in invalid.text


@pytest.mark.parametrize("hook", ["peek", "read", "item", "decoder"])
def test_a_dialect_that_raises_anything_makes_a_frame_unreadable(hook: str) -> None:
    def leave(*_: Any) -> Any:
        sys.exit("no")

    class Leaving(Rows):
        def item(self, decoded: Any, index: int) -> Any:
            return leave() if hook == "item" else decoded[index]

        def decoder(self, decimal: bool) -> Callable[[bytes], Any]:
            return leave if hook == "decoder" else super().decoder(decimal)

    dialect = Leaving()
    if hook in ("peek", "read", "decoder"):
        dialect.peek = leave if hook == "peek" else None  # type: ignore[method-assign]
    if hook == "read":
        dialect.read = leave  # type: ignore[method-assign]
    (invalid,) = read(["a", "b"], dialect=dialect)
    assert isinstance(invalid, Invalid)
    assert "SystemExit: no" in invalid.text


def test_what_validate_returns_does_not_matter() -> None:
    assert isinstance(read(["a"], validate=lambda message: False)[0], Message)


def test_answers_and_heartbeats_are_not_validated() -> None:
    def refuse(message: Message) -> None:
        raise ValueError

    assert [type(e) for e in read(["ack", "beat", "?"], validate=refuse)] == [
        Ack,
        Heartbeat,
        Unhandled,
    ]


# --- unhandled types -----------------------------------------------------------------------------


def test_an_unknown_type_is_not_delivered() -> None:
    assert [type(e) for e in read(["?odd"])] == [Unhandled]


def test_an_unknown_type_is_counted_and_delivered_if_requested() -> None:
    counted, message = read(["?odd"], deliver_unhandled=True)
    assert isinstance(counted, Unhandled)
    assert isinstance(message, Message)
    assert (message.type, message.channel, message.data) == ("odd", "where", ["?odd"])


def test_only_unknown_types_are_delivered_besides_data() -> None:
    entries = read(["ack", "beat", "a"], deliver_unhandled=True)
    assert [type(e) for e in entries] == [Ack, Heartbeat, Message]


def test_a_delivered_unknown_type_is_validated() -> None:
    def refuse(message: Message) -> None:
        raise ValueError

    entries = read(["?odd"], deliver_unhandled=True, validate=refuse)
    assert [type(e) for e in entries] == [Unhandled, Invalid]


# --- at random -----------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), max_size=8))
def test_no_bytes_raise(payloads: list[bytes]) -> None:
    for dialect in (Generic(), Kraken()):
        entries = entries_of(Inbound(dialect), *payloads)
        assert len(entries) >= len(payloads)


GOOD = json.dumps(
    {"type": "market_data", "channel": "a", "sequence": 5, "data": {"bids": [[1.5, 2]]}}
).encode()


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_mutated_frame_is_read_or_reported(place: int, byte: int) -> None:
    """Each frame gives exactly one entry."""
    raw = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    assert len(entries_of(Inbound(Generic()), raw)) == 1
