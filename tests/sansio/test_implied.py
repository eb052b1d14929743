"""Channels that a connection has by its address: nothing is sent for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from support.rig import Plain, Rig
from wsclient.messages import SubscriptionState
from wsclient.stream.items import Ack

ACTIVE = SubscriptionState.ACTIVE


class Implied(Plain):
    """Sends nothing for channels whose names begin with an ``a``."""

    def group(self, channel: str) -> Any:
        return channel[0] == "a"

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        return {"op": verb, "channels": list(channels), "id": request_id}

    def subscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        implied = Ack(alias="secret-name" if channels[0] == "alias" else None)
        return implied if channels[0][0] == "a" else self.change("sub", channels, request_id, {})

    def unsubscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        is_implied = channels[0] in ("account", "alias", "secret-name")
        return Ack() if is_implied else self.change("unsub", channels, request_id, {})


def test_a_channel_is_confirmed_without_a_message() -> None:
    rig = Rig(Implied()).open()
    token = rig.subscribe("account", "book")
    assert rig.sent() == [{"op": "sub", "channels": ["book"], "id": rig.sent()[0]["id"]}]
    assert {name: state for name, state, _ in rig.wanted()}["account"] is ACTIVE
    rig.ack("book")
    assert rig.outcome(token) is None
    rig.close()


def test_an_unsubscribe_without_a_message_is_complete() -> None:
    rig = Rig(Implied()).open()
    rig.subscribe("account")
    token = rig.unsubscribe("account")
    assert rig.outcome(token) is None
    assert (rig.sent(), rig.wanted()) == ([], [])


def test_it_is_confirmed_again_after_a_reconnect() -> None:
    rig = Rig(Implied()).open()
    rig.subscribe("account")
    rig.drop()
    rig.open()
    assert [state for _, state, _ in rig.wanted()] == [ACTIVE]
    (message,) = rig.data("account")
    assert message.gap is not None


def test_the_venue_may_call_it_by_another_name() -> None:
    rig = Rig(Implied()).open()
    rig.subscribe("alias")
    (message,) = rig.data("secret-name")
    assert message.channel == "alias"
    assert rig.outcome(rig.unsubscribe("alias")) is None


def test_a_dialect_may_return_the_same_ack_each_time() -> None:
    shared = Ack()

    class Shared(Implied):
        def subscribe(self, *_: Any) -> Any:
            return shared

    rig = Rig(Shared()).open()
    tokens = [rig.subscribe("account"), rig.subscribe("alias")]
    assert [rig.outcome(token) for token in tokens] == [None, None]
    assert shared == Ack()
