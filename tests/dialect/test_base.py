"""The base class of dialects: hooks that must be overridden, and defaults."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from support.recordings import messages_of
from support.rig import Plain, Rig
from wsclient import BookFormat, ConfigurationError, Dialect, Limits, Message
from wsclient.dialect.values import Credentials, RestRequest


@pytest.mark.parametrize(
    ("call", "missing"),
    [
        (lambda dialect: dialect.subscribe(["a"], 1, {}), "change(), or both subscribe() and "),
        (lambda dialect: dialect.unsubscribe(["a"], 1, {}), "change(), or both subscribe() and "),
        (lambda dialect: dialect.read({}), "read()"),
    ],
)
def test_a_hook_that_a_dialect_must_override_raises(
    call: Callable[[Dialect], object], missing: str
) -> None:
    class Acme(Dialect):
        pass

    with pytest.raises(NotImplementedError, match=f"^Acme must define {re.escape(missing)}"):
        call(Acme())


def test_connects_are_limited_to_sixty_per_minute_by_default() -> None:
    assert Limits() == Limits(1, None, None, (60, 60.0), None, None)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("channels_per_message", [0, -1, 1.5, True, "2", None]),
        ("channels_per_connection", [0, -1, 1.5, "2"]),
        ("connections", [0, -1, 1.5, True, "1"]),
        ("messages_per_second", [0, -1, math.inf, math.nan, True, "5"]),
        ("max_age", [0, -1, math.inf, "1 d"]),
        ("connects", [5, (5,), (0, 60.0), (5, 0), (1.5, 60), (5, math.inf), "55", [5, 60.0]]),
    ],
)
def test_a_limit_that_cannot_work_is_refused(name: str, values: list[Any]) -> None:
    taken = []
    for value in values:
        try:
            Limits(**{name: value})
        except ConfigurationError as error:
            assert name in str(error)  # noqa: PT017 - of each value
        else:
            taken.append(value)
    assert taken == []


def test_channels_are_split_into_messages_of_the_allowed_size() -> None:
    class Two(Dialect):
        limits = Limits(channels_per_message=2)

    assert list(Two().batches(["a", "b", "c"])) == [["a", "b"], ["c"]]


def test_channels_of_different_groups_go_in_different_messages() -> None:
    class Grouped(Dialect):
        limits = Limits(channels_per_message=2)

        def group(self, channel: str) -> str:
            return channel[0]

    batches = Grouped().batches(["a1", "b1", "a2", "b2", "a3"])
    assert list(batches) == [["a1", "a2"], ["a3"], ["b1", "b2"]]


def test_subscribe_and_unsubscribe_may_share_one_method() -> None:
    class Changing(Dialect):
        def change(self, verb: str, channels: Any, request_id: int, options: Any) -> Any:
            return verb, channels, request_id, options

    assert Changing().subscribe(["a"], 1, {"o": 1}) == ("subscribe", ["a"], 1, {"o": 1})
    assert Changing().unsubscribe(["a"], 2, {}) == ("unsubscribe", ["a"], 2, {})


# --- routes ---------------------------------------------------------------------------------------


def test_a_dialect_has_one_route_by_default() -> None:
    dialect, url = Plain(), "wss://acme.example/feed?key=1"
    routes = dialect.default_route(url), dialect.route("a:b", url), dialect.request_route({}, url)
    assert routes == ("", "", "")
    assert dialect.address(url, "") == url
    assert dialect.wire_name("a:b") == "a:b"
    assert dialect.logs_in("")
    assert dialect.room("") is None
    assert not dialect.needs_credentials("a:b", {})


def test_each_route_has_the_room_of_the_limits_by_default() -> None:
    class Roomy(Dialect):
        limits = Limits(channels_per_connection=7)

    assert Roomy().room("a") == 7


def test_channels_and_requests_without_a_route_go_to_the_default_one() -> None:
    class Routed(Dialect):
        def default_route(self, url: str) -> str:
            return url.rpartition("/")[2]

    url = "wss://acme.example/spot"
    assert Routed().route("a", url) == Routed().request_route({}, url) == "spot"


# --- identity -------------------------------------------------------------------------------------


class Listing(Plain):
    """A frame is a list of rows."""

    def read(self, message: Any) -> list[Message]:
        return [Message(row["c"], "row", None, i) for i, row in enumerate(message)]


def identities(dialect: Dialect, frame: bytes) -> list[Any]:
    return [dialect.identity(message) for message in messages_of(dialect, [frame])]


def test_the_same_payload_is_the_same_message() -> None:
    first, second = Message("a", "b", raw=b'{"p":1}'), Message("a", "b", raw=b'{"p":1}')
    assert Plain().identity(first) == Plain().identity(second)
    for other in (Message("a", "b", raw=b'{"p":2}'), Message("a", "c", raw=b'{"p":1}')):
        assert Plain().identity(first) != Plain().identity(other)


def test_a_message_is_the_same_in_a_frame_with_other_ones() -> None:
    alone = identities(Listing(), b'[{"c":"a","p":1.50}]')
    among = identities(Listing(), b'[{"c":"b","p":1.50},{"c":"a","p":1.50},{"c":"a","p":1.51}]')
    assert [identity == alone[0] for identity in among] == [False, True, False]


def test_an_identity_can_be_a_key() -> None:
    row = b'{"c":"a","p":[{"q":null},["x",1.5]]}'
    same, other = (
        identities(Listing(), b"[%s,%s]" % (row, row)),
        identities(Listing(), b'[{"c":"a"}]'),
    )
    assert len({*same, *other}) == 2


# --- credentials ---------------------------------------------------------------------------------


def test_credentials_are_never_shown() -> None:
    credentials = Credentials({"secret": "5ecret"}, lambda: 0.0, "T0ken")
    assert credentials["secret"] == "5ecret"
    for text in (repr(credentials), str(credentials), f"{credentials}", f"{[credentials]}"):
        assert "5ecret" not in text
        assert "T0ken" not in text


def test_a_missing_field_of_the_credentials_is_named() -> None:
    with pytest.raises(ConfigurationError, match="must have 'secret'"):
        Credentials({"api_key": "K"}, lambda: 0.0)["secret"]


def test_a_rest_request_does_not_show_its_headers() -> None:
    url = "https://a/?key=5ecret"
    request = RestRequest(url, {"q": "5ecret"}, "POST", {"Key": "5ecret"}, "5ecret")
    assert repr(request) == "RestRequest(POST https://a/)"


class Signing(Plain):
    """A dialect whose requests contain a token and the time."""

    def access(self, channels: Any, credentials: Credentials) -> dict[str, Any]:
        return {"token": credentials.token, "at": credentials.clock()}


def test_access_is_called_for_each_message() -> None:
    rig = Rig(Signing())
    rig.connect()
    credentials = Credentials({}, lambda: rig.now, "T1")
    rig.supervisor.opened(rig.cid, None, rig.now, credentials)
    rig.subscribe("a", depth=5)
    rig.now += 1
    rig.subscribe("b")
    assert [(m["token"], m["at"], m.get("depth")) for m in rig.sent()] == [
        ("T1", 1000.0, 5),
        ("T1", 1001.0, None),
    ]
    assert dict(rig.wanted()[0][2]) == {"depth": 5}


def test_an_error_in_access_refuses_only_these_channels() -> None:
    class Failing(Signing):
        def access(self, channels: Any, credentials: Credentials) -> dict[str, Any]:
            return {"secret": credentials["secret"]} if "a" in channels else {}

    rig = Rig(Failing())
    rig.connect()
    rig.supervisor.opened(rig.cid, None, rig.now, Credentials({}, lambda: 0.0))
    first, second = rig.subscribe("a"), rig.subscribe("b")
    assert "must have 'secret'" in str(rig.outcome(first))
    assert rig.outcome(second) == "waiting"
    assert rig.asked() == [("subscribe", ["b"])]


@pytest.mark.parametrize("hook", ["book_channel", "book_update", "book_snapshot"])
def test_a_former_method_for_order_books_is_refused_and_the_error_says_what_to_do(
    hook: str,
) -> None:
    with pytest.raises(ConfigurationError, match=rf"{hook}\(\).*BookFormat.* {hook[5:]}\(\)"):
        type("Old", (Plain,), {hook: lambda *_: None})


def test_a_former_hook_of_another_base_class_is_refused_too() -> None:
    class Books:
        def book_update(self, message: Message) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Acme\.book_update\(\) would never be called"):
        type("Acme", (Books, Dialect), {})


def test_a_dialect_has_no_order_books_by_default() -> None:
    assert Plain().book is None


def test_a_book_has_no_depth_no_checksum_and_no_snapshot_by_rest_by_default() -> None:
    book = BookFormat()
    assert (book.depth({}), book.checksum([], []), book.request("a", {})) == (None, None, None)


@pytest.mark.parametrize(
    "call",
    [
        lambda book: book.channel("a", {}),
        lambda book: book.update(Message("a")),
        lambda book: book.snapshot("a", {}),
    ],
)
def test_a_method_that_a_book_format_must_override_raises(
    call: Callable[[BookFormat], object],
) -> None:
    with pytest.raises(NotImplementedError, match=r"^BookFormat must define \w+\(\)$"):
        call(BookFormat())
