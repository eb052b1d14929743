"""A recorded run with kills, gaps and rotations replays to the same messages and books."""

from __future__ import annotations

import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from support.rotating import BOOKS, PATIENCE, Rig, rig_of
from wsclient.messages import LinkedMessage, Message
from wsclient.testing import KINDS

#: How many levels of a book are compared.
DEPTH = 10


def fields_of(message: Message) -> dict[str, Any]:
    linked = isinstance(message, LinkedMessage)
    return {
        "channel": message.channel,
        "type": message.type,
        "sequence": message.sequence,
        "item": message.item,
        "raw": message.raw,
        "gap": message.gap,
        "follows": message.follows if linked else None,
        "is_counted": message.is_counted if linked else None,
        "time": message.time,
        "received_at": message.received_at,
        "connection_id": message.connection_id,
        "data": message.data,
        "trades": message.trades(),
        "quote": message.quote(),
        "book_update": message.book_update(),
    }


def contents(book: wsclient.OrderBook) -> tuple[Any, Any, Any, Any]:
    return book.sequence, book.received_at, book.bids(DEPTH), book.asks(DEPTH)


class Sampled:
    """The contents of a live book, by the message that it applied last."""

    def __init__(self, book: wsclient.OrderBook | None) -> None:
        self._book = book
        self._is_over = threading.Event()
        self.found: dict[tuple[Any, Any], tuple[Any, Any]] = {}
        self._sampling = Call(self._sample)

    def _sample(self) -> None:
        book = self._book
        while book is not None and not self._is_over.wait(0.0005):
            try:
                before, taken = contents(book), contents(book)
            except wsclient.OrderBookOutOfSync:
                continue
            if before == taken:
                self.found[taken[:2]] = taken[2:]

    def __enter__(self) -> Sampled:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._sampling.result(PATIENCE)


def disturb(rig: Rig, random: Random) -> None:
    """Cut, lose and rotate, with messages in between."""
    for step in ("lose", "cut", "rotate", "lose", "cut", "rotate"):
        rig.feed.wait(random.randrange(20, 60), PATIENCE)
        until(lambda: rig.is_whole, PATIENCE)
        if step == "lose":
            rig.carriers[0].lose(3)
        elif step == "cut":
            rig.carriers[0].rst()
        else:
            rig.rotate()
    rig.feed.wait(50, PATIENCE)
    until(lambda: rig.is_whole, PATIENCE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_run_replays_to_the_same_messages_and_books(kind: str, tmp_path: Path) -> None:
    with rig_of(kind, 500, 7) as rig:
        recorder = rig.client.record(tmp_path, state_seconds=0.5)
        with Sampled(rig.book) as sampled:
            disturb(rig, Random(7))
            rig.finish()
        until(lambda: not recorder.stats().buffered_bytes, PATIENCE)
        live = [fields_of(message) for message in rig.delivered]
    with wsclient.open_recording(tmp_path) as client:
        replayed = [fields_of(message) for message in client]
        assert client.damage == []
    begin = next(n for n, found in enumerate(live) if found == replayed[0])
    assert len(replayed) > 100
    assert replayed == live[begin:]
    assert any(found["gap"] for found in replayed)
    if rig.book is None:
        return
    with wsclient.open_recording(tmp_path) as client:
        book = client.order_book(BOOKS[kind])
        states: dict[Any, list[Any]] = {}
        for _ in client.reader(book.channel):
            if book.is_synced:
                *key, bids, asks = contents(book)
                states.setdefault(tuple(key), []).append((bids, asks))
    shared = states.keys() & sampled.found.keys()
    assert len(shared) > 10
    # Several messages of one read may have the same time, and no number.
    assert [key for key in shared if sampled.found[key] not in states[key]] == []
