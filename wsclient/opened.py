"""The open clients of this process: ``clients()`` and ``close_all()``."""

from __future__ import annotations

from wsclient.checks import check_timeout
from wsclient.client import WebSocketClient
from wsclient.displayed import made
from wsclient.sansio.life import State
from wsclient.threads.waiting import Deadline

__all__ = ["clients", "close_all"]


def clients() -> list[WebSocketClient]:
    """Return the clients of this process that are not closed, in the order they were made.

    Also those that have no connection at the moment, or have failed. In a forked child, those of
    the parent are left out. Clients that play recordings have no connection and are left out too.
    The list keeps the clients in it alive as long as you hold it.
    """
    return [
        client
        for client in made.all()
        if isinstance(client, WebSocketClient)
        and not client._core.is_forked
        and client.state is not State.CLOSED
    ]


def close_all(timeout: float | None = None) -> None:
    """Close all :func:`clients`, at the same time.

    Takes at most ``timeout`` seconds together (default: the longest ``close_timeout`` of them).
    Queued messages are discarded. May be called wherever a client's ``close()`` may.
    """
    check_timeout(timeout)
    found = clients()
    for client in found:  # none waits for the one before it
        client._core.close_soon(timeout)
    limits = [client._core.options.close_timeout for client in found]
    deadline = Deadline(max(limits, default=0.0) if timeout is None else timeout)
    for client in found:
        client.close(deadline.remaining())
