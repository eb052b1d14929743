"""What a test does with the orders of a venue, and answers that do not come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wsclient.testing import Account, FakeVenue, OrderRefusal


def place(client: Any, number: int) -> None:
    order = {"symbol": "BTC-USD", "side": "buy", "size": 1, "price": 100}
    client.send(json.dumps({"type": "order.place", "id": number, **order}))


def answer(client: Any) -> Any:
    return json.loads(client.recv(timeout=5))


def test_each_nth_request_about_orders_has_no_answer(venue: FakeVenue, dial: Any) -> None:
    client = dial(venue)
    venue.never_answer(2, every=3)
    for number in range(1, 11):
        place(client, number)
    client.send('{"type":"subscribe","channel":"a"}')
    answers = [answer(client) for _ in range(9)]
    assert [a["id"] for a in answers[:-1]] == [1, 2, 4, 5, 7, 8, 9, 10]
    assert len(venue.account.orders) == 10


def test_a_cut_strikes_requests_about_orders_only(venue: FakeVenue, dial: Any) -> None:
    client = dial(venue)
    venue.cut_before_answer(None, by="fin")
    client.send('{"type":"subscribe","channel":"a"}')
    assert answer(client)["status"] == "success"
    place(client, 1)
    peer = venue.accept()
    peer.wait_closed()
    assert peer.ended_by == "fin"
    other = dial(venue)
    place(other, 2)
    venue.accept().wait_closed()
    assert len(venue.account.orders) == 2


@pytest.mark.parametrize("given", [{"times": 0}, {"every": 0}])
def test_a_fault_that_never_strikes_is_refused(venue: FakeVenue, given: Any) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        venue.cut_before_answer(**given)


def test_orders_of_a_test_are_reported_and_numbered(venue: FakeVenue, dial: Any) -> None:
    client = dial(venue)
    client.send('{"type":"subscribe","channel":"orders"}')
    answer(client)
    order = venue.place("BTC-USD", "buy", 2, 100, client_id="a")
    venue.amend("a", price=90)
    venue.fill(order, 1)
    venue.cancel(order.id)
    reported = [answer(client) for _ in range(4)]
    assert [(t["sequence"], t["event"], t["status"]) for t in reported] == [
        (1, "placed", "open"),
        (2, "amended", "open"),
        (3, "filled", "open"),
        (4, "canceled", "canceled"),
    ]
    assert [published.channel for published in venue.journal.published] == ["orders"] * 4
    with pytest.raises(OrderRefusal, match="no order"):
        venue.fill("none")


def test_a_market_order_of_a_test_has_the_opening_price(venue: FakeVenue) -> None:
    order = venue.place("BTC-USD", "buy", 2)
    assert (order.state, order.average > 1000) == ("filled", True)


def test_orders_of_several_accounts_have_different_numbers() -> None:
    accounts = [Account(), Account(api_key="other")]
    with FakeVenue("okx", accounts=accounts) as venue:
        orders = [venue.place("BTC-USDT", "buy", 1, 1, account=account) for account in accounts]
        assert orders[0].id != orders[1].id
        venue.fill(orders[1])
        assert accounts[0].orders[orders[0].id].is_open


def test_an_account_survives_its_venue() -> None:
    account = Account()
    with FakeVenue("okx", accounts=[account]) as venue:
        venue.place("BTC-USDT", "buy", 1, 1)
    with FakeVenue("okx", accounts=[account]) as venue:
        venue.place("BTC-USDT", "buy", 1, 1)
    assert list(account.orders) == ["1", "2"]


def test_the_credentials_are_those_of_the_dialect() -> None:
    account = Account("key", "c2VjcmV0", "words")
    found = {
        name: FakeVenue(name, accounts=[account]).credentials
        for name in ("okx", "deribit", "generic", "kraken")
    }
    assert found == {
        "okx": {"api_key": "key", "secret": "c2VjcmV0", "passphrase": "words"},
        "deribit": {"client_id": "key", "client_secret": "c2VjcmV0"},
        "generic": None,
        "kraken": {"api_key": "key", "secret": "c2VjcmV0"},
    }
