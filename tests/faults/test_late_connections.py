"""A connection whose reader is held up is replaced; what it brings afterwards is not delivered."""

from __future__ import annotations

import threading

import pytest

import wsclient
from support.helpers import until
from wsclient import events
from wsclient.testing import FakeVenue

#: How long (s) anything may take on a busy machine.
PATIENCE = 30.0


@pytest.mark.parametrize("is_refused", [False, True], ids=["valid", "refused"])
def test_a_message_held_up_until_the_next_connection_is_missed_and_marked(is_refused: bool) -> None:
    held, released = threading.Event(), threading.Event()
    dialect = wsclient.Generic(limits=wsclient.Limits(connections=1))

    def validate(message: wsclient.Message) -> None:
        if message.sequence == 2:
            held.set()
            released.wait(PATIENCE)
            if is_refused:
                raise ValueError("two")

    with (
        FakeVenue("generic") as venue,
        wsclient.connect(venue.url, dialect=dialect, validate=validate) as client,
    ):
        stream = client.events()
        client.subscribe("a")
        venue.publish("a")
        assert client.recv(timeout=PATIENCE).sequence == 1
        venue.publish("a")
        assert held.wait(PATIENCE)
        (old,) = (t for t in threading.enumerate() if t.name == "wsclient-reader-1")
        client.rotate(timeout=PATIENCE)  # ends it, as only one is allowed
        while not isinstance(stream.recv(timeout=PATIENCE), events.Recovered):
            pass
        assert old.is_alive(), "its function has not returned yet"
        venue.publish("a")
        first = client.recv(timeout=PATIENCE)
        assert (first.sequence, first.connection_id) == (3, 2)
        assert first.gap is not None
        assert first.gap[:2] == ("reconnect", 1)
        released.set()
        until(lambda: not old.is_alive())
        venue.publish("a")
        second = client.recv(timeout=PATIENCE)
        assert (second.sequence, second.gap) == (4, None)
        with pytest.raises(TimeoutError):
            client.recv(timeout=0)
        stats = client.stats()
        assert (stats.messages, stats.missed, stats.invalid) == (3, 1, 0)
