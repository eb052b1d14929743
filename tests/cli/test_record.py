"""``wsclient record`` against a fake venue, and what the other commands make of its files."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from wsclient.testing import FakeVenue, messages_of, read_recording


def record(command: Any, venue: FakeVenue, folder: Path, *more: str, **how: Any) -> Any:
    run = command("record", venue.url, "a", "-o", str(folder), *more, **how)
    venue.wait_for(lambda v: v.subscribers("a"), 10)
    return run


def sequences(folder: Path) -> list[int | None]:
    return [message.sequence for message in messages_of(read_recording(folder), "generic")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_file(
    command: Any, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with FakeVenue() as venue:
        run = record(command, venue, tmp_path / "new")
        run.wait_for("open: connection 1")
        for price in range(100):
            venue.publish("a", price=price)
        venue.live[0].rst()
        venue.wait_for(lambda v: v.subscribers("a"), 10)
        venue.publish("a", price=100)
        run.wait_for("open: connection 2")
        run.signal(number)
    assert run.end() == code
    (path,) = (tmp_path / "new").iterdir()
    assert path.suffix == ".mcap"
    assert str(path) in run.out
    assert len(sequences(tmp_path / "new")) > 0
    assert "Traceback" not in run.err


def test_the_duration_ends_it(command: Any, tmp_path: Path) -> None:
    with FakeVenue() as venue:
        run = record(command, venue, tmp_path, "--duration", "0.5")
        for price in range(3):
            venue.publish("a", price=price)
        assert run.end() == 0
    assert run.out.startswith("3 messages, 0 gaps, ")
    assert "discarded" not in run.err
    assert sequences(tmp_path) == [1, 2, 3]


def test_a_terminal_has_a_line_of_counters(tmp_path: Path) -> None:
    from wsclient.cli import record as module
    from wsclient.telemetry.stats import RecorderStats

    class Client:
        def stats(self) -> Any:
            return type("Stats", (), {"gaps": 2})

    stats = RecorderStats(5, 1234, 9999, 555, 0, 7, 2, 0, str(tmp_path), "", False)
    line = module.counters(Client(), stats)  # type: ignore[arg-type]
    assert line == "1,234 messages, 2 gaps, 7 LOST, 9,999 bytes as 555 in 2 files"


def test_a_refused_channel_ends_it(command: Any, tmp_path: Path) -> None:
    with FakeVenue() as venue:
        venue.refuse_channel("a", "no such thing")
        run = command("record", venue.url, "a", "-o", str(tmp_path))
        assert run.end() == 1
    assert "no such thing" in run.err


def test_a_folder_that_cannot_be_made_is_a_failure(command: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with FakeVenue() as venue:
        run = command("record", venue.url, "a", "-o", str(tmp_path / "file"))
        assert run.end() == 1
    assert str(tmp_path / "file") in run.err
    assert "Traceback" not in run.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["ws://127.0.0.1:1/", "-o", "x"], "needs a channel or --book"),
        (["ws://127.0.0.1:1/", "a"], "-o/--output"),
        (["ws://127.0.0.1:1/", "a", "-o", "x", "--file-size", "5T"], "is not a size"),
    ],
)
def test_usage_errors(command: Any, args: list[str], said: str) -> None:
    run = command("record", *args)
    assert run.end() == 2
    assert said in run.err
