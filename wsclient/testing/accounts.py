"""An account at a venue: its keys, orders and balances. Pure: a venue drives it under its lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, NamedTuple

__all__ = ["Account", "ClientIds", "OrderChange", "OrderRefusal", "VenueOrder"]

#: Whether a client order id may come again: never, once its order is closed, or always.
ClientIds = Literal["never", "closed", "always"]
OrderSide = Literal["buy", "sell"]

_NOTHING = Decimal(0)
#: Sizes and prices have fewer digits before and behind the point.
_MOST_DIGITS = 30
_CURRENCIES = {"BTC": 100, "ETH": 1_000, "SOL": 10_000}
_MONEY = dict.fromkeys(("USD", "USDC", "USDT"), 100_000_000)


class OrderRefusal(Exception):
    """Why an account refuses a request: a text, and its `kind`.

    - `"duplicate"`: there is an order with this client order id already;
    - `"unknown"`: there is no such order, or it is closed;
    - `"funds"`: the balance is too small;
    - `"invalid"`: the request makes no sense.
    """

    def __init__(
        self, kind: Literal["duplicate", "unknown", "funds", "invalid"], text: str
    ) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class VenueOrder:
    """An order as it is at one time. A change of it makes another object.

    `id` is the venue's, `client_id` the client's, `""` if it gave none. `price` is None for a
    market order, `average` the mean price of what is `filled`. Times are in ms since the epoch.
    `pair` has the currencies that it trades, None if the venue keeps no balances of them. `more`
    has further fields of the request that the venue repeats.
    """

    id: str
    symbol: str
    side: OrderSide
    size: Decimal
    price: Decimal | None
    client_id: str
    created_at: int
    updated_at: int
    state: Literal["open", "filled", "canceled"] = "open"
    filled: Decimal = _NOTHING
    average: Decimal = _NOTHING
    pair: tuple[str, str] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it rests in the book."""
        return self.state == "open"

    @property
    def remaining(self) -> Decimal:
        """The size that is not filled."""
        return self.size - self.filled


class OrderChange(NamedTuple):
    """What happened to an order, with the order as it is afterwards.

    For a fill, `size` and `price` are those of this fill, and `number` counts the account's fills.
    """

    kind: Literal["placed", "amended", "filled", "canceled"]
    order: VenueOrder
    size: Decimal = _NOTHING
    price: Decimal = _NOTHING
    number: int = 0


def _balances() -> dict[str, Decimal]:
    return {name: Decimal(amount) for name, amount in (_CURRENCIES | _MONEY).items()}


@dataclass(eq=False)
class Account:
    """An account of a `FakeVenue`, which the credentials of a client belong to.

    The `secret` is base64, as some venues issue theirs. None of these is a secret: each fake venue
    has them by default. A limit order rests until it is filled by `FakeVenue.fill`; a market order
    is filled at once. `orders` has all orders by their ids, the closed ones too.
    """

    api_key: str = "fake-key"
    secret: str = field(default="ZmFrZS1zZWNyZXQ=", repr=False)
    passphrase: str = field(default="fake-passphrase", repr=False)
    balances: dict[str, Decimal] = field(default_factory=_balances, repr=False)
    orders: dict[str, VenueOrder] = field(default_factory=dict, repr=False)
    #: The number of the first order.
    first: int = field(default=1, repr=False)
    _changes: list[OrderChange] = field(default_factory=list, repr=False)
    _fills: int = field(default=0, repr=False)

    # Reads

    def find(self, which: VenueOrder | str) -> VenueOrder | None:
        """Return an order as it is now, by its id, by its client order id, or by an older state."""
        key = which.id if isinstance(which, VenueOrder) else which
        if key in self.orders:
            return self.orders[key]
        named = [order for order in self.orders.values() if key and order.client_id == key]
        return named[-1] if named else None

    def open_orders(self, symbol: str | None = None) -> list[VenueOrder]:
        """Return the orders that rest in the book, of one symbol or of all."""
        return [o for o in self.orders.values() if o.is_open and symbol in (None, o.symbol)]

    def held(self, currency: str) -> Decimal:
        """Return how much of a currency the open orders need."""
        held = _NOTHING
        for order in self.open_orders():
            needed, amount = _needs(order, order.price or _NOTHING)
            held += amount if needed == currency else _NOTHING
        return held

    def balance(self, currency: str) -> Decimal:
        """Return the balance of a currency, with what open orders hold."""
        return self.balances.get(currency, _NOTHING)

    def take_changes(self) -> list[OrderChange]:
        """Return what has happened since the last call. For the venue."""
        taken, self._changes = self._changes, []
        return taken

    # Requests. Each raises OrderRefusal, and then changes nothing.

    def place(
        self,
        symbol: str,
        side: OrderSide,
        size: Decimal,
        price: Decimal | None,
        *,
        now: int,
        client_id: str = "",
        client_ids: ClientIds = "never",
        pair: tuple[str, str] | None = None,
        market_price: Decimal = Decimal(1),
        more: Mapping[str, Any] | None = None,
    ) -> VenueOrder:
        """Place a limit order, or without a price a market order, filled at `market_price`."""
        if side not in ("buy", "sell"):
            raise OrderRefusal("invalid", f"the side must be buy or sell, not {side!r}")
        _check(size, price)
        others = [o for o in self.orders.values() if client_id and o.client_id == client_id]
        if (client_ids == "never" and others) or (client_ids == "closed" and _any_open(others)):
            raise OrderRefusal("duplicate", f"there is an order {client_id!r} already")
        number = str(self.first + len(self.orders))
        order = VenueOrder(
            number, symbol, side, size, price, client_id, now, now, pair=pair, more=dict(more or {})
        )
        self._check_funds(order, market_price if price is None else price)
        self._changed("placed", order)
        return order if price is not None else self.fill(order, price=market_price, now=now)

    def amend(
        self,
        which: VenueOrder | str,
        *,
        now: int,
        size: Decimal | None = None,
        price: Decimal | None = None,
    ) -> VenueOrder:
        """Change size or price of an open order."""
        order = self._open(which)
        amended = replace(
            order,
            size=order.size if size is None else size,
            price=order.price if price is None else price,
            updated_at=now,
        )
        _check(amended.size, amended.price)
        if amended.remaining <= 0:
            raise OrderRefusal("invalid", f"{order.filled} of the order is filled already")
        self._check_funds(amended, amended.price or _NOTHING)
        return self._changed("amended", amended)

    def cancel(self, which: VenueOrder | str, *, now: int) -> VenueOrder:
        """Cancel an open order."""
        order = replace(self._open(which), state="canceled", updated_at=now)
        return self._changed("canceled", order)

    def cancel_all(self, symbol: str | None = None, *, now: int) -> list[VenueOrder]:
        """Cancel all open orders, of one symbol or of all."""
        return [self.cancel(order, now=now) for order in self.open_orders(symbol)]

    def fill(
        self,
        which: VenueOrder | str,
        *,
        now: int,
        size: Decimal | None = None,
        price: Decimal | None = None,
    ) -> VenueOrder:
        """Fill an open order, in part if `size` is less than what remains, at its own price.

        Another `price` must not be worse for a limit order: the funds would not suffice.
        """
        order = self._open(which)
        size = order.remaining if size is None else size
        price = order.price if price is None else price
        _check(size, price)
        if size > order.remaining or price is None:
            raise OrderRefusal("invalid", f"only {order.remaining} of the order remains")
        sign = 1 if order.side == "buy" else -1
        if order.price is not None and sign * price > sign * order.price:
            raise OrderRefusal("invalid", f"{price} is worse than the limit {order.price}")
        filled = order.filled + size
        order = replace(
            order,
            filled=filled,
            average=(order.average * order.filled + price * size) / filled,
            state="filled" if filled == order.size else "open",
            updated_at=now,
        )
        if order.pair is not None:
            base, quote = order.pair
            self.balances[base] = self.balance(base) + sign * size
            self.balances[quote] = self.balance(quote) - sign * size * price
        self._fills += 1
        return self._changed("filled", order, size, price)

    def _open(self, which: VenueOrder | str) -> VenueOrder:
        order = self.find(which)
        if order is None or not order.is_open:
            raise OrderRefusal("unknown", "there is no such open order")
        return order

    def _check_funds(self, order: VenueOrder, price: Decimal) -> None:
        needed, amount = _needs(order, price)
        if needed is None:
            return
        before = self.orders.get(order.id)
        own = _NOTHING if before is None else _needs(before, before.price or _NOTHING)[1]
        if amount > self.balance(needed) - self.held(needed) + own:
            raise OrderRefusal("funds", f"not enough {needed}")

    def _changed(
        self,
        kind: Literal["placed", "amended", "filled", "canceled"],
        order: VenueOrder,
        size: Decimal = _NOTHING,
        price: Decimal = _NOTHING,
    ) -> VenueOrder:
        self.orders[order.id] = order
        self._changes.append(OrderChange(kind, order, size, price, self._fills))
        return order


def _any_open(orders: list[VenueOrder]) -> bool:
    """Return whether one of these orders rests in the book."""
    return any(order.is_open for order in orders)


def _needs(order: VenueOrder, price: Decimal) -> tuple[str | None, Decimal]:
    """Return the currency that the rest of an order pays with at this price, and how much."""
    if order.pair is None:
        return None, _NOTHING
    base, quote = order.pair
    return (quote, order.remaining * price) if order.side == "buy" else (base, order.remaining)


def _check(size: Decimal, price: Decimal | None) -> None:
    if not (size.is_finite() and size > 0 and abs(size.adjusted()) < _MOST_DIGITS):
        raise OrderRefusal("invalid", f"the size must be above 0, not {size}")
    if price is None:
        return
    if not (price.is_finite() and price > 0 and abs(price.adjusted()) < _MOST_DIGITS):
        raise OrderRefusal("invalid", f"the price must be above 0, not {price}")
