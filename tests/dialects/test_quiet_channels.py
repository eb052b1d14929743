"""Which channels of each venue may stay silent, and which must send a first message."""

from __future__ import annotations

import pytest

import wsclient
from wsclient import Dialect

#: (dialect, channels that may be silent, channels that may not)
VENUES: list[tuple[Dialect, list[str], list[str]]] = [
    (
        wsclient.Binance(),
        ["btcusdt@forceOrder", "!forceOrder@arr", "!contractInfo", "k" * 64],
        ["btcusdt@trade", "!miniTicker@arr", "btcusdt@depth@100ms"],
    ),
    (
        wsclient.Bitfinex(),
        ["status:liq:global"],
        ["status:deriv:tBTCF0:USTF0", "book:tBTCUSD", "trades:tBTCUSD"],
    ),
    (
        wsclient.Bybit(),
        ["order", "order.linear", "wallet", "execution.fast", "allLiquidation.BTCUSDT"],
        ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT"],
    ),
    (
        wsclient.CoinbaseExchange(),
        ["user:BTC-USD", "auctionfeed:BTC-USD"],
        ["level2_batch:BTC-USD", "status", "ticker:BTC-USD"],
    ),
    (
        wsclient.Deribit(),
        ["user.orders.BTC-PERPETUAL.raw", "announcements", "platform_state"],
        ["book.BTC-PERPETUAL.100ms", "ticker.BTC-PERPETUAL.raw"],
    ),
    (wsclient.Generic(), [], ["BTC-USD"]),
    (wsclient.Kraken(), ["balances", "executions"], ["level3:BTC/USD", "ticker:BTC/USD"]),
    (
        wsclient.Kucoin(),
        ["/spotMarket/tradeOrders", "/account/balance", "/margin/isolatedPosition:BTC-USDT"],
        ["/market/level2:BTC-USDT", "/market/ticker:all"],
    ),
    (
        wsclient.OKX(),
        ["account", "orders:BTC-USDT", "liquidation-orders", "status", "balance_and_position"],
        ["books:BTC-USDT", "option-summary:BTC-USD", "sprd-tickers:BTC-USDT_BTC-USDT-SWAP"],
    ),
]


@pytest.mark.parametrize(("dialect", "quiet", "others"), VENUES, ids=lambda value: repr(value)[:40])
def test_only_private_channels_and_rare_events_may_be_silent(
    dialect: Dialect, quiet: list[str], others: list[str]
) -> None:
    assert [dialect.first_message_within(channel) for channel in quiet] == [None] * len(quiet)
    assert [dialect.first_message_within(channel) for channel in others] == [60.0] * len(others)


def test_binance_futures_have_the_quiet_channels_of_spot() -> None:
    dialect = wsclient.BinanceFutures()
    assert dialect.first_message_within("!forceOrder@arr") is None
    assert dialect.first_message_within("btcusdt@markPrice") == 60.0
