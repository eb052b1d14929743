"""The pages of the manual render, their tables match the code, and their Python blocks run."""

from __future__ import annotations

import json
import logging
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import docutils.nodes
import pytest

import wsclient
from support.documents import (
    FILES,
    TOPICS,
    block,
    blocks,
    document,
    lively,
    not_run,
    run_block,
    section,
    text_of,
)
from wsclient import dialects
from wsclient.dialect import BookFormat, Dialect
from wsclient.testing import FakeVenue, GenericProtocol, KrakenProtocol, venues

#: A line of code that is longer is cut off on a page of 1,000 px.
CODE_WIDTH = 88


@pytest.mark.parametrize("name", FILES)
def test_a_page_renders_without_a_warning(name: str) -> None:
    assert document(name)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_says_first_what_it_is_about(topic: str) -> None:
    first = next(document(topic).findall(docutils.nodes.paragraph)).astext()
    assert first.startswith("This page ")


@pytest.mark.parametrize("name", FILES)
def test_a_page_is_narrow_enough(name: str) -> None:
    assert [line for line in text_of(name).splitlines() if len(line) > 100] == []
    lines = [line for b in blocks(name) for line in b.text.splitlines()]
    assert [line for line in lines if len(line) > CODE_WIDTH] == []


@pytest.mark.parametrize("name", FILES)
def test_a_page_links_only_to_files_that_are_there(name: str) -> None:
    places = re.findall(r"^\.\. _[^:]+: (\S+)$", text_of(name), re.MULTILINE)
    assert [place for place in places if not (FILES[name].parent / place).exists()] == []


# The tables.


def test_the_table_of_options_is_that_of_the_code() -> None:
    table = text_of("options").partition("Limits and deadlines")[0]
    rows = re.findall(r"^``(\w+)`` +(\S+(?: built-in)?) ", table, re.MULTILINE)
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
        text_of("venues"),
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
    text = section("options", "Limits and deadlines")
    table = text.partition("\n====")[2].rpartition("\n====")[0]
    named = re.findall(r"``(\w+)``", "".join(line[:37] for line in table.splitlines()))
    assert len(named) > 10
    assert sorted(set(named) - {field.name for field in fields(wsclient.Options)}) == []


# The Python blocks.


class Prices(GenericProtocol):
    """A protocol that sends a price to each subscriber, and answers the Acme dialect of a page."""

    def received(self, peer: Any, payload: Any) -> Iterator[Any]:
        request = json.loads(payload)
        if "op" not in request:
            yield from super().received(peer, payload)
            return
        for channel in request["args"]:
            peer.subscribe(channel)
        yield json.dumps({"id": request["id"]})

    def data(self, channel: str, sequence: int, fields: Any) -> Any:
        message = {"type": "market_data", "channel": channel, "topic": channel, "n": sequence}
        return json.dumps({**message, "sequence": sequence, **fields})


@pytest.mark.parametrize("topic", TOPICS)
def test_every_block_is_run_below(topic: str) -> None:
    assert not_run(topic, Path(__file__).read_text("utf-8")) == []


def test_declared_types(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue("kraken") as venue, lively(venue, ["trade:BTC/USD"]):
        code = block("options", "Declared types").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients, messages=10)
    assert "BTC/USD 1" in capsys.readouterr().out


def test_the_handler(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue(Prices()) as venue, lively(venue, ["BTC-USD"]):
        code = block("handler", "An example").replace("ws://127.0.0.1:8765/", venue.url)
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
        code = block("books", "An example").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients)
    best, *levels = capsys.readouterr().out.splitlines()
    assert best.endswith(" 100")
    assert levels == ["99 2", "98 2", "97 2", "96 2", "95 2"]


def test_the_events(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue("kraken") as venue:
        code = block("events", "Events").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients)
        clients[0].close(timeout=5)
    printed = capsys.readouterr().out.splitlines()
    names = [line.partition("(")[0].rpartition(" ")[2] for line in printed]
    assert names == ["Connected", "Subscribed", "Closed"]
    assert "#3 connection 1: Connected(attempt=1)" in printed[0]


def test_the_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **options: given.append(options))
    frames = logging.getLogger("wsclient.frames")
    monkeypatch.setattr(frames, "level", logging.NOTSET)
    run_block(block("events", "The log"), {}, [])
    assert frames.level == logging.DEBUG
    frames.setLevel(logging.NOTSET)
    (options,) = given
    record = logging.makeLogRecord({"levelname": "INFO", "msg": "feed: open"})
    assert logging.Formatter(options["format"]).format(record).endswith("INFO feed: open")


def test_the_dialect(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    code = block("dialects", "A dialect in twenty lines")
    with FakeVenue(Prices()) as venue, lively(venue, ["BTC-USD", "ETH-USD"]):
        run_block(code.replace("ws://127.0.0.1:8765/", venue.url), {}, clients)
    assert "<Message '" in capsys.readouterr().out
    body = code.partition("class Acme")[2].partition("client =")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 20


def test_the_fake_venue(clients: list[Any]) -> None:
    run_block(block("testing", "A server for tests"), {}, clients)


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
        code = block("statistics", "Prometheus").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, namespace, clients)
        ((server, thread),) = servers
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            text = answer.read().decode()
        clients[0].close()
    server.shutdown()
    server.server_close()
    thread.join()
    assert 'wsclient_state{client="kraken",state="open"} 1.0' in text
