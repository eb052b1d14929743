"""The cost of a call does not depend on the number of wanted channels."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterable

import pytest

from support.counting import steps
from support.rig import Plain, Rig
from wsclient.dialect.values import Limits
from wsclient.stream.items import Ack, Ended


def subscribe(rig: Rig) -> None:
    rig.subscribe("new")
    rig.ack("new")


def unsubscribe(rig: Rig) -> None:
    rig.unsubscribe("new")
    rig.ack("new")


def unsubscribe_by_alias(rig: Rig) -> None:
    rig.receive(Ack(channel="new", alias="#new"))
    unsubscribe(rig)


def refuse(rig: Rig) -> None:
    rig.subscribe("bad")
    rig.reject("bad")


def look_up(rig: Rig) -> None:
    assert len(rig.supervisor.wanted) > 0
    rig.supervisor.wanted.among(["x0", "x1"])


def work(wanted: int) -> list[int]:
    names = [f"x{n}" for n in range(wanted)]
    rig = Rig(Plain(Limits(channels_per_message=100)), stale_after=1e6).active(*names)
    rig.receive(*(Ack(channel=name, alias=f"#{name}") for name in names))
    for name in names:
        rig.supervisor.upkeep.refreshes.want(name, rig.now)
        rig.supervisor.upkeep.refreshes.done(name)
    calls = (subscribe, unsubscribe, subscribe, unsubscribe_by_alias, refuse, look_up)
    found = []
    for call in calls:
        rig.actions.clear()
        rig.settled.clear()
        found.append(steps(lambda call=call: call(rig)))
    return found


@pytest.mark.skipif(sys.gettrace() is not None, reason="something else traces")
def test_the_cost_of_a_call_does_not_depend_on_the_wanted_channels() -> None:
    few, many = work(60), work(3000)
    for one, other in zip(few, many, strict=True):
        assert other <= 1.3 * one + 500


def leave_while_asked(rig: Rig, channel: str) -> None:
    """The dialect answers when nobody wants the channel any more."""
    rig.holds = True
    rig.subscribe(channel)
    rig.unsubscribe(channel)
    rig.holds = False
    rig.tick()


def leave_without_data(rig: Rig, channel: str) -> None:
    rig.active(channel).wait(60.0)
    assert channel in rig.supervisor.upkeep.first_messages.overdue()
    rig.unsubscribe(channel)
    rig.ack(channel)


def leave_when_ended(rig: Rig, channel: str) -> None:
    rig.active(channel)
    rig.received(rig.cid, [Ack(channel=channel, verb="unsubscribe")], rig.now)
    rig.unsubscribe(channel)


def leave_what_waits(rig: Rig, channel: str) -> None:
    rig.active(channel)
    rig.receive(Ended("gone", channel=channel))
    rig.unsubscribe(channel)
    rig.ack(channel)


def held_after(rig: Rig, leave: Callable[[Rig, str], None], names: Iterable[str]) -> int:
    """How much memory (bytes) there is when these channels have come and gone."""
    for name in names:
        leave(rig, name)
        rig.actions.clear()
        rig.settled.clear()
        rig.tokens.clear()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize(
    "leave", [leave_while_asked, leave_without_data, leave_when_ended, leave_what_waits]
)
def test_channels_that_come_and_go_leave_nothing_behind(leave: Callable[[Rig, str], None]) -> None:
    rig = Rig(Plain()).open()
    tracemalloc.start(1)
    try:
        held = held_after(rig, leave, (f"first-{n}" for n in range(60)))
        more = held_after(rig, leave, (f"second-{n}" for n in range(300))) - held
    finally:
        tracemalloc.stop()
    assert more < 9_000
