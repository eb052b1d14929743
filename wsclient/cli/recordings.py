"""The parsers of the commands that work on recordings: check, export and convert."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

from wsclient import dialects

__all__ = ["add_recordings"]


def add_recordings(
    commands: Any,
    *,
    codes: Callable[..., str],
    number: Callable[[float], Any],
    dialect: Callable[[str], object],
) -> None:
    """Add the commands. ``codes`` returns the text of exit codes, the others parse arguments."""
    _add_check(commands, codes, number, dialect)
    _add_export(commands, codes, dialect)
    _add_convert(commands, codes, dialect)


def _add_check(
    commands: Any,
    codes: Callable[..., str],
    number: Callable[[float], Any],
    dialect: Callable[[str], object],
) -> None:
    parser = commands.add_parser(
        "check",
        help="say what recordings miss, per channel",
        description="Read recordings, and say what they miss: gaps with their number of messages, "
        "silences, order books that do not stay in sync, steps of the clock, damaged files. Late "
        "messages and duplicates miss nothing, nor does the begin or the end of a recording. "
        "Between two recordings of the same venue and name, messages are missing.",
        epilog=codes(
            "nothing is missing",
            "something is missing or damaged, or the check failed",
            "a usage error, no recording, or a package that is not installed",
        ),
    )
    _add_places(parser)
    parser.add_argument(
        "--silence",
        type=number(0.0),
        default=60.0,
        metavar="S",
        help="count times without a message beyond this (s; default: 60)",
    )
    _add_dialect(parser, dialect)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_export(commands: Any, codes: Callable[..., str], dialect: Callable[[str], object]) -> None:
    parser = commands.add_parser(
        "export",
        help="write recordings as Parquet, CSV or JSON lines",
        description="Write the messages of recordings to tables for duckdb, polars and pandas: "
        "OUT/TABLE/venue=.../date=.../channel=.../FILE. The tables are trades, quotes, books (a "
        "row per level) and raw (all other messages). Each has the columns gap_reason, gap_missed "
        "and gap_since, on the first row after a gap.",
        epilog=codes(
            "success",
            "failure, or something could not be read: one line says what",
            "a usage error, no recording, or a package that is not installed",
        ),
    )
    _add_places(parser)
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the folder to write")
    parser.add_argument(
        "--format",
        choices=("parquet", "csv", "jsonl"),
        default="parquet",
        help="jsonl: the lines of `wsclient tail --json` (default: parquet)",
    )
    parser.add_argument(
        "--kind",
        choices=("trades", "quotes", "books", "raw"),
        help="write only this table; raw then has all messages",
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        action="extend",
        metavar="CHANNEL",
        help="only these, as the dialect names them",
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=_time,
        metavar="T",
        help="from this time on: 2026-01-02, 2026-01-02T03:04:05.5 (UTC, or with an offset), or "
        "seconds since the epoch",
    )
    parser.add_argument("--to", dest="end", type=_time, metavar="T", help="before this time")
    parser.add_argument(
        "--text",
        action="store_true",
        help="prices and sizes as text with the venue's digits, also in Parquet",
    )
    _add_dialect(parser, dialect)
    parser.add_argument("--force", action="store_true", help="replace files of these recordings")


def _add_convert(
    commands: Any, codes: Callable[..., str], dialect: Callable[[str], object]
) -> None:
    parser = commands.add_parser(
        "convert",
        help="make a recording of files in another form",
        description="Make a recording of files in another form: cryptofeed's lines, with their "
        "files of REST answers; captures; one payload per line; lines of `wsclient tail --json`. "
        "The files are one session of one venue. Sequence numbers are checked as a client does.",
        epilog=codes(
            "success",
            "failure, or the dialect could not read a frame: one line says what",
            "a usage error, or a package that is not installed",
        ),
    )
    parser.add_argument("files", metavar="FILE", nargs="+")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="the folder of the recording"
    )
    _add_dialect(parser, dialect, is_required=True)
    parser.add_argument(
        "--name", help="the name of the recording (default: that of the first file)"
    )


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        metavar="FOLDER",
        nargs="+",
        help="a folder of recordings, a file, or a pattern such as 'recordings/kraken-*.mcap'",
    )


def _add_dialect(
    parser: argparse.ArgumentParser, dialect: Callable[[str], object], is_required: bool = False
) -> None:
    default = "" if is_required else ", by default that of the recording"
    parser.add_argument(
        "--dialect",
        type=dialect,
        required=is_required,
        metavar="NAME",
        help=f"the venue's protocol{default}: {', '.join(dialects.NAMES)}",
    )


def _time(text: str) -> int:
    """Return a time in ns since the epoch."""
    try:
        return int(Decimal(text).scaleb(9))
    except (InvalidOperation, ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 2026-01-02T03:04:05, or seconds since the epoch"
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    since = at - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1000
