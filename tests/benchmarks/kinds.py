"""The kinds of messages that are measured: tickers, trades and order books of every dialect."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import contents as of
from frames import Kind, Place
from walk import State, Update, walk

#: The different contents per channel, of tickers and trades.
VARIANTS = 8
#: Of all books: the cycles of a kind's channels are equally long.
SEED = 7


def some(make: Callable[[Place], Any]) -> Callable[[Place], list[Any]]:
    """Return a cycle of different contents."""
    return lambda place: [make(place) for _ in range(VARIANTS)]


def moves(
    make: Callable[[Place, Update], Any], levels: int = 50, changed: int = 10
) -> Callable[[Place], list[Any]]:
    """Return the cycle of a book's updates."""
    return lambda place: [make(place, u) for u in walk(Random(SEED), levels, changed)]


def begins(
    make: Callable[[Place, State], Any], levels: int = 50, changed: int = 10
) -> Callable[[Place], list[Any]]:
    """Return the snapshot of the state with which the book's cycle begins."""
    return lambda place: [make(place, walk(Random(SEED), levels, changed)[0].before)]


def _book(
    dialect: str,
    name: str,
    channel: str,
    symbol: str,
    update: Callable[[Place, Update], Any],
    snapshot: Callable[[Place, State], Any],
    *,
    by_rest: bool = False,
    levels: int = 50,
    changed: int = 10,
    **more: Any,
) -> Kind:
    opening = begins(snapshot, levels, changed)
    if by_rest:
        more["rest"] = lambda place: opening(place)[0]
    else:
        more["opening"] = opening
    frames = moves(update, levels, changed)
    return Kind(dialect, name, "book", channel, symbol, frames, **more)


def _ticker(
    dialect: str, name: str, channel: str, symbol: str, make: Callable[[Place], Any], **more: Any
) -> Kind:
    return Kind(dialect, name, "ticker", channel, symbol, some(make), **more)


def _trade(
    dialect: str, name: str, channel: str, symbol: str, make: Callable[[Place], Any], **more: Any
) -> Kind:
    return Kind(dialect, name, "trade", channel, symbol, some(make), **more)


#: The kinds of all dialects. Their names are those that the venues use.
ALL = [
    _ticker("generic", "ticker", "ticker:{}", "{}/USD", of.generic_ticker),
    _trade("generic", "trade", "trade:{}", "{}/USD", of.generic_trade),
    Kind("generic", "book", "book", "book:{}", "{}/USD", some(of.generic_book)),
    _ticker("binance", "bookTicker", "{}@bookTicker", "{}USDT", of.binance_quote),
    _trade("binance", "aggTrade", "{}@aggTrade", "{}USDT", of.binance_trade),
    _book(
        "binance",
        "depth",
        "{}@depth@100ms",
        "{}USDT",
        of.binance_depth,
        of.binance_snapshot,
        by_rest=True,
        step=10,
        changed=18,
    ),
    _ticker("binance_futures", "bookTicker", "{}@bookTicker", "{}USDT", of.futures_quote),
    _trade(
        "binance_futures", "aggTrade", "{}@aggTrade", "{}USDT", of.binance_trade, route="/market"
    ),
    _book(
        "binance_futures",
        "depth",
        "{}@depth@100ms",
        "{}USDT",
        of.futures_depth,
        of.binance_snapshot,
        by_rest=True,
        step=10,
        changed=18,
    ),
    _ticker("bitfinex", "ticker", "ticker:{}", "t{}USD", of.bitfinex_ticker, per_connection=True),
    _trade("bitfinex", "trades", "trades:{}", "t{}USD", of.bitfinex_trade, per_connection=True),
    Kind(
        "bitfinex",
        "book",
        "book",
        "book:{}",
        "t{}USD",
        lambda place: of.bitfinex_book(place, SEED),
        opening=begins(of.bitfinex_snapshot, 25, 2),
        per_connection=True,
    ),
    _ticker("bybit", "tickers", "tickers.{}", "{}USDT", of.bybit_ticker),
    _trade("bybit", "publicTrade", "publicTrade.{}", "{}USDT", of.bybit_trade),
    _book(
        "bybit",
        "orderbook",
        "orderbook.50.{}",
        "{}USDT",
        of.bybit_delta,
        of.bybit_snapshot,
        changed=6,
    ),
    _ticker("coinbase_exchange", "ticker", "ticker:{}", "{}-USD", of.coinbase_ticker),
    _trade("coinbase_exchange", "matches", "matches:{}", "{}-USD", of.coinbase_match),
    _book(
        "coinbase_exchange",
        "level2_batch",
        "level2_batch:{}",
        "{}-USD",
        of.coinbase_update,
        of.coinbase_snapshot,
        changed=3,
    ),
    _ticker("deribit", "quote", "quote.{}", "{}-PERPETUAL", of.deribit_quote),
    _ticker("deribit", "ticker", "ticker.{}.100ms", "{}-PERPETUAL", of.deribit_ticker),
    _trade("deribit", "trades", "trades.{}.100ms", "{}-PERPETUAL", of.deribit_trade),
    _book(
        "deribit",
        "book",
        "book.{}.100ms",
        "{}-PERPETUAL",
        of.deribit_change,
        of.deribit_snapshot,
        changed=4,
        step=3,
    ),
    _ticker("kraken", "ticker", "ticker:{}", "{}/USD", of.kraken_ticker),
    _trade("kraken", "trade", "trade:{}", "{}/USD", of.kraken_trade),
    _trade("kraken", "trade, 3 rows", "trade:{}", "{}/USD", of.kraken_trades, items=3, step=3),
    _book(
        "kraken",
        "book",
        "book:{}",
        "{}/USD",
        of.kraken_update,
        of.kraken_snapshot,
        levels=10,
        changed=1,
    ),
    _ticker("kucoin", "ticker", "/market/ticker:{}", "{}-USDT", of.kucoin_ticker),
    _trade("kucoin", "match", "/market/match:{}", "{}-USDT", of.kucoin_match),
    _book(
        "kucoin",
        "level2",
        "/market/level2:{}",
        "{}-USDT",
        of.kucoin_update,
        of.kucoin_snapshot,
        by_rest=True,
        changed=2,
        step=50,
    ),
    _ticker("okx", "tickers", "tickers:{}", "{}-USDT", of.okx_ticker),
    _trade("okx", "trades", "trades:{}", "{}-USDT", of.okx_trade),
    _book(
        "okx", "books", "books:{}", "{}-USDT", of.okx_update, of.okx_snapshot, step=3, changed=18
    ),
]

KINDS = {str(kind): kind for kind in ALL}
