"""The account of Binance USD-M futures, by a listen key: its frames, and the life of a key."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from support.helpers import until
from support.reading import Data, read
from wsclient import BinanceFutures, HandshakeRejected, WebSocketClient
from wsclient.dialect.values import Credentials, RestRequest
from wsclient.errors import ConfigurationError, SubscriptionRejected
from wsclient.events import Disconnected, Event, RenewalFailed, Subscribed
from wsclient.stream.items import Ack, Ending, Expired
from wsclient.testing import FakeVenue
from wsclient.testing.venues.binance_futures import BinanceFuturesProtocol

PRIVATE = "wss://fstream.binance.com/private/stream"
KEY = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"
API_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
EVENTS = (
    "ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/ALGO_UPDATE/TRADE_LITE/MARGIN_CALL/ACCOUNT_CONFIG_UPDATE/"
    "STRATEGY_UPDATE/GRID_UPDATE/listenKeyExpired"
)
ORDER = {"e": "ORDER_TRADE_UPDATE", "E": 1568879465651, "T": 1568879465650, "o": {"s": "BTCUSDT"}}
GONE = {"e": "listenKeyExpired", "E": "1736996475556", "listenKey": KEY}
EXPIRED = Expired("the listen key has expired")


def given(token: str | None = None) -> Credentials:
    return Credentials({"api_key": API_KEY}, lambda: 0.0, token)


def refusal(body: bytes) -> HandshakeRejected:
    return HandshakeRejected("HTTP 400", 400, excerpt=body)


# --- the key -------------------------------------------------------------------------------------


def test_a_key_is_requested_before_each_connect_to_the_private_route() -> None:
    request = BinanceFutures().url_request(PRIVATE, given())
    assert request == RestRequest(
        "https://fapi.binance.com/fapi/v1/listenKey",
        method="POST",
        headers={"X-MBX-APIKEY": API_KEY},
    )


@pytest.mark.parametrize(
    "url",
    [
        "wss://fstream.binance.com/public/stream",
        "wss://fstream.binance.com/market",
        "wss://fstream.binance.com",
        f"{PRIVATE}?listenKey={KEY}",
        f"wss://fstream.binance.com/private/ws/{KEY}",
    ],
)
def test_no_key_is_requested_for_other_routes_and_for_an_own_key(url: str) -> None:
    assert BinanceFutures().url_request(url, given()) is None


def test_no_key_is_requested_without_credentials() -> None:
    assert BinanceFutures().url_request(PRIVATE, None) is None


def test_the_address_names_the_key_and_all_documented_events() -> None:
    dialect = BinanceFutures()
    assert dialect.token_from({"listenKey": KEY}) == KEY
    url = dialect.url(PRIVATE, given(KEY))
    assert url == f"wss://fstream.binance.com/private/ws?listenKey={KEY}&events={EVENTS}"


def test_options_of_the_address_are_kept() -> None:
    url = BinanceFutures().url(f"{PRIVATE}?timeUnit=MICROSECOND", given(KEY))
    assert url.endswith(f"&events={EVENTS}&timeUnit=MICROSECOND")


def test_keys_are_requested_beside_the_snapshots_of_books_unless_told_otherwise() -> None:
    dialect = BinanceFutures(rest="https://demo-fapi.binance.com/fapi/v1/depth")
    request = dialect.url_request(PRIVATE, given())
    assert request is not None
    assert request.url == "https://demo-fapi.binance.com/fapi/v1/listenKey"
    request = BinanceFutures(listen_key="https://x.example/key").url_request(PRIVATE, given())
    assert request is not None
    assert request.url == "https://x.example/key"


@pytest.mark.parametrize("answer", [{}, [], {"listenKey": 5}, {"listenKey": "a&b=c"}])
def test_an_answer_without_a_key_is_refused(answer: Any) -> None:
    with pytest.raises(HandshakeRejected, match="no listen key"):
        BinanceFutures().token_from(answer)


@pytest.mark.parametrize(
    ("dialect", "url", "expected"),
    [
        (
            BinanceFutures(rest="https://dapi.binance.com/dapi/v1/depth", account="/ws/{key}"),
            "wss://dstream.binance.com",
            f"wss://dstream.binance.com/ws/{KEY}",
        ),
        (
            BinanceFutures(account="/ws/{key}"),
            "wss://fstream.binance.com/pm",
            f"wss://fstream.binance.com/pm/ws/{KEY}",
        ),
        (
            BinanceFutures(account="/private/stream?listenKey={key}&events={events}"),
            "wss://fstream.binance.com/public",
            f"{PRIVATE}?listenKey={KEY}&events={EVENTS}",
        ),
    ],
)
def test_host_path_and_form_of_the_address_are_arguments(
    dialect: BinanceFutures, url: str, expected: str
) -> None:
    assert dialect.route("userData", url) == "private"
    address = dialect.address(url, "private")
    assert dialect.url_request(address, given()) is not None
    assert dialect.url(address, given(KEY)) == expected
    assert dialect.refusal("userData", expected.partition("?")[0]) is None


def test_a_key_is_renewed_well_within_its_hour() -> None:
    dialect = BinanceFutures()
    request = dialect.renewal("", given(KEY))
    assert request == dialect.url_request(PRIVATE, given())._replace(method="PUT")  # type: ignore[union-attr]
    assert dialect.renewal_interval is not None
    assert 1200 <= dialect.renewal_interval <= 1800


@pytest.mark.parametrize(
    ("body", "has_expired"),
    [
        (b'{"code":-1125,"msg":"This listenKey does not exist."}', True),
        (b'{"code":-1003,"msg":"Too many requests"}', False),
        (b"<html>", False),
        (b"[-1125]", False),
        (b"", False),
    ],
)
def test_only_the_code_of_an_unknown_key_means_that_it_has_expired(
    body: bytes, has_expired: bool
) -> None:
    assert BinanceFutures().has_expired(refusal(body)) is has_expired


def test_its_repr_shows_no_key() -> None:
    assert API_KEY not in repr(BinanceFutures().url_request(PRIVATE, given()))


# --- the frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVENTS.split("/")[:-1])
def test_events_are_messages_of_one_channel_by_their_names(name: str) -> None:
    assert read(BinanceFutures(), {**ORDER, "e": name}) == [Data("userData", name)]


def test_an_event_that_no_document_names_is_a_message_too() -> None:
    frame = {"e": "ALGO_ORDER_UPDATE", "E": 1}
    assert read(BinanceFutures(), frame) == [Data("userData", "ALGO_ORDER_UPDATE")]


def test_the_end_of_a_key_ends_the_connection() -> None:
    assert read(BinanceFutures(), GONE) == [EXPIRED]


def test_a_shutdown_is_announced_here_too() -> None:
    frame = {"e": "serverShutdown", "E": 1770123456789}
    assert read(BinanceFutures(), frame) == [Ending("this server will shut down soon")]


def test_wrapped_events_carry_the_key_as_the_name_of_their_stream() -> None:
    order, gone = ({"stream": KEY, "data": data} for data in (ORDER, GONE))
    assert read(BinanceFutures(), order) == [Data(KEY, "ORDER_TRADE_UPDATE")]
    assert read(BinanceFutures(), gone) == [Data(KEY, "listenKeyExpired"), EXPIRED]


def test_nothing_is_sent_for_the_channel_of_the_account() -> None:
    dialect = BinanceFutures()
    options = dialect.access(["userData"], given(KEY))
    for make in (dialect.subscribe, dialect.unsubscribe):
        assert make(["userData"], 7, options) == Ack(alias=KEY)


def test_other_channels_are_subscribed_to_as_before() -> None:
    dialect = BinanceFutures()
    assert dialect.access(["btcusdt@trade"], given()) == {}
    own = "k" * 64
    assert dialect.access([own], given(KEY)) == {}
    message = {"method": "SUBSCRIBE", "params": [own], "id": 7}
    assert dialect.subscribe([own], 7, {}) == message
    assert dialect.batches(["userData", own]) == [["userData"], [own]]


def test_the_channel_of_the_account_does_not_take_an_own_key() -> None:
    with pytest.raises(ConfigurationError, match="give none in the address"):
        BinanceFutures().subscribe(["userData"], 7, BinanceFutures().access(["userData"], given()))


# --- with a venue --------------------------------------------------------------------------------


class Stage:
    """A fake venue, and clients of it whose events are kept."""

    def __init__(self, stack: ExitStack) -> None:
        self.protocol = BinanceFuturesProtocol()
        self.venue = stack.enter_context(FakeVenue(self.protocol))
        self.rest = self.venue.url.replace("ws://", "http://") + "fapi/v1/listenKey"
        self.events: list[Event] = []
        self._stack = stack

    def client(
        self, route: str = "private", credentials: Any = None, **arguments: Any
    ) -> WebSocketClient:
        client = WebSocketClient(
            self.venue.route_url(route),
            dialect=BinanceFutures(**{"listen_key": self.rest, **arguments}),
            credentials=credentials or self.venue.credentials,
            retry_delay=0.01,
        )
        client.on_event(self.events.append)
        self._stack.callback(client.close)
        client.connect()
        return client

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in list(self.events) if isinstance(event, kind)]

    def methods(self) -> list[str]:
        with self.venue.lock:
            return [call.method for call in self.venue.calls]

    def resubscribed(self, count: int = 2) -> None:
        """Wait until the channel is confirmed again."""
        until(lambda: len(self.of(Subscribed)) >= count)

    def order(self, symbol: str = "BTCUSDT") -> None:
        self.venue.place(symbol, "buy", "1", "100")


@pytest.fixture
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack)


@pytest.mark.loopback
@pytest.mark.parametrize("form", ["/private/ws", "/private/stream"])
def test_orders_arrive_beside_market_data(stage: Stage, form: str) -> None:
    account = form + "?listenKey={key}&events={events}"
    client = stage.client("public", account=account)
    client.subscribe("userData", "btcusdt@bookTicker")
    order = stage.venue.place("BTCUSDT", "buy", "2", "100", client_id="mine")
    stage.venue.fill(order, "1")
    stage.venue.publish("btcusdt@bookTicker", s="BTCUSDT", b="1", B="1", a="2", A="1")
    messages = [client.recv(timeout=5) for _ in range(4)]
    ours = [message for message in messages if message.channel == "userData"]
    assert [m.type for m in ours] == ["ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"]
    assert all(message.time is not None and message.gap is None for message in ours)
    fields = {"c": "mine", "x": "TRADE", "X": "PARTIALLY_FILLED", "z": "1"}
    last = ours[-1].data
    assert fields.items() <= last.get("data", last)["o"].items()
    assert client.stats().unhandled == client.stats().invalid == 0
    assert sorted(str(peer.route) for peer in stage.venue.live) == ["private", "public"]


@pytest.mark.loopback
def test_an_unsubscribe_closes_the_connection_of_the_account(stage: Stage) -> None:
    client = stage.client("public")
    client.subscribe("userData", "btcusdt@bookTicker")
    client.unsubscribe("userData")
    until(lambda: [peer.route for peer in stage.venue.live] == ["public"])


@pytest.mark.loopback
def test_a_key_lives_as_long_as_its_connection(stage: Stage) -> None:
    stage.protocol.key_lifetime = 0.3
    client = stage.client(renew_every=0.05)
    client.subscribe("userData")
    until(lambda: len(stage.methods()) > 8)
    stage.order()
    assert client.recv(timeout=5).gap is None
    assert set(stage.methods()) == {"POST", "PUT"}
    assert stage.of(Disconnected) == []


@pytest.mark.loopback
def test_a_key_that_expires_is_replaced_by_a_new_one(stage: Stage) -> None:
    client = stage.client()
    client.subscribe("userData")
    stage.order()
    client.recv(timeout=5)
    stage.protocol.expire()
    stage.resubscribed()
    stage.order()
    message = client.recv(timeout=5)
    assert message.gap is not None
    assert message.gap.reason == "reconnect"
    assert [event.reason for event in stage.of(Disconnected)] == ["expired"]
    assert stage.methods() == ["POST", "POST"]


@pytest.mark.loopback
def test_a_key_that_was_deleted_elsewhere_is_noticed_by_its_renewal(stage: Stage) -> None:
    client = stage.client(renew_every=0.05)
    client.subscribe("userData")
    stage.order()
    client.recv(timeout=5)
    account = stage.venue.accounts[0]
    with stage.venue.lock:
        stage.protocol.delete(account)
    stage.resubscribed()
    stage.order()
    assert client.recv(timeout=5).gap is not None
    assert [event.reason for event in stage.of(Disconnected)] == ["expired"]
    assert stage.of(RenewalFailed) == []


@pytest.mark.loopback
def test_a_renewal_that_fails_is_an_event_and_the_connection_goes_on(stage: Stage) -> None:
    client = stage.client(renew_every=0.05)
    client.subscribe("userData")
    with stage.venue.lock:
        account = stage.venue.accounts[0]
        right, account.api_key = account.api_key, "another"
    until(lambda: len(stage.of(RenewalFailed)) >= 2)
    assert "HTTP 401" in stage.of(RenewalFailed)[0].why
    with stage.venue.lock:
        account.api_key = right
    stage.order()
    assert client.recv(timeout=5).gap is None
    assert stage.of(Disconnected) == []


@pytest.mark.loopback
def test_a_refused_api_key_fails_the_private_route_alone(stage: Stage) -> None:
    client = stage.client("public", {"api_key": "wrong"})
    client.subscribe("btcusdt@bookTicker")
    with pytest.raises(SubscriptionRejected, match="HTTP 401"):
        client.subscribe("userData")
    client.subscribe("ethusdt@bookTicker")


@pytest.mark.loopback
def test_an_own_key_goes_on_working_as_a_channel(stage: Stage) -> None:
    client = WebSocketClient(stage.venue.route_url("public"), dialect="binance_futures")
    with client:
        client.connect()
        client.subscribe(KEY)
        stage.venue.publish(KEY, e="ACCOUNT_UPDATE", E=1)
        stage.venue.publish(KEY, **ORDER)
        messages = [client.recv(timeout=5) for _ in "12"]
    types = [(message.channel, message.type) for message in messages]
    assert types == [(KEY, "ACCOUNT_UPDATE"), (KEY, "ORDER_TRADE_UPDATE")]


@pytest.mark.loopback
def test_an_account_without_credentials_is_refused(stage: Stage) -> None:
    with WebSocketClient(stage.venue.route_url("public"), dialect="binance_futures") as client:
        client.connect()
        with pytest.raises(SubscriptionRejected, match="credentials"):
            client.subscribe("userData")


@pytest.mark.loopback
def test_no_key_appears_in_the_log_or_in_an_event(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = stage.client(renew_every=0.05, credentials={"api_key": stage.venue.account.api_key})
    client.subscribe("userData")
    stage.order()
    client.recv(timeout=5)
    until(lambda: "PUT" in stage.methods())
    stage.protocol.expire()
    stage.resubscribed()
    with stage.venue.lock:
        stage.venue.account.api_key = "another"
    until(lambda: bool(stage.of(RenewalFailed)))
    client.close()
    with stage.venue.lock:
        paths = [request.path for request in stage.venue.requests]
    keys = [path.partition("listenKey=")[2].partition("&")[0] for path in paths]
    assert len(keys) >= 2
    logged = [r.getMessage() for r in caplog.records if r.name.startswith("wsclient")]
    text = "".join([*logged, *map(str, stage.events), repr(client)])
    assert "received: " in text
    assert not [key for key in (*keys, "fake-key") if key in text]
