"""WebSocketHandler: the client behind the older dict-based interface, for code that uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from wsclient.checks import check_number, hint
from wsclient.client import WebSocketClient
from wsclient.errors import (
    ConfigurationError,
    ConnectError,
    NotConnected,
    SubscriptionError,
    WSClientError,
)
from wsclient.events import GapUnhandled, SubscribeFailed
from wsclient.messages import Gap, Subscription
from wsclient.options import Options
from wsclient.runtime.checks import end_block
from wsclient.text import one_line, text_of
from wsclient.tracebacks import without_locals

__all__ = ["WebSocketHandler"]

#: The keys of the config that are not options of the client.
_KEYS = ("websocket_uri", "retry_delay_sec", "on_market_data")


class WebSocketHandler:
    """A thin adapter around :class:`WebSocketClient`, which is its attribute ``client``.

    ``config`` holds ``websocket_uri``, ``max_retries`` (default 3), ``retry_delay_sec`` (default 5,
    a constant delay) and ``on_market_data`` (a function that takes one decoded message, instead of
    overriding :meth:`process_market_data`). Any other key is an option of the client. Raises
    ConfigurationError for a key or a value that cannot work.

    Incoming JSON is routed by its ``type``: ``system`` is filtered out, ``market_data`` goes to
    :meth:`run` or to the iteration, ``subscription`` is the answer to a subscribe, and anything
    else is logged as unhandled. Invalid JSON is logged and counted, and is never fatal.

    ``last_error`` is the text of the last failure, with the venue's reason: of :meth:`connect`,
    :meth:`subscribe`, :meth:`run` or the iteration. It is None before the first.
    """

    @without_locals
    def __init__(self, config: Mapping[str, Any]) -> None:
        options = _options_of(config)
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
        self.last_error: str | None = None
        self.client = WebSocketClient(url, **options)

    def connect(self) -> None:
        """Open the connection.

        Raises ConnectionError("Max connection retries exceeded") after ``max_retries`` attempts,
        chained to the failure of the last one.
        """
        try:
            self.client.connect()
        except ConnectError as error:
            self.last_error = str(error)
            raise ConnectError("Max connection retries exceeded", error.attempts) from error
        except WSClientError as error:
            self.last_error = str(error)
            raise

    def subscribe(self, channel: str, **options: Any) -> dict[str, str]:
        """Subscribe to ``channel``. Never raises an error.

        Returns ``{"status": "success"}``, or ``{"status": "error", "error": text}``. The text is
        "Not connected", "Subscription failed" when the venue has refused the channel, or what else
        went wrong. The venue's reason is logged, and is in ``last_error``.
        """
        if not self.is_connected:
            return self._failed(channel, "Not connected", "not connected")
        try:
            self.client.subscribe(channel, **options)
        except NotConnected as error:
            return self._failed(channel, "Not connected", str(error))
        except SubscriptionError as error:
            is_refused = not isinstance(error, TimeoutError)
            text = "Subscription failed" if is_refused else str(error)
            return self._failed(channel, text, error.failed.get(channel, str(error)))
        except Exception as error:  # noqa: BLE001 - the contract of this call
            return self._failed(channel, str(error), text_of(error))
        return {"status": "success"}

    def _failed(self, channel: str, text: str, why: str) -> dict[str, str]:
        core = self.client._core
        self.last_error = core.mask(why)
        core.emit(SubscribeFailed, channel, self.last_error)
        return {"status": "error", "error": text}

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
        """Yield each decoded ``market_data`` message. Raises the client's failure if it fails."""
        try:
            for message in self.client:
                if message.gap is not None:
                    self.process_gap(message.channel, message.gap)
                if message.type != "lost":  # which has no data
                    yield message.data
        except WSClientError as error:
            self.last_error = str(error)
            raise

    @property
    def is_connected(self) -> bool:
        """True while the connection is open and messages can be sent."""
        return self.client.is_connected

    @property
    def subscriptions(self) -> dict[str, Subscription]:
        """The wanted channels: see :attr:`WebSocketClient.subscriptions`."""
        return self.client.subscriptions

    def close(self, timeout: float | None = None, *, drain: bool = False) -> None:
        """Close the client for good: see :meth:`WebSocketClient.close`."""
        self.client.close(timeout, drain=drain)

    def __repr__(self) -> str:
        if "client" not in vars(self):  # an error reporter may show it when __init__ has raised
            return f"<{type(self).__name__}, not made>"
        client = repr(self.client).removeprefix("<WebSocketClient ").removesuffix(">")
        error = "" if self.last_error is None else f", last error: {one_line(self.last_error)}"
        return f"<{type(self).__name__} {client}{error}>"

    def __enter__(self) -> WebSocketHandler:
        """Return the handler: the block closes it at its end, and does not connect it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        end_block(self.close, kind, is_draining=self.client._core.drain.is_on)


def _options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of ``config``. Raises ConfigurationError for a missing or an unknown key."""
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"config must be a mapping, not {type(config).__name__}")
    options = dict(config)
    known = {*_KEYS, *(field.name for field in fields(Options))}
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ConfigurationError(
            f"unknown option {unknown[0]} in config; {hint(unknown[0], known)}the keys are "
            f"{', '.join(_KEYS)} and the options of a client, "
            f"{', '.join(sorted(known.difference(_KEYS)))}"
        )
    if "websocket_uri" not in options:
        raise ConfigurationError("config must have the key 'websocket_uri'")
    return options
