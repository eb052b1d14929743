"""A base for the protocols of venues with logins, private channels and requests about orders."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from wsclient.dialect import ConfigurationError, from_base64
from wsclient.testing.accounts import Account, ClientIds, OrderRefusal, VenueOrder
from wsclient.testing.market import opening
from wsclient.testing.peer import Peer
from wsclient.testing.protocols import MarketProtocol, Payload, milliseconds

__all__ = [
    "PrivateProtocol",
    "account_of",
    "decimal_of",
    "decoded_secret",
    "same",
    "text_of",
    "whole_of",
]

#: The most digits, before or behind the point, of a number in a request.
MAX_DIGITS = 30


class PrivateProtocol(MarketProtocol):
    """A base for the protocols of venues with accounts.

    It checks logins as the venue does: a signature is computed again, and a time must be that of
    `clock` (s since the epoch). A subclass says which channels are private (`is_private`), what
    they report (`news`), and answers requests about orders by `executed`.
    """

    #: Whether a client order id may come again.
    client_ids: ClassVar[ClientIds] = "never"
    #: How much (s) the time of a login may differ from the venue's.
    WINDOW: ClassVar[float] = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = time.time

    def is_timely(self, time: float | None, per_second: int = 1) -> bool:
        """Return whether a time since the epoch is within the window of the venue's clock."""
        return time is not None and abs(self.clock() - time / per_second) <= self.WINDOW

    def executed(self, peer: Peer, answers: Iterable[Payload]) -> Iterator[Payload]:
        """Yield the answers to a request about orders, unless a fault withholds them.

        The account acts while `answers` is generated, and afterwards the private channels report.
        """
        given = list(answers)
        if not peer.venue.withholds(peer):
            yield from given
        peer.venue.report()

    def place(
        self,
        account: Account,
        symbol: Any,
        side: Any,
        size: Any,
        price: Any,
        client_id: Any = "",
        pair: tuple[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> VenueOrder:
        """Place an order with the fields of a request. Raises OrderRefusal."""
        symbol = text_of(symbol)
        if not symbol:
            raise OrderRefusal("invalid", "the symbol is missing")
        return account.place(
            symbol,
            side,
            decimal_of(size, "size"),
            None if price is None else decimal_of(price, "price"),
            now=milliseconds(),
            client_id=text_of(client_id),
            client_ids=self.client_ids,
            pair=pair,
            market_price=opening(symbol.removeprefix("t")),
            more=more,
        )

    def amend(self, account: Account, which: Any, size: Any, price: Any) -> VenueOrder:
        """Amend an order with the fields of a request, None for what stays. Raises OrderRefusal."""
        return account.amend(
            text_of(which),
            now=milliseconds(),
            size=None if size is None else decimal_of(size, "size"),
            price=None if price is None else decimal_of(price, "price"),
        )


def account_of(accounts: Iterable[Account], api_key: Any) -> Account | None:
    """Return the account of a key, None if there is none."""
    return next((account for account in accounts if account.api_key == api_key), None)


def decoded_secret(account: Account) -> bytes:
    """Return the secret of an account at a venue that issues it in base64."""
    try:
        return from_base64(account.secret)
    except ConfigurationError:
        return account.secret.encode()


def same(given: Any, right: str) -> bool:
    """Return whether a signature or a passphrase of a client is right."""
    return isinstance(given, str) and hmac.compare_digest(given.encode(), right.encode())


def whole_of(value: Any) -> int | None:
    """Return a whole number in a request, which may be a text; None if it is none."""
    text = text_of(value)
    return int(text) if text.isdecimal() and len(text) < MAX_DIGITS else None


def text_of(value: Any) -> str:
    """Return a field of a request as text, an empty text if it is missing."""
    return "" if value is None else str(value)


def decimal_of(value: Any, name: str) -> Decimal:
    """Return a number in a request, which may be a text. Raises OrderRefusal if it is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise OrderRefusal("invalid", f"the {name} is no number") from None
    if number and number.is_finite() and not -MAX_DIGITS < number.adjusted() < MAX_DIGITS:
        raise OrderRefusal("invalid", f"the {name} is too large or too small")
    return number
