"""The README renders, its tables match the code, and its Python blocks run."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import docutils.core
import docutils.nodes
import pytest

import wsclient
from wsclient import dialects
from wsclient.dialect import BookFormat, Dialect
from wsclient.testing import FakeVenue, GenericProtocol, KrakenProtocol, venues

README = (Path(__file__).parents[1] / "README.rst").read_text()
DOCUMENT = docutils.core.publish_doctree(README, settings_overrides={"report_level": 5})


def blocks(language: str) -> list[str]:
    return [
        node.astext()
        for node in DOCUMENT.findall(docutils.nodes.literal_block)
        if language in node["classes"]
    ]


def section(title: str) -> str:
    _, _, rest = README.partition(f"\n{title}\n{'-' * len(title)}\n")
    assert rest, f"no section {title!r}"
    return re.split(r"\n[^\n]+\n-{3,}\n", rest)[0]


def test_it_renders_without_a_warning() -> None:
    messages = [node.astext() for node in DOCUMENT.findall(docutils.nodes.system_message)]
    assert not messages


def test_its_first_two_blocks_are_the_demo_and_the_tests() -> None:
    demo, tests = blocks("sh")[:2]
    assert demo.endswith("wsclient demo")
    assert tests.endswith("pytest")


def test_the_table_of_options_is_that_of_the_code() -> None:
    rows = re.findall(r"^``(\w+)`` +(\S+(?: built-in)?) ", section("Options"), re.MULTILINE)
    shown = {name: default.strip("`") for name, default in rows}
    actual = {
        field.name: "the built-in"
        if callable(field.default)
        else f'"{field.default}"'
        if isinstance(field.default, str)
        else str(field.default)
        for field in fields(wsclient.Options)
    }
    assert shown == actual


def books_of(dialect: Dialect) -> str:
    """Return where the snapshots of a dialect's order books come from."""
    if dialect.book is None:
        return "none"
    return "stream" if type(dialect.book).request is BookFormat.request else "REST"


def test_the_table_of_dialects_is_that_of_the_code() -> None:
    rows = re.findall(
        r"^``(\w+)`` +\S.*? +(REST|stream|none) +(yes|no) +(yes|no)$",
        section("Dialects"),
        re.MULTILINE,
    )
    actual = [
        (
            name,
            books_of(dialect),
            "yes" if dialect.takes_credentials else "no",
            "yes" if name in venues.NAMES else "no",
        )
        for name, dialect in ((name, dialects.find(name)) for name in dialects.NAMES)
    ]
    assert rows == actual


def test_the_table_of_limits_names_options() -> None:
    table = section("Limits and deadlines").partition("\n====")[2].rpartition("\n====")[0]
    named = re.findall(r"``(\w+)``", "".join(line[:37] for line in table.splitlines()))
    assert len(named) > 10
    assert sorted(set(named) - {field.name for field in fields(wsclient.Options)}) == []


# The Python blocks.


class Prices(GenericProtocol):
    """A protocol that sends a price to each subscriber, and answers the README's Acme dialect."""

    def received(self, peer: Any, payload: Any) -> Iterator[Any]:
        import json

        request = json.loads(payload)
        if "op" not in request:
            yield from super().received(peer, payload)
            return
        for channel in request["args"]:
            peer.subscribe(channel)
        yield json.dumps({"id": request["id"]})

    def data(self, channel: str, sequence: int, fields: Any) -> Any:
        import json

        message = {"type": "market_data", "channel": channel, "topic": channel, "n": sequence}
        return json.dumps({**message, "sequence": sequence, **fields})


@contextmanager
def lively(venue: FakeVenue, channels: list[str]) -> Iterator[None]:
    """Publish on every channel, again and again."""
    stop = threading.Event()

    def run() -> None:
        price = 0
        while not stop.wait(0.005):
            price += 1
            for channel in channels:
                venue.publish(channel, price=price, last=price)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[wsclient.WebSocketClient]:
    """Collect every client that a block makes."""
    made: list[wsclient.WebSocketClient] = []
    original = wsclient.WebSocketClient.__init__

    def remember(self: wsclient.WebSocketClient, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(wsclient.WebSocketClient, "__init__", remember)
    return made


def run_block(code: str, namespace: dict[str, Any], clients: list[Any], messages: int) -> None:
    """Run a block as it stands; one that loops for ever is ended by closing its client."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            exec(compile(code, "README.rst", "exec"), namespace)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(2000):
        thread.join(0.005)
        if not thread.is_alive():
            break
        if "for message in client" in code or ".run()" in code:
            for client in clients:
                stats = client.stats()
                if stats.messages - stats.queued >= messages:
                    client.close()
    assert not thread.is_alive(), "the block did not end"
    if errors:
        raise errors[0]


PYTHON = {
    node.parent[0].astext(): node.astext()
    for node in DOCUMENT.findall(docutils.nodes.literal_block)
    if "python" in node["classes"] and node.parent[0].astext() != "In a notebook"
}
CELLS = [code for code in blocks("python") if code not in PYTHON.values()]


def test_every_block_is_run_below() -> None:
    assert len(PYTHON) + len(CELLS) == len(blocks("python"))
    source = Path(__file__).read_text()
    assert all(f'PYTHON["{title}"]' in source for title in PYTHON)


def test_declared_types(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue("kraken") as venue, lively(venue, ["trade:BTC/USD"]):
        code = PYTHON["Declared types"].replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients, messages=10)
    assert "BTC/USD 1" in capsys.readouterr().out


def test_the_script(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue("kraken") as venue, lively(venue, ["ticker:BTC/USD", "trade:BTC/USD"]):
        code = PYTHON["In a script"].replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients, messages=10)
    printed = capsys.readouterr().out
    assert "ticker:BTC/USD {'symbol': 'BTC/USD'" in printed
    assert "trade:BTC/USD" in printed


def test_the_notebook(clients: list[Any]) -> None:
    namespace: dict[str, Any] = {}
    with FakeVenue("kraken") as venue, lively(venue, ["ticker:BTC/USD", "ticker:ETH/USD"]):
        code = CELLS[0].replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, namespace, clients, messages=0)
        run_block(CELLS[1], namespace, clients, messages=0)
        assert len(namespace["client"].subscriptions) == 2
        clients[0].close()


def test_the_handler(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue(Prices()) as venue, lively(venue, ["BTC-USD"]):
        code = PYTHON["In code of the older dict style"].replace("ws://127.0.0.1:8765/", venue.url)
        run_block(code, {}, clients, messages=5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "{'status': 'success'}"
    assert lines[1].startswith("BTC-USD ")


def test_the_order_book(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    kraken = KrakenProtocol()
    asks = [{"price": 101 + n, "qty": 1} for n in range(10)]
    bids = [{"price": 99 - n, "qty": 2} for n in range(10)]
    kraken.set_snapshot("book:BTC/USD", bids=bids, asks=asks)
    with FakeVenue(kraken) as venue:
        code = PYTHON["Order books"].replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients, messages=0)
    best, *levels = capsys.readouterr().out.splitlines()
    assert best.endswith(" 100")
    assert levels == ["99 2", "98 2", "97 2", "96 2", "95 2"]


def test_the_events(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue("kraken") as venue:
        code = PYTHON["Events"].replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients, messages=0)
        clients[0].close(timeout=5)
    printed = capsys.readouterr().out.splitlines()
    names = [line.partition("(")[0].rpartition(" ")[2] for line in printed]
    assert names == ["Connected", "Subscribed", "Closed"]
    assert "#3 connection 1: Connected(attempt=1)" in printed[0]


def test_the_dialect(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue(Prices()) as venue, lively(venue, ["BTC-USD", "ETH-USD"]):
        code = PYTHON["A dialect in twenty lines"].replace("ws://127.0.0.1:8765/", venue.url)
        run_block(code, {}, clients, messages=1)
    assert "<Message '" in capsys.readouterr().out
    body = PYTHON["A dialect in twenty lines"].partition("class Acme")[2].partition("client =")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 20


def test_the_fake_venue(clients: list[Any]) -> None:
    run_block(PYTHON["Testing your own code"], {}, clients, messages=0)


def test_the_statistics(clients: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    prometheus = pytest.importorskip("prometheus_client")
    registry, start = prometheus.CollectorRegistry(), prometheus.start_http_server
    servers = []

    def serve(port: int) -> None:
        assert port == 9000
        servers.append(start(0, addr="127.0.0.1", registry=registry))

    monkeypatch.setattr(prometheus, "REGISTRY", registry)
    monkeypatch.setattr(prometheus, "start_http_server", serve)
    namespace: dict[str, Any] = {}
    with FakeVenue("kraken") as venue:
        code = PYTHON["Statistics"].replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, namespace, clients, messages=0)
        ((server, thread),) = servers
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            text = answer.read().decode()
        clients[0].close()
    server.shutdown()
    server.server_close()
    thread.join()
    assert 'wsclient_state{client="kraken",state="open"} 1.0' in text
