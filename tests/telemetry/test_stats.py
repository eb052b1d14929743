"""Stats as a table and as JSON, and the lags in it."""

from __future__ import annotations

import json
from dataclasses import MISSING, FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest

import wsclient
from wsclient import ChannelStats, ConnectionInfo, Lag, QueueStats, Rate, Stats
from wsclient.telemetry.histogram import Histogram
from wsclient.telemetry.stats import ConnectionInfos
from wsclient.testing import FakeVenue


def lag(*ms: float) -> Lag:
    histogram = Histogram(5)
    for value in ms:
        histogram.record(round(value * 1e6))
    return Lag(histogram)


def channel(messages: int = 0, **more: Any) -> ChannelStats:
    return ChannelStats(messages, 0, 0, 0, 0, None, None, **more)


def stats(**more: Any) -> Stats:
    counters = {f.name for f in fields(Stats) if f.default is MISSING and f.type == "int"}
    given = {"state": "open", "name": "feed", "channels": {}, **dict.fromkeys(counters, 0)}
    return Stats(**{**given, **more})


def connection(
    id: int,
    age: float | None,
    channels: tuple[str, ...] = (),
    rate: Rate = Rate(0.0, 0.0, 0.0),  # noqa: B008 - immutable
    state: str = "open",
    **more: Any,
) -> ConnectionInfo:
    return ConnectionInfo(id, state, age, channels, rate, **more)


class TestLag:
    def test_it_is_in_seconds(self) -> None:
        found = lag(1, 2, 3, 4, 90)
        assert (found.count, found.min, found.max, found.total) == (5, 0.001, 0.09, 0.1)
        assert found.mean == 0.02
        assert found.p50 == pytest.approx(0.003, rel=0.016)
        assert found.p99 == pytest.approx(0.09, rel=0.016)
        assert found.quantile(0.2) == pytest.approx(0.001, rel=0.016)

    def test_no_measurements_have_no_quantiles(self) -> None:
        found = lag()
        assert found.count == found.total == 0
        assert [found.min, found.p50, found.p99, found.max, found.mean] == [None] * 5
        assert repr(found) == "<Lag of 0: ->"

    def test_it_knows_how_many_took_less(self) -> None:
        assert lag(-1, 1, 2).below(0) == 1
        assert lag(-1, 1, 2).below(2**20 / 1e9) == 2

    def test_its_repr_has_the_quantiles(self) -> None:
        assert repr(lag(5, 5, 5)) == "<Lag of 3: 5 ms / 5 ms>"


class TestTable:
    def test_channels_that_the_venue_ended_have_a_line(self) -> None:
        text = str(stats(channels_refused=1, channels_ended=2, channels_lost=3))
        assert "channels: 1 refused, 2 ended by the venue, 3 lost\n" in text

    def test_all_of_it(self) -> None:
        text = str(
            stats(
                messages=1_234_567,
                bytes=274_000_000,
                dials=4,
                connects=3,
                disconnects=2,
                disconnect_reasons={"reset": 2},
                reconnects=2,
                rotations=5,
                gaps=3,
                missed=12,
                rate=Rate(1234.5, 274_000.0, 12.0),
                connection_rate=Rate(1000.0, 222_000.0, 1234.0),
                venue_lag=lag(12, 12, 45),
                consumer_lag=lag(0.025, 0.025, 3.1),
                queues={"client": QueueStats(5, 2310, 0.0004, 7, lag(0.025))},
                channels={
                    "trade": channel(3, rate=0.25),
                    "ticker": channel(1_234_564, rate=1234.25, venue_lag=lag(12)),
                },
            )
        )
        assert text.splitlines() == [
            "feed: open; 3 connects of 4 dials, 2 disconnects (2 reset), 2 reconnects, 5 rotations",
            "1,234,567 messages, 274 MB; 1,234.5/s and 274 kB/s recently, "
            "1,000.0/s and 222 kB/s over 1,234 s of connection",
            "3 gaps, 12 missed, 0 dropped, 0 invalid, 0 unhandled, 0 callback errors",
            "",
            "lag                 measured      p50      p99     max",
            "venue to client            3    12 ms  44.6 ms   45 ms",
            "client to consumer         3  25.1 us   3.1 ms  3.1 ms",
            "",
            "queue   waiting     size  oldest  dropped    p50    p99    max",
            "client        5  2.31 kB  400 us        7  25 us  25 us  25 us",
            "",
            "channel   messages       /s  gaps  missed  venue p50/p99  consumer p50/p99",
            "ticker   1,234,564  1,234.2     0       0  12 ms / 12 ms                 -",
            "trade            3      0.2     0       0              -                 -",
        ]

    def test_repr_is_the_same(self) -> None:
        assert repr(stats()) == str(stats())

    def test_a_client_without_anything(self) -> None:
        assert str(stats(state="idle")).startswith("feed: idle; 0 connects of 0 dials")

    def test_the_busiest_channels_are_shown(self) -> None:
        lines = str(stats(channels={f"c{n}": channel(n) for n in range(100)})).splitlines()
        assert [line.split()[0] for line in lines[-21:-1]] == [f"c{n}" for n in range(99, 79, -1)]
        assert lines[-1] == "... and 80 more channels"

    def test_a_channel_that_the_venue_names_begins_no_line(self) -> None:
        text = str(stats(channels={"a\nfeed: closed\x1b[2J": channel()}))
        assert "\x1b" not in text
        assert "\nfeed" not in text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            *((0.0, "0 us"), (1.2345e-5, "12.3 us"), (0.0123, "12.3 ms"), (-0.004, "-4 ms")),
            *((1.0, "1 s"), (123.4, "123 s"), (12345.6, "12,346 s"), (-3600.0, "-3,600 s")),
        ],
    )
    def test_a_time_is_shown_in_its_unit(self, seconds: float, text: str) -> None:
        queue = QueueStats(1, 1, seconds, 0)
        *_, row = str(stats(queues={"a queue": queue})).splitlines()
        assert f"  {text}  " in row


class TestConnections:
    def test_it_is_a_table(self) -> None:
        found = [
            connection(3, 80_123.4, ("a", "b"), Rate(1234.56, 274_000.4, 80_123.4), route="public"),
            connection(7, 4.25, ("a",), route="market", shard=1, messages=17),
            connection(9, None, state="connecting", route="market", shard=1, replaces=7),
            connection(0, None, state="backing off", route="private"),
        ]
        assert repr(ConnectionInfos(found)).splitlines() == [
            "connection    route  shard                   state       age  channels  messages  "
            "     /s  size/s",
            "3            public      0                    open  80,123 s         2         0  "
            "1,234.6  274 kB",
            "7            market      1                    open     4.2 s         1        17  "
            "    0.0     0 B",
            "9            market      1  connecting, replaces 7         -         0         0  "
            "    0.0     0 B",
            "-           private      0             backing off         -         0         0  "
            "    0.0     0 B",
        ]

    def test_without_any_it_says_so(self) -> None:
        assert repr(ConnectionInfos()) == "no connections"

    def test_one_of_them_is_a_line(self) -> None:
        assert repr(connection(7, 4.25, ("a",), Rate(12.34, 5, 4.25), shard=1, messages=52)) == (
            "<ConnectionInfo 7: shard 1, state open, age 4.2 s, channels 1, messages 52, "
            "12.3 messages/s, 5 B/s>"
        )

    def test_several_have_a_table_in_the_statistics(self) -> None:
        lines = str(stats(connections=(connection(1, 1.0), connection(2, 1.0)))).splitlines()
        assert lines[4].split()[:3] == ["connection", "route", "shard"]
        assert [line.split()[0] for line in lines[5:7]] == ["1", "2"]
        assert lines[7] == ""

    def test_a_single_one_has_none(self) -> None:
        assert str(stats(connections=(connection(1, 1.0),))) == str(stats())

    def test_of_many_those_that_are_not_open_are_shown_first(self) -> None:
        found = [connection(n, 1.0) for n in range(1, 25)]
        found.append(connection(25, None, state="connecting"))
        lines = repr(ConnectionInfos(found)).splitlines()
        assert [line.split()[0] for line in lines[1:4]] == ["25", "1", "2"]
        assert lines[21:] == ["... and 5 more connections"]

    def test_a_route_begins_no_line(self) -> None:
        assert len(repr(ConnectionInfos([connection(1, 1.0, route="a\nb")])).splitlines()) == 2


class TestDict:
    def test_json_can_hold_connections(self) -> None:
        found = stats(connections=(connection(2, 1.5, ("a",), replaces=1, messages=3),)).as_dict()
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert found["connections"] == [
            {
                "id": 2,
                "state": "open",
                "age": 1.5,
                "channels": ["a"],
                "rate": {"messages": 0.0, "bytes": 0.0, "seconds": 0.0},
                "route": "",
                "shard": 0,
                "replaces": 1,
                "messages": 3,
                "messages_before": 0,
            }
        ]

    def test_json_can_hold_all_of_it(self) -> None:
        found = stats(
            channels={"a": channel(2, venue_lag=lag(1))},
            queues={"client": QueueStats(1, 240, None, 0)},
            disconnect_reasons={"reset": 1},
        ).as_dict()
        again = json.loads(json.dumps(found, allow_nan=False))
        assert again == found
        assert found["state"] == "open"
        assert found["rate"] == {"messages": 0.0, "bytes": 0.0, "seconds": 0.0}
        assert found["disconnect_reasons"] == {"reset": 1}
        assert found["channels"]["a"]["messages"] == 2
        assert found["channels"]["a"]["venue_lag"] == {
            "count": 1,
            **dict.fromkeys(("min", "p50", "p99", "max", "mean"), 0.001),
        }
        assert found["queues"]["client"]["consumer_lag"]["p50"] is None


def test_a_snapshot_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        stats().messages = 1  # type: ignore[misc]
    assert replace(stats(), messages=5).messages == 5


def test_the_accounting_can_still_be_taken_out(
    monkeypatch: pytest.MonkeyPatch, venue: FakeVenue
) -> None:
    """The benchmark of its cost replaces pieces of the client, which must be there."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import unmeasured

    switch = unmeasured.Switch()
    with wsclient.connect(venue.url) as client:
        client.subscribe("a")
        venue.publish("a")
        client.recv(timeout=5)
        counted = []
        for on in (False, True):
            before = client.stats()
            switch.turn(on)
            for _ in range(3):
                venue.publish("a")
                client.recv(timeout=5)
            after = client.stats()
            counted.append((after.messages - before.messages, after.frames - before.frames))
    assert counted == [(0, 0), (3, 3)]
