"""Mutation testing of the pure modules: does a test check every line?

    python tests/mutation [module ...] [--sample N] [--seed S]

Each single change of ``wsclient/sansio``, ``stream``, ``telemetry`` and ``dialect``, and of the
pure modules of ``wsclient/books``, runs the module's own tests, then those of all pure modules, in
a forked process that imports the changed text; no file is touched. Survivors are printed, unless
``survivors.txt`` has them with the reason; new ones make the exit code 1.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

# Before the forks, so that no child has to.
import hypothesis  # noqa: F401
import msgspec  # noqa: F401
import pytest
import requests  # noqa: F401
import websocket  # noqa: F401
import websockets.sync.server  # noqa: F401
from mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "wsclient"
#: The pure modules that decide; their names differ.
MODULES = [
    *(
        path
        for folder in ("sansio", "stream", "telemetry", "dialect")
        for path in sorted((PACKAGE / folder).glob("*.py"))
        if path.name != "__init__.py"
    ),
    *(PACKAGE / "books" / f"{name}.py" for name in ("book", "joiner", "status")),
]
SURVIVORS = Path(__file__).with_name("survivors.txt")
#: All tests that need no thread and no socket.
PURE = [
    "tests/sansio",
    "tests/stream",
    "tests/telemetry/test_histogram.py",
    "tests/dialect",
    "tests/dialects",
    "tests/books/test_book.py",
    "tests/test_messages.py",
]
#: Plugins imported before the forks cannot have their asserts rewritten, of which pytest warns.
QUIETLY = ["-x", "-q", "-n0", "-p", "no:cacheprovider"]
QUIETLY += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
#: A change counts as noticed if the tests take longer than this many times the unchanged run: it
#: has made them hang.
PATIENCE = 5.0


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A finder that gives one module another text."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name, self.path, self.text = name, path, text

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.text, str(self.path), "exec"), module.__dict__)


def passes(path: Path, text: str, tests: Sequence[str], patience: float | None = None) -> bool:
    """Return True if these tests pass within ``patience`` (s), with this text in the place of
    the module's own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(1, 2)
        sys.meta_path.insert(0, Changed(f"wsclient.{path.parent.name}.{path.stem}", path, text))
        code: int = 1
        try:
            code = pytest.main([*QUIETLY, *tests])
        finally:
            os._exit(code)
    os.close(writing)
    try:
        # The child's end closes its end of the pipe.
        in_time = bool(select.select([reading], [], [], patience)[0])
        if not in_time:
            os.killpg(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and in_time
    finally:
        os.close(reading)


def own_tests(path: Path) -> list[str]:
    return sorted(map(str, (ROOT / "tests" / path.parent.name).glob(f"test_{path.stem}*.py")))


def survives(path: Path, mutant: Mutant, patience: float) -> bool:
    own = own_tests(path)
    if own and not passes(path, mutant.text, own, patience):
        return False
    return passes(path, mutant.text, PURE, patience)


def known() -> dict[str, str]:
    """Return the known survivors, each with its reason."""
    lines = SURVIVORS.read_text("utf-8").splitlines() if SURVIVORS.exists() else []
    entries = (line.split("  # ") for line in lines if line and not line.startswith("#"))
    return dict(entries)


def check(path: Path, sample: int | None, seed: int) -> tuple[int, int, int]:
    """Try the changes of one module. Return how many were tried, survived, and are new."""
    source = path.read_text("utf-8")
    started = time.monotonic()
    if not passes(path, source, PURE):
        sys.exit(f"{path.name}: the tests fail without any change")
    patience = PATIENCE * (time.monotonic() - started)
    chosen = mutants(source)
    if sample is not None and sample < len(chosen):
        chosen = sorted(random.Random(seed).sample(chosen, sample))
    expected, survived, new = known(), 0, 0
    started = time.monotonic()
    for mutant in chosen:
        if survives(path, mutant, patience):
            survived += 1
            key = f"{path.name} {mutant.key}"
            if key not in expected:
                new += 1
                print(f"{key}  # line {mutant.line}", flush=True)
    took = time.monotonic() - started
    killed = len(chosen) - survived
    print(
        f"{path.name}: {killed} of {len(chosen)} killed ({killed / max(1, len(chosen)):.1%}), "
        f"{survived} survived, {new} of them new; {took:.0f} s",
        flush=True,
    )
    return len(chosen), survived, new


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/mutation", description=__doc__)
    paths = {path.stem: path for path in MODULES if path.stem != "__init__"}
    names = sorted(paths)
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(names)}; by default all")
    parser.add_argument("--sample", type=int, help="the maximum number of changes per module")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    options = parser.parse_args()
    os.chdir(ROOT)
    totals = [check(paths[name], options.sample, options.seed) for name in options.modules or names]
    tried, survived, new = map(sum, zip(*totals, strict=True))
    print(f"in all: {tried - survived} of {tried} killed ({1 - survived / max(1, tried):.1%})")
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
