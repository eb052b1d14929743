"""Decoding in the consumer's thread: what the user's code raises, and what a signal raises."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from support.helpers import Call
from support.making import entries_of
from support.making import message as make
from wsclient import Message
from wsclient.dialects import Generic, Kraken
from wsclient.runtime.decoding import Misfit, decoded
from wsclient.stream.declared import Types
from wsclient.stream.inbound import Inbound


class Tick(msgspec.Struct):
    price: float


def tick(price: Any = 1.5, channel: str = "a") -> Message:
    return make(channel, raw=msgspec.json.encode({"price": price}))


def kind_of(message: Message, kind: Any) -> Any:
    ((same, found, _),) = decoded([message], Types(kind))
    assert same is message
    assert message.kind is None, "the message is not changed"
    return found


def test_each_message_has_its_type_and_data() -> None:
    messages = [tick(), tick(channel="b"), tick("high"), tick(channel="c")]
    types = Types({"a": Tick, "b": dict})
    found = decoded(messages, types)
    assert [message for message, _, _ in found] == messages
    kinds = [kind for _, kind, _ in found]
    assert kinds[:2] + kinds[3:] == [Tick, dict, Any]
    assert isinstance(kinds[2], Misfit)
    assert [data for _, _, data in found] == [Tick(1.5), {"price": 1.5}, None, None]


def test_what_is_decoded_already_is_left_out() -> None:
    done, plain, undone = tick(), tick(), tick()
    done.kind, plain.kind = Tick, Any
    assert [message for message, _, _ in decoded([done, plain, undone], Types(Tick))] == [undone]


def test_what_has_no_payload_is_plain() -> None:
    lost = Message("a", "lost")
    empty = make("a", "lost", raw=b"")
    assert kind_of(lost, Tick) is kind_of(empty, Tick) is Any


def test_the_reason_is_given_with_a_bounded_excerpt() -> None:
    misfit = kind_of(tick("x" * 1000), Tick)
    assert misfit.text.startswith(
        "a message that does not fit its declared type (ValidationError: Expected `float`, got "
        "`str` - at `$.price`): b'{"
    )
    assert misfit.text.endswith("... (1012 bytes)")
    assert len(misfit.text) < 500


def test_items_of_a_frame_are_converted() -> None:
    rows = b'[{"symbol":"a","p":1},{"symbol":"b","p":{"7":2}}]'
    raw = b'{"channel":"trade","type":"update","data":%b}' % rows
    first, second = entries_of(Inbound(Kraken()), raw)

    class Row(msgspec.Struct):
        symbol: str
        p: dict[int, float]

    (one, two) = decoded([first, second], Types(Row))  # type: ignore[list-item]
    assert isinstance(one[1], Misfit)
    assert two[1:] == (Row, Row("b", {7: 2.0}))


class Csv(Generic):
    def __init__(self) -> None:
        super().__init__()
        self.data_fields = None

    def decoder(self, decimal: bool) -> Callable[[bytes], Any]:
        return lambda raw: raw.decode().split(",")

    def read(self, message: Any) -> Any:
        return Message(message[0])


def test_what_is_no_json_is_converted() -> None:
    fits, misfit = entries_of(Inbound(Csv()), b"a,1.5", b"a")
    (one, two) = decoded([fits, misfit], Types(tuple[str, str]))  # type: ignore[list-item]
    assert one[2] == ("a", "1.5")
    assert isinstance(two[1], Misfit)


def test_nesting_too_deep_for_the_stack_does_not_fit() -> None:
    depth = sys.getrecursionlimit() * 2
    message = make(raw=b'{"price":1.5,"x":' + b"[" * depth + b"]" * depth + b"}")

    class Deep(Tick):
        x: Any = None

    assert "RecursionError: maximum recursion depth" in kind_of(message, Deep).text


ERRORS = [ValueError, ZeroDivisionError, SystemExit, GeneratorExit, BaseException]


def raising(error: type[BaseException]) -> Any:
    class Raising(Tick):
        def __post_init__(self) -> None:
            raise error("no")

    return Raising


@pytest.mark.parametrize("error", ERRORS)
def test_what_a_type_raises_each_time_makes_a_misfit(error: type[BaseException]) -> None:
    assert f"{error.__name__}: no" in kind_of(tick(), raising(error)).text.replace(
        "ValidationError", "ValueError"
    )


@pytest.mark.parametrize("error", ERRORS)
def test_what_a_function_raises_each_time_makes_a_misfit(error: type[BaseException]) -> None:
    def choose(channel: str) -> Any:
        raise error("no")

    assert f"{error.__name__}: no" in kind_of(tick(), choose).text


def test_a_function_that_returns_no_type_makes_a_misfit() -> None:
    assert "ConfigurationError: decode must be" in kind_of(tick(), lambda channel: 5).text


def test_an_error_whose_text_raises_makes_a_misfit() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert "(Mute: Mute)" in kind_of(tick(), raising(Mute)).text


def test_a_keyboard_interrupt_makes_a_misfit_only_where_no_signal_can_come() -> None:
    kind = raising(KeyboardInterrupt)
    assert "KeyboardInterrupt: no" in Call(kind_of, tick(), kind).result().text
    with pytest.raises(KeyboardInterrupt):
        kind_of(tick(), kind)


@pytest.mark.parametrize("error", ERRORS[1:])
def test_what_is_raised_once_is_a_signals_and_comes_out(error: type[BaseException]) -> None:
    """As the handler of SIGALRM or SIGTERM does while the type's code runs."""
    signals = [error("once")]

    class Struck(Tick):
        def __post_init__(self) -> None:
            if signals:
                raise signals.pop()

    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(error, match="once"):
        kind_of(tick(), Struck)
    assert kind_of(tick(), Struck) is Struck


@pytest.mark.parametrize("error", ERRORS)
def test_what_is_raised_once_makes_a_misfit_where_no_signal_can_come(
    error: type[BaseException],
) -> None:
    errors = [error("once")]

    class Moody(Tick):
        def __post_init__(self) -> None:
            if errors:
                raise errors.pop()

    assert ": once" in Call(kind_of, tick(), Moody).result().text


def test_a_signal_in_the_code_of_a_misfit_comes_out() -> None:
    errors: list[BaseException] = [ZeroDivisionError("signal"), SystemExit("type")]

    class Struck(Tick):
        def __post_init__(self) -> None:
            raise errors.pop(0)

    with pytest.raises(ZeroDivisionError):
        kind_of(tick(), Struck)
