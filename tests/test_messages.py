"""Message, Gap and Subscription."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import message as make
from wsclient.messages import GAP_REASONS, Gap, Message, Subscription, SubscriptionState

reasons = st.sampled_from(GAP_REASONS)
gaps = st.builds(
    Gap, reasons, st.one_of(st.none(), st.integers(0, 9)), st.one_of(st.none(), st.integers(1, 9))
)


# --- Gap -----------------------------------------------------------------------------------------


@given(gaps, gaps, gaps)
def test_merging_is_associative(first: Gap, second: Gap, third: Gap) -> None:
    """Gaps merge into the same gap in any order."""
    assert first.merge(second).merge(third) == first.merge(second.merge(third))


@pytest.mark.parametrize(("strong", "weak"), list(combinations(GAP_REASONS, 2)))
def test_the_stronger_reason_names_the_gap(strong: str, weak: str) -> None:
    assert Gap(strong).merge(Gap(weak)).reason == strong
    assert Gap(weak).merge(Gap(strong)).reason == strong


def test_the_order_of_the_reasons() -> None:
    assert GAP_REASONS == (
        "rejected",
        "reconnect",
        "sequence",
        "overflow",
        "invalid",
        "conflate",
        "late",
        "duplicate",
    )


def test_what_was_missed_is_summed() -> None:
    assert Gap("sequence", 2).merge(Gap("sequence", 3)).missed == 5


@pytest.mark.parametrize(("one", "two"), [(None, 3), (3, None), (None, None)])
def test_what_was_missed_is_unknown_when_any_is(one: int | None, two: int | None) -> None:
    assert Gap("sequence", one).merge(Gap("sequence", two)).missed is None


def test_a_merged_gap_begins_after_the_message_before_the_first() -> None:
    assert Gap("overflow", 1, 10).merge(Gap("overflow", 1, 20)).since == 10
    assert Gap("overflow", 1, None).merge(Gap("overflow", 1, 20)).since is None


def test_a_gap_merged_with_none_is_itself() -> None:
    gap = Gap("overflow", 1, 10)
    assert gap.merge(None) is gap


def test_a_gap_is_true() -> None:
    """``if message.gap:`` must not depend on the gap's fields."""
    assert Gap("overflow", 0, None)


# --- Message -------------------------------------------------------------------------------------


def message(raw: bytes = b'{"n": 1}', **fields: Any) -> Message:
    return make("a", raw=raw, received_at=10, connection_id=3, **fields)


class Counting:
    """A dialect that counts how often it decodes."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []

    def data(self, message: Message) -> Any:
        self.calls.append(message.raw)
        return json.loads(message.raw)


def test_data_is_decoded_on_first_use_and_kept() -> None:
    decoder = Counting()
    msg = message(decoder=decoder)
    assert decoder.calls == []
    assert msg.data is msg.data
    assert msg.data == {"n": 1}
    assert decoder.calls == [b'{"n": 1}']


def test_data_that_is_none_is_decoded_once_too() -> None:
    decoder = Counting()
    msg = message(b"null", decoder=decoder)
    assert (msg.data, msg.data) == (None, None)
    assert len(decoder.calls) == 1


def test_decode_gives_a_type_of_the_users() -> None:
    class Number(msgspec.Struct):
        n: int

    assert message().decode(Number) == Number(1)
    with pytest.raises(msgspec.ValidationError):
        message(b'{"n": "x"}').decode(Number)


def test_a_copy_has_a_gap_of_its_own() -> None:
    msg = message(gap=Gap("sequence", 1))
    msg.previous_at = 5
    copy = msg.copy()
    copy.gap = None
    assert msg.gap == Gap("sequence", 1)


def test_a_copy_is_the_same_in_all_else() -> None:
    msg = message(sequence=7, gap=Gap("sequence", 1))
    msg.previous_at = 5
    copy = msg.copy()
    for name in ("channel", "type", "sequence", "raw", "received_at", "connection_id", "gap",
                 "previous_at", "data"):  # fmt: skip
        assert getattr(copy, name) == getattr(msg, name), name


def test_a_message_takes_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        message().other = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("msg", "text"),
    [
        (message(), "<Message 'a' type='update' 8 bytes>"),
        (message(sequence=0), "<Message 'a' type='update' sequence=0 8 bytes>"),
        (
            message(gap=Gap("sequence", 2, 5)),
            "<Message 'a' type='update' gap=Gap(reason='sequence', missed=2, since=5) 8 bytes>",
        ),
    ],
)
def test_repr(msg: Message, text: str) -> None:
    assert repr(msg) == text


# --- Subscription --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", SubscriptionState)
def test_a_subscription_is_active_when_it_is_confirmed(state: SubscriptionState) -> None:
    assert Subscription("a", state).is_active == (state is SubscriptionState.ACTIVE)
