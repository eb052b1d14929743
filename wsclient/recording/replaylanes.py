"""The lanes of a client that plays recordings, one for each; and the clock that they share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wsclient.dialect.base import Dialect
from wsclient.recording.playback import Tape, before
from wsclient.recording.records import ClientState, Happened, Record, decode
from wsclient.recording.replayevents import ReplayedConnections
from wsclient.recording.restoring import Restorer
from wsclient.sansio.life import State
from wsclient.sansio.supervisor import Supervisor
from wsclient.threads.waiting import NEVER, Deadline

__all__ = ["Lane", "NoSources", "ReplayClock", "ReplayDeadline", "ReplaySupervisor", "recorded"]


class ReplayClock:
    """The clock of the recordings: the times of the last record played.

    ``at`` is by the monotonic clock of the first recording, ``time`` since the epoch (ns).
    """

    def __init__(self) -> None:
        self.at = self.time = 0

    def monotonic(self) -> float:
        return self.at / 1e9

    def time_ns(self) -> int:
        return self.time

    def wait_until(self, time: int) -> None:
        """Let time pass until ``time`` (ns since the epoch)."""
        if time > self.time:
            self.at += time - self.time
            self.time = time


class ReplayDeadline(Deadline):
    """A timeout (s) in recorded time, for several steps together. It ends at ``at`` (ns)."""

    def __init__(self, timeout: float | None, clock: ReplayClock) -> None:
        super().__init__(timeout)
        self._clock = clock
        if timeout is not None and timeout < NEVER.at:
            self.at = clock.time + round(timeout * 1e9)

    def remaining(self) -> float:
        return max(0.0, (self.at - self._clock.time) / 1e9)


class NoSources:
    """The sources of a client that has none."""

    def __init__(self) -> None:
        self.clock = ReplayClock()

    def mask(self, words: str) -> str:
        return words

    def make(self, *_: object) -> Any:
        raise AssertionError("a client that plays recordings opens no connection")


class ReplaySupervisor(Supervisor):
    """Holds the channels and the counters of a client; its state is the recorded one."""

    __slots__ = ("recorded",)

    recorded: State

    @property
    def state(self) -> State:
        return self.recorded if self.life.is_running else super().state


def recorded(kind: str, data: bytes) -> Record | None:
    """Return a record, None if it cannot be read."""
    try:
        return decode(kind, data)
    except ValueError:
        return None


class Lane(Restorer):
    """One recording of a playback: its tape, its messages and its connections."""

    def __init__(self, tape: Tape, dialect: Dialect, names: Iterable[str], *, decimal: bool):
        recording = tape.recording
        super().__init__(recording, dialect, decimal=decimal)
        self.tape = tape
        self.decimal = decimal
        #: Sessions of one client have the same.
        self.client = recording.venue, recording.name
        self.channels = dict.fromkeys(names)
        self.connections = ReplayedConnections()
        #: What is added to the recording's monotonic times (ns), so that all recordings have one
        #: clock; None before the first record.
        self.shift: int | None = None
        #: The time (ns since the epoch) of the last record.
        self.last: int | None = None

    def look_back(self) -> None:
        """Take in what is known of the connections before the first record."""
        happened: list[Happened] = []
        for _, kind, _, stored in before(self.tape.recording, self.tape.place):
            record = recorded(kind, stored[3]) if kind == "client" else None
            if isinstance(record, Happened):
                happened.append(record)
            elif isinstance(record, ClientState):
                self.connections.restart(record, record.at / 1e9)
                break
        for event in reversed(happened):
            self.connections.happened(event, event.at / 1e9)

    def again(self, channel: str) -> Lane:
        """Return a lane for a second pass over the records of a channel."""
        twin = Lane(self.tape, self.dialect, (channel,), decimal=self.decimal)
        twin.connections.origins = self.connections.origins
        return twin
