"""Rate limits of attempts that the clients of a process share."""

from __future__ import annotations

import gc
import threading

from wsclient.runtime.budgets import SharedBudget, budget_of


def test_clients_of_one_address_share_a_budget() -> None:
    one, other = (budget_of("wss://one.example:443", 1, 60.0) for _ in range(2))
    one.spend(0.0)
    assert other.ready_at(1.0) == 60.0


def test_another_address_or_limit_has_a_budget_of_its_own() -> None:
    one = budget_of("wss://two.example:443", 1, 60.0)
    one.spend(0.0)
    assert budget_of("wss://three.example:443", 1, 60.0).ready_at(1.0) == 1.0
    assert budget_of("wss://two.example:443", 2, 60.0).ready_at(1.0) == 1.0


def test_a_budget_that_no_client_uses_is_forgotten() -> None:
    budget_of("wss://four.example:443", 1, 60.0).spend(0.0)
    gc.collect()
    assert budget_of("wss://four.example:443", 1, 60.0).ready_at(1.0) == 1.0


def test_threads_spend_it_together() -> None:
    budget = SharedBudget(1000, 60.0)
    threads = [
        threading.Thread(target=lambda: [budget.spend(0.0) for _ in range(250)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert budget.ready_at(1.0) == 60.0


def test_a_child_process_does_not_wait_for_a_thread_of_its_parent() -> None:
    budget = SharedBudget(1, 60.0)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with budget._lock:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    budget.forked()
    assert budget.ready_at(1.0) == 1.0
    done.set()
    thread.join(10)
