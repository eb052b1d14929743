"""Scenes that play recorded traffic of the venues to a client; none without the recordings.

Each recording is played unchanged, then again with lines left out, doubled and swapped.
"""

from __future__ import annotations

import functools
import json
import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import wsclient
from golden.recorder import PATIENCE, Bench, Run, describe, digest, steadily
from wsclient.testing import FakeVenue, Peer, ScriptedProtocol, read_recording

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "recorded"
#: The number of lines of each recording that the reduced trace plays.
REDUCED = 400


class Direct(wsclient.Kucoin):
    """A dialect that fetches no token by REST."""

    def url_request(self, url: str, credentials: Any) -> None:
        return None


class Unrouted(wsclient.BinanceFutures):
    """A dialect as of 2021, when one address had all streams."""

    def default_route(self, url: str) -> str:
        return ""

    def route(self, channel: str, url: str) -> str:
        return ""

    def refusal(self, channel: str, address: str) -> None:
        return None


def by_result(request: Any) -> Any:
    return {"result": None, "id": request["id"]}


def by_kucoin(request: Any) -> Any:
    return {"id": str(request["id"]), "type": "ack"}


def by_bybit(request: Any) -> Any:
    return {"success": True, "ret_msg": "", "req_id": request["req_id"], "op": request["op"]}


def by_deribit(request: Any) -> Any:
    return {"jsonrpc": "2.0", "id": request["id"], "result": request["params"]["channels"]}


class Recording(NamedTuple):
    """A recording of a venue.

    ``channel`` returns the channel that a line shows to be subscribed to. ``answer`` answers a
    request, where the recording has no answers to ours. Names of book channels contain ``book``.
    """

    file: str
    dialect: Callable[[], Any]
    channel: Callable[[Any], str | None]
    book: str
    answer: Callable[[Any], Any] | None = None
    rest: str | None = None
    greeting: tuple[str, ...] = ()


def of_bitfinex(line: Any) -> str | None:
    if not isinstance(line, dict) or line.get("event") != "subscribed":
        return None
    return f"{line['channel']}:{line.get('symbol') or line.get('key')}"


def of_coinbase(line: Any) -> str | None:
    names = {"l2update": "level2", "snapshot": "level2", "ticker": "ticker"}
    names |= {"match": "matches", "last_match": "matches"}
    name = names.get(line["type"])
    return name and f"{name}:{line['product_id']}"


def of_kraken(line: Any) -> str | None:
    result = line.get("result") or {}
    return f"{result['channel']}:{result['symbol']}" if "symbol" in result else None


def of_okx(line: Any) -> str | None:
    arg = line.get("arg")
    return f"{arg['channel']}:{arg['instId']}" if arg else None


RECORDINGS = [
    Recording(
        "binance/BINANCE.ws.1.0",
        wsclient.Binance,
        lambda line: line.get("stream"),
        "@depth",
        by_result,
        "binance/BINANCE.http.0.0",
    ),
    Recording(
        "binance_futures/BINANCE_FUTURES.ws.1.0",
        Unrouted,
        lambda line: line.get("stream"),
        "@depth",
        by_result,
        "binance_futures/BINANCE_FUTURES.http.0.0",
    ),
    Recording(
        "bitfinex/BITFINEX.ws.11.0",
        lambda: wsclient.Bitfinex(checksums=False),
        of_bitfinex,
        "book:",
    ),
    Recording(
        "bybit/2024-12-01_XRPUSDT_ob500.data",
        lambda: wsclient.Bybit(sequenced=True),
        lambda line: line.get("topic"),
        "orderbook.",
        by_bybit,
    ),
    Recording(
        "coinbase_exchange/COINBASE.ws.28.0",
        lambda: wsclient.CoinbaseExchange(book="level2"),
        of_coinbase,
        "level2:",
    ),
    Recording(
        "deribit/DERIBIT.ws.1.0",
        wsclient.Deribit,
        lambda line: (line.get("params") or {}).get("channel"),
        "book.",
        by_deribit,
    ),
    Recording("kraken/kraken_btcusd_l2.cbcap", wsclient.Kraken, of_kraken, "book:"),
    Recording("kraken/kraken_btcusd_l2.jsonl", wsclient.Kraken, of_kraken, "book:"),
    Recording(
        "kucoin/KUCOIN.ws.1.0",
        Direct,
        lambda line: line.get("topic"),
        "/market/level2:",
        by_kucoin,
        "kucoin/KUCOIN.http.0.0",
        ('{"id":"x","type":"welcome"}',),
    ),
    Recording("okx/OKX.ws.1.0", wsclient.OKX, of_okx, "books:"),
]


class Player(ScriptedProtocol):
    """A protocol that answers the requests, where the recording has no answers to them."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def greeting(self, peer: Peer) -> Sequence[str]:
        return self._recording.greeting

    def received(self, peer: Peer, payload: str | bytes) -> Iterator[str]:
        if self._recording.answer is not None:
            yield json.dumps(self._recording.answer(json.loads(payload)))


def played(recording: Recording, lines: Sequence[bytes], bench: Bench) -> dict[str, list[str]]:
    return steadily(functools.partial(once, recording, lines, bench))


def once(recording: Recording, lines: Sequence[bytes], bench: Bench) -> Run:
    """Play lines to a client that subscribes to all channels in them."""
    decoded = (json.loads(line) for line in lines)
    channels = sorted({found for line in decoded if (found := recording.channel(line))})
    with FakeVenue(Player(recording)) as venue:
        run = Run(venue, recording.dialect()).connect()
        run.is_throttled = True
        try:
            play(recording, lines, channels, run)
        except Exception as error:  # noqa: BLE001 - a difference
            run.note(f"the scene failed: {type(error).__name__}")
        run.close(bench.logs)
    return run


def play(recording: Recording, lines: Sequence[bytes], channels: Sequence[str], run: Run) -> None:
    # On a thread, since the answers may be among the lines.
    call = threading.Thread(
        target=run.call,
        args=(f"subscribe {channels}", run.client.subscribe, *channels),
        kwargs={"timeout": PATIENCE},
    )
    call.start()
    peer = run.peer
    run.wait(lambda: all(is_asked(peer, channel) for channel in channels))
    with run.venue.batch():
        for line in lines:
            peer.send(line.decode())
    call.join()
    # The counters of frames run ahead of the messages: the last message says that all are there.
    messages: list[wsclient.Message] = []
    left = lines.count(lines[-1])
    while left:
        batch = run.client.recv_batch(timeout=PATIENCE)
        messages += batch
        left -= sum(message.raw == lines[-1] for message in batch)
    for message in messages:
        run.note(describe(message))
    run.note(f"wanted: {run.wanted()}")
    run.stats()
    run.rows["books"] = list(books(recording, messages))


def is_asked(peer: Peer, channel: str) -> bool:
    """Return True if a request that names this channel has come."""
    parts = [f'"{part}"' for part in channel.split(":", 1)]
    texts = [str(payload) for payload in peer.received]
    if channel.startswith("/"):  # a topic, with a list of symbols
        parts = channel.split(":")
    return any(all(part in text for part in parts) for text in texts)


def books(recording: Recording, messages: Sequence[wsclient.Message]) -> Iterator[str]:
    """Yield each book's state after each of its messages, and at the end."""
    dialect = recording.dialect()
    kept: dict[str, wsclient.OrderBook] = {}
    for message in messages:
        channel = message.channel
        if recording.book not in channel:
            continue
        if channel not in kept:
            kept[channel] = wsclient.OrderBook(dialect, channel)
        is_synced = kept[channel].apply(message)
        if recording.rest is None:
            yield f"{channel} {is_synced} {shown(kept[channel], 5)}"
    for channel, book in sorted(kept.items()):
        if recording.rest is not None:
            answer = snapshot_of(recording, dialect, channel)
            if answer is not None:
                yield f"{channel} snapshot: {book.take_snapshot(answer)}"
        yield f"{channel} at the end: {book.is_synced} {book.sequence} {shown(book, None)}"


def shown(book: wsclient.OrderBook, depth: int | None) -> str:
    sides = book.bids(depth, stale_ok=True), book.asks(depth, stale_ok=True)
    return digest(str([[(str(p), str(s)) for p, s in side] for side in sides]).encode())


def snapshot_of(recording: Recording, dialect: wsclient.Dialect, channel: str) -> Any:
    """Return the answer of the venue's REST server for this book."""
    for item in read_recording(RECORDED / str(recording.rest)):
        symbol = re.findall("symbol=([A-Z0-9-]+)", item.uri or "")[0]
        if dialect.book.channel(symbol, {}) == channel:
            return json.loads(item.payload, parse_float=Decimal)
    return None


def up_to_data(lines: Sequence[bytes]) -> Sequence[bytes]:
    """Leave out what follows the last message: answers and heartbeats."""
    end = len(lines)
    while not is_data(json.loads(lines[end - 1])):
        end -= 1
    return lines[:end]


def is_data(line: Any) -> bool:
    if isinstance(line, list):
        return bool(line[1] != "hb")
    return "event" not in line and any(name in line for name in ("data", "params", "product_id"))


def edited(lines: Sequence[bytes], seed: str) -> list[bytes]:
    """Leave out, double and swap some lines, but none of the first, which are needed to begin."""
    rng = random.Random(seed)
    found = list(lines[:60])
    rest = list(lines[60:])
    while rest:
        line = rest.pop(0)
        dice = rng.random()
        if dice < 0.02 and b"snapshot" not in line and b"event" not in line:
            continue
        if dice < 0.04:
            found.append(line)
        elif dice < 0.06 and rest:
            found.append(rest.pop(0))
        found.append(line)
    return found


def recorded_scenes(
    reduced: bool = False,
) -> Iterator[tuple[str, Callable[[Bench], dict[str, list[str]]]]]:
    """Yield each scene's name, and a function that runs it and returns its rows."""
    for recording in RECORDINGS if RECORDED.exists() else ():
        items = read_recording(RECORDED / recording.file)
        lines = [item.payload for item in items if item.direction == "received"]
        # Kraken's client had unsubscribed. Ours has not, and would subscribe again when it can.
        lines = [line for line in lines if not line.startswith(b'{"method":"unsubscribe"')]
        lines = lines[:REDUCED] if reduced else lines
        for how, all_lines in (("as it is", lines), ("edited", edited(lines, recording.file))):
            sent = up_to_data(all_lines)
            yield f"recorded {recording.file}: {how}", functools.partial(played, recording, sent)
