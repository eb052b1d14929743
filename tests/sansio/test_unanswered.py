"""Unsent and outstanding requests, compared with a plain list."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wsclient.sansio.unanswered import Outstanding, Request, Unsent


def request(channels: list[str], **fields: Any) -> Request:
    return Request(True, dict.fromkeys(channels), {}, **fields)


#: A new request's channels, or the number of an outstanding pair to answer.
STEPS = st.one_of(
    st.tuples(st.just("send"), st.lists(st.sampled_from("abc"), min_size=1)),
    st.tuples(st.just("answer"), st.integers(0, 20)),
)


@given(st.lists(STEPS, max_size=30))
def test_outstanding_requests_match_a_plain_list(steps: list[tuple[str, Any]]) -> None:
    outstanding, plain = Outstanding(), list[Request]()
    for number, (step, how) in enumerate(steps):
        if step == "send":
            plain.append(request(how, id=number))
            outstanding.add(plain[-1])
        elif pairs := [(request, channel) for request in plain for channel in request.channels]:
            outstanding.discard(*pairs[how % len(pairs)])
            plain = [request for request in plain if request.channels]
        assert list(outstanding) == plain
        for channel in "abc":
            assert [*outstanding.of(channel)] == [r for r in plain if channel in r.channels]
        for known in range(len(steps)):
            found = [request for request in plain if request.id == known]
            assert [outstanding.get(known), outstanding.get(str(known))] == (found or [None]) * 2


CHANGES = st.one_of(
    st.tuples(st.just("add"), st.lists(st.sampled_from("abc"), min_size=1)),
    st.tuples(st.just("drop"), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["pop", "split"]), st.none()),
    st.tuples(st.just("join"), st.sampled_from("abc")),
)


@given(st.lists(CHANGES, max_size=30))
def test_requests_are_sent_in_order_without_empty_ones(
    steps: list[tuple[str, Any]],
) -> None:
    unsent, plain = Unsent(), list[list[str]]()
    for step, how in steps:
        first = unsent.first(1)
        if step == "add":
            unsent.add(request(how))
            plain.append(list(dict.fromkeys(how)))
        elif step == "drop":
            unsent.drop(how)
            plain = [[c for c in channels if c != how] for channels in plain]
        elif step == "pop" and first:
            unsent.pop()
            del plain[0]
        elif step == "split" and first:
            parts = [[channel] for channel in first[0].channels]
            unsent.replace(first, [request(part) for part in parts])
            plain[:1] = parts
        elif step == "join" and first and (last := unsent.last) is not None and last.channels:
            unsent.join(last, how)
            plain[-1] = list(dict.fromkeys([*plain[-1], how]))
        plain = [channels for channels in plain if channels]
        assert [list(r.channels) for r in unsent.first(100)] == plain
        for channel in "abc":
            found = [list(r.channels) for r in unsent.of(channel)]
            assert sorted(found) == sorted(names for names in plain if channel in names)
