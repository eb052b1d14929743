"""Which folder may import which, that no files import each other, and what is public."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import wsclient
from golden import api
from wsclient import dialect, dialects
from wsclient.dialect import base, books, values
from wsclient.stream import items

ROOT = Path(wsclient.__file__).parent

#: The core uses no threads, sockets, clocks or randomness.
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


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def modules(*parts: str) -> list[str]:
    """Return the modules at these places, as paths below the package."""
    found = []
    for part in parts:
        path = ROOT / part
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        assert files
        found += [str(file.relative_to(ROOT)) for file in files]
    return found


def imports(module: str) -> Iterator[str]:
    """Return the full name of each module or name that a module imports, anywhere in it."""
    package = ["wsclient", *Path(module).parts[:-1]]
    for node in ast.walk(tree_of(ROOT / module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


#: The layers from the top down: a file imports only files of its own part of a layer and of lower
#: layers. Parts that stand side by side do not import each other.
LAYERS = (
    ("cli __main__.py", "pytest_plugin.py"),
    ("doctor", "metrics.py", "testing"),
    ("notebook",),
    ("recording",),
    (
        "client.py displayed.py observable.py outgoing.py opened.py reader.py tabular.py "
        "orderbook.py handler.py",
    ),
    ("books",),
    ("runtime",),
    ("transport",),
    ("threads", "sansio"),
    ("options.py",),
    ("dialects",),
    ("dialect",),
    ("stream",),
    ("telemetry",),
    (
        "messages.py events.py errors.py checks.py html.py picture.py text.py tracebacks.py "
        "registry.py verdicts.py version.py views.py",
    ),
)
#: Each part with its place in the layers.
PLACES = {
    name: (depth, part)
    for depth, layer in enumerate(LAYERS)
    for part in layer
    for name in part.split()
}
PURE = modules("sansio", "dialects", "dialect", "stream", "telemetry", *LAYERS[-1][0].split())
PURE += ["options.py"]


def place(module: str) -> tuple[int, str]:
    """Return the depth and the part of a module, given as a path below the package."""
    return PLACES[module.partition("/")[0]]


def file_of(name: str) -> str | None:
    """Return the module, as a path, that an imported name is or belongs to; None for others'."""
    parts = name.split(".")
    if parts[0] != "wsclient":
        return None
    for count in range(len(parts), 1, -1):
        path = ROOT.joinpath(*parts[1:count])
        if path.with_suffix(".py").is_file():
            return str(path.with_suffix(".py").relative_to(ROOT))
        if (path / "__init__.py").is_file():
            return str((path / "__init__.py").relative_to(ROOT))
    return "__init__.py"


@cache
def needs() -> dict[str, set[str]]:
    """Return for each module the modules that it imports, anywhere and for types only, too."""
    return {m: {file_of(n) for n in imports(m)} - {None, m} for m in modules(".")}  # type: ignore[misc]


def test_each_part_has_a_layer() -> None:
    assert {m.partition("/")[0] for m in modules(".")} - {"__init__.py"} == PLACES.keys()


def test_a_file_imports_only_its_own_part_and_lower_layers() -> None:
    wrong = []
    allowed = {  # lazily
        ("client.py", "recording/recorder.py"),  # client.record()
        ("reader.py", "notebook/collected.py"),  # client.collect()
        ("tabular.py", "notebook/rolling.py"),  # client.frame()
        ("displayed.py", "notebook/showing.py"),  # client.show()
        ("displayed.py", "notebook/reruns.py"),  # a client that a notebook's cell makes
        ("orderbook.py", "notebook/showing.py"),  # book.show()
    }
    for module, needed in needs().items():
        if module == "__init__.py":
            continue  # it imports lazily
        depth, part = place(module)
        for other in needed - {"__init__.py"}:
            below, its_part = place(other)
            if not (below > depth or its_part == part or (module, other) in allowed):
                wrong.append(f"{module} imports {other}")
    assert wrong == []


def test_only_the_command_line_imports_the_package_by_its_name() -> None:
    users = {module for module, needed in needs().items() if "__init__.py" in needed}
    assert {place(module)[1] for module in users} <= {"cli __main__.py", "testing"}


def test_no_files_import_each_other() -> None:
    """Neither directly nor through others."""
    left = {module: needed - {"__init__.py"} for module, needed in needs().items()}
    while True:
        needed = set().union(*left.values())
        kept = {m: n & left.keys() for m, n in left.items() if n & left.keys() and m in needed}
        if kept == left:
            break
        left = kept
    assert left == {}


def test_imports_are_seen() -> None:
    """The walk itself finds the imports that must be there."""
    assert "wsclient.errors.ClientClosed" in set(imports("sansio/supervisor.py"))
    assert "threading" in set(imports("runtime/watchdog.py"))
    assert "sansio/supervisor.py" in needs()["runtime/common.py"]


def forbidden(modules: list[str], *packages: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """Return each import of these packages by these modules."""
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


def test_a_dialect_is_written_with_the_public_names_only() -> None:
    venues = [m for m in modules("dialects") if not m.endswith("__init__.py")]
    assert forbidden(venues, "wsclient", allowed=ours("dialect", "dialects")) == []


def test_the_registry_of_dialects_imports_none_by_itself() -> None:
    """It imports them for type checkers only; a test below runs it."""
    allowed = ours("dialect", "registry", "dialects")
    assert forbidden(["dialects/__init__.py"], "wsclient", allowed=allowed) == []


#: The pure modules of the order books.
PURE_BOOKS = ["books/book.py", "books/joiner.py"]


def test_the_pure_modules_of_the_books_are_pure() -> None:
    assert forbidden(PURE_BOOKS, *IMPURE, *ours("runtime", "client")) == []


def test_the_core_names_no_venue() -> None:
    core = modules("sansio", "options.py", "runtime", "transport", "books")
    assert forbidden(core, "wsclient.dialects") == []


def test_one_file_touches_websocket_client() -> None:
    others = [m for m in modules(".") if m != "transport/library.py"]
    assert forbidden(others, "websocket") == []
    assert forbidden(["transport/library.py"], "websocket") != []


def test_only_what_makes_a_client_knows_of_sockets() -> None:
    """All others know the protocol of a source."""
    makers = ("client.py", "doctor/examination.py", "transport/transport.py")
    others = [m for m in modules(".") if m not in makers]
    assert forbidden(others, *ours("transport.transport", "transport.library")) == []


#: What a source drives, and so what may look at the source's clock only.
DRIVEN = (
    "books/calls",
    "books/feeds",
    "books/snapshots",
    "runtime/accounting",
    "runtime/calls",
    "runtime/common",
    "runtime/core",
    "runtime/judging",
    "runtime/reception",
    "runtime/router",
    "runtime/posts",
    "runtime/watchdog",
)


def test_what_a_source_drives_has_no_other_clock() -> None:
    assert forbidden([f"{name}.py" for name in DRIVEN], "time") == []


@pytest.fixture(scope="module", autouse=True)
def trees_are_let_go() -> Iterator[None]:
    """Free the parsed trees: they would slow down each garbage collection in later tests."""
    yield
    tree_of.cache_clear()
    needs.cache_clear()


# --- the public names ----------------------------------------------------------------------------


def test_the_public_names_are_sorted() -> None:
    assert wsclient.__all__ == sorted(wsclient.__all__)
    assert len(set(wsclient.__all__)) == len(wsclient.__all__)


def declared(package: str = ".") -> dict[str, str]:
    """Return the names that type checkers see in a package, each with its module."""
    (block,) = (
        node
        for node in tree_of(ROOT / package / "__init__.py").body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    found = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in found for alias in node.names}


def test_type_checkers_see_the_names_that_are_there() -> None:
    there = {name: f"wsclient.{home}" for name, home in wsclient._HOMES.items()}
    modules_there = {
        name: f"wsclient.{home}".rpartition(".")[0] for name, home in wsclient._MODULES.items()
    }
    assert declared() == {**there, **modules_there}


def test_type_checkers_see_each_dialect() -> None:
    kinds = {type(dialects.find(name)) for name in dialects.NAMES}
    assert declared("dialects") == {kind.__name__: kind.__module__ for kind in kinds}


def test_a_name_that_type_checkers_see_is_public_to_them() -> None:
    """It is in ``__all__``, or imported by the form that PEP 484 has for that: ``X as X``."""
    tree = tree_of(ROOT / "__init__.py")
    aliases = {a.asname for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    assert declared().keys() - set(wsclient.__all__) == aliases - {None, "__version__"}


def test_no_name_is_also_a_module() -> None:
    """Importing a module ``wsclient.x`` sets ``wsclient.x``, which would hide a name ``x``."""
    files = {module.partition("/")[0].removesuffix(".py") for module in modules(".")}
    assert files & declared().keys() == {
        name for name, home in wsclient._MODULES.items() if name == home
    }


def test_a_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from wsclient import *", names)
    assert names.keys() - {"__builtins__"} == set(wsclient.__all__)
    assert len(wsclient.__all__) <= 52


@pytest.mark.slow
def test_dir_gives_every_name_for_completion() -> None:
    """In a process of its own, since names in use are in it anyway."""
    code = "import wsclient; print(*dir(wsclient)); print(*dir(wsclient.dialects))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, classes = (set(line.split()) for line in ran.stdout.splitlines())
    assert names >= {*wsclient.__all__, *declared()}
    public = {name for name in names if not name.startswith("_")}
    assert public - {*wsclient.__all__, *declared(), "version"} == set()
    assert classes >= {type(dialects.find(name)).__name__ for name in dialects.NAMES}


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(wsclient, "conect")


@pytest.mark.slow
def test_the_import_of_the_package_imports_nothing_that_it_may_not_need() -> None:
    """Neither does that of the registry import a dialect."""
    code = "import sys, wsclient; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"logging", "msgspec", "requests", "socket", "ssl", "typing", "websocket"}
    loaded = set(ran.stdout.split())
    assert "wsclient" in loaded
    assert heavy & loaded == set()


@pytest.mark.slow
def test_a_dialect_is_imported_when_it_is_used() -> None:
    code = (
        "import sys, wsclient.dialects as d; d.find('kraken');"
        "print(*(m for m in sys.modules if m.startswith('wsclient.dialects.')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["wsclient.dialects.kraken"]


def test_what_the_dialects_are_written_with_is_public() -> None:
    written_with = {*base.__all__, *books.__all__, *values.__all__, *items.__all__} - {"missing"}
    assert written_with - set(dialect.__all__) == set()
    assert dialect.Dialect is wsclient.Dialect


@pytest.mark.parametrize("name", api.once_public())
def test_a_name_that_was_public_can_still_be_imported(name: str) -> None:
    names: dict[str, object] = {}
    exec(f"from wsclient import {name}", names)
    assert names[name] is getattr(wsclient, name)


def test_each_public_name_is_there_and_documented() -> None:
    bare = [n for n in wsclient.__all__ if n != "__version__" and not getattr(wsclient, n).__doc__]
    assert bare == []
    assert isinstance(wsclient.__version__, str)


def test_every_module_says_what_it_is_for() -> None:
    bare = [m for m in modules(".") if not ast.get_docstring(tree_of(ROOT / m))]
    assert bare == ["version.py"]


# --- the tests themselves ------------------------------------------------------------------------

TESTS = Path(__file__).parent


def imported(path: Path) -> list[str]:
    """Return the last part of each module or name that a file imports."""
    names: list[str] = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
        if isinstance(node, ast.Import | ast.ImportFrom):
            names += [alias.name for alias in node.names]
    return [name.rpartition(".")[2] for name in names]


def is_test(name: str) -> bool:
    return name.startswith("test_") or name == "conftest"


def test_no_test_imports_a_test() -> None:
    """Code that tests share is in tests/support."""
    # Most files name no test where they import something: these need not be parsed.
    names_one = re.compile(r"^\s*(from|import)\b.*\btest_", re.MULTILINE)
    files = [p for p in sorted(TESTS.rglob("*.py")) if names_one.search(p.read_text("utf-8"))]
    assert [str(path) for path in files if any(map(is_test, imported(path)))] == []


def test_what_is_no_test_is_in_support_or_a_program() -> None:
    programs = ("support", "benchmarks", "golden", "mutation", "typing")
    files = [path.relative_to(TESTS) for path in sorted(TESTS.rglob("*.py"))]
    others = [path for path in files if not is_test(path.stem)]
    assert [str(path) for path in others if path.parts[0] not in programs] == []


#: Classes whose objects users hold.
HELD = (
    wsclient.WebSocketClient,
    wsclient.Reader,
    wsclient.OrderBook,
    wsclient.WebSocketHandler,
    wsclient.Diagnosis,
)


def test_the_types_of_every_public_call_are_checked() -> None:
    tree = tree_of(TESTS / "typing" / "api.py")
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    public = {
        f"{kind.__name__}.{name}" for kind in HELD for name in vars(kind) if name.isidentifier()
    }
    public = {name for name in public if "._" not in name}
    assert sorted(name for name in public if name.partition(".")[2] not in used) == []


def private_names() -> set[str]:
    """Return the attributes in the package whose names begin with an underscore."""
    return {
        node.attr
        for path in ROOT.rglob("*.py")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr)
    } - {"_is_owned", "_replace"}  # of locks and named tuples


#: Objects whose private attributes belong to the test, to support or to other packages.
OWN = {"self", "cls", "super()", "websocket", *sys.stdlib_module_names}


def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def reaches(path: Path, names: set[str]) -> Iterator[str]:
    """Return each place in a file that uses such an attribute of an object other than ``self``."""
    if not re.search(
        r"(?<!\bself)\._[a-z]|import .*\b_[a-z]|^    _[a-z]\w*,$", text_of(path), re.M
    ):
        return  # as in most files, which need not be parsed
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and node.attr in names:
            owner = ast.unparse(node.value)
            if owner not in OWN and not owner.startswith("self._"):
                yield f"{path.relative_to(TESTS)}:{node.lineno} {owner}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wsclient"):
            found = [alias.name for alias in node.names if re.match("_[a-z]", alias.name)]
            yield from (f"{path.relative_to(TESTS)}:{node.lineno} {name}" for name in found)


#: How often tests may use private names of the package. Lower it, never raise it: a clock, a budget
#: or a delay that a test needs is an argument of a constructor.
MAX_REACHES = 19


def test_few_tests_look_behind_the_surface() -> None:
    names = private_names()
    found = [reach for path in sorted(TESTS.rglob("*.py")) for reach in reaches(path, names)]
    assert len(found) <= MAX_REACHES, "\n".join(found)


def test_no_two_classes_share_a_name() -> None:
    """Neither do two type aliases. A dialect's private classes mirror its venue's own names."""
    places: dict[str, list[str]] = {}
    for module in modules("."):
        for node in ast.walk(tree_of(ROOT / module)):
            if isinstance(node, ast.ClassDef):
                name = node.name
            elif isinstance(node, ast.Assign) and is_alias(node):
                (target,) = node.targets
                name = ast.unparse(target)
            else:
                continue
            if not (module.startswith("dialects/") and name.startswith("_")):
                places.setdefault(name.lstrip("_"), []).append(f"{module}: {name}")
    shared = [found for found in places.values() if len(found) > 1]
    assert not shared, "\n".join(map(str, shared))


def is_alias(node: ast.Assign) -> bool:
    """Return True for assignments like ``Name = list[int]``."""
    names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    is_type = isinstance(node.value, ast.Subscript | ast.BinOp)
    return is_type and len(names) == 1 and re.fullmatch(r"_?[A-Z]+[a-z]\w*", names[0]) is not None
