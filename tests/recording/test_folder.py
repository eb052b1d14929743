"""The recordings in a folder, and their records."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.madefiles import MadeRecording
from wsclient.errors import ConfigurationError
from wsclient.messages import Gap
from wsclient.recording.folder import merged, recordings_of
from wsclient.recording.records import Frame, Lost, MissedPart


def test_a_session_yields_its_records_in_order_with_their_gaps(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame({"channel": "a", "type": "market_data", "sequence": 1, "price": 1})
        made.note(Lost(at=0, why="a slow disk", channels={"a": 2}))
        gap = Gap("sequence", 2, made.time)
        made.frame({"channel": "a", "type": "market_data", "sequence": 4, "price": 2}, gap=gap)
    recordings, bad = recordings_of(tmp_path)
    assert bad == []
    (recording,) = recordings
    assert (recording.venue, recording.channels) == ("generic", ["a"])
    first, lost, second = recording.read()
    assert isinstance(first.record, Frame)
    assert (first.topic, first.record.parts[0].sequence) == ("a", 1)
    assert isinstance(lost.record, Lost)
    assert lost.record.channels == {"a": 2}
    assert isinstance(second.record, Frame)
    assert second.record.parts[0].gap == MissedPart(*gap)


def test_sessions_are_merged_by_time(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, session="one") as one:
        for sequence in range(3):
            one.frame({"channel": "a", "type": "market_data", "sequence": sequence})
            one.wait(1)
    with MadeRecording(tmp_path, session="two") as two:
        two.wait(0.5)
        for sequence in range(3):
            two.frame({"channel": "b", "type": "market_data", "sequence": sequence})
            two.wait(1)
    recordings, _ = recordings_of(tmp_path / "*.mcap")
    assert [entry.topic for entry in merged(recordings)] == ["a", "b"] * 3


def test_a_folder_without_a_recording_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no recording"):
        recordings_of(tmp_path)
