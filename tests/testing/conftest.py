"""Fixtures of the fake venue. A test must leave no thread, socket or file behind."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from wsclient.testing import FakeVenue


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in set(threading.enumerate()) - before if t.name.startswith("fakevenue")]
    assert not left
    gc.collect()  # an open socket is a ResourceWarning here, and so an error


@pytest.fixture
def dial() -> Iterator[Callable[..., ClientConnection]]:
    """Connect an independent client, and close it after the test."""
    with _dialling() as dial:
        yield lambda venue, **options: dial(venue.url, **options)


@pytest.fixture
def dial_at() -> Iterator[Callable[..., ClientConnection]]:
    """Connect an independent client to a URL, and close it after the test."""
    with _dialling() as dial:
        yield dial


@contextmanager
def _dialling() -> Iterator[Callable[..., ClientConnection]]:
    with ExitStack() as clients:

        def dial(url: str, **options: Any) -> ClientConnection:
            return clients.enter_context(connect(url, close_timeout=1, **options))

        yield dial


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    with FakeVenue() as venue:
        yield venue
