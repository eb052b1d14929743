"""What the venues say about the end of a connection, and about its limits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from support.making import entries_of
from support.reading import read
from support.rig import Rig
from support.venues import VENUES
from wsclient.dialect import Dialect, Ending, Limits, Rejection
from wsclient.dialects import OKX, Binance, BinanceFutures, Bitfinex, Bybit, Generic, Kucoin
from wsclient.stream.inbound import Inbound
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import Notice, Reply, Unhandled

UPGRADE = "The connection will soon be closed for a service upgrade. Please reconnect."
SHUTDOWN = {"e": "serverShutdown", "E": 1770123456789}
RESTARTS = "ws trade service is restarting, do not accept new request"

#: A dialect, the frame that announces an end, and what it says.
ENDINGS: list[tuple[Dialect, Any, Ending]] = [
    (Binance(), SHUTDOWN, Ending("this server will shut down soon")),
    (
        Binance(),
        {"stream": "!serverShutdown", "data": SHUTDOWN},
        Ending("this server will shut down soon"),
    ),
    (
        BinanceFutures(),
        {"stream": "!serverShutdown", "data": SHUTDOWN},
        Ending("this server will shut down soon"),
    ),
    (
        OKX(),
        {"event": "notice", "code": "64008", "msg": UPGRADE, "connId": "a4d3ae55"},
        Ending(f"{UPGRADE} (64008)", 60.0),
    ),
    (
        Bitfinex(),
        {"event": "info", "code": 20051, "msg": "Stop/Restart Websocket Server"},
        Ending("Stop/Restart Websocket Server (20051)"),
    ),
    (Generic(), {"type": "ending"}, Ending("no reason given")),
    (
        Generic(),
        {"type": "ending", "reason": "maintenance", "within": 30},
        Ending("maintenance", 30.0),
    ),
    (
        Generic(ending_types=["bye"]),
        {"type": "bye", "reason": "x", "within": 0.5},
        Ending("x", 0.5),
    ),
]


def names(rows: list[Any]) -> list[str]:
    return [f"{row[0].name} {row[1]}" for row in rows]


@pytest.mark.parametrize(("dialect", "frame", "ending"), ENDINGS, ids=names(ENDINGS))
def test_an_announced_end_is_read(dialect: Dialect, frame: Any, ending: Ending) -> None:
    assert read(dialect, frame) == [ending]


@pytest.mark.parametrize(("dialect", "frame", "ending"), ENDINGS, ids=names(ENDINGS))
def test_the_fast_path_does_not_hide_an_announced_end(
    dialect: Dialect, frame: Any, ending: Ending
) -> None:
    inbound, rig = Inbound(dialect), Rig(dialect).open()
    raw = msgspec.json.encode(frame)
    entries_of(inbound, raw)  # what it means could be remembered
    batch = inbound.batch([raw, raw], False, 1, rig.cid)
    assert rig.ordinary(rig.cid, batch, rig.now) == []
    assert inbound.entries(batch) == [ending, ending]


@pytest.mark.parametrize("within", [-1.0, float("inf"), float("nan"), "60"])
def test_an_end_at_a_time_that_makes_no_sense_is_invalid(within: Any) -> None:
    class Odd(Generic):
        def read(self, message: Any) -> Ending:
            return Ending("x", within)

    assert read(Odd(), {"type": "ending"}) == [Invalid]


def test_bybit_announces_the_end_in_its_answer_to_an_order() -> None:
    """The answer itself is there too."""
    frame = {"reqId": "r7", "retCode": 10019, "retMsg": RESTARTS, "op": "order.create", "data": {}}
    refused = Reply("7", frame, f"{RESTARTS} (10019)")
    assert read(Bybit(), frame) == [refused, Ending(RESTARTS)]
    frame = {**frame, "retCode": 10016}
    assert read(Bybit(), frame) == [Reply("7", frame, f"{RESTARTS} (10016)")]


def test_a_login_at_a_server_that_restarts_is_not_refused_for_good() -> None:
    frame = {"retCode": 10019, "retMsg": RESTARTS, "op": "auth", "connId": "c"}
    assert read(Bybit(), frame) == [Unhandled("auth"), Ending(RESTARTS)]


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": 5, "within": "soon"},
        {"reason": "", "within": None},
        {"reason": None, "within": 0},
        {"within": -1},
        {"within": True},
    ],
)
def test_an_end_with_fields_of_another_kind_is_still_an_end(fields: Any) -> None:
    assert read(Generic(), {"type": "ending", **fields}) == [Ending("no reason given")]


# --- limits ---------------------------------------------------------------------------------------

LIMITS = {
    "binance": Limits(100, 4.0, 1024, (300, 300.0), 86_100.0),
    "binance_futures": Limits(100, 9.0, 1024, (300, 300.0), 86_100.0),
    "binance_ws_api": Limits(connects=(300, 300.0), max_age=86_100.0),
    "bitfinex": Limits(1, None, 25, (5, 15.0)),
    "bybit": Limits(10, None, 500, (500, 300.0), connections=1000),
    "coinbase_exchange": Limits(100, 50.0, None, (8, 1.0)),
    "deribit": Limits(250, 3, None, (60, 60.0), connections=32),
    "generic": Limits(),
    "kraken": Limits(100, None, None, (150, 600.0)),
    "kucoin": Limits(100, 10.0, 300, (30, 60.0), connections=50),
    "okx": Limits(50, None, 500, (3, 1.0)),
}


def test_the_limits_of_all_venues() -> None:
    assert {name: venue.dialect.limits for name, venue in VENUES.items()} == LIMITS


#: A dialect, a refusal, and whether it says that the connection is full.
REFUSALS: list[tuple[Dialect, Any, bool]] = [
    (Binance(), {"code": 4, "msg": "Too many subscriptions"}, True),
    (Binance(), {"code": 2, "msg": "Invalid request: too many"}, False),
    (Bitfinex(), {"event": "error", "msg": "limit", "code": 10305}, True),
    (Bitfinex(), {"event": "error", "msg": "limit", "code": 10305, "subId": "1"}, True),
    (Bitfinex(), {"event": "error", "msg": "dup", "code": 10301, "subId": "1"}, False),
    (
        Kucoin(),
        {
            "id": "1",
            "type": "error",
            "code": 509,
            "data": "exceed max subscription count limitation of 400 per session",
        },
        True,
    ),
    (
        Kucoin(),
        {
            "type": "error",
            "code": "509",
            "data": "exceed max subscription count limitation of 300 per session",
        },
        True,
    ),
    (
        Kucoin(),
        {
            "id": "1",
            "type": "error",
            "code": 509,
            "data": "exceed max subscription count limitation of 100 per time",
        },
        False,
    ),
    (Kucoin(), {"id": "1", "type": "error", "code": 404, "data": "not found per session"}, False),
    (Generic(), {"type": "subscription", "channel": "C", "error": "full", "limit": True}, True),
    (Generic(), {"type": "subscription", "status": "rejected", "limit": True}, True),
    (Generic(), {"type": "subscription", "channel": "C", "error": "full", "limit": 1}, False),
    (Generic(), {"type": "subscription", "channel": "C", "error": "limit"}, False),
]


@pytest.mark.parametrize(("dialect", "frame", "is_limit"), REFUSALS, ids=names(REFUSALS))
def test_a_refusal_says_whether_the_connection_is_full(
    dialect: Dialect, frame: Any, is_limit: bool
) -> None:
    (refusal,) = read(dialect, frame)
    assert isinstance(refusal, Rejection)
    assert refusal.is_limit is is_limit


@pytest.mark.parametrize("dialect", [Binance(), BinanceFutures()])
def test_the_answer_of_binance_to_too_many_streams(dialect: Dialect) -> None:
    answer = {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 19}
    reason = "Too many subscriptions (code 4)"
    rejection, reply = read(dialect, answer)
    assert rejection == Rejection(reason, 19, is_limit=True)
    assert reply.error == reason


def test_too_many_channels_of_one_message_are_no_full_connection() -> None:
    """As seen on the wire of Bybit."""
    frame = {"success": False, "ret_msg": "args size >10", "conn_id": "c", "op": "subscribe"}
    assert read(Bybit(), frame) == [Rejection("args size >10")]


def test_an_accepted_subscribe_is_no_limit() -> None:
    (answer,) = read(Generic(), {"type": "subscription", "channel": "C", "limit": True})
    assert not isinstance(answer, Rejection)


def test_too_many_messages_are_no_full_connection() -> None:
    frame = {"type": "error", "code": 509, "data": "exceed max permits per second"}
    assert [type(item) for item in read(Kucoin(), frame)] == [Notice]
