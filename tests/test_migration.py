"""The programs of the page on migration run against ``wsclient serve``, through a reset."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.documents import FILES, block, blocks, run_block

ROOT = FILES["README"].parent


@contextmanager
def serve(dialect: str, *args: str) -> Iterator[str]:
    """Run ``wsclient serve``, and yield its URL."""
    command = [sys.executable, "-m", "wsclient", "serve", "--port", "0", "--rate", "400"]
    process = subprocess.Popen(
        [*command, "--dialect", dialect, *args],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        assert first.startswith(f"{dialect} on ")
        yield first.split()[2]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("title", "dialect", "url", "lines"),
    [
        ("From websocket-client", "kraken", "wss://ws.kraken.com/v2", {"BTC/USD", "missed:"}),
        (
            "From pybit",
            "bybit",
            "wss://stream.bybit.com/v5/public/linear",
            {"BTCUSDT", "best"},
        ),
        (
            "From ThreadedWebsocketManager",
            "binance",
            "wss://stream.binance.com:9443",
            {"BTCUSDT", "ETHUSDT"},
        ),
    ],
)
def test_the_program_goes_on_after_a_reset(
    title: str,
    dialect: str,
    url: str,
    lines: set[str],
    clients: list[Any],
) -> None:
    printed: list[tuple[str, int]] = []

    def report(*words: Any) -> None:
        """Note the first word of a line, and how often the client had connected by then."""
        printed.append((str(words[0]).split()[0], clients[0].stats().connects))

    new = {
        "From websocket-client": block("migration", "From websocket-client", 1),
        "From pybit": block("migration", "From pybit"),
        "From ThreadedWebsocketManager": block("migration", "From ThreadedWebsocketManager"),
    }
    assert url in new[title]
    with serve(dialect, "--fault", "rst:every=300ms") as served:
        code = new[title].replace(url, served)
        # The order book of Bybit is printed once, at the start.
        wanted = lines - {"best"}
        run_block(
            code,
            {"print": report},
            clients,
            messages=1,
            done=lambda: wanted <= {word for word, connects in printed if connects > 1},
        )
    assert {word for word, _ in printed} == lines


def test_the_program_with_websocket_client_runs_as_it_stands(tmp_path: Path) -> None:
    code = block("migration", "From websocket-client")
    with serve("kraken") as url:
        (tmp_path / "main.py").write_text(code.replace("wss://ws.kraken.com/v2", url))
        process = subprocess.Popen(
            [sys.executable, "-u", "main.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("BTC/USD ")
        finally:
            process.kill()
            process.communicate()


def test_the_other_old_programs_are_python() -> None:
    old = [each for each in blocks("migration") if each.is_before]
    assert len(old) == 2
    for each in old:
        compile(each.text, each.title, "exec")
