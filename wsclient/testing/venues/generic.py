"""The protocol of the default protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialects.generic import Generic
from wsclient.testing.accounts import Account, OrderChange, OrderRefusal, VenueOrder
from wsclient.testing.limits import ChannelRefusal
from wsclient.testing.market import MarketEvent, MarketQuote, MarketTrade
from wsclient.testing.private import PrivateProtocol, text_of
from wsclient.testing.protocols import Payload, as_object, encode, milliseconds

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["GenericProtocol"]


class GenericProtocol(PrivateProtocol):
    """The default protocol: subscriptions by channel, numbered data, one JSON object per frame.

    It has no login: all clients share the first account. `order.place` (`symbol`, `side`, `size`,
    without a `price` a market order, `client_id`), `order.amend` and `order.cancel`
    (`order_id` or `client_id`), `order.cancel_all`, `order.list` and `order.batch`
    (`requests`) are answered by a `response` with the `id` of the request. The channel `orders`
    reports each change.

    Other messages but `subscribe` and `unsubscribe` get no answer. A refusal for another reason
    than the channel itself has a `code`: `route`, `limit` or `rate`. With `gateway_time` each
    message of data carries the time of the gateway that sent it (ms), which differs per connection
    by `Delivery(clock=...)`.
    """

    dialect = Generic()
    kinds: ClassVar = {"ticker:{}": MarketQuote, "trades:{}": MarketTrade, "{}": MarketTrade}
    patterns = ("{}", "ticker:{}")
    symbols = ("BTC-USD", "ETH-USD", "SOL-USD")
    takes_orders = True
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
            case str() as kind if kind.startswith("order.") and peer.venue.accounts:
                account = peer.venue.accounts[0]
                yield from self.executed(peer, [self._response(account, request)])
                return
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

    def _response(self, account: Account, request: Mapping[str, Any]) -> Payload:
        head = {"type": "response", "id": request.get("id")}
        return encode({**head, **self._outcome(account, request)})

    def _outcome(self, account: Account, request: Mapping[str, Any]) -> dict[str, Any]:
        if request.get("type") == "order.batch":
            rows = request.get("requests")
            rows = rows if isinstance(rows, list) else []
            rows = [row if isinstance(row, dict) else {} for row in rows]
            return {"status": "success", "responses": [self._outcome(account, r) for r in rows]}
        try:
            return {"status": "success", **self._execute(account, request)}
        except OrderRefusal as error:
            return {"status": "error", "error": str(error), "code": error.kind}

    def _execute(self, account: Account, request: Mapping[str, Any]) -> dict[str, Any]:
        now, symbol = milliseconds(), text_of(request.get("symbol"))
        which = text_of(request.get("order_id") or request.get("client_id"))
        size, price = request.get("size"), request.get("price")
        match request.get("type"):
            case "order.place":
                side, client_id = request.get("side"), request.get("client_id")
                pair = self.pair(symbol)
                order = self.place(account, symbol, side, size, price, client_id, pair)
            case "order.amend":
                order = self.amend(account, which, size, price)
            case "order.cancel":
                order = account.cancel(which, now=now)
            case "order.cancel_all":
                canceled = account.cancel_all(symbol or None, now=now)
                return {"orders": [_order(order) for order in canceled]}
            case "order.list":
                return {"orders": [_order(order) for order in account.open_orders(symbol or None)]}
            case _:
                raise OrderRefusal("invalid", f"there is no request {request.get('type')!r}")
        return {"order": _order(order)}

    def pair(self, symbol: str) -> tuple[str, str] | None:
        base, dash, quote = symbol.partition("-")
        return (base, quote) if dash else None

    def news(
        self, account: Account, change: OrderChange
    ) -> Iterator[tuple[str, Payload | Mapping[str, Any]]]:
        fill = {"fill_size": change.size, "fill_price": change.price}
        more = fill if change.kind == "filled" else {}
        yield "orders", {"event": change.kind, **_order(change.order), **more}

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


def _order(order: VenueOrder) -> dict[str, Any]:
    return {
        "order_id": order.id,
        "client_id": order.client_id,
        "symbol": order.symbol,
        "side": order.side,
        "size": order.size,
        "price": order.price,
        "filled": order.filled,
        "average": order.average,
        "status": order.state,
    }
