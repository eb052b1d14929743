"""Bitfinex: numbers of channels, numbered frames, checksums, and a recording."""

from __future__ import annotations

import hashlib
import hmac
import json
import zlib
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

import wsclient
from support.making import message
from support.reading import Data, read, read_one
from support.recordings import Bench, Script, payloads
from support.rig import Rig
from wsclient.dialect.books import BookUpdate
from wsclient.dialect.values import Credentials
from wsclient.dialects import Bitfinex, find
from wsclient.dialects.bitfinex import javascript_number
from wsclient.errors import ConfigurationError, NotSupported, SubscriptionRejected
from wsclient.events import Noticed
from wsclient.messages import Message, SubscriptionState
from wsclient.sansio.floods import EVENT_INTERVAL
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import (
    Ack,
    Counted,
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

BOOK = "book:tBTCUSD"
PLAIN = Bitfinex(sequences=False)


peek = partial(read_one, PLAIN)


# --- out -----------------------------------------------------------------------------------------


def test_a_subscribe_names_a_channel_a_symbol_and_our_id() -> None:
    options = {"prec": "P0", "freq": "F0", "len": "25"}
    assert Bitfinex().subscribe([BOOK], 7, options) == {
        "event": "subscribe",
        "channel": "book",
        "symbol": "tBTCUSD",
        "prec": "P0",
        "freq": "F0",
        "len": "25",
        "subId": "7",
    }


def test_candles_are_subscribed_to_by_a_key() -> None:
    message = Bitfinex().subscribe(["candles:trade:1m:tBTCUSD"], 7, {})
    assert (message["channel"], message["key"]) == ("candles", "trade:1m:tBTCUSD")
    assert "symbol" not in message


def test_an_option_that_is_a_field_of_the_protocol_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'subId'"):
        Bitfinex().subscribe([BOOK], 7, {"subId": "x"})


def test_a_message_takes_one_channel() -> None:
    assert [list(batch) for batch in Bitfinex().batches(["a:b", "c:d"])] == [["a:b"], ["c:d"]]


def test_a_login_carries_the_signature() -> None:
    given = {"api_key": "K", "secret": "5ecret"}
    payload = "AUTH1616492376594512"
    assert Bitfinex().login(Credentials(given, lambda: 1616492376.594512)) == {
        "event": "auth",
        "apiKey": "K",
        "authSig": hmac.new(b"5ecret", payload.encode(), hashlib.sha384).hexdigest(),
        "authPayload": payload,
        "authNonce": "1616492376594512",
    }


def test_an_unsubscribe_uses_the_venues_number_of_the_channel() -> None:
    message = Bitfinex().unsubscribe(["#232955"], 7, {"prec": "P0"})
    assert message == {"event": "unsubscribe", "chanId": 232955}


def test_unsubscribing_from_a_channel_without_a_number_raises() -> None:
    with pytest.raises(NotSupported, match=BOOK):
        Bitfinex().unsubscribe([BOOK], 7, {})


def test_a_ping_carries_our_id() -> None:
    assert Bitfinex().request({"event": "ping"}, 7) == {"event": "ping", "cid": 7}


@pytest.mark.parametrize(
    ("sequences", "checksums", "flags"),
    [(True, False, 65536), (False, True, 131072), (True, True, 196608)],
)
def test_flags_are_sent_first_on_each_connection(
    sequences: bool, checksums: bool, flags: int
) -> None:
    rig = Rig(Bitfinex(sequences=sequences, checksums=checksums)).open()
    rig.subscribe(BOOK)
    for _ in range(2):
        conf, subscribe = rig.sent()
        assert conf == {"event": "conf", "flags": flags}
        assert subscribe["event"] == "subscribe"
        rig.drop()
        rig.open()


def test_without_flags_nothing_is_configured() -> None:
    assert not Bitfinex(sequences=False, checksums=False).opening
    assert Bitfinex().opening == [{"event": "conf", "flags": 196608}]


def test_limits() -> None:
    limits = Bitfinex().limits
    assert limits.channels_per_message == 1
    assert limits.channels_per_connection == 25
    assert limits.connects == (5, 15.0)
    assert Bitfinex().silence_timeout == 45.0
    assert Bitfinex().keepalive == ({"event": "ping"}, 15.0)
    assert type(find("bitfinex")) is Bitfinex


# --- in: answers ---------------------------------------------------------------------------------

SUBSCRIBED = {
    "event": "subscribed",
    "channel": "book",
    "chanId": 232955,
    "symbol": "tBTCUSD",
    "prec": "P0",
    "freq": "F0",
    "len": "25",
    "subId": "1",
    "pair": "BTCUSD",
}


def test_an_acknowledgement_gives_the_channel_a_number() -> None:
    assert peek(SUBSCRIBED) == Ack("1", BOOK, alias="#232955", verb="subscribe")
    without_id = {k: v for k, v in SUBSCRIBED.items() if k != "subId"}
    assert peek(without_id) == Ack(None, BOOK, alias="#232955", verb="subscribe")


def test_an_acknowledgement_by_key() -> None:
    frame = {"event": "subscribed", "channel": "candles", "chanId": 3, "key": "trade:1m:tBTCUSD"}
    channel = "candles:trade:1m:tBTCUSD"
    assert peek(frame) == Ack(None, channel, alias="#3", verb="subscribe")


def test_the_answer_to_an_unsubscribe_names_the_number() -> None:
    frame = {"event": "unsubscribed", "status": "OK", "chanId": 232955}
    assert peek(frame) == Ack(channel="#232955", verb="unsubscribe")


def test_a_channel_is_known_by_its_number_until_the_unsubscribe() -> None:
    bench = Bench(PLAIN)
    token = bench.rig.subscribe(BOOK)
    bench.feed(json.dumps(SUBSCRIBED).encode())
    assert bench.rig.outcome(token) is None
    (delivered,) = bench.feed(b"[232955,[60400,1,0.5]]")
    assert (delivered.channel, delivered.type) == (BOOK, "update")
    token = bench.rig.unsubscribe(BOOK)
    assert bench.rig.sent()[-1] == {"event": "unsubscribe", "chanId": 232955}
    bench.feed(b'{"event":"unsubscribed","status":"OK","chanId":232955}')
    assert bench.rig.outcome(token) is None
    assert bench.rig.supervisor.wanted.state(BOOK) is None


def test_a_channel_that_the_venue_ends_is_subscribed_to_again() -> None:
    bench = Bench(PLAIN)
    bench.rig.subscribe(BOOK)
    bench.feed(json.dumps(SUBSCRIBED).encode())
    bench.feed(b'{"event":"unsubscribed","status":"OK","chanId":232955}')
    assert [sent["event"] for sent in bench.rig.sent()] == ["conf", "subscribe", "subscribe"]


@pytest.mark.parametrize(
    ("frame", "rejection"),
    [
        (
            {"msg": "symbol: invalid", "code": 10300, "subId": "1", "pair": "X"},
            Rejection("symbol: invalid (10300)", "1"),
        ),
        (
            {"msg": "dup", "code": 10301, "subId": "1", "channel": "book", "symbol": "tX"},
            Rejection("dup (10301)", "1", keeps_active=True),
        ),
        (
            {"msg": "dup", "code": 10301, "channel": "book", "symbol": "tX"},
            Rejection("dup (10301)", None, "book:tX", keeps_active=True),
        ),
        (
            {"channel": "bogus-channel", "msg": "channel: unknown", "code": 10300},
            Rejection("channel: unknown (10300)", name="bogus-channel"),
        ),
        ({"msg": "unknown pair", "code": 10001}, Rejection("unknown pair (10001)")),
        ({"msg": "limit", "code": 10305}, Rejection("limit (10305)", is_limit=True)),
        (
            {"msg": "limit", "code": 10305, "channel": "book", "subId": "7"},
            Rejection("limit (10305)", "7", is_limit=True),
        ),
        (
            {"msg": "limit", "code": 10305, "channel": "book"},
            Rejection("limit (10305)", name="book", is_limit=True),
        ),
        ({"msg": "no", "code": 10400, "chanId": 5}, Rejection("no (10400)", None, "#5")),
        ({"code": 10302}, Rejection("no reason given (10302)")),
    ],
)
def test_an_error_refuses_what_it_names_or_the_oldest_request(
    frame: dict[str, Any], rejection: Rejection
) -> None:
    assert peek({"event": "error", **frame}) == rejection


@pytest.mark.parametrize("channel", ["bogus-channel", "bogus-channel:tBTCUSD"])
def test_an_error_without_the_symbol_refuses_the_channel_of_that_name(channel: str) -> None:
    bench = Bench(PLAIN)
    other, token = bench.rig.subscribe("ticker:tX"), bench.rig.subscribe(channel)
    error = {"event": "error", "channel": "bogus-channel", "msg": "channel: unknown"}
    bench.feed(json.dumps({**error, "code": 10300}).encode())
    assert bench.rig.outcome(other) == "waiting"
    refused = bench.rig.outcome(token)
    assert isinstance(refused, SubscriptionRejected)
    assert refused.failed == {channel: "channel: unknown (10300)"}


def test_a_refused_channel_is_an_error() -> None:
    bench = Bench(PLAIN)
    token = bench.rig.subscribe("ticker:tX")
    bench.feed(b'{"event":"error","msg":"symbol: invalid","code":10300,"subId":"1"}')
    assert isinstance(bench.rig.outcome(token), SubscriptionRejected)


@pytest.mark.parametrize("code", [10000, 10020, 10299, 10500])
def test_an_error_that_is_about_no_subscription_is_a_notice(code: int) -> None:
    assert peek({"event": "error", "msg": "bad", "code": code}) == Notice(f"bad ({code})")


def test_a_restart_of_the_server_ends_the_connection_at_a_time_that_is_not_stated() -> None:
    frame = {"event": "info", "code": 20051, "msg": "Stopping. Please try to reconnect"}
    assert peek(frame) == Ending("Stopping. Please try to reconnect (20051)")


@pytest.mark.parametrize("code", [20060, 20061])
def test_the_connection_stays_during_maintenance(code: int) -> None:
    frame = {"event": "info", "code": code, "msg": "maintenance"}
    assert peek(frame) == Notice(f"maintenance ({code})")


def test_the_greeting_is_filtered_unless_the_venue_is_in_maintenance() -> None:
    greeting = {"event": "info", "version": 2, "serverId": "x", "platform": {"status": 1}}
    assert peek(greeting) == Heartbeat()
    assert peek({**greeting, "platform": {"status": 0}}) == Notice("the platform is in maintenance")


def test_refused_flags_are_a_notice() -> None:
    assert peek({"event": "conf", "status": "OK", "flags": 65536}) == Heartbeat()
    assert isinstance(peek({"event": "conf", "status": "FAILED"}), Notice)


def test_a_pong_is_the_reply_to_our_ping() -> None:
    frame = {"event": "pong", "ts": 1, "cid": 7}
    assert peek(frame) == Reply(7, frame)
    assert peek({"event": "pong", "ts": 1}) == Heartbeat()


def test_any_other_event_is_unhandled() -> None:
    assert peek({"event": "odd"}) == Unhandled("odd")


def test_the_answer_to_a_login() -> None:
    answer = {"event": "auth", "status": "OK", "chanId": 0, "userId": 5, "auth_id": "a"}
    assert peek(answer) == LoginAccepted()
    refusal = {"event": "auth", "status": "FAILED", "chanId": 0, "code": 10100, "msg": "no"}
    assert peek(refusal) == LoginRefused("no (10100)")


@pytest.mark.parametrize("frame", [b"", b"[]", b"[1]", b"5", b"{}", b'["x","hb"]', b'[1,5,"x"]'])
def test_an_invalid_frame_raises(frame: bytes) -> None:
    assert peek(frame) is Invalid


# --- in: data ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "item"),
    [
        (b'[5,"hb"]', Heartbeat()),
        (b"[5,[60400,1,0.5]]", Data("#5", "update")),
        (b"[5,[[60400,1,0.5],[60401,1,-2]]]", Data("#5", "snapshot")),
        (b"[5,[]]", Data("#5", "snapshot")),
        (b'[5,"te",[1,2,3,4]]', Data("#5", "te")),
        (b'[5,"cs",-123]', Data("#5", "checksum")),
        (b" [ 5 , [ [ 1 , 2 , 3 ] ] ] ", Data("#5", "snapshot")),
        (b'[5,[1,2,3],"more"]', Data("#5", "update")),
    ],
)
def test_how_each_frame_is_read(frame: bytes, item: Any) -> None:
    assert peek(frame) == item


@pytest.mark.parametrize(
    ("frame", "item"),
    [
        (b'[5,"hb",9]', Heartbeat()),
        (b"[5,[60400,1,0.5],9]", Data("#5", "update")),
        (b'[5,"te",[1,2,3,4],9]', Data("#5", "te")),
        (b'[5,"cs",-123,9]', Data("#5", "checksum")),
        (b'[5,[1,2,3],9,"more"]', Data("#5", "update")),
        (b'[0,"hb",9]', Heartbeat()),
        (b'[0,"ws",[["exchange","BTC",1,0,1]],9,1]', Data("account", "ws")),
        (b'[0,"n",[1,"oc-req"],9]', Data("account", "n")),
    ],
)
def test_with_the_flag_the_number_behind_the_payload_is_the_frames_sequence(
    frame: bytes, item: Any
) -> None:
    assert read(Bitfinex(), frame) == [Counted(9), item]


def test_a_frame_without_its_number_raises() -> None:
    assert read_one(Bitfinex(), b"[5,[60400,1,0.5]]") is Invalid


def test_a_lost_frame_may_have_been_data_and_is_a_gap_of_each_channel() -> None:
    bench = Bench(Bitfinex())
    bench.rig.subscribe(BOOK)
    bench.feed(json.dumps(SUBSCRIBED).encode(), b"[232955,[1,1,1],1]")
    assert bench.marks([b'[7,"hb",2]', b'[7,"hb",4]', b"[232955,[1,1,1],5]"]) == [(2, "sequence")]


def test_a_new_connection_starts_counting_again() -> None:
    bench = Bench(Bitfinex())
    bench.rig.subscribe(BOOK)
    bench.feed(json.dumps(SUBSCRIBED).encode(), b"[232955,[1,1,1],1]")
    bench.rig.drop()
    bench.rig.open()
    again = {**SUBSCRIBED, "chanId": 5, "subId": bench.rig.sent()[-1]["subId"]}
    frames = [json.dumps(again).encode(), b"[5,[[1,1,1]],1]", b"[5,[1,1,1],2]"]
    assert bench.marks(frames) == [(1, "reconnect")]
    assert bench.rig.supervisor.wanted.state(BOOK) is SubscriptionState.ACTIVE
    assert not [text for text in bench.rig.logs("warning") if "jumped" in text]


# --- books ---------------------------------------------------------------------------------------


def update_of(raw: bytes, type: str = "update") -> BookUpdate:
    update = PLAIN.book.update(message(BOOK, type, raw=raw))
    assert update is not None
    return update


@pytest.mark.parametrize(
    ("raw", "bids", "asks"),
    [
        (b"[5,[60400,1,0.50],9]", [("60400", "0.50")], []),
        (b"[5,[2e-8,3,-1.25],9]", [], [("2E-8", "1.25")]),
        (b"[5,[60400,0,1],9]", [("60400", "0")], []),
        (b"[5,[60400,0,-1],9]", [], [("60400", "0")]),
    ],
)
def test_a_row_of_a_book_keeps_its_digits(raw: bytes, bids: Any, asks: Any) -> None:
    update = update_of(raw)
    assert [(str(p), str(s)) for p, s in update.bids] == bids
    assert [(str(p), str(s)) for p, s in update.asks] == asks
    assert (update.is_snapshot, update.checksum) == (False, None)


def test_a_snapshot_has_both_sides() -> None:
    update = update_of(b"[5,[[1,1,2],[3,1,-4]]]", "snapshot")
    assert update == (True, [(1, 2)], [(3, 4)], None)
    assert update_of(b"[5,[]]", "snapshot") == (True, [], [], None)


def test_a_checksum_changes_nothing() -> None:
    assert update_of(b'[5,"cs",-123,9]', "checksum") == (False, [], [], -123)


def test_the_channel_of_a_book() -> None:
    assert PLAIN.book.channel("tBTCUSD", {"prec": "P0"}) == BOOK
    assert PLAIN.book.depth({"len": "25"}) is None
    with pytest.raises(NotSupported, match="R0"):
        PLAIN.book.channel("tBTCUSD", {"prec": "R0"})


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("2500", "2500"),
        ("2500.0", "2500"),
        ("2.5E+3", "2500"),
        ("-0.00023057", "-0.00023057"),
        ("0.000001", "0.000001"),
        ("1.50e-7", "1.5e-7"),
        ("-6e-8", "-6e-8"),
        ("0.00", "0"),
        ("100000000000000000000", "100000000000000000000"),
        ("1000000000000000000000", "1e+21"),
    ],
)
def test_a_number_is_printed_as_javascript_does(number: str, text: str) -> None:
    assert javascript_number(Decimal(number)) == text


# The two books in the tests of bitfinexcom/bitfinex-api-py, each with its updates.
XRP = b"""[123,[[0.0000886,1,1060.55466114],[0.00008859,1,1000],[0.00008858,1,2713.47159343],
[0.00008857,1,4276.92870916],[0.00008856,2,6764.75562319],[0.00008854,1,5641.48532401],
[0.00008853,1,2255.92632223],[0.0000885,1,2256.69584601],[0.00008848,2,3630.3],
[0.00008845,1,28195.70625766],[0.00008844,1,15571.7],[0.00008843,1,2500],
[0.00008841,1,64196.16117814],[0.00008838,1,7500],[0.00008837,2,2764.12999012],
[0.00008834,2,10886.476298],[0.00008831,1,20000],[0.0000883,1,1000],[0.00008829,2,2517.22175358],
[0.00008828,1,450.45],[0.00008827,1,13000],[0.00008824,1,1500],[0.0000882,1,300],
[0.00008817,1,3000],[0.00008816,1,100],[0.00008864,1,-481.8549041],[0.0000887,2,-2141.77009092],
[0.00008871,1,-2256.45433182],[0.00008872,1,-2707.58122743],[0.00008874,1,-5640.31794092],
[0.00008876,1,-29004.93294912],[0.00008878,1,-2500],[0.0000888,1,-20000],
[0.00008881,2,-2880.15595827],[0.00008882,1,-27705.42933984],[0.00008883,1,-4509.83708214],
[0.00008884,1,-1500],[0.00008885,1,-2500],[0.00008888,1,-902.91405442],[0.00008889,1,-900],
[0.00008891,1,-7500],[0.00008894,1,-775.08564697],[0.00008896,1,-150],
[0.00008899,3,-11628.02590049],[0.000089,2,-1299.7],[0.00008902,2,-4841.8],
[0.00008904,3,-25320.46250083],[0.00008909,1,-14000],[0.00008913,1,-123947.999],
[0.00008915,2,-28019.6]]]"""
VET = b"""[123,[[0.00000121,5,249013.0209708],[0.0000012,6,518315.33310128],
[0.00000119,4,566200.89],[0.00000118,2,260000],[0.00000117,1,100000],[0.00000116,2,160000],[0.00000114,1,60000],
[0.00000113,2,198500],[0.00000112,1,60000],[0.0000011,1,60000],[0.00000106,2,113868.87735849],
[0.00000105,2,105000],[0.00000103,1,3000],[0.00000102,2,105000],[0.00000101,2,202970],
[0.000001,2,21000],[7e-7,1,10000],[6.6e-7,1,10000],[6e-7,1,100000],[4.9e-7,1,10000],
[2.5e-7,1,2000],[6e-8,1,100000],[5e-8,1,200000],[1e-8,4,640000],[0.00000122,7,-312043.19],
[0.00000123,6,-415094.8939744],[0.00000124,5,-348181.23],[0.00000125,1,-12000],
[0.00000126,2,-143872.31],[0.00000127,1,-5000],[0.0000013,1,-5000],[0.00000134,1,-8249.18938656],
[0.00000135,2,-230043.1337899],[0.00000136,1,-13161.25184766],[0.00000145,1,-2914],
[0.0000015,3,-54448.5],[0.00000152,2,-5538.54849594],[0.00000153,1,-62691.75475079],
[0.00000159,1,-2914],[0.0000016,1,-52631.10296831],[0.00000164,1,-4000],
[0.00000166,1,-3831.46784605],[0.00000171,1,-14575.17730379],[0.00000174,1,-3124.81815395],
[0.0000018,1,-18000],[0.00000182,1,-16000],[0.00000186,1,-4000],[0.00000189,1,-10000.686624],
[0.00000191,1,-14500]]]"""


class Book:
    """The simplest possible order book."""

    def __init__(self) -> None:
        self._sides: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})

    def apply(self, update: BookUpdate) -> None:
        if update.is_snapshot:
            self._sides = ({}, {})
        for side, levels in zip(self._sides, (update.bids, update.asks), strict=True):
            for price, size in levels:
                if size:
                    side[price] = size
                else:
                    del side[price]

    @property
    def sides(self) -> list[list[tuple[Decimal, Decimal]]]:
        bids, asks = self._sides
        return [sorted(bids.items(), reverse=True), sorted(asks.items())]

    @property
    def checksum(self) -> int | None:
        return PLAIN.book.checksum(*self.sides)


@pytest.mark.parametrize(
    ("snapshot", "updates", "checksum"),
    [
        (
            XRP,
            [
                b"[123,[0.00008915,0,-1]]",
                b"[123,[0.00008837,1,56.54876269]]",
                b"[123,[0.00008873,1,-15699.9]]",
            ],
            30026640,
        ),
        (
            VET,
            [b"[123,[0.00000121,4,228442.6609708]]", b"[123,[0.00000121,6,304023.8109708]]"],
            1770440002,
        ),
    ],
)
def test_the_venues_own_checksums_hold(
    snapshot: bytes, updates: list[bytes], checksum: int
) -> None:
    book = Book()
    book.apply(update_of(snapshot, "snapshot"))
    for raw in updates:
        assert book.checksum != checksum
        book.apply(update_of(raw))
    assert book.checksum == checksum


def signed_crc(text: str) -> int:
    return int.from_bytes(zlib.crc32(text.encode()).to_bytes(4, "big"), "big", signed=True)


@pytest.mark.parametrize(
    ("bids", "asks", "text"),
    [
        ([], [], ""),
        ([(2, 1), (1, 1)], [(3, 1)], "2:1:3:-1:1:1"),
        ([(2, 1)], [(3, 1), (4, 1)], "2:1:3:-1:4:-1"),
        ([(2, 1), (1, 1)], [], "2:1:1:1"),
        ([], [(3, 1)], "3:-1"),
        ([(n, 1) for n in range(30, 0, -1)], [], ":".join(f"{n}:1" for n in range(30, 5, -1))),
    ],
)
def test_a_checksum_alternates_the_sides_as_long_as_each_has_levels(
    bids: list[Any], asks: list[Any], text: str
) -> None:
    sides = ([(Decimal(p), Decimal(s)) for p, s in side] for side in (bids, asks))
    assert PLAIN.book.checksum(*sides) == signed_crc(text)


def test_a_checksum_is_signed() -> None:
    checksums = [PLAIN.book.checksum([(Decimal(n), Decimal(1))], []) for n in range(20)]
    assert min(checksums) < 0 < max(checksums)


# --- the recording -------------------------------------------------------------------------------

RECORDING = "bitfinex/BITFINEX.ws.11.0"


@pytest.fixture(scope="module")
def requests() -> list[dict[str, Any]]:
    """Return the recorded subscribes, without the flags that were sent first."""
    conf, *subscribes = map(json.loads, payloads(RECORDING, "sent"))
    assert conf == {"event": "conf", "flags": 65536}
    return subscribes


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    return payloads(RECORDING, "received")


def name_of(event: dict[str, Any]) -> str:
    return f"{event['channel']}:{event['symbol']}"


def is_data(frame: bytes) -> bool:
    return frame.startswith(b"[") and b'"hb"' not in frame


def subscribed(requests: list[dict[str, Any]]) -> Bench:
    """Return a bench that sent the recorded subscribes, in their order and with their options."""
    bench = Bench(Bitfinex(checksums=False))
    for request in requests:
        fields = ("event", "channel", "symbol")
        options = {name: value for name, value in request.items() if name not in fields}
        bench.rig.subscribe(name_of(request), **options)
    conf, *sent = bench.rig.sent()
    assert conf == {"event": "conf", "flags": 65536}
    assert [{k: v for k, v in one.items() if k != "subId"} for one in sent] == requests
    return bench


def jumps(bench: Bench, frames: list[bytes]) -> list[int]:
    """Return the indices of the frames that did not follow the frame before."""
    found = []
    for index, frame in enumerate(frames):
        seen = len(bench.rig.emitted(Noticed))
        bench.rig.now += EVENT_INTERVAL  # of several within it only one is emitted
        bench.feed(frame)
        found += [index for e in bench.rig.emitted(Noticed)[seen:] if e.what == "numbers"]
    return found


def test_our_requests_equal_the_recorded_ones_and_bring_all_channels(
    requests: list[dict[str, Any]], frames: list[bytes]
) -> None:
    bench = subscribed(requests)
    delivered = bench.feed(*frames)
    assert len(requests) == 21
    for request in requests:
        channel = name_of(request)
        assert bench.rig.outcome(("subscribe", channel)) is None
        assert bench.rig.supervisor.wanted.state(channel) is SubscriptionState.ACTIVE
    assert [m.raw for m in delivered] == list(filter(is_data, frames))
    assert {m.channel for m in delivered} == set(map(name_of, requests))


def test_recorded_books_remove_only_existing_levels_and_keep_to_their_length(
    requests: list[dict[str, Any]], frames: list[bytes]
) -> None:
    books: dict[str, Book] = {}
    for one in subscribed(requests).feed(*frames):
        if one.channel.startswith("book:"):
            update = PLAIN.book.update(one)
            assert update is not None
            book = books.setdefault(one.channel, Book())
            book.apply(update)
            assert max(map(len, book.sides)) <= 100
    assert len(books) == 7
    for book in books.values():
        bids, asks = book.sides
        assert bids[0] < asks[0]


def places(frames: list[bytes]) -> list[int]:
    """Return the indices of numbered frames with one numbered frame before and two after them."""
    return [
        i
        for i in range(1, len(frames) - 2)
        if all(frame.startswith(b"[") for frame in frames[i - 1 : i + 3])
    ]


def raised(frame: bytes) -> bytes:
    head, _, number = frame.rpartition(b",")
    return b"%s,%d]" % (head, int(number[:-1]) + 1000)


#: What replaces a frame and the next one, and at which of these or the following frame it shows.
EDITS: dict[str, tuple[Callable[[bytes, bytes], list[bytes]], list[int]]] = {
    "deleted": (lambda frame, following: [following], [0]),
    "doubled": (lambda frame, following: [frame, frame, following], [1]),
    "swapped": (lambda frame, following: [following, frame], [0, 1, 2]),
    "altered": (lambda frame, following: [raised(frame), following], [0, 1]),
}


#: Which of five parts of the lines are edited: all of them as a soak.
PARTS = [pytest.param(part, marks=[pytest.mark.soak] if part else []) for part in range(5)]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("edit", EDITS)
def test_each_edit_of_a_line_is_detected_there_and_nowhere_else(
    edit: str, part: int, requests: list[dict[str, Any]], frames: list[bytes]
) -> None:
    """Edit every fifth numbered line, data or not."""
    instead, firing = EDITS[edit]
    known = places(frames)
    assert len(known) == 1639
    edited: list[bytes] = []
    expected: list[int] = []
    chosen = {i for i in known if i % 5 == part}
    i = 0
    while i < len(frames):
        if i in chosen:
            expected += [len(edited) + place for place in firing]
            edited += instead(frames[i], frames[i + 1])
            i += 2
        else:
            edited.append(frames[i])
            i += 1
    assert jumps(subscribed(requests), edited) == expected


def test_a_deleted_line_is_one_gap_of_each_channel(
    requests: list[dict[str, Any]], frames: list[bytes]
) -> None:
    for i in places(frames)[::300]:
        edited = frames[:i] + frames[i + 1 :]
        bench = subscribed(requests)
        before = {m.channel for m in bench.feed(*edited[:i])}
        confirmed = set(bench.rig.supervisor.upkeep.channels.by_name)
        assert before <= confirmed
        after = bench.feed(*edited[i:])
        first = {m.channel: m for m in reversed(after) if m.channel in confirmed}
        marked = [m for m in after if m.gap is not None]
        assert sorted(map(id, marked)) == sorted(map(id, first.values()))
        assert {m.gap.reason for m in marked if m.gap} == {"sequence"}


def test_an_altered_amount_fails_the_checksum() -> None:
    book = Book()
    book.apply(update_of(XRP, "snapshot"))
    checksum = book.checksum
    book.apply(update_of(b"[123,[0.00008837,1,56.54876269]]"))
    assert book.checksum != checksum


@pytest.mark.loopback
def test_a_client_reports_a_deleted_line(
    requests: list[dict[str, Any]], frames: list[bytes]
) -> None:
    i = next(i for i in reversed(places(frames)) if not is_data(frames[i]))
    lost = json.loads(frames[i])[-1]
    frames = frames[:i] + frames[i + 1 :]
    data = list(filter(is_data, frames))
    delivered: list[Message] = []
    with (
        FakeVenue(Script(frames, 1 + len(requests))) as venue,
        wsclient.connect(venue.url, dialect=Bitfinex(checksums=False)) as client,
    ):
        client.subscribe(*map(name_of, requests))
        while len(delivered) < len(data):
            delivered += client.recv_batch(timeout=5)
        assert venue.accept().expect_json() == {"event": "conf", "flags": 65536}
        stats = client.stats()
    assert [m.raw for m in delivered] == data
    assert (stats.invalid, stats.unhandled, stats.missed) == (0, 0, 0)
    marked = [m for m in delivered if m.gap is not None]
    assert stats.gaps == len(marked) == len({m.channel for m in marked})
    assert {m.gap and m.gap.reason for m in marked} == {"sequence"}
    assert marked[0] is next(m for m in delivered if json.loads(m.raw)[-1] > lost)
