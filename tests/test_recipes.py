"""The programs on the page of recipes do what they promise."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import wsclient
from support.documents import FILES, block, run_block, served
from support.helpers import until
from wsclient.testing import FakeVenue

ROOT = FILES["README"].parent
KRAKEN = "wss://ws.kraken.com/v2"
TICKER = "ticker:BTC/USD"


def program(code: str, venue: FakeVenue) -> str:
    """Return a program of the page that connects to ``venue``."""
    assert KRAKEN in code
    return code.replace(KRAKEN, venue.url)


@contextmanager
def running(folder: Path, files: dict[str, str], *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python with ``args`` in a folder that has these files."""
    for name, text in files.items():
        (folder / name).write_text(text)
    process = subprocess.Popen(
        [sys.executable, *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Read lines of the output up to one that matches."""
    seen = ""
    assert process.stdout is not None
    for line in process.stdout:
        seen += line
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"no {pattern!r} in {seen!r}")


def rest_of(process: subprocess.Popen[str]) -> str:
    """Return the output up to the end, which must be a success."""
    assert process.stdout is not None
    out = process.stdout.read()
    assert process.wait(timeout=20) == 0, out
    return out


def test_two_strategies_get_all_messages_of_one_connection(
    clients: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with served("kraken", TICKER) as venue:
        run_block(
            program(block("recipes", "Two strategies on one connection"), venue),
            {},
            clients,
            messages=20,
        )
        assert len(venue.peers) == 1
    lines = capsys.readouterr().out.splitlines()
    assert min(sum(line.startswith(f"{name} ") for line in lines) for name in ("trend", "spread"))


def test_the_kill_switch_stops_at_silence_at_slowness_and_at_a_gap(clients: list[Any]) -> None:
    with FakeVenue("kraken") as venue:
        code, main = program(block("recipes", "A kill switch on stale data"), venue).split(
            "\nwith "
        )
        namespace: dict[str, Any] = {}
        exec(code, namespace)

        def publish(last: int) -> None:
            for channel in namespace["CHANNELS"]:
                venue.publish(channel, last=last)

        def tick() -> None:
            publish(7)

        def be_slow() -> None:
            namespace["MAX_DELAY"] = -1.0
            publish(8)

        def fall_silent() -> None:
            namespace.update(MAX_DELAY=60.0, MAX_SILENCE=0.05)

        def reconnect() -> None:
            namespace["MAX_SILENCE"] = 60.0
            venue.live[0].rst()
            venue.wait_for(lambda v: all(map(v.subscribers, namespace["CHANNELS"])))
            publish(9)

        #: What the program prints, in this order among others, and what the venue does then.
        steps: list[tuple[str, Callable[[], None]]] = [
            ("stop trading: no new message of ticker:BTC/USD, ticker:ETH/USD", tick),
            ("trade on 7", be_slow),
            ("stop trading: this program is too slow", fall_silent),
            ("stop trading: no new message of", reconnect),
            ("stop trading: messages were missed: reconnect", lambda: clients[0].close()),
        ]
        printed: list[str] = []

        def report(*words: Any) -> None:
            printed.append(" ".join(map(str, words)))
            if steps and printed[-1].startswith(steps[0][0]):
                steps.pop(0)[1]()

        namespace |= {"MAX_SILENCE": 60.0, "MAX_DELAY": 60.0, "print": report}
        with pytest.raises(wsclient.ClientClosed):
            exec(f"with {main}", namespace)
    assert steps == []
    assert "trade on 9" not in printed


def test_a_restart_yields_each_trade_once(clients: list[Any]) -> None:
    with served("kraken", "trade:BTC/USD", rate=500) as venue:
        namespace: dict[str, Any] = {}
        exec(program(block("recipes", "A restart every night"), venue), namespace)
        assert 0 < namespace["next_restart"]() - time.time_ns() <= 24 * 3600e9
        restarts = iter([0, 0, time.time_ns() + 10**15])
        namespace["next_restart"] = lambda: next(restarts)
        numbers: list[int] = []
        for message in namespace["trades"]():
            assert message.gap is None
            numbers.append(message.data["trade_id"])
            if len(clients) == 3 and clients[1].state is wsclient.State.CLOSED:
                break
        assert clients[0].state is wsclient.State.CLOSED
        clients[2].close()
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_sigterm_ends_the_loop_and_then_the_program(tmp_path: Path) -> None:
    with (
        served("kraken", TICKER) as venue,
        running(
            tmp_path, {"main.py": program(block("recipes", "SIGTERM"), venue)}, "main.py"
        ) as process,
    ):
        wait_for(process, r"^\d+\.\d")
        process.send_signal(signal.SIGTERM)
        assert rest_of(process).splitlines()[-1] == "closed; the orders are cancelled"


def test_the_log_goes_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("wsclient")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    namespace: dict[str, Any] = {}
    with FakeVenue("kraken") as venue:
        exec(block("recipes", "Logging"), namespace)
        with wsclient.connect(venue.url, dialect="kraken"):
            pass
        where = venue.url.rstrip("/")
    namespace["handler"].close()
    lines = (tmp_path / "wsclient.log").read_text().splitlines()
    assert any(line.endswith(f" INFO {where} #1 {where}: open: connection 1") for line in lines), (
        lines
    )


def test_a_worker_process_gets_the_messages(tmp_path: Path) -> None:
    with served("kraken", TICKER) as venue:
        code = program(block("recipes", "multiprocessing"), venue)
        code = code.replace("in client:", "in __import__('itertools').islice(client, 20):")
        with running(tmp_path, {"main.py": code}, "main.py") as process:
            lines = rest_of(process).splitlines()
    assert len(lines) == 20
    assert all(line.startswith(f"{TICKER} ") for line in lines)


def body_of(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        body: bytes = answer.read()
        return body


def test_each_worker_of_gunicorn_has_a_client(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    with served("kraken", TICKER) as venue:
        files = {
            "prices.py": program(block("recipes", "gunicorn"), venue),
            "gunicorn.conf.py": block("recipes", "gunicorn", 1),
        }
        args = ("-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", "prices:app")
        with running(tmp_path, files, *args) as process:
            url = wait_for(process, r"Listening at: (http://127\.0\.0\.1:\d+)")[1]
            venue.wait_for(lambda v: len(v.live) == 2 and len(v.subscribers(TICKER)) == 2)
            # A worker may answer before its first message has come.
            until(lambda: b"BTC/USD" in body_of(url), timeout=20)
            process.send_signal(signal.SIGTERM)
            rest_of(process)
        venue.wait_for(lambda v: not v.live)


def test_two_clients_run_in_one_thread_of_gevent(tmp_path: Path) -> None:
    if importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    channels = {TICKER, "ticker:ETH/USD"}
    with FakeVenue("kraken") as venue:
        code = program(block("recipes", "gevent"), venue)
        code = code.replace("in client:", "in __import__('itertools').islice(client, 1):")
        with running(tmp_path, {"main.py": code}, "main.py") as process:
            # Neither client has had a message when both have subscribed.
            venue.wait_for(lambda v: all(v.subscribers(channel) for channel in channels))
            for channel in channels:
                venue.publish(channel, last=5)
            lines = rest_of(process).splitlines()
    assert {line.split()[0] for line in lines} == channels
