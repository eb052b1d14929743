"""The commands check, export and convert."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.madefiles import BEGIN, MadeRecording
from wsclient.cli import main
from wsclient.messages import Gap


def data(channel: str, sequence: int) -> dict[str, object]:
    return {"channel": channel, "type": "market_data", "sequence": sequence}


def made(folder: Path, gap: Gap | None = None, name: str = "a") -> Path:
    with MadeRecording(folder) as recording:
        recording.frame(data(name, 1))
        recording.frame(data(name, 4), gap=gap)
    return recording.path


def failing(*args: str) -> tuple[int, str]:
    """Run a command in its own process; return its exit code and its stderr."""
    command = [sys.executable, "-m", "wsclient", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stderr


def test_check_of_a_whole_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == (
        "generic client, 1 file, 2026-01-02 03:04:05 to 03:04:05 UTC: 2 messages in 2 frames"
    )
    assert out.splitlines()[-1] == "Nothing is missing: 2 messages."
    assert err == ""


def test_check_of_a_recording_that_misses_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, Gap("sequence", 2, 1), "\x1b[2Ja")
    assert main(["check", str(tmp_path)]) == 1
    out, _ = capsys.readouterr()
    assert "\x1b" not in out
    assert "  \\x1b[2Ja: 2 missed in 1 gap (sequence)" in out.splitlines()
    assert out.splitlines()[-1] == "INCOMPLETE: 2 messages."


def test_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, Gap("reconnect", None, 1))
    assert main(["check", "--json", str(tmp_path)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["is_whole"] is False
    assert found["recordings"][0]["channels"][0]["unknown"] == 1


@pytest.mark.parametrize("command", [["check"], ["export", "-o", "out"]])
def test_a_folder_without_recordings_is_a_usage_error(command: list[str], tmp_path: Path) -> None:
    code, err = failing(*command, str(tmp_path))
    assert (code, "no recording" in err) == (2, True)


def test_export_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert out.split() == [
        *["raw", "2", "rows"],
        *f"2 messages in 1 file in {tmp_path / 'out'}".split(),
    ]
    assert err == ""
    code, err = failing("export", str(tmp_path), "-o", str(tmp_path / "out"))
    assert (code, "exists already" in err) == (1, True)


@pytest.mark.parametrize(
    ("start", "count"),
    [
        ("2026-01-02T03:04:05Z", 2),
        ("2026-01-02T04:04:05.0005+01:00", 1),
        ("1767323045.0005", 1),
        ("2026-01-03", 0),
    ],
)
def test_export_from_a_time_on(tmp_path: Path, start: str, count: int) -> None:
    assert BEGIN == 1_767_323_045 * 10**9
    made(tmp_path)
    out = tmp_path / "out"
    args = ["export", str(tmp_path), "-o", str(out), "--format", "jsonl", "--from", start]
    assert main(args) == 0
    lines = [line for path in out.rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == count


def test_a_wrong_time_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "-o", "out", "--from", "noon"]) == 2
    assert "'noon' is no time" in capsys.readouterr().err


def test_convert_then_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{n}: {json.dumps(data('a', n))}\n" for n in (1, 2, 4)]
    (tmp_path / "lines").write_text("".join(lines))
    args = ["convert", str(tmp_path / "lines"), "-o", str(tmp_path / "out"), "--dialect", "generic"]
    assert main(args) == 0
    assert "3 messages in 3 frames, 1 with a gap" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "out")]) == 1
    code, err = failing(*args)
    assert (code, "exists already" in err) == (1, True)


def test_a_long_name_is_folded_before_columns_are_left_out() -> None:
    rich = pytest.importorskip("rich.console")
    from wsclient.cli.check import HEAD
    from wsclient.cli.checkscreen import print_report

    cells = ("x" * 200, "3", "-", "-", "-", "0.0 s", "-", "3 ok", "100.00 %")
    console = rich.Console(width=80, record=True, file=io.StringIO())
    print_report([("title", [(cells, True)], [])], [], ("verdict", True), HEAD, console)
    text = console.export_text()
    assert all(name in text for name in ("messages", "missed", "book", "coverage"))
    assert text.count("x") == 200
