"""Binance USD-M futures, market data.

Address: ``wss://fstream.binance.com``. It has the routes ``public``, ``market`` and ``private``,
which are the next part of its path: ``wss://fstream.binance.com/public``. Channels, answers and
errors are those of spot: see the module ``binance``. What differs:

* Routes exist since 2026-04-23. Which streams each route has, and that an address without a route
  acknowledges all streams but sends only those of ``/public``: the "Important WebSocket Change
  Notice" on developers.binance.com. ``rpiDepth`` and ``tradingSession``: the venue's client
  binance-connector-python. That ``trade`` is on ``/public``: seen on the wire by other clients.
* Limits: 10 messages per second, and 1024 streams, per connection, which lasts 24 hours
  (developers.binance.com). That ``serverShutdown`` comes here too is our assumption.
* Messages of ``@depth`` name the ``u`` of the message before them, ``pu`` (seen on the wire).
* The update whose ``u`` is the snapshot's ``lastUpdateId`` is applied (developers.binance.com, "How
  to manage a local order book correctly"; seen on the wire).
* Sizes of USD-M are in the base currency, those of COIN-M in contracts. A ``ticker`` has no best
  bid and ask here (seen on the wire).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import msgspec

from wsclient.dialect import (
    ConfigurationError,
    Credentials,
    Limits,
    LinkedMessage,
    Message,
    Snapshot,
)
from wsclient.dialects.binance import (
    KEY_LENGTH,
    Binance,
    BinanceBook,
    BinanceViews,
    combined,
    decode_changes,
    kind_of,
    streams_in,
)

__all__ = ["BinanceFutures", "BinanceFuturesBook"]

_ROUTES = frozenset({"public", "market", "private"})
#: The parts of a query that name streams.
_NAMING = frozenset({"events", "listenKey", "streams"})
#: Also ``depth``, with a number or without; all other market data is on ``/market``.
_PUBLIC = frozenset({"bookTicker", "rpiDepth", "trade"})


class _FuturesUpdate(msgspec.Struct, gc=False):
    last: int = msgspec.field(name="u")
    previous: int = msgspec.field(name="pu")


_futures_update = msgspec.json.Decoder(_FuturesUpdate).decode


class BinanceFuturesBook(BinanceBook):
    """The order books of Binance futures, with snapshots from ``rest``."""

    max_levels: ClassVar[int] = 1000

    def _partial(self, raw: bytes) -> Any:
        return decode_changes(raw).data

    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        return super().snapshot(channel, answer)._replace(has_last=False)


class BinanceFutures(Binance):
    """Dialect of Binance USD-M futures.

    Each stream belongs to one route, and a connection has one route: ``public`` sends ``@depth``,
    ``@bookTicker`` and ``@trade``, ``private`` the account, ``market`` all others (``@aggTrade``,
    ``@markPrice``, ``@kline_1m``). One client can have channels of all. A connection without
    channels has the route of the address, or else of the streams that the address names, or else
    ``public``.

    COIN-M futures have no routes: ``wss://dstream.binance.com`` is left unchanged. Their order
    books need their own ``rest``. The all-market streams (``!ticker@arr``, ``!bookTicker``) carry
    USD-M and COIN-M together, at both addresses: the field ``st`` of an event is 1 for USD-M, 2
    for COIN-M.

    The sequence numbers of a book do not rise one by one: each message names the number of the one
    before it. The REST address, its 1000 levels and the limit of connects, which is that of spot,
    are our assumptions.
    """

    name: ClassVar[str] = "binance_futures"
    limits = Limits(
        channels_per_message=100,
        messages_per_second=9.0,
        channels_per_connection=1024,
        connects=(300, 300.0),
        max_age=86_400.0 - 300.0,
    )
    retired: ClassVar[Mapping[str, str]] = {}
    views = BinanceViews("bookTicker", "!bookTicker")
    heads = Binance.heads._replace(numbers=[("data.previous", "data.last")])

    def __init__(self, *, rest: str = "https://fapi.binance.com/fapi/v1/depth") -> None:
        self.book = BinanceFuturesBook(rest)

    def default_route(self, url: str) -> str:
        base, query = combined(url)
        if _has_no_routes(base):
            return ""
        return _own_route(base) or min(_routes_in(query), default="public")

    def route(self, channel: str, url: str) -> str:
        return _route(channel) if self.default_route(url) else ""

    def request_route(self, payload: Any, url: str) -> str:
        """Return the route of the streams that a request names: others only acknowledge it."""
        default = self.default_route(url)
        named = payload.get("params") if isinstance(payload, Mapping) else None
        streams = named if isinstance(named, (list, tuple)) else []
        routes = {_route(stream) for stream in streams if isinstance(stream, str)}
        return routes.pop() if default and len(routes) == 1 else default

    def address(self, url: str, route: str) -> str:
        if route == self.default_route(url):
            return url
        base, query = combined(url)
        own = _own_route(base)
        options = [part for part in query.split("&") if part.partition("=")[0] not in _NAMING]
        query = f"?{'&'.join(options)}" if any(options) else ""
        return f"{base.removesuffix(f'/{own}')}/{route}/stream{query}"

    def url(self, url: str, credentials: Credentials | None) -> str:
        base, query = combined(url)
        if not _has_no_routes(base):
            base = _routed(base, _routes_in(query))
        return super().url(f"{base}/stream?{query}", credentials)

    def refusal(self, channel: str, address: str) -> str | None:
        wanted = _route(channel)
        base = address.removesuffix("/stream")
        root, _, route = base.rpartition("/")
        if route in _ROUTES and route != wanted and not _has_no_routes(base):
            return (
                f"the route /{route} of this connection does not send this stream, "
                f"which is at {root}/{wanted}"
            )
        # A name without an @ has no symbol that could be in upper case.
        return super().refusal(channel, address) if "@" in channel else None

    def _depth(self, stream: str, data: msgspec.Raw) -> Message:
        update = _futures_update(data)
        return LinkedMessage(
            stream, "depth", update.last, follows=update.previous, is_counted=False
        )


def _has_no_routes(base: str) -> bool:
    """Return whether the address is one of COIN-M or of an account's portfolio margin."""
    host, _, path = base.partition("://")[2].partition("/")
    return "dstream" in host.lower() or path == "pm"


def _own_route(base: str) -> str:
    """Return the route at the end of an address; ``""`` if there is none."""
    place, _, route = base.partition("://")[2].rpartition("/")
    return route if place and route in _ROUTES else ""


def _routes_in(query: str) -> set[str]:
    """Return the routes of the streams that a query names."""
    routes = {_route(stream) for stream in streams_in(query)}
    return routes | {"private"} if "&listenKey=" in f"&{query}" else routes


def _routed(base: str, wanted: Collection[str]) -> str:
    """Return ``base`` with a route: its own, or the one of the streams that it names.

    Raises ConfigurationError if the streams need another route.
    """
    route = _own_route(base)
    if not route:
        route = min(wanted, default="public")
        base = f"{base}/{route}"
    if others := sorted(set(wanted) - {route}):
        raise ConfigurationError(
            f"the address names streams of the route /{others[0]}, which Binance would not send at "
            f"/{route}: name streams of one route there, and subscribe to the others"
        )
    return base


def _route(stream: str) -> str:
    kind = kind_of(stream).removeprefix("!")
    if kind in _PUBLIC or kind.startswith("depth"):
        return "public"
    return "private" if kind == stream and len(stream) >= KEY_LENGTH else "market"
