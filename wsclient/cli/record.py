"""``wsclient record``: record channels into the files of a folder, until it is ended."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from wsclient.cli.connecting import add_connecting, options_of
from wsclient.cli.tail import connected, logs_on_stderr
from wsclient.cli.terminal import complain, is_rich
from wsclient.client import WebSocketClient
from wsclient.errors import ConfigurationError, SubscriptionError
from wsclient.options import Options
from wsclient.telemetry.stats import RecorderStats
from wsclient.text import printable

__all__ = ["add_record", "counters", "run"]

#: How often (s) the line on the terminal changes.
INTERVAL = 0.5
#: How long (s) the end may take: what is buffered is written, and the file finished.
END_WITHIN = 10.0
#: Moves to the beginning of the line, and clears it.
CLEAR = "\r\x1b[K"


def add_record(
    commands: Any,
    *,
    codes: Callable[..., str],
    number: Callable[[float], Any],
    add_dialect: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the parser. ``codes`` returns the text of exit codes, ``number`` parses one."""
    parser = commands.add_parser(
        "record",
        help="record channels into files, with what was missed",
        description="Record channels into files of a folder: frames as received, gaps, "
        "disconnects, what was sent (without secrets). It goes on through reconnects until Ctrl-C, "
        "SIGTERM or --duration, which finish the file. Nothing is overwritten. The log is on "
        "stderr, with a line of counters if that is a terminal. Needs the extra record.",
        epilog=codes(
            "--duration is reached, and everything was recorded",
            "no connection, a refused channel, no channel is left, a folder that cannot be written "
            "to, or the recorder has lost messages",
            "a usage error, an option that cannot work, or a package that is not installed",
        ),
    )
    parser.add_argument("url", metavar="URL", help="ws:// or wss://")
    parser.add_argument("channels", metavar="CHANNEL", nargs="*", help="as the dialect names it")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="made if missing")
    add_dialect(parser)
    parser.add_argument(
        "--book",
        dest="books",
        action="append",
        default=[],
        metavar="SYMBOL",
        help="an order book to record and to keep, with its snapshots; may be repeated",
    )
    parser.add_argument(
        "--duration",
        type=number(0.0),
        metavar="S",
        help="end this long after the subscription (s)",
    )
    parser.add_argument(
        "--file-size",
        type=_size,
        default=1 << 30,
        metavar="SIZE",
        help="begin another file at this size, such as 256M (default: 1G)",
    )
    parser.add_argument(
        "--file-seconds",
        type=number(1.0),
        default=3600.0,
        metavar="S",
        help="begin another file after this time (s; default: 3600)",
    )
    add_connecting(
        parser,
        option="an option of connect(), such as ping_interval=5 (see `wsclient manual options`), "
        "or else one of the subscription, such as depth=10, as JSON or text",
    )


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", text.upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 500000, 256M or 1G")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


def run(args: argparse.Namespace) -> int:
    try:
        if not args.channels and not args.books:
            raise ConfigurationError("record needs a channel or --book")
        options, subscription = options_of(args)
        Options.of(options).check_credentials(args.dialect)
        return _record(args, options, subscription)
    except ConfigurationError as error:
        complain(str(error))
        return 2


def _record(
    args: argparse.Namespace, options: Mapping[str, Any], subscription: Mapping[str, Any]
) -> int:
    is_shown = is_rich(sys.stderr)
    with ExitStack() as stack:
        stack.enter_context(logs_on_stderr(CLEAR if is_shown else ""))
        # What a strategy would take out is not needed, only whether a channel is lost.
        client = stack.enter_context(connected(args.url, {"overflow": "drop_oldest", **options}))
        recorder = client.record(
            args.output, file_bytes=args.file_size, file_seconds=args.file_seconds
        )
        try:
            for symbol in args.books:
                client.order_book(symbol, **subscription)
            if args.channels:
                client.subscribe(*args.channels, **subscription)
            _wait(client, args.duration, recorder.stats if is_shown else None)
        finally:
            recorder.close(END_WITHIN)
            stats = recorder.stats()
            if is_shown:
                sys.stderr.write(CLEAR)
                sys.stderr.flush()
            print(printable(f"{counters(client, stats)}: {stats.path}"), flush=True)
    if stats.lost_messages or stats.lost_frames or stats.error:
        complain(stats.error or f"the recorder has lost {stats.lost_messages:,} messages")
        return 1
    return 0


def _wait(
    client: WebSocketClient, duration: float | None, stats: Callable[[], RecorderStats] | None
) -> None:
    """Take messages out until the time (s) is over, and show the counters."""
    end = float("inf") if duration is None else time.monotonic() + duration
    due = 0.0
    while (now := time.monotonic()) < end:
        if stats is not None and now >= due:
            due = now + INTERVAL
            sys.stderr.write(f"{CLEAR}{client.state.value}  {counters(client, stats())}")
            sys.stderr.flush()
        try:
            messages = client.recv_batch(timeout=min(INTERVAL, end - now))
        except TimeoutError:
            continue
        if any(message.type == "lost" for message in messages) and not client.subscriptions:
            raise SubscriptionError("no channel is left")


def counters(client: WebSocketClient, stats: RecorderStats) -> str:
    """Return what was recorded so far, in words."""
    gaps = client.stats().gaps
    files = f"{stats.files} file{'' if stats.files == 1 else 's'}"
    lost = f", {stats.lost_messages:,} LOST" if stats.lost_messages else ""
    return (
        f"{stats.messages:,} messages, {gaps:,} gaps{lost}, {stats.bytes:,} bytes as "
        f"{stats.written_bytes:,} in {files}"
    )
