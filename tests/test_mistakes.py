"""What callers get wrong is an error that says what would work, not silence."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsclient
from support.documents import lively, run_block
from wsclient import ClientClosed, ConfigurationError, Generic, WebSocketClient
from wsclient.testing import FakeVenue

QUICK: dict[str, Any] = {"retry_delay": 0.001, "jitter": False}


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[WebSocketClient]:
    with wsclient.connect(venue.url) as client:
        yield client


# Connecting.


def test_a_connect_error_names_the_address_without_its_path_and_query(venue: FakeVenue) -> None:
    venue.down()
    with pytest.raises(wsclient.ConnectError) as caught:
        wsclient.connect(f"{venue.url}path?token=S3CRET", max_retries=2, **QUICK)
    address = venue.url.rstrip("/")
    assert str(caught.value).startswith(f"no connection to {address} after 2 attempt(s): ")
    assert "S3CRET" not in str(caught.value)


def test_a_refusal_for_good_names_the_address(venue: FakeVenue) -> None:
    venue.refuse(403, times=1)
    with pytest.raises(wsclient.ConnectError, match=f"to {venue.url.rstrip('/')}: .* not retried"):
        wsclient.connect(venue.url)


def test_the_address_of_a_url_function_is_named_by_its_dialect(venue: FakeVenue) -> None:
    venue.refuse(403, times=1)
    with pytest.raises(wsclient.ConnectError, match="no connection to generic: "):
        wsclient.connect(lambda: venue.url)


def test_a_closed_client_cannot_be_entered(client: WebSocketClient) -> None:
    client.close()
    with pytest.raises(ClientClosed), client:
        pytest.fail("it was entered")


def test_a_closed_reader_cannot_be_entered(client: WebSocketClient) -> None:
    reader = client.reader("a")
    reader.close()
    with pytest.raises(ClientClosed, match="the reader is closed"), reader:
        pytest.fail("it was entered")


# Subscribing.

SUBSCRIBING: dict[str, Callable[[WebSocketClient, Any], Any]] = {
    "subscribe": lambda client, options: client.subscribe("a", **options),
    "reader": lambda client, options: client.reader("a", **options),
    "on": lambda client, options: client.on("a", print, **options),
    "order_book": lambda client, options: client.order_book("a", **options),
}


@pytest.mark.parametrize("call", SUBSCRIBING)
@pytest.mark.parametrize(
    ("name", "meant"),
    [("timeot", "timeout"), ("time_out", "timeout"), ("queue_sise", "queue_size")],
)
def test_a_misspelled_argument_does_not_go_to_the_venue(
    client: WebSocketClient, call: str, name: str, meant: str
) -> None:
    said = f"'{name}' is not passed to the venue; did you mean the argument '{meant}'"
    with pytest.raises(ConfigurationError, match=said):
        SUBSCRIBING[call](client, {name: 5})
    assert client.subscriptions == {}


def test_other_names_go_to_the_venue(client: WebSocketClient) -> None:
    options = {"depth": 10, "time": 1, "freq": "F0", "interval": 5, "snapshot": False}
    assert client.subscribe("a", **options)[0].options == options


class Forgetful(Generic):
    """A dialect whose hooks have no ``return``."""

    def subscribe(self, *_: Any) -> Any:
        pass

    def request(self, *_: Any) -> Any:
        pass


def test_a_dialect_that_returns_no_message_sends_none(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url, dialect=Forgetful()) as client:
        with pytest.raises(wsclient.SubscriptionRejected) as caught:
            client.subscribe("a")
        assert "the dialect's subscribe() returned None" in caught.value.failed["a"]
        with pytest.raises(TypeError, match=r"request\(\) returned None"):
            client.request({"op": "time"})
    assert venue.connections[0].received == []


# Sending.


@pytest.mark.parametrize("payload", [object(), {"f": print}, {(1, 2): 3}])
def test_what_cannot_be_sent_says_what_can(client: WebSocketClient, payload: Any) -> None:
    with pytest.raises(TypeError, match="must be text, bytes, or what JSON can express"):
        client.send(payload)


# The help of the package.


def guide() -> str:
    text = inspect.getdoc(wsclient)
    if text is None:
        pytest.skip("no docstrings under -OO")
    return text


def test_help_shows_the_way_in_its_first_lines(
    clients: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    beginning = guide().partition("The names by purpose")[0]
    assert len(beginning.splitlines()) <= 16
    code = textwrap.dedent("\n".join(re.findall(r"^(?: {4}.*)?$", beginning, re.MULTILINE)))
    with FakeVenue("kraken") as venue, lively(venue, ["ticker:BTC/USD"]):
        code = code.replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients, messages=5)
    assert capsys.readouterr().out.startswith("ticker:BTC/USD ")


def test_help_lists_each_public_name_by_its_purpose() -> None:
    listed = set(re.findall(r"\w+", guide().partition("The names by purpose")[2]))
    assert set(wsclient.__all__) - listed == {"__version__"}
