"""The grammar of ``wsclient serve --fault``."""

import pytest

from wsclient.cli.faults import EXAMPLES, VenueFault, parse


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_can_be_parsed(example):
    assert parse(example).text == example


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rst:every=30s", VenueFault("rst", "", first_at=30.0, period=30.0)),
        ("rst:after=200ms", VenueFault("rst", "", first_at=0.2)),
        ("fin:after=2m,every=1.5s", VenueFault("fin", "", first_at=120.0, period=1.5)),
        ("close:every=1s", VenueFault("close", "", first_at=1.0, period=1.0, code=1012)),
        ("close:code=4000,after=1s", VenueFault("close", "", first_at=1.0, code=4000)),
        ("silence:after=1m,for=20s", VenueFault("silence", "", first_at=60.0, duration=20.0)),
        ("down:every=9s,for=1s", VenueFault("down", "", first_at=9.0, period=9.0, duration=1.0)),
        ("gap:every=7", VenueFault("gap", "", every=7)),
        ("cut:every=5", VenueFault("cut", "", every=5)),
        ("unanswered:every=1", VenueFault("unanswered", "", every=1)),
        ("reject:channel=a=b", VenueFault("reject", "", channel="a=b")),
        ("429:first=2", VenueFault("429", "", times=2)),
        ("latency:ms=0.5", VenueFault("latency", "", delay=0.0005)),
    ],
)
def test_a_correct_fault_is_parsed(text, fault):
    assert parse(text) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no fault '', only rst, fin, "),
        ("boom:every=1s", "there is no fault 'boom', only rst, fin, "),
        ("302:first=1", "there is no fault '302'"),
        ("rst", "'every' or 'after' is missing; for example rst:every=30s"),
        ("rst:every=30", "every: '30' is not a time such as 30s, 200ms or 2m; for example rst:"),
        ("rst:every=0s", "every: '0' is not a time such as"),
        ("rst:every=nans", "is not a time such as"),
        ("rst:every=1s,every=2s", "'every' is given twice"),
        ("rst:for=1s", "'for=1s' is not one of every=, after="),
        ("rst:30s", "'30s' is not one of every=, after="),
        ("close:every=1s,code=1006", "code: '1006' is not a close code that a venue may send"),
        ("close:every=1s,code=1015", "code: '1015' is not a close code that a venue may send"),
        ("close:every=1s,code=99", "code: '99' is not a close code that a venue may send"),
        ("silence:after=1s", "'for' is missing; for example silence:after=60s,for=20s"),
        ("down:every=5s,for=5s", "'for' must be shorter than 'every'"),
        (
            "gap:every=1s",
            "every: '1s' is not a whole number of at least 1; for example gap:every=1000",
        ),
        ("gap", "'every' is missing"),
        ("cut:every=0", "every: '0' is not a whole number of at least 1; for example cut:every=5"),
        ("reject:channel=", "channel: it is empty"),
        ("503:every=3", "'every=3' is not one of first="),
        ("latency:ms=-1", "ms: '-1' is not a number above 0; for example latency:ms=200"),
    ],
)
def test_the_error_for_a_wrong_fault_has_a_correct_example(text, said):
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert repr(text) in str(caught.value)
