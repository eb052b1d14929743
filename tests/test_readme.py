"""The README renders, is short, and its Python blocks run."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest

from support.documents import (
    README,
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
from wsclient.testing import FakeVenue, KrakenProtocol


def test_it_renders_without_a_warning() -> None:
    assert document("README")


def test_it_is_read_in_ten_minutes() -> None:
    assert len(text_of("README").splitlines()) <= 320


def test_its_first_two_blocks_are_the_demo_and_the_tests() -> None:
    demo, tests = [each.text for each in blocks("README") if each.language == "sh"][:2]
    assert demo.endswith("wsclient demo")
    assert tests.endswith("pytest")


def test_it_names_each_dialect() -> None:
    named = re.findall(r"``(\w+)``", section("README", "Venues").partition("by its name:")[2])
    assert tuple(named) == dialects.NAMES


def test_it_lists_each_page_of_the_manual() -> None:
    text = text_of("README")
    listed = re.findall(r"^(\w+)_ +\S", section("README", "The manual"), re.MULTILINE)
    assert sorted(listed) == TOPICS
    assert set(re.findall(r"wsclient/manual/(\w+)\.rst", text)) == set(TOPICS)


def test_it_lists_each_extra() -> None:
    config = configparser.ConfigParser()
    config.read(README.with_name("setup.cfg"))
    listed = re.findall(r"^``(\w+)`` +\S", section("README", "Installation"), re.MULTILINE)
    assert sorted(listed) == sorted(config["options.extras_require"])


# The Python blocks.


def test_every_block_is_run_below() -> None:
    assert not_run("README", Path(__file__).read_text("utf-8")) == []


def test_the_script(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue("kraken") as venue, lively(venue, ["ticker:BTC/USD", "trade:BTC/USD"]):
        code = block("README", "In a script").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients, messages=10)
    printed = capsys.readouterr().out
    assert "ticker:BTC/USD {'symbol': 'BTC/USD'" in printed
    assert "trade:BTC/USD" in printed


def test_the_notebook(clients: list[Any]) -> None:
    namespace: dict[str, Any] = {}
    with FakeVenue("kraken") as venue, lively(venue, ["ticker:BTC/USD", "ticker:ETH/USD"]):
        code = block("README", "In a notebook").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, namespace, clients)
        run_block(block("README", "In a notebook", 1), namespace, clients)
        assert len(namespace["client"].subscriptions) == 2
        clients[0].close()


def test_the_order_book(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    kraken = KrakenProtocol()
    asks = [{"price": 101 + n, "qty": 1} for n in range(10)]
    bids = [{"price": 99 - n, "qty": 2} for n in range(10)]
    kraken.set_snapshot("book:BTC/USD", bids=bids, asks=asks)
    with FakeVenue(kraken) as venue:
        code = block("README", "An order book").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients)
    best, *levels = capsys.readouterr().out.splitlines()
    assert best.endswith(" 100")
    assert levels == ["99 2", "98 2", "97 2", "96 2", "95 2"]
