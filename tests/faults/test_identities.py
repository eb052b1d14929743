"""A dialect whose identities of messages cannot be compared."""

from __future__ import annotations

import pytest

import wsclient
from support.helpers import Call
from wsclient.dialect import Limits
from wsclient.messages import Message
from wsclient.testing import FakeVenue


class Odd:
    """A key that cannot be compared."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError("not comparable")


class OddDialect(wsclient.Generic):
    def identity(self, message: Message) -> Odd:
        return Odd()


def test_an_identity_that_cannot_be_compared_ends_no_connection() -> None:
    dialect = OddDialect(numbers_are_shared=False, limits=Limits(connects=None))
    with FakeVenue() as venue, wsclient.connect(venue.url, dialect=dialect) as client:
        client.subscribe("a")
        call = Call(client.rotate, 20.0)
        venue.wait_for(lambda venue: len(venue.subscribers("a")) == 2, 10.0)
        delivered = []
        for number in range(300):
            venue.publish("a", price=number)
            delivered.append(client.recv(timeout=5))
        assert venue.journal.compare(delivered).is_exact
        assert client.stats().disconnects == 0
    with pytest.raises(wsclient.ClientClosed):  # nothing proves that nothing was missed
        call.result()
