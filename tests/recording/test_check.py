"""What recordings miss."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.madefiles import MadeRecording
from wsclient import dialects, open_recording
from wsclient.dialects.kraken import KrakenBook
from wsclient.errors import ConfigurationError
from wsclient.messages import Gap
from wsclient.recording.check import check
from wsclient.recording.counting import ChannelCounts, ClockSteps
from wsclient.recording.records import (
    Answer,
    BookSnapshot,
    ChannelState,
    ClientState,
    Happened,
    Lost,
    MissedPart,
    Part,
)
from wsclient.recording.reports import ChannelReport, RecordingReport, Report


def data(channel: str, sequence: int) -> dict[str, object]:
    return {"channel": channel, "type": "market_data", "sequence": sequence}


def only(report: Report) -> RecordingReport:
    (recording,) = report.recordings
    return recording


def channel_of(report: Report, name: str = "a") -> ChannelReport:
    (found,) = [c for r in report.recordings for c in r.channels if c.channel == name]
    return found


def event(name: str, on: int = 1, **fields: Any) -> Happened:
    return Happened(at=0, name=name, fields=fields, connection_id=on)


def test_a_whole_recording_misses_nothing(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        for sequence in range(3):
            made.frame(data("a", sequence))
    report = check(tmp_path)
    assert report.is_whole
    assert (only(report).messages, only(report).frames, only(report).venue) == (3, 3, "generic")
    found = channel_of(report)
    assert (found.messages, found.missed, found.unknown, found.gaps) == (3, 0, 0, {})


def test_an_empty_recording_misses_nothing(tmp_path: Path) -> None:
    with MadeRecording(tmp_path):
        pass
    report = check(tmp_path)
    assert report.is_whole
    assert (only(report).messages, only(report).start, only(report).channels) == (0, None, [])


def test_no_recording_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no recording"):
        check(tmp_path)


def test_gaps_are_counted_by_their_reasons(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.frame(data("a", 4), gap=Gap("sequence", 2, 1))
        made.frame(data("a", 6), gap=Gap("sequence", 1, 1))
        made.frame(data("a", 1), gap=Gap("reconnect", None, 1))
    report = check(tmp_path)
    found = channel_of(report)
    assert (report.is_whole, found.missed, found.unknown) == (False, 3, 1)
    assert {r: (g.gaps, g.missed, g.unknown) for r, g in found.gaps.items()} == {
        "sequence": (2, 3, 0),
        "reconnect": (1, 0, 1),
    }


def test_late_messages_fill_a_gap_and_duplicates_are_none(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.frame(data("a", 4), gap=Gap("sequence", 2, 1))
        made.frame(data("a", 2), gap=Gap("late", -1, 1))
        made.frame(data("a", 3), gap=Gap("late", -1, 1))
        made.frame(data("a", 3), gap=Gap("duplicate", 0, 1))
    report = check(tmp_path)
    found = channel_of(report)
    assert (found.missed, found.late, found.duplicates) == (0, 2, 1)
    assert report.is_whole


def test_what_the_recorder_lost_is_missed(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.frame(data("b", 1))
        made.note(Lost(at=0, why="a slow disk", since=1, channels={"a": 5}, frames=5))
        made.frame(data("a", 7))
    report = check(tmp_path)
    assert (channel_of(report, "a").missed, channel_of(report, "b").missed) == (5, 0)
    (loss,) = only(report).losses
    assert (loss.why, loss.messages, loss.frames, loss.is_unknown) == ("a slow disk", 5, 5, False)


def test_lost_frames_without_messages_are_missing(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.note(Lost(at=0, why="a slow disk", frames=1))
    assert not check(tmp_path).is_whole


def test_an_unknown_loss_is_a_gap_of_all_channels(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.note(event("Subscribed", channels=["b"]))
        made.note(Lost(at=0, why="a bug", since=1, is_unknown=True))
        made.frame(data("c", 1))
    report = check(tmp_path)
    assert [channel_of(report, name).unknown for name in "abc"] == [1, 1, 1]


def part_of(sequence: int, reason: str | None, missed: int | None) -> Part:
    gap = None if reason is None else MissedPart(reason, missed)
    return Part(None, "x", sequence, gap=gap)


def test_a_late_message_whose_gap_lies_before_the_recording_fills_no_other(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 10))
        made.frame(data("a", 4), gap=Gap("late", -1, 1))
        made.frame(data("a", 13), gap=Gap("sequence", 2, 1))
        made.frame(data("a", 5), gap=Gap("late", -1, 1))
        made.frame(data("a", 12), gap=Gap("late", -1, 1))
    report = check(tmp_path)
    found = channel_of(report)
    assert (found.missed, found.late, report.is_whole) == (1, 3, False)
    assert found.gaps["sequence"].missed == 1


@settings(deadline=None)
@given(st.permutations(range(30)), st.sets(st.integers(0, 29)), st.integers(0, 15))
def test_what_is_missing_is_what_never_came(order: list[int], never: set[int], begin: int) -> None:
    """Messages come in any order, and the recording begins amid them."""
    counts, newest, missing = ChannelCounts(), -1, set[int]()
    came = [number for number in order if number not in never]
    for place, number in enumerate(came):
        between = set(range(newest + 1, number))
        reason, missed = ("sequence", len(between)) if between else (None, 0)
        if number < newest:
            reason, missed = "late", -1
        newest = max(newest, number)
        if place >= begin:
            missing |= between
            missing.discard(number)
            counts.message(part_of(number, reason, missed), 1)
    assert counts.missed == len(missing)


def made_pair(folder: Path, *, lost: bool, name: str = "client") -> None:
    with MadeRecording(folder, session="one") as one:
        one.frame(data("a", 1))
        one.frame(data("b", 1))
    with MadeRecording(folder, session="two", begin=one.time + 10**9, name=name) as two:
        if lost:
            two.note(Lost(at=0, why="no recorder ran", since=one.time, is_unknown=True))
        two.frame(data("a", 2))
        two.frame(data("c", 1))


@pytest.mark.parametrize("lost", [True, False])
def test_between_two_recordings_of_one_name_messages_are_missing(
    tmp_path: Path, lost: bool
) -> None:
    made_pair(tmp_path, lost=lost)
    report = check(tmp_path)
    one, two = report.recordings
    assert (one.is_whole, two.is_whole) == (True, False)
    assert {c.channel: c.unknown for c in two.channels} == {"a": 1, "c": 0}


def test_between_recordings_of_two_names_nothing_is_missing(tmp_path: Path) -> None:
    made_pair(tmp_path, lost=False, name="another")
    assert check(tmp_path).is_whole


def test_a_recording_that_begins_after_a_loss_is_whole_by_itself(tmp_path: Path) -> None:
    made_pair(tmp_path, lost=True)
    assert check(tmp_path / "*two*").is_whole


def test_recordings_that_overlap_miss_nothing(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, session="one") as one:
        one.frame(data("a", 1))
        one.wait(10)
        one.frame(data("a", 2))
    with MadeRecording(tmp_path, session="two") as two:
        two.wait(5)
        two.frame(data("a", 1))
    assert check(tmp_path).is_whole


def test_silences_are_measured_while_the_connection_is_open(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, step=0) as made:
        made.note(event("Connected", attempt=1))
        made.note(event("Subscribed", channels=["a"]))
        made.wait(5)
        made.frame(data("a", 1))
        made.wait(70)
        made.note(event("Disconnected", why="", reason="reset", code=1006, data_age=None))
        made.wait(500)
        made.note(event("Connected", 2, attempt=1))
        made.note(event("Subscribed", 2, channels=["a"]))
        made.wait(10)
        made.frame(data("a", 2), connection_id=2)
        made.wait(20)
        made.frame(data("a", 3), connection_id=2)
        made.wait(61)
        made.note(event("StateChanged", state="open", why=""))
    found = channel_of(check(tmp_path))
    assert (found.longest_silence, found.silences) == (70, 2)
    assert found.coverage == pytest.approx((70 + 10 + 20) / 600)
    assert channel_of(check(tmp_path, silence=65)).silences == 1


def test_a_rotated_connection_ends_no_coverage(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, step=0) as made:
        made.frame(data("a", 1), connection_id=1)
        made.wait(10)
        made.note(event("Subscribed", 2, channels=["a"]))
        made.note(event("Disconnected", 1, why="", reason="rotated", code=1000, data_age=None))
        made.wait(10)
        made.frame(data("a", 2), connection_id=2)
    found = channel_of(check(tmp_path))
    assert (found.coverage, found.longest_silence) == (1, 20)


def test_time_without_a_recorder_is_not_covered(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, step=0) as made:
        made.frame(data("a", 1))
        made.wait(30)
        made.frame(data("a", 2))
        made.wait(60)
        made.note(Lost(at=0, why="a bug", is_unknown=True))
        made.wait(10)
        made.frame(data("a", 3))
    found = channel_of(check(tmp_path))
    assert found.coverage == pytest.approx(0.4)
    assert found.longest_silence == 30


def test_steps_of_the_wall_clock_are_counted(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        for step in (0, -2 * 10**9, 30_000_000, 51_000_000):
            made.time += step
            for number in range(60):
                made.frame(data("a", number))
    report = check(tmp_path)
    assert (only(report).clock_steps, only(report).largest_step) == (2, -2)
    assert report.is_whole


def test_a_record_of_the_client_that_was_late_is_no_step_of_the_clock(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.time -= 10**9
        made.note(event("StateChanged", state="open", why=""))
        made.note(event("StateChanged", state="open", why=""))
        made.time += 10**9
        made.frame(data("a", 2))
    assert only(check(tmp_path)).clock_steps == 0


MS = 10**6


@settings(deadline=None)
@given(
    jitter=st.lists(st.integers(0, 5 * MS), min_size=200, max_size=200),
    late=st.lists(st.integers(0, 66).map(lambda n: 3 * n), max_size=10),
    drift=st.integers(-500, 500),
    step=st.sampled_from([-(10**10), -50 * MS, 0, 50 * MS, 10**9]),
    apart=st.sampled_from([MS, 100 * MS, 5_000 * MS]),
)
def test_a_step_of_the_clock_is_found_once_and_nothing_else_is_one(
    jitter: list[int], late: list[int], drift: int, step: int, apart: int
) -> None:
    steps, at, offset = ClockSteps(), 0, 10**18
    for number in range(200):
        at += apart
        offset += apart * drift // 10**6 + (step if number == 100 else 0)
        read = offset + jitter[number] + (500 * MS if number in late else 0)
        for _ in range(3):  # the frames of one read
            steps.frame(at + read, at)
    assert steps.count == (1 if step else 0)
    assert abs(steps.largest - step) < 20 * MS


def test_frames_that_are_written_twice_count_once(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        messages = made.frame(data("a", 1), is_delivered=False)
        made.messages(messages[0].raw, messages, is_repeated=True)
    assert (only(check(tmp_path)).frames, only(check(tmp_path)).messages) == (1, 1)


# Damage.


def test_a_damaged_chunk_is_reported(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, chunk_size=100) as made:
        for sequence in range(20):
            made.frame(data("a", sequence))
    content = bytearray(made.path.read_bytes())
    content[content.index(b"zstd", len(content) // 3) + 30] ^= 0xFF
    made.path.write_bytes(content)
    report = check(tmp_path)
    assert not report.is_whole
    assert [Path(found.path) for found in only(report).damage] == [made.path]
    assert 0 < only(report).messages < 20


def test_damage_is_a_gap_of_unknown_size_of_every_channel(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, chunk_size=100) as made:
        for sequence in range(20):
            made.frame(data("ab"[sequence % 2], sequence))
        made.frame(data("c", 1))
    content = bytearray(made.path.read_bytes())
    content[content.index(b"zstd", len(content) // 3) + 30] ^= 0xFF
    made.path.write_bytes(content)
    report = check(tmp_path)
    assert [channel_of(report, name).unknown for name in "abc"] == [1, 1, 1]
    with open_recording(tmp_path) as client:
        gaps = [m.channel for m in client if m.gap and m.gap[:2] == ("recorder", None)]
    assert sorted(gaps) == ["a", "b", "c"]


def test_missing_files_are_a_gap_of_unknown_size_in_both(tmp_path: Path) -> None:
    begin = None
    for number in (1, 3):
        with MadeRecording(tmp_path, number=number, **({"begin": begin} if begin else {})) as made:
            made.frame(data("a", number))
        begin = made.time
    assert channel_of(check(tmp_path)).unknown == 1
    with open_recording(tmp_path) as client:
        _, second = client
    assert second.gap is not None
    assert second.gap[:2] == ("recorder", None)


def test_a_cut_end_is_a_gap_of_unknown_size(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, chunk_size=100) as made:
        for sequence in range(20):
            made.frame(data("a", sequence))
    content = made.path.read_bytes()
    made.path.write_bytes(content[: len(content) // 2])
    assert channel_of(check(tmp_path)).unknown == 1


def test_a_file_that_a_killed_recorder_left_has_no_damage(tmp_path: Path) -> None:
    made = MadeRecording(tmp_path)
    made.frame(data("a", 1))
    path = made.leave()
    with path.open("ab") as file:
        file.write(b"\x06\xff\xff")
    report = check(tmp_path)
    assert (only(report).unfinished, only(report).damage) == ([str(path)], [])
    assert (report.is_whole, only(report).messages) == (True, 1)


def test_a_finished_file_that_was_cut_is_damaged(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, chunk_size=100) as made:
        for sequence in range(20):
            made.frame(data("a", sequence))
    content = made.path.read_bytes()
    for size in (len(content) // 2, len(content) - 3):
        made.path.write_bytes(content[:size])
        (damage,) = only(check(tmp_path)).damage
        assert damage.path == str(made.path)


def test_a_missing_file_of_a_recording_is_damage(tmp_path: Path) -> None:
    begin = None
    for number in (2, 3, 5):
        with MadeRecording(tmp_path, number=number, **({"begin": begin} if begin else {})) as made:
            made.frame(data("a", number))
        begin = made.time
    (damage,) = only(check(tmp_path)).damage
    assert "between 3 and 5" in damage.why


def test_files_that_are_no_recordings_are_damage(tmp_path: Path) -> None:
    (tmp_path / "x.mcap").write_bytes(b"something else")
    report = check(tmp_path)
    assert (report.is_whole, len(report.damage), report.recordings) == (False, 1, [])


def test_a_file_that_was_just_begun_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "x.mcap.part").touch()
    assert check(tmp_path).is_whole


# Order books.

LEVELS = (
    [{"price": 100 - i, "qty": 1} for i in range(10)],
    [{"price": 101 + i, "qty": 1} for i in range(10)],
)


def kraken_frame(kind: str, bids: Any, asks: Any, checksum: int) -> bytes:
    row = {"symbol": "A/B", "bids": bids, "asks": asks, "checksum": checksum}
    return json.dumps({"channel": "book", "type": kind, "data": [row]}).encode()


def kraken_books(path: Path, *, gap: Gap | None = None, checksum: int = 0) -> None:
    rows = [[(Decimal(r["price"]), Decimal(r["qty"])) for r in side] for side in LEVELS]
    right = KrakenBook().checksum(*rows)
    assert right is not None
    with MadeRecording(path, "kraken") as made:
        made.frame(kraken_frame("snapshot", *LEVELS, right))
        made.frame(kraken_frame("update", [], [], right + checksum), gap=gap)
        made.frame(kraken_frame("snapshot", *LEVELS, right))


def test_a_wrong_checksum_makes_a_recording_incomplete(tmp_path: Path) -> None:
    kraken_books(tmp_path, checksum=1)
    report = check(tmp_path)
    book = channel_of(report, "book:A/B").book
    assert book is not None
    assert (book.verified, book.unverified, book.faults) == (2, 1, {"checksum": 1})
    assert not report.is_whole


def test_a_book_in_sync_is_verified(tmp_path: Path) -> None:
    kraken_books(tmp_path)
    book = channel_of(check(tmp_path), "book:A/B").book
    assert book is not None
    assert (book.verified, book.unverified, book.faults) == (3, 0, {})


def test_a_recorded_gap_of_a_book_counts_once(tmp_path: Path) -> None:
    kraken_books(tmp_path, gap=Gap("invalid", 1, None))
    found = channel_of(check(tmp_path), "book:A/B")
    assert found.book is not None
    assert (found.missed, found.book.faults) == (1, {})


def text_rows(rows: Any) -> list[tuple[str, str]]:
    return [(str(row["price"]), str(row["qty"])) for row in rows]


@pytest.mark.parametrize("is_before", [False, True])
def test_a_book_is_verified_from_its_recorded_snapshot_on(tmp_path: Path, is_before: bool) -> None:
    """The book was opened before the recording began; messages before the snapshot are unknown."""
    sides = [[(Decimal(r["price"]), Decimal(r["qty"])) for r in side] for side in LEVELS]
    right = KrakenBook().checksum(*sides)
    assert right is not None
    with MadeRecording(tmp_path, "kraken") as made:
        made.note(ClientState(at=0, state="open"))
        received_at = None
        if is_before:
            received_at = made.time
            made.frame(kraken_frame("update", [], [], right))
        book = BookSnapshot(
            at=0, channel="book:A/B", bids=text_rows(LEVELS[0]), asks=text_rows(LEVELS[1]),
            origin=1, received_at=received_at,
        )  # fmt: skip
        made.note(book)
        made.frame(kraken_frame("update", [], [], right))
        made.frame(kraken_frame("update", [], [], right + 1))
        made.note(book)
    report = check(tmp_path)
    found = channel_of(report, "book:A/B").book
    assert found is not None
    assert (found.verified, found.unverified) == (1, 1 + is_before)
    assert found.faults == {"checksum": 1}


def deep_rows(count: int) -> Any:
    sides = LEVELS[0] + [{"price": 90 - i, "qty": 1} for i in range(count - 10)]
    return sides, LEVELS[1]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_book_is_as_deep_as_it_was_subscribed(tmp_path: Path, is_known: bool) -> None:
    """Ten levels vanish, and those below them are in the checksum."""
    bids, asks = deep_rows(25)
    form = KrakenBook()

    def checksum(bids: Any, asks: Any) -> int:
        rows = [[(Decimal(r["price"]), Decimal(r["qty"])) for r in side] for side in (bids, asks)]
        found = form.checksum(*rows)
        assert found is not None
        return found

    with MadeRecording(tmp_path, "kraken") as made:
        if is_known:
            state = ChannelState(name="book:A/B", is_confirmed=True, options={"depth": 25})
            made.note(ClientState(at=0, state="open", channels=[state]))
        made.frame(kraken_frame("snapshot", bids, asks, checksum(bids, asks)))
        gone = [{"price": row["price"], "qty": 0} for row in bids[:10]]
        made.frame(kraken_frame("update", gone, [], checksum(bids[10:], asks)))
    book = channel_of(check(tmp_path), "book:A/B").book
    assert book is not None
    assert (book.verified, book.faults) == (2, {})


def depth_update(first: int, last: int) -> dict[str, Any]:
    return {
        "stream": "ab@depth",
        "data": {"e": "depthUpdate", "E": 1, "s": "AB", "U": first, "u": last, "b": [], "a": []},
    }


def test_a_book_by_rest_joins_its_snapshot(tmp_path: Path) -> None:
    body = json.dumps({"lastUpdateId": 2, "bids": [["1", "1"]], "asks": [["2", "1"]]}).encode()
    with MadeRecording(tmp_path, "binance") as made:
        made.frame(depth_update(1, 2))
        made.note(Answer(at=0, channel="ab@depth", connection_id=1, body=body))
        made.frame(depth_update(3, 4))
        made.frame(depth_update(9, 9))  # not marked as a gap
    book = channel_of(check(tmp_path), "ab@depth").book
    assert book is not None
    assert (book.verified, book.faults) == (1, {"sequence": 1})


def test_without_the_dialect_everything_else_is_checked(tmp_path: Path) -> None:
    class Acme(type(dialects.find("generic"))):  # type: ignore[misc]
        name = "acme"

    with MadeRecording(tmp_path, Acme()) as made:
        made.frame(data("a", 4), gap=Gap("sequence", 2, 1))
    report = check(tmp_path)
    assert "acme" in only(report).unchecked
    assert channel_of(report).missed == 2


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    kraken_books(tmp_path, checksum=1)
    report = check(tmp_path)
    assert json.loads(msgspec.json.encode(report)) == report.to_dict()


def test_progress_goes_from_0_to_1(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        for sequence in range(5000):
            made.frame(data("a", sequence))
    seen: list[float] = []
    check(tmp_path, progress=seen.append)
    assert (seen, seen[-1], len(seen) > 3) == (sorted(seen), 1.0, True)


# A model.

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("reconnect"), st.sampled_from("abc"), st.none()),
        st.tuples(st.just("lost"), st.sampled_from("abc"), st.integers(1, 9)),
        st.tuples(st.just("restart"), st.just(""), st.none()),
        st.tuples(st.just("rotate"), st.just(""), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_it_finds_exactly_the_gaps_that_were_made(
    steps: list[tuple[str, str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("made")
    numbers = dict.fromkeys("abc", 0)
    missed, unknown, messages = (dict.fromkeys("abc", 0) for _ in range(3))
    holed: set[str] = set()
    earlier: set[str] = set()
    present: set[str] = set()
    session = file = 1
    made = MadeRecording(folder, session="session-1")
    for step, name, count in steps:
        if step in ("restart", "rotate"):
            made.finish()
            if step == "restart":
                session, file = session + 1, 0
                earlier |= present
                holed, present = set(earlier), set()
                made.wait(1)
            file += 1
            made = MadeRecording(folder, session=f"session-{session}", number=file, begin=made.time)
            if step == "restart":
                made.note(Lost(at=0, why="a restart", since=1, is_unknown=True))
            continue
        if step == "lost":
            made.note(Lost(at=0, why="a slow disk", channels={name: count}, frames=count))
            missed[name] += count
            present.add(name)
            continue
        gap = Gap("reconnect", None, 1) if step == "reconnect" else None
        if step == "data" and count:
            gap = Gap("sequence", count, 1)
        numbers[name] += 1 + (count or 0)
        made.frame(data(name, numbers[name]), gap=gap)
        messages[name] += 1
        missed[name] += count or 0
        unknown[name] += step == "reconnect"
        unknown[name] += name in holed
        holed.discard(name)
        present.add(name)
    made.finish()
    report = check(folder)
    found = [channel for recording in report.recordings for channel in recording.channels]
    for name in "abc":
        of_one = [channel for channel in found if channel.channel == name]
        assert sum(channel.messages for channel in of_one) == messages[name]
        assert sum(channel.missed for channel in of_one) == missed[name]
        assert sum(channel.unknown for channel in of_one) == unknown[name]
    is_missing = any(missed.values()) or any(unknown.values())
    assert report.is_whole is not is_missing
