"""Helpers for tests of the log: its thread as without pytest, and handlers."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wsclient.runtime.eventhub import EventHub
from wsclient.runtime.eventlog import EventLog
from wsclient.threads import logs
from wsclient.threads.logs import ClientLog, LogThread

__all__ = ["Blocking", "Memory", "listening", "logging_hub", "making", "threaded"]


@contextlib.contextmanager
def threaded() -> Iterator[LogThread]:
    """Run a log thread of the test's own, as in a process without pytest."""
    thread = LogThread()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTEST_CURRENT_TEST")
        patch.setattr(logs, "log_thread", thread)
        try:
            yield thread
        finally:
            thread.end()


def logging_hub() -> EventHub:
    """Return a hub whose events are logged for a client named ``test``."""
    return EventHub(log=EventLog(ClientLog("test", "ws://test")))


class Memory(logging.Handler):
    """Handler that keeps each record, after ``act`` has been called with it."""

    def __init__(self, act: Callable[[logging.LogRecord], object] = lambda _: None) -> None:
        super().__init__()
        self.act = act
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.act(record)
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


class Blocking:
    """Function that blocks until ``go`` is set; ``is_in`` says that it does."""

    def __init__(self) -> None:
        self.is_in, self.go = threading.Event(), threading.Event()

    def __call__(self, _: logging.LogRecord) -> bool:
        self.is_in.set()
        self.go.wait(20)
        return True


@contextlib.contextmanager
def listening(
    handler: logging.Handler | None = None, filter: Any = None, name: str = "wsclient"
) -> Iterator[None]:
    """Give the logger this handler and filter, and log all from INFO on."""
    logger = logging.getLogger(name)
    level = logger.level
    if handler is not None:
        logger.addHandler(handler)
    if filter is not None:
        logger.addFilter(filter)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        if handler is not None:
            logger.removeHandler(handler)
        if filter is not None:
            logger.removeFilter(filter)


@contextlib.contextmanager
def making(factory: Callable[..., Any]) -> Iterator[None]:
    """Let ``factory`` make the records."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)
