"""The pages of the manual render, their tables match the code, and their Python blocks run."""

from __future__ import annotations

import json
import logging
import re
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import fields
from decimal import Decimal
from inspect import signature
from pathlib import Path
from typing import Any

import docutils.nodes
import msgspec
import pytest

import wsclient
from support.documents import (
    FILES,
    TOPICS,
    block,
    document,
    lively,
    not_run,
    run_block,
    served,
    table,
    text_of,
    title_of,
)
from support.helpers import Call, until
from support.logrig import threaded
from support.reading import read
from support.recordings import messages_of
from support.venues import VENUES
from support.views import channels_with
from wsclient import dialects
from wsclient.cli import make_parser
from wsclient.dialect import BookFormat, Counted, Dialect
from wsclient.messages import GAP_REASONS, Message
from wsclient.recording.columns import TABLES
from wsclient.testing import FakeVenue, Feed, GenericProtocol, KrakenProtocol, venues
from wsclient.testing.market import Depth, Instrument, Listing, MarketTrade

#: The files that run the blocks.
TESTS = (
    "test_manual.py",
    "test_migration.py",
    "test_pytest_plugin.py",
    "test_recipes.py",
    "test_troubleshooting.py",
)
#: A line of code that is longer is cut off on a page of 1,000 px.
CODE_WIDTH = 88


@pytest.mark.parametrize("name", FILES)
def test_a_page_renders_without_a_warning(name: str) -> None:
    assert document(name)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_says_first_what_it_is_about(topic: str) -> None:
    first = next(document(topic).findall(docutils.nodes.paragraph)).astext()
    assert first.startswith("This page ")


@pytest.mark.parametrize("name", FILES)
def test_a_page_is_narrow_enough(name: str) -> None:
    assert [line for line in text_of(name).splitlines() if len(line) > 100] == []
    literals = document(name).findall(docutils.nodes.literal_block)
    lines = [line for literal in literals for line in literal.astext().splitlines()]
    assert [line for line in lines if len(line) > CODE_WIDTH] == []


@pytest.mark.parametrize("name", FILES)
def test_a_page_links_only_to_files_that_are_there(name: str) -> None:
    places = re.findall(r"^\.\. _[^:]+: (\S+)$", text_of(name), re.MULTILINE)
    assert [place for place in places if not (FILES[name].parent / place).exists()] == []


# The tables.


def test_the_table_of_options_is_that_of_the_code() -> None:
    shown = {row[0]: row[1] for row in table("options", title_of("options"))}
    actual = {
        field.name: "the built-in"
        if callable(field.default)
        else f'"{field.default}"'
        if isinstance(field.default, str)
        else str(field.default)
        for field in fields(wsclient.Options)
    }
    assert shown == actual


def test_the_table_of_limits_names_options() -> None:
    named = [
        name for row in table("options", "Limits and deadlines") for name in row[0].split(", ")
    ]
    assert len(named) > 10
    assert sorted(set(named) - {field.name for field in fields(wsclient.Options)}) == []


def overrides(thing: Dialect | BookFormat | None, hook: str) -> bool:
    base = Dialect if isinstance(thing, Dialect) else BookFormat
    return thing is not None and getattr(type(thing), hook) is not getattr(base, hook)


def login_of(dialect: Dialect) -> str:
    hooks = {"login": "message", "url_request": "token", "access": "signature"}
    ways = (way for hook, way in hooks.items() if overrides(dialect, hook))
    return next(ways) if dialect.takes_credentials else "none"


def frames_of(name: str) -> Iterator[tuple[type[Any], Any]]:
    """Yield frames of data with what each carries."""
    if name in venues.NAMES:
        protocol = venues.find(name)()
        symbol = protocol.symbols[0]
        for pattern, kind in protocol.kinds.items():
            event = Listing(Instrument(symbol, seed=1), kind).next()
            channel = pattern.format(symbol)
            frame = protocol.data(channel, 7, protocol.fields(channel, event))
            yield kind, frame.encode() if isinstance(frame, str) else frame
    elif book := VENUES[name].book:
        yield Depth, book.update([book.row("bid", "1", "2")], [])


def numbers_of(name: str, dialect: Dialect) -> str:
    """Return which messages of a dialect have a number that counts."""
    if any(isinstance(item, Counted) for item in read(dialect, [1, [2, 3], 4])):
        return "frames"
    read_in = [(kind, item) for kind, frame in frames_of(name) for item in read(dialect, frame)]
    numbered = {kind for kind, item in read_in if item.sequence is not None}
    if read_in and numbered == {kind for kind, _ in read_in}:
        return "books" if numbered == {Depth} else "all"
    if not numbered and "sequenced" in signature(type(dialect)).parameters:
        assert numbers_of(name, type(dialect)(sequenced=True)) == "books"
        return "option"
    return {(Depth,): "books", (MarketTrade,): "trades", (): "none"}[tuple(numbered)]


def test_the_table_of_features_is_that_of_the_code() -> None:
    actual = []
    for name in dialects.NAMES:
        dialect = dialects.find(name)
        by_rest = overrides(dialect.book, "request")
        features: list[Any] = [
            VENUES[name].private is not None,
            login_of(dialect),
            "none" if dialect.book is None else "REST" if by_rest else "stream",
            overrides(dialect.book, "checksum"),
            numbers_of(name, dialect),
            overrides(dialect, "request"),
            name in venues.NAMES,
        ]
        words = {True: "yes", False: "no"}
        actual.append([name, *(words.get(feature, feature) for feature in features)])
    assert table("venues", "What each dialect supports") == actual


def test_the_table_of_accounts_has_each_venue_that_has_them() -> None:
    found = {name: venues.find(name) for name in venues.NAMES}
    with_accounts = [n for n, kind in found.items() if kind.credential_fields or kind.takes_orders]
    assert [row[0] for row in table("testing", "Accounts and orders")] == with_accounts


def limits_of(name: str) -> list[str]:
    limits = dialects.find(name).limits
    per_second, connects, age = limits.messages_per_second, limits.connects, limits.max_age
    assert connects is not None
    return [
        str(limits.channels_per_connection or "no limit"),
        f"{per_second:g}/s" if per_second else "no limit",
        f"{connects[0]} in {connects[1]:g} s",
        str(limits.connections or "no limit"),
        f"{age / 3600:.1f} h" if age else "none",
    ]


def test_the_table_of_limits_of_venues_is_that_of_the_code() -> None:
    shown = {row[0]: row[1:-1] for row in table("venues", "Limits")}
    assert shown == {name: limits_of(name) for name in dialects.NAMES}


def test_the_table_of_routes_names_each_dialect_with_routes() -> None:
    shown = [row[0] for row in table("venues", "Routes")]
    assert shown == [n for n in dialects.NAMES if overrides(dialects.find(n), "route")]


def test_the_table_of_venues_names_every_dialect() -> None:
    assert tuple(row[0] for row in table("venues", title_of("venues"))) == dialects.NAMES


def first_column(topic: str, title: str) -> list[str]:
    return [row[0] for row in table(topic, title)]


def test_the_table_of_credentials_is_that_of_the_code() -> None:
    actual = [
        [name, ", ".join(private.fields)]
        for name, private in ((name, VENUES[name].private) for name in dialects.NAMES)
        if private is not None
    ]
    assert table("private", "Credentials") == actual


def test_the_table_of_attributes_is_that_of_messages() -> None:
    public = {name for name in dir(Message) if name[0] != "_"}
    # These are for dialects and for the client itself.
    inside = {"arrival", "copy", "decoded", "previous_at"}
    shown = [name.partition("(")[0] for name in first_column("messages", "Attributes")]
    assert sorted(shown) == sorted(public - inside)


def test_the_table_of_fields_is_that_of_the_views() -> None:
    shown = {(row[0], row[1]) for row in table("views", "Fields")}
    kinds = [wsclient.Trade, wsclient.Quote, wsclient.PlainBookUpdate]
    names = [set(kind.__struct_fields__) for kind in kinds]
    common = set.intersection(*names)
    actual = {(name, "all") for name in common}
    for kind, own in zip(kinds, names, strict=True):
        actual |= {(name, kind.__name__) for name in own - common}
    assert shown == actual


@pytest.mark.parametrize("kind", ["trades", "quote", "book_update"])
def test_the_table_of_views_is_that_of_the_code(kind: str) -> None:
    rows = table("views", "What each venue gives")
    column = 1 + ["trades", "quote", "book_update"].index(kind)
    shown = {(row[0], name) for row in rows for name in re.split(r",\s+", row[column])}
    without = {("generic", "none"), ("binance_ws_api", "none")}
    assert shown - without == channels_with(kind)


def test_the_table_of_views_names_every_dialect() -> None:
    rows = table("views", "What each venue gives")
    assert tuple(row[0] for row in rows) == dialects.NAMES


def test_the_table_of_an_envelope_is_that_of_the_code() -> None:
    shown = first_column("messages", "Envelopes")
    envelope = wsclient.Envelope(channel="a", raw=b"\xff")
    assert shown == [*envelope.to_dict(), *list(json.loads(envelope.to_json()))[-2:]]


def test_the_tables_of_columns_are_those_of_the_frames() -> None:
    kinds: dict[str, list[str]] = {}
    for kind, found in TABLES.items():
        for column in found.columns:
            kinds.setdefault(column.name, []).append(kind)
    common, some = (table("frames", "Columns", number) for number in (0, 1))
    assert [row[0] for row in common] == [n for n, k in kinds.items() if len(k) == len(TABLES)]
    assert {row[0]: row[1].split(", ") for row in some} == {
        name: k for name, k in kinds.items() if len(k) < len(TABLES)
    }
    assert first_column("frames", "Kinds") == list(TABLES)


def test_the_table_of_gaps_has_every_reason() -> None:
    assert sorted(first_column("messages", "Gaps")) == sorted(GAP_REASONS)


def test_the_table_of_book_states_is_that_of_the_code() -> None:
    assert first_column("books", "States") == [state.name for state in wsclient.BookState]


def test_the_table_of_events_names_events() -> None:
    shown = first_column("events", "Events")
    assert len(shown) > 15
    assert [name for name in shown if name not in wsclient.events.__all__] == []


@pytest.mark.parametrize(
    ("name", "title"), [("commands", title_of("commands")), ("README", "On the command line")]
)
def test_a_table_of_commands_has_every_command(name: str, title: str) -> None:
    shown = [row[0].split()[1] for row in table(name, title)]
    (commands,) = make_parser()._subparsers._group_actions  # type: ignore[union-attr]
    assert shown == list(commands.choices)  # type: ignore[arg-type]


def test_the_table_of_calls_names_calls() -> None:
    calls = re.findall(r"client\.(\w+)", " ".join(first_column("calls", title_of("calls"))))
    assert len(calls) > 15
    assert [name for name in calls if not hasattr(wsclient.WebSocketClient, name)] == []


class Watched(wsclient.Generic):
    """A dialect that notes on which thread it is called."""

    takes_credentials = True

    def __init__(self, note: Callable[[str], Any]) -> None:
        super().__init__()
        self._note = note

    def read(self, message: Any) -> Any:
        self._note("a dialect's read()")
        return super().read(message)

    def subscribe(self, *args: Any) -> Any:
        self._note("a dialect's subscribe()")
        return super().subscribe(*args)


def test_the_table_of_threads_is_right() -> None:
    seen: dict[str, str] = {}

    def note(what: str, result: Any = None) -> Any:
        seen[what] = re.sub(r"\d+$", "N", threading.current_thread().name)
        return result

    def classify(error: BaseException) -> wsclient.Verdict:
        return note("classify", wsclient.Verdict.RETRY)

    handler = logging.Handler()
    handler.emit = lambda record: note("handlers and filters of logging")  # type: ignore[method-assign]
    logging.getLogger("wsclient").addHandler(handler)
    try:
        with (
            threaded(),
            FakeVenue() as venue,
            wsclient.connect(
                lambda: note("url", venue.url),
                headers=lambda: note("headers", {}),
                credentials=lambda: note("credentials", {}),
                validate=lambda message: note("validate"),
                classify=classify,
                dialect=Watched(note),
                retry_delay=0.01,
            ) as client,
        ):
            client.on_event(lambda event: note("on_event()"))
            client.on("a", lambda message: note("on()"))
            venue.publish("a")
            venue.live[0].rst()
            until(lambda: len(seen) == 10)
    finally:
        logging.getLogger("wsclient").removeHandler(handler)
    rows = table("threads", "Which thread runs your code")
    shown = {name: row[1].split(",")[0] for row in rows for name in row[0].split(", ")}
    assert seen == {name: shown[name] for name in seen}


# The Python blocks.


class Prices(GenericProtocol):
    """A protocol that sends a price to each subscriber, and answers the Acme dialect of a page."""

    def received(self, peer: Any, payload: Any) -> Iterator[Any]:
        request = json.loads(payload)
        if "op" not in request:
            yield from super().received(peer, payload)
            return
        for channel in request["args"]:
            peer.subscribe(channel)
        yield json.dumps({"id": request["id"]})

    def data(self, channel: str, sequence: int, fields: Any) -> Any:
        message = {"type": "market_data", "channel": channel, "topic": channel, "n": sequence}
        return json.dumps({**message, "sequence": sequence, **fields})


@pytest.mark.parametrize("topic", TOPICS)
def test_every_block_is_run_below(topic: str) -> None:
    files = (Path(__file__).with_name(name) for name in TESTS)
    assert not_run(topic, "".join(file.read_text("utf-8") for file in files)) == []


def test_declared_types(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue("kraken") as venue, lively(venue, ["trade:BTC/USD"]):
        code = block("options", "Declared types").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients, messages=10)
    assert "BTC/USD 1" in capsys.readouterr().out


def test_the_page_of_recordings(
    clients: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with FakeVenue("kraken") as venue, lively(venue, ["trade:BTC/USD"]):
        code = block("recordings", "Record").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients)
    assert "messages" in capsys.readouterr().out
    run_block(block("recordings", "Replay"), {}, clients)
    assert "trade:BTC/USD" in capsys.readouterr().out
    run_block(block("recordings", "Replay", 1), {}, clients)
    items, _, messages, _ = capsys.readouterr().out.split()
    assert int(items) > int(messages) >= 10
    run_block(block("recordings", "Files"), {}, clients)
    out = capsys.readouterr().out
    assert out.count(" channel trade:BTC/USD ") == int(messages)


def test_the_page_of_frames(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    with served("kraken", "trade:BTC/USD", "ticker:BTC/USD", rate=2000) as venue:
        code = block("frames", "Collect").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code.replace("1000", "100"), names, clients)
        run_block(block("frames", "Columns"), names, clients)
        code = block("frames", "The newest rows").replace("seconds=10", "seconds=0.1")
        run_block(code, names, clients)
        until(lambda: len(names["frame"]))
        names["client"].close()
    out = capsys.readouterr().out
    assert "<Collected: 100 messages of " in out
    assert "<RollingFrame of ticker:BTC/USD: " in out


def test_the_handler(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue(Prices()) as venue, lively(venue, ["BTC-USD"]):
        code = block("handler", "An example").replace("ws://127.0.0.1:8765/", venue.url)
        run_block(code, {}, clients, messages=5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "{'status': 'success'}"
    assert lines[1].startswith("BTC-USD ")


def test_a_script_of_functions(
    clients: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers: dict[int, Any] = {}
    # The block runs on a thread of its own, where no handler can be set.
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    with FakeVenue("kraken") as venue, lively(venue, ["trade:BTC/USD", "trade:ETH/USD"]):
        code = block("calls", "A script made of functions")
        running = Call(run_block, code.replace("wss://ws.kraken.com/v2", venue.url), {}, clients)
        until(lambda: clients and clients[0].stats().messages > 10)
        handlers[signal.SIGTERM](signal.SIGTERM, None)
        running.result()
    channels = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert channels == {"trade:BTC/USD", "trade:ETH/USD"}


def test_the_order_book(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    kraken = KrakenProtocol()
    asks = [{"price": 101 + n, "qty": 1} for n in range(10)]
    bids = [{"price": 99 - n, "qty": 2} for n in range(10)]
    kraken.set_snapshot("book:BTC/USD", bids=bids, asks=asks)
    with FakeVenue(kraken) as venue:
        code = block("books", "An example").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients)
    best, *levels = capsys.readouterr().out.splitlines()
    assert best.endswith(" 100")
    assert levels == ["99 2", "98 2", "97 2", "96 2", "95 2"]


def test_the_events(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVenue("kraken") as venue:
        code = block("events", "Events").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients)
        clients[0].close(timeout=5)
    printed = capsys.readouterr().out.splitlines()
    names = [line.partition("(")[0].rpartition(" ")[2] for line in printed]
    assert names == ["Connected", "Subscribed", "Closed"]
    assert "#3 connection 1: Connected(attempt=1)" in printed[0]


def test_the_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **options: given.append(options))
    frames = logging.getLogger("wsclient.frames")
    monkeypatch.setattr(frames, "level", logging.NOTSET)
    run_block(block("events", "The log"), {}, [])
    assert frames.level == logging.DEBUG
    frames.setLevel(logging.NOTSET)
    (options,) = given
    record = logging.makeLogRecord({"levelname": "INFO", "msg": "feed: open"})
    assert logging.Formatter(options["format"]).format(record).endswith("INFO feed: open")


def test_the_dialect(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    code = block("dialects", "A dialect in twenty lines")
    with FakeVenue(Prices()) as venue, lively(venue, ["BTC-USD", "ETH-USD"]):
        run_block(code.replace("ws://127.0.0.1:8765/", venue.url), {}, clients)
    assert "<Message '" in capsys.readouterr().out
    body = code.partition("class Acme")[2].partition("client =")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 20


def test_the_views_of_a_dialect() -> None:
    names: dict[str, Any] = {"Acme": wsclient.Generic}
    code = block("dialects", "A dialect in twenty lines", 1)
    exec(compile(code, "<block>", "exec", dont_inherit=True), names)
    raw = b'{"type":"market_data","channel":"trades:A","price":"1.50","size":2,"maker":"sell",'
    frame = raw + b'"at":1700000000123}'
    (message,) = messages_of(names["AcmeWithViews"](), [frame])
    side: Any = "buy"
    trade = wsclient.Trade("A", Decimal("1.50"), Decimal(2), side, time=1_700_000_000_123_000_000)
    assert message.trades() == [msgspec.structs.replace(trade, venue="generic", received_at=1)]
    (other,) = messages_of(names["AcmeWithViews"](), [frame.replace(b"trades:A", b"quotes:A")])
    assert other.trades() is None


def test_what_is_displayed(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    channels = ("ticker:BTC/USD", "trade:BTC/USD", "book:BTC/USD")
    with served("kraken", *channels) as venue:
        namespace: dict[str, Any] = {}
        for code in (
            block("display", "A live table"),
            block("display", "Running a cell again"),
        ):
            run_block(code.replace("wss://ws.kraken.com/v2", venue.url), namespace, clients)
        assert "ticker:BTC/USD" in (shown := capsys.readouterr().out)
        assert "OrderBook book:BTC/USD: synced" in shown
        raising = block("display", "Running a cell again", 1)
        with pytest.raises(ValueError, match="mistake"):
            run_block(raising.replace("wss://ws.kraken.com/v2", venue.url), namespace, clients)
        run_block(block("display", "All clients of a process"), namespace, clients)
        assert capsys.readouterr().out.count("<WebSocketClient ") == len(clients) == 3
        assert wsclient.clients() == []


def test_the_views(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with served("kraken", "trade:BTC/USD", "ticker:BTC/USD") as venue:
        code = block("views", "An example").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients, messages=20)
    lines = capsys.readouterr().out.splitlines()
    assert any(re.fullmatch(r"BTC/USD (buy|sell) 67\d+\.\d+ \d+\.\d+", line) for line in lines)
    assert any(re.fullmatch(r"BTC/USD 67\d+\.\d+ 67\d+\.\d+", line) for line in lines)


def test_the_envelope(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with served("kraken", "trade:BTC/USD") as venue:
        code = block("messages", "Envelopes").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, {}, clients)
    assert capsys.readouterr().out == "True True\n"


class Orders(GenericProtocol):
    """Bybit's private channels."""

    def received(self, peer: Any, payload: Any) -> Iterator[Any]:
        request, private = json.loads(payload), VENUES["bybit"].private
        assert private is not None
        assert private.login is not None
        if request["op"] == "auth":
            assert request["args"][0] == "the key"
            yield json.dumps(private.login.accepted)
        else:
            yield json.dumps(private.login.acknowledged | {"req_id": request["req_id"]})
            yield json.dumps({"topic": "order", "id": "1", "creationTime": 1, "data": []})


def test_the_login(
    clients: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYBIT_KEY", "the key")
    monkeypatch.setenv("BYBIT_SECRET", "the secret")
    code = block("private", "Private channels and logins")
    with FakeVenue(Orders()) as venue:
        run_block(code.replace("wss://stream.bybit.com/v5/private", venue.url), {}, clients)
        clients[0].close()
    assert "'topic': 'order'" in capsys.readouterr().out


def test_an_order_whose_answer_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    code = block("private", "Orders, and answers that are missing")
    order = {"method": "add_order", "params": {"cl_ord_id": "mine-1"}}
    with FakeVenue(None) as venue, wsclient.connect(venue.url, dialect="kraken") as client:
        running = Call(
            run_block, code, {"client": client, "order": order, "wsclient": wsclient}, []
        )
        peer = venue.accept()
        peer.expect_json()
        peer.rst()
        running.result()
    assert "('mine-1',)" in capsys.readouterr().out


def test_the_account_of_binance_futures(
    clients: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINANCE_KEY", "fake-key")
    code = block("private", "Binance")
    with FakeVenue("binance_futures") as venue:
        rest = venue.url.replace("ws:", "http:") + "depth"
        code = code.replace("wss://fstream.binance.com/public", venue.route_url("public"))
        code = code.replace('"binance_futures"', f'wsclient.BinanceFutures(rest="{rest}")')

        def order() -> None:
            venue.wait_for(lambda v: v.subscribers("ORDER_TRADE_UPDATE"))
            venue.place("BTCUSDT", "buy", "1", "100")

        ordering = Call(order)
        run_block(code, {}, clients, messages=1)
        ordering.result()
    assert capsys.readouterr().out == "NEW None\n"


def test_the_account_of_binance_spot(
    clients: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeVenue("binance_ws_api") as venue:
        monkeypatch.setenv("BINANCE_KEY", venue.account.api_key)
        monkeypatch.setenv("BINANCE_SECRET", venue.account.secret)
        code = block("private", "Binance", 1)
        run_block(code.replace("wss://ws-api.binance.com:443/ws-api/v3", venue.url), {}, clients)
    assert capsys.readouterr().out == "executionReport mine-1\n"


def test_the_fake_venue(clients: list[Any]) -> None:
    run_block(block("testing", "A server for tests"), {}, clients)


def test_accounts_and_orders_of_the_fake_venue(clients: list[Any]) -> None:
    run_block(block("testing", "Accounts and orders"), {}, clients)


def test_several_connections_to_the_fake_venue(clients: list[Any]) -> None:
    run_block(block("testing", "Several connections"), {}, clients)


def test_the_statistics(clients: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    prometheus = pytest.importorskip("prometheus_client")
    registry, start = prometheus.CollectorRegistry(), prometheus.start_http_server
    servers = []

    def serve(port: int) -> None:
        assert port == 9000
        servers.append(start(0, addr="127.0.0.1", registry=registry))

    monkeypatch.setattr(prometheus, "REGISTRY", registry)
    monkeypatch.setattr(prometheus, "start_http_server", serve)
    namespace: dict[str, Any] = {}
    with FakeVenue("kraken") as venue:
        code = block("statistics", "Prometheus").replace("wss://ws.kraken.com/v2", venue.url)
        run_block(code, namespace, clients)
        ((server, thread),) = servers
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            text = answer.read().decode()
        clients[0].close()
    server.shutdown()
    server.server_close()
    thread.join()
    assert 'wsclient_state{client="kraken",state="open"} 1.0' in text


def test_a_client_of_two_routes(clients: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    channels = ["btcusdt@bookTicker", "btcusdt@aggTrade"]
    with FakeVenue("binance_futures") as venue, Feed(venue, dict.fromkeys(channels, 100.0)):
        code = block("connections", "When there are several")
        code = code.replace("wss://fstream.binance.com/public", venue.route_url("public"))
        run_block(code, {}, clients, messages=10)
    header, public, market, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["connection", "route", "shard"]
    assert [row.split()[1] for row in (public, market)] == ["public", "market"]
    assert {line.split()[0] for line in lines} == set(channels)


def test_the_routes_of_the_examples_are_those_of_the_dialects() -> None:
    urls = {
        "binance_futures": "wss://fstream.binance.com/public",
        "bybit": "wss://stream.bybit.com/v5/public/linear",
        "kraken": "wss://ws.kraken.com/v2",
        "okx": "wss://ws.okx.com:8443/ws/v5/public",
    }
    for name, route, channel in table("connections", "When there are several", 1):
        assert dialects.find(name).route(channel, urls[name]) == route


def test_shards_and_rotations(clients: list[Any]) -> None:
    run_block(block("connections", "How to test it"), {}, clients)
