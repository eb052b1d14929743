"""What the writer puts into a file, and what it keeps when the file fails."""

from __future__ import annotations

import errno
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.examples import examples
from support.filebytes import METADATA, read, read_by_library
from wsclient.recording.container import Stored
from wsclient.recording.filewriter import FileWriter

TIMES = st.integers(0, (1 << 64) - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ENTRIES = st.tuples(
    st.sampled_from(["channel", "frames", "client"]), NAMES, TIMES, st.binary(max_size=200)
)


@given(st.lists(ENTRIES, max_size=60), st.integers(1, 2000), st.booleans())
@examples(200)
def test_what_is_written_is_read_with_exact_times(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[tuple[str, str, int, bytes]],
    chunk_size: int,
    is_finished: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.mcap"
    with path.open("wb") as file:
        writer = FileWriter(file, METADATA, chunk_size=chunk_size)
        for kind, topic, at, data in entries:
            if writer.add(kind, topic, at, data):  # type: ignore[arg-type]
                writer.end_chunk()
        if is_finished:
            writer.finish()
        else:
            writer.end_chunk()
    records, reader = read(path)
    assert [(r.kind, r.topic, r.publish_time, r.data) for r in records] == entries
    log_times = [record.log_time for record in records]
    assert log_times == sorted(log_times)
    highest = 0
    for entry, log_time in zip(entries, log_times, strict=True):
        highest = max(highest, entry[2])
        assert log_time == highest
    assert (reader.damage, reader.is_finished) == ([], is_finished)
    assert reader.topics == list(dict.fromkeys((kind, topic) for kind, topic, _, _ in entries))
    if is_finished:
        assert read_by_library(path) == [record[1:] for record in records]


def test_a_time_before_the_epoch_is_the_epoch(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = FileWriter(file, METADATA)
        writer.add("client", "client", -5, b"x")
        writer.finish()
    assert read(path)[0] == [Stored("client", "client", 0, 0, b"x")]


def test_nothing_is_in_the_file_before_the_chunk_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = FileWriter(file, METADATA, chunk_size=100)
        assert not writer.add("client", "client", 1, b"x")
        assert (writer.added, writer.written, read(path)[0]) == (1, 0, [])
        assert writer.add("client", "client", 1, b"x" * 100)
        assert writer.buffered >= 100
        writer.end_chunk()
        assert (writer.written, writer.buffered, len(read(path)[0])) == (2, 0, 2)
        assert writer.size == path.stat().st_size


def test_a_file_has_room_for_60_000_topics(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = FileWriter(file, METADATA)
        for number in range(60_000):
            assert writer.has_room
            writer.add("channel", f"c{number}", number, b"")
        assert not writer.has_room
        assert writer.has_topic("channel", "c59999")
        writer.add("channel", "c7", 60_000, b"again")
        writer.finish()
    records, reader = read(path)
    assert (len(records), records[-1].topic, reader.damage) == (60_001, "c7", [])
    assert len(reader.topics) == 60_000


class Full(BytesIO):
    """A file on a disk with little room."""

    room = 0

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        count = min(len(view), self.room)
        if not count:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= count
        return super().write(view[:count])


def test_a_chunk_that_could_not_be_written_is_kept_for_another_attempt(tmp_path: Path) -> None:
    file = Full()
    file.room = 1000
    writer = FileWriter(file, METADATA)
    for number in range(100):
        writer.add("channel", f"c{number}", number, bytes([number]) * 10)
    with pytest.raises(OSError, match="No space"):
        writer.end_chunk()
    size = writer.size
    assert (writer.written, size < 1000, len(file.getvalue())) == (0, True, 1000)
    writer.rewind()
    assert len(file.getvalue()) == size
    file.room = 1 << 20
    writer.add("client", "client", 200, b"later")
    writer.finish()
    path = tmp_path / "a.mcap"
    path.write_bytes(file.getvalue())
    records, reader = read(path)
    assert [record.data for record in records] == [
        *(bytes([number]) * 10 for number in range(100)),
        b"later",
    ]
    assert reader.damage == []
    assert len(read_by_library(path)) == 101


def test_a_torn_end_of_a_failed_write_costs_nothing_but_itself(tmp_path: Path) -> None:
    file = Full()
    file.room = 1 << 20
    writer = FileWriter(file, METADATA)
    writer.add("client", "client", 1, b"kept")
    writer.end_chunk()
    writer.add("client", "client", 2, b"torn" * 100)
    file.room = 30
    with pytest.raises(OSError, match="No space"):
        writer.end_chunk()
    path = tmp_path / "a.mcap"
    path.write_bytes(file.getvalue())
    records, reader = read(path)
    assert [record.data for record in records] == [b"kept"]
    assert [damage.position for damage in reader.damage] == [writer.size]
