"""The dialects of the venues, one file each.

Dialects are pure: they do no I/O and import only ``wsclient.sansio``, the errors and the messages.
"""

from __future__ import annotations

from wsclient.dialects.binance import Binance, BinanceFutures
from wsclient.dialects.bitfinex import Bitfinex
from wsclient.dialects.bybit import Bybit
from wsclient.dialects.coinbase import CoinbaseExchange
from wsclient.dialects.deribit import Deribit
from wsclient.dialects.generic import Generic
from wsclient.dialects.kraken import Kraken
from wsclient.dialects.kucoin import Kucoin
from wsclient.dialects.okx import OKX
from wsclient.errors import ConfigurationError
from wsclient.sansio.dialect import Dialect

__all__ = [  # noqa: RUF022 - in alphabetical order, whatever the case
    "Binance",
    "BinanceFutures",
    "Bitfinex",
    "Bybit",
    "CoinbaseExchange",
    "Deribit",
    "Generic",
    "Kraken",
    "Kucoin",
    "NAMES",
    "OKX",
    "find",
]

_BY_NAME: dict[str, type[Dialect]] = {
    "binance": Binance,
    "binance_futures": BinanceFutures,
    "bitfinex": Bitfinex,
    "bybit": Bybit,
    "coinbase_exchange": CoinbaseExchange,
    "deribit": Deribit,
    "generic": Generic,
    "kraken": Kraken,
    "kucoin": Kucoin,
    "okx": OKX,
}

NAMES = tuple(_BY_NAME)


def find(dialect: str | Dialect) -> Dialect:
    """Return a new dialect by name, or ``dialect`` itself if it is a dialect object.

    Raises ConfigurationError for an unknown name and for a class instead of an object.
    """
    if isinstance(dialect, Dialect):
        return dialect
    if isinstance(dialect, type) and issubclass(dialect, Dialect):
        raise ConfigurationError(
            f"dialect must be one of {', '.join(NAMES)}, or an object: {dialect.__name__}()"
        )
    kind = _BY_NAME.get(dialect) if isinstance(dialect, str) else None
    if kind is None:
        raise ConfigurationError(
            f"dialect must be one of {', '.join(NAMES)}, or a wsclient.Dialect, not {dialect!r}"
        )
    return kind()
