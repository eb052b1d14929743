"""Each venue's channels, numbered messages, order book and answers.

A message is made of its channel and number alone, so that it is the same in each run.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import wsclient
from wsclient.testing import FakeVenue, Peer, ScriptedProtocol, VenueProtocol

Level = tuple[float, float]
Sides = tuple[Sequence[Level], Sequence[Level]]

KEY = {"api_key": "key", "secret": "c2VjcmV0", "passphrase": "phrase"}


def number(value: float) -> str:
    """Return a number as JavaScript prints it, so that checksums agree with the wire."""
    return f"{value:g}"


def dumps(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))


class Market:
    """A synthetic order book of a few levels whose sizes change; all numbers are binary exact."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self.bids = {100 - i / 2: float(i + 1) for i in range(8)}
        self.asks = {100.5 + i / 2: float(i + 1) for i in range(8)}

    @property
    def levels(self) -> Sides:
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items())

    def move(self) -> Sides:
        """Change a level of each side and return the changes; size 0 removes a level."""
        changes = []
        for side in (self.bids, self.asks):
            price = self._random.choice(sorted(side))
            size = self._random.randrange(0, 40) / 4
            if size == 0 and len(side) > 4:
                del side[price]
            else:
                size = side[price] = size or 0.25
            changes.append([(price, size if price in side else 0.0)])
        return changes[0], changes[1]


class Speaker:
    """One venue. ``channels`` are three to subscribe to; the first is numbered where any is."""

    name: str
    channels: tuple[str, str, str]
    symbol: str
    is_numbered = True
    #: The book's first snapshot comes by REST.
    by_rest = False
    credentials: Mapping[str, str] | None = None

    def dialect(self, rest: str) -> Any:
        """Return the client's dialect; ``rest`` is the address of our REST server."""
        return self.name

    def protocol(self) -> str | VenueProtocol:
        return self.name

    @property
    def book(self) -> str:
        return self.channels[0]

    def frame(self, peer: Peer, channel: str, n: int) -> str:
        """Return the n-th message of a channel, for one connection."""
        return self.data(channel, n)

    def data(self, channel: str, n: int) -> str:
        raise NotImplementedError

    def update(self, peer: Peer, n: int, changes: Sides, book: Sides) -> list[str]:
        """Return an update, after which the book is ``book``."""
        raise NotImplementedError

    def snapshot(self, peer: Peer, n: int, book: Sides) -> list[str]:
        """Return the messages that begin the book; none where a REST snapshot does."""
        raise NotImplementedError

    def rest(self, n: int, book: Sides) -> Any:
        raise NotImplementedError

    def skip(self, peer: Peer) -> None:
        """Leave out a sequence number of the connection, where the venue has them."""

    def answer_login(self, request: Any, is_accepted: bool) -> Any:
        """Return the answer to a login, or None if the request is not a login."""
        return None

    def send(self, venue: FakeVenue, channel: str, n: int) -> None:
        """Send the n-th message of a channel to all who are subscribed to it."""
        with venue.lock:
            for peer in venue.subscribers(channel):
                peer.send(self.frame(peer, channel, n))


class Generic(Speaker):
    name = "generic"
    channels = ("a", "b", "c")

    def data(self, channel: str, n: int) -> str:
        return dumps({"type": "market_data", "channel": channel, "sequence": n, "price": n / 4})


def texts(levels: Iterable[Level]) -> list[list[str]]:
    return [[number(price), number(size)] for price, size in levels]


class Binance(Speaker):
    name = "binance"
    channels = ("btcusdt@depth@100ms", "btcusdt@trade", "ethusdt@trade")
    symbol = "BTCUSDT"
    by_rest = True

    def dialect(self, rest: str) -> Any:
        return wsclient.Binance(rest=f"{rest}/depth")

    def data(self, channel: str, n: int) -> str:
        if channel != self.book:
            return dumps({"stream": channel, "data": {"e": "trade", "t": n, "p": number(n / 4)}})
        return self._depth(n, ([(100 - n % 8 / 2, n % 7 + 1.0)], []))

    def _depth(self, n: int, changes: Sides) -> str:
        bids, asks = map(texts, changes)
        head = {"e": "depthUpdate", "E": 1, "s": self.symbol, **self._numbers(n)}
        return dumps({"stream": self.book, "data": {**head, "b": bids, "a": asks}})

    def _numbers(self, n: int) -> dict[str, int]:
        return {"U": n, "u": n}

    def update(self, peer: Peer, n: int, changes: Sides, book: Sides) -> list[str]:
        return [self._depth(n, changes)]

    def snapshot(self, peer: Peer, n: int, book: Sides) -> list[str]:
        return []

    def rest(self, n: int, book: Sides) -> Any:
        return {"lastUpdateId": n, "bids": texts(book[0]), "asks": texts(book[1])}


class BinanceFutures(Binance):
    name = "binance_futures"

    def dialect(self, rest: str) -> Any:
        return wsclient.BinanceFutures(rest=f"{rest}/depth")

    def _numbers(self, n: int) -> dict[str, int]:
        return {"U": n, "u": n, "pu": n - 1}


class Bitfinex(Speaker):
    """Sequence numbers are per connection, and data names its channel by a number."""

    name = "bitfinex"
    channels = ("book:tBTCUSD", "trades:tBTCUSD", "ticker:tETHUSD")
    symbol = "tBTCUSD"
    credentials = KEY

    def __init__(self) -> None:
        self._counts: dict[tuple[int, int], int] = {}

    def protocol(self) -> VenueProtocol:
        return BitfinexVenue()

    def count(self, peer: Peer) -> int:
        key = (id(peer.venue), peer.id)
        self._counts[key] = self._counts.get(key, 0) + 1
        return self._counts[key]

    def skip(self, peer: Peer) -> None:
        self.count(peer)

    def frame(self, peer: Peer, channel: str, n: int) -> str:
        return self._number(peer, channel, [number(n / 4), 1, n])

    def _number(self, peer: Peer, channel: str, *payload: Any) -> str:
        return dumps([alias(peer, channel), *payload, self.count(peer)])

    def update(self, peer: Peer, n: int, changes: Sides, book: Sides) -> list[str]:
        rows = [(p, s) for p, s in changes[0]] + [(p, -s) for p, s in changes[1]]
        signs = [1] * len(changes[0]) + [-1] * len(changes[1])
        found = []
        for (price, size), sign in zip(rows, signs, strict=True):
            row = [price, int(size != 0), size or sign]
            found.append(self._number(peer, self.book, row))
        pairs = list(zip(*book, strict=False))
        flat = [x for (bp, bs), (ap, a) in pairs for x in (bp, bs, ap, -a)]
        longer = max(book, key=len)[len(pairs) :]
        sign = 1 if len(book[0]) > len(book[1]) else -1
        flat += [x for price, size in longer for x in (price, sign * size)]
        checksum = zlib.crc32(":".join(map(number, flat)).encode())
        checksum -= checksum >> 31 << 32
        return [*found, self._number(peer, self.book, "cs", checksum)]

    def snapshot(self, peer: Peer, n: int, book: Sides) -> list[str]:
        rows = [[p, 1, s] for p, s in book[0]] + [[p, 1, -s] for p, s in book[1]]
        return [self._number(peer, self.book, rows)]

    def answer_login(self, request: Any, is_accepted: bool) -> Any:
        if request.get("event") == "auth":
            answer = {"event": "auth", "chanId": 0, "userId": 1}
            refused = {"status": "FAILED", "code": 10100, "msg": "apikey: invalid"}
            return answer | ({"status": "OK"} if is_accepted else refused)
        return None


def alias(peer: Peer, channel: str) -> int:
    return peer.id * 1000 + zlib.crc32(channel.encode()) % 1000


class BitfinexVenue(ScriptedProtocol):
    def received(self, peer: Peer, payload: str | bytes) -> Iterator[str]:
        request = json.loads(payload)
        event = request.get("event")
        if event == "conf":
            yield dumps({"event": "conf", "status": "OK", "flags": request["flags"]})
        elif event == "ping":
            yield dumps(
                {"event": "pong", "cid": request["cid"]} if "cid" in request else {"event": "pong"}
            )
        elif event == "subscribe":
            name, symbol = request["channel"], request.get("symbol")
            channel = f"{name}:{symbol}"
            error = peer.subscribe(channel)
            head = {"channel": name, "symbol": symbol, "subId": request["subId"]}
            if peer.venue.muted(channel):
                return
            if error is None:
                yield dumps({"event": "subscribed", **head, "chanId": alias(peer, channel)})
            else:
                yield dumps({"event": "error", **head, "msg": error, "code": 10300})
        elif event == "unsubscribe":
            for channel in peer.subscriptions:
                if alias(peer, channel) == request["chanId"]:
                    peer.unsubscribe(channel)
                    if not peer.venue.muted(channel):
                        answer = {"event": "unsubscribed", "status": "OK"}
                        yield dumps({**answer, "chanId": request["chanId"]})


class Bybit(Speaker):
    name = "bybit"
    channels = ("orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "publicTrade.ETHUSDT")
    symbol = "BTCUSDT"
    credentials = KEY

    def dialect(self, rest: str) -> Any:
        return wsclient.Bybit(sequenced=True)

    def data(self, channel: str, n: int) -> str:
        if channel == self.book:
            return self._book("delta", n, ([(100 - n % 8 / 2, n % 7 + 1.0)], []))
        row = {"T": 1, "s": channel[12:], "S": "Buy", "v": "1", "p": number(n / 4), "i": str(n)}
        return dumps({"topic": channel, "type": "snapshot", "ts": 1, "data": [row]})

    def _book(self, kind: str, n: int, sides: Sides) -> str:
        data = {"s": self.symbol, "b": texts(sides[0]), "a": texts(sides[1]), "u": n, "seq": n}
        return dumps({"topic": self.book, "type": kind, "ts": 1, "data": data})

    def update(self, peer: Peer, n: int, changes: Sides, book: Sides) -> list[str]:
        return [self._book("delta", n, changes)]

    def snapshot(self, peer: Peer, n: int, book: Sides) -> list[str]:
        return [self._book("snapshot", n, book)]

    def answer_login(self, request: Any, is_accepted: bool) -> Any:
        if request.get("op") == "auth":
            return {"op": "auth", "success": is_accepted, "ret_msg": "" if is_accepted else "no"}
        return None


class CoinbaseExchange(Speaker):
    name = "coinbase_exchange"
    channels = ("matches:BTC-USD", "ticker:BTC-USD", "ticker:ETH-USD")
    symbol = "BTC-USD"
    credentials = KEY

    @property
    def book(self) -> str:
        return "level2_batch:BTC-USD"

    def data(self, channel: str, n: int) -> str:
        name, _, product = channel.partition(":")
        head = {"type": "ticker" if name == "ticker" else "match", "product_id": product}
        numbers = {"sequence": n} if name == "ticker" else {"trade_id": n}
        return dumps({**head, **numbers, "price": number(n / 4), "time": "2026-01-01T00:00:00Z"})

    def update(self, peer: Peer, n: int, changes: Sides, book: Sides) -> list[str]:
        rows = [["buy", *level] for level in texts(changes[0])]
        rows += [["sell", *level] for level in texts(changes[1])]
        return [dumps({"type": "l2update", "product_id": self.symbol, "changes": rows})]

    def snapshot(self, peer: Peer, n: int, book: Sides) -> list[str]:
        sides = {"bids": texts(book[0]), "asks": texts(book[1])}
        return [dumps({"type": "snapshot", "product_id": self.symbol, **sides})]


class Deribit(Speaker):
    name = "deribit"
    channels = (
        "book.BTC-PERPETUAL.100ms",
        "trades.BTC-PERPETUAL.100ms",
        "ticker.ETH-PERPETUAL.100ms",
    )
    symbol = "BTC-PERPETUAL"
    credentials = {"client_id": "id", "client_secret": "secret"}

    def _push(self, channel: str, data: Any) -> str:
        params = {"channel": channel, "data": data}
        return dumps({"jsonrpc": "2.0", "method": "subscription", "params": params})

    def data(self, channel: str, n: int) -> str:
        if channel == self.book:
            return self._change(n, ([(100 - n % 8 / 2, n % 7 + 1.0)], []))
        return self._push(channel, {"timestamp": 1, "trade_seq": n, "price": n / 4})

    def _change(self, n: int, changes: Sides) -> str:
        bids, asks = (
            [["change" if size else "delete", price, size] for price, size in side]
            for side in changes
        )
        numbers = {"change_id": n, "prev_change_id": n - 1}
        return self._push(self.book, {"type": "change", **numbers, "bids": bids, "asks": asks})

    def update(self, peer: Peer, n: int, changes: Sides, book: Sides) -> list[str]:
        return [self._change(n, changes)]

    def snapshot(self, peer: Peer, n: int, book: Sides) -> list[str]:
        bids, asks = ([["new", *level] for level in side] for side in book)
        data = {"type": "snapshot", "change_id": n, "bids": bids, "asks": asks}
        return [self._push(self.book, data)]

    def answer_login(self, request: Any, is_accepted: bool) -> Any:
        if request.get("method") == "public/auth":
            refused = {"error": {"code": 13004, "message": "invalid_credentials"}}
            outcome = {"result": {"token_type": "bearer"}} if is_accepted else refused
            return {"jsonrpc": "2.0", "id": request["id"], **outcome}
        return None


class Kraken(Speaker):
    name = "kraken"
    channels = ("ticker:BTC/USD", "trade:BTC/USD", "trade:ETH/USD")
    symbol = "BTC/USD"
    is_numbered = False
    credentials = KEY

    def dialect(self, rest: str) -> Any:
        return wsclient.Kraken(rest=rest)

    @property
    def book(self) -> str:
        return "book:BTC/USD"

    def data(self, channel: str, n: int) -> str:
        name, _, symbol = channel.partition(":")
        rows = [{"symbol": symbol, "price": n / 4, "trade_id": n}]
        return dumps({"channel": name, "type": "update", "data": rows})

    def _book(self, kind: str, sides: Sides, book: Sides) -> str:
        def rows(side: Sequence[Level]) -> str:
            found = (f'{{"price":{number(price)},"qty":{number(size)}}}' for price, size in side)
            return f"[{','.join(found)}]"

        digits = [number(x) for side in (book[1], book[0]) for level in side[:10] for x in level]
        checksum = zlib.crc32("".join(d.replace(".", "").lstrip("0") for d in digits).encode())
        row = f'"bids":{rows(sides[0])},"asks":{rows(sides[1])},"checksum":{checksum}'
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{self.symbol}",{row},'
            '"timestamp":"2026-01-01T00:00:00.000000Z"}]}'
        )

    def update(self, peer: Peer, n: int, changes: Sides, book: Sides) -> list[str]:
        return [self._book("update", changes, book)]

    def snapshot(self, peer: Peer, n: int, book: Sides) -> list[str]:
        return [self._book("snapshot", book, book)]


class Kucoin(Speaker):
    name = "kucoin"
    channels = ("/market/level2:BTC-USDT", "/market/ticker:BTC-USDT", "/market/ticker:ETH-USDT")
    symbol = "BTC-USDT"
    by_rest = True
    credentials = KEY

    def dialect(self, rest: str) -> Any:
        return wsclient.Kucoin(rest=rest)

    def protocol(self) -> VenueProtocol:
        return KucoinVenue()

    def data(self, channel: str, n: int) -> str:
        if channel == self.book:
            return self._level2(n, ([(100 - n % 8 / 2, n % 7 + 1.0)], []))
        head = {"type": "message", "topic": channel, "subject": "trade.ticker"}
        return dumps({**head, "data": {"sequence": str(n), "price": number(n / 4), "time": 1}})

    def _level2(self, n: int, changes: Sides) -> str:
        bids, asks = ([[*level, str(n)] for level in texts(side)] for side in changes)
        head = {"type": "message", "topic": self.book, "subject": "trade.l2update"}
        numbers = {"sequenceStart": n, "sequenceEnd": n}
        changed = {"changes": {"bids": bids, "asks": asks}}
        return dumps({**head, "data": {**numbers, "symbol": self.symbol, **changed}})

    def update(self, peer: Peer, n: int, changes: Sides, book: Sides) -> list[str]:
        return [self._level2(n, changes)]

    def snapshot(self, peer: Peer, n: int, book: Sides) -> list[str]:
        return []

    def rest(self, n: int, book: Sides) -> Any:
        sides = {"bids": texts(book[0]), "asks": texts(book[1])}
        return {"code": "200000", "data": {"sequence": str(n), "time": 1, **sides}}


class KucoinVenue(ScriptedProtocol):
    def greeting(self, peer: Peer) -> Iterator[str]:
        yield dumps({"id": "1", "type": "welcome"})

    def received(self, peer: Peer, payload: str | bytes) -> Iterator[str]:
        request = json.loads(payload)
        kind, id = request.get("type"), str(request.get("id"))
        if kind == "ping":
            yield dumps({"id": id, "type": "pong"})
        if kind not in ("subscribe", "unsubscribe"):
            return
        topic, _, symbols = request["topic"].partition(":")
        channels = [f"{topic}:{symbol}" for symbol in symbols.split(",")]
        errors = [peer.venue.refusal(channel) for channel in channels]
        error = next(filter(None, errors), None) if kind == "subscribe" else None
        for channel in channels if error is None else ():
            (peer.subscribe if kind == "subscribe" else peer.unsubscribe)(channel)
        if any(map(peer.venue.muted, channels)):
            return
        refused = {"type": "error", "code": 404, "data": f"topic is not found: {error}"}
        yield dumps({"id": id, **({"type": "ack"} if error is None else refused)})


class OKX(Speaker):
    name = "okx"
    channels = ("books:BTC-USDT", "trades:BTC-USDT", "trades:ETH-USDT")
    symbol = "BTC-USDT"
    credentials = KEY

    def data(self, channel: str, n: int) -> str:
        if channel == self.book:
            return self._book("update", n, n - 1, ([(100 - n % 8 / 2, n % 7 + 1.0)], []))
        name, _, symbol = channel.partition(":")
        row = {"instId": symbol, "tradeId": str(n), "px": number(n / 4), "ts": "1"}
        return dumps({"arg": {"channel": name, "instId": symbol}, "data": [row]})

    def _book(self, kind: str, n: int, before: int, sides: Sides) -> str:
        bids, asks = ([[*level, "0", "1"] for level in texts(side)] for side in sides)
        row = {"asks": asks, "bids": bids, "ts": "1", "checksum": 0}
        row |= {"seqId": n, "prevSeqId": before}
        arg = {"channel": "books", "instId": self.symbol}
        return dumps({"arg": arg, "action": kind, "data": [row]})

    def update(self, peer: Peer, n: int, changes: Sides, book: Sides) -> list[str]:
        return [self._book("update", n, n - 1, changes)]

    def snapshot(self, peer: Peer, n: int, book: Sides) -> list[str]:
        return [self._book("snapshot", n, -1, book)]

    def answer_login(self, request: Any, is_accepted: bool) -> Any:
        if request.get("op") == "login":
            refused = {"event": "error", "code": "60009", "msg": "Login failed."}
            return {"event": "login", "code": "0", "msg": ""} if is_accepted else refused
        return None


SPEAKERS: list[Speaker] = [
    Generic(),
    Binance(),
    BinanceFutures(),
    Bitfinex(),
    Bybit(),
    CoinbaseExchange(),
    Deribit(),
    Kraken(),
    Kucoin(),
    OKX(),
]


class Venue(ScriptedProtocol):
    """The protocol of a speaker, with what a scene adds to it.

    ``begin(peer, channel)`` returns what follows the answer to a subscribe. On the connections in
    ``deaf`` requests take effect and are not answered.
    """

    def __init__(self, speaker: Speaker, inner: VenueProtocol) -> None:
        self._speaker = speaker
        self._inner = inner
        self.begin: Callable[[Peer, str], Iterable[str]] = lambda peer, channel: ()
        self.accepts_logins = True
        self.deaf: set[int] = set()
        #: Messages sent before the answers to a connection's first requests.
        self.before: Callable[[Peer, str], Iterable[str]] = lambda peer, channel: ()

    def greeting(self, peer: Peer) -> Iterable[str | bytes]:
        # Binance's ping frames are left out: scenes send their own.
        return () if self._speaker.name.startswith("binance") else self._inner.greeting(peer)

    def received(self, peer: Peer, payload: str | bytes) -> Iterator[str | bytes]:
        request = as_object(payload)
        answer = self._speaker.answer_login(request, self.accepts_logins)
        if answer is not None:
            yield dumps(answer)
            return
        before = peer.subscriptions
        answers = list(self._inner.received(peer, payload))
        new = sorted(peer.subscriptions - before)
        if peer.id in self.deaf:
            return
        for channel in new:
            yield from self.before(peer, channel)
        yield from map(_without_times, answers)
        for channel in new:
            yield from self.begin(peer, channel)

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> str | bytes:
        return self._inner.data(channel, sequence, fields)

    def http(self, path: str) -> bytes | None:
        return self._inner.http(path)


def as_object(payload: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


_TIMES = re.compile(r'("time_(?:in|out)":)"[^"]*"')


def _without_times(answer: str | bytes) -> str | bytes:
    """Remove the times from Kraken's answers: a reply would show them to the caller."""
    return _TIMES.sub(r'\1""', answer) if isinstance(answer, str) else answer
