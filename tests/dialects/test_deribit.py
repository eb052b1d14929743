"""Deribit: the frames of its documentation, and a recording whose numbers must be linked."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from support.making import message
from support.reading import Data, read, read_one
from support.recordings import Bench
from support.rig import Rig
from wsclient.dialect.values import Limits
from wsclient.dialects import Deribit, find
from wsclient.errors import ConfigurationError, RequestRejected, SubscriptionRejected
from wsclient.messages import LinkedMessage, SubscriptionState
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import (
    Ack,
    Heartbeat,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Respond,
    Unhandled,
)

BOOK = "book.BTC-PERPETUAL.100ms"
TICKER = "ticker.BTC-PERPETUAL.100ms"
REST = "not among the channels of the answer"


def push(channel: str, data: Any) -> dict[str, Any]:
    params = {"channel": channel, "data": data}
    return {"jsonrpc": "2.0", "method": "subscription", "params": params}


peek = partial(read_one, Deribit())


# --- out -----------------------------------------------------------------------------------------


def test_one_message_subscribes_to_several_channels() -> None:
    assert Deribit().subscribe([BOOK, TICKER], 1, {}) == {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "public/subscribe",
        "params": {"channels": [BOOK, TICKER]},
    }


def test_the_id_of_an_unsubscribe_is_text() -> None:
    assert Deribit().unsubscribe([BOOK], 2, {}) == {
        "jsonrpc": "2.0",
        "id": "2",
        "method": "public/unsubscribe",
        "params": {"channels": [BOOK]},
    }


def test_private_channels_have_a_message_of_their_own() -> None:
    channels = ["user.orders.any.any.raw", BOOK, "user.trades.any.any.raw"]
    batches = [list(batch) for batch in Deribit().batches(channels)]
    assert batches == [[channels[0], channels[2]], [BOOK]]
    assert Deribit().subscribe(batches[0], 1, {})["method"] == "private/subscribe"
    assert Deribit().unsubscribe(batches[0], 1, {})["method"] == "private/unsubscribe"


def test_options_become_params_except_those_in_the_channels_name() -> None:
    params = Deribit().subscribe([BOOK], 1, {"interval": "100ms", "label": "x"})["params"]
    assert params == {"channels": [BOOK], "label": "x"}


def test_a_request_carries_our_id_as_text() -> None:
    request = Deribit().request({"method": "public/get_time", "params": {}}, 7)
    assert request == {"jsonrpc": "2.0", "id": "7", "method": "public/get_time", "params": {}}


def test_a_login_uses_client_credentials() -> None:
    assert Deribit().login({"client_id": "i", "client_secret": "s"}) == {
        "jsonrpc": "2.0",
        "id": "login",
        "method": "public/auth",
        "params": {"grant_type": "client_credentials", "client_id": "i", "client_secret": "s"},
    }


def test_heartbeats_are_requested_first_on_each_connection() -> None:
    rig = Rig(Deribit(heartbeat=10))
    rig.connect()
    rig.opened(login={"method": "public/auth"})
    asked = {
        "jsonrpc": "2.0",
        "id": "heartbeat",
        "method": "public/set_heartbeat",
        "params": {"interval": 10},
    }
    assert rig.sent() == [asked, {"method": "public/auth"}]
    rig.receive(LoginAccepted())
    rig.drop()
    rig.open()
    assert rig.sent() == [asked]
    assert Deribit(heartbeat=10).silence_timeout == 20.0


def test_without_heartbeats_nothing_is_sent_and_silence_is_allowed() -> None:
    assert not Deribit().opening
    assert Deribit().silence_timeout is None


@pytest.mark.parametrize("heartbeat", [9, -1, 10.5, float("nan"), "30"])
def test_a_heartbeat_interval_below_ten_seconds_is_refused(heartbeat: Any) -> None:
    with pytest.raises(ConfigurationError, match="at least 10"):
        Deribit(heartbeat=heartbeat)


def test_limits_are_a_parameter() -> None:
    assert Deribit(limits=Limits(7)).limits == Limits(7)
    assert Deribit().limits == Limits(250, messages_per_second=3, connections=32)
    assert type(find("deribit")) is Deribit


# --- in: answers ---------------------------------------------------------------------------------


def test_an_answer_lists_the_channels_in_any_order() -> None:
    frame = {"jsonrpc": "2.0", "id": 1, "result": [TICKER, BOOK], "usIn": 1, "testnet": False}
    rest = Rejection(REST, 1, is_rest=True)
    assert read(Deribit(), frame) == [Ack(1, TICKER), Ack(1, BOOK), rest]


def test_a_channel_that_the_answer_does_not_list_was_refused() -> None:
    bench = Bench(Deribit())
    token = bench.rig.subscribe(BOOK, TICKER)
    bench.feed(b'{"jsonrpc":"2.0","id":1,"result":["%s"]}' % TICKER.encode())
    error = bench.rig.outcome(token)
    assert isinstance(error, SubscriptionRejected)
    assert error.failed == {BOOK: REST}
    assert bench.rig.supervisor.wanted.state(TICKER) is SubscriptionState.ACTIVE


def test_a_full_list_leaves_nothing_to_refuse_or_to_log() -> None:
    bench = Bench(Deribit())
    token = bench.rig.subscribe(BOOK)
    bench.feed(b'{"jsonrpc":"2.0","id":1,"result":["%s"]}' % BOOK.encode())
    assert bench.rig.outcome(token) is None
    assert not bench.rig.logs("warning")


def test_whether_a_missing_channel_was_refused_is_a_parameter() -> None:
    dialect = Deribit(missing_is_refused=False)
    assert read_one(dialect, {"jsonrpc": "2.0", "id": 1, "result": []}) == Ack(1)


def test_any_list_in_the_answer_to_an_unsubscribe_confirms_it() -> None:
    bench = Bench(Deribit())
    bench.rig.active(BOOK)
    token = bench.rig.unsubscribe(BOOK)
    bench.feed(b'{"jsonrpc":"2.0","id":"%s","result":[]}' % bench.rig.sent()[-1]["id"].encode())
    assert bench.rig.outcome(token) is None
    assert bench.rig.supervisor.wanted.state(BOOK) is None


ERROR = {
    "message": "Invalid params",
    "data": {"reason": "invalid format", "param": "nonce"},
    "code": -32602,
}
REASON = "Invalid params (-32602): {'reason': 'invalid format', 'param': 'nonce'}"


def test_an_error_refuses_the_request_of_its_id() -> None:
    assert peek({"jsonrpc": "2.0", "id": 1, "error": ERROR}) == Rejection(REASON, 1)
    short = {"message": "too_many_requests", "code": 10028}
    refused = Rejection("too_many_requests (10028)", 1)
    assert peek({"jsonrpc": "2.0", "id": 1, "error": short}) == refused
    assert peek({"jsonrpc": "2.0", "id": 1, "error": "no"}) == Rejection("no", 1)


@pytest.mark.parametrize("id", [{}, {"id": None}, {"id": "heartbeat"}, {"id": "test"}])
def test_an_error_without_an_id_is_a_notice(id: dict[str, Any]) -> None:
    assert peek({"jsonrpc": "2.0", **id, "error": ERROR}) == Notice(REASON)


def test_the_answer_to_a_request_is_matched_by_its_id() -> None:
    bench = Bench(Deribit())
    assert bench.rig.request() == 1
    bench.feed(b'{"jsonrpc":"2.0","id":"1","result":[1]}')
    (settled,) = bench.rig.settled["request"]
    assert (settled.error, settled.result["result"]) == (None, [1])
    assert not bench.rig.logs("warning")


def test_a_refused_request_is_an_error() -> None:
    bench = Bench(Deribit())
    bench.rig.request()
    frame = {"jsonrpc": "2.0", "id": "1", "error": ERROR}
    bench.feed(json.dumps(frame).encode())
    assert isinstance(bench.rig.outcome("request"), RequestRejected)
    assert not bench.rig.logs("warning")
    rest = Rejection(REASON, "1", is_rest=True)
    assert read(Deribit(), frame) == [Reply("1", frame, REASON), rest]


def test_a_refused_unsubscribe_raises() -> None:
    bench = Bench(Deribit())
    bench.rig.active(BOOK)
    token = bench.rig.unsubscribe(BOOK)
    frame = {"jsonrpc": "2.0", "id": bench.rig.sent()[-1]["id"], "error": ERROR}
    bench.feed(json.dumps(frame).encode())
    assert isinstance(bench.rig.outcome(token), SubscriptionRejected)


def test_a_login_is_accepted_or_refused() -> None:
    accepted = {"jsonrpc": "2.0", "id": "login", "result": {"access_token": "t"}}
    assert peek(accepted) == LoginAccepted()
    refused = {"jsonrpc": "2.0", "id": "login", "error": {"message": "invalid", "code": 13004}}
    assert peek(refused) == LoginRefused("invalid (13004)")


def test_too_many_requests_do_not_refuse_a_login() -> None:
    error = {"code": 10028, "message": "too_many_requests"}
    frame = {"jsonrpc": "2.0", "id": "login", "error": error}
    assert peek(frame) == Notice("too_many_requests (10028)")
    assert peek({**frame, "id": 1}) == Rejection("too_many_requests (10028)", 1)


# --- in: heartbeats ------------------------------------------------------------------------------


def beat(kind: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": kind}}


def test_a_test_request_is_answered_at_once() -> None:
    bench = Bench(Deribit(heartbeat=10))
    bench.feed(json.dumps(beat("test_request")).encode())
    answer = {"jsonrpc": "2.0", "id": "test", "method": "public/test", "params": {}}
    assert bench.rig.sent()[-1] == answer
    (item,) = read(Deribit(), beat("test_request"))
    assert isinstance(item, Respond)


def test_other_heartbeats_and_the_answers_to_ours_are_filtered() -> None:
    assert peek(beat("heartbeat")) == Heartbeat()
    assert peek({"jsonrpc": "2.0", "id": "heartbeat", "result": "ok"}) == Heartbeat()
    assert peek({"jsonrpc": "2.0", "id": "test", "result": {"version": "1"}}) == Heartbeat()


@pytest.mark.parametrize("frame", [{"method": "x"}, {"jsonrpc": "2.0"}])
def test_an_unknown_frame_is_unhandled(frame: Any) -> None:
    assert peek(frame) == Unhandled(frame.get("method", ""))


@pytest.mark.parametrize("frame", [b"", b"[]", b"5", b'{"method":5}', b'{"id":1}'])
def test_an_invalid_frame_raises(frame: bytes) -> None:
    assert peek(frame) is Invalid


# --- in: data ------------------------------------------------------------------------------------


def test_data_without_numbers_belongs_to_its_channel() -> None:
    assert peek(push(TICKER, {"last_price": 1.5})) == Data(TICKER)
    assert peek(push("trades.BTC-PERPETUAL.raw", [{"trade_seq": 5}])) == Data(
        "trades.BTC-PERPETUAL.raw"
    )


def linked(frame: Any) -> LinkedMessage:
    item = Deribit().peek(json.dumps(frame).encode())
    assert isinstance(item, LinkedMessage)
    return item


def test_a_book_begins_with_a_snapshot_and_its_updates_are_linked() -> None:
    first = linked(push(BOOK, {"type": "snapshot", "change_id": 5, "bids": [], "asks": []}))
    assert (first.type, first.sequence, first.follows) == ("snapshot", 5, None)
    change = {"type": "change", "prev_change_id": 5, "change_id": 9, "bids": [], "asks": []}
    second = linked(push(BOOK, change))
    assert (second.type, second.sequence, second.follows) == ("change", 9, 5)
    assert not second.is_counted


@pytest.mark.parametrize("lacks", ["prev_change_id", "change_id"])
def test_an_update_without_its_numbers_raises(lacks: str) -> None:
    change = {"type": "change", "prev_change_id": 5, "change_id": 9, "bids": [], "asks": []}
    del change[lacks]
    assert peek(push(BOOK, change)) is Invalid


def test_refused_raw_channels_do_not_affect_others() -> None:
    channels = ["ticker.A.raw", "ticker.A.100ms", "book.A.raw"]
    batches = [list(batch) for batch in Deribit().batches(channels)]
    assert batches == [["ticker.A.raw", "book.A.raw"], ["ticker.A.100ms"]]


def test_each_message_of_a_grouped_book_is_a_snapshot() -> None:
    channel = "book.BTC-PERPETUAL.none.20.100ms"
    frame = push(channel, {"change_id": 5, "bids": [[1.50, 2.0]], "asks": []})
    assert peek(frame) == Data(channel, "snapshot")
    update = Deribit().book.update(message(channel, "snapshot", raw=json.dumps(frame).encode()))
    assert update == (True, [(Decimal("1.5"), Decimal("2.0"))], [], None)


def test_a_book_update_keeps_the_digits() -> None:
    raw = (
        b'{"method":"subscription","params":{"channel":"c","data":{"type":"change","bids":'
        b'[["new",0.1550,5.0],["delete",0.155,0.0]],"asks":[["change",1E-8,12345678901.123456789]]}}}'
    )
    update = Deribit().book.update(message(BOOK, "change", 9, raw))
    assert update is not None
    assert not update.is_snapshot
    assert [(str(p), str(s)) for p, s in update.bids] == [("0.1550", "5.0"), ("0.155", "0")]
    assert [(str(p), str(s)) for p, s in update.asks] == [("1E-8", "12345678901.123456789")]
    snapshot = Deribit().book.update(message(BOOK, "snapshot", 9, raw))
    assert snapshot is not None
    assert snapshot.is_snapshot


def test_the_channel_of_a_book() -> None:
    assert Deribit().book.channel("BTC-PERPETUAL", {}) == BOOK
    raw = Deribit().book.channel("BTC-PERPETUAL", {"interval": "raw"})
    assert raw == "book.BTC-PERPETUAL.raw"
    assert Deribit().book.depth({}) is None
