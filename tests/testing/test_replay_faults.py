"""The words of the faults that a replay adds."""

from __future__ import annotations

import pytest

from wsclient.testing import ReplayFault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rst:at=10", ReplayFault("rst", at=10)),
        ("close:every=3,code=1001", ReplayFault("close", every=3, code=1001)),
        ("latency:ms=2.5", ReplayFault("latency", ms=2.5)),
    ],
)
def test_a_text_says_a_fault(text: str, fault: ReplayFault) -> None:
    assert ReplayFault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("rest:at=1", "there is no fault 'rest', only rst, "),
        ("rst", "give at=N or every=N; for example rst:at=10"),
        ("rst:at=1,every=2", "at or every, not both"),
        ("gap:at=0", "counted from 1"),
        ("gap:at=x", "'x' is not a number"),
        ("gap:after=3", "'after' is not one of at, every, code, ms"),
        ("latency", "give ms"),
        ("close:at=1,code=1006", "not a close code"),
    ],
)
def test_what_is_no_fault_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ReplayFault.parse(text)


def test_they_strike_once_or_again_and_again() -> None:
    assert [n for n in range(1, 10) if ReplayFault("gap", at=4).strikes(n)] == [4]
    assert [n for n in range(1, 10) if ReplayFault("gap", every=4).strikes(n)] == [4, 8]
    assert ReplayFault("latency", ms=1).strikes(1)
