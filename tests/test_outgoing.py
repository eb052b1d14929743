"""What an error says about the message that was sent; sending itself is in test_client.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.outgoing import order_ids

_IDS = st.text(min_size=1) | st.integers(-(2**53), 2**53)


def _messages(ids: list[str | int]) -> st.SearchStrategy[Any]:
    """Return messages that hold these ids, in this order, at any depth."""

    def wrapped(inner: Any) -> st.SearchStrategy[Any]:
        return st.sampled_from(
            [[inner], {"a": inner}, [0, {"b": [inner]}], {"id": "c", "d": inner}]
        )

    orders = [{"price": "1", "mine": id, "x": None} for id in ids]
    return st.recursive(st.just(orders), lambda inner: inner.flatmap(wrapped), max_leaves=5)


@given(st.data(), st.lists(_IDS, max_size=5))
def test_the_ids_of_all_orders_are_found_in_their_order(data: Any, ids: list[str | int]) -> None:
    message = json.dumps(data.draw(_messages(ids)))
    assert order_ids(message, "mine") == tuple(ids)
    assert order_ids(message.encode(), "mine") == tuple(ids)
    assert order_ids(message, "other") == ()


@pytest.mark.parametrize(
    "payload", ["ping", b"\xff", "[" * 100_000, '{"mine": ""}', '{"mine": []}']
)
def test_a_message_without_ids_has_none(payload: str | bytes) -> None:
    assert order_ids(payload, "mine") == ()


def test_without_a_field_nothing_is_an_id() -> None:
    assert order_ids('{"": "x"}', "") == ()
