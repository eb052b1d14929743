"""The accounts of a venue, what happens to their orders, and answers that do not come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from wsclient.testing.accounts import Account, OrderRefusal, OrderSide, VenueOrder
from wsclient.testing.frames import Payload
from wsclient.testing.journal import Published
from wsclient.testing.market import opening
from wsclient.testing.peer import Peer
from wsclient.testing.protocols import milliseconds
from wsclient.testing.publishing import _Publishing

_Amount = Decimal | int | str


@dataclass
class _AnswerFault:
    """What happens to the answer of each `every`-th request about orders, `times` times."""

    kind: Literal["rst", "fin", "silence"]
    times: float
    every: int
    seen: int = 0

    def strikes(self) -> bool:
        self.seen += 1
        return self.seen % self.every == 0


class _Trading(_Publishing):
    """The part of a `FakeVenue` that has accounts."""

    accounts: Sequence[Account]
    log: Callable[[Peer, str], None] | None
    _answer_faults: list[_AnswerFault]

    @property
    def account(self) -> Account:
        """The first account. Raises ValueError if the venue has none."""
        if not self.accounts:
            raise ValueError("the venue has no account: pass accounts=[Account()]")
        return self.accounts[0]

    @property
    def credentials(self) -> dict[str, str] | None:
        """The credentials of the first account, for `connect(credentials=...)`.

        None if the venue's dialect takes none.
        """
        return self.credentials_of(self.account) if self.accounts else None

    def credentials_of(self, account: Account) -> dict[str, str] | None:
        """Return the credentials of an account, None if the venue's dialect takes none."""
        fields = self.traits.credential_fields
        return {name: getattr(account, field) for name, field in fields.items()} or None

    # What happens to orders without a request by WebSocket

    def place(
        self,
        symbol: str,
        side: OrderSide,
        size: _Amount,
        price: _Amount | None = None,
        *,
        client_id: str = "",
        account: Account | None = None,
    ) -> VenueOrder:
        """Place an order as a user does on the venue's website.

        A limit order rests until `fill`; one without a price is filled at once, at the opening
        price of the made-up market. Raises OrderRefusal if the account refuses it.
        """
        with self.lock:
            order = (account or self.account).place(
                symbol,
                side,
                Decimal(size),
                None if price is None else Decimal(price),
                now=milliseconds(),
                client_id=client_id,
                pair=self.traits.pair(symbol),
                market_price=opening(symbol),
            )
            self.report()
            return order

    def fill(
        self, order: VenueOrder | str, size: _Amount | None = None, price: _Amount | None = None
    ) -> VenueOrder:
        """Fill an order of any account, all that remains or `size` of it, at its price.

        An order is named by an earlier state of it, by its id or by its client order id. Raises
        OrderRefusal if no such order rests.
        """
        with self.lock:
            size, price = (None if n is None else Decimal(n) for n in (size, price))
            filled = self._owner(order).fill(order, size=size, price=price, now=milliseconds())
            self.report()
            return filled

    def amend(
        self, order: VenueOrder | str, size: _Amount | None = None, price: _Amount | None = None
    ) -> VenueOrder:
        """Change size or price of an order, as a user does on the venue's website."""
        with self.lock:
            size, price = (None if n is None else Decimal(n) for n in (size, price))
            amended = self._owner(order).amend(order, size=size, price=price, now=milliseconds())
            self.report()
            return amended

    def cancel(self, order: VenueOrder | str) -> VenueOrder:
        """Cancel an order, as a venue may do by itself."""
        with self.lock:
            canceled = self._owner(order).cancel(order, now=milliseconds())
            self.report()
            return canceled

    def _owner(self, order: VenueOrder | str) -> Account:
        for account in self.accounts:
            if account.find(order) is not None:
                return account
        raise OrderRefusal("unknown", f"there is no order {order!r}")

    # Answers that do not come

    def cut_before_answer(
        self, times: int | None = 1, *, every: int = 1, by: Literal["rst", "fin"] = "rst"
    ) -> None:
        """Act on a request about orders, then end its connection instead of the answer.

        This strikes each `every`-th request from now on, on any connection, `times` times (None:
        for good). The connection ends with a RST, or by `"fin"`.
        """
        self._withhold(by, times, every)

    def never_answer(self, times: int | None = 1, *, every: int = 1) -> None:
        """Act on a request about orders, but never answer it. The connection stays open.

        `times` and `every` are as in `cut_before_answer`.
        """
        self._withhold("silence", times, every)

    def _withhold(
        self, kind: Literal["rst", "fin", "silence"], times: int | None, every: int
    ) -> None:
        if every < 1 or (times is not None and times < 1):
            raise ValueError("times and every must be at least 1")
        with self.lock:
            fault = _AnswerFault(kind, float("inf") if times is None else times, every)
            self._answer_faults.append(fault)

    def withholds(self, peer: Peer) -> bool:
        """Return whether a fault withholds the answer to a request about orders; it strikes now.

        For protocols. Unless the fault is a silence, it ends the connection.
        """
        for fault in self._answer_faults:
            if not fault.strikes():
                continue
            fault.times -= 1
            if fault.times <= 0:
                self._answer_faults.remove(fault)
            if self.log is not None:
                self.log(peer, "acted on a request, but withheld the answer")
            if fault.kind == "rst":
                peer.rst()
            elif fault.kind == "fin":
                peer.fin()
            return True
        return False

    # The private channels

    def report(self) -> None:
        """Send what has happened to orders to those who are subscribed. For protocols."""
        for account in self.accounts:
            for change in account.take_changes():
                for channel, payload in self.traits.news(account, change):
                    self._report(account, channel, payload)

    def _report(self, account: Account, channel: str, message: Payload | Mapping[str, Any]) -> None:
        has_logins = bool(self.traits.credential_fields)
        peers = [p for p in self.subscribers(channel) if p.account is account or not has_logins]
        sequence = self._sequences[channel] = self.sequence(channel) + 1
        if isinstance(message, Mapping):
            message = self.protocol.data(channel, sequence, message)
        if self.has_journal:
            ids = tuple(peer.id for peer in peers)
            self.journal.add(Published(channel, sequence, message, None, ids))
        for peer in peers:
            self._post(peer, channel, channel, message, sequence, sequence)
