"""Declared types: a type, a mapping or a function, checked when they are declared."""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, TypedDict, Union

import msgspec
import pytest

from wsclient import ConfigurationError
from wsclient.stream.declared import MAX_CHANNELS, Types, types_of


class Tick(msgspec.Struct):
    price: float


class Trade(msgspec.Struct):
    price: float


@dataclass
class Row:
    tick: Tick


class Keys(TypedDict):
    price: float


class Linked(msgspec.Struct):
    next: Linked | None = None


class Callable_(msgspec.Struct):
    """A class is a type, although it can be called."""

    def __call__(self, channel: str) -> Any:
        raise AssertionError


Price = NewType("Price", float)


@pytest.mark.parametrize(
    "kind",
    [
        Tick,
        Row,
        Keys,
        Linked,
        Callable_,
        Price,
        dict,
        list[Tick],
        dict[str, float],
        Tick | None,
        Union[Tick, int],  # noqa: UP007 - the older form
        Literal["a"],
        msgspec.Raw,
    ],
    ids=repr,
)
def test_a_type_is_that_of_all_channels(kind: Any) -> None:
    types = Types(kind)
    assert types.kind is kind
    assert types.of("a") is types.of("b") is kind


def test_a_mapping_names_channels_and_all_others_are_plain() -> None:
    declared = {"a": Tick, "b": None, "c": Any}
    types = Types(declared)
    declared["d"] = Trade
    assert [types.of(channel) for channel in "abcd"] == [Tick, Any, Any, Any]
    assert types.kind is None


class Choice:
    """A function of any kind is asked once per channel."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, channel: str) -> Any:
        self.asked.append(channel)
        return {"a": Tick, "b": Trade}.get(channel)

    def method(self, channel: str) -> Any:
        return self(channel)


@pytest.mark.parametrize("how", ["object", "method", "partial", "lambda"])
def test_a_function_is_asked_once_per_channel(how: str) -> None:
    choice = Choice()
    functions = {
        "object": choice,
        "method": choice.method,
        "partial": functools.partial(Choice.method, choice),
        "lambda": lambda channel: choice(channel),
    }
    types = Types(functions[how])
    assert choice.asked == []
    assert [types.of(channel) for channel in "abcabc"] == [Tick, Trade, Any] * 2
    assert choice.asked == ["a", "b", "c"]
    assert types.kind is None


def test_a_function_is_asked_again_for_a_channel_that_was_forgotten() -> None:
    choice = Choice()
    types = Types(choice)
    types.of("a")
    types.forget("a")
    types.forget("never asked")
    types.of("a")
    assert choice.asked == ["a", "a"]


def test_what_is_declared_in_a_mapping_or_for_all_is_not_forgotten() -> None:
    for types in (Types({"a": Tick}), Types(Tick)):
        types.forget("a")
        assert types.of("a") is Tick


def test_a_function_that_raises_is_asked_again() -> None:
    answers: list[Any] = [ZeroDivisionError, 5, Tick]

    def choose(channel: str) -> Any:
        answer = answers.pop(0)
        if answer is ZeroDivisionError:
            raise answer
        return answer

    types = Types(choose)
    with pytest.raises(ZeroDivisionError):
        types.of("a")
    with pytest.raises(ConfigurationError, match="decode must be a type"):
        types.of("a")
    assert types.of("a") is types.of("a") is Tick


def test_the_answers_for_endless_channels_are_bounded() -> None:
    choice = Choice()
    types = Types(choice)
    for n in range(MAX_CHANNELS + 1):
        types.of(f"invented {n}")
    types.of("invented 0")
    assert len(choice.asked) == MAX_CHANNELS + 2


class Custom:
    pass


class Holder(msgspec.Struct):
    found: list[dict[str, Custom]]


class Dangling(msgspec.Struct):
    found: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    "declared",
    [
        Union[Tick, Trade],  # noqa: UP007 - msgspec cannot tell them apart
        5,
        "Tick",
        [Tick],
        Annotated[int, {}],  # unhashable
        Dangling,
        {"a": 5},
        {"a": len},
    ],
    ids=repr,
)
def test_what_is_no_type_is_refused(declared: Any) -> None:
    with pytest.raises(ConfigurationError, match="decode must be a type that msgspec can decode"):
        Types(declared)


@pytest.mark.parametrize("declared", [Custom, Holder, list[Custom], {"a": Custom}], ids=repr)
def test_a_class_that_msgspec_does_not_know_is_refused(declared: Any) -> None:
    with pytest.raises(ConfigurationError, match="msgspec cannot decode to Custom: declare a"):
        Types(declared)


def test_nothing_and_any_mean_plain_data() -> None:
    assert types_of(None) is types_of(Any) is None
    assert types_of(Tick) is not None


class Hooked(Tick):
    def __post_init__(self) -> None:
        pass


class Holds(msgspec.Struct):
    ticks: dict[str, list[Hooked]]


class Side(enum.Enum):
    BUY = "buy"


class Guessed(enum.Enum):
    BUY = "buy"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.BUY


class Sided(msgspec.Struct):
    side: Side
    rows: list[int] = []


class Made(msgspec.Struct):
    price: float = msgspec.field(default_factory=lambda: 1.0)


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        *((kind, False) for kind in (Tick, Linked, Row, Side, Sided, int)),
        *((kind, True) for kind in (Hooked, Holds, Guessed, Made, list[Guessed])),
    ],
)
def test_it_is_known_whether_a_type_runs_code_of_the_user(kind: Any, runs: bool) -> None:
    assert Types(kind).runs_code is runs
