"""Recordings made of the lines of other recorders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wsclient
from support.recordings import RECORDED
from support.streams import STREAMS, Stream
from wsclient.errors import ConfigurationError
from wsclient.messages import Gap, Message
from wsclient.recording.check import check
from wsclient.recording.convert import convert
from wsclient.recording.folder import recordings_of
from wsclient.recording.records import Answer, End, Frame, Happened, SentFrame
from wsclient.recording.restoring import Restorer
from wsclient.testing import read_recording

needs_recordings = pytest.mark.skipif(
    not RECORDED.exists(), reason="the recorded traffic is not beside the project"
)


def frame(channel: str, sequence: int) -> str:
    return json.dumps({"channel": channel, "type": "market_data", "sequence": sequence})


def lines(folder: Path, *texts: str, name: str = "lines") -> Path:
    path = folder / name
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def messages_of(folder: Path) -> list[Message]:
    (recording,), bad = recordings_of(folder)
    assert bad == []
    return [message for _, messages in Restorer(recording).read() for message in messages]


def test_lines_of_cryptofeed_become_frames_events_and_gaps(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        "wss://v/ws <-> 100.5",
        'wss://v/ws <- 101: {"op":"subscribe"}',
        f"102.000000001: {frame('a', 1)}",
        f"103: {frame('a', 4)}",
        "wss://v/ws <-> 110",
        f"111: {frame('a', 9)}",
    )
    done = convert([path], tmp_path / "out", "generic")
    assert (done.frames, done.messages, done.gaps, done.invalid, done.skipped) == (3, 3, 2, 0, 0)
    messages = messages_of(tmp_path / "out")
    assert [(m.received_at, m.connection_id, m.gap) for m in messages] == [
        (102_000_000_001, 1, None),
        (103 * 10**9, 1, Gap("sequence", 2, 102_000_000_001)),
        (111 * 10**9, 2, Gap("reconnect", 4, 103 * 10**9)),
    ]
    (recording,), _ = recordings_of(tmp_path / "out")
    records = [entry.record for entry in recording.read()]
    names = [record.name for record in records if isinstance(record, Happened)]
    assert names == ["Connected", "StateChanged", "Disconnected", "Connected"]
    (sent,) = [record for record in records if isinstance(record, SentFrame)]
    assert sent.payload == b'{"op":"subscribe"}'
    assert isinstance(records[-1], End)
    assert (recording.venue, recording.name, recording.url) == ("generic", "lines", "wss://v/ws")


def test_a_frame_that_cannot_be_read_is_kept_and_marked(tmp_path: Path) -> None:
    path = lines(tmp_path, f"1: {frame('a', 1)}", "2: {oops", f"3: {frame('a', 3)}")
    done = convert([path], tmp_path / "out", "generic")
    assert (done.frames, done.invalid) == (3, 1)
    assert messages_of(tmp_path / "out")[1].gap == Gap("invalid", 1, 10**9)
    (recording,), _ = recordings_of(tmp_path / "out")
    frames = [entry.record for entry in recording.read() if isinstance(entry.record, Frame)]
    assert frames[1].raw == b"{oops"


def test_a_capture_has_the_time_of_its_head(tmp_path: Path) -> None:
    payload = frame("a", 1)
    path = lines(tmp_path, "CBCAP1 generic a 1000000000000", f"7 {len(payload)}", payload)
    convert([path], tmp_path / "out", "generic")
    assert [m.received_at for m in messages_of(tmp_path / "out")] == [1_000_000_000_000]


def test_payloads_without_times_get_times_in_their_order(tmp_path: Path) -> None:
    path = lines(tmp_path, *(frame("a", sequence) for sequence in range(1, 4)))
    convert([path], tmp_path / "out", "generic")
    times = [message.received_at for message in messages_of(tmp_path / "out")]
    assert len(set(times)) == 3
    assert times == sorted(times)


def test_lines_of_tail_keep_their_gaps_and_frames(tmp_path: Path) -> None:
    raw = json.dumps(
        {"channel": "trade", "type": "update", "data": [{"symbol": "A/B"}, {"symbol": "C/D"}]}
    ).encode()
    gap = Gap("overflow", 3, 5)
    envelopes = [
        wsclient.Envelope(
            venue="kraken", channel=f"trade:{symbol}", item=item, received_at=10**18,
            connection_id=2, raw=raw, gap=gap if item else None,
        )
        for item, symbol in enumerate(["A/B", "C/D"])
    ]  # fmt: skip
    path = lines(tmp_path, *(envelope.to_json() for envelope in envelopes))
    done = convert([path], tmp_path / "out", "kraken")
    assert (done.frames, done.messages) == (1, 2)
    messages = messages_of(tmp_path / "out")
    assert [(m.channel, m.item, m.gap, m.raw) for m in messages] == [
        ("trade:A/B", 0, None, raw),
        ("trade:C/D", 1, gap, raw),
    ]


def test_files_are_merged_by_time(tmp_path: Path) -> None:
    one = lines(tmp_path, f"1: {frame('a', 1)}", f"3: {frame('a', 2)}", name="one")
    two = lines(tmp_path, f"2: {frame('b', 1)}", name="two")
    convert([one, two], tmp_path / "out", "generic", name="both")
    found = [(m.channel, m.connection_id) for m in messages_of(tmp_path / "out")]
    assert found == [("a", 1), ("b", 2), ("a", 1)]


def test_converting_twice_overwrites_nothing(tmp_path: Path) -> None:
    path = lines(tmp_path, f"1: {frame('a', 1)}")
    done = convert([path], tmp_path / "out", "generic")
    before = done.path.read_bytes()
    with pytest.raises(FileExistsError, match="exists"):
        convert([path], tmp_path / "out", "generic")
    assert done.path.read_bytes() == before
    assert list((tmp_path / "out").iterdir()) == [done.path]


def test_a_file_in_no_known_form_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    path = lines(tmp_path, "some text")
    with pytest.raises(ValueError, match=r"lines: not a line of a recording"):
        convert([path], tmp_path / "out", "generic")
    assert not (tmp_path / "out").exists()


def test_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        convert([], tmp_path, "generic")


def test_an_answer_to_no_book_is_counted(tmp_path: Path) -> None:
    path = lines(tmp_path, f"1: {frame('a', 1)}", "https://v/x?symbol=A -> 2: {}")
    assert convert([path], tmp_path / "out", "generic").skipped == 1


@needs_recordings
@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.file)
def test_recorded_traffic_becomes_a_recording_that_misses_nothing(
    stream: Stream, tmp_path: Path
) -> None:
    files = [RECORDED / name for name in (stream.file, stream.rest) if name is not None]
    done = convert(files, tmp_path, stream.dialect)
    assert (done.gaps, done.invalid, done.skipped) == (0, 0, 0)
    (recording,), _ = recordings_of(tmp_path)
    records = [entry.record for entry in recording.read()]
    frames = [record.raw for record in records if isinstance(record, Frame)]
    received = [i.payload for i in read_recording(files[0]) if i.direction == "received"]
    assert frames == received
    report = check(tmp_path, dialect=stream.dialect)
    assert report.is_whole
    books = [c.book for c in report.recordings[0].channels if c.book is not None]
    assert len(books) == stream.books[0]
    assert all(book.verified for book in books)
    assert any(isinstance(record, Answer) for record in records) is (stream.rest is not None)
