"""One connection's numbers of a channel: which messages begin a new sequence."""

from __future__ import annotations

import pytest

from wsclient.stream.line import ChannelLine
from wsclient.stream.matching import Matching


def restarts(*links: tuple[int | None, int]) -> list[int]:
    """Return the numbers of the messages that begin a new sequence, after the first."""
    line = ChannelLine(1, Matching(lambda _: None))
    return [number for follows, number in links if line.has_restarted(number, follows)]


def counted(*numbers: int) -> list[int]:
    return restarts(*((number - 1, number) for number in numbers))


@pytest.mark.parametrize(
    ("numbers", "begun"),
    [
        ((5, 6, 7, 9, 20), []),  # it rises, whatever is missing
        ((5, 6, 6, 5), []),  # repeated
        ((5, 6, 7, 6, 7), []),  # a repeated run up to the last number
        ((5, 6, 7, 8, 5, 6), [6]),  # two that rise
        ((5, 6, 7, 8, 6, 5, 9), []),
        ((5, 6, 7, 8, 5, 9, 6), []),  # another came between them
        ((5, 6, 4, 5, 6), [4]),  # below the first
        ((5, 6, 4, 3, 4), [4, 3]),
    ],
)
def test_counted_numbers_restart(numbers: tuple[int, ...], begun: list[int]) -> None:
    assert counted(*numbers) == begun


@pytest.mark.parametrize(
    ("links", "begun"),
    [
        (((None, 7), (7, 8), (None, 9)), []),  # a snapshot above the last number
        (((None, 7), (7, 8), (None, 8)), []),  # of the last number
        (((None, 5), (5, 8), (None, 7)), [7]),  # below it
        (((90, 100), (100, 3)), [3]),  # a number may fall where the pointer matches
        (((90, 100), (100, 100), (100, 110)), []),
        (((1, 5), (5, 100), (3, 30), (30, 130)), [130]),  # two that rise, the second above
        (((1, 5), (5, 100), (3, 30), (100, 110), (30, 120)), []),
    ],
)
def test_linked_numbers_restart(
    links: tuple[tuple[int | None, int], ...], begun: list[int]
) -> None:
    assert restarts(*links) == begun


def test_after_a_restart_numbers_are_compared_with_the_new_ones() -> None:
    line = ChannelLine(1, Matching(lambda _: None))
    for follows, number in ((None, 100), (None, 3)):
        line.has_restarted(number, follows)
    assert (line.first, line.last) == (3, 3)


@pytest.mark.parametrize("trait", ["is_apart", "is_ignored"])
def test_a_connection_with_other_numbers_is_not_fit(trait: str) -> None:
    line = ChannelLine(1, Matching(lambda _: None))
    assert line.is_fit
    setattr(line, trait, True)
    assert not line.is_fit
