"""Statistics for Prometheus, read by its parser and scraped by a real Prometheus."""

from __future__ import annotations

import gc
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from wsclient import Generic, WebSocketClient
from wsclient.testing import FakeVenue

pytest.importorskip("prometheus_client", reason="the extra 'prometheus' is not installed")

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from wsclient import metrics
from wsclient.metrics import PrometheusCollector

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(collector: PrometheusCollector) -> Samples:
    """Return a scrape: (name, labels) -> value. Each series must be there once."""
    registry = CollectorRegistry()
    registry.register(collector)
    found: Samples = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.documentation
        assert family.type != "unknown"
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"wsclient_{name}", frozenset({"client": "feed", **labels}.items())]


def labels_of(samples: Samples, name: str, label: str) -> set[str]:
    return {dict(labels)[label] for found, labels in samples if found == f"wsclient_{name}"}


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[WebSocketClient]:
    dialect = Generic(timestamp_field="sent")
    with wsclient.connect(venue.url, name="feed", dialect=dialect) as client:
        yield client


def feed(client: WebSocketClient, venue: FakeVenue, *channels: str) -> None:
    """Send and receive a message per channel, then leave another of the first one queued."""
    client.subscribe(*channels)
    for channel in channels:
        venue.publish(channel, sent=time.time_ns() - 10**9)
        client.recv(timeout=5)
    received = client.stats().messages
    venue.publish(channels[0], sent=time.time_ns())
    until(lambda: client.stats().messages > received)


class TestScrape:
    def test_counters_are_those_of_stats(self, client: WebSocketClient, venue: FakeVenue) -> None:
        feed(client, venue, "a", "b")
        samples, stats = scrape(PrometheusCollector(client)), client.stats()
        assert stats.messages == 3
        for name in metrics.COUNTERS:
            assert value(samples, f"{name}_total") == getattr(stats, name)
        assert value(samples, "missed_messages") == stats.missed
        assert value(samples, "channels") == 2
        assert value(samples, "channel_messages_total", channel="a") == 2
        assert value(samples, "channel_messages_total", channel="b") == 1

    def test_the_state_is_one_of_all(self, client: WebSocketClient) -> None:
        samples = scrape(PrometheusCollector(client))
        states = {
            state: value(samples, "state", state=state)
            for state in labels_of(samples, "state", "state")
        }
        assert states.pop("open") == 1
        assert set(states.values()) == {0}
        assert len(states) == len(wsclient.State) - 1

    def test_channels_that_stay_without_data_are_counted(self, venue: FakeVenue) -> None:
        class Impatient(Generic):
            def first_message_within(self, channel: str) -> float | None:
                return 0.05

        with wsclient.connect(venue.url, name="feed", dialect=Impatient()) as client:
            client.subscribe("a", "b")
            until(lambda: len(client.stats().no_data) == 2)
            samples = scrape(PrometheusCollector(client))
            assert value(samples, "channels_without_data") == 2

    def test_gaps_are_counted_per_channel(self, client: WebSocketClient, venue: FakeVenue) -> None:
        feed(client, venue, "a", "b")
        venue.publish("b", sequence=5)
        until(lambda: client.stats().gaps == 1)
        samples = scrape(PrometheusCollector(client))
        assert value(samples, "gaps_total") == 1
        assert value(samples, "channel_gaps_total", channel="b") == 1
        assert value(samples, "channel_gaps_total", channel="a") == 0
        missed = client.stats().missed
        assert value(samples, "missed_messages") == missed > 0
        assert value(samples, "channel_missed_messages", channel="b") == missed

    @pytest.mark.parametrize("name", ["venue_lag", "consumer_lag"])
    def test_a_lag_is_a_histogram(
        self, client: WebSocketClient, venue: FakeVenue, name: str
    ) -> None:
        feed(client, venue, "a")
        samples, lag = scrape(PrometheusCollector(client)), getattr(client.stats(), name)
        assert lag.count > 0
        bounds = sorted(map(float, labels_of(samples, f"{name}_seconds_bucket", "le")))
        assert bounds == [*metrics.BOUNDS, float("inf")]
        by_bound = {
            float(dict(labels)["le"]): found
            for (series, labels), found in samples.items()
            if series == f"wsclient_{name}_seconds_bucket"
        }
        counts = [by_bound[bound] for bound in bounds]
        assert counts == [*(lag.below(bound) for bound in metrics.BOUNDS), lag.count]
        assert counts == sorted(counts)
        assert value(samples, f"{name}_seconds_count") == lag.count
        assert value(samples, f"{name}_seconds_sum") == pytest.approx(lag.total)
        quantiles = labels_of(samples, f"channel_{name}_seconds", "quantile")
        assert quantiles == {"0.5", "0.99"}
        found = value(samples, f"channel_{name}_seconds", channel="a", quantile="0.5")
        assert found == getattr(client.stats().channels["a"], name).p50
        assert value(samples, f"channel_{name}_seconds_count", channel="a") == lag.count

    def test_a_venue_ahead_of_our_clock_shows(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        venue.publish("a", sent=time.time_ns() + 3600 * 10**9)
        client.recv(timeout=5)
        samples = scrape(PrometheusCollector(client))
        assert value(samples, "venue_lag_min_seconds") < -3500
        assert value(samples, "venue_lag_seconds_bucket", le="1.6384e-05") == 1

    def test_each_queue_has_the_number_of_waiting_messages(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        feed(client, venue, "a")
        with client.reader("b"):
            samples, stats = scrape(PrometheusCollector(client)), client.stats()
        assert labels_of(samples, "queue_messages", "queue") == {"client", "reader-1"}
        assert value(samples, "queue_messages", queue="client") == 1
        assert value(samples, "queue_bytes", queue="client") == stats.queued_bytes
        assert 0 < value(samples, "queue_oldest_seconds", queue="client") <= (stats.oldest or 0)
        assert value(samples, "queue_oldest_seconds", queue="reader-1") == 0

    def test_failures_are_counted_per_reason(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, name="feed", retry_delay=0.01) as client:
            venue.refuse(503, times=1)
            venue.live[0].rst()
            until(lambda: client.stats().connects == 2)
            samples = scrape(PrometheusCollector(client))
        assert value(samples, "disconnects_total") == 1
        assert value(samples, "disconnect_reasons_total", reason="reset") == 1
        assert value(samples, "attempt_failures_total", reason="http 503") == 1

    def test_channel_names_may_be_anything(self, client: WebSocketClient, venue: FakeVenue) -> None:
        name = 'a"b\\c\nd'
        feed(client, venue, name)
        samples = scrape(PrometheusCollector(client))
        assert labels_of(samples, "channel_messages_total", "channel") == {name}

    def test_a_client_that_never_connected_has_series(self, venue: FakeVenue) -> None:
        idle = WebSocketClient(venue.url, name="feed")
        assert value(scrape(PrometheusCollector(idle)), "state", state="idle") == 1
        idle.close()
        assert value(scrape(PrometheusCollector(idle)), "state", state="closed") == 1

    def test_the_busiest_channels_have_series(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        feed(client, venue, "a", "b", "c")
        samples = scrape(PrometheusCollector(client, channels=1))
        assert labels_of(samples, "channel_messages_total", "channel") == {"a"}
        assert value(samples, "channels") == 3

    def test_a_channel_has_twelve_series(self, client: WebSocketClient, venue: FakeVenue) -> None:
        feed(client, venue, "a")
        samples = scrape(PrometheusCollector(client))
        assert sum("channel" in dict(labels) for _, labels in samples) == 12

    def test_channels_can_be_left_out(self, client: WebSocketClient, venue: FakeVenue) -> None:
        feed(client, venue, "a")
        samples = scrape(PrometheusCollector(client, channels=0))
        assert not [name for name, labels in samples if "channel" in dict(labels)]

    def test_fewer_than_none_are_refused(self) -> None:
        with pytest.raises(wsclient.ConfigurationError, match="channels"):
            PrometheusCollector(channels=-1)


class TestConnections:
    @pytest.fixture
    def client(self, venue: FakeVenue) -> Iterator[WebSocketClient]:
        dialect = Generic(limits=wsclient.Limits(channels_per_connection=2))
        with wsclient.connect(
            venue.url, name="feed", dialect=dialect, retry_delay=30, jitter=False
        ) as client:
            client.subscribe("a", "b", "c")
            yield client

    def test_each_place_has_series(self, client: WebSocketClient, venue: FakeVenue) -> None:
        venue.publish("a")
        client.recv(timeout=5)
        samples = scrape(PrometheusCollector(client))
        for shard, channels, messages in (("0", 2, 1), ("1", 1, 0)):
            where = {"route": "", "shard": shard}
            assert value(samples, "connection_up", **where) == 1
            assert value(samples, "connection_channels", **where) == channels
            assert value(samples, "connection_messages_total", **where) == messages
            assert value(samples, "connection_age_seconds", **where) > 0
        assert value(samples, "connection_messages_rate", route="", shard="0") > 0

    def test_a_route_is_a_label(self) -> None:
        with (
            FakeVenue("binance_futures") as venue,
            wsclient.connect(
                venue.route_url("public"), name="feed", dialect="binance_futures"
            ) as client,
        ):
            client.subscribe("btcusdt@aggTrade", "btcusdt@bookTicker")
            samples = scrape(PrometheusCollector(client))
        assert labels_of(samples, "connection_up", "route") == {"public", "market"}

    def test_a_successor_goes_on_with_the_series(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        client.unsubscribe("c")
        venue.publish("a")
        client.recv(timeout=5)
        client.rotate(timeout=20)
        venue.publish("a")
        client.recv(timeout=5)
        samples = scrape(PrometheusCollector(client))
        assert value(samples, "rotations_total") == 1
        assert value(samples, "reconnects_total") == 0
        assert labels_of(samples, "connection_up", "shard") == {"0"}
        assert value(samples, "connection_messages_total", route="", shard="0") == 2

    def test_two_of_one_place_are_counted_together(
        self, client: WebSocketClient, venue: FakeVenue
    ) -> None:
        venue.fail_handshake("deaf")
        venue.fail_handshake("deaf")
        call = Call(client.rotate)
        until(lambda: len(client.connections) == 4)
        samples = scrape(PrometheusCollector(client))
        assert value(samples, "connection_up", route="", shard="0") == 1
        assert value(samples, "connection_channels", route="", shard="0") == 2
        assert value(samples, "connection_age_seconds", route="", shard="0") > 0
        client.close()
        with pytest.raises(wsclient.ClientClosed):
            call.result()

    def test_one_that_is_missing_is_down(self, client: WebSocketClient, venue: FakeVenue) -> None:
        venue.publish("c")
        client.recv(timeout=5)
        venue.refuse(503, times=1)
        venue.subscribers("c")[0].rst()
        until(lambda: client.stats().attempt_failures)
        samples = scrape(PrometheusCollector(client))
        where = {"route": "", "shard": "1"}
        assert value(samples, "connection_up", **where) == 0
        assert value(samples, "connection_channels", **where) == 0
        assert value(samples, "connection_messages_total", **where) == 1
        assert labels_of(samples, "connection_age_seconds", "shard") == {"0"}
        assert value(samples, "state", state="open") == 1


class TestClients:
    def test_clients_of_one_name_are_distinguished(self, venue: FakeVenue) -> None:
        clients = [WebSocketClient(venue.url, name="feed") for _ in range(3)]
        collector = PrometheusCollector(*clients)
        assert labels_of(scrape(collector), "channels", "client") == {"feed", "feed-2", "feed-3"}
        for client in clients:
            client.close()

    def test_a_client_registered_twice_has_its_series_once(self, client: WebSocketClient) -> None:
        collector = PrometheusCollector(client)
        collector.add(client)
        assert labels_of(scrape(collector), "channels", "client") == {"feed"}

    def test_a_removed_client_has_no_series(self, client: WebSocketClient) -> None:
        collector = PrometheusCollector(client)
        collector.remove(client)
        collector.remove(client)
        assert labels_of(scrape(collector), "channels", "client") == set()

    def test_one_that_nobody_holds_is_collected(self, venue: FakeVenue) -> None:
        collector = PrometheusCollector(WebSocketClient(venue.url, name="feed"))
        gc.collect()
        assert labels_of(scrape(collector), "channels", "client") == set()
        new = WebSocketClient(venue.url, name="feed")
        collector.add(new)
        assert labels_of(scrape(collector), "channels", "client") == {"feed"}
        new.close()

    def test_a_scrape_keeps_no_client(self, venue: FakeVenue) -> None:
        client = WebSocketClient(venue.url, name="feed")
        collector = PrometheusCollector(client)
        families = collector.collect()
        next(iter(families))
        del client
        gc.collect()
        assert labels_of(scrape(collector), "channels", "client") == set()

    def test_a_forked_childs_is_left_out(
        self, client: WebSocketClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collector = PrometheusCollector(client)
        error = wsclient.ClientForked("in a child")

        def stats(self: WebSocketClient) -> Any:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(WebSocketClient, "stats", stats)
            assert labels_of(scrape(collector), "channels", "client") == set()

    def test_registering_asks_for_no_statistics(
        self, client: WebSocketClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collector = PrometheusCollector(client)
        with monkeypatch.context() as patch:
            patch.setattr(WebSocketClient, "stats", None)  # calling it raises
            CollectorRegistry().register(collector)

    def test_clients_come_and_go_while_it_is_scraped(self, venue: FakeVenue) -> None:
        collector = PrometheusCollector()
        stop = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            while not stop.is_set():
                try:
                    scrape(collector)
                except BaseException as error:  # noqa: BLE001 - raised again below
                    failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        for _ in range(300):
            collector.add(WebSocketClient(venue.url, name="feed"))
        stop.set()
        thread.join()
        assert not failures


def test_all_series_are_documented(
    client: WebSocketClient, venue: FakeVenue, tmp_path: Path
) -> None:
    client.record(tmp_path)
    feed(client, venue, "a")
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(client))
    found = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in registry.collect()
    }
    documented = re.findall(r"^(wsclient_\w+)\S* +(\w+) ", metrics.__doc__ or "", re.MULTILINE)
    assert dict(documented) == found


# A real one.

PROMETHEUS = shutil.which("prometheus")


class Server:
    """A Prometheus that scrapes one address, twice per second."""

    def __init__(self, directory: Path, target: int) -> None:
        config = directory / "prometheus.yml"
        job = {
            "job_name": "test",
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
        }
        config.write_text(json.dumps({"scrape_configs": [job]}))  # JSON is YAML
        assert PROMETHEUS is not None
        self._log = (directory / "log").open("w+")
        command = [
            PROMETHEUS,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
        self._process = subprocess.Popen(command, stderr=self._log, stdout=self._log)
        self._address: str | None = None

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._log.close()

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return its present answer; nothing while it starts."""
        if self._address is None:
            self._address = self._find_address()
        text = urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(f"{self._address}/api/v1/query?{text}", timeout=5) as found:
                result: list[dict[str, Any]] = json.load(found)["data"]["result"]
                return result
        except (urllib.error.URLError, ConnectionError):
            return []

    def _find_address(self) -> str:
        """Read its address from its log: it chose the port itself."""
        found: list[str] = []

        def look() -> bool:
            assert self._process.poll() is None, self.log
            found.extend(re.findall(r"127\.0\.0\.1:([1-9]\d*)", self.log))
            return bool(found)

        until(look, timeout=30)
        return f"http://127.0.0.1:{found[0]}"

    @property
    def log(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text()


@pytest.mark.skipif(PROMETHEUS is None, reason="there is no prometheus on the path")
def test_a_real_prometheus_scrapes_it(
    client: WebSocketClient, venue: FakeVenue, tmp_path: Path
) -> None:
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(client))
    http, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    server = Server(tmp_path, http.server_port)

    def ask(query: str) -> float | None:
        found = server.ask(query)
        return float(found[0]["value"][1]) if found else None

    def becomes(query: str, value: float) -> None:
        until(lambda: ask(query) == value, timeout=30)

    try:
        feed(client, venue, "a", "b")
        becomes('wsclient_messages_total{client="feed"}', 3)
        becomes('wsclient_state{state="open"}', 1)
        becomes('wsclient_channel_messages_total{channel="a"}', 2)
        becomes('wsclient_connection_up{route="",shard="0"}', 1)
        becomes('wsclient_connection_messages_total{route="",shard="0"}', 3)
        becomes('wsclient_connection_channels{route="",shard="0"}', 2)
        becomes('wsclient_queue_messages{queue="client"}', 1)
        becomes("wsclient_venue_lag_seconds_count", client.stats().venue_lag.count)
        # One of the lags is 1 s: in the bucket from 0.27 to 1.07.
        becomes("histogram_quantile(1, wsclient_venue_lag_seconds_bucket) > bool 0.268", 1)
        becomes('wsclient_channel_consumer_lag_seconds{channel="a",quantile="0.5"} > bool 0', 1)
        venue.live[0].rst()
        becomes("wsclient_disconnects_total", 1)
        becomes("up", 1)
        assert not re.search(r"level=(error|warn).*(parse|duplicate|Duplicate)", server.log)
    finally:
        server.stop()
        http.shutdown()
        http.server_close()
        thread.join()
