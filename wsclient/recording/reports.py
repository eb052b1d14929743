"""What a check of recordings has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = [
    "BookReport",
    "ChannelReport",
    "DamageReport",
    "GapCount",
    "LossReport",
    "RecordingReport",
    "Report",
]


@dataclass(frozen=True)
class GapCount:
    """The gaps of one reason: their number, the messages missed, and how many are unknown.

    ``missed`` is of those whose number is known, ``unknown`` the number of the other gaps.
    """

    gaps: int
    missed: int
    unknown: int


@dataclass(frozen=True)
class BookReport:
    """An order book that was kept again from the messages.

    ``verified`` messages left it in sync, ``unverified`` did not: those before the first snapshot
    or after a gap, for example. ``faults`` has, by their reasons, how often it fell out of sync
    although no gap was recorded there: ``checksum``, ``sequence``, ``crossed`` or a sentence.
    """

    verified: int
    unverified: int
    faults: dict[str, int]


@dataclass(frozen=True)
class ChannelReport:
    """One channel of a recording.

    ``missed`` is the number of messages that are known to be missing: late ones are not, as they
    have come. ``unknown`` is the number of gaps of which nobody knows how many are missing.
    ``gaps`` has the gaps by their reasons, without late and duplicate messages. Silences are in
    seconds, while a connection that carries the channel was open; ``silences`` is the number of
    those beyond the limit. ``coverage`` is the share (0 to 1) of the time from the first to the
    last message in which the recorder ran and such a connection was open. ``first`` and ``last``
    are the times of these messages (ns since the epoch). All three are None without a message.
    """

    channel: str
    messages: int
    missed: int
    unknown: int
    gaps: dict[str, GapCount]
    late: int
    duplicates: int
    longest_silence: float
    silences: int
    coverage: float | None
    first: int | None
    last: int | None
    book: BookReport | None
    is_whole: bool


@dataclass(frozen=True)
class LossReport:
    """What the recorder itself has lost, at ``time`` (ns since the epoch); see ``why``.

    ``messages`` and ``frames`` are their numbers; with ``is_unknown`` there may be any number more.
    ``since`` is the time of the last record before.
    """

    time: int
    since: int | None
    why: str
    messages: int
    frames: int
    is_unknown: bool


@dataclass(frozen=True)
class DamageReport:
    """A part of a file that cannot be read: where it begins (bytes), its size, and why."""

    path: str
    position: int
    size: int
    why: str


@dataclass(frozen=True)
class RecordingReport:
    """One recording: the files of one recorder, from its start to its end.

    ``start`` and ``end`` are the times of its first and last record (ns since the epoch).
    ``unfinished`` are the files that are being written, or were when their recorder was killed.
    ``clock_steps`` is how often the wall clock stepped by more than 30 ms against the monotonic
    clock, ``largest_step`` the largest step (s, negative backwards). ``unchecked`` says why its
    order books could not be checked, empty if they were.
    """

    id: str
    venue: str
    name: str
    url: str
    files: int
    start: int | None
    end: int | None
    frames: int
    messages: int
    channels: list[ChannelReport]
    losses: list[LossReport]
    clock_steps: int
    largest_step: float
    damage: list[DamageReport]
    unfinished: list[str]
    unchecked: str
    is_whole: bool


@dataclass(frozen=True)
class Report:
    """What :func:`check` has found. ``is_whole`` is False if anything is missing or damaged.

    ``damage`` has the files that are no recordings, or cannot be read at all. ``silence`` is the
    limit (s).
    """

    recordings: list[RecordingReport]
    damage: list[DamageReport]
    silence: float
    is_whole: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the report in plain types, for JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found
