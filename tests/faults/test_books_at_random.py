"""Row 11: books of each kind of numbering, without a socket, on a simulated clock.

Real are the dialect, the supervisor, the queue, and the book with its feed. Simulated are the
wire and the threads. A venue's messages may be lost, doubled and late; its snapshots may be old,
late or nonsense; its connections may end at any time; and the book may be slow to take its
messages.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, ClassVar
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import wsclient
from support.depth import Binance, BinanceFutures, Change, Kucoin, State, Truth, texts
from support.matrix import each_size
from support.rig import Rig
from wsclient.books.calls import Routed
from wsclient.books.feeds import BookFeed, LiveBook, RestBookFeed
from wsclient.messages import LinkedMessage, Message, SubscriptionState
from wsclient.runtime.fifo import FifoQueue
from wsclient.runtime.queues import MessageQueue
from wsclient.sansio.actions import Send
from wsclient.sansio.life import State as ClientState
from wsclient.stream.channel import LATE_OR_DUPLICATE
from wsclient.stream.inbound import Inbound
from wsclient.threads.waiting import Deadline

ACTIVE = SubscriptionState.ACTIVE
#: More than any count reaches.
EPOCH = 100_000


class Okx(Truth):
    """A venue whose stream begins with a snapshot; each message names the one before."""

    dialect = wsclient.OKX
    symbol = "BTC-USDT"
    is_counted = False
    stride = 3

    def frame(self, change: Change, channel: str | None = None) -> str:
        rows = {row.price: row.size for row in change.rows}
        return self._frame("update", change.follows, change.last, _sides(rows))

    def opening(self) -> str:
        return self._frame("snapshot", -1, self.number, self.state)

    def _frame(self, action: str, follows: int, number: int, state: State) -> str:
        bids, asks = ([[*row, "0", "1"] for row in texts(side)] for side in state)
        data = {"bids": bids, "asks": asks, "prevSeqId": follows, "seqId": number, "checksum": 0}
        arg = {"channel": "books", "instId": self.symbol}
        return json.dumps({"arg": arg, "action": action, "data": [data]})


class Kraken(Truth):
    """A venue whose stream begins with a snapshot, with a checksum and no numbers."""

    dialect = wsclient.Kraken
    symbol = "BTC/USD"

    def frame(self, change: Change, channel: str | None = None) -> str:
        return self._frame("update", _sides({row.price: row.size for row in change.rows}))

    def opening(self) -> str:
        return self._frame("snapshot", self.state)

    def _frame(self, kind: str, state: State) -> str:
        bids, asks = ([{"price": p, "qty": q} for p, q in side] for side in state)
        best = [n for side in reversed(self.state) for level in side for n in level]
        checksum = crc32("".join(map(str, best)).encode())
        row = {"symbol": self.symbol, "bids": bids, "asks": asks, "checksum": checksum}
        # The test itself uses the number.
        return json.dumps({"channel": "book", "type": kind, "data": [row], "n": self.number})


def _sides(sizes: dict[int, int]) -> State:
    rows = sizes.items()
    return [row for row in rows if row[0] <= 10], [row for row in rows if row[0] > 10]


class Bench:
    """Stand-in for the core, the feeder and the snapshots of a client."""

    is_current = True
    failure = None
    clock = time

    def __init__(self, rig: Rig, queue: MessageQueue) -> None:
        self._rig = rig
        self._queue = queue
        self.core = self.feeder = self.snapshots = self.calls = self
        self.at_end: list[Callable[[], None]] = []
        self.wanting = False
        self.counted = Counter[str]()

    @property
    def supervisor(self) -> Any:
        return self._rig.supervisor

    def add(self, channel: str, fed: Callable[[Message], None]) -> MessageQueue:
        return self._queue

    def route_book(
        self, channel: str, queue: MessageQueue, begin: Callable[[Routed], None]
    ) -> None:
        begin(Routed(False, False, None, False))

    def want_snapshot(self, channel: str, delay: float, unless: Callable[[], bool]) -> None:
        self._rig.supervisor.upkeep.refreshes.want(channel, self._rig.now, delay)

    def has_snapshot(self, channel: str) -> None:
        self._rig.supervisor.upkeep.refreshes.done(channel)

    def active_on(self, channel: str) -> int | None:
        connection = self.supervisor.placement.serving(channel)
        is_active = self.supervisor.wanted.is_active(channel)
        return connection.id if connection is not None and is_active else None

    def active_as(self, channel: str) -> int | None:
        if self.active_on(channel) is None:
            return None
        return self.supervisor.wanted.get(channel).active_as

    def count(self, name: str) -> None:
        self.counted[name] += 1

    def emit(self, *_: object) -> None:
        pass

    def want(self, book: RestBookFeed) -> bool:
        self.wanting = True
        return True

    def forget(self, book: RestBookFeed) -> None:
        self.wanting = False


rows = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 3)), min_size=1, max_size=3)
seldom = st.sampled_from([False, False, True])
fates = st.sampled_from(["comes"] * 6 + ["lost", "doubled", "late"])
changes = st.lists(st.tuples(rows, fates), max_size=3)
Changes = list[tuple[list[tuple[int, int]], str]]


class BookMachine(RuleBasedStateMachine):
    """State machine in which each rule is one event."""

    venue: ClassVar[type[Truth]]
    #: Over all runs: the number of steps, by whether the book was in sync after them.
    steps: ClassVar[Counter[bool]]

    @initialize(queue_size=st.sampled_from([3, 1000]))
    def begin(self, queue_size: int) -> None:
        self.truth = self.venue()
        self.truth.count_from(100 * EPOCH)
        dialect = self.truth.dialect()
        self.channel = self.truth.channel()
        self.rig = Rig(dialect, ack_timeout=1e9, retry_delay=0.1)
        self.inbound = Inbound(dialect)
        self.queue = FifoQueue(queue_size, None, "drop_oldest")
        self.bench = Bench(self.rig, self.queue)
        request = dialect.book.request(self.channel, {})
        service: Any = self.bench
        self.by_rest = request is not None
        self.connection = (
            BookFeed(service, self.channel)
            if request is None
            else RestBookFeed(service, self.channel, request)
        )
        self.book = LiveBook(dialect, self.channel, True, {}, self.connection)
        self.connection.keep(self.book)
        #: Requests that the venue has not answered yet, and whether it sends changes.
        self.unread: deque[str] = deque()
        self.read = 0
        self.is_subscribed = False
        self.delayed: list[str] = []
        #: Snapshots on their way: their connection, age, and answer.
        self.fetches: deque[tuple[int, int, Any]] = deque()
        self.last: Message | None = None
        self.rig.open()
        self.rig.subscribe(self.channel, token="subscribe")
        self.connection.ask(0.0)
        self.answer_all()

    # The wire.

    def arrive(self, frame: str) -> None:
        batch = self.inbound.batch([frame.encode()], False, 1, self.rig.cid)
        messages = self.rig.receive(*self.inbound.entries(batch))
        if messages:
            self.queue.put(messages)

    def hear(self) -> None:
        """Take the client's frames as the venue: a new connection knows nothing."""
        sends = [a for a in self.rig.done(Send) if a.connection_id == self.rig.cid]
        for send in sends[self.read :]:
            text = str(send.payload)
            if "subscribe" in text.lower():
                self.unread.append("unsubscribe" if "unsubscribe" in text.lower() else "subscribe")
        self.read = len(sends)

    def answer_one(self) -> None:
        self.is_subscribed = self.unread.popleft() == "subscribe"
        self.rig.ack(self.channel)
        if self.is_subscribed and not self.by_rest:
            self.arrive(self.truth.opening())  # type: ignore[attr-defined]

    def answer_all(self) -> None:
        self.hear()
        while self.unread and self.is_open:
            self.answer_one()
            self.hear()

    @property
    def is_open(self) -> bool:
        return self.rig.state is ClientState.OPEN

    # Rules.

    @rule(rows=rows, fate=fates, is_taken=st.sampled_from([True, True, False]))
    def change(self, rows: list[tuple[int, int]], fate: str, is_taken: bool) -> None:
        self._change(rows, fate)
        if is_taken:
            self.take(1000)

    def _change(self, rows: list[tuple[int, int]], fate: str) -> None:
        frame = self.truth.change(*rows)
        if not (self.is_subscribed and self.is_open) or fate == "lost":
            return
        if fate == "late":
            self.delayed.append(frame)
            return
        self.arrive(frame)
        if fate == "doubled":
            self.arrive(frame)

    @precondition(lambda self: self.delayed)
    @rule()
    def come_late(self) -> None:
        frame = self.delayed.pop()
        if self.is_subscribed and self.is_open:
            self.arrive(frame)

    @rule(count=st.sampled_from([1, 1000, 1000]))
    def take(self, count: int) -> None:
        """Let the book take the messages that wait for it."""
        while self.queue and count:
            self.queue.fill(1, Deadline(0))
            self.see(next(self.queue.handed_out))
            count -= 1

    @precondition(lambda self: self.is_open)
    @rule(now=seldom, counts_again=seldom)
    def drop(self, now: bool, counts_again: bool) -> None:
        """End the connection; the venue may restart its count on the next ones."""
        if not now:
            return
        self.rig.drop()
        if counts_again:
            self.truth.count_from(self.truth.number // EPOCH * EPOCH - EPOCH + 100)
        self.unread.clear()
        self.delayed.clear()
        self.is_subscribed, self.read = False, 0

    @precondition(lambda self: not self.is_open)
    @rule()
    def open(self) -> None:
        self.rig.open()

    @rule()
    def answer(self) -> None:
        """Let the venue answer the next request."""
        self.hear()
        if self.unread and self.is_open:
            self.answer_one()

    @rule()
    def answer_everything(self) -> None:
        if not self.is_open:
            self.rig.open()
        self.answer_all()

    @rule(seconds=st.sampled_from([0.1, 5.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.rig.wait(seconds)

    @precondition(lambda self: self.by_rest and self.bench.wanting)
    @rule(age=st.integers(0, 8), is_bad=st.sampled_from([False, False, False, True]))
    def fetch(self, age: int, is_bad: bool) -> None:
        """Fetch the current book, or that of some changes ago."""
        assert isinstance(self.connection, RestBookFeed)
        connection_id = self.connection.ready()
        if connection_id is None or not self.connection.wants_snapshot:
            return
        epoch = self.truth.number // EPOCH
        number = [n for n in self.truth.states if n // EPOCH == epoch][-1 - age :][0]
        state = ([(15, 1)], [(3, 1)]) if is_bad else self.truth.states[number]  # crossed
        answer = json.loads(json.dumps(self.truth.body(number, state)))
        self.fetches.append((connection_id, self.connection.begin(connection_id), answer))

    @precondition(lambda self: self.fetches)
    @rule()
    def fetched(self) -> None:
        assert isinstance(self.connection, RestBookFeed)
        connection_id, age, answer = self.fetches.popleft()
        try:
            self.connection.join(answer, connection_id, age)
        except ValueError:
            assert not self.is_synced
        self.bench.wanting = self.connection.wants_snapshot

    @precondition(lambda self: self.by_rest and not self.is_synced)
    @rule(age=st.integers(0, 4), before=changes, after=changes)
    def fetch_slowly(self, age: int, before: Changes, after: Changes) -> None:
        """Fetch with changes that come before the answer and after it."""
        self.answer_everything()
        self.fetch(age, False)
        for rows, fate in before:
            self.change(rows, fate, True)
        while self.fetches:
            self.fetched()
        for rows, fate in after:
            self.change(rows, fate, True)

    # Invariants.

    def see(self, message: Message) -> None:
        """Check that a message without a mark directly follows the one taken before it.

        Messages marked as late or duplicate are left out.
        """
        if message.gap is None and self.last is not None:
            if self.venue is Kraken:
                assert message.connection_id == self.last.connection_id
            else:
                assert isinstance(message, LinkedMessage)
                follows = message.sequence if message.follows is None else message.follows
                assert follows == self.last.sequence, f"a silent gap before {message}"
        if message.gap is None or message.gap.reason not in LATE_OR_DUPLICATE:
            self.last = message
        self.connection([message])
        self.check()

    @property
    def is_synced(self) -> bool:
        with self.book.lock:
            return self.book.lasting().is_synced

    @invariant()
    def check(self) -> None:
        if not hasattr(self, "book"):
            return
        is_synced = self.is_synced
        self.steps[is_synced] += 1
        if not is_synced:
            return
        assert self.is_open
        assert self.book.connection_id == self.rig.cid
        if self.venue is Kraken:
            assert self.last is not None
            self.book.sequence = json.loads(self.last.raw)["n"]
        assert self.truth.check(self.book)
        if self.last is not None and self.last.connection_id == self.rig.cid:
            ahead = self.book.sequence - (self.last.sequence or 0)  # type: ignore[operator]
            assert self.venue is Kraken or 0 <= ahead < EPOCH, "changes are skipped"

    @rule(of=st.lists(rows, max_size=3))
    def go_well(self, of: list[list[tuple[int, int]]]) -> None:
        """Let all that is due arrive in order, and the next changes too."""
        self.answer_everything()
        self.take(1000)
        if self.by_rest and self.bench.wanting:
            self.fetch(0, False)
            while self.fetches:
                self.fetched()
        for rows in of:
            self.change(rows, "comes", True)

    def teardown(self) -> None:
        """Check that the book is in sync again once the faults are over."""
        for _ in range(50 if hasattr(self, "book") else 0):
            self.go_well([[(5, 2)]])
            if self.is_synced and self.book.sequence == self.truth.number:
                return
            self.rig.wait(60.0)
        assert not hasattr(self, "book"), "it never recovers"


@pytest.fixture
def no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the budget of connects: connections end as often as they like."""
    for venue in VENUES:
        monkeypatch.setattr(venue.dialect, "limits", wsclient.Limits(connects=None))
        monkeypatch.setattr(venue.dialect, "silence_timeout", None)
        monkeypatch.setattr(venue.dialect, "keepalive", None)
        monkeypatch.setattr(venue.dialect, "greets", False)


VENUES = (Binance, BinanceFutures, Okx, Kucoin, Kraken)


@pytest.mark.timeout(600)  # shrinking a failure takes time
@pytest.mark.usefixtures("no_budget")
@each_size("size", short=[(40, 40)], full=[(200, 100)], timeout=1200)
@pytest.mark.parametrize("venue", VENUES)
def test_a_book_is_the_venues_or_not_in_sync_after_every_event(
    promise: Callable[..., None], venue: type[Truth], size: tuple[int, int]
) -> None:
    steps: Counter[bool] = Counter()
    machine = type("Machine", (BookMachine,), {"venue": venue, "steps": steps})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=size[0],
            stateful_step_count=size[1],
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    promise(
        11,
        f"{venue.dialect.name}: messages and snapshots at random",
        "in sync it is the venue's, after every event; each gap marked",
        f"in sync after {steps[True]} of {steps.total()} events",
        steps[True] * 5 > steps.total(),
    )
