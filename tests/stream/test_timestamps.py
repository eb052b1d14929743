"""The venue's send time in a message's payload."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.stream.timestamps import find_timestamp, nanoseconds

NOON = 1_700_000_000  # s
PATHS = (("data", 0, "ts"), ("ts",))


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        NOON * 10**3,
        NOON * 10**6,
        NOON * 10**9,
        float(NOON),
        str(NOON),
        f"{NOON}.0",
        str(NOON * 10**9),
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20",
        "2023-11-14T23:13:20.000000000+01:00",
    ],
)
def test_the_size_of_a_number_determines_its_unit(value: Any) -> None:
    assert nanoseconds(value) == NOON * 10**9


@given(
    st.integers(10**17, 10**20 - 1),
    st.sampled_from([1, 10**3, 10**6, 10**9]),
    st.booleans(),
)
def test_any_time_in_any_unit_is_read_exactly(ns: int, unit: int, is_text: bool) -> None:
    counted = ns // unit
    wanted = counted * unit
    if wanted < 10**17:
        counted, wanted = counted + 1, wanted + unit
    assert nanoseconds(str(counted) if is_text else counted) == wanted


@given(
    st.datetimes(datetime(1974, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc)),
    st.integers(-14, 14),
)
def test_a_date_is_read_to_the_microsecond(moment: datetime, hours: int) -> None:
    past = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    text = moment.astimezone(timezone(timedelta(hours=hours))).isoformat()
    assert nanoseconds(text) == past // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, [], {}, 0, -NOON, 0.0, 10**7, 10**20, "0"),
        *("0001-01-01T00:00:00Z", "1972-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_a_value_that_is_not_a_time_is_none(value: Any) -> None:
    assert nanoseconds(value) is None


def test_a_time_is_found_at_a_path() -> None:
    frame = {"ts": 5, "data": [{"x": [1, {}], "ts": str(NOON)}, {"ts": "late"}], "ts2": "x"}
    assert find_timestamp(json.dumps(frame).encode(), PATHS) == NOON * 10**9


def test_paths_are_tried_in_order() -> None:
    assert find_timestamp(b'{"ts": %d, "data": []}' % NOON, PATHS) == NOON * 10**9
    assert find_timestamp(b'{"ts": %d, "data": [{"ts": null}]}' % NOON, PATHS) == NOON * 10**9
    both = b'{"ts": %d, "data": [{"ts": %d}]}' % (NOON, NOON + 1)
    assert find_timestamp(both, PATHS) == (NOON + 1) * 10**9
    assert find_timestamp(both, PATHS[::-1]) == NOON * 10**9


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"nonsense", b"[]", b"{}", b"7", b'"ts"', b'{"ts"', b"\xff", b'{"data": {"ts": 1}}'),
        b'{"ts": 1e300}',
        *(b'{"ts": "noon"}', b'{"ts": "1e9"}', b'{"ts": "-5"}', b'{"ts": ""}', b'{"ts": "1.2.3"}'),
        *('{"ts": "²"}'.encode(), b'{"ts": "' + b"9" * 5000 + b'"}'),
        b'{"ts": "' + b"9" * 400 + b'.5"}',
    ],
)
def test_an_invalid_payload_has_no_time(raw: bytes) -> None:
    assert find_timestamp(raw, PATHS) is None


def test_without_a_path_there_is_no_time() -> None:
    assert find_timestamp(b"%d" % NOON, ()) is None


@given(st.binary(max_size=60))
def test_no_payload_raises(raw: bytes) -> None:
    find_timestamp(b'{"ts": "' + raw + b'"}', PATHS)
    find_timestamp(raw, PATHS)
