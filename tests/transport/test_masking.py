"""Our own secrets are masked in the words of others."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from wsclient.dialect.values import Credentials
from wsclient.options import Options
from wsclient.text import excerpt
from wsclient.transport.masking import ATTEMPTS, MAX_WORDS, Mask

SECRET = "Zm9vYmFy7Qx"


def mask(url: Any = "wss://venue.example/", **options: Any) -> Mask:
    return Mask(url, Options(**options))


@pytest.mark.parametrize(
    "given",
    [
        {"headers": {"X-Key": SECRET}},
        {"headers": {"Authorization": f"Bearer {SECRET}"}},
        {"headers": {"Cookie": f"a=1; b={SECRET}"}},
        {"cookie": f"session={SECRET}; path=/"},
        {"credentials": {"secret": SECRET}},
        {"credentials": {"secret": SECRET.encode()}},
        {"credentials": {"keys": [{"name": "a"}, ({"secret": SECRET},)]}},
        {"proxy": f"http://user:{SECRET}@127.0.0.1:1"},
        {"url": f"wss://venue.example/?token={SECRET}"},
        {"url": f"wss://venue.example/?a=b&token={SECRET}&c=d"},
        {"url": f"wss://venue.example/v2/{SECRET}{SECRET}/feed"},
    ],
)
def test_what_is_given_is_masked(given: dict[str, Any]) -> None:
    said = mask(**given)(f"no such key: {SECRET}{SECRET}, sorry")
    assert SECRET not in said
    assert said.startswith("no such key: ***")
    assert said.endswith(", sorry")


def test_what_was_percent_encoded_is_masked_in_both_forms() -> None:
    known = mask("wss://venue.example/?token=a%2Bb%2Fc%3Dd", proxy="http://u:p%40ss%3Aword@h:1")
    assert known("token a+b/c=d or a%2Bb%2Fc%3Dd") == "token *** or ***"
    assert known("password p@ss:word or p%40ss%3Aword") == "password *** or ***"


def test_a_proxys_login_is_masked_as_it_is_sent() -> None:
    known = mask(proxy="http://user:p%40ssword@127.0.0.1:1")
    login = base64.b64encode(b"user:p@ssword").decode()
    assert known(f"Basic {login} is not known") == "Basic *** is not known"


def test_credentials_that_hold_themselves_are_masked() -> None:
    credentials: dict[str, Any] = {"secret": SECRET}
    credentials["self"] = credentials
    assert mask(credentials=credentials)(f"<{SECRET}>") == "<***>"


@pytest.mark.parametrize(
    "words",
    [
        "subscription to trade:BTC/USD refused",
        "Bearer token expired",
        "a b c",
        "",
    ],
)
def test_other_words_stay(words: str) -> None:
    known = mask(
        "wss://venue.example/stream?v=2",
        headers={"Authorization": f"Bearer {SECRET}", "X": "a"},
        credentials={"key": SECRET, "is_demo": True},
    )
    assert known(words) == words


@pytest.mark.parametrize("length", range(8, len(SECRET)))
def test_a_secret_that_was_cut_is_masked(length: int) -> None:
    """Excerpts and close reasons are cut."""
    known = mask(credentials={"key": SECRET})
    assert known(f"key {SECRET[:length]}") == "key ***"


@pytest.mark.parametrize("secret", ["ab/cd/ef+gh=", "pässwört-1", "back\\slash-1"])
def test_a_secret_is_masked_in_the_excerpt_of_a_frame(secret: str) -> None:
    known = mask(credentials={"key": secret})
    for frame in (secret, secret.replace("/", "\\/")):
        assert known(excerpt(frame.encode())) == "b'***'"


@pytest.mark.parametrize("is_ascii", [False, True])
@pytest.mark.parametrize("secret", ['a"b-very-secret', "back\\slash-1", "pässwört-grüße"])
def test_a_secret_is_masked_as_it_is_written_in_json(secret: str, is_ascii: bool) -> None:
    known = mask(credentials={"key": secret})
    frame = json.dumps(["login", secret], ensure_ascii=is_ascii)
    assert known(frame) == '["login", "***"]'
    assert known(excerpt(frame.encode())) == """b'["login", "***"]'"""


def test_a_short_secret_is_masked_as_a_whole() -> None:
    known = mask(credentials={"pin": "73519"})
    assert known("pin 73519 or 7351") == "pin *** or 7351"


def test_the_longest_secret_goes_first() -> None:
    known = mask(credentials={"a": "abcdefgh", "b": "abcdefghijkl"})
    assert known("<abcdefghijkl>") == "<***>"


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_secrets_that_begin_alike_are_masked_to_their_ends(cut: int) -> None:
    """The tokens of one issuer may begin alike."""
    known = mask(
        credentials={"a": "eyJhbGciOiJIUzI1NiJ9.long.tail", "b": "eyJhbGciOiJIUzI1NiJ9.x9y8z7"}
    )
    for token in ("eyJhbGciOiJIUzI1NiJ9.long.tail", "eyJhbGciOiJIUzI1NiJ9.x9y8z7"):
        assert known(f"<{token[: len(token) - cut]}>") == "<***>"


def test_what_comes_with_an_attempt_is_masked() -> None:
    known = mask(url=lambda: "wss://x/", headers=dict, credentials=dict)
    for learnt in (
        {"url": f"wss://x/?token={SECRET}1"},
        {"headers": {"X": f"{SECRET}2"}},
        {"credentials": Credentials({"key": f"{SECRET}3"}, lambda: 0.0)},
        {"token": f"{SECRET}4"},
    ):
        known.learn(**learnt)  # type: ignore[arg-type]
    assert known("".join(f"<{SECRET}{n}>" for n in range(1, 5))) == "<***><***><***><***>"


@pytest.mark.parametrize("nothing", [None, {}, [1], "", 5, object()])
def test_what_has_no_secrets_is_taken_too(nothing: Any) -> None:
    """A user's function may return anything; another check refuses it."""
    known = mask()
    known.learn(nothing, nothing, nothing, None)
    assert known("as it was") == "as it was"


def test_the_secrets_of_old_attempts_are_forgotten() -> None:
    known = mask(credentials={"key": SECRET})
    for n in range(1000):
        known.learn(token=f"{n:04}{SECRET}")
    assert known(f"<{SECRET}>") == "<***>"
    assert known(f"<0999{SECRET}>") == "<***>"
    assert known(f"<0001{SECRET}>") == "<0001***>"
    assert repr(known) == f"<Mask of {ATTEMPTS + 1} secrets>"


def test_the_words_are_bounded() -> None:
    assert len(mask()("x" * 10 * MAX_WORDS)) == MAX_WORDS


def test_a_url_that_cannot_be_read_has_none() -> None:
    assert mask("ws://[::1/")("anything") == "anything"
