"""State machines driven by tables."""

from __future__ import annotations

import enum
import itertools
import subprocess
import sys
from typing import Any

import pytest

from wsclient.messages import SubscriptionState
from wsclient.sansio.connection import STAGES, Stage
from wsclient.sansio.life import PHASES, Phase
from wsclient.sansio.machine import Table, after
from wsclient.sansio.wanted import STATES

TABLES: dict[str, tuple[type[enum.Enum], Table[Any]]] = {
    "connection": (Stage, STAGES),
    "client": (Phase, PHASES),
    "wanted channel": (SubscriptionState, STATES),
}


@pytest.mark.parametrize("name", TABLES)
def test_each_step_leads_where_the_table_says_and_no_other_step_is_possible(name: str) -> None:
    states, table = TABLES[name]
    steps = {step for _, step in table}
    for state, step in itertools.product(states, steps):
        if (state, step) in table:
            assert after(table, state, step) is table[state, step]
        else:
            with pytest.raises(RuntimeError, match=f"internal error: '{step}' cannot happen in"):
                after(table, state, step)


@pytest.mark.parametrize("name", TABLES)
def test_each_state_can_be_reached(name: str) -> None:
    states, table = TABLES[name]
    reached = {next(iter(states))}
    for _ in states:
        reached |= {to for (state, _), to in table.items() if state in reached}
    assert reached == set(states)


def test_a_step_that_is_not_in_the_table_raises_without_asserts_too() -> None:
    code = (
        "from wsclient.sansio.life import PHASES, Phase\n"
        "from wsclient.sansio.machine import after\n"
        "try:\n    after(PHASES, Phase.CLOSED, 'connect')\n"
        "except RuntimeError:\n    print('raised')\n"
    )
    command = [sys.executable, "-O", "-c", code]
    assert subprocess.run(command, capture_output=True, check=True).stdout.strip() == b"raised"
