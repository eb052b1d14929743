"""The examples in the help of ``wsclient.dialect`` work as they stand."""

from __future__ import annotations

import re
import textwrap
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import wsclient
from support.recordings import messages_of
from support.rig import Rig
from wsclient import dialect
from wsclient.dialect import Credentials, Message, Unhandled
from wsclient.stream.inbound import Inbound

URL = "wss://acme.example/"
if dialect.__doc__ is None:
    pytest.skip("there are no docstrings with -OO", allow_module_level=True)
BLOCKS = [
    textwrap.dedent(block) for block in re.findall(r"::\n\n((?: {4}.*\n|\n)+)", dialect.__doc__)
]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Run all examples; return what they define, with the calls of ``connect``."""
    calls: list[Any] = []
    monkeypatch.setattr(wsclient, "connect", lambda *args, **options: calls.append((args, options)))
    namespace: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "wsclient.dialect", "exec", dont_inherit=True), namespace)
    return SimpleNamespace(**{n: v for n, v in namespace.items() if n[0] != "_"}, calls=calls)


def test_there_are_three_examples() -> None:
    assert ["class Acme" in block for block in BLOCKS] == [True, True, True]


def test_the_first_example_connects(names: SimpleNamespace) -> None:
    (((url,), options),) = names.calls
    assert url == URL
    assert isinstance(options["dialect"], names.Acme)


@pytest.mark.parametrize(
    ("frame", "item"),
    [
        ({"op": "ping"}, dialect.Heartbeat()),
        ({"op": "error", "reason": "no", "id": 5}, dialect.Rejection("no", request_id=5)),
        ({"op": "subscribe", "id": 5}, dialect.Ack(request_id=5)),
        ({"op": "what"}, Unhandled("what")),
    ],
)
def test_the_first_example_reads(frame: Any, item: Any, names: SimpleNamespace) -> None:
    assert names.Acme().read(frame) == item


def test_the_first_example_numbers_messages(names: SimpleNamespace) -> None:
    message = names.Acme().read({"op": "data", "channel": "a", "n": 5})
    assert (type(message), message.channel, message.sequence) == (Message, "a", 5)


def test_the_second_example_logs_in(names: SimpleNamespace) -> None:
    credentials = Credentials({"api_key": "K", "secret": "S"}, lambda: 1700.5)
    sent = names.AcmePro().login(credentials)
    assert (sent["key"], sent["time"], len(sent["sign"])) == ("K", "1700", 64)
    assert names.AcmePro().takes_credentials
    assert names.AcmePro().read({"op": "login", "ok": True}) == dialect.LoginAccepted()
    refused = names.AcmePro().read({"op": "login", "ok": False, "reason": "no"})
    assert refused == dialect.LoginRefused("no")


def test_the_second_example_reads_most_frames_by_their_heads(names: SimpleNamespace) -> None:
    rows = [{"op": "book", "channel": "a", "first": n, "last": n + 1} for n in range(1, 21, 2)]
    rows += [{"op": "data", "channel": "b", "n": n} for n in range(1, 11)]
    frames = [msgspec.json.encode(row) for row in rows]
    dialect = names.AcmePro()
    inbound, rig = Inbound(dialect), Rig(dialect).open()
    batch, quick = inbound.batch(frames, False, 1, rig.cid), 0
    while batch.done < len(frames):
        quick += len(rig.ordinary(rig.cid, batch, rig.now))
        rig.received(rig.cid, inbound.entries(batch, 1), rig.now)
    assert quick == 18  # all but the first of each channel
    assert rig.supervisor.counters.gaps == 0


def test_the_second_example_has_an_order_book(names: SimpleNamespace) -> None:
    acme = names.AcmePro()
    book = wsclient.OrderBook(acme, acme.book.channel("A", {}))
    request = acme.book.request("book:A", {})
    assert request.params == {"symbol": "A"}
    assert book.take_snapshot({"last": 7, "bids": [["9.50", "1"]], "asks": [["11", "2"]]})
    sides = {"bids": [["9.50", "3"]], "asks": []}
    frame = {"op": "book", "channel": "book:A", "first": 8, "last": 9, **sides}
    (update,) = messages_of(acme, [msgspec.json.encode(frame)])
    assert book.apply(update)
    assert str(book.best_bid) == "Level(price=Decimal('9.50'), size=Decimal('3'))"
    assert book.sequence == 9


def test_the_third_example_has_routes(names: SimpleNamespace) -> None:
    acme, url = names.AcmeWorld(), "wss://acme.example/v1/us"
    routes = {name: acme.route(name, url) for name in ("AAPL", "eu:AAPL", "orders")}
    assert routes == {"AAPL": "us", "eu:AAPL": "eu", "orders": "account"}
    assert acme.address(url, "eu") == "wss://acme.example/v1/eu"
    assert acme.address(url, acme.default_route(url)) == url
    assert acme.wire_name("eu:AAPL") == "AAPL"
    assert [acme.logs_in(route) for route in ("us", "account")] == [False, True]
    assert [acme.needs_credentials(name, {}) for name in ("AAPL", "orders")] == [False, True]
