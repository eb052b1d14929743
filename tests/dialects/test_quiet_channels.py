"""Which channels of each venue may stay silent, and which must send a first message."""

from __future__ import annotations

import pytest

from support.venues import VENUES


@pytest.mark.parametrize("name", VENUES)
def test_only_private_channels_and_rare_events_may_be_silent(name: str) -> None:
    venue = VENUES[name]
    dialect, quiet, others = venue.dialect, venue.quiet, venue.others
    assert [dialect.first_message_within(channel) for channel in quiet] == [None] * len(quiet)
    assert [dialect.first_message_within(channel) for channel in others] == [60.0] * len(others)
    assert others
