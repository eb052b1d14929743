"""Helpers for tests of dead connections, and a network of one's own.

They record which client has lost a connection, when and why.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import wsclient
from support.inside import core_of

#: How late a deadline may be (s).
SLACK = 0.25
UNLIMITED = wsclient.Generic(limits=wsclient.Limits(connects=None))
QUICK: dict[str, Any] = {"dialect": UNLIMITED, "retry_delay": 0.01, "max_retry_delay": 0.02}


class Loss(NamedTuple):
    """A connection that a client has found dead, at a time on the monotonic clock."""

    at: float
    why: str


class Losses(logging.Handler):
    """The lost connections, by the client's name; use it in ``with``.

    They are taken from what the clients log.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._heard = threading.Condition()
        self._losses: dict[str, list[Loss]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        name, _, said = record.getMessage().partition(": disconnected: ")
        if said:
            with self._heard:
                self._losses.setdefault(name, []).append(Loss(time.monotonic(), said))
                self._heard.notify_all()

    def first(self, client: wsclient.WebSocketClient, since: float, timeout: float) -> Loss:
        """Return the first connection that this client has lost from ``since`` on."""

        def found() -> Loss | None:
            losses = self._losses.get(core_of(client).log.name, ())
            return next((loss for loss in losses if loss.at >= since), None)

        with self._heard:
            loss = self._heard.wait_for(found, timeout)
        assert loss is not None, f"{client}: nothing noticed within {timeout:.2f} s"
        return loss

    @property
    def all(self) -> list[Loss]:
        with self._heard:
            return [loss for losses in self._losses.values() for loss in losses]

    def __enter__(self) -> Losses:
        logging.getLogger("wsclient").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("wsclient").removeHandler(self)


def dial(url: str, number: int = 0, **options: Any) -> wsclient.WebSocketClient:
    """Return a client that reconnects at once, with a name of its own."""
    return wsclient.connect(url, name=f"client-{number}", **QUICK | options)


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Put this thread into a new network namespace.

    The threads and processes that it starts are in it, too. It has a loopback of its own, whose
    packets :func:`dropping` drops.

    Skips the test where that takes rights or tools that are not there.
    """
    for tool in ("ip", "iptables"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(0x40000000) != 0:  # CLONE_NEWNET
            pytest.skip("a network namespace of its own needs root")
        try:
            _run("ip", "connection", "set", "lo", "mtu", "1500", "up")
            _run("iptables", "--list", skip="iptables does not work here")
            yield
        finally:
            assert libc.setns(home, 0) == 0
    finally:
        os.close(home)


@contextlib.contextmanager
def dropping(*match: str) -> Iterator[None]:
    """Drop the packets that match, within :func:`own_network` only."""
    _run("iptables", "-A", "INPUT", *match, "-j", "DROP")
    try:
        yield
    finally:
        _run("iptables", "-D", "INPUT", *match, "-j", "DROP")


def _run(*command: str, skip: str | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode and skip:
        pytest.skip(f"{skip}: {done.stderr.strip()}")
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
