"""The default protocol. It has a time only if its field is given."""

from __future__ import annotations

from support.venues import MS, Venue
from wsclient.dialects.generic import Generic

VENUE = Venue(
    Generic(),
    quiet=[],
    others=["BTC-USD"],
    times=[({"type": "market_data", "channel": "a", "ts": MS}, None)],
)
