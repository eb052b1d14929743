"""A recorder in a process of its own, that is killed, and what feeds it."""

from __future__ import annotations

import threading
import time

from support.recorded import messages_in
from wsclient.recording.folder import Recording
from wsclient.testing import FakeVenue

__all__ = ["PROGRAM", "RATE", "Publisher", "sequences"]

RATE = 1000
PATIENCE = 20.0

#: Its arguments: the address, the folder, and the length of a chunk (s).
PROGRAM = """
import sys
import wsclient

with wsclient.connect(sys.argv[1], name="killed") as client:
    client.record(sys.argv[2], chunk_seconds=float(sys.argv[3]), state_seconds=0.3)
    client.subscribe("a")
    for message in client:
        pass
"""


class Publisher:
    """Publishes on a channel at RATE, and remembers when. Counts from 1, as the venue does."""

    def __init__(self, venue: FakeVenue) -> None:
        self._venue = venue
        self.times: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._is_over.wait(0.005):
            for _ in range(int((time.monotonic() - begin) * RATE) - len(self.times)):
                self.times.append(time.monotonic())
                self._venue.publish("a")


def sequences(recording: Recording) -> list[int]:
    return [m.sequence or 0 for entry in recording.read() for m in messages_in(entry)]
