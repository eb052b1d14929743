"""Where the tests look behind the surface of the package.

Some promises show only inside: that a lock is free after an interrupt, that a call has begun to
wait, that nothing is kept. What is private is named here, once; a test that needs it says so by its
import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wsclient
from wsclient.runtime.core import Core
from wsclient.sansio.backoff import Budget

__all__ = [
    "core_of",
    "drop_book",
    "kept_of",
    "links_of",
    "lock_of",
    "outbox_of",
    "refreshes_of",
    "set_budget",
    "transports_of",
    "waiters_of",
    "waiting_in",
    "watchdog_of",
    "written_of",
]


def core_of(client: wsclient.WebSocketClient) -> Core:
    """What a client is in front of: its lock, its threads, its session."""
    return client._core


def watchdog_of(client: wsclient.WebSocketClient) -> Any:
    return core_of(client)._watchdog


def transports_of(client: wsclient.WebSocketClient) -> Mapping[int, Any]:
    """A client's connections, by their numbers."""
    return watchdog_of(client).transports


def outbox_of(client: wsclient.WebSocketClient, connection_id: int = 1) -> Any:
    """The outbox of a connection."""
    return transports_of(client)[connection_id]._outbox


def refreshes_of(client: wsclient.WebSocketClient) -> Any:
    """Decides when a client asks for the snapshots of its order books."""
    return core_of(client).snapshots._refreshes


def set_budget(client: wsclient.WebSocketClient, budget: Budget) -> None:
    """How many snapshots of order books a client may ask for."""
    refreshes_of(client).budget = budget


def drop_book(client: wsclient.WebSocketClient, channel: str) -> None:
    """Stop feeding an order book, as the call does that gives it up."""
    core_of(client).call(lambda: client._drop_book(links_of(client)[channel]))


def waiting_in(stream: wsclient.EventStream) -> int:
    """How many events, and ends, a stream keeps for whoever asks."""
    return stream._wakeups.qsize()


def written_of(outbox: Any) -> int:
    """The position in an outbox up to which its bytes are with the system."""
    return outbox._out


def links_of(client: wsclient.WebSocketClient) -> Mapping[str, Any]:
    """A client's order books, by their channels."""
    return client._book_feeds


def kept_of(book: wsclient.OrderBook) -> Any:
    """What an order book shares with the thread that keeps it."""
    return book._live


def waiters_of(queue: Any) -> Any:
    """The calls that wait for a message of a queue."""
    return queue._waiting


def lock_of(thing: Any) -> Any:
    return thing._lock
