"""What venues say of when they sent a message, beside the clock of those who recorded it."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

import msgspec
import pytest
from making import entries_of
from recordings import RECORDED

from wsclient.dialects import (
    OKX,
    Binance,
    Bitfinex,
    Bybit,
    CoinbaseExchange,
    Deribit,
    Generic,
    Kraken,
    Kucoin,
)
from wsclient.messages import Message
from wsclient.sansio.dialect import Dialect
from wsclient.sansio.inbound import Inbound
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
        (Deribit(), "deribit/DERIBIT.ws.1.0", set()),
        (OKX(), "okx/OKX.ws.1.0", set()),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_recorded_messages_tell_a_time_shortly_before_their_receipt(
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


NS = 1_700_000_000_123 * 10**6
MS = NS // 10**6


@pytest.mark.parametrize(
    ("dialect", "frame", "expected"),
    [
        (Binance(), {"stream": "a@trade", "data": {"e": "trade", "E": MS}}, NS),
        (Binance(), {"stream": "!ticker@arr", "data": [{"e": "24hrTicker", "E": MS}]}, NS),
        (Binance(), {"stream": "a@bookTicker", "data": {"u": 1, "b": "1", "B": "2"}}, None),
        (Bybit(), {"topic": "publicTrade.A", "type": "snapshot", "ts": MS, "data": []}, NS),
        (
            CoinbaseExchange(),
            {"type": "ticker", "product_id": "A", "time": "2023-11-14T22:13:20.123000Z"},
            NS,
        ),
        (
            CoinbaseExchange(),
            {"type": "last_match", "product_id": "A", "time": "2023-11-14T22:13:20.123000Z"},
            None,
        ),
        (
            Deribit(),
            {
                "method": "subscription",
                "params": {"channel": "trades.A.100ms", "data": [{"timestamp": MS}]},
            },
            NS,
        ),
        (
            Kraken(),
            {
                "channel": "trade",
                "type": "update",
                "data": [{"symbol": "A", "timestamp": "2023-11-14T22:13:20.123Z"}],
            },
            NS,
        ),
        (
            Kraken(),
            {
                "channel": "trade",
                "type": "snapshot",
                "data": [{"symbol": "A", "timestamp": "2023-11-14T22:13:20.123Z"}],
            },
            None,
        ),
        (
            Kucoin(),
            {
                "type": "message",
                "topic": "/market/match:A",
                "subject": "trade.l3match",
                "data": {"time": str(NS), "sequence": "5"},
            },
            NS,
        ),
        (
            OKX(),
            {"arg": {"channel": "tickers", "instId": "A"}, "data": [{"ts": str(MS)}]},
            NS,
        ),
        (Bitfinex(), [5, [1, 2, 3]], None),
        (Generic(), {"type": "market_data", "channel": "a", "ts": MS}, None),
        (Generic(timestamp_field="ts"), {"type": "market_data", "channel": "a", "ts": MS}, NS),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_venues_time_of_a_message(dialect: Dialect, frame: Any, expected: int | None) -> None:
    raw = msgspec.json.encode(frame)
    message = next(iter(messages(dialect, raw)), None) or Message("a", raw=raw)
    assert dialect.timestamp(message) == expected
