"""The venues' times of sending, compared with the clock of the recorder."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

import msgspec
import pytest

from support.making import entries_of
from support.recordings import RECORDED, there
from support.venues import MS, NS, VENUES
from wsclient.dialect.base import Dialect
from wsclient.dialects import (
    OKX,
    Binance,
    BinanceFutures,
    CoinbaseExchange,
    Deribit,
    Generic,
    Kucoin,
)
from wsclient.messages import Message
from wsclient.stream.inbound import Inbound
from wsclient.testing.replay import read_recording

QUIET = {"snapshot", "last_match"}


def messages(dialect: Dialect, frame: Any) -> list[Message]:
    raw = frame if isinstance(frame, bytes) else msgspec.json.encode(frame)
    return [m for m in entries_of(Inbound(dialect), raw) if isinstance(m, Message)]


@pytest.mark.parametrize(
    ("dialect", "name", "without"),
    [
        (Binance(), "binance/BINANCE.ws.1.0", {"bookTicker"}),
        (CoinbaseExchange(book="level2"), "coinbase_exchange/COINBASE.ws.28.0", QUIET),
        (BinanceFutures(), "binance_futures/BINANCE_FUTURES.ws.1.0", set()),
        (Deribit(), "deribit/DERIBIT.ws.1.0", set()),
        (OKX(), "okx/OKX.ws.1.0", set()),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_recorded_messages_have_a_time_shortly_before_their_receipt(
    dialect: Dialect, name: str, without: set[str]
) -> None:
    if not (RECORDED / name).exists():
        pytest.skip("the recorded traffic is not here (../shared/recorded, beside the project)")
    lags, silent = [], Counter[str]()
    for item in read_recording(RECORDED / name):
        if item.direction != "received" or item.time is None:
            continue
        for message in messages(dialect, item.payload)[:1]:
            sent_at = dialect.timestamp(message)
            if sent_at is None:
                silent[message.type] += 1
            else:
                lags.append((item.time - sent_at) / 1e9)
    assert len(lags) > 100
    assert -0.1 < median(lags) < 2
    assert not set(silent) - without, silent


#: The kinds of recorded single messages without a time of sending. Candles have the time of their
#: beginning.
UNTIMED = {
    "binance.tsv": {"bbo.spot", "l2_topk.spot"},
    "deribit.tsv": {"candlestick.inverse_future", "candlestick.inverse_swap", "candlestick.option"},
    "kucoin.tsv": {
        "candlestick.inverse_future",
        "candlestick.inverse_swap",
        "candlestick.linear_swap",
        "l2_event.spot_update",
    },
    "okx.tsv": {
        "candlestick.inverse_future",
        "candlestick.inverse_swap",
        "candlestick.linear_future",
        "candlestick.linear_swap",
        "candlestick.option",
        "candlestick.spot",
        "funding_rate.inverse_swap",
        "funding_rate.linear_swap",
    },
}


@pytest.mark.parametrize(
    ("dialect", "file"),
    [
        (Binance(), "binance.tsv"),
        (Deribit(), "deribit.tsv"),
        (Kucoin(), "kucoin.tsv"),
        (OKX(), "okx.tsv"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_the_time_of_each_kind_of_message_is_read(dialect: Dialect, file: str) -> None:
    timed, untimed = set(), set()
    for line in there(f"shapes/{file}").read_text().splitlines():
        kind, _, raw = line.partition("\t")
        for message in messages(dialect, raw.encode())[:1]:
            (untimed if dialect.timestamp(message) is None else timed).add(kind)
    assert len(timed) > 10
    assert untimed == UNTIMED[file]


TIMED = [
    *((venue.dialect, frame, time) for venue in VENUES.values() for frame, time in venue.times),
    (Generic(timestamp_field="ts"), {"type": "market_data", "channel": "a", "ts": MS}, NS),
]


@pytest.mark.parametrize(
    ("dialect", "frame", "expected"), TIMED, ids=lambda value: getattr(value, "name", "")
)
def test_the_venues_time_of_a_message(dialect: Dialect, frame: Any, expected: int | None) -> None:
    raw = msgspec.json.encode(frame)
    message = next(iter(messages(dialect, raw)), None) or Message("a", raw=raw)
    assert dialect.timestamp(message) == expected


@pytest.mark.parametrize("name", VENUES)
def test_the_time_of_each_venue_is_tested(name: str) -> None:
    assert VENUES[name].times
