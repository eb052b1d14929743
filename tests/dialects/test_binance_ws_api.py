"""Binance's WebSocket API: the frames of its documentation, signatures, and orders."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from support.helpers import Call, until
from support.reading import Data, read
from wsclient import BinanceWsApi, Gap, Message, WebSocketClient
from wsclient.dialect.values import Credentials
from wsclient.errors import (
    ConfigurationError,
    OutcomeUnknown,
    RequestRejected,
    SubscriptionRejected,
)
from wsclient.events import Noticed, Resubscribing
from wsclient.stream.items import Ack, Ending, Rejection, Reply, Unhandled
from wsclient.testing import FakeVenue, Peer

API_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
NOW = 1645423376532
SUBSCRIBE = "userDataStream.subscribe.signature"
LIMITS = {
    "rateLimitType": "ORDERS",
    "interval": "SECOND",
    "intervalNum": 10,
    "limit": 50,
    "count": 1,
}
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "100"}


def given(**more: Any) -> Credentials:
    return Credentials({"api_key": API_KEY, "secret": SECRET, **more}, lambda: NOW / 1000)


def hmac_of(text: str) -> str:
    return hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()


def signed(method: str, credentials: Credentials | None = None, **params: Any) -> dict[str, Any]:
    """Return the params of a request as they are sent."""
    payload = {"method": method, "params": params}
    found: dict[str, Any] = BinanceWsApi().authorize(payload, credentials or given())["params"]
    return found


# --- signatures ----------------------------------------------------------------------------------


def test_the_signature_is_that_of_the_venues_example() -> None:
    params = signed(
        "order.place",
        symbol="BTCUSDT",
        side="SELL",
        type="LIMIT",
        timeInForce="GTC",
        quantity="0.01000000",
        price="52000.00",
        newOrderRespType="ACK",
        recvWindow=100,
        timestamp=1645423376532,
    )
    assert params["signature"] == "cc15477742bd704c29492d96c7ead9414dfd8e0ec4a00f947bb5bb454ddbd08a"
    assert params["apiKey"] == API_KEY


def test_the_time_is_added_and_decimals_are_sent_as_text() -> None:
    params = signed("order.test", quantity=Decimal("1E-7"), icebergQty=2, computeRates=True)
    text = f"apiKey={API_KEY}&computeRates=true&icebergQty=2&quantity=0.0000001&timestamp={NOW}"
    assert params == {
        "quantity": "0.0000001",
        "icebergQty": 2,
        "computeRates": True,
        "timestamp": NOW,
        "apiKey": API_KEY,
        "signature": hmac_of(text),
    }


def test_another_kind_of_key_is_signed_by_a_function_of_the_user() -> None:
    credentials = Credentials({"api_key": "k", "sign": lambda text: f"<{text}>"}, lambda: 1.0)
    params = signed("account.status", credentials)
    assert params["signature"] == "<apiKey=k&timestamp=1000>"


@pytest.mark.parametrize(
    "method",
    [
        "order.place",
        "order.cancelReplace",
        "order.amend.keepPriority",
        "openOrders.cancelAll",
        "openOrderLists.status",
        "orderList.place.oco",
        "sor.order.place",
        "account.status",
        "allOrders",
        "allOrderLists",
        "myTrades",
        "session.logon",
        "userDataStream.subscribe.signature",
        "algoOrder.place",
        "v2/account.balance",
    ],
)
def test_requests_about_the_account_are_signed(method: str) -> None:
    assert {"apiKey", "timestamp", "signature"} <= signed(method).keys()


@pytest.mark.parametrize(
    "method",
    [
        "ping",
        "time",
        "depth",
        "trades.recent",
        "ticker.book",
        "exchangeInfo",
        "session.status",
        "session.subscriptions",
        "userDataStream.subscribe",
        "userDataStream.unsubscribe",
    ],
)
def test_other_requests_are_sent_as_they_are(method: str) -> None:
    payload = {"method": method, "params": {"symbol": "A"}}
    assert BinanceWsApi().authorize(payload, given()) is payload


@pytest.mark.parametrize(
    "payload", [{"method": "order.place", "params": {"signature": "mine"}}, "text", {"method": 5}]
)
def test_what_is_signed_already_or_no_request_is_left_alone(payload: Any) -> None:
    assert BinanceWsApi().authorize(payload, given()) is payload


def test_params_may_be_missing() -> None:
    payload = BinanceWsApi().authorize({"method": "account.status"}, given())
    assert payload["params"]["signature"] == hmac_of(f"apiKey={API_KEY}&timestamp={NOW}")


def test_a_missing_secret_is_named() -> None:
    with pytest.raises(ConfigurationError, match="secret"):
        signed("order.place", Credentials({"api_key": "k"}, lambda: 0.0))


# --- the channel ---------------------------------------------------------------------------------


def test_params_that_cannot_be_signed_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"params of 'order\.place'"):
        BinanceWsApi().authorize({"method": "order.place", "params": ["BTCUSDT"]}, given())


def test_a_subscribe_is_signed() -> None:
    dialect = BinanceWsApi()
    message = dialect.subscribe(["userData"], 7, dialect.access(["userData"], given()))
    signature = hmac_of(f"apiKey={API_KEY}&timestamp={NOW}")
    params = {"timestamp": NOW, "apiKey": API_KEY, "signature": signature}
    assert message == {"id": 7, "method": SUBSCRIBE, "params": params}


def test_an_unsubscribe_ends_the_subscription_of_the_connection() -> None:
    dialect = BinanceWsApi()
    message = dialect.unsubscribe(["userData"], 7, dialect.access(["userData"], given()))
    assert message == {"id": 7, "method": "userDataStream.unsubscribe"}


def test_the_channel_has_no_options() -> None:
    with pytest.raises(ConfigurationError, match="no option 'depth'"):
        BinanceWsApi().subscribe(["userData"], 7, {"depth": 5})


@pytest.mark.parametrize(
    ("channel", "address", "why"),
    [
        ("btcusdt@trade", "wss://ws-api.binance.com/ws-api/v3", "the only channel"),
        ("userData", "wss://ws-fapi.binance.com/ws-fapi/v1", "binance_futures"),
        ("userData", "wss://ws-dapi.binance.com/ws-dapi/v1", "binance_futures"),
    ],
)
def test_what_an_address_does_not_send_is_refused(channel: str, address: str, why: str) -> None:
    assert why in str(BinanceWsApi().refusal(channel, address))


@pytest.mark.parametrize("host", ["ws-api.binance.com:443", "demo-ws-api.binance.com"])
def test_the_account_is_at_each_host_of_spot(host: str) -> None:
    assert BinanceWsApi().refusal("userData", f"wss://{host}/ws-api/v3") is None


# --- the frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["executionReport", "outboundAccountPosition", "balanceUpdate", "externalLockUpdate", "new"],
)
def test_events_are_messages_by_their_names(name: str) -> None:
    frame = {"subscriptionId": 0, "event": {"e": name, "E": 1728972148778}}
    assert read(BinanceWsApi(), frame) == [Data("userData", name)]


def test_a_stream_that_ends_is_a_channel_that_ends() -> None:
    event = {"e": "eventStreamTerminated", "E": 1728973001334}
    found = read(BinanceWsApi(), {"subscriptionId": 0, "event": event})
    assert found == [Ack(None, "userData", verb="unsubscribe")]


def test_a_shutdown_is_announced_without_a_subscription() -> None:
    frame = {"event": {"e": "serverShutdown", "E": 1770123456789}}
    assert read(BinanceWsApi(), frame) == [Ending("this server will shut down soon")]


@pytest.mark.parametrize("request_id", ["x", 7])
def test_an_answer_is_one_to_a_subscribe_or_to_a_request(request_id: Any) -> None:
    frame = {"id": request_id, "status": 200, "result": {"subscriptionId": 0}}
    assert read(BinanceWsApi(), frame) == [Ack(request_id), Reply(request_id, frame)]


def refusal(status: int, code: int, msg: str = "no", **error: Any) -> list[Any]:
    frame = {
        "id": 7,
        "status": status,
        "error": {"code": code, "msg": msg, **error},
        "rateLimits": [LIMITS],
    }
    return read(BinanceWsApi(), frame)


def test_a_refusal_has_the_venues_words_its_status_and_its_code() -> None:
    rejection, reply = refusal(400, -1102, "Mandatory parameter 'side' was not sent.")
    reason = "Mandatory parameter 'side' was not sent. (status 400, code -1102)"
    assert rejection == Rejection(reason, 7, is_rest=True)
    assert (reply.request_id, reply.error, reply.is_unknown) == (7, reason, False)
    assert reply.payload["rateLimits"] == [LIMITS]


@pytest.mark.parametrize(
    ("status", "code", "is_unknown"),
    [
        (400, -2010, False),
        (403, 0, False),
        (409, -2021, False),
        (418, -1003, False),
        (429, -1003, False),
        (400, -1006, True),
        (408, -1007, True),
        (500, -1000, True),
        (503, -1008, True),
    ],
)
def test_after_which_errors_the_outcome_is_unknown(
    status: int, code: int, is_unknown: bool
) -> None:
    assert refusal(status, code)[1].is_unknown is is_unknown


@pytest.mark.parametrize(
    ("data", "ending"),
    [
        ({"serverTime": 1_000, "retryAfter": 4_500}, "; no further request for 3.5 s"),
        ({"serverTime": 9_000, "retryAfter": 4_500}, "; no further request for 0 s"),
        ({"retryAfter": 4_500}, "(status 429, code -1003)"),
        (None, "(status 429, code -1003)"),
        ("soon", "(status 429, code -1003)"),
    ],
)
def test_a_refusal_says_when_the_next_request_may_follow(data: Any, ending: str) -> None:
    assert refusal(429, -1003, data=data)[1].error.endswith(ending)


def test_a_subscription_that_is_there_already_is_kept() -> None:
    text = "User Data Stream subscription already active."
    assert refusal(400, -2035, text)[0].keeps_active
    assert not refusal(400, -2015, "This key is not active")[0].keeps_active


def test_an_error_with_the_id_null_is_one_of_the_oldest_request() -> None:
    frame = {"id": None, "status": 401, "error": {"code": -2015, "msg": "Invalid API-key"}}
    (reply,) = read(BinanceWsApi(), frame)
    assert reply.request_id is None
    assert reply.error == "Invalid API-key (status 401, code -2015)"


def test_an_error_may_have_no_words() -> None:
    reply = read(BinanceWsApi(), {"id": 7, "status": 500})[1]
    assert reply.error == "refused without a reason (status 500, code None)"
    assert reply.is_unknown


def test_a_frame_that_is_neither_is_counted() -> None:
    assert read(BinanceWsApi(), {"hello": 1}) == [Unhandled("")]


# --- with a venue --------------------------------------------------------------------------------


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    with FakeVenue("binance_ws_api") as venue:
        yield venue


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[WebSocketClient]:
    with WebSocketClient(
        venue.url, dialect="binance_ws_api", credentials=venue.credentials, retry_delay=0.01
    ) as client:
        client.connect()
        yield client


def order(client: WebSocketClient, method: str = "order.place", **params: Any) -> Any:
    return client.request({"method": method, "params": {**ORDER, **params}})["result"]


def received(client: WebSocketClient, count: int) -> list[Message]:
    return [client.recv(timeout=5) for _ in range(count)]


@pytest.mark.loopback
def test_orders_and_their_events(venue: FakeVenue, client: WebSocketClient) -> None:
    client.subscribe("userData")
    placed = order(client, newClientOrderId="mine", quantity=Decimal("2.0"))
    assert (placed["status"], placed["origQty"]) == ("NEW", "2.0")
    venue.fill("mine", "1")
    canceled = order(client, "order.cancel", origClientOrderId="mine")
    assert canceled["status"] == "CANCELED"
    messages = received(client, 4)
    assert [message.channel for message in messages] == ["userData"] * 4
    reports = [m.data["event"] for m in messages if m.type == "executionReport"]
    assert [(r["c"], r["x"], r["X"], r["z"]) for r in reports] == [
        ("mine", "NEW", "NEW", "0"),
        ("mine", "TRADE", "PARTIALLY_FILLED", "1"),
        ("mine", "CANCELED", "CANCELED", "1"),
    ]
    assert [m.type for m in messages if m.type != "executionReport"] == ["outboundAccountPosition"]
    assert all(message.time is not None and message.gap is None for message in messages)
    assert client.stats().unhandled == client.stats().invalid == 0


@pytest.mark.loopback
def test_all_open_orders_are_canceled_at_once(client: WebSocketClient) -> None:
    for _ in "12":
        order(client)
    canceled = client.request({"method": "openOrders.cancelAll", "params": {"symbol": "BTCUSDT"}})
    assert [each["status"] for each in canceled["result"]] == ["CANCELED", "CANCELED"]
    with pytest.raises(RequestRejected, match=r"Unknown order sent.*-2011"):
        order(client, "openOrders.cancelAll")


@pytest.mark.loopback
def test_a_refused_order_is_an_error_of_its_caller_only(client: WebSocketClient) -> None:
    events = client.events(Noticed)
    with pytest.raises(RequestRejected, match=r"insufficient balance.*-2010") as caught:
        order(client, quantity="1000000000")
    assert caught.value.reply["status"] == 400  # type: ignore[index]
    client.request({"method": "ping"})
    client.close()
    assert list(events) == []


@pytest.mark.loopback
def test_an_order_whose_answer_does_not_come_has_an_unknown_outcome(
    venue: FakeVenue, client: WebSocketClient
) -> None:
    client.subscribe("userData")
    venue.cut_before_answer()
    with pytest.raises(OutcomeUnknown, match="client order id 'mine'") as caught:
        order(client, newClientOrderId="mine")
    assert caught.value.client_order_id == "mine"
    until(lambda: len(venue.peers) == 2 and venue.subscribers("userData"))
    assert order(client, "order.status", origClientOrderId="mine")["status"] == "NEW"
    order(client)
    message = client.recv(timeout=5)  # the event of the first one is missed
    assert isinstance(message.gap, Gap)
    assert message.gap.reason == "reconnect"


def answers(peer: Peer, **fields: Any) -> None:
    """Answer the next request of a client."""
    peer.send_json({"id": peer.expect_json()["id"], **fields})


@pytest.mark.loopback
def test_a_status_from_500_is_an_unknown_outcome() -> None:
    with FakeVenue(None) as venue, WebSocketClient(venue.url, dialect="binance_ws_api") as client:
        client.connect()
        asking = Call(client.request, {"method": "ping"})
        answers(venue.accept(), status=500, error={"code": -1000, "msg": "An unknown error."})
        with pytest.raises(OutcomeUnknown, match=r"An unknown error. \(status 500"):
            asking.result()


@pytest.mark.loopback
def test_a_stream_that_the_venue_ends_is_subscribed_to_again(
    venue: FakeVenue, client: WebSocketClient
) -> None:
    events = client.events(Resubscribing)
    client.subscribe("userData")
    order(client)
    assert client.recv(timeout=5).data["subscriptionId"] == 0
    venue.protocol.terminate(venue.live[0])  # type: ignore[attr-defined]
    assert events.recv(timeout=5).reason == "ended"
    until(lambda: venue.subscribers("userData"))
    order(client)
    message = client.recv(timeout=5)
    assert message.data["subscriptionId"] == 1
    assert message.gap is not None
    assert len(venue.peers) == 1


@pytest.mark.loopback
def test_an_unsubscribe_leaves_nothing(venue: FakeVenue, client: WebSocketClient) -> None:
    events = client.events(Resubscribing, Noticed)
    client.subscribe("userData")
    client.unsubscribe("userData")
    client.request({"method": "ping"})
    assert venue.live[0].subscriptions == set()
    client.subscribe("userData")
    order(client)
    assert client.recv(timeout=5).data["subscriptionId"] == 1
    client.close()
    assert list(events) == []


@pytest.mark.loopback
def test_a_revoked_key_refuses_the_oldest_request(
    venue: FakeVenue, client: WebSocketClient
) -> None:
    venue.protocol.revoked.add(venue.account.api_key)  # type: ignore[attr-defined]
    with pytest.raises(RequestRejected, match="-2015"):
        order(client)
    with pytest.raises(SubscriptionRejected, match="-2015"):
        client.subscribe("userData")


@pytest.mark.loopback
def test_requests_need_no_credentials_unless_they_are_about_an_account(venue: FakeVenue) -> None:
    with WebSocketClient(venue.url, dialect="binance_ws_api") as client:
        client.connect()
        assert client.request({"method": "ping"})["result"] == {}
        with pytest.raises(RequestRejected, match="-2015"):
            order(client)
        with pytest.raises(SubscriptionRejected, match="credentials"):
            client.subscribe("userData")


@pytest.mark.loopback
def test_no_secret_appears_in_the_log_or_in_an_error(
    venue: FakeVenue, client: WebSocketClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client.subscribe("userData")
    order(client)
    with pytest.raises(RequestRejected) as caught:
        order(client, quantity="-1")
    client.close()
    peer = venue.peers[0]
    texts = [record.getMessage() for record in caplog.records if record.name[:8] == "wsclient"]
    text = "".join([*texts, str(caught.value), repr(client)])
    assert "order.place" in text
    requests = [str(payload) for payload in peer.received]
    signatures = [r.partition('"signature":"')[2][:64] for r in requests if "signature" in r]
    assert len(signatures) == 3
    secrets = (venue.account.api_key, venue.account.secret, *signatures)
    assert not [secret for secret in secrets if secret in text]


@pytest.mark.parametrize("given", [{"id": None}, {}])
def test_an_answer_without_an_id_confirms_no_subscribe(given: Any) -> None:
    assert read(BinanceWsApi(), {"status": 200, "result": {}, **given}) == [Unhandled("")]
