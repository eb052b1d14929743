"""Binance's accounts as fake venues: listen keys by REST, and the WebSocket API."""

import json
import time
import urllib.error
import urllib.request

import pytest

from wsclient.dialect import Credentials, sign
from wsclient.dialects import BinanceWsApi
from wsclient.testing import FakeVenue
from wsclient.testing.venues.binance_futures import BinanceFuturesProtocol

PLACE = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "100"}


def rest(venue, method, key="fake-key"):
    """Return the status and the answer of a request for a listen key."""
    url = venue.url.replace("ws:", "http:") + "fapi/v1/listenKey"
    request = urllib.request.Request(url, method=method, headers={"X-MBX-APIKEY": key})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def listen_key(venue):
    return rest(venue, "POST")[1]["listenKey"]


# Listen keys


@pytest.fixture
def futures():
    with FakeVenue("binance_futures") as venue:
        yield venue


def test_a_post_returns_the_live_key_again(futures):
    key = listen_key(futures)
    assert len(key) == 64
    assert listen_key(futures) == key
    assert rest(futures, "PUT") == (200, {"listenKey": key})


def test_a_dead_key_cannot_be_extended(futures):
    gone = (400, {"code": -1125, "msg": "This listenKey does not exist."})
    assert rest(futures, "PUT") == gone
    key = listen_key(futures)
    assert rest(futures, "DELETE") == (200, {})
    assert rest(futures, "PUT") == rest(futures, "DELETE") == gone
    assert listen_key(futures) != key


def test_an_unknown_api_key_is_refused(futures):
    status, answer = rest(futures, "POST", "another")
    assert (status, answer["code"]) == (401, -2015)


def test_other_paths_are_not_there(futures):
    url = futures.url.replace("ws:", "http:") + "fapi/v1/order"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5)
    with caught.value as error:
        assert error.code == 404


def test_a_connection_gets_the_events_that_it_names(futures, dial_at):
    base, key = futures.route_url("private"), listen_key(futures)
    named = dial_at(f"{base}/ws?listenKey={key}&events=ACCOUNT_UPDATE/unknown")
    wrapped = dial_at(f"{base}/stream?listenKey={key}&events=ORDER_TRADE_UPDATE")
    futures.fill(futures.place("BTCUSDT", "sell", "3", "100", client_id="mine"), "2")
    report = json.loads(named.recv(timeout=5))
    assert (report["e"], report["a"]["P"]) == ("ACCOUNT_UPDATE", [{"s": "BTCUSDT", "pa": "-2"}])
    found = [json.loads(wrapped.recv(timeout=5)) for _ in "12"]
    assert [frame["stream"] for frame in found] == [key, key]
    states = [(frame["data"]["o"]["c"], frame["data"]["o"]["X"]) for frame in found]
    assert states == [("mine", "NEW"), ("mine", "PARTIALLY_FILLED")]


@pytest.mark.parametrize(
    "path",
    ["/ws?listenKey={key}", "/ws/{key}", "/ws?listenKey=bogus&events=ORDER_TRADE_UPDATE", ""],
)
def test_without_events_or_with_a_wrong_key_it_is_accepted_and_silent(futures, dial_at, path):
    key = listen_key(futures)
    client = dial_at(futures.route_url("private") + path.format(key=key))
    futures.place("BTCUSDT", "buy", "1", "100")
    client.send('{"method":"SUBSCRIBE","params":["x"],"id":1}')
    assert json.loads(client.recv(timeout=5)) == {"result": None, "id": 1}


def test_a_key_lives_for_its_time_unless_it_is_extended(dial_at):
    protocol = BinanceFuturesProtocol()
    protocol.key_lifetime = 0.4
    with FakeVenue(protocol) as futures:
        key = listen_key(futures)
        url = f"{futures.route_url('private')}/ws?listenKey={key}&events=ORDER_TRADE_UPDATE"
        client = dial_at(url)
        begun = time.monotonic()
        time.sleep(0.2)
        assert rest(futures, "PUT")[0] == 200
        gone = json.loads(client.recv(timeout=5))
        assert time.monotonic() - begun > 0.5
        assert (gone["e"], gone["listenKey"]) == ("listenKeyExpired", key)
        assert isinstance(gone["E"], str)
        futures.place("BTCUSDT", "buy", "1", "100")
        client.ping().wait(5)
        with pytest.raises(TimeoutError):
            client.recv(timeout=0)


# The WebSocket API


@pytest.fixture
def api():
    with FakeVenue("binance_ws_api") as venue:
        yield venue


@pytest.fixture
def client(api, dial):
    return dial(api)


def ask(client, method, **params):
    client.send(json.dumps({"id": "x", "method": method, "params": params}))
    return json.loads(client.recv(timeout=5))


def signed(venue, method, *, clock=time.time, **params):
    payload = {"method": method, "params": params}
    return BinanceWsApi().authorize(payload, Credentials(venue.credentials, clock))["params"]


def signed_ask(venue, client, method, **params):
    return ask(client, method, **signed(venue, method, **params))


def code_of(answer):
    return answer["status"], answer["error"]["code"]


def test_answers_have_an_id_a_status_and_limits(client):
    answer = ask(client, "ping")
    (limit,) = answer.pop("rateLimits")
    assert answer == {"id": "x", "status": 200, "result": {}}
    assert limit["rateLimitType"] == "REQUEST_WEIGHT"
    assert abs(ask(client, "time")["result"]["serverTime"] / 1000 - time.time()) < 5


def test_signatures_are_verified(api, client):
    right = signed(api, "account.status")
    assert ask(client, "account.status", **right)["result"]["accountType"] == "SPOT"
    assert code_of(ask(client, "account.status", **right, recvWindow=5)) == (400, -1022)
    assert code_of(ask(client, "account.status", **{**right, "apiKey": "no"})) == (401, -2015)
    assert code_of(ask(client, "account.status")) == (401, -2015)
    assert code_of(ask(client, "account.status", **{**right, "signature": 5})) == (400, -1022)


def test_a_time_must_be_that_of_the_venue(api, client):
    late = signed(api, "account.status", clock=lambda: time.time() - 60)
    assert code_of(ask(client, "account.status", **late)) == (400, -1021)


def test_a_logon_signs_all_later_requests(api, client):
    assert code_of(ask(client, "userDataStream.subscribe")) == (401, -1002)
    answer = signed_ask(api, client, "session.logon")
    assert answer["result"] == {"apiKey": "fake-key", "userDataStream": False}
    assert ask(client, "userDataStream.subscribe")["result"] == {"subscriptionId": 0}
    assert ask(client, "session.status")["result"]["userDataStream"] is True
    assert ask(client, "openOrders.status")["result"] == []
    assert ask(client, "session.logout")["result"]["apiKey"] is None
    ended = json.loads(client.recv(timeout=5))
    assert (ended["subscriptionId"], ended["event"]["e"]) == (0, "eventStreamTerminated")
    assert code_of(ask(client, "openOrders.status")) == (401, -2015)


def test_a_logout_does_not_end_a_subscription_by_signature(api, client):
    signed_ask(api, client, "session.logon")
    signed_ask(api, client, "userDataStream.subscribe.signature")
    ask(client, "session.logout")
    assert ask(client, "session.subscriptions")["result"] == [{"subscriptionId": 0}]


def test_an_account_has_one_subscription_on_a_connection(api, client):
    method = "userDataStream.subscribe.signature"
    assert signed_ask(api, client, method)["result"] == {"subscriptionId": 0}
    assert signed_ask(api, client, method)["status"] == 400
    assert ask(client, "userDataStream.unsubscribe")["result"] == {}
    assert json.loads(client.recv(timeout=5))["event"]["e"] == "eventStreamTerminated"
    assert signed_ask(api, client, method)["result"] == {"subscriptionId": 1}


def test_orders_by_another_client_are_reported_too(api, dial, client):
    signed_ask(api, client, "userDataStream.subscribe.signature")
    other = dial(api)
    placed = signed_ask(api, other, "order.place", **PLACE, newClientOrderId="mine")["result"]
    event = json.loads(client.recv(timeout=5))
    report = {"e": "executionReport", "c": "mine", "x": "NEW", "i": placed["orderId"]}
    assert event["subscriptionId"] == 0
    assert report.items() <= event["event"].items()
    canceled = signed_ask(api, other, "order.cancel", orderId=placed["orderId"])["result"]
    assert (canceled["clientOrderId"], canceled["status"]) == ("mine", "CANCELED")
    assert json.loads(client.recv(timeout=5))["event"]["x"] == "CANCELED"


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("order.place", {**PLACE, "price": "x"}, -1102),
        ("order.place", {**PLACE, "quantity": "100000000"}, -2010),
        ("order.cancel", {"orderId": 99}, -2011),
        ("order.status", {"orderId": 99}, -2013),
        ("openOrders.cancelAll", {"symbol": "BTCUSDT"}, -2011),
        ("klines", {}, -1020),
    ],
)
def test_refusals(api, client, method, params, code):
    credentials = Credentials(api.credentials, time.time)
    given = {"timestamp": int(credentials.clock() * 1000), **params, "apiKey": "fake-key"}
    text = "&".join(f"{name}={given[name]}" for name in sorted(given))
    signature = sign(api.account.secret, text).hex()
    assert code_of(ask(client, method, **given, signature=signature)) == (400, code)


def test_a_test_order_changes_nothing(api, client):
    assert signed_ask(api, client, "order.test", **PLACE)["result"] == {}
    assert api.account.orders == {}


def test_a_revoked_key_is_refused_without_an_id(api, client):
    api.protocol.revoked.add("fake-key")
    answer = signed_ask(api, client, "order.place", **PLACE)
    assert (answer["id"], answer["error"]["code"]) == (None, -2015)


def test_a_fault_executes_an_order_and_cuts_before_the_answer(api, client):
    api.cut_before_answer()
    client.send(json.dumps({"method": "x", "id": 1}))
    client.recv(timeout=5)
    payload = {"id": 2, "method": "order.place", "params": signed(api, "order.place", **PLACE)}
    client.send(json.dumps(payload))
    peer = api.accept()
    api.wait_for(lambda _: peer.ended_by == "rst")
    assert [order.state for order in api.account.orders.values()] == ["open"]


def test_a_shutdown_notice_has_no_subscription(api, client):
    api.announce_shutdown(api.accept(), close_after=5)
    notice = json.loads(client.recv(timeout=5))
    assert notice.keys() == {"event"}
    assert notice["event"]["e"] == "serverShutdown"
