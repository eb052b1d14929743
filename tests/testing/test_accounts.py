"""Accounts: what becomes of orders and balances."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.testing import Account, OrderRefusal, VenueOrder

PAIR = ("BTC", "USD")


@pytest.fixture
def account() -> Account:
    return Account(balances={"BTC": Decimal(10), "USD": Decimal(1000)})


def place(account: Account, size: Any = 1, price: Any = 100, **options: Any) -> VenueOrder:
    side = options.pop("side", "buy")
    price = None if price is None else Decimal(price)
    given = {"now": 1, "pair": PAIR, **options}
    return account.place("BTC-USD", side, Decimal(size), price, **given)


def refused(account: Account, kind: str, call: Any) -> None:
    before = dict(account.orders), dict(account.balances)
    account.take_changes()
    with pytest.raises(OrderRefusal) as caught:
        call()
    assert caught.value.kind == kind
    assert (account.orders, account.balances) == before
    assert account.take_changes() == []


def test_a_limit_order_rests_and_is_filled_in_parts(account: Account) -> None:
    order = place(account, 4, 100)
    assert (order.is_open, order.remaining, account.open_orders()) == (True, 4, [order])
    account.fill(order, now=2, size=Decimal(1))
    done = account.fill(order, now=3, price=Decimal(96))
    assert (done.state, done.filled, done.average, done.updated_at) == ("filled", 4, 97, 3)
    assert account.open_orders() == []
    assert account.balances == {"BTC": 14, "USD": 1000 - 100 - 3 * 96}
    assert [change.kind for change in account.take_changes()] == ["placed", "filled", "filled"]


def test_a_market_order_is_filled_at_once(account: Account) -> None:
    order = place(account, 2, None, side="sell", market_price=Decimal(50))
    assert (order.state, order.average, order.price) == ("filled", 50, None)
    assert account.balances == {"BTC": 8, "USD": 1100}


def test_an_order_is_found_by_its_ids_and_by_an_older_state(account: Account) -> None:
    order = place(account, client_id="mine")
    now = account.amend(order, now=2, size=Decimal(2))
    assert account.find(order) == account.find("mine") == account.find(order.id) == now
    assert account.find("other") is account.find("") is None


def test_a_change_never_alters_an_order_that_was_given_out(account: Account) -> None:
    order = place(account)
    account.cancel(order, now=2)
    assert order.is_open
    assert account.orders[order.id].state == "canceled"


@pytest.mark.parametrize(
    ("client_ids", "while_open", "when_closed"),
    [("never", False, False), ("closed", False, True), ("always", True, True)],
)
def test_when_a_client_order_id_may_come_again(
    account: Account, client_ids: Any, while_open: bool, when_closed: bool
) -> None:
    def again() -> None:
        place(account, client_id="a", client_ids=client_ids)

    again()
    if while_open:
        again()
    else:
        refused(account, "duplicate", again)
    account.cancel_all(now=2)
    if when_closed:
        again()
    else:
        refused(account, "duplicate", again)


def test_open_orders_hold_their_funds(account: Account) -> None:
    order = place(account, 9, 100)
    assert (account.held("USD"), account.held("BTC")) == (900, 0)
    refused(account, "funds", lambda: place(account, 2, 100))
    account.amend(order, now=2, size=Decimal(10))
    refused(account, "funds", lambda: account.amend(order, now=3, size=Decimal(11)))
    refused(account, "funds", lambda: place(account, 11, 1, side="sell"))
    account.cancel(order, now=4)
    assert account.held("USD") == 0


def test_balances_stay_where_a_symbol_has_no_pair(account: Account) -> None:
    account.fill(place(account, 10_000, 100, pair=None), now=2)
    assert account.balances == {"BTC": 10, "USD": 1000}


@pytest.mark.parametrize(("size", "price"), [("0", "1"), ("-1", "1"), ("NaN", "1"), ("1", "0")])
def test_numbers_that_make_no_sense_are_refused(account: Account, size: str, price: str) -> None:
    refused(account, "invalid", lambda: place(account, size, price))


def test_what_is_not_open_cannot_be_changed(account: Account) -> None:
    order = account.cancel(place(account), now=2)
    for call in (account.cancel, account.fill, account.amend):
        refused(account, "unknown", lambda call=call: call(order, now=3))
        refused(account, "unknown", lambda call=call: call("none", now=3))


def test_no_more_is_filled_than_remains_and_no_less_is_left(account: Account) -> None:
    order = account.fill(place(account, 3), now=2, size=Decimal(2))
    refused(account, "invalid", lambda: account.fill(order, now=3, size=Decimal(2)))
    refused(account, "invalid", lambda: account.amend(order, now=3, size=Decimal(2)))
    refused(account, "invalid", lambda: place(account, side="hold"))


def test_orders_of_one_symbol_are_canceled_together(account: Account) -> None:
    one = place(account)
    other = account.place("ETH-USD", "buy", Decimal(1), Decimal(1), now=1)
    assert [order.id for order in account.cancel_all("ETH-USD", now=2)] == [other.id]
    assert account.open_orders() == [one]


def test_the_keys_are_in_no_text(account: Account) -> None:
    assert account.secret not in repr(account)
    assert account.passphrase not in repr(account)


@pytest.mark.parametrize(("side", "worse"), [("buy", 101), ("sell", 99)])
def test_a_limit_order_is_never_filled_at_a_worse_price(
    account: Account, side: str, worse: int
) -> None:
    order = place(account, 10, 100, side=side)
    refused(account, "invalid", lambda: account.fill(order, now=2, price=Decimal(worse)))


_STEPS = st.tuples(
    st.sampled_from(["place", "amend", "fill", "cancel"]),
    st.sampled_from(["buy", "sell"]),
    st.decimals(-1, 12, places=2),
    st.none() | st.decimals(0, 200, places=2),
    st.integers(1, 4),
)


@given(st.lists(_STEPS, max_size=25))
def test_no_balance_is_negative_and_no_order_filled_beyond_its_size(steps: Any) -> None:
    account = Account(balances={"BTC": Decimal(10), "USD": Decimal(1000)})
    for what, side, size, price, number in steps:
        which = str(number)
        with suppress(OrderRefusal):
            match what:
                case "place":
                    place(account, size, price, side=side, market_price=Decimal(90))
                case "amend":
                    account.amend(which, now=2, size=size, price=price)
                case "fill":
                    account.fill(which, now=2, size=size, price=price)
                case "cancel":
                    account.cancel(which, now=2)
        assert min(account.balances.values()) >= 0
        assert all(0 <= order.filled <= order.size for order in account.orders.values())
        assert account.held("USD") <= account.balance("USD")
        assert account.held("BTC") <= account.balance("BTC")
