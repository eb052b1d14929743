"""The faults that are added to a replayed conversation, and their words."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from wsclient.testing.frames import is_close_code

__all__ = ["ReplayFault"]

_ReplayWord = Literal["rst", "fin", "close", "silence", "gap", "duplicate", "garbage", "latency"]
_KINDS: tuple[str, ...] = get_args(_ReplayWord)
_KEYS = {"at": int, "every": int, "code": int, "ms": float}


@dataclass(frozen=True)
class ReplayFault:
    """A fault that is added to the replay of a recording.

    It strikes at the message number `at` that the venue sends, or at `every` n-th one; the messages
    of all connections are counted together, from 1. A `latency` without either is that of every
    message. The kinds are words of `wsclient serve --fault`:

    - `"rst"`, `"fin"`, `"close"`: the connection ends after the message, `"close"` by a close frame
      with `code`;
    - `"silence"`: the connection gets no message any more, this one included, and stays open;
    - `"gap"`, `"duplicate"`, `"garbage"`: the message is left out, sent twice, or cut short;
    - `"latency"`: the message, and so all after it, come `ms` later.

    After an end the client connects again, and gets the next recorded connection, or the last one
    again from its beginning.

    Raises ValueError for a fault that can strike nowhere.
    """

    kind: _ReplayWord
    at: int | None = None
    every: int | None = None
    code: int = 1012
    ms: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"there is no fault {self.kind!r}, only {', '.join(_KINDS)}")
        given = [number for number in (self.at, self.every) if number is not None]
        if len(given) > 1:
            raise ValueError(f"{self.kind}: give at or every, not both")
        if not given and self.kind != "latency":
            raise ValueError(f"{self.kind}: give at=N or every=N; for example {self.kind}:at=10")
        if any(number < 1 for number in given):
            raise ValueError(f"{self.kind}: messages are counted from 1")
        if self.kind == "latency" and self.ms <= 0:
            raise ValueError("latency: give ms, such as latency:ms=50")
        if not is_close_code(self.code):
            raise ValueError(f"{self.code} is not a close code that a venue may send")

    @classmethod
    def parse(cls, text: str) -> ReplayFault:
        """Return the fault of a text such as `rst:at=10`, `gap:every=5` or `latency:ms=50`.

        Raises ValueError if there is no such fault.
        """
        kind, _, rest = text.partition(":")
        values: dict[str, float] = {}
        for part in rest.split(",") if rest else ():
            key, _, value = part.partition("=")
            try:
                values[key] = _KEYS[key](value)
            except KeyError:
                names = ", ".join(f.name for f in fields(cls)[1:])
                raise ValueError(f"{text!r}: {key!r} is not one of {names}") from None
            except ValueError:
                raise ValueError(f"{text!r}: {value!r} is not a number") from None
        return cls(kind, **values)  # type: ignore[arg-type]

    def strikes(self, number: int) -> bool:
        """Return whether it strikes at the message of this number."""
        if self.at is not None:
            return number == self.at
        return self.every is None or number % self.every == 0
