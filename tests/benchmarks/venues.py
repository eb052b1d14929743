"""The tables of the venues: each one's own frames, order books, and many channels."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median

import goals
from frames import Stream
from goals import Verdict
from kinds import KINDS
from processes import Feed, Result, Rounds, Worker, can_pin, installed, ratio
from report import Report, progress, thousands

#: The channels of a run.
CHANNELS = 4
#: Frames of the first run, which is not counted.
FIRST_RUN = {"stock": 500}
#: The most frames per run: their bytes are kept in memory.
MOST_BYTES = 250_000_000
DICTS = ("ours", "websockets", "picows", "stock")
TYPED = ("ours typed", "websockets typed", "picows typed")
UNTOUCHED = ("ours untouched",)
BOOKS = ("ours", "websockets", "picows")
#: Kinds for the cost by the number of channels.
GROWING = ("binance bookTicker", "kraken trade", "okx books")
GROWTH = (1, 10, 100)
#: A dialect with one request per 100 channels, one per 50, and one per channel.
SUBSCRIBED = ("kraken ticker", "okx tickers", "generic ticker")
MANY = (250, 500, 1000)


class Venues:
    def __init__(self, chosen: argparse.Namespace, report: Report) -> None:
        self._quick: bool = chosen.quick
        self._rounds: int = chosen.rounds
        self._seconds = 0.2 if chosen.quick else 0.3
        self._kinds = [name for name in KINDS if name in chosen.kinds]
        self._report = report
        self._is_pinned = can_pin(report)

    @contextmanager
    def _workers(self, task: str, clients: Sequence[str]) -> Iterator[dict[str, Worker]]:
        """Run one process per client, which takes all kinds in turn."""
        with ExitStack() as stack:
            feed = stack.enter_context(Feed(self._is_pinned))
            yield {
                client: stack.enter_context(Worker(feed, task, client))
                for client in installed(clients, self._report)
            }

    def _measure(self, workers: dict[str, Worker], kind: str, channels: int) -> Rounds:
        """Run the clients in turns, after a first run each that tells how fast they are."""
        most = int(MOST_BYTES / (Stream(KINDS[kind], 1).length + 4))
        counts = {}
        for client, worker in workers.items():
            first = FIRST_RUN.get(client, 5_000)
            rate = worker.run(kind=kind, channels=channels, count=first)["rate"]
            counts[client] = max(first, int(min(rate * self._seconds, most)))
        found: Rounds = {client: [] for client in workers}
        for _ in range(self._rounds):
            for client, worker in workers.items():
                found[client].append(worker.run(kind=kind, channels=channels, count=counts[client]))
        return found

    def venues(self) -> None:
        """Measure each venue's own frames: dicts, and in a full run typed and untouched too."""
        clients = DICTS[:3] if self._quick else (*DICTS, *TYPED, *UNTOUCHED, "raw")
        found: dict[str, Rounds] = {}
        with self._workers("venues", clients) as workers:
            for kind in self._kinds:
                progress(f"Venues: {kind}")
                found[kind] = self._measure(workers, kind, CHANNELS)
                self._verdicts(kind, found[kind])
        self._check_feed(found)
        self._table("Venues, dicts", found, DICTS, "ours")
        self._table("Venues, declared types", found, TYPED, "ours typed")
        self._table("Venues, data untouched", found, (*UNTOUCHED, *DICTS[1:3]), "ours untouched")

    def _table(
        self, title: str, found: dict[str, Rounds], clients: Sequence[str], ours: str
    ) -> None:
        rows = []
        for kind, rounds in found.items():
            others = [c for c in clients if c != ours and c in rounds]
            if ours not in rounds or not others:
                return
            row = [kind, f"{Stream(KINDS[kind], CHANNELS).length:.0f}"]
            row += [thousands(middle(rounds[ours], "rate")), f"{middle(rounds[ours], 'cpu'):.2f}"]
            row += [f"{cpu_ratio(rounds, ours, other):.2f}x" for other in others]
            row += [f"{ratio(rounds, ours, other, 'rate'):.2f}x" for other in others]
            rows.append(row)
        header = ["frames", "bytes", "messages/s", "CPU us each"]
        header += [f"/ {other}" for other in others] + [f"wall / {other}" for other in others]
        self._report.table(f"{title}{', pinned' if self._is_pinned else ''}", header, rows)

    def _check_feed(self, found: dict[str, Rounds]) -> None:
        """Note how much faster the feed is than the fastest client, where that is least."""
        spare = {
            kind: middle(rounds["raw"], "rate")
            / max(middle(r, "rate") for client, r in rounds.items() if client != "raw")
            for kind, rounds in found.items()
            if "raw" in rounds
        }
        if spare:
            kind = min(spare, key=spare.__getitem__)
            self._report.note(
                f"the feed can send at least {spare[kind]:.1f} times what the fastest client takes "
                f"({kind})"
            )

    def _verdicts(self, kind: str, rounds: Rounds) -> None:
        size = "big" if KINDS[kind].what == "book" else "small"
        asked = goals.GENERIC if KINDS[kind].dialect == "generic" else goals.VENUES
        pairs = {
            ("ours", "picows"): asked[size],
            ("ours typed", "picows typed"): goals.TYPED,
            ("ours untouched", "picows"): goals.UNTOUCHED,
        }
        for (ours, other), goal in pairs.items():
            if ours in rounds and other in rounds:
                self._report.verdicts.append(
                    Verdict(
                        f"{kind}: {ours} / {other}",
                        goal,
                        cpu_ratio(rounds, ours, other),
                        note=f"{ratio(rounds, ours, other, 'rate'):.3g}x by the clock",
                    )
                )

    def books(self) -> None:
        """Measure order books, from the socket to the current book."""
        if importlib.util.find_spec("sortedcontainers") is None:
            self._report.note("order books left out: sortedcontainers is not installed")
            return
        kinds = [
            k for k in self._kinds if KINDS[k].what == "book" and KINDS[k].dialect != "generic"
        ]
        rows = []
        with self._workers("books", BOOKS) as workers:
            for kind in kinds:
                progress(f"Order books: {kind}")
                rounds = self._measure(workers, kind, 1)
                row = [kind, f"{Stream(KINDS[kind], 1).length:.0f}"]
                for results in rounds.values():
                    row += [thousands(1e6 / middle(results, "cpu"))]
                row += [f"{cpu_ratio(rounds, 'ours', c):.2f}x" for c in rounds if c != "ours"]
                rows.append(row)
        header = ["book", "bytes", *(f"{client}/s" for client in workers)]
        header += [f"/ {client}" for client in workers if client != "ours"]
        title = "Order books from the socket, messages per second of processor time"
        self._report.table(title, header, rows)

    def channels(self) -> None:
        """Measure the cost per message by the number of channels, and that of subscribing."""
        self._growth()
        self._subscribing()

    def _growth(self) -> None:
        rows = []
        with self._workers("venues", ("ours", "picows")) as workers:
            for kind in (k for k in GROWING if k in self._kinds):
                costs: dict[str, list[float]] = {client: [] for client in workers}
                for channels in GROWTH:
                    progress(f"{channels} channels: {kind}")
                    for client, results in self._measure(workers, kind, channels).items():
                        costs[client].append(middle(results, "cpu"))
                for client, figures in costs.items():
                    rows.append([kind, client, *(f"{figure:.2f}" for figure in figures)])
                ours = costs["ours"]
                self._report.verdicts.append(
                    Verdict(
                        f"{kind}: {GROWTH[-1]} channels / 1, processor time per message",
                        goals.GROWTH,
                        ours[-1] / ours[0],
                        False,
                        tolerance=1.0,
                    )
                )
        header = ["frames", "client", *(f"{n} channels" for n in GROWTH)]
        self._report.table("Processor time (us) per message, by channels", header, rows)

    def _subscribing(self) -> None:
        rows = []
        with self._workers("subscribing", ("ours",)) as workers:
            for kind in (k for k in SUBSCRIBED if k in self._kinds):
                costs: dict[str, list[float]] = {"first": [], "again": []}
                for channels in MANY:
                    progress(f"Subscribing to {channels} channels: {kind}")
                    results = [
                        workers["ours"].run(kind=kind, channels=channels, count=0)
                        for _ in range(self._rounds)
                    ]
                    row = [kind, f"{channels:,}"]
                    row += [f"{middle(results, key) * 1e3:,.0f}" for key in ("took", "again_took")]
                    row += [f"{middle(results, key):.0f}" for key in costs]
                    rows.append(row)
                    for key, figures in costs.items():
                        figures.append(middle(results, key))
                for key, name in (("first", "subscribed"), ("again", "resubscribed")):
                    self._report.verdicts.append(
                        Verdict(
                            f"{kind}: {MANY[-1]} channels / {MANY[0]} {name}, time per channel",
                            goals.STEP,
                            costs[key][-1] / costs[key][0],
                            False,
                        )
                    )
        header = ["dialect", "channels", "subscribe, ms", "cut to recovery, ms"]
        header += ["CPU us per channel", "and after the cut"]
        self._report.table("Many channels, subscribed and resubscribed", header, rows)


def middle(results: list[Result], figure: str) -> float:
    return float(median(result[figure] for result in results))


def cpu_ratio(rounds: Rounds, ours: str, other: str) -> float:
    """Return how many messages ours takes in the processor time of one of the other's."""
    return ratio(rounds, other, ours, "cpu")
