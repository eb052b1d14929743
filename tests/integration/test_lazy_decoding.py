"""Lazy decoding: nothing that a venue sends raises when a consumer asks for it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest

import wsclient
from support.helpers import until
from wsclient import Message
from wsclient.testing import FakeVenue, Peer
from wsclient.testing.venues.kraken import KrakenProtocol

LONG = "1" * 4301


class Tick(msgspec.Struct):
    type: str
    channel: str
    sequence: int


def generic(number: int, value: str) -> str:
    return f'{{"type":"market_data","channel":"a","sequence":{number},"x":{value}}}'


def kraken(number: int, value: str) -> str:
    return (
        f'{{"channel":"trade","type":"update","data":[{{"symbol":"b","n":{number},"x":{value}}}]}}'
    )


def rows(number: int, value: str) -> str:
    row = f'{{"symbol":"b","n":{number},"x":{value}}}'
    return f'{{"channel":"trade","type":"update","data":[{row},{row}]}}'


def of_generic(message: Message) -> tuple[int, Any]:
    return message.data["sequence"], message.data["x"]


def of_kraken(message: Message) -> tuple[int, Any]:
    return message.data["n"], message.data["x"]


def of_its_type(message: Message) -> tuple[int, Any]:
    message.decode(Tick)
    return of_generic(message)


class Path(NamedTuple):
    """One way of messages through the client."""

    dialect: str
    channel: str
    frame: Callable[[int, str], str]
    read: Callable[[Message], tuple[int, Any]]
    options: dict[str, Any] = {}
    per_frame: int = 1

    @contextmanager
    def stream(self, decimal: bool = False) -> Iterator[tuple[wsclient.WebSocketClient, Peer]]:
        options = {"dialect": self.dialect, "decimal": decimal, **self.options}
        with FakeVenue(self.dialect) as venue, wsclient.connect(venue.url, **options) as client:
            client.subscribe(self.channel)
            yield client, venue.accept()


PATHS = {
    "plain": Path("generic", "a", generic, of_generic),
    "validated": Path("generic", "a", generic, of_generic, {"validate": print}),
    "typed": Path("generic", "a", generic, of_its_type),
    "peeked": Path("kraken", "trade:b", kraken, of_kraken),
    "several": Path("kraken", "trade:b", rows, of_kraken, per_frame=2),
}
REFUSED = {
    "an endless integer": LONG,
    "one below zero": f"[0,-{LONG}]",
    "one far behind": f'["{"x" * 9000}",{LONG}{LONG}]',
}
#: value as JSON; as float; as Decimal
ACCEPTED: dict[str, tuple[str, Any, Any]] = {
    "the longest integer": ("1" * 4300, 10**4300 // 9, 10**4300 // 9),
    "digits that are text": (f'"{LONG}"', LONG, LONG),
    "a long fraction": (f"0.{LONG}", 1 / 9, Decimal(f"0.{LONG}")),
    "a great number": (f"{LONG}.5", math.inf, Decimal(f"{LONG}.5")),
    "a great exponent": ("1e999999999", math.inf, Decimal("1e999999999")),
    "an endless exponent": (f"1e{LONG}", math.inf, Decimal("Infinity")),
    "a small exponent": (f"1e-{LONG}", 0.0, Decimal(0)),
}


@pytest.mark.parametrize("decimal", [False, True])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_decoded_is_skipped_and_marked(what: str, path: str, decimal: bool) -> None:
    way = PATHS[path]
    with way.stream(decimal) as (client, peer):
        for number in range(4):  # from the third on, the client knows what is asked for
            peer.send(way.frame(number, "1"))
            for _ in range(way.per_frame):
                assert way.read(client.recv(timeout=5)) == (number, 1)
        peer.send(way.frame(4, REFUSED[what]))
        peer.send(way.frame(5, "1"))
        message = client.recv(timeout=5)
        assert way.read(message) == (5, 1)
        assert message.gap is not None
        assert message.gap.reason == "invalid"
        assert client.stats().invalid == 1


@pytest.mark.parametrize("decimal", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_what_can_be_decoded_is_delivered(path: str, decimal: bool) -> None:
    way = PATHS[path]
    for text, as_float, as_decimal in ACCEPTED.values():
        with way.stream(decimal) as (client, peer):
            peer.send(way.frame(0, text))
            assert way.read(client.recv(timeout=5)) == (0, as_decimal if decimal else as_float)
            assert client.stats().invalid == 0


def deep_down(levels: int, function: Callable[[], Any]) -> Any:
    return function() if levels == 0 else deep_down(levels - 1, function)


@pytest.mark.parametrize("path", ["plain", "typed", "peeked"])
def test_nested_data_are_decoded_deep_down_in_the_users_stack(path: str) -> None:
    depth = sys.getrecursionlimit() * 3 // 5
    way = PATHS[path]
    with way.stream() as (client, peer):
        peer.send(way.frame(0, "[" * depth + "]" * depth))
        message = client.recv(timeout=5)
        data = deep_down(depth, lambda: message.data)["x"]
        for _ in range(depth - 1):
            (data,) = data
        assert data == []


def book(kind: str, **fields: Any) -> str:
    level = {"price": 9, "qty": 1}
    row = {"symbol": "BTC/USD", "bids": [level], "asks": [], **fields}
    return json.dumps({"channel": "book", "type": kind, "data": [row]})


def test_an_endless_integer_puts_a_book_out_of_sync_until_its_next_snapshot() -> None:
    protocol = KrakenProtocol()
    protocol.snapshots["book:BTC/USD"] = book("snapshot")
    with (
        FakeVenue(protocol) as venue,
        wsclient.connect(venue.url, dialect="kraken") as client,
    ):
        found = client.order_book("BTC/USD", timeout=5)
        peer = venue.accept()
        peer.send(book("update", x="?").replace('"?"', LONG))
        until(lambda: client.stats().invalid == 1)
        assert not found.is_synced
        peer.send(book("update"))
        until(lambda: sum('"subscribe"' in str(text) for text in peer.received) == 2)
        found.wait_synced(5)
