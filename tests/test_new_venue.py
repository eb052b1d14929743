"""A venue is one new file, and one in ``testing/venues``: no other file of the package changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wsclient

PACKAGE = Path(wsclient.__file__).parent

DIALECT = '''
"""Acme, made up."""

from typing import Any

from wsclient.dialect import Ack, Dialect, Item, LoginAccepted, Message, Reply


class Acme(Dialect):
    """Dialect of Acme."""

    name = "acme"

    def change(self, verb: str, channels: Any, request_id: int, options: Any) -> Any:
        return {"op": verb, "args": list(channels), "id": request_id}

    def login(self, credentials: Any) -> Any:
        return {"op": "login", "key": credentials["api_key"]}

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "id": request_id}

    def read(self, message: Any) -> Item:
        if message.get("op") == "login":
            return LoginAccepted()
        if "order" in message:
            return Reply(message["id"], message)
        if "id" in message:
            return Ack(message["id"])
        return Message(message["topic"], sequence=message["n"])
'''
VENUE = '''
"""The protocol of Acme."""

from wsclient.dialects.acme import Acme
from wsclient.testing.market import MarketQuote, MarketTrade
from wsclient.testing.private import PrivateProtocol, account_of
from wsclient.testing.protocols import as_object, encode, subscribe_all


class AcmeProtocol(PrivateProtocol):
    """Acme."""

    dialect = Acme()
    kinds = {"trades:{}": MarketTrade, "quotes:{}": MarketQuote}
    patterns = tuple(kinds)
    symbols = ("A", "B")
    credential_fields = {"api_key": "api_key"}
    takes_orders = True

    def received(self, peer, payload):
        request = as_object(payload)
        match request["op"]:
            case "login":
                peer.login(account_of(peer.venue.accounts, request["key"]))
                yield encode({"op": "login"})
            case "buy":
                yield from self.executed(peer, self.buy(peer.account, request))
            case _:
                subscribe_all(peer, request["args"])
                yield encode({"id": request["id"]})

    def buy(self, account, request):
        order = self.place(account, "A", "buy", 1, 1)
        yield encode({"id": request["id"], "order": order.id})

    def is_private(self, channel):
        return channel == "orders"

    def news(self, account, change):
        yield "orders", {"order_id": change.order.id}

    def fields(self, channel, event, is_snapshot=False):
        return {"price": 1}

    def data(self, channel, sequence, fields):
        return encode({"topic": channel, "n": sequence, **fields})
'''
PROGRAM = """
import sys
import wsclient
from wsclient.cli import main, make_parser
from wsclient.cli.serve import Service
from wsclient.testing import FakeVenue

with FakeVenue("acme") as venue, wsclient.connect(venue.url, dialect="acme") as client:
    client.subscribe("trades:A", timeout=10)
    venue.publish("trades:A", price=5)
    message = client.recv(timeout=10)
    assert (message.channel, message.sequence, message.data["price"]) == ("trades:A", 1, 5)
with FakeVenue("acme") as venue, wsclient.connect(
    venue.url, dialect="acme", credentials=venue.credentials
) as client:
    client.subscribe("orders", timeout=10)
    assert client.request({"op": "buy"})["order"] == venue.account.open_orders()[0].id
    assert client.recv(timeout=10).channel == "orders"
assert type(wsclient.dialects.Acme()).name == "acme"
args = make_parser().parse_args(["serve", "--port", "0", "--dialect", "acme"])
with Service(args, sys.stderr) as service:
    assert 'dialect="acme"' in list(service.introduction())[-1]
main(["serve", "--help"])
main(["tail", "--help"])
"""


@pytest.mark.timeout(120)
def test_a_venue_is_two_new_files(tmp_path: Path) -> None:
    copy = tmp_path / "wsclient"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "dialects" / "acme.py").write_text(DIALECT)
    (copy / "testing" / "venues" / "acme.py").write_text(VENUE)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert len(re.findall(r"by default: [\w, ]*\bacme, ", ran.stdout)) == 2
