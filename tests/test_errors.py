"""The exceptions form one tree, as the module's docstring draws it."""

from __future__ import annotations

import builtins
import re
from traceback import walk_tb
from typing import Any

import pytest

from wsclient import errors
from wsclient.errors import (
    ConnectError,
    ConnectionLost,
    HandshakeRejected,
    OutcomeUnknown,
    RequestRejected,
    SubscriptionRejected,
    WSClientError,
)

ALL = [getattr(errors, name) for name in errors.__all__]


def drawn() -> dict[str, tuple[str, str | None]]:
    """Return the docstring's exceptions: each one's parent, and the class it derives from too."""
    assert errors.__doc__ is not None
    tree: dict[str, tuple[str, str | None]] = {}
    parents: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"[ │├└─]*([A-Z]\w+)(?: +\(also (\w+)\))?(?: {2}|$)", line)
        if match is not None:
            name, other = match.groups()
            parents = [(depth, above) for depth, above in parents if depth < match.start(1)]
            tree[name] = (parents[-1][1] if parents else "Exception", other)
            parents.append((match.start(1), name))
    return tree


def example(kind: type[Any]) -> WSClientError:
    error: WSClientError = kind("what happened")
    return error


def test_the_tree_that_is_drawn_is_all_of_it() -> None:
    assert set(drawn()) == set(errors.__all__)


def stands(kind: type[Any], parent: str, other: str | None) -> bool:
    also = [base.__name__ for base in kind.__bases__[1:]]
    return (
        kind.__bases__[0].__name__ == parent
        and also == ([other] if other else [])
        and (other is None or hasattr(builtins, other) or hasattr(errors, other))
    )


def test_each_exception_stands_where_it_is_drawn() -> None:
    tree = drawn()
    assert [kind for kind in ALL if not stands(kind, *tree[kind.__name__])] == []


def test_one_except_catches_all() -> None:
    assert [kind for kind in ALL if not issubclass(kind, WSClientError)] == []


def test_each_exception_says_what_happened_and_is_documented() -> None:
    silent = [kind for kind in ALL if str(example(kind)) != "what happened" or not kind.__doc__]
    assert silent == []


def test_a_fresh_copy_is_another_with_the_same_words_chained_to_the_first() -> None:
    for kind in ALL:
        original = example(kind)
        copy = original.fresh()
        assert copy is not original
        assert type(copy) is kind
        assert (str(copy), copy.args) == (str(original), original.args)
        assert copy.__cause__ is original
        assert copy.__traceback__ is None


def test_a_fresh_copy_is_chained_to_the_cause_where_there_is_one() -> None:
    error, cause = ConnectError("gave up"), OSError("refused")
    error.__cause__ = cause
    assert error.fresh().__cause__ is cause
    assert error.fresh().fresh().__cause__ is cause


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (ConnectError("no", 3), {"attempts": 3}),
        (
            HandshakeRejected("no", 429, 5.0, b"slow down"),
            {"status": 429, "retry_after": 5.0, "excerpt": b"slow down"},
        ),
        (ConnectionLost("gone", 1001, "closed"), {"code": 1001, "reason": "closed"}),
        (SubscriptionRejected("no", {"a": "unknown"}), {"failed": {"a": "unknown"}}),
        (
            RequestRejected("no", {"code": 7}, {1: "no funds"}),
            {"reply": {"code": 7}, "failed": {1: "no funds"}},
        ),
    ],
)
def test_a_fresh_copy_has_the_data_of_the_first(
    error: WSClientError, attributes: dict[str, Any]
) -> None:
    assert vars(error.fresh()) == vars(error) == attributes


def test_raising_a_copy_leaves_the_original_as_it_was() -> None:
    original = ConnectionLost("gone")
    with pytest.raises(ConnectionLost):
        raise original.fresh()
    assert original.__traceback__ is None


def test_a_fresh_copy_is_chained_to_no_variables() -> None:
    def failing(secret: str) -> None:
        raise OSError

    error = ConnectError("gave up")
    with pytest.raises(OSError) as caught:
        failing("S3CRET")
    error.__cause__ = caught.value
    assert any("secret" in frame.f_locals for frame, _ in walk_tb(caught.value.__traceback__))
    cause = error.fresh().__cause__
    assert cause is caught.value
    assert not any("secret" in frame.f_locals for frame, _ in walk_tb(cause.__traceback__))


def test_what_the_venue_put_into_an_error_page_is_not_in_the_text() -> None:
    error = HandshakeRejected("HTTP 403", 403, excerpt=b"token=secret")
    assert "secret" not in str(error)
    assert "secret" not in repr(error)


def test_failed_is_a_copy() -> None:
    failed = {"a": "unknown"}
    error = SubscriptionRejected("no", failed)
    failed["b"] = "later"
    assert error.failed == {"a": "unknown"}


def test_the_defaults_are_those_of_nothing_known() -> None:
    assert ConnectError("no").attempts == 0
    assert ConnectionLost("no").code == 1006
    assert HandshakeRejected("no").status == 0
    assert HandshakeRejected("no").retry_after is None
    assert SubscriptionRejected("no").failed == {}


def test_an_unknown_outcome_says_which_orders_to_ask_for() -> None:
    error = OutcomeUnknown("the connection ended")
    error.client_order_ids = ("a", 7)
    assert str(error) == (
        "the connection ended; before you send it again, ask the venue for the client order id "
        "'a', 7"
    )
    error.client_order_ids = tuple("abcdefg")
    assert str(error).endswith("'a', 'b', 'c', 'd', 'e' and 2 more")
    assert str(error.fresh()) == str(error)
