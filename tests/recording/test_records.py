"""The records in MessagePack, as this version writes and any other reads them."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsclient.messages import Gap, LinkedMessage, Message
from wsclient.recording.records import (
    Answer,
    BookSnapshot,
    ChannelState,
    ClientRecord,
    ClientState,
    ConnectionState,
    End,
    Frame,
    Happened,
    Lost,
    MissedPart,
    Part,
    SentFrame,
    decode,
    encode,
    message_of,
    part_of,
)

NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
GAPS = st.builds(MissedPart, TEXTS, st.none() | NUMBERS, st.none() | NUMBERS)
PARTS = st.builds(
    Part,
    st.none() | TEXTS,
    TEXTS,
    st.none() | NUMBERS,
    st.none() | NUMBERS,
    st.none() | GAPS,
    st.none() | NUMBERS,
    st.none() | st.booleans(),
)
FRAMES = st.builds(
    Frame, NUMBERS, NUMBERS, st.binary(), st.lists(PARTS), st.booleans(), st.booleans()
)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)
OPTIONS = st.dictionaries(TEXTS, PLAIN)
LEVELS = st.lists(st.tuples(TEXTS, TEXTS))
CHANNELS = st.builds(
    ChannelState,
    name=TEXTS,
    is_confirmed=st.booleans(),
    options=OPTIONS,
    messages=NUMBERS,
    last=st.none() | NUMBERS,
    last_received_at=st.none() | NUMBERS,
    gap=st.none() | GAPS,
)
CONNECTIONS = st.builds(
    ConnectionState,
    id=NUMBERS,
    route=TEXTS,
    address=TEXTS,
    origin=NUMBERS,
    aliases=st.dictionaries(TEXTS, TEXTS),
)
KINDS: list[st.SearchStrategy[Any]] = [
    st.builds(
        SentFrame, at=NUMBERS, connection_id=NUMBERS, payload=st.binary(), is_binary=st.booleans()
    ),
    st.builds(
        Happened,
        at=NUMBERS,
        name=TEXTS,
        fields=OPTIONS,
        connection_id=NUMBERS,
        number=NUMBERS,
        origin=st.none() | NUMBERS,
    ),
    st.builds(Answer, at=NUMBERS, channel=TEXTS, connection_id=NUMBERS, body=st.binary()),
    st.builds(
        Lost,
        at=NUMBERS,
        why=TEXTS,
        since=st.none() | NUMBERS,
        channels=st.dictionaries(TEXTS, NUMBERS),
        frames=NUMBERS,
        is_unknown=st.booleans(),
    ),
    st.builds(
        ClientState,
        at=NUMBERS,
        state=TEXTS,
        channels=st.lists(CHANNELS, max_size=3),
        connections=st.lists(CONNECTIONS, max_size=3),
    ),
    st.builds(
        BookSnapshot,
        at=NUMBERS,
        channel=TEXTS,
        bids=LEVELS,
        asks=LEVELS,
        origin=NUMBERS,
        sequence=st.none() | NUMBERS,
        received_at=st.none() | NUMBERS,
        options=OPTIONS,
    ),
    st.builds(End, at=NUMBERS),
]
RECORDS = st.one_of(KINDS)


@given(FRAMES)
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    assert decode("channel", encode(frame)) == frame
    assert decode("frames", encode(frame)) == frame


@given(RECORDS)
def test_a_client_record_is_read_as_it_was_written(record: ClientRecord) -> None:
    assert decode("client", encode(record)) == record


@given(st.tuples(*KINDS))
@settings(max_examples=1)
def test_every_client_record_is_tried_above(tried: tuple[ClientRecord, ...]) -> None:
    assert {type(record) for record in tried} == set(get_args(ClientRecord))


@given(RECORDS, OPTIONS)
def test_fields_of_a_later_version_are_ignored(record: ClientRecord, more: dict[str, Any]) -> None:
    fields = msgspec.msgpack.decode(encode(record))
    added = {f"new {name}": value for name, value in more.items()}
    assert decode("client", msgspec.msgpack.encode({**fields, **added})) == record


@given(FRAMES, PLAIN)
def test_a_later_field_of_a_frame_is_ignored(frame: Frame, more: Any) -> None:
    fields = msgspec.msgpack.decode(encode(frame))
    assert decode("channel", msgspec.msgpack.encode([*fields, more])) == frame


@pytest.mark.parametrize("kind", ["channel", "frames", "client"])
@given(data=st.binary(max_size=100))
def test_other_data_is_a_value_error(kind: str, data: bytes) -> None:
    try:
        decode(kind, data)
    except ValueError:
        pass


@pytest.mark.parametrize("kind", ["channel", "client"])
def test_deeply_nested_data_is_a_value_error(kind: str) -> None:
    data = b"\x91" * 100_000
    if kind == "client":
        fields = b"\x82\xa6record\xa5event\xa6fields\x81\xa1a"
        data = fields + data
    with pytest.raises(ValueError):
        decode(kind, data)


# Messages.


@pytest.mark.parametrize("gap", [None, Gap("sequence", 3, 5), Gap("reconnect")])
@pytest.mark.parametrize("topic", ["a", None])
def test_a_message_becomes_a_part_and_a_message_again(topic: str | None, gap: Gap | None) -> None:
    message = Message("a", "trade", 7, 2, b"{}", gap)
    part = part_of(message, topic)
    assert part.channel == (None if topic else "a")
    found = message_of(part, topic, b"{}")
    assert type(found) is Message
    for name in ("channel", "type", "sequence", "item", "raw", "gap"):
        assert getattr(found, name) == getattr(message, name)


def test_a_linked_message_stays_linked() -> None:
    message = LinkedMessage("a", "book", 7, None, b"{}", None, follows=5, is_counted=False)
    found = message_of(part_of(message, "a"), "a", b"{}")
    assert isinstance(found, LinkedMessage)
    assert (found.follows, found.is_counted) == (5, False)


def test_a_part_without_a_channel_is_an_error() -> None:
    with pytest.raises(ValueError, match="no channel"):
        message_of(Part(None, "trade"), None, b"")
