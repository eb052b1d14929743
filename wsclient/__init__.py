"""A blocking WebSocket client for market data that loses nothing silently."""

import logging

from wsclient import events
from wsclient.client import Reader, WebSocketClient, connect
from wsclient.diagnose import Check, Diagnosis, diagnose
from wsclient.dialects import (
    OKX,
    Binance,
    BinanceFutures,
    Bitfinex,
    Bybit,
    CoinbaseExchange,
    Deribit,
    Generic,
    Kraken,
    Kucoin,
)
from wsclient.errors import (
    AuthenticationError,
    ClientClosed,
    ClientForked,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
    NotConnected,
    NotSupported,
    OrderBookOutOfSync,
    OutcomeUnknown,
    QueueOverflow,
    ReconnectError,
    RequestRejected,
    SubscriptionError,
    SubscriptionRejected,
    SubscriptionTimeout,
    WaitTimeout,
    WSClientError,
)
from wsclient.handler import WebSocketHandler
from wsclient.messages import Gap, LinkedMessage, Message, Subscription, SubscriptionState
from wsclient.options import Options
from wsclient.orderbook import OrderBook
from wsclient.runtime.telling import EventStream
from wsclient.sansio.backoff import Verdict, classify
from wsclient.sansio.book import Level
from wsclient.sansio.dialect import (
    Ack,
    Counted,
    Dialect,
    Heartbeat,
    Item,
    Limits,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Respond,
    Subscribed,
    Unhandled,
)
from wsclient.sansio.session import State
from wsclient.stats import ChannelStats, Lag, QueueStats, Rate, Stats
from wsclient.version import __version__

__all__ = [  # noqa: RUF022 - in plain order
    "Ack",
    "AuthenticationError",
    "Binance",
    "BinanceFutures",
    "Bitfinex",
    "Bybit",
    "ChannelStats",
    "Check",
    "ClientClosed",
    "ClientForked",
    "CoinbaseExchange",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "Counted",
    "Deribit",
    "Diagnosis",
    "Dialect",
    "EventStream",
    "Gap",
    "Generic",
    "HandshakeRejected",
    "Heartbeat",
    "Item",
    "Kraken",
    "Kucoin",
    "Lag",
    "Level",
    "Limits",
    "LinkedMessage",
    "LoginAccepted",
    "LoginRefused",
    "Message",
    "NotConnected",
    "NotSupported",
    "Notice",
    "OKX",
    "Options",
    "OrderBook",
    "OrderBookOutOfSync",
    "OutcomeUnknown",
    "QueueOverflow",
    "QueueStats",
    "Rate",
    "Reader",
    "ReconnectError",
    "Rejection",
    "Reply",
    "RequestRejected",
    "Respond",
    "State",
    "Stats",
    "Subscribed",
    "Subscription",
    "SubscriptionError",
    "SubscriptionRejected",
    "SubscriptionState",
    "SubscriptionTimeout",
    "Unhandled",
    "Verdict",
    "WSClientError",
    "WaitTimeout",
    "WebSocketClient",
    "WebSocketHandler",
    "__version__",
    "classify",
    "connect",
    "diagnose",
    "events",
]

logging.getLogger("wsclient").addHandler(logging.NullHandler())
