"""Row 26: the client works under each setting of the interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from support.program import ROOT

#: The tests of the client and of order books. Under ``-O`` the asserts of test modules, which
#: pytest rewrites, are still checked; see test_asserts_are_checked.
FILES = [
    "tests/test_client.py",
    "tests/test_orderbook.py",
    "tests/books/test_book.py",
    "tests/integration/test_lazy_decoding.py",
    "tests/faults/test_settings.py::test_asserts_are_checked",
]
#: Python code to run before pytest.
FOREIGN_DECIMALS = """
import decimal
for context in (decimal.DefaultContext, decimal.getcontext()):
    context.prec, context.rounding, context.Emax, context.Emin = 8, decimal.ROUND_UP, 20, -20
    context.traps[decimal.Inexact] = context.traps[decimal.Rounded] = True
    context.traps[decimal.InvalidOperation] = False
"""
GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent
gevent.sleep(0)  # its loop opens files, which no test must be blamed for
"""
#: name: the interpreter's flags, and what runs first
SETTINGS: dict[str, tuple[list[str], str]] = {
    "-O": (["-O"], ""),
    "-OO": (["-OO"], ""),
    "-X dev": (["-X", "dev"], ""),
    "-W error": (["-W", "error"], ""),
    "SIGINT ignored": ([], "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"),
    "foreign decimals": ([], FOREIGN_DECIMALS),
    "busy switching": ([], "import sys; sys.setswitchinterval(1e-6)"),
    "gevent": ([], GEVENT),
}
#: The settings that the suite runs; -OO is a step of the CI.
REDUCED = ("foreign decimals",)


def run_tests(setting: str, *args: str) -> None:
    flags, before = SETTINGS[setting]
    if "gevent" in before and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    program = f"{before}\nimport sys, pytest\nsys.exit(pytest.main(sys.argv[1:]))"
    quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore:assertions not in test modules"]
    ran = subprocess.run(
        [sys.executable, *flags, "-c", program, *quiet, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("setting", REDUCED)
def test_the_tests_of_books_pass_under(setting: str) -> None:
    run_tests(setting, *FILES[1:])


@pytest.mark.timeout(300)
def test_the_tests_of_interrupts_pass_where_interrupts_are_ignored() -> None:
    """Run the tests as ``nohup`` or cron would start them."""
    run_tests(
        "SIGINT ignored", "tests/threads/test_waiting.py", "tests/integration/test_interrupts.py"
    )


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_tests_of_the_client_and_of_books_pass_under(setting: str) -> None:
    # This function spins, and gevent's threads give way only where they wait.
    spins = "tests/test_orderbook.py::test_readers_see_the_book_between_two_messages"
    run_tests(setting, *FILES, *(["--deselect", spins] if setting == "gevent" else []))


def test_asserts_are_checked() -> None:
    """A run of tests under ``-O`` still checks asserts."""
    with pytest.raises(AssertionError):
        assert not ROOT
