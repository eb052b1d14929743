"""The protocol of the default protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialects.generic import Generic
from wsclient.testing.limits import ChannelRefusal
from wsclient.testing.market import MarketEvent, MarketQuote, MarketTrade
from wsclient.testing.protocols import MarketProtocol, Payload, as_object, encode, milliseconds

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["GenericProtocol"]


class GenericProtocol(MarketProtocol):
    """The default protocol: subscriptions by channel, numbered data, one JSON object per frame.

    Messages other than `subscribe` and `unsubscribe` get no answer. A refusal for another reason
    than the channel itself has a `code`: `route`, `limit` or `rate`. With `gateway_time` each
    message of data carries the time of the gateway that sent it (ms), which differs per connection
    by `Delivery(clock=...)`.
    """

    dialect = Generic()
    kinds: ClassVar = {"ticker:{}": MarketQuote, "trades:{}": MarketTrade, "{}": MarketTrade}
    patterns = ("{}", "ticker:{}")
    symbols = ("BTC-USD", "ETH-USD", "SOL-USD")
    gateway_time = re.compile(r'("gateway_time":)(\d+)')
    _has_gateway_time = False

    def __init__(self, *, gateway_time: bool = False) -> None:
        super().__init__()
        self._has_gateway_time = gateway_time

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        channel = str(request.get("channel", ""))
        match request.get("type"):
            case "subscribe":
                error: str | None = peer.subscribe(channel)
            case "unsubscribe":
                error = None if peer.unsubscribe(channel) else "not subscribed"
            case _:
                return
        if peer.venue.muted(channel):
            return
        answer: dict[str, Any] = {"type": "subscription", "channel": channel}
        if error is None:
            yield encode({**answer, "status": "success"})
        else:
            if isinstance(error, ChannelRefusal) and error.kind != "channel":
                answer["code"] = error.kind
                if error.kind == "limit":
                    answer["limit"] = True
            yield encode({**answer, "status": "error", "error": error})

    def shutdown_notice(self, peer: Peer) -> Payload:
        return encode({"type": "ending", "reason": "shutdown"})

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        if self._has_gateway_time:
            fields = {**fields, "gateway_time": milliseconds()}
        return super().data(channel, sequence, fields)

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        if isinstance(event, MarketQuote):
            return {"last": event.last, "bid": event.bid, "ask": event.ask}
        if not isinstance(event, MarketTrade):
            raise TypeError("the generic protocol has no order books")
        return {"price": event.price, "quantity": event.size, "side": event.side}
