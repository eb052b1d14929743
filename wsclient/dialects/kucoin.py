"""KuCoin spot: ``wss://ws-api-spot.kucoin.com/``.

A channel is what KuCoin calls a "topic", of one symbol (``/market/level2:BTC-USDT``,
``/market/ticker:BTC-USDT``) or of all (``/market/ticker:all``). The address and a token come by
REST before each connect; the address given to the client is only a name.

Sources: ``index.html.md`` of Kucoin/kucoin-api-docs, unless another is named.

* POST ``/api/v1/bullet-public`` returns the token and the endpoint. ``bullet-private``, which is
  signed, returns a token for private channels too. The venue's ``welcome`` must come before
  anything is sent.
* One message takes one channel name and a list of at most 100 symbols. It is acknowledged by its
  id, which comes back as text. That an error without an id answers a request only if it says so is
  our assumption.
* At most 100 messages in 10 s and 300 channels per connection; 30 connects per minute, and 50
  connections per user ("Number of Connections" and the sections after it). The error of code 509
  refuses a channel beyond the limit of a connection if it says "per session", and a message with
  too many channels if it says "per time" (the client gocryptotrader; a user of kucoin-python-sdk).
* ``{"type": "ping"}`` is sent every ``pingInterval`` (18 s). Without a pong for ``pingTimeout``
  (10 s) the connection is dead.
* ``level2`` numbers its changes: a message is the range ``sequenceStart..sequenceEnd``, which may
  overlap with that of the message before. A row of price 0 changes nothing, but its number counts.
* An order book begins with a snapshot by REST. Rows that the snapshot contains already may be
  applied again with the rest of their message, in the order of their numbers: sizes are absolute,
  and a message has all changes of its range, so the state after its last number is the same.
* The side of a trade is that of the taker ("Get Trade Histories", by REST; in the stream it agrees
  with the best bid and ask: seen on the wire). Sizes are in the base currency. In
  ``/market/ticker:all`` the subject is the symbol ("All Symbols Ticker").
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any, ClassVar, Literal

import msgspec

from wsclient.dialect import (
    Ack,
    AuthenticationError,
    BookFormat,
    BookUpdate,
    Credentials,
    Dialect,
    HandshakeRejected,
    Heads,
    Heartbeat,
    Item,
    Limits,
    LinkedMessage,
    LoginAccepted,
    Message,
    Notice,
    Quote,
    Rejection,
    RestRequest,
    Row,
    Snapshot,
    Trade,
    Unhandled,
    Views,
    Wrapped,
    levels,
    nanoseconds,
    sign_in_base64,
)

__all__ = ["Kucoin", "KucoinBook", "KucoinViews"]

_BOOK = "/market/level2:"
_PRIVATE = (
    "/account/",
    "/margin/isolatedPosition",
    "/margin/loan",
    "/margin/position",
    "/spotMarket/advancedOrders",
    "/spotMarket/tradeOrders",
)
#: Words of an error without an id that answers a subscribe.
_OF_CHANNELS = re.compile("topic|subscri", re.IGNORECASE)
#: The code of an error about a limit.
_TOO_MANY = "509"
#: Wrong key, passphrase, signature, IP address: errors that another attempt cannot mend.
_REFUSED = frozenset({"400001", "400003", "400004", "400005", "400006", "400007", "411100"})


class _Frame(msgspec.Struct, gc=False):
    type: str
    topic: str = ""
    subject: str = ""
    id: Any = None
    code: Any = None
    data: msgspec.Raw = msgspec.Raw()


class _Numbers(msgspec.Struct, gc=False):
    first: Any = msgspec.field(default=None, name="sequenceStart")
    last: Any = msgspec.field(default=None, name="sequenceEnd")


class _Key(msgspec.Struct, gc=False):
    type: str
    topic: str = ""
    subject: str = ""
    data: _Numbers | list[msgspec.Raw] | None = None


class _Range(msgspec.Struct, gc=False):
    first: int = msgspec.field(name="sequenceStart")
    last: int = msgspec.field(name="sequenceEnd")


class _Change(msgspec.Struct, array_like=True, gc=False):
    price: Decimal
    size: Decimal
    sequence: int


class _Sides(msgspec.Struct, gc=False):
    bids: list[_Change]
    asks: list[_Change]


class _Changes(msgspec.Struct, gc=False):
    changes: _Sides


class _Update(msgspec.Struct, gc=False):
    subject: Literal["trade.l2update"]
    data: _Changes


class _Book(msgspec.Struct, gc=False):
    sequence: int
    bids: list[Row]
    asks: list[Row]


class _Server(msgspec.Struct, gc=False):
    endpoint: str


class _Bullet(msgspec.Struct, gc=False):
    token: str
    servers: list[_Server] = msgspec.field(name="instanceServers")


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: Decimal
    size: Decimal
    tradeId: str
    time: str


class _Ticker(msgspec.Struct, gc=False):
    bestBid: Decimal | None
    bestBidSize: Decimal | None
    bestAsk: Decimal | None
    bestAskSize: Decimal | None


_frame = msgspec.json.Decoder(_Frame).decode
_trade = msgspec.json.Decoder(Wrapped[_Trade]).decode
_ticker = msgspec.json.Decoder(Wrapped[_Ticker]).decode
_range = msgspec.json.Decoder(_Range).decode
_update = msgspec.json.Decoder(_Update, strict=False).decode


class KucoinBook(BookFormat):
    """The order books of KuCoin, with snapshots from ``address``."""

    def __init__(self, address: str) -> None:
        self._address = address

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        return _BOOK + symbol

    def update(self, message: Message) -> BookUpdate | None:
        if not message.channel.startswith(_BOOK):
            return None
        changes = _update(message.raw).data.changes
        return BookUpdate(False, _in_order(changes.bids), _in_order(changes.asks))

    def request(self, channel: str, options: Mapping[str, Any]) -> RestRequest | None:
        symbol = channel.partition(":")[2]
        return RestRequest(self._address, {"symbol": symbol})

    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        book = msgspec.convert(_data(answer), _Book, strict=False)
        return Snapshot(book.sequence, levels(book.bids), levels(book.asks))


class KucoinViews(Views):
    """The plain views of KuCoin."""

    def trades(self, message: Message) -> list[Trade] | None:
        if not message.channel.startswith("/market/match:") or message.type != "trade.l3match":
            return None
        row = _trade(message.raw).data
        time = nanoseconds(row.time)
        return [Trade(row.symbol, row.price, row.size, row.side, row.tradeId, time)]

    def quote(self, message: Message) -> Quote | None:
        topic, _, symbol = message.channel.partition(":")
        if topic != "/market/ticker":
            return None
        row = _ticker(message.raw).data
        symbol = message.type if symbol == "all" else symbol
        return Quote(symbol, row.bestBid, row.bestBidSize, row.bestAsk, row.bestAskSize)

    def book_symbol(self, message: Message) -> str | None:
        is_book = message.channel.startswith(_BOOK) and message.type == "trade.l2update"
        return message.channel.removeprefix(_BOOK) if is_book else None


class Kucoin(Dialect):
    """Dialect of KuCoin spot.

    ``rest`` is the venue's REST address, ``book_path`` the path of snapshots of order books. The
    path ``/api/v1/market/orderbook/level2_100`` has only the best 100 levels per side, and needs
    no signature.

    ``credentials``, for private channels, have ``api_key``, ``secret`` and ``passphrase``, of a key
    of version 2.
    """

    name: ClassVar[str] = "kucoin"
    views = KucoinViews()
    quiet_channels = (*_PRIVATE, "/contract/announcement")
    client_order_id = "clientOid"
    limits = Limits(
        channels_per_message=100,
        messages_per_second=10.0,
        channels_per_connection=300,
        connects=(30, 60.0),
        connections=50,
    )
    greets = True
    keepalive = ({"id": "ping", "type": "ping"}, 18.0)
    silence_timeout = 28.0
    heads = Heads(_Key, ("type", "topic", "subject"), [("data.first", "data.last")])
    timestamp_fields = (
        ("data", "time"),
        ("data", "timestamp"),
        ("data", "ts"),
        ("data", "data", "datetime"),
    )

    def __init__(
        self,
        *,
        rest: str = "https://api.kucoin.com",
        book_path: str = "/api/v3/market/orderbook/level2",
    ) -> None:
        self._rest = rest
        self.book = KucoinBook(f"{rest}{book_path}")

    def url_request(self, url: str, credentials: Credentials | None) -> RestRequest | None:
        if credentials is None:
            return RestRequest(f"{self._rest}/api/v1/bullet-public", method="POST")
        path, timestamp = "/api/v1/bullet-private", str(int(credentials.clock() * 1000))
        secret = credentials["secret"]
        headers = {
            "KC-API-KEY": credentials["api_key"],
            "KC-API-KEY-VERSION": "2",
            "KC-API-PASSPHRASE": sign_in_base64(secret, credentials["passphrase"]),
            "KC-API-SIGN": sign_in_base64(secret, f"{timestamp}POST{path}"),
            "KC-API-TIMESTAMP": timestamp,
        }
        return RestRequest(f"{self._rest}{path}", method="POST", headers=headers)

    def url_from(self, url: str, answer: Any) -> str:
        bullet = msgspec.convert(_data(answer), _Bullet)
        # A token is used for one connection, so its checksum serves as the connection's id.
        connect_id = f"{zlib.crc32(bullet.token.encode()):08x}"
        return f"{bullet.servers[0].endpoint}?token={bullet.token}&connectId={connect_id}"

    def group(self, channel: str) -> Any:
        return channel.partition(":")[0]

    def needs_credentials(self, channel: str, options: Mapping[str, Any]) -> bool:
        return channel.startswith(_PRIVATE)

    def refusal(self, channel: str, address: str) -> str | None:
        if "," in channel:
            return "a KuCoin channel has one symbol: pass several channels instead"
        return None

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        topic = channels[0].partition(":")[0]
        symbols = [channel.partition(":")[2] for channel in channels]
        topic = f"{topic}:{','.join(symbols)}" if any(symbols) else topic
        request = {"id": request_id, "type": verb, "topic": topic}
        is_private = topic.startswith(_PRIVATE)
        return {**request, "privateChannel": is_private, "response": True, **options}

    def peek(self, frame: bytes) -> Item | Sequence[Item]:
        head = _frame(frame)
        kind = head.type
        if kind == "message":
            if not head.topic.startswith(_BOOK):
                return Message(head.topic, head.subject or kind)
            numbers = _range(head.data)
            return LinkedMessage(head.topic, head.subject, numbers.last, follows=numbers.first - 1)
        if kind == "ack":
            return Ack(head.id)
        if kind == "error":
            words = msgspec.json.decode(head.data) if head.data else "refused without a reason"
            reason = f"{words} (code {head.code})"
            is_answer = head.id is not None or _OF_CHANNELS.search(reason)
            is_limit = str(head.code) == _TOO_MANY and "per session" in reason
            answer = Rejection(reason, head.id, is_limit=is_limit)
            return answer if is_answer else Notice(reason)
        if kind == "welcome":
            return LoginAccepted()
        return Heartbeat() if kind == "pong" else Unhandled(kind, head.topic)

    def timestamp(self, message: Message) -> int | None:
        # The time of a futures candle is its beginning.
        is_candle = message.channel.startswith("/contractMarket/candle:")
        return None if is_candle else super().timestamp(message)


def _data(answer: Any) -> Any:
    """Return the data of an answer by REST.

    Raises AuthenticationError or HandshakeRejected for a refusal, which may come with HTTP 200.
    """
    code = str(answer["code"])
    if code != "200000":
        text = f"KuCoin refused the REST request: code {code[:20] if code.isdecimal() else '?'}"
        raise AuthenticationError(text) if code in _REFUSED else HandshakeRejected(text, 200)
    return answer["data"]


def _in_order(rows: list[_Change]) -> list[tuple[Decimal, Decimal]]:
    rows.sort(key=attrgetter("sequence"))
    return [(row.price, row.size) for row in rows if row.price]
