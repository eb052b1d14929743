"""The protocol of Binance USD-M futures."""

from __future__ import annotations

from wsclient.dialects.binance_futures import BinanceFutures
from wsclient.testing.routes import Route
from wsclient.testing.venues.binance import BinanceProtocol

__all__ = ["BinanceFuturesProtocol"]

_PUBLIC = ("*@depth*", "*@bookTicker", "!bookTicker", "*@rpiDepth*", "*@trade")
_MARKET = ("*@*", "!*", "tradingSession")


class BinanceFuturesProtocol(BinanceProtocol):
    """Binance USD-M futures: an update of a book names the number of the one before it.

    A stream that the route of a connection does not carry is acknowledged, but never sent. An
    address without a route is that of `/public`.
    """

    dialect = BinanceFutures()
    PING = 180.0
    routes = {
        "public": Route("/public", _PUBLIC),
        "market": Route("/market", _MARKET, without=_PUBLIC),
        "private": Route("/private", without=_MARKET),
    }
    default_route = "public"

    def _numbers(self, first: int, last: int) -> dict[str, int]:
        return {"U": first, "u": last, "pu": first - 1}
