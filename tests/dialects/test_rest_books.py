"""Books that begin with a REST snapshot, by hand, of each venue's own frames."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from recordings import Book, messages_of, payloads, recording

import wsclient
from wsclient.sansio.dialect import BookUpdate, Dialect

CHANNEL = "btcusdt@depth@100ms"


def test_a_futures_book_follows_by_the_number_that_each_change_names() -> None:
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


@pytest.mark.parametrize(
    ("dialect", "stream", "answers"),
    [
        (wsclient.Binance(), "binance/BINANCE.ws.1.0", "binance/BINANCE.http.0.0"),
        (wsclient.Kucoin(), "kucoin/KUCOIN.ws.1.0", "kucoin/KUCOIN.http.0.0"),
    ],
    ids=["binance", "kucoin"],
)
def test_recorded_books_are_what_snapshot_and_changes_make_of_them(
    dialect: Dialect, stream: str, answers: str
) -> None:
    """Wherever in the stream the snapshot comes, up to its end."""
    messages = messages_of(dialect, payloads(stream))
    count = 0
    for item in recording(answers):
        symbol = re.findall("symbol=([A-Z0-9-]+)", item.uri or "")[0]
        channel = dialect.book_channel(symbol, {})
        decoded = msgspec.json.decode(item.payload)
        changes = [m for m in messages if m.channel == channel]
        snapshot = dialect.book_snapshot(channel, decoded)
        expected = Book()
        expected.apply(BookUpdate(True, snapshot.bids, snapshot.asks))
        for message in changes:
            update = dialect.book_update(message)
            assert message.sequence is not None
            if update is not None and message.sequence > snapshot.sequence:
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
    assert count == {"binance": 12, "kucoin": 27}[dialect.name]
