"""The processes of a run: the feed, and the clients, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from report import Report, cores, progress

HERE = Path(__file__).parent
CERTIFICATE = HERE.parent / "testing" / "localhost.pem"
#: What the other clients need.
NEEDS = {"websockets": "websockets", "picows": "picows", "tuned": "orjson"}
#: How long (s) one run may take.
LIMIT = 120

Result = dict[str, Any]
#: Results of one table: client -> one result per round.
Rounds = dict[str, list[Result]]


class Feed:
    """The feed's process, for as long as the ``with`` block lasts."""

    def __init__(self, pinned: bool) -> None:
        command = [sys.executable, str(HERE / "feed.py"), "--certificate", str(CERTIFICATE)]
        if pinned:
            command += ["--core", str(cores()[0])]
        self.client_core = cores()[1] if pinned else None
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Feed:
        assert self._process.stdout is not None
        self.ports = json.loads(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, task: str, client: str, scheme: str = "ws", **settings: Any) -> Result:
        """Run one client in a fresh process."""
        with Worker(self, task, client, scheme) as worker:
            return worker.run(**settings)


class Worker:
    """A process that runs one client, once or several times."""

    def __init__(self, feed: Feed, task: str, client: str, scheme: str = "ws") -> None:
        self._name = f"{task} of {client}"
        url = f"{scheme}://127.0.0.1:{feed.ports[scheme]}"
        command = [sys.executable, str(HERE / "clients.py"), task, client, url]
        if feed.client_core is not None:
            command.append(str(feed.client_core))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # The tree that this file is in, and no other that may be installed.
            env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(LIMIT)

    def run(self, **settings: Any) -> Result:
        """Run the client. Raises RuntimeError if that fails: it has said why on stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(settings) + "\n")
        self._process.stdin.flush()
        watchdog = threading.Timer(LIMIT, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise RuntimeError(f"{self._name} {settings} failed")
        result: Result = json.loads(line)
        return result


def installed(clients: Sequence[str], report: Report) -> list[str]:
    """Return the clients that can be run here."""
    found = []
    for client in clients:
        need = next((n for name, n in NEEDS.items() if client.startswith(name)), None)
        if need is not None and importlib.util.find_spec(need) is None:
            report.note(f"{client} left out: {need} is not installed")
        else:
            found.append(client)
    return found


def can_pin(report: Report) -> bool:
    if hasattr(os, "sched_setaffinity") and len(cores()) > 1:
        return True
    report.note("nothing pinned here: one core, or a system that cannot")
    return False


def ratio(rounds: Rounds, ours: str, other: str, figure: str) -> float:
    """Return the median of ours / other within each round."""
    pairs = zip(rounds[ours], rounds[other], strict=True)
    return float(median(a[figure] / b[figure] for a, b in pairs))


def take_turns(
    clients: Sequence[str], rounds: int, what: str, run: Callable[[str], Result]
) -> Rounds:
    """Run the clients in turns: A B C D, A B C D, ..."""
    found: Rounds = {client: [] for client in clients}
    for number in range(rounds):
        progress(f"{what}: round {number + 1} of {rounds}")
        for client in clients:
            found[client].append(run(client))
    return found
