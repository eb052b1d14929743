"""``wsclient doctor``: check each step of a connection from this machine to a venue."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import Any

import msgspec

from wsclient.cli.connecting import options_of
from wsclient.cli.terminal import complain, is_rich
from wsclient.doctor.examination import diagnose
from wsclient.doctor.report import Diagnosis, Status
from wsclient.errors import ConfigurationError, NotSupported

__all__ = ["run"]

_COLOURS: dict[Status, str] = {"ok": "32", "warning": "33", "failed": "1;31", "skipped": "2"}
#: The options of ``connect()`` that a diagnosis uses.
_USED = {"dialect", "headers", "subprotocols", "cookie", "origin", "credentials", "proxy"}
#: The longest line (characters), however wide the terminal: long lines are hard to read.
MAX_WIDTH = 110


def run(args: argparse.Namespace) -> int:
    try:
        options, others = options_of(args)
        if unused := sorted(others.keys() | options.keys() - _USED):
            used = ", ".join(sorted(_USED - {"dialect", "headers", "credentials"}))
            raise ConfigurationError(f"--option {unused[0]}: doctor uses only {used}")
        diagnosis = diagnose(args.url, **options, subscribe=args.subscribe, timeout=args.timeout)
    except (ConfigurationError, NotSupported) as error:
        complain(str(error))
        return 2
    print(_json(diagnosis) if args.json else _text(diagnosis))
    return 0 if diagnosis.is_healthy else 1


def _text(diagnosis: Diagnosis) -> str:
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    width = min(MAX_WIDTH, shutil.get_terminal_size((100, 24)).columns)
    paint = _paint if is_rich(sys.stdout) else _leave
    return diagnosis.table(width, paint)


def _paint(status: Status, text: str) -> str:
    return f"\x1b[{_COLOURS[status]}m{text}\x1b[0m"


def _leave(_status: Status, text: str) -> str:
    return text


def _json(diagnosis: Diagnosis) -> str:
    found: dict[str, Any] = {
        "url": diagnosis.url,
        "client": diagnosis.client,
        "is_healthy": diagnosis.is_healthy,
        "checks": diagnosis.checks,
    }
    if diagnosis.routes:
        found["routes"] = diagnosis.routes
    return msgspec.json.encode(found).decode()
