"""The protocol of Binance USD-M futures."""

from __future__ import annotations

from wsclient.dialects.binance_futures import BinanceFutures
from wsclient.testing.venues.binance import BinanceProtocol

__all__ = ["BinanceFuturesProtocol"]


class BinanceFuturesProtocol(BinanceProtocol):
    """Binance USD-M futures: an update of a book names the number of the one before it."""

    dialect = BinanceFutures()
    PING = 180.0

    def _numbers(self, sequence: int) -> dict[str, int]:
        return {"U": sequence, "u": sequence, "pu": sequence - 1}
