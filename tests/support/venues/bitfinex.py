"""Bitfinex, whose frames have a number in the place of the channel, and no time of sending."""

from __future__ import annotations

from support.venues import Login, Venue
from wsclient.dialects.bitfinex import Bitfinex

VENUE = Venue(
    Bitfinex(),
    quiet=["status:liq:global"],
    others=["status:deriv:tBTCF0:USTF0", "book:tBTCUSD", "trades:tBTCUSD"],
    times=[([5, [1, 2, 3]], None)],
    login=Login(
        {"event": "auth", "status": "OK", "chanId": 0, "userId": 5},
        "ticker:tBTCUSD",
        {"event": "subscribed", "channel": "ticker", "chanId": 7, "symbol": "tBTCUSD"},
    ),
)
