"""The README renders, is short, and its Python blocks run."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest

from support.documents import (
    PACKAGE,
    README,
    TOPICS,
    block,
    blocks,
    document,
    lively,
    not_run,
    run_block,
    section,
    served,
    table,
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
    assert sorted(topic for topic, _ in table("README", "The manual")) == TOPICS
    assert set(re.findall(r"wsclient/manual/(\w+)\.rst", text)) == set(TOPICS)


def test_it_lists_each_extra() -> None:
    config = configparser.ConfigParser()
    config.read(README.with_name("setup.cfg"))
    listed = [extra for extra, _ in table("README", "Installation")]
    assert sorted(listed) == sorted(config["options.extras_require"])


def test_it_names_the_pythons_of_the_classifiers() -> None:
    config = configparser.ConfigParser()
    config.read(README.with_name("setup.cfg"))
    pythons = re.findall(r"Python :: (3\.\d+)$", config["metadata"]["classifiers"], re.MULTILINE)
    assert f"CPython {pythons[0]} to {pythons[-1]}" in section("README", "Systems")
    assert config["options"]["python_requires"] == f">={pythons[0]}"


#: The kinds of changes that the changelog knows, in the order of their sections.
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed"]


def test_the_changelog_has_the_kinds_of_changes_in_order() -> None:
    for version in re.split(r"\n~+\n", section("README", "Changelog"))[1:]:
        kinds = re.findall(r"^(\w+)$", version, re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds]


def test_the_changelog_names_each_deprecation() -> None:
    sources = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    warned = re.findall(r'warn\(\s*"(.+?) is deprecated', sources)
    assert len(warned) == sources.count("DeprecationWarning")
    changelog = section("README", "Changelog")
    assert [what for what in warned if f"``{what}``" not in changelog] == []


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


def test_the_notebook(
    clients: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    with served("kraken", "ticker:BTC/USD", "trade:BTC/USD", rate=2000.0) as venue:
        code = block("README", "In a notebook").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, namespace, clients)
        assert "trade:BTC/USD" in capsys.readouterr().out  # show() in a pipe
        run_block(block("README", "In a notebook", 1), namespace, clients)
        trades = namespace["trades"]
        assert len(trades) > 100
        run_block(block("README", "In a notebook", 2), namespace, clients)
        clients[0].close()
    again = namespace["again"]
    columns = ["id", "price", "size", "received_at"]
    assert again[columns].equals(trades[columns].head(len(again)))


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
