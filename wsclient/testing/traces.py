"""What has happened at venues, as text for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

from wsclient.testing.frames import Payload
from wsclient.testing.journal import Traced
from wsclient.testing.scrubbing import Scrubber

__all__ = ["lines_of"]

#: The most lines of a venue, and the most characters of each message.
LINES, LENGTH = 50, 160
_ARROWS = {"sent": "->", "received": "<-", "event": "--"}


def lines_of(title: str, trace: Iterable[Traced], secrets: Iterable[str] = ()) -> list[str]:
    """Return the last lines of what has happened at a venue, without secrets.

    `->` is what a client sent, `<-` what it was sent.
    """
    scrubber = Scrubber(secrets)
    found = list(trace)
    for each in found:
        if each.what == "sent":
            scrubber.learn_sent(each.payload)
        elif each.what == "received":
            scrubber.learn_received(each.payload)
        else:
            scrubber.learn_path(str(each.payload))
    shown = [_line(each, scrubber) for each in found[-LINES:]]
    left = len(found) - len(shown)
    more = [f"  (earlier lines are left out: {left} or more)"] if left else []
    return [scrubber.text(title), *more, *(shown or ["  no client has connected"])]


def _line(traced: Traced, scrubber: Scrubber) -> str:
    when = datetime.fromtimestamp(traced.time / 1e9, timezone.utc).strftime("%H:%M:%S.%f")[:-3]
    who = f"connection {traced.connection}" if traced.connection else "venue"
    if traced.what == "event":
        text: Payload = scrubber.url(str(traced.payload))
    else:
        text = (scrubber.sent if traced.what == "sent" else scrubber.received)(traced.payload)
    shown = text if isinstance(text, str) else repr(text)
    shown = shown.replace("\n", "\\n").replace("\r", "\\r")
    if len(shown) > LENGTH:
        shown = f"{shown[:LENGTH]}... ({len(shown)} characters)"
    return f"  {when}  {who:<14} {_ARROWS[traced.what]} {shown}"
