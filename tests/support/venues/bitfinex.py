"""Bitfinex, whose frames have a number in the place of the channel, and no time of sending."""

from __future__ import annotations

from support.venues import Login, Private, Venue
from wsclient.dialects.bitfinex import Bitfinex

VENUE = Venue(
    Bitfinex(),
    quiet=["status:liq:global"],
    others=["status:deriv:tBTCF0:USTF0", "book:tBTCUSD", "trades:tBTCUSD"],
    times=[([5, [1, 2, 3]], None)],
    private=Private(
        "book:tBTCUSD",
        login=Login(
            {"event": "auth", "status": "OK", "chanId": 0, "userId": 5},
            {"event": "auth", "status": "FAILED", "code": 10100, "msg": "no"},
            {"event": "subscribed", "channel": "book", "chanId": 7, "symbol": "tBTCUSD"},
        ),
    ),
)
