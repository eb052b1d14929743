"""The signatures of the calls that take options are those of Options, and editors complete them."""

from __future__ import annotations

import inspect
import re
import textwrap
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsclient
from support.documents import text_of
from support.inside import core_of
from wsclient import ConfigurationError, Options, WebSocketClient
from wsclient.options import Overflow

TAKING_OPTIONS: list[Callable[..., Any]] = [wsclient.connect, WebSocketClient]


def parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any, Any]]:
    """Return the keyword-only parameters of a function: kind, annotation and default of each."""
    return {
        name: (p.kind, p.annotation, p.default)
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize("function", TAKING_OPTIONS)
def test_the_keywords_are_the_options(function: Callable[..., Any]) -> None:
    """Likewise their order, their types and their defaults."""
    assert list(parameters(function).items()) == list(parameters(Options).items())


def test_the_keywords_of_diagnose_are_options_too() -> None:
    found, options = parameters(wsclient.diagnose), parameters(Options)
    assert found.keys() - options.keys() == {"subscribe", "timeout"}
    assert {name: options[name] for name in found if name in options} == {
        name: found[name] for name in found if name in options
    }


def test_each_option_reaches_the_client() -> None:
    given: dict[str, Any] = {
        name: value
        for name, (_, _, value) in parameters(Options).items()
        if name not in ("dialect", "classify")
    }
    given |= {"retry_delay": 7.0, "overflow": "error", "decimal": True, "name": "mine"}
    client = WebSocketClient("ws://127.0.0.1:9/", **given)
    client.close()
    assert core_of(client).options == Options(**given)


@pytest.mark.parametrize("function", TAKING_OPTIONS)
def test_an_unknown_keyword_is_refused_with_a_hint(function: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="unknown option dialekt; did you mean dialect"):
        function("ws://127.0.0.1:9/", dialekt="kraken")


@pytest.mark.parametrize("function", TAKING_OPTIONS)
@pytest.mark.parametrize("wrong", [{"dialekt": "kraken"}, {"ack_timeout": 0}, {"dialect": "krakn"}])
def test_a_refused_keyword_shows_no_secret_of_the_others(
    function: Callable[..., Any], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        function("ws://127.0.0.1:9/", credentials={"key": "S3CRET"}, **wrong)
    error = caught.value
    shown = traceback.TracebackException(
        type(error), error, error.__traceback__, capture_locals=True
    )
    ours = [frame for frame in shown.stack if frame.filename != __file__]
    assert "S3CRET" not in f"{error} {[frame.locals for frame in ours]}"


def test_an_overflow_policy_is_a_literal_everywhere() -> None:
    reader = inspect.signature(WebSocketClient.reader).parameters["overflow"]
    assert reader.annotation == "Overflow | None"
    assert parameters(Options)["overflow"][1] == "Overflow"
    assert "drop_oldest" in str(Overflow)


# An editor's completion.


@pytest.fixture(scope="module")
def jedi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return jedi, with a cache of its own: other processes may write that of the user."""
    jedi = pytest.importorskip("jedi")
    before = jedi.settings.cache_directory
    jedi.settings.cache_directory = str(tmp_path_factory.mktemp("jedi"))
    yield jedi
    jedi.settings.cache_directory = before


def completed(jedi: Any, code: str) -> list[str]:
    """Return what jedi completes at the end of a file of code."""
    lines = f"import wsclient\n{code}".splitlines()
    script = jedi.Script("\n".join(lines), environment=jedi.InterpreterEnvironment())
    return [found.name for found in script.complete(len(lines), len(lines[-1]))]


def completed_in_a_notebook(jedi: Any, code: str) -> list[str]:
    return [found.name for found in jedi.Interpreter(code, [{"wsclient": wsclient}]).complete()]


@pytest.mark.parametrize("call", ["connect", "WebSocketClient"])
def test_an_editor_completes_each_option(jedi: Any, call: str) -> None:
    found = completed(jedi, f"wsclient.{call}('wss://venue.example/', ")
    assert {f"{name}=" for name in parameters(Options)} - set(found) == set()


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("wsclient.connect('x', over", {"overflow="}),
        ("client = wsclient.connect('x')\nclient.reader('a', over", {"overflow="}),
        ("client = wsclient.connect('x')\nclient.", {"subscribe", "recv", "events", "state"}),
        ("for m in wsclient.connect('x'): m.", {"sequence", "received_at", "data", "gap"}),
        ("wsclient.", {"connect", "Kraken", "events", "dialects"}),
    ],
)
@pytest.mark.parametrize("complete", [completed, completed_in_a_notebook])
def test_an_editor_completes_what_follows(
    jedi: Any, complete: Callable[[Any, str], list[str]], code: str, names: set[str]
) -> None:
    assert names - set(complete(jedi, code)) == set()


# The texts of help().


def explained() -> dict[str, tuple[str, str]]:
    """Return the default and the meaning of each option, from the docstring of Options."""
    text = textwrap.dedent(inspect.getdoc(Options) or "")
    rows = re.findall(r"^``(\w+)`` \((.+)\)\n((?: {4}.+\n?)+)", text, re.MULTILINE)
    return {name: (default, " ".join(meaning.split())) for name, default, meaning in rows}


def test_help_explains_each_option_in_the_order_of_the_signature() -> None:
    assert list(explained()) == list(parameters(Options))


def test_help_and_the_manual_explain_the_options_in_the_same_words() -> None:
    rows: dict[str, tuple[str, str]] = {}
    name = ""
    for line in text_of("options").partition("Declared types")[0].splitlines():
        if line.startswith("``"):
            name = line.split()[0].strip("`")
            rows[name] = (line[26:45].strip().strip("`"), line[45:])
        elif name and line.startswith(" " * 45):
            rows[name] = (rows[name][0], f"{rows[name][1]} {line[45:]}")
    assert rows == explained()
