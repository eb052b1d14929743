"""Intake: what the careful path leaves behind if a read ends in an unforeseen error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.rig import Rig
from wsclient.messages import Message
from wsclient.sansio.actions import Deliver


class Broken:
    """Entries that cannot be iterated over."""

    def __iter__(self) -> Iterator[Any]:
        raise MemoryError


def test_after_a_read_that_failed_a_message_without_a_frame_is_still_delivered() -> None:
    rig = Rig().active("a")
    entries: Any = Broken()
    with pytest.raises(MemoryError):
        rig.received(rig.cid, entries, rig.now)
    lost = Message("a", "lost")
    rig.supervisor.output.deliver(lost)
    assert [action.message for action in rig.done(Deliver)] == [lost]
