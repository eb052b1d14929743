"""Messages in another process and copies equal the original and do not hold the client."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.making import entries_of
from wsclient import Gap, LinkedMessage, Message
from wsclient.dialects import Generic, Kraken
from wsclient.stream.inbound import Inbound

ROWS = (
    b'{"channel":"trade","type":"update","data":[{"symbol":"a","p":1.10},{"symbol":"b","p":2.0}]}'
)
TICK = b'{"type":"market_data","channel":"a","sequence":7,"p":1.10}'
LONG = 10**400


class Tick(msgspec.Struct):
    channel: str
    p: Decimal


class Row(msgspec.Struct):
    symbol: str
    p: float


class Ranges(Generic):
    """A dialect whose messages say what they follow."""

    data_fields = None

    def __init__(self) -> None:
        super().__init__()
        self.data_fields = None

    def read(self, message: Any) -> Any:
        return LinkedMessage("a", "range", 9, follows=4, is_counted=False)


def reading_csv(secret: str) -> Generic:
    """Return a dialect that cannot be imported, holds a secret and has its own decoder."""

    class Csv(Generic):
        def __init__(self) -> None:
            super().__init__()
            self.data_fields = None
            self.secret = secret

        def decoder(self, decimal: bool) -> Callable[[bytes], Any]:
            return lambda raw: raw.decode().split(",")

        def read(self, message: Any) -> Any:
            return Message(message[0])

    return Csv()


def made(dialect: Any, raw: bytes, **options: Any) -> list[Message]:
    entries = entries_of(Inbound(dialect, **options), raw, received_at=12)
    assert all(isinstance(entry, Message) for entry in entries)
    return entries  # type: ignore[return-value]


def typed() -> Message:
    inbound = Inbound(Generic(), decimal=True)
    (message,) = entries_of(inbound, TICK)
    assert isinstance(message, Message)
    message.decoded, message.kind = message.decode(Tick), Tick
    return message


def typed_item() -> Message:
    message = made(Kraken(), ROWS, decimal=True)[1]
    message.decoded, message.kind = message.decode(Row), Row
    return message


MESSAGES: dict[str, Callable[[], Message]] = {
    "plain": lambda: made(Generic(), TICK)[0],
    "decimal": lambda: made(Generic(), TICK, decimal=True)[0],
    "one item": lambda: made(Kraken(), ROWS, decimal=True)[1],
    "linked": lambda: made(Ranges(), TICK)[0],
    "typed": typed,
    "a typed item": typed_item,
    "of a dialect's own": lambda: made(reading_csv("hunter2"), b"a,1,2")[0],
    "a great integer": lambda: made(Generic(), TICK.replace(b"1.10", str(LONG).encode()))[0],
    "lost": lambda: Message("a", "lost", gap=Gap("rejected", None, 5)),
}
FIELDS = ("channel", "type", "sequence", "item", "raw", "gap", "received_at", "connection_id")


def seen(message: Message) -> tuple[Any, ...]:
    """Return all fields of a message, and the types of its numbers."""
    known = tuple(getattr(message, name) for name in FIELDS)
    linked = (message.follows, message.is_counted) if isinstance(message, LinkedMessage) else ()
    return (type(message).__name__, *known, *linked, repr(message.data))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("what", MESSAGES)
def test_a_message_pickles_whole(what: str, protocol: int) -> None:
    message = MESSAGES[what]()
    message.gap = Gap("sequence", 3, 7)
    twin = pickle.loads(pickle.dumps(message, protocol))
    assert seen(twin) == seen(message)
    again = pickle.loads(pickle.dumps(twin, protocol))
    assert seen(again) == seen(message)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, Message.copy])
@pytest.mark.parametrize("what", MESSAGES)
def test_a_message_and_a_pickled_one_can_be_copied(
    what: str, copied: Callable[[Message], Message]
) -> None:
    message = MESSAGES[what]()
    assert seen(copied(message)) == seen(message)
    assert seen(copied(pickle.loads(pickle.dumps(message)))) == seen(message)


@pytest.mark.parametrize("copied", [copy.deepcopy, Message.copy])
@pytest.mark.parametrize("what", ["plain", "one item", "linked"])
def test_a_deep_copy_has_data_of_its_own(what: str, copied: Callable[[Message], Message]) -> None:
    for message in (MESSAGES[what](), pickle.loads(pickle.dumps(MESSAGES[what]()))):
        before = repr(message.data)
        copied(message).data["p"] = "changed"
        assert repr(message.data) == before


@pytest.mark.parametrize("what", ["plain", "decimal", "typed"])
def test_a_pickled_message_decodes_into_a_type_digit_for_digit(what: str) -> None:
    twin = pickle.loads(pickle.dumps(MESSAGES[what]()))
    tick = twin.decode(Tick)
    assert (tick.channel, str(tick.p)) == ("a", "1.10")
    with pytest.raises(msgspec.ValidationError):
        twin.decode(Row)


@pytest.mark.parametrize("what", ["one item", "a typed item"])
def test_a_pickled_item_decodes_into_a_type(what: str) -> None:
    twin = pickle.loads(pickle.dumps(MESSAGES[what]()))
    assert twin.decode(dict) == {"symbol": "b", "p": Decimal("2.0")}
    assert twin.decode(Row) == Row("b", 2.0)
    with pytest.raises(msgspec.ValidationError):
        twin.decode(Tick)


def test_no_secret_is_pickled() -> None:
    assert b"hunter2" not in pickle.dumps(MESSAGES["of a dialect's own"]())


def test_what_the_payload_contains_is_not_pickled_twice() -> None:
    message = MESSAGES["plain"]()
    before = pickle.dumps(message)
    assert message.data
    assert pickle.dumps(message) == before


def test_messages_of_one_kind_share_a_decoder_where_they_come_to() -> None:
    messages = pickle.loads(pickle.dumps([MESSAGES["plain"]() for _ in range(3)]))
    (twin,) = pickle.loads(pickle.dumps([MESSAGES["plain"]()]))
    assert len({id(m.arrival.decoder) for m in [*messages, twin]}) == 1


PROGRAM = """
import multiprocessing, pickle
from operator import attrgetter

import wsclient
from wsclient.testing import FakeVenue

FIELDS = attrgetter("channel", "sequence", "gap", "received_at", "data")

with (
    FakeVenue("generic") as venue,
    wsclient.connect(venue.url, decimal=True, headers={"X-Key": "hunter2"}) as client,
):
    client.subscribe("a")
    peer = venue.accept()
    for number in (1, 2, 5):
        peer.send('{"type":"market_data","channel":"a","sequence":%d,"p":%d.10}' % (number, number))
    messages = [client.recv(timeout=5) for _ in range(3)]
print(b"hunter2" in pickle.dumps(messages))
with multiprocessing.get_context("spawn").Pool(1) as pool:
    found = pool.map(FIELDS, messages)
    pool.close()
    pool.join()
print(found == [FIELDS(message) for message in messages])
print([(row[1], row[2] and row[2].missed, str(row[4]["p"])) for row in found])
"""


def test_messages_of_a_client_go_to_a_process_of_their_own() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=30
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "False",
        "True",
        "[(1, None, '1.10'), (2, None, '2.10'), (5, 2, '5.10')]",
    ]
