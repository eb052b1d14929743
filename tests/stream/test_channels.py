"""The tables of channels and of their aliases, as a client uses them."""

from __future__ import annotations

import pytest

from support.making import message
from support.rig import Plain, Rig
from wsclient.dialect.values import Limits
from wsclient.messages import Gap
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import Ack

# --- aliases that last as long as the connection -------------------------------------------------


def test_data_under_an_alias_belongs_to_the_channel() -> None:
    rig = Rig().open()
    rig.subscribe("a")
    rig.receive(Ack(channel="a", alias="#7"))
    (named,) = rig.data("#7", 1)
    (refused,) = (rig.receive(Invalid("no", message("#7", sequence=2))), rig.data("#7", 3))[1]
    assert (named.channel, refused.channel) == ("a", "a")
    assert refused.gap is not None
    assert refused.gap.missed == 1


def test_a_channel_is_unsubscribed_by_its_alias() -> None:
    rig = Rig().open()
    rig.subscribe("a")
    rig.receive(Ack(channel="a", alias="#7"))
    token = rig.unsubscribe("a")
    assert rig.asked()[-1] == ("unsubscribe", ["#7"])
    rig.receive(Ack(channel="#7"))
    assert rig.outcome(token) is None


def test_a_channel_is_unsubscribed_by_its_newest_alias() -> None:
    rig = Rig().open()
    rig.subscribe("a")
    for alias in ("#7", "#8", "#7"):
        rig.receive(Ack(channel="a", alias=alias))
    rig.unsubscribe("a")
    assert rig.asked()[-1] == ("unsubscribe", ["#7"])


def test_an_alias_ends_with_its_connection() -> None:
    rig = Rig().open()
    rig.subscribe("a")
    rig.receive(Ack(channel="a", alias="#7"))
    rig.drop()
    rig.open()
    (unnamed,) = rig.data("#7")
    assert unnamed.channel == "#7"


# --- channels that a venue invents ---------------------------------------------------------------

ROOM = 20


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsclient.stream.channels.STRANGERS", ROOM)
    monkeypatch.setattr("wsclient.sansio.names.STRANGERS", ROOM)


def test_of_channels_that_nobody_asked_for_the_newest_are_known(little_room: None) -> None:
    rig = Rig().active("mine")
    rig.data("mine", 1)
    known = rig.supervisor.upkeep.channels.by_name
    for i in range(3 * ROOM):
        rig.received(rig.cid, [rig.message(f"x{i}", 1)], rig.now)
        assert len(known) <= ROOM + 1
    assert list(known)[-ROOM // 2 :] == [f"x{i}" for i in range(3 * ROOM - ROOM // 2, 3 * ROOM)]
    assert rig.data("mine", 2)[0].gap is None


def test_a_channel_that_may_have_been_forgotten_marks_a_gap(
    little_room: None,
) -> None:
    rig = Rig()
    rig.open()
    names = [f"x{i}" for i in range(ROOM + 1)]
    first = [rig.received(rig.cid, [rig.message(name, 1)], rig.now)[0] for name in names]
    assert {message.gap for message in first} == {None, Gap("sequence", None, None)}
    (again,) = rig.data("x0", 3)
    assert again.gap == Gap("sequence", None, None)
    (known,) = rig.data(f"x{ROOM}", 3)
    assert known.gap is not None
    assert known.gap.missed == 1
    rig.active("mine")
    assert rig.data("mine", 1)[0].gap is None


def test_no_channel_that_is_wanted_is_forgotten(little_room: None) -> None:
    names = [f"x{i}" for i in range(2 * ROOM)]
    rig = Rig(Plain(Limits(ROOM))).active(*names)
    assert list(rig.supervisor.upkeep.channels.by_name) == names


def test_aliases_of_wanted_channels_are_kept(little_room: None) -> None:
    rig = Rig().open()
    rig.subscribe("a")
    rig.receive(Ack(channel="a", alias="#0"))
    for i in range(1, ROOM + 1):
        rig.received(rig.cid, [Ack(channel=f"x{i}", alias=f"#{i}")], rig.now)
    first, forgotten, newest = (rig.data(f"#{i}")[0].channel for i in (0, 1, ROOM))
    assert (first, forgotten, newest) == ("a", "#1", f"x{ROOM}")
