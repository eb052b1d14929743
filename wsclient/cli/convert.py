"""``wsclient convert``: make a recording of files in another form."""

from __future__ import annotations

import argparse

from wsclient.cli.terminal import complain
from wsclient.recording.convert import convert

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    try:
        done = convert(args.files, args.output, args.dialect, name=args.name)
    except ValueError as error:
        complain(str(error))
        return 1
    print(
        f"{done.path}: {done.messages:,} messages in {done.frames:,} frames, {done.gaps:,} with a "
        "gap"
    )
    if done.skipped:
        complain(f"{done.skipped:,} answers by REST belong to no order book of the recording")
    if done.invalid:
        complain(f"the dialect cannot read {done.invalid:,} frames")
    return 1 if done.invalid else 0
