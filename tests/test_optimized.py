"""Nothing depends on asserts or docstrings, which ``python -OO`` leaves out."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import wsclient

PACKAGE = Path(wsclient.__file__).parent

ALL_MODULES = """
import importlib, pkgutil, wsclient
for module in pkgutil.walk_packages(wsclient.__path__, "wsclient."):
    if module.name != "wsclient.__main__":
        importlib.import_module(module.name)
"""
#: Checks without ``assert``, which would be left out.
CLIENT_AND_BOOK = """
import json
from decimal import Decimal

import wsclient
from wsclient.testing import FakeVenue
from wsclient.testing.venues.kraken import KrakenProtocol

def expect(found, expected):
    if found != expected:
        raise SystemExit(f"{found!r} is not {expected!r}")

def book(kind, price):
    row = {"symbol": "BTC/USD", "bids": [{"price": price, "qty": 1}], "asks": []}
    return json.dumps({"channel": "book", "type": kind, "data": [row]})

with FakeVenue() as venue, wsclient.connect(venue.url, retry_delay=0.01) as client:
    client.subscribe("a")
    for number in range(3):
        venue.publish("a", n=number)
        expect(client.recv(timeout=5).data["n"], number)
    venue.accept().rst()
    venue.wait_for(lambda venue: len(venue.peers) == 2 and venue.subscribers("a"))
    venue.publish("a", n=3)
    message = client.recv(timeout=5)
    expect((message.data["n"], message.connection_id), (3, 2))
    expect(client.stats().reconnects, 1)
    expect(repr(client.stats()).count("connects of"), 1)

protocol = KrakenProtocol()
protocol.snapshots["book:BTC/USD"] = book("snapshot", 9)
with FakeVenue(protocol) as venue, wsclient.connect(venue.url, dialect="kraken") as client:
    found = client.order_book("BTC/USD", timeout=5)
    expect(found.best_bid, (Decimal(9), Decimal(1)))
    client.subscribe("book:BTC/USD")
    venue.broadcast(book("update", 10), "book:BTC/USD")
    while client.recv(timeout=5).type != "update":
        pass
    found.wait_synced(5)
"""


def run(*args: str) -> str:
    command = [sys.executable, "-OO", "-W", "error", *args]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_every_module_can_be_imported() -> None:
    run("-c", ALL_MODULES)


def test_a_client_and_an_order_book_work() -> None:
    run("-c", CLIENT_AND_BOOK)


def test_the_command_explains_itself() -> None:
    assert "doctor" in run("-m", "wsclient", "--help")
    assert "usage: wsclient doctor" in run("-m", "wsclient", "doctor", "--help")


def test_the_demo_runs() -> None:
    assert "Nothing was lost silently." in run("-m", "wsclient", "demo", "--seconds", "2")


def asserts_of(path: Path) -> list[ast.Assert]:
    tree = ast.parse(path.read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def is_for_types(node: ast.Assert) -> bool:
    """Return True for ``x is not None`` or ``isinstance(x, T)``, which are there for mypy."""
    match node.test:
        case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return node.msg is None
        case ast.Call(func=ast.Name(id="isinstance")):
            return node.msg is None
    return False


def test_no_logic_is_in_an_assert() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in asserts_of(path)
        if not is_for_types(node)
    ]
    assert found == []
