"""The line forms in which the traffic of venues is recorded elsewhere."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from pathlib import Path
from typing import Literal

__all__ = ["Recorded", "RecordedDirection", "begin_of_capture", "is_tail", "read_recording"]

RecordedDirection = Literal["received", "sent", "connected", "disconnected", "http"]


@dataclass(frozen=True)
class Recorded:
    """One item of a recording, as the client saw it.

    An `http` item is the reply to a GET of `uri`, or in a recording of `client.record()` the
    snapshot of the channel `uri`. All items but received messages have a `uri`. The payload of a
    `disconnected` item says why. `time` is in nanoseconds: since the epoch, or of the recorder's
    own clock in a capture. It is None if the recording has no times. `connection_id` is 0 in
    recordings that do not number connections.
    """

    direction: RecordedDirection
    time: int | None
    payload: bytes
    uri: str | None = None
    connection_id: int = 0
    is_binary: bool = False


def read_recording(source: str | os.PathLike[str] | Iterable[str]) -> list[Recorded]:
    """Return all items of a recording, given by the path of a file or by its lines.

    Three formats are known:

    - one received JSON payload per line;
    - a capture: a line `CBCAP1 ...`, then `<time> <number of bytes>` before each payload;
    - that of cryptofeed, where each line says what it is and binary payloads are bytes literals.

    Raises ValueError, with the line, for anything else.
    """
    if isinstance(source, str | os.PathLike):
        content = Path(source).read_bytes()
    else:
        content = "\n".join(line.rstrip("\n") for line in source).encode()
    if content.startswith(b"CBCAP1 "):
        return list(_capture(content))
    lines = [line for line in content.split(b"\n") if line]
    if content[:1] in (b"{", b"["):
        if is_tail(lines[0]):
            raise ValueError(
                "this is the output of 'wsclient tail --json', not what the venue sent: a "
                "recording has one payload of the venue per line"
            )
        return [Recorded("received", None, line) for line in lines]
    return [_cryptofeed(line) for line in lines]


def is_tail(line: bytes) -> bool:
    """Return whether a line is one of ``wsclient tail --json``."""
    try:
        fields = json.loads(line)
    except ValueError:
        return False
    return isinstance(fields, dict) and {"received_at", "connection_id", "data"} <= fields.keys()


def begin_of_capture(content: bytes) -> int | None:
    """Return when a capture began (ns since the epoch); None for another form."""
    words = content.partition(b"\n")[0].split()
    is_capture = content.startswith(b"CBCAP1 ") and words[-1].isdigit()
    return int(words[-1]) if is_capture else None


def _capture(content: bytes) -> Iterator[Recorded]:
    position = content.index(b"\n") + 1
    while position < len(content):
        head, _, _ = content[position:].partition(b"\n")
        try:
            time, size = map(int, head.split())
        except ValueError:
            raise ValueError(
                f"not '<time> <number of bytes>' before a captured message: {head[:100]!r}"
            ) from None
        start = position + len(head) + 1
        yield Recorded("received", time, content[start : start + size])
        position = start + size + 1


_CRYPTOFEED = re.compile(rb"(?:(\S+) (<-|<->|->) )?(\d+(?:\.\d+)?)(?:: (.*))?", re.DOTALL)
_DIRECTIONS: dict[bytes, RecordedDirection] = {
    b"": "received",
    b"<-": "sent",
    b"<->": "connected",
    b"->": "http",
}


#: The program's decimal context may have fewer digits.
_CONTEXT = Context(prec=50, traps=[])


def _cryptofeed(line: bytes) -> Recorded:
    match = _CRYPTOFEED.fullmatch(line)
    if match is None:
        raise ValueError(f"not a line of a recording: {line[:100]!r}")
    uri, arrow, time, payload = match.groups(default=b"")
    if payload[:2] in (b"b'", b'b"'):
        payload = ast.literal_eval(payload.decode())
    nanoseconds = int(_CONTEXT.scaleb(Decimal(time.decode()), 9))
    return Recorded(_DIRECTIONS[arrow], nanoseconds, payload, uri.decode() or None)
