"""``wsclient check``: print what recordings miss."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple

import msgspec

from wsclient.cli.progress import progress
from wsclient.cli.terminal import is_rich
from wsclient.recording.check import check
from wsclient.recording.reports import (
    BookReport,
    ChannelReport,
    GapCount,
    RecordingReport,
    Report,
)
from wsclient.text import printable

__all__ = ["run"]

HEAD = (
    "channel", "messages", "missed", "late", "twice", "longest silence", "silences", "book",
    "coverage",
)  # fmt: skip


class CheckRow(NamedTuple):
    """A row of the table: its cells, and whether nothing is missing."""

    cells: tuple[str, ...]
    is_whole: bool


def run(args: argparse.Namespace) -> int:
    with progress("reading") as report:
        found = check(*args.paths, silence=args.silence, dialect=args.dialect, progress=report)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if args.json:
        print(msgspec.json.encode(found).decode())
    elif is_rich(sys.stdout) and _print_rich(found):
        pass
    else:
        print("\n".join(_plain(found)))
    return 0 if found.is_whole else 1


def _plain(report: Report) -> Iterator[str]:
    for recording in report.recordings:
        yield _title(recording)
        rows = [HEAD, *(row.cells for row in _rows(recording))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows if len(rows) > 1 else ():
            first, *others = (
                cell.ljust(width) if not number else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            yield "  ".join([f"  {first}", *others]).rstrip()
        yield from (f"  {line}" for line in _remarks(recording))
        yield ""
    yield from (f"damaged: {d.path}: {printable(d.why)}" for d in report.damage)
    yield _verdict(report)


def _print_rich(report: Report) -> bool:
    """Print the report with colours. Return False if rich is not installed."""
    try:
        from wsclient.cli.checkscreen import print_report
    except ImportError:
        return False
    print_report(
        [(_title(r), list(_rows(r)), list(_remarks(r))) for r in report.recordings],
        [f"damaged: {d.path}: {printable(d.why)}" for d in report.damage],
        (_verdict(report), report.is_whole),
        HEAD,
    )
    return True


def _title(recording: RecordingReport) -> str:
    name = f" {recording.name}" if recording.name else ""
    files = f"{recording.files} file{'s'[: recording.files != 1]}"
    text = f"{recording.venue}{name}, {files}, "
    if recording.start is None or recording.end is None:
        return printable(f"{text}empty")
    start, end = map(_utc, (recording.start, recording.end))
    if start[:10] == end[:10]:
        end = end[11:]
    counts = f"{recording.messages:,} messages in {recording.frames:,} frames"
    return printable(f"{text}{start} to {end} UTC: {counts}")


def _utc(time: int) -> str:
    return f"{datetime.fromtimestamp(time // 10**9, timezone.utc):%Y-%m-%d %H:%M:%S}"


def _rows(recording: RecordingReport) -> Iterator[CheckRow]:
    for channel in recording.channels:
        cells = (
            printable(channel.channel),
            f"{channel.messages:,}",
            _missed(channel),
            _count(channel.late),
            _count(channel.duplicates),
            f"{channel.longest_silence:,.1f} s",
            _count(channel.silences),
            _book(channel.book),
            _share(channel.coverage),
        )
        yield CheckRow(cells, channel.is_whole)


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _missed(channel: ChannelReport) -> str:
    if not channel.unknown:
        return _count(channel.missed)
    return f"{channel.missed:,} + ?" if channel.missed else "?"


def _book(book: BookReport | None) -> str:
    if book is None:
        return "-"
    faults = sum(book.faults.values())
    if faults:
        return f"{faults:,} wrong"
    return f"{book.verified:,} ok" if book.verified else "no snapshot"


def _share(coverage: float | None) -> str:
    """Return a share in percent, which is 100 only if nothing is missing."""
    if coverage is None:
        return "-"
    percent = f"{100 * coverage:.2f}"
    return f"{'>99.99' if percent == '100.00' and coverage < 1 else percent} %"


def _remarks(recording: RecordingReport) -> Iterator[str]:
    """Yield a line for everything that the table has not."""
    for channel in recording.channels:
        name = printable(channel.channel)
        for reason, count in channel.gaps.items():
            if count.missed or count.unknown:  # late messages have not filled it
                yield f"{name}: {_gaps(count)} ({reason})"
        for why, times in (channel.book.faults if channel.book else {}).items():
            often = f"{times:,} time{'s'[: times != 1]}"
            yield f"{name}: order book out of sync {often}: {printable(why)}"
    for loss in recording.losses:
        number = "an unknown number of" if loss.is_unknown else f"{loss.messages:,}"
        since = "" if loss.since is None else f" from {_utc(loss.since)}"
        why = printable(loss.why)
        yield f"the recorder lost {number} messages{since} to {_utc(loss.time)} UTC: {why}"
    if recording.clock_steps:
        steps = f"{recording.clock_steps:,} time{'s'[: recording.clock_steps != 1]}"
        yield f"the clock stepped {steps}, by up to {recording.largest_step:+.3f} s"
    for path in recording.unfinished:
        yield f"not finished, being written or killed: {path}"
    for damage in recording.damage:
        where = f"{damage.size:,} bytes at {damage.position:,}: " if damage.size else ""
        yield f"damaged: {damage.path}: {where}{printable(damage.why)}"
    if recording.unchecked:
        yield f"order books are not checked: {printable(recording.unchecked)}"


def _gaps(count: GapCount) -> str:
    gaps = f"in {count.gaps:,} gap{'s'[: count.gaps != 1]}"
    if not count.unknown:
        return f"{count.missed:,} missed {gaps}"
    known = f"{count.missed:,} missed and " if count.missed else ""
    return f"{known}an unknown number {gaps}" + (
        f", {count.unknown:,} of them unknown" if count.missed else ""
    )


def _verdict(report: Report) -> str:
    channels = [channel for recording in report.recordings for channel in recording.channels]
    if report.is_whole:
        return f"Nothing is missing: {sum(c.messages for c in channels):,} messages."
    missed, unknown = sum(c.missed for c in channels), sum(c.unknown for c in channels)
    faults = sum(sum(c.book.faults.values()) for c in channels if c.book)
    damage = len(report.damage) + sum(len(recording.damage) for recording in report.recordings)
    lost = sum(bool(recording.losses) for recording in report.recordings)
    parts = [
        f"{missed:,} messages" if missed else "",
        f"{unknown:,} gaps of unknown size" if unknown else "",
        f"{faults:,} wrong order books" if faults else "",
        f"{damage:,} damaged parts" if damage else "",
    ]
    found = [part for part in parts if part] or [f"{lost:,} recordings have lost frames"]
    return f"INCOMPLETE: {', '.join(found)}."
