"""How long our client takes to subscribe to many channels, and to resubscribe after a cut."""

from __future__ import annotations

import queue
import time
from typing import Any

from venue_clients import Course, Result

from wsclient import SubscriptionState
from wsclient.events import Recovered


def subscribing(client: str, url: str, settings: dict[str, Any]) -> Result:
    """Return processor time (s) and time (s) of both. ``count`` is 0: no data is sent.

    The time from the cut to the recovery has the delay before the reconnect in it.
    """
    course = Course(url, settings)
    recovered: queue.Queue[Any] = queue.Queue()
    channels = course.stream.channels
    with course.connect(retry_delay=0.01, jitter=False) as ours:
        ours.on_event(recovered.put, Recovered)
        course.watch.start()
        ours.subscribe(*channels, timeout=60)
        course.watch.end()
        first = course.watch.figures(len(channels))
        used, started = time.process_time(), time.monotonic()
        ours.send("cut")
        recovered.get(timeout=60)
        again, took = time.process_time() - used, time.monotonic() - started
        found = ours.subscriptions.values()
        active = sum(each.state is SubscriptionState.ACTIVE for each in found)
    if active != len(channels):
        raise AssertionError(f"{active} of {len(channels)} channels are back")
    return {
        "first": first["cpu"],
        "took": (len(channels) - 1) / first["rate"],
        "again": again / len(channels) * 1e6,
        "again_took": took,
    }
