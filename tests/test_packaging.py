"""The wheel holds the whole package, and the tests of the source distribution run where it is
unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wsclient

ROOT = Path(wsclient.__file__).parents[1]
#: They need a helper of each folder, a certificate, the two documents, and programs of their own.
CHOSEN = [
    "tests/sansio/test_refreshes.py",
    "tests/transport/test_bytestream.py",
    "tests/dialects/test_generic.py",
    "tests/cli/test_main.py",
    "tests/faults/test_settings.py::test_asserts_are_checked",
    "tests/test_contributing.py",
    "tests/test_readme.py",
    "tests/test_manual.py",
]


#: Those of these files that exist.
KEPT = ("wsclient", "tests", ".ci", ".github", "setup.cfg", ".ruff.toml", "LICENSE", "README.rst")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a copy of the checkout."""
    pytest.importorskip("setuptools", reason="setuptools builds the distribution")
    source = tmp_path / "source"
    unwanted = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__")
    shutil.copytree(ROOT, source, ignore=unwanted)
    return source


@pytest.fixture
def unpacked(source: Path, tmp_path: Path) -> Path:
    build = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (archive,) = (source / "dist").glob("*.tar.gz")
    elsewhere = tmp_path / "unpacked"
    elsewhere.mkdir()
    subprocess.run(["tar", "-xzf", archive], cwd=elsewhere, check=True)
    (root,) = elsewhere.iterdir()
    return root


def files_of(root: Path, *names: str) -> set[str]:
    found = (path for name in names for path in (root / name, *(root / name).rglob("*")))
    files = {str(path.relative_to(root)) for path in found if path.is_file()}
    return {name for name in files if "__pycache__" not in name}


def run_pytest(root: Path, *args: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_wheel_holds_the_whole_package(source: Path, tmp_path: Path) -> None:
    # The files that a wheel gets. To make the wheel itself needs further packages: see .ci/package.
    build = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(tmp_path / "wheel")]
    plain = {**os.environ, "WSCLIENT_COMPILE": "0"}
    subprocess.run(build, cwd=source, env=plain, check=True, capture_output=True)
    held = files_of(tmp_path / "wheel", "wsclient")
    assert held == files_of(ROOT, "wsclient")
    assert {"wsclient/py.typed", "wsclient/manual/books.rst"} <= held


@pytest.mark.timeout(300)
def test_the_source_distribution_holds_what_its_tests_need(unpacked: Path) -> None:
    assert files_of(unpacked, *KEPT) == files_of(ROOT, *KEPT)
    run_pytest(unpacked, *CHOSEN)
    assert os.access(unpacked / ".ci" / "run", os.X_OK)
