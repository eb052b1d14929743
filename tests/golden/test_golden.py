"""The golden trace is unchanged, and the comparison finds changes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from golden.compare import TRACE, differences, summary
from golden.recordings import RECORDED

DIGESTS = TRACE.with_name("digests.json")


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Record the reduced trace of this package, as the script does."""
    out = tmp_path_factory.mktemp("golden") / "trace.json"
    subprocess.run([sys.executable, str(TRACE), str(out), "--reduced"], check=True, timeout=100)
    return json.loads(out.read_text())


def check(trace: Any, is_recorded: bool) -> None:
    expected = {
        scene: sections
        for scene, sections in json.loads(DIGESTS.read_text()).items()
        if scene.startswith("recorded ") is is_recorded
    }
    found = {
        scene: sections
        for scene, sections in summary(trace).items()
        if scene.startswith("recorded ") is is_recorded
    }
    different = [
        f"{scene}: {section} has {found.get(scene, {}).get(section)}, expected {then}"
        for scene, sections in expected.items()
        for section, then in sections.items()
        if found.get(scene, {}).get(section) != then
    ]
    different += [f"{scene}: is new" for scene in found.keys() - expected.keys()]
    shown = "\n".join(different)
    assert not different, (
        f"{shown}\ntests/golden/compare.py lists the differences, given the Python of an older "
        "checkout and this one. If they are intended: python tests/golden/trace.py --renew"
    )


@pytest.mark.timeout(120)
def test_each_scene_is_as_it_was(trace: Any) -> None:
    check(trace, is_recorded=False)


@pytest.mark.timeout(120)
@pytest.mark.skipif(not RECORDED.exists(), reason="needs the recordings in ../shared/recorded")
def test_each_recording_is_as_it_was(trace: Any) -> None:
    check(trace, is_recorded=True)


@pytest.mark.timeout(120)
def test_no_scene_fails(trace: Any) -> None:
    failed = [
        f"{scene}: {row}"
        for scene, sections in trace.items()
        for row in sections.get("calls", [])
        if row.startswith(("the scene failed", "the end failed", "the book does not come"))
    ]
    assert failed == []


# --- the comparison ------------------------------------------------------------------------------

OLD = {
    "scene": {
        "calls": ["#1 a update 1", "#1 a update 2 gap=sequence,1,True", "recv: ClientClosed"],
        "gaps": ["#1 GapMarked channel=a gap=sequence,1,True"],
        "sent": ['#1 {"subscribe":"a"}', "#1 close=1000"],
    },
    "another": {"calls": ["#1 b update 1"]},
}
CHANGES: dict[str, Callable[[Any], Any]] = {
    "a message is dropped": lambda new: new["scene"]["calls"].pop(0),
    "a message comes twice": lambda new: new["scene"]["calls"].insert(0, "#1 a update 1"),
    "two change places": lambda new: new["scene"]["calls"].reverse(),
    "a gap is lost": lambda new: new["scene"]["gaps"].clear(),
    "another error": lambda new: new["scene"]["calls"].__setitem__(2, "recv: WaitTimeout"),
    "an extra frame is sent": lambda new: new["scene"]["sent"].insert(1, "#1 extra"),
    "a section is not there": lambda new: new["scene"].pop("sent"),
    "a scene is not there": lambda new: new.pop("another"),
    "a scene is new": lambda new: new.update(third={"calls": []}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_reported_and_changes_the_summary(change: str) -> None:
    new = deepcopy(OLD)
    CHANGES[change](new)
    assert len(list(differences(OLD, new))) == 1
    assert summary(OLD) != summary(new)


def test_equal_traces_have_no_differences() -> None:
    assert list(differences(OLD, deepcopy(OLD))) == []


@pytest.mark.parametrize(("change", "status"), [(None, 0), ("a gap is lost", 1)])
def test_the_command_compares_files(tmp_path: Path, change: str | None, status: int) -> None:
    new = deepcopy(OLD)
    if change is not None:
        CHANGES[change](new)
    files = [tmp_path / "old.json", tmp_path / "new.json"]
    for file, content in zip(files, (OLD, new), strict=True):
        file.write_text(json.dumps(content))
    command = [sys.executable, str(TRACE.with_name("compare.py")), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == status, done.stderr
    assert ("GapMarked" in done.stdout) is (change is not None)
