"""Who may import whom: client -> runtime -> sansio <- dialects, and the core is pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

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


def forbidden(modules: list[str], *packages: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """Each import of these packages by these modules."""
    return [
        f"{module} imports {name}"
        for module in modules
        for name in imports(module)
        if within(name, *packages) and not within(name, *allowed)
    ]


def ours(*names: str) -> tuple[str, ...]:
    return tuple(f"wsclient.{name}" for name in names)


def test_the_core_is_pure() -> None:
    assert forbidden(PURE, *IMPURE) == []


def test_the_core_knows_of_nothing_around_it() -> None:
    around = ours("runtime", "client", "handler", "testing", "cli", "stats", "__main__")
    assert forbidden(PURE, *around) == []


def test_the_core_names_no_venue() -> None:
    core = modules("sansio", "messages.py", "errors.py", "options.py")
    assert forbidden(core, "wsclient.dialects") == []


def test_a_dialect_needs_the_core_only() -> None:
    allowed = ours("sansio", "dialects", "errors", "messages")
    assert forbidden(modules("dialects"), "wsclient", allowed=allowed) == []


def test_a_dialect_does_not_reach_into_the_decisions() -> None:
    deciders = ("session", "subscriptions", "recovery", "heartbeat", "inbound")
    assert forbidden(modules("dialects"), *ours(*(f"sansio.{d}" for d in deciders))) == []


def test_the_runtime_does_not_know_the_client() -> None:
    assert forbidden(modules("runtime"), *ours("client", "handler", "cli", "testing")) == []


def test_the_runtime_names_no_venue() -> None:
    assert forbidden(modules("runtime"), "wsclient.dialects") == []


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


def test_each_public_name_is_there_and_documented() -> None:
    bare = [n for n in wsclient.__all__ if n != "__version__" and not getattr(wsclient, n).__doc__]
    assert bare == []
    assert isinstance(wsclient.__version__, str)


def test_every_module_says_what_it_is_for() -> None:
    trees = {m: ast.parse((ROOT / m).read_text("utf-8")) for m in modules(".")}
    assert [m for m, tree in trees.items() if not ast.get_docstring(tree)] == ["version.py"]
