"""WebSocketHandler: the client behind the older dict-based interface, for code that uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wsclient.client import WebSocketClient
from wsclient.errors import ConfigurationError, ConnectError, NotConnected, SubscriptionError
from wsclient.events import GapUnhandled
from wsclient.messages import Gap, Message, Subscription
from wsclient.options import check_number
from wsclient.tracebacks import without_locals

__all__ = ["WebSocketHandler"]


class WebSocketHandler:
    """A thin adapter around :class:`WebSocketClient`.

    ``config`` holds ``websocket_uri``, ``max_retries`` (default 3), ``retry_delay_sec`` (default 5,
    a constant delay) and ``on_market_data`` (a function that takes one decoded message, instead of
    overriding :meth:`process_market_data`). Any other key is an option of the client. Raises
    ConfigurationError for a key or a value that cannot work.

    Incoming JSON is routed by its ``type``: ``system`` is filtered out, ``market_data`` goes to
    :meth:`run` or to the iteration, ``subscription`` is the answer to a subscribe, and anything
    else is logged as unhandled. Invalid JSON is logged and counted, and is never fatal.
    """

    @without_locals
    def __init__(self, config: Mapping[str, Any]) -> None:
        if not isinstance(config, Mapping):
            raise ConfigurationError(f"config must be a mapping, not {type(config).__name__}")
        options = dict(config)
        if "websocket_uri" not in options:
            raise ConfigurationError("config must have the key 'websocket_uri'")
        url = options.pop("websocket_uri")
        delay = options.pop("retry_delay_sec", 5)
        check_number("retry_delay_sec", delay, 0.0)
        self._on_market_data: Callable[[Any], object] | None = options.pop("on_market_data", None)
        if self._on_market_data is not None and not callable(self._on_market_data):
            raise ConfigurationError(
                "on_market_data must be a function that takes a message, or None"
            )
        options.setdefault("max_retries", 3)
        options.setdefault("retry_delay", delay)
        options.setdefault("max_retry_delay", max(delay, 1e-3))
        options.setdefault("jitter", False)
        self.client = WebSocketClient(url, **options)

    def connect(self) -> None:
        """Open the connection.

        Raises ConnectionError("Max connection retries exceeded") after ``max_retries`` attempts.
        """
        try:
            self.client.connect()
        except ConnectError as error:
            raise ConnectError("Max connection retries exceeded", error.attempts) from error

    def subscribe(self, channel: str, **options: Any) -> dict[str, str]:
        """Subscribe to ``channel``. Never raises an error.

        Returns ``{"status": "success"}``, or ``{"status": "error", "error": why}``.
        """
        if not self.is_connected:
            return {"status": "error", "error": "Not connected"}
        try:
            self.client.subscribe(channel, **options)
        except NotConnected:
            return {"status": "error", "error": "Not connected"}
        except SubscriptionError as error:
            refused = not isinstance(error, TimeoutError)
            return {"status": "error", "error": "Subscription failed" if refused else str(error)}
        except Exception as error:  # noqa: BLE001 - the contract of this call
            return {"status": "error", "error": str(error)}
        return {"status": "success"}

    def process_market_data(self, data: Any) -> None:
        """Handle one decoded message: override this, or pass ``on_market_data``.

        Runs on the thread that called :meth:`run`.
        """
        if self._on_market_data is not None:
            self._on_market_data(data)

    def process_gap(self, channel: str, gap: Gap) -> None:
        """Handle a gap: called before the message that follows it. Override it to know of gaps.

        By default it logs a warning, by the event :class:`wsclient.events.GapUnhandled`.
        """
        self.client._core.emit(GapUnhandled, channel, gap)

    def run(self) -> None:
        """Process market data until :meth:`close`. Raises the client's failure if it fails."""
        for data in self:
            self.process_market_data(data)

    def __iter__(self) -> Iterator[Any]:
        """Yield each decoded ``market_data`` message."""
        for message in self.client:
            if message.gap is not None:
                self.process_gap(message.channel, message.gap)
            if _has_data(message):
                yield message.data

    @property
    def is_connected(self) -> bool:
        """True while the connection is open and messages can be sent."""
        return self.client.is_connected

    @property
    def subscriptions(self) -> dict[str, Subscription]:
        """The wanted channels: see :attr:`WebSocketClient.subscriptions`."""
        return self.client.subscriptions

    def close(self) -> None:
        """Close the client for good: see :meth:`WebSocketClient.close`."""
        self.client.close()

    def __enter__(self) -> WebSocketHandler:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _has_data(message: Message) -> bool:
    return message.type != "lost"
