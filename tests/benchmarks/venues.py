"""The cost of each venue's own frames: ``python tests/benchmarks/venues.py [--rounds N]``.

Frames of each kind, with true numbers, come in reads of 48 from a source without a socket. The
figure is the processor time per message (us) of the whole client, from the payloads of a read to
the data in the caller's loop: with ``message.data``, without, and of decoding alone. What a socket
costs is the same for all, and left out. Every figure is the least of several rounds, in which the
kinds take turns.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from wsclient.client import client_of
from wsclient.errors import ConnectionLost
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.stream.frames import Frames
from wsclient.threads.locks import Locks
from wsclient.threads.workers import WorkerThread, start
from wsclient.transport.source import FrameReceiver

#: Frames per read, and reads per round.
PER_READ, READS = 48, 250
PRICES = [["42000.10000000", "1.50000000"]] * 20


def generic(n: int) -> Any:
    prices = {"bid": 42000.1, "bid_size": 1.5, "ask": 42000.2, "ask_size": 0.7, "last": 42000.1}
    return {"type": "market_data", "channel": "BTC-USD", "sequence": n, "venue": "X", **prices}


def binance(name: str, data: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda n: {"stream": f"btcusdt@{name}", "data": {"s": "BTCUSDT", **data(n)}}


def ticker(n: int) -> Any:
    return {"u": n, "b": "42000.1", "B": "1.203", "a": "42000.11", "A": "0.5"}


def trade(n: int) -> Any:
    times = {"E": 1672515782136, "T": 1672515782136}
    return {"e": "aggTrade", "a": n, "p": "42000.1", "q": "0.1", "f": n, "l": n, "m": True, **times}


def depth(n: int) -> Any:
    numbers = {"U": 10 * n + 1, "u": 10 * n + 10}
    return {"e": "depthUpdate", "E": 1672515782136, **numbers, "b": PRICES, "a": PRICES}


def kraken_ticker(n: int) -> Any:
    prices = {"bid": 42000.1, "bid_qty": 1.5, "ask": 42000.2, "ask_qty": 0.7, "last": 42000.1}
    day = {"volume": 1234.5, "vwap": 41900.3, "low": 41000.0, "high": 43000.0, "change": 100.5}
    return {"channel": "ticker", "type": "update", "data": [{"symbol": "BTC/USD", **prices, **day}]}


def kraken_trade(n: int) -> Any:
    row = {"symbol": "BTC/USD", "side": "buy", "price": 42000.1, "qty": 0.01, "trade_id": n}
    row["timestamp"] = "2023-09-25T07:49:37.708706Z"
    return {"channel": "trade", "type": "update", "data": [row]}


def okx(n: int) -> Any:
    row = {"instId": "BTC-USDT", "last": "42000.1", "askPx": "42000.2", "bidPx": "42000.1"}
    day = {"open24h": "41000", "high24h": "43000", "low24h": "40000", "vol24h": "2222"}
    arg = {"channel": "tickers", "instId": "BTC-USDT"}
    return {"arg": arg, "data": [{**row, **day, "ts": "1597026383085"}]}


def okx_book(n: int) -> Any:
    book = {"asks": PRICES, "bids": PRICES, "ts": "1597026383085", "checksum": 1}
    arg = {"channel": "books", "instId": "BTC-USDT"}
    numbers = {"prevSeqId": 3 * n, "seqId": 3 * n + 3}
    return {"arg": arg, "action": "update", "data": [{**book, **numbers}]}


def bybit(n: int) -> Any:
    row = {"T": 1672304486865, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "16578.50"}
    row |= {"L": "PlusTick", "i": "20f43950-d8dd-5b31-9112-a178eb6023af", "BT": False}
    time_ms = 1672304486868
    return {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": time_ms, "data": [row]}


def coinbase(n: int) -> Any:
    day = {"open_24h": "1310.79", "volume_24h": "245532.79", "low_24h": "1280.52"}
    best = {"best_bid": "1285.04", "best_ask": "1285.27", "side": "buy", "last_size": "11.4"}
    head = {"type": "ticker", "sequence": n, "product_id": "ETH-USD", "price": "1285.22"}
    return {**head, **day, **best, "time": "2022-10-19T23:28:22.061769Z", "trade_id": n}


def deribit(n: int) -> Any:
    data = {"timestamp": 1550658624149, "instrument_name": "BTC-PERPETUAL", "best_bid_price": 1.5}
    data |= {"best_bid_amount": 40.0, "best_ask_price": 3996.61, "best_ask_amount": 50.0}
    params = {"channel": "quote.BTC-PERPETUAL", "data": data}
    return {"jsonrpc": "2.0", "method": "subscription", "params": params}


KINDS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "generic": ("generic", generic),
    "Binance bookTicker": ("binance", binance("bookTicker", ticker)),
    "Binance aggTrade": ("binance", binance("aggTrade", trade)),
    "Binance depth, 40 rows": ("binance", binance("depth@100ms", depth)),
    "Kraken ticker": ("kraken", kraken_ticker),
    "Kraken trade": ("kraken", kraken_trade),
    "OKX tickers": ("okx", okx),
    "OKX books, 40 rows": ("okx", okx_book),
    "Bybit publicTrade": ("bybit", bybit),
    "Coinbase Exchange ticker": ("coinbase_exchange", coinbase),
    "Deribit quote": ("deribit", deribit),
}


class Feed:
    """The sources of one client, and its only connection, which delivers the reads."""

    clock = time

    def __init__(self, reads: list[list[bytes]]) -> None:
        self._reads = reads
        self._has_ended = threading.Event()
        self.connection_id = 1
        self.thread: threading.Thread = WorkerThread("feed", self._run)

    def __call__(self, target: Any) -> Any:
        return self

    def mask(self, words: str) -> str:
        return words

    def make(self, connection_id: int, receiver: FrameReceiver, locks: Locks, route: str) -> Feed:
        self._receiver = receiver
        return self

    def start(self) -> None:
        start(self.thread)

    def _run(self) -> None:
        receiver = self._receiver
        receiver.opened(1, None, None, "")
        for read in self._reads:
            frames = Frames()
            frames.messages, frames.connection_id = list(read), 1
            frames.read_at, frames.received_at = time.monotonic(), time.time_ns()
            receiver.received(frames)
            receiver.pace()
        self._has_ended.wait()
        receiver.ended(1, ConnectionLost("the feed is over"))
        receiver.finished(1)

    def view(self) -> ConnectionView:
        return ConnectionView(time.monotonic(), False, None)

    def send(self, payload: str | bytes, waiter: Any = None) -> None:
        if waiter is not None:
            waiter.settle()

    def ping(self) -> None: ...
    def release(self) -> None: ...
    def forked(self) -> None: ...

    def flush(self) -> bool:
        return False

    def hang_up(self) -> None:
        self._has_ended.set()

    def abort(self, why: Any = None) -> None:
        self._has_ended.set()


def cost(dialect: str, reads: list[list[bytes]], *, is_read: bool) -> float:
    """Return the processor time per message (us)."""
    left = sum(map(len, reads))
    count = left
    begin = time.process_time_ns()
    client = client_of(
        Feed(reads), "ws://made.up", dialect=dialect, ping_interval=None, queue_size=None
    )
    client.connect()
    for message in client:
        if is_read:
            _ = message.data
        left -= 1
        if not left:
            break
    spent = time.process_time_ns() - begin
    client.close()
    return spent / count / 1000


def decoding(payloads: list[bytes]) -> float:
    """Return the processor time of decoding a payload (us)."""
    begin = time.process_time_ns()
    for payload in payloads:
        msgspec.json.decode(payload)
    return (time.process_time_ns() - begin) / len(payloads) / 1000


def rows(rounds: int) -> Iterator[tuple[str, int, list[float]]]:
    """Return each kind, its frames' length (bytes), and its figures."""
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    lengths = {}
    for _ in range(rounds):
        for kind, (dialect, make) in KINDS.items():
            payloads = [msgspec.json.encode(make(n)) for n in range(PER_READ * READS)]
            reads = [payloads[i : i + PER_READ] for i in range(0, len(payloads), PER_READ)]
            lengths[kind] = len(payloads[0])
            found[kind].append(
                [
                    cost(dialect, reads, is_read=True),
                    cost(dialect, reads, is_read=False),
                    decoding(payloads),
                ]
            )
    for kind, figures in found.items():
        yield kind, lengths[kind], [min(column) for column in zip(*figures, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    print(f"{'frames':26} {'bytes':>6} {'data':>7} {'untouched':>10} {'decoding':>9}")
    for kind, length, (data, untouched, decode) in rows(chosen.rounds):
        print(f"{kind:26} {length:6} {data:7.2f} {untouched:10.2f} {decode:9.2f}")


if __name__ == "__main__":
    main()
