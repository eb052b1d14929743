"""Goals of our client, as ratios to other clients in the same run, or as plain figures."""

from __future__ import annotations

from dataclasses import dataclass

#: A figure within a tenth of its goal meets it: runs on a shared machine differ by as much.
TOLERANCE = 0.9


@dataclass(frozen=True)
class Verdict:
    """One goal and its measured figure."""

    name: str
    goal: float
    measured: float
    at_least: bool = True
    unit: str = "x"
    note: str = ""
    tolerance: float = TOLERANCE

    @property
    def is_held(self) -> bool:
        if self.at_least:
            return self.measured >= self.goal * self.tolerance
        return self.measured <= self.goal / self.tolerance

    def row(self) -> list[str]:
        sign = ">=" if self.at_least else "<="
        return [
            self.name,
            f"{sign} {self.goal:.4g}{self.unit}",
            f"{self.measured:.3g}{self.unit}",
            "held" if self.is_held else "missed",
            self.note,
        ]


#: Speed by processor time, with both sides pinned to a core of their own. Dicts, of picows':
VENUES = {"small": 0.85, "big": 0.8}
GENERIC = {"small": 0.9, "big": 0.8}
#: Declared types, of picows' with a Struct.
TYPED = 0.9
#: Data that is not touched, of picows' with orjson.
UNTOUCHED = 1.5

#: The generic protocol. (ours, the other): {size: least ratio}, pinned.
PINNED = {
    ("ours", "stock"): {"small": 45.0, "big": 42.0},
    ("ours", "tuned"): {"small": 14.0, "big": 2.7},
    ("ours", "websockets"): {"small": 3.9, "big": 1.5},
    ("ours typed", "websockets typed"): {"small": 5.0, "big": 1.6},
    ("ours", "picows"): GENERIC,
    ("ours typed", "picows typed"): {"small": TYPED, "big": TYPED},
    ("ours untouched", "picows"): {"small": UNTOUCHED, "big": UNTOUCHED},
}

#: (ours, the other): {size: least ratio}, with nothing pinned, as users run.
NOT_PINNED = {
    ("ours", "websockets"): {"small": 3.7, "big": 1.25},
    ("ours", "picows"): {"small": 0.85, "big": 0.65},
}

#: Over TLS, the ratios of PINNED may be lower by this factor.
TLS_FACTOR = 0.8

#: Processor time without statistics, divided by that with them, which all clients have.
STATISTICS = 0.97

#: Median latency: rate (messages/s) -> largest share of websockets.sync's.
P50_OF_WEBSOCKETS = {1_000: 1.3, 10_000: 1.0, 50_000: 1.0}
#: At the highest rate: p99 at most websockets.sync's, and at most this (us).
P99_RATE = 50_000
P99_LIMIT = 200.0

#: Bytes per queued message, beside its payload.
QUEUED_LIMIT = 170.0

#: Per connection, of 100 idle ones.
CONNECTIONS = 100
CONNECTION_KIB = 70.0
CONNECTION_THREADS = 2.0
#: Processor time (us) per second.
CONNECTION_IDLE = 15.0

#: The cost per message with 100 channels, of that with one.
GROWTH = 1.1
#: The cost of a channel of 1,000 subscribed ones, of that of 250: 4 would be quadratic.
STEP = 1.5
