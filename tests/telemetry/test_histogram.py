"""Distributions compared with exact ones, and rates on a simulated clock."""

from __future__ import annotations

import threading
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.telemetry import histogram as measures
from wsclient.telemetry.histogram import LONGEST_BITS, Histogram, Lags
from wsclient.telemetry.rates import STEP, WINDOW, Rates

UNIT = 2**measures.UNIT_BITS
LONGEST = 2**LONGEST_BITS

precisions = st.sampled_from([0, 2, measures.CHANNEL_PRECISION, measures.CLIENT_PRECISION])
times = st.one_of(
    st.integers(-LONGEST + 1, LONGEST - 1),
    st.integers(-5000, 5000),
    st.integers(0, LONGEST_BITS - 1).map(lambda bits: 2**bits),
    st.integers(1, LONGEST_BITS).map(lambda bits: 2**bits - 1),
)
shares = st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0])


def histogram(values: list[int], precision: int = 5) -> Histogram:
    found = Histogram(precision)
    for value in values:
        found.record(value)
    return found


def exact(values: list[int], share: float) -> int:
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


class TestHistogram:
    @given(st.lists(times, min_size=1), precisions, shares)
    def test_a_quantile_is_within_the_documented_error(
        self, values: list[int], precision: int, share: float
    ) -> None:
        wanted = exact(values, share)
        found = histogram(values, precision).quantile(share)
        assert found is not None
        assert abs(found - wanted) <= max(UNIT / 2, abs(wanted) / 2 ** (precision + 1))

    @given(st.lists(times, min_size=1), precisions)
    def test_counts_are_exact(self, values: list[int], precision: int) -> None:
        found = histogram(values, precision)
        assert (found.count, found.total) == (len(values), sum(values))
        assert (found.min, found.max) == (min(values), max(values))

    @given(st.lists(times), st.lists(times), precisions, shares)
    def test_the_sum_of_two_equals_one_of_all_values(
        self, some: list[int], more: list[int], precision: int, share: float
    ) -> None:
        added, both = histogram(some, precision), histogram(some + more, precision)
        added.add(histogram(more, precision))
        assert added.quantile(share) == both.quantile(share)
        for name in ("count", "total", "min", "max"):
            assert getattr(added, name) == getattr(both, name)

    @given(
        st.lists(times),
        st.sampled_from([0, *(2**bits for bits in range(measures.UNIT_BITS, LONGEST_BITS))]),
        precisions,
    )
    def test_it_counts_the_values_below_the_start_of_a_bucket(
        self, values: list[int], limit: int, precision: int
    ) -> None:
        assert histogram(values, precision).below(limit) == sum(v < limit for v in values)

    def test_without_values_there_is_no_quantile(self) -> None:
        empty = Histogram(5)
        assert (empty.count, empty.total, empty.quantile(0.5), empty.below(UNIT)) == (0, 0, None, 0)

    def test_quantiles_stay_within_the_recorded_values(self) -> None:
        found = histogram([10_000_001])
        assert found.quantile(0.0) == found.quantile(0.5) == found.quantile(1.0) == 10_000_001

    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_value_beyond_the_longest_is_reported_as_the_extreme(self, sign: int) -> None:
        found = histogram([sign * 5, sign * LONGEST, sign * LONGEST * 3])
        assert found.quantile(0.99 if sign > 0 else 0.01) == sign * LONGEST * 3
        assert found.count == 3

    def test_negative_times_come_first(self) -> None:
        found = histogram([-3 * UNIT, 5 * UNIT, -7 * UNIT])
        assert [found.quantile(share) for share in (0.1, 0.5, 1.0)] == [
            pytest.approx(-7 * UNIT, abs=UNIT / 2),
            pytest.approx(-3 * UNIT, abs=UNIT / 2),
            pytest.approx(5 * UNIT, abs=UNIT / 2),
        ]
        assert found.below(0) == 2

    @pytest.mark.parametrize(("precision", "buckets"), [(3, 240), (5, 896)])
    def test_its_memory_is_fixed(self, precision: int, buckets: int) -> None:
        found = Histogram(precision)
        assert found.buckets == buckets
        assert found.positive is None
        assert found.negative is None
        for bits in range(64):
            found.record(2**bits)
            found.record(-(2**bits))
        for counts in (found.positive, found.negative):
            assert counts is not None
            assert (len(counts), counts.itemsize) == (buckets + 1, 4)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_full_counter_counts_on(self, sign: int) -> None:
        found = histogram([sign * UNIT, sign * 9 * UNIT])
        counts = found.positive if sign > 0 else found.negative
        assert counts is not None
        counts[1] = 2**32 - 1
        found.record(sign * UNIT)
        assert found.count == 2**32 + 1
        found.record(sign * UNIT)
        assert found.count == 2**32 + 2

    def test_a_copy_is_independent(self) -> None:
        found = histogram([UNIT, -UNIT])
        twin = found.copy()
        for value in (8 * UNIT, -8 * UNIT):
            found.record(value)
        assert (twin.count, twin.total, twin.min, twin.max) == (2, 0, -UNIT, UNIT)
        assert Histogram(3).copy().count == 0


class TestLags:
    def test_lags_are_recorded_for_all_channels_and_for_each(self) -> None:
        lags = Lags()
        for channel, ns in (("a", UNIT), ("b", 3 * UNIT), ("a", 5 * UNIT)):
            lags.record(channel, ns)
        assert (lags.total.count, lags.total.total) == (3, 9 * UNIT)
        assert {c: h.total for c, h in lags.by_channel.items()} == {"a": 6 * UNIT, "b": 3 * UNIT}

    def test_the_total_is_finer_than_one_channel(self) -> None:
        lags = Lags()
        lags.record("a", UNIT)
        assert lags.total.buckets == 896
        assert lags.by_channel["a"].buckets == 240

    def test_a_forgotten_channel_stays_in_the_total(self) -> None:
        lags = Lags()
        lags.record("a", UNIT)
        lags.forget("a")
        lags.forget("never known")
        assert lags.total.count == 1
        assert lags.by_channel == {}

    def test_of_channels_that_nobody_asked_for_a_few_are_measured(self) -> None:
        lags = Lags()
        lags.record("wanted", 1)
        for n in range(measures.STRANGERS + 10):
            lags.record(f"invented {n}", 1, is_wanted=False)
        assert len(lags.by_channel) == measures.STRANGERS
        lags.record("wanted too", 1)
        lags.record("invented 0", 1, is_wanted=False)
        assert len(lags.by_channel) == measures.STRANGERS + 1
        assert lags.by_channel["invented 0"].count == 2
        assert lags.total.count == measures.STRANGERS + 13

    def test_of_too_many_channels_the_oldest_gives_way(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(measures, "CHANNELS", 2)
        lags = Lags()
        for channel in "abac":
            lags.record(channel, UNIT)
        assert sorted(lags.by_channel) == ["b", "c"]
        assert lags.total.count == 4

    def test_absorb_adds_the_times_of_another(self) -> None:
        lags, other = Lags(), Lags()
        for held, channels in ((lags, "ab"), (other, "bcc")):
            for channel in channels:
                held.record(channel, UNIT)
        lags.absorb(other)
        assert lags.total.count == 5
        assert {c: h.count for c, h in lags.by_channel.items()} == {"a": 1, "b": 2, "c": 2}
        lags.absorb(other)
        assert {c: h.count for c, h in other.by_channel.items()} == {"b": 1, "c": 2}

    def test_a_copy_is_made_under_the_lock_a_part_at_a_time(self) -> None:
        class Lock:
            """A lock that counts; one channel is removed after the first part."""

            taken = 0

            def __enter__(self) -> None:
                self.taken += 1

            def __exit__(self, *_: Any) -> None:
                if self.taken == 2:
                    lags.forget("gone")

        lags = Lags()
        names = [str(n) for n in range(2 * measures.AT_A_TIME)] + ["gone"]
        for name in names:
            lags.record(name, UNIT)
        lock = Lock()
        twin = lags.copy(lock)
        assert lock.taken == 1 + 3
        assert list(twin.by_channel) == names[:-1]
        assert twin.total.count == len(names)
        lags.record("0", UNIT)
        assert twin.by_channel["0"].count == 1
        assert twin.total.count == len(names)

    def test_a_copy_without_times_is_empty(self) -> None:
        assert Lags().copy(threading.Lock()).by_channel == {}


class Feed:
    """Counters and rates of a client whose messages arrive at given times."""

    def __init__(self, opened_at: float = 100.0) -> None:
        self.rates = Rates()
        self.messages = self.size = 0
        self.channels: dict[str, int] = {}
        self.came: list[float] = []
        self.opened(opened_at)

    def opened(self, now: float) -> None:
        self.opened_at = now
        self.rates.opened(now, *self.totals())

    def totals(self) -> tuple[int, int, dict[str, int]]:
        return self.messages, self.size, dict(self.channels)

    def come(self, now: float, channel: str = "a") -> None:
        if now >= self.rates.due:
            self.rates.mark(now, *self.totals())
        self.rates.counted_at = now
        self.messages += 1
        self.size += 7
        self.channels[channel] = self.channels.get(channel, 0) + 1
        self.came.append(now)

    def recent(self, now: float) -> tuple[float, float, float]:
        """Return messages per second, bytes per second, and the window's length (s)."""
        window = self.rates.recent(now)
        if window is None:
            return 0.0, 0.0, 0.0
        start = window.start
        rate = window.rate(self.messages, start.messages)
        return rate, window.rate(self.size, start.bytes), window.seconds


class TestRecentRate:
    def test_it_is_the_rate_of_a_steady_feed(self) -> None:
        feed = Feed()
        for n in range(1, 1000):
            feed.come(100 + n / 10)
        rate, size, seconds = feed.recent(200)
        assert rate == pytest.approx(10, rel=0.02)
        assert size == pytest.approx(70, rel=0.02)
        assert WINDOW <= seconds <= WINDOW + STEP

    @given(
        st.lists(st.floats(0.0, 30.0), max_size=60),
        st.floats(0.0, 40.0),
    )
    def test_it_counts_exactly_the_seconds_of_its_window(
        self, pauses: list[float], after: float
    ) -> None:
        feed, now = Feed(), 100.0
        for pause in pauses:
            now += pause
            feed.come(now)
        now += after
        rate, _, seconds = feed.recent(now)
        assert seconds <= WINDOW + STEP
        begin = now - seconds
        inside = sum(begin < at for at in feed.came)
        at_its_edge = sum(begin == at for at in feed.came)
        assert inside - 1e-6 <= rate * seconds <= inside + at_its_edge + 1e-6
        if seconds == 0:
            assert not any(now - WINDOW < at and feed.opened_at < at for at in feed.came)
        elif now - feed.opened_at >= WINDOW:
            assert seconds >= WINDOW - 1e-9

    def test_a_young_client_is_measured_since_it_was_connected(self) -> None:
        feed = Feed(100.0)
        feed.come(101.0)
        feed.come(102.0)
        assert feed.recent(104.0) == (0.5, 3.5, 4.0)

    def test_it_goes_on_over_a_reconnect(self) -> None:
        feed = Feed(100.0)
        for n in range(1, 21):
            feed.come(100.0 + n)
        feed.opened(120.5)
        assert feed.recent(121.0)[0] == pytest.approx(1.0, rel=0.1)

    def test_reconnects_in_a_row_lose_no_mark(self) -> None:
        feed = Feed(100.0)
        for n in range(1, 21):
            feed.come(100.0 + n)
        for n in range(10):
            feed.opened(120.0 + n / 10)
        assert feed.recent(121.0)[0] == pytest.approx(1.0, rel=0.1)

    def test_it_is_none_before_the_first_connection(self) -> None:
        assert Rates().recent(5.0) is None

    def test_it_is_none_if_everything_was_earlier(self) -> None:
        feed = Feed(100.0)
        feed.come(101.0)
        assert feed.recent(101.0 + WINDOW + 0.001) == (0.0, 0.0, 0.0)
        assert feed.recent(101.0 + WINDOW) == (0.0, 0.0, 0.0)
        assert feed.recent(101.0 + WINDOW - 0.001)[0] > 0

    def test_it_knows_each_channel(self) -> None:
        feed = Feed(100.0)
        for n in range(1, 41):
            feed.come(100.0 + n, "ab"[n % 2])
        feed.come(140.5, "new")
        window = feed.rates.recent(141.0)
        assert window is not None
        rates = [window.channel_rate(c, feed.channels[c]) for c in ("a", "b", "new")]
        assert rates[:2] == pytest.approx([0.5, 0.5], rel=0.1)
        assert rates[2] == 1 / window.seconds

    def test_a_channel_whose_count_restarts_has_no_negative_rate(self) -> None:
        feed = Feed(100.0)
        for n in range(1, 41):
            feed.come(100.0 + n)
        window = feed.rates.recent(141.0)
        assert window is not None
        assert window.channel_rate("a", 3) == 0.0


class TestConnectionRate:
    def test_it_is_since_the_last_opening(self) -> None:
        feed = Feed(100.0)
        for n in range(1, 11):
            feed.come(100.0 + n)
        feed.opened(120.0)
        feed.come(121.0)
        feed.come(122.0, "b")
        window = feed.rates.connection(124.0)
        assert window is not None
        assert window.seconds == 4.0
        assert window.rate(feed.messages, window.start.messages) == 0.5
        assert window.rate(feed.size, window.start.bytes) == 3.5
        assert window.channel_rate("a", feed.channels["a"]) == 0.25

    def test_it_is_none_before_the_first_connection(self) -> None:
        assert Rates().connection(5.0) is None

    @pytest.mark.parametrize("now", [100.0, 99.0, float("-inf")])
    def test_it_is_zero_at_the_opening(self, now: float) -> None:
        """After the end of a connection ``now`` is its last receipt, here never."""
        window = Feed(100.0).rates.connection(now)
        assert window is not None
        assert (window.seconds, window.rate(5, 0)) == (0.0, 0.0)


def test_a_mark_is_made_every_few_seconds_only() -> None:
    feed = Feed(100.0)
    made = []
    for n in range(100):
        before = feed.rates.due
        feed.come(100.0 + n / 4)
        if feed.rates.due != before:
            made.append(100.0 + n / 4)
    assert made == [100.0, 105.0, 110.0, 115.0, 120.0]
