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
