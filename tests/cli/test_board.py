"""The demo's account of all messages, and its made-up prices."""

import json

import pytest

from support.making import message as make
from wsclient.cli.board import Board, BoardRow
from wsclient.cli.demo import CHANNELS
from wsclient.messages import Gap


def message(sequence, price=1.0, gap=None, connection_id=1):
    raw = json.dumps({"last": price}).encode()
    return make("a", "market_data", sequence, raw, 0, connection_id, gap)


def row_of(*messages):
    row = BoardRow("a")
    for at, each in enumerate(messages):
        row.add(each, float(at))
    return row


def unaccounted(row, numbers, to_the_end=False):
    return row.published(numbers, to_the_end) - row.messages - row.missed


def test_a_gap_accounts_for_what_is_missing():
    row = row_of(message(3), message(4), message(8, gap=Gap("reconnect", 3)))
    assert (row.messages, row.missed) == (3, 3)
    assert unaccounted(row, range(1, 11)) == 0


def test_a_loss_without_a_gap_is_unaccounted_for():
    assert unaccounted(row_of(message(3), message(5)), range(1, 11)) == 1


def test_a_gap_without_a_count_accounts_for_nothing():
    row = row_of(message(3), message(8, gap=Gap("reconnect", None)))
    assert unaccounted(row, range(1, 11)) == 4


def test_a_gap_that_claims_too_much_is_detected():
    assert unaccounted(row_of(message(3), message(5, gap=Gap("reconnect", 2))), range(9)) == -1


def test_a_gap_on_the_first_message_does_not_count():
    row = row_of(message(3, gap=Gap("reconnect", 2)), message(4))
    assert unaccounted(row, range(1, 11)) == 0


def test_to_the_end_a_channel_that_fell_silent_is_unaccounted_for():
    assert unaccounted(row_of(message(1), message(2)), range(1, 11), to_the_end=True) == 8
    assert unaccounted(BoardRow("a"), range(1, 11), to_the_end=True) == 10
    assert unaccounted(BoardRow("a"), range(1, 11)) == 0


def test_the_clients_message_that_a_channel_is_lost_does_not_count():
    lost = make("a", "lost", gap=Gap("rejected"), decoder=None)
    row = row_of(message(1), lost)
    assert (row.messages, row.gap) == (1, Gap("rejected"))


def test_price_and_change():
    row = row_of(message(1, 100.0), message(2, 102.0), message(3, 101.0))
    assert (row.price, row.direction) == (101.0, -1)
    assert row.change == pytest.approx(1.0)


def test_the_rate_is_measured_over_the_last_seconds():
    row = BoardRow("a")
    for n in range(1, 41):
        row.add(message(n), n / 10)
    assert row.rate(4.0) == pytest.approx(10, abs=1)
    assert row.rate(10.0) == 0


def test_an_empty_board():
    board = Board(CHANNELS, 12.0)
    assert (board.messages, board.missed) == (0, 0)
