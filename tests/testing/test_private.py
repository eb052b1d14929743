"""Logins, private channels and requests about orders: each venue with the client itself."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

import wsclient
from wsclient import Dialect, WebSocketClient
from wsclient.dialect import Credentials, sign
from wsclient.testing import Account, FakeVenue, VenueOrder, venues

QUICK: dict[str, Any] = {"retry_delay": 0.001, "max_retries": 1}


def stamp() -> dict[str, str]:
    return {"X-BAPI-TIMESTAMP": str(int(time.time() * 1000))}


def rest_of(venue: FakeVenue) -> str:
    return venue.url.replace("ws:", "http:").rstrip("/")


def token_of(venue: FakeVenue) -> str:
    """Return a token of Kraken, as a user requests one for orders."""
    given = Credentials(venue.credentials or {}, time.time)
    request = wsclient.Kraken(rest=rest_of(venue)).url_request("wss://ws-auth.kraken.com/v2", given)
    assert request is not None
    asked = urllib.request.Request(
        request.url, request.body.encode(), dict(request.headers), method="POST"
    )
    with urllib.request.urlopen(asked, timeout=5) as answer:
        return str(json.load(answer)["result"]["token"])


class Trader(NamedTuple):
    """How orders are placed at a venue, and what its private channel says of them.

    ``reported`` returns the number and the state of the order that a message is about, if it is
    about one. The states are, in this order: open, filled in part, filled, canceled.
    """

    channel: str
    place: Callable[[str], Any]
    reported: Callable[[Any], tuple[Any, str] | None]
    states: tuple[str, str, str, str]
    route: str | None = None
    dialect: Callable[[FakeVenue], str | Dialect] | None = None
    has_snapshot: bool = False
    duplicate: str | None = None
    batch: Callable[[str], Any] | None = None
    failures: Callable[[Any], list[bool]] | None = None


def okx_order(client_id: str, **more: Any) -> dict[str, Any]:
    order = {"instIdCode": 1, "tdMode": "cash", "side": "buy", "ordType": "limit", "px": "100"}
    return {**order, "sz": "2", "clOrdId": client_id, **more}


def bybit_order(client_id: str, **more: Any) -> dict[str, Any]:
    order = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "2", "price": "100"}
    return {**order, "orderLinkId": client_id, **more}


def kraken_order(client_id: str, **more: Any) -> dict[str, Any]:
    order = {"order_type": "limit", "side": "buy", "limit_price": 100, "order_qty": 2}
    return {**order, "cl_ord_id": client_id, **more}


def generic_order(client_id: str, **more: Any) -> dict[str, Any]:
    order = {"type": "order.place", "symbol": "BTC-USD", "side": "buy", "size": 2, "price": 100}
    return {**order, "client_id": client_id, **more}


def deribit_reported(data: Any) -> tuple[Any, str]:
    order = data["params"]["data"]
    is_part = order["filled_amount"] and order["order_state"] == "open"
    return order["order_id"], "part" if is_part else order["order_state"]


def bitfinex_reported(data: Any) -> tuple[Any, str] | None:
    if data[1] in ("on", "ou", "oc"):
        return str(data[2][0]), data[2][13].partition(" @")[0]
    return None


def generic_reported(data: Any) -> tuple[Any, str]:
    return data["order_id"], "part" if data["filled"] and data["status"] == "open" else data[
        "status"
    ]


TRADERS = {
    "okx": Trader(
        "orders",
        lambda id: {"op": "order", "args": [okx_order(id)]},
        lambda data: (data["data"][0]["ordId"], data["data"][0]["state"]),
        ("live", "partially_filled", "filled", "canceled"),
        route="private",
        duplicate="51016",
        batch=lambda id: {
            "op": "batch-orders",
            "args": [okx_order(id), okx_order("other"), okx_order("third", sz="0")],
        },
        failures=lambda answer: [row["sCode"] != "0" for row in answer["data"]],
    ),
    "bybit": Trader(
        "order",
        lambda id: {
            "op": "order.create",
            "header": stamp(),
            "args": [bybit_order(id, category="linear")],
        },
        lambda data: (data["data"][0]["orderId"], data["data"][0]["orderStatus"]),
        ("New", "PartiallyFilled", "Filled", "Cancelled"),
        route="private",
        duplicate="110072",
        batch=lambda id: {
            "op": "order.create-batch",
            "header": stamp(),
            "args": [
                {
                    "category": "linear",
                    "request": [bybit_order(id), bybit_order("other"), bybit_order("3", qty="0")],
                }
            ],
        },
        failures=lambda answer: [row["code"] != 0 for row in answer["retExtInfo"]["list"]],
    ),
    "deribit": Trader(
        "user.orders.BTC-PERPETUAL.raw",
        lambda id: {
            "method": "private/buy",
            "params": {"instrument_name": "BTC-PERPETUAL", "amount": 2, "price": 100, "label": id},
        },
        deribit_reported,
        ("open", "part", "filled", "cancelled"),
    ),
    "kraken": Trader(
        "executions",
        lambda id: {
            "method": "add_order",
            "params": {**kraken_order(id), "symbol": "BTC/USD"},  # the client adds the token
        },
        lambda data: (
            (data["data"][0]["order_id"], data["data"][0]["order_status"]) if data["data"] else None
        ),
        ("new", "partially_filled", "filled", "canceled"),
        route="auth",
        dialect=lambda venue: wsclient.Kraken(rest=rest_of(venue)),
        has_snapshot=True,
        duplicate="EOrder",
        batch=lambda id: {
            "method": "batch_add",
            "params": {
                "symbol": "BTC/USD",
                "orders": [kraken_order(id), kraken_order("other"), kraken_order("3", order_qty=0)],
            },
        },
        failures=lambda answer: ["error" in row for row in answer["result"]["orders"]],
    ),
    "bitfinex": Trader(
        "account",
        lambda id: [
            0,
            "on",
            None,
            {"type": "EXCHANGE LIMIT", "symbol": "tBTCUSD", "amount": "2", "price": "100"},
        ],
        bitfinex_reported,
        ("ACTIVE", "PARTIALLY FILLED", "EXECUTED", "CANCELED"),
        dialect=lambda _: wsclient.Bitfinex(cids_from=1_700_000_000_000),
        has_snapshot=True,
    ),
    "generic": Trader(
        "orders",
        lambda id: generic_order(id),
        generic_reported,
        ("open", "part", "filled", "canceled"),
        duplicate="there is an order",
        batch=lambda id: {
            "type": "order.batch",
            "requests": [generic_order(id), generic_order("other"), generic_order("3", size=0)],
        },
        failures=lambda answer: [row["status"] == "error" for row in answer["responses"]],
    ),
}
WITH_LOGIN = [name for name in TRADERS if name != "generic"]


@contextmanager
def trading(
    name: str, venue: FakeVenue, account: Account | None = None, **options: Any
) -> Iterator[WebSocketClient]:
    """Connect a client that has subscribed to the private channel of orders."""
    trader = TRADERS[name]
    url = venue.url if trader.route is None else venue.route_url(trader.route)
    dialect = name if trader.dialect is None else trader.dialect(venue)
    credentials = venue.credentials_of(account or venue.account)
    given = {**QUICK, "credentials": credentials, **options}
    with wsclient.connect(url, dialect=dialect, **given) as client:
        if name != "bitfinex":  # its account needs no subscription
            client.subscribe(trader.channel)
        yield client


def reports(name: str, client: WebSocketClient) -> Iterator[tuple[Any, str]]:
    """Yield what the private channel says of orders."""
    while True:
        message = client.recv(timeout=5)
        if message.channel == TRADERS[name].channel:
            found = TRADERS[name].reported(message.data)
            if found is not None:
                yield found


def newest(venue: FakeVenue) -> VenueOrder:
    return list(venue.account.orders.values())[-1]


@pytest.mark.parametrize("name", TRADERS)
def test_an_order_is_placed_filled_and_canceled(name: str) -> None:
    new, part, filled, canceled = TRADERS[name].states
    with FakeVenue(name) as venue, trading(name, venue) as client:
        reported = reports(name, client)
        client.request(TRADERS[name].place("a"))
        first = newest(venue)
        assert (first.side, first.size, first.price) == ("buy", 2, 100)
        assert next(reported) == (first.id, new)
        venue.fill(first, "0.5")
        assert next(reported) == (first.id, part)
        venue.fill(first)
        assert next(reported) == (first.id, filled)
        client.request(TRADERS[name].place("b"))
        second = newest(venue)
        assert next(reported) == (second.id, new)
        venue.cancel(second)
        assert next(reported) == (second.id, canceled)
        assert client.stats().invalid == client.stats().unhandled == 0


#: Requests that change an order to a price of 90, that cancel it, and that cancel all orders.
CHANGES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any] | None]] = {
    "okx": (
        lambda order: {"op": "amend-order", "args": [{"ordId": order.id, "newPx": "90"}]},
        lambda order: {"op": "cancel-order", "args": [{"clOrdId": order.client_id}]},
        lambda orders: {"op": "batch-cancel-orders", "args": [{"ordId": o.id} for o in orders]},
    ),
    "bybit": (
        lambda order: {
            "op": "order.amend",
            "header": stamp(),
            "args": [{"category": "linear", "orderId": order.id, "price": "90"}],
        },
        lambda order: {
            "op": "order.cancel",
            "header": stamp(),
            "args": [{"category": "linear", "orderLinkId": order.client_id}],
        },
        lambda orders: {
            "op": "order.cancel-batch",
            "header": stamp(),
            "args": [{"category": "linear", "request": [{"orderId": o.id} for o in orders]}],
        },
    ),
    "deribit": (
        lambda order: {
            "method": "private/edit",
            "params": {"order_id": order.id, "amount": 2, "price": 90},
        },
        lambda order: {"method": "private/cancel", "params": {"order_id": order.id}},
        lambda orders: {"method": "private/cancel_all", "params": {}},
    ),
    "kraken": (
        lambda order: {
            "method": "amend_order",
            "params": {"order_id": order.id, "limit_price": 90},
        },
        lambda order: {"method": "cancel_order", "params": {"cl_ord_id": [order.client_id]}},
        lambda orders: {"method": "cancel_all"},
    ),
    "generic": (
        lambda order: {"type": "order.amend", "order_id": order.id, "price": 90},
        lambda order: {"type": "order.cancel", "client_id": order.client_id},
        lambda orders: {"type": "order.cancel_all"},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_order_is_amended_and_canceled_by_requests(name: str) -> None:
    amend, cancel, cancel_all = CHANGES[name]
    with FakeVenue(name) as venue, trading(name, venue) as client:
        reported = reports(name, client)
        for client_id in "abc":
            client.request(TRADERS[name].place(client_id))
        first, *others = venue.account.orders.values()
        client.request(amend(first))
        assert venue.account.orders[first.id].price == 90
        client.request(cancel(first))
        states = [next(reported) for _ in range(5)]
        assert states[-1] == (first.id, TRADERS[name].states[3])
        with pytest.raises(wsclient.RequestRejected):
            client.request(cancel(first))
        client.request(cancel_all(others))
        assert venue.account.open_orders() == []
        assert [next(reported)[0] for _ in others] == [order.id for order in others]


def test_bitfinex_answers_each_input_by_a_notification() -> None:
    with FakeVenue("bitfinex") as venue, trading("bitfinex", venue) as client:
        for cid in (1, 2, 3):
            client.send([0, "on", None, {"cid": cid, **BITFINEX_ORDER}])
        client.send([0, "on", None, {"cid": 3, **BITFINEX_ORDER}])
        venue.wait_for(lambda v: len(v.account.orders) == 3)
        client.send([0, "ou", None, {"id": 1, "price": "90"}])
        client.send([0, "oc", None, {"id": 1}])
        client.send([0, "oc", None, {"cid": 9}])
        client.send([0, "oc_multi", None, {"all": 1}])
        reported = list(notifications(client, 9))
    assert [(kind, order[0], status) for kind, order, status in reported] == [
        ("on-req", 1, "SUCCESS"),
        ("on-req", 2, "SUCCESS"),
        ("on-req", 3, "SUCCESS"),
        ("on-req", None, "ERROR"),
        ("ou-req", 1, "SUCCESS"),
        ("oc-req", 1, "SUCCESS"),
        ("oc-req", None, "ERROR"),
        ("oc-req", 2, "SUCCESS"),
        ("oc-req", 3, "SUCCESS"),
    ]


BITFINEX_ORDER = {"type": "EXCHANGE LIMIT", "symbol": "tBTCUSD", "amount": "-2", "price": "100"}


def notifications(client: WebSocketClient, count: int) -> Iterator[tuple[str, Any, str]]:
    while count:
        data = client.recv(timeout=5).data
        if data[1] == "n":
            count -= 1
            yield data[2][1], data[2][4], data[2][6]


def test_kraken_answers_a_cancel_once_per_order(dial_at: Any) -> None:
    with FakeVenue("kraken") as venue:
        token = token_of(venue)
        orders = [venue.place("BTC/USD", "buy", 1, 100 + n) for n in range(2)]
        client = dial_at(venue.route_url("auth"))
        client.recv(timeout=5)
        ids = [order.id for order in orders]
        params = {"order_id": [*ids, "none"], "token": token}
        client.send(json.dumps({"method": "cancel_order", "params": params, "req_id": 5}))
        answers = [json.loads(client.recv(timeout=5)) for _ in range(3)]
        assert [(a["req_id"], a["success"]) for a in answers] == [(5, True), (5, True), (5, False)]
        found = [answer["result"]["order_id"] for answer in answers[:2]]
        assert found == ids
        edited = venue.place("BTC/USD", "buy", 1, 100)
        params = {"order_id": edited.id, "limit_price": 90, "token": token}
        client.send(json.dumps({"method": "edit_order", "params": params, "req_id": 6}))
        result = json.loads(client.recv(timeout=5))["result"]
        assert result["original_order_id"] == edited.id != result["order_id"]
        params = {"orders": [result["order_id"], "none"], "token": token}
        client.send(json.dumps({"method": "batch_cancel", "params": params, "req_id": 7}))
        assert json.loads(client.recv(timeout=5))["result"] == {"count": 1}


def test_kraken_refuses_a_token_that_was_not_used_in_time(dial_at: Any) -> None:
    with FakeVenue("kraken") as venue:
        token = token_of(venue)
        venue.protocol.clock = lambda: time.time() + 1000  # type: ignore[attr-defined]
        client = dial_at(venue.route_url("auth"))
        client.recv(timeout=5)
        request = {"method": "cancel_all", "params": {"token": token}, "req_id": 5}
        client.send(json.dumps(request))
        assert json.loads(client.recv(timeout=5))["success"] is False


def test_a_market_order_is_filled_at_once_and_both_are_told() -> None:
    with FakeVenue("okx") as venue, trading("okx", venue) as client:
        args = [okx_order("a", ordType="market")]
        client.request({"op": "order", "args": args})
        reported = reports("okx", client)
        assert [next(reported)[1] for _ in range(2)] == ["live", "filled"]
        assert newest(venue).average > 1000


def test_a_reused_request_id_is_refused_by_bybit(dial_at: Any) -> None:
    with FakeVenue("bybit") as venue:
        given = Credentials(venue.credentials or {}, time.time)
        client = dial_at(venue.route_url("trade"))
        client.send(json.dumps(wsclient.Bybit().login(given)))
        assert json.loads(client.recv(timeout=5))["retCode"] == 0
        order = {**bybit_order("a"), "category": "spot"}
        request = {"reqId": "x", "op": "order.create", "header": stamp(), "args": [order]}
        codes = []
        for _ in range(2):
            client.send(json.dumps(request))
            codes.append(json.loads(client.recv(timeout=5))["retCode"])
        assert codes == [0, 20006]
        client.send(json.dumps({**request, "reqId": "y", "op": "order.unknown"}))
        assert json.loads(client.recv(timeout=5))["retCode"] == 10404


def test_okx_takes_orders_by_the_code_of_the_instrument() -> None:
    with FakeVenue("okx") as venue, trading("okx", venue) as client:
        with urllib.request.urlopen(f"{rest_of(venue)}/api/v5/public/instruments") as answer:
            codes = {row["instId"]: row["instIdCode"] for row in json.load(answer)["data"]}
        request = {"op": "order", "args": [okx_order("a", instIdCode=codes["ETH-USDT"])]}
        client.request(request)
        assert newest(venue).symbol == "ETH-USDT"
        named = {**okx_order("b"), "instId": "BTC-USDT", "instIdCode": None}
        with pytest.raises(wsclient.RequestRejected, match="instIdCode"):
            client.request({"op": "order", "args": [named]})


@pytest.mark.parametrize("by", ["rst", "fin"])
@pytest.mark.parametrize("name", TRADERS)
def test_an_order_that_is_cut_off_from_its_answer_is_placed_once(name: str, by: Any) -> None:
    filled = TRADERS[name].states[2]
    with FakeVenue(name) as venue, trading(name, venue) as client:
        venue.cut_before_answer(by=by)
        with pytest.raises(wsclient.OutcomeUnknown) as caught:
            client.request(TRADERS[name].place("a"))
        (order,) = venue.account.orders.values()
        assert str(caught.value.client_order_id) == order.client_id
        until_back(name, venue)
        reported = reports(name, client)
        if TRADERS[name].has_snapshot:
            assert snapshot_of(name, client) == order.id
        venue.fill(order)
        # Bybit takes orders at another address: its private connection has lost nothing.
        expected = [TRADERS[name].states[0], filled] if name == "bybit" else [filled]
        assert [next(reported) for _ in expected] == [(order.id, state) for state in expected]
        assert len(venue.account.orders) == 1


def until_back(name: str, venue: FakeVenue) -> None:
    """Wait until the client is back, and subscribed."""
    count = 2 if name != "bybit" else 1
    venue.wait_for(
        lambda v: len([p for p in v.peers if TRADERS[name].channel in p.subscriptions]) >= count
    )
    venue.wait_for(lambda v: v.subscribers(TRADERS[name].channel))


def snapshot_of(name: str, client: WebSocketClient) -> str:
    """Return the number of the only order in the next snapshot that has one."""
    while True:
        data = client.recv(timeout=5).data
        if name == "kraken" and data["type"] == "snapshot" and data["data"]:
            return str(data["data"][0]["order_id"])
        if name == "bitfinex" and data[1] == "os" and data[2]:
            return str(data[2][0][0])


def test_an_order_without_an_answer_is_found_by_its_label() -> None:
    with FakeVenue("deribit") as venue, trading("deribit", venue) as client:
        venue.cut_before_answer()
        with pytest.raises(wsclient.OutcomeUnknown):
            client.request(TRADERS["deribit"].place("a"))
        until_back("deribit", venue)
        asked = {"method": "private/get_order_state_by_label", "params": {"label": "a"}}
        (found,) = client.request(asked)["result"]
        assert found["order_id"] == newest(venue).id


@pytest.mark.parametrize("name", TRADERS)
def test_a_request_that_is_never_answered_is_acted_upon(name: str) -> None:
    with FakeVenue(name) as venue, trading(name, venue) as client:
        reported = reports(name, client)
        venue.never_answer()
        with pytest.raises(TimeoutError):
            client.request(TRADERS[name].place("a"), timeout=0.05)
        assert next(reported) == (newest(venue).id, TRADERS[name].states[0])
        client.request(TRADERS[name].place("b"))
        assert len(venue.account.orders) == 2
        assert client.stats().reconnects == 0


@pytest.mark.parametrize("name", [n for n, trader in TRADERS.items() if trader.duplicate])
def test_a_client_order_id_that_is_there_is_refused(name: str) -> None:
    with FakeVenue(name) as venue, trading(name, venue) as client:
        client.request(TRADERS[name].place("a"))
        with pytest.raises(wsclient.RequestRejected, match=TRADERS[name].duplicate):
            client.request(TRADERS[name].place("a"))
        assert len(venue.account.orders) == 1


@pytest.mark.parametrize("name", [n for n, trader in TRADERS.items() if trader.batch])
def test_a_batch_succeeds_and_fails_per_order(name: str) -> None:
    trader = TRADERS[name]
    assert trader.batch is not None
    assert trader.failures is not None
    with FakeVenue(name) as venue, trading(name, venue) as client:
        client.request(trader.place("a"))
        with pytest.raises(wsclient.RequestRejected) as caught:
            client.request(trader.batch("a"))
        assert sorted(caught.value.failed) == [0, 2]
        assert trader.failures(caught.value.reply) == [True, False, True]
        assert [o.client_id for o in venue.account.orders.values()] == ["a", "other"]


@pytest.mark.parametrize("name", WITH_LOGIN)
def test_each_connection_of_an_account_is_told_and_no_other(name: str) -> None:
    ours, other = Account(), Account(api_key="other")
    with (
        FakeVenue(name, accounts=[ours, other]) as venue,
        trading(name, venue) as first,
        trading(name, venue) as second,
        trading(name, venue, other) as stranger,
    ):
        reported = [reports(name, client) for client in (first, second)]
        symbol = venues.find(name).symbols[0]
        order = venue.place(symbol, "sell", 1, 200)
        assert [next(each)[0] for each in reported] == [order.id, order.id]
        venue.place(symbol, "sell", 1, 200, account=other)
        expected = next(iter(other.orders.values())).id
        assert next(reports(name, stranger))[0] == expected != order.id


@pytest.mark.parametrize("name", WITH_LOGIN)
def test_a_reconnect_logs_in_again_and_resubscribes(name: str) -> None:
    with FakeVenue(name) as venue, trading(name, venue) as client:
        venue.accept().rst()
        venue.wait_for(lambda v: len(v.peers) == 2 and v.subscribers(TRADERS[name].channel))
        assert venue.accept().account is venue.account
        symbol = venues.find(name).symbols[0]
        order = venue.place(symbol, "sell", 1, 200)
        assert next(reports(name, client))[0] == order.id


# What is refused

#: What is changed in right credentials, for each venue that has a login message or a token.
WRONG = [
    (name, field)
    for name in (*WITH_LOGIN, "kucoin")
    for field in venues.find(name).credential_fields
]


def client_of(
    name: str, venue: FakeVenue, credentials: Mapping[str, str] | None
) -> WebSocketClient:
    if name == "kucoin":
        dialect: Any = wsclient.Kucoin(rest=rest_of(venue))
        return WebSocketClient(venue.url, dialect=dialect, credentials=credentials, **QUICK)
    trader = TRADERS[name]
    url = venue.url if trader.route is None else venue.route_url(trader.route)
    dialect = name if trader.dialect is None else trader.dialect(venue)
    return WebSocketClient(url, dialect=dialect, credentials=credentials, **QUICK)


@pytest.mark.parametrize(("name", "field"), WRONG)
def test_wrong_credentials_are_refused(name: str, field: str) -> None:
    with FakeVenue(name) as venue:
        given = {**(venue.credentials or {}), field: "d3Jvbmc="}
        client = client_of(name, venue, given)
        try:
            with pytest.raises(wsclient.AuthenticationError):
                client.connect()
        finally:
            client.close()
        assert venue.live == [] or all(peer.account is None for peer in venue.live)


@pytest.mark.parametrize("name", ["okx", "bybit"])
def test_a_login_of_another_time_is_refused(name: str) -> None:
    with FakeVenue(name) as venue:
        venue.protocol.clock = lambda: time.time() + 3600  # type: ignore[attr-defined]
        with pytest.raises(wsclient.AuthenticationError, match=r"expired|Params Error"):
            wsclient.connect(
                venue.route_url("private"), dialect=name, credentials=venue.credentials, **QUICK
            )


@pytest.mark.parametrize("name", ["kucoin", "kraken"])
def test_a_request_for_a_token_of_another_time_is_refused(name: str) -> None:
    """Kraken has nonces instead of times: they must not fall."""
    with FakeVenue(name) as venue:
        if name == "kucoin":
            venue.protocol.clock = lambda: time.time() + 3600  # type: ignore[attr-defined]
        else:
            ahead = Credentials(venue.credentials or {}, lambda: time.time() + 3600)
            request = wsclient.Kraken(rest=rest_of(venue)).url_request("wss://x/", ahead)
            assert request is not None
            asked = urllib.request.Request(
                request.url, request.body.encode(), dict(request.headers), method="POST"
            )
            urllib.request.urlopen(asked, timeout=5).close()
        client = client_of(name, venue, venue.credentials)
        try:
            with pytest.raises(wsclient.ConnectError, match=r"400002|Invalid nonce"):
                client.connect()
        finally:
            client.close()


def test_coinbase_refuses_a_signature_of_another_time() -> None:
    with FakeVenue("coinbase_exchange") as venue:
        venue.protocol.clock = lambda: time.time() + 3600  # type: ignore[attr-defined]
        given = {"credentials": venue.credentials, **QUICK}
        with (
            wsclient.connect(venue.url, dialect="coinbase_exchange", **given) as client,
            pytest.raises(wsclient.SubscriptionRejected, match="expired"),
        ):
            client.subscribe("matches:BTC-USD")


def test_a_login_of_bitfinex_cannot_be_repeated(dial: Any) -> None:
    with FakeVenue("bitfinex") as venue:
        login = wsclient.Bitfinex().login(Credentials(venue.credentials or {}, time.time))
        answers = []
        for _ in range(2):
            client = dial(venue)
            client.recv(timeout=5)
            client.send(json.dumps(login))
            answers.append(json.loads(client.recv(timeout=5)))
        assert [answer["status"] for answer in answers] == ["OK", "FAILED"]


@pytest.mark.parametrize("secret", ["", "wrong"])
def test_deribit_takes_a_signature_too(secret: str, dial: Any) -> None:
    with FakeVenue("deribit") as venue:
        timestamp = str(int(time.time() * 1000))
        signature = sign(secret or venue.account.secret, f"{timestamp}\nn\nd").hex()
        params = {"grant_type": "client_signature", "client_id": venue.account.api_key}
        params |= {"timestamp": timestamp, "nonce": "n", "data": "d", "signature": signature}
        client = dial(venue)
        client.send(json.dumps({"id": 1, "method": "public/auth", "params": params}))
        answer = json.loads(client.recv(timeout=5))
        assert answer.get("error", {}).get("code") == (13004 if secret else None)


SUBSCRIBES: dict[str, tuple[str, Any, Any]] = {
    "okx": (
        "/ws/v5/private",
        {"id": "1", "op": "subscribe", "args": [{"channel": "orders", "instType": "ANY"}]},
        {"id": "1", "event": "error", "code": "60011", "msg": "Please log in", "connId": "1"},
    ),
    "bybit": (
        "/v5/private",
        {"req_id": "1", "op": "subscribe", "args": ["order"]},
        {"success": False, "req_id": "1", "op": "subscribe", "conn_id": "1"},
    ),
    "deribit": (
        "/ws/api/v2",
        {"id": 1, "method": "private/subscribe", "params": {"channels": ["user.orders.X.raw"]}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 13009, "message": "unauthorized"}},
    ),
    "kraken": (
        "/ws-auth/v2",
        {"method": "subscribe", "params": {"channel": "executions", "token": "wrong"}, "req_id": 1},
        {"method": "subscribe", "req_id": 1, "success": False},
    ),
    "kucoin": (
        "/",
        {"id": 1, "type": "subscribe", "topic": "/account/balance", "privateChannel": True},
        {"id": "1", "type": "error"},
    ),
    "coinbase_exchange": (
        "/",
        {"type": "subscribe", "channels": [{"name": "user", "product_ids": ["BTC-USD"]}]},
        {"type": "error", "message": "Failed to subscribe"},
    ),
}


@pytest.mark.parametrize("name", SUBSCRIBES)
def test_a_private_channel_is_refused_without_a_login(name: str, dial_at: Any) -> None:
    path, request, refused = SUBSCRIBES[name]
    with FakeVenue(name, channels=[]) as venue:
        client = dial_at(venue.url.rstrip("/") + path)
        if name in ("kraken", "kucoin"):
            client.recv(timeout=5)  # the greeting
        client.send(json.dumps(request))
        answer = json.loads(client.recv(timeout=5))
        assert {key: answer.get(key) for key in refused} == refused
        venue.place("BTC-USD", "buy", 1, 1)
        assert venue.subscribers() == []


ORDERS: dict[str, tuple[str, Any, Any]] = {
    "okx": (
        "/ws/v5/private",
        TRADERS["okx"].place("a") | {"id": "1"},
        {"id": "1", "event": "error", "code": "60011"},
    ),
    "bybit": (
        "/v5/trade",
        TRADERS["bybit"].place("a") | {"reqId": "1"},
        {"reqId": "1", "op": "order.create", "data": {}},
    ),
    "deribit": (
        "/ws/api/v2",
        TRADERS["deribit"].place("a") | {"id": 1},
        {"id": 1, "error": {"code": 13009, "message": "unauthorized"}},
    ),
    "kraken": (
        "/ws-auth/v2",
        {"method": "add_order", "params": {**kraken_order("a"), "symbol": "BTC/USD"}, "req_id": 1},
        {"method": "add_order", "req_id": 1, "success": False},
    ),
    "bitfinex": (
        "/",
        TRADERS["bitfinex"].place("a"),
        {"event": "error"},
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_refused_without_a_login(name: str, dial_at: Any) -> None:
    path, request, refused = ORDERS[name]
    with FakeVenue(name) as venue:
        client = dial_at(venue.url.rstrip("/") + path)
        if name in ("kraken", "bitfinex"):
            client.recv(timeout=5)  # the greeting
        client.send(json.dumps(request))
        answer = json.loads(client.recv(timeout=5))
        assert {key: answer.get(key) for key in refused} == refused
        assert venue.account.orders == {}


#: What is put in the place of each field of an order.
STRANGE: tuple[Any, ...] = (None, [], {}, [[]], True, "", "NaN", "1e999999", "9" * 5000, -1)


@pytest.mark.parametrize("name", TRADERS)
def test_strange_requests_break_nothing(name: str) -> None:
    with FakeVenue(name) as venue, trading(name, venue) as client:
        made = TRADERS[name].place("a")
        if name == "kraken":
            made = {**made, "req_id": 5000}
            made["params"] = {**made["params"], "token": token_of(venue)}
        parts = {"bybit": ("args", 0), "okx": ("args", 0), "deribit": ("params",)}
        parts |= {"kraken": ("params",), "bitfinex": (3,)}
        for strange in STRANGE:
            for field in _part(made, parts.get(name, ())):
                if field in ("type", "token") and name in ("generic", "kraken"):
                    continue
                request = json.loads(json.dumps(made))
                _part(request, parts.get(name, ()))[field] = strange
                client.send(request)
            if parts.get(name):
                request = json.loads(json.dumps(made))
                _put(request, parts[name], strange)
                client.send(request)
        count = len(venue.account.orders)
        client.request(TRADERS[name].place("last"))
        assert len(venue.account.orders) > count
        assert [peer.ended_by for peer in venue.live] == [None] * len(venue.live)


def _part(request: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        request = request[step]
    return request


def _put(request: Any, path: tuple[Any, ...], value: Any) -> None:
    _part(request, path[:-1])[path[-1]] = value


def test_a_venue_without_accounts_has_no_private_channels(dial_at: Any) -> None:
    with FakeVenue("okx", accounts=[]) as venue:
        assert venue.credentials is None
        client = dial_at(venue.route_url("private"))
        client.send(json.dumps(SUBSCRIBES["okx"][1]))
        assert json.loads(client.recv(timeout=5))["event"] == "subscribe"
        with pytest.raises(ValueError, match="no account"):
            venue.place("BTC-USDT", "buy", 1, 1)


# Coinbase signs each subscribe, KuCoin has a token: orders come from elsewhere.


@pytest.mark.parametrize("field", [None, "api_key", "secret", "passphrase"])
def test_coinbase_checks_each_signed_subscribe(field: str | None) -> None:
    with FakeVenue("coinbase_exchange") as venue:
        given = venue.credentials or {}
        if field is not None:
            given = {**given, field: "d3Jvbmc="}
        with wsclient.connect(
            venue.url, dialect="coinbase_exchange", credentials=given, **QUICK
        ) as client:
            if field is not None:
                with pytest.raises(wsclient.SubscriptionRejected, match="Authentication Failed"):
                    client.subscribe("user:BTC-USD", "matches:BTC-USD")
                assert venue.subscribers() == []
                return
            client.subscribe("user:BTC-USD", "matches:BTC-USD")
            order = venue.place("BTC-USD", "buy", 2, 100)
            venue.publish("matches:BTC-USD", type="match", trade_id=1, price="1", size="1")
            venue.fill(order)
            found = [client.recv(timeout=5) for _ in range(5)]
    assert [(m.channel, m.type) for m in found] == [
        ("user:BTC-USD", "received"),
        ("user:BTC-USD", "open"),
        ("matches:BTC-USD", "match"),
        ("user:BTC-USD", "match"),
        ("user:BTC-USD", "done"),
    ]
    assert {m.data.get("order_id", m.data.get("maker_order_id")) for m in found[3:]} == {order.id}


def test_kucoin_reports_orders_and_balances_after_a_reconnect_too() -> None:
    with FakeVenue("kucoin") as venue, client_of("kucoin", venue, venue.credentials) as client:
        client.connect()
        client.subscribe("/spotMarket/tradeOrders", "/account/balance", "/market/ticker:BTC-USDT")
        order = venue.place("BTC-USDT", "buy", 2, 100, client_id="mine")
        placed = client.recv(timeout=5)
        assert (placed.channel, placed.type) == ("/spotMarket/tradeOrders", "orderChange")
        assert (placed.data["data"]["clientOid"], placed.data["data"]["type"]) == ("mine", "open")
        venue.live[0].rst()
        venue.wait_for(lambda v: v.subscribers("/account/balance", "/spotMarket/tradeOrders"))
        venue.wait_for(lambda v: v.subscribers("/market/ticker:BTC-USDT"))
        venue.fill(order)
        found = [client.recv(timeout=5) for _ in range(4)]
        kinds = [m.data["data"].get("type", m.data["data"].get("currency")) for m in found]
        assert kinds == ["match", "filled", "BTC", "USDT"]
        assert client.stats().invalid == client.stats().unhandled == 0


# Balances


def test_balances_change_with_fills_and_are_reported() -> None:
    with FakeVenue("okx") as venue:
        given = {"credentials": venue.credentials, **QUICK}
        with wsclient.connect(venue.route_url("private"), dialect="okx", **given) as client:
            client.subscribe("account")
            before = {row["ccy"]: row for row in client.recv(timeout=5).data["data"][0]["details"]}
            order = venue.place("BTC-USDT", "buy", 2, 100)
            venue.fill(order)
            after = {row["ccy"]: row for row in client.recv(timeout=5).data["data"][0]["details"]}
    change = {
        ccy: Decimal(after[ccy]["cashBal"]) - Decimal(before[ccy]["cashBal"]) for ccy in before
    }
    assert {ccy: amount for ccy, amount in change.items() if amount} == {"BTC": 2, "USDT": -200}


_HOSTILE = [
    None,
    "\ud800",
    "1e999999999",
    "1e-999999999",
    [],
    [[]],
    {"id": [{}]},
    {"method": "batch_add", "params": {"token": "T", "orders": ["x", None]}},
    {"type": "order.batch", "requests": ["x", {"symbol": "BTC-USD"}]},
    {"type": "order.place", "symbol": "BTC-USD", "side": "buy", "size": "1e999999999", "price": 9},
    {"method": "order.place", "id": "\ud800", "params": {"apiKey": [{}]}},
    {
        "method": "public/auth",
        "params": {
            "grant_type": "client_credentials",
            "client_id": "fake-key",
            "client_secret": "\ud800",
        },
    },
    [0, "on", None, {"type": "\ud800", "symbol": "tBTCUSD", "amount": "2", "price": "100"}],
]


@pytest.mark.parametrize("name", sorted(venues.NAMES))
def test_no_request_ends_the_thread_of_a_connection(name: str, dial: Any) -> None:
    payloads = ["[" * 100_000, "9" * 5000, b"\xff{", *map(json.dumps, _HOSTILE)]
    with FakeVenue(name, accounts=[Account()]) as venue:
        client = dial(venue)
        peer = venue.accept()
        peer.account = venue.account
        if name == "kraken":
            payloads = [
                p.replace("T", token_of(venue)) if isinstance(p, str) else p for p in payloads
            ]
        if name == "bitfinex":
            given = Credentials(venue.credentials or {}, time.time)
            client.send(json.dumps(wsclient.Bitfinex().login(given)))
        for payload in payloads:
            client.send(payload)
            assert client.ping().wait(5), payload
        assert peer.live
