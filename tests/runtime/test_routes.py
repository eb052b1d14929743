"""The routes of a client, as its dialect says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from support.rig import Plain
from wsclient.dialect import ConfigurationError, Limits
from wsclient.runtime.routes import RouteFinder
from wsclient.sansio.backoff import Budget
from wsclient.sansio.wantedtable import ChannelRoute


class World(Plain):
    """Channels ``route:name`` at ``wss://host/route``; ``secret`` ones need credentials."""

    def default_route(self, url: str) -> str:
        return url.rpartition("/")[2]

    def route(self, channel: str, url: str) -> str:
        if channel == "nowhere":
            raise ConfigurationError("no route carries it")
        if channel == "bug":
            raise KeyError("bug")
        return channel.rpartition(":")[0] or self.default_route(url)

    def request_route(self, payload: Any, url: str) -> str:
        return str(payload["to"])

    def address(self, url: str, route: str) -> str:
        return f"{url.rpartition('/')[0]}/{route}"

    def wire_name(self, channel: str) -> str:
        return channel.rpartition(":")[2]

    def room(self, route: str) -> int | None:
        return 7 if route == "eu" else None

    def needs_credentials(self, channel: str, options: Mapping[str, Any]) -> bool:
        return channel == "secret" and "token" not in options


def finder(
    url: str | None = "wss://acme.example/us",
    *,
    has_credentials: bool = False,
    limits: Limits | None = None,
) -> RouteFinder:
    return RouteFinder(World(limits), url, "the venue", has_credentials=has_credentials)


def test_a_channel_is_reached_on_its_route_by_its_wire_name() -> None:
    assert finder().of(["eu:a", "a"], {}) == {
        "eu:a": ChannelRoute("eu", "a"),
        "a": ChannelRoute("us", "a"),
    }


def test_a_dialect_with_one_address_has_one_route() -> None:
    found = RouteFinder(Plain(), "wss://acme.example/", "x", has_credentials=False)
    assert found.of(["a:b"], {}) == {"a:b": ChannelRoute("", "a:b")}
    assert (found.default(), found.of_request({})) == ("", "")


def test_a_channel_that_no_route_carries_is_refused_with_the_reason() -> None:
    assert finder().of(["nowhere"], {})["nowhere"].refusal == "no route carries it"


def test_a_hook_that_raises_refuses_only_its_channel() -> None:
    found = finder().of(["bug", "a"], {})
    assert found["bug"].refusal == "KeyError: 'bug'"
    assert found["a"].refusal is None


@pytest.mark.parametrize(
    ("has_credentials", "options", "is_refused"),
    [(False, {}, True), (True, {}, False), (False, {"token": "x"}, False)],
)
def test_a_private_channel_needs_credentials(
    has_credentials: bool, options: dict[str, Any], is_refused: bool
) -> None:
    found = finder(has_credentials=has_credentials).of(["secret"], options)
    assert (found["secret"].refusal is not None) == is_refused


def test_an_address_that_is_a_function_has_one_route() -> None:
    found = finder(None)
    assert found.of(["eu:a"], {}) == {"eu:a": ChannelRoute("", "a")}
    assert (found.default(), found.of_request({"to": "eu"})) == ("", "")


def test_a_known_route_has_an_address_and_a_room() -> None:
    found = finder()
    assert found.default() == "us"
    found.of(["eu:a"], {})
    assert found.where("us") == "wss://acme.example:443"
    assert found.where("eu") == "wss://acme.example:443 (route 'eu')"
    assert (found.rooms("eu"), found.rooms("us"), found.rooms("unknown")) == (7, None, None)


def test_a_request_has_the_route_that_the_dialect_names() -> None:
    assert finder().of_request({"to": "eu"}) == "eu"


def test_clients_share_the_rate_limit_of_an_address() -> None:
    limits = Limits(connects=(1, 60.0))
    finders = [finder("wss://shared.example/us", limits=limits) for _ in range(2)]
    budgets = [found.connects(found.default()) for found in finders]
    assert budgets[0] is budgets[1] is not None


def test_clients_on_this_machine_share_no_rate_limit() -> None:
    limits = Limits(connects=(1, 60.0))
    finders = [finder("ws://127.0.0.1:1/us", limits=limits) for _ in range(2)]
    budgets = [found.connects(found.default()) for found in finders]
    assert budgets[0] is not budgets[1]
    assert isinstance(budgets[0], Budget)


def test_a_venue_may_have_no_rate_limit() -> None:
    found = finder(limits=Limits(connects=None))
    assert found.connects(found.default()) is None


class Name(str):
    """Text that cannot be a key."""

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("hook", ["wire_name", "route"])
@pytest.mark.parametrize("name", [None, 5, ["a"], b"a"])
def test_a_name_that_is_no_text_refuses_the_channel(hook: str, name: Any) -> None:
    found = finder_with(**{hook: lambda *_: name}).of(["a"], {})
    assert f"{hook}() must be text" in (found["a"].refusal or "")


@pytest.mark.parametrize("hook", ["wire_name", "route", "default_route", "request_route"])
def test_names_become_plain_text(hook: str) -> None:
    found = finder_with(**{hook: lambda *_: Name("eu")})
    (reached,) = found.of(["a"], {}).values()
    names = [reached.route, reached.wire, found.default(), found.of_request({"to": "us"})]
    assert {type(name) for name in names} == {str}


@pytest.mark.parametrize("room", [0, -1, 2.5, "5", ["a"], True])
def test_a_room_that_is_no_number_is_an_error(room: Any) -> None:
    found = finder_with(room=lambda route: room)
    with pytest.raises(ConfigurationError, match="must be a whole number"):
        found.default()
    assert "must be a whole number" in (found.of(["a"], {})["a"].refusal or "")


def test_ctrl_c_in_a_hook_is_not_a_refusal() -> None:
    def interrupted(channel: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finder_with(wire_name=interrupted).of(["a"], {})


def finder_with(**hooks: Any) -> RouteFinder:
    dialect = World()
    for name, hook in hooks.items():
        setattr(dialect, name, hook)
    return RouteFinder(dialect, "wss://acme.example/us", "the venue", has_credentials=False)
