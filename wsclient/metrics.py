"""Statistics of clients for Prometheus (extra ``prometheus``).

::

    from prometheus_client import REGISTRY, start_http_server
    from wsclient.metrics import PrometheusCollector

    REGISTRY.register(PrometheusCollector(client))
    start_http_server(9000)

Each scrape calls ``client.stats()``; nothing runs in between, and nothing waits for a venue.
:class:`wsclient.Stats` explains the numbers. All of them have the label ``client``:

===================================== ========= ===================================================
wsclient_state{state}                 gauge     1 for the present state of the client, else 0
wsclient_messages_total               counter   messages delivered to queues
wsclient_frames_total                 counter   data frames received
wsclient_bytes_total                  counter   bytes of payload received
wsclient_dials_total                  counter   connections attempted
wsclient_connects_total               counter   connections opened
wsclient_disconnects_total            counter   connections that ended
wsclient_disconnect_reasons_total     counter   connections that ended, by {reason}
wsclient_reconnects_total             counter   connections opened after one that ended
wsclient_rotations_total              counter   connections replaced before they ended
wsclient_attempt_failures_total       counter   attempts to connect that failed, by {reason}
wsclient_gaps_total                   counter   gaps marked
wsclient_missed_messages              gauge     messages known to be missed; late ones lower it
wsclient_invalid_total                counter   frames and messages that could not be read
wsclient_unhandled_total              counter   frames of a type that the dialect does not know
wsclient_dropped_total                counter   messages dropped by overflow policies
wsclient_callback_errors_total        counter   exceptions raised by on() and on_event()
wsclient_channels_refused_total       counter   channels refused when they were requested
wsclient_channels_ended_total         counter   channels that the venue has ended
wsclient_channels_lost_total          counter   channels refused after their end or a reconnect
wsclient_books_out_of_sync_total      counter   order books that fell out of sync
wsclient_books_refreshed_total        counter   order books that are in sync again
wsclient_books_refused_total          counter   snapshots of order books refused for good
wsclient_venue_lag_seconds            histogram from the venue's own time to receipt, of a sample
wsclient_consumer_lag_seconds         histogram from receipt to the consumer, of a sample
wsclient_venue_lag_min_seconds        gauge     smallest so far; negative if the clocks disagree
wsclient_connection_up                gauge     1 while the connection is open, else 0
wsclient_connection_age_seconds       gauge     since it was opened; none while it is not open
wsclient_connection_channels          gauge     channels that the venue has confirmed on it
wsclient_connection_messages_total    counter   messages that it has delivered
wsclient_connection_messages_rate     gauge     messages per second since it was opened
wsclient_queue_messages{queue}        gauge     messages waiting
wsclient_queue_bytes{queue}           gauge     bytes charged for the waiting messages
wsclient_queue_oldest_seconds{queue}  gauge     age of the oldest waiting message; 0 if none waits
wsclient_channels                     gauge     channels with statistics
wsclient_channels_without_data        gauge     confirmed channels without any message
wsclient_channel_messages_total       counter   messages of one {channel}
wsclient_channel_gaps_total           counter   gaps marked in one {channel}
wsclient_channel_missed_messages      gauge     messages of one {channel} known to be missed
wsclient_channel_last_message_seconds gauge     when its last message was received, since the epoch
wsclient_channel_venue_lag_seconds    summary   venue lag of one {channel}, {quantile} 0.5 and 0.99
wsclient_channel_consumer_lag_seconds summary   its consumer lag, {quantile} 0.5 and 0.99
wsclient_recorder_up                  gauge     1 while the recorder can write, else 0
wsclient_recorder_messages_total      counter   messages that it has recorded
wsclient_recorder_written_bytes_total counter   bytes of the files that it has written
wsclient_recorder_lost_messages_total counter   messages that it could not keep
wsclient_recorder_buffered_bytes      gauge     bytes charged for what waits to be written
===================================== ========= ===================================================

The series of the recorder are there for clients that are, or were, recorded.

The series of connections have the labels ``route`` (the dialect's name for an address, empty if the
venue has only one) and ``shard`` (the number of the connection on that route, from 0). They go on
when a connection takes the place of another one. While it replaces the other, both are counted: the
channels are the most on either, the age is that of the older one, and the rate is of both.

A negative venue lag is counted in the first bucket and lowers the histogram's sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from heapq import nlargest
from weakref import WeakValueDictionary

from wsclient.client import WebSocketClient
from wsclient.errors import ClientForked, ConfigurationError
from wsclient.sansio.life import State
from wsclient.telemetry.stats import ChannelStats, ConnectionInfo, Lag, Stats

try:
    from prometheus_client import Metric
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "wsclient.metrics needs: pip install 'wsclient-market[prometheus]'"
    ) from error

__all__ = ["PrometheusCollector"]

#: Bounds of the histograms' buckets (s), from 16 us to 17 s. The client's own buckets end at the
#: same bounds, so each count is exact.
BOUNDS = [2**exponent / 1e9 for exponent in range(14, 35, 2)]
QUANTILES = (0.5, 0.99)

#: The counters of each client: fields of Stats, and their help texts.
COUNTERS = {
    "messages": "Messages delivered to queues.",
    "frames": "Data frames received.",
    "bytes": "Bytes of payload received.",
    "dials": "Connections attempted.",
    "connects": "Connections opened.",
    "disconnects": "Connections that ended.",
    "reconnects": "Connections opened after one that ended.",
    "rotations": "Connections replaced before they ended.",
    "gaps": "Gaps marked.",
    "invalid": "Frames and messages that could not be read.",
    "unhandled": "Frames of a type that the dialect does not know.",
    "dropped": "Messages dropped by overflow policies.",
    "callback_errors": "Exceptions raised by on() and on_event() functions.",
    "channels_refused": "Channels refused when they were requested.",
    "channels_ended": "Channels that the venue has ended, to which the client subscribed again.",
    "channels_lost": "Channels refused after the venue has ended them, or after a reconnect.",
    "books_out_of_sync": "Order books that fell out of sync.",
    "books_refreshed": "Order books that fell out of sync and got a new snapshot.",
    "books_refused": "Snapshots of order books refused for good.",
}
REASONS = {
    "disconnect_reasons": "Connections that ended, by reason.",
    "attempt_failures": "Attempts to connect that failed, by reason.",
}
LAGS = {
    "venue_lag": "From the venue's own time of a message to its receipt, of a sample.",
    "consumer_lag": "From a message's receipt to the consumer, of a sample.",
}

#: A sample: the values of its labels, and its own value.
Sample = tuple[Sequence[str], float]


class PrometheusCollector(Collector):
    """A ``prometheus_client`` collector of the statistics of clients.

    It does not keep the clients alive: the series of a client end when it is garbage-collected.

    At most ``channels`` channels per client, those with the most messages, have their own series,
    twelve each. 0 leaves them out.

    The label ``client`` is the client's name (its option ``name``), followed by ``-2`` and so on if
    another client of this collector has the same name. May be used from any thread. Raises
    ConfigurationError for ``channels`` below 0.
    """

    def __init__(self, *clients: WebSocketClient, channels: int = 100) -> None:
        if channels < 0:
            raise ConfigurationError(f"channels must be 0 or more, not {channels}")
        self._channels = channels
        #: Protects the table of clients. Not held while their statistics are read.
        self._lock = threading.Lock()
        self._clients: WeakValueDictionary[str, WebSocketClient] = WeakValueDictionary()
        for client in clients:
            self.add(client)

    def add(self, client: WebSocketClient) -> None:
        """Add ``client`` to this collector, unless it is there already."""
        name = label = client.stats().name
        with self._lock:
            known = dict(self._clients.items())
            if client in known.values():
                return
            number = 1
            while label in known:
                number += 1
                label = f"{name}-{number}"
            self._clients[label] = client

    def remove(self, client: WebSocketClient) -> None:
        """Remove ``client`` from this collector."""
        with self._lock:
            for label, known in list(self._clients.items()):
                if known is client:
                    del self._clients[label]

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that a registry collects nothing when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all series as of now. Called by the registry at each scrape."""
        found = self._ask()
        yield from _of_clients(found)
        yield from _of_connections(found)
        yield from _of_lags(found)
        yield from _of_queues(found)
        yield from _of_recorders(found)
        yield from _of_channels(found, self._channels)

    def _ask(self) -> dict[str, Stats]:
        with self._lock:
            clients = list(self._clients.items())
        found = {}
        for label, client in clients:
            with suppress(ClientForked):  # it belongs to the parent process, which reports it
                found[label] = client.stats()
        return found


def _gauge(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(f"wsclient_{name}", text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _counter(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    family = CounterMetricFamily(f"wsclient_{name}", text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _of_clients(found: dict[str, Stats]) -> Iterator[Metric]:
    states = [
        ([label, state.value], float(stats.state == state.value))
        for label, stats in found.items()
        for state in State
    ]
    yield _gauge("state", "1 for the present state of the client.", ["client", "state"], states)
    for name, text in COUNTERS.items():
        samples = [([label], getattr(stats, name)) for label, stats in found.items()]
        yield _counter(name, text, ["client"], samples)
    for name, text in REASONS.items():
        reasons = [
            ([label, reason], count)
            for label, stats in found.items()
            for reason, count in getattr(stats, name).items()
        ]
        yield _counter(name, text, ["client", "reason"], reasons)
    missed = [([label], stats.missed) for label, stats in found.items()]
    yield _gauge("missed_messages", "Messages known to be missed.", ["client"], missed)


def _of_connections(found: dict[str, Stats]) -> Iterator[Metric]:
    """Yield the series of each place of a connection. Ids would be ever new labels."""
    places: dict[tuple[str, str, str], list[ConnectionInfo]] = {}
    for label, stats in found.items():
        for info in stats.connections:
            places.setdefault((label, info.route, str(info.shard)), []).append(info)
    labels = ["client", "route", "shard"]

    def series(value: Callable[[list[ConnectionInfo]], float]) -> list[Sample]:
        return [(place, value(infos)) for place, infos in places.items()]

    up = series(lambda infos: any(info.state == "open" for info in infos))
    yield _gauge("connection_up", "1 while the connection is open.", labels, up)
    ages = [
        (place, max(info.age for info in infos if info.age is not None))
        for place, infos in places.items()
        if any(info.age is not None for info in infos)
    ]
    yield _gauge("connection_age_seconds", "Time since it was opened.", labels, ages)
    channels = series(lambda infos: max(len(info.channels) for info in infos))
    yield _gauge("connection_channels", "Channels confirmed on the connection.", labels, channels)
    messages = series(lambda infos: infos[0].messages_before + sum(info.messages for info in infos))
    yield _counter("connection_messages", "Messages delivered by it.", labels, messages)
    rates = series(lambda infos: sum(info.rate.messages for info in infos))
    yield _gauge("connection_messages_rate", "Its messages per second.", labels, rates)


def _of_lags(found: dict[str, Stats]) -> Iterator[Metric]:
    for name, text in LAGS.items():
        histogram = HistogramMetricFamily(f"wsclient_{name}_seconds", text, labels=["client"])
        for label, stats in found.items():
            lag: Lag = getattr(stats, name)
            buckets = [(str(bound), float(lag.below(bound))) for bound in BOUNDS]
            histogram.add_metric([label], [*buckets, ("+Inf", lag.count)], lag.total)
        yield histogram
    least = [
        ([label], stats.venue_lag.min)
        for label, stats in found.items()
        if stats.venue_lag.min is not None
    ]
    yield _gauge("venue_lag_min_seconds", "The smallest venue lag so far.", ["client"], least)


def _of_queues(found: dict[str, Stats]) -> Iterator[Metric]:
    labels = ["client", "queue"]
    queues = [
        ([label, name], queue)
        for label, stats in found.items()
        for name, queue in stats.queues.items()
    ]
    text = "Messages waiting in a queue."
    yield _gauge("queue_messages", text, labels, [(names, q.messages) for names, q in queues])
    text = "Bytes charged for the messages waiting in a queue."
    yield _gauge("queue_bytes", text, labels, [(names, q.bytes) for names, q in queues])
    text = "Age of the oldest message waiting in a queue."
    ages = [(names, q.oldest or 0.0) for names, q in queues]
    yield _gauge("queue_oldest_seconds", text, labels, ages)


def _of_recorders(found: dict[str, Stats]) -> Iterator[Metric]:
    known = [([label], s.recorder) for label, s in found.items() if s.recorder is not None]
    if not known:
        return
    labels = ["client"]
    ups = [(names, float(not (r.error or r.is_closed))) for names, r in known]
    yield _gauge("recorder_up", "1 while the recorder can write.", labels, ups)
    messages = [(names, r.messages) for names, r in known]
    yield _counter("recorder_messages", "Messages recorded.", labels, messages)
    written = [(names, r.written_bytes) for names, r in known]
    yield _counter("recorder_written_bytes", "Bytes of the files written.", labels, written)
    lost = [(names, r.lost_messages) for names, r in known]
    yield _counter("recorder_lost_messages", "Messages not kept.", labels, lost)
    buffered = [(names, r.buffered_bytes) for names, r in known]
    text = "Bytes charged for what waits to be written."
    yield _gauge("recorder_buffered_bytes", text, labels, buffered)


def _of_channels(found: dict[str, Stats], most: int) -> Iterator[Metric]:
    known = [([label], len(stats.channels)) for label, stats in found.items()]
    yield _gauge("channels", "Channels with statistics.", ["client"], known)
    silent = [([label], len(stats.no_data)) for label, stats in found.items()]
    text = "Confirmed channels of which no message has come."
    yield _gauge("channels_without_data", text, ["client"], silent)
    labels = ["client", "channel"]
    channels = [
        ([label, name], channel)
        for label, stats in found.items()
        for name, channel in nlargest(most, stats.channels.items(), key=_messages_of)
    ]
    text = "Messages of a channel, delivered to queues."
    yield _counter("channel_messages", text, labels, [(n, c.messages) for n, c in channels])
    text = "Gaps marked in a channel."
    yield _counter("channel_gaps", text, labels, [(n, c.gaps) for n, c in channels])
    text = "Messages of a channel known to be missed."
    yield _gauge("channel_missed_messages", text, labels, [(n, c.missed) for n, c in channels])
    text = "When a channel's last message was received, since the epoch."
    times = [(n, c.last_received_at / 1e9) for n, c in channels if c.last_received_at is not None]
    yield _gauge("channel_last_message_seconds", text, labels, times)
    for name, text in LAGS.items():
        summary = Metric(f"wsclient_channel_{name}_seconds", text, "summary")
        for names, channel in channels:
            _add(summary, dict(zip(labels, names, strict=True)), getattr(channel, name))
        yield summary


def _messages_of(item: tuple[str, ChannelStats]) -> int:
    return item[1].messages


def _add(summary: Metric, labels: dict[str, str], lag: Lag) -> None:
    for share in QUANTILES:
        found = lag.quantile(share)
        if found is not None:
            summary.add_sample(summary.name, {**labels, "quantile": str(share)}, found)
    if lag.count:
        summary.add_sample(f"{summary.name}_count", labels, lag.count)
        summary.add_sample(f"{summary.name}_sum", labels, lag.total)
