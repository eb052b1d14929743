"""Message, Gap and Subscription."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import entries_of
from support.making import message as make
from wsclient import Generic, Kraken
from wsclient.messages import (
    GAP_REASONS,
    Arrival,
    Gap,
    Message,
    Subscription,
    Subscriptions,
    SubscriptionState,
)
from wsclient.stream.inbound import Inbound

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
        "recorder",
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


AT = 1_700_000_000_123_456_789
ARRIVAL = Arrival(AT, 1, None)
RECEIVED = "received 2023-11-14 22:13:20.123456Z"


@pytest.mark.parametrize(
    ("msg", "text"),
    [
        (Message("a", raw=b'{"n": 1}'), """<Message 'a' type='update' b'{"n": 1}'>"""),
        (
            Message("a", sequence=0, arrival=ARRIVAL, raw=b"{}"),
            f"<Message 'a' type='update' sequence=0 {RECEIVED} b'{{}}'>",
        ),
        (
            Message("a", "lost", arrival=ARRIVAL, gap=Gap("sequence", 2, 5)),
            f"<Message 'a' type='lost' {RECEIVED} gap=Gap(reason='sequence', missed=2, since=5)>",
        ),
    ],
)
def test_repr(msg: Message, text: str) -> None:
    assert repr(msg) == text


def test_a_repr_is_short_and_printable_whatever_the_payload() -> None:
    for raw in (b"x" * 10**7, bytes(range(256)) * 9, "\u202e\n\x1b[31m".encode() * 99):
        text = repr(Message("a", raw=raw))
        assert len(text) < 600
        assert text.isprintable()


def test_a_repr_decodes_nothing() -> None:
    msg = message(b"not JSON")
    assert "not JSON" in repr(msg)
    assert msg.decoded is msgspec.UNSET


def test_the_repr_of_one_of_several_shows_its_own_data() -> None:
    raw = b'[{"n":1},{"n":2}]'
    text = repr(Message("a", item=1, raw=raw, decoded={"n": 2}))
    assert text == """<Message 'a' type='update' item=1 b'{"n":2}'>"""


@pytest.mark.parametrize("decoded", [msgspec.UNSET, object()])
def test_the_repr_of_one_of_several_shows_the_frame_if_its_data_cannot_be_shown(
    decoded: Any,
) -> None:
    assert "whole frame" in repr(Message("a", item=1, raw=b"whole frame", decoded=decoded))


# --- times ---------------------------------------------------------------------------------------

TIMED = b'{"type":"market_data","channel":"a","sent":1700000000123}'


def timed(raw: bytes = TIMED) -> Message:
    (found,) = entries_of(Inbound(Generic(timestamp_field="sent")), raw)
    assert isinstance(found, Message)
    return found


def test_the_time_is_the_venues() -> None:
    assert timed().time == 1_700_000_000_123 * 10**6
    assert timed().time_utc == datetime(2023, 11, 14, 22, 13, 20, 123000, timezone.utc)


@pytest.mark.parametrize("field", [b'"sent":"soon"', b'"other":1700000000123'])
def test_without_a_time_of_the_venue_it_is_none(field: bytes) -> None:
    msg = timed(b'{"type":"market_data","channel":"a",%s}' % field)
    assert (msg.time, msg.time_utc) == (None, None)


def test_a_message_made_by_hand_has_no_time() -> None:
    assert (Message("a").time, Message("a").time_utc) == (None, None)


def test_a_dialect_that_raises_gives_no_time() -> None:
    class Odd(Generic):
        def timestamp(self, message: Message) -> int | None:
            raise LookupError

    (found,) = entries_of(Inbound(Odd()), TIMED)
    assert isinstance(found, Message)
    assert found.time is None


@pytest.mark.parametrize(
    "twin", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy, Message.copy]
)
def test_a_copy_has_the_times_too(twin: Callable[[Message], Message]) -> None:
    """Likewise a copy of the copy, and an unpickled message, which holds no dialect."""
    msg = timed()
    other = twin(twin(msg))
    assert (other.time, other.time_utc) == (msg.time, msg.time_utc)
    assert (other.received_at, other.received_at_utc) == (msg.received_at, msg.received_at_utc)


def test_each_of_several_messages_of_a_frame_has_its_own_time() -> None:
    rows = [b'{"symbol":"a","timestamp":"2023-11-14T22:13:20.%dZ"}' % each for each in (100, 200)]
    raw = b'{"channel":"trade","type":"update","data":[%s]}' % b",".join(rows)
    found = entries_of(Inbound(Kraken()), raw)
    times = [m.time_utc for m in found if isinstance(m, Message)]
    assert [at and at.microsecond for at in times] == [100_000, 200_000]


def test_when_it_was_received_as_a_datetime() -> None:
    msg = Message("a", arrival=Arrival(AT, 1, None))
    assert msg.received_at_utc == datetime(2023, 11, 14, 22, 13, 20, 123456, timezone.utc)


# --- Subscription --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", SubscriptionState)
def test_a_subscription_is_active_when_it_is_confirmed(state: SubscriptionState) -> None:
    assert Subscription("a", state).is_active == (state is SubscriptionState.ACTIVE)


ACTIVE = Subscription("a", SubscriptionState.ACTIVE, {"token": "S3CRET"})
GONE = Subscription("b", SubscriptionState.PENDING, gap=Gap("reconnect"))


def test_the_repr_of_a_subscription_says_its_state_and_no_option() -> None:
    assert repr(ACTIVE) == "<Subscription 'a' active>"
    assert repr(GONE) == (
        "<Subscription 'b' pending gap=Gap(reason='reconnect', missed=None, since=None)>"
    )


def test_subscriptions_are_a_list_that_is_shown_in_lines() -> None:
    found = Subscriptions([ACTIVE, ACTIVE])
    assert found == [ACTIVE, ACTIVE]
    assert repr(found) == "2 subscriptions:\n    'a' active\n    'a' active"
    assert repr(Subscriptions([ACTIVE])) == "1 subscription:\n    'a' active"
    assert repr(Subscriptions()) == "0 subscriptions"


def test_of_many_subscriptions_the_first_ten_are_shown() -> None:
    lines = repr(Subscriptions([ACTIVE] * 500)).splitlines()
    assert len(lines) == 12
    assert lines[-1].strip() == "... and 490 more"
