"""What an error says about the message that was sent; sending itself is in test_client.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsclient
from support.inside import core_of
from wsclient.outgoing import order_ids
from wsclient.runtime.calls import Posted, SendWaiter
from wsclient.testing import FakeVenue
from wsclient.threads.waiting import Waiter

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


def test_a_message_that_was_handed_over_is_never_said_to_be_not_sent() -> None:
    reply, posted = Waiter(), Posted(sent_at=1)
    sent = SendWaiter(posted, reply)
    sent.settle(wsclient.ClientClosed("the client is closed"))
    for waiter in (sent, reply):
        with pytest.raises(wsclient.OutcomeUnknown) as caught:
            waiter.wait()
        assert isinstance(caught.value.__cause__, wsclient.ClientClosed)


@pytest.mark.parametrize("sent_at", [None, 1])
def test_a_connection_knows_whether_a_message_was_sent(sent_at: int | None) -> None:
    sent = SendWaiter(Posted(sent_at=sent_at))
    sent.settle(wsclient.NotConnected("it has ended before"))
    with pytest.raises(wsclient.NotConnected):
        sent.wait()


def test_nothing_is_sent_for_a_caller_that_was_told_of_the_end() -> None:
    with FakeVenue() as venue, wsclient.connect(venue.url) as client:
        calls, posted = core_of(client).calls, Posted("late")
        sent = SendWaiter(posted)
        sent.settle(wsclient.ClientClosed("the client is closed"))
        calls.send(posted, sent, None)
        client.send("next")
        assert venue.accept().expect() == "next"
