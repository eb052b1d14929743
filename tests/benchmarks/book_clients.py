"""Order books from the socket: ours, and what a user of another library would write.

Ours checks sequences and checksums, and has exact Decimals. The others check nothing, and have
floats in ``sortedcontainers``. All of them know the best prices after each message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.request import urlopen

import msgspec
from frames import payload_of
from venue_clients import Course, Result, check_client, run_picows, websockets_to

import wsclient

#: A decoded frame -> whether it is a snapshot, and the rows (price, size) of bids and of asks.
Changes = tuple[bool, Iterable[Any], Iterable[Any]]


def _binance(data: Any) -> Changes:
    return False, data["data"]["b"], data["data"]["a"]


def _bitfinex(data: Any) -> Changes:
    rows = data[1] if isinstance(data[1][0], list) else [data[1]]
    bids = [(price, amount if count else 0) for price, count, amount in rows if amount > 0]
    asks = [(price, -amount if count else 0) for price, count, amount in rows if amount <= 0]
    return len(rows) > 1, bids, asks


def _bybit(data: Any) -> Changes:
    book = data["data"]
    return data["type"] == "snapshot", book["b"], book["a"]


def _coinbase(data: Any) -> Changes:
    if data["type"] == "snapshot":
        return True, data["bids"], data["asks"]
    bids: list[Any] = []
    asks: list[Any] = []
    for side, price, size in data["changes"]:
        (bids if side == "buy" else asks).append((price, size))
    return False, bids, asks


def _deribit(data: Any) -> Changes:
    book = data["params"]["data"]
    bids, asks = ([row[1:] for row in book[side]] for side in ("bids", "asks"))
    return book["type"] == "snapshot", bids, asks


def _kraken(data: Any) -> Changes:
    row = data["data"][0]
    bids, asks = ([(r["price"], r["qty"]) for r in row[side]] for side in ("bids", "asks"))
    return data["type"] == "snapshot", bids, asks


def _kucoin(data: Any) -> Changes:
    changes = data["data"]["changes"]
    bids, asks = ([row[:2] for row in changes[side]] for side in ("bids", "asks"))
    return False, bids, asks


def _okx(data: Any) -> Changes:
    book = data["data"][0]
    bids, asks = ([row[:2] for row in book[side]] for side in ("bids", "asks"))
    return data["action"] == "snapshot", bids, asks


CHANGES: dict[str, Callable[[Any], Changes]] = {
    "binance": _binance,
    "binance_futures": _binance,
    "bitfinex": _bitfinex,
    "bybit": _bybit,
    "coinbase_exchange": _coinbase,
    "deribit": _deribit,
    "kraken": _kraken,
    "kucoin": _kucoin,
    "okx": _okx,
}


class PlainBook:
    """The order book of someone who needs one."""

    def __init__(self) -> None:
        from sortedcontainers import SortedDict

        self.bids, self.asks = SortedDict(), SortedDict()

    def apply(self, changes: Changes) -> tuple[float, float]:
        is_snapshot, *sides = changes
        for side, rows in zip((self.bids, self.asks), sides, strict=True):
            if is_snapshot:
                side.clear()
            for price, size in rows:
                key, amount = float(price), float(size)
                if amount:
                    side[key] = amount
                else:
                    side.pop(key, None)
        return self.bids.peekitem()[0], self.asks.peekitem(0)[0]

    def begin(self, course: Course) -> None:
        """Take the venue's snapshot by REST, where there is one."""
        if course.kind.rest is not None:
            symbol = course.kind.place(0).symbol
            with urlopen(f"{course.http}/depth?symbol={symbol}") as answer:
                found = msgspec.json.decode(answer.read())
            found = found.get("data", found)
            self.apply((True, found["bids"], found["asks"]))


def best_after(course: Course) -> tuple[float, float]:
    """Return the best prices after the last message."""
    changes, book = CHANGES[course.kind.dialect], PlainBook()
    book.begin(course)
    opening = [payload_of(frame) for frame in course.stream.openings]
    # The updates of a cycle lead back to its beginning.
    updates = map(course.stream.payload, range((course.count - 1) % course.stream.cycle + 1))
    for payload in (*opening, *updates):
        best = book.apply(changes(msgspec.json.decode(payload)))
    return best


def ours(course: Course) -> Result:
    """Our client: ``client.order_book()``, read until all messages are in the book."""
    channel, expected = course.stream.channels[0], best_after(course)
    with course.connect() as client:
        book = client.order_book(course.kind.place(0).symbol)
        before = client.stats().messages
        course.watch.start()
        client.send("go")
        while client.stats().messages < before + course.count:
            time.sleep(0.005)
        last, deadline = client.stats().channels[channel].last_received_at, time.monotonic() + 10
        while book.received_at != last or _best_of(book) != expected:
            if time.monotonic() > deadline:
                raise AssertionError(f"{book} has not the best prices {expected}")
            time.sleep(0.002)
        course.watch.end()
        check_client(client)
        if client.stats().books_out_of_sync:
            raise AssertionError("the book fell out of sync")
    return course.result()


def _best_of(book: Any) -> Any:
    try:
        bid, ask = book.best()
    except wsclient.OrderBookOutOfSync:
        return None
    return float(bid.price), float(ask.price)


def websockets_sync(course: Course) -> Result:
    from orjson import loads

    changes, book = CHANGES[course.kind.dialect], PlainBook()
    book.begin(course)
    count = -course.skipped
    with websockets_to(course.plain_url) as connection:
        for message in connection:
            if not count:
                course.watch.start()
            best = book.apply(changes(loads(message)))
            count += 1
            if count == course.count:
                break
        course.watch.end()
    return _checked(course, best)


def picows_dict(course: Course) -> Result:
    from orjson import loads

    changes, book = CHANGES[course.kind.dialect], PlainBook()
    book.begin(course)
    count, best = -course.skipped, (0.0, 0.0)

    def on_frame(frame: Any) -> bool:
        nonlocal count, best
        if not count:
            course.watch.start()
        best = book.apply(changes(loads(frame.get_payload_as_memoryview())))
        count += 1
        if count == course.count:
            course.watch.end()
        return count < course.count

    run_picows(course.plain_url, on_frame)
    return _checked(course, best)


def _checked(course: Course, best: Any) -> Result:
    expected = best_after(course)
    if best != expected:
        raise AssertionError(f"the best prices are {best} instead of {expected}")
    return course.result()


CLIENTS = {"ours": ours, "websockets": websockets_sync, "picows": picows_dict}


def books(client: str, url: str, settings: dict[str, Any]) -> Result:
    return CLIENTS[client](Course(url, settings))
