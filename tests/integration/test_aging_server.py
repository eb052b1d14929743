"""A server of the ``websockets`` package whose connections age: each announces its end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.protocol import State

import wsclient
from support.helpers import until
from wsclient.events import Disconnected, Rotated

#: After how many messages a connection announces its end, and when (s) that is.
AGE, WITHIN = 20, 2.0
#: One channel with numbers, one without.
CHANNELS = ["counted", "plain"]


class Aging:
    """Publishes on two channels; every connection announces its end, and is closed later."""

    def __init__(self) -> None:
        self._subscriptions: dict[ServerConnection, list[str]] = {}
        self._sent: Counter[ServerConnection] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        #: How many messages were published on each channel.
        self.count = 0
        self.url = ""

    def __enter__(self) -> Aging:
        self._thread.start()
        self._run(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._server.close()
        self._run(self._server.wait_closed())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()

    def stop(self) -> None:
        """Stop publishing."""
        self._loop.call_soon_threadsafe(self._publishing.cancel)
        until(self._publishing.done)

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10.0)

    async def _begin(self) -> None:
        self._server = await serve(self._handle, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}/"
        self._publishing = asyncio.create_task(self._publish())

    async def _handle(self, connection: ServerConnection) -> None:
        try:
            async for payload in connection:
                channel = json.loads(payload)["channel"]
                answer = {"type": "subscription", "channel": channel, "status": "success"}
                broadcast([connection], json.dumps(answer))
                self._subscriptions.setdefault(connection, []).append(channel)
        finally:
            self._subscriptions.pop(connection, None)

    async def _publish(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            self.count += 1
            for connection, channels in self._subscriptions.items():
                for channel in channels:
                    self._send(connection, channel)
                self._sent[connection] += 1
                if self._sent[connection] == AGE:
                    ending = {"type": "ending", "reason": "age", "within": WITHIN}
                    broadcast([connection], json.dumps(ending))
                    self._loop.call_later(2 * WITHIN, self._close, connection)

    def _send(self, connection: ServerConnection, channel: str) -> None:
        name = "sequence" if channel == "counted" else "number"
        message = {"type": "market_data", "channel": channel, name: self.count}
        broadcast([connection], json.dumps({**message, "connection": str(connection.id)}))

    def _close(self, connection: ServerConnection) -> None:
        if connection.state is State.OPEN:
            self._loop.create_task(connection.close(1001))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "rotations", [6, *(pytest.param(count, marks=pytest.mark.soak) for count in (20, 50))]
)
def test_a_server_that_ages_loses_nothing(rotations: int) -> None:
    dialect = wsclient.Generic(limits=wsclient.Limits(connects=None))
    with Aging() as venue, wsclient.connect(venue.url, dialect=dialect) as client:
        ends: list[Any] = []
        client.on_event(ends.append, Rotated, Disconnected)
        client.subscribe(*CHANNELS)
        delivered: list[wsclient.Message] = []
        while client.stats().rotations < rotations:
            delivered += client.recv_batch(timeout=10)
        venue.stop()
        while {number_of(m) for m in delivered[-2:]} != {venue.count}:
            delivered += client.recv_batch(timeout=10)
        until(lambda: sum(isinstance(event, Rotated) for event in ends) >= rotations)
    for name in CHANNELS:
        of_one = [message for message in delivered if message.channel == name]
        first = number_of(of_one[0])
        assert [number_of(message) for message in of_one] == list(range(first, venue.count + 1))
        assert [message.gap for message in of_one if message.gap] == []
    assert {e.reason for e in ends if isinstance(e, Disconnected)} == {"rotated"}
    assert len({message.connection_id for message in delivered}) > rotations


def number_of(message: wsclient.Message) -> int:
    number: int = message.data.get("sequence", message.data.get("number"))
    return number
