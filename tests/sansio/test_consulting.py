"""A dialect is called without the lock: its possible answers, and what may happen meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from support.rig import Plain, Rig
from wsclient.dialect.values import Credentials, Limits
from wsclient.errors import SubscriptionRejected
from wsclient.messages import SubscriptionState
from wsclient.sansio.actions import Consult
from wsclient.sansio.life import State
from wsclient.stream.items import Ack


class Watched(Plain):
    """A dialect that checks that it may be called now."""

    is_asked = False

    def _check(self) -> None:
        assert self.is_asked, "a hook is called by a method of the supervisor"

    def batches(self, channels: Sequence[str]) -> Iterable[Sequence[str]]:
        self._check()
        for batch in super().batches(channels):
            self._check()
            yield iter(batch)  # type: ignore[misc]

    def subscribe(self, *args: Any) -> Any:
        self._check()
        return super().subscribe(*args)

    def unsubscribe(self, *args: Any) -> Any:
        self._check()
        return super().unsubscribe(*args)

    def refusal(self, channel: str, address: str) -> str | None:
        self._check()
        return super().refusal(channel, address)

    def first_message_within(self, channel: str) -> float | None:
        self._check()
        return super().first_message_within(channel)

    def access(self, channels: Sequence[str], credentials: Credentials) -> dict[str, Any]:
        self._check()
        return {"token": credentials["token"]}


class WatchedRig(Rig):
    """A rig that allows calls of the dialect only where the runtime makes them."""

    def consult(self) -> bool:
        dialect, consults = self.dialect, self.consults
        assert isinstance(dialect, Watched)
        self.consults = []
        for consult in consults:
            dialect.is_asked = True
            answer = consult.ask()
            dialect.is_asked = False
            consult.then(answer)
        return bool(consults)


def test_no_hook_is_called_by_a_method_of_the_supervisor() -> None:
    """Covers connect, subscribe, a reconnect, a refresh and an unsubscribe, with lazy batches."""
    rig = WatchedRig(Watched(Limits(channels_per_message=2)), stale_after=30.0)
    rig.connect()
    rig.supervisor.opened(rig.cid, None, rig.now, Credentials({"token": "t"}, lambda: 0.0))
    rig.tick()
    rig.subscribe("a", "b", "c")
    rig.ack("a", "b", "c")
    rig.wait(30.0)
    rig.drop()
    rig.open()
    rig.ack("a", "b", "c")
    rig.unsubscribe("a", "b", "c")
    assert rig.asked()[-2:] == [("unsubscribe", ["a", "b"]), ("unsubscribe", ["c"])]


def test_only_one_question_is_open_at_a_time() -> None:
    rig = Rig(Plain(Limits(channels_per_message=2))).open()
    rig.holds = True
    rig.subscribe("a", "b", "c")
    rig.subscribe("d")
    for _ in range(3):
        rig.tick()
    assert len(rig.done(Consult)) == 1
    rig.holds = False
    rig.tick()
    assert [channels for _, channels in rig.asked()] == [["a", "b"], ["c"], ["d"]]


def test_a_channel_that_joins_a_request_while_its_question_is_open_goes_in_a_later_one() -> None:
    """Otherwise it would be forgotten: the answer does not name it."""
    rig = Rig().open()
    for name in "abc":
        rig.subscribe(name, timeout=1.0)
    rig.wait(1.0)
    rig.holds = True
    rig.ack("a", "b")  # too late: they are unsubscribed, in two requests
    rig.ack("c")  # joins the second one
    rig.holds = False
    rig.tick()
    assert rig.asked()[3:] == [("unsubscribe", [name]) for name in "abc"]


def test_nothing_is_due_while_a_question_is_open() -> None:
    """Otherwise the watchdog, which waits for the answer itself, would never be idle."""
    rig = Rig(ack_timeout=50.0).open()
    rig.wait(10.0)
    rig.holds = True
    rig.subscribe("a")
    assert rig.deadline() == float("inf")
    assert not rig.is_due
    rig.consult()
    assert rig.is_due


def test_messages_are_made_only_when_the_rate_limit_allows_sending_them() -> None:
    """A message may contain a time or a signature, so it is made when it can be sent."""
    rig = Rig(Plain(Limits(messages_per_second=2.0))).open()
    rig.subscribe("a", "b", "c")
    asked = len(rig.done(Consult))
    rig.wait(0.999)
    assert len(rig.done(Consult)) == asked
    assert len(rig.sent()) == 2
    rig.wait(0.001)
    assert len(rig.sent()) == 3


def test_a_made_message_waits_if_others_have_used_up_the_rate_limit() -> None:
    rig = Rig(Plain(Limits(messages_per_second=1.0))).open()
    rig.holds = True
    rig.subscribe("a")
    for _ in range(2):
        rig.consult()
        rig.connection.sending.spend(rig.now)  # a caller's own message
        rig.tick()
    assert rig.sent() == []
    rig.holds = False
    rig.wait(2.0)
    assert len(rig.sent()) == 1


# --- meanwhile -----------------------------------------------------------------------------------


def held(*channels: str, steps: int = 1, **options: Any) -> Rig:
    """Return a rig whose question number ``steps`` is open: 1 is for batches, 2 for messages."""
    rig = Rig(Plain(Limits(channels_per_message=10)), **options).open()
    rig.holds = True
    rig.subscribe(*channels, token="call")
    for _ in range(steps - 1):
        rig.consult()
        rig.tick()
    assert len(rig.consults) == 1
    return rig


def go_on(rig: Rig) -> None:
    rig.holds = False
    rig.tick()


@pytest.mark.parametrize("steps", [1, 2])
def test_a_channel_no_longer_wanted_is_not_requested(steps: int) -> None:
    rig = held("a", "b", "c", steps=steps)
    rig.unsubscribe("b")
    go_on(rig)
    assert rig.asked() == [("subscribe", ["a", "c"])]


@pytest.mark.parametrize("steps", [1, 2])
def test_nothing_is_sent_if_no_channel_is_wanted_any_more(steps: int) -> None:
    rig = held("a", steps=steps)
    rig.unsubscribe("a")
    go_on(rig)
    assert rig.asked() == []


@pytest.mark.parametrize("steps", [1, 2])
def test_a_channel_unsubscribed_and_wanted_again_is_requested_once(steps: int) -> None:
    rig = held("a", "b", steps=steps)
    rig.unsubscribe("b")
    rig.subscribe("b", token="again")
    go_on(rig)
    assert rig.asked() == [("subscribe", ["a"]), ("subscribe", ["b"])]


@pytest.mark.parametrize("steps", [1, 2])
def test_an_answer_for_an_ended_connection_is_ignored(steps: int) -> None:
    rig = held("a", steps=steps)
    (old,) = rig.consults
    rig.consults.clear()
    rig.drop()
    rig.holds = False
    rig.open()
    assert rig.asked() == [("subscribe", ["a"])]
    old.then(old.ask())
    old.failed(ValueError("late"))
    rig.tick()
    assert rig.asked() == [("subscribe", ["a"])]
    rig.ack("a")
    assert rig.outcome("call") is None


@pytest.mark.parametrize("steps", [1, 2])
def test_after_close_an_answer_does_nothing(steps: int) -> None:
    rig = held("a", steps=steps)
    (old,) = rig.consults
    rig.close()
    old.then(old.ask())
    rig.tick()
    assert rig.asked() == []
    assert rig.state is State.CLOSED


def test_an_alias_that_changes_in_the_meantime_is_sent() -> None:
    rig = Rig().active("a")
    rig.receive(Ack(channel="a", alias="#1"))
    rig.holds = True
    rig.unsubscribe("a")
    rig.consult()
    rig.tick()
    rig.receive(Ack(channel="a", alias="#2"))
    go_on(rig)
    assert rig.asked()[-1] == ("unsubscribe", ["#2"])


# --- faults of a dialect -------------------------------------------------------------------------


def endless(channels: Sequence[str]) -> Iterator[list[str]]:
    for channel in itertools.cycle(channels):
        yield [channel]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def raising(error: BaseException) -> Callable[..., Any]:
    def hook(*args: Any) -> Any:
        raise error

    return hook


BATCHES: dict[str, tuple[Callable[..., Any], str]] = {
    "a lost channel": (lambda channels: [channels[:1]], "ValueError: batches() left out 'b'"),
    "an unknown channel": (lambda channels: [[*channels, "x"]], "'x' twice, or was not given it"),
    "a duplicate channel": (
        lambda channels: [channels, channels[:1]],
        "'a' twice, or was not given it",
    ),
    "endless batches": (endless, "more messages than"),
    "endless empty batches": (lambda channels: itertools.repeat([]), "more messages than"),
    "no lists": (lambda channels: 7, "TypeError"),
    "an unhashable name": (lambda channels: [[[]]], "TypeError"),
    "an exception": (raising(ValueError("no such thing")), "ValueError: no such thing"),
    "an exit": (raising(SystemExit("bye")), "SystemExit: bye"),
    "an exception without a text": (raising(Unprintable()), "Unprintable"),
}


@pytest.mark.parametrize("fault", BATCHES)
def test_invalid_batches_refuse_only_their_channels(fault: str) -> None:
    hook, reason = BATCHES[fault]
    rig = Rig().active("mine")
    plain = rig.dialect.batches
    rig.dialect.batches = hook  # type: ignore[method-assign]
    bad = rig.subscribe("a", "b")
    rig.dialect.batches = plain  # type: ignore[method-assign]
    good = rig.subscribe("c")
    rig.ack("c")
    error = rig.outcome(bad)
    assert isinstance(error, SubscriptionRejected)
    assert error.failed.keys() == {"a", "b"}
    assert all(reason in text for text in error.failed.values())
    assert rig.outcome(good) is None
    assert rig.supervisor.wanted.state("mine") is SubscriptionState.ACTIVE


@pytest.mark.parametrize("hook", ["subscribe", "unsubscribe", "access"])
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no"), Unprintable()], ids=repr)
def test_a_message_that_cannot_be_made_refuses_only_its_channels(
    hook: str, error: BaseException
) -> None:
    rig = Rig()
    rig.connect()
    rig.supervisor.opened(rig.cid, None, rig.now, Credentials({}, lambda: 0.0))
    rig.tick()
    rig.subscribe("mine")
    rig.ack("mine")
    setattr(rig.dialect, hook, raising(error))
    token = rig.unsubscribe("mine") if hook == "unsubscribe" else rig.subscribe("a")
    outcome = rig.outcome(token)
    assert isinstance(outcome, SubscriptionRejected)
    assert type(error).__name__ in next(iter(outcome.failed.values()))
    assert rig.supervisor.wanted.state("mine") is SubscriptionState.ACTIVE


@pytest.mark.parametrize(
    "refusal",
    [*map(raising, (ValueError("no"), SystemExit("no"), Unprintable())), lambda *args: 7],
    ids=["an exception", "an exit", "an exception without a text", "no text"],
)
def test_an_invalid_refusal_refuses_only_its_channel(
    refusal: Callable[..., Any],
) -> None:
    rig = Rig(Plain(Limits(channels_per_message=10))).open()
    rig.dialect.refusal = (  # type: ignore[method-assign]
        lambda channel, address: refusal() if channel == "bad" else None
    )
    token = rig.subscribe("a", "bad", "b")
    assert rig.asked() == [("subscribe", ["a", "b"])]
    rig.ack("a", "b")
    outcome = rig.outcome(token)
    assert isinstance(outcome, SubscriptionRejected)
    assert outcome.failed.keys() == {"bad"}


def test_an_unsubscribe_is_never_refused_by_the_dialect() -> None:
    rig = Rig().active("a")
    rig.dialect.refusal = lambda channel, address: "no"  # type: ignore[method-assign]
    rig.unsubscribe("a")
    assert rig.asked()[-1] == ("unsubscribe", ["a"])


def test_a_refusal_of_an_unwanted_channel_has_no_effect() -> None:
    rig = held("a")
    plain = rig.dialect.refusal
    rig.dialect.refusal = lambda channel, address: "no"  # type: ignore[method-assign]
    rig.unsubscribe("a")
    again = rig.subscribe("a", token="again")
    rig.consult()
    rig.dialect.refusal = plain  # type: ignore[method-assign]
    go_on(rig)
    assert rig.asked() == [("subscribe", ["a"])]
    rig.ack("a")
    assert rig.outcome(again) is None


def test_a_message_that_cannot_be_encoded_is_refused() -> None:
    rig = Rig().open()
    rig.dialect.subscribe = lambda *args: object()  # type: ignore[method-assign]
    assert isinstance(rig.outcome(rig.subscribe("a")), SubscriptionRejected)


def test_an_internal_error_refuses_the_channels_in_question() -> None:
    for steps in (1, 2):
        rig = held("a", steps=steps)
        rig.consults.pop().failed(MemoryError())
        go_on(rig)
        assert isinstance(rig.outcome("call"), SubscriptionRejected)
