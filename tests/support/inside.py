"""Access to the package's internals for tests.

Some promises show only inside: that a lock is free after an interrupt, that a call has begun to
wait, that nothing is kept. Private attributes are named here, once; a test that needs one says so
by its import.
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
    "feeds_of",
    "in_batch",
    "kept_of",
    "lock_of",
    "outbox_of",
    "refreshes_of",
    "service_of",
    "set_budget",
    "transports_of",
    "waiters_of",
    "waiting_in",
    "watchdog_of",
    "written_of",
]


def core_of(client: wsclient.WebSocketClient) -> Core:
    """Return a client's core: its lock, its threads, its supervisor."""
    return client._core


def watchdog_of(client: wsclient.WebSocketClient) -> Any:
    return core_of(client).watchdog


def transports_of(client: wsclient.WebSocketClient) -> Mapping[int, Any]:
    """Return a client's connections, by their numbers."""
    return watchdog_of(client).transports


def outbox_of(client: wsclient.WebSocketClient, connection_id: int = 1) -> Any:
    """Return the outbox of a connection."""
    return transports_of(client)[connection_id]._outbox


def refreshes_of(client: wsclient.WebSocketClient) -> Any:
    """Return what decides when a client requests the snapshots of its order books."""
    return service_of(client).snapshots._refreshes


def service_of(client: wsclient.WebSocketClient) -> Any:
    """Return what a client's order books share: the thread that feeds them, and their snapshots."""
    return client._order_books.registry.service


def set_budget(client: wsclient.WebSocketClient, budget: Budget) -> None:
    """Set how many snapshots of order books a client may request."""
    refreshes_of(client).budget = budget


def drop_book(client: wsclient.WebSocketClient, channel: str) -> None:
    """Stop feeding an order book, as the call does that gives it up."""
    core_of(client).call(lambda: client._order_books.registry._drop(feeds_of(client)[channel]))


def waiting_in(stream: wsclient.EventStream) -> int:
    """Return how much a stream holds: events, and signals of threads that wait."""
    return len(stream._events) + len(stream.waiting)


def written_of(outbox: Any) -> int:
    """Return the position in an outbox up to which the system has its bytes."""
    return outbox._out


def feeds_of(client: wsclient.WebSocketClient) -> Mapping[str, Any]:
    """Return the feeds of a client's order books, by their channels."""
    return client._order_books.registry._feeds


def kept_of(book: wsclient.OrderBook) -> Any:
    """Return what an order book shares with the thread that keeps it."""
    return book._live


def waiters_of(queue: Any) -> Any:
    """Return the calls that wait for a message of a queue."""
    return queue.waiting


def in_batch(queue: Any) -> int:
    """Return how many messages of a queue are handed out to its consumers, who have not come."""
    return len(queue._batch)


def lock_of(thing: Any) -> Any:
    return thing._lock
