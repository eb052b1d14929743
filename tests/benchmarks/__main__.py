"""Run the benchmarks: ``python tests/benchmarks [--only throughput,tls] [--out FILE]``.

Every figure is the median of several rounds; the clients of a table take turns within each round,
and a ratio is the median of the ratios within the rounds. Machines drift: compare ratios of one
run. ``busy`` is processor time by elapsed time: a client well below 100 % waited for the feed, or
for other programs, and its ratio by processor time says more. The ``bench`` extra installs the
other clients; those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import goals
from goals import Verdict
from payloads import CHANNELS, SIZES

HERE = Path(__file__).parent
CERTIFICATE = HERE.parent / "testing" / "localhost.pem"

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
NEEDS = {"websockets": "websockets", "picows": "picows", "tuned": "orjson"}
#: Names of clients in a latency table, where they differ.
LABELS = {"raw": "bare socket"}

Result = dict[str, Any]
#: Results of one table: client -> one result per round.
Rounds = dict[str, list[Result]]


class Feed:
    """The feed's process, for as long as the ``with`` block lasts."""

    def __init__(self, pinned: bool) -> None:
        command = [sys.executable, str(HERE / "feed.py"), "--certificate", str(CERTIFICATE)]
        if pinned:
            command += ["--core", str(_cores()[0])]
        self._client_core = _cores()[1] if pinned else None
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Feed:
        assert self._process.stdout is not None
        self._ports = json.loads(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(
        self,
        task: str,
        client: str,
        scheme: str = "ws",
        tree: Path = HERE.parent.parent,
        **settings: Any,
    ) -> Result:
        """Run one client in a fresh process. ``tree`` is the folder of our package."""
        url = f"{scheme}://127.0.0.1:{self._ports[scheme]}"
        settings["core"] = self._client_core
        command = [
            sys.executable,
            str(HERE / "clients.py"),
            task,
            client,
            url,
            json.dumps(settings),
        ]
        # The tree that this file is in, and no other that may be installed.
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=environment, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{task} of {client} {settings} failed:\n{done.stderr}")
        result: Result = json.loads(done.stdout)
        return result


class Report:
    """The tables, verdicts and notes printed at the end."""

    def __init__(self) -> None:
        self._machine = machine()  # now: the load is that of other programs
        self._sections: list[str] = []
        self.verdicts: list[Verdict] = []
        self._notes: list[str] = []

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._sections.append(f"{title}\n{'-' * len(title)}\n\n{rst_table(header, rows)}")

    def note(self, text: str) -> None:
        if text and text not in self._notes:
            self._notes.append(text)
            progress(text)

    def __str__(self) -> str:
        parts = ["\n".join(self._machine), *self._sections]
        if self.verdicts:
            header = ["goal", "asked", "measured", "", "by processor time"]
            rows = [verdict.row() for verdict in self.verdicts]
            held = sum(verdict.is_held for verdict in self.verdicts)
            title = f"Goals: {held} of {len(rows)} held"
            parts.append(f"{title}\n{'-' * len(title)}\n\n{rst_table(header, rows)}")
        if self._notes:
            parts.append("\n".join(f"* {note}" for note in self._notes))
        return "\n\n".join(parts) + "\n"


def rst_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = " ".join("=" * max(width, 1) for width in widths)

    def line(cells: Sequence[str]) -> str:
        first, *others = (cell.ljust(w) for cell, w in zip(cells, widths, strict=True))
        return " ".join([first, *others]).rstrip()

    return "\n".join([rule, line(header), rule, *map(line, rows), rule])


def machine() -> list[str]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [s for s in cpuinfo.read_text().splitlines() if s.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    versions = []
    for name in ("websocket-client", "wsaccel", "websockets", "picows", "orjson", "msgspec"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return [
        f"{len(_cores())} cores, {model}, {platform.system()} {platform.release()}{load}",
        f"{platform.python_implementation()} {platform.python_version()}, {', '.join(versions)}",
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    ]


def progress(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def installed(clients: Sequence[str], report: Report) -> list[str]:
    """Return the clients that can be run here."""
    found = []
    for client in clients:
        need = next((n for name, n in NEEDS.items() if client.startswith(name)), None)
        if need is not None and importlib.util.find_spec(need) is None:
            report.note(f"{client} left out: {need} is not installed")
        else:
            found.append(client)
    return found


def can_pin(report: Report) -> bool:
    if hasattr(os, "sched_setaffinity") and len(_cores()) > 1:
        return True
    report.note("nothing pinned here: one core, or a system that cannot")
    return False


def ratio(rounds: Rounds, ours: str, other: str, figure: str) -> float:
    """Return the median of ours / other within each round."""
    pairs = zip(rounds[ours], rounds[other], strict=True)
    return float(median(a[figure] / b[figure] for a, b in pairs))


def take_turns(
    clients: Sequence[str], rounds: int, what: str, run: Callable[[str], Result]
) -> Rounds:
    """Run the clients in turns: A B C D, A B C D, ..."""
    found: Rounds = {client: [] for client in clients}
    for number in range(rounds):
        progress(f"{what}: round {number + 1} of {rounds}")
        for client in clients:
            found[client].append(run(client))
    return found


# The groups of measurements.


class Bench:
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
                                ratio(rounds, ours, other, "rate"),
                                note=f"{ratio(rounds, other, ours, 'cpu'):.3g}x",
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
            row += [f"{ratio(rounds, client, other, 'rate'):.3g}x" for other in against]
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
        if "picows" in rounds:
            measured = ratio(rounds, "ours", "picows", "p50")
            found.append(Verdict(f"p50 / picows, {where}", goals.P50_OF_PICOWS, measured, False))
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
                        self._connection_verdicts(kib / 1024, threads)
        header = ["client", "connections", "KiB each", "threads each", "CPU us/s each, idle"]
        self._report.table("Idle connections", header, rows)

    def _connection_verdicts(self, kib: float, threads: float) -> None:
        name = f"each of {goals.CONNECTIONS} idle connections"
        self._report.verdicts += [
            Verdict(f"{name}: memory", goals.CONNECTION_KIB, kib, False, " KiB"),
            Verdict(f"{name}: threads", goals.CONNECTION_THREADS, threads, False, ""),
        ]


def thousands(rate: float) -> str:
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if rate >= unit:
            return f"{rate / unit:.3g}{name}"
    return f"{rate:.3g}"


def latency_cell(results: list[Result] | None) -> str:
    if not results:
        return "-"
    share, p50, p99 = (median(r[figure] for r in results) for figure in ("share", "p50", "p99"))
    cell = f"{p50:.0f} / {p99:.0f}"
    return cell if share > 0.95 else f"{cell} (at {share:.0%} of the rate)"


GROUPS = ("throughput", "unpinned", "tls", "statistics", "latency", "memory", "connections")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(GROUPS), help="some of %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="shorter runs: a look, not a figure")
    parser.add_argument("--clients", default=",".join(GUESSES), help="some of %(default)s")
    parser.add_argument("--sizes", default=",".join(SIZES), help="some of %(default)s")
    parser.add_argument("--out", type=Path, help="write the report to this file too")
    chosen = parser.parse_args()
    for name, known in (("only", GROUPS), ("clients", GUESSES), ("sizes", SIZES)):
        names = getattr(chosen, name).split(",")
        setattr(chosen, name, names)
        if not {*names} <= {*known}:
            parser.error(f"--{name} takes some of {','.join(known)}")
    return chosen


@contextlib.contextmanager
def reported(report: Report, out: Path | None) -> Iterator[None]:
    """Print the results so far, also after an interrupt or a failure."""
    try:
        yield
    finally:
        print(report)
        if out is not None:
            out.write_text(str(report))


def main() -> None:
    chosen = arguments()
    report = Report()
    bench = Bench(chosen, report)
    with reported(report, chosen.out):
        for group in GROUPS:
            if group in chosen.only:
                getattr(bench, group)()


if __name__ == "__main__":
    main()
