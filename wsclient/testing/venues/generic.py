"""The protocol of the default protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialects.generic import Generic
from wsclient.testing.market import MarketEvent, Quote, Trade
from wsclient.testing.protocols import MarketProtocol, Payload, as_object, encode

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["GenericProtocol"]


class GenericProtocol(MarketProtocol):
    """The default protocol: subscriptions by channel, numbered data, one JSON object per frame.

    Messages other than `subscribe` and `unsubscribe` get no answer.
    """

    dialect = Generic()
    kinds: ClassVar = {"ticker:{}": Quote, "trades:{}": Trade, "{}": Trade}
    patterns = ("{}", "ticker:{}")
    symbols = ("BTC-USD", "ETH-USD", "SOL-USD")

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        channel = str(request.get("channel", ""))
        match request.get("type"):
            case "subscribe":
                error = peer.subscribe(channel)
            case "unsubscribe":
                error = None if peer.unsubscribe(channel) else "not subscribed"
            case _:
                return
        if peer.venue.muted(channel):
            return
        answer = {"type": "subscription", "channel": channel}
        if error is None:
            yield encode({**answer, "status": "success"})
        else:
            yield encode({**answer, "status": "error", "error": error})

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        if isinstance(event, Quote):
            return {"last": event.last, "bid": event.bid, "ask": event.ask}
        if not isinstance(event, Trade):
            raise TypeError("the generic protocol has no order books")
        return {"price": event.price, "quantity": event.size, "side": event.side}
