"""Clients are refused in processes whose threads do not work for them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

from wsclient.errors import ConfigurationError
from wsclient.runtime.platform import check_threads


def test_plain_threads_are_fine() -> None:
    check_threads()


@pytest.mark.parametrize(("patched", "is_refused"), [("thread", True), ("socket", False)])
def test_patched_threads_of_eventlet_are_refused(
    patched: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    patcher = SimpleNamespace(is_monkey_patched=lambda module: module == patched)
    monkeypatch.setitem(sys.modules, "eventlet.patcher", patcher)
    if not is_refused:
        check_threads()
        return
    with pytest.raises(ConfigurationError, match="eventlet"):
        check_threads()


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("import eventlet; eventlet.monkey_patch()", "refused"),
        ("import eventlet; eventlet.monkey_patch(thread=False)", "fine"),
        ("import eventlet", "fine"),
        ("from gevent import monkey; monkey.patch_all()", "fine"),
    ],
)
def test_what_patched_the_process_decides(patch: str, said: str) -> None:
    library = patch.split()[1].rstrip(";")
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    program = f"""{patch}
from wsclient.errors import ConfigurationError
from wsclient.runtime.platform import check_threads
try:
    check_threads()
except ConfigurationError:
    print("refused")
else:
    print("fine")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert ran.stdout.strip() == said, ran.stderr
