"""OKX v5: what its documents show, and what was recorded when its checksums were alive."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from making import entries_of
from reading import Data, read
from replaying import (
    RECORDED,
    Book,
    deleted,
    doubled,
    marks,
    over_a_socket,
    recorded,
    refused,
    replaced,
    swapped,
    tracked,
    updates_of,
)

import wsclient
from wsclient.dialects import OKX
from wsclient.messages import LinkedMessage, Message
from wsclient.sansio.dialect import (
    Ack,
    BookUpdate,
    Credentials,
    Heartbeat,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Unhandled,
)
from wsclient.sansio.inbound import Inbound
from wsclient.sansio.session import Invalid
from wsclient.testing import FakeVenue
from wsclient.testing.protocols import Payload, ScriptedProtocol
from wsclient.testing.venue import Peer

RECORDING = "okx/OKX.ws.1.0"
INSTRUMENTS = ("BTC-USD-220527", "UNI-USD-SWAP", "BTC-USDT")


def peek(frame: Any) -> Any:
    (item,) = read(OKX(), frame)
    return item


def message(frame: Any) -> Message:
    (entry,) = entries_of(Inbound(OKX()), msgspec.json.encode(frame))
    assert isinstance(entry, Message)
    return entry


def book(
    sequence: int, previous: int, *, action: str = "update", bids: Any = (), **more: Any
) -> dict[str, Any]:
    row = {"asks": [], "bids": list(bids), "ts": "1", "seqId": sequence, "prevSeqId": previous}
    arg = {"channel": "books", "instId": "BTC-USDT"}
    return {"arg": arg, "action": action, "data": [{**row, **more}]}


# --- out -----------------------------------------------------------------------------------------


def test_one_message_asks_for_several_channels() -> None:
    assert OKX().subscribe(["books:BTC-USDT", "tickers:ETH-USDT"], 1512, {}) == {
        "id": "1512",
        "op": "subscribe",
        "args": [
            {"channel": "books", "instId": "BTC-USDT"},
            {"channel": "tickers", "instId": "ETH-USDT"},
        ],
    }


def test_options_are_fields_of_the_args() -> None:
    assert OKX().unsubscribe(["instruments"], 7, {"instType": "SPOT"}) == {
        "id": "7",
        "op": "unsubscribe",
        "args": [{"channel": "instruments", "instType": "SPOT"}],
    }


def test_an_option_does_not_change_the_channel() -> None:
    request = OKX().subscribe(["books:BTC-USDT"], 1, {"channel": "books5"})
    assert request["args"] == [{"channel": "books", "instId": "BTC-USDT"}]


def test_the_limits_of_the_venue() -> None:
    assert OKX().limits.connects == (3, 1.0)
    channels = [f"tickers:{n}-USDT" for n in range(120)]
    assert [len(batch) for batch in OKX().batches(channels)] == [50, 50, 20]


def test_a_ping_is_text_and_comes_before_the_venue_hangs_up() -> None:
    payload, interval = OKX().keepalive
    assert payload == "ping"
    assert interval < OKX().silence_timeout <= 30.0


def test_a_login_bears_the_signature() -> None:
    given = {"api_key": "K", "secret": "secret", "passphrase": "P"}
    digest = hmac.new(b"secret", b"1538054050GET/users/self/verify", hashlib.sha256).digest()
    sign = base64.b64encode(digest).decode()
    assert OKX().login(Credentials(given, lambda: 1538054050.9)) == {
        "op": "login",
        "args": [{"apiKey": "K", "passphrase": "P", "timestamp": "1538054050", "sign": sign}],
    }


# --- in: answers ---------------------------------------------------------------------------------

ARG = {"channel": "books", "instId": "BTC-USDT"}


def test_an_acknowledgement_is_of_one_arg() -> None:
    frame = {"id": "1512", "event": "subscribe", "arg": ARG, "connId": "a4d3ae55"}
    assert peek(frame) == Ack("1512", "books:BTC-USDT")
    assert peek({**frame, "event": "unsubscribe"}) == Ack("1512", "books:BTC-USDT")


def test_an_acknowledgement_may_have_no_id() -> None:
    assert peek({"event": "subscribe", "arg": ARG}) == Ack(None, "books:BTC-USDT")
    frame = {"event": "subscribe", "arg": {"channel": "instruments", "instType": "SPOT"}}
    assert peek(frame) == Ack(None, "instruments")


def test_an_error_is_of_the_request() -> None:
    frame = {
        "id": "1512",
        "event": "error",
        "code": "60012",
        "msg": "Invalid request",
        "connId": "",
    }
    assert peek(frame) == Rejection("Invalid request (60012)", "1512")


def test_an_error_that_names_the_channel_is_of_that_one_alone() -> None:
    text = "Wrong URL or channel:tickers,instId:NMR-USDT doesn't exist. Please use the correct URL"
    item = peek({"id": "3", "event": "error", "code": "60018", "msg": text})
    assert item == Rejection(f"{text} (60018)", "3", "tickers:NMR-USDT")


def test_a_refused_channel_leaves_the_others() -> None:
    text = "Wrong URL or channel:tickers,instId:BAD doesn't exist."
    reasons = refused(
        OKX(),
        ["tickers:BAD", "tickers:BTC-USDT"],
        {"event": "error", "code": "60018", "msg": text, "connId": "a"},
        {"event": "subscribe", "arg": {"channel": "tickers", "instId": "BTC-USDT"}},
    )
    assert reasons == {"tickers:BAD": f"{text} (60018)"}


def test_the_answers_to_a_login() -> None:
    assert peek({"event": "login", "code": "0", "msg": "", "connId": "a"}) == LoginAccepted()
    frame = {"event": "error", "code": "60009", "msg": "Login failed.", "connId": "a"}
    assert peek(frame) == LoginRefused("Login failed. (60009)")


def test_a_subscribe_that_needs_a_login_is_refused_itself() -> None:
    frame = {"id": "1", "event": "error", "code": "60011", "msg": "Please log in"}
    assert peek(frame) == Rejection("Please log in (60011)", "1")


def test_an_upgrade_is_announced() -> None:
    text = "The connection will soon be closed for a service upgrade. Please reconnect."
    frame = {"event": "notice", "code": "64008", "msg": text, "connId": "a4d3ae55"}
    assert peek(frame) == Notice(f"{text} (64008)")


def test_counts_of_connections() -> None:
    frame = {"event": "channel-conn-count", "channel": "orders", "connCount": "2", "connId": "a"}
    assert peek(frame) == Heartbeat()
    assert isinstance(peek({**frame, "event": "channel-conn-count-error"}), Notice)


def test_a_pong_is_text() -> None:
    assert peek(b"pong") == Heartbeat()


def test_unknown_events() -> None:
    assert peek({"event": "odd"}) == Unhandled("odd")
    assert peek({"code": "0", "data": []}) == Unhandled("")


@pytest.mark.parametrize("raw", [b"", b"ping", b"[1,2]", b'{"arg": 5}', b'{"arg": {}}'])
def test_what_does_not_look_like_okx_cannot_be_read(raw: bytes) -> None:
    assert peek(raw) is Invalid


# --- in: data ------------------------------------------------------------------------------------


def test_data_is_of_a_channel_and_an_instrument() -> None:
    frame = {"arg": {"channel": "tickers", "instId": "BTC-USDT"}, "data": [{"last": "1"}]}
    assert peek(frame) == Data("tickers:BTC-USDT", "update")
    candles = {"arg": {"channel": "candle1m", "instId": "BTC-USDT"}, "data": [["1", "2", "3"]]}
    assert peek(candles) == Data("candle1m:BTC-USDT", "update")


def test_a_number_without_a_pointer_counts_nothing() -> None:
    """Trades and books5 have such; they are not +1."""
    frame = {"arg": {"channel": "trades", "instId": "A-B"}, "data": [{"px": "1", "seqId": 9}]}
    assert peek(frame) == Data("trades:A-B", "update", None)


def test_several_rows_in_one_message_count_nothing() -> None:
    frame = book(15, 10)
    frame["data"] *= 2
    assert peek(frame) == Data("books:BTC-USDT", "update", None)


def test_a_message_points_to_the_one_before() -> None:
    found = message(book(15, 10))
    assert isinstance(found, LinkedMessage)
    assert (found.sequence, found.follows, found.is_counted) == (15, 10, False)


def test_a_snapshot_points_to_nothing() -> None:
    found = message(book(10, -1, action="snapshot"))
    assert isinstance(found, LinkedMessage)
    assert (found.type, found.sequence, found.follows) == ("snapshot", 10, None)


def lines(*frames: dict[str, Any]) -> list[bytes]:
    return [msgspec.json.encode(frame) for frame in frames]


def test_a_minute_without_a_change_is_no_gap() -> None:
    stream = lines(book(10, -1, action="snapshot"), book(15, 10), book(15, 15), book(17, 15))
    assert marks(OKX(), stream) == []


def test_numbers_that_start_again_after_maintenance_are_no_gap() -> None:
    stream = lines(book(10, -1, action="snapshot"), book(15, 10), book(3, 15), book(5, 3))
    assert marks(OKX(), stream) == []


def test_numbers_that_start_again_without_the_pointer_are_marked() -> None:
    stream = lines(book(10, -1, action="snapshot"), book(3, 15), book(5, 3))
    assert [i for i, _ in marks(OKX(), stream)] == [1, 2]


# --- books ---------------------------------------------------------------------------------------


def test_the_channel_of_a_book() -> None:
    assert OKX().book_channel("BTC-USDT", {}) == "books:BTC-USDT"
    assert OKX().book_channel("BTC-USDT", {"channel": "books5"}) == "books5:BTC-USDT"
    assert OKX().book_depth({}) is None


def test_an_update_of_a_book() -> None:
    frame = book(15, 10, bids=[["30189", "0", "0", "0"], ["30188.10", "1.50", "0", "2"]])
    update = OKX().book_update(message(frame))
    bids = [(Decimal("30189"), Decimal("0")), (Decimal("30188.10"), Decimal("1.50"))]
    assert update == BookUpdate(False, bids, [], None)
    assert str(update.bids[1][1]) == "1.50"


def test_a_checksum_fixed_at_0_is_none() -> None:
    update = OKX().book_update(message(book(15, 10, checksum=0)))
    assert update is not None
    assert update.checksum is None
    update = OKX().book_update(message(book(15, 10, checksum=-855196043)))
    assert update is not None
    assert update.checksum == -855196043


def test_a_book_without_an_action_is_whole() -> None:
    frame = {"arg": {"channel": "books5", "instId": "A-B"}, "data": [{"asks": [], "bids": []}]}
    update = OKX().book_update(message(frame))
    assert update == BookUpdate(True, [], [], None)


@pytest.mark.parametrize(
    "change", [{"action": "odd"}, {"data": []}, {"data": [{"asks": []}]}, {"data": [{}, {}]}]
)
def test_a_book_that_makes_no_sense_raises(change: dict[str, Any]) -> None:
    found = Message("books:BTC-USDT", raw=msgspec.json.encode({**book(1, 0), **change}))
    with pytest.raises(msgspec.ValidationError):
        OKX().book_update(found)


def test_the_longer_side_goes_on_alone_in_a_checksum() -> None:
    """As in the venue's example: bid:ask:bid, and no number in another form than it was sent."""
    bids = [(Decimal("3366.1"), Decimal("7")), (Decimal("0.00000001"), Decimal("6.10"))]
    asks = [(Decimal("3366.8"), Decimal("9"))]
    unsigned = zlib.crc32(b"3366.1:7:3366.8:9:0.00000001:6.10")
    signed = unsigned if unsigned < 2**31 else unsigned - 2**32
    assert OKX().book_checksum(bids, asks) == signed


# --- recorded ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stream() -> list[bytes]:
    return recorded(RECORDING)


def test_every_recorded_frame_is_understood(stream: list[bytes]) -> None:
    kinds = Counter(type(peek(raw)).__name__ for raw in stream)
    assert kinds == {"Data": 392, "Ack": 18}


def books(messages: list[Message]) -> dict[str, list[Message]]:
    found = defaultdict(list)
    for m in messages:
        if m.channel.startswith("books:"):
            found[m.channel].append(m)
    return found


def check(messages: list[Message]) -> tuple[int, int]:
    """How many checksums hold, and how many there are."""
    held = total = 0
    for of_one in books(messages).values():
        state = Book()
        for update in updates_of(OKX(), of_one):
            state.apply(update)
            held += OKX().book_checksum(state.bids, state.asks) == update.checksum
            total += update.checksum is not None
        assert not state.is_crossed
    return held, total


def test_all_recorded_checksums_hold(stream: list[bytes]) -> None:
    messages = tracked(OKX(), stream)
    assert check(messages) == (290, 290)
    assert not any(m.gap for m in messages)


def test_checksums_of_other_recorded_books_hold() -> None:
    """Snapshots of whole books; the longer ones were cut, and their checksums are not theirs."""
    path = RECORDED / "shapes" / "okx.tsv"
    if not path.exists():
        pytest.skip("the recorded traffic is not here (../shared/recorded, beside the project)")
    row = next(r for r in path.read_text().splitlines() if r.startswith("l2_event.option_snapshot"))
    (update,) = updates_of(OKX(), tracked(OKX(), [row.partition("\t")[2].encode()]))
    assert OKX().book_checksum(update.bids, update.asks) == update.checksum == 971343753


def test_a_recording_over_a_socket(stream: list[bytes]) -> None:
    channels = [f"{name}:{i}" for name in ("tickers", "trades", "books") for i in INSTRUMENTS]
    messages, stats = over_a_socket(OKX(), channels, stream, 392)
    assert check(messages) == (290, 290)
    assert (stats.messages, stats.gaps, stats.invalid, stats.unhandled) == (392, 0, 0, 0)


def top(book: Book) -> tuple[Any, Any]:
    return book.bids[:25], book.asks[:25]


def test_each_altered_line_breaks_its_checksum(stream: list[bytes]) -> None:
    """Each that can be seen in the best 25 levels, at once."""
    fired = 0
    for of_one in books(tracked(OKX(), stream)).values():
        state = Book()
        for update in updates_of(OKX(), of_one):
            wrong = BookUpdate(
                update.is_snapshot,
                [(price, size + 1) for price, size in update.bids],
                [(price, size + 1) for price, size in update.asks],
            )
            altered, state, before = state.after(wrong), state.after(update), state
            if top(state) != top(before):
                assert OKX().book_checksum(altered.bids, altered.asks) != update.checksum
                fired += 1
    assert fired == 285


def test_each_missing_line_breaks_the_next_checksum(stream: list[bytes]) -> None:
    """Two lines swapped are the same to the first of them. One that comes twice does no harm."""
    fired = 0
    for of_one in books(tracked(OKX(), stream)).values():
        state = Book()
        updates = updates_of(OKX(), of_one)
        for update, following in pairwise(updates):
            before, state = state, state.after(update)
            again = state.after(update)
            assert OKX().book_checksum(again.bids, again.asks) == update.checksum
            if update.is_snapshot:
                continue
            without, truth = before.after(following), state.after(following)
            broken = OKX().book_checksum(without.bids, without.asks) != following.checksum
            assert broken == (top(without) != top(truth))
            fired += broken
    assert fired == 272


def numbered(stream: list[bytes]) -> list[bytes]:
    """One recorded book, with the numbers that OKX has sent since."""
    found, last = [], -1
    for raw in stream:
        frame = json.loads(raw)
        if frame["arg"] == ARG and "data" in frame:
            number = max(last, 1000) + 3
            frame["data"][0].update(prevSeqId=last, seqId=number)
            found.append(msgspec.json.encode(frame))
            last = number
    return found


def test_each_edit_of_a_numbered_book_is_marked_where_it_is(stream: list[bytes]) -> None:
    numbers = numbered(stream)
    dialect = OKX()
    assert len(numbers) > 90
    assert marks(dialect, numbers) == []
    for i in range(1, len(numbers) - 1):
        assert marks(dialect, deleted(numbers, i)) == [(i, "sequence")]
        assert marks(dialect, doubled(numbers, i)) == [(i + 1, "duplicate")]
        assert marks(dialect, swapped(numbers, i)) == [(i, "sequence"), (i + 1, "late")]
        frame = json.loads(numbers[i])
        frame["data"][0]["prevSeqId"] += 1
        altered = replaced(numbers, i, msgspec.json.encode(frame))
        assert marks(dialect, altered) == [(i, "sequence")]


class _Answering(ScriptedProtocol):
    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = json.loads(payload)
        if request["op"] == "login":
            yield '{"event":"login","code":"0","msg":"","connId":"a"}'
        else:
            (arg,) = request["args"]
            yield json.dumps({"id": request["id"], "event": "subscribe", "arg": arg})


def test_a_login_is_signed_anew_on_each_connection() -> None:
    made: list[str] = []

    def credentials() -> dict[str, str]:
        made.append(f"K{len(made)}")
        return {"api_key": made[-1], "secret": "5ecret", "passphrase": "P"}

    with (
        FakeVenue(_Answering()) as venue,
        wsclient.connect(
            venue.url, dialect="okx", credentials=credentials, retry_delay=0.01
        ) as client,
    ):
        client.subscribe("account", timeout=5)
        for n in range(2):
            peer = venue.accept()
            (arg,) = peer.expect_json()["args"]
            assert arg["apiKey"] == made[n]
            clock = partial(float, arg["timestamp"])
            given = {"api_key": made[n], "secret": "5ecret", "passphrase": "P"}
            assert OKX().login(Credentials(given, clock))["args"] == [arg]
            assert abs(clock() - time.time()) < 5
            assert peer.expect_json()["op"] == "subscribe"
            peer.rst()
    assert len(set(made)) == len(made)
