"""Binance's WebSocket API, which has only the channel of the account."""

from __future__ import annotations

from support.venues import MS, NS, Private, Venue
from wsclient.dialects.binance_ws_api import BinanceWsApi

VENUE = Venue(
    BinanceWsApi(),
    quiet=["userData"],
    others=["depth"],
    times=[({"subscriptionId": 0, "event": {"e": "executionReport", "E": MS}}, NS)],
    private=Private("userData", ("api_key", "secret")),
)
