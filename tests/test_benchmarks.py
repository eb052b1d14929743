"""The parts of the benchmarks that name places in the package's code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent / "benchmarks"


def test_the_accounting_can_be_turned_off_and_on() -> None:
    """Its edits match the code that they change."""
    code = "import unmeasured; switch = unmeasured.Switch(); switch.turn(False); switch.turn(True)"
    subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, check=True)


def test_the_frames_of_every_venue_can_be_measured() -> None:
    """All but the first read take the fast path, whose cost is measured."""
    code = """
import msgspec, venues
for kind, (dialect, make) in venues.KINDS.items():
    frames = [msgspec.json.encode(make(n)) for n in range(96)]
    assert venues.cost(dialect, [frames[:48], frames[48:]], is_read=True) > 0, kind
"""
    subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, check=True)
