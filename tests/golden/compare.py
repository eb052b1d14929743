"""Compare two golden traces and list the differences. Exits with 1 if there are any.

    python tests/golden/compare.py OLD.json NEW.json
    python tests/golden/compare.py OLD/.venv/bin/python NEW/.venv/bin/python

Given a Python, trace.py beside this file records the trace of the wsclient that it imports.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TRACE = Path(__file__).resolve().parent / "trace.py"
#: The number of lines shown of one section's differences.
SHOWN = 40

#: Scene, section, rows.
Trace = Mapping[str, Mapping[str, Sequence[str]]]


def summary(trace: Trace) -> dict[str, dict[str, str]]:
    """Return the number of rows of each section, and a hash of them."""
    return {
        scene: {section: _summary(rows) for section, rows in sections.items()}
        for scene, sections in trace.items()
    }


def _summary(rows: Sequence[str]) -> str:
    found = hashlib.sha256("\0".join(rows).encode()).hexdigest()
    return f"{len(rows)} {found[:16]}"


def differences(old: Trace, new: Trace) -> Iterator[str]:
    """Yield a text for each scene that only one trace has, and each section that differs."""
    for scene in sorted(old.keys() ^ new.keys()):
        yield f"{scene}: only in the {'old' if scene in old else 'new'} trace"
    for scene in (scene for scene in old if scene in new):
        for section in sorted(old[scene].keys() | new[scene].keys()):
            before, after = (list(trace[scene].get(section, [])) for trace in (old, new))
            if before != after:
                lines = difflib.unified_diff(before, after, "old", "new", lineterm="", n=1)
                shown = list(lines)
                more = [f"... {len(shown) - SHOWN} more lines"] if len(shown) > SHOWN else []
                yield "\n    ".join([f"{scene}: {section}", *shown[:SHOWN], *more])


def load(source: str, arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Return the trace in a file, or the trace of a Python's wsclient."""
    if source.endswith(".json"):
        found: dict[str, Any] = json.loads(Path(source).read_text())
        return found
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "trace.json"
        command = [source, str(TRACE), str(out), *arguments]
        subprocess.run(command, check=True, cwd=folder, env=environment)
        return load(str(out))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", help="a trace, or a Python")
    parser.add_argument("new", help="a trace, or a Python")
    parser.add_argument("--reduced", action="store_true", help="only what the suite runs")
    options = parser.parse_args()
    arguments = ["--reduced"] if options.reduced else []
    old, new = (load(source, arguments) for source in (options.old, options.new))
    found = list(differences(old, new))
    print("\n".join(found) or "no difference")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
