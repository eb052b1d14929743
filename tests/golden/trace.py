"""Record the golden trace of the wsclient that this Python imports.

    python tests/golden/trace.py OUT.json       all of it, to be compared by compare.py
    python tests/golden/trace.py --renew        the digests that the suite compares with

``--reduced`` leaves out scenes that wait for deadlines, and most of each recording.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# A script's own folder is on the path, where this file would hide the standard library's ``trace``.
sys.path[0] = str(HERE.parent)

from golden.compare import summary  # noqa: E402 - needs the path
from golden.recorder import Bench  # noqa: E402
from golden.recordings import recorded_scenes  # noqa: E402
from golden.scenes import scenes  # noqa: E402

DIGESTS = HERE / "digests.json"
#: No scene takes longer (s): one that does has hung, and its stack is shown.
LIMIT = 120.0


def record(reduced: bool, only: str = "", verbose: bool = False) -> dict[str, dict[str, list[str]]]:
    """Return the rows of each scene, by section."""
    bench = Bench()
    gc.disable()  # a collection of all that is recorded would stop the client for a while
    found = {}
    for source in (scenes, recorded_scenes):
        for name, play in source(reduced):
            if only not in name:
                continue
            started = time.monotonic()
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            found[name] = play(bench)
            faulthandler.cancel_dump_traceback_later()
            if verbose:
                print(f"{time.monotonic() - started:6.2f} s  {name}", file=sys.stderr)
    bench.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", nargs="?", type=Path, help="where to write the trace")
    parser.add_argument("--reduced", action="store_true", help="what the suite runs")
    parser.add_argument("--only", default="", metavar="TEXT", help="scenes with this in their name")
    parser.add_argument("--verbose", action="store_true", help="print each scene and its time")
    parser.add_argument("--renew", action="store_true", help=f"write {DIGESTS.name}")
    options = parser.parse_args()
    if options.out is None and not options.renew:
        parser.error("give a file to write to, or --renew")
    trace = record(options.reduced or options.renew, options.only, options.verbose)
    if options.out is not None:
        options.out.write_text(json.dumps(trace, indent=0))
    if options.renew:
        DIGESTS.write_text(json.dumps(summary(trace), indent=1, sort_keys=True) + "\n")
    rows = sum(len(section) for scene in trace.values() for section in scene.values())
    print(f"{len(trace)} scenes, {rows} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
