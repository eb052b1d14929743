"""Tables of recordings, as duckdb and polars read them."""

from __future__ import annotations

import copy
import csv
import json
import sys
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars
import pytest

import wsclient
from support.madefiles import BEGIN, MadeRecording
from support.recordings import RECORDED
from support.streams import STREAMS, Stream
from wsclient import dialects
from wsclient.dialect.views import Views
from wsclient.errors import ConfigurationError
from wsclient.messages import Gap, Message
from wsclient.recording import export as exporting
from wsclient.recording.check import check
from wsclient.recording.convert import convert
from wsclient.recording.export import export
from wsclient.recording.folder import recordings_of
from wsclient.recording.restoring import Restorer
from wsclient.recording.tablefiles import safe_name

needs_recordings = pytest.mark.skipif(
    not RECORDED.exists(), reason="the recorded traffic is not beside the project"
)


@pytest.fixture(scope="module", autouse=True)
def _started(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Start the threads of polars, which stay for the process."""
    path = tmp_path_factory.mktemp("started") / "x" / "a.parquet"
    path.parent.mkdir()
    polars.DataFrame({"a": [1]}).write_parquet(path)
    polars.read_parquet(path.parent / "**" / "*.parquet", hive_partitioning=True)


def data(channel: str, sequence: int) -> dict[str, object]:
    return {"channel": channel, "type": "market_data", "sequence": sequence}


def trades(*rows: tuple[str, str, str], symbol: str = "A/B") -> bytes:
    texts = (
        f'{{"symbol":"{symbol}","side":"{side}","price":{price},"qty":{size},"trade_id":7,'
        '"timestamp":"2026-01-02T03:04:05.000000Z"}'
        for side, price, size in rows
    )
    return f'{{"channel":"trade","type":"update","data":[{",".join(texts)}]}}'.encode()


def duck(folder: Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table, as duckdb reads them, with times in ns."""
    path = folder / table / "**" / "*.parquet"
    query = f"select * from read_parquet('{path}', filename=true)"
    with duckdb.connect() as connection:
        found = connection.sql(query)
        times = {n for n, t in zip(found.columns, found.types, strict=True) if "TIME" in str(t)}
        names = [f"epoch_ns({n}) as {n}" if n in times else f'"{n}"' for n in found.columns]
        rows = connection.sql(f"select {', '.join(names)} from found")
        return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]


def polar(folder: Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table, as polars reads them, with times in ns."""
    frame = polars.read_parquet(folder / table / "**" / "*.parquet", hive_partitioning=True)
    times = polars.selectors.datetime()
    return frame.with_columns(times.dt.epoch("ns")).to_dicts()


READERS = [duck, polar]


def restored(folder: Path, stream: Stream) -> list[Message]:
    (recording,), _ = recordings_of(folder)
    return [m for _, messages in Restorer(recording, stream.dialect).read() for m in messages]


def expected(messages: list[Message], table: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for m in messages:
        if table == "trades":
            found += [
                (m.channel, m.sequence, m.received_at, t.time, t.symbol, t.id, t.side, t.price,
                 t.size, t.is_snapshot)
                for t in m.trades() or ()
            ]  # fmt: skip
        elif table == "quotes" and (q := m.quote()) is not None:
            found.append(
                (m.channel, m.sequence, m.received_at, q.time, q.symbol, q.bid_price, q.bid_size,
                 q.ask_price, q.ask_size)
            )  # fmt: skip
        elif table == "books" and (u := m.book_update()) is not None:
            levels = [("bid", *row) for row in u.bids] + [("ask", *row) for row in u.asks]
            head = m.channel, m.sequence, m.received_at, u.time, u.symbol, u.is_snapshot
            found += [(*head, u.checksum, *level) for level in levels or [(None, None, None)]]
    return found


COLUMNS = {
    "trades": "symbol id side price size is_snapshot",
    "quotes": "symbol bid_price bid_size ask_price ask_size",
    "books": "symbol is_snapshot checksum side price size",
}


@needs_recordings
@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.file)
def test_the_tables_of_recorded_traffic_are_its_views_row_for_row(
    stream: Stream, tmp_path: Path
) -> None:
    convert([RECORDED / stream.file], tmp_path / "in", stream.dialect)
    done = export(tmp_path / "in", to=tmp_path / "out", dialect=stream.dialect)
    messages = restored(tmp_path / "in", stream)
    assert (done.messages, done.unreadable, done.damage) == (len(messages), 0, [])
    assert done.rows.keys() & COLUMNS.keys()
    for table, columns in COLUMNS.items():
        names = ["channel", "sequence", "received_at", "time", *columns.split()]
        wanted = expected(messages, table)
        assert done.rows.get(table, 0) == len(wanted)
        for reader in READERS if wanted else ():
            rows = reader(tmp_path / "out", table)
            found = [tuple(row[name] for name in names) for row in rows]
            # Rows of one file keep their order, files come in any.
            assert sorted(found, key=lambda row: row[0]) == sorted(wanted, key=lambda row: row[0])


@pytest.mark.parametrize("reader", READERS)
def test_prices_and_times_are_exact(tmp_path: Path, reader: Any) -> None:
    with MadeRecording(tmp_path / "in" if (tmp_path / "in").mkdir() is None else tmp_path,
                       "kraken", begin=BEGIN + 123) as made:  # fmt: skip
        made.frame(trades(("buy", "12345678901234567890.123456789012345678", "0.10")))
    export(tmp_path / "in", to=tmp_path / "out")
    (row,) = reader(tmp_path / "out", "trades")
    assert row["price"] == Decimal("12345678901234567890.123456789012345678")
    assert (row["size"], row["received_at"]) == (Decimal("0.1"), BEGIN + 123)


@pytest.mark.parametrize("price", ["123456789012345678901", "0.1234567890123456789"])
def test_a_price_with_more_digits_is_an_error_and_text_has_them(tmp_path: Path, price: str) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", "kraken") as made:
        made.frame(trades(("buy", "1", "1")))
        made.frame(trades(("buy", price, "1")))
    with pytest.raises(ConfigurationError, match=f"price {price}.*as text"):
        export(tmp_path / "in", to=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(tmp_path / "in", to=tmp_path / "out", text=True)
    assert [row["price"] for row in duck(tmp_path / "out", "trades")] == ["1", price]


def test_every_trade_is_a_row_and_a_gap_is_on_the_first(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", "kraken") as made:
        made.frame(trades(("buy", "1", "1"), ("sell", "2", "1")), gap=Gap("reconnect", None, 5))
    export(tmp_path / "in", to=tmp_path / "out")
    rows = duck(tmp_path / "out", "trades")
    found = [(r["message"], r["price"], r["gap_reason"], r["gap_missed"], r["gap_since"])
             for r in rows]  # fmt: skip
    assert found == [(1, 1, "reconnect", None, 5), (2, 2, None, None, None)]


def test_a_gap_before_a_message_without_a_row_is_a_row(tmp_path: Path) -> None:
    row = '"symbol":"A/B","bid":1,"bid_qty":1,"ask":2,"ask_qty":1'
    frame = f'{{"channel":"ticker","type":"update","data":[{{{row}}}]}}'
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", "kraken") as made:
        made.messages(b"", [Message("ticker:A/B", "lost", gap=Gap("sequence", 2, 4))])
        made.frame(frame, gap=Gap("sequence", 1, 5))
        made.messages(b"", [Message("ticker:A/B", "lost", gap=Gap("rejected", None, 5))])
    export(tmp_path / "in", to=tmp_path / "out")
    found = duck(tmp_path / "out", "quotes")
    rows = [(r["bid_price"], r["gap_reason"], r["gap_missed"], r["gap_since"]) for r in found]
    assert rows == [(1, "sequence", 3, 4), (None, "rejected", None, 5)]
    raw = [(r["type"], r["gap_reason"], r["gap_missed"]) for r in duck(tmp_path / "out", "raw")]
    assert raw == [("lost", "sequence", 2), ("lost", "rejected", None)]


NAMES = [
    "../../etc/x",
    "a/b:c=d",
    "con",
    "A",
    "a",
    "ä ü",
    "%2F",
    "x." * 99,
    "end.",
    'q"?*<>|\\',
    "",
]


@pytest.mark.parametrize("reader", READERS)
def test_any_channel_is_a_folder_of_any_system(tmp_path: Path, reader: Any) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in") as made:
        for name in NAMES:
            made.messages(b"{}", [Message(name, "update", 1)])
    done = export(tmp_path / "in", to=tmp_path / "out")
    places = [path.relative_to(tmp_path / "out") for path in done.files]
    assert {len(place.parts) for place in places} == {5}
    parts = {part for place in places for part in place.parts}
    assert [p for p in parts if set('<>:"\\|?*/') & set(p) or p[-1] in ". " or len(p) > 200] == []
    assert len({str(place).casefold() for place in places}) == len(NAMES)
    found = {row["channel"] for row in reader(tmp_path / "out", "raw")}
    cut = safe_name("x." * 99)
    assert found == {cut if name == "x." * 99 else name for name in NAMES}


def test_days_are_those_of_utc(tmp_path: Path) -> None:
    day = 86_400 * 10**9
    midnight = BEGIN // day * day + day
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", begin=midnight - 1, step=1) as made:
        for sequence in range(3):
            made.frame(data("a", sequence))
            made.time += day if sequence else 0
    done = export(tmp_path / "in", to=tmp_path / "out")
    assert [path.parts[-3] for path in done.files] == [
        f"date=2026-01-0{number}" for number in (2, 3, 4)
    ]


def test_a_part_of_the_time_and_of_the_channels(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in") as made:
        for sequence in range(10):
            made.frame(data("a", sequence))
            made.frame(data("b", sequence))
    step = made.step
    export(tmp_path / "in", to=tmp_path / "out", channels=["b"], start=BEGIN + 4 * step,
           end=BEGIN + 8 * step)  # fmt: skip
    assert [(r["channel"], r["sequence"]) for r in duck(tmp_path / "out", "raw")] == [
        ("b", 2), ("b", 3),
    ]  # fmt: skip


def test_one_table_only(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", "kraken") as made:
        made.frame(trades(("buy", "1", "1")))
        made.frame(data("status", 1), is_delivered=False)
    export(tmp_path / "in", to=tmp_path / "raw", kind="raw")
    export(tmp_path / "in", to=tmp_path / "quotes", kind="quotes")
    (row,) = duck(tmp_path / "raw", "raw")
    assert (row["raw"], row["item"]) == (trades(("buy", "1", "1")), 0)
    assert json.loads(row["data"])["price"] == 1
    assert list((tmp_path / "quotes").rglob("*")) == []


def test_json_lines_are_envelopes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in") as made:
        made.frame(data("a", 1))
        made.frame(data("a", 5), gap=Gap("sequence", 3, 1))
    (path,) = export(tmp_path / "in", to=tmp_path / "out", form="jsonl").files
    (recording,), _ = recordings_of(tmp_path / "in")
    messages = [m for _, ms in Restorer(recording).read() for m in ms]
    wanted = [wsclient.Envelope.of(message).to_json() for message in messages]
    assert path.read_text().splitlines() == wanted
    with pytest.raises(ConfigurationError, match="trades"):
        export(tmp_path / "in", to=tmp_path / "x", form="jsonl", kind="trades")


def test_csv_has_the_digits_of_the_venue(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", "kraken") as made:
        made.frame(trades(("buy", "1.10", "0.00000001")))
    (path,) = export(tmp_path / "in", to=tmp_path / "out", form="csv").files
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["price"], row["size"], row["is_snapshot"]) == ("1.10", "0.00000001", "false")
    assert row["received_at"] == "2026-01-02T03:04:05.000000000Z"


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in") as made:
        made.frame(data("a", 1))
    (path,) = export(tmp_path / "in", to=tmp_path / "out").files
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists"):
        export(tmp_path / "in", to=tmp_path / "out")
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [path]
    assert path.read_bytes() == b"mine"
    export(tmp_path / "in", to=tmp_path / "out", force=True)
    assert len(duck(tmp_path / "out", "raw")) == 1


def test_an_empty_recording_gives_no_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in"):
        pass
    done = export(tmp_path / "in", to=tmp_path / "out")
    assert (done.files, done.rows, done.messages) == ([], {}, 0)


def test_damage_is_skipped_and_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", chunk_size=100) as made:
        for sequence in range(20):
            made.frame(data("a", sequence))
    content = bytearray(made.path.read_bytes())
    content[content.index(b"zstd", len(content) // 3) + 30] ^= 0xFF
    made.path.write_bytes(content)
    done = export(tmp_path / "in", to=tmp_path / "out")
    assert [found.path for found in done.damage] == [made.path]
    assert 0 < len(duck(tmp_path / "out", "raw")) == done.messages < 20


def test_without_pyarrow_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
    with pytest.raises(ConfigurationError, match=r"wsclient-market\[export\]"):
        export(tmp_path, to=tmp_path / "out")


@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=pytest.mark.soak)])
def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    # Of fewer rows, as large a part waits.
    monkeypatch.setattr(exporting, "GROUP", exporting.GROUP * count // 200_000)
    monkeypatch.setattr(exporting, "WAITING", exporting.WAITING * count // 200_000)
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", "kraken", chunk_size=1 << 20) as made:
        messages = made.frame(trades(("buy", "1.5", "2")))
        for _ in range(count):
            made.messages(messages[0].raw, messages)
    tracemalloc.start()
    try:
        done = export(tmp_path / "in", to=tmp_path / "out", kind="raw")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.rows == {"raw": count + 1}
    assert peak < 120 * 2**20 * count // 200_000


def test_it_says_why_messages_have_no_view(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", "kraken") as made:
        for _ in range(3):
            made.frame(b'{"channel":"trade","type":"update","data":[{"symbol":"A/B"}]}')
    done = export(tmp_path / "in", to=tmp_path / "out", form="csv")
    assert (done.unreadable, done.rows) == (3, {"raw": 3})
    ((why, count),) = done.reasons.items()
    assert count == 3
    assert "missing required field" in why


HOSTILE = [
    b'{"channel":"trade","type":"update","data":[{"symbol":"A/B","side":"buy","price":NaN,"qty":1,'
    b'"trade_id":1,"timestamp":"2026-01-01T00:00:00Z"}]}',
    b'{"channel":"trade","type":"update","data":' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"channel":"trade","type":"update","data":[{"symbol":"A/B","x":"' + b"y" * 10**7 + b'"}]}',
    b'{"channel":"trade","type":"update","data":[{"symbol":"A/B","side":"buy","price":1e999999,'
    b'"qty":1,"ord_type":"limit","trade_id":1,"timestamp":"2026-01-01T00:00:00Z"}]}',
    b"\xff\xfe",
    b"",
]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("raw", HOSTILE, ids=["nan", "nested", "large", "huge", "bytes", "empty"])
def test_hostile_frames_are_exported_or_refused_in_words(
    tmp_path: Path, raw: bytes, form: Any
) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", "kraken") as made:
        made.messages(raw, [Message("trade:A/B", "update", None, 0, raw)])
        made.messages(raw, [Message("book:A/B", "update", None, 0, raw)])
    check(tmp_path / "in")
    try:
        done = export(tmp_path / "in", to=tmp_path / "out", form=form)
    except ConfigurationError as error:
        refused = str(error)
    else:
        assert done.messages == 2
        return
    assert "does not fit" in refused
    assert not (tmp_path / "out").exists()


def test_a_dialect_that_crashes_stops_neither_an_export_nor_a_check(tmp_path: Path) -> None:
    class Crashing(Views):
        def trades(self, message: Message) -> Any:
            raise ZeroDivisionError("a bug")

        quote = book = book_symbol = trades

    dialect = copy.copy(dialects.find("kraken"))
    dialect.views = Crashing()

    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", "kraken") as made:
        made.frame(b'{"channel":"trade","type":"update","data":[{"symbol":"A/B"}]}')
    check(tmp_path / "in", dialect=dialect)
    done = export(tmp_path / "in", to=tmp_path / "out", form="csv", dialect=dialect)
    assert (done.messages, done.unreadable) == (1, 1)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_an_interrupted_export_leaves_nothing(tmp_path: Path, form: Any) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in", "kraken") as made:
        for _ in range(5000):
            made.frame(b'{"channel":"trade","type":"update","data":[{"symbol":"A/B"}]}')

    def interrupt(share: float) -> None:
        if share > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "in", to=tmp_path / "out", form=form, progress=interrupt)
    assert not (tmp_path / "out").exists()


def test_of_two_exports_at_once_into_one_folder_the_files_of_one_are_left(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with MadeRecording(tmp_path / "in") as made:
        for sequence in range(5000):
            made.frame({"channel": "a", "type": "market_data", "sequence": sequence})
    inner: list[Any] = []

    def meanwhile(share: float) -> None:
        if share > 0.3 and not inner:
            inner.append(None)
            inner[0] = export(tmp_path / "in", to=tmp_path / "out", form="csv")

    with pytest.raises(FileExistsError):
        export(tmp_path / "in", to=tmp_path / "out", form="csv", progress=meanwhile)
    (path,) = (p for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert [path] == inner[0].files
    assert len(path.read_text().splitlines()) == 5001
