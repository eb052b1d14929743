"""The generic protocol, row by row of its table."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from support.reading import Data, read_one
from wsclient.dialect.values import Limits
from wsclient.dialects import Generic, Kraken, find
from wsclient.errors import ConfigurationError
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import Ack, Heartbeat, Item, Rejection, Reply, Unhandled

peek = partial(read_one, Generic())


# --- out -----------------------------------------------------------------------------------------


def test_subscribe() -> None:
    assert Generic().subscribe(["C"], 1, {}) == {"type": "subscribe", "channel": "C"}


def test_unsubscribe() -> None:
    assert Generic().unsubscribe(["C"], 1, {}) == {"type": "unsubscribe", "channel": "C"}


def test_options_become_fields() -> None:
    message = Generic().subscribe(["C"], 1, {"depth": 10})
    assert message == {"type": "subscribe", "channel": "C", "depth": 10}


def test_a_message_takes_one_channel() -> None:
    assert [list(batch) for batch in Generic().batches(["a", "b"])] == [["a"], ["b"]]


def test_a_request_gets_an_id_that_its_response_repeats() -> None:
    assert Generic().request({"type": "order.list"}, 7) == {"type": "order.list", "id": 7}
    answer = {"type": "response", "id": 7, "status": "success", "orders": []}
    assert Generic().read(answer) == Reply(7, answer)
    refused = {"type": "response", "id": 7, "status": "error", "error": "closed"}
    assert Generic().read(refused) == Reply(7, refused, "closed")
    partly = {"type": "response", "id": 7, "responses": [{"status": "success"}, refused]}
    assert Generic().read(partly) == Reply(7, partly, failed={1: "closed"})
    assert Generic().read({**refused, "id": None}) == Unhandled("response")
    other = Generic(response_types=["done"])
    assert other.read({"type": "done", "id": 8}) == Reply(8, {"type": "done", "id": 8})


def test_there_is_no_login_and_the_address_is_unchanged() -> None:
    assert Generic().login({"key": "k"}) is None
    assert Generic().url("ws://host/", None) == "ws://host/"


# --- in: answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"status": "success"},
        {"status": "subscribed"},
        {"status": 0},
        {"success": True},
        {"success": None},
        {"error": None},
        {"message": "welcome"},
    ],
)
def test_an_answer_accepts(more: dict[str, Any]) -> None:
    assert peek({"type": "subscription", "channel": "C", **more}) == Ack(channel="C")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"status": "error"}, "error"),
        ({"status": "rejected"}, "rejected"),
        ({"status": "failed"}, "failed"),
        ({"status": "Error"}, "Error"),
        ({"status": "error", "reason": "unknown"}, "unknown"),
        ({"status": "error", "message": "unknown"}, "unknown"),
        ({"success": False}, "refused without a reason"),
        ({"success": False, "message": "unknown"}, "unknown"),
        ({"error": "unknown"}, "unknown"),
        ({"error": "unknown", "message": "see the manual"}, "unknown"),
        ({"error": "unknown", "status": "success", "success": True}, "unknown"),
        ({"error": True, "message": "unknown"}, "unknown"),
        ({"error": {"code": 7}}, "{'code': 7}"),
        ({"error": {"code": 7}, "status": "error"}, "{'code': 7}"),
        ({"error": 7}, "7"),
        ({"error": "", "success": False}, "refused without a reason"),
    ],
)
def test_an_answer_refuses_and_says_why(more: dict[str, Any], reason: str) -> None:
    item = peek({"type": "subscription", "channel": "C", **more})
    assert item == Rejection(reason, channel="C")


def test_an_answer_without_a_channel_answers_the_oldest_request() -> None:
    assert peek({"type": "subscription"}) == Ack()
    assert peek({"type": "subscription", "error": "no"}) == Rejection("no")


# --- in: data ------------------------------------------------------------------------------------


def test_data_belongs_to_its_channel() -> None:
    assert peek({"type": "market_data", "channel": "C"}) == Data("C", "market_data")


def test_data_without_a_channel_belongs_to_the_nameless_one() -> None:
    assert peek({"type": "market_data"}) == Data("", "market_data")
    assert peek({"type": "market_data", "channel": None}) == Data("", "market_data")
    assert peek({"type": "market_data", "seq": 5}) == Data("", "market_data", 5)


@pytest.mark.parametrize(
    ("fields", "sequence"),
    [
        ({"sequence": 5}, 5),
        ({"seq": 5}, 5),
        ({"sequence": 5, "seq": 6}, 5),
        ({"sequence": "5", "seq": 6}, 6),
        ({"sequence": 0}, 0),
        ({"sequence": -1}, -1),
        ({"sequence": 2**80}, 2**80),
        ({"sequence": "5"}, None),
        ({"sequence": 5.0}, None),
        ({"sequence": True}, None),
        ({"sequence": None}, None),
        ({"sequence": [5]}, None),
        ({}, None),
    ],
)
def test_only_an_integer_is_a_sequence_number(fields: dict[str, Any], sequence: int | None) -> None:
    item = peek({"type": "market_data", "channel": "C", **fields})
    assert item == Data("C", "market_data", sequence)


def test_the_rest_of_a_frame_is_not_checked() -> None:
    assert peek(
        b'{"x": {"type": "system"}, "channel": "C", "type": "market_data", "y": [1e5]}'
    ) == (Data("C", "market_data"))


# --- in: all else --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["system", "heartbeat", "ping", "pong", "status"])
def test_system_messages_are_filtered(kind: str) -> None:
    assert peek({"type": kind, "channel": "C", "error": "x"}) == Heartbeat()


def test_any_other_type_is_unhandled() -> None:
    assert peek({"type": "odd", "channel": "C"}) == Unhandled("odd", "C")
    assert peek({"type": "odd"}) == Unhandled("odd")
    assert peek({}) == Unhandled("")
    assert peek({"type": None}) == Unhandled("")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"5", b"null", b'{"type": 5}', b"{} {}"])
def test_a_frame_that_is_no_object_raises(raw: bytes) -> None:
    assert peek(raw) is Invalid


# --- near relatives ------------------------------------------------------------------------------

RELATIVE = Generic(
    type_field="event",
    channel_field="topic",
    sequence_fields=("n",),
    subscribe_type="sub",
    unsubscribe_type="unsub",
    answer_types=("subbed", "unsubbed"),
    data_types=("trade", "quote"),
    system_types=("hb",),
)


def test_a_similar_protocol_sends_its_own_words() -> None:
    assert RELATIVE.subscribe(["C"], 1, {}) == {"event": "sub", "topic": "C"}
    assert RELATIVE.unsubscribe(["C"], 1, {}) == {"event": "unsub", "topic": "C"}


@pytest.mark.parametrize(
    ("frame", "item"),
    [
        ({"event": "unsubbed", "topic": "C"}, Ack(channel="C")),
        ({"event": "subbed", "topic": "C", "error": "no"}, Rejection("no", channel="C")),
        ({"event": "quote", "topic": "C", "n": 5, "sequence": 9}, Data("C", "quote", 5)),
        ({"event": "hb"}, Heartbeat()),
        ({"event": "system"}, Unhandled("system")),
        ({"type": "trade", "channel": "C"}, Unhandled("")),
    ],
)
def test_a_similar_protocol_reads_its_own_words(frame: dict[str, Any], item: Item) -> None:
    assert read_one(RELATIVE, frame) == item


def test_a_similar_protocol_may_have_no_sequence() -> None:
    item = read_one(Generic(sequence_fields=()), {"type": "market_data", "sequence": 5})
    assert item == Data("", "market_data", None)


def test_limits_and_silence_are_parameters() -> None:
    limits = Limits(messages_per_second=5)
    dialect = Generic(limits=limits, silence_timeout=30.0)
    assert (dialect.limits, dialect.silence_timeout) == (limits, 30.0)
    assert (Generic().limits, Generic().silence_timeout) == (Limits(), None)


@pytest.mark.parametrize("name", ["sequence_fields", "answer_types", "data_types", "system_types"])
@pytest.mark.parametrize("value", ["trade", [5]])
def test_a_text_instead_of_a_collection_of_texts_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a collection of text"):
        Generic(**{name: value})


# --- by name -------------------------------------------------------------------------------------


def test_a_dialect_is_found_by_name_or_is_the_object() -> None:
    own = Generic()
    assert type(find("generic")) is Generic
    assert type(find("kraken")) is Kraken
    assert find(own) is own


@pytest.mark.parametrize("unknown", ["nasdaq", "", Generic, None, ["generic"]])
def test_the_error_for_an_unknown_dialect_names_the_known_ones(unknown: Any) -> None:
    with pytest.raises(ConfigurationError, match="generic, kraken"):
        find(unknown)


def test_the_items_of_a_batch_fail_one_by_one() -> None:
    rows = [{"status": "success"}, {"status": "error", "error": "no funds"}]
    frame = {"type": "response", "id": 7, "status": "success", "responses": rows}
    assert read_one(Generic(), frame) == Reply(7, frame, failed={1: "no funds"})
