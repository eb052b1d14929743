"""A recording put through a session, payload by payload, and the edits that must be noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from making import entries_of
from rig import Rig

from wsclient.messages import Message
from wsclient.sansio.dialect import Dialect
from wsclient.sansio.inbound import Inbound
from wsclient.testing import read_recording

RECORDED = Path(__file__).parents[3] / "shared" / "recorded"


def payloads(name: str, direction: str) -> list[bytes]:
    """What was sent or received in a recording; skips the test where there is none."""
    path = RECORDED / name
    if not path.exists():
        pytest.skip("the recorded traffic is not here (../shared/recorded, beside the project)")
    return [item.payload for item in read_recording(path) if item.direction == direction]


class Bench:
    """An open session with a dialect, fed with payloads."""

    def __init__(self, dialect: Dialect) -> None:
        self._inbound = Inbound(dialect)
        self.rig = Rig(dialect).open()

    def feed(self, *frames: bytes) -> list[Message]:
        return self.rig.receive(*entries_of(self._inbound, *frames))

    def marks(self, frames: list[bytes]) -> list[tuple[int, str]]:
        """The index of each frame that brought a marked message, and the reason of the mark."""
        return [
            (index, message.gap.reason)
            for index, frame in enumerate(frames)
            for message in self.feed(frame)
            if message.gap is not None
        ]
