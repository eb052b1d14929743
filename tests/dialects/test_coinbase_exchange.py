"""Coinbase Exchange: the frames of its documentation, and a recording of ten products."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest

import wsclient
from support.reading import Data, message_in, read, read_one
from support.recordings import Script, payloads, refused
from wsclient.dialect.books import BookUpdate
from wsclient.dialect.values import Credentials
from wsclient.dialects import CoinbaseExchange
from wsclient.errors import ConfigurationError
from wsclient.messages import Message
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import Notice, Rejection, SubscribedChannels, Unhandled
from wsclient.testing import FakeVenue

RECORDING = "coinbase_exchange/COINBASE.ws.28.0"
PRODUCTS = [
    "BAND-BTC",
    "BAND-GBP",
    "CRV-EUR",
    "DASH-BTC",
    "NMR-EUR",
    "NU-GBP",
    "SKL-BTC",
    "SKL-GBP",
    "SKL-USD",
    "YFI-BTC",
]
#: As in 2021, when no subscribe had to be signed.
OF_2021 = CoinbaseExchange(book="level2")


peek = partial(read_one, CoinbaseExchange())
message = partial(message_in, CoinbaseExchange())


# --- out -----------------------------------------------------------------------------------------


def test_one_message_subscribes_to_several_products_of_a_channel() -> None:
    assert CoinbaseExchange().subscribe(["ticker:BTC-USD", "ticker:ETH-EUR"], 1, {}) == {
        "type": "subscribe",
        "channels": [{"name": "ticker", "product_ids": ["BTC-USD", "ETH-EUR"]}],
    }


def test_an_unsubscribe_has_the_same_shape() -> None:
    assert CoinbaseExchange().unsubscribe(["status"], 1, {"key": "K"}) == {
        "key": "K",
        "type": "unsubscribe",
        "channels": [{"name": "status", "product_ids": []}],
    }


def test_a_message_takes_products_of_only_one_channel() -> None:
    batches = CoinbaseExchange().batches(["ticker:A-B", "matches:A-B", "ticker:C-D"])
    assert [list(b) for b in batches] == [["ticker:A-B", "ticker:C-D"], ["matches:A-B"]]


def test_a_channel_whose_frames_would_get_another_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not 'level2'"):
        CoinbaseExchange().subscribe(["level2:BTC-USD"], 1, {})
    assert OF_2021.subscribe(["level2:BTC-USD"], 1, {})


GIVEN = {"api_key": "K", "secret": base64.b64encode(b"5ecret").decode(), "passphrase": "P"}


@pytest.mark.loopback
def test_with_credentials_each_subscribe_is_signed() -> None:
    answer = {"type": "subscriptions", "channels": [{"name": "level2", "product_ids": ["A-B"]}]}
    script = Script([msgspec.json.encode(answer)], 1)
    dialect = CoinbaseExchange(book="level2")
    with (
        FakeVenue(script) as venue,
        wsclient.connect(venue.url, dialect=dialect, credentials=GIVEN) as client,
    ):
        client.subscribe("level2:A-B", timeout=5)
        request = venue.accept().expect_json()
    text = f"{request['timestamp']}GET/users/self/verify".encode()
    signature = base64.b64encode(hmac.new(b"5ecret", text, hashlib.sha256).digest()).decode()
    assert abs(int(request["timestamp"]) - time.time()) < 5
    assert request == {
        "type": "subscribe",
        "channels": [{"name": "level2", "product_ids": ["A-B"]}],
        "signature": signature,
        "key": "K",
        "passphrase": "P",
        "timestamp": request["timestamp"],
    }


def test_the_signature_has_the_time_of_the_subscribe_not_of_the_connect() -> None:
    clock = iter([1e9, 1e9 + 60])
    credentials = Credentials(GIVEN, lambda: next(clock))
    fields = [CoinbaseExchange().access(["ticker:A-B"], credentials) for _ in range(2)]
    assert [f["timestamp"] for f in fields] == ["1000000000", "1000000060"]
    assert fields[0]["signature"] != fields[1]["signature"]


def test_the_limits_of_the_venue() -> None:
    limits = CoinbaseExchange().limits
    assert (limits.connects, limits.messages_per_second) == ((8, 1.0), 50.0)


# --- in: answers ---------------------------------------------------------------------------------


def test_an_answer_lists_all_subscribed_channels() -> None:
    channels = [
        {"name": "level2_50", "product_ids": ["BTC-USD", "A-B"], "account_ids": None},
        {"name": "matches", "product_ids": ["BTC-USD"], "account_ids": None},
        {"name": "status", "product_ids": None},
    ]
    assert peek({"type": "subscriptions", "channels": channels}) == SubscribedChannels(
        ["level2_batch:BTC-USD", "level2_batch:A-B", "matches:BTC-USD", "status"]
    )
    assert peek({"type": "subscriptions", "channels": []}) == SubscribedChannels([])


def test_an_error_answers_the_oldest_request() -> None:
    reason = "level2, level3, and full channels now require authentication."
    frame = {"type": "error", "message": "Failed to subscribe", "reason": reason}
    assert peek(frame) == Rejection(f"Failed to subscribe: {reason}")
    assert peek({"type": "error", "message": "Malformed"}) == Rejection("Malformed")


@pytest.mark.parametrize("reason", ["BAD-USD is not a valid product", "BAD-USD is delisted"])
def test_an_error_that_names_a_product_refuses_only_that_one(reason: str) -> None:
    frame = {"type": "error", "message": "Failed to subscribe", "reason": reason}
    assert peek(frame) == Rejection(f"Failed to subscribe: {reason}", symbol="BAD-USD")


@pytest.mark.loopback
def test_a_refused_product_does_not_affect_the_others() -> None:
    error = {"type": "error", "message": "Failed to subscribe", "reason": "BAD-USD is delisted"}
    rest = [{"name": "ticker", "product_ids": ["BTC-USD"]}]
    reasons = refused(
        CoinbaseExchange(),
        ["ticker:BTC-USD", "ticker:BAD-USD"],
        error,
        {"type": "subscriptions", "channels": rest},
    )
    assert reasons == {"ticker:BAD-USD": "Failed to subscribe: BAD-USD is delisted"}


@pytest.mark.parametrize("message", ["ErrSlowConsume", "ErrSlowRead", "Message too big"])
def test_an_error_of_the_connection_refuses_nothing(message: str) -> None:
    assert peek({"type": "error", "message": message}) == Notice(message)


def test_an_unknown_type_is_unhandled() -> None:
    assert peek({"type": "auction"}) == Unhandled("auction")
    assert peek({"type": "received", "product_id": "A-B"}) == Unhandled("received")


@pytest.mark.parametrize("raw", [b"", b"[1,2]", b"{}", b'{"type": 5}'])
def test_a_frame_unlike_coinbases_raises(raw: bytes) -> None:
    assert peek(raw) is Invalid


# --- in: data ------------------------------------------------------------------------------------

HEARTBEAT = {
    "type": "heartbeat",
    "sequence": 90,
    "last_trade_id": 20,
    "product_id": "BTC-USD",
    "time": "2014-11-07T08:19:28.464459Z",
}
MATCH = {"trade_id": 20, "sequence": 50, "product_id": "BTC-USD", "size": "1", "price": "2"}
TICKER = {"type": "ticker", "sequence": 50, "trade_id": 20, "product_id": "BTC-USD"}


def test_data_belongs_to_a_channel_and_a_product() -> None:
    assert peek(HEARTBEAT) == Data("heartbeat:BTC-USD", "heartbeat")
    assert peek({"type": "status", "products": []}) == Data("status", "status")
    frame = {"type": "l2update", "product_id": "BTC-USD", "changes": []}
    assert peek(frame) == Data("level2_batch:BTC-USD", "l2update")
    assert read(OF_2021, frame) == [Data("level2:BTC-USD", "l2update")]


def test_trades_are_numbered_by_their_id() -> None:
    assert peek({"type": "last_match", **MATCH}) == Data("matches:BTC-USD", "last_match", 20)
    assert peek({"type": "match", **MATCH}) == Data("matches:BTC-USD", "match", 20)


def test_a_ticker_is_not_numbered() -> None:
    """Its sequence is that of the full feed, of which it shows only a part."""
    assert peek(TICKER) == Data("ticker:BTC-USD", "ticker", None)


def test_the_full_feed_is_numbered_by_its_sequence() -> None:
    full = CoinbaseExchange(trades="full")
    frame = {"type": "open", "sequence": 51, "product_id": "BTC-USD"}
    assert read(full, {"type": "match", **MATCH}) == [Data("full:BTC-USD", "match", 50)]
    assert read(full, frame) == [Data("full:BTC-USD", "open", 51)]


# --- books ---------------------------------------------------------------------------------------


def test_the_channel_of_a_book() -> None:
    assert CoinbaseExchange().book.channel("BTC-USD", {}) == "level2_batch:BTC-USD"
    assert OF_2021.book.channel("BTC-USD", {}) == "level2:BTC-USD"
    assert CoinbaseExchange().book.depth({}) is None
    assert CoinbaseExchange().book.checksum([], []) is None


def test_a_snapshot_of_a_book() -> None:
    frame = {"type": "snapshot", "product_id": "A-B", "bids": [["10.10", "0.450"]], "asks": []}
    update = CoinbaseExchange().book.update(message(frame))
    assert update == BookUpdate(True, [(Decimal("10.10"), Decimal("0.450"))], [])
    assert str(update.bids[0]) == "(Decimal('10.10'), Decimal('0.450'))"


def test_an_update_of_a_book() -> None:
    changes = [["buy", "10.1", "0.0"], ["sell", "10.3", "2"], ["buy", "10.0", "1"]]
    frame = {"type": "l2update", "product_id": "A-B", "changes": changes}
    bids = [(Decimal("10.1"), Decimal("0")), (Decimal("10.0"), Decimal("1"))]
    update = CoinbaseExchange().book.update(message(frame))
    assert update == BookUpdate(False, bids, [(Decimal("10.3"), Decimal("2"))])


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "ticker"},
        {"type": "l2update"},
        {"type": "l2update", "changes": [["hold", "1", "2"]]},
        {"type": "snapshot", "bids": []},
    ],
)
def test_an_invalid_book_message_raises(frame: dict[str, Any]) -> None:
    found = Message("level2_batch:A-B", raw=msgspec.json.encode(frame))
    with pytest.raises(msgspec.ValidationError):
        CoinbaseExchange().book.update(found)


# --- recorded ------------------------------------------------------------------------------------


def test_the_recorded_answers_are_cumulative() -> None:
    lines = payloads("coinbase_exchange/COINBASE.ws.28.0")
    answers = [peek(raw) for raw in lines if b'"subscriptions"' in raw]
    found = [{channel.partition(":")[0] for channel in a.channels} for a in answers]
    assert found == [{"level2"}, {"level2", "ticker"}, {"level2", "ticker", "matches"}]
    assert [len(a.channels) for a in answers] == [10, 20, 30]


# --- the account ---------------------------------------------------------------------------------


def test_messages_of_the_own_orders_are_those_of_the_channel_user() -> None:
    dialect = CoinbaseExchange()
    public = {"type": "match", "product_id": "BTC-USD", "trade_id": 5, "sequence": 9}
    assert peek(public) == Data("matches:BTC-USD", "match", 5)
    assert peek({**public, "user_id": "u"}) == Data("user:BTC-USD", "match")
    opened = {"type": "open", "product_id": "BTC-USD", "sequence": 9, "user_id": "u"}
    assert peek(opened) == Data("user:BTC-USD", "open")
    assert dialect.subscribe(["user:BTC-USD"], 1, {}) == {
        "type": "subscribe",
        "channels": [{"name": "user", "product_ids": ["BTC-USD"]}],
    }
    assert dialect.needs_credentials("user:BTC-USD", {})
    assert not dialect.needs_credentials("matches:BTC-USD", {})


def test_with_the_full_feed_the_own_orders_are_a_part_of_it() -> None:
    dialect = CoinbaseExchange(trades="full")
    opened = {"type": "open", "product_id": "BTC-USD", "sequence": 9, "user_id": "u"}
    assert read(dialect, opened) == [Data("full:BTC-USD", "open", 9)]
