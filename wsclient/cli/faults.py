"""The values of ``wsclient serve --fault``: ``KIND:key=value,key=value``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["EXAMPLES", "VenueFault", "parse"]


@dataclass(frozen=True)
class VenueFault:
    """A fault to inject.

    ``kind`` is its name, or the HTTP status of a refused handshake; ``text`` is the value given.
    """

    kind: str
    text: str = field(compare=False)
    #: When (s after the start) it comes first; None if it does not come at a time.
    first_at: float | None = None
    #: Time (s) between two; None if it comes only once.
    period: float | None = None
    #: How long it lasts (s).
    duration: float = 0.0
    #: It hits every n-th message of each client, or every n-th request about orders; 0 for neither.
    every: int = 0
    #: Number of handshakes that are refused.
    times: int = 0
    code: int = 1012
    channel: str = ""
    delay: float = 0.0

    @property
    def hits_messages(self) -> bool:
        """Whether it hits messages that the venue publishes."""
        return self.every > 0 and self.kind not in ("cut", "unanswered")


def _seconds(text: str) -> float:
    """Return a time such as ``30s``, ``200ms`` or ``2m``, in seconds."""
    for unit, size in (("ms", 1e-3), ("s", 1.0), ("m", 60.0)):
        if text.endswith(unit):
            return _positive(text.removesuffix(unit), "a time such as 30s, 200ms or 2m") * size
    raise ValueError(f"{text!r} is not a time such as 30s, 200ms or 2m")


def _positive(text: str, what: str = "a number above 0") -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"{text!r} is not {what}")
    return value


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise ValueError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _code(text: str) -> int:
    unsent = (1004, 1005, 1006, 1015)
    if not (text.isdecimal() and 1000 <= int(text) < 5000 and int(text) not in unsent):
        raise ValueError(f"{text!r} is not a close code that a venue may send")
    return int(text)


def _text(text: str) -> str:
    if not text:
        raise ValueError("it is empty")
    return text


Keys = Mapping[str, Callable[[str], Any]]
_WHEN: Keys = {"every": _seconds, "after": _seconds}
_LASTS: Keys = {**_WHEN, "for": _seconds}
_PER_MESSAGE: Keys = {"every": _count}
#: The keys of each kind. ``code`` is optional, and one of ``every`` and ``after`` is enough; all
#: others are required.
_KEYS: dict[str, Keys] = {
    "rst": _WHEN,
    "fin": _WHEN,
    "close": {**_WHEN, "code": _code},
    "deaf": _WHEN,
    "silence": _LASTS,
    "shutdown": _LASTS,
    "down": _LASTS,
    "gap": _PER_MESSAGE,
    "duplicate": _PER_MESSAGE,
    "garbage": _PER_MESSAGE,
    "cut": _PER_MESSAGE,
    "unanswered": _PER_MESSAGE,
    "reject": {"channel": _text},
    "latency": {"ms": _positive},
    "503": {"first": _count},
}
#: Faults that hit connections at some time.
_TIMED = frozenset(kind for kind, keys in _KEYS.items() if "after" in keys)
#: One example of each kind, and what it does.
EXAMPLES = {
    "rst:every=30s": "every connection is cut by a TCP reset",
    "fin:after=60s": "... by an end of the stream, without a close frame",
    "close:code=1012,every=60s": "... by a close frame",
    "deaf:every=60s": "... without either side noticing: it is half-open",
    "silence:after=60s,for=20s": "the venue sends nothing but answers to pings",
    "shutdown:every=60s,for=5s": "the venue announces that it will close, and does after 5 s",
    "down:every=60s,for=5s": "connections are cut, and new ones refused",
    "gap:every=1000": "every 1000th message of each connection is left out",
    "duplicate:every=500": "... is sent twice",
    "garbage:every=200": "... is cut short, so it is not JSON",
    "cut:every=5": "every 5th request about orders is executed, then cut off from its answer",
    "unanswered:every=5": "... is executed, but never answered",
    "reject:channel=X": "subscribing to the channel is refused",
    "503:first=2": "the first 2 handshakes are refused with this status, 400 to 599",
    "latency:ms=200": "everything is delayed by 200 ms, in both directions",
}
_BY_KIND = {example.partition(":")[0]: example for example in EXAMPLES}


def parse(text: str) -> VenueFault:
    """Return the fault that ``text`` describes.

    Raises ValueError, with a correct example, if there is no such fault.
    """
    kind, _, rest = text.partition(":")
    is_status = len(kind) == 3 and kind.isdecimal() and 400 <= int(kind) <= 599
    form = "503" if is_status else kind
    if form not in _KEYS:
        raise ValueError(f"{text!r}: there is no fault {kind!r}, only {', '.join(_KEYS)}")
    try:
        return _fault(kind, text, _values(_KEYS[form], rest))
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; for example {_BY_KIND[form]}") from None


def _values(keys: Keys, rest: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in rest.split(",") if rest else ():
        key, equals, value = part.partition("=")
        if not equals or key not in keys:
            raise ValueError(f"{part!r} is not one of {', '.join(f'{key}=' for key in keys)}")
        if key in values:
            raise ValueError(f"{key!r} is given twice")
        try:
            values[key] = keys[key](value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    is_timed = "after" in keys
    if is_timed and not values.keys() & {"every", "after"}:
        raise ValueError("'every' or 'after' is missing")
    for key in keys.keys() - values.keys() - {"code", *(_WHEN if is_timed else ())}:
        raise ValueError(f"{key!r} is missing")
    return values


def _fault(kind: str, text: str, values: Mapping[str, Any]) -> VenueFault:
    fault: dict[str, Any] = {}
    if kind in _TIMED:
        fault["period"] = values.get("every")
        fault["first_at"] = values.get("after", fault["period"])
        fault["duration"] = values.get("for", 0.0)
        if fault["period"] is not None and fault["duration"] >= fault["period"]:
            raise ValueError("'for' must be shorter than 'every'")
    else:
        fault["every"] = values.get("every", 0)
    fault["times"] = values.get("first", 0)
    fault["channel"] = values.get("channel", "")
    fault["delay"] = values.get("ms", 0.0) / 1000
    return VenueFault(kind, text, code=values.get("code", 1012), **fault)
