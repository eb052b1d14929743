"""Order books that begin with a REST snapshot, made by hand from each venue's own frames."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import msgspec
import pytest

import wsclient
from support.recordings import Book, messages_of, payloads, recording
from wsclient.dialect.base import Dialect
from wsclient.dialect.books import BookUpdate

CHANNEL = "btcusdt@depth@100ms"


def test_a_futures_book_is_linked_by_the_number_that_each_update_names() -> None:
    book = wsclient.OrderBook("binance_futures", CHANNEL)

    def change(previous: int, last: int, size: str) -> wsclient.Message:
        data = {"e": "depthUpdate", "U": last, "u": last, "pu": previous, "b": [["9", size]]}
        frame = json.dumps({"stream": CHANNEL, "data": {**data, "a": []}}).encode()
        (message,) = messages_of(wsclient.BinanceFutures(), [frame])
        return message

    assert not book.apply(change(10, 17, "1"))
    assert not book.apply(change(17, 30, "2"))
    assert not book.take_snapshot({"lastUpdateId": 9, "bids": [], "asks": []})
    assert book.take_snapshot({"lastUpdateId": 20, "bids": [["8", "1"]], "asks": []})
    assert (book.bids(), book.sequence) == ([(9, 2), (8, 1)], 30)
    assert book.apply(change(30, 44, "3"))
    assert not book.apply(change(45, 50, "4"))
    with pytest.raises(wsclient.OrderBookOutOfSync, match="missed"):
        book.bids()


def of_futures(first: int, last: int, previous: int, bids: list[list[str]]) -> wsclient.Message:
    data = {"e": "depthUpdate", "U": first, "u": last, "pu": previous, "b": bids, "a": []}
    frame = json.dumps({"stream": CHANNEL, "data": data}).encode()
    (message,) = messages_of(wsclient.BinanceFutures(), [frame])
    return message


@pytest.mark.parametrize("rest", ["https://fapi.example", "https://dapi.example"])
@pytest.mark.parametrize("comes_first", [True, False], ids=["change first", "snapshot first"])
def test_a_futures_book_applies_the_update_with_the_snapshots_own_number(
    rest: str, comes_first: bool
) -> None:
    """This holds for USD-M and COIN-M."""
    book = wsclient.OrderBook(wsclient.BinanceFutures(rest=rest), CHANNEL)
    snapshot = {"lastUpdateId": 167006094705, "bids": [["15.060", "716"]], "asks": []}
    same = of_futures(167006094390, 167006094705, 167006093498, [["15.060", "817"]])
    older = of_futures(167006093390, 167006093498, 167006092000, [["15.060", "1"]])
    if comes_first:
        book.apply(older)
        book.apply(same)
    assert book.take_snapshot(snapshot)
    if not comes_first:
        assert book.apply(older)
        assert book.best_bid is not None
        assert book.best_bid.size == 716
        assert book.apply(same)
    assert book.best_bid == (Decimal("15.060"), 817)
    assert book.apply(of_futures(167006094706, 167006094800, 167006094705, [["15.060", "5"]]))
    assert book.apply(same), "once only"
    assert book.best_bid == (Decimal("15.060"), 5)


def test_a_spot_book_drops_the_update_with_the_snapshots_own_number() -> None:
    book = wsclient.OrderBook("binance", CHANNEL)
    data = {"e": "depthUpdate", "U": 5, "u": 7, "b": [["9", "2"]], "a": []}
    frame = json.dumps({"stream": CHANNEL, "data": data}).encode()
    (message,) = messages_of(wsclient.Binance(), [frame])
    book.apply(message)
    assert book.take_snapshot({"lastUpdateId": 7, "bids": [["9", "1"]], "asks": []})
    assert book.best_bid == (9, 1)


def test_a_kucoin_book_drops_the_update_with_the_snapshots_own_number() -> None:
    book = wsclient.OrderBook("kucoin", "/market/level2:A-B")
    changes = {"bids": [["9", "2", "7"]], "asks": []}
    data = {"sequenceStart": 5, "sequenceEnd": 7, "changes": changes}
    message = {"type": "message", "topic": "/market/level2:A-B", "subject": "trade.l2update"}
    frame = json.dumps({**message, "data": data}).encode()
    book.apply(messages_of(wsclient.Kucoin(), [frame])[0])
    answer = {"sequence": "7", "bids": [["9", "1"]], "asks": []}
    assert book.take_snapshot({"code": "200000", "data": answer})
    assert book.best_bid == (9, 1)


@pytest.mark.parametrize(
    ("dialect", "stream", "answers"),
    [
        (wsclient.Binance(), "binance/BINANCE.ws.1.0", "binance/BINANCE.http.0.0"),
        (
            wsclient.BinanceFutures(),
            "binance_futures/BINANCE_FUTURES.ws.1.0",
            "binance_futures/BINANCE_FUTURES.http.0.0",
        ),
        (wsclient.Kucoin(), "kucoin/KUCOIN.ws.1.0", "kucoin/KUCOIN.http.0.0"),
    ],
    ids=["binance", "binance_futures", "kucoin"],
)
def test_recorded_books_equal_their_snapshot_with_all_updates(
    dialect: Dialect, stream: str, answers: str
) -> None:
    """This holds for every place of the snapshot in the stream, up to its end."""
    messages = messages_of(dialect, payloads(stream))
    count = 0
    for item in recording(answers):
        symbol = re.findall("symbol=([A-Z0-9-]+)", item.uri or "")[0]
        channel = dialect.book.channel(symbol, {})
        decoded = msgspec.json.decode(item.payload)
        changes = [m for m in messages if m.channel == channel]
        snapshot = dialect.book.snapshot(channel, decoded)
        expected = Book()
        expected.apply(BookUpdate(True, snapshot.bids, snapshot.asks))
        for message in changes:
            update = dialect.book.update(message)
            assert message.sequence is not None
            is_in = message.sequence - snapshot.has_last < snapshot.sequence
            if update is not None and not is_in:
                expected.apply(update)
        for place in (0, len(changes) // 2, len(changes)):
            book = wsclient.OrderBook(dialect, channel)
            for i, message in enumerate(changes):
                if i == place:
                    assert book.take_snapshot(decoded)
                book.apply(message)
            assert book.take_snapshot(decoded)
            assert (book.bids(), book.asks()) == (expected.bids, expected.asks)
            count += 1
    assert count == {"binance": 12, "binance_futures": 12, "kucoin": 27}[dialect.name]
