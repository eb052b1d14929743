"""The program of a client's process: ``python clients.py TASK CLIENT URL [CORE]``.

It reads settings as JSON, one line per run, and prints each result as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import book_clients
import generic_clients
import resources
import subscribing
import venue_clients
from generic_clients import Result, Run

Task = Callable[[str, str, dict[str, Any]], Result]


def by_run(task: Callable[[str, Run], Result]) -> Task:
    return lambda client, url, settings: task(client, Run(url, settings))


TASKS: dict[str, Task] = {
    "throughput": by_run(lambda client, run: generic_clients.THROUGHPUT[client](run)),
    "latency": by_run(generic_clients.latency),
    "statistics": by_run(generic_clients.statistics),
    "backlog": by_run(resources.backlog),
    "overflow": by_run(resources.overflow),
    "connections": by_run(resources.connections),
    "venues": venue_clients.venues,
    "books": book_clients.books,
    "subscribing": subscribing.subscribing,
}


def main() -> None:
    task, client, url, *core = sys.argv[1:]
    if core:
        os.sched_setaffinity(0, {int(core[0])})
    for line in sys.stdin:
        print(json.dumps(TASKS[task](client, url, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
