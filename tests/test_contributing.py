"""CONTRIBUTING.rst renders, and its limits, locks and folders match the code."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docutils.core
import docutils.nodes

import wsclient
from support.helpers import until
from support.locking import Instrument, Kinds
from wsclient.stream.frames import FrameParser
from wsclient.testing import FakeVenue, KrakenProtocol

ROOT = Path(__file__).parents[1]
PACKAGE = Path(wsclient.__file__).parent
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.rst").read_text()
DOCUMENT = docutils.core.publish_doctree(CONTRIBUTING, settings_overrides={"report_level": 5})


def section(title: str) -> str:
    _, _, rest = CONTRIBUTING.partition(f"\n{title}\n{'-' * len(title)}\n")
    assert rest, f"no section {title!r}"
    return re.split(r"\n[^\n]+\n-{3,}\n", rest)[0]


def test_it_renders_without_a_warning() -> None:
    messages = [node.astext() for node in DOCUMENT.findall(docutils.nodes.system_message)]
    assert not messages


def test_each_folder_is_in_the_map() -> None:
    package, _, tests = section("The folders").partition("\n    tests/ ")
    missing = [
        str(path)
        for parent, text in ((PACKAGE, package), (ROOT / "tests", tests))
        for path in sorted(parent.iterdir())
        if path.is_dir() and path.name != "__pycache__" and f" {path.name}/" not in text
    ]
    assert missing == []


def test_each_file_that_it_names_is_there() -> None:
    named = set(re.findall(r"``((?:wsclient|tests|\.ci)/[\w./]+)``", CONTRIBUTING))
    assert {"tests/conftest.py", "tests/mutation/survivors.txt"} <= named
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert [name for name in missing if "acme" not in name] == []


def methods() -> set[str]:
    """Return all methods and named attributes of the package's classes, as ``Class.name``."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for kind in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(kind, ast.ClassDef):
                for node in ast.walk(kind):
                    if isinstance(node, ast.FunctionDef):
                        found.add(f"{kind.name}.{node.name}")
                    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                        found.add(f"{kind.name}.{node.attr}")
                    elif isinstance(node, ast.AnnAssign):
                        found.add(f"{kind.name}.{ast.unparse(node.target)}")
    return found


def test_each_method_on_the_way_of_a_message_is_there() -> None:
    """Likewise on those of a subscribe and of a reconnect."""
    named = set(re.findall(r"``([A-Z]\w+\.\w+)(?:\(\))?``", section("How the parts work together")))
    assert {"Router.deliver", "Settling.accepted", "Slot.ended"} <= named
    assert sorted(named - methods()) == []


# --- guarantees ----------------------------------------------------------------------------------

GUARANTEES = re.findall(
    r"^\* ([^:]+):\n\n((?:  \| ``.*``\n)+)", section("Guarantees"), re.MULTILINE
)


def test_each_guarantee_of_the_manual_is_listed() -> None:
    page = (PACKAGE / "manual" / "guarantees.rst").read_text("utf-8")
    given = re.findall(r"^\* \*\*(.+?)\.?\*\*", page, re.MULTILINE)
    assert [name for name, _ in GUARANTEES] == given


def test_each_guarantee_has_the_tests_of_the_list() -> None:
    named = re.findall(r"``([\w/.]+)::([\w:]+)``", "".join(tests for _, tests in GUARANTEES))
    assert len(named) == section("Guarantees").count("::test_")
    assert [f"{path}::{test}" for path, test in named if not is_defined(path, test)] == []


# --- limits --------------------------------------------------------------------------------------

LIMITS = re.findall(
    r"^``([\w.]+)`` +(\S.*?) +\| .*\n +\| ``([\w/.]+)::([\w:]+)``$",
    section("Limits and deadlines"),
    re.MULTILINE,
)


def test_the_table_of_limits_is_read_whole() -> None:
    assert len(LIMITS) == section("Limits and deadlines").count("::test_")
    assert len(LIMITS) > 20


def is_defined(path: str, test: str) -> bool:
    defined: Any = ast.parse((ROOT / "tests" / path).read_text())
    for part in test.split("::"):
        found = [node for node in defined.body if getattr(node, "name", None) == part]
        if not found:
            return False
        (defined,) = found
    return True


def test_each_limit_has_the_default_of_the_table() -> None:
    shown = {name: default for name, default, *_ in LIMITS}
    assert shown == {name: str(default_of(name)) for name in shown}


def test_each_limit_has_the_test_of_the_table() -> None:
    assert [f"{path}::{test}" for *_, path, test in LIMITS if not is_defined(path, test)] == []


def default_of(name: str) -> Any:
    """Return the default of an option, a field of Limits, a module's constant or an argument."""
    where, _, attribute = name.rpartition(".")
    if not where:
        return getattr(wsclient.Options(), attribute)
    if where == "Limits":
        return getattr(wsclient.Limits(), attribute)
    if where == "frames":
        return inspect.signature(FrameParser).parameters[attribute].default
    found = PACKAGE.rglob(f"{where}.py")
    (path,) = (path for path in found if path.parent.name not in ("cli", "testing"))
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return getattr(importlib.import_module(module), attribute)


# --- locks ---------------------------------------------------------------------------------------


def locks() -> dict[str, tuple[str, set[str]]]:
    """Return the table's locks: the module that makes each, and the locks held when it is taken."""
    bar = next(line for line in section("Locks").splitlines() if line.startswith("==="))
    columns = [slice(found.start(), found.end()) for found in re.finditer("=+", bar)]
    body = section("Locks").split(f"{bar}\n")[2]
    rows: list[list[str]] = []
    for line in body.splitlines():
        name, module, under, _ = (line[column].strip() for column in columns)
        if name:
            rows.append([name, module.strip("`"), under])
        else:  # the row goes on
            rows[-1][2] += f" {under}"
    return {
        name: (module, {held.strip() for held in under.split(",")} - {"nothing"})
        for name, module, under in rows
    }


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(PACKAGE)), node


def test_each_lock_of_the_code_is_in_the_table() -> None:
    made = {
        (ast.literal_eval(call.args[0]), module)
        for module, call in calls()
        if ast.unparse(call.func).endswith(("locks.new", "Locks()).new"))
    }
    assert made == {(name, module) for name, (module, _) in locks().items()}


def test_each_module_with_a_lock_of_another_kind_is_named() -> None:
    kinds = {"threading.Lock", "threading.Condition"}
    made = {module for module, call in calls() if ast.unparse(call.func) in kinds}
    others = section("Locks").partition("Locks that ``Locks.new`` does not make")[2]
    named = set(re.findall(r"``((?:threads/|testing/|runtime/)?\w+\.py)``", others))
    assert made == {name for name in named if (PACKAGE / name).exists()}


def levels(bid: int, ask: int) -> dict[str, Any]:
    return {"bids": [{"price": bid, "qty": 1}], "asks": [{"price": ask, "qty": 1}]}


def test_a_client_takes_its_locks_in_the_order_of_the_table() -> None:
    protocol = KrakenProtocol()
    protocol.set_snapshot("book:BTC/USD", **levels(9, 11))
    events: list[Any] = []
    with Instrument(Kinds()) as instrument, FakeVenue(protocol) as venue:
        with wsclient.connect(venue.url, dialect="kraken", retry_delay=0.01) as client:
            client.on_event(events.append)
            client.on("ticker:BTC/USD", lambda message: None)
            book = client.order_book("BTC/USD", timeout=10)
            venue.publish("book:BTC/USD", type="update", **levels(10, 12))
            until(lambda: book.best_bid == (10, 1))
            venue.live[0].rst()
            book.wait_synced(10)
            client.stats()
        until(lambda: events)
    table = {(held, name) for name, (_, under) in locks().items() for held in under}
    taken = instrument.kinds.pairs
    assert taken <= table
    assert {("the core", "a queue"), ("the events", "a queue")} <= taken
