"""The tables of the generic protocol: speed, TLS, statistics, latency, memory, idle connections."""

from __future__ import annotations

import argparse
from statistics import median, quantiles
from typing import Any

import goals
from goals import Verdict
from payloads import CHANNELS, SIZES
from processes import Feed, Result, Rounds, can_pin, installed, ratio, take_turns
from report import Report, progress, thousands

#: A first guess of messages per second, for the first, discarded run of each client.
GUESSES = {
    "ours": {"small": 200_000, "big": 50_000},
    "ours typed": {"small": 300_000, "big": 50_000},
    "ours untouched": {"small": 300_000, "big": 100_000},
    "stock": {"small": 10_000, "big": 2_000},
    "tuned": {"small": 40_000, "big": 30_000},
    "websockets": {"small": 150_000, "big": 50_000},
    "websockets typed": {"small": 150_000, "big": 50_000},
    "picows": {"small": 500_000, "big": 80_000},
    "picows typed": {"small": 600_000, "big": 80_000},
    "raw": {"small": 10_000_000, "big": 1_000_000},
}
#: Clients measured with statistics on and off, and the messages per turn.
OURS = ("ours", "ours untouched")
TURN = {"small": 5_000, "big": 1_000}
LATENCY_RATES = (1_000, 10_000, 50_000)
SIDE_BY_SIDE = ("ours", "stock", "tuned", "websockets", "picows")
#: Names of clients in a latency table, where they differ.
LABELS = {"raw": "bare socket"}


class Generic:
    def __init__(self, chosen: argparse.Namespace, report: Report) -> None:
        self._rounds: int = chosen.rounds
        self._quick: bool = chosen.quick
        #: How long a run is to take.
        self._seconds = 0.3 if chosen.quick else 1.2
        self._sizes: list[str] = chosen.sizes
        self._clients: list[str] = chosen.clients
        self._report = report

    def throughput(self) -> None:
        """Measure messages per second at full speed, both sides pinned."""
        if can_pin(self._report):
            self._speeds("Throughput, pinned", "ws", True, "pinned", goals.PINNED, 1.0)

    def unpinned(self) -> None:
        """Measure messages per second with nothing pinned, as users run."""
        self._speeds("Throughput, not pinned", "ws", False, "not pinned", goals.NOT_PINNED, 1.0)

    def tls(self) -> None:
        """Measure messages per second over TLS."""
        pinned = can_pin(self._report)
        title = f"Throughput over TLS{', pinned' if pinned else ''}"
        self._speeds(title, "wss", pinned, "TLS", goals.PINNED, goals.TLS_FACTOR)

    def _speeds(
        self,
        title: str,
        scheme: str,
        pinned: bool,
        word: str,
        wanted: dict[tuple[str, str], dict[str, float]],
        factor: float,
    ) -> None:
        clients = [c for c in installed(list(GUESSES), self._report) if c in self._clients]
        with Feed(pinned) as feed:
            for size in self._sizes:
                counts = {client: self._calibrate(feed, client, scheme, size) for client in clients}

                def run(client: str, size: str = size, counts: dict[str, int] = counts) -> Result:
                    result = feed.run("throughput", client, scheme, size=size, count=counts[client])
                    self._report.note(result.get("note", ""))
                    return result

                rounds = take_turns(clients, self._rounds, f"{title}, {size}", run)
                self._speed_table(f"{title}: {size} ({SIZES[size].length} B)", rounds)
                self._check_feed(f"{title}, {size}", rounds)
                for (ours, other), asked in wanted.items():
                    if ours in rounds and other in rounds:
                        self._report.verdicts.append(
                            Verdict(
                                f"{ours} / {other}, {word}, {size}",
                                asked[size] * factor,
                                ratio(rounds, other, ours, "cpu"),
                                note=f"{ratio(rounds, ours, other, 'rate'):.3g}x by the clock",
                            )
                        )

    def _calibrate(self, feed: Feed, client: str, scheme: str, size: str) -> int:
        """Return the number of messages with which a run takes about as long as it should."""
        most = SIZES[size].available * (100 if client == "raw" else 1)

        def count(rate: float) -> int:
            turns = int(min(rate * self._seconds, most)) // len(CHANNELS)
            return max(turns, 100) * len(CHANNELS)

        guess = GUESSES[client][size] / 4
        found = feed.run("throughput", client, scheme, size=size, count=count(guess))
        progress(f"{client}, {size}: {found['rate']:,.0f}/s")
        return count(found["rate"])

    def _check_feed(self, where: str, rounds: Rounds) -> None:
        if "raw" not in rounds or len(rounds) < 2:
            return
        rates = {client: median(r["rate"] for r in results) for client, results in rounds.items()}
        limit = rates.pop("raw")
        fastest = max(rates, key=rates.__getitem__)
        times = limit / rates[fastest]
        judged = "not the bottleneck" if times > 2 else "MAY BE THE BOTTLENECK"
        self._report.note(
            f"{where}: the feed can do {thousands(limit)}/s, {times:.3g}x what the fastest, "
            f"{fastest}, takes: {judged}"
        )

    def _speed_table(self, title: str, rounds: Rounds) -> None:
        against = [c for c in ("stock", "tuned", "websockets", "picows") if c in rounds]
        rows = []
        for client, results in rounds.items():
            rates = [result["rate"] for result in results]
            row = [
                client,
                thousands(median(rates)),
                f"{thousands(min(rates))}-{thousands(max(rates))}",
                f"{median(result['cpu'] for result in results):.2f}",
                f"{median(result['cpu'] * result['rate'] / 1e6 for result in results):.0%}",
                f"{sum(result['missed'] for result in results):,}",
            ]
            row += [f"{ratio(rounds, other, client, 'cpu'):.3g}x" for other in against]
            rows.append(row)
        header = ["client", "messages/s", "lowest-highest", "CPU us each", "busy", "dropped"]
        self._report.table(title, header + [f"/ {other}" for other in against], rows)

    def statistics(self) -> None:
        """Measure the cost of statistics, on and off by turns in each run."""
        if not can_pin(self._report):
            return
        rows = []
        with Feed(True) as feed:
            for size in self._sizes:
                rows += [
                    self._cost(feed, client, size) for client in OURS if client in self._clients
                ]
        header = ["client", "size", "turns", "CPU us each, on", "off", "off / on", "quartiles"]
        self._report.table("Statistics, on against off, pinned", header, rows)

    def _cost(self, feed: Feed, client: str, size: str) -> list[str]:
        slice_, pairs = TURN[size], []
        count = SIZES[size].available // (4 if self._quick else 1) // slice_ * slice_
        on: list[float] = []
        off: list[float] = []
        for number in range(self._rounds):
            progress(f"Statistics, {client}, {size}: round {number + 1} of {self._rounds}")
            found = feed.run("statistics", client, size=size, count=count, slice=slice_)
            on += found["on"]
            off += found["off"]
            # Neighbours in time: on off, off on.
            pairs += [b / a for a, b in zip(found["on"], found["off"], strict=False)]
        low, middle, high = quantiles(pairs, n=4)
        self._report.verdicts.append(
            Verdict(
                f"{client}, statistics off / on, {size}", goals.STATISTICS, middle, tolerance=1.0
            )
        )
        times = [f"{median(on):.3f}", f"{median(off):.3f}"]
        return [
            client,
            size,
            f"{len(on) + len(off)}",
            *times,
            f"{middle:.3f}",
            f"{low:.3f}-{high:.3f}",
        ]

    def latency(self) -> None:
        """Measure the time from send to decoded message, at fixed rates."""
        for pinned in (True, False):
            if pinned and not can_pin(self._report):
                continue
            with Feed(pinned) as feed:
                self._latency(feed, "pinned" if pinned else "not pinned")

    def _latency(self, feed: Feed, word: str) -> None:
        clients = installed(("ours", "websockets", "picows", "raw"), self._report)
        rows: dict[str, list[str]] = {}
        for rate in LATENCY_RATES:
            seconds = self._seconds * (2 if rate == min(LATENCY_RATES) else 1.3)
            count = int(rate * seconds) // len(CHANNELS) * len(CHANNELS)

            def run(client: str, rate: int = rate, count: int = count) -> Result:
                return feed.run("latency", client, size="small", count=count, rate=rate)

            present = [*clients, "stock"] if rate == min(LATENCY_RATES) else clients
            rounds = take_turns(present, self._rounds, f"Latency, {word}, {rate:,}/s", run)
            for client in [*clients, "stock"]:
                label = LABELS.get(client, client)
                rows.setdefault(client, [label]).append(latency_cell(rounds.get(client)))
            self._latency_verdicts(rounds, rate, word)
        title = f"Latency, {word}, p50 / p99 in us"
        self._report.table(
            title, ["client", *(f"{r:,}/s" for r in LATENCY_RATES)], list(rows.values())
        )

    def _latency_verdicts(self, rounds: Rounds, rate: int, word: str) -> None:
        found = self._report.verdicts
        where = f"{word}, {rate:,}/s"
        if "websockets" in rounds:
            share = goals.P50_OF_WEBSOCKETS[rate]
            measured = ratio(rounds, "ours", "websockets", "p50")
            found.append(Verdict(f"p50 / websockets, {where}", share, measured, False))
        if rate == goals.P99_RATE:
            if "websockets" in rounds:
                measured = ratio(rounds, "ours", "websockets", "p99")
                found.append(Verdict(f"p99 / websockets, {where}", 1.0, measured, False))
            p99 = median(result["p99"] for result in rounds["ours"])
            found.append(Verdict(f"p99, {where}", goals.P99_LIMIT, p99, False, " us"))

    def memory(self) -> None:
        """Measure a backlog that nobody reads, and the policies that bound it."""
        with Feed(False) as feed:
            self._backlog(feed)
            self._bounds(feed)

    def _backlog(self, feed: Feed) -> None:
        rows = []
        for size, count in (("small", 200_000), ("big", 50_000)):
            progress(f"Memory of {count:,} queued, {size}")
            by_means = [
                median(
                    feed.run("backlog", "ours", size=size, count=count, traced=traced)["each"]
                    for _ in range(1 if self._quick else 3)
                )
                for traced in (True, False)
            ]
            traced, resident = by_means
            length = SIZES[size].length
            rows.append([size, f"{count:,}", f"{length} + {traced:.0f}", f"{resident:.0f}"])
            self._report.verdicts.append(
                Verdict(
                    f"queued message, {size}: beside its payload",
                    goals.QUEUED_LIMIT,
                    traced,
                    False,
                    " B",
                )
            )
        header = ["size", "queued", "bytes each (tracemalloc)", "RSS beside the payload"]
        self._report.table("Memory of a backlog, ours", header, rows)

    def _bounds(self, feed: Feed) -> None:
        cases: list[tuple[str, str, dict[str, Any], float, int]] = [
            ("default bounds, nobody reads", "small", {}, 0, 400_000),
            ("default bounds, nobody reads", "big", {}, 0, 120_000),
            ("conflate, nobody reads", "small", {"overflow": "conflate"}, 0, 400_000),
            ("10,000 queued, nobody reads", "small", {"queue_size": 10_000}, 0, 400_000),
            ("10,000 queued, slow reader", "small", {"queue_size": 10_000}, 1e-4, 400_000),
        ]
        rows = []
        for name, size, options, busy, count in cases:
            progress(f"Bounds: {name}, {size}")
            result = feed.run(
                "overflow", "ours", size=size, count=count, options=options, busy=busy
            )
            rows.append(
                [
                    name,
                    size,
                    f"{count:,}",
                    thousands(result["rate"]),
                    f"{result['queued']:,}",
                    f"{result['queued_bytes'] / 2**20:.1f}",
                    f"{result['peak'] / 2**20:.1f}",
                    f"{result['seen']:,} + {result['missed']:,}",
                ]
            )
        header = ["queue", "size", "sent", "received/s", "queued then", "MiB charged"]
        header += ["MiB of RSS, at most", "delivered + missed"]
        self._report.table("Bounded queues at full speed, ours", header, rows)

    def connections(self) -> None:
        """Measure the cost of idle connections, by their number."""
        clients = installed(SIDE_BY_SIDE, self._report)
        rows = []
        with Feed(False) as feed:
            for opened in (1, 10, goals.CONNECTIONS):

                def run(client: str, opened: int = opened) -> Result:
                    return feed.run(
                        "connections", client, size="small", count=0, connections=opened
                    )

                times = 1 if self._quick else min(self._rounds, 3)
                rounds = take_turns(clients, times, f"{opened} connections", run)
                for client, results in rounds.items():
                    kib, threads, idle = (
                        median(result[figure] for result in results)
                        for figure in ("rss", "threads", "idle")
                    )
                    row = [client, str(opened), f"{kib / 1024:.0f}", f"{threads:.1f}"]
                    rows.append([*row, f"{idle * 1e6:,.0f}"])
                    if client == "ours" and opened == goals.CONNECTIONS:
                        self._connection_verdicts(kib / 1024, threads, idle * 1e6)
        header = ["client", "connections", "KiB each", "threads each", "CPU us/s each, idle"]
        self._report.table("Idle connections", header, rows)

    def _connection_verdicts(self, kib: float, threads: float, idle: float) -> None:
        name = f"each of {goals.CONNECTIONS} idle connections"
        self._report.verdicts += [
            Verdict(f"{name}: memory", goals.CONNECTION_KIB, kib, False, " KiB"),
            Verdict(f"{name}: threads", goals.CONNECTION_THREADS, threads, False, ""),
            Verdict(f"{name}: idle", goals.CONNECTION_IDLE, idle, False, " us/s"),
        ]


def latency_cell(results: list[Result] | None) -> str:
    if not results:
        return "-"
    share, p50, p99 = (median(r[figure] for r in results) for figure in ("share", "p50", "p99"))
    cell = f"{p50:.0f} / {p99:.0f}"
    return cell if share > 0.95 else f"{cell} (at {share:.0%} of the rate)"
