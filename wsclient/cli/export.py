"""``wsclient export``: write the messages of recordings as tables."""

from __future__ import annotations

import argparse

from wsclient.cli.progress import progress
from wsclient.cli.terminal import complain
from wsclient.recording.export import export
from wsclient.text import printable

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    with progress("exporting") as report:
        done = export(
            *args.paths,
            to=args.output,
            form=args.format,
            kind=args.kind,
            channels=args.channels,
            start=args.start,
            end=args.end,
            dialect=args.dialect,
            text=args.text,
            force=args.force,
            progress=report,
        )
    for name, rows in sorted(done.rows.items()):
        print(f"{name if args.format != 'jsonl' else 'messages':<8}  {rows:>12,} rows")
    files = len(done.files)
    print(f"{done.messages:,} messages in {files:,} file{'s'[: files != 1]} in {args.output}")
    for found in done.damage:
        complain(f"not exported, as it cannot be read: {found.path}: {found.damage.why}")
    if done.unreadable:
        where = "nowhere" if args.kind not in (None, "raw") else "in the table raw"
        complain(f"the dialect cannot read {done.unreadable:,} messages, which are {where}:")
        for why, count in done.reasons.items():
            complain(f"  {count:,}: {printable(why)}")
    return 1 if done.damage or done.unreadable else 0
