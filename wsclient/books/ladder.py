"""A picture of an order book: its state, and its best levels with a bar for each size."""

from __future__ import annotations

from decimal import Decimal
from itertools import islice, zip_longest

from wsclient.books.book import Book, Level
from wsclient.books.keeper import LiveBook
from wsclient.books.status import BookState
from wsclient.html import Mood
from wsclient.picture import DepthBar, Picture, PictureCell, Trend
from wsclient.text import number_text

__all__ = ["ladder"]

_MOODS: dict[BookState, Mood] = {
    BookState.SYNCED: "good",
    BookState.SUSPECT: "warning",
    BookState.EMPTY: "warning",
    BookState.STALE: "bad",
    BookState.LOST: "bad",
    BookState.CLOSED: "quiet",
}


def ladder(live: LiveBook, depth: int, mids: tuple[float, ...] | None = None) -> Picture:
    """Return a picture of the ``depth`` best levels, with the trend of the mid: ``mids``.

    It is of the messages that have been applied so far: it does not wait for others. Raises
    ReentrantCall if this thread holds a lock of the client.
    """
    live.locks.check()
    bids, asks, mid, spread, sizes = live.read_now(lambda book: _read(book, depth), stale_ok=True)
    with live.lock:
        status = live.status()
    largest = max((float(level.size) for level in (*bids, *asks)), default=1.0)
    facts: list[tuple[str, PictureCell]] = [
        ("mid", "-" if mid is None else number_text(mid)),
        ("spread", "-" if spread is None else number_text(spread)),
        ("levels", f"{sizes[0]:,} bids, {sizes[1]:,} asks"),
    ]
    if live.sequence is not None:
        facts.append(("sequence", str(live.sequence)))
    if mids is not None:
        facts.insert(1, ("", Trend(mids)))
    rows = tuple(
        (*_cells(bid, largest, is_bid=True), *_cells(ask, largest, is_bid=False))
        for bid, ask in zip_longest(bids, asks)
    )
    return Picture(
        f"OrderBook {live.channel}",
        status.state.value,
        _MOODS[status.state],
        tuple(facts),
        ("", "size", "bid", "ask", "size", ""),
        rows,
        notes=(f"out of sync: {status.why}",) if status.why else (),
        left=(3, 4, 5),
        drops=(0, 5),
    )


def _read(
    book: Book, depth: int
) -> tuple[list[Level], list[Level], Decimal | None, Decimal | None, tuple[int, int]]:
    bids, asks = ([Level(*row) for row in islice(s, depth)] for s in (book.bids, book.asks))
    return bids, asks, book.mid, book.spread, (len(book.bids), len(book.asks))


def _cells(level: Level | None, largest: float, *, is_bid: bool) -> tuple[PictureCell, ...]:
    if level is None:
        return ("", "", "")
    share = float(level.size) / largest if 0 < largest < float("inf") else 0.0
    cells = (DepthBar(share, is_bid), number_text(level.size), number_text(level.price))
    return cells if is_bid else cells[::-1]
