"""LiveBook: no user code under its lock, readers that do not wait for writers, and interrupts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.helpers import Call, until
from support.inside import kept_of
from support.interrupting import Point
from support.making import with_book
from wsclient import Gap, Message, OrderBook, OrderBookOutOfSync
from wsclient.books import run
from wsclient.books.book import BookError
from wsclient.books.keeper import LiveBook
from wsclient.dialect.books import BookFormat, BookUpdate, Snapshot
from wsclient.dialect.values import RestRequest
from wsclient.errors import ConfigurationError, ReentrantCall
from wsclient.messages import Arrival, LinkedMessage

Levels = list[tuple[Decimal, Decimal]]


class Simple(BookFormat):
    """Order books of ``{"bids": [[price, size], ...], "asks": [...]}``.

    The checksum is the number of levels.
    """

    #: Called in each hook, with its name.
    hook: Callable[[str], object] = staticmethod(lambda name: None)

    def update(self, message: Message) -> BookUpdate | None:
        self.hook("update")
        data = msgspec.json.decode(message.raw, type=dict[str, Levels | int])
        bids, asks = (self.levels(data[side]) for side in ("bids", "asks"))
        return BookUpdate(message.type == "snapshot", bids, asks, data.get("sum"))  # type: ignore[arg-type]

    def levels(self, levels: Any) -> Iterator[tuple[Decimal, Decimal]]:
        """Yield the levels lazily, so that this runs when they are iterated over."""
        for level in levels:
            self.hook("levels")
            yield level

    def checksum(self, bids: Any, asks: Any) -> int | None:
        self.hook("checksum")
        return len([*bids, *asks])


class ByRest(Simple):
    def request(self, channel: str, options: Mapping[str, Any]) -> RestRequest | None:
        return RestRequest("https://example.com/")

    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        self.hook("snapshot")
        return Snapshot(answer["sequence"], self.levels(answer["bids"]), self.levels([]))


def message(type: str, *bids: tuple[int, int], sum: int | None = None, gap: str = "") -> Message:
    data: dict[str, Any] = {"bids": bids, "asks": []}
    if sum is not None:
        data["sum"] = sum
    raw = json.dumps(data).encode()
    return Message("a", type, raw=raw, gap=Gap(gap) if gap else None, arrival=Arrival(5, 1, None))


def change(number: int, size: int) -> Message:
    raw = json.dumps({"bids": [(9, size)], "asks": []}).encode()
    arrival = Arrival(5, 1, None)
    return LinkedMessage("a", sequence=number, follows=number - 1, raw=raw, arrival=arrival)


def answer(number: int, size: int) -> Any:
    return {"sequence": number, "bids": [(Decimal(9), Decimal(size))]}


def synced(dialect: BookFormat | None = None) -> OrderBook:
    book = OrderBook(with_book(dialect or Simple()), "a")
    assert book.apply(message("snapshot", (9, 1), (8, 2), sum=2))
    return book


def joined(dialect: BookFormat | None = None) -> OrderBook:
    book = OrderBook(with_book(dialect or ByRest()), "a")
    assert not book.apply(change(5, 50))
    assert book.take_snapshot(answer(4, 40))
    assert book.bids() == [(9, 50)]
    return book


CALLS: dict[str, Callable[[OrderBook], Any]] = {
    "best_bid": lambda book: book.best_bid,
    "best_ask": lambda book: book.best_ask,
    "mid": lambda book: book.mid,
    "spread": lambda book: book.spread,
    "bids": lambda book: book.bids(),
    "asks": lambda book: book.asks(stale_ok=True),
    "is_synced": lambda book: book.is_synced,
    "repr": repr,
    "wait_synced": lambda book: book.wait_synced(0),
    "apply": lambda book: book.apply(message("update", (9, 3))),
    "take_snapshot": lambda book: book.take_snapshot(answer(1, 1)),
}


# --- the lock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_on_a_thread_within_a_locked_section_raises(call: Callable[..., Any]) -> None:
    """Call as a signal handler or a finalizer does that has interrupted another call."""
    book = synced()
    with kept_of(book).lock, pytest.raises(ReentrantCall):
        call(book)
    assert book.bids() == [(9, 1), (8, 2)]


def test_close_on_a_thread_within_a_locked_section_returns_at_once_and_wakes_who_waits() -> None:
    book = synced()
    book.apply(message("update", gap="sequence"))
    wait = Call(book.wait_synced, 10)
    until(lambda: kept_of(book).waiting)
    with kept_of(book).lock:
        book.close()
        book.close()
    with pytest.raises(OrderBookOutOfSync, match="it was closed"):
        wait.result()
    assert book.is_lost
    assert not book.apply(message("snapshot", (1, 1)))


@pytest.mark.parametrize("verb", ["apply", "take_snapshot"])
def test_no_lock_is_held_while_a_hook_of_the_dialect_runs(verb: str) -> None:
    held: dict[str, bool] = {}
    dialect = ByRest() if verb == "take_snapshot" else Simple()
    book = OrderBook(with_book(dialect), "a")
    dialect.hook = lambda name: held.update({name: kept_of(book).locks.is_held})  # type: ignore[method-assign]
    if verb == "apply":
        assert book.apply(message("snapshot", (9, 1), sum=1))
        assert book.apply(message("update", (8, 1), sum=2))
        assert held == dict.fromkeys(["update", "levels", "checksum"], False)
    else:
        book.apply(change(5, 50))
        assert book.take_snapshot(answer(4, 40))
        assert book.apply(change(6, 60))
        assert held == dict.fromkeys(["snapshot", "update", "levels"], False)


class Held(Simple):
    """A dialect that stops in one hook until the test continues it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.go, self.is_there = threading.Event(), threading.Event()
        self.go.set()

    def hook(self, name: str) -> None:
        if name == self._name and not self.go.is_set():
            self.is_there.set()
            assert self.go.wait(10)


@pytest.mark.parametrize("name", ["update", "levels", "checksum"])
@pytest.mark.parametrize("sum", [3, 77], ids=["right", "wrong"])
def test_a_read_while_a_hook_runs_sees_the_book_that_was_verified_last(name: str, sum: int) -> None:
    dialect = Held(name)
    book = synced(dialect)
    dialect.go.clear()
    apply = Call(book.apply, message("update", (10, 1), sum=sum))
    assert dialect.is_there.wait(5)
    assert book.best_bid == (9, 1)
    assert book.is_synced
    book.wait_synced(0)
    dialect.go.set()
    assert apply.result() is (sum == 3)
    if sum == 3:
        assert book.best_bid == (10, 1)
    else:
        with pytest.raises(OrderBookOutOfSync, match="checksum is 3, the venue's 77"):
            _ = book.best_bid


# --- several writers -----------------------------------------------------------------------------


def test_of_several_threads_that_feed_a_book_none_undoes_what_another_did() -> None:
    book = synced()
    pause = threading.Event()
    kept_of(book).format.hook = lambda name: pause.wait(0.0001)  # type: ignore[attr-defined]

    def feed(price: int) -> None:
        for size in range(1, 21):
            assert book.apply(message("update", (price, size), (100 + price, 1)))
            assert book.apply(message("update", (100 + price, 0)))

    calls = [Call(feed, price) for price in (5, 6, 7)]
    for call in calls:
        call.result()
    assert book.bids() == [(9, 1), (8, 2), (7, 20), (6, 20), (5, 20)]
    twin = kept_of(book).spare[1]
    assert list(twin.bids) == book.bids(), "the other copy is equal"


def test_updates_from_several_threads_are_each_applied_once_and_in_order() -> None:
    book = joined()
    waiting = list(range(6, 206))
    lock = threading.Lock()

    def feed() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                number = waiting[0]
                del waiting[0]
            book.apply(change(number, number))

    for call in [Call(feed) for _ in range(3)]:
        call.result()
    if not book.is_synced:  # the book has noticed a wrong order
        assert book.take_snapshot(answer(205, 205))
    assert (book.sequence, book.bids()) == (205, [(9, 205)])


def test_updates_that_come_while_a_snapshot_is_joined_are_in_the_book() -> None:
    dialect = ByRest()
    book = OrderBook(with_book(dialect), "a")
    book.apply(change(5, 50))
    more = [change(6, 60), change(7, 70)]

    def hook(name: str) -> None:
        if name == "levels" and more:
            book.apply(more.pop(0))

    dialect.hook = hook  # type: ignore[method-assign]
    assert book.take_snapshot(answer(4, 40))
    assert (book.sequence, book.bids()) == (7, [(9, 70)])


@pytest.mark.parametrize("what", ["close", "lost"])
def test_a_book_that_ends_while_a_message_is_read_stays_ended(what: str) -> None:
    dialect = Held("update")
    book = synced(dialect)
    dialect.go.clear()
    apply = Call(book.apply, message("update", (10, 1)))
    assert dialect.is_there.wait(5)
    if what == "close":
        book.close()
    else:
        book.apply(Message("a", "lost"))
    dialect.go.set()
    assert apply.result() is False
    assert book.is_lost
    assert not book.is_synced


# --- interrupts ----------------------------------------------------------------------------------


def is_free(book: OrderBook) -> bool:
    """Return whether another thread can take the lock."""

    def take() -> bool:
        is_taken = kept_of(book).lock.acquire(blocking=False)
        if is_taken:
            kept_of(book).lock.release()
        return is_taken

    return Call(take).result()


def interrupted(step: int, call: Callable[[], Any]) -> bool:
    point = Point(step)
    point(call)
    return point.error is not None


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("apply", "take_snapshot")])
@pytest.mark.parametrize("is_in_sync", [True, False])
def test_an_interrupt_anywhere_in_a_read_leaves_nothing_behind(name: str, is_in_sync: bool) -> None:
    book = synced()
    if not is_in_sync:
        book.apply(message("update", gap="sequence"))

    def read() -> None:
        try:
            CALLS[name](book)
        except (OrderBookOutOfSync, TimeoutError):
            pass

    step = 1
    while interrupted(step, read):
        assert is_free(book), f"step {step}"
        assert not kept_of(book).waiting, f"step {step}"
        step += 1
    assert step > 3


@pytest.mark.parametrize(
    "what", [("update", (10, 1), 3), ("update", (10, 1), 77), ("snapshot", (10, 1), 1)]
)
def test_an_interrupt_anywhere_in_apply_leaves_the_book_whole_or_out_of_sync(what: Any) -> None:
    kind, level, sum = what
    before: Levels = [(Decimal(9), Decimal(1)), (Decimal(8), Decimal(2))]
    after = [level, *before] if kind == "update" else [level]
    step, seen = 1, set()
    while True:
        book = synced()
        is_over = not interrupted(step, lambda book=book: book.apply(message(kind, level, sum=sum)))  # type: ignore[misc]
        assert is_free(book), f"step {step}"
        if book.is_synced:
            assert book.bids() in (before, after), f"step {step}"
            assert sum != 77 or book.bids() == before, f"step {step}: not verified"
            seen.add(len(book.bids()))
        assert book.apply(message("snapshot", (9, 1), (8, 2), sum=2)), f"step {step}"
        for size in (3, 4, 5):
            assert book.apply(message("update", (9, size), sum=2)), f"step {step}"
            assert book.bids() == [(9, size), (8, 2)], f"step {step}"
        if is_over:
            break
        step += 1
    assert step > 10


def test_an_interrupt_anywhere_in_apply_leaves_who_waits_neither_asleep_nor_deceived() -> None:
    step = 1
    while True:
        book = synced()
        book.apply(message("update", gap="sequence"))
        wait = Call(book.wait_synced, 10)
        until(lambda book=book: kept_of(book).waiting)  # type: ignore[misc]
        is_over = not interrupted(
            step,
            lambda book=book: book.apply(message("snapshot", (7, 1))),  # type: ignore[misc]
        )
        if book.is_synced:
            wait.result(2)
            assert book.bids() == [(7, 1)]
        else:
            book.apply(message("snapshot", (7, 1)))
            wait.result(2)
        if is_over:
            break
        step += 1
    assert step > 10


@pytest.mark.parametrize("number", [6, 8], ids=["the next", "a gap"])
def test_an_interrupt_anywhere_in_a_numbered_update_leaves_no_silent_gap(number: int) -> None:
    step = 1
    while True:
        book = joined()
        is_over = not interrupted(step, lambda book=book: book.apply(change(number, number)))  # type: ignore[misc]
        assert is_free(book), f"step {step}"
        if book.is_synced:
            assert (book.sequence, book.bids()) in ((5, [(9, 50)]), (6, [(9, 6)]))
        book.apply(change(number + 1, number + 1))
        if book.is_synced:
            assert number == 6
            assert (book.sequence, book.bids()) == (7, [(9, 7)]), f"step {step}"
        assert book.take_snapshot(answer(number + 1, 3))
        assert book.is_synced, f"step {step}"
        assert book.sequence == number + 1
        if is_over:
            break
        step += 1
    assert step > 10


def test_an_interrupt_anywhere_in_take_snapshot_leaves_the_book_joined_or_not() -> None:
    step = 1
    while True:
        book = OrderBook(with_book(ByRest()), "a")
        book.apply(change(5, 50))
        is_over = not interrupted(step, lambda book=book: book.take_snapshot(answer(4, 40)))  # type: ignore[misc]
        assert is_free(book), f"step {step}"
        if not book.is_synced:
            assert book.take_snapshot(answer(4, 40)), f"step {step}"
        assert (book.sequence, book.bids()) == (5, [(9, 50)]), f"step {step}"
        assert book.apply(change(6, 60)), f"step {step}"
        assert book.bids() == [(9, 60)], f"step {step}"
        if is_over:
            break
        step += 1
    assert step > 10


# --- reads without the lock ----------------------------------------------------------------------


def test_a_read_that_a_message_overtakes_is_done_again() -> None:
    book = synced()
    found: list[Any] = []

    def take(contents: Any) -> Any:
        found.append(list(contents.bids))
        if len(found) == 1:
            assert book.apply(message("update", (7, 1)))
        return found[-1]

    assert kept_of(book).read(take, False) == [(9, 1), (8, 2), (7, 1)]


def test_a_read_that_messages_always_overtake_takes_the_lock() -> None:
    book = synced()
    live = kept_of(book)

    def take(contents: Any) -> Any:
        if not live.locks.is_held:
            assert book.apply(message("update", (7, len(contents.bids) + 5)))
        return list(contents.bids)

    assert live.read(take, False) == [(9, 1), (8, 2), (7, 8)]


def test_levels_that_change_while_they_are_read_are_read_again() -> None:
    tries = iter([IndexError("changed"), KeyError("changed"), RuntimeError("changed")])

    def take(contents: Any) -> Any:
        for error in tries:
            raise error
        return contents.bids.best

    assert kept_of(synced()).read(take, False) == (9, 1)


def test_a_reader_never_sees_a_message_half_applied() -> None:
    book = synced()
    is_over = threading.Event()

    def read() -> set[Decimal]:
        wrong = set()
        while not is_over.is_set():
            (_, first), (_, second) = book.bids(2, stale_ok=True)
            if first != second:
                wrong.add(first)
        return wrong

    book.apply(message("update", (9, 1), (8, 1)))
    reader = Call(read)
    for size in range(2, 2000):
        assert kept_of(book).apply_run([message("update", (9, size), (8, size))]) == (1, True)
    is_over.set()
    assert reader.result() == set()


# --- by the batch --------------------------------------------------------------------------------


def run_of(book: OrderBook, messages: Sequence[Message], at_once: float = 60.0) -> tuple[int, bool]:
    """Apply messages together, as many as are applied within ``at_once`` seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "AT_ONCE", at_once)
        handled: tuple[int, bool] = kept_of(book).apply_run(messages)
    return handled


def levels_of(book: OrderBook) -> Any:
    """Return the contents of a book, of both copies."""
    twin = kept_of(book).spare[1]
    return book.sequence, book.bids(stale_ok=True), list(twin.bids)


def test_messages_applied_together_make_the_same_book_as_one_by_one() -> None:
    updates = [message("update", (price, price % 3)) for price in (9, 8, 7, 9, 6, 8, 3)]
    book, other = synced(), synced()
    assert run_of(book, updates) == (7, True)
    assert all(other.apply(update) for update in updates)
    assert levels_of(book) == levels_of(other)


def test_messages_applied_together_to_a_book_by_rest_must_follow_each_other() -> None:
    book = joined()
    assert run_of(book, [change(6, 60), change(7, 70), change(9, 90), change(10, 5)]) == (2, True)
    assert levels_of(book) == (7, [(9, 70)], [(9, 70)])


def test_one_that_does_not_fit_leaves_the_book_as_before_it_and_out_of_sync() -> None:
    book = synced()
    updates = [message("update", (7, 1)), message("update", (6, 1), sum=9), message("update")]
    assert run_of(book, updates) == (2, False)
    assert book.bids(stale_ok=True) == [(9, 1), (8, 2), (7, 1)]
    assert "checksum is 4, the venue's 9" in book.reason


@pytest.mark.parametrize(
    "other",
    [message("update", (1, 1), gap="sequence"), message("lost"), Message("b", "update")],
    ids=["gap", "lost", "other channel"],
)
def test_a_message_that_does_more_than_update_ends_the_batch(other: Message) -> None:
    book = synced()
    assert run_of(book, [message("update", (7, 1)), other]) == (1, True)
    assert run_of(book, [other]) == (0, True)
    assert book.bids() == [(9, 1), (8, 2), (7, 1)]


def test_a_snapshot_within_the_batch_replaces_the_book() -> None:
    book = synced()
    assert run_of(book, [message("update", (7, 1)), message("snapshot", (5, 1))]) == (2, True)
    assert levels_of(book) == (None, [(5, 1)], [(5, 1)])


def test_a_book_out_of_sync_takes_no_batch() -> None:
    book = OrderBook(with_book(Simple()), "a")
    assert run_of(book, [message("snapshot", (9, 1))]) == (0, False)


def test_a_batch_that_another_writer_overtakes_changes_nothing() -> None:
    form = Simple()
    book = synced(form)
    others = [message("update", (1, 1))]

    def hook(name: str) -> None:
        if others:
            assert book.apply(others.pop())

    form.hook = hook  # type: ignore[method-assign]
    assert run_of(book, [message("update", (7, 1))]) == (0, False)
    assert book.bids() == [(9, 1), (8, 2), (1, 1)]


def test_readers_see_messages_that_take_long_one_by_one() -> None:
    form = Simple()
    book = synced(form)
    pause = threading.Event()
    form.hook = lambda name: pause.wait(0.002)  # type: ignore[method-assign]
    updates = [message("update", (7, 1)), message("update", (6, 1))]
    assert run_of(book, updates, at_once=0.001) == (1, True)
    assert book.bids() == [(9, 1), (8, 2), (7, 1)]


# --- bugs of dialects ----------------------------------------------------------------------------


def test_levels_of_text_end_the_book_and_another_snapshot_does_not_help() -> None:
    class Text(Simple):
        def update(self, message: Message) -> BookUpdate | None:
            return BookUpdate(True, [("9", "1")], [])  # type: ignore[list-item]

    book = OrderBook(with_book(Text()), "a")
    assert not book.apply(message("snapshot"))
    with pytest.raises(OrderBookOutOfSync, match="a bug in its dialect: a level is"):
        book.wait_synced(10)


def test_a_wrong_snapshot_by_rest_leaves_a_book_in_sync_as_it_is() -> None:
    book = joined()
    assert book.take_snapshot(answer(9, -1)), "the snapshot is not needed, and is not examined"
    assert book.bids() == [(9, 50)]
    fresh = OrderBook(with_book(ByRest()), "a")
    with pytest.raises(BookError, match="size"):
        fresh.take_snapshot(answer(9, -1))
    assert not fresh.is_synced


class Mute(ValueError):
    """An error of a user's dialect that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def once(levels: Levels) -> Any:
    """Return levels each of which can be read only once."""
    return [iter(level) for level in levels]


class Wrong(Simple):
    """Its updates of these types are wrong."""

    def update(self, message: Message) -> BookUpdate | None:
        if message.type == "mute":
            raise Mute
        if message.type == "once":
            return BookUpdate(False, once([(Decimal(7), Decimal(1))]), [])
        return super().update(message)


FEEDS: dict[str, Callable[[OrderBook, Message], object]] = {
    "alone": lambda book, wrong: book.apply(wrong),
    "in a batch": lambda book, wrong: run_of(book, [message("update", (8, 3)), wrong]),
}


@pytest.mark.parametrize("feed", FEEDS)
def test_an_error_without_a_text_puts_a_book_out_of_sync(feed: str) -> None:
    book = synced(Wrong())
    FEEDS[feed](book, message("mute"))
    assert book.reason == "a message does not fit it: Mute"


@pytest.mark.parametrize("feed", FEEDS)
def test_levels_that_can_be_read_only_once_end_the_book(feed: str) -> None:
    book = synced(Wrong())
    FEEDS[feed](book, message("once"))
    assert book.reason.startswith("a bug in its dialect: a level is a price and a size")


@pytest.mark.parametrize("wrong", [Simple, "book"])
def test_a_dialect_whose_book_is_no_object_of_a_format_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be an object of a class derived from"):
        OrderBook(with_book(wrong), "a")


# --- events --------------------------------------------------------------------------------------


class Steady:
    """The source of a client's book in which nothing happens; it keeps what is reported."""

    is_current = False

    def __init__(self) -> None:
        self.reported: list[str] = []
        self.go, self.is_there = threading.Event(), threading.Event()

    def changed(self, why: str) -> None:
        if why:
            self.is_there.set()
            assert self.go.wait(10)
        self.reported.append("out of sync" if why else "refreshed")

    def origin(self, connection_id: int) -> int:
        return connection_id

    def trouble(self, connection_id: int) -> str | None:
        return None

    def doubt(self) -> str | None:
        return None

    def newest(self) -> Message | None:
        return None

    def now(self) -> float:
        return time.monotonic()

    def lateness(self) -> float:
        return 0.0

    def report(self, error: BaseException) -> None: ...

    def check(self) -> None: ...


def test_threads_report_the_changes_of_a_book_in_their_order() -> None:
    source = Steady()
    book = LiveBook(with_book(Simple()), "a", True, {}, source)
    book.apply(message("snapshot", (9, 1)))
    slow = Call(book.apply, message("update", gap="sequence"))
    assert source.is_there.wait(10)
    book.apply(message("snapshot", (9, 2)))
    source.go.set()
    slow.result()
    assert source.reported == ["out of sync", "refreshed"]


def test_an_interrupt_anywhere_in_apply_does_not_end_the_reports() -> None:
    def is_interrupted(step: int) -> bool:
        source = Steady()
        source.go.set()
        book = LiveBook(with_book(Simple()), "a", True, {}, source)
        book.apply(message("snapshot", (9, 1)))
        was_interrupted = interrupted(step, lambda: book.apply(message("update", gap="sequence")))
        book.apply(message("snapshot", (9, 2)))
        book.apply(message("update", gap="sequence"))
        assert source.reported[-1:] == ["out of sync"], f"at step {step}"
        return was_interrupted

    assert is_interrupted(1)
    assert not all(is_interrupted(step) for step in range(2, 2000))
