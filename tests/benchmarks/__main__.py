"""Run the benchmarks: ``python tests/benchmarks [--quick] [--only venues,tls] [--out FILE]``.

Every figure is the median of several rounds; the clients of a table take turns within each round,
and a ratio is the median of the ratios within the rounds. Machines drift: compare ratios of one
run. Ratios are by processor time, unless they say otherwise: a client that waits for the feed, or
for other programs, loses time by the clock (``busy`` is the one divided by the other). The
``bench`` extra installs the other clients; those that are not installed are left out.

``--quick`` measures each venue's own frames, decoded to dicts. ``--kinds "okx books;kraken trade"``
measures some of them.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

# The tree that this file is in, and no other that may be installed.
sys.path.insert(0, str(Path(__file__).parents[2]))

from generic import GUESSES, Generic
from kinds import KINDS
from payloads import SIZES
from report import Report
from venues import Venues

#: The groups of tables, and who measures them.
GROUPS: dict[str, type[Venues] | type[Generic]] = {
    "venues": Venues,
    "books": Venues,
    "channels": Venues,
    "throughput": Generic,
    "unpinned": Generic,
    "tls": Generic,
    "statistics": Generic,
    "latency": Generic,
    "memory": Generic,
    "connections": Generic,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help=f"some of {','.join(GROUPS)}; with --quick venues alone")
    parser.add_argument("--rounds", type=int, help="5; with --quick 3")
    parser.add_argument("--quick", action="store_true", help="shorter runs: a look, not a figure")
    parser.add_argument("--kinds", default=";".join(KINDS), help="some of %(default)s")
    parser.add_argument("--clients", default=",".join(GUESSES), help="some of %(default)s")
    parser.add_argument("--sizes", default=",".join(SIZES), help="some of %(default)s")
    parser.add_argument("--out", type=Path, help="write the report to this file too")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (3 if chosen.quick else 5)
    chosen.only = chosen.only or ("venues" if chosen.quick else ",".join(GROUPS))
    chosen.kinds = chosen.kinds.split(";")
    if unknown := {*chosen.kinds} - {*KINDS}:
        parser.error(f"--kinds takes some of {';'.join(KINDS)}, not {unknown.pop()}")
    for name, known in (("only", GROUPS), ("clients", GUESSES), ("sizes", SIZES)):
        names = getattr(chosen, name).split(",")
        setattr(chosen, name, names)
        if not {*names} <= {*known}:
            parser.error(f"--{name} takes some of {','.join(known)}")
    return chosen


@contextlib.contextmanager
def reported(report: Report, out: Path | None) -> Iterator[None]:
    """Print the results so far, also after an interrupt or a failure."""
    try:
        yield
    finally:
        print(report)
        if out is not None:
            out.write_text(str(report))


def main() -> None:
    chosen = arguments()
    report = Report()
    with reported(report, chosen.out):
        for group, measuring in GROUPS.items():
            if group in chosen.only:
                getattr(measuring(chosen, report), group)()


if __name__ == "__main__":
    main()
