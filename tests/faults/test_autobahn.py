"""Autobahn's fuzzing server against this client.

Every case passes and closes with its code.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import wsclient
from support.matrix import each_size

#: Cases of the protocol itself, without compression.
GROUPS = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
#: Cases whose echo must be binary: a message does not say whether it was text or binary.
BINARY = ("1.2.", "9.2.", "9.4.", "9.6.", "9.8.")
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}


def find_wstest() -> list[str] | None:
    """Return the command: WSTEST, or one on the path, or a Python 2.7 that has the package."""
    if named := os.environ.get("WSTEST") or shutil.which("wstest"):
        return [named]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    names = ["python2.7", "python2", "pypy"]
    found = [*map(shutil.which, names), *pyenv.glob("versions/*/bin/python2.7")]
    for python in filter(None, found):
        command = [str(python), "-m", "autobahntestsuite.wstest"]
        if subprocess.run([*command, "--help"], capture_output=True, timeout=30).returncode == 0:
            return command
    return None


class Echo(wsclient.Dialect):
    """Dialect in which every frame is a message of one channel, unchanged."""

    name = "echo"
    limits = wsclient.Limits(connects=None)

    def decoder(self, decimal: bool) -> Callable[[bytes], Any]:
        return bytes

    def read(self, message: bytes) -> wsclient.Message:
        return wsclient.Message("echo", "frame")


def dial(url: str) -> wsclient.WebSocketClient:
    return wsclient.connect(url, dialect=Echo(), max_reconnects=0, queue_size=None)


def ask(url: str) -> Any:
    """Return the one message that the server answers with."""
    with dial(url) as client:
        return json.loads(client.recv(timeout=10).raw)


def echo(url: str, is_binary: bool) -> None:
    """Echo every message until the server ends the connection."""
    with dial(url) as client:
        try:
            for message in client:
                client.send(message.raw if is_binary else message.raw.decode())
        except (wsclient.ReconnectError, wsclient.NotConnected, wsclient.OutcomeUnknown):
            pass


@contextlib.contextmanager
def fuzzing_server(command: Sequence[str], folder: Path, cases: Sequence[str]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"ws://127.0.0.1:{probe.getsockname()[1]}"
    spec = folder / "spec.json"
    spec.write_text(json.dumps({"url": url, "outdir": str(folder), "cases": cases}))
    log = folder / "log"
    arguments = ["-m", "fuzzingserver", "-s", str(spec), "-u", "0"]
    with (
        log.open("w") as output,
        subprocess.Popen([*command, *arguments], stdout=output, stderr=output) as server,
    ):
        try:
            with wsclient.WebSocketClient(
                f"{url}/getCaseCount",
                dialect=Echo(),
                max_retries=200,
                retry_delay=0.1,
                jitter=False,
            ) as first:
                first.connect(timeout=30)
            yield url
        finally:
            server.kill()


@each_size("cases", short=[], full=[GROUPS], timeout=1800)
def test_every_case_passes_and_closes_with_its_code(
    promise: Callable[..., None], tmp_path: Path, cases: list[str]
) -> None:
    command = find_wstest()
    if command is None:
        pytest.skip("no wstest: put autobahntestsuite into a Python 2.7, or name one in WSTEST")
    with fuzzing_server(command, tmp_path, cases) as url:
        count = ask(f"{url}/getCaseCount")
        for case in range(1, count + 1):
            number = ask(f"{url}/getCaseInfo?case={case}")["id"]
            echo(f"{url}/runCase?case={case}&agent=wsclient", number.startswith(BINARY))
        echo(f"{url}/updateReports?agent=wsclient", is_binary=False)
        report = json.loads((tmp_path / "index.json").read_text())["wsclient"]
    failed = {
        case: (result["behavior"], result["behaviorClose"])
        for case, result in report.items()
        if not {result["behavior"], result["behaviorClose"]} <= PASSED
    }
    promise(
        18,
        "Autobahn",
        "no case FAILED, no wrong close code",
        f"{len(report) - len(failed)} of {len(report)} passed; not: {failed or 'none'}",
        not failed and len(report) == count > 0,
    )
