"""Who may import whom: client -> runtime -> sansio <- dialects, and the core is pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsclient
from wsclient.sansio import dialect

ROOT = Path(wsclient.__file__).parent

#: Threads, sockets, clocks, randomness: the core has none of these.
IMPURE = {
    "threading",
    "_thread",
    "socket",
    "time",
    "queue",
    "random",
    "secrets",
    "selectors",
    "select",
    "asyncio",
    "concurrent",
    "multiprocessing",
    "subprocess",
    "websocket",
    "websockets",
    "requests",
    "http",
    "urllib",
}


def modules(*parts: str) -> list[str]:
    """The modules at these places, as paths below the package."""
    found = []
    for part in parts:
        path = ROOT / part
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        assert files
        found += [str(file.relative_to(ROOT)) for file in files]
    return found


def imports(module: str) -> Iterator[str]:
    """Each module or name that a module imports, wherever in it, by its full name."""
    package = ["wsclient", *Path(module).parts[:-1]]
    for node in ast.walk(ast.parse((ROOT / module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


PURE = modules("sansio", "dialects", "messages.py", "errors.py", "options.py")


def test_imports_are_seen() -> None:
    """The walk itself: it sees what must be there."""
    assert "wsclient.errors.ConnectError" in set(imports("sansio/session.py"))
    assert "threading" in set(imports("runtime/watchdog.py"))


@pytest.mark.parametrize("module", PURE)
def test_the_core_is_pure(module: str) -> None:
    assert [name for name in imports(module) if within(name, *IMPURE)] == []


@pytest.mark.parametrize("module", PURE)
def test_the_core_knows_of_nothing_around_it(module: str) -> None:
    around = [
        f"wsclient.{name}"
        for name in ("runtime", "client", "handler", "testing", "cli", "stats", "__main__")
    ]
    assert [name for name in imports(module) if within(name, *around)] == []


@pytest.mark.parametrize("module", modules("sansio", "messages.py", "errors.py", "options.py"))
def test_the_core_names_no_venue(module: str) -> None:
    assert [name for name in imports(module) if within(name, "wsclient.dialects")] == []


@pytest.mark.parametrize("module", modules("dialects"))
def test_a_dialect_needs_the_core_only(module: str) -> None:
    allowed = [f"wsclient.{name}" for name in ("sansio", "dialects", "errors", "messages")]
    ours = [name for name in imports(module) if within(name, "wsclient")]
    assert [name for name in ours if not within(name, *allowed)] == []


@pytest.mark.parametrize("module", modules("dialects"))
def test_a_dialect_does_not_reach_into_the_decisions(module: str) -> None:
    deciders = ("session", "subscriptions", "recovery", "heartbeat", "inbound")
    names = [f"wsclient.sansio.{name}" for name in deciders]
    assert [name for name in imports(module) if within(name, *names)] == []


@pytest.mark.parametrize("module", modules("runtime"))
def test_the_runtime_does_not_know_the_client(module: str) -> None:
    above = [f"wsclient.{name}" for name in ("client", "handler", "cli", "testing")]
    assert [name for name in imports(module) if within(name, *above)] == []


@pytest.mark.parametrize("module", modules("runtime"))
def test_the_runtime_names_no_venue(module: str) -> None:
    assert [name for name in imports(module) if within(name, "wsclient.dialects")] == []


# --- the public names ----------------------------------------------------------------------------


def test_the_public_names_are_sorted() -> None:
    assert wsclient.__all__ == sorted(wsclient.__all__)
    assert len(set(wsclient.__all__)) == len(wsclient.__all__)


def test_the_public_names_are_all_that_the_package_imports() -> None:
    imported = {
        name.rpartition(".")[2] for name in imports("__init__.py") if within(name, "wsclient")
    }
    assert imported == set(wsclient.__all__)


def test_all_that_a_dialect_is_written_with_is_public() -> None:
    assert set(dialect.__all__) - set(wsclient.__all__) == {"Levels"}  # pairs, of any kind


@pytest.mark.parametrize("name", wsclient.__all__)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(wsclient, name)
    if name == "__version__":
        assert isinstance(thing, str)
    else:
        assert thing.__doc__


@pytest.mark.parametrize("module", modules("."))
def test_every_module_says_what_it_is_for(module: str) -> None:
    if module != "version.py":
        assert ast.get_docstring(ast.parse((ROOT / module).read_text("utf-8")))
