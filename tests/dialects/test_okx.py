"""OKX v5: the frames of its documentation, and recordings from when it sent checksums."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import zlib
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest

import wsclient
from support.reading import Data, message_in, read_one
from support.recordings import Bench, marks, messages_of, refused, there, updates_of
from wsclient.dialect.books import BookUpdate
from wsclient.dialect.values import Credentials
from wsclient.dialects import OKX
from wsclient.errors import ConfigurationError
from wsclient.messages import LinkedMessage, Message
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
from wsclient.testing import FakeVenue
from wsclient.testing.protocols import Payload, ScriptedProtocol
from wsclient.testing.venue import Peer

RECORDING = "okx/OKX.ws.1.0"
INSTRUMENTS = ("BTC-USD-220527", "UNI-USD-SWAP", "BTC-USDT")


peek = partial(read_one, OKX())
message = partial(message_in, OKX())


def book(
    sequence: int, previous: int, *, action: str = "update", bids: Any = (), **more: Any
) -> dict[str, Any]:
    row = {"asks": [], "bids": list(bids), "ts": "1", "seqId": sequence, "prevSeqId": previous}
    arg = {"channel": "books", "instId": "BTC-USDT"}
    return {"arg": arg, "action": action, "data": [{**row, **more}]}


# --- out -----------------------------------------------------------------------------------------


def test_one_message_subscribes_to_several_channels() -> None:
    assert OKX().subscribe(["books:BTC-USDT", "tickers:ETH-USDT"], 1512, {}) == {
        "id": "1512",
        "op": "subscribe",
        "args": [
            {"channel": "books", "instId": "BTC-USDT"},
            {"channel": "tickers", "instId": "ETH-USDT"},
        ],
    }


def test_options_become_fields_of_the_args() -> None:
    assert OKX().unsubscribe(["instruments"], 7, {"instType": "SPOT"}) == {
        "id": "7",
        "op": "unsubscribe",
        "args": [{"channel": "instruments", "instType": "SPOT"}],
    }


OPTION = {"instType": "OPTION"}
#: A channel, its options, and the arg that they make together.
BY_OTHER_NAMES: list[tuple[str, dict[str, str], dict[str, str]]] = [
    ("opt-summary:BTC-USD", {}, {"channel": "opt-summary", "instFamily": "BTC-USD"}),
    (
        "option-trades:BTC-USD",
        OPTION,
        {**OPTION, "channel": "option-trades", "instFamily": "BTC-USD"},
    ),
    (
        "option-trades:BTC-USD-261225-90000-C",
        OPTION,
        {**OPTION, "channel": "option-trades", "instId": "BTC-USD-261225-90000-C"},
    ),
    (
        "sprd-tickers:BTC-USDT_BTC-USDT-SWAP",
        {},
        {"channel": "sprd-tickers", "sprdId": "BTC-USDT_BTC-USDT-SWAP"},
    ),
    (
        "orders:BTC-USDT",
        {"instType": "SWAP", "instFamily": "BTC-USDT"},
        {"instType": "SWAP", "channel": "orders", "instFamily": "BTC-USDT"},
    ),
    ("orders:BTC-USDT", {}, {"channel": "orders", "instId": "BTC-USDT"}),
]


@pytest.mark.parametrize(("channel", "options", "arg"), BY_OTHER_NAMES)
def test_a_channel_of_a_family_or_a_spread_keeps_it_in_its_name(
    channel: str, options: dict[str, str], arg: dict[str, str]
) -> None:
    assert OKX().subscribe([channel], 1, options)["args"] == [arg]
    ack = peek({"id": "1", "event": "subscribe", "arg": arg})
    assert ack == Ack("1", channel, verb="subscribe")
    assert peek({"arg": arg, "data": [{"ts": "1"}]}) == Data(channel, "update")


def test_a_family_that_is_not_in_the_channels_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'opt-summary:BTC-USD'"):
        OKX().subscribe(["opt-summary"], 1, {"instFamily": "BTC-USD"})


def test_an_option_that_names_the_channel_does_not_change_it() -> None:
    request = OKX().subscribe(["books:BTC-USDT"], 1, {"channel": "books5"})
    assert request["args"] == [{"channel": "books", "instId": "BTC-USDT"}]


def test_the_limits_of_the_venue() -> None:
    assert OKX().limits.connects == (3, 1.0)
    channels = [f"tickers:{n}-USDT" for n in range(120)]
    assert [len(batch) for batch in OKX().batches(channels)] == [50, 50, 20]


def test_a_ping_is_text_and_is_sent_before_the_venue_closes() -> None:
    payload, interval = OKX().keepalive
    assert payload == "ping"
    assert interval < OKX().silence_timeout <= 30.0


def test_a_login_carries_the_signature() -> None:
    given = {"api_key": "K", "secret": "secret", "passphrase": "P"}
    digest = hmac.new(b"secret", b"1538054050GET/users/self/verify", hashlib.sha256).digest()
    sign = base64.b64encode(digest).decode()
    assert OKX().login(Credentials(given, lambda: 1538054050.9)) == {
        "op": "login",
        "args": [{"apiKey": "K", "passphrase": "P", "timestamp": "1538054050", "sign": sign}],
    }


# --- in: answers ---------------------------------------------------------------------------------

ARG = {"channel": "books", "instId": "BTC-USDT"}


def test_an_acknowledgement_confirms_one_arg() -> None:
    frame = {"id": "1512", "event": "subscribe", "arg": ARG, "connId": "a4d3ae55"}
    for verb in ("subscribe", "unsubscribe"):
        assert peek({**frame, "event": verb}) == Ack("1512", "books:BTC-USDT", verb=verb)


def test_an_acknowledgement_may_have_no_id() -> None:
    ack = peek({"event": "subscribe", "arg": ARG})
    assert ack == Ack(None, "books:BTC-USDT", verb="subscribe")
    frame = {"event": "subscribe", "arg": {"channel": "instruments", "instType": "SPOT"}}
    assert peek(frame) == Ack(None, "instruments", verb="subscribe")


def test_an_error_is_matched_by_the_id_of_the_request() -> None:
    frame = {
        "id": "1512",
        "event": "error",
        "code": "60012",
        "msg": "Invalid request",
        "connId": "",
    }
    assert peek(frame) == Rejection("Invalid request (60012)", "1512")


def test_an_error_that_names_a_channel_refuses_only_that_one() -> None:
    text = "Wrong URL or channel:tickers,instId:NMR-USDT doesn't exist. Please use the correct URL"
    item = peek({"id": "3", "event": "error", "code": "60018", "msg": text})
    assert item == Rejection(f"{text} (60018)", "3", "tickers:NMR-USDT")


@pytest.mark.parametrize(
    ("fields", "channel"),
    [
        ("channel:opt-summary,instFamily:X-Y", "opt-summary:X-Y"),
        ("channel:option-trades,instType:OPTION,instFamily:X-Y", "option-trades:X-Y"),
        ("channel:sprd-tickers,sprdId:A_B", "sprd-tickers:A_B"),
        ("channel:odd", "odd"),
    ],
)
def test_an_error_names_any_kind_of_channel(fields: str, channel: str) -> None:
    text = f"Wrong URL or {fields} doesn't exist. Please use the correct URL"
    item = peek({"id": "3", "event": "error", "code": "60018", "msg": text})
    assert item == Rejection(f"{text} (60018)", "3", channel)


@pytest.mark.loopback
def test_a_refused_channel_does_not_affect_the_others() -> None:
    text = "Wrong URL or channel:tickers,instId:BAD doesn't exist."
    reasons = refused(
        OKX(),
        ["tickers:BAD", "tickers:BTC-USDT"],
        {"event": "error", "code": "60018", "msg": text, "connId": "a"},
        {"event": "subscribe", "arg": {"channel": "tickers", "instId": "BTC-USDT"}},
    )
    assert reasons == {"tickers:BAD": f"{text} (60018)"}


def test_the_answers_to_a_login() -> None:
    assert peek({"event": "login", "code": "0", "msg": "", "connId": "a"}) == LoginAccepted()
    frame = {"event": "error", "code": "60009", "msg": "Login failed.", "connId": "a"}
    assert peek(frame) == LoginRefused("Login failed. (60009)")


def test_the_error_that_a_login_is_needed_refuses_the_subscribe() -> None:
    frame = {"id": "1", "event": "error", "code": "60011", "msg": "Please log in"}
    assert peek(frame) == Rejection("Please log in (60011)", "1", is_one=True)


@pytest.mark.loopback
def test_an_error_that_names_no_channel_does_not_affect_acknowledged_channels() -> None:
    channels = ["tickers:BTC-JPY", "books:BTC-JPY"]
    reasons = refused(
        OKX(),
        channels,
        {"id": "1", "event": "error", "code": "60011", "msg": "Please log in", "connId": "a"},
        {"id": "1", "event": "subscribe", "arg": {"channel": "books", "instId": "BTC-JPY"}},
    )
    assert reasons == {"tickers:BTC-JPY": "Please log in (60011)"}


@pytest.mark.loopback
@pytest.mark.parametrize("code", ["60012", "60014", "60019"])
def test_some_errors_refuse_a_request_as_a_whole(code: str) -> None:
    channels = ["books:A-B", "books:C-D"]
    error = {"id": "1", "event": "error", "code": code, "msg": "Invalid request"}
    assert set(refused(OKX(), channels, error)) == set(channels)


@pytest.mark.parametrize(("code", "text"), [("63999", "Internal system error"), ("60013", "odd")])
def test_an_error_without_an_id_that_is_about_no_subscribe_refuses_none(
    code: str, text: str
) -> None:
    item = peek({"event": "error", "code": code, "msg": text, "connId": "a"})
    assert item == Notice(f"{text} ({code})")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("60011", "Please log in"),
        ("60012", 'Invalid request: {"op": "subscribe", "args":[]}'),
        ("60008", "The current WebSocket endpoint does not support subscribing to A channels"),
    ],
)
def test_an_error_without_an_id_may_refuse_a_subscribe(code: str, text: str) -> None:
    assert isinstance(peek({"event": "error", "code": code, "msg": text}), Rejection)


def test_an_announced_upgrade_ends_the_connection_in_a_minute() -> None:
    text = "The connection will soon be closed for a service upgrade. Please reconnect."
    frame = {"event": "notice", "code": "64008", "msg": text, "connId": "a4d3ae55"}
    assert peek(frame) == Ending(f"{text} (64008)", 60.0)
    assert peek({**frame, "code": "64009"}) == Notice(f"{text} (64009)")


def test_the_messages_about_the_number_of_connections() -> None:
    frame = {"event": "channel-conn-count", "channel": "orders", "connCount": "2", "connId": "a"}
    assert peek(frame) == Heartbeat()


def test_a_channel_that_too_many_connections_have_is_subscribed_to_again() -> None:
    bench = Bench(OKX())
    bench.rig.subscribe("orders:BTC-USDT", "account")
    for arg in ({"channel": "orders", "instId": "BTC-USDT"}, {"channel": "account"}):
        bench.feed(json.dumps({"id": "1", "event": "subscribe", "arg": arg}).encode())
    frame = {"channel": "orders", "connCount": "30", "connId": "a"}
    bench.feed(json.dumps({"event": "channel-conn-count-error", **frame}).encode())
    _, *again = bench.rig.sent()
    assert [(sent["op"], sent["args"]) for sent in again] == [
        ("unsubscribe", [{"channel": "orders", "instId": "BTC-USDT"}]),
        ("subscribe", [{"channel": "orders", "instId": "BTC-USDT"}]),
    ]


def test_a_pong_is_text() -> None:
    assert peek(b"pong") == Heartbeat()


def test_unknown_events() -> None:
    assert peek({"event": "odd"}) == Unhandled("odd")
    assert peek({"code": "0", "data": []}) == Unhandled("")


@pytest.mark.parametrize("raw", [b"", b"ping", b"[1,2]", b'{"arg": 5}', b'{"arg": {}}'])
def test_a_frame_unlike_okxs_raises(raw: bytes) -> None:
    assert peek(raw) is Invalid


# --- in: data ------------------------------------------------------------------------------------


def test_data_belongs_to_a_channel_and_an_instrument() -> None:
    frame = {"arg": {"channel": "tickers", "instId": "BTC-USDT"}, "data": [{"last": "1"}]}
    assert peek(frame) == Data("tickers:BTC-USDT", "update")
    candles = {"arg": {"channel": "candle1m", "instId": "BTC-USDT"}, "data": [["1", "2", "3"]]}
    assert peek(candles) == Data("candle1m:BTC-USDT", "update")


def test_a_number_without_a_link_is_no_sequence_number() -> None:
    """Trades and books5 have such numbers; they do not rise by 1."""
    frame = {"arg": {"channel": "trades", "instId": "A-B"}, "data": [{"px": "1", "seqId": 9}]}
    assert peek(frame) == Data("trades:A-B", "update", None)


def test_a_message_of_several_rows_is_not_numbered() -> None:
    frame = book(15, 10)
    frame["data"] *= 2
    assert peek(frame) == Data("books:BTC-USDT", "update", None)


def test_a_message_is_linked_to_the_one_before() -> None:
    found = message(book(15, 10))
    assert isinstance(found, LinkedMessage)
    assert (found.sequence, found.follows, found.is_counted) == (15, 10, False)


def test_a_snapshot_is_linked_to_nothing() -> None:
    found = message(book(10, -1, action="snapshot"))
    assert isinstance(found, LinkedMessage)
    assert (found.type, found.sequence, found.follows) == ("snapshot", 10, None)


def lines(*frames: dict[str, Any]) -> list[bytes]:
    return [msgspec.json.encode(frame) for frame in frames]


def test_a_minute_without_a_change_is_no_gap() -> None:
    stream = lines(book(10, -1, action="snapshot"), book(15, 10), book(15, 15), book(17, 15))
    assert marks(OKX(), stream) == []


def test_numbers_that_start_again_after_maintenance_are_no_gap() -> None:
    stream = lines(book(10, -1, action="snapshot"), book(15, 10), book(3, 15), book(5, 3))
    assert marks(OKX(), stream) == []


def test_numbers_that_start_again_without_the_link_are_a_gap() -> None:
    stream = lines(book(10, -1, action="snapshot"), book(3, 15), book(5, 3))
    assert [i for i, _ in marks(OKX(), stream)] == [1]


# --- books ---------------------------------------------------------------------------------------


def test_the_channel_of_a_book() -> None:
    assert OKX().book.channel("BTC-USDT", {}) == "books:BTC-USDT"
    assert OKX().book.channel("BTC-USDT", {"channel": "books5"}) == "books5:BTC-USDT"
    assert OKX().book.depth({}) is None


def test_an_update_of_a_book() -> None:
    frame = book(15, 10, bids=[["30189", "0", "0", "0"], ["30188.10", "1.50", "0", "2"]])
    update = OKX().book.update(message(frame))
    bids = [(Decimal("30189"), Decimal("0")), (Decimal("30188.10"), Decimal("1.50"))]
    assert update == BookUpdate(False, bids, [], None)
    assert str(update.bids[1][1]) == "1.50"


def test_a_checksum_fixed_at_0_is_none() -> None:
    update = OKX().book.update(message(book(15, 10, checksum=0)))
    assert update is not None
    assert update.checksum is None
    update = OKX().book.update(message(book(15, 10, checksum=-855196043)))
    assert update is not None
    assert update.checksum == -855196043


def test_with_a_checksum_fixed_at_0_the_sequence_numbers_decide() -> None:
    level = [["30189", "1", "0", "1"]]
    frames = lines(
        book(10, -1, action="snapshot", bids=level, checksum=0),
        book(15, 10, bids=[["30188", "2", "0", "1"]], checksum=0),
        book(19, 17, bids=[["30187", "3", "0", "1"]], checksum=0),
    )
    kept = wsclient.OrderBook("okx", "books:BTC-USDT")
    snapshot, update, late = Bench(OKX()).feed(*frames)
    assert kept.apply(snapshot)
    assert kept.apply(update)
    assert kept.bids() == [(30189, 1), (30188, 2)]
    assert not kept.apply(late)
    with pytest.raises(wsclient.OrderBookOutOfSync):
        kept.bids()


def test_each_message_of_a_book_without_an_action_is_a_snapshot() -> None:
    frame = {"arg": {"channel": "books5", "instId": "A-B"}, "data": [{"asks": [], "bids": []}]}
    update = OKX().book.update(message(frame))
    assert update == BookUpdate(True, [], [], None)


@pytest.mark.parametrize(
    "change", [{"action": "odd"}, {"data": []}, {"data": [{"asks": []}]}, {"data": [{}, {}]}]
)
def test_an_invalid_book_message_raises(change: dict[str, Any]) -> None:
    found = Message("books:BTC-USDT", raw=msgspec.json.encode({**book(1, 0), **change}))
    with pytest.raises(msgspec.ValidationError):
        OKX().book.update(found)


def test_a_checksum_continues_with_the_longer_side_alone() -> None:
    """As in the venue's example: bid:ask:bid, each number in the form in which it was sent."""
    bids = [(Decimal("3366.1"), Decimal("7")), (Decimal("0.00000001"), Decimal("6.10"))]
    asks = [(Decimal("3366.8"), Decimal("9"))]
    unsigned = zlib.crc32(b"3366.1:7:3366.8:9:0.00000001:6.10")
    signed = unsigned if unsigned < 2**31 else unsigned - 2**32
    assert OKX().book.checksum(bids, asks) == signed


# --- recorded ------------------------------------------------------------------------------------


def test_checksums_of_other_recorded_books_hold() -> None:
    """Only snapshots of whole books: longer ones were cut, so their checksums do not match."""
    rows = there("shapes/okx.tsv").read_text().splitlines()
    row = next(r for r in rows if r.startswith("l2_event.option_snapshot"))
    (update,) = updates_of(OKX(), messages_of(OKX(), [row.partition("\t")[2].encode()]))
    assert OKX().book.checksum(update.bids, update.asks) == update.checksum == 971343753


class _Answering(ScriptedProtocol):
    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = json.loads(payload)
        if request["op"] == "login":
            yield '{"event":"login","code":"0","msg":"","connId":"a"}'
        else:
            (arg,) = request["args"]
            yield json.dumps({"id": request["id"], "event": "subscribe", "arg": arg})


@pytest.mark.loopback
def test_each_connection_signs_its_own_login() -> None:
    made: list[str] = []

    def credentials() -> dict[str, str]:
        made.append(f"K{len(made)}")
        return {"api_key": made[-1], "secret": "5ecret", "passphrase": "P"}

    with (
        FakeVenue(_Answering()) as venue,
        wsclient.connect(
            venue.url, dialect="okx", credentials=credentials, retry_delay=0.01
        ) as client,
    ):
        client.subscribe("account", timeout=5)
        for n in range(2):
            peer = venue.accept()
            (arg,) = peer.expect_json()["args"]
            assert arg["apiKey"] == made[n]
            clock = partial(float, arg["timestamp"])
            given = {"api_key": made[n], "secret": "5ecret", "passphrase": "P"}
            assert OKX().login(Credentials(given, clock))["args"] == [arg]
            assert abs(clock() - time.time()) < 5
            assert peer.expect_json()["op"] == "subscribe"
            peer.rst()
    assert len(set(made)) == len(made)


# --- requests ------------------------------------------------------------------------------------

ROW = {"ordId": "1", "clOrdId": "a", "tag": "", "ts": "1", "sCode": "0", "sMsg": "", "subCode": ""}
FAILED = {**ROW, "ordId": "", "sCode": "51008", "sMsg": "Insufficient balance"}


def test_a_request_has_an_id_unlike_those_of_subscribes() -> None:
    request = OKX().request({"op": "order", "args": [{}], "id": "mine"}, 7)
    assert request == {"op": "order", "args": [{}], "id": "r7"}
    assert OKX().subscribe(["orders"], 7, {})["id"] == "7"


@pytest.mark.parametrize(
    ("code", "rows", "error"),
    [
        ("0", [ROW], None),
        ("1", [FAILED], "Insufficient balance (51008)"),
        ("60013", [], "Invalid args (60013)"),
    ],
)
def test_the_answer_to_a_request_about_orders(code: str, rows: Any, error: str | None) -> None:
    answer = {"id": "r7", "op": "order", "code": code, "msg": "Invalid args", "data": rows}
    failed = {0: error} if rows and error else None
    assert peek(answer) == Reply("7", answer, error, failed)


def test_a_request_that_the_venue_takes_for_wrong_is_answered() -> None:
    answer = {"id": "r7", "event": "error", "code": "60011", "msg": "Please log in"}
    assert peek(answer) == Reply("7", answer, "Please log in (60011)")


def test_the_answer_to_an_order_that_was_sent_is_not_one_to_a_request() -> None:
    assert peek({"id": "7", "op": "order", "code": "0", "msg": "", "data": [ROW]}) == Unhandled("")


def _batch(code: str, *codes: str) -> dict[str, Any]:
    texts = {"51008": "Order failed. Insufficient balance", "51603": "Order does not exist"}
    rows = [{"ordId": "1", "sCode": code, "sMsg": texts.get(code, "")} for code in codes]
    return {"id": "r5", "op": "batch-orders", "code": code, "msg": "", "data": rows}


def test_a_batch_that_was_partly_refused_names_the_orders() -> None:
    frame = _batch("2", "0", "51008", "0", "51603")
    assert peek(frame) == Reply(
        "5",
        frame,
        failed={
            1: "Order failed. Insufficient balance (51008)",
            3: "Order does not exist (51603)",
        },
    )


def test_a_batch_that_was_refused_names_the_first_reason_and_all_orders() -> None:
    frame = _batch("1", "51008", "51603")
    reasons = ["Order failed. Insufficient balance (51008)", "Order does not exist (51603)"]
    assert peek(frame) == Reply("5", frame, reasons[0], dict(enumerate(reasons)))


def test_a_batch_that_succeeded_has_no_refused_orders() -> None:
    frame = _batch("0", "0", "0")
    assert peek(frame) == Reply("5", frame)


def test_a_request_with_a_wrong_format_is_refused_as_a_whole() -> None:
    frame = {"id": "r5", "op": "order", "code": "60013", "msg": "Invalid args", "data": []}
    assert peek(frame) == Reply("5", frame, "Invalid args (60013)")


@pytest.mark.parametrize("code", [0, "0", None, ""])
def test_only_a_code_that_is_not_zero_refuses_an_order(code: Any) -> None:
    rows = [{"ordId": "1", "sCode": code}, [], FAILED]
    frame = {"id": "r5", "op": "batch-orders", "code": "2", "msg": "", "data": rows}
    assert peek(frame) == Reply("5", frame, failed={2: "Insufficient balance (51008)"})


@pytest.mark.parametrize("given", [{}, {"code": "2"}, {"code": "2", "data": [ROW]}])
def test_an_answer_that_names_no_refused_order_leaves_the_outcome_unknown(given: Any) -> None:
    frame = {"id": "r5", "op": "batch-orders", **given}
    text = "the answer does not say what has failed"
    assert peek(frame) == Reply("5", frame, text, is_unknown=True)
