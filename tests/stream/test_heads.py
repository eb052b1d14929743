"""What heads mean is remembered by their keys, within bounds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from wsclient.messages import LinkedMessage, Message
from wsclient.stream import heads
from wsclient.stream.heads import Recipes, Shape, heads_of, shape_of, shape_of_objects
from wsclient.stream.items import Ack, Counted, DataFields, Heads, Heartbeat, Item


class Numbers(msgspec.Struct):
    first: Any = None
    last: Any = None


class Head(msgspec.Struct):
    name: Any = None
    data: Numbers = msgspec.field(default_factory=Numbers)
    count: Any = None


HEADS = Heads(Head, ("name",), [("data.last",), ("data.first", "data.last")], ("count",))
SHAPE = shape_of(msgspec.json.Decoder(Head).decode, HEADS)


def learned(*items: Item, head: Head | None = None, of: Heads = HEADS) -> Any:
    """Return what is remembered of a frame that means these items."""
    recipes = Recipes(of)
    recipes.learn(SHAPE, head or Head("a"), items)
    return recipes.get("a")


def test_a_payload_without_a_head_is_left_out() -> None:
    assert SHAPE.read([b"{}", b"[]", b"no JSON", b'{"name":"a"}']) == [
        Head(),
        None,
        None,
        Head("a"),
    ]


def test_a_message_without_a_number() -> None:
    assert learned(Message("c", "t", None, 0)) == ("c", "t", 0, heads.PLAIN, -1, -1)


def test_a_number_is_found_where_it_stands() -> None:
    head = Head("a", Numbers(3, 5))
    assert learned(Message("c", "t", 5), head=head) == ("c", "t", None, heads.COUNTED, 0, -1)
    assert learned(Message("c", "t", 4), head=head) is None


@pytest.mark.parametrize(
    ("follows", "is_counted", "style"),
    [(2, True, heads.RANGE), (3, False, heads.POINTER)],
)
def test_a_range_and_a_pointer(follows: int, is_counted: bool, style: int) -> None:
    message = LinkedMessage("c", "t", 5, follows=follows, is_counted=is_counted)
    assert learned(message, head=Head("a", Numbers(3, 5))) == ("c", "t", None, style, 1, -1)
    assert learned(message, head=Head("a", Numbers(4, 5))) is None


def test_a_message_that_begins_its_numbers_is_not_remembered() -> None:
    assert learned(LinkedMessage("c", "t", 5), head=Head("a", Numbers(3, 5))) is None


def test_the_count_of_a_connection() -> None:
    found = learned(Counted(7), Message("c"), head=Head("a", count=7))
    assert found == ("c", "update", None, heads.PLAIN, -1, 0)
    assert learned(Counted(8), Message("c"), head=Head("a", count=7)) is None


def test_several_messages_of_a_frame() -> None:
    rows = [Message("c", "t", None, 0), Message("d", "t", None, 1)]
    parts = (("c", "t", 0), ("d", "t", 1))
    assert learned(*rows) == (parts, "", None, heads.SEVERAL, -1, -1)
    assert learned(rows[0], Message("d", "t", 5, 1)) is None


@pytest.mark.parametrize("items", [(), (Heartbeat(),), (Ack(),), (Message("c"), Ack())])
def test_only_data_are_remembered(items: tuple[Item, ...]) -> None:
    assert learned(*items) is None


def test_a_key_that_cannot_be_looked_up_is_not_remembered() -> None:
    assert learned(Message("c"), head=Head(["a"])) is None


def test_too_many_keys_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "KEYS", 3)
    recipes = Recipes(HEADS)
    for name in "abcd":
        recipes.learn(SHAPE, Head(name), [Message(name)])
    assert [name for name in "abcd" if recipes.get(name)] == ["d"]


def test_a_channel_may_begin_to_count() -> None:
    fields = DataFields(["t"], sequences=("n", "m"))
    flat = heads_of(fields)
    shapes = [
        shape_of(msgspec.json.Decoder(flat.struct).decode, flat, fields=fields),
        shape_of_objects(msgspec.json.decode, fields),
    ]
    for shape in shapes:
        assert style_of(shape, flat, b'{"type":"t","channel":"c"}', None) == heads.UNNUMBERED
        assert style_of(shape, flat, b'{"type":"t","channel":"c","m":4}', 4) == heads.COUNTED


def style_of(shape: Shape, of: Heads, payload: bytes, number: int | None) -> int:
    recipes = Recipes(of)
    (head,) = shape.read([payload])
    recipes.learn(shape, head, [Message("c", "t", number)])
    found = recipes.get(shape.key(head))
    assert found is not None
    return found[3]
