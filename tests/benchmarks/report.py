"""What is printed at the end: the machine, tables, verdicts and notes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from goals import Verdict

import wsclient.stream.frames


class Report:
    """The tables, verdicts and notes printed at the end."""

    def __init__(self) -> None:
        self._machine = machine()  # now: the load is that of other programs
        self._sections: list[str] = []
        self.verdicts: list[Verdict] = []
        self._notes: list[str] = []

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._sections.append(f"{title}\n{'-' * len(title)}\n\n{rst_table(header, rows)}")

    def note(self, text: str) -> None:
        if text and text not in self._notes:
            self._notes.append(text)
            progress(text)

    def __str__(self) -> str:
        parts = ["\n".join(self._machine), *self._sections]
        if self.verdicts:
            header = ["goal", "asked", "measured", "", "note"]
            rows = [verdict.row() for verdict in self.verdicts]
            held = sum(verdict.is_held for verdict in self.verdicts)
            title = f"Goals: {held} of {len(rows)} held"
            parts.append(f"{title}\n{'-' * len(title)}\n\n{rst_table(header, rows)}")
        if self._notes:
            parts.append("\n".join(f"* {note}" for note in self._notes))
        return "\n\n".join(parts) + "\n"


def rst_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = " ".join("=" * max(width, 1) for width in widths)

    def line(cells: Sequence[str]) -> str:
        first, *others = (cell.ljust(w) for cell, w in zip(cells, widths, strict=True))
        return " ".join([first, *others]).rstrip()

    return "\n".join([rule, line(header), rule, *map(line, rows), rule])


def machine() -> list[str]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [s for s in cpuinfo.read_text().splitlines() if s.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    versions = []
    for name in ("websocket-client", "wsaccel", "websockets", "picows", "orjson", "msgspec"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    form = "pure Python" if Path(wsclient.stream.frames.__file__).suffix == ".py" else "compiled"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return [
        f"{len(cores())} cores, {model}, {platform.system()} {platform.release()}{load}",
        f"{platform.python_implementation()} {platform.python_version()}, {', '.join(versions)}",
        f"wsclient {wsclient.__version__} ({form})",
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    ]


def progress(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def thousands(rate: float) -> str:
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if rate >= unit:
            return f"{rate / unit:.3g}{name}"
    return f"{rate:.3g}"
