"""Rows 1 and 11: a book that begins with a snapshot by REST.

Whatever happens to the connection, the stream and the answers: after every event a book that is in
sync equals the venue's at the sequence number that it names.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import wsclient
from support.depth import Binance, BinanceFutures, Kucoin, Late, Rig, Truth, answer, ok, rig_of
from support.helpers import until
from support.inside import kept_of
from support.oracle import check_prefixes
from wsclient.books import registry
from wsclient.books.feeds import LiveBook
from wsclient.messages import LinkedMessage
from wsclient.testing import Fault, Peer

#: More than any count reaches. Each count that restarts is below all before it.
EPOCH = 1_000_000
CLOSES = (1001, 1012, 4000)
PING: dict[str, Any] = {"ping_interval": 0.1, "ping_timeout": 0.4}
#: The relative frequency of each kind of event.
EVENTS = {"push": 8, "wait": 4, "lost": 1, "doubled": 1, "swapped": 1, "answer": 2, "kill": 2}


class Run:
    """One client's book, and the random events that it goes through."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig, self.truth, self.rng = rig, rig.truth, random.Random(seed)
        self.delivered: list[wsclient.Message] = []
        self.ways: list[str] = []
        #: The venue restarts its count after every second kill that allows it.
        self.counts_again = False
        self.done: Counter[str] = Counter()
        self.looks: Counter[bool] = Counter()

    # The stream.

    def change(self) -> str:
        count = self.rng.randint(1, 3)
        rows = [(self.rng.randint(1, 20), self.rng.randint(0, 5)) for _ in range(count)]
        return self.truth.change(*rows)

    def send(self, *frames: str) -> None:
        for frame in frames:
            self.rig.venue.broadcast(frame, self.rig.channel)

    def push(self, most: int = 1) -> None:
        for _ in range(self.rng.randint(1, most)):
            self.send(self.change())

    def wait(self) -> None:
        self.restored()
        until(self.look)

    def lost(self) -> None:
        self.change()

    def doubled(self) -> None:
        self.send(*[self.change()] * 2)

    def swapped(self) -> None:
        self.send(*reversed([self.change(), self.change()]))

    # The answers by REST.

    def answer(self) -> None:
        self.truth.script.append(self.rng.choice(self.answers())())

    def answers(self) -> list[Callable[[], bytes | Callable[[socket.socket], None]]]:
        epoch = self.truth.number // EPOCH
        old = self.rng.choice([n for n in list(self.truth.states)[-30:] if n // EPOCH == epoch])
        wait = [b"Retry-After: 1"] if self.rng.random() < 0.02 else []
        return [
            lambda: answer(b"500 Oops"),
            lambda: answer(b"503 Later"),
            lambda: answer(b"429 Slow down", b"", *wait),
            lambda: ok(b"{"),
            lambda: ok(b"{}"),
            lambda: ok(b""),
            lambda: _hang_up,
            lambda: self.truth.snapshot(old),
            lambda: self.truth.snapshot(old),
        ]

    # Kills.

    def kill(self) -> None:
        peer = next(iter(self.rig.venue.subscribers()), None)
        if peer is None:
            return
        before = self.rig.client.stats().disconnects
        self.ways = self.ways or self.rng.sample(sorted(WAYS), len(WAYS))
        name = self.ways.pop()
        if name in BETWEEN_CHANGES:
            self.counts_again = not self.counts_again
            if self.counts_again:
                self.truth.script.clear()  # no earlier snapshot is sent after it
                self.truth.count_from((self.truth.number // EPOCH - 1) * EPOCH)
        WAYS[name](self, peer)
        until(lambda: self.rig.client.stats().disconnects > before)
        until(lambda: not peer.live)  # or the next kill might take it for the client's
        self.done[name] += 1
        if self.rng.random() < 0.8:
            self.restored()
        if self.rng.random() < 0.2:
            self.push(3)
        if self.rng.random() < 0.7:
            self.wait()

    def restored(self) -> None:
        client = self.rig.client
        until(lambda: client.is_connected and client.subscriptions[self.rig.channel].is_active)

    def look(self) -> bool:
        is_synced = self.truth.check(kept_of(self.book))
        self.looks[is_synced] += 1
        return is_synced

    def cut(self, peer: Peer) -> None:
        if peer.live:
            self.rng.choice([Peer.rst, Peer.fin, self.close_book])(peer)

    def close_book(self, peer: Peer) -> None:
        peer.close(self.rng.choice(CLOSES))

    def half_a_frame(self, peer: Peer) -> None:
        peer.half_frame(self.change(), then=self.rng.choice(["fin", "rst"]))

    def within_a_frame(self, peer: Peer) -> None:
        fault = Fault(self.rng.choice(["fin", "rst"]), after=self.rng.randint(1, 60))
        self.rig.proxy.set(fault, "to_client", on="present")
        self.push()

    def half_open(self, peer: Peer) -> None:
        """Make the connection half-open.

        The book is in sync until the client notices; the venue never notices.
        """
        before = self.rig.client.stats().disconnects
        self.rig.proxy.set(Fault("deaf"), on="present")
        self.push(3)
        until(lambda: self.rig.client.stats().disconnects > before)
        peer.rst()

    def within_a_fetch(self, peer: Peer) -> None:
        """Cut the connection while a snapshot is being fetched.

        The answer comes on the next connection: the book before the kill, or the current one. Part
        of it may come before the kill.
        """
        text = self.truth.snapshot() if self.rng.random() < 0.5 else b""
        with Late(self.truth, text, self.rng.randint(0, len(text) // 2)) as late:
            self._ask()
            assert late.asked.wait(10)
            self.cut(peer)
            if self.rng.random() < 0.5:
                self.restored()
                self.push(3)

    def between_changes_and_snapshot(self, peer: Peer) -> None:
        with Late(self.truth) as late:
            self._ask()
            assert late.asked.wait(10)
            self.push(5)
            self.cut(peer)

    def _ask(self) -> None:
        """Make the book need a snapshot."""
        self.lost()
        self.push()

    def within_the_next_subscribe(self, peer: Peer) -> None:
        self.truth.instead = self.cut
        self.cut(peer)

    def with_refused_handshakes(self, peer: Peer) -> None:
        self.rig.venue.fail_handshake(self.rng.choice(["reset", "eof"]))
        self.rig.venue.refuse(503)
        self.cut(peer)

    # The whole run.

    def run(self, kills: int) -> None:
        client, channel = self.rig.client, self.rig.channel
        self.truth.count_from(1000 * EPOCH)
        client.subscribe(channel)
        self.book = self.rig.book()
        events, weights = list(EVENTS), list(EVENTS.values())
        while self.done.total() < kills:
            getattr(self, self.rng.choices(events, weights)[0])()
            self.look()
            with contextlib.suppress(TimeoutError):
                self.delivered += client.recv_batch(timeout=0)
        self.truth.script.clear()
        self.restored()
        self.push()
        until(lambda: self.look() and self.truth.is_told_by(self.book))
        while not self.delivered or self.delivered[-1].sequence != self.truth.number:
            self.delivered += client.recv_batch(timeout=5)


WAYS: dict[str, Callable[[Run, Peer], None]] = {
    "rst": lambda run, peer: peer.rst(),
    "fin": lambda run, peer: peer.fin(),
    "close": Run.close_book,
    "half a frame": Run.half_a_frame,
    "within a frame": Run.within_a_frame,
    "half-open": Run.half_open,
    "within a fetch": Run.within_a_fetch,
    "between changes and snapshot": Run.between_changes_and_snapshot,
    "within the next subscribe": Run.within_the_next_subscribe,
    "with refused handshakes": Run.with_refused_handshakes,
}


#: Ways after which the venue may restart its count: nothing more is sent on the old connection.
BETWEEN_CHANGES = frozenset(WAYS) & {
    "rst",
    "fin",
    "close",
    "within the next subscribe",
    "with refused handshakes",
}


def _hang_up(sock: socket.socket) -> None:
    pass


def soak(*values: Any) -> Any:
    return pytest.param(*values, marks=(pytest.mark.soak, pytest.mark.timeout(1200)))


@pytest.mark.parametrize(
    ("truth", "kills", "seed"),
    [
        (Binance, 15, 21),
        (BinanceFutures, 15, 21),
        (Kucoin, 15, 21),
        soak(Binance, 1000, 21),
        soak(Binance, 1000, 22),
        soak(Binance, 1000, 23),
        soak(BinanceFutures, 300, 21),
        soak(Kucoin, 300, 21),
    ],
)
def test_through_kills_a_book_is_the_venues_or_not_in_sync(
    promise: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    truth: type[Truth],
    kills: int,
    seed: int,
) -> None:
    checks: Counter[bool] = Counter()
    wrong: list[str] = []

    class Checked(LiveBook):
        """A book that is checked on the thread that brings its messages.

        It is checked after each message and each snapshot.
        """

        def apply(self, message: wsclient.Message) -> bool:
            try:
                return super().apply(message)
            finally:
                self._look()

        def take_snapshot(self, *args: Any, **kwargs: Any) -> bool:
            try:
                return super().take_snapshot(*args, **kwargs)
            finally:
                self._look()

        def _look(self) -> None:
            try:
                checks[rig.truth.check(self)] += 1
            except AssertionError as error:
                wrong.append(str(error))

    monkeypatch.setattr(registry, "LiveBook", Checked)
    with rig_of(truth(), **PING) as rig:
        run = Run(rig, seed)
        run.run(kills)
        asked, stats = len(rig.truth.asked), rig.client.stats()
    assert not wrong
    check_prefixes(run.delivered, rig.venue.peers, is_change, {})
    missed = account(run.delivered, rig.truth)
    promise(
        11,
        f"{truth.dialect.name}: {kills} kills of a book by REST (seed {seed})",
        "in sync it is the venue's, after every event; each gap marked once, at its place",
        f"in sync {checks[True]} of {checks.total()} times, {asked} fetches, "
        f"{len(run.delivered)} messages, {missed} numbers missed and marked",
        checks[True] > kills and asked > kills and stats.missed == missed,
    )
    assert run.looks[True] > kills
    assert set(run.done) == set(WAYS)
    assert rig.truth.number < 1000 * EPOCH


def is_change(payload: bytes) -> bool:
    return b'"depthUpdate"' in payload or b'"sequenceEnd"' in payload


def account(delivered: list[wsclient.Message], truth: Truth) -> int:
    """Assert that each gap, and each duplicate or late message, is marked, and nothing else.

    A message older than the first of a count begins another count: the first may have been the
    wrong one. Returns how many numbers were missed in all, as far as the numbers show.
    """
    seen: set[int] = set()
    first = last = missed = 0
    for message in delivered:
        assert isinstance(message, LinkedMessage)
        sequence, follows, gap = message.sequence, message.follows, message.gap
        assert sequence is not None
        assert follows is not None
        marks = None if gap is None else (gap.reason, gap.missed)
        if sequence // EPOCH < last // EPOCH:
            assert marks == ("reconnect", None), f"counts again: {message}"
            seen.clear()
        elif sequence in seen:
            assert marks == ("duplicate", 0), message
        elif sequence < first:
            assert marks == ("sequence", None), message
            seen.clear()
        elif sequence < last:
            assert marks == ("late", follows - sequence if truth.is_counted else None), message
            missed -= sequence - follows
        elif seen and follows != last:
            assert gap is not None, f"a gap without a mark, before {message}"
            assert gap.missed == (follows - last if truth.is_counted else None), message
            missed += follows - last
        elif seen:
            assert gap is None, f"no gap before {message}"
        if not seen:
            first = last = sequence
        seen.add(sequence)
        last = max(last, sequence)
    return missed if truth.is_counted else 0
