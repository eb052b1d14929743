"""A blocking WebSocket client for market data that loses nothing silently.

    import wsclient

    with wsclient.connect("wss://ws.kraken.com/v2", dialect="kraken") as client:
        client.subscribe("ticker:BTC/USD")
        for message in client:                    # goes on through reconnects
            print(message.channel, message.data)  # message.gap says what was missed before it

``help(wsclient.Options)`` explains the options of ``connect``, ``help(wsclient.WebSocketClient)``
the calls, ``help("wsclient.dialects.kraken")`` the addresses and channels of a venue. A client
opens the connections that its channels need: ``client.connections`` lists them. In a shell,
``wsclient manual`` prints the manual, ``wsclient doctor URL`` says why a connection fails, and
``wsclient demo`` shows a recovery.

The names by purpose:

open and close     connect, WebSocketClient, Options, State, Verdict, classify, clients, close_all
find a fault       diagnose, Diagnosis
messages           Message, Gap, Reader, Subscription, SubscriptionState
order books        OrderBook, Level, BookState
events, statistics events (a module), EventStream, Stats
recordings         open_recording, RecordedClient
older code         WebSocketHandler
own dialects       Dialect; the other classes for them are in wsclient.dialect
errors             WSClientError is the base of all; help(wsclient.errors) shows the tree:
                   AuthenticationError, ClientClosed, ClientForked, ConfigurationError,
                   ConnectError, ConnectTimeout, ConnectionLost, HandshakeRejected,
                   InvalidMessage, NotConnected, NotSupported, OrderBookOutOfSync, OutcomeUnknown,
                   QueueOverflow, ReconnectError, RecordingEnded, ReentrantCall, RequestRejected,
                   RequestTimeout, SubscriptionError, SubscriptionRejected, SubscriptionTimeout,
                   ThreadStartError, WaitTimeout

The classes of wsclient.dialect, of the venues in wsclient.dialects, the parts of ``client.stats()``
in ``wsclient.stats``, what messages return (Trade, Quote, PlainBookUpdate), Envelope, a record of a
message, and what calls of a client make (Recorder, Collected, RollingFrame) can be imported from
here too. Each name is imported when it is first used, so that ``import wsclient`` costs little.

PYTEST_DONT_REWRITE: there is no assert here for pytest to rewrite.
"""

from wsclient.version import __version__ as __version__

#: False, but type checkers take it for true. ``typing.TYPE_CHECKING`` would double the time of the
#: import. After a plain False, jedi would complete no name that is imported below.
TYPE_CHECKING = bool()  # noqa: UP018
if TYPE_CHECKING:
    from wsclient import dialect as dialect
    from wsclient import dialects as dialects
    from wsclient import errors as errors
    from wsclient import events
    from wsclient import messages as messages
    from wsclient import options as options
    from wsclient.books.book import Level
    from wsclient.books.status import BookState
    from wsclient.client import WebSocketClient, connect
    from wsclient.dialect import Ack as Ack
    from wsclient.dialect import BookFormat as BookFormat
    from wsclient.dialect import BookUpdate as BookUpdate
    from wsclient.dialect import Counted as Counted
    from wsclient.dialect import Credentials as Credentials
    from wsclient.dialect import DataFields as DataFields
    from wsclient.dialect import Dialect
    from wsclient.dialect import Ended as Ended
    from wsclient.dialect import Ending as Ending
    from wsclient.dialect import Heartbeat as Heartbeat
    from wsclient.dialect import Item as Item
    from wsclient.dialect import Limits as Limits
    from wsclient.dialect import LinkedMessage as LinkedMessage
    from wsclient.dialect import LoginAccepted as LoginAccepted
    from wsclient.dialect import LoginRefused as LoginRefused
    from wsclient.dialect import Notice as Notice
    from wsclient.dialect import Rejection as Rejection
    from wsclient.dialect import Reply as Reply
    from wsclient.dialect import Respond as Respond
    from wsclient.dialect import RestRequest as RestRequest
    from wsclient.dialect import Snapshot as Snapshot
    from wsclient.dialect import SubscribedChannels as SubscribedChannels
    from wsclient.dialect import Unhandled as Unhandled
    from wsclient.dialect import Views as Views
    from wsclient.dialects.binance import Binance as Binance
    from wsclient.dialects.binance_futures import BinanceFutures as BinanceFutures
    from wsclient.dialects.binance_ws_api import BinanceWsApi as BinanceWsApi
    from wsclient.dialects.bitfinex import Bitfinex as Bitfinex
    from wsclient.dialects.bybit import Bybit as Bybit
    from wsclient.dialects.coinbase_exchange import CoinbaseExchange as CoinbaseExchange
    from wsclient.dialects.deribit import Deribit as Deribit
    from wsclient.dialects.generic import Generic as Generic
    from wsclient.dialects.kraken import Kraken as Kraken
    from wsclient.dialects.kucoin import Kucoin as Kucoin
    from wsclient.dialects.okx import OKX as OKX
    from wsclient.doctor.examination import diagnose
    from wsclient.doctor.report import Check as Check
    from wsclient.doctor.report import Diagnosis
    from wsclient.doctor.report import RouteDiagnosis as RouteDiagnosis
    from wsclient.errors import (
        AuthenticationError,
        ClientClosed,
        ClientForked,
        ConfigurationError,
        ConnectError,
        ConnectionLost,
        ConnectTimeout,
        HandshakeRejected,
        InvalidMessage,
        NotConnected,
        NotSupported,
        OrderBookOutOfSync,
        OutcomeUnknown,
        QueueOverflow,
        ReconnectError,
        RecordingEnded,
        ReentrantCall,
        RequestRejected,
        RequestTimeout,
        SubscriptionError,
        SubscriptionRejected,
        SubscriptionTimeout,
        ThreadStartError,
        WaitTimeout,
        WSClientError,
    )
    from wsclient.handler import WebSocketHandler
    from wsclient.messages import Gap, Message, Subscription, SubscriptionState
    from wsclient.messages import Subscriptions as Subscriptions
    from wsclient.notebook.collected import Collected as Collected
    from wsclient.notebook.rolling import RollingFrame as RollingFrame
    from wsclient.opened import clients, close_all
    from wsclient.options import Options
    from wsclient.orderbook import OrderBook
    from wsclient.reader import Reader
    from wsclient.recording.recorder import Recorder as Recorder
    from wsclient.recording.replayclient import RecordedClient as RecordedClient
    from wsclient.recording.replayclient import open_recording as open_recording
    from wsclient.runtime.eventstream import EventStream
    from wsclient.sansio.life import State
    from wsclient.stream.envelope import Envelope as Envelope
    from wsclient.telemetry import stats as stats
    from wsclient.telemetry.stats import ChannelStats as ChannelStats
    from wsclient.telemetry.stats import ConnectionInfo as ConnectionInfo
    from wsclient.telemetry.stats import Lag as Lag
    from wsclient.telemetry.stats import QueueStats as QueueStats
    from wsclient.telemetry.stats import Rate as Rate
    from wsclient.telemetry.stats import RecorderStats as RecorderStats
    from wsclient.telemetry.stats import Stats
    from wsclient.verdicts import Verdict, classify
    from wsclient.views import PlainBookUpdate as PlainBookUpdate
    from wsclient.views import Quote as Quote
    from wsclient.views import Trade as Trade

__all__ = [
    "AuthenticationError",
    "BookState",
    "ClientClosed",
    "ClientForked",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "Diagnosis",
    "Dialect",
    "EventStream",
    "Gap",
    "HandshakeRejected",
    "InvalidMessage",
    "Level",
    "Message",
    "NotConnected",
    "NotSupported",
    "Options",
    "OrderBook",
    "OrderBookOutOfSync",
    "OutcomeUnknown",
    "QueueOverflow",
    "Reader",
    "ReconnectError",
    "RecordingEnded",
    "ReentrantCall",
    "RequestRejected",
    "RequestTimeout",
    "State",
    "Stats",
    "Subscription",
    "SubscriptionError",
    "SubscriptionRejected",
    "SubscriptionState",
    "SubscriptionTimeout",
    "ThreadStartError",
    "Verdict",
    "WSClientError",
    "WaitTimeout",
    "WebSocketClient",
    "WebSocketHandler",
    "__version__",
    "classify",
    "clients",
    "close_all",
    "connect",
    "diagnose",
    "events",
]

#: The names of each module below this package; a test compares them with the imports above.
_NAMES = {
    "books.book": "Level",
    "books.status": "BookState",
    "client": "WebSocketClient connect",
    "dialect": (
        "Ack BookFormat BookUpdate Counted Credentials DataFields Dialect Ended Ending Heartbeat "
        "Item Limits LinkedMessage LoginAccepted LoginRefused Notice Rejection Reply Respond "
        "RestRequest Snapshot SubscribedChannels Unhandled Views"
    ),
    "dialects.binance": "Binance",
    "dialects.binance_futures": "BinanceFutures",
    "dialects.binance_ws_api": "BinanceWsApi",
    "dialects.bitfinex": "Bitfinex",
    "dialects.bybit": "Bybit",
    "dialects.coinbase_exchange": "CoinbaseExchange",
    "dialects.deribit": "Deribit",
    "dialects.generic": "Generic",
    "dialects.kraken": "Kraken",
    "dialects.kucoin": "Kucoin",
    "dialects.okx": "OKX",
    "doctor.examination": "diagnose",
    "doctor.report": "Check Diagnosis RouteDiagnosis",
    "errors": (
        "AuthenticationError ClientClosed ClientForked ConfigurationError ConnectError "
        "ConnectTimeout ConnectionLost HandshakeRejected InvalidMessage NotConnected NotSupported "
        "OrderBookOutOfSync OutcomeUnknown QueueOverflow ReconnectError RecordingEnded "
        "ReentrantCall RequestRejected RequestTimeout SubscriptionError SubscriptionRejected "
        "SubscriptionTimeout ThreadStartError WSClientError WaitTimeout"
    ),
    "handler": "WebSocketHandler",
    "messages": "Gap Message Subscription SubscriptionState Subscriptions",
    "notebook.collected": "Collected",
    "notebook.rolling": "RollingFrame",
    "opened": "clients close_all",
    "options": "Options",
    "orderbook": "OrderBook",
    "reader": "Reader",
    "recording.recorder": "Recorder",
    "recording.replayclient": "RecordedClient open_recording",
    "runtime.eventstream": "EventStream",
    "sansio.life": "State",
    "stream.envelope": "Envelope",
    "telemetry.stats": "ChannelStats ConnectionInfo Lag QueueStats Rate RecorderStats Stats",
    "verdicts": "Verdict classify",
    "views": "PlainBookUpdate Quote Trade",
}
#: Modules that can be used after ``import wsclient`` alone, each with where it is.
_MODULES = {
    **{name: name for name in ("dialect", "dialects", "errors", "events", "messages", "options")},
    "stats": "telemetry.stats",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


if not TYPE_CHECKING:  # else type checkers would accept any name

    def __getattr__(name: str) -> object:
        from importlib import import_module  # here, so that it is no name of the package

        if name in _HOMES:
            value = getattr(import_module(f"wsclient.{_HOMES[name]}"), name)
        elif name in _MODULES:
            value = import_module(f"wsclient.{_MODULES[name]}")
        else:
            raise AttributeError(f"module 'wsclient' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        found = {*__all__, *_HOMES, *_MODULES, *globals()}
        return sorted(found - {"TYPE_CHECKING"})
