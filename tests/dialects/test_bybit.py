"""Bybit v5: the frames of its documentation, and of the history that it publishes."""

from __future__ import annotations

import hashlib
import hmac
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest

from support.reading import Data, message_in, read, read_one
from support.recordings import Book, marks, messages_of, payloads, refused, updates_of
from wsclient.dialect.books import BookUpdate
from wsclient.dialect.values import Credentials
from wsclient.dialects import Bybit
from wsclient.errors import ConfigurationError
from wsclient.messages import Message
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import (
    Ack,
    Ending,
    Heartbeat,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Unhandled,
)

RECORDING = "bybit/2024-12-01_XRPUSDT_ob500.data"
TOPIC = "orderbook.500.XRPUSDT"


peek = partial(read_one, Bybit())


def book(update: int, kind: str = "delta", topic: str = TOPIC) -> dict[str, Any]:
    data = {"s": "XRPUSDT", "b": [["1.9530", "0"]], "a": [["1.9540", "10.50"]], "u": update}
    return {"ts": 1, "topic": topic, "type": kind, "data": data}


message = partial(message_in, Bybit())


def marked(*frames: dict[str, Any]) -> list[tuple[int, str]]:
    return marks(Bybit(sequenced=True), [msgspec.json.encode(frame) for frame in frames])


# --- out -----------------------------------------------------------------------------------------


def test_one_message_subscribes_to_several_channels() -> None:
    topics = ["orderbook.1.BTCUSDT", "publicTrade.BTCUSDT"]
    assert Bybit().subscribe(topics, 7, {}) == {"req_id": "7", "op": "subscribe", "args": topics}
    assert Bybit().unsubscribe(topics, 8, {"depth": 1}) == {
        "req_id": "8",
        "op": "unsubscribe",
        "args": topics,
    }


def test_there_are_no_options() -> None:
    with pytest.raises(ConfigurationError, match="'speed'"):
        Bybit().subscribe(["orderbook.1.BTCUSDT"], 7, {"speed": 3})


def test_the_limits_of_the_venue() -> None:
    assert Bybit().limits.connects == (500, 300.0)
    topics = [f"tickers.{n}USDT" for n in range(25)]
    assert [len(batch) for batch in Bybit().batches(topics)] == [10, 10, 5]


def test_a_ping_is_json_and_comes_every_20_seconds() -> None:
    assert Bybit().keepalive == ({"op": "ping"}, 20.0)
    assert Bybit().silence_timeout == 30.0


def test_a_login_carries_the_signature() -> None:
    sign = hmac.new(b"secret", b"GET/realtime1711010121452", hashlib.sha256).hexdigest()
    credentials = Credentials({"api_key": "K", "secret": "secret"}, lambda: 1711010111.452)
    assert Bybit().login(credentials) == {"op": "auth", "args": ["K", 1711010121452, sign]}


# --- in: answers ---------------------------------------------------------------------------------


def test_an_acknowledgement_of_spot() -> None:
    frame = {"success": True, "ret_msg": "subscribe", "conn_id": "c", "req_id": "10001"}
    assert peek({**frame, "op": "subscribe"}) == Ack("10001")


def test_an_acknowledgement_of_linear_may_have_an_empty_id() -> None:
    frame = {"success": True, "ret_msg": "", "conn_id": "c", "req_id": "", "op": "subscribe"}
    assert peek(frame) == Ack()


def test_an_acknowledgement_of_options_names_the_channels() -> None:
    data = {"failTopics": ["orderbook.100.BAD"], "successTopics": ["orderbook.100.A", "tickers.B"]}
    frame = {"success": True, "conn_id": "c", "data": data, "type": "COMMAND_RESP"}
    assert read(Bybit(), frame) == [
        Ack(channel="orderbook.100.A"),
        Ack(channel="tickers.B"),
        Rejection("refused without a reason", channel="orderbook.100.BAD"),
    ]


def test_a_refusal() -> None:
    text = "error:handler not found,topic:orderbook.7.BTCUSDT"
    frame = {"success": False, "ret_msg": text, "conn_id": "c", "op": "subscribe"}
    assert peek(frame) == Rejection(text)
    assert peek({**frame, "req_id": "4"}) == Rejection(text, "4")
    assert peek({**frame, "ret_msg": ""}) == Rejection("refused without a reason")


@pytest.mark.parametrize("op", ["subscribe", "unsubscribe"])
def test_the_answer_to_a_subscribe_may_have_the_form_of_that_to_a_login(op: str) -> None:
    """This is our assumption."""
    frame = {"retCode": 10404, "retMsg": "no such topic", "op": op, "req_id": "4"}
    assert peek(frame) == Rejection("no such topic", "4")
    assert peek({**frame, "retCode": 0}) == Ack("4")
    assert peek({**frame, "op": "order.create"}) == Unhandled("order.create")


@pytest.mark.parametrize(
    "frame",
    [
        {"success": True, "ret_msg": "pong", "conn_id": "c", "req_id": "", "op": "ping"},
        {"args": ["1672916271846"], "op": "pong"},
        {"req_id": "test", "op": "pong", "args": ["1675418560633"], "conn_id": "c"},
    ],
)
def test_a_pong_has_three_forms(frame: dict[str, Any]) -> None:
    assert peek(frame) == Heartbeat()


def test_the_answers_to_a_login() -> None:
    frame = {"success": True, "ret_msg": "", "op": "auth", "conn_id": "c"}
    assert peek(frame) == LoginAccepted()
    frame = {"success": False, "ret_msg": "Params Error", "op": "auth", "conn_id": "c"}
    assert peek(frame) == LoginRefused("Params Error")


def test_the_answers_to_a_login_have_another_form_at_some_addresses() -> None:
    frame = {"retCode": 10004, "retMsg": "error sign!", "op": "auth", "connId": "c"}
    assert peek(frame) == LoginRefused("error sign!")
    assert peek({**frame, "retCode": 0, "retMsg": "OK"}) == LoginAccepted()
    assert peek({"success": False, "retMsg": "no", "op": "auth"}) == LoginRefused("no")


@pytest.mark.parametrize("more", [{}, {"op": ""}, {"op": "order.create", "req_id": ""}])
def test_an_error_without_an_id_that_is_about_no_subscribe_refuses_none(
    more: dict[str, str],
) -> None:
    assert peek({"success": False, "ret_msg": "busy", "conn_id": "c", **more}) == Notice("busy")
    assert isinstance(peek({"success": True, "ret_msg": "", "conn_id": "c", **more}), Unhandled)


def test_an_unknown_frame_is_unhandled() -> None:
    assert peek({"op": "odd"}) == Unhandled("odd")
    assert peek({}) == Unhandled("")


@pytest.mark.parametrize("raw", [b"", b"pong", b"[1,2]", b'{"topic": 5}'])
def test_a_frame_unlike_bybits_raises(raw: bytes) -> None:
    assert peek(raw) is Invalid


@pytest.mark.loopback
def test_a_refused_channel_of_options_does_not_affect_the_others() -> None:
    data = {"failTopics": ["tickers.BAD"], "successTopics": ["tickers.A"]}
    answer = {"success": True, "data": data, "type": "COMMAND_RESP"}
    reasons = refused(Bybit(), ["tickers.A", "tickers.BAD"], answer)
    assert reasons == {"tickers.BAD": "refused without a reason"}


# --- in: data ------------------------------------------------------------------------------------


def test_data_belongs_to_its_channel() -> None:
    trade = {
        "topic": "publicTrade.BTCUSDT",
        "type": "snapshot",
        "ts": 1672304486868,
        "data": [{"T": 1672304486865, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "16578.50"}],
    }
    assert peek(trade) == Data("publicTrade.BTCUSDT", "snapshot")
    ticker = {"topic": "tickers.BTCUSDT", "type": "delta", "data": {"symbol": "BTCUSDT"}}
    assert peek(ticker) == Data("tickers.BTCUSDT", "delta")


def test_the_numbers_of_a_book_count_only_with_sequenced() -> None:
    assert peek(book(7)) == Data(TOPIC, "delta", None)
    assert read(Bybit(sequenced=True), book(7)) == [Data(TOPIC, "delta", 7)]


def test_a_jump_is_a_gap() -> None:
    assert marked(book(7, "snapshot"), book(8), book(10)) == [(2, "sequence")]


def test_after_a_restart_of_the_service_the_numbers_start_again() -> None:
    """Messages were probably missed then, which is one gap; later numbers follow on."""
    assert marked(book(7, "snapshot"), book(8), book(1), book(2)) == [(2, "sequence")]


def test_a_snapshot_starts_the_numbers_again() -> None:
    frames = [book(7, "snapshot"), book(8), book(3, "snapshot"), book(4)]
    assert marked(*frames) == [(2, "sequence")]


def test_only_books_are_numbered() -> None:
    frame = {"topic": "tickers.BTCUSDT", "type": "delta", "data": {"u": 5}}
    assert read(Bybit(sequenced=True), frame) == [Data("tickers.BTCUSDT", "delta", None)]


def test_level_1_is_sent_in_snapshots_and_is_not_numbered() -> None:
    topic = "orderbook.1.XRPUSDT"
    frames = [book(n, "snapshot", topic) for n in (7, 7, 9, 30)]
    assert marked(*frames) == []


# --- books ---------------------------------------------------------------------------------------


def test_the_channel_of_a_book() -> None:
    assert Bybit().book.channel("BTCUSDT", {}) == "orderbook.50.BTCUSDT"
    assert Bybit().book.channel("BTCUSDT", {"depth": 200}) == "orderbook.200.BTCUSDT"
    assert Bybit().book.depth({}) is None
    assert Bybit().book.checksum([], []) is None


def test_an_update_of_a_book() -> None:
    bids, asks = [(Decimal("1.9530"), Decimal("0"))], [(Decimal("1.9540"), Decimal("10.50"))]
    update = Bybit().book.update(message(book(7)))
    assert update == BookUpdate(False, bids, asks)
    assert str(update.asks[0][1]) == "10.50"


def test_a_snapshot_and_the_message_of_a_restart_replace_the_book() -> None:
    for frame in (book(7, "snapshot"), book(1, "delta")):
        update = Bybit().book.update(message(frame))
        assert update is not None
        assert update.is_snapshot


@pytest.mark.parametrize("frame", [{"type": "odd"}, {"data": {}}, {"data": []}])
def test_an_invalid_book_message_raises(frame: dict[str, Any]) -> None:
    found = Message(TOPIC, raw=msgspec.json.encode({**book(7), **frame}))
    with pytest.raises(msgspec.ValidationError):
        Bybit().book.update(found)


# --- recorded ------------------------------------------------------------------------------------


def test_a_recorded_book_keeps_its_depth() -> None:
    """The venue sends a removal for each level that falls out."""
    book = Book()
    for update in updates_of(Bybit(), messages_of(Bybit(), payloads(RECORDING))):
        book.apply(update)
        assert len(book.bids) == len(book.asks) == 500


# --- requests ------------------------------------------------------------------------------------


def test_a_request_has_an_id_of_its_own() -> None:
    request = Bybit().request({"op": "order.create", "args": [{}], "reqId": "mine"}, 7)
    assert request == {"op": "order.create", "args": [{}], "reqId": "r7"}


def test_the_answer_to_a_request() -> None:
    answer = {"reqId": "r7", "retCode": 0, "retMsg": "OK", "op": "order.create", "data": {}}
    assert peek(answer) == Reply("7", answer)
    refused = {**answer, "retCode": 110072, "retMsg": "OrderLinkedID is duplicate"}
    assert peek(refused) == Reply("7", refused, "OrderLinkedID is duplicate (110072)")


def test_a_server_that_restarts_refuses_the_request_and_says_so() -> None:
    answer = {"reqId": "r7", "retCode": 10019, "retMsg": "restarting", "op": "order.create"}
    reply = Reply("7", answer, "restarting (10019)")
    assert read(Bybit(), answer) == [reply, Ending("restarting")]


@pytest.mark.parametrize("codes", [[0, 0], [0, 110007], [10001, 110007]])
def test_the_orders_of_a_batch_fail_one_by_one_inside_a_success(codes: list[int]) -> None:
    rows = [{"code": code, "msg": "not enough" if code else "OK"} for code in codes]
    frame = {
        "reqId": "r5",
        "retCode": 0,
        "retMsg": "OK",
        "op": "order.create-batch",
        "data": {"list": [{} for _ in codes]},
        "retExtInfo": {"list": rows},
    }
    failed = {n: f"not enough ({code})" for n, code in enumerate(codes) if code}
    assert peek(frame) == Reply("5", frame, failed=failed or None)


def test_a_code_of_an_order_may_be_text() -> None:
    rows = [{"code": "0", "msg": "OK"}, {"code": "110007", "msg": "not enough"}, {"msg": ""}]
    frame = {"reqId": "r5", "retCode": 0, "retExtInfo": {"list": rows}}
    assert peek(frame) == Reply("5", frame, failed={1: "not enough (110007)"})


@pytest.mark.parametrize("given", [{}, {"retCode": None}])
def test_an_answer_without_a_code_leaves_the_outcome_unknown(given: Any) -> None:
    frame = {"reqId": "r5", "op": "order.create", **given}
    assert peek(frame) == Reply("5", frame, "the answer has no code", is_unknown=True)
