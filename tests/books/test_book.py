"""Order books: sides against a plain model, and snapshots joined to a stream in every order."""

from __future__ import annotations

import itertools
from decimal import (
    ROUND_DOWN,
    ROUND_UP,
    Context,
    Decimal,
    FloatOperation,
    Inexact,
    Rounded,
    Subnormal,
    localcontext,
)
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.books.book import Book, BookError, DialectBug, Level, Side
from wsclient.books.joiner import Joiner
from wsclient.dialect.books import BookFormat, BookUpdate, Snapshot
from wsclient.messages import LinkedMessage, Message


def levels(*pairs: tuple[Any, Any]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(price), Decimal(size)) for price, size in pairs]


def snapshot(bids: Any = (), asks: Any = (), checksum: int | None = None) -> BookUpdate:
    return BookUpdate(True, levels(*bids), levels(*asks), checksum)


def update(bids: Any = (), asks: Any = (), checksum: int | None = None) -> BookUpdate:
    return BookUpdate(False, levels(*bids), levels(*asks), checksum)


# --- sides ---------------------------------------------------------------------------------------

CHANGES = st.lists(
    st.lists(st.tuples(st.integers(-5, 20), st.integers(0, 3)), max_size=6), max_size=12
)


@pytest.mark.parametrize("is_bids", [True, False], ids=["bids", "asks"])
@given(changes=CHANGES, depth=st.integers(1, 8))
def test_a_side_matches_a_plain_dict_that_is_sorted(
    is_bids: bool, changes: list[list[tuple[int, int]]], depth: int
) -> None:
    side, model = Side(is_bids=is_bids), dict[Decimal, Decimal]()
    for change in changes:
        side.apply(levels(*change))
        side.truncate(depth)
        for price, size in levels(*change):
            model[price] = size
            if not size:
                del model[price]
        model = dict(sorted(model.items(), reverse=is_bids)[:depth])
        assert list(side) == list(model.items())
        assert len(side) == len(model)
        assert side.best == next(iter(model.items()), None)
        assert side.best_price == next(iter(model), None)


def test_the_best_level_has_names() -> None:
    side = Side(is_bids=True)
    side.apply(levels((1, 2), (3, 4)))
    assert side.best == Level(price=Decimal(3), size=Decimal(4))


def test_the_digits_of_the_last_update_are_kept() -> None:
    side = Side(is_bids=True)
    side.apply(levels(("1.0", "2.50"), ("1.00", "2.500")))
    assert [tuple(map(str, level)) for level in side] == [("1.00", "2.500")]


@pytest.mark.parametrize("size", ["-1", "-0.5", "NaN", "sNaN", "Infinity", "-Infinity"])
def test_an_invalid_size_is_refused(size: str) -> None:
    with pytest.raises(BookError, match="size"):
        Side(is_bids=True).apply(levels((1, size)))


@pytest.mark.parametrize("level", [("9", Decimal(0)), (Decimal(9), "1"), (9.0, 1.0), (9, 1)])
def test_a_level_without_decimals_is_a_bug_of_the_dialect(level: Any) -> None:
    with pytest.raises(DialectBug, match="Decimals, not"):
        Side(is_bids=True).apply([level])


@pytest.mark.parametrize("price", ["NaN", "sNaN", "Infinity"])
def test_an_invalid_price_is_refused(price: str) -> None:
    with pytest.raises(BookError, match="price"):
        Side(is_bids=True).apply(levels((price, 1)))


# --- books ---------------------------------------------------------------------------------------


def test_a_snapshot_replaces_and_an_update_changes() -> None:
    book = Book()
    book.apply(snapshot([(9, 1), (8, 1)], [(11, 1)]))
    book.apply(update([(9, 0), (7, 2), (5, 0)], [(11, 5)]))
    assert list(book.bids) == levels((8, 1), (7, 2))
    assert list(book.asks) == levels((11, 5))
    book.apply(snapshot([(3, 1)], []))
    assert (list(book.bids), list(book.asks)) == (levels((3, 1)), [])


def test_a_book_may_begin_with_updates() -> None:
    book = Book(depth=1)
    book.apply(update([(8, 1), (9, 1)], [(12, 1), (11, 1)]))
    assert (list(book.bids), list(book.asks)) == (levels((9, 1)), levels((11, 1)))


def test_mid_and_spread_are_exact_and_need_both_sides() -> None:
    book = Book()
    assert (book.mid, book.spread) == (None, None)
    book.apply(snapshot([("0.1", 1)], [("0.3", 1)]))
    assert (book.mid, book.spread) == (Decimal("0.2"), Decimal("0.2"))
    book.apply(update([("0.1", 0)]))
    assert (book.mid, book.spread) == (None, None)


CONTEXTS = {
    "8 digits": Context(prec=8),
    "1 digit, down": Context(prec=1, rounding=ROUND_DOWN),
    "up": Context(prec=3, rounding=ROUND_UP),
    "traps": Context(prec=2, traps=[Inexact, Rounded, FloatOperation, Subnormal]),
    "small numbers only": Context(Emax=2, Emin=-2),
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_the_programs_decimal_context_changes_nothing(context: Context) -> None:
    book = Book()
    bid, ask = levels(("96123.45678", "1.000000001"), ("96123.45679", "2"))
    with localcontext(context):
        book.apply(BookUpdate(True, [bid], [ask]))
        mid, spread = book.mid, book.spread
        with pytest.raises(BookError, match="crossed"):
            book.apply(BookUpdate(False, [(ask[0], bid[1])], []))
    assert (mid, spread) == (Decimal("96123.456785"), Decimal("0.00001"))
    assert [str(n) for n in next(iter(book.asks))] == ["96123.45679", "2"]


def test_a_copy_is_another_book_with_the_same_levels() -> None:
    book = Book(depth=1)
    book.apply(snapshot([(9, 1)], [(11, 1)]))
    twin = book.copy()
    twin.apply(update([(10, 1)], [(11, 0)]))
    assert (list(book.bids), list(book.asks)) == (levels((9, 1)), levels((11, 1)))
    assert (list(twin.bids), list(twin.asks)) == (levels((10, 1)), [])


def test_levels_beyond_the_depth_are_dropped_after_the_whole_message() -> None:
    book = Book(depth=2)
    book.apply(snapshot([(9, 1), (8, 1)], [(11, 1), (12, 1)]))
    book.apply(update([(10, 1), (9, 0)], [(10.5, 1), (13, 1)]))
    assert list(book.bids) == levels((10, 1), (8, 1))
    assert list(book.asks) == levels((10.5, 1), (11, 1))


@pytest.mark.parametrize("ask", [9, 10], ids=["crossed", "locked"])
def test_a_crossed_book_is_refused_and_one_crossed_within_a_message_is_not(ask: int) -> None:
    book = Book()
    book.apply(snapshot([(10, 1)], [(11, 1)]))
    book.apply(update([(11, 1), (11, 0)], []))
    with pytest.raises(BookError, match="crossed"):
        book.apply(update([], [(ask, 1)]))


class Counting(BookFormat):
    """Order books whose checksum is the number of levels."""

    def checksum(self, bids: Any, asks: Any) -> int | None:
        return len([*bids, *asks]) or None


def test_a_checksum_is_verified_after_truncation() -> None:
    book = Book(depth=1, format=Counting())
    book.apply(snapshot([(9, 1), (8, 1)], [(11, 1)], 2))
    book.apply(update([(9, 2)], [], None))
    with pytest.raises(BookError, match="checksum is 2, the venue's 3"):
        book.apply(update([], [], 3))
    Book(depth=1).apply(snapshot([(9, 1)], [], 77))
    Book(format=BookFormat()).apply(snapshot([(9, 1)], [], 77))


# --- a snapshot and a stream ---------------------------------------------------------------------


def change(first: int, last: int | None = None) -> LinkedMessage:
    """Return an update for the numbers ``first`` to ``last``."""
    return LinkedMessage("a", sequence=last or first, follows=first - 1)


def at(sequence: int, *, has_last: bool = True) -> Snapshot:
    return Snapshot(sequence, (), (), has_last)


def joined(sequence: int, *, has_last: bool = True) -> Joiner:
    """Return a joiner that got a snapshot before any update."""
    joiner, snapshot = Joiner(), at(sequence, has_last=has_last)
    assert joiner.join(snapshot) == []
    joiner.joined(snapshot, None)
    return joiner


def add(joiner: Joiner, message: Message) -> bool:
    is_next = joiner.add(message)
    if is_next:
        joiner.took(message)
    return is_next


#: A valid stream: the state of a book is the last number in it.
STREAM = [change(1, 3), change(4), change(5, 6), change(7), change(8, 10)]
#: A snapshot may be taken within the range of an update. The numbers do not show what it then
#: contains, and sizes are absolute.
SNAPSHOTS = range(11)


class Reader:
    """Applies updates as a book does, and checks that no number is missing."""

    def __init__(self, limit: int = 100) -> None:
        self.joiner = Joiner(limit)
        self.at: int | None = None

    def change(self, message: LinkedMessage) -> None:
        if self.joiner.add(message):
            self._apply(message)
            self.joiner.took(message)
        elif self.joiner.wants_snapshot:
            self.at = None

    def snapshot(self, taken_at: int) -> None:
        if not self.joiner.wants_snapshot:
            return
        changes = self.joiner.join(at(taken_at))
        if changes is None:
            assert self.joiner.wants_snapshot
            return
        self.at = taken_at
        for message in changes:
            self._apply(message)  # type: ignore[arg-type]
        self.joiner.joined(at(taken_at), changes[-1] if changes else None)

    def _apply(self, message: LinkedMessage) -> None:
        assert self.at is not None
        assert message.follows is not None
        assert message.sequence is not None
        assert message.follows <= self.at < message.sequence
        self.at = message.sequence


@pytest.mark.parametrize("begins", range(len(STREAM)))
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_any_snapshot_at_any_place_of_any_stream_with_any_losses(begins: int, limit: int) -> None:
    """Any subset is lost, any place and age of a snapshot: a book is complete or there is none."""
    stream = STREAM[begins:]
    joined = 0
    for kept in itertools.product([True, False], repeat=len(stream)):
        for place, taken_at in itertools.product(range(len(stream) + 1), SNAPSHOTS):
            reader = Reader(limit)
            for i, message in enumerate(stream):
                if i == place:
                    reader.snapshot(taken_at)
                if kept[i]:
                    reader.change(message)
            if place == len(stream):
                reader.snapshot(taken_at)
            if not reader.joiner.wants_snapshot:
                joined += 1
                # All updates after the snapshot are in the book, up to the last one received.
                came = [m for m, is_kept in zip(stream, kept, strict=True) if is_kept]
                last = max([taken_at, *(m.sequence or 0 for m in came)])
                assert reader.at == last
                needed = [m for m in STREAM if taken_at < (m.sequence or 0) <= last]
                assert all(m in came for m in needed)
            else:
                assert reader.at is None
    assert joined > 10


@pytest.mark.parametrize("place", range(len(STREAM) + 1))
@pytest.mark.parametrize("taken_at", SNAPSHOTS)
def test_a_complete_stream_joins_each_snapshot_that_is_not_too_old(
    place: int, taken_at: int
) -> None:
    reader = Reader()
    for message in STREAM[:place]:
        reader.change(message)
    reader.snapshot(taken_at)
    for message in STREAM[place:]:
        reader.change(message)
    assert not reader.joiner.wants_snapshot
    assert reader.at == 10


def test_only_a_snapshot_that_reaches_the_waiting_updates_is_accepted() -> None:
    joiner = Joiner()
    second, third = change(5), change(6)
    assert not joiner.add(second)
    assert not joiner.add(third)
    assert joiner.join(at(3)) is None
    assert joiner.wants_snapshot
    assert joiner.join(at(4)) == [second, third]
    assert joiner.wants_snapshot, "until they are applied"
    joiner.joined(at(4), third)
    assert not joiner.wants_snapshot


def test_updates_that_arrive_while_others_are_applied_are_joined() -> None:
    joiner = Joiner()
    second, third = change(5), change(6)
    joiner.add(second)
    assert joiner.join(at(4)) == [second]
    joiner.add(third)
    assert joiner.join(at(4), second) == [third]
    assert joiner.join(at(4), third) == []
    joiner.add(change(8))  # a gap, after which only this one waits
    assert joiner.join(at(4), third) is None


def test_duplicate_and_late_updates_are_dropped_before_and_after_the_snapshot() -> None:
    joiner = Joiner()
    for message in (change(5), change(5), change(4), change(6)):
        assert not joiner.add(message)
    changes = joiner.join(at(4))
    assert changes is not None
    assert [m.sequence for m in changes] == [5, 6]
    joiner.joined(at(4), changes[-1])
    assert [add(joiner, change(n)) for n in (6, 5, 7, 7)] == [False, False, True, False]
    assert not joiner.wants_snapshot


def test_a_gap_after_the_join_needs_another_snapshot_and_keeps_later_updates() -> None:
    joiner = joined(4)
    after = change(6)
    assert not joiner.add(after)
    assert joiner.wants_snapshot
    assert joiner.join(at(4)) is None
    assert joiner.join(at(5)) == [after]


def test_the_oldest_waiting_updates_are_dropped_beyond_the_limit() -> None:
    joiner = Joiner(limit=3)
    for n in range(1, 6):
        joiner.add(change(n))
    assert joiner.join(at(1)) is None
    changes = joiner.join(at(2))
    assert changes is not None
    assert [m.sequence for m in changes] == [3, 4, 5]
    joiner.joined(at(2), changes[-1])
    joiner.restart([change(n) for n in range(1, 6)])
    assert [m.sequence for m in joiner.waiting] == [3, 4, 5]


def test_a_restart_forgets_waiting_updates() -> None:
    joiner = Joiner()
    joiner.add(change(5))
    joiner.restart()
    assert joiner.join(at(1)) == []
    joiner.joined(at(1), None)
    joiner.restart()
    assert joiner.wants_snapshot
    assert not joiner.add(change(2))


def test_plain_numbers_are_joined_and_an_update_without_one_is_refused() -> None:
    joiner = joined(4)
    assert add(joiner, Message("a", sequence=5))
    with pytest.raises(BookError, match="without a sequence number"):
        joiner.add(Message("a"))


def test_a_number_may_fall_if_the_update_names_what_it_follows() -> None:
    """The channel accepts it: the update must not be dropped without a gap."""
    joiner = joined(4)
    assert add(joiner, LinkedMessage("a", sequence=2, follows=4, is_counted=False))
    assert add(joiner, LinkedMessage("a", sequence=9, follows=2, is_counted=False))
    assert not add(joiner, LinkedMessage("a", sequence=7, follows=2, is_counted=False))
    assert not joiner.wants_snapshot


def test_an_update_counts_only_once_it_has_been_applied() -> None:
    joiner = joined(4)
    assert joiner.add(change(5))
    assert joiner.add(change(5)), "an interrupt came between"
    joiner.took(change(5))
    assert not joiner.add(change(5))


# The venue's futures rule: the update whose last number is the snapshot's own is applied, once.


def pointer(follows: int, sequence: int) -> LinkedMessage:
    return LinkedMessage("a", sequence=sequence, follows=follows, is_counted=False)


@pytest.mark.parametrize("has_last", [True, False])
def test_the_update_with_the_snapshots_number_is_applied_if_the_venue_requires_it(
    has_last: bool,
) -> None:
    joiner = Joiner()
    older, same, newer = pointer(1, 3), pointer(3, 7), pointer(7, 9)
    for message in (older, same, newer):
        joiner.add(message)
    expected = [newer] if has_last else [same, newer]
    assert joiner.join(at(7, has_last=has_last)) == expected


@pytest.mark.parametrize("has_last", [True, False])
def test_that_update_is_applied_once_if_it_arrives_after_the_snapshot(has_last: bool) -> None:
    joiner = joined(7, has_last=has_last)
    assert [add(joiner, pointer(*n)) for n in ((1, 3), (3, 7), (3, 7), (7, 9), (3, 7))] == [
        False,
        not has_last,
        False,
        True,
        False,
    ]
    assert not joiner.wants_snapshot


def test_the_first_update_may_begin_before_the_snapshot_and_end_after_it() -> None:
    joiner = joined(7, has_last=False)
    assert add(joiner, pointer(3, 9))
    assert not add(joiner, pointer(3, 7)), "the snapshot's own number has been applied"
